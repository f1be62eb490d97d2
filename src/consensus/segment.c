#include "consensus/segment.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/digest.h"

static const char segment_magic[4] = {'T', 'S', 'E', 'G'};
enum { SEGMENT_VERSION = 1, RECORD_MAGIC_0 = 'T', RECORD_MAGIC_1 = 'R', TYPE_MAX = 3 };

void le_put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void le_put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

uint32_t le_get32(const uint8_t *p)
{
    uint32_t v = 0;
    for (int i = 3; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

uint64_t le_get64(const uint8_t *p)
{
    return (uint64_t)le_get32(p + 4) << 32 | le_get32(p);
}

void segment_name(uint64_t first, char out[SEGMENT_NAME_SIZE])
{
    snprintf(out, SEGMENT_NAME_SIZE, "log-%016llx", (unsigned long long)first);
}

bool segment_name_parse(const char *name, uint64_t *first_out)
{
    if (strncmp(name, "log-", 4) != 0 || strlen(name) != 20)
        return false;
    uint64_t v = 0;
    for (const char *p = name + 4; *p; p++) {
        if (*p >= '0' && *p <= '9')
            v = v << 4 | (uint64_t)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            v = v << 4 | (uint64_t)(*p - 'a' + 10);
        else
            return false;
    }
    *first_out = v;
    return v > 0;
}

void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_SIZE])
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    memcpy(out, segment_magic, 4);
    le_put32(out + 8, SEGMENT_VERSION);
    le_put64(out + 16, h->log_id);
    le_put64(out + 24, h->bytes);
    le_put64(out + 32, h->first);
    le_put64(out + 40, h->prev_term);
    le_put64(out + 48, h->prev_chain);
    le_put32(out + 4, crc32c(0, out + 8, SEGMENT_HEADER_SIZE - 8));
}

static bool header_whole(const uint8_t *data, size_t size)
{
    return size >= SEGMENT_HEADER_SIZE && memcmp(data, segment_magic, 4) == 0 &&
           le_get32(data + 4) == crc32c(0, data + 8, SEGMENT_HEADER_SIZE - 8);
}

bool segment_newer(const uint8_t *data, size_t size)
{
    return header_whole(data, size) && le_get32(data + 8) > SEGMENT_VERSION;
}

bool segment_header_decode(const uint8_t *data, size_t size, struct segment_header *out)
{
    if (!header_whole(data, size) || le_get32(data + 8) != SEGMENT_VERSION)
        return false;
    out->log_id = le_get64(data + 16);
    out->bytes = le_get64(data + 24);
    out->first = le_get64(data + 32);
    out->prev_term = le_get64(data + 40);
    out->prev_chain = le_get64(data + 48);
    return out->first > 0;
}

/* One step of the chain. The chain has to tell records apart by accident, not against an attacker
 * (who could write the whole log anew), so a 64-bit mixer is enough and costs nothing; the payload
 * takes part through its CRC. Constants: the finalizer of MurmurHash3. */
static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) + 0x9e3779b97f4a7c15u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    h ^= h >> 33;
    return h;
}

uint64_t segment_chain_seed(uint64_t log_id, uint64_t index, uint64_t term)
{
    return mix(mix(mix(0, log_id), index), term);
}

static uint64_t chain_next(uint64_t chain, const uint8_t *header)
{
    chain = mix(chain, le_get64(header + 16));                            /* index */
    chain = mix(chain, le_get64(header + 24));                            /* term */
    chain = mix(chain, (uint64_t)header[6] << 32 | le_get32(header + 8)); /* type, size */
    return mix(chain, le_get32(header + 12));                             /* payload's CRC */
}

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

size_t segment_record_size(size_t size)
{
    return SEGMENT_RECORD_HEADER_SIZE + padded(size);
}

size_t segment_record_encode(uint8_t *out, const struct disklog_entry *e, uint64_t durable,
                             struct segment_at *at)
{
    uint8_t *payload = out + SEGMENT_RECORD_HEADER_SIZE;
    if (e->size > 0)
        memcpy(payload, e->data, e->size);
    memset(payload + e->size, 0, padded(e->size) - e->size);
    out[4] = RECORD_MAGIC_0;
    out[5] = RECORD_MAGIC_1;
    out[6] = e->type;
    out[7] = 0;
    le_put32(out + 8, (uint32_t)e->size);
    le_put32(out + 12, crc32c(0, payload, padded(e->size)));
    le_put64(out + 16, e->index);
    le_put64(out + 24, e->term);
    le_put64(out + 32, durable);
    at->chain = chain_next(at->chain, out);
    le_put64(out + 40, at->chain);
    le_put32(out, crc32c(at->salt, out + 4, SEGMENT_RECORD_HEADER_SIZE - 4));
    at->index = e->index;
    at->term = e->term;
    at->offset += segment_record_size(e->size);
    return segment_record_size(e->size);
}

static bool header_is_whole(const uint8_t *p, uint32_t salt)
{
    return p[4] == RECORD_MAGIC_0 && p[5] == RECORD_MAGIC_1 && p[6] >= 1 && p[6] <= TYPE_MAX &&
           le_get32(p) == crc32c(salt, p + 4, SEGMENT_RECORD_HEADER_SIZE - 4);
}

static bool is_zero(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != 0)
            return false;
    return true;
}

/* Whether the record at @p (with @left bytes behind it) is whole and follows @at. */
static bool record_follows(const uint8_t *p, size_t left, const struct segment_at *at)
{
    if (!header_is_whole(p, at->salt))
        return false;
    size_t size = le_get32(p + 8);
    if (segment_record_size(size) > left)
        return false;
    uint64_t term = le_get64(p + 24);
    return le_get64(p + 16) == at->index + 1 && term > 0 && term >= at->term &&
           le_get64(p + 40) == chain_next(at->chain, p) &&
           le_get32(p + 12) == crc32c(0, p + SEGMENT_RECORD_HEADER_SIZE, padded(size));
}

enum segment_end segment_walk(const uint8_t *data, size_t size, uint64_t limit,
                              struct segment_at *at, disklog_load_cb cb, void *arg, int *rv_out)
{
    while (at->index < limit) {
        const uint8_t *p = data + at->offset;
        size_t left = size - at->offset;
        if (left < SEGMENT_RECORD_HEADER_SIZE)
            return is_zero(p, left) ? SEGMENT_ZERO : SEGMENT_BAD;
        if (is_zero(p, SEGMENT_RECORD_HEADER_SIZE))
            return SEGMENT_ZERO;
        if (!record_follows(p, left, at))
            return SEGMENT_BAD;
        struct disklog_entry e = {
            .index = le_get64(p + 16),
            .term = le_get64(p + 24),
            .type = p[6],
            .data = p + SEGMENT_RECORD_HEADER_SIZE,
            .size = le_get32(p + 8),
        };
        at->index = e.index;
        at->term = e.term;
        at->chain = le_get64(p + 40);
        at->offset += segment_record_size(e.size);
        int rv = cb ? cb(arg, &e) : 0;
        if (rv != 0) {
            *rv_out = rv;
            return SEGMENT_STOP;
        }
    }
    return SEGMENT_LIMIT;
}

bool segment_proves(const uint8_t *data, size_t size, const struct segment_at *at)
{
    uint64_t index = at->index + 1;
    for (size_t offset = at->offset; offset + SEGMENT_RECORD_HEADER_SIZE <= size; offset += 8) {
        const uint8_t *p = data + offset;
        if (p[4] == RECORD_MAGIC_0 && p[5] == RECORD_MAGIC_1 && header_is_whole(p, at->salt) &&
            le_get64(p + 16) > index && le_get64(p + 32) >= index)
            return true;
    }
    return false;
}

size_t segment_used(const uint8_t *data, size_t size)
{
    while (size >= 8 && le_get64(data + size - 8) == 0)
        size -= 8;
    while (size > 0 && data[size - 1] == 0)
        size--;
    return size;
}
