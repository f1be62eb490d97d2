/* Large buffers of one size, bounded in number: the whole of back-pressure.
 *
 * Page-aligned memory straight from the system; a small cache is kept, the rest goes back when
 * freed, so that an idle host is small. An empty pool gives NULL; who must go on queues a waiter.
 *
 * A pool has one owner (one loop). Pools of several loops may share a `struct buf_budget`: then
 * memory in use never exceeds the budget's limit, and memory kept in caches never exceeds
 * cached_max buffers a pool.
 * Life: budget_init -> new (all pools, before threads start) -> get/put/wait -> free. */
#ifndef TESSERA_BASE_BUFPOOL_H
#define TESSERA_BASE_BUFPOOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/list.h"

struct bufpool;

enum { BUDGET_POOLS_MAX = 256 };

/* Bytes that several pools share. Thread: any, except init and bufpool_new. */
struct buf_budget {
    size_t limit;
    atomic_size_t used;
    atomic_uint starved; /* pools with waiters that only the budget holds up */
    unsigned count;
    struct bufpool *pools[BUDGET_POOLS_MAX];
};
void buf_budget_init(struct buf_budget *budget, size_t limit_bytes);
size_t buf_budget_used(struct buf_budget *budget);

struct bufpool_options {
    size_t buffer_bytes;       /* rounded up to whole pages */
    size_t count_max;          /* buffers in use at once */
    size_t cached_max;         /* free buffers kept */
    struct buf_budget *budget; /* or NULL */
    /* Called from any thread when the budget has room again for this pool's waiters: let the
     * owner's thread call bufpool_poll, for example by posting a task. It may be called once more
     * before that has happened. Needed with a budget of more than one pool. */
    void (*nudge)(void *arg);
    void *nudge_arg;
};

/* Waits for one buffer. Belongs to the caller until called or taken back. */
struct bufpool_waiter {
    struct list node;
    void (*cb)(struct bufpool_waiter *waiter, void *buffer);
};

/* Returns 0, TSR_EINVAL or TSR_ENOMEM. */
int bufpool_new(const struct bufpool_options *options, struct bufpool **pool_out);
/* Every buffer is back and nobody waits (asserted); threads of pools of the same budget have ended.
 */
void bufpool_free(struct bufpool *pool);

/* A buffer of bufpool_buffer_bytes(), content undefined; NULL when the pool or budget is exhausted,
 * the system has no memory, or others wait already. */
void *bufpool_get(struct bufpool *pool);
/* Give back; may call the first waiters, inside this call. */
void bufpool_put(struct bufpool *pool, void *buffer);

/* Queue @waiter, first come first served: its callback gets a buffer, from within a later
 * bufpool_put or bufpool_poll. Call it only after bufpool_get gave NULL. */
void bufpool_wait(struct bufpool *pool, struct bufpool_waiter *waiter);
/* Take a waiter back; no-op when its callback has run. */
void bufpool_unwait(struct bufpool *pool, struct bufpool_waiter *waiter);
/* Serve waiters as far as there is room (the answer to a nudge). With a system out of memory and no
 * buffer in use nothing else would wake them: call it from a slow timer too. */
void bufpool_poll(struct bufpool *pool);

/* Somebody waits for a buffer of this pool, or of another one for bytes of the shared budget. */
bool bufpool_wanted(const struct bufpool *pool);

size_t bufpool_buffer_bytes(const struct bufpool *pool);
size_t bufpool_in_use(const struct bufpool *pool);
size_t bufpool_count_max(const struct bufpool *pool);

#endif
