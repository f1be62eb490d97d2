/* The chunk service: life, the queue of the index thread, put, have, sessions. See chunks.h for how
 * requests move; read.c, seal.c, collect.c and rebuild.c hold the rest.
 *
 * Order of things, and why no crash loses a byte that somebody counts on:
 *  put      reservation and row (index, committed) -> file synced and renamed. A crash between
 * leaves a row without a file, which collection removes. A file always has a row, so "no row" means
 *           "no file"; only a power cut that loses the newest index transactions breaks that, and
 * then the index is rebuilt from the files at the next start (it was not closed in order). seal
 * chunks reserved (index) -> all files there, directories synced -> manifest file synced ->
 *           references taken and the index made durable -> answer. A crash before the last step
 * leaves a manifest that nobody was told of: the rebuild adopts it, the replicator drops it if no
 * image has it. The session keeps a reservation on the manifest until it ends, so the replicator
 *           cannot drop it before the activation was decided.
 *  drop     row marked (index) -> manifest file unlinked, directory synced -> references given
 * back. A crash after the mark: the rebuild finds file and mark and drops again. Chunks become
 * loose only when the manifest is surely gone: a manifest on disk never lacks collected chunks.
 *  collect  row marked `deleting` (index) -> unlink -> row removed. A put or seal that meets the
 * mark waits for the end; "have" says no. A crash between: the rebuild finds the file (a loose row
 * again) or does not (no row).
 *
 * Close: a flag in the index says that rows and files agree, and the next open skips the rebuild.
 */
#include "chunk/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/metric.h"

enum {
    COLLECT_EVERY_MS = 30 * 1000,
    SPACE_EVERY_MS = 1000,
    BATCH_MAX = 512,
    VERIFIED_ENTRIES = 1024 * 1024, /* 8 MiB; 4 TiB of chunks */
    WARM_ENTRIES = 16 * 1024,
};

/* --- the queue ------------------------------------------------------------------------------ */

void index_step(struct chunk_req *req, int (*step)(struct chunk_req *, void *),
                void (*then)(struct chunk_req *))
{
    struct chunks *c = req->chunks;
    req->step = step;
    req->then = then;
    req->status = 0;
    req->next = atomic_load(&c->queue);
    while (!atomic_compare_exchange_weak(&c->queue, &req->next, req)) {
    }
    if (!atomic_exchange(&c->drain_queued, true)) {
        /* Two works take turns: the one before may still be in its run, past the reset. */
        pool_submit(c->options.index_pool, &c->drain[c->drain_turn++ % 2].work);
    }
}

static void disk_run_begin(struct work *work, void (*run)(struct work *))
{
    work->loop = NULL; /* the run itself passes the request on, as its last act */
    work->run = run;
    work->done = NULL;
}

void disk_step(struct chunk_req *req, void (*run)(struct work *))
{
    disk_run_begin(&req->work, run);
    pool_submit(req->chunks->options.disk_pool, &req->work);
}

static void finish_task(struct task *task)
{
    struct work *work = container_of(task, struct work, task);
    struct chunk_req *req = req_of(work);
    req->cb(req, req->status);
}

void req_finish(struct chunk_req *req, int status)
{
    req->status = status;
    req->work.task.run = finish_task;
    loop_post(req->loop, &req->work.task);
}

bool req_begin(struct chunks *c, struct chunk_req *req)
{
    req->chunks = c;
    req->extra = NULL;
    req->missing = NULL;
    req->missing_count = 0;
    if (atomic_load(&c->closing)) {
        req_finish(req, TSR_ECANCELED);
        return false;
    }
    return true;
}

/* Oldest first. */
static struct chunk_req *take_queue(struct chunks *c)
{
    struct chunk_req *newest = atomic_exchange(&c->queue, NULL), *list = NULL;
    while (newest != NULL) {
        struct chunk_req *next = newest->next;
        newest->next = list;
        list = newest;
        newest = next;
    }
    return list;
}

static int count_rows(struct chunks *c, struct kv_txn *txn, enum index_db db, atomic_ullong *out)
{
    uint64_t n;
    int rv = kv_count(c->index, txn, db, &n);
    if (rv == 0) {
        atomic_store(out, n);
    }
    return rv;
}

static void count_all(struct chunks *c, struct kv_txn *txn)
{
    (void)count_rows(c, txn, DB_CHUNK, &c->chunk_count);
    (void)count_rows(c, txn, DB_MANIFEST, &c->manifest_count);
    (void)count_rows(c, txn, DB_RESERVATION, &c->reserved_count);
    (void)count_rows(c, txn, DB_LOST, &c->lost_count);
}

/* One transaction for the first @n of @list. Fills parked flags by way of status STEP_PARK. */
static int run_batch(struct chunks *c, struct chunk_req *list, unsigned n)
{
    struct kv_txn *txn;
    int rv = kv_begin(c->index, true, &txn);
    if (rv != 0) {
        return rv;
    }
    c->sync_wanted = false;
    for (struct chunk_req *req = list; n > 0; req = req->next, n--) {
        req->status = 0;
        rv = req->step(req, txn);
        if (rv == STEP_PARK) {
            req->status = STEP_PARK;
        } else if (rv != 0) {
            kv_abort(c->index, txn);
            return rv;
        }
    }
    count_all(c, txn);
    rv = kv_commit(c->index, txn);
    if (rv == 0 && c->sync_wanted) {
        rv = kv_sync(c->index);
    }
    return rv;
}

/* The commit is done (or failed for all): each goes on. */
static struct chunk_req *pass_on(struct chunks *c, struct chunk_req *list, unsigned n, int rv)
{
    while (n-- > 0) {
        struct chunk_req *req = list;
        list = req->next;
        if (rv != 0) {
            req->status = rv;
        }
        if (req->status == STEP_PARK) {
            req->next = c->parked;
            c->parked = req;
        } else {
            req->then(req);
        }
    }
    return list;
}

static void drain_run(struct work *work)
{
    struct chunks *c = container_of(work, struct drain, work)->chunks;
    atomic_store(&c->drain_queued, false);
    /* The service may be torn down by the last `then`: what follows must not touch it. */
    struct chunk_req *list = take_queue(c);
    while (list != NULL) {
        unsigned n = 0;
        for (struct chunk_req *r = list; r != NULL && n < BATCH_MAX; r = r->next) {
            n++;
        }
        int rv = run_batch(c, list, n);
        if (rv != 0 && n > 1) {
            n = 1; /* find the one that fails; the others are not its victims */
            rv = run_batch(c, list, n);
        }
        list = pass_on(c, list, n, rv);
    }
}

void index_unpark(struct chunks *c)
{
    struct chunk_req *list = c->parked;
    c->parked = NULL;
    while (list != NULL) {
        struct chunk_req *next = list->next;
        index_step(list, list->step, list->then);
        list = next;
    }
}

/* --- sessions ------------------------------------------------------------------------------- */

/* A put that its session has given up may still be on its way, or wait here for a thread: what it
 * would reserve after the end nobody would let go. */
bool session_ended(const struct chunks *c, const uint8_t *session)
{
    return map_get(&c->ended, session, SESSION_ID_SIZE) != NULL;
}

int session_touch(struct chunks *c, const uint8_t *session)
{
    if (session_ended(c, session)) {
        return TSR_ECANCELED;
    }
    return map_put(&c->sessions, session, SESSION_ID_SIZE,
                   (void *)(uintptr_t)(loop_now_ms(c->loop) + 1));
}

static int session_over(struct chunks *c, const uint8_t *session)
{
    map_del(&c->sessions, session, SESSION_ID_SIZE);
    atomic_fetch_add(&c->ends, 1);
    if (c->ended.count >= ENDED_MAX) { /* more than ends in ENDED_MS: begin anew */
        map_free(&c->ended);
        map_init(&c->ended);
    }
    return map_put(&c->ended, session, SESSION_ID_SIZE,
                   (void *)(uintptr_t)(loop_now_ms(c->loop) + 1));
}

static int session_end_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    int rv = index_session_end(&ix, req->session);
    return rv == 0 ? session_over(req->chunks, req->session) : rv;
}

static void finish_then(struct chunk_req *req)
{
    req_finish(req, req->status);
}

void chunk_session_end(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        index_step(req, session_end_step, finish_then);
    }
}

enum { IDLE_MAX = 256 };

static int idle_step(struct chunk_req *req, void *txn)
{
    uint64_t now = loop_now_ms(req->chunks->loop) + 1;
    size_t at = 0, size;
    const void *key;
    void *value;
    (void)txn;
    req->session_count = 0;
    while (req->session_count < IDLE_MAX &&
           map_next(&req->chunks->sessions, &at, &key, &size, &value)) {
        if (now - (uint64_t)(uintptr_t)value >= req->size) {
            memcpy(req->sessions[req->session_count++], key, SESSION_ID_SIZE);
        }
    }
    return 0;
}

void chunk_sessions_idle(struct chunks *c, struct chunk_req *req)
{
    req->session_count = 0;
    req->sessions = NULL;
    if (!req_begin(c, req)) {
        return;
    }
    req->sessions = malloc(IDLE_MAX * sizeof(*req->sessions));
    if (req->sessions == NULL) {
        req_finish(req, TSR_ENOMEM);
        return;
    }
    index_step(req, idle_step, finish_then);
}

/* --- put ------------------------------------------------------------------------------------ */

static int put_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    struct chunk_row row;
    bool deleting;
    int rv = session_touch(req->chunks, req->session);
    if (rv == 0) {
        rv = index_reserve_chunk(&ix, req->session, &req->id, &deleting);
    }
    if (rv == 0 && deleting) {
        return STEP_PARK;
    }
    if (rv == 0) {
        rv = index_chunk_get(&ix, &req->id, &row);
    }
    if (rv == 0) {
        req->extra = row.lost ? req : NULL; /* to be told that it is found */
        req->ends_seen = atomic_load(&req->chunks->ends);
    }
    return rv;
}

/* Behind a put: a lost chunk is found; and the row of a chunk whose session ended while it was
 * written may have been collected before the file was there: it is made again, for nobody, so that
 * the file is collected too. */
static int behind_put_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    bool deleting = false;
    int rv = req->extra != NULL ? index_chunk_lost(&ix, &req->id, false) : 0;
    if (rv != 0 || !session_ended(req->chunks, req->session)) {
        return rv;
    }
    rv = index_reserve_chunk(&ix, req->session, &req->id, &deleting);
    if (rv == 0 && deleting) {
        return STEP_PARK;
    }
    return rv == 0 ? index_session_end(&ix, req->session) : rv;
}

/* Is there room for @size more? The answer of the file system is asked for once a second. */
static int check_space(struct chunks *c, size_t size)
{
    uint64_t now = loop_now_ms(c->loop) + 1;
    unsigned long long at = atomic_load(&c->space_at_ms);
    if ((at == 0 || now - at >= SPACE_EVERY_MS) &&
        atomic_compare_exchange_strong(&c->space_at_ms, &at, now)) {
        struct chunk_store_stats st;
        int rv = c->store->ops->stats(c->store, &st);
        if (rv != 0) {
            atomic_store(&c->space_at_ms, 0);
            return rv;
        }
        atomic_store(&c->total, st.total_bytes);
        atomic_store(&c->available, st.available_bytes);
    }
    long long left = atomic_fetch_sub(&c->available, (long long)size) - (long long)size;
    if (left < c->options.reserve_bytes) {
        atomic_fetch_add(&c->available, (long long)size);
        return TSR_ENOSPC;
    }
    return 0;
}

static void put_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    struct chunks *c = req->chunks;
    const struct chunk_store_ops *ops = c->store->ops;
    int rv = ops->has(c->store, CHUNK_DATA, &req->id);
    req->existed = rv == 0;
    if (rv == TSR_ENOENT) {
        rv = check_space(c, req->size);
        if (rv == 0) {
            rv = ops->put(c->store, CHUNK_DATA, &req->id, req->data, req->size);
        }
        struct chunk_place place;
        if (rv == 0 && ops->open(c->store, CHUNK_DATA, &req->id, &place) == 0) {
            metric_add(METRIC_chunks_written_total, 1);
            verified_note(c, &req->id, &place);
            ops->close(c->store, &place);
        }
    }
    if (rv == 0 && (req->extra != NULL || atomic_load(&c->ends) != req->ends_seen)) {
        index_step(req, behind_put_step, finish_then);
        return;
    }
    req_finish(req, rv);
}

static void put_then(struct chunk_req *req)
{
    if (req->status != 0) {
        req_finish(req, req->status);
        return;
    }
    disk_step(req, put_run);
}

void chunk_put(struct chunks *c, struct chunk_req *req)
{
    if (!req_begin(c, req)) {
        return;
    }
    req->existed = false;
    if (req->size == 0 || req->size > c->options.chunk_bytes || chunk_id_is_zero(&req->id)) {
        req_finish(req, TSR_EINVAL);
        return;
    }
    index_step(req, put_step, put_then);
}

/* --- have ----------------------------------------------------------------------------------- */

/* Chunks with a row get a reservation; `present` holds "has a row" until the disk has been asked.
 */
static int have_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    int rv = session_touch(req->chunks, req->session);
    for (size_t i = 0; rv == 0 && i < req->id_count; i++) {
        struct chunk_row row;
        bool deleting = false;
        rv = index_chunk_get(&ix, &req->ids[i], &row);
        if (rv == 0) {
            rv = index_reserve_chunk(&ix, req->session, &req->ids[i], &deleting);
            req->present[i] = !deleting;
        } else if (rv == TSR_ENOENT) {
            rv = 0;
            req->present[i] = 0;
        }
    }
    return rv;
}

static void have_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    struct chunk_store *store = req->chunks->store;
    int status = 0;
    for (size_t i = 0; status == 0 && i < req->id_count; i++) {
        if (req->present[i]) {
            int rv = store->ops->has(store, CHUNK_DATA, &req->ids[i]);
            req->present[i] = rv == 0;
            status = rv == TSR_ENOENT ? 0 : rv;
        }
    }
    req_finish(req, status);
}

static void have_then(struct chunk_req *req)
{
    if (req->status != 0) {
        req_finish(req, req->status);
        return;
    }
    disk_step(req, have_run);
}

void chunk_have(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        index_step(req, have_step, have_then);
    }
}

/* --- stats ---------------------------------------------------------------------------------- */

uint32_t chunks_chunk_bytes(const struct chunks *c)
{
    return c->options.chunk_bytes;
}

void chunks_stats(struct chunks *c, struct chunks_stats *out)
{
    *out = (struct chunks_stats){
        .total_bytes = atomic_load(&c->total),
        .available_bytes = atomic_load(&c->available),
        .chunk_count = atomic_load(&c->chunk_count),
        .manifest_count = atomic_load(&c->manifest_count),
        .bad_count = atomic_load(&c->bad_count),
        .deleting_count = atomic_load(&c->deleting_count),
        .reserved_count = atomic_load(&c->reserved_count),
        .lost_count = atomic_load(&c->lost_count),
    };
}

int64_t chunks_room(struct chunks *c)
{
    int64_t available = atomic_load(&c->available), reserve = c->options.reserve_bytes;
    if (available < 0 || atomic_load(&c->space_at_ms) == 0) {
        return INT64_MAX;
    }
    return available > reserve ? available - reserve : 0;
}

/* --- life ----------------------------------------------------------------------------------- */

static int set_clean(struct chunks *c, uint8_t clean)
{
    struct kv_txn *txn;
    int rv = kv_begin(c->index, true, &txn);
    if (rv != 0) {
        return rv;
    }
    struct index ix = index_of(c, txn);
    rv = index_flag_put(&ix, "clean", &clean, sizeof clean);
    if (rv == 0) {
        rv = index_flag_put(&ix, "store", c->store->uuid, sizeof c->store->uuid);
    }
    if (rv != 0) {
        kv_abort(c->index, txn);
        return rv;
    }
    rv = kv_commit(c->index, txn);
    return rv != 0 ? rv : kv_sync(c->index);
}

static void free_service(struct chunks *c)
{
    map_free(&c->sessions);
    map_free(&c->ended);
    map_free(&c->marks);
    map_free(&c->deleting);
    map_free(&c->dropping);
    struct chunk_id *sealed;
    size_t sealed_count;
    (void)chunks_sealed_take(c, &sealed, &sealed_count);
    free(sealed);
    pins_free(c);
    stamps_free(&c->verified);
    stamps_free(&c->warm);
    free(c);
}

static void tear_down(struct chunks *c)
{
    int rv = atomic_load(&c->untidy) ? 0 : set_clean(c, 1);
    if (rv != 0) {
        log_warn("chunk", "index not closed in order error=%s", err_name(rv));
    }
    kv_close(c->index);
    c->store->ops->free(c->store);
    free_service(c);
}

void chunks_release_holder(struct chunks *c)
{
    if (atomic_fetch_sub(&c->holders, 1) == 1) {
        tear_down(c);
    }
}

static void space_run(struct work *work)
{
    struct chunks *c = container_of(work, struct chunks, space_work);
    (void)check_space(c, 0);
    atomic_store(&c->space_busy, false);
    chunks_release_holder(c);
}

/* Puts ask for the room themselves. A host that was full gets none until it says that it has room
 * again: so it must also be asked for without them. */
static void look_at_space(struct chunks *c)
{
    if (!atomic_exchange(&c->space_busy, true)) {
        atomic_fetch_add(&c->holders, 1);
        c->space_work = (struct work){.run = space_run};
        pool_submit(c->options.disk_pool, &c->space_work);
    }
}

static void collect_timer(struct timer *timer)
{
    struct chunks *c = container_of(timer, struct chunks, timer);
    timer_start(&c->timer, COLLECT_EVERY_MS);
    if (atomic_load(&c->holders) == 1) {
        chunks_start_collect(c, NULL);
    }
    look_at_space(c);
}

static int session_seen(void *arg, struct kv_val key, struct kv_val val)
{
    (void)val;
    return key.size == RESERVATION_KEY ? session_touch(arg, key.data) : TSR_ECORRUPT;
}

/* Sessions of before the restart count from now on. */
static int load_index(struct chunks *c)
{
    struct kv_txn *txn;
    int rv = kv_begin(c->index, false, &txn);
    if (rv == 0) {
        struct index ix = index_of(c, txn);
        rv = index_walk(&ix, DB_RESERVATION, session_seen, c);
        count_all(c, txn);
        kv_abort(c->index, txn);
    }
    return rv;
}

static int open_index(struct chunks *c, struct err *err)
{
    int rv = chunks_rebuild(c, err);
    if (rv == 0) {
        rv = load_index(c);
    }
    if (rv == 0) {
        rv = set_clean(c, 0);
    }
    if (rv != 0 && (err == NULL || err->code != rv)) {
        err_set(err, rv, "chunk index cannot be opened: %s", err_text(rv));
    }
    return rv;
}

int chunks_open(const struct chunks_options *options, struct chunks **out, struct err *err)
{
    if (options->chunk_bytes < CHUNK_BYTES_MIN || options->chunk_bytes > CHUNK_BYTES_MAX) {
        return err_set(err, TSR_EINVAL, "chunk size out of bounds");
    }
    struct chunks *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    c->options = *options;
    c->store = options->store;
    c->index = options->index;
    c->loop = options->loop;
    map_init(&c->sessions);
    map_init(&c->ended);
    map_init(&c->marks);
    map_init(&c->deleting);
    map_init(&c->dropping);
    atomic_init(&c->holders, 1);
    atomic_init(&c->space_busy, false);
    for (unsigned i = 0; i < 2; i++) {
        c->drain[i] = (struct drain){.work = {.run = drain_run}, .chunks = c};
    }
    timer_init(&c->timer, c->loop, collect_timer);
    uint64_t key = loop_random_u64(c->loop);
    int rv = stamps_init(&c->verified, VERIFIED_ENTRIES, key);
    if (rv == 0) {
        rv = stamps_init(&c->warm, WARM_ENTRIES, key);
    }
    if (rv == 0) {
        rv = open_index(c, err);
    } else {
        err_set(err, rv, "out of memory");
    }
    if (rv != 0) {
        free_service(c); /* store and index stay the caller's */
        return rv;
    }
    (void)check_space(c, 0);
    timer_start(&c->timer, COLLECT_EVERY_MS);
    *out = c;
    return 0;
}

void chunks_close(struct chunks *c)
{
    if (c == NULL) {
        return;
    }
    atomic_store(&c->closing, true);
    timer_stop(&c->timer);
    chunks_release_holder(c);
}
