/* The real loop: libuv, a mailbox and the timer heap.
 *
 * Happy path: any thread appends to the mailbox (one mutex, held for a few instructions) and
 * signals the async handle; the loop's thread takes the whole mailbox and runs it in order. What a
 * task posts runs in the next round, so input and output are never starved. One uv_timer stands for
 * the first timer of the heap. Stop: uv_loop_stop ends uv_run. uv_loop_free runs what is still in
 * the mailbox (completions of pools own memory), closes the two handles and asserts that nothing
 * else is open. */
#include "tessera/sys/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <uv.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum { THREAD_NAME = 16, HOST_NAME = 64 };

struct uv_host_loop {
    struct loop base;
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t uv_timer;
    struct timer_heap heap;
    pthread_mutex_t lock; /* guards head and tail */
    struct task *head, *tail;
    atomic_bool stopping;
    bool threaded;
    bool firing; /* inside fire_timers, which arms at its end */
    pthread_t thread;
    char name[THREAD_NAME];
    char host[HOST_NAME];
};

static struct uv_host_loop *self(struct loop *loop)
{
    return container_of(loop, struct uv_host_loop, base);
}

static uint64_t op_now_ns(struct loop *loop)
{
    (void)loop;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int64_t op_wall_us(struct loop *loop)
{
    (void)loop;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void op_random(struct loop *loop, void *out, size_t size)
{
    (void)loop;
    unsigned char *p = out;
    while (size > 0) {
        ssize_t n = getrandom(p, size, 0);
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        } /* else EINTR: getrandom has no other error with these arguments */
    }
}

/* --- tasks ---------------------------------------------------------------------------------- */

static void op_post(struct loop *loop, struct task *task)
{
    struct uv_host_loop *l = self(loop);
    task->next = NULL;
    pthread_mutex_lock(&l->lock);
    bool was_empty = l->head == NULL;
    if (was_empty) {
        l->head = task;
    } else {
        l->tail->next = task;
    }
    l->tail = task;
    if (was_empty) { /* else the loop has been told already; under the lock, as it may go then */
        tsr_assert(uv_async_send(&l->wake) == 0);
    }
    pthread_mutex_unlock(&l->lock);
}

/* Runs what is in the mailbox now; true if there was anything. */
static bool run_tasks(struct uv_host_loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct task *task = l->head;
    l->head = l->tail = NULL;
    pthread_mutex_unlock(&l->lock);
    bool any = task != NULL;
    while (task != NULL) {
        struct task *next = task->next; /* `run` may free it or post it again */
        task->run(task);
        task = next;
    }
    return any;
}

static void on_wake(uv_async_t *wake)
{
    struct uv_host_loop *l = wake->data;
    run_tasks(l);
    if (atomic_load(&l->stopping)) {
        uv_stop(&l->uv);
    }
}

/* --- timers --------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *handle);

static void arm(struct uv_host_loop *l)
{
    const struct timer *first = timer_heap_first(&l->heap);
    if (l->firing) {
        return;
    }
    if (first == NULL) {
        uv_timer_stop(&l->uv_timer);
        return;
    }
    uint64_t now_ms = loop_now_ms(&l->base);
    uv_update_time(&l->uv); /* libuv's own time is that of the last poll: old after blocking work */
    tsr_assert(uv_timer_start(&l->uv_timer, on_timer,
                              first->due_ms > now_ms ? first->due_ms - now_ms : 0, 0) == 0);
}

/* Timers started by the callbacks wait for the next round, even when due at once. */
static void fire_timers(struct uv_host_loop *l)
{
    uint64_t now_ms = loop_now_ms(&l->base), seq_end = l->heap.seq;
    l->firing = true;
    for (;;) {
        struct timer *timer = timer_heap_first(&l->heap);
        if (timer == NULL || timer->due_ms > now_ms || timer->seq >= seq_end) {
            break;
        }
        timer_heap_remove(&l->heap, timer);
        timer->cb(timer); /* may free it */
    }
    l->firing = false;
    arm(l);
}

static void on_timer(uv_timer_t *handle)
{
    fire_timers(handle->data);
}

static void op_timer_start(struct loop *loop, struct timer *timer)
{
    struct uv_host_loop *l = self(loop);
    timer_heap_add(&l->heap, timer);
    if (timer_heap_first(&l->heap) == timer) {
        arm(l);
    }
}

/* uv_timer may then wake for nothing, once: cheaper than arming anew for each finished request. */
static void op_timer_stop(struct loop *loop, struct timer *timer)
{
    timer_heap_remove(&self(loop)->heap, timer);
}

/* --- life ----------------------------------------------------------------------------------- */

static const struct loop_ops uv_ops = {
    .now_ns = op_now_ns,
    .wall_us = op_wall_us,
    .post = op_post,
    .timer_start = op_timer_start,
    .timer_stop = op_timer_stop,
    .random = op_random,
};

int uv_loop_create(const char *name, struct loop **loop_out)
{
    struct uv_host_loop *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return TSR_ENOMEM;
    }
    l->base.ops = &uv_ops;
    (void)str_copy(l->name, sizeof(l->name), name);
    if (uv_loop_init(&l->uv) != 0) {
        free(l);
        return TSR_ENOMEM;
    }
    if (uv_async_init(&l->uv, &l->wake, on_wake) != 0) {
        (void)uv_loop_close(&l->uv);
        free(l);
        return TSR_ENOMEM;
    }
    (void)uv_timer_init(&l->uv, &l->uv_timer); /* cannot fail */
    l->wake.data = l;
    l->uv_timer.data = l;
    (void)pthread_mutex_init(&l->lock, NULL);
    *loop_out = &l->base;
    return 0;
}

void uv_loop_run(struct loop *loop)
{
    struct uv_host_loop *l = self(loop);
    while (!atomic_load(&l->stopping)) {
        (void)uv_run(&l->uv, UV_RUN_DEFAULT);
    }
    (void)run_tasks(l); /* posted before the stop: here, not on the thread that frees the loop */
}

static void *thread_main(void *arg)
{
    struct uv_host_loop *l = arg;
    (void)pthread_setname_np(pthread_self(), l->name);
    log_set_host(l->host);
    uv_loop_run(&l->base);
    return NULL;
}

int uv_loop_start_thread(struct loop *loop)
{
    struct uv_host_loop *l = self(loop);
    tsr_assert(!l->threaded);
    (void)str_copy(l->host, sizeof(l->host), log_host());
    int rv = pthread_create(&l->thread, NULL, thread_main, l);
    if (rv != 0) {
        return rv == EAGAIN ? TSR_ENOMEM : err_from_errno(rv);
    }
    l->threaded = true;
    return 0;
}

void uv_loop_stop(struct loop *loop)
{
    struct uv_host_loop *l = self(loop);
    atomic_store(&l->stopping, true);
    tsr_assert(uv_async_send(&l->wake) == 0);
}

void uv_loop_join(struct loop *loop)
{
    struct uv_host_loop *l = self(loop);
    if (l->threaded) {
        tsr_assert(pthread_join(l->thread, NULL) == 0);
        l->threaded = false;
    }
}

void uv_loop_free(struct loop *loop)
{
    if (loop == NULL) {
        return;
    }
    struct uv_host_loop *l = self(loop);
    tsr_assert(!l->threaded);
    while (run_tasks(l)) {
    }
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_close((uv_handle_t *)&l->uv_timer, NULL);
    for (int i = 0; i < 8 && uv_loop_alive(&l->uv); i++) { /* close callbacks already under way */
        (void)uv_run(&l->uv, UV_RUN_NOWAIT);
    }
    tsr_assert(timer_heap_first(&l->heap) == NULL);
    tsr_assert(l->head == NULL);
    tsr_assert(uv_loop_close(&l->uv) == 0); /* else a handle is still open */
    timer_heap_free(&l->heap);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

struct uv_loop_s *uv_loop_native(struct loop *loop)
{
    return &self(loop)->uv;
}
