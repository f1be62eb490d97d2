/* The replicator: makes this host hold what the placement says.
 *
 * A pass has two halves. Walk: all images, a slice an event with one view each; an image placed
 * here whose replica is not recorded or not on disk becomes a job (repair.c), two at a time; the
 * walk rests while many jobs wait. Drop: each manifest on disk that no image wants here. A pass
 * follows a change of the images, but none starts sooner after the last one than nineteen times
 * what that took: a large library costs a twentieth of a loop at worst. Failed jobs are tried again
 * with back-off; lost chunks (quarantined copies) start a pass too.
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

#include "replica/repair.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"
#include "tessera/base/log.h"
#include "tessera/base/map.h"
#include "tessera/base/str.h"

enum {
    WALK_SLICE = 256,
    DROP_SLICE = 64,
    QUEUE_MAX = 512,
    RUNNING_MAX = 2,
    TICK_MS = 1000,
    FULL_EVERY_MS = 10 * 60 * 1000,
    LOST_EVERY_MS = 30 * 1000,
    PASS_GAP_MS = 500,
    PASS_SHARE = 20, /* a pass may take a twentieth of the loop's time */
    BACKOFF_MAX_MS = 60 * 1000,
};

enum pass { PASS_NONE, PASS_LIST, PASS_WALK, PASS_DROP };

struct job {
    struct list node;
    struct replicator *r;
    struct chunk_id manifest;
    uint64_t hosts[REPLICA_HOSTS_MAX];
    size_t host_count;
    bool recorded;
    struct repair *repair;
};

struct backoff {
    unsigned count;
    uint64_t due_ms;
};

struct replicator {
    struct replica_ctx *ctx;
    struct meta *meta;
    struct meta_watch watch;
    struct timer timer;
    struct task task; /* the next slice */
    bool task_posted, closing, dirty;
    unsigned busy; /* callbacks to come, repairs apart */
    uint64_t rate;

    enum pass pass;
    uint64_t pass_start_ms, earliest_ms, next_full_ms, next_lost_ms, retry_ms;
    struct chunk_id *local; /* manifests on disk when the pass began */
    size_t local_count, drop_at, dropped;
    struct map local_set;
    char after[64];
    bool resting; /* the walk waits for the queue */
    uint64_t wanted, present;

    struct list queue, running;
    unsigned queued, running_count;
    struct map jobs;     /* manifest -> job */
    struct map backoffs; /* manifest -> backoff */
    struct replicator_stats stats;

    struct chunk_req req;
    struct meta_barrier barrier;
    struct meta_submit submit;

    void (*close_cb)(void *arg);
    void *close_arg;
};

static void maybe_start_pass(struct replicator *r);
static void step_soon(struct replicator *r);
static void drop_next(struct replicator *r);

static uint64_t now_ms(const struct replicator *r)
{
    return loop_now_ms(r->ctx->loop);
}

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

static void maybe_free(struct replicator *r)
{
    if (!r->closing || r->busy > 0 || r->task_posted || r->running_count > 0) {
        return;
    }
    void (*cb)(void *) = r->close_cb;
    void *arg = r->close_arg;
    map_free(&r->local_set);
    map_free(&r->jobs);
    free_backoffs(r);
    free(r->local);
    free(r);
    if (cb != NULL) {
        cb(arg);
    }
}

static void pass_end(struct replicator *r)
{
    uint64_t now = now_ms(r);
    r->pass = PASS_NONE;
    free(r->local);
    r->local = NULL;
    map_free(&r->local_set);
    map_init(&r->local_set);
    r->earliest_ms = now + PASS_GAP_MS + (PASS_SHARE - 1) * (now - r->pass_start_ms);
    r->stats.wanted = r->wanted;
    r->stats.present = r->present;
    r->stats.missing = r->wanted - r->present;
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

static void start_jobs(struct replicator *r);

static void note_failure(struct replicator *r, const struct chunk_id *id)
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
    b->due_ms = now_ms(r) + (wait < BACKOFF_MAX_MS ? wait : BACKOFF_MAX_MS);
    if (r->retry_ms == 0 || b->due_ms < r->retry_ms) {
        r->retry_ms = b->due_ms;
    }
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
        if (!job->recorded) {
            log_info("replica", "replica is present manifest=%s", hex);
        }
    } else if (!r->closing) {
        r->stats.failed++;
        note_failure(r, &job->manifest);
        log_warn("replica", "replica could not be made manifest=%s error=%s", hex,
                 err_name(status));
    }
    forget_job(job);
    if (r->closing) {
        maybe_free(r);
        return;
    }
    start_jobs(r);
}

static void start_jobs(struct replicator *r)
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
            .bytes_per_second = r->rate / RUNNING_MAX,
            .stats = &r->stats,
            .cb = repaired_cb,
            .arg = job,
        };
        r->queued--;
        list_push(&r->running, &job->node);
        if (repair_start(&o, &job->repair) != 0) {
            note_failure(r, &job->manifest);
            forget_job(job);
            break;
        }
        r->running_count++;
    }
    if (r->resting && r->queued < QUEUE_MAX / 2) {
        r->resting = false;
        step_soon(r);
    }
}

/* --- an image ------------------------------------------------------------------------------- */

static bool has_number(const json_t *array, uint64_t number)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        if ((uint64_t)json_integer_value(json_array_get(array, i)) == number) {
            return true;
        }
    }
    return false;
}

static bool is_present(const json_t *image, uint64_t host)
{
    char key[24];
    snprintf(key, sizeof key, "%llu", (unsigned long long)host);
    const char *state = json_str(json_obj(image, "replicas"), key);
    return state != NULL && strcmp(state, "present") == 0;
}

/* Those that have it first, then the rest of the placement: they may have it without saying so. */
static void set_hosts(struct job *job, const json_t *image)
{
    json_t *replicas = json_obj(image, "replicas"), *placement = json_arr(image, "placement"), *v;
    const char *key;
    json_object_foreach(replicas, key, v)
    {
        int64_t id;
        if (str_to_i64(key, 1, INT64_MAX, &id) == 0 && is_present(image, (uint64_t)id) &&
            job->host_count < REPLICA_HOSTS_MAX) {
            job->hosts[job->host_count++] = (uint64_t)id;
        }
    }
    for (size_t i = 0; i < json_array_size(placement); i++) {
        uint64_t id = (uint64_t)json_integer_value(json_array_get(placement, i));
        if (!is_present(image, id) && job->host_count < REPLICA_HOSTS_MAX) {
            job->hosts[job->host_count++] = id;
        }
    }
}

static bool in_backoff(struct replicator *r, const struct chunk_id *id)
{
    const struct backoff *b = map_get(&r->backoffs, id->bytes, 32);
    if (b == NULL || b->due_ms <= now_ms(r)) {
        return false;
    }
    if (r->retry_ms == 0 || b->due_ms < r->retry_ms) {
        r->retry_ms = b->due_ms;
    }
    return true;
}

static void add_job(struct replicator *r, const struct chunk_id *id, const json_t *image,
                    bool recorded)
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
    set_hosts(job, image);
    list_push(&r->queue, &job->node);
    r->queued++;
}

static bool manifest_of(const json_t *image, struct chunk_id *id)
{
    const char *hex = json_str(image, "manifest");
    return hex != NULL && hex_decode(hex, strlen(hex), id->bytes, sizeof id->bytes) == 0;
}

static void consider(struct replicator *r, const json_t *image)
{
    struct chunk_id id;
    struct chunks_stats stats;
    if (!manifest_of(image, &id) || !has_number(json_arr(image, "placement"), r->ctx->self)) {
        return;
    }
    bool recorded = is_present(image, r->ctx->self);
    bool here = map_get(&r->local_set, id.bytes, 32) != NULL;
    chunks_stats(r->ctx->chunks, &stats);
    r->wanted++;
    r->present += recorded && here;
    if (!recorded || !here || stats.lost_count > 0) {
        add_job(r, &id, image, recorded);
    }
}

/* --- the walk ------------------------------------------------------------------------------- */

static void walk_slice(struct replicator *r)
{
    struct meta_view *view;
    json_t *images = NULL;
    int rv = meta_view_open(r->meta, &view);
    if (rv == 0) {
        rv = meta_image_walk(view, r->after, WALK_SLICE, &images);
        meta_view_close(view);
    }
    if (rv != 0) {
        pass_break(r, rv);
        return;
    }
    size_t count = json_array_size(images);
    for (size_t i = 0; i < count; i++) {
        consider(r, json_array_get(images, i));
    }
    json_decref(images);
    if (count < WALK_SLICE) {
        r->pass = PASS_DROP;
    }
    start_jobs(r);
    if (r->pass == PASS_WALK && r->queued >= QUEUE_MAX) {
        r->resting = true;
        return;
    }
    step_soon(r);
}

static void step_task(struct task *task)
{
    struct replicator *r = container_of(task, struct replicator, task);
    r->task_posted = false;
    if (r->closing) {
        maybe_free(r);
    } else if (r->pass == PASS_WALK) {
        walk_slice(r);
    } else if (r->pass == PASS_DROP) {
        drop_next(r);
    }
}

static void step_soon(struct replicator *r)
{
    if (!r->task_posted) {
        r->task_posted = true;
        r->task.run = step_task;
        loop_post(r->ctx->loop, &r->task);
    }
}

/* --- drops ---------------------------------------------------------------------------------- */

enum verdict { KEEP, DROP, TELL_THEN_DROP };

/* May this image do without the replica here? */
static enum verdict judge_image(struct replicator *r, const json_t *image)
{
    const json_t *placement = json_arr(image, "placement");
    if (json_array_size(placement) == 0 || has_number(placement, r->ctx->self)) {
        return KEEP; /* staged or not yet placed, or wanted here */
    }
    for (size_t i = 0; i < json_array_size(placement); i++) {
        if (!is_present(image, (uint64_t)json_integer_value(json_array_get(placement, i)))) {
            return KEEP;
        }
    }
    return is_present(image, r->ctx->self) ? TELL_THEN_DROP : DROP;
}

static enum verdict judge(struct replicator *r, struct meta_view *view, const struct chunk_id *id)
{
    char hex[65];
    json_t *images;
    enum verdict verdict = DROP;
    hex_encode(id->bytes, 32, hex);
    if (map_get(&r->jobs, id->bytes, 32) != NULL || meta_manifest_images(view, hex, &images) != 0) {
        return KEEP;
    }
    for (size_t i = 0; i < json_array_size(images) && verdict != KEEP; i++) {
        enum verdict one = judge_image(r, json_array_get(images, i));
        verdict = one == KEEP || one == TELL_THEN_DROP ? one : verdict;
    }
    json_decref(images);
    return verdict;
}

static void drop_over(struct replicator *r)
{
    r->busy--;
    if (r->closing) {
        maybe_free(r);
        return;
    }
    r->drop_at++;
    step_soon(r);
}

static struct chunk_req *drop_request(struct replicator *r, chunk_cb cb)
{
    r->req = (struct chunk_req){.loop = r->ctx->loop, .cb = cb, .arg = r};
    r->req.id = r->local[r->drop_at];
    return &r->req;
}

static void dropped_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    if (status == 0) {
        char hex[65];
        hex_encode(req->id.bytes, 32, hex);
        log_info("replica", "replica dropped manifest=%s", hex);
        r->dropped++;
    }
    drop_over(r);
}

static enum verdict judge_now(struct replicator *r)
{
    struct meta_view *view;
    if (r->closing || meta_view_open(r->meta, &view) != 0) {
        return KEEP;
    }
    enum verdict verdict = judge(r, view, &r->local[r->drop_at]);
    meta_view_close(view);
    return verdict;
}

static void told_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct replicator *r = req->arg;
    (void)result;
    (void)err;
    /* The answer came after this host had applied it: look at what is true now. */
    if (status != 0 || judge_now(r) != DROP) {
        drop_over(r);
        return;
    }
    struct chunk_req *drop = drop_request(r, dropped_cb);
    drop->verify = true;
    chunk_manifest_drop(r->ctx->chunks, drop);
}

static void tell_missing(struct replicator *r)
{
    char hex[65];
    hex_encode(r->local[r->drop_at].bytes, 32, hex);
    json_t *command = json_pack("{s:s, s:s, s:I, s:s}", "op", "image.replica", "manifest", hex,
                                "host", (json_int_t)r->ctx->self, "state", "missing");
    if (command == NULL) {
        drop_over(r);
        return;
    }
    r->submit =
        (struct meta_submit){.loop = r->ctx->loop, .command = command, .cb = told_cb, .arg = r};
    meta_submit(r->meta, &r->submit);
}

static void barrier_cb(struct meta_barrier *req, int status)
{
    struct replicator *r = req->arg;
    enum verdict verdict = status == 0 ? judge_now(r) : KEEP;
    if (verdict == DROP) {
        struct chunk_req *drop = drop_request(r, dropped_cb);
        drop->verify = true;
        chunk_manifest_drop(r->ctx->chunks, drop);
    } else if (verdict == TELL_THEN_DROP) {
        tell_missing(r);
    } else {
        drop_over(r);
    }
}

static void marked_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    if (status != 0 || r->closing) {
        drop_over(r);
        return;
    }
#ifdef TSR_BREAK_DROP_BARRIER
    r->barrier.arg = r;
    barrier_cb(&r->barrier, 0);
    return;
#endif
    r->barrier =
        (struct meta_barrier){.loop = r->ctx->loop, .timeout_ms = 5000, .cb = barrier_cb, .arg = r};
    meta_barrier(r->meta, &r->barrier);
}

static void collected_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    (void)status;
    r->busy--;
    if (r->closing) {
        maybe_free(r);
        return;
    }
    pass_end(r);
}

/* Go on until one manifest looks unwanted; the rest of its way is asynchronous. */
static void drop_next(struct replicator *r)
{
    struct meta_view *view;
    int rv = meta_view_open(r->meta, &view);
    if (rv != 0) {
        pass_break(r, rv);
        return;
    }
    bool found = false;
    for (unsigned n = 0; n < DROP_SLICE && r->drop_at < r->local_count; n++) {
        found = judge(r, view, &r->local[r->drop_at]) != KEEP;
        if (found) {
            break;
        }
        r->drop_at++;
    }
    meta_view_close(view);
    if (found) {
        r->busy++;
        chunk_manifest_mark(r->ctx->chunks, drop_request(r, marked_cb));
    } else if (r->drop_at < r->local_count) {
        step_soon(r);
    } else if (r->dropped > 0) {
        r->busy++;
        r->req = (struct chunk_req){.loop = r->ctx->loop, .cb = collected_cb, .arg = r};
        chunk_collect(r->ctx->chunks, &r->req);
    } else {
        pass_end(r);
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
        maybe_free(r);
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
    step_soon(r);
}

static void start_pass(struct replicator *r)
{
    uint64_t now = now_ms(r);
    r->dirty = false;
    r->pass = PASS_LIST;
    r->pass_start_ms = now;
    r->next_full_ms = now + FULL_EVERY_MS;
    r->next_lost_ms = now + LOST_EVERY_MS;
    r->retry_ms = 0;
    r->after[0] = '\0';
    r->drop_at = r->dropped = 0;
    r->wanted = r->present = 0;
    r->busy++;
    r->req = (struct chunk_req){.loop = r->ctx->loop, .cb = listed_cb, .arg = r};
    chunk_manifest_list(r->ctx->chunks, &r->req);
}

static void maybe_start_pass(struct replicator *r)
{
    uint64_t now = now_ms(r);
    struct chunks_stats stats;
    if (r->closing || r->pass != PASS_NONE || now < r->earliest_ms) {
        return;
    }
    chunks_stats(r->ctx->chunks, &stats);
    if (r->dirty || now >= r->next_full_ms || (r->retry_ms != 0 && now >= r->retry_ms) ||
        (stats.lost_count > 0 && now >= r->next_lost_ms)) {
        start_pass(r);
    }
}

static void tick(struct timer *timer)
{
    struct replicator *r = container_of(timer, struct replicator, timer);
    timer_start(&r->timer, TICK_MS);
    maybe_start_pass(r);
}

static void changed_cb(struct meta_watch *watch, unsigned kinds)
{
    struct replicator *r = watch->arg;
    if ((kinds & META_IMAGES) != 0) {
        r->dirty = true;
        maybe_start_pass(r);
    }
    if ((kinds & META_HOSTS) != 0 && r->backoffs.count > 0) {
        free_backoffs(r); /* a source may be back */
        map_init(&r->backoffs);
        r->dirty = true;
        maybe_start_pass(r);
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
    list_init(&r->queue);
    list_init(&r->running);
    timer_init(&r->timer, ctx->loop, tick);
    timer_start(&r->timer, 0);
    r->watch = (struct meta_watch){.loop = ctx->loop, .cb = changed_cb, .arg = r};
    meta_watch_add(meta, &r->watch);
    *out = r;
    return 0;
}

void replicator_set_rate(struct replicator *r, uint64_t bytes_per_second)
{
    r->rate = bytes_per_second;
}

void replicator_stats(const struct replicator *r, struct replicator_stats *out)
{
    *out = r->stats;
    out->fetching = r->running_count;
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
    step_soon(r);
}
