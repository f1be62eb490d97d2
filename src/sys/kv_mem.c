/* The store of tests and the simulator: one persistent tree a database.
 *
 * A `version` is the set of roots after a commit. Readers hold a reference to one; a write
 * transaction works on roots of its own and publishes them as a new version. Versions since the
 * last sync are kept in order, so that a power cut can keep any whole number of them. One writer at
 * a time: a second waits, as with LMDB (a second one on the same thread is a bug). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sys/kv_tree.h"
#include "tessera/base/assert.h"
#include "tessera/base/err.h"
#include "tessera/sys/kv.h"

/* Older unsynced versions can no longer be a power cut's result beyond this number. */
enum { UNSYNCED_MAX = 1024 };

struct tree {
    struct kv_node *root;
    uint64_t count;
    uint64_t bytes;
};

struct version {
    atomic_uint refs;
    unsigned count;
    struct tree trees[];
};

struct mem_kv {
    struct kv base;
    unsigned count;
    pthread_mutex_t writer; /* held by the write transaction */
    pthread_mutex_t lock;   /* guards all below */
    struct version *current;
    struct version *synced;
    struct version *unsynced[UNSYNCED_MAX]; /* oldest first; the last one is `current` */
    unsigned unsynced_count;
    unsigned fail_in; /* calls until the failing one; 0 = none */
    unsigned txns;
};

struct kv_txn {
    bool write;
    int failed;
    unsigned cursors;
    struct version *version; /* the writer's own copy, or what the reader sees */
};

struct kv_cursor {
    struct kv_txn *txn;
    unsigned db;
    bool placed;
    size_t key_size;
    unsigned char key[KV_KEY_MAX];
};

static struct mem_kv *self(struct kv *kv)
{
    return container_of(kv, struct mem_kv, base);
}

/* Counts one call down; TSR_EIO for the chosen one. */
static int countdown(struct kv *kv)
{
    struct mem_kv *s = self(kv);
    pthread_mutex_lock(&s->lock);
    bool now = s->fail_in == 1;
    if (s->fail_in > 0) {
        s->fail_in--;
    }
    pthread_mutex_unlock(&s->lock);
    return now ? TSR_EIO : 0;
}

/* --- versions ------------------------------------------------------------------------------- */

static struct version *version_new(unsigned count)
{
    struct version *v = calloc(1, sizeof(*v) + count * sizeof(v->trees[0]));
    if (v != NULL) {
        atomic_init(&v->refs, 1);
        v->count = count;
    }
    return v;
}

static struct version *version_ref(struct version *v)
{
    atomic_fetch_add(&v->refs, 1);
    return v;
}

static void version_unref(struct version *v)
{
    if (atomic_fetch_sub(&v->refs, 1) != 1) {
        return;
    }
    for (unsigned i = 0; i < v->count; i++) {
        kv_tree_unref(v->trees[i].root);
    }
    free(v);
}

static struct version *version_copy(const struct version *from)
{
    struct version *v = version_new(from->count);
    for (unsigned i = 0; v != NULL && i < from->count; i++) {
        v->trees[i] = from->trees[i];
        kv_tree_ref(v->trees[i].root);
    }
    return v;
}

/* With the lock held. */
static void forget_unsynced(struct mem_kv *s)
{
    for (unsigned i = 0; i < s->unsynced_count; i++) {
        version_unref(s->unsynced[i]);
    }
    s->unsynced_count = 0;
}

/* With the lock held; takes over the reference. */
static void publish(struct mem_kv *s, struct version *v)
{
    version_unref(s->current);
    s->current = v;
    if (s->unsynced_count == UNSYNCED_MAX) {
        version_unref(s->unsynced[0]);
        memmove(s->unsynced, s->unsynced + 1, (UNSYNCED_MAX - 1) * sizeof(s->unsynced[0]));
        s->unsynced_count--;
    }
    s->unsynced[s->unsynced_count++] = version_ref(v);
}

/* --- transactions --------------------------------------------------------------------------- */

static int op_begin(struct kv *kv, bool write, struct kv_txn **txn_out)
{
    struct mem_kv *s = self(kv);
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    struct kv_txn *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return TSR_ENOMEM;
    }
    if (write) {
        tsr_assert(pthread_mutex_lock(&s->writer) == 0); /* EDEADLK: already open on this thread */
    }
    pthread_mutex_lock(&s->lock);
    t->write = write;
    t->version = write ? version_copy(s->current) : version_ref(s->current);
    s->txns += t->version != NULL;
    pthread_mutex_unlock(&s->lock);
    if (t->version == NULL) {
        pthread_mutex_unlock(&s->writer);
        free(t);
        return TSR_ENOMEM;
    }
    *txn_out = t;
    return 0;
}

static void finish(struct mem_kv *s, struct kv_txn *t, bool keep)
{
    tsr_assert(t->cursors == 0);
    pthread_mutex_lock(&s->lock);
    if (keep) {
        publish(s, t->version);
    } else {
        version_unref(t->version);
    }
    s->txns--;
    pthread_mutex_unlock(&s->lock);
    if (t->write) {
        pthread_mutex_unlock(&s->writer);
    }
    free(t);
}

static void op_abort(struct kv *kv, struct kv_txn *t)
{
    finish(self(kv), t, false);
}

static int op_commit(struct kv *kv, struct kv_txn *t)
{
    int rv = t->failed;
    if (rv == 0) {
        rv = countdown(kv);
    }
    finish(self(kv), t, rv == 0 && t->write);
    return rv;
}

static int op_get(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_val key,
                  struct kv_val *val)
{
    if (db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    const struct kv_node *n = kv_tree_find(t->version->trees[db].root, key);
    if (n == NULL) {
        return TSR_ENOENT;
    }
    *val = kv_node_val(n);
    return 0;
}

/* Whether a write may go ahead; counts it. */
static int may_write(struct kv *kv, struct kv_txn *t, unsigned db)
{
    if (t->failed != 0) {
        return t->failed;
    }
    if (!t->write || db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    t->failed = countdown(kv);
    return t->failed;
}

static void replace_root(struct tree *tree, struct kv_node *root)
{
    kv_tree_unref(tree->root);
    tree->root = root;
}

static int op_put(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_val key,
                  struct kv_val val)
{
    int rv = may_write(kv, t, db);
    if (rv != 0) {
        return rv;
    }
    struct tree *tree = &t->version->trees[db];
    const struct kv_node *old = kv_tree_find(tree->root, key);
    tree->bytes -= old == NULL ? 0 : key.size + kv_node_val(old).size;
    tree->bytes += key.size + val.size;
    bool added;
    replace_root(tree, kv_tree_put(tree->root, key, val, &added));
    tree->count += added ? 1 : 0;
    return 0;
}

static int op_del(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_val key)
{
    int rv = may_write(kv, t, db);
    if (rv != 0) {
        return rv;
    }
    struct tree *tree = &t->version->trees[db];
    const struct kv_node *old = kv_tree_find(tree->root, key);
    if (old == NULL) {
        return TSR_ENOENT;
    }
    tree->bytes -= key.size + kv_node_val(old).size;
    tree->count--;
    replace_root(tree, kv_tree_del(tree->root, key));
    return 0;
}

static int op_drop(struct kv *kv, struct kv_txn *t, unsigned db)
{
    int rv = may_write(kv, t, db);
    if (rv != 0) {
        return rv;
    }
    kv_tree_unref(t->version->trees[db].root);
    t->version->trees[db] = (struct tree){0};
    return 0;
}

static int op_count(struct kv *kv, struct kv_txn *t, unsigned db, uint64_t *out)
{
    if (db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    *out = t->version->trees[db].count;
    return 0;
}

/* --- cursors: a key, looked up anew for each move ------------------------------------------- */

static int op_cursor_open(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_cursor **out)
{
    if (db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    struct kv_cursor *c = malloc(sizeof(*c));
    if (c == NULL) {
        return TSR_ENOMEM;
    }
    c->txn = t;
    c->db = db;
    c->placed = false;
    t->cursors++;
    *out = c;
    return 0;
}

static void op_cursor_close(struct kv *kv, struct kv_cursor *c)
{
    (void)kv;
    c->txn->cursors--;
    free(c);
}

static const struct kv_node *target(const struct kv_cursor *c, enum kv_seek how,
                                    const struct kv_val *key)
{
    const struct kv_node *root = c->txn->version->trees[c->db].root;
    struct kv_val here = {c->key, c->key_size};
    switch (how) {
    case KV_FIRST:
        return kv_tree_first(root);
    case KV_LAST:
        return kv_tree_last(root);
    case KV_GE:
        return kv_tree_ge(root, *key, false);
    case KV_NEXT:
        return c->placed ? kv_tree_ge(root, here, true) : kv_tree_first(root);
    case KV_PREV:
        return c->placed ? kv_tree_below(root, here) : kv_tree_last(root);
    }
    return NULL;
}

static int op_cursor_move(struct kv *kv, struct kv_cursor *c, enum kv_seek how, struct kv_val *key,
                          struct kv_val *val)
{
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    const struct kv_node *n = target(c, how, key);
    if (n == NULL) {
        return TSR_ENOENT;
    }
    *key = kv_node_key(n);
    *val = kv_node_val(n);
    memcpy(c->key, key->data, key->size);
    c->key_size = key->size;
    c->placed = true;
    return 0;
}

/* --- the whole store ------------------------------------------------------------------------ */

static int op_sync(struct kv *kv)
{
    struct mem_kv *s = self(kv);
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    pthread_mutex_lock(&s->lock);
    version_unref(s->synced);
    s->synced = version_ref(s->current);
    forget_unsynced(s);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int op_stat(struct kv *kv, struct kv_stat *out)
{
    struct mem_kv *s = self(kv);
    if (countdown(kv) != 0) {
        return TSR_EIO;
    }
    *out = (struct kv_stat){.map_bytes = (uint64_t)1 << 40};
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->count; i++) {
        out->used_bytes += s->current->trees[i].bytes;
    }
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static void op_close(struct kv *kv)
{
    struct mem_kv *s = self(kv);
    tsr_assert(s->txns == 0);
    forget_unsynced(s);
    version_unref(s->synced);
    version_unref(s->current);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->writer);
    free(s);
}

static const struct kv_ops mem_ops = {
    .begin = op_begin,
    .commit = op_commit,
    .abort = op_abort,
    .get = op_get,
    .put = op_put,
    .del = op_del,
    .drop = op_drop,
    .cursor_open = op_cursor_open,
    .cursor_move = op_cursor_move,
    .cursor_close = op_cursor_close,
    .count = op_count,
    .sync = op_sync,
    .stat = op_stat,
    .close = op_close,
};

int kv_mem_open(unsigned count, struct kv **kv_out)
{
    if (count == 0 || count > KV_DBS_MAX) {
        return TSR_EINVAL;
    }
    struct mem_kv *s = calloc(1, sizeof(*s));
    struct version *empty = version_new(count);
    if (s == NULL || empty == NULL) {
        free(s);
        free(empty);
        return TSR_ENOMEM;
    }
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&s->writer, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    s->base.ops = &mem_ops;
    s->count = count;
    s->current = empty;
    s->synced = version_ref(empty);
    *kv_out = &s->base;
    return 0;
}

unsigned kv_mem_unsynced(struct kv *kv)
{
    struct mem_kv *s = self(kv);
    pthread_mutex_lock(&s->lock);
    unsigned n = s->unsynced_count;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void kv_mem_crash_keep(struct kv *kv, unsigned keep)
{
    struct mem_kv *s = self(kv);
    tsr_assert(kv->ops == &mem_ops);
    tsr_assert(pthread_mutex_lock(&s->writer) == 0);
    pthread_mutex_lock(&s->lock);
    tsr_assert(keep <= s->unsynced_count);
    struct version *kept = version_ref(keep == 0 ? s->synced : s->unsynced[keep - 1]);
    forget_unsynced(s);
    version_unref(s->current);
    s->current = kept;
    version_unref(s->synced); /* what a power cut leaves is on the disk */
    s->synced = version_ref(kept);
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->writer);
}

void kv_mem_crash(struct kv *kv)
{
    kv_mem_crash_keep(kv, 0);
}

unsigned kv_mem_fail_after(struct kv *kv, unsigned n)
{
    struct mem_kv *s = self(kv);
    tsr_assert(kv->ops == &mem_ops);
    pthread_mutex_lock(&s->lock);
    unsigned left = s->fail_in;
    s->fail_in = n;
    pthread_mutex_unlock(&s->lock);
    return left;
}

bool kv_mem_failed(struct kv *kv)
{
    struct mem_kv *s = self(kv);
    pthread_mutex_lock(&s->lock);
    bool failed = s->fail_in == 0;
    pthread_mutex_unlock(&s->lock);
    return failed;
}
