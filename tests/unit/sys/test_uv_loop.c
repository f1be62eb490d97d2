#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "tessera/base/log.h"
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

/* --- tasks */

enum { POSTERS = 3, POSTS = 5000 };
struct post {
    struct task task;
    int poster, number;
};
static int next_of[POSTERS], seen;

static void on_post(struct task *task)
{
    struct post *post = container_of(task, struct post, task);
    check_int(post->number, next_of[post->poster]);
    next_of[post->poster]++;
    free(post);
    done = ++seen == POSTERS * POSTS;
}

static void *post_many(void *arg)
{
    for (int i = 0; i < POSTS; i++) {
        struct post *post = malloc(sizeof(*post));
        *post = (struct post){.task.run = on_post, .poster = (int)(intptr_t)arg, .number = i};
        loop_post(loop, &post->task);
    }
    return NULL;
}

static void tasks_of_each_thread_run_once_and_in_order(void **state)
{
    (void)state;
    pthread_t threads[POSTERS];
    for (intptr_t i = 0; i < POSTERS; i++) {
        check_int(pthread_create(&threads[i], NULL, post_many, (void *)i), 0);
    }
    test_run_until(loop, &done, 10000);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(threads[i], NULL);
        check_int(next_of[i], POSTS);
    }
}

static int rounds;
static void post_again(struct task *task)
{
    if (++rounds < 100) {
        loop_post(loop, task);
    } else {
        done = true;
    }
}

static void a_task_may_post_itself_again(void **state)
{
    (void)state;
    struct task task = {.run = post_again};
    loop_post(loop, &task);
    check_int(rounds, 0); /* later, not inside the call */
    test_run_until(loop, &done, 5000);
    check_int(rounds, 100);
}

/* --- timers */

static char order[8];
static struct timer timers[4];

static void on_timer(struct timer *timer)
{
    size_t n = strlen(order);
    order[n] = (char)('a' + (timer - timers));
    done = n == 2;
}

static void timers_fire_in_the_order_of_their_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        timer_init(&timers[i], loop, on_timer);
    }
    uint64_t start = loop_now_ns(loop);
    timer_start(&timers[0], 30);
    timer_start(&timers[1], 10);
    timer_start(&timers[2], 20);
    timer_start(&timers[3], 5);
    timer_stop(&timers[3]);
    test_run_until(loop, &done, 5000);
    check_str(order, "bca");
    check(loop_now_ns(loop) - start >= 30000000);
}

static void note_done(struct timer *timer)
{
    (void)timer;
    done = true;
}

/* The loop's own idea of the time is old after blocking work. */
static void a_timer_started_after_blocking_work_is_not_early(void **state)
{
    (void)state;
    struct timer timer;
    timer_init(&timer, loop, note_done);
    timer_start(&timer, 0);
    test_run_until(loop, &done, 5000);
    done = false;
    const struct timespec pause = {.tv_nsec = 60000000};
    nanosleep(&pause, NULL);
    uint64_t start = loop_now_ns(loop);
    timer_start(&timer, 50);
    test_run_until(loop, &done, 5000);
    check(loop_now_ns(loop) - start >= 50000000);
}

static int fired;
static void start_again(struct timer *timer)
{
    if (++fired == 50) {
        done = true;
    } else {
        timer_start(timer, 0);
    }
}

static void a_timer_of_no_delay_may_restart_itself_without_starving_tasks(void **state)
{
    (void)state;
    struct timer timer;
    timer_init(&timer, loop, start_again);
    timer_start(&timer, 0);
    rounds = 99;
    struct task task = {.run = post_again};
    loop_post(loop, &task);
    test_run_until(loop, &done, 5000);
    check_int(rounds, 100);
    done = fired == 50;
    test_run_until(loop, &done, 5000);
    check_int(fired, 50);
}

/* --- threads */

static char thread_name[16], thread_host[16];
static void note_names(struct task *task)
{
    (void)task;
    pthread_getname_np(pthread_self(), thread_name, sizeof(thread_name));
    snprintf(thread_host, sizeof(thread_host), "%s", log_host());
}

static void a_loop_with_its_own_thread_runs_until_stopped(void **state)
{
    (void)state;
    struct task task = {.run = note_names};
    log_set_host("h1");
    check_ok(uv_loop_start_thread(loop));
    loop_post(loop, &task);
    uv_loop_stop(loop);
    uv_loop_join(loop);
    check_str(thread_name, "test");
    check_str(thread_host, "h1");
    log_set_host(NULL);
}

static void tasks_posted_after_the_end_run_at_free(void **state)
{
    (void)state;
    struct loop *other;
    struct task task = {.run = post_again};
    check_ok(uv_loop_create("other", &other));
    check_ok(uv_loop_start_thread(other));
    uv_loop_stop(other);
    uv_loop_join(other);
    rounds = 99;
    loop_post(other, &task);
    uv_loop_free(other);
    check_int(rounds, 100);
}

static void random_bytes_differ(void **state)
{
    (void)state;
    check(loop_random_u64(loop) != loop_random_u64(loop));
    check(loop_wall_us(loop) > INT64_C(1700000000000000));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
TEST_MAIN(CASE(tasks_of_each_thread_run_once_and_in_order), CASE(a_task_may_post_itself_again),
          CASE(timers_fire_in_the_order_of_their_times),
          CASE(a_timer_started_after_blocking_work_is_not_early),
          CASE(a_timer_of_no_delay_may_restart_itself_without_starving_tasks),
          CASE(a_loop_with_its_own_thread_runs_until_stopped),
          CASE(tasks_posted_after_the_end_run_at_free), CASE(random_bytes_differ))
