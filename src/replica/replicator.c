/* The replicator: makes this host hold what the placement says.
 *
 * It looks at manifests one by one: those whose images' data changed (the store tells which), those
 * that were sealed here a while ago (an upload that came to nothing leaves no other trace), and
 * those that failed before, again. One that is placed here, but not recorded here, becomes a job
 * (repair.c), two at a time; one on disk that no image wants here is dropped. So a change costs
 * what it changed, however large the library is.
 *
 * A pass looks at everything: at start, after a snapshot, every ten minutes, and while chunks are
 * lost (quarantined copies). It has two halves. Walk: all images, a slice an event with one view
 * each; the walk rests while many jobs wait. Drop: each manifest on disk. None starts sooner after
 * the last one than nineteen times what it worked: a large library costs a twentieth of a loop at
 * worst. The single looks go on between the slices.
 *
 * Pinned images (replicator_pins.c) are wanted too, by nobody but this host.
 *
 * Why a drop never takes what is needed: (1) the manifest is marked, which fails while a session
 * reserves it (an upload whose activation is not decided; a repair not yet reported); (2) then a
 * linearizable read: whatever was decided before the session ended is now in our store; (3) no
 * image wants it here, or those that have it are recorded present on every host of their placement,
 * and the log was told that this host gives it up; (4) the drop fails if it was sealed or reserved
 * again since (1). Without a quorum (2) fails and nothing is dropped.
 *
 * Close: repairs are canceled; the end comes when all that is under way has called back. */
#include "tessera/replica.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/replicator_private.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"
#include "tessera/base/log.h"
#include "tessera/base/map.h"
#include "tessera/base/str.h"

static void maybe_start_pass(struct replicator *r);

/* --- the end -------------------------------------------------------------------------------- */

static void forget_job(struct job *job)
{
    map_del(&job->r->jobs, job->manifest.bytes, 32);
    list_remove(&job->node);
    free(job);
}

static void free_backoffs(struct replicator *r)
{
    size_t at = 0, size;
    const void *key;
    void *value;
    while (map_next(&r->backoffs, &at, &key, &size, &value)) {
        free(value);
    }
    map_free(&r->backoffs);
}

void replicator_maybe_free(struct replicator *r)
{
    if (!r->closing || r->busy > 0 || r->task_posted || r->running_count > 0) {
        return;
    }
    void (*cb)(void *) = r->close_cb;
    void *arg = r->close_arg;
    map_free(&r->local_set);
    map_free(&r->jobs);
    check_set_free(&r->checks);
    free_backoffs(r);
    free(r->local);
    free(r->pins);
    free(r);
    if (cb != NULL) {
        cb(arg);
    }
}

static void pass_end(struct replicator *r)
{
    uint64_t now = replicator_now(r);
    r->pass = PASS_NONE;
    free(r->local);
    r->local = NULL;
    map_free(&r->local_set);
    map_init(&r->local_set);
    r->earliest_ms = now + PASS_GAP_MS + (PASS_SHARE - 1) * (r->pass_work_ns / 1000000);
}

/* Something of the pass failed: what is left waits for the next one. */
static void pass_break(struct replicator *r, int status)
{
    log_warn("replica", "check of replicas ended early error=%s", err_name(status));
    pass_end(r);
    r->earliest_ms += TICK_MS;
    r->dirty = true;
}

/* --- jobs ----------------------------------------------------------------------------------- */

static void note_failure(struct replicator *r, const struct chunk_id *id, uint64_t lacking)
{
    struct backoff *b = map_get(&r->backoffs, id->bytes, 32);
    if (b == NULL) {
        b = calloc(1, sizeof *b);
        if (b == NULL || map_put(&r->backoffs, id->bytes, 32, b) != 0) {
            free(b);
            return;
        }
    }
    uint64_t wait = 1000ull << (b->count < 6 ? b->count : 6);
    b->count++;
    b->due_ms = replicator_now(r) + (wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS);
    b->lacking = lacking;
    b->room_ms = replicator_now(r) + ROOM_AGAIN_MS;
    if (r->retry_ms == 0 || b->due_ms < r->retry_ms) {
        r->retry_ms = b->due_ms;
    }
}

/* For replicator_stats, which other threads ask. */
static void tell_stats(struct replicator *r)
{
    size_t at = 0, size;
    const void *key;
    void *value;
    uint64_t missing = r->jobs.count;
    while (map_next(&r->backoffs, &at, &key, &size, &value)) {
        missing += map_get(&r->jobs, key, size) == NULL;
    }
    atomic_store(&r->told.missing, missing);
    atomic_store(&r->told.fetching, r->running_count);
    atomic_store(&r->told.fetched_bytes, r->stats.fetched_bytes);
    atomic_store(&r->told.failed, r->stats.failed);
}

static void repaired_cb(void *arg, int status)
{
    struct job *job = arg;
    struct replicator *r = job->r;
    char hex[65];
    hex_encode(job->manifest.bytes, 32, hex);
    r->running_count--;
    if (status == 0) {
        free(map_del(&r->backoffs, job->manifest.bytes, 32));
        if (job->pinned) {
            log_info("replica", "image is kept here manifest=%s", hex);
        } else if (!job->recorded) {
            log_info("replica", "replica is present manifest=%s", hex);
        }
        replicator_pin_here(r, &job->manifest);
    } else if (!r->closing) {
        r->stats.failed++;
        note_failure(r, &job->manifest, status == TSR_ENOSPC ? job->lacking : 0);
        log_warn("replica", "replica could not be made manifest=%s error=%s", hex,
                 err_name(status));
    }
    struct chunk_id id = job->manifest;
    forget_job(job);
    if (r->closing) {
        replicator_maybe_free(r);
        return;
    }
    /* What changed about it meanwhile left it to this job. */
    replicator_check_later(r, &id);
    replicator_start_jobs(r);
}

void replicator_start_jobs(struct replicator *r)
{
    while (r->running_count < RUNNING_MAX && !list_empty(&r->queue)) {
        struct job *job = container_of(list_pop(&r->queue), struct job, node);
        struct repair_options o = {
            .ctx = r->ctx,
            .meta = r->meta,
            .manifest = job->manifest,
            .hosts = job->hosts,
            .host_count = job->host_count,
            .recorded = job->recorded,
            .pinned = job->pinned,
            .bytes_per_second = r->rate / RUNNING_MAX,
            .stats = &r->stats,
            .claimed = &r->claimed,
            .lacking = &job->lacking,
            .cb = repaired_cb,
            .arg = job,
        };
        r->queued--;
        list_push(&r->running, &job->node);
        if (repair_start(&o, &job->repair) != 0) {
            note_failure(r, &job->manifest, 0);
            forget_job(job);
            break;
        }
        r->running_count++;
    }
    if (r->queued < QUEUE_MAX / 2 &&
        (r->resting || check_set_has_due(&r->checks, replicator_now(r)))) {
        r->resting = false;
        replicator_step_soon(r);
    }
}

/* --- an image ------------------------------------------------------------------------------- */

bool replicator_waits(struct replicator *r, const struct backoff *b)
{
    uint64_t now = replicator_now(r);
    return now < b->due_ms ||
           (now < b->room_ms && b->lacking > (uint64_t)chunks_room(r->ctx->chunks));
}

static bool in_backoff(struct replicator *r, const struct chunk_id *id)
{
    const struct backoff *b = map_get(&r->backoffs, id->bytes, 32);
    if (b == NULL || !replicator_waits(r, b)) {
        return false;
    }
    if (r->retry_ms == 0 || b->due_ms < r->retry_ms) {
        r->retry_ms = b->due_ms;
    }
    return true;
}

static void add_job(struct replicator *r, const struct chunk_id *id, const json_t *image,
                    bool recorded, bool pinned)
{
    if (map_get(&r->jobs, id->bytes, 32) != NULL || in_backoff(r, id)) {
        return;
    }
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL || map_put(&r->jobs, id->bytes, 32, job) != 0) {
        free(job);
        r->dirty = true;
        return;
    }
    job->r = r;
    job->manifest = *id;
    job->recorded = recorded;
    job->pinned = pinned;
    job->host_count = want_sources(image, job->hosts, REPLICA_HOSTS_MAX);
    list_push(&r->queue, &job->node);
    r->queued++;
}

void replicator_add_job(struct replicator *r, const struct chunk_id *id, const json_t *image,
                        bool recorded)
{
    add_job(r, id, image, recorded, false);
}

void replicator_add_pinned_job(struct replicator *r, const struct chunk_id *id, const json_t *image)
{
    add_job(r, id, image, want_recorded(image, r->ctx->self), true);
}

/* --- the walk ------------------------------------------------------------------------------- */

static bool consider(void *arg, const struct meta_text *record)
{
    struct replicator *r = arg;
    struct want want;
    if (!want_of_text(record, r->ctx->self, &want)) {
        r->dirty = true; /* cannot be, as the store checks its records */
        return true;
    }
    if (!want.has_data || !want.placed) {
        return true;
    }
    bool here = map_get(&r->local_set, want.manifest.bytes, 32) != NULL;
    struct chunks_stats stats;
    chunks_stats(r->ctx->chunks, &stats);
    if (!want.recorded || !here || stats.lost_count > 0) {
        json_t *image = json_parse(record->text, record->size);
        if (image != NULL) {
            replicator_add_job(r, &want.manifest, image, want.recorded);
            json_decref(image);
        }
    }
    return r->queued < QUEUE_MAX;
}

static void walk_slice(struct replicator *r)
{
    struct meta_view *view;
    size_t count = 0;
    int rv = meta_view_open(r->meta, &view);
    if (rv == 0) {
        rv = meta_image_scan(view, r->after, WALK_SLICE, consider, r, &count);
        meta_view_close(view);
    }
    if (rv != 0) {
        pass_break(r, rv);
        return;
    }
    if (count < WALK_SLICE && r->queued < QUEUE_MAX) {
        r->pass = PASS_DROP;
    }
    replicator_start_jobs(r);
    if (r->pass == PASS_WALK && r->queued >= QUEUE_MAX) {
        r->resting = true;
        return;
    }
    replicator_step_soon(r);
}

/* --- the drops of a pass --------------------------------------------------------------------- */

/* The second half of a pass: go on until one manifest looks unwanted. */
static void drop_slice(struct replicator *r)
{
    struct meta_view *view;
    int rv = meta_view_open(r->meta, &view);
    if (rv != 0) {
        pass_break(r, rv);
        return;
    }
    const struct chunk_id *found = NULL;
    for (unsigned n = 0; n < DROP_SLICE && r->drop_at < r->local_count && found == NULL; n++) {
        const struct chunk_id *id = &r->local[r->drop_at++];
        found = replicator_judge(r, view, id) != VERDICT_KEEP ? id : NULL;
    }
    meta_view_close(view);
    if (found != NULL) {
        replicator_drop(r, found);
    } else if (r->drop_at < r->local_count) {
        replicator_step_soon(r);
    } else {
        pass_end(r);
        replicator_step_soon(r);
    }
}

/* --- steps ---------------------------------------------------------------------------------- */

/* What it waits for, a disk or a majority, is no work. */
static void pass_slice(struct replicator *r)
{
    uint64_t began = loop_now_ns(r->ctx->loop);
    if (r->pass == PASS_WALK) {
        walk_slice(r);
    } else {
        drop_slice(r);
    }
    r->pass_work_ns += loop_now_ns(r->ctx->loop) - began;
}

static void step_task(struct task *task)
{
    struct replicator *r = container_of(task, struct replicator, task);
    r->task_posted = false;
    if (r->closing) {
        replicator_maybe_free(r);
    } else if (r->dropping) {
        return; /* its end takes the next step */
    } else if (check_set_has_due(&r->checks, replicator_now(r)) && r->queued < QUEUE_MAX) {
        replicator_check_slice(r);
    } else if (r->checks_dropped && r->pass != PASS_DROP && r->pass != PASS_LIST) {
        replicator_collect(r);
    } else if ((r->pass == PASS_WALK && !r->resting) || r->pass == PASS_DROP) {
        pass_slice(r);
    }
}

void replicator_step_soon(struct replicator *r)
{
    if (!r->task_posted) {
        r->task_posted = true;
        r->task.run = step_task;
        loop_post(r->ctx->loop, &r->task);
    }
}

/* --- passes --------------------------------------------------------------------------------- */

static void listed_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    r->busy--;
    r->local = req->missing;
    r->local_count = req->missing_count;
    if (r->closing) {
        replicator_maybe_free(r);
        return;
    }
    for (size_t i = 0; i < r->local_count && status == 0; i++) {
        status = map_put(&r->local_set, r->local[i].bytes, 32, r);
    }
    if (status != 0) {
        pass_break(r, status);
        return;
    }
    r->pass = PASS_WALK;
    replicator_step_soon(r);
}

static void start_pass(struct replicator *r)
{
    uint64_t now = replicator_now(r);
    r->dirty = false;
    r->pass = PASS_LIST;
    r->pass_work_ns = 0;
    r->next_full_ms = now + FULL_EVERY_MS;
    r->next_lost_ms = now + LOST_EVERY_MS;
    r->after[0] = '\0';
    r->drop_at = 0;
    r->busy++;
    r->list_req = (struct chunk_req){.loop = r->ctx->loop, .cb = listed_cb, .arg = r};
    chunk_manifest_list(r->ctx->chunks, &r->list_req);
}

static void maybe_start_pass(struct replicator *r)
{
    uint64_t now = replicator_now(r);
    struct chunks_stats stats;
    if (r->closing || r->pass != PASS_NONE || now < r->earliest_ms) {
        return;
    }
    chunks_stats(r->ctx->chunks, &stats);
    if (r->dirty || now >= r->next_full_ms || (stats.lost_count > 0 && now >= r->next_lost_ms)) {
        start_pass(r);
    }
}

static void tick(struct timer *timer)
{
    struct replicator *r = container_of(timer, struct replicator, timer);
    timer_start(&r->timer, TICK_MS);
    tell_stats(r);
    replicator_check_sealed(r);
    replicator_check_failed(r, false);
    replicator_pins_tick(r);
    replicator_sessions_tick(r);
    if (check_set_has_due(&r->checks, replicator_now(r))) {
        replicator_step_soon(r);
    }
    maybe_start_pass(r);
}

static void changed_cb(struct meta_watch *watch, unsigned kinds)
{
    struct replicator *r = watch->arg;
    if (watch->manifests_all) {
        r->dirty = true;
        maybe_start_pass(r);
    }
    for (size_t i = 0; i < watch->manifest_count; i++) {
        struct chunk_id id;
        memcpy(id.bytes, watch->manifests[i], sizeof id.bytes);
        replicator_check(r, &id, 1);
    }
    if ((kinds & META_HOSTS) != 0 && r->backoffs.count > 0) {
        replicator_check_failed(r, true);
    }
    if (check_set_has_due(&r->checks, replicator_now(r))) {
        replicator_step_soon(r);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

int replicator_new(struct replica_ctx *ctx, struct meta *meta, struct replicator **out)
{
    if (ctx->chunks == NULL) {
        return TSR_EINVAL; /* a witness has nothing to replicate */
    }
    struct replicator *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return TSR_ENOMEM;
    }
    r->ctx = ctx;
    r->meta = meta;
    r->dirty = true;
    map_init(&r->local_set);
    map_init(&r->jobs);
    map_init(&r->backoffs);
    check_set_init(&r->checks);
    list_init(&r->queue);
    list_init(&r->running);
    timer_init(&r->timer, ctx->loop, tick);
    timer_start(&r->timer, 0);
    r->watch = (struct meta_watch){.loop = ctx->loop, .cb = changed_cb, .arg = r, .data = true};
    meta_watch_add(meta, &r->watch);
    replicator_pins_load(r);
    *out = r;
    return 0;
}

void replicator_set_rate(struct replicator *r, uint64_t bytes_per_second)
{
    r->rate = bytes_per_second;
}

void replicator_stats(const struct replicator *r, struct replicator_stats *out)
{
    struct chunks_stats chunks;
    chunks_stats(r->ctx->chunks, &chunks);
    *out = (struct replicator_stats){.missing = atomic_load(&r->told.missing),
                                     .fetching = atomic_load(&r->told.fetching),
                                     .fetched_bytes = atomic_load(&r->told.fetched_bytes),
                                     .failed = atomic_load(&r->told.failed),
                                     .present = chunks.manifest_count};
    out->wanted = out->present + out->missing;
}

void replicator_close(struct replicator *r, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!r->closing);
    r->closing = true;
    r->close_cb = cb;
    r->close_arg = arg;
    timer_stop(&r->timer);
    meta_watch_remove(r->meta, &r->watch);
    while (!list_empty(&r->queue)) {
        forget_job(container_of(r->queue.next, struct job, node));
    }
    r->busy++; /* not gone while we cancel, nor inside this call */
    list_each(node, &r->running)
    {
        repair_cancel(container_of(node, struct job, node)->repair);
    }
    r->busy--;
    replicator_step_soon(r);
}
