/* Syncing an LMDB store behind its commits, some at a time. Private to kv_lmdb.c.
 *
 * A thread goes round: it begins a reader at the newest commit, syncs the data file, writes the
 * meta page of that commit to "synced" (lmdb_back.h), and lets go of the reader of the round
 * before. So at every moment "synced" names a tree that is whole on the disk and whose pages LMDB
 * does not use again. Commits go on meanwhile; a round begins EVERY_MS after the last one ended, or
 * sooner when much was written or someone waits. When very much waits for a round, commits do too.
 *
 * Life: lmdb_late_start (the environment is open, with MDB_NOSYNC; at most one commit since it was
 * made durable) -> commits, syncs -> lmdb_late_stop. */
#ifndef SYS_LMDB_LATE_H
#define SYS_LMDB_LATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "sys/lmdb_back.h"

/* On an MDB_env and MDB_txns of it; kv_lmdb.c is LMDB's only door. */
struct lmdb_late_ops {
    /* A reader at the newest commit, and that one's meta page; a reader that is given is aborted by
     * the caller also when the meta page could not be read. */
    int (*pin)(void *env, void **reader_out, struct lmdb_meta *meta_out);
    int (*sync)(void *env);
    int (*commit)(void *txn);
    void (*abort)(void *txn);
};

struct lmdb_late {
    const struct lmdb_late_ops *ops;
    void *env;
    pthread_t thread;
    /* Held during a commit, so that no commit comes between the thread's reader and its look at the
     * meta page. All below is under it. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool urgent, ending;
    int failed; /* of a sync: never tried again, nothing is committed any more */
    uint64_t commits, taken, synced; /* numbers of commits: made, in the round, durable */
    uint64_t behind, in_round;       /* bytes written, roughly: since the round began, and in it */
    /* the thread's own */
    struct lmdb_synced file;
    void *held; /* at the commit that "synced" names */
};

/* The state at this moment is durable and in "synced" afterwards. */
int lmdb_late_start(struct lmdb_late *l, const struct lmdb_late_ops *ops, void *env,
                    const char *path);
/* Commits @txn, which wrote about @bytes; the transaction is gone afterwards. */
int lmdb_late_commit(struct lmdb_late *l, void *txn, uint64_t bytes);
/* What was committed before the call is durable. */
int lmdb_late_sync(struct lmdb_late *l);
/* After a last round; 0 when everything is durable. */
int lmdb_late_stop(struct lmdb_late *l);

#endif
