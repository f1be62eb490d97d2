/* Fetching a chunk, step by step: here -> peers, one after the other -> verify -> (heal) -> done.
 *
 * A copy here that is bad was moved to the quarantine by chunk_get; bytes from a peer are hashed on
 * the cpu pool before anybody sees them. A peer that fails, is slow (10 s) or sends other bytes
 * counts a failure and the next one is asked; after all were asked there is a second round, a
 * second later. With FETCH_HEAL good bytes are put back here before they are given out. Cancel: the
 * step under way ends by itself and the fetch goes with it. */
#include "replica/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"

enum { CHUNK_TIMEOUT_MS = 10 * 1000, ROUNDS = 2, ROUND_PAUSE_MS = 1000 };

struct fetch {
    struct fetch_options o;
    struct peer_call call;
    struct chunk_req req;
    struct work work;
    struct timer timer;
    uint8_t session[SESSION_ID_SIZE]; /* of a heal */
    uint32_t tried;
    unsigned round;
    int host; /* index in sources */
    bool calling, canceled, heal, verified, unreachable;
};

void sources_init(struct source_set *set, uint64_t self, const uint64_t *hosts, size_t host_count)
{
    memset(set, 0, sizeof *set);
    for (size_t i = 0; i < host_count && set->count < REPLICA_HOSTS_MAX; i++) {
        if (hosts[i] != self) {
            set->hosts[set->count++].id = hosts[i];
        }
    }
}

int sources_pick(const struct source_set *set, uint32_t *tried)
{
    int best = -1;
    unsigned best_cost = 0;
    for (size_t i = 0; i < set->count; i++) {
        unsigned failed = set->hosts[i].failed < 100 ? set->hosts[i].failed : 100;
        unsigned cost = failed * 16 + set->hosts[i].inflight;
        if ((*tried >> i & 1u) == 0 && (best < 0 || cost < best_cost)) {
            best = (int)i;
            best_cost = cost;
        }
    }
    if (best >= 0) {
        *tried |= 1u << best;
    }
    return best;
}

/* --- the end -------------------------------------------------------------------------------- */

/* True: it was canceled and is gone. */
static bool gone(struct fetch *f)
{
    if (!f->canceled) {
        return false;
    }
    bufpool_put(f->o.pool, f->o.buffer);
    free(f);
    return true;
}

static void finish(struct fetch *f, int status)
{
    struct fetch_options o = f->o;
    free(f);
    o.cb(o.arg, status, status == 0 ? o.size : 0);
}

/* --- heal ----------------------------------------------------------------------------------- */

static void heal_ended_cb(struct chunk_req *req, int status)
{
    struct fetch *f = req->arg;
    (void)status;
    if (!gone(f)) {
        finish(f, 0);
    }
}

static void healed_cb(struct chunk_req *req, int status)
{
    struct fetch *f = req->arg;
    char hex[65];
    hex_encode(f->o.id.bytes, 32, hex);
    if (status == 0) {
        log_info("replica", "bad or lost copy replaced chunk=%s", hex);
    } else {
        log_warn("replica", "copy could not be replaced chunk=%s error=%s", hex, err_name(status));
    }
    req->cb = heal_ended_cb;
    chunk_session_end(f->o.ctx->chunks, req);
}

static void heal(struct fetch *f)
{
    loop_random(f->o.ctx->loop, f->session, sizeof f->session);
    f->req = (struct chunk_req){.loop = f->o.ctx->loop, .cb = healed_cb, .arg = f};
    memcpy(f->req.session, f->session, sizeof f->session);
    f->req.id = f->o.id;
    f->req.data = f->o.buffer;
    f->req.size = f->o.size;
    chunk_put(f->o.ctx->chunks, &f->req);
}

/* --- peers ---------------------------------------------------------------------------------- */

static void ask_next(struct fetch *f);

static void verify_run(struct work *work)
{
    struct fetch *f = container_of(work, struct fetch, work);
    struct chunk_id is;
    digest_of(DIGEST_SHA256, f->o.buffer, f->o.size, is.bytes);
    f->verified = chunk_id_equal(&is, &f->o.id);
#ifdef TSR_BREAK_FETCH_VERIFY
    f->verified = true;
#endif
}

static void verify_done(struct work *work)
{
    struct fetch *f = container_of(work, struct fetch, work);
    if (gone(f)) {
        return;
    }
    if (!f->verified) {
        log_error("replica", "host sent wrong bytes host=%llu",
                  (unsigned long long)f->o.sources->hosts[f->host].id);
        f->o.sources->hosts[f->host].failed++;
        ask_next(f);
    } else if (f->heal) {
        heal(f);
    } else {
        finish(f, 0);
    }
}

static void call_cb(struct peer_call *call, int status, struct peer_bytes head,
                    struct peer_bytes body)
{
    struct fetch *f = call->arg;
    (void)head;
    f->calling = false;
    if (gone(f)) {
        return;
    }
    f->o.sources->hosts[f->host].inflight--;
    if (status == 0 && body.size != f->o.size) {
        status = TSR_EPROTO;
    }
    if (status != 0) {
        f->unreachable = f->unreachable || err_may_retry(status);
        f->o.sources->hosts[f->host].failed++;
        ask_next(f);
        return;
    }
    memcpy(f->o.buffer, body.data, body.size);
    f->work = (struct work){.loop = f->o.ctx->loop, .run = verify_run, .done = verify_done};
    pool_submit(f->o.ctx->cpu_pool, &f->work);
}

static void next_round(struct timer *timer)
{
    struct fetch *f = container_of(timer, struct fetch, timer);
    f->tried = 0;
    ask_next(f);
}

static void ask_next(struct fetch *f)
{
    f->host = sources_pick(f->o.sources, &f->tried);
    if (f->host < 0) {
        if (f->unreachable && ++f->round < ROUNDS) {
            timer_start(&f->timer, ROUND_PAUSE_MS);
        } else {
            finish(f, f->unreachable ? TSR_EUNAVAILABLE : TSR_EIO);
        }
        return;
    }
    f->call = (struct peer_call){
        .host_id = f->o.sources->hosts[f->host].id,
        .type = PEER_CHUNK_GET,
        .head = {f->o.id.bytes, sizeof f->o.id.bytes},
        .timeout_ms = CHUNK_TIMEOUT_MS,
        .cb = call_cb,
        .arg = f,
    };
    f->o.sources->hosts[f->host].inflight++;
    f->calling = true;
    peer_call_start(f->o.ctx->peers, &f->call);
}

/* --- here ----------------------------------------------------------------------------------- */

static void here_cb(struct chunk_req *req, int status)
{
    struct fetch *f = req->arg;
    if (gone(f)) {
        return;
    }
    if (status == 0 && req->size_out == f->o.size) {
        finish(f, 0);
        return;
    }
    f->heal = (f->o.flags & FETCH_HEAL) != 0 && (status == TSR_ECORRUPT || status == TSR_ENOENT);
    ask_next(f);
}

static void start_task(struct timer *timer)
{
    struct fetch *f = container_of(timer, struct fetch, timer);
    timer_init(&f->timer, f->o.ctx->loop, next_round);
    ask_next(f);
}

struct fetch *fetch_start(const struct fetch_options *options)
{
    struct fetch *f = calloc(1, sizeof *f);
    if (f == NULL) {
        return NULL;
    }
    f->o = *options;
    timer_init(&f->timer, f->o.ctx->loop, next_round);
    if ((f->o.flags & FETCH_LOCAL) != 0 && f->o.ctx->chunks != NULL) {
        f->req = (struct chunk_req){.loop = f->o.ctx->loop, .cb = here_cb, .arg = f};
        f->req.id = f->o.id;
        f->req.buffer = f->o.buffer;
        chunk_get(f->o.ctx->chunks, &f->req);
    } else {
        f->heal = (f->o.flags & FETCH_HEAL) != 0;
        timer_init(&f->timer, f->o.ctx->loop, start_task); /* never calls back at once */
        timer_start(&f->timer, 0);
    }
    return f;
}

void fetch_cancel(struct fetch *f)
{
    f->canceled = true;
    if (f->calling) {
        peer_call_cancel(f->o.ctx->peers, &f->call);
    } else if (timer_running(&f->timer)) {
        timer_stop(&f->timer);
        gone(f);
    }
}
