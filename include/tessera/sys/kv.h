/* The outside world, part 3: an ordered key-value store with one writer and many readers.
 *
 * LMDB on a host; in the simulator an ordered in-memory store that loses or keeps whole unsynced
 * transactions at a power cut and can fail any call. One suite tests both.
 * Keys are 1..511 bytes. Values and keys returned live until the transaction ends or, in a write
 * transaction, until its next write.
 * Errors: TSR_ENOENT (no key), TSR_ENOSPC (map or disk full), TSR_EIO, TSR_ENOMEM, TSR_ECORRUPT.
 * Thread: a write transaction stays on one thread, one at a time; read transactions on any thread
 * (MDB_NOTLS), each with one owner; keep them short, they pin pages. */
#ifndef TESSERA_SYS_KV_H
#define TESSERA_SYS_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kv;
struct kv_txn;
struct kv_cursor;

enum { KV_KEY_MAX = 511, KV_DBS_MAX = 64 };

struct kv_val {
    const void *data;
    size_t size;
};

enum kv_seek { KV_FIRST, KV_LAST, KV_GE /* first key >= given */, KV_NEXT, KV_PREV };

struct kv_stat {
    uint64_t map_bytes, used_bytes;
};

struct kv_ops {
    int (*begin)(struct kv *kv, bool write, struct kv_txn **txn_out);
    int (*commit)(struct kv *kv, struct kv_txn *txn);
    void (*abort)(struct kv *kv, struct kv_txn *txn);
    int (*get)(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key,
               struct kv_val *val);
    int (*put)(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key,
               struct kv_val val);
    int (*del)(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key);
    int (*drop)(struct kv *kv, struct kv_txn *txn, unsigned db); /* delete every key */
    int (*cursor_open)(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_cursor **out);
    int (*cursor_move)(struct kv *kv, struct kv_cursor *c, enum kv_seek how, struct kv_val *key,
                       struct kv_val *val);
    void (*cursor_close)(struct kv *kv, struct kv_cursor *c);
    int (*count)(struct kv *kv, struct kv_txn *txn, unsigned db, uint64_t *out);
    int (*sync)(struct kv *kv);
    int (*stat)(struct kv *kv, struct kv_stat *out);
    void (*close)(struct kv *kv);
};
struct kv {
    const struct kv_ops *ops;
};

int kv_begin(struct kv *kv, bool write, struct kv_txn **txn_out);
/* The transaction is gone afterwards, whatever is returned. After a failed write (other than
 * TSR_ENOENT and TSR_EINVAL) a commit keeps nothing and returns that write's error. */
int kv_commit(struct kv *kv, struct kv_txn *txn);
void kv_abort(struct kv *kv, struct kv_txn *txn); /* NULL is fine */
int kv_get(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key, struct kv_val *val);
int kv_put(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key, struct kv_val val);
int kv_del(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_val key); /* TSR_ENOENT */
int kv_drop(struct kv *kv, struct kv_txn *txn, unsigned db);
/* Cursors are closed before their transaction ends. In a write transaction they survive changes:
 * KV_NEXT is the first key above the one that the cursor stood on, KV_PREV the last one below. */
int kv_cursor_open(struct kv *kv, struct kv_txn *txn, unsigned db, struct kv_cursor **out);
/* KV_GE reads *key; all moves set *key and *val, or return TSR_ENOENT at the end and stay. A step
 * of a new cursor starts at the first (KV_NEXT) or last key. */
int kv_cursor_move(struct kv *kv, struct kv_cursor *c, enum kv_seek how, struct kv_val *key,
                   struct kv_val *val);
void kv_cursor_close(struct kv *kv, struct kv_cursor *c);
int kv_count(struct kv *kv, struct kv_txn *txn, unsigned db, uint64_t *out);
/* Everything committed is durable afterwards. Blocking. */
int kv_sync(struct kv *kv);
int kv_stat(struct kv *kv, struct kv_stat *out);
void kv_close(struct kv *kv);

static inline struct kv_val kv_val_of(const void *data, size_t size)
{
    return (struct kv_val){data, size};
}

/* When a commit of an LMDB store reaches the disk. A power cut may lose the newest transactions
 * with all three (but none before a kv_sync), and consistency with NONE. */
enum kv_sync_mode {
    KV_SYNC_EACH, /* before the commit returns (MDB_NOMETASYNC) */
    KV_SYNC_NONE, /* when the system likes; for tests */
    /* Behind the commits, in a thread of its own, several times a second. A store that was not
     * closed is opened where it was last synced: for a store whose newest changes are also in a
     * log. */
    KV_SYNC_LATE,
};
/* LMDB environment in directory @path (made if absent) with databases @names (index = db number).
 * Stale readers are cleared at open. */
int kv_lmdb_open(const char *path, uint64_t map_bytes, const char *const *names, unsigned count,
                 enum kv_sync_mode mode, struct kv **kv_out);
/* From now on a write transaction begins only with @bytes free on the disk, TSR_ENOSPC else. */
void kv_lmdb_reserve(struct kv *kv, uint64_t bytes);
/* Called, on any thread, when LMDB meets a page that can not be; @fn does not return. Without it,
 * or when it returns, the process ends with 65. */
void kv_on_damage(void (*fn)(const char *reason));
/* In-memory store for tests and the simulator (copy-on-write snapshots for readers). */
int kv_mem_open(unsigned count, struct kv **kv_out);
/* Power cut: back to the state of the last kv_sync. No write transaction is open; readers keep what
 * they see. */
void kv_mem_crash(struct kv *kv);
/* Transactions committed since the last kv_sync, and a power cut that keeps the first @keep of
 * them. */
unsigned kv_mem_unsynced(struct kv *kv);
void kv_mem_crash_keep(struct kv *kv, unsigned keep);
/* The @n-th call from now (begin, get, put, del, drop, cursor, count, commit, sync, stat) fails
 * once with TSR_EIO; 0 = none. Returns what was left of an earlier order. */
unsigned kv_mem_fail_after(struct kv *kv, unsigned n);
/* False while a countdown is still running: a loop over n ends when a run did not reach its call.
 */
bool kv_mem_failed(struct kv *kv);

#endif
