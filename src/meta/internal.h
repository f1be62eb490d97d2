/* The object behind meta.h. Who touches what is said at each field. */
#ifndef META_INTERNAL_H
#define META_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "meta/schema.h"
#include "tessera/base/list.h"

struct digest;

struct meta {
    struct fsm fsm;
    struct kv *kv;
    struct digest *digest;      /* apply pool */
    struct fsm_point at;        /* apply pool: what is applied */
    size_t run_bytes;           /* apply pool: of index keys that an import puts in order at once */
    bool broken;                /* apply pool: an import failed half-way; nothing may be applied */
    _Atomic uint64_t applied;   /* at.index, for any thread */
    _Atomic uint64_t directory; /* changes of the directory and settings, from 1 */
    atomic_bool no_creates;     /* any thread */
    _Atomic uint64_t damaged;   /* records whose CRC or form was wrong, any thread */
    struct consensus *consensus;    /* control loop */
    _Atomic(struct loop *) control; /* any thread; loops outlive us */
    /* Watches come and go on their loops and are told from the apply pool. The lock is held for a
     * few pointer moves only, never around I/O or a callback; the alternative, a hop over the
     * control loop for each change, would let a watch be told after it was removed. */
    pthread_mutex_t watch_lock;
    struct list watches; /* of struct watch_slot */
};

enum { META_RUN_BYTES = 48 * 1024 * 1024 };
enum { META_ALL_KINDS = 127, WATCH_MANIFESTS_MAX = 65536 };

/* Manifests whose images' data changed; a failed or overlong list stands for all of them. */
struct manifest_list {
    uint8_t (*names)[32];
    size_t count, capacity;
    bool all;
};
void manifest_list_add(struct manifest_list *list, const uint8_t name[32]);
void manifest_list_free(struct manifest_list *list);

/* A damaged record was met: count it, say so once in a while, return TSR_ECORRUPT. */
int meta_report_damage(struct meta *m, unsigned db);
/* @changed: of META_DATA. */
void meta_watch_notify(struct meta *m, unsigned kinds, const struct manifest_list *changed);

/* fsm operations, each in its file. */
int meta_apply(struct fsm *fsm, struct fsm_entry *entries, unsigned n);
int meta_export_open(struct fsm *fsm, struct fsm_export **out, struct fsm_point *at);
long meta_export_read(struct fsm_export *e, void *data, size_t size);
void meta_export_close(struct fsm_export *e);
int meta_import_file(struct fsm *fsm, struct fs *fs, const char *path, struct fsm_point *out);

static inline struct meta *meta_of(struct fsm *fsm)
{
    return (struct meta *)(void *)fsm; /* first member */
}

#endif
