#include "replica/manifest_fetch.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"

enum { MANIFEST_TIMEOUT_MS = 10 * 1000 };

struct manifest_fetch {
    struct replica_ctx *ctx;
    struct chunk_id id;
    struct source_set *sources;
    manifest_fetch_cb cb;
    void *arg;
    struct chunk_req req;
    struct peer_call call;
    struct work work;
    struct task task;
    struct manifest manifest;
    uint32_t tried;
    int host, status;
    bool calling, unreachable, canceled;
    char *data;
    size_t size;
};

static void ask_next(struct manifest_fetch *f);

static bool gone(struct manifest_fetch *f)
{
    if (!f->canceled) {
        return false;
    }
    manifest_free(&f->manifest);
    free(f->data);
    free(f);
    return true;
}

static void finish(struct manifest_fetch *f, int status, bool here)
{
    struct manifest_fetch end = *f;
    free(f->data);
    free(f);
    end.cb(end.arg, status, status == 0 ? &end.manifest : NULL, here);
}

static void decode_run(struct work *work)
{
    struct manifest_fetch *f = container_of(work, struct manifest_fetch, work);
    struct chunk_id is;
    digest_of(DIGEST_SHA256, f->data, f->size, is.bytes);
    f->status = chunk_id_equal(&is, &f->id) ? manifest_decode(f->data, f->size, &f->manifest)
                                            : TSR_ECORRUPT;
}

static void decode_done(struct work *work)
{
    struct manifest_fetch *f = container_of(work, struct manifest_fetch, work);
    if (gone(f)) {
        return;
    }
    if (f->status == 0) {
        finish(f, 0, false);
        return;
    }
    log_error("replica", "host sent a wrong manifest host=%llu",
              (unsigned long long)f->sources->hosts[f->host].id);
    f->sources->hosts[f->host].failed++;
    free(f->data);
    f->data = NULL;
    ask_next(f);
}

static void answered_cb(struct peer_call *call, int status, struct peer_bytes head,
                        struct peer_bytes body)
{
    struct manifest_fetch *f = call->arg;
    (void)head;
    f->calling = false;
    if (gone(f)) {
        return;
    }
    if (status == 0) {
        f->data = malloc(body.size > 0 ? body.size : 1);
        status = f->data != NULL ? 0 : TSR_ENOMEM;
    }
    if (status != 0) {
        f->unreachable = f->unreachable || err_may_retry(status);
        f->sources->hosts[f->host].failed++;
        ask_next(f);
        return;
    }
    memcpy(f->data, body.data, body.size);
    f->size = body.size;
    f->work = (struct work){.loop = f->ctx->loop, .run = decode_run, .done = decode_done};
    pool_submit(f->ctx->cpu_pool, &f->work);
}

static void ask_next(struct manifest_fetch *f)
{
    f->host = sources_pick(f->sources, &f->tried);
    if (f->host < 0) {
        finish(f, f->unreachable ? TSR_EUNAVAILABLE : TSR_EIO, false);
        return;
    }
    f->call = (struct peer_call){
        .host_id = f->sources->hosts[f->host].id,
        .type = PEER_MANIFEST_GET,
        .head = {f->id.bytes, sizeof f->id.bytes},
        .timeout_ms = MANIFEST_TIMEOUT_MS,
        .cb = answered_cb,
        .arg = f,
    };
    f->calling = true;
    peer_call_start(f->ctx->peers, &f->call);
}

static void here_cb(struct chunk_req *req, int status)
{
    struct manifest_fetch *f = req->arg;
    f->manifest = req->manifest; /* empty on failure */
    if (gone(f)) {
        return;
    }
    if (status == 0) {
        finish(f, 0, true);
    } else {
        ask_next(f);
    }
}

static void no_store_task(struct task *task)
{
    struct manifest_fetch *f = container_of(task, struct manifest_fetch, task);
    if (!gone(f)) {
        ask_next(f);
    }
}

struct manifest_fetch *manifest_fetch_start(struct replica_ctx *ctx, const struct chunk_id *id,
                                            struct source_set *sources, manifest_fetch_cb cb,
                                            void *arg)
{
    struct manifest_fetch *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return NULL;
    }
    f->ctx = ctx;
    f->id = *id;
    f->sources = sources;
    f->cb = cb;
    f->arg = arg;
    if (ctx->chunks != NULL) {
        f->req = (struct chunk_req){.loop = ctx->loop, .cb = here_cb, .arg = f, .id = *id};
        chunk_manifest_get(ctx->chunks, &f->req);
    } else {
        f->task.run = no_store_task;
        loop_post(ctx->loop, &f->task);
    }
    return f;
}

void manifest_fetch_cancel(struct manifest_fetch *f)
{
    f->canceled = true;
    if (f->calling) {
        peer_call_cancel(f->ctx->peers, &f->call);
    }
}
