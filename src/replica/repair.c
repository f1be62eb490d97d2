/* One repair, in steps: is it here? -> (report it missing) -> manifest -> which chunks are here? ->
 * fetch the others, a few at a time -> seal -> report it present -> end the session.
 *
 * The session reserves what is here and what is put, and after the seal the manifest, until the
 * report is in the log: so neither collection nor the replicator's own drop can take it away
 * meanwhile. A replica that is recorded and here is only looked at for lost chunks. Failures: any
 * step that fails ends the repair with its code; the replicator tries again later and finds what
 * was fetched so far, as long as the chunks are not collected. Nothing is fetched when there is no
 * room for all of it: it would fill the disk, be collected, and come again. Cancel: the step under
 * way ends, nothing new is begun. */
#include "replica/repair.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/map.h"

enum { LANES = 4, HAVE_SLICE = 1024, SEAL_ROUNDS = 3 };

struct lane {
    struct repair *r;
    struct chunk_req put;
    struct bufpool_waiter waiter;
    struct timer timer; /* the bandwidth limit */
    struct fetch *fetch;
    void *buffer;
    uint32_t n;
    bool waiting, busy;
};

struct repair {
    struct repair_options o;
    struct source_set sources;
    uint8_t session[SESSION_ID_SIZE];
    bool session_used, canceled, here;
    int status;

    struct manifest_fetch *finding;
    struct manifest manifest;
    struct chunk_req req;
    struct meta_submit submit;
    char *encoded;

    struct chunk_id *ids; /* a slice of the question */
    uint32_t *at;         /* where they are in the manifest */
    uint8_t *present;
    uint32_t asked; /* chunks of the manifest that were asked for */
    uint32_t *missing;
    uint32_t missing_count, next_missing;
    unsigned lanes_busy, rounds;
    struct lane lanes[LANES];
    uint64_t next_ns; /* bandwidth */
    uint64_t claim;   /* its part of *o.claimed */
    bool fetches;
};

static void ask_slice(struct repair *r);
static void lane_next(struct lane *lane);

/* --- the end -------------------------------------------------------------------------------- */

static void finish(struct repair *r)
{
    repair_cb cb = r->o.cb;
    void *arg = r->o.arg;
    int status = r->status;
    manifest_free(&r->manifest);
    free(r->encoded);
    free(r->ids);
    free(r->at);
    free(r->present);
    free(r->missing);
    free(r);
    cb(arg, status);
}

static void session_ended_cb(struct chunk_req *req, int status)
{
    (void)status;
    finish(req->arg);
}

/* Of what is missing; each chunk once, however often the image has it. 0: out of memory. */
static uint64_t missing_bytes(struct repair *r)
{
    struct map seen;
    uint64_t bytes = 0;
    map_init(&seen);
    for (uint32_t i = 0; i < r->missing_count; i++) {
        const struct chunk_id *id = &r->manifest.chunks[r->missing[i]];
        if (map_get(&seen, id->bytes, 32) != NULL) {
            continue;
        }
        if (map_put(&seen, id->bytes, 32, r) != 0) {
            bytes = 0;
            break;
        }
        bytes += manifest_chunk_size(&r->manifest, r->missing[i]);
    }
    map_free(&seen);
    return bytes;
}

static void claim(struct repair *r, uint64_t bytes)
{
    *r->o.claimed += bytes - r->claim;
    r->claim = bytes;
}

static void end(struct repair *r, int status)
{
    r->status = status;
    claim(r, 0);
    if (status == TSR_ENOSPC && r->fetches) {
        uint64_t bytes = missing_bytes(r); /* seemed to fit */
        *r->o.lacking = bytes + bytes / 8;
    }
    if (!r->session_used) {
        finish(r);
        return;
    }
    r->req = (struct chunk_req){.loop = r->o.ctx->loop, .cb = session_ended_cb, .arg = r};
    memcpy(r->req.session, r->session, SESSION_ID_SIZE);
    chunk_session_end(r->o.ctx->chunks, &r->req);
}

/* True: it ends here. */
static bool stops(struct repair *r, int status)
{
    if (status == 0 && r->canceled) {
        status = TSR_ECANCELED;
    }
    if (status != 0) {
        end(r, status);
    }
    return status != 0;
}

static struct chunk_req *request(struct repair *r, chunk_cb cb)
{
    r->req = (struct chunk_req){.loop = r->o.ctx->loop, .cb = cb, .arg = r};
    memcpy(r->req.session, r->session, SESSION_ID_SIZE);
    r->req.id = r->o.manifest;
    return &r->req;
}

/* --- reports -------------------------------------------------------------------------------- */

static void report(struct repair *r, const char *state, meta_submit_cb cb)
{
    char hex[65];
    json_t *command = json_object();
    hex_encode(r->o.manifest.bytes, 32, hex);
    if (command == NULL || json_set_str(command, "op", "image.replica") != 0 ||
        json_set_str(command, "manifest", hex) != 0 ||
        json_set_int(command, "host", (int64_t)r->o.ctx->self) != 0 ||
        json_set_str(command, "state", state) != 0) {
        json_decref(command);
        end(r, TSR_ENOMEM);
        return;
    }
    r->submit =
        (struct meta_submit){.loop = r->o.ctx->loop, .command = command, .cb = cb, .arg = r};
    meta_submit(r->o.meta, &r->submit);
}

static void reported_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct repair *r = req->arg;
    (void)result;
    if (status != 0) {
        log_warn("replica", "replica could not be reported error=%s %s", err_name(status),
                 err->msg);
    }
    end(r, status);
}

/* --- seal ----------------------------------------------------------------------------------- */

static void sealed_cb(struct chunk_req *req, int status)
{
    struct repair *r = req->arg;
    free(req->missing);
    if (status == TSR_ENOENT && !r->canceled && ++r->rounds < SEAL_ROUNDS) {
        r->asked = 0; /* something went away meanwhile: look again */
        r->missing_count = r->next_missing = 0;
        ask_slice(r);
        return;
    }
    if (stops(r, status)) {
        return;
    }
    if ((r->o.recorded && r->here) || r->o.pinned) {
        end(r, 0); /* was only mended; or is nobody's business */
        return;
    }
    report(r, "present", reported_cb);
}

static void seal(struct repair *r)
{
    size_t size;
    struct chunk_id id;
    free(r->encoded);
    r->encoded = NULL;
    int rv = manifest_encode(&r->manifest, &r->encoded, &size, &id);
    if (stops(r, rv)) {
        return;
    }
    struct chunk_req *req = request(r, sealed_cb);
    req->data = r->encoded;
    req->size = size;
    chunk_seal(r->o.ctx->chunks, req);
}

/* --- fetch ---------------------------------------------------------------------------------- */

static bool has_room(struct repair *r)
{
    uint64_t room = (uint64_t)chunks_room(r->o.ctx->chunks);
    room -= *r->o.claimed < room ? *r->o.claimed : room;
    if (room / r->o.ctx->chunk_bytes >= r->missing_count) {
        return true; /* surely */
    }
    *r->o.lacking = missing_bytes(r);
    return *r->o.lacking <= room;
}

static void lane_idle(struct lane *lane, int status)
{
    struct repair *r = lane->r;
    if (lane->buffer != NULL) {
        void *buffer = lane->buffer;
        lane->buffer = NULL;
        bufpool_put(r->o.ctx->repair_buffers, buffer);
    }
    lane->busy = false;
    if (status != 0 && r->status == 0) {
        r->status = status;
    }
    if (--r->lanes_busy > 0) {
        return;
    }
    if (!stops(r, r->status)) {
        seal(r);
    }
}

static void put_cb(struct chunk_req *req, int status)
{
    struct lane *lane = req->arg;
    if (status == 0) {
        lane->r->o.stats->fetched_bytes += req->size;
        claim(lane->r, lane->r->claim - lane->r->o.ctx->chunk_bytes);
    }
    if (status != 0) {
        lane_idle(lane, status);
        return;
    }
    lane_next(lane);
}

static void fetched_cb(void *arg, int status, size_t size)
{
    struct lane *lane = arg;
    struct repair *r = lane->r;
    lane->fetch = NULL;
    if (status != 0) {
        lane_idle(lane, status);
        return;
    }
    lane->put = (struct chunk_req){.loop = r->o.ctx->loop, .cb = put_cb, .arg = lane};
    memcpy(lane->put.session, r->session, SESSION_ID_SIZE);
    lane->put.id = r->manifest.chunks[lane->n];
    lane->put.data = lane->buffer;
    lane->put.size = size;
    chunk_put(r->o.ctx->chunks, &lane->put);
}

static void lane_fetch(struct lane *lane)
{
    struct repair *r = lane->r;
    struct fetch_options o = {
        .ctx = r->o.ctx,
        .pool = r->o.ctx->repair_buffers,
        .sources = &r->sources,
        .id = r->manifest.chunks[lane->n],
        .size = manifest_chunk_size(&r->manifest, lane->n),
        .buffer = lane->buffer,
        .cb = fetched_cb,
        .arg = lane,
    };
    lane->fetch = fetch_start(&o);
    if (lane->fetch == NULL) {
        lane_idle(lane, TSR_ENOMEM);
    }
}

static void lane_timer(struct timer *timer)
{
    lane_fetch(container_of(timer, struct lane, timer));
}

/* One chunk after the other, at the pace that the limit allows. */
static void lane_next(struct lane *lane)
{
    struct repair *r = lane->r;
    if (r->canceled || r->status != 0 || r->next_missing == r->missing_count) {
        lane_idle(lane, 0);
        return;
    }
    lane->n = r->missing[r->next_missing++];
    uint64_t now = loop_now_ns(r->o.ctx->loop), wait_ms = 0;
    if (r->o.bytes_per_second > 0) {
        uint64_t start = r->next_ns > now ? r->next_ns : now;
        r->next_ns = start + manifest_chunk_size(&r->manifest, lane->n) * 1000000000ull /
                                 r->o.bytes_per_second;
        wait_ms = (start - now) / 1000000;
    }
    if (wait_ms > 0) {
        timer_start(&lane->timer, wait_ms);
    } else {
        lane_fetch(lane);
    }
}

static void lane_buffer_cb(struct bufpool_waiter *waiter, void *buffer)
{
    struct lane *lane = container_of(waiter, struct lane, waiter);
    lane->waiting = false;
    lane->buffer = buffer;
    lane_next(lane);
}

static void start_lanes(struct repair *r)
{
    if (r->missing_count == 0) {
        seal(r);
        return;
    }
    claim(r, 0); /* of the round before */
    if (!has_room(r)) {
        r->fetches = false;
        end(r, TSR_ENOSPC);
        return;
    }
    r->fetches = true;
    claim(r, (uint64_t)r->missing_count * r->o.ctx->chunk_bytes);
    r->lanes_busy = LANES;
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &r->lanes[i];
        lane->r = r;
        lane->busy = true;
        lane->waiter.cb = lane_buffer_cb;
        timer_init(&lane->timer, r->o.ctx->loop, lane_timer);
    }
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &r->lanes[i];
        bool last = i == LANES - 1; /* it may end the whole repair */
        lane->buffer = bufpool_get(r->o.ctx->repair_buffers);
        if (lane->buffer != NULL) {
            lane_next(lane);
        } else if (i == 0) { /* one is needed; more only if there are */
            lane->waiting = true;
            bufpool_wait(r->o.ctx->repair_buffers, &lane->waiter);
        } else {
            lane_idle(lane, 0);
        }
        if (last) {
            break;
        }
    }
}

/* --- which are here? ------------------------------------------------------------------------ */

static void have_cb(struct chunk_req *req, int status)
{
    struct repair *r = req->arg;
    if (stops(r, status)) {
        return;
    }
    for (size_t i = 0; i < req->id_count; i++) {
        if (!r->present[i]) {
            r->missing[r->missing_count++] = r->at[i];
        }
    }
    ask_slice(r);
}

static void ask_slice(struct repair *r)
{
    const struct manifest *m = &r->manifest;
    size_t n = 0;
    while (r->asked < m->count && n < HAVE_SLICE) {
        if (!chunk_id_is_zero(&m->chunks[r->asked])) {
            r->ids[n] = m->chunks[r->asked];
            r->at[n++] = r->asked;
        }
        r->asked++;
    }
    if (n == 0) {
        start_lanes(r);
        return;
    }
    struct chunk_req *req = request(r, have_cb);
    req->ids = r->ids;
    req->id_count = n;
    req->present = r->present;
    r->session_used = true;
    chunk_have(r->o.ctx->chunks, req);
}

static void start_asking(struct repair *r)
{
    r->ids = malloc(HAVE_SLICE * sizeof *r->ids);
    r->at = malloc(HAVE_SLICE * sizeof *r->at);
    r->present = malloc(HAVE_SLICE);
    r->missing = malloc((r->manifest.count > 0 ? r->manifest.count : 1) * sizeof *r->missing);
    if (r->ids == NULL || r->at == NULL || r->present == NULL || r->missing == NULL) {
        end(r, TSR_ENOMEM);
        return;
    }
    r->session_used = true; /* the seal reserves the manifest, even of an empty image */
    ask_slice(r);
}

/* --- is it here, and whole? ----------------------------------------------------------------- */

static void lost_cb(struct chunk_req *req, int status)
{
    struct repair *r = req->arg;
    struct map lost;
    bool any = false;
    map_init(&lost);
    for (size_t i = 0; i < req->missing_count && status == 0; i++) {
        status = map_put(&lost, req->missing[i].bytes, 32, r);
    }
    for (uint32_t i = 0; i < r->manifest.count && !any && status == 0; i++) {
        any = map_get(&lost, r->manifest.chunks[i].bytes, 32) != NULL;
    }
    map_free(&lost);
    free(req->missing);
    if (stops(r, status)) {
        return;
    }
    if (any) {
        start_asking(r);
    } else {
        end(r, 0);
    }
}

static void manifest_cb(void *arg, int status, struct manifest *manifest, bool here)
{
    struct repair *r = arg;
    (void)here;
    r->finding = NULL;
    if (status == 0) {
        r->manifest = *manifest;
        if (manifest->chunk_bytes != r->o.ctx->chunk_bytes) {
            status = TSR_ECORRUPT;
        }
    }
    if (stops(r, status)) {
        return;
    }
    if (r->here && r->o.recorded) {
        chunk_lost_list(r->o.ctx->chunks, request(r, lost_cb));
        return;
    }
    start_asking(r);
}

static void find_manifest(struct repair *r)
{
    r->finding = manifest_fetch_start(r->o.ctx, &r->o.manifest, &r->sources, manifest_cb, r);
    if (r->finding == NULL) {
        end(r, TSR_ENOMEM);
    }
}

static void reported_missing_cb(struct meta_submit *req, int status, json_t *result,
                                const struct err *err)
{
    struct repair *r = req->arg;
    (void)result;
    (void)err;
    if (!stops(r, status)) {
        find_manifest(r);
    }
}

static void has_cb(struct chunk_req *req, int status)
{
    struct repair *r = req->arg;
    r->here = status == 0;
    if (stops(r, status == TSR_ENOENT ? 0 : status)) {
        return;
    }
    if (!r->here && r->o.recorded) {
        log_warn("replica", "recorded replica is not here: fetching it again");
        report(r, "missing", reported_missing_cb);
        return;
    }
    find_manifest(r);
}

int repair_start(const struct repair_options *options, struct repair **out)
{
    struct repair *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return TSR_ENOMEM;
    }
    r->o = *options;
    r->o.hosts = NULL; /* not kept */
    sources_init(&r->sources, options->ctx->self, options->hosts, options->host_count);
    loop_random(r->o.ctx->loop, r->session, sizeof r->session);
    memcpy(r->session, options->ctx->boot, sizeof options->ctx->boot); /* no record names it */
    chunk_manifest_has(r->o.ctx->chunks, request(r, has_cb));
    *out = r;
    return 0;
}

void repair_cancel(struct repair *r)
{
    r->canceled = true;
    if (r->finding != NULL) {
        manifest_fetch_cancel(r->finding);
        r->finding = NULL;
        end(r, TSR_ECANCELED);
        return;
    }
    for (unsigned i = 0; i < LANES && r->lanes_busy > 0; i++) {
        struct lane *lane = &r->lanes[i];
        bool last = r->lanes_busy == 1;
        if (!lane->busy) {
            continue;
        }
        if (lane->waiting) {
            bufpool_unwait(r->o.ctx->repair_buffers, &lane->waiter);
            lane->waiting = false;
            lane_idle(lane, 0);
        } else if (lane->fetch != NULL) {
            fetch_cancel(lane->fetch); /* takes the buffer */
            lane->fetch = NULL;
            lane->buffer = NULL;
            lane_idle(lane, 0);
        } else if (timer_running(&lane->timer)) {
            timer_stop(&lane->timer);
            lane_idle(lane, 0);
        } else {
            continue;
        }
        if (last) {
            return; /* it is gone or on its way out */
        }
    }
}
