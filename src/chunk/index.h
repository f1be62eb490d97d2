/* The chunk index: who needs which chunk. Rows in a kv store, changed by one thread (index pool)
 * inside transactions that the caller opens and commits.
 *
 *   meta         "clean" -> u8 (closed in order), "store" -> uuid of the store it describes
 *   chunk        id -> struct chunk_row; a file under a final name always has a row
 *   loose        id -> ""   rows that nothing needs: what collection looks at
 *   lost         id -> ""   rows that a manifest needs and whose file is not there
 *   manifest     id -> struct manifest_row
 *   reservation  session, kind, id -> ""
 *   pin          name -> struct pin_row
 *
 * The index is host-local: numbers are in host byte order. Functions return 0 or an error of kv; a
 * logical outcome is an out parameter. All are idempotent where they can be. */
#ifndef CHUNK_INDEX_H
#define CHUNK_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/base/map.h"
#include "tessera/chunk.h"
#include "tessera/sys/kv.h"

enum index_db {
    DB_META,
    DB_CHUNK,
    DB_LOOSE,
    DB_LOST,
    DB_MANIFEST,
    DB_RESERVATION,
    DB_PIN,
    DB_COUNT
};

enum row_state {
    ROW_NORMAL,
    ROW_DELETING, /* chunk: being unlinked; manifest: being dropped */
};

struct chunk_row {
    uint32_t refs;     /* occurrences in sealed manifests */
    uint32_t reserved; /* sessions */
    uint8_t state;
    uint8_t loose, lost; /* has a row in that database */
    uint8_t zero;
};

struct manifest_row {
    uint64_t size;
    uint32_t count;
    uint32_t reserved;
    uint8_t state;
    uint8_t zero[7];
};

struct pin_row {
    uint8_t manifest[32];
    int64_t asked_us, here_us, read_us;
    uint64_t reads;
};

struct index {
    struct kv *kv;
    struct kv_txn *txn;
    const struct map *deleting; /* chunks being unlinked now; a mark outside of it is a leftover */
};

int index_chunk_get(struct index *ix, const struct chunk_id *id, struct chunk_row *row);
/* Also keeps loose and lost in step with the row. */
int index_chunk_put(struct index *ix, const struct chunk_id *id, struct chunk_row *row);
int index_chunk_del(struct index *ix, const struct chunk_id *id);

/* The file of the chunk is gone (or back). Only a chunk with references is lost. */
int index_chunk_lost(struct index *ix, const struct chunk_id *id, bool lost);

int index_manifest_get(struct index *ix, const struct chunk_id *id, struct manifest_row *row);
int index_manifest_put(struct index *ix, const struct chunk_id *id, const struct manifest_row *row);
int index_manifest_del(struct index *ix, const struct chunk_id *id);

/* Reserve for a session; the chunk's row is made when absent. *deleting_out: it is being deleted
 * and nothing was done. */
int index_reserve_chunk(struct index *ix, const uint8_t *session, const struct chunk_id *id,
                        bool *deleting_out);
/* The manifest's row must exist. */
int index_reserve_manifest(struct index *ix, const uint8_t *session, const struct chunk_id *id);
int index_unreserve_chunk(struct index *ix, const uint8_t *session, const struct chunk_id *id);
/* All reservations of a session. */
int index_session_end(struct index *ix, const uint8_t *session);

/* A reference more or less for each chunk of the manifest that is not zero (each occurrence
 * counts). */
int index_ref_all(struct index *ix, const struct manifest *m);
int index_unref_all(struct index *ix, const struct manifest *m);

/* Walk the keys of a database: the callback gets key and value; non-zero ends it and is returned.
 * It must not change the database that is walked. */
typedef int (*index_walk_cb)(void *arg, struct kv_val key, struct kv_val val);
int index_walk(struct index *ix, enum index_db db, index_walk_cb cb, void *arg);

int index_flag_get(struct index *ix, const char *name, void *out, size_t size);
int index_flag_put(struct index *ix, const char *name, const void *data, size_t size);

enum { RESERVATION_KEY = SESSION_ID_SIZE + 1 + 32 };

#endif
