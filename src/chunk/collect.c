/* Collection: what nothing refers to and no session reserves goes, a slice at a time.
 *
 * Slice: pick up to 64 loose rows and mark them `deleting` (one transaction) -> unlink -> remove
 * the rows and let those who waited go on. Sessions that were not used for reservation_ms end
 * first. Runs from a timer of the service's loop, after drops, and on request. Close: a slice under
 * way stops at its next step; the index is then not closed in order, and the next open finds out
 * from the files how far it came. */
#include "chunk/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/log.h"

enum { SLICE = 64, EXPIRE_MAX = 64 };

struct collect {
    struct chunk_req req;         /* our own walk between the threads */
    struct chunk_req *for_caller; /* NULL: the timer's */
    struct chunk_id ids[SLICE];
    int results[SLICE];
    size_t count, removed;
    bool expired;
};

static struct collect *collect_of(struct chunk_req *req)
{
    return container_of(req, struct collect, req);
}

/* No message is under way for so long. */
static void forget_ended(struct chunks *c, uint64_t now)
{
    size_t at = 0, size;
    const void *key;
    void *value;
    while (map_next(&c->ended, &at, &key, &size, &value)) {
        if (now - (uint64_t)(uintptr_t)value >= ENDED_MS) {
            uint8_t session[SESSION_ID_SIZE];
            memcpy(session, key, SESSION_ID_SIZE);
            map_del(&c->ended, session, size);
        }
    }
}

static int expire_sessions(struct chunks *c, struct index *ix)
{
    uint64_t now = loop_now_ms(c->loop) + 1;
    forget_ended(c, now);
    uint8_t old[EXPIRE_MAX][SESSION_ID_SIZE];
    unsigned n = 0;
    size_t at = 0, size;
    const void *key;
    void *value;
    while (n < EXPIRE_MAX && map_next(&c->sessions, &at, &key, &size, &value)) {
        if (now - (uint64_t)(uintptr_t)value >= c->options.reservation_ms) {
            memcpy(old[n++], key, SESSION_ID_SIZE);
        }
    }
    int rv = 0;
    for (unsigned i = 0; rv == 0 && i < n; i++) {
        rv = index_session_end(ix, old[i]);
        if (rv == 0) {
            map_del(&c->sessions, old[i], SESSION_ID_SIZE);
        }
    }
    return rv;
}

static int pick(void *arg, struct kv_val key, struct kv_val val)
{
    struct collect *run = arg;
    (void)val;
    if (key.size != 32) {
        return TSR_ECORRUPT;
    }
    memcpy(run->ids[run->count++].bytes, key.data, 32);
    return run->count == SLICE ? 1 : 0;
}

/* From now on they are not being deleted, whatever the rows say. Index thread. */
static void unmark(struct collect *run)
{
    for (size_t i = 0; i < run->count; i++) {
        map_del(&run->req.chunks->deleting, run->ids[i].bytes, 32);
    }
}

static int mark_step(struct chunk_req *req, void *txn)
{
    struct collect *run = collect_of(req);
    struct index ix = index_of(req->chunks, txn);
    int rv = run->expired ? 0 : expire_sessions(req->chunks, &ix);
    run->count = 0;
    if (rv == 0) {
        rv = index_walk(&ix, DB_LOOSE, pick, run);
        rv = rv == 1 ? 0 : rv;
    }
    for (size_t i = 0; rv == 0 && i < run->count; i++) {
        struct chunk_row row;
        rv = index_chunk_get(&ix, &run->ids[i], &row);
        if (rv == 0) {
            row.state = ROW_DELETING;
            rv = index_chunk_put(&ix, &run->ids[i], &row);
        }
        if (rv == 0) {
            rv = map_put(&req->chunks->deleting, run->ids[i].bytes, 32, run);
        }
    }
    if (rv != 0) {
        unmark(run);
    }
    return rv;
}

static void collect_end(struct collect *run, int status)
{
    struct chunks *c = run->req.chunks;
    if (run->for_caller != NULL) {
        run->for_caller->size_out = run->removed;
        req_finish(run->for_caller, status);
    }
    if (run->removed > 0) {
        log_info("chunk", "collected chunks=%zu", run->removed);
    }
    free(run);
    chunks_release_holder(c);
}

static void leave_half_way(struct collect *run)
{
    atomic_store(&run->req.chunks->untidy, true);
    collect_end(run, TSR_ECANCELED);
}

static int sweep_step(struct chunk_req *req, void *txn)
{
    struct collect *run = collect_of(req);
    struct index ix = index_of(req->chunks, txn);
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < run->count; i++) {
        struct chunk_row row;
        if (run->results[i] == 0) {
            rv = index_chunk_del(&ix, &run->ids[i]);
            continue;
        }
        rv = index_chunk_get(&ix, &run->ids[i], &row);
        if (rv == 0) { /* still there: try again another time */
            row.state = ROW_NORMAL;
            rv = index_chunk_put(&ix, &run->ids[i], &row);
        }
    }
    return rv;
}

static void mark_then(struct chunk_req *req);

static void sweep_then(struct chunk_req *req)
{
    struct collect *run = collect_of(req);
    struct chunks *c = req->chunks;
    size_t failed = 0;
    for (size_t i = 0; i < run->count; i++) {
        failed += run->results[i] != 0;
    }
    atomic_fetch_sub(&c->deleting_count, run->count);
    unmark(run);
    index_unpark(c);
    if (req->status != 0) {
        atomic_store(&c->untidy, true); /* rows without files: harmless, counted anew at open */
        collect_end(run, req->status);
        return;
    }
    run->removed += run->count - failed;
    run->expired = true;
    if (failed > 0 || run->count < SLICE || atomic_load(&c->closing)) {
        collect_end(run, 0);
        return;
    }
    index_step(req, mark_step, mark_then);
}

static void unlink_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    struct collect *run = collect_of(req);
    struct chunk_store *store = req->chunks->store;
    if (atomic_load(&req->chunks->closing)) {
        leave_half_way(run);
        return;
    }
    for (size_t i = 0; i < run->count; i++) {
        int rv = store->ops->remove(store, CHUNK_DATA, &run->ids[i]);
        run->results[i] = rv == TSR_ENOENT ? 0 : rv;
    }
    if (atomic_load(&req->chunks->closing)) {
        leave_half_way(run); /* the index pool may be gone soon */
        return;
    }
    index_step(req, sweep_step, sweep_then);
}

static void mark_then(struct chunk_req *req)
{
    struct collect *run = collect_of(req);
    if (req->status != 0 || run->count == 0) {
        unmark(run);
        index_unpark(req->chunks);
        collect_end(run, req->status);
        return;
    }
    atomic_fetch_add(&req->chunks->deleting_count, run->count);
    if (atomic_load(&req->chunks->closing)) {
        leave_half_way(run);
        return;
    }
    disk_step(req, unlink_run);
}

bool chunks_start_collect(struct chunks *c, struct chunk_req *req)
{
    struct collect *run = calloc(1, sizeof *run);
    if (run == NULL) {
        return false;
    }
    run->for_caller = req;
    run->req.chunks = c;
    atomic_fetch_add(&c->holders, 1);
    index_step(&run->req, mark_step, mark_then);
    return true;
}

void chunk_collect(struct chunks *c, struct chunk_req *req)
{
    if (!req_begin(c, req)) {
        return;
    }
    req->size_out = 0;
    if (!chunks_start_collect(c, req)) {
        req_finish(req, TSR_ENOMEM);
    }
}
