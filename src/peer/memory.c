#include "peer/memory.h"

#include <stdlib.h>

#include "tessera/base/bufpool.h"
#include "tessera/peer.h"

enum { POOLED_FROM = 1024 * 1024, CACHED_MAX = 4, COUNT_MAX = 1 << 16 };

int payload_memory_init(struct payload_memory *m)
{
    const struct bufpool_options options = {
        .buffer_bytes = PEER_BODY_MAX, .count_max = COUNT_MAX, .cached_max = CACHED_MAX};
    return bufpool_new(&options, &m->pool);
}

void payload_memory_close(struct payload_memory *m)
{
    bufpool_free(m->pool);
    m->pool = NULL;
}

void *payload_get(struct payload_memory *m, size_t size)
{
    if (size < POOLED_FROM) {
        return malloc(size ? size : 1);
    }
    return bufpool_get(m->pool);
}

void payload_put(struct payload_memory *m, void *data, size_t size)
{
    if (size < POOLED_FROM) {
        free(data);
    } else if (data) {
        bufpool_put(m->pool, data);
    }
}
