/* Manifests: seal, look, mark, drop. The order of steps and why no crash hurts stands in chunks.c.
 */
#include "chunk/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/log.h"

static void finish_then(struct chunk_req *req)
{
    req_finish(req, req->status);
}

/* --- seal ----------------------------------------------------------------------------------- */

static void seal_end(struct chunk_req *req, int status)
{
    manifest_free(&req->manifest);
    req_finish(req, status);
}

static bool is_dropping(struct chunks *c, const struct chunk_id *id)
{
    return map_get(&c->dropping, id->bytes, 32) != NULL;
}

static void seal_end_then(struct chunk_req *req)
{
    if (req->status == 0) {
        sealed_note(req->chunks, &req->id);
    }
    seal_end(req, req->status);
}

/* Takes the references, unless the manifest was sealed meanwhile. */
static int seal_commit_step(struct chunk_req *req, void *txn)
{
    struct chunks *c = req->chunks;
    struct index ix = index_of(c, txn);
    struct manifest_row row;
    const struct manifest *m = &req->manifest;
    int rv = index_manifest_get(&ix, &req->id, &row);
    if (rv == 0 && is_dropping(c, &req->id)) {
        return STEP_PARK;
    }
    if (session_ended(c, req->session)) { /* while it sealed */
        req->status = TSR_ECANCELED;
        return 0;
    }
    if (rv == 0 && row.state != ROW_NORMAL) { /* a drop that failed at its end: still counted */
        row.state = ROW_NORMAL;
        rv = index_manifest_put(&ix, &req->id, &row);
    }
    if (rv == TSR_ENOENT) {
        for (uint32_t i = 0; i < m->count; i++) {
            struct chunk_row chunk = {0};
            rv = chunk_id_is_zero(&m->chunks[i]) ? 0 : index_chunk_get(&ix, &m->chunks[i], &chunk);
            if (rv == TSR_ENOENT ||
                (rv == 0 && !chunk_id_is_zero(&m->chunks[i]) && chunk.state != ROW_NORMAL)) {
                req->status = TSR_EBUSY; /* the session was ended while it sealed */
                return 0;
            }
            if (rv != 0) {
                return rv;
            }
        }
        row = (struct manifest_row){.size = m->size, .count = m->count};
        rv = index_ref_all(&ix, m);
        rv = rv != 0 ? rv : index_manifest_put(&ix, &req->id, &row);
    }
    if (rv == 0) {
        rv = index_reserve_manifest(&ix, req->session, &req->id);
    }
    for (uint32_t i = 0; rv == 0 && i < m->count; i++) {
        rv = chunk_id_is_zero(&m->chunks[i])
                 ? 0
                 : index_unreserve_chunk(&ix, req->session, &m->chunks[i]);
    }
    c->sync_wanted = true;
    return rv;
}

/* Which chunks are not on disk? Fills missing. */
static int find_missing(struct chunk_req *req)
{
    struct chunk_store *store = req->chunks->store;
    const struct manifest *m = &req->manifest;
    for (uint32_t i = 0; i < m->count; i++) {
        if (chunk_id_is_zero(&m->chunks[i])) {
            continue;
        }
        int rv = store->ops->has(store, CHUNK_DATA, &m->chunks[i]);
        if (rv == 0) {
            continue;
        }
        if (rv != TSR_ENOENT) {
            return rv;
        }
        if (req->missing == NULL) {
            req->missing = malloc((size_t)(m->count - i) * sizeof *req->missing);
            if (req->missing == NULL) {
                return TSR_ENOMEM;
            }
        }
        req->missing[req->missing_count++] = m->chunks[i];
    }
    return req->missing_count > 0 ? TSR_ENOENT : 0;
}

static int make_durable(struct chunk_req *req)
{
    struct chunk_store *store = req->chunks->store;
    int rv = store->ops->sync(store, CHUNK_DATA, req->manifest.chunks, req->manifest.count);
    if (rv == 0) {
        rv = store->ops->put(store, CHUNK_MANIFEST, &req->id, req->data, req->size);
    }
    return rv == 0 ? store->ops->sync(store, CHUNK_MANIFEST, &req->id, 1) : rv;
}

static void seal_disk_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    int rv = find_missing(req);
    if (rv == 0) {
        rv = make_durable(req);
    } else if (rv != TSR_ENOENT) {
        free(req->missing);
        req->missing = NULL;
        req->missing_count = 0;
    }
    if (rv != 0) {
        seal_end(req, rv);
        return;
    }
    index_step(req, seal_commit_step, seal_end_then);
}

static int seal_reserve_step(struct chunk_req *req, void *txn)
{
    struct chunks *c = req->chunks;
    struct index ix = index_of(c, txn);
    struct manifest_row row;
    int rv = index_manifest_get(&ix, &req->id, &row);
    if (rv == 0 && is_dropping(c, &req->id)) {
        return STEP_PARK; /* being dropped: seal it anew afterwards */
    }
    bool known = rv == 0;
    if (rv == 0 || rv == TSR_ENOENT) {
        rv = session_touch(c, req->session);
    }
    if (rv == 0) {
        map_del(&c->marks, req->id.bytes, 32);
    }
    if (rv == 0 && known) { /* what stays is kept; its chunks are still looked at below */
        rv = index_reserve_manifest(&ix, req->session, &req->id);
    }
    for (uint32_t i = 0; rv == 0 && i < req->manifest.count; i++) {
        bool deleting = false;
        if (!chunk_id_is_zero(&req->manifest.chunks[i])) {
            rv = index_reserve_chunk(&ix, req->session, &req->manifest.chunks[i], &deleting);
        }
        if (deleting) {
            return STEP_PARK;
        }
    }
    return rv;
}

static void seal_reserve_then(struct chunk_req *req)
{
    if (req->status != 0) {
        seal_end(req, req->status);
        return;
    }
    disk_step(req, seal_disk_run);
}

static void seal_check_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    struct chunk_id is;
    digest_of(DIGEST_SHA256, req->data, req->size, is.bytes);
    int rv = chunk_id_equal(&is, &req->id) ? 0 : TSR_ECORRUPT;
    if (rv == 0) {
        rv = manifest_decode(req->data, req->size, &req->manifest);
    }
    if (rv == 0 && req->manifest.chunk_bytes != req->chunks->options.chunk_bytes) {
        rv = TSR_EINVAL;
    }
    if (rv != 0) {
        seal_end(req, rv);
        return;
    }
    index_step(req, seal_reserve_step, seal_reserve_then);
}

void chunk_seal(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        req->manifest = (struct manifest){0};
        disk_step(req, seal_check_run);
    }
}

/* --- look ----------------------------------------------------------------------------------- */

static int manifest_has(struct chunks *c, const struct chunk_id *id)
{
    struct kv_txn *txn;
    struct manifest_row row;
    int rv = kv_begin(c->index, false, &txn);
    if (rv != 0) {
        return rv;
    }
    struct index ix = index_of(c, txn);
    rv = index_manifest_get(&ix, id, &row);
    kv_abort(c->index, txn);
    if (rv == 0 && row.state != ROW_NORMAL) {
        rv = TSR_ENOENT;
    }
    return rv == 0 ? c->store->ops->has(c->store, CHUNK_MANIFEST, id) : rv;
}

static void has_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    req_finish(req, manifest_has(req->chunks, &req->id));
}

bool chunk_manifest_here(struct chunks *c, const struct chunk_id *id)
{
    struct kv_txn *txn;
    struct manifest_row row;
    if (kv_begin(c->index, false, &txn) != 0) {
        return false;
    }
    struct index ix = index_of(c, txn);
    int rv = index_manifest_get(&ix, id, &row);
    kv_abort(c->index, txn);
    return rv == 0 && row.state == ROW_NORMAL;
}

void chunk_manifest_has(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        disk_step(req, has_run);
    }
}

struct id_list {
    struct chunk_id *ids;
    size_t count, capacity;
    bool manifests;
};

static int add_id(void *arg, struct kv_val key, struct kv_val val)
{
    struct id_list *list = arg;
    if (key.size != 32 || (list->manifests && val.size != sizeof(struct manifest_row))) {
        return TSR_ECORRUPT;
    }
    if (list->manifests) {
        struct manifest_row row;
        memcpy(&row, val.data, sizeof row);
        if (row.state != ROW_NORMAL) {
            return 0;
        }
    }
    if (list->count == list->capacity) {
        size_t more = list->capacity == 0 ? 64 : list->capacity * 2;
        struct chunk_id *ids = realloc(list->ids, more * sizeof *ids);
        if (ids == NULL) {
            return TSR_ENOMEM;
        }
        list->ids = ids;
        list->capacity = more;
    }
    memcpy(list->ids[list->count++].bytes, key.data, 32);
    return 0;
}

static int list_ids(struct chunk_req *req, enum index_db db)
{
    struct chunks *c = req->chunks;
    struct kv_txn *txn;
    struct id_list list = {.manifests = db == DB_MANIFEST};
    int rv = kv_begin(c->index, false, &txn);
    if (rv != 0) {
        return rv;
    }
    struct index ix = index_of(c, txn);
    rv = index_walk(&ix, db, add_id, &list);
    kv_abort(c->index, txn);
    if (rv != 0) {
        free(list.ids);
        return rv;
    }
    req->missing = list.ids;
    req->missing_count = list.count;
    return 0;
}

/* Those whose file was lost or moved aside are no replicas. */
static int keep_those_on_disk(struct chunk_req *req)
{
    struct chunk_store *store = req->chunks->store;
    size_t kept = 0;
    for (size_t i = 0; i < req->missing_count; i++) {
        int rv = store->ops->has(store, CHUNK_MANIFEST, &req->missing[i]);
        if (rv == 0) {
            req->missing[kept++] = req->missing[i];
        } else if (rv != TSR_ENOENT) {
            free(req->missing);
            req->missing = NULL;
            req->missing_count = 0;
            return rv;
        }
    }
    req->missing_count = kept;
    return 0;
}

static void list_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    int rv = list_ids(req, DB_MANIFEST);
    req_finish(req, rv == 0 ? keep_those_on_disk(req) : rv);
}

void chunk_manifest_list(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        disk_step(req, list_run);
    }
}

static void lost_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    req_finish(req, list_ids(req, DB_LOST));
}

void chunk_lost_list(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        disk_step(req, lost_run);
    }
}

/* --- mark and drop -------------------------------------------------------------------------- */

static int mark_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    struct manifest_row row;
    int rv = index_manifest_get(&ix, &req->id, &row);
    if (rv == TSR_ENOENT || (rv == 0 && row.state != ROW_NORMAL)) {
        req->status = TSR_ENOENT;
        return 0;
    }
    if (rv == 0 && row.reserved > 0) {
        req->status = TSR_EBUSY;
        return 0;
    }
    return rv != 0 ? rv : map_put(&req->chunks->marks, req->id.bytes, 32, req->chunks);
}

void chunk_manifest_mark(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        index_step(req, mark_step, finish_then);
    }
}

static int drop_mark_step(struct chunk_req *req, void *txn)
{
    struct chunks *c = req->chunks;
    struct index ix = index_of(c, txn);
    struct manifest_row row;
    int rv = index_manifest_get(&ix, &req->id, &row);
    if (rv == TSR_ENOENT || (rv == 0 && row.state != ROW_NORMAL)) {
        req->status = TSR_ENOENT;
        return 0;
    }
    if (rv == 0 &&
        (row.reserved > 0 || (req->verify && map_get(&c->marks, req->id.bytes, 32) == NULL))) {
        req->status = TSR_EBUSY;
        return 0;
    }
    if (rv == 0) {
        row.state = ROW_DELETING;
        rv = index_manifest_put(&ix, &req->id, &row);
    }
    rv = rv == 0 ? map_put(&c->dropping, req->id.bytes, 32, c) : rv;
    req->extra = rv == 0 ? c : NULL;
    return rv;
}

static int drop_commit_step(struct chunk_req *req, void *txn)
{
    struct chunks *c = req->chunks;
    struct index ix = index_of(c, txn);
    int rv = index_unref_all(&ix, &req->manifest);
    if (rv == 0) {
        rv = index_manifest_del(&ix, &req->id);
    }
    map_del(&c->marks, req->id.bytes, 32);
    return rv;
}

static void drop_over(struct chunk_req *req)
{
    map_del(&req->chunks->dropping, req->id.bytes, 32);
    index_unpark(req->chunks);
}

static void drop_end_then(struct chunk_req *req)
{
    if (req->status != 0) {
        atomic_store(&req->chunks->untidy, true);
    }
    manifest_free(&req->manifest);
    drop_over(req);
    req_finish(req, req->status);
}

/* Not dropped after all (the disk refused): the replica is as it was. */
static int drop_undo_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    struct manifest_row row;
    int rv = index_manifest_get(&ix, &req->id, &row);
    if (rv == 0) {
        row.state = ROW_NORMAL;
        rv = index_manifest_put(&ix, &req->id, &row);
    }
    return rv;
}

static void drop_undo_then(struct chunk_req *req)
{
    int why = (int)(intptr_t)req->extra;
    if (req->status != 0) {
        atomic_store(&req->chunks->untidy, true);
    }
    drop_over(req);
    req_finish(req, why);
}

/* A manifest that cannot be read any more (ENOENT, ECORRUPT) tells no references: they stay until
 * the rebuild at the next start counts them anew from the manifests that are left. */
static void drop_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    struct chunk_store *store = req->chunks->store;
    int rv = manifest_load(req->chunks, &req->id, &req->manifest);
    if (rv == TSR_ENOENT || rv == TSR_ECORRUPT) {
        log_warn("chunk", "dropping an unreadable manifest: its chunks stay until the next start");
        atomic_store(&req->chunks->untidy, true);
        rv = 0;
    }
    if (rv == 0) {
        rv = store->ops->remove(store, CHUNK_MANIFEST, &req->id);
        rv = rv == TSR_ENOENT ? 0 : rv;
    }
    if (rv == 0) {
        rv = store->ops->sync(store, CHUNK_MANIFEST, &req->id, 1);
        if (rv != 0) { /* the file may come back or not: the next start decides */
            atomic_store(&req->chunks->untidy, true);
            manifest_free(&req->manifest);
            rv = 0;
        }
    }
    if (rv != 0) {
        manifest_free(&req->manifest);
        req->extra = (void *)(intptr_t)rv;
        index_step(req, drop_undo_step, drop_undo_then);
        return;
    }
    index_step(req, drop_commit_step, drop_end_then);
}

static void drop_then(struct chunk_req *req)
{
    if (req->status != 0) {
        if (req->extra != NULL) { /* marked, but the commit failed */
            drop_over(req);
        }
        req_finish(req, req->status);
        return;
    }
    disk_step(req, drop_run);
}

void chunk_manifest_drop(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        req->manifest = (struct manifest){0};
        index_step(req, drop_mark_step, drop_then);
    }
}
