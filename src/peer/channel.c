/* One connection to one host and the calls on it.
 *
 * Happy path: channel_add queues an entry -> connect (TLS, name check) -> pump gives frames to the
 * connection in order, at most some MiB ahead -> the reply's number leads to the slot -> callback.
 * Small frames are copied at the start of their write, so their calls can end at any time. Large
 * ones are written from the caller's memory; their calls end only after the write.
 *
 * Failures. An attempt fails (or the name is wrong): what waits gets TSR_ECONNECT, the next attempt
 * comes after a back-off of 50 ms..1 s, only if something waits then. An open connection breaks:
 * what was sent gets TSR_ECONNECT, what waits goes to the next connection. A call times out or is
 * cancelled: a waiting one leaves at once; a sent one leaves its slot behind, its reply is skipped.
 * One whose large body is being written waits for the write; if that does not move for 300 ms (2 s
 * in all), the connection is given up. A connection on which calls time out and nothing came for 5
 * s is given up too.
 *
 * Close: conn_close, then (closed_cb) every slot ends. A channel has at most one conn. */
#include "peer/channel.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/metric.h"

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 1000,
    CONNECT_TIMEOUT_MS = 3000,
    AHEAD_BYTES = 1024 * 1024,
    SILENT_MS = 5000,
    WATCH_EVERY_MS = 100,
    WATCH_STILL_MS = 300,
    WATCH_MAX_MS = 2000,
    STABLE_MS = 1000,
};

static void connect_start(struct channel *ch);
static void pump(struct channel *ch);

/* --- entries --------------------------------------------------------------------------------- */

static void entry_maybe_free(struct call_entry *e)
{
    if (e->call || e->writing || e->in_slot) {
        return;
    }
    struct peer_client *client = e->client;
    free(e->copy);
    payload_put(&client->memory, e->reply_head, e->reply_head_size);
    payload_put(&client->memory, e->reply_body, e->reply_body_size);
    free(e);
    client->entries--;
    peer_client_check_closed(client);
}

/* The only place where a call's callback runs. */
static void entry_finish(struct call_entry *e)
{
    struct peer_call *call = e->call;
    tsr_assert(call && e->done);
    e->call = NULL;
    call->state[0] = NULL;
    struct peer_bytes head = {NULL, 0}, body = {NULL, 0};
    if (e->reply_whole) {
        head = (struct peer_bytes){e->reply_head, e->reply_head_size};
        body = (struct peer_bytes){e->reply_body, e->reply_body_size};
    }
    if (e->status == TSR_ECONNECT || e->status == TSR_ETIMEOUT || e->status == TSR_EPROTO) {
        metric_add(METRIC_peer_calls_failed_total, 1);
    }
    call->cb(call, e->status, head, body);
    entry_maybe_free(e);
}

static void entry_finish_task(struct task *task)
{
    entry_finish(container_of(task, struct call_entry, task));
}

static bool entry_pins_caller(const struct call_entry *e)
{
    return e->writing && !e->copy;
}

static void watch_start(struct channel *ch)
{
    if (ch->state == CHANNEL_OPEN && !timer_running(&ch->timer)) {
        ch->watch_since_ms = ch->watch_moved_ms = loop_now_ms(ch->client->net.loop);
        ch->watch_pending = conn_pending(ch->conn);
        timer_start(&ch->timer, WATCH_EVERY_MS);
    }
}

void call_entry_complete(struct call_entry *e, int status)
{
    if (e->done) {
        return;
    }
    e->done = true;
    e->status = status;
    timer_stop(&e->timer);
    list_remove(&e->node);
    if (entry_pins_caller(e)) {
        watch_start(e->channel); /* written_cb goes on */
        return;
    }
    e->task.run = entry_finish_task;
    loop_post(e->client->net.loop, &e->task);
}

/* --- back-off and connecting -------------------------------------------------------------------
 */

static void waiting_fail(struct channel *ch, int status)
{
    list_each(node, &ch->waiting)
    {
        call_entry_complete(container_of(node, struct call_entry, node), status);
    }
}

static void back_off(struct channel *ch)
{
    struct loop *loop = ch->client->net.loop;
    uint64_t d = ch->backoff_ms ? ch->backoff_ms * 2 : BACKOFF_MIN_MS;
    ch->backoff_ms = d < BACKOFF_MAX_MS ? d : BACKOFF_MAX_MS;
    ch->state = CHANNEL_BACKOFF;
    timer_start(&ch->timer, ch->backoff_ms / 2 + loop_random_u64(loop) % (ch->backoff_ms / 2 + 1));
}

/* No connection came about, or it is gone: what now? */
static void settle(struct channel *ch, bool failed)
{
    ch->state = CHANNEL_IDLE;
    if (ch->client->closing) {
        waiting_fail(ch, TSR_ECANCELED);
        peer_client_check_closed(ch->client);
    } else if (failed) {
        back_off(ch);
    } else if (!list_empty(&ch->waiting)) {
        connect_start(ch);
    }
}

static void slots_fail(struct channel *ch, int status)
{
    for (unsigned i = 0; i < CHANNEL_SLOTS; i++) {
        struct call_entry *e = ch->slots[i];
        if (!e) {
            continue;
        }
        ch->slots[i] = NULL;
        e->in_slot = false;
        tsr_assert(!e->writing); /* the connection's writes end before its close callback */
        if (e->done && !e->call) {
            entry_maybe_free(e);
        } else {
            call_entry_complete(e, status);
        }
    }
    ch->slot_count = 0;
}

static void closed_cb(struct conn *conn, void *arg)
{
    struct channel *ch = arg;
    (void)conn;
    ch->conn = NULL;
    bool stable = ch->proven ||
                  (ch->opened_ms && loop_now_ms(ch->client->net.loop) - ch->opened_ms > STABLE_MS);
    if (stable) {
        ch->backoff_ms = 0;
    }
    slots_fail(ch, ch->client->closing ? TSR_ECANCELED : TSR_ECONNECT);
    /* The reply that was coming in belongs to an entry of the slots just emptied. */
    frame_stream_init(&ch->stream);
    ch->unwritten = 0;
    settle(ch, !stable);
}

void channel_break(struct channel *ch)
{
    if (!ch->conn || ch->state == CHANNEL_CLOSING) {
        return;
    }
    timer_stop(&ch->timer);
    if (ch->state == CHANNEL_CONNECTING) {
        waiting_fail(ch, TSR_ECONNECT);
        ch->opened_ms = 0;
        ch->proven = false;
    }
    ch->state = CHANNEL_CLOSING;
    conn_close(ch->conn, closed_cb, ch);
}

/* --- replies -------------------------------------------------------------------------------------
 */

static struct call_entry *slot_of(struct channel *ch, uint32_t number)
{
    struct call_entry *e = ch->slots[number % CHANNEL_SLOTS];
    return e && e->number == number ? e : NULL;
}

/* A reply's header is whole: find its call and give memory for the rest. */
static int reply_begin(struct channel *ch)
{
    const struct frame *f = &ch->stream.frame;
    struct call_entry *e = f->reply ? slot_of(ch, f->call) : NULL;
    if (!e || e->header[1] != f->type) {
        return TSR_EPROTO;
    }
    if (!e->done) {
        struct payload_memory *memory = &ch->client->memory;
        e->reply_head = payload_get(memory, e->reply_head_size = f->head_size);
        e->reply_body = payload_get(memory, e->reply_body_size = f->body_size);
        if (!e->reply_head || !e->reply_body) {
            call_entry_complete(e, TSR_ENOMEM);
        }
    }
    frame_stream_place(&ch->stream, e->reply_head, e->reply_body);
    return 0;
}

static void reply_end(struct channel *ch)
{
    const struct frame *f = &ch->stream.frame;
    struct call_entry *e = slot_of(ch, f->call);
    tsr_assert(e);
    ch->slots[f->call % CHANNEL_SLOTS] = NULL;
    ch->slot_count--;
    e->in_slot = false;
    ch->proven = true;
    if (e->done) { /* timed out or cancelled before; a posted completion still needs the entry */
        entry_maybe_free(e);
        return;
    }
    e->reply_whole = true;
    if (entry_pins_caller(e)) {
        call_entry_complete(e, f->code);
        return;
    }
    e->done = true;
    e->status = f->code;
    timer_stop(&e->timer);
    entry_finish(e);
}

static void read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct channel *ch = arg;
    const uint8_t *at = data;
    (void)conn;
    if (status != 0) {
        channel_break(ch);
        return;
    }
    ch->received_ms = loop_now_ms(ch->client->net.loop);
    metric_add(METRIC_peer_bytes_in_total, (int64_t)size);
    while (ch->state == CHANNEL_OPEN) { /* a callback may have closed the client */
        int event = frame_stream_feed(&ch->stream, &at, &size);
        if (event == FRAME_MORE) {
            break;
        }
        if (event == FRAME_COMPLETE) {
            reply_end(ch);
        } else if (event != FRAME_READY || reply_begin(ch) != 0) {
            metric_add(METRIC_peer_bad_frames_total, 1);
            channel_break(ch);
        }
    }
    pump(ch);
}

/* --- requests
 * -------------------------------------------------------------------------------------- */

static void written_cb(struct conn_write *write, int status)
{
    struct call_entry *e = container_of(write, struct call_entry, write);
    struct channel *ch = e->channel;
    e->writing = false;
    ch->unwritten -= e->size;
    metric_add(METRIC_peer_bytes_out_total, status == 0 ? (int64_t)e->size : 0);
    bool pinned = !e->copy;
    free(e->copy);
    e->copy = NULL;
    if (e->done && e->call && pinned) {
        e->task.run = entry_finish_task; /* call_entry_complete left it to us */
        loop_post(e->client->net.loop, &e->task);
    } else {
        entry_maybe_free(e);
    }
    if (status != 0) {
        channel_break(ch);
    } else {
        pump(ch);
    }
}

static void slot_take(struct channel *ch, struct call_entry *e)
{
    while (ch->slots[ch->slot_at]) {
        ch->slot_at = (ch->slot_at + 1) % CHANNEL_SLOTS;
    }
    /* The generation tells a late reply from one to the slot's next user. */
    e->number = (++ch->generation << 8) | ch->slot_at;
    ch->slots[ch->slot_at] = e;
    ch->slot_at = (ch->slot_at + 1) % CHANNEL_SLOTS;
    ch->slot_count++;
    e->in_slot = true;
}

_Static_assert(CHANNEL_SLOTS == 256, "a slot is the low byte of a call's number");

static int frame_prepare(struct call_entry *e)
{
    const struct peer_call *call = e->call;
    frame_encode(&(struct frame){.type = (uint8_t)call->type,
                                 .call = e->number,
                                 .head_size = call->head.size,
                                 .body_size = call->body.size},
                 e->header);
    struct conn_write *w = &e->write;
    memset(w, 0, sizeof(*w));
    w->cb = written_cb;
    w->fd = -1;
    if (e->size <= CHANNEL_COPY_MAX) {
        e->copy = malloc(e->size);
        if (!e->copy) {
            return TSR_ENOMEM;
        }
        memcpy(e->copy, e->header, FRAME_HEADER);
        if (call->head.size) {
            memcpy(e->copy + FRAME_HEADER, call->head.data, call->head.size);
        }
        if (call->body.size) {
            memcpy(e->copy + FRAME_HEADER + call->head.size, call->body.data, call->body.size);
        }
        w->iov[w->iov_count++] = (struct iovec){e->copy, e->size};
        return 0;
    }
    w->iov[w->iov_count++] = (struct iovec){e->header, FRAME_HEADER};
    const struct peer_bytes parts[2] = {call->head, call->body};
    for (unsigned i = 0; i < 2; i++) {
        if (parts[i].size) {
            union {
                const void *in;
                void *out; /* struct iovec has no const; a write does not change it */
            } u = {.in = parts[i].data};
            w->iov[w->iov_count++] = (struct iovec){u.out, parts[i].size};
        }
    }
    return 0;
}

/* Give waiting frames to the connection, not too far ahead: what waits here can still be taken
 * back. */
static void pump(struct channel *ch)
{
    while (ch->state == CHANNEL_OPEN && !list_empty(&ch->waiting) &&
           ch->slot_count < CHANNEL_SLOTS && ch->unwritten < AHEAD_BYTES) {
        struct call_entry *e = container_of(list_pop(&ch->waiting), struct call_entry, node);
        slot_take(ch, e);
        if (frame_prepare(e) != 0) {
            ch->slots[e->number % CHANNEL_SLOTS] = NULL;
            ch->slot_count--;
            e->in_slot = false;
            call_entry_complete(e, TSR_ENOMEM);
            continue;
        }
        e->writing = true;
        ch->unwritten += e->size;
        conn_write(ch->conn, &e->write);
    }
}

/* --- connecting
 * -------------------------------------------------------------------------------------- */

static bool name_is_right(struct channel *ch)
{
    uint64_t id = 0;
    return peer_cert_parse(conn_peer_name(ch->conn), ch->client->cluster_id, &id) &&
           id == ch->host_id;
}

static void connected_cb(struct conn *conn, void *arg, int status)
{
    struct channel *ch = arg;
    tsr_assert(ch->state == CHANNEL_CONNECTING && conn == ch->conn);
    if (status == 0 && !name_is_right(ch)) {
        metric_add(METRIC_peer_bad_names_total, 1);
        status = TSR_ECONNECT;
    }
    if (status != 0) {
        channel_break(ch);
        return;
    }
    ch->state = CHANNEL_OPEN;
    ch->proven = false;
    ch->opened_ms = ch->received_ms = loop_now_ms(ch->client->net.loop);
    frame_stream_init(&ch->stream);
    conn_read_start(conn, read_cb, ch);
    pump(ch);
}

static void connect_start(struct channel *ch)
{
    struct peer_client *client = ch->client;
    char address[256];
    int rc = TSR_ECONNECT;
    tsr_assert(!ch->conn);
    ch->opened_ms = 0;
    ch->proven = false;
    if (client->address(client->arg, ch->host_id, address, sizeof(address))) {
        ch->state = CHANNEL_CONNECTING;
        rc = conn_open(client->net.loop, address, client->tls, NULL, CONNECT_TIMEOUT_MS,
                       connected_cb, ch, &ch->conn);
    }
    if (rc != 0) {
        ch->conn = NULL;
        waiting_fail(ch, TSR_ECONNECT);
        settle(ch, true);
    }
}

/* Back-off is over; or look whether a write moves that an ended call waits for. */
static void channel_timer_cb(struct timer *timer)
{
    struct channel *ch = container_of(timer, struct channel, timer);
    if (ch->state == CHANNEL_BACKOFF) {
        settle(ch, false);
        return;
    }
    if (ch->state != CHANNEL_OPEN) {
        return;
    }
    bool pinned = false;
    for (unsigned i = 0; i < CHANNEL_SLOTS && !pinned; i++) {
        pinned = ch->slots[i] && ch->slots[i]->done && entry_pins_caller(ch->slots[i]);
    }
    if (!pinned) {
        return;
    }
    uint64_t now = loop_now_ms(ch->client->net.loop);
    size_t pending = conn_pending(ch->conn);
    if (pending != ch->watch_pending) {
        ch->watch_pending = pending;
        ch->watch_moved_ms = now;
    }
    if (now - ch->watch_moved_ms >= WATCH_STILL_MS || now - ch->watch_since_ms >= WATCH_MAX_MS) {
        metric_add(METRIC_peer_stalled_total, 1);
        channel_break(ch);
        return;
    }
    timer_start(&ch->timer, WATCH_EVERY_MS);
}

static void call_timeout_cb(struct timer *timer)
{
    struct call_entry *e = container_of(timer, struct call_entry, timer);
    struct channel *ch = e->channel;
    bool silent = ch->state == CHANNEL_OPEN && ch->slot_count > 0 &&
                  loop_now_ms(ch->client->net.loop) - ch->received_ms >= SILENT_MS;
    call_entry_complete(e, TSR_ETIMEOUT);
    if (silent) {
        metric_add(METRIC_peer_stalled_total, 1);
        channel_break(ch);
    }
}

struct channel *channel_new(struct peer_client *client, uint64_t host_id, bool bulk)
{
    struct channel *ch = calloc(1, sizeof(*ch));
    if (!ch) {
        return NULL;
    }
    ch->client = client;
    ch->host_id = host_id;
    ch->bulk = bulk;
    list_init(&ch->waiting);
    timer_init(&ch->timer, client->net.loop, channel_timer_cb);
    list_push(&client->channels, &ch->node);
    return ch;
}

void channel_add(struct channel *ch, struct call_entry *e)
{
    enum { TIMEOUT_DEFAULT_MS = 10000 };
    e->channel = ch;
    e->size = FRAME_HEADER + e->call->head.size + e->call->body.size;
    timer_init(&e->timer, ch->client->net.loop, call_timeout_cb);
    timer_start(&e->timer, e->call->timeout_ms ? e->call->timeout_ms : TIMEOUT_DEFAULT_MS);
    list_push(&ch->waiting, &e->node);
    if (ch->state == CHANNEL_IDLE) {
        connect_start(ch);
    } else {
        pump(ch);
    }
}

void channel_close(struct channel *ch)
{
    timer_stop(&ch->timer);
    waiting_fail(ch, TSR_ECANCELED);
    for (unsigned i = 0; i < CHANNEL_SLOTS; i++) {
        if (ch->slots[i]) {
            call_entry_complete(ch->slots[i], TSR_ECANCELED);
        }
    }
    if (ch->conn) {
        channel_break(ch);
    } else {
        ch->state = CHANNEL_IDLE;
    }
}
