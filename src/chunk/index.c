#include "chunk/index.h"

#include <string.h>

#include "tessera/base/assert.h"

const char *const chunk_index_databases[] = {"meta",     "chunk",       "loose", "lost",
                                             "manifest", "reservation", "pin"};
const unsigned chunk_index_database_count = DB_COUNT;
_Static_assert(sizeof chunk_index_databases / sizeof chunk_index_databases[0] == DB_COUNT,
               "one name a database");

static struct kv_val id_val(const struct chunk_id *id)
{
    return kv_val_of(id->bytes, sizeof id->bytes);
}

static int get_row(struct index *ix, enum index_db db, const struct chunk_id *id, void *row,
                   size_t size)
{
    struct kv_val val;
    int rv = kv_get(ix->kv, ix->txn, db, id_val(id), &val);
    if (rv == 0 && val.size != size) {
        rv = TSR_ECORRUPT;
    }
    if (rv == 0) {
        memcpy(row, val.data, size);
    }
    return rv;
}

int index_chunk_get(struct index *ix, const struct chunk_id *id, struct chunk_row *row)
{
    return get_row(ix, DB_CHUNK, id, row, sizeof *row);
}

/* Bring one marker database in step: *have -> want. */
static int mark(struct index *ix, enum index_db db, const struct chunk_id *id, uint8_t *have,
                bool want)
{
    int rv = 0;
    if (want && !*have) {
        rv = kv_put(ix->kv, ix->txn, db, id_val(id), kv_val_of("", 1));
    } else if (!want && *have) {
        rv = kv_del(ix->kv, ix->txn, db, id_val(id));
        rv = rv == TSR_ENOENT ? 0 : rv;
    }
    *have = want;
    return rv;
}

int index_chunk_put(struct index *ix, const struct chunk_id *id, struct chunk_row *row)
{
    bool loose = row->refs == 0 && row->reserved == 0 && row->state == ROW_NORMAL;
    int rv = mark(ix, DB_LOOSE, id, &row->loose, loose);
    if (rv == 0 && row->lost && row->refs == 0) {
        rv = mark(ix, DB_LOST, id, &row->lost, false);
    }
    return rv != 0 ? rv
                   : kv_put(ix->kv, ix->txn, DB_CHUNK, id_val(id), kv_val_of(row, sizeof *row));
}

int index_chunk_del(struct index *ix, const struct chunk_id *id)
{
    struct chunk_row row;
    int rv = index_chunk_get(ix, id, &row);
    if (rv == 0) {
        rv = mark(ix, DB_LOOSE, id, &row.loose, false);
    }
    if (rv == 0) {
        rv = mark(ix, DB_LOST, id, &row.lost, false);
    }
    if (rv == 0) {
        rv = kv_del(ix->kv, ix->txn, DB_CHUNK, id_val(id));
    }
    return rv == TSR_ENOENT ? 0 : rv;
}

int index_chunk_lost(struct index *ix, const struct chunk_id *id, bool lost)
{
    struct chunk_row row;
    int rv = index_chunk_get(ix, id, &row);
    if (rv != 0) {
        return rv == TSR_ENOENT ? 0 : rv;
    }
    bool want = lost && row.refs > 0;
    if (want == (row.lost != 0)) {
        return 0;
    }
    rv = mark(ix, DB_LOST, id, &row.lost, want);
    return rv != 0 ? rv : index_chunk_put(ix, id, &row);
}

int index_manifest_get(struct index *ix, const struct chunk_id *id, struct manifest_row *row)
{
    return get_row(ix, DB_MANIFEST, id, row, sizeof *row);
}

int index_manifest_put(struct index *ix, const struct chunk_id *id, const struct manifest_row *row)
{
    return kv_put(ix->kv, ix->txn, DB_MANIFEST, id_val(id), kv_val_of(row, sizeof *row));
}

int index_manifest_del(struct index *ix, const struct chunk_id *id)
{
    int rv = kv_del(ix->kv, ix->txn, DB_MANIFEST, id_val(id));
    return rv == TSR_ENOENT ? 0 : rv;
}

/* --- reservations --------------------------------------------------------------------------- */

static void reservation_key(const uint8_t *session, enum chunk_kind kind, const struct chunk_id *id,
                            uint8_t key[RESERVATION_KEY])
{
    memcpy(key, session, SESSION_ID_SIZE);
    key[SESSION_ID_SIZE] = (uint8_t)kind;
    memcpy(key + SESSION_ID_SIZE + 1, id->bytes, 32);
}

/* 0: added; TSR_EEXIST: it was there. */
static int add_reservation(struct index *ix, const uint8_t *session, enum chunk_kind kind,
                           const struct chunk_id *id)
{
    uint8_t key[RESERVATION_KEY];
    struct kv_val val;
    reservation_key(session, kind, id, key);
    int rv = kv_get(ix->kv, ix->txn, DB_RESERVATION, kv_val_of(key, sizeof key), &val);
    if (rv != TSR_ENOENT) {
        return rv == 0 ? TSR_EEXIST : rv;
    }
    return kv_put(ix->kv, ix->txn, DB_RESERVATION, kv_val_of(key, sizeof key), kv_val_of("", 1));
}

int index_reserve_chunk(struct index *ix, const uint8_t *session, const struct chunk_id *id,
                        bool *deleting_out)
{
    struct chunk_row row;
    int rv = index_chunk_get(ix, id, &row);
    if (rv == TSR_ENOENT) {
        memset(&row, 0, sizeof row);
        rv = 0;
    }
    *deleting_out = rv == 0 && row.state == ROW_DELETING && ix->deleting != NULL &&
                    map_get(ix->deleting, id->bytes, sizeof id->bytes) != NULL;
#ifdef TSR_BREAK_DELETING
    *deleting_out = false;
#endif
    if (rv != 0 || *deleting_out) {
        return rv;
    }
    rv = add_reservation(ix, session, CHUNK_DATA, id);
    if (rv == TSR_EEXIST && row.state == ROW_NORMAL) {
        return 0;
    }
    if (rv == 0) {
        row.reserved++;
    } else if (rv != TSR_EEXIST) {
        return rv;
    }
    row.state = ROW_NORMAL; /* whether the file is there, the disk says */
    return index_chunk_put(ix, id, &row);
}

int index_reserve_manifest(struct index *ix, const uint8_t *session, const struct chunk_id *id)
{
    struct manifest_row row;
    int rv = index_manifest_get(ix, id, &row);
    if (rv == 0) {
        rv = add_reservation(ix, session, CHUNK_MANIFEST, id);
    }
    if (rv != 0) {
        return rv == TSR_EEXIST ? 0 : rv;
    }
    row.reserved++;
    return index_manifest_put(ix, id, &row);
}

static int release(struct index *ix, enum chunk_kind kind, const struct chunk_id *id)
{
    int rv;
    if (kind == CHUNK_DATA) {
        struct chunk_row row;
        rv = index_chunk_get(ix, id, &row);
        if (rv == 0 && row.reserved > 0) {
            row.reserved--;
            rv = index_chunk_put(ix, id, &row);
        }
    } else {
        struct manifest_row row;
        rv = index_manifest_get(ix, id, &row);
        if (rv == 0 && row.reserved > 0) {
            row.reserved--;
            rv = index_manifest_put(ix, id, &row);
        }
    }
    return rv == TSR_ENOENT ? 0 : rv;
}

int index_unreserve_chunk(struct index *ix, const uint8_t *session, const struct chunk_id *id)
{
    uint8_t key[RESERVATION_KEY];
    reservation_key(session, CHUNK_DATA, id, key);
    int rv = kv_del(ix->kv, ix->txn, DB_RESERVATION, kv_val_of(key, sizeof key));
    if (rv != 0) {
        return rv == TSR_ENOENT ? 0 : rv;
    }
    return release(ix, CHUNK_DATA, id);
}

/* One reservation at a time: the cursor is opened anew after each change. */
static int first_of_session(struct index *ix, const uint8_t *session, uint8_t key[RESERVATION_KEY])
{
    struct kv_cursor *c;
    struct kv_val k = kv_val_of(session, SESSION_ID_SIZE), v;
    int rv = kv_cursor_open(ix->kv, ix->txn, DB_RESERVATION, &c);
    if (rv != 0) {
        return rv;
    }
    rv = kv_cursor_move(ix->kv, c, KV_GE, &k, &v);
    if (rv == 0 && (k.size != RESERVATION_KEY || memcmp(k.data, session, SESSION_ID_SIZE) != 0)) {
        rv = TSR_ENOENT;
    }
    if (rv == 0) {
        memcpy(key, k.data, RESERVATION_KEY);
    }
    kv_cursor_close(ix->kv, c);
    return rv;
}

int index_session_end(struct index *ix, const uint8_t *session)
{
    uint8_t key[RESERVATION_KEY];
    int rv;
    while ((rv = first_of_session(ix, session, key)) == 0) {
        struct chunk_id id;
        memcpy(id.bytes, key + SESSION_ID_SIZE + 1, 32);
        rv = kv_del(ix->kv, ix->txn, DB_RESERVATION, kv_val_of(key, sizeof key));
        if (rv == 0) {
            rv = release(ix, key[SESSION_ID_SIZE] == CHUNK_DATA ? CHUNK_DATA : CHUNK_MANIFEST, &id);
        }
        if (rv != 0) {
            return rv;
        }
    }
    return rv == TSR_ENOENT ? 0 : rv;
}

/* --- references ----------------------------------------------------------------------------- */

static int change_refs(struct index *ix, const struct manifest *m, int by)
{
    for (uint32_t i = 0; i < m->count; i++) {
        struct chunk_row row;
        if (chunk_id_is_zero(&m->chunks[i])) {
            continue;
        }
        int rv = index_chunk_get(ix, &m->chunks[i], &row);
        if (rv == TSR_ENOENT) {
            memset(&row, 0, sizeof row);
            rv = 0;
        }
        if (rv != 0) {
            return rv;
        }
        if (by > 0) {
            row.refs++;
        } else if (row.refs > 0) {
            row.refs--;
        }
        rv = index_chunk_put(ix, &m->chunks[i], &row);
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

int index_ref_all(struct index *ix, const struct manifest *m)
{
    return change_refs(ix, m, 1);
}

int index_unref_all(struct index *ix, const struct manifest *m)
{
    return change_refs(ix, m, -1);
}

/* --- the rest ------------------------------------------------------------------------------- */

int index_walk(struct index *ix, enum index_db db, index_walk_cb cb, void *arg)
{
    struct kv_cursor *c;
    struct kv_val key, val;
    int rv = kv_cursor_open(ix->kv, ix->txn, db, &c);
    if (rv != 0) {
        return rv;
    }
    rv = kv_cursor_move(ix->kv, c, KV_FIRST, &key, &val);
    while (rv == 0) {
        rv = cb(arg, key, val);
        if (rv == 0) {
            rv = kv_cursor_move(ix->kv, c, KV_NEXT, &key, &val);
        } else {
            kv_cursor_close(ix->kv, c);
            return rv;
        }
    }
    kv_cursor_close(ix->kv, c);
    return rv == TSR_ENOENT ? 0 : rv;
}

int index_flag_get(struct index *ix, const char *name, void *out, size_t size)
{
    struct kv_val val;
    int rv = kv_get(ix->kv, ix->txn, DB_META, kv_val_of(name, strlen(name)), &val);
    if (rv == 0 && val.size != size) {
        rv = TSR_ECORRUPT;
    }
    if (rv == 0) {
        memcpy(out, val.data, size);
    }
    return rv;
}

int index_flag_put(struct index *ix, const char *name, const void *data, size_t size)
{
    return kv_put(ix->kv, ix->txn, DB_META, kv_val_of(name, strlen(name)), kv_val_of(data, size));
}
