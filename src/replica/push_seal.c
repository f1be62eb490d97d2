/* The end of an upload: every host still in the set seals, in parallel.
 *
 * Happy path: encode the manifest -> seal here and SEAL on the peers -> all have answered -> the
 * caller gets the hosts that hold a durable replica. A host that lacks chunks (it was restarted, or
 * told "have" of a copy that turned out bad) lists them; they are sent again from the store of this
 * host, then it is asked once more, at most three times. Failures: a host that fails is left out,
 * and so is a peer that gets nowhere for 15 s after the others were done, if those are enough: it
 * may be a machine that hangs with its connections open. Fewer than seals_min sealed ->
 * TSR_EUNAVAILABLE and the session ends on all hosts, so that nothing is left behind. */
#include "replica/push.h"

#include <stdlib.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum { SEAL_TIMEOUT_MS = 120 * 1000, ROUNDS_MAX = 3 };

static void seal_host(struct push_host *host);
static void send_missing(struct push_host *host);

/* --- one host ------------------------------------------------------------------------------- */

static void host_over(struct push_host *host, int status)
{
    struct replica_writer *w = host->w;
    if (status == 0) {
        host->sealed = true;
    } else if (!w->aborted && host->failed == 0) {
        host->failed = status;
        log_warn("replica", "host did not seal host=%llu error=%s", (unsigned long long)host->id,
                 err_name(status));
    }
    free(host->missing);
    free(host->buffer);
    host->missing = NULL;
    host->buffer = NULL;
    w->over_ms = loop_now_ms(w->ctx->loop);
    w->sealing--;
    w->busy--;
    if (w->sealing == 0) {
        push_end(w);
    }
}

/* @status of a seal; takes @missing. */
static void sealed(struct push_host *host, int status, struct chunk_id *missing, size_t count)
{
    struct replica_writer *w = host->w;
    if (status != TSR_ENOENT || count == 0 || w->aborted || host->rounds >= ROUNDS_MAX ||
        w->ctx->chunks == NULL) {
        free(missing);
        host_over(host, status);
        return;
    }
    host->missing = missing;
    host->missing_count = count;
    host->missing_at = 0;
    host->buffer = malloc(w->ctx->chunk_bytes); /* rare: no buffer of the class is asked for */
    if (host->buffer == NULL) {
        host_over(host, TSR_ENOMEM);
        return;
    }
    log_info("replica", "sending chunks again host=%llu chunks=%zu", (unsigned long long)host->id,
             count);
    send_missing(host);
}

static void seal_here_cb(struct chunk_req *req, int status)
{
    struct push_host *host = req->arg;
    /* What this host itself lacks nobody here can send; its peers have it. */
    free(req->missing);
    sealed(host, status, NULL, 0);
}

static void seal_peer_cb(struct peer_call *call, int status, struct peer_bytes head,
                         struct peer_bytes body)
{
    struct push_host *host = call->arg;
    struct chunk_id *missing = NULL;
    size_t count = body.size / sizeof *missing;
    (void)head;
    host->calling = false;
    if (status == TSR_ENOENT && count > 0 && body.size % sizeof *missing == 0 &&
        count <= host->w->manifest.count) {
        missing = malloc(body.size);
        if (missing != NULL) {
            memcpy(missing, body.data, body.size);
        }
    }
    sealed(host, status, missing, missing != NULL ? count : 0);
}

static void call_host(struct push_host *host, enum peer_call_type type, const struct chunk_id *id,
                      struct peer_bytes body, peer_call_cb cb)
{
    struct replica_writer *w = host->w;
    wire_session_id(host->head, w->options.session, id);
    host->call = (struct peer_call){
        .host_id = host->id,
        .type = type,
        .head = {host->head, WIRE_SESSION_ID},
        .body = body,
        .timeout_ms = SEAL_TIMEOUT_MS,
        .cb = cb,
        .arg = host,
    };
    host->calling = true;
    host->called_ms = loop_now_ms(w->ctx->loop);
    peer_call_start(w->ctx->peers, &host->call);
}

static void seal_host(struct push_host *host)
{
    struct replica_writer *w = host->w;
    host->rounds++;
    if (!host->self) {
        call_host(host, PEER_SEAL, &w->manifest_id,
                  (struct peer_bytes){w->encoded, w->encoded_size}, seal_peer_cb);
        return;
    }
    host->req.loop = w->ctx->loop;
    host->req.cb = seal_here_cb;
    host->req.arg = host;
    memcpy(host->req.session, w->options.session, SESSION_ID_SIZE);
    host->req.id = w->manifest_id;
    host->req.data = w->encoded;
    host->req.size = w->encoded_size;
    chunk_seal(w->ctx->chunks, &host->req);
}

/* --- sending again -------------------------------------------------------------------------- */

static void sent_again_cb(struct peer_call *call, int status, struct peer_bytes head,
                          struct peer_bytes body)
{
    struct push_host *host = call->arg;
    (void)head;
    (void)body;
    host->calling = false;
    if (status != 0) {
        host_over(host, status);
        return;
    }
    host->missing_at++;
    send_missing(host);
}

static void got_again_cb(struct chunk_req *req, int status)
{
    struct push_host *host = req->arg;
    if (status != 0 || host->w->aborted) {
        host_over(host, status != 0 ? status : TSR_ECANCELED);
        return;
    }
    call_host(host, PEER_CHUNK_PUT, &req->id, (struct peer_bytes){host->buffer, req->size_out},
              sent_again_cb);
}

static void send_missing(struct push_host *host)
{
    struct replica_writer *w = host->w;
    if (w->aborted) {
        host_over(host, TSR_ECANCELED);
        return;
    }
    if (host->missing_at == host->missing_count) {
        free(host->missing);
        free(host->buffer);
        host->missing = NULL;
        host->buffer = NULL;
        seal_host(host);
        return;
    }
    host->req.loop = w->ctx->loop;
    host->req.cb = got_again_cb;
    host->req.arg = host;
    host->req.id = host->missing[host->missing_at];
    host->req.buffer = host->buffer;
    host->req.verify = false;
    chunk_get(w->ctx->chunks, &host->req);
}

/* --- all of them ---------------------------------------------------------------------------- */

void push_seal_start(struct replica_writer *w)
{
    w->phase = PUSH_SEALING;
    int rv = manifest_encode(&w->manifest, &w->encoded, &w->encoded_size, &w->manifest_id);
    if (rv != 0) {
        w->status = err_set(&w->err, rv, "image cannot be described: %s", err_text(rv));
        push_end(w);
        return;
    }
    w->sealing = 1; /* not over while we start them */
    for (size_t i = 0; i < w->host_count; i++) {
        if (w->hosts[i].failed == 0) {
            w->sealing++;
            w->busy++;
            seal_host(&w->hosts[i]);
        }
    }
    if (--w->sealing == 0) {
        push_end(w);
    }
}

static size_t sealed_count(const struct replica_writer *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->host_count; i++) {
        count += w->hosts[i].sealed;
    }
    return count;
}

void push_seal_drop_stalled(struct replica_writer *w)
{
    uint64_t now = loop_now_ms(w->ctx->loop);
    size_t have = sealed_count(w);
    if (have == 0 || have < w->options.seals_min || now - w->over_ms < PUSH_STALL_MS) {
        return;
    }
    for (size_t i = 0; i < w->host_count; i++) {
        struct push_host *host = &w->hosts[i];
        if (host->calling && host->failed == 0 && now - host->called_ms >= PUSH_STALL_MS) {
            push_host_fail(host, TSR_ETIMEOUT);
            peer_call_cancel(w->ctx->peers, &host->call);
        }
    }
}

static void hex_digest(struct digest *d, enum digest_kind kind, char *out)
{
    uint8_t bytes[DIGEST_MAX];
    digest_final(d, bytes);
    hex_encode(bytes, digest_size(kind), out);
}

static int fill_result(struct replica_writer *w, struct replica_result *out)
{
    memset(out, 0, sizeof *out);
    if (w->status != 0) {
        return w->status;
    }
    out->manifest = w->manifest_id;
    out->size = w->manifest.size;
    hex_digest(w->md5.digest, DIGEST_MD5, out->checksum);
    hex_digest(w->sha512.digest, DIGEST_SHA512, out->sha512);
    for (size_t i = 0; i < w->host_count; i++) {
        if (w->hosts[i].sealed) {
            out->sealed[out->sealed_count++] = w->hosts[i].id;
        }
    }
    if (out->sealed_count < w->options.seals_min || out->sealed_count == 0) {
        return err_set(&w->err, TSR_EUNAVAILABLE, "only %zu of %zu hosts stored the image",
                       out->sealed_count, w->options.seals_min);
    }
    return 0;
}

static void end_sessions(struct replica_writer *w)
{
    uint64_t ids[REPLICA_HOSTS_MAX];
    for (size_t i = 0; i < w->host_count; i++) {
        ids[i] = w->hosts[i].id;
    }
    replica_session_end(w->ctx, w->options.session, ids, w->host_count);
}

void push_end(struct replica_writer *w)
{
    if (w->busy > 0 || w->task_posted) {
        return; /* called again by the last of them */
    }
    tsr_assert(list_empty(&w->slots));
    w->phase = PUSH_ENDING;
    timer_stop(&w->timer);
    push_drop_buffer(w);
    struct replica_result result;
    int status = w->aborted ? TSR_ECANCELED : fill_result(w, &result);
    if (status != 0) {
        end_sessions(w);
    }
    if (w->cb != NULL) {
        w->cb(w->arg, status, status == 0 ? &result : NULL, &w->err);
    } else if (w->abort_cb != NULL) {
        w->abort_cb(w->arg);
    }
    digest_free(w->md5.digest);
    digest_free(w->sha512.digest);
    manifest_free(&w->manifest);
    free(w->encoded);
    buf_free(&w->rest);
    free(w);
}

/* --- end of a session ----------------------------------------------------------------------- */

struct session_end {
    struct session_ends *all;
    struct peer_call call;
    struct chunk_req req;
};

struct session_ends {
    uint8_t session[SESSION_ID_SIZE];
    unsigned pending;
    struct session_end each[];
};

static void ended(struct session_end *e)
{
    if (--e->all->pending == 0) {
        free(e->all);
    }
}

static void ended_peer_cb(struct peer_call *call, int status, struct peer_bytes head,
                          struct peer_bytes body)
{
    (void)status; /* best effort: reservations expire */
    (void)head;
    (void)body;
    ended(call->arg);
}

static void ended_here_cb(struct chunk_req *req, int status)
{
    (void)status;
    ended(req->arg);
}

void replica_session_end(struct replica_ctx *ctx, const uint8_t session[SESSION_ID_SIZE],
                         const uint64_t *hosts, size_t host_count)
{
    struct session_ends *all = calloc(1, sizeof *all + host_count * sizeof all->each[0]);
    if (all == NULL) {
        return;
    }
    memcpy(all->session, session, SESSION_ID_SIZE);
    all->pending = 1;
    for (size_t i = 0; i < host_count; i++) {
        struct session_end *e = &all->each[i];
        e->all = all;
        if (hosts[i] == ctx->self && ctx->chunks == NULL) {
            continue;
        }
        all->pending++;
        if (hosts[i] == ctx->self) {
            e->req.loop = ctx->loop;
            e->req.cb = ended_here_cb;
            e->req.arg = e;
            memcpy(e->req.session, session, SESSION_ID_SIZE);
            chunk_session_end(ctx->chunks, &e->req);
        } else {
            e->call = (struct peer_call){
                .host_id = hosts[i],
                .type = PEER_SESSION_END,
                .head = {all->session, SESSION_ID_SIZE},
                .cb = ended_peer_cb,
                .arg = e,
            };
            peer_call_start(ctx->peers, &e->call);
        }
    }
    if (--all->pending == 0) {
        free(all);
    }
}
