#include "consensus/conf.h"

#include <string.h>

#include "tessera/base/buf.h"
#include "tessera/base/str.h"

enum { CONF_FORMAT = 1 };

static int conf_decode_address(struct reader *r, char out[MEMBER_ADDRESS_MAX])
{
    size_t left = reader_left(r);
    const uint8_t *start = r->data + r->at;
    const uint8_t *end = left ? memchr(start, 0, left) : NULL;
    size_t length = end ? (size_t)(end - start) : 0;
    if (length == 0 || length >= MEMBER_ADDRESS_MAX) {
        return TSR_EPROTO;
    }
    memcpy(out, read_bytes(r, length + 1), length + 1);
    return 0;
}

static bool conf_unique(const struct conf *conf, uint64_t id, const char *address)
{
    for (unsigned i = 0; i < conf->count; i++) {
        if (conf->members[i].id == id || strcmp(conf->members[i].address, address) == 0) {
            return false;
        }
    }
    return true;
}

int conf_decode(const void *data, size_t size, struct conf *out)
{
    struct reader r = reader_of(data, size);
    out->count = 0;
    uint8_t format = read_u8(&r);
    uint64_t count = read_u64(&r);
    if (r.failed || format != CONF_FORMAT || count == 0 || count > MEMBERS_MAX || size % 8 != 0) {
        return TSR_EPROTO;
    }
    for (unsigned i = 0; i < count; i++) {
        struct consensus_member *m = &out->members[i];
        m->id = read_u64(&r);
        if (r.failed || conf_decode_address(&r, m->address) != 0) {
            return TSR_EPROTO;
        }
        uint8_t role = read_u8(&r);
        if (r.failed || m->id == 0 || role > CONSENSUS_SPARE ||
            !conf_unique(out, m->id, m->address)) {
            return TSR_EPROTO;
        }
        m->role = (enum consensus_role)role;
        out->count++;
    }
    return reader_left(&r) < 8 ? 0 : TSR_EPROTO;
}

int conf_encode(const struct conf *conf, struct buf *out)
{
    static const char zeros[8];
    size_t start = out->size;
    buf_put_u8(out, CONF_FORMAT);
    buf_put_u64(out, conf->count);
    for (unsigned i = 0; i < conf->count; i++) {
        const struct consensus_member *m = &conf->members[i];
        buf_put_u64(out, m->id);
        buf_append(out, m->address, strlen(m->address) + 1);
        buf_put_u8(out, (uint8_t)m->role);
    }
    buf_append(out, zeros, (8 - (out->size - start) % 8) % 8);
    return out->failed ? TSR_ENOMEM : 0;
}

const struct consensus_member *conf_find(const struct conf *conf, uint64_t id)
{
    for (unsigned i = 0; i < conf->count; i++) {
        if (conf->members[i].id == id) {
            return &conf->members[i];
        }
    }
    return NULL;
}

unsigned conf_voters(const struct conf *conf)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < conf->count; i++) {
        voters += conf->members[i].role == CONSENSUS_VOTER;
    }
    return voters;
}

bool conf_sole_voter(const struct conf *conf, uint64_t id)
{
    const struct consensus_member *m = conf_find(conf, id);
    return m && m->role == CONSENSUS_VOTER && conf_voters(conf) == 1;
}

int conf_add(const struct conf *old, uint64_t id, const char *address, struct conf *out)
{
    if (id == 0 || !address || !address[0] || strlen(address) >= MEMBER_ADDRESS_MAX) {
        return TSR_EINVAL;
    }
    if (old->count == MEMBERS_MAX) {
        return TSR_ETOOBIG;
    }
    if (!conf_unique(old, id, address)) {
        return TSR_EEXIST;
    }
    *out = *old;
    struct consensus_member *m = &out->members[out->count++];
    memset(m, 0, sizeof *m);
    m->id = id;
    m->role = CONSENSUS_STANDBY;
    str_copy(m->address, sizeof m->address, address);
    return 0;
}

int conf_role(const struct conf *old, uint64_t id, enum consensus_role role, struct conf *out)
{
    *out = *old;
    for (unsigned i = 0; i < out->count; i++) {
        if (out->members[i].id == id) {
            out->members[i].role = role;
            return conf_voters(out) ? 0 : TSR_EINVAL;
        }
    }
    return TSR_ENOENT;
}

int conf_remove(const struct conf *old, uint64_t id, struct conf *out)
{
    out->count = 0;
    for (unsigned i = 0; i < old->count; i++) {
        if (old->members[i].id != id) {
            out->members[out->count++] = old->members[i];
        }
    }
    if (out->count == old->count) {
        return TSR_ENOENT;
    }
    return conf_voters(out) ? 0 : TSR_EINVAL;
}
