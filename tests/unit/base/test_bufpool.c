#include "test.h"

#include "tessera/base/bufpool.h"

static void *got[4];
static int got_count, nudges;

static void on_buffer(struct bufpool_waiter *waiter, void *buffer)
{
    (void)waiter;
    got[got_count++] = buffer;
}

static void on_nudge(void *arg)
{
    (void)arg;
    nudges++;
}

static int setup(void **state)
{
    (void)state;
    got_count = nudges = 0;
    return 0;
}

static struct bufpool *pool_of(size_t count, struct buf_budget *budget)
{
    struct bufpool *p;
    const struct bufpool_options options = {.buffer_bytes = 5000,
                                            .count_max = count,
                                            .cached_max = 1,
                                            .budget = budget,
                                            .nudge = on_nudge};
    check_ok(bufpool_new(&options, &p));
    return p;
}

static void buffers_are_page_aligned_and_bounded(void **state)
{
    (void)state;
    struct bufpool *p = pool_of(2, NULL);
    check_int(bufpool_buffer_bytes(p), 8192);
    void *a = bufpool_get(p), *b = bufpool_get(p);
    check(a != NULL && b != NULL && bufpool_get(p) == NULL);
    check_int((uintptr_t)a % 4096, 0);
    memset(a, 1, 8192);
    bufpool_put(p, a);
    check_int(bufpool_in_use(p), 1);
    bufpool_put(p, b);
    bufpool_free(p);
    struct bufpool_options none = {.buffer_bytes = 1};
    check_code(bufpool_new(&none, &p), TSR_EINVAL);
}

static void waiters_are_served_in_order_and_not_overtaken(void **state)
{
    (void)state;
    struct bufpool *p = pool_of(1, NULL);
    struct bufpool_waiter first = {.cb = on_buffer}, second = {.cb = on_buffer},
                          gone = {.cb = on_buffer};
    void *a = bufpool_get(p);
    bufpool_wait(p, &first);
    bufpool_wait(p, &gone);
    bufpool_wait(p, &second);
    bufpool_unwait(p, &gone);
    check_int(got_count, 0);
    bufpool_put(p, a);
    check_int(got_count, 1);
    check(bufpool_get(p) == NULL);
    bufpool_put(p, got[0]);
    check_int(got_count, 2);
    bufpool_unwait(p, &second); /* has run: nothing happens */
    bufpool_put(p, got[1]);
    bufpool_free(p);
}

static void a_shared_budget_wakes_the_other_pool(void **state)
{
    (void)state;
    struct buf_budget budget;
    buf_budget_init(&budget, 8192);
    struct bufpool *p = pool_of(2, &budget), *q = pool_of(2, &budget);
    struct bufpool_waiter waiter = {.cb = on_buffer};
    void *a = bufpool_get(p);
    check(bufpool_get(q) == NULL);
    bufpool_wait(q, &waiter);
    check_int(nudges, 0);
    bufpool_put(p, a);
    check_int(nudges, 1);
    check_int(got_count, 0);
    bufpool_poll(q);
    check_int(got_count, 1);
    check_int(buf_budget_used(&budget), 8192);
    bufpool_put(q, got[0]);
    check_int(buf_budget_used(&budget), 0);
    check_int(nudges, 1); /* nobody starves any more */
    bufpool_free(p);
    bufpool_free(q);
}

TEST_MAIN(cmocka_unit_test_setup(buffers_are_page_aligned_and_bounded, setup),
          cmocka_unit_test_setup(waiters_are_served_in_order_and_not_overtaken, setup),
          cmocka_unit_test_setup(a_shared_budget_wakes_the_other_pool, setup))
