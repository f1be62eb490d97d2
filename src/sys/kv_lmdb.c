/* The store on a host: LMDB.
 *
 * Happy path: one environment, named databases opened once; transactions map one to one.
 * Durability: a commit is synced without its meta page (MDB_NOMETASYNC), so a power cut may lose
 * the newest transactions but never mixes them; kv_sync makes everything durable.
 *
 * KV_SYNC_LATE: a commit writes its pages and its meta page and returns; a thread syncs the file
 * some commits at a time and notes what is whole (lmdb_late.h). A store that was not closed is
 * opened there (lmdb_back.h).
 *
 * Failure: LMDB marks a write transaction bad after a failed write; we remember the first error and
 * give it at commit. A read-only cursor must be closed before its transaction ends; the count of
 * open cursors is asserted. Cursors in a write transaction keep their key and seek again after a
 * write, because how LMDB moves a cursor under deletes is subtle; read cursors use LMDB's own
 * position. */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sys/lmdb_back.h"
#include "sys/lmdb_late.h"
#include "tessera/base/assert.h"
#include "tessera/base/err.h"
#include "tessera/base/log.h"
#include "tessera/sys/kv.h"

enum { PAGE_BYTES = 4096 };
enum { READERS_MAX = 4096, STORE_DAMAGED_EXIT = 65 /* EX_DATAERR: operator needed */ };

struct lmdb_kv {
    struct kv base;
    MDB_env *env;
    uint64_t reserve; /* free bytes on the disk without which no write begins */
    unsigned count;
    MDB_dbi dbis[KV_DBS_MAX];

    bool synced_late;
    struct lmdb_late late;
    char *path;
};

struct kv_txn {
    MDB_txn *txn;
    bool write;
    int failed;       /* first failed write */
    uint64_t changes; /* number of writes so far */
    uint64_t bytes;   /* that they change, roughly */
    unsigned cursors;
};

struct kv_cursor {
    struct kv_txn *txn;
    MDB_cursor *cursor;
    bool placed;
    uint64_t changes; /* of the transaction when the position was taken */
    size_t key_size;  /* the key stood on */
    unsigned char key[KV_KEY_MAX];
};

static struct lmdb_kv *self(struct kv *kv)
{
    return container_of(kv, struct lmdb_kv, base);
}

static int from_lmdb(int rv)
{
    switch (rv) {
    case 0:
        return 0;
    case MDB_NOTFOUND:
        return TSR_ENOENT;
    case MDB_MAP_FULL:
        return TSR_ENOSPC;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PANIC:
        return TSR_ECORRUPT;
    case MDB_READERS_FULL:
    case MDB_TXN_FULL:
        return TSR_EBUSY;
    case MDB_BAD_VALSIZE:
    case MDB_BAD_DBI:
    case MDB_BAD_TXN:
    case MDB_DBS_FULL:
    case MDB_INCOMPATIBLE:
        return TSR_EINVAL;
    default:
        return rv > 0 ? err_from_errno(rv) : TSR_EIO;
    }
}

static MDB_val val_in(struct kv_val v)
{
    /* LMDB copies zero bytes from a NULL value; give it something to point at. */
    return (MDB_val){.mv_size = v.size, .mv_data = v.data == NULL ? (void *)"" : (void *)v.data};
}

static struct kv_val val_out(MDB_val v)
{
    return (struct kv_val){v.mv_data, v.mv_size};
}

/* --- transactions --------------------------------------------------------------------------- */

/* LMDB says EIO for a write that a full disk cut short, as it does for a disk that fails: so it is
 * not let that far. */
static bool has_free(struct lmdb_kv *s, uint64_t bytes)
{
    struct statvfs st;
    mdb_filehandle_t fd;
    return bytes == 0 || mdb_env_get_fd(s->env, &fd) != 0 || fstatvfs(fd, &st) != 0 ||
           (uint64_t)st.f_bavail * st.f_frsize >= bytes;
}

void kv_lmdb_reserve(struct kv *kv, uint64_t bytes)
{
    self(kv)->reserve = bytes;
}

static int op_begin(struct kv *kv, bool write, struct kv_txn **txn_out)
{
    if (write && !has_free(self(kv), self(kv)->reserve)) {
        return TSR_ENOSPC;
    }
    struct kv_txn *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return TSR_ENOMEM;
    }
    int rv = mdb_txn_begin(self(kv)->env, NULL, write ? 0 : MDB_RDONLY, &t->txn);
    if (rv != 0) {
        free(t);
        return from_lmdb(rv);
    }
    t->write = write;
    *txn_out = t;
    return 0;
}

static void op_abort(struct kv *kv, struct kv_txn *t)
{
    (void)kv;
    tsr_assert(t->cursors == 0);
    mdb_txn_abort(t->txn);
    free(t);
}

static int op_commit(struct kv *kv, struct kv_txn *t)
{
    struct lmdb_kv *s = self(kv);
    if (t->failed != 0) {
        int rv = t->failed;
        op_abort(kv, t);
        return rv;
    }
    tsr_assert(t->cursors == 0);
    int rv = s->synced_late && t->write ? lmdb_late_commit(&s->late, t->txn, t->bytes)
                                        : from_lmdb(mdb_txn_commit(t->txn));
    free(t);
    return rv;
}

static int op_get(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_val key,
                  struct kv_val *val)
{
    if (db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    MDB_val k = val_in(key), v;
    int rv = mdb_get(t->txn, self(kv)->dbis[db], &k, &v);
    if (rv == 0) {
        *val = val_out(v);
    }
    return from_lmdb(rv);
}

/* Counts a write of @size bytes and keeps its error for the commit. */
static int wrote(struct kv_txn *t, size_t size, int rv)
{
    rv = from_lmdb(rv);
    t->changes++;
    t->bytes += PAGE_BYTES + size;
    if (rv != 0 && rv != TSR_ENOENT && rv != TSR_EINVAL && t->failed == 0) {
        t->failed = rv;
    }
    return rv;
}

/* Whether a write may go ahead. */
static int may_write(struct kv *kv, struct kv_txn *t, unsigned db)
{
    if (t->failed != 0) {
        return t->failed;
    }
    return !t->write || db >= self(kv)->count ? TSR_EINVAL : 0;
}

static int op_put(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_val key,
                  struct kv_val val)
{
    int rv = may_write(kv, t, db);
    if (rv != 0) {
        return rv;
    }
    MDB_val k = val_in(key), v = val_in(val);
    return wrote(t, val.size, mdb_put(t->txn, self(kv)->dbis[db], &k, &v, 0));
}

static int op_del(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_val key)
{
    int rv = may_write(kv, t, db);
    if (rv != 0) {
        return rv;
    }
    MDB_val k = val_in(key);
    return wrote(t, 0, mdb_del(t->txn, self(kv)->dbis[db], &k, NULL));
}

static int op_drop(struct kv *kv, struct kv_txn *t, unsigned db)
{
    int rv = may_write(kv, t, db);
    if (rv != 0) {
        return rv;
    }
    return wrote(t, 0, mdb_drop(t->txn, self(kv)->dbis[db], 0));
}

static int op_count(struct kv *kv, struct kv_txn *t, unsigned db, uint64_t *out)
{
    MDB_stat st;
    if (db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    int rv = mdb_stat(t->txn, self(kv)->dbis[db], &st);
    if (rv == 0) {
        *out = st.ms_entries;
    }
    return from_lmdb(rv);
}

/* --- cursors -------------------------------------------------------------------------------- */

static int op_cursor_open(struct kv *kv, struct kv_txn *t, unsigned db, struct kv_cursor **out)
{
    if (db >= self(kv)->count) {
        return TSR_EINVAL;
    }
    struct kv_cursor *c = malloc(sizeof(*c));
    if (c == NULL) {
        return TSR_ENOMEM;
    }
    int rv = mdb_cursor_open(t->txn, self(kv)->dbis[db], &c->cursor);
    if (rv != 0) {
        free(c);
        return from_lmdb(rv);
    }
    c->txn = t;
    c->placed = false;
    t->cursors++;
    *out = c;
    return 0;
}

static void op_cursor_close(struct kv *kv, struct kv_cursor *c)
{
    (void)kv;
    mdb_cursor_close(c->cursor);
    c->txn->cursors--;
    free(c);
}

/* NEXT or PREV from the key that we remember, after the tree has changed. */
static int step_again(struct kv_cursor *c, enum kv_seek how, MDB_val *k, MDB_val *v)
{
    MDB_val want = {.mv_size = c->key_size, .mv_data = c->key};
    *k = want;
    int rv = mdb_cursor_get(c->cursor, k, v, MDB_SET_RANGE);
    if (how == KV_PREV) { /* what stands below the first key >= ours */
        return mdb_cursor_get(c->cursor, k, v, rv == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    }
    bool same = rv == 0 && k->mv_size == want.mv_size &&
                memcmp(k->mv_data, want.mv_data, want.mv_size) == 0;
    return same ? mdb_cursor_get(c->cursor, k, v, MDB_NEXT) : rv;
}

static int op_cursor_move(struct kv *kv, struct kv_cursor *c, enum kv_seek how, struct kv_val *key,
                          struct kv_val *val)
{
    static const MDB_cursor_op ops[] = {
        [KV_FIRST] = MDB_FIRST, [KV_LAST] = MDB_LAST, [KV_GE] = MDB_SET_RANGE,
        [KV_NEXT] = MDB_NEXT,   [KV_PREV] = MDB_PREV,
    };
    (void)kv;
    MDB_val k = {0}, v = {0};
    int rv;
    bool step = how == KV_NEXT || how == KV_PREV;
    if (step && !c->placed) {
        rv = mdb_cursor_get(c->cursor, &k, &v, how == KV_NEXT ? MDB_FIRST : MDB_LAST);
    } else if (step && c->changes != c->txn->changes) {
        rv = step_again(c, how, &k, &v);
    } else {
        if (how == KV_GE) {
            k = val_in(*key);
        }
        rv = mdb_cursor_get(c->cursor, &k, &v, ops[how]);
    }
    c->changes = c->txn->changes;
    if (rv != 0) {
        c->changes--; /* LMDB's position is undefined now: the next step seeks ours again */
        return from_lmdb(rv);
    }
    c->placed = true;
    tsr_assert(k.mv_size <= sizeof(c->key));
    memcpy(c->key, k.mv_data, k.mv_size);
    c->key_size = k.mv_size;
    *key = val_out(k);
    *val = val_out(v);
    return 0;
}

/* --- the whole store ------------------------------------------------------------------------ */

static int op_sync(struct kv *kv)
{
    return self(kv)->synced_late ? lmdb_late_sync(&self(kv)->late)
                                 : from_lmdb(mdb_env_sync(self(kv)->env, 1));
}

/* Pages on LMDB's free list: each of its records starts with the number of pages in it. */
static int count_free(MDB_txn *txn, uint64_t *pages_out)
{
    MDB_cursor *c;
    MDB_val k, v;
    *pages_out = 0;
    int rv = mdb_cursor_open(txn, 0, &c);
    if (rv != 0) {
        return rv;
    }
    while ((rv = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0) {
        size_t pages = 0;
        memcpy(&pages, v.mv_data, v.mv_size < sizeof(pages) ? v.mv_size : sizeof(pages));
        *pages_out += pages;
    }
    mdb_cursor_close(c);
    return rv == MDB_NOTFOUND ? 0 : rv;
}

static int op_stat(struct kv *kv, struct kv_stat *out)
{
    MDB_envinfo info;
    MDB_stat st;
    MDB_txn *txn;
    uint64_t free_pages;
    int rv = mdb_txn_begin(self(kv)->env, NULL, MDB_RDONLY, &txn);
    if (rv != 0) {
        return from_lmdb(rv);
    }
    rv = count_free(txn, &free_pages);
    mdb_txn_abort(txn);
    if (rv == 0) {
        rv = mdb_env_info(self(kv)->env, &info);
    }
    if (rv == 0) {
        rv = mdb_env_stat(self(kv)->env, &st);
    }
    if (rv != 0) {
        return from_lmdb(rv);
    }
    uint64_t pages = info.me_last_pgno + 1;
    out->map_bytes = info.me_mapsize;
    out->used_bytes = (pages > free_pages ? pages - free_pages : 0) * st.ms_psize;
    return 0;
}

static void free_store(struct lmdb_kv *s)
{
    if (s->env != NULL) {
        mdb_env_close(s->env);
    }
    free(s->path);
    free(s);
}

static void op_close(struct kv *kv)
{
    struct lmdb_kv *s = self(kv);
    if (s->synced_late && lmdb_late_stop(&s->late) == 0 && lmdb_set_clean_mark(s->path) != 0) {
        log_warn("kv", "the store in %s is closed, but cannot be marked so", s->path);
    }
    free_store(s);
}

static const struct kv_ops lmdb_ops = {
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

/* --- what syncing behind the commits does with LMDB --- */

/* A reader at the newest commit. */
static int late_pin(void *env, void **reader_out, struct lmdb_meta *meta_out)
{
    MDB_txn *reader;
    mdb_filehandle_t fd;
    int rv = from_lmdb(mdb_env_get_fd(env, &fd));
    if (rv == 0) {
        rv = from_lmdb(mdb_txn_begin(env, NULL, MDB_RDONLY, &reader));
    }
    if (rv != 0) {
        return rv;
    }
    *reader_out = reader;
    return lmdb_meta_read(fd, mdb_txn_id(reader), meta_out);
}

static int late_sync(void *env)
{
    return from_lmdb(mdb_env_sync(env, 1));
}

static int late_commit(void *txn)
{
    return from_lmdb(mdb_txn_commit(txn));
}

static void late_abort(void *txn)
{
    mdb_txn_abort(txn);
}

static const struct lmdb_late_ops late_ops = {
    .pin = late_pin, .sync = late_sync, .commit = late_commit, .abort = late_abort};

static int open_dbs(struct lmdb_kv *s, const char *const *names, unsigned count)
{
    MDB_txn *txn;
    int rv = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rv != 0) {
        return rv;
    }
    for (unsigned i = 0; i < count; i++) {
        rv = mdb_dbi_open(txn, names[i], MDB_CREATE, &s->dbis[i]);
        if (rv != 0) {
            mdb_txn_abort(txn);
            return rv;
        }
    }
    return mdb_txn_commit(txn);
}

static void (*damage_fn)(const char *reason);

void kv_on_damage(void (*fn)(const char *reason))
{
    damage_fn = fn;
}

/* LMDB met a page that cannot be: nothing more may be read from or written to this store. */
static void on_assert(MDB_env *env, const char *text)
{
    const char *path = "";
    char reason[160];
    (void)mdb_env_get_path(env, &path);
    const char *name = strrchr(path, '/');
    (void)snprintf(reason, sizeof(reason), "the store in %s/ is damaged (%.80s)",
                   name != NULL ? name + 1 : path, text);
    if (damage_fn != NULL) {
        damage_fn(reason);
    }
    log_error("kv", "this host stops: %s", reason);
    _exit(STORE_DAMAGED_EXIT);
}

/* A file that was cut short is found here, not by a fault when its missing pages are touched. */
static int check_length(struct lmdb_kv *s)
{
    MDB_envinfo info;
    MDB_stat st;
    struct stat file;
    mdb_filehandle_t fd;
    if (mdb_env_info(s->env, &info) != 0 || mdb_env_stat(s->env, &st) != 0 ||
        mdb_env_get_fd(s->env, &fd) != 0 || fstat(fd, &file) != 0) {
        return MDB_CORRUPTED;
    }
    /* The two first pages are there from the start; data pages only when something is stored. */
    uint64_t pages = info.me_last_pgno + 1;
    return pages > 2 && (uint64_t)file.st_size < pages * st.ms_psize ? MDB_CORRUPTED : 0;
}

static int open_env(struct lmdb_kv *s, const char *path, uint64_t map_bytes, enum kv_sync_mode mode)
{
    unsigned flags = MDB_NOTLS | (mode == KV_SYNC_EACH ? MDB_NOMETASYNC : MDB_NOSYNC);
    int dead = 0;
    int rv = mdb_env_create(&s->env);
    if (rv == 0) {
        (void)mdb_env_set_assert(s->env, on_assert);
        rv = mdb_env_set_mapsize(s->env, map_bytes);
    }
    if (rv == 0) {
        rv = mdb_env_set_maxreaders(s->env, READERS_MAX);
    }
    if (rv == 0) {
        rv = mdb_env_set_maxdbs(s->env, KV_DBS_MAX);
    }
    if (rv == 0) {
        rv = mdb_env_open(s->env, path, flags, 0600);
    }
    if (rv == 0) {
        rv = check_length(s);
    }
    if (rv == 0) {
        rv = mdb_reader_check(s->env, &dead);
    }
    if (dead > 0) {
        log_warn("kv", "cleared %d stale readers", dead);
    }
    return rv;
}

static struct lmdb_kv *new_store(const char *path, unsigned count)
{
    struct lmdb_kv *s = calloc(1, sizeof(*s));
    char *copy = strdup(path);
    if (s == NULL || copy == NULL) {
        free(s);
        free(copy);
        return NULL;
    }
    s->base.ops = &lmdb_ops;
    s->count = count;
    s->path = copy;
    return s;
}

int kv_lmdb_open(const char *path, uint64_t map_bytes, const char *const *names, unsigned count,
                 enum kv_sync_mode mode, struct kv **kv_out)
{
    if (count == 0 || count > KV_DBS_MAX) {
        return TSR_EINVAL;
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return err_from_errno(errno);
    }
    int rv = mode == KV_SYNC_LATE ? lmdb_go_back(path) : 0;
    struct lmdb_kv *s = rv == 0 ? new_store(path, count) : NULL;
    if (s == NULL) {
        return rv != 0 ? rv : TSR_ENOMEM;
    }
    rv = open_env(s, path, map_bytes, mode);
    if (rv == 0) {
        rv = open_dbs(s, names, count);
    }
    rv = from_lmdb(rv);
    if (rv == 0 && mode == KV_SYNC_LATE) {
        rv = lmdb_late_start(&s->late, &late_ops, s->env, path);
        s->synced_late = rv == 0;
    }
    if (rv != 0) {
        free_store(s);
        return rv;
    }
    *kv_out = &s->base;
    return 0;
}
