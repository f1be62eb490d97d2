#include "image/reserve.h"

#include <stdlib.h>

#include "image/change.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"
#include "tessera/meta/usage.h"

enum { RETRY_MS = 500 };
#define STEP (UINT64_C(32) << 20) /* bytes asked for ahead */

/* One question; it lives until it is answered, also when nobody waits for the answer. */
struct reserve_call {
    struct reservation *owner; /* NULL: ended */
    struct meta_submit submit;
    struct timer timer;
    uint64_t want;
};

static void ask(struct reservation *r);

static bool has_limit(struct image_ctx *ctx, const char *project, bool stage)
{
    struct meta_view *view = NULL;
    struct meta_quota quota;
    bool limited = true; /* what cannot be read is asked for */
    if (project == NULL || meta_view_open(ctx->meta, &view) != 0) {
        return project != NULL;
    }
    if (meta_quota_get(view, project, &quota) == 0) {
        limited = stage ? quota.limit[LIMIT_STAGE] >= 0
                        : quota.limit[LIMIT_SIZE] >= 0 || quota.limit[LIMIT_STORAGE] >= 0;
    }
    meta_view_close(view);
    return limited;
}

void reservation_init(struct reservation *r, struct image_ctx *ctx, const json_t *image, bool stage,
                      int64_t size)
{
    r->ctx = ctx;
    r->granted = size > 0 ? (uint64_t)size : 0;
    r->limited = size < 0 && has_limit(ctx, json_str(image, "owner"), stage);
}

static void on_retry(struct timer *timer)
{
    struct reserve_call *c = container_of(timer, struct reserve_call, timer);
    struct reservation *r = c->owner;
    free(c);
    r->call = NULL; /* an ended one stopped the timer */
    ask(r);
}

static void answered(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct reserve_call *c = req->arg;
    struct reservation *r = c->owner;
    if (r == NULL) {
        free(c);
        return;
    }
    if (change_undecided(status) && status != TSR_ECANCELED) { /* twice does no harm */
        timer_init(&c->timer, r->ctx->loop, on_retry);
        timer_start(&c->timer, RETRY_MS);
        return;
    }
    uint64_t want = c->want;
    r->call = NULL;
    free(c);
    if (status != 0) {
        r->on_refused(r->arg, status, err);
        return;
    }
    r->granted = (uint64_t)json_int(result, "reserved", (int64_t)r->granted);
    r->exhausted = r->granted < want;
    if (r->waiting && r->need <= r->granted) {
        r->waiting = false;
        r->on_room(r->arg);
    } else if (r->waiting) {
        ask(r);
    }
}

static void ask(struct reservation *r)
{
    struct reserve_call *c = calloc(1, sizeof(*c));
    tsr_assert(c != NULL);
    c->owner = r;
    c->want = r->exhausted ? r->need : r->need + STEP;
    json_t *command =
        json_pack("{s:s, s:s, s:s, s:I, s:I}", "op", "image.reserve", "id", r->id, "session",
                  r->session, "bytes", (json_int_t)r->need, "want", (json_int_t)c->want);
    tsr_assert(command != NULL); /* a small object of valid texts */
    timer_init(&c->timer, r->ctx->loop, on_retry);
    c->submit =
        (struct meta_submit){.loop = r->ctx->loop, .command = command, .cb = answered, .arg = c};
    r->call = c;
    meta_submit(r->ctx->meta, &c->submit);
}

bool reservation_need(struct reservation *r, uint64_t size)
{
    r->need = size;
    if (!r->limited) {
        return true;
    }
    bool enough = size <= r->granted;
    bool ahead = !r->exhausted && r->granted < size + STEP / 2;
    r->waiting = !enough;
    if (r->call == NULL && (!enough || ahead)) {
        ask(r);
    }
    return enough;
}

void reservation_end(struct reservation *r)
{
    struct reserve_call *c = r->call;
    r->call = NULL;
    if (c == NULL) {
        return;
    }
    c->owner = NULL;
    if (timer_running(&c->timer)) { /* else its answer is on the way */
        timer_stop(&c->timer);
        free(c);
    }
}
