/* Memory for payloads of one loop: large bodies come from a cache of whole buffers, as fresh pages
 * for each chunk cost more than its encryption. Not a bound: that is the owner's (see server.c). */
#ifndef TESSERA_PEER_MEMORY_H
#define TESSERA_PEER_MEMORY_H

#include <stddef.h>

struct bufpool;

struct payload_memory {
    struct bufpool *pool;
};

/* Returns 0 or TSR_ENOMEM. */
int payload_memory_init(struct payload_memory *m);
/* Everything is back (asserted). */
void payload_memory_close(struct payload_memory *m);
/* Page-aligned when large. NULL when out of memory; not NULL for size 0. */
void *payload_get(struct payload_memory *m, size_t size);
/* @size as given to payload_get; NULL is fine. */
void payload_put(struct payload_memory *m, void *data, size_t size);

#endif
