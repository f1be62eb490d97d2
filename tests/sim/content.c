/* What clients upload: short images of blocks that repeat within and across images, zero chunks
 * among them, of sizes that do not fit the chunks. */
#include <stdlib.h>
#include <string.h>

#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "world.h"

enum { CONTENT_NAME = 65 };

struct content {
    size_t size;
    uint8_t *data;
    char md5[33];
    uint32_t md5_head;            /* its first characters: most comparisons end there */
    char (*chunks)[CONTENT_NAME]; /* "": a chunk of zeros, which nobody stores */
    unsigned chunk_count;
};

static struct content contents[SIM_CONTENTS_MAX];
static uint32_t content_count = 1;

static void fill_block(struct world *w, uint8_t *at, size_t size)
{
    unsigned kind = (unsigned)world_below(w, 10);
    if (kind < 2) {
        memset(at, 0, size);
        return;
    }
    /* One of a few that many images share, or one of its own. */
    uint64_t x = kind < 6 ? 1000 + world_below(w, 6) : world_below(w, UINT64_MAX) | 1;
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        at[i] = (uint8_t)(x >> 11);
    }
}

/* Once per content: the checkers ask for the names again and again. */
static void name_chunks(struct content *c)
{
    c->chunk_count = (unsigned)((c->size + SIM_CHUNK_BYTES - 1) / SIM_CHUNK_BYTES);
    c->chunks = calloc(c->chunk_count, sizeof(*c->chunks));
    tsr_assert(c->chunks != NULL);
    for (unsigned i = 0; i < c->chunk_count; i++) {
        size_t at = (size_t)i * SIM_CHUNK_BYTES, left = c->size - at;
        size_t n = left < SIM_CHUNK_BYTES ? left : SIM_CHUNK_BYTES;
        uint8_t hash[DIGEST_MAX];
        if (!chunk_data_is_zero(c->data + at, n)) {
            digest_of(DIGEST_SHA256, c->data + at, n, hash);
            hex_encode(hash, 32, c->chunks[i]);
        }
    }
}

static struct content *content_make(size_t size)
{
    tsr_assert(content_count < SIM_CONTENTS_MAX);
    struct content *c = &contents[content_count];
    c->size = size;
    c->data = malloc(size);
    tsr_assert(c->data != NULL);
    return c;
}

static uint32_t content_keep(struct content *c)
{
    uint8_t md5[DIGEST_MAX];
    digest_of(DIGEST_MD5, c->data, c->size, md5);
    hex_encode(md5, 16, c->md5);
    memcpy(&c->md5_head, c->md5, sizeof(c->md5_head));
    uint32_t same = content_of_md5(c->md5); /* short ones may repeat */
    if (same != UINT32_MAX) {
        free(c->data);
        return same;
    }
    name_chunks(c);
    return content_count++;
}

uint32_t content_new(struct world *w)
{
    size_t chunks = (size_t)world_below(w, 12);
    struct content *c =
        content_make(chunks * SIM_CHUNK_BYTES + (size_t)world_below(w, SIM_CHUNK_BYTES) + 1);
    for (size_t at = 0; at < c->size; at += SIM_CHUNK_BYTES) {
        size_t left = c->size - at;
        fill_block(w, c->data + at, left < SIM_CHUNK_BYTES ? left : SIM_CHUNK_BYTES);
    }
    return content_keep(c);
}

uint32_t content_like(struct world *w, uint32_t old)
{
    const struct content *from = &contents[old];
    struct content *c = content_make(from->size);
    size_t blocks = (from->size + SIM_CHUNK_BYTES - 1) / SIM_CHUNK_BYTES;
    size_t at = (size_t)world_below(w, blocks) * SIM_CHUNK_BYTES, left = from->size - at;
    memcpy(c->data, from->data, from->size);
    fill_block(w, c->data + at, left < SIM_CHUNK_BYTES ? left : SIM_CHUNK_BYTES);
    return content_keep(c);
}

size_t content_size(uint32_t content)
{
    return contents[content].size;
}

const uint8_t *content_data(uint32_t content)
{
    return contents[content].data;
}

const char *content_md5(uint32_t content)
{
    return contents[content].md5;
}

unsigned content_chunk_count(uint32_t content)
{
    return contents[content].chunk_count;
}

const char *content_chunk(uint32_t content, unsigned i)
{
    return contents[content].chunks[i];
}

uint32_t content_of_md5(const char *md5)
{
    if (md5 == NULL) {
        return 0;
    }
    uint32_t head = 0;
    memcpy(&head, md5, strnlen(md5, sizeof(head)));
    for (uint32_t i = 1; i < content_count; i++) {
        if (contents[i].md5_head == head && strcmp(contents[i].md5, md5) == 0) {
            return i;
        }
    }
    return UINT32_MAX;
}
