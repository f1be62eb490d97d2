/* Pinned images: kept here although no placement says so (chunk.h). A pin makes the replicator
 * fetch what is missing, unrecorded, and keeps it from dropping it. Which pins there are is read
 * again when that changed; pins of deleted images, and those that the room does not do for, are
 * taken away. */
#include "replica/replicator_private.h"

#include <stdlib.h>
#include <string.h>

#include "replica/pins.h"
#include "tessera/base/id.h"
#include "tessera/base/log.h"

enum {
    PINS_EVERY_MS = 10 * 1000,
    RELIEVED_MS = 60 * 1000, /* what went is collected by then, and the room was asked for again */
};

/* The next one with that data. */
static struct chunk_pin *pin_next(struct replicator *r, size_t *at, const struct chunk_id *manifest)
{
    while (*at < r->pin_count) {
        struct chunk_pin *pin = &r->pins[(*at)++];
        if (memcmp(pin->manifest.bytes, manifest->bytes, sizeof(manifest->bytes)) == 0) {
            return pin;
        }
    }
    return NULL;
}

void replicator_pin_here(struct replicator *r, const struct chunk_id *id)
{
    struct chunk_pin *pin;
    size_t at = 0;
    while ((pin = pin_next(r, &at, id)) != NULL) {
        if (pin->here_us == 0) {
            pin->here_us = loop_wall_us(r->ctx->loop);
            chunk_pin_note(r->ctx->chunks, pin->name, CHUNK_PIN_HERE);
        }
    }
}

/* --- which there are ------------------------------------------------------------------------ */

/* Both are in order of name: whatever is in one of them only is looked at. */
static void check_changed(struct replicator *r, const struct chunk_pin *old, size_t old_count)
{
    size_t i = 0, k = 0;
    while (i < old_count || k < r->pin_count) {
        int order = i == old_count      ? 1
                    : k == r->pin_count ? -1
                                        : strcmp(old[i].name, r->pins[k].name);
        if (order < 0) {
            replicator_check(r, &old[i].manifest, 1);
        } else if (order > 0) {
            replicator_check(r, &r->pins[k].manifest, 1);
        }
        i += order <= 0;
        k += order >= 0;
    }
}

void replicator_pins_load(struct replicator *r)
{
    unsigned changes = chunk_pin_changes(r->ctx->chunks);
    struct chunk_pin *pins;
    size_t count;
    if (r->pins_known && changes == r->pins_seen) {
        return;
    }
    if (chunk_pins(r->ctx->chunks, &pins, &count) != 0) {
        return; /* at the next tick; until it is known nothing is dropped */
    }
    struct chunk_pin *old = r->pins;
    size_t old_count = r->pin_count;
    r->pins = pins;
    r->pin_count = count;
    r->pins_seen = changes;
    r->pins_known = true;
    check_changed(r, old, old_count);
    free(old);
}

bool replicator_pinned(struct replicator *r, struct meta_view *view, const struct chunk_id *id,
                       json_t **image_out)
{
    const struct chunk_pin *pin;
    size_t at = 0;
    *image_out = NULL;
    replicator_pins_load(r); /* never drop what was asked for a moment ago */
    if (!r->pins_known) {
        r->dirty = true;
        return true;
    }
    while ((pin = pin_next(r, &at, id)) != NULL) {
        if (pin_stands(view, pin, image_out)) {
            return true;
        }
    }
    return false;
}

/* --- those that go -------------------------------------------------------------------------- */

static void removed_cb(struct chunk_req *req, int status)
{
    struct replicator *r = req->arg;
    (void)status; /* else at the next look */
    free(r->pins_going);
    r->pins_going = NULL;
    r->busy--;
    if (r->closing) {
        replicator_maybe_free(r);
    }
}

static void remove_pins(struct replicator *r, struct chunk_pin *pins, size_t count)
{
    r->pins_going = pins;
    r->busy++;
    r->pin_req = (struct chunk_req){
        .loop = r->ctx->loop, .cb = removed_cb, .arg = r, .pins = pins, .pin_count = count};
    chunk_pin_remove(r->ctx->chunks, &r->pin_req);
}

/* Now this host knows of every image that it ever answered for. */
static void void_barrier_cb(struct meta_barrier *req, int status)
{
    struct replicator *r = req->arg;
    struct meta_view *view = NULL;
    struct chunk_pin *pins = NULL;
    size_t count = 0;
    r->busy--;
    r->pins_asking = false;
    if (r->closing) {
        replicator_maybe_free(r);
        return;
    }
    if (status == 0 && r->pins_going == NULL && meta_view_open(r->meta, &view) == 0) {
        (void)replica_pins_void(r->ctx->chunks, view, &pins, &count);
        meta_view_close(view);
    }
    if (count == 0) {
        free(pins);
        return;
    }
    log_info("replica", "kept images are gone count=%zu", count);
    remove_pins(r, pins, count);
}

static bool some_void(struct replicator *r, struct meta_view *view)
{
    bool any = false;
    for (size_t i = 0; i < r->pin_count && !any; i++) {
        json_t *image;
        any = !pin_stands(view, &r->pins[i], &image);
        json_decref(image);
    }
    return any;
}

/* Room is needed: the least used go. */
static bool relieve(struct replicator *r, struct meta_view *view)
{
    struct chunk_pin *pins;
    size_t count;
    int64_t bytes;
    if (replica_pins_excess(r->ctx, view, &pins, &count, &bytes) != 0 || count == 0) {
        free(pins);
        return false;
    }
    log_warn("replica", "room is short: images kept on request are given up count=%zu bytes=%lld",
             count, (long long)bytes);
    remove_pins(r, pins, count);
    return true;
}

/* What is missing (there may be room now, or a source) or hurt. */
static void check_missing(struct replicator *r)
{
    struct chunks_stats stats;
    chunks_stats(r->ctx->chunks, &stats);
    for (size_t i = 0; i < r->pin_count; i++) {
        if (stats.lost_count > 0 || !chunk_manifest_here(r->ctx->chunks, &r->pins[i].manifest)) {
            replicator_check(r, &r->pins[i].manifest, 1);
        }
    }
}

void replicator_pins_tick(struct replicator *r)
{
    uint64_t now = replicator_now(r);
    struct meta_view *view = NULL;
    if (!r->pins_changed && r->pins_known) { /* at the next tick: clients look what they queued */
        r->pins_changed = chunk_pin_changes(r->ctx->chunks) != r->pins_seen;
    } else {
        r->pins_changed = false;
        replicator_pins_load(r);
    }
    if (r->pin_count == 0 || now < r->pins_next_ms || r->pins_going != NULL || r->pins_asking ||
        meta_view_open(r->meta, &view) != 0) {
        return;
    }
    r->pins_next_ms = now + PINS_EVERY_MS;
    check_missing(r);
    if (now >= r->pins_relieve_ms && relieve(r, view)) {
        r->pins_relieve_ms = now + RELIEVED_MS;
    } else if (some_void(r, view)) {
        r->busy++;
        r->pins_asking = true;
        r->pin_barrier = (struct meta_barrier){
            .loop = r->ctx->loop, .timeout_ms = 5000, .cb = void_barrier_cb, .arg = r};
        meta_barrier(r->meta, &r->pin_barrier);
    }
    meta_view_close(view);
}
