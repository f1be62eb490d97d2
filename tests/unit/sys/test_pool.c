#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "tessera/sys/loop.h"

static struct loop *loop;
static bool done;

static int setup(void **state)
{
    (void)state;
    done = false;
    return uv_loop_create("test", &loop);
}

static int teardown(void **state)
{
    (void)state;
    uv_loop_free(loop);
    return 0;
}

enum { WORKS = 1000 };
struct job {
    struct work work;
    int number;
};
static struct job jobs[WORKS];
static int ran[WORKS], ran_count, done_count;
static atomic_int total;

static void run_in_order(struct work *work)
{
    ran[ran_count++] = container_of(work, struct job, work)->number;
}

static void count_done(struct work *work)
{
    check_int(container_of(work, struct job, work)->number, done_count);
    done = ++done_count == WORKS;
}

static void one_thread_keeps_the_order_of_submission(void **state)
{
    (void)state;
    struct pool *pool;
    check_ok(thread_pool_new("one", 1, &pool));
    for (int i = 0; i < WORKS; i++) {
        jobs[i].number = i;
        jobs[i].work = (struct work){.loop = loop, .run = run_in_order, .done = count_done};
        pool_submit(pool, &jobs[i].work);
    }
    test_run_until(loop, &done, 10000);
    for (int i = 0; i < WORKS; i++) {
        check_int(ran[i], i);
    }
    check_int(pool_depth(pool), 0);
    thread_pool_free(pool);
}

static void run_slow(struct work *work)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
    atomic_fetch_add(&total, 1);
    free(work); /* without a loop it belongs to us */
}

static void freeing_a_pool_finishes_what_was_submitted(void **state)
{
    (void)state;
    struct pool *pool;
    check_ok(thread_pool_new("many", 4, &pool));
    for (int i = 0; i < 100; i++) {
        struct work *work = calloc(1, sizeof(*work));
        work->run = run_slow;
        pool_submit(pool, work);
    }
    check(pool_depth(pool) > 0);
    thread_pool_free(pool);
    check_int(atomic_load(&total), 100);
}

TEST_MAIN(cmocka_unit_test_setup_teardown(one_thread_keeps_the_order_of_submission, setup,
                                          teardown),
          cmocka_unit_test_setup_teardown(freeing_a_pool_finishes_what_was_submitted, setup,
                                          teardown))
