/* Dropping a replica that no image wants here; why that never takes what is needed stands in
 * replicator.c. */
#include "replica/replicator_private.h"

#include "tessera/base/id.h"
#include "tessera/base/log.h"

enum verdict replicator_judge(struct replicator *r, struct meta_view *view,
                              const struct chunk_id *id)
{
    char hex[65];
    json_t *images, *pinned = NULL;
    enum verdict verdict = VERDICT_DROP;
    hex_encode(id->bytes, 32, hex);
    if (map_get(&r->jobs, id->bytes, 32) != NULL) {
        return VERDICT_KEEP; /* its end is looked at */
    }
    if (meta_manifest_images(view, hex, &images) != 0) {
        r->dirty = true; /* nobody asks again but a pass */
        return VERDICT_KEEP;
    }
    for (size_t i = 0; i < json_array_size(images) && verdict != VERDICT_KEEP; i++) {
        enum verdict one = want_verdict(json_array_get(images, i), r->ctx->self);
        verdict = one != VERDICT_DROP ? one : verdict;
    }
    json_decref(images);
    if (verdict != VERDICT_KEEP && replicator_pinned(r, view, id, &pinned)) {
        verdict = VERDICT_KEEP;
    }
    json_decref(pinned);
    return verdict;
}

static void drop_over(struct replicator *r, bool again)
{
    r->busy--;
    r->dropping = false;
    if (r->closing) {
        replicator_maybe_free(r);
        return;
    }
    if (again) {
        replicator_check_later(r, &r->id);
    }
    replicator_step_soon(r);
}

static struct chunk_req *drop_request(struct replicator *r, chunk_cb cb)
{
    r->req = (struct chunk_req){.loop = r->ctx->loop, .cb = cb, .arg = r};
    r->req.id = r->id;
    return &r->req;
}

static void dropped_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    if (status == 0) {
        char hex[65];
        hex_encode(req->id.bytes, 32, hex);
        log_info("replica", "replica dropped manifest=%s", hex);
        r->checks_dropped = true;
    }
    drop_over(r, status != 0 && status != TSR_ENOENT);
}

static enum verdict judge_now(struct replicator *r)
{
    struct meta_view *view;
    if (r->closing) {
        return VERDICT_KEEP;
    }
    if (meta_view_open(r->meta, &view) != 0) {
        r->dirty = true;
        return VERDICT_KEEP;
    }
    enum verdict verdict = replicator_judge(r, view, &r->id);
    meta_view_close(view);
    return verdict;
}

static void drop_marked(struct replicator *r)
{
    struct chunk_req *drop = drop_request(r, dropped_cb);
    drop->verify = true;
    chunk_manifest_drop(r->ctx->chunks, drop);
}

static void told_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct replicator *r = req->arg;
    (void)result;
    (void)err;
    /* The answer came after this host had applied it: look at what is true now. */
    if (status != 0 || judge_now(r) != VERDICT_DROP) {
        drop_over(r, status != 0);
        return;
    }
    drop_marked(r);
}

static void tell_missing(struct replicator *r)
{
    char hex[65];
    hex_encode(r->id.bytes, 32, hex);
    json_t *command = json_pack("{s:s, s:s, s:I, s:s}", "op", "image.replica", "manifest", hex,
                                "host", (json_int_t)r->ctx->self, "state", "missing");
    if (command == NULL) {
        drop_over(r, true);
        return;
    }
    r->submit =
        (struct meta_submit){.loop = r->ctx->loop, .command = command, .cb = told_cb, .arg = r};
    meta_submit(r->meta, &r->submit);
}

static void barrier_cb(struct meta_barrier *req, int status)
{
    struct replicator *r = req->arg;
    enum verdict verdict = status == 0 ? judge_now(r) : VERDICT_KEEP;
    if (verdict == VERDICT_DROP) {
        drop_marked(r);
    } else if (verdict == VERDICT_TELL_THEN_DROP) {
        tell_missing(r);
    } else {
        drop_over(r, status != 0);
    }
}

static void marked_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    if (status != 0 || r->closing) {
        drop_over(r, status != 0 && status != TSR_ENOENT);
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

/* It looks unwanted; the rest of its way is asynchronous. */
void replicator_drop(struct replicator *r, const struct chunk_id *id)
{
    r->busy++;
    r->dropping = true;
    r->id = *id;
    chunk_manifest_mark(r->ctx->chunks, drop_request(r, marked_cb));
}

static void collected_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    (void)status;
    r->busy--;
    r->dropping = false;
    if (r->closing) {
        replicator_maybe_free(r);
    } else {
        replicator_step_soon(r);
    }
}

void replicator_collect(struct replicator *r)
{
    r->checks_dropped = false;
    r->busy++;
    r->dropping = true;
    r->req = (struct chunk_req){.loop = r->ctx->loop, .cb = collected_cb, .arg = r};
    chunk_collect(r->ctx->chunks, &r->req);
}
