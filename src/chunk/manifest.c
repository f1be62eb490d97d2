/* Manifests: the ordered list of an image's chunks, encoded little-endian and named by SHA-256.
 *
 * Pure. Everything read is from outside (disk or peer): counts are checked against the size of the
 * image and of the text before anything is allocated. */
#include "tessera/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"

enum {
    MANIFEST_VERSION = 1,
    MANIFEST_HEAD = 32,
    /* As many as one peer frame carries: 2 TiB of 4 MiB chunks. */
    MANIFEST_CHUNKS_MAX = (16 * 1024 * 1024 - MANIFEST_HEAD) / 32,
};
static const char magic[8] = {'T', 'S', 'R', 'M', 'A', 'N', '0', '1'};

bool chunk_id_is_zero(const struct chunk_id *id)
{
    static const struct chunk_id zero;
    return memcmp(id, &zero, sizeof zero) == 0;
}

size_t manifest_chunk_size(const struct manifest *m, uint32_t n)
{
    tsr_assert(n < m->count);
    uint64_t left = m->size - (uint64_t)n * m->chunk_bytes;
    return left < m->chunk_bytes ? (size_t)left : m->chunk_bytes;
}

static uint64_t chunks_of(uint64_t size, uint32_t chunk_bytes)
{
    return size / chunk_bytes + (size % chunk_bytes != 0);
}

static uint32_t count_zeros(const struct manifest *m)
{
    uint32_t zeros = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        zeros += chunk_id_is_zero(&m->chunks[i]);
    }
    return zeros;
}

int manifest_encode(const struct manifest *m, char **data_out, size_t *size_out,
                    struct chunk_id *id_out)
{
    if (m->chunk_bytes < CHUNK_BYTES_MIN || m->chunk_bytes > CHUNK_BYTES_MAX ||
        m->count > MANIFEST_CHUNKS_MAX || chunks_of(m->size, m->chunk_bytes) != m->count) {
        return m->count > MANIFEST_CHUNKS_MAX ? TSR_ETOOBIG : TSR_EINVAL;
    }
    struct buf b;
    buf_init(&b);
    buf_reserve(&b, MANIFEST_HEAD + (size_t)m->count * 32);
    buf_append(&b, magic, sizeof magic);
    buf_put_u32(&b, MANIFEST_VERSION);
    buf_put_u32(&b, m->chunk_bytes);
    buf_put_u64(&b, m->size);
    buf_put_u32(&b, m->count);
    buf_put_u32(&b, count_zeros(m));
    if (m->count > 0) {
        buf_append(&b, m->chunks, (size_t)m->count * 32);
    }
    if (b.failed) {
        buf_free(&b);
        return TSR_ENOMEM;
    }
    digest_of(DIGEST_SHA256, b.data, b.size, id_out->bytes);
    *data_out = buf_detach(&b, size_out);
    return 0;
}

int manifest_decode(const void *data, size_t size, struct manifest *out)
{
    struct reader r = reader_of(data, size);
    const void *m = read_bytes(&r, sizeof magic);
    uint32_t version = read_u32(&r);
    struct manifest man = {0};
    man.chunk_bytes = read_u32(&r);
    man.size = read_u64(&r);
    man.count = read_u32(&r);
    uint32_t zeros = read_u32(&r);
    if (r.failed || memcmp(m, magic, sizeof magic) != 0 || version != MANIFEST_VERSION ||
        man.chunk_bytes < CHUNK_BYTES_MIN || man.chunk_bytes > CHUNK_BYTES_MAX ||
        man.count > MANIFEST_CHUNKS_MAX || chunks_of(man.size, man.chunk_bytes) != man.count ||
        reader_left(&r) != (size_t)man.count * 32) {
        return TSR_ECORRUPT;
    }
    if (man.count > 0) {
        man.chunks = malloc((size_t)man.count * sizeof *man.chunks);
        if (man.chunks == NULL) {
            return TSR_ENOMEM;
        }
        memcpy(man.chunks, read_bytes(&r, (size_t)man.count * 32), (size_t)man.count * 32);
    }
    if (count_zeros(&man) != zeros) {
        manifest_free(&man);
        return TSR_ECORRUPT;
    }
    *out = man;
    return 0;
}

void manifest_free(struct manifest *m)
{
    free(m->chunks);
    m->chunks = NULL;
    m->count = 0;
}
