/* The writes of one command, held back until it is known to succeed.
 *
 * Reads go through it, so that a command sees what it (or an earlier command of its batch) wrote.
 * A refusal drops it: nothing reached the store. Kept sorted by (database, key): flushing and the
 * effect digest take that order, so equal commands give equal digests.
 * Errors of the store are sticky in `error`. Thread: apply. */
#ifndef META_WRITESET_H
#define META_WRITESET_H

#include "meta/schema.h"

struct arena_block;
struct digest;

struct write {
    uint8_t db;
    bool del;
    struct kv_val key, value; /* in the arena */
};

struct writeset {
    struct kv *kv;
    struct kv_txn *txn;
    struct write *items;
    size_t count, capacity;
    struct arena_block *blocks;
    int error; /* first failure of the store or of memory */
};

void writeset_init(struct writeset *w, struct kv *kv, struct kv_txn *txn);
void writeset_free(struct writeset *w);
/* Drop all writes; memory is kept for the next command. */
void writeset_reset(struct writeset *w);

/* Memory that lives until the reset. NULL sets the error. */
void *writeset_alloc(struct writeset *w, size_t size);

/* 0, TSR_ENOENT, or an error, which is sticky. *out lives until the next write to this set. */
int writeset_get(struct writeset *w, unsigned db, struct kv_val key, struct kv_val *out);
void writeset_put(struct writeset *w, unsigned db, struct kv_val key, struct kv_val value);
void writeset_del(struct writeset *w, unsigned db, struct kv_val key);

/* Call @cb for each key that starts with @prefix, in order; non-zero from it ends the scan and is
 * returned. @cb must not write. Errors of the store are returned, and sticky. */
typedef int (*writeset_scan_cb)(void *arg, struct kv_val key, struct kv_val value);
int writeset_scan(struct writeset *w, unsigned db, const struct key *prefix, writeset_scan_cb cb,
                  void *arg);

/* Write all to the store, in order, and add each effect to @digest. Returns the sticky error. */
int writeset_flush(struct writeset *w, struct digest *digest);

/* JSON records through the set. */
int writeset_get_json(struct writeset *w, unsigned db, const struct key *key, json_t **out);
void writeset_put_json(struct writeset *w, unsigned db, const struct key *key, const json_t *value);
void writeset_put_text(struct writeset *w, unsigned db, const struct key *key, const void *text,
                       size_t size);

#endif
