/* Calls through the vtables of loops and pools; what both implementations have in common. */
#include "tessera/sys/loop.h"

#include "tessera/base/assert.h"

uint64_t loop_now_ns(struct loop *loop)
{
    return loop->ops->now_ns(loop);
}

uint64_t loop_now_ms(struct loop *loop)
{
    return loop_now_ns(loop) / 1000000;
}

int64_t loop_wall_us(struct loop *loop)
{
    return loop->ops->wall_us(loop);
}

void loop_post(struct loop *loop, struct task *task)
{
    loop->ops->post(loop, task);
}

void loop_random(struct loop *loop, void *out, size_t size)
{
    loop->ops->random(loop, out, size);
}

uint64_t loop_random_u64(struct loop *loop)
{
    uint64_t v;
    loop_random(loop, &v, sizeof(v));
    return v;
}

void timer_init(struct timer *timer, struct loop *loop, void (*cb)(struct timer *timer))
{
    *timer = (struct timer){.loop = loop, .cb = cb};
}

void timer_start(struct timer *timer, uint64_t delay_ms)
{
    tsr_assert(timer->loop != NULL && timer->cb != NULL);
    timer_stop(timer);
    /* Rounded up: a timer is never early by the part of a millisecond that has passed. */
    uint64_t now_ms = (loop_now_ns(timer->loop) + 999999) / 1000000;
    timer->due_ms = delay_ms > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + delay_ms;
    timer->loop->ops->timer_start(timer->loop, timer);
}

void timer_stop(struct timer *timer)
{
    if (timer_running(timer)) {
        timer->loop->ops->timer_stop(timer->loop, timer);
    }
}

void pool_submit(struct pool *pool, struct work *work)
{
    pool->ops->submit(pool, work);
}

size_t pool_depth(struct pool *pool)
{
    return pool->ops->depth(pool);
}
