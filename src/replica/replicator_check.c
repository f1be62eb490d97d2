/* Looking at single manifests: what changed, what was sealed, what failed before. */
#include "replica/replicator_private.h"

#include <stdlib.h>
#include <string.h>

#include "replica/pins.h"
#include "tessera/base/id.h"

/* Not placed here, but pinned? */
static bool check_pinned(struct replicator *r, struct meta_view *view, const struct chunk_id *id,
                         bool failed)
{
    json_t *image;
    struct chunks_stats stats;
    if (!replicator_pinned(r, view, id, &image) || image == NULL) {
        return false;
    }
    bool here = chunk_manifest_here(r->ctx->chunks, id);
    chunks_stats(r->ctx->chunks, &stats);
    if ((!here || failed || stats.lost_count > 0) &&
        (here || pin_has_room(r->ctx, json_int(image, "size", 0)))) {
        replicator_add_pinned_job(r, id, image);
    }
    json_decref(image);
    return true;
}

/* What is recorded may still be missing: a host with new disks hears of all images from the log. */
static void check_images(struct replicator *r, struct meta_view *view, const struct chunk_id *id,
                         const json_t *images)
{
    bool failed = map_get(&r->backoffs, id->bytes, 32) != NULL, wanted = false;
    for (size_t i = 0; i < json_array_size(images); i++) {
        const json_t *image = json_array_get(images, i);
        if (!want_placed(image, r->ctx->self)) {
            continue;
        }
        bool recorded = want_recorded(image, r->ctx->self);
        wanted = true;
        if (!recorded || failed || !chunk_manifest_here(r->ctx->chunks, id)) {
            replicator_add_job(r, id, image, recorded);
        }
    }
    if (!wanted) {
        wanted = check_pinned(r, view, id, failed);
    }
    if (!wanted && failed) {
        free(map_del(&r->backoffs, id->bytes, 32));
    }
}

/* 0, or what the store said. */
static int check_one(struct replicator *r, struct meta_view *view, const struct chunk_id *id)
{
    char hex[65];
    json_t *images;
    hex_encode(id->bytes, 32, hex);
    int rv = meta_manifest_images(view, hex, &images);
    if (rv != 0) {
        return rv;
    }
    check_images(r, view, id, images);
    if (r->pin_count > 0 && chunk_manifest_here(r->ctx->chunks, id)) {
        replicator_pin_here(r, id);
    }
    json_decref(images);
    if (replicator_judge(r, view, id) != VERDICT_KEEP) {
        replicator_drop(r, id);
    }
    return 0;
}

void replicator_check_slice(struct replicator *r)
{
    struct meta_view *view = NULL;
    struct chunk_id id;
    int rv = meta_view_open(r->meta, &view);
    for (unsigned n = 0; rv == 0 && n < CHECK_SLICE && !r->dropping && r->queued < QUEUE_MAX; n++) {
        if (!check_set_next(&r->checks, replicator_now(r), &id)) {
            break;
        }
        rv = check_one(r, view, &id);
    }
    meta_view_close(view);
    replicator_start_jobs(r);
    if (rv == 0) {
        replicator_step_soon(r);
    } else { /* a tick or change goes on; what was taken is looked at by a pass */
        r->dirty = true;
    }
}

void replicator_check(struct replicator *r, const struct chunk_id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (check_set_add(&r->checks, &ids[i]) != 0) {
            r->dirty = true;
        }
    }
}

void replicator_check_later(struct replicator *r, const struct chunk_id *id)
{
    if (check_set_add_later(&r->checks, id, replicator_now(r) + AGAIN_AFTER_MS) != 0) {
        r->dirty = true;
    }
}

/* Those whose time has come, or (sources may be back) all but those without room. */
void replicator_check_failed(struct replicator *r, bool all)
{
    size_t at = 0, size;
    const void *key;
    void *value;
    uint64_t now = replicator_now(r);
    if (!all && (r->retry_ms == 0 || now < r->retry_ms)) {
        return;
    }
    r->retry_ms = 0;
    while (map_next(&r->backoffs, &at, &key, &size, &value)) {
        struct backoff *b = value;
        struct chunk_id id;
        memcpy(id.bytes, key, sizeof id.bytes);
        if (all && b->lacking == 0) {
            *b = (struct backoff){0};
        }
        if (!replicator_waits(r, b)) {
            replicator_check(r, &id, 1);
        } else if (r->retry_ms == 0 || b->due_ms < r->retry_ms) {
            r->retry_ms = b->due_ms;
        }
    }
}

void replicator_check_sealed(struct replicator *r)
{
    struct chunk_id *ids;
    size_t count;
    if (chunks_sealed_take(r->ctx->chunks, &ids, &count) != 0) {
        r->dirty = true;
    }
    for (size_t i = 0; i < count; i++) {
        replicator_check_later(r, &ids[i]);
    }
    free(ids);
}
