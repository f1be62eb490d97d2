/* The timer heap: a binary heap by (due, order of start); each timer knows its place. */
#include <stdlib.h>

#include "tessera/base/assert.h"
#include "tessera/sys/loop.h"

static bool before(const struct timer *a, const struct timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void put(struct timer_heap *h, size_t i, struct timer *timer)
{
    h->items[i] = timer;
    timer->slot = i + 1;
}

static void sift_up(struct timer_heap *h, size_t i)
{
    struct timer *timer = h->items[i];
    while (i > 0 && before(timer, h->items[(i - 1) / 2])) {
        put(h, i, h->items[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(h, i, timer);
}

static void sift_down(struct timer_heap *h, size_t i)
{
    struct timer *timer = h->items[i];
    for (size_t child = 2 * i + 1; child < h->count; child = 2 * i + 1) {
        if (child + 1 < h->count && before(h->items[child + 1], h->items[child])) {
            child++;
        }
        if (!before(h->items[child], timer)) {
            break;
        }
        put(h, i, h->items[child]);
        i = child;
    }
    put(h, i, timer);
}

void timer_heap_add(struct timer_heap *h, struct timer *timer)
{
    tsr_assert(timer->slot == 0);
    if (h->count == h->capacity) {
        size_t capacity = h->capacity == 0 ? 32 : h->capacity * 2;
        struct timer **items = realloc(h->items, capacity * sizeof(*items));
        tsr_assert(items != NULL); /* eight bytes a timer; starting one cannot fail */
        h->items = items;
        h->capacity = capacity;
    }
    timer->seq = h->seq++;
    h->items[h->count++] = timer;
    sift_up(h, h->count - 1);
}

void timer_heap_remove(struct timer_heap *h, struct timer *timer)
{
    tsr_assert(timer->slot != 0 && h->items[timer->slot - 1] == timer);
    size_t i = timer->slot - 1;
    struct timer *last = h->items[--h->count];
    timer->slot = 0;
    if (last == timer) {
        return;
    }
    put(h, i, last);
    sift_down(h, i);
    sift_up(h, last->slot - 1);
}

struct timer *timer_heap_first(const struct timer_heap *h)
{
    return h->count == 0 ? NULL : h->items[0];
}

void timer_heap_free(struct timer_heap *h)
{
    free(h->items);
    *h = (struct timer_heap){0};
}
