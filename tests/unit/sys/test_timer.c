#include "test.h"

#include "tessera/sys/loop.h"

static void on_fire(struct timer *timer)
{
    (void)timer;
}

static void the_first_is_the_one_due_first_then_started_first(void **state)
{
    (void)state;
    struct timer_heap h = {0};
    struct timer t[4] = {{.due_ms = 5}, {.due_ms = 3}, {.due_ms = 3}, {.due_ms = 9}};
    check(timer_heap_first(&h) == NULL);
    for (size_t i = 0; i < array_len(t); i++) {
        timer_heap_add(&h, &t[i]);
        check(timer_running(&t[i]));
    }
    static const size_t order[] = {1, 2, 0, 3};
    for (size_t i = 0; i < array_len(order); i++) {
        check(timer_heap_first(&h) == &t[order[i]]);
        timer_heap_remove(&h, &t[order[i]]);
        check(!timer_running(&t[order[i]]));
    }
    timer_heap_free(&h);
}

static void random_starts_and_stops_keep_the_order(void **state)
{
    (void)state;
    enum { TIMERS = 300 };
    static struct timer t[TIMERS];
    struct timer_heap h = {0};
    uint32_t seed = 7;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        struct timer *timer = &t[(seed >> 8) % TIMERS];
        if (timer_running(timer)) {
            timer_heap_remove(&h, timer);
        } else {
            timer->due_ms = seed >> 24;
            timer_heap_add(&h, timer);
        }
        const struct timer *first = timer_heap_first(&h);
        for (int k = 0; i % 50 == 0 && k < TIMERS; k++) {
            check(!timer_running(&t[k]) || first->due_ms < t[k].due_ms ||
                  (first->due_ms == t[k].due_ms && first->seq <= t[k].seq));
        }
    }
    uint64_t last = 0;
    while (timer_heap_first(&h) != NULL) {
        struct timer *timer = timer_heap_first(&h);
        check(timer->due_ms >= last);
        last = timer->due_ms;
        timer_heap_remove(&h, timer);
    }
    timer_heap_free(&h);
}

/* A loop that stands at one time. */
struct still_loop {
    struct loop base;
    uint64_t now_ns;
    struct timer_heap heap;
};

static uint64_t still_now(struct loop *loop)
{
    return container_of(loop, struct still_loop, base)->now_ns;
}

static void still_start(struct loop *loop, struct timer *timer)
{
    timer_heap_add(&container_of(loop, struct still_loop, base)->heap, timer);
}

static void still_stop(struct loop *loop, struct timer *timer)
{
    timer_heap_remove(&container_of(loop, struct still_loop, base)->heap, timer);
}

static void a_timer_is_never_early_and_a_restart_moves_it(void **state)
{
    (void)state;
    static const struct loop_ops ops = {
        .now_ns = still_now, .timer_start = still_start, .timer_stop = still_stop};
    struct still_loop loop = {.base.ops = &ops, .now_ns = 1000001};
    struct timer t;
    timer_init(&t, &loop.base, on_fire);
    timer_stop(&t); /* not running: nothing happens */
    timer_start(&t, 10);
    check_int(t.due_ms, 12); /* 1.000001 ms + 10 ms is after 11 ms */
    timer_start(&t, 20);
    check_int(t.due_ms, 22);
    check_int(loop.heap.count, 1);
    timer_start(&t, UINT64_MAX);
    check(t.due_ms == UINT64_MAX);
    timer_stop(&t);
    check_int(loop.heap.count, 0);
    loop.now_ns = 5000000;
    timer_start(&t, 1000);
    check_int(t.due_ms, 1005); /* whole milliseconds stay exact */
    timer_stop(&t);
    timer_heap_free(&loop.heap);
}

TEST_MAIN(cmocka_unit_test(the_first_is_the_one_due_first_then_started_first),
          cmocka_unit_test(random_starts_and_stops_keep_the_order),
          cmocka_unit_test(a_timer_is_never_early_and_a_restart_moves_it))
