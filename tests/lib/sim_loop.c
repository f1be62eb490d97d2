#include "sim_loop.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/list.h"

enum { TASK_DELAY_US = 20 }; /* a posted task runs within this */

enum sim_event_kind { SIM_CALL, SIM_TASKS, SIM_WORK };

struct sim_loop;
struct sim_pool;

struct sim_event {
    uint64_t at_ns, seq;
    enum sim_event_kind kind;
    unsigned group;
    sim_fn fn, drop;
    void *arg; /* call: the caller's; else the loop or pool */
    struct work *work;
};

struct sim_loop {
    struct loop loop;
    struct sim *sim;
    struct list link;
    unsigned group;
    int64_t wall_us, drift_ppm;
    uint64_t drift_from_ns;
    struct task *first, *last;
    bool woken; /* a SIM_TASKS event is pending */
    struct timer_heap timers;
};

struct sim_pool {
    struct pool pool;
    struct sim *sim;
    struct list link;
    unsigned group, threads, running;
    uint64_t min_us, max_us, tail_us;
    unsigned tail_percent;
    struct work *first, *last;
    size_t depth;
};

struct sim_pause {
    unsigned group;
    uint64_t until_ns;
};

struct sim {
    uint64_t now_ns, seq, random;
    struct sim_event **heap;
    size_t count, capacity;
    struct list loops, pools;
    struct sim_pause pauses[64];
    unsigned pause_count;
    unsigned running_group;
};

/* --- randomness: splitmix64 ------------------------------------------------------------------- */

uint64_t sim_random(struct sim *sim)
{
    uint64_t z = (sim->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *sim, uint64_t limit)
{
    return sim_random(sim) % limit;
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return sim_below(sim, 100) < percent;
}

/* --- the queue of events: a binary heap by (time, order) -------------------------------------- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->seq < b->seq;
}

static void heap_push(struct sim *sim, struct sim_event *ev)
{
    if (sim->count == sim->capacity) {
        sim->capacity = sim->capacity ? sim->capacity * 2 : 256;
        sim->heap = realloc(sim->heap, sim->capacity * sizeof(struct sim_event *));
        tsr_assert(sim->heap);
    }
    size_t i = sim->count++;
    while (i > 0 && event_before(ev, sim->heap[(i - 1) / 2])) {
        sim->heap[i] = sim->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->heap[i] = ev;
}

static struct sim_event *heap_pop(struct sim *sim)
{
    struct sim_event *top = sim->heap[0];
    struct sim_event *last = sim->heap[--sim->count];
    size_t i = 0;
    for (size_t child = 1; child < sim->count; child = 2 * i + 1) {
        if (child + 1 < sim->count && event_before(sim->heap[child + 1], sim->heap[child])) {
            child++;
        }
        if (!event_before(sim->heap[child], last)) {
            break;
        }
        sim->heap[i] = sim->heap[child];
        i = child;
    }
    sim->heap[i] = last;
    return top;
}

static struct sim_event *event_new(struct sim *sim, enum sim_event_kind kind, unsigned group,
                                   uint64_t delay_ns, void *arg)
{
    struct sim_event *ev = calloc(1, sizeof *ev);
    tsr_assert(ev);
    ev->at_ns = sim->now_ns + delay_ns;
    ev->seq = sim->seq++;
    ev->kind = kind;
    ev->group = group;
    ev->arg = arg;
    return ev;
}

void sim_after(struct sim *sim, unsigned group, uint64_t delay_us, sim_fn fn, sim_fn drop,
               void *arg)
{
    struct sim_event *ev = event_new(sim, SIM_CALL, group, delay_us * 1000, arg);
    ev->fn = fn;
    ev->drop = drop;
    heap_push(sim, ev);
}

/* --- loops ------------------------------------------------------------------------------------ */

static struct sim_loop *loop_of(struct loop *loop)
{
    return container_of(loop, struct sim_loop, loop);
}

static uint64_t sim_loop_now(struct loop *loop)
{
    return loop_of(loop)->sim->now_ns;
}

static int64_t sim_loop_wall_us(struct loop *loop)
{
    struct sim_loop *l = loop_of(loop);
    int64_t drifted_us = (int64_t)((l->sim->now_ns - l->drift_from_ns) / 1000) * l->drift_ppm;
    return 1767225600000000 + (int64_t)(l->sim->now_ns / 1000) + l->wall_us + /* from 2026 on */
           drifted_us / 1000000;
}

static void loop_wake(struct sim_loop *l)
{
    if (!l->woken && l->first) {
        l->woken = true;
        uint64_t delay = sim_below(l->sim, TASK_DELAY_US) * 1000 + 1;
        heap_push(l->sim, event_new(l->sim, SIM_TASKS, l->group, delay, l));
    }
}

static void sim_loop_post(struct loop *loop, struct task *task)
{
    struct sim_loop *l = loop_of(loop);
    task->next = NULL;
    if (l->last) {
        l->last->next = task;
    } else {
        l->first = task;
    }
    l->last = task;
    loop_wake(l);
}

static void sim_timer_start(struct loop *loop, struct timer *timer)
{
    timer_heap_add(&loop_of(loop)->timers, timer);
}

static void sim_timer_stop(struct loop *loop, struct timer *timer)
{
    timer_heap_remove(&loop_of(loop)->timers, timer);
}

static void sim_loop_random(struct loop *loop, void *out, size_t size)
{
    uint8_t *at = out;
    for (; size; size--) {
        *at++ = (uint8_t)sim_random(loop_of(loop)->sim);
    }
}

static const struct loop_ops sim_loop_ops = {
    .now_ns = sim_loop_now,
    .wall_us = sim_loop_wall_us,
    .post = sim_loop_post,
    .timer_start = sim_timer_start,
    .timer_stop = sim_timer_stop,
    .random = sim_loop_random,
};

struct loop *sim_loop_new(struct sim *sim, unsigned group)
{
    struct sim_loop *l = calloc(1, sizeof *l);
    tsr_assert(l);
    l->loop.ops = &sim_loop_ops;
    l->sim = sim;
    l->group = group;
    list_push(&sim->loops, &l->link);
    return &l->loop;
}

void sim_loop_wall(struct loop *loop, int64_t offset_us)
{
    loop_of(loop)->wall_us = offset_us;
}

void sim_loop_drift(struct loop *loop, int64_t ppm)
{
    struct sim_loop *l = loop_of(loop);
    int64_t before = sim_loop_wall_us(loop);
    l->drift_ppm = ppm;
    l->drift_from_ns = l->sim->now_ns;
    l->wall_us += before - sim_loop_wall_us(loop); /* no jump */
}

static void loop_tasks(struct sim_loop *l)
{
    struct task *task = l->first;
    l->woken = false;
    if (!task) {
        return;
    }
    l->first = task->next;
    if (!l->first) {
        l->last = NULL;
    }
    loop_wake(l);
    task->run(task);
}

/* --- pools ------------------------------------------------------------------------------------ */

static struct sim_pool *pool_of(struct pool *pool)
{
    return container_of(pool, struct sim_pool, pool);
}

static void pool_start(struct sim_pool *p)
{
    while (p->first && p->running < p->threads) {
        struct work *work = p->first;
        p->first = work->next;
        if (!p->first) {
            p->last = NULL;
        }
        p->running++;
        bool tail = p->tail_percent > 0 && sim_chance(p->sim, p->tail_percent);
        uint64_t max = tail && p->tail_us > p->max_us ? p->tail_us : p->max_us;
        uint64_t us = p->min_us + sim_below(p->sim, max - p->min_us + 1);
        struct sim_event *ev = event_new(p->sim, SIM_WORK, p->group, us * 1000 + 1, p);
        ev->work = work;
        heap_push(p->sim, ev);
    }
}

static void sim_pool_submit(struct pool *pool, struct work *work)
{
    struct sim_pool *p = pool_of(pool);
    work->next = NULL;
    if (p->last) {
        p->last->next = work;
    } else {
        p->first = work;
    }
    p->last = work;
    p->depth++;
    pool_start(p);
}

static size_t sim_pool_depth(struct pool *pool)
{
    return pool_of(pool)->depth;
}

static const struct pool_ops sim_pool_ops = {.submit = sim_pool_submit, .depth = sim_pool_depth};

struct pool *sim_pool_new(struct sim *sim, unsigned group, unsigned threads, uint64_t min_us,
                          uint64_t max_us)
{
    struct sim_pool *p = calloc(1, sizeof *p);
    tsr_assert(p && threads > 0 && max_us >= min_us);
    p->pool.ops = &sim_pool_ops;
    p->sim = sim;
    p->group = group;
    p->threads = threads;
    p->min_us = min_us;
    p->max_us = max_us;
    list_push(&sim->pools, &p->link);
    return &p->pool;
}

void sim_pool_delay(struct pool *pool, uint64_t min_us, uint64_t max_us)
{
    pool_of(pool)->min_us = min_us;
    pool_of(pool)->max_us = max_us;
}

void sim_pool_tail(struct pool *pool, unsigned percent, uint64_t max_us)
{
    pool_of(pool)->tail_percent = percent;
    pool_of(pool)->tail_us = max_us;
}

static void work_task(struct task *task)
{
    struct work *work = container_of(task, struct work, task);
    work->done(work);
}

static void pool_finish(struct sim_pool *p, struct work *work)
{
    struct loop *loop = work->loop;
    p->running--;
    p->depth--;
    work->run(work);
    if (loop) {
        work->task.run = work_task;
        loop_post(loop, &work->task);
    }
    pool_start(p);
}

/* --- the world -------------------------------------------------------------------------------- */

struct sim *sim_new(uint64_t seed)
{
    struct sim *sim = calloc(1, sizeof *sim);
    tsr_assert(sim);
    sim->random = seed * 0x2545f4914f6cdd1du + 0x1234567;
    sim->now_ns = 1000000000; /* no clock starts at 0 */
    list_init(&sim->loops);
    list_init(&sim->pools);
    return sim;
}

static void event_drop(struct sim_event *ev)
{
    if (ev->kind == SIM_CALL && ev->drop) {
        ev->drop(ev->arg);
    }
    free(ev);
}

void sim_free(struct sim *sim)
{
    for (size_t i = 0; i < sim->count; i++) {
        event_drop(sim->heap[i]);
    }
    free(sim->heap);
    list_each(link, &sim->loops)
    {
        struct sim_loop *l = container_of(link, struct sim_loop, link);
        timer_heap_free(&l->timers);
        free(l);
    }
    list_each(link, &sim->pools)
    {
        free(container_of(link, struct sim_pool, link));
    }
    free(sim);
}

uint64_t sim_now_ns(const struct sim *sim)
{
    return sim->now_ns;
}

uint64_t sim_now_ms(const struct sim *sim)
{
    return sim->now_ns / 1000000;
}

unsigned sim_running_group(const struct sim *sim)
{
    return sim->running_group;
}

static void crash_loop(struct sim_loop *l)
{
    struct timer *timer;
    while ((timer = timer_heap_first(&l->timers))) {
        timer_heap_remove(&l->timers, timer);
    }
    l->first = l->last = NULL;
    l->woken = false;
}

void sim_crash(struct sim *sim, unsigned group)
{
    size_t count = sim->count;
    struct sim_event **old = sim->heap;
    sim->heap = NULL;
    sim->count = sim->capacity = 0;
    for (size_t i = 0; i < count; i++) {
        if (old[i]->group == group) {
            event_drop(old[i]);
        } else {
            heap_push(sim, old[i]);
        }
    }
    free(old);
    list_each(link, &sim->loops)
    {
        struct sim_loop *l = container_of(link, struct sim_loop, link);
        if (l->group == group) {
            crash_loop(l);
        }
    }
    list_each(link, &sim->pools)
    {
        struct sim_pool *p = container_of(link, struct sim_pool, link);
        if (p->group == group) {
            p->first = p->last = NULL;
            p->running = 0;
            p->depth = 0;
        }
    }
}

void sim_group_pause(struct sim *sim, unsigned group, uint64_t until_ms)
{
    for (unsigned i = 0; i < sim->pause_count; i++) {
        if (sim->pauses[i].group == group) {
            sim->pauses[i].until_ns = until_ms * 1000000;
            return;
        }
    }
    tsr_assert(sim->pause_count < array_len(sim->pauses));
    sim->pauses[sim->pause_count++] =
        (struct sim_pause){.group = group, .until_ns = until_ms * 1000000};
}

static uint64_t paused_until(const struct sim *sim, unsigned group)
{
    for (unsigned i = 0; i < sim->pause_count; i++) {
        if (sim->pauses[i].group == group) {
            return sim->pauses[i].until_ns;
        }
    }
    return 0;
}

/* The timer that is due first, a paused loop's not before it goes on. */
static struct timer *first_timer(struct sim *sim, struct sim_loop **loop_out, uint64_t *at_out)
{
    struct timer *first = NULL;
    list_each(link, &sim->loops)
    {
        struct sim_loop *l = container_of(link, struct sim_loop, link);
        struct timer *timer = timer_heap_first(&l->timers);
        if (!timer) {
            continue;
        }
        uint64_t at = timer->due_ms * 1000000;
        uint64_t until = paused_until(sim, l->group);
        at = at < until ? until : at;
        if (!first || at < *at_out) {
            first = timer;
            *loop_out = l;
            *at_out = at;
        }
    }
    return first;
}

static void event_run(struct sim_event *ev)
{
    switch (ev->kind) {
    case SIM_CALL:
        ev->fn(ev->arg);
        break;
    case SIM_TASKS:
        loop_tasks(ev->arg);
        break;
    case SIM_WORK:
        pool_finish(ev->arg, ev->work);
        break;
    }
    free(ev);
}

/* One event not after @limit_ns; false if there is none. */
static bool step_until(struct sim *sim, uint64_t limit_ns)
{
    struct sim_loop *loop = NULL;
    uint64_t at = 0;
    struct timer *timer = first_timer(sim, &loop, &at);
    struct sim_event *ev = sim->count ? sim->heap[0] : NULL;
    if (timer && (!ev || at <= ev->at_ns)) {
        if (at > limit_ns) {
            return false;
        }
        sim->now_ns = at > sim->now_ns ? at : sim->now_ns;
        timer_heap_remove(&loop->timers, timer);
        sim->running_group = loop->group;
        timer->cb(timer);
        return true;
    }
    if (!ev || ev->at_ns > limit_ns) {
        return false;
    }
    sim->now_ns = ev->at_ns > sim->now_ns ? ev->at_ns : sim->now_ns;
    heap_pop(sim);
    uint64_t until = ev->group ? paused_until(sim, ev->group) : 0;
    if (until > sim->now_ns && ev->kind != SIM_CALL) {
        ev->at_ns = until; /* same order again: seq stays */
        heap_push(sim, ev);
        return true;
    }
    sim->running_group = ev->group;
    event_run(ev);
    return true;
}

bool sim_step(struct sim *sim)
{
    return step_until(sim, UINT64_MAX);
}

void sim_run_until(struct sim *sim, uint64_t ms)
{
    uint64_t limit = ms * 1000000;
    while (step_until(sim, limit)) {
    }
    if (sim->now_ns < limit) {
        sim->now_ns = limit;
    }
}

void sim_run_for(struct sim *sim, uint64_t ms)
{
    sim_run_until(sim, sim_now_ms(sim) + ms);
}
