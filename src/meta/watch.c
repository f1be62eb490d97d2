/* Watches: told on their own loop, once for any number of changes while one call is on its way.
 *
 * Each watch has a slot on the heap, as the task that was posted may still be in a loop's queue
 * when the watch is removed and its memory goes: the slot then frees itself when the task runs. */
#include <stdlib.h>
#include <string.h>

#include "meta/internal.h"
#include "tessera/base/assert.h"

struct watch_slot {
    struct list node;
    struct task task;
    struct meta *meta;
    struct meta_watch *watch; /* NULL once removed; only its own loop writes it */
    unsigned pending;
    struct manifest_list manifests; /* if the watch asks for them */
    bool posted;
};

/* --- lists of manifests
 * ------------------------------------------------------------------------------- */

void manifest_list_free(struct manifest_list *list)
{
    free(list->names);
    *list = (struct manifest_list){0};
}

static void list_all(struct manifest_list *list)
{
    manifest_list_free(list);
    list->all = true;
}

void manifest_list_add(struct manifest_list *list, const uint8_t name[32])
{
    if (list->all || (list->count > 0 && memcmp(list->names[list->count - 1], name, 32) == 0)) {
        return;
    }
    if (list->count == list->capacity) {
        size_t more = list->capacity == 0 ? 16 : 2 * list->capacity;
        uint8_t(*names)[32] =
            more <= WATCH_MANIFESTS_MAX ? realloc(list->names, more * sizeof(*names)) : NULL;
        if (names == NULL) {
            list_all(list);
            return;
        }
        list->names = names;
        list->capacity = more;
    }
    memcpy(list->names[list->count++], name, 32);
}

static void list_merge(struct manifest_list *to, const struct manifest_list *from)
{
    if (from->all) {
        list_all(to);
    }
    for (size_t i = 0; i < from->count; i++) {
        manifest_list_add(to, from->names[i]);
    }
}

/* --- watches
 * ----------------------------------------------------------------------------------------- */

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
    struct manifest_list manifests = s->manifests;
    s->pending = 0;
    s->manifests = (struct manifest_list){0};
    s->posted = false;
    pthread_mutex_unlock(&s->meta->watch_lock);
    s->watch->manifests = (const uint8_t(*)[32])manifests.names;
    s->watch->manifest_count = manifests.count;
    s->watch->manifests_all = manifests.all;
    s->watch->cb(s->watch, kinds);
    manifest_list_free(&manifests);
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
    manifest_list_free(&s->manifests);
    if (!posted) {
        free(s);
    }
}

void meta_watch_notify(struct meta *m, unsigned kinds, const struct manifest_list *changed)
{
    if (kinds == 0) {
        return;
    }
    if ((kinds & (META_DIRECTORY | META_SETTINGS)) != 0) {
        /* After the commit, so that nobody keeps what was read before it under the new number;
         * before the outcome is told, so that nobody behind it finds the old one. */
        atomic_fetch_add(&m->directory, 1);
    }
    pthread_mutex_lock(&m->watch_lock);
    list_each(node, &m->watches)
    {
        struct watch_slot *s = container_of(node, struct watch_slot, node);
        s->pending |= kinds;
        if (s->watch->data) {
            list_merge(&s->manifests, changed);
        }
        if (!s->posted) {
            s->posted = true;
            loop_post(s->watch->loop, &s->task);
        }
    }
    pthread_mutex_unlock(&m->watch_lock);
}
