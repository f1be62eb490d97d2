/* Watches: told on their own loop, once for any number of changes while one call is on its way.
 *
 * Each watch has a slot on the heap, as the task that was posted may still be in a loop's queue
 * when the watch is removed and its memory goes: the slot then frees itself when the task runs. */
#include <stdlib.h>

#include "meta/internal.h"
#include "tessera/base/assert.h"

struct watch_slot {
    struct list node;
    struct task task;
    struct meta *meta;
    struct meta_watch *watch; /* NULL once removed; only its own loop writes it */
    unsigned pending;
    bool posted;
};

static struct watch_slot *slot_of(struct task *task)
{
    return container_of(task, struct watch_slot, task);
}

static void watch_run(struct task *task)
{
    struct watch_slot *s = slot_of(task);
    if (s->watch == NULL) {
        free(s); /* removed; the meta may be gone too */
        return;
    }
    pthread_mutex_lock(&s->meta->watch_lock);
    unsigned kinds = s->pending;
    s->pending = 0;
    s->posted = false;
    pthread_mutex_unlock(&s->meta->watch_lock);
    s->watch->cb(s->watch, kinds);
}

void meta_watch_add(struct meta *m, struct meta_watch *watch)
{
    struct watch_slot *s = calloc(1, sizeof(*s));
    tsr_assert(s != NULL);
    s->meta = m;
    s->watch = watch;
    s->task.run = watch_run;
    watch->slot = s;
    pthread_mutex_lock(&m->watch_lock);
    list_push(&m->watches, &s->node);
    pthread_mutex_unlock(&m->watch_lock);
}

void meta_watch_remove(struct meta *m, struct meta_watch *watch)
{
    struct watch_slot *s = watch->slot;
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&m->watch_lock);
    list_remove(&s->node);
    bool posted = s->posted;
    pthread_mutex_unlock(&m->watch_lock);
    watch->slot = NULL;
    s->watch = NULL;
    if (!posted) {
        free(s);
    }
}

void meta_watch_notify(struct meta *m, unsigned kinds)
{
    if (kinds == 0) {
        return;
    }
    pthread_mutex_lock(&m->watch_lock);
    list_each(node, &m->watches)
    {
        struct watch_slot *s = container_of(node, struct watch_slot, node);
        s->pending |= kinds;
        if (!s->posted) {
            s->posted = true;
            loop_post(s->watch->loop, &s->task);
        }
    }
    pthread_mutex_unlock(&m->watch_lock);
}
