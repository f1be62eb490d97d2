#include "sys/lmdb_late.h"

#include <errno.h>
#include <time.h>

#include "tessera/base/err.h"

enum { EVERY_MS = 200 };
static const uint64_t hurry_bytes = 64 << 20, behind_max = 256 << 20;

static struct timespec after(unsigned ms)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Waits until a round is due; false: the end. */
static bool await_round(struct lmdb_late *l, const struct timespec *due)
{
    while (l->commits == l->taken && !l->ending) {
        (void)pthread_cond_wait(&l->changed, &l->lock);
    }
    int rv = 0;
    while (!l->urgent && !l->ending && l->behind < hurry_bytes && rv != ETIMEDOUT) {
        rv = pthread_cond_timedwait(&l->changed, &l->lock, due);
    }
    return l->commits != l->taken;
}

/* The newest commit is the round's. The lock is held. */
static int take(struct lmdb_late *l, void **reader_out, struct lmdb_meta *meta_out)
{
    l->taken = l->commits;
    l->in_round = l->behind;
    l->behind = 0;
    l->urgent = false;
    return l->ops->pin(l->env, reader_out, meta_out);
}

static int sync_and_say(struct lmdb_late *l, const struct lmdb_meta *meta)
{
    int rv = l->ops->sync(l->env);
    return rv == 0 ? lmdb_synced_write(&l->file, meta) : rv;
}

static void round_once(struct lmdb_late *l)
{
    struct lmdb_meta meta;
    void *reader = NULL;
    int rv = take(l, &reader, &meta);
    pthread_mutex_unlock(&l->lock);
    if (rv == 0) {
        rv = sync_and_say(l, &meta);
    }
    void *old = rv == 0 ? l->held : reader;
    l->held = rv == 0 ? reader : l->held;
    if (old != NULL) {
        l->ops->abort(old);
    }
    pthread_mutex_lock(&l->lock);
    l->in_round = 0;
    if (rv == 0) {
        l->synced = l->taken;
    } else if (l->failed == 0) {
        /* Nobody knows what is on the disk now: no case for waiting until there is room. */
        l->failed = rv == TSR_ENOSPC ? TSR_EIO : rv;
    }
    pthread_cond_broadcast(&l->changed);
}

static void *late_run(void *arg)
{
    struct lmdb_late *l = arg;
    struct timespec due = after(0);
    (void)pthread_setname_np(pthread_self(), "store-sync");
    pthread_mutex_lock(&l->lock);
    while (l->failed == 0 && await_round(l, &due)) {
        round_once(l);
        due = after(EVERY_MS);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* --- commits, from any thread ----------------------------------------------------------------- */

int lmdb_late_commit(struct lmdb_late *l, void *txn, uint64_t bytes)
{
    pthread_mutex_lock(&l->lock);
    while (l->behind + l->in_round > behind_max && l->failed == 0) {
        l->urgent = true;
        pthread_cond_broadcast(&l->changed);
        (void)pthread_cond_wait(&l->changed, &l->lock);
    }
    int rv = l->failed;
    if (rv != 0) {
        l->ops->abort(txn);
    } else {
        rv = l->ops->commit(txn);
    }
    if (rv == 0) {
        bool hurries = l->behind >= hurry_bytes;
        l->behind += bytes;
        l->commits++;
        if (l->commits == l->taken + 1 || (!hurries && l->behind >= hurry_bytes)) {
            pthread_cond_broadcast(&l->changed);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return rv;
}

static int await_synced(struct lmdb_late *l)
{
    uint64_t wanted = l->commits;
    while (l->synced < wanted && l->failed == 0) {
        l->urgent = true;
        pthread_cond_broadcast(&l->changed);
        (void)pthread_cond_wait(&l->changed, &l->lock);
    }
    return l->failed;
}

int lmdb_late_sync(struct lmdb_late *l)
{
    pthread_mutex_lock(&l->lock);
    int rv = await_synced(l);
    pthread_mutex_unlock(&l->lock);
    return rv;
}

/* --- life ------------------------------------------------------------------------------------- */

static void late_free(struct lmdb_late *l)
{
    if (l->held != NULL) {
        l->ops->abort(l->held);
    }
    lmdb_synced_close(&l->file);
    (void)pthread_cond_destroy(&l->changed);
    (void)pthread_mutex_destroy(&l->lock);
}

int lmdb_late_start(struct lmdb_late *l, const struct lmdb_late_ops *ops, void *env,
                    const char *path)
{
    pthread_condattr_t attr;
    *l = (struct lmdb_late){
        .ops = ops, .env = env, .commits = 1 /* what opening wrote, if anything */};
    (void)pthread_mutex_init(&l->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&l->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    int rv = lmdb_synced_open(path, &l->file);
    if (rv == 0 && pthread_create(&l->thread, NULL, late_run, l) != 0) {
        rv = TSR_ENOMEM;
    }
    if (rv != 0) {
        late_free(l);
        return rv;
    }
    rv = lmdb_late_sync(l);
    if (rv != 0) {
        (void)lmdb_late_stop(l);
    }
    return rv;
}

int lmdb_late_stop(struct lmdb_late *l)
{
    pthread_mutex_lock(&l->lock);
    int rv = await_synced(l);
    l->ending = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    (void)pthread_join(l->thread, NULL);
    late_free(l);
    return rv;
}
