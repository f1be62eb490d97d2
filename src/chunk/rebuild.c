/* The check at open: does the index describe the files?
 *
 * Closed in order, of this store, and the same manifests on both sides: yes, nothing more is read
 * than the names of the manifests. Otherwise all rows are made anew, in one transaction: chunk rows
 * from the names on disk, references from the manifests, reservations from what is left of them. A
 * file that nothing needs becomes loose and is collected; a chunk that a manifest needs and that is
 * not there is lost and gets healed; a manifest whose drop had begun is dropped; an unreadable one
 * is moved aside. An index of another store (the wrong disk, an empty mount point) is an error:
 * nothing is touched. */
#include "chunk/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/buf.h"
#include "tessera/base/log.h"
#include "tessera/base/metric.h"

/* --- is it needed? -------------------------------------------------------------------------- */

struct compare {
    struct index *ix;
    uint64_t found;
};

enum { WALK_DIFFERS = 1, WALK_DONE = 2 };

static int compare_one(void *arg, enum chunk_kind kind, const struct chunk_id *id, size_t size)
{
    struct compare *cmp = arg;
    struct manifest_row row;
    (void)size;
    if (kind == CHUNK_DATA) {
        return WALK_DONE; /* manifests come first */
    }
    cmp->found++;
    int rv = index_manifest_get(cmp->ix, id, &row);
    if (rv == TSR_ENOENT || (rv == 0 && row.state != ROW_NORMAL)) {
        return WALK_DIFFERS;
    }
    return rv;
}

/* 1: agrees, 0: must be rebuilt. */
static int agrees(struct chunks *c, struct index *ix)
{
    uint8_t clean = 0;
    uint64_t count;
    int rv = index_flag_get(ix, "clean", &clean, sizeof clean);
    if (rv != 0 || !clean) {
        return rv == TSR_ENOENT || rv == TSR_ECORRUPT ? 0 : rv;
    }
    struct compare cmp = {.ix = ix};
    rv = c->store->ops->each(c->store, compare_one, &cmp);
    if (rv == WALK_DIFFERS) {
        return 0;
    }
    if (rv == 0 || rv == WALK_DONE) {
        rv = kv_count(ix->kv, ix->txn, DB_MANIFEST, &count);
    }
    return rv != 0 ? rv : count == cmp.found;
}

static int check_store(struct chunks *c, struct index *ix, struct err *err)
{
    uint8_t uuid[16];
    int rv = index_flag_get(ix, "store", uuid, sizeof uuid);
    if (rv == 0 && memcmp(uuid, c->store->uuid, sizeof uuid) != 0) {
        return err_set(
            err, TSR_ECORRUPT,
            "image directory is not the one that the chunk index knows (is the right disk "
            "mounted?)");
    }
    return rv == TSR_ENOENT ? 0 : rv;
}

/* --- rebuild -------------------------------------------------------------------------------- */

struct ids {
    struct chunk_id *items;
    size_t count, capacity;
};

struct rebuild {
    struct chunks *c;
    struct index ix;
    struct ids manifests; /* on disk */
    struct map dropping;  /* those whose drop had begun */
    struct ids lost;      /* of the manifest at hand */
    uint64_t chunk_count, lost_count;
};

static int ids_add(struct ids *ids, const void *bytes)
{
    if (ids->count == ids->capacity) {
        size_t more = ids->capacity == 0 ? 64 : ids->capacity * 2;
        struct chunk_id *items = realloc(ids->items, more * sizeof *items);
        if (items == NULL) {
            return TSR_ENOMEM;
        }
        ids->items = items;
        ids->capacity = more;
    }
    memcpy(ids->items[ids->count++].bytes, bytes, 32);
    return 0;
}

static int note_dropping(void *arg, struct kv_val key, struct kv_val val)
{
    struct rebuild *r = arg;
    struct manifest_row row;
    if (key.size != 32 || val.size != sizeof row) {
        return 0; /* damaged row: the files decide */
    }
    memcpy(&row, val.data, sizeof row);
    return row.state == ROW_NORMAL ? 0 : map_put(&r->dropping, key.data, key.size, r);
}

static int add_file(void *arg, enum chunk_kind kind, const struct chunk_id *id, size_t size)
{
    struct rebuild *r = arg;
    (void)size;
    if (kind == CHUNK_MANIFEST) {
        return ids_add(&r->manifests, id->bytes);
    }
    struct chunk_row row = {0};
    r->chunk_count++;
    return index_chunk_put(&r->ix, id, &row); /* loose until somebody needs it */
}

/* Chunks without a row here have no file. */
static int find_lost(struct rebuild *r, const struct manifest *m)
{
    r->lost.count = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        struct chunk_row row;
        if (chunk_id_is_zero(&m->chunks[i])) {
            continue;
        }
        int rv = index_chunk_get(&r->ix, &m->chunks[i], &row);
        if (rv == TSR_ENOENT) {
            rv = ids_add(&r->lost, m->chunks[i].bytes);
        }
        if (rv != 0) {
            return rv;
        }
    }
    r->lost_count += r->lost.count;
    return 0;
}

static int drop_file(struct rebuild *r, const struct chunk_id *id)
{
    int rv = r->c->store->ops->remove(r->c->store, CHUNK_MANIFEST, id);
    return rv != 0 ? rv : r->c->store->ops->sync(r->c->store, CHUNK_MANIFEST, id, 1);
}

static int add_manifest(struct rebuild *r, const struct chunk_id *id)
{
    struct manifest m;
    if (map_get(&r->dropping, id->bytes, 32) != NULL) {
        return drop_file(r, id);
    }
    int rv = manifest_load(r->c, id, &m);
    if (rv == TSR_ECORRUPT) {
        char hex[65];
        hex_encode(id->bytes, 32, hex);
        log_error("chunk", "bad manifest moved aside manifest=%s", hex);
        atomic_fetch_add(&r->c->bad_count, 1);
        metric_add(METRIC_chunks_bad_total, 1);
        return r->c->store->ops->quarantine(r->c->store, CHUNK_MANIFEST, id);
    }
    if (rv != 0) {
        return rv;
    }
    struct manifest_row row = {.size = m.size, .count = m.count};
    rv = find_lost(r, &m);
    if (rv == 0) {
        rv = index_ref_all(&r->ix, &m);
    }
    for (size_t i = 0; rv == 0 && i < r->lost.count; i++) {
        rv = index_chunk_lost(&r->ix, &r->lost.items[i], true);
    }
    if (rv == 0) {
        rv = index_manifest_put(&r->ix, id, &row);
    }
    manifest_free(&m);
    return rv;
}

/* Reservations are counted anew; those of what is gone end. Keys are gathered first: the walk must
 * not change what it walks. */
static int gather_reservation(void *arg, struct kv_val key, struct kv_val val)
{
    struct buf *keys = arg;
    (void)val;
    return key.size == RESERVATION_KEY ? buf_append(keys, key.data, key.size) : 0;
}

static int count_reservation(struct rebuild *r, const uint8_t *key)
{
    struct chunk_id id;
    int rv;
    memcpy(id.bytes, key + SESSION_ID_SIZE + 1, 32);
    if (key[SESSION_ID_SIZE] == CHUNK_DATA) {
        struct chunk_row row;
        rv = index_chunk_get(&r->ix, &id, &row);
        if (rv == 0) {
            row.reserved++;
            return index_chunk_put(&r->ix, &id, &row);
        }
    } else {
        struct manifest_row row;
        rv = index_manifest_get(&r->ix, &id, &row);
        if (rv == 0) {
            row.reserved++;
            return index_manifest_put(&r->ix, &id, &row);
        }
    }
    if (rv != TSR_ENOENT) {
        return rv;
    }
    rv = kv_del(r->ix.kv, r->ix.txn, DB_RESERVATION, kv_val_of(key, RESERVATION_KEY));
    return rv == TSR_ENOENT ? 0 : rv;
}

static int count_reservations(struct rebuild *r)
{
    struct buf keys;
    buf_init(&keys);
    int rv = index_walk(&r->ix, DB_RESERVATION, gather_reservation, &keys);
    for (size_t at = 0; rv == 0 && at < keys.size; at += RESERVATION_KEY) {
        rv = count_reservation(r, (const uint8_t *)keys.data + at);
    }
    buf_free(&keys);
    return rv;
}

static int make_rows(struct rebuild *r)
{
    static const enum index_db anew[4] = {DB_CHUNK, DB_LOOSE, DB_LOST, DB_MANIFEST};
    int rv = index_walk(&r->ix, DB_MANIFEST, note_dropping, r);
    for (unsigned i = 0; rv == 0 && i < 4; i++) {
        rv = kv_drop(r->ix.kv, r->ix.txn, anew[i]);
    }
    if (rv == 0) {
        rv = r->c->store->ops->each(r->c->store, add_file, r);
    }
    for (size_t i = 0; rv == 0 && i < r->manifests.count; i++) {
        rv = add_manifest(r, &r->manifests.items[i]);
    }
    return rv == 0 ? count_reservations(r) : rv;
}

static int rebuild(struct chunks *c)
{
    struct rebuild r = {.c = c};
    struct kv_txn *txn;
    int rv = kv_begin(c->index, true, &txn);
    if (rv != 0) {
        return rv;
    }
    r.ix = index_of(c, txn);
    map_init(&r.dropping);
    rv = make_rows(&r);
    if (rv == 0) {
        rv = kv_commit(c->index, txn);
    } else {
        kv_abort(c->index, txn);
    }
    if (rv == 0) {
        log_info("chunk", "index rebuilt from files chunks=%llu manifests=%zu lost=%llu",
                 (unsigned long long)r.chunk_count, r.manifests.count,
                 (unsigned long long)r.lost_count);
    }
    free(r.manifests.items);
    free(r.lost.items);
    map_free(&r.dropping);
    return rv;
}

int chunks_rebuild(struct chunks *c, struct err *err)
{
    struct kv_txn *txn;
    int rv = kv_begin(c->index, false, &txn);
    if (rv != 0) {
        return rv;
    }
    struct index ix = index_of(c, txn);
    rv = check_store(c, &ix, err);
    int same = rv == 0 ? agrees(c, &ix) : 0;
    kv_abort(c->index, txn);
    if (rv != 0 || same < 0) {
        return rv != 0 ? rv : same;
    }
    return same ? 0 : rebuild(c);
}
