/* Happy path: get takes from the cache or maps memory; put keeps or unmaps.
 *
 * A waiter gets its buffer in `serve`, which runs inside put and poll; a callback that puts and
 * gets again does not recurse into it. While somebody waits, bufpool_get gives nothing, so that
 * late comers do not overtake.
 *
 * Shared budget, without a lock: a pool whose waiters only the budget holds up raises `starved`,
 * then looks at the budget again; who returns bytes does so first, then looks at `starved` (both
 * sequentially consistent, so that one of the two sees the other). */
#include "tessera/base/bufpool.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

struct bufpool {
    struct bufpool_options options;
    size_t in_use;
    size_t cached;
    void **cache; /* cached_max places */
    struct list waiters;
    bool serving;
    atomic_bool starved;
};

void buf_budget_init(struct buf_budget *budget, size_t limit_bytes)
{
    budget->limit = limit_bytes;
    atomic_init(&budget->used, 0);
    atomic_init(&budget->starved, 0);
    budget->count = 0;
}

size_t buf_budget_used(struct buf_budget *budget)
{
    return atomic_load(&budget->used);
}

static bool budget_take(struct buf_budget *budget, size_t bytes)
{
    if (budget == NULL) {
        return true;
    }
    size_t used = atomic_load(&budget->used);
    do {
        if (bytes > budget->limit || used > budget->limit - bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&budget->used, &used, used + bytes));
    return true;
}

static bool budget_has_room(struct buf_budget *budget, size_t bytes)
{
    return bytes <= budget->limit && atomic_load(&budget->used) <= budget->limit - bytes;
}

static void set_starved(struct bufpool *p, bool starved)
{
    if (p->options.budget != NULL && atomic_exchange(&p->starved, starved) != starved) {
        if (starved) {
            atomic_fetch_add(&p->options.budget->starved, 1);
        } else {
            atomic_fetch_sub(&p->options.budget->starved, 1);
        }
    }
}

static void nudge(struct bufpool *p)
{
    if (p->options.nudge != NULL) {
        p->options.nudge(p->options.nudge_arg);
    }
}

static void budget_return(struct bufpool *from, size_t bytes)
{
    struct buf_budget *budget = from->options.budget;
    if (budget == NULL) {
        return;
    }
    atomic_fetch_sub(&budget->used, bytes);
    if (atomic_load(&budget->starved) == 0) {
        return;
    }
    for (unsigned i = 0; i < budget->count; i++) {
        struct bufpool *p = budget->pools[i];
        if (p != from && atomic_load(&p->starved)) {
            nudge(p); /* it stays marked until its owner has looked, whoever takes the bytes */
        }
    }
}

int bufpool_new(const struct bufpool_options *options, struct bufpool **pool_out)
{
    if (options->buffer_bytes == 0 || options->count_max == 0 ||
        options->buffer_bytes > SIZE_MAX / 2 / options->count_max) {
        return TSR_EINVAL;
    }
    if (options->budget != NULL && options->budget->count == BUDGET_POOLS_MAX) {
        return TSR_EINVAL;
    }
    struct bufpool *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return TSR_ENOMEM;
    }
    p->options = *options;
    p->cache = calloc(options->cached_max + 1, sizeof(*p->cache));
    if (p->cache == NULL) {
        free(p);
        return TSR_ENOMEM;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    p->options.buffer_bytes = (options->buffer_bytes + page - 1) / page * page;
    list_init(&p->waiters);
    atomic_init(&p->starved, false);
    if (options->budget != NULL) {
        options->budget->pools[options->budget->count++] = p;
    }
    *pool_out = p;
    return 0;
}

static void forget(struct buf_budget *budget, const struct bufpool *p)
{
    for (unsigned i = 0; i < budget->count; i++) {
        if (budget->pools[i] == p) {
            budget->pools[i] = budget->pools[--budget->count];
            return;
        }
    }
}

void bufpool_free(struct bufpool *p)
{
    if (p == NULL) {
        return;
    }
    tsr_assert(p->in_use == 0);
    tsr_assert(list_empty(&p->waiters));
    set_starved(p, false);
    while (p->cached > 0) {
        tsr_assert(munmap(p->cache[--p->cached], p->options.buffer_bytes) == 0);
    }
    if (p->options.budget != NULL) {
        forget(p->options.budget, p);
    }
    free(p->cache);
    free(p);
}

/* *no_memory: the system had none, which no other pool's return will change. */
static void *take(struct bufpool *p, bool *no_memory)
{
    *no_memory = false;
    if (p->in_use == p->options.count_max ||
        !budget_take(p->options.budget, p->options.buffer_bytes)) {
        return NULL;
    }
    void *buffer;
    if (p->cached > 0) {
        buffer = p->cache[--p->cached];
    } else {
        buffer = mmap(NULL, p->options.buffer_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (buffer == MAP_FAILED) {
            budget_return(p, p->options.buffer_bytes);
            *no_memory = true;
            return NULL;
        }
    }
    p->in_use++;
    return buffer;
}

static void give_back(struct bufpool *p, void *buffer)
{
    tsr_assert(p->in_use > 0);
    p->in_use--;
    if (p->cached < p->options.cached_max) {
        p->cache[p->cached++] = buffer;
    } else {
        tsr_assert(munmap(buffer, p->options.buffer_bytes) == 0);
    }
    budget_return(p, p->options.buffer_bytes);
}

static bool held_by_budget(const struct bufpool *p)
{
    return p->options.budget != NULL && !list_empty(&p->waiters) &&
           p->in_use < p->options.count_max;
}

/* Give the waiters what there is. */
static void serve(struct bufpool *p)
{
    if (p->serving) {
        return;
    }
    bool no_memory = false;
    p->serving = true;
    while (!list_empty(&p->waiters)) {
        void *buffer = take(p, &no_memory);
        if (buffer == NULL) {
            break;
        }
        struct list *node = list_pop(&p->waiters);
        struct bufpool_waiter *waiter = container_of(node, struct bufpool_waiter, node);
        waiter->cb(waiter, buffer);
    }
    p->serving = false;
    bool starved = held_by_budget(p);
    set_starved(p, starved);
    if (starved && !no_memory && budget_has_room(p->options.budget, p->options.buffer_bytes)) {
        nudge(p); /* it came between our look and our mark */
    }
}

void *bufpool_get(struct bufpool *p)
{
    bool no_memory;
    return list_empty(&p->waiters) ? take(p, &no_memory) : NULL;
}

void bufpool_put(struct bufpool *p, void *buffer)
{
    give_back(p, buffer);
    serve(p);
}

void bufpool_wait(struct bufpool *p, struct bufpool_waiter *waiter)
{
    tsr_assert(waiter->cb != NULL);
    list_push(&p->waiters, &waiter->node);
    if (held_by_budget(p)) {
        set_starved(p, true);
        if (budget_has_room(p->options.budget, p->options.buffer_bytes)) {
            nudge(p);
        }
    }
}

void bufpool_unwait(struct bufpool *p, struct bufpool_waiter *waiter)
{
    list_remove(&waiter->node);
    if (list_empty(&p->waiters)) {
        set_starved(p, false);
    }
}

void bufpool_poll(struct bufpool *p)
{
    serve(p);
}

size_t bufpool_buffer_bytes(const struct bufpool *p)
{
    return p->options.buffer_bytes;
}

bool bufpool_wanted(const struct bufpool *p)
{
    return !list_empty(&p->waiters) ||
           (p->options.budget != NULL && atomic_load(&p->options.budget->starved) != 0);
}

size_t bufpool_in_use(const struct bufpool *p)
{
    return p->in_use;
}

size_t bufpool_count_max(const struct bufpool *p)
{
    return p->options.count_max;
}
