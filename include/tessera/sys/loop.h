/* The outside world, part 1: time, timers, tasks between threads, blocking work.
 *
 * A `struct loop` is where one thread's events run: on a host it is a libuv loop (control thread,
 * workers), in the simulator a queue on a virtual clock. Code above sys/ never calls libuv.
 * A `struct pool` runs blocking functions on threads of its own (log, apply, index, disk, cpu,
 * auth); a pool with one thread keeps the order of submission. In the simulator a pool is a queue
 * with a delay. There are no other threads and no locks above sys/.
 *
 * Lifetime: the daemon (or the simulator) makes loops and pools and outlives all their users. */
#ifndef TESSERA_SYS_LOOP_H
#define TESSERA_SYS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;

/* A message to a loop. Belongs to the caller; may be freed or posted again inside `run`. */
struct task {
    struct task *next;
    void (*run)(struct task *task);
};

/* One-shot timer. Zero-initialise with timer_init. Thread: that of its loop. */
struct timer {
    struct loop *loop;
    void (*cb)(struct timer *timer);
    uint64_t due_ms;
    uint64_t seq;
    size_t slot; /* place in the heap + 1; 0 = not running */
};

struct loop_ops {
    uint64_t (*now_ns)(struct loop *loop); /* monotonic */
    int64_t (*wall_us)(struct loop *loop); /* wall clock, microseconds since the epoch */
    void (*post)(struct loop *loop, struct task *task);
    void (*timer_start)(struct loop *loop, struct timer *timer);
    void (*timer_stop)(struct loop *loop, struct timer *timer);
    void (*random)(struct loop *loop, void *out, size_t size);
};
struct loop {
    const struct loop_ops *ops;
};

/* Monotonic time. Thread: any for now_ns and wall_us. */
uint64_t loop_now_ns(struct loop *loop);
uint64_t loop_now_ms(struct loop *loop);
int64_t loop_wall_us(struct loop *loop);
/* Run @task on the loop's thread, later, in order of posting. Never fails. Thread: any. */
void loop_post(struct loop *loop, struct task *task);
/* Cryptographically strong on a host, seeded in the simulator. Thread: the loop's. */
void loop_random(struct loop *loop, void *out, size_t size);
uint64_t loop_random_u64(struct loop *loop);

void timer_init(struct timer *timer, struct loop *loop, void (*cb)(struct timer *timer));
/* (Re)start: fires once after @delay_ms. The callback may start it again or free its owner. */
void timer_start(struct timer *timer, uint64_t delay_ms);
void timer_stop(struct timer *timer); /* no-op when not running; takes effect at once */
static inline bool timer_running(const struct timer *timer)
{
    return timer->slot != 0;
}

/* Blocking work. Belongs to the caller until `done` has run on @loop (or, with loop NULL, until
 * `run` has returned; `run` may then free it). */
struct work {
    struct work *next;
    struct task task;  /* carries the completion */
    struct loop *loop; /* where `done` runs */
    void (*run)(struct work *work);
    void (*done)(struct work *work);
};

struct pool;
struct pool_ops {
    void (*submit)(struct pool *pool, struct work *work);
    size_t (*depth)(struct pool *pool);
};
struct pool {
    const struct pool_ops *ops;
};
/* Thread: any. Never fails; bounds are the submitter's (see each module's limits). */
void pool_submit(struct pool *pool, struct work *work);
/* Number of works waiting or running. */
size_t pool_depth(struct pool *pool);

/* --- the real ones: libuv loop and POSIX threads ------------------------------------------- */

/* A loop of libuv with a thread of its own (libuv owns the name uv_loop_new). Returns 0 or
 * TSR_ENOMEM. */
int uv_loop_create(const char *name, struct loop **loop_out);
/* The calling thread runs it (main thread); returns after uv_loop_stop. */
void uv_loop_run(struct loop *loop);
int uv_loop_start_thread(struct loop *loop); /* runs it on a new thread named as the loop */
void uv_loop_stop(struct loop *loop);        /* any thread; everything on it must be closed first */
void uv_loop_join(struct loop *loop);        /* after start_thread */
void uv_loop_free(struct loop *loop);
struct uv_loop_s;
struct uv_loop_s *uv_loop_native(struct loop *loop); /* for sys/ only */

/* @threads threads named @name. Returns 0 or TSR_ENOMEM. */
int thread_pool_new(const char *name, unsigned threads, struct pool **pool_out);
/* Finishes everything submitted, then joins. The loops of pending works must still run. */
void thread_pool_free(struct pool *pool);

/* --- for implementers of loops: the timer heap ---------------------------------------------- */
struct timer_heap {
    struct timer **items;
    size_t count, capacity;
    uint64_t seq;
};
void timer_heap_add(struct timer_heap *h, struct timer *timer); /* by due_ms, then seq */
void timer_heap_remove(struct timer_heap *h, struct timer *timer);
struct timer *timer_heap_first(const struct timer_heap *h); /* NULL when empty */
void timer_heap_free(struct timer_heap *h);

#endif
