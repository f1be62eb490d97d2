/* The writer: an upload cut into chunks, hashed, and stored on several hosts while it comes in.
 *
 * Happy path of a chunk: the cutter fills a buffer -> cpu pool: SHA-256 (chunks in parallel), MD5
 * and SHA-512 (each a chain in order, so that they use cores of their own) -> a zero chunk is only
 * counted; else it is put here and sent to each peer. The buffer goes back when all are done with
 * it; there are at most 8 of them, and an empty pool pauses the source. That is all the flow
 * control there is: the slowest of disk, digest and peers sets the pace. A peer is asked before a
 * chunk is sent only while it turns out to have chunks: first one, then as long as the answer is
 * yes; and a put that finds the chunk there makes us ask again.
 *
 * Failures: a host that refuses, times out or is lost is dropped from the set, this one too (a full
 * disk here passes chunks on). One that gets nowhere for 15 s while the others are done is dropped
 * if enough are left. Fewer than seals_min: on_fail once; what comes after is thrown away. Close:
 * finish and abort wait until every operation under way has called back. */
#include "replica/push.h"

#include <stdlib.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum {
    BUFFERS_MIN = 2,
    BUFFERS_MAX = 8,
    TICK_MS = 1000,
    PUT_TIMEOUT_MS = 60 * 1000,
};

static void pump(struct replica_writer *w);

/* --- who is left ---------------------------------------------------------------------------- */

size_t push_hosts_left(const struct replica_writer *w)
{
    size_t left = 0;
    for (size_t i = 0; i < w->host_count; i++) {
        left += w->hosts[i].failed == 0;
    }
    return left;
}

static void tell_failure(struct task *task)
{
    struct replica_writer *w = container_of(task, struct replica_writer, task);
    w->task_posted = false;
    if (w->phase == PUSH_OPEN && !w->told && w->options.on_fail != NULL) {
        w->told = true;
        w->busy++; /* the callback may finish or abort: not freed below our feet */
        w->options.on_fail(w->options.arg, w->status, &w->err);
        w->busy--;
    }
    push_advance(w);
}

static void cancel_sends(struct replica_writer *w, const struct push_host *host)
{
    list_each(node, &w->slots)
    {
        struct push_slot *slot = container_of(node, struct push_slot, node);
        for (size_t i = 0; i < w->host_count; i++) {
            struct push_send *send = &slot->sends[i];
            if (send->active && (host == NULL || send->host == host)) {
                peer_call_cancel(w->ctx->peers, &send->call);
            }
        }
    }
}

void push_fail(struct replica_writer *w, int status, const char *why)
{
    if (w->status != 0) {
        return;
    }
    w->status = err_set(&w->err, status, "%s", why);
    cancel_sends(w, NULL);
    if (!w->task_posted) {
        w->task_posted = true;
        w->task.run = tell_failure;
        loop_post(w->ctx->loop, &w->task);
    }
}

void push_host_fail(struct push_host *host, int status)
{
    struct replica_writer *w = host->w;
    if (host->failed != 0 || w->aborted) {
        return;
    }
    host->failed = status;
    log_warn("replica", "host dropped from an upload host=%llu error=%s",
             (unsigned long long)host->id, err_name(status));
    cancel_sends(w, host);
    if (push_hosts_left(w) >= w->options.seals_min && push_hosts_left(w) > 0) {
        return;
    }
    bool full = true;
    for (size_t i = 0; i < w->host_count; i++) {
        full = full && (w->hosts[i].failed == 0 || w->hosts[i].failed == TSR_ENOSPC);
    }
    push_fail(w, full ? TSR_ENOSPC : TSR_EUNAVAILABLE,
              full ? "no host has room for the image" : "too few hosts can store the image");
}

/* --- a chunk is done ------------------------------------------------------------------------ */

static void slot_unuse(struct push_slot *slot)
{
    struct replica_writer *w = slot->w;
    tsr_assert(slot->uses > 0);
    if (--slot->uses > 0) {
        return;
    }
    void *data = slot->data;
    list_remove(&slot->node);
    free(slot);
    w->held--;
    bufpool_put(w->ctx->upload_buffers, data); /* may wake our own waiter */
}

/* End of one operation of a slot. */
static void slot_done(struct push_slot *slot)
{
    struct replica_writer *w = slot->w;
    slot_unuse(slot);
    w->busy--;
    push_advance(w);
}

/* --- sending -------------------------------------------------------------------------------- */

static void send_put(struct push_send *send);

static void put_sent_cb(struct peer_call *call, int status, struct peer_bytes head,
                        struct peer_bytes body)
{
    struct push_send *send = call->arg;
    (void)body;
    send->active = false;
    if (status != 0) {
        push_host_fail(send->host, status);
    } else if (head.size == 1 && *(const uint8_t *)head.data != 0) {
        send->host->ask = true;
    }
    slot_done(send->slot);
}

static void send_put(struct push_send *send)
{
    struct push_slot *slot = send->slot;
    wire_session_id(send->head, slot->w->options.session, &slot->id);
    send->call = (struct peer_call){
        .host_id = send->host->id,
        .type = PEER_CHUNK_PUT,
        .head = {send->head, WIRE_SESSION_ID},
        .body = {slot->data, slot->size},
        .timeout_ms = PUT_TIMEOUT_MS,
        .cb = put_sent_cb,
        .arg = send,
    };
    send->active = true;
    peer_call_start(slot->w->ctx->peers, &send->call);
}

static void asked_cb(struct peer_call *call, int status, struct peer_bytes head,
                     struct peer_bytes body)
{
    struct push_send *send = call->arg;
    struct replica_writer *w = send->slot->w;
    (void)body;
    send->active = false;
    if (status == 0 && head.size != 1) {
        status = TSR_EPROTO;
    }
    if (status != 0) {
        push_host_fail(send->host, status);
    } else {
        bool has = *(const uint8_t *)head.data != 0;
        send->host->ask = has;
        if (!has && send->host->failed == 0 && w->status == 0 && !w->aborted) {
            send_put(send);
            return;
        }
    }
    slot_done(send->slot);
}

static void send_ask(struct push_send *send)
{
    struct push_slot *slot = send->slot;
    wire_have_one(send->head, slot->w->options.session, &slot->id);
    send->call = (struct peer_call){
        .host_id = send->host->id,
        .type = PEER_CHUNK_HAVE,
        .head = {send->head, WIRE_HAVE_ONE},
        .timeout_ms = PUT_TIMEOUT_MS,
        .cb = asked_cb,
        .arg = send,
    };
    send->active = true;
    peer_call_start(slot->w->ctx->peers, &send->call);
}

static void put_here_cb(struct chunk_req *req, int status)
{
    struct push_slot *slot = req->arg;
    struct replica_writer *w = slot->w;
    if (status != 0) {
        for (size_t i = 0; i < w->host_count; i++) {
            if (w->hosts[i].self) {
                push_host_fail(&w->hosts[i], status);
            }
        }
    }
    slot_done(slot);
}

static void put_here(struct push_slot *slot)
{
    struct replica_writer *w = slot->w;
    slot->put.loop = w->ctx->loop;
    slot->put.cb = put_here_cb;
    slot->put.arg = slot;
    memcpy(slot->put.session, w->options.session, SESSION_ID_SIZE);
    slot->put.id = slot->id;
    slot->put.data = slot->data;
    slot->put.size = slot->size;
    chunk_put(w->ctx->chunks, &slot->put);
}

static void store_everywhere(struct push_slot *slot)
{
    struct replica_writer *w = slot->w;
    slot->sent_ms = loop_now_ms(w->ctx->loop);
    for (size_t i = 0; i < w->host_count; i++) {
        struct push_host *host = &w->hosts[i];
        struct push_send *send = &slot->sends[i];
        *send = (struct push_send){.slot = slot, .host = host};
        if (host->failed != 0) {
            continue;
        }
        slot->uses++;
        w->busy++;
        if (host->self) {
            put_here(slot);
        } else if (host->ask) {
            send_ask(send);
        } else {
            send_put(send);
        }
    }
}

/* --- digests -------------------------------------------------------------------------------- */

static void name_run(struct work *work)
{
    struct push_slot *slot = container_of(work, struct push_slot, work);
    slot->zero = chunk_data_is_zero(slot->data, slot->size);
    if (!slot->zero) {
        digest_of(DIGEST_SHA256, slot->data, slot->size, slot->id.bytes);
    }
}

static void name_done(struct work *work)
{
    struct push_slot *slot = container_of(work, struct push_slot, work);
    struct replica_writer *w = slot->w;
    w->manifest.chunks[slot->n] = slot->id; /* all zero for a zero chunk */
    if (!slot->zero && w->status == 0 && !w->aborted) {
        store_everywhere(slot);
    }
    slot_done(slot);
}

static void chain_kick(struct push_chain *chain);

static void chain_run(struct work *work)
{
    struct push_chain *chain = container_of(work, struct push_chain, work);
    digest_update(chain->digest, chain->slot->data, chain->slot->size);
}

static void chain_done(struct work *work)
{
    struct push_chain *chain = container_of(work, struct push_chain, work);
    struct push_slot *slot = chain->slot;
    chain->slot = NULL;
    chain->next++;
    chain_kick(chain);
    slot_done(slot);
}

/* The next chunk in order, if it is there and none is being added. */
static void chain_kick(struct push_chain *chain)
{
    struct replica_writer *w = chain->w;
    if (chain->slot != NULL) {
        return;
    }
    list_each(node, &w->slots)
    {
        struct push_slot *slot = container_of(node, struct push_slot, node);
        if (slot->n == chain->next) {
            chain->slot = slot;
            chain->work = (struct work){.loop = w->ctx->loop, .run = chain_run, .done = chain_done};
            pool_submit(w->ctx->cpu_pool, &chain->work);
            return;
        }
    }
}

/* --- cutting -------------------------------------------------------------------------------- */

static int add_id(struct replica_writer *w)
{
    struct manifest *m = &w->manifest;
    if (m->count == w->id_capacity) {
        size_t more = w->id_capacity == 0 ? 256 : w->id_capacity * 2;
        struct chunk_id *ids = realloc(m->chunks, more * sizeof *ids);
        if (ids == NULL) {
            return TSR_ENOMEM;
        }
        m->chunks = ids;
        w->id_capacity = more;
    }
    memset(&m->chunks[m->count++], 0, sizeof *m->chunks);
    return 0;
}

/* The buffer of the cutter is a chunk now. */
static void dispatch(struct replica_writer *w)
{
    struct push_slot *slot = calloc(1, sizeof *slot + w->host_count * sizeof slot->sends[0]);
    if (slot == NULL || add_id(w) != 0) {
        free(slot);
        w->cutter.fill = 0;
        push_fail(w, TSR_ENOMEM, "out of memory");
        return;
    }
    slot->w = w;
    slot->n = w->manifest.count - 1;
    slot->data = w->cutter.buffer;
    slot->size = w->cutter.fill;
    slot->uses = 3;
    w->cutter.buffer = NULL;
    w->cutter.fill = 0;
    w->busy += 3;
    list_push(&w->slots, &slot->node);
    slot->work = (struct work){.loop = w->ctx->loop, .run = name_run, .done = name_done};
    pool_submit(w->ctx->cpu_pool, &slot->work);
    chain_kick(&w->md5);
    chain_kick(&w->sha512);
}

static void waiter_cb(struct bufpool_waiter *waiter, void *buffer)
{
    struct replica_writer *w = container_of(waiter, struct replica_writer, waiter);
    w->waiting = false;
    w->held++;
    w->cutter.buffer = buffer;
    pump(w);
}

/* Two buffers are everybody's right; more only while half of the class is free. */
static bool take_buffer(struct replica_writer *w)
{
    struct bufpool *pool = w->ctx->upload_buffers;
    if (w->cutter.buffer != NULL) {
        return true;
    }
    if (w->waiting || w->held >= BUFFERS_MAX ||
        (w->held >= BUFFERS_MIN && bufpool_in_use(pool) * 2 >= bufpool_count_max(pool))) {
        return false; /* one of ours comes back */
    }
    w->cutter.buffer = bufpool_get(pool);
    if (w->cutter.buffer == NULL) {
        w->waiting = true;
        bufpool_wait(pool, &w->waiter);
        return false;
    }
    w->held++;
    return true;
}

static void feed(struct replica_writer *w, const uint8_t **data, size_t *size)
{
    while (*size > 0 && w->status == 0 && take_buffer(w)) {
        if (cutter_feed(&w->cutter, data, size)) {
            dispatch(w);
        }
    }
}

/* Room again: take what waits, then let the source go on. */
static void pump(struct replica_writer *w)
{
    if (w->status != 0 || w->aborted) {
        buf_clear(&w->rest);
    }
    if (w->rest.size > 0) {
        const uint8_t *data = (const uint8_t *)w->rest.data;
        size_t size = w->rest.size;
        feed(w, &data, &size);
        buf_consume(&w->rest, w->rest.size - size);
    }
    if (w->paused && w->rest.size == 0 && w->phase == PUSH_OPEN &&
        (w->status != 0 || take_buffer(w))) {
        w->paused = false;
        w->fed_ms = loop_now_ms(w->ctx->loop);
        w->busy++;
        w->options.on_drain(w->options.arg);
        w->busy--;
    }
}

bool replica_writer_write(struct replica_writer *w, const void *data, size_t size)
{
    const uint8_t *p = data;
    tsr_assert(w->phase == PUSH_OPEN);
    if (w->status != 0) {
        return true; /* thrown away; on_fail tells */
    }
    w->fed_ms = loop_now_ms(w->ctx->loop);
    if (w->rest.size == 0) {
        feed(w, &p, &size);
    }
    if (size > 0 && w->status == 0 && buf_append(&w->rest, p, size) != 0) {
        push_fail(w, TSR_ENOMEM, "out of memory");
    }
    if (w->status != 0) {
        return true;
    }
    /* Pause as soon as the next byte would have to wait. */
    w->paused = w->rest.size > 0 || !take_buffer(w);
    return !w->paused;
}

/* --- slow hosts ----------------------------------------------------------------------------- */

/* Only hosts that all others wait for: pending on a chunk that somebody has stored. */
static void drop_stalled(struct replica_writer *w)
{
    uint64_t now = loop_now_ms(w->ctx->loop);
    if (list_empty(&w->slots) || push_hosts_left(w) <= w->options.seals_min) {
        return;
    }
    struct push_slot *slot = container_of(w->slots.next, struct push_slot, node);
    if (slot->sent_ms == 0 || now - slot->sent_ms < PUSH_STALL_MS) {
        return;
    }
    size_t pending = 0;
    struct push_host *last = NULL;
    for (size_t i = 0; i < w->host_count; i++) {
        if (slot->sends[i].active && w->hosts[i].failed == 0) {
            pending++;
            last = &w->hosts[i];
        }
    }
    if (last != NULL && pending < push_hosts_left(w)) {
        push_host_fail(last, TSR_ETIMEOUT);
    }
}

/* A source that has stopped in mid-chunk keeps a buffer: some dozens of them would keep all. */
static void give_up_silent(struct replica_writer *w)
{
    if (w->phase == PUSH_OPEN && !w->paused && w->cutter.buffer != NULL &&
        loop_now_ms(w->ctx->loop) - w->fed_ms >= PUSH_SILENT_MS &&
        bufpool_wanted(w->ctx->upload_buffers)) {
        push_fail(w, TSR_EUNAVAILABLE,
                  "The upload was given up: no data came for 30 seconds while others waited for "
                  "its memory.");
    }
}

static void tick(struct timer *timer)
{
    struct replica_writer *w = container_of(timer, struct replica_writer, timer);
    timer_start(&w->timer, TICK_MS);
    if (w->phase == PUSH_SEALING) {
        push_seal_drop_stalled(w);
    } else {
        drop_stalled(w);
        give_up_silent(w);
    }
    push_advance(w);
}

/* --- life ----------------------------------------------------------------------------------- */

void push_drop_buffer(struct replica_writer *w)
{
    struct bufpool *pool = w->ctx->upload_buffers;
    if (w->waiting) {
        w->waiting = false;
        bufpool_unwait(pool, &w->waiter);
    }
    if (w->cutter.buffer != NULL) {
        void *buffer = w->cutter.buffer;
        w->cutter.buffer = NULL;
        w->held--;
        bufpool_put(pool, buffer);
    }
}

void push_advance(struct replica_writer *w)
{
    if (w->phase == PUSH_OPEN || w->phase == PUSH_FLUSHING) {
        w->busy++;
        pump(w);
        w->busy--;
    }
    if (w->phase == PUSH_FLUSHING && w->status == 0 && w->rest.size == 0 && !w->aborted) {
        if (w->cutter.fill > 0) {
            dispatch(w); /* the short one at the end */
        }
        push_drop_buffer(w);
    }
    if (w->busy > 0 || w->task_posted) {
        return;
    }
    if (w->aborted || (w->status != 0 && w->phase != PUSH_OPEN)) {
        push_end(w);
    } else if (w->phase == PUSH_FLUSHING && w->rest.size == 0 && list_empty(&w->slots)) {
        push_seal_start(w);
    }
}

static int init_digests(struct replica_writer *w)
{
    w->md5 = (struct push_chain){.w = w, .digest = digest_new(DIGEST_MD5)};
    w->sha512 = (struct push_chain){.w = w, .digest = digest_new(DIGEST_SHA512)};
    if (w->md5.digest == NULL || w->sha512.digest == NULL) {
        digest_free(w->md5.digest);
        digest_free(w->sha512.digest);
        return TSR_ENOMEM;
    }
    return 0;
}

int replica_writer_open(struct replica_ctx *ctx, const struct replica_writer_options *options,
                        struct replica_writer **out)
{
    if (options->host_count == 0 || options->host_count > REPLICA_HOSTS_MAX ||
        options->seals_min > options->host_count) {
        return TSR_EINVAL;
    }
    struct replica_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return TSR_ENOMEM;
    }
    w->ctx = ctx;
    w->options = *options;
    w->options.hosts = NULL; /* the caller's array is not kept */
    w->host_count = options->host_count;
    for (size_t i = 0; i < w->host_count; i++) {
        w->hosts[i] = (struct push_host){
            .w = w, .id = options->hosts[i], .self = options->hosts[i] == ctx->self, .ask = true};
        if (w->hosts[i].self && ctx->chunks == NULL) {
            free(w);
            return TSR_EINVAL;
        }
    }
    if (init_digests(w) != 0) {
        free(w);
        return TSR_ENOMEM;
    }
    cutter_init(&w->cutter, ctx->chunk_bytes);
    w->manifest.chunk_bytes = ctx->chunk_bytes;
    buf_init(&w->rest);
    list_init(&w->slots);
    w->waiter.cb = waiter_cb;
    list_init(&w->waiter.node);
    w->fed_ms = loop_now_ms(ctx->loop);
    timer_init(&w->timer, ctx->loop, tick);
    timer_start(&w->timer, TICK_MS);
    *out = w;
    return 0;
}

/* The end comes from the loop, never inside the caller's call. */
static void advance_task(struct task *task)
{
    struct replica_writer *w = container_of(task, struct replica_writer, task);
    w->task_posted = false;
    push_advance(w);
}

static void advance_soon(struct replica_writer *w)
{
    if (!w->task_posted) {
        w->task_posted = true;
        w->task.run = advance_task;
        loop_post(w->ctx->loop, &w->task);
    }
}

void replica_writer_finish(struct replica_writer *w, replica_writer_cb cb, void *arg)
{
    tsr_assert(w->phase == PUSH_OPEN && !w->aborted);
    w->phase = PUSH_FLUSHING;
    w->cb = cb;
    w->arg = arg;
    w->manifest.size = w->cutter.total + w->rest.size;
    advance_soon(w);
}

void replica_writer_abort(struct replica_writer *w, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!w->aborted);
    w->aborted = true;
    w->cb = NULL;
    w->abort_cb = cb;
    w->arg = arg;
    cancel_sends(w, NULL);
    for (size_t i = 0; i < w->host_count; i++) {
        if (w->hosts[i].calling) {
            peer_call_cancel(w->ctx->peers, &w->hosts[i].call);
        }
    }
    advance_soon(w);
}
