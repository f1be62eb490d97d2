/* Sessions whose host can not end them any more: it died during an upload or import, and what it
 * had pushed here is still reserved.
 *
 * A session is over when no image names it. It is named before its first chunk leaves its host (the
 * command is applied there first), and once it is not named any more, it never is again. So: those
 * that are idle here -> a linearizable read, so that this store knows what was decided before they
 * were listed -> those that no image names end, and what they kept is collected. Without a quorum
 * nothing ends. Sessions of repairs are named by no image; they are of this process, whose own
 * sessions are left alone: it ends them itself. */
#include "replica/replicator_private.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/id.h"
#include "tessera/base/log.h"

enum { LOOK_EVERY_MS = 5000, IDLE_MS = 15 * 1000 };

struct sessions_look {
    struct replicator *r;
    struct chunk_req req;
    struct meta_barrier barrier;
    uint8_t (*ids)[SESSION_ID_SIZE];
    size_t count, at, ended;
};

static void look_end(struct sessions_look *look)
{
    struct replicator *r = look->r;
    if (look->ended > 0) {
        log_info("replica", "sessions of hosts that went away ended count=%zu", look->ended);
        r->checks_dropped = true; /* collect */
        replicator_step_soon(r);
    }
    free(look->ids);
    free(look);
    r->sessions_look = NULL;
    r->busy--;
    if (r->closing) {
        replicator_maybe_free(r);
    }
}

/* --- ending --------------------------------------------------------------------------------- */

static void end_next(struct sessions_look *look);

static void ended_cb(struct chunk_req *req, int status)
{
    struct sessions_look *look = req->arg;
    look->ended += status == 0;
    end_next(look);
}

static void end_next(struct sessions_look *look)
{
    struct replicator *r = look->r;
    if (look->at == look->count || r->closing) {
        look_end(look);
        return;
    }
    look->req = (struct chunk_req){.loop = r->ctx->loop, .cb = ended_cb, .arg = look};
    memcpy(look->req.session, look->ids[look->at++], SESSION_ID_SIZE);
    chunk_session_end(r->ctx->chunks, &look->req);
}

/* --- which ---------------------------------------------------------------------------------- */

/* Session ids (texts) of all images to which data is coming. */
static int named_sessions(struct replicator *r, struct map *out)
{
    static const char *const statuses[] = {"saving", "uploading", "importing"};
    struct meta_view *view;
    json_t *images = json_array(), *image;
    size_t i;
    int rv = images == NULL ? TSR_ENOMEM : meta_view_open(r->meta, &view);
    for (i = 0; rv == 0 && i < 3; i++) {
        rv = meta_images_by_status(view, statuses[i], images);
    }
    if (images != NULL && i > 0) {
        meta_view_close(view);
    }
    json_array_foreach(images, i, image)
    {
        const char *id = json_str(json_obj(image, "session"), "id");
        if (rv == 0 && id != NULL) {
            rv = map_put(out, id, strlen(id), r);
        }
    }
    json_decref(images);
    return rv;
}

static void keep_over(struct sessions_look *look, const struct map *named)
{
    size_t kept = 0;
    for (size_t i = 0; i < look->count; i++) {
        char hex[2 * SESSION_ID_SIZE + 1];
        hex_encode(look->ids[i], SESSION_ID_SIZE, hex);
        if (map_get(named, hex, strlen(hex)) == NULL) {
            memmove(look->ids[kept++], look->ids[i], SESSION_ID_SIZE);
        }
    }
    look->count = kept;
}

static void barrier_cb(struct meta_barrier *req, int status)
{
    struct sessions_look *look = req->arg;
    struct map named;
    map_init(&named);
    if (status == 0) {
        status = named_sessions(look->r, &named);
    }
    if (status == 0) {
        keep_over(look, &named);
    } else {
        look->count = 0;
    }
    map_free(&named);
    end_next(look);
}

static void idle_cb(struct chunk_req *req, int status)
{
    struct sessions_look *look = req->arg;
    struct replicator *r = look->r;
    (void)status; /* then there are none */
    look->ids = req->sessions;
    for (size_t i = 0; i < req->session_count; i++) {
        if (memcmp(look->ids[i], r->ctx->boot, sizeof(r->ctx->boot)) != 0) {
            memmove(look->ids[look->count++], look->ids[i], SESSION_ID_SIZE);
        }
    }
    if (look->count == 0 || r->closing) {
        look->count = 0;
        look_end(look);
        return;
    }
    look->barrier = (struct meta_barrier){
        .loop = r->ctx->loop, .timeout_ms = 5000, .cb = barrier_cb, .arg = look};
    meta_barrier(r->meta, &look->barrier);
}

void replicator_sessions_tick(struct replicator *r)
{
    uint64_t now = replicator_now(r);
    struct sessions_look *look = NULL;
    if (r->sessions_look == NULL && now >= r->sessions_next_ms) {
        look = calloc(1, sizeof(*look));
    }
    if (look == NULL) {
        return;
    }
    r->sessions_next_ms = now + LOOK_EVERY_MS;
    r->sessions_look = look;
    r->busy++;
    look->r = r;
    look->req =
        (struct chunk_req){.loop = r->ctx->loop, .cb = idle_cb, .arg = look, .size = IDLE_MS};
    chunk_sessions_idle(r->ctx->chunks, &look->req);
}
