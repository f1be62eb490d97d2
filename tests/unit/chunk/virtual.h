/* One thread that plays a loop and its pools on a virtual clock: which of the ready things runs
 * next is drawn from a seed, so that a test meets many orders and can repeat each. */
#ifndef TEST_CHUNK_VIRTUAL_H
#define TEST_CHUNK_VIRTUAL_H

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/sys/loop.h"

enum { VIRTUAL_POOLS = 3 };

struct virtual;
struct virtual_pool {
    struct pool base;
    struct virtual *v;
    struct work *head, *tail;
    size_t depth;
};

struct virtual
{
    struct loop loop;
    uint64_t now_ns, rng, steps;
    struct task *head, *tail;
    struct timer_heap timers;
    struct virtual_pool pools[VIRTUAL_POOLS];
};

static inline uint64_t virtual_random(struct virtual *v)
{
    v->rng ^= v->rng << 13;
    v->rng ^= v->rng >> 7;
    v->rng ^= v->rng << 17;
    return v->rng;
}

static inline struct virtual *virtual_of(struct loop *loop)
{
    return container_of(loop, struct virtual, loop);
}

static inline uint64_t virtual_now(struct loop *loop)
{
    return virtual_of(loop)->now_ns;
}

static inline int64_t virtual_wall(struct loop *loop)
{
    return (int64_t)(virtual_of(loop)->now_ns / 1000);
}

static inline void virtual_post(struct loop *loop, struct task *task)
{
    struct virtual *v = virtual_of(loop);
    task->next = NULL;
    if (v->head == NULL) {
        v->head = task;
    } else {
        v->tail->next = task;
    }
    v->tail = task;
}

static inline void virtual_timer_start(struct loop *loop, struct timer *timer)
{
    timer_heap_add(&virtual_of(loop)->timers, timer);
}

static inline void virtual_timer_stop(struct loop *loop, struct timer *timer)
{
    timer_heap_remove(&virtual_of(loop)->timers, timer);
}

static inline void virtual_bytes(struct loop *loop, void *out, size_t size)
{
    uint8_t *p = out;
    for (size_t i = 0; i < size; i++) {
        p[i] = (uint8_t)virtual_random(virtual_of(loop));
    }
}

static inline void virtual_submit(struct pool *pool, struct work *work)
{
    struct virtual_pool *p = container_of(pool, struct virtual_pool, base);
    work->next = NULL;
    if (p->head == NULL) {
        p->head = work;
    } else {
        p->tail->next = work;
    }
    p->tail = work;
    p->depth++;
}

static inline size_t virtual_depth(struct pool *pool)
{
    return container_of(pool, struct virtual_pool, base)->depth;
}

static inline void virtual_init(struct virtual *v, uint64_t seed)
{
    static const struct loop_ops loop_ops = {
        .now_ns = virtual_now,
        .wall_us = virtual_wall,
        .post = virtual_post,
        .timer_start = virtual_timer_start,
        .timer_stop = virtual_timer_stop,
        .random = virtual_bytes,
    };
    static const struct pool_ops pool_ops = {.submit = virtual_submit, .depth = virtual_depth};
    memset(v, 0, sizeof *v);
    v->loop.ops = &loop_ops;
    v->rng = seed * 0x9e3779b97f4a7c15ULL + 1;
    v->now_ns = 1000000000;
    for (unsigned i = 0; i < VIRTUAL_POOLS; i++) {
        v->pools[i] = (struct virtual_pool){.base = {.ops = &pool_ops}, .v = v};
    }
}

static inline void virtual_work_done(struct task *task)
{
    struct work *work = container_of(task, struct work, task);
    work->done(work);
}

static inline void virtual_run_work(struct virtual_pool *p)
{
    struct work *work = p->head;
    struct loop *loop = work->loop;
    p->head = work->next;
    p->depth--;
    work->run(work);
    if (loop != NULL) {
        work->task.run = virtual_work_done;
        loop_post(loop, &work->task);
    }
}

static inline void virtual_run_task(struct virtual *v)
{
    struct task *task = v->head;
    v->head = task->next;
    task->run(task);
}

/* Run one ready thing; false: nothing is ready but timers. */
static inline bool virtual_ready_step(struct virtual *v)
{
    unsigned from = (unsigned)(virtual_random(v) % (VIRTUAL_POOLS + 1));
    for (unsigned i = 0; i <= VIRTUAL_POOLS; i++) {
        unsigned at = (from + i) % (VIRTUAL_POOLS + 1);
        if (at == VIRTUAL_POOLS && v->head != NULL) {
            v->steps++;
            virtual_run_task(v);
            return true;
        }
        if (at < VIRTUAL_POOLS && v->pools[at].head != NULL) {
            v->steps++;
            virtual_run_work(&v->pools[at]);
            return true;
        }
    }
    return false;
}

/* The same, or the next timer if it is due before @until_ns; false: nothing before then. */
static inline bool virtual_step(struct virtual *v, uint64_t until_ns)
{
    if (virtual_ready_step(v)) {
        return true;
    }
    struct timer *timer = timer_heap_first(&v->timers);
    if (timer == NULL || timer->due_ms * 1000000 > until_ns) {
        return false;
    }
    if (timer->due_ms * 1000000 > v->now_ns) {
        v->now_ns = timer->due_ms * 1000000;
    }
    timer_heap_remove(&v->timers, timer);
    timer->cb(timer);
    return true;
}

static inline void virtual_sleep(struct virtual *v, uint64_t ms)
{
    uint64_t until = v->now_ns + ms * 1000000;
    while (virtual_step(v, until)) {
    }
    v->now_ns = until;
}

static inline void virtual_until(struct virtual *v, const bool *done)
{
    while (!*done) {
        bool more = virtual_step(v, UINT64_MAX);
        tsr_assert(more);
    }
}

/* A crash: everything that waits is forgotten. */
static inline void virtual_forget(struct virtual *v)
{
    v->head = NULL;
    while (timer_heap_first(&v->timers) != NULL) {
        timer_heap_remove(&v->timers, timer_heap_first(&v->timers));
    }
    for (unsigned i = 0; i < VIRTUAL_POOLS; i++) {
        v->pools[i].head = NULL;
        v->pools[i].depth = 0;
    }
}

#endif
