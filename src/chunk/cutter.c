/* The cutter: a stream of bytes of any shape into chunks of equal size. Pure; buffers are lent by
 * the caller, who takes each one away when it is full and sets the next (or NULL until there is
 * one). */
#include "tessera/chunk.h"

#include <string.h>

#include "tessera/base/assert.h"

void cutter_init(struct cutter *c, uint32_t chunk_bytes)
{
    *c = (struct cutter){.chunk_bytes = chunk_bytes};
}

bool cutter_feed(struct cutter *c, const uint8_t **data, size_t *size)
{
    tsr_assert(c->buffer != NULL && c->fill <= c->chunk_bytes);
    size_t n = c->chunk_bytes - c->fill;
    if (n > *size) {
        n = *size;
    }
    if (n > 0) {
        memcpy(c->buffer + c->fill, *data, n);
    }
    c->fill += n;
    c->total += n;
    *data += n;
    *size -= n;
    return c->fill == c->chunk_bytes;
}

/* A zero head followed by "equal to itself one step on" is all zero: memcmp is vectorised and stops
 * at the first difference, so data that are not zero cost next to nothing. */
bool chunk_data_is_zero(const void *data, size_t size)
{
    static const uint8_t zeros[16];
    const uint8_t *p = data;
    size_t head = size < sizeof zeros ? size : sizeof zeros;
    if (memcmp(p, zeros, head) != 0) {
        return false;
    }
    return size <= head || memcmp(p, p + head, size - head) == 0;
}
