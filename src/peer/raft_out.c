/* Consensus links: sending (see raft_link.c). */
#include "peer/raft_link.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"

enum {
    QUEUE_MAX = 16 * 1024 * 1024,
    KEPT_MAX = 64 * 1024,
    CONNECT_MS = 1000,
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 500,
    STALL_EVERY_MS = 250,
    STALL_MS = 2000,
    STABLE_MS = 1000,
    OUT_MAX = 256,
};

/* --- sending: messages
 * -------------------------------------------------------------------------------- */

static void message_free(struct raft_message *m)
{
    m->out->queued -= m->size;
    free(m);
}

static void out_break(struct raft_out *o);

static void message_written_cb(struct conn_write *write, int status)
{
    struct raft_message *m = container_of(write, struct raft_message, write);
    struct raft_out *o = m->out;
    message_free(m);
    if (status != 0) {
        out_break(o);
    }
}

static struct raft_message *message_new(struct raft_out *o, enum raft_frame_kind kind,
                                        const void *data, size_t size)
{
    struct raft_message *m = malloc(sizeof(*m) + RAFT_FRAME_HEADER + size);
    if (!m) {
        return NULL;
    }
    memset(m, 0, sizeof(*m));
    list_init(&m->node);
    m->out = o;
    m->size = RAFT_FRAME_HEADER + size;
    raft_frame_encode(kind, size, m->bytes);
    memcpy(m->bytes + RAFT_FRAME_HEADER, data, size);
    m->write.cb = message_written_cb;
    m->write.fd = -1;
    m->write.iov[0] = (struct iovec){m->bytes, m->size};
    m->write.iov_count = 1;
    o->queued += m->size;
    return m;
}

static void out_write(struct raft_out *o, struct raft_message *m)
{
    if (!timer_running(&o->timer)) {
        o->moved_ms = loop_now_ms(o->links->loop);
        timer_start(&o->timer, STALL_EVERY_MS);
    }
    o->handed += m->size;
    conn_write(o->conn, &m->write);
}

static void kept_drop(struct raft_out *o)
{
    struct list *node;
    while ((node = list_pop(&o->kept))) {
        message_free(container_of(node, struct raft_message, node));
        metric_add(METRIC_raft_dropped_total, 1);
    }
}

/* --- sending: the connection
 * ---------------------------------------------------------------------------- */

static void out_back_off(struct raft_out *o)
{
    uint64_t d = o->backoff_ms ? o->backoff_ms * 2 : BACKOFF_MIN_MS;
    o->backoff_ms = d < BACKOFF_MAX_MS ? d : BACKOFF_MAX_MS;
    o->state = OUT_BACKOFF;
    uint64_t half = o->backoff_ms / 2;
    timer_start(&o->timer, half + loop_random_u64(o->links->loop) % (half + 1));
}

static void out_closed_cb(struct conn *conn, void *arg)
{
    struct raft_out *o = arg;
    (void)conn;
    o->conn = NULL;
    if (o->links->closing) {
        raft_links_check_closed(o->links);
        return;
    }
    if (o->opened_ms && loop_now_ms(o->links->loop) - o->opened_ms > STABLE_MS) {
        o->backoff_ms = 0;
    }
    out_back_off(o);
}

static void out_break(struct raft_out *o)
{
    if (!o->conn || o->state == OUT_CLOSING) {
        return;
    }
    timer_stop(&o->timer);
    kept_drop(o);
    o->state = OUT_CLOSING;
    conn_close(o->conn, out_closed_cb, o);
}

/* A refusal is the only thing that may come back. */
static void out_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct raft_out *o = arg;
    int code = 0;
    (void)conn;
    if (status != 0) {
        out_break(o);
        return;
    }
    size_t n = sizeof(o->back) - o->back_have < size ? sizeof(o->back) - o->back_have : size;
    memcpy(o->back + o->back_have, data, n);
    o->back_have += n;
    if (o->back_have < sizeof(o->back)) {
        return;
    }
    bool good = n == size && raft_refused_decode(o->back, &code) == 0;
    if (!good) {
        metric_add(METRIC_peer_bad_frames_total, 1);
    }
    out_break(o);
    if (good && o->links->refused != NULL && !o->links->closing) {
        o->links->refused(o->links->arg, o->to, code);
    }
}

static bool out_name_is_right(const struct raft_out *o)
{
    uint64_t id = 0;
    return peer_cert_parse(conn_peer_name(o->conn), o->links->hello.cluster_id, &id) &&
           id == o->to >> 16;
}

static void out_connected_cb(struct conn *conn, void *arg, int status)
{
    struct raft_out *o = arg;
    uint8_t hello[RAFT_HELLO_MAX];
    tsr_assert(o->state == OUT_CONNECTING && conn == o->conn);
    if (status == 0 && !out_name_is_right(o)) {
        metric_add(METRIC_peer_bad_names_total, 1);
        status = TSR_ECONNECT;
    }
    struct raft_message *m = NULL;
    if (status == 0) {
        m = message_new(o, RAFT_FRAME_HELLO, hello, raft_hello_encode(&o->links->hello, hello));
    }
    if (!m) {
        out_break(o);
        return;
    }
    o->state = OUT_OPEN;
    o->opened_ms = loop_now_ms(o->links->loop);
    o->handed = o->moved = 0;
    o->back_have = 0;
    conn_read_start(conn, out_read_cb, o);
    out_write(o, m);
    struct list *node;
    while ((node = list_pop(&o->kept))) {
        out_write(o, container_of(node, struct raft_message, node));
    }
}

static void out_connect(struct raft_out *o)
{
    const char *address = o->given[0] ? o->given : o->told;
    int rc = TSR_ECONNECT;
    tsr_assert(!o->conn);
    o->opened_ms = 0;
    if (address[0]) {
        o->state = OUT_CONNECTING;
        rc = conn_open(o->links->loop, address, o->links->client_tls, NULL, CONNECT_MS,
                       out_connected_cb, o, &o->conn);
    }
    if (rc != 0) {
        o->conn = NULL;
        kept_drop(o);
        out_back_off(o);
    }
}

static void out_timer_cb(struct timer *timer)
{
    struct raft_out *o = container_of(timer, struct raft_out, timer);
    if (o->state == OUT_BACKOFF) {
        o->state = OUT_IDLE;
        if (!list_empty(&o->kept)) {
            out_connect(o);
        }
        return;
    }
    size_t pending = o->state == OUT_OPEN ? conn_pending(o->conn) : 0;
    if (pending == 0) {
        return; /* the next write starts the watch again */
    }
    uint64_t now = loop_now_ms(o->links->loop), moved = o->handed - pending;
    if (moved != o->moved) {
        o->moved = moved;
        o->moved_ms = now;
    } else if (now - o->moved_ms >= STALL_MS) {
        metric_add(METRIC_peer_stalled_total, 1);
        out_break(o);
        return;
    }
    timer_start(&o->timer, STALL_EVERY_MS);
}

void raft_out_free(struct raft_out *o)
{
    struct list *node;
    while ((node = list_pop(&o->kept))) {
        free(container_of(node, struct raft_message, node));
    }
    timer_stop(&o->timer);
    list_remove(&o->node);
    o->links->out_count--;
    free(o);
}

/* Room for one more: a record that does nothing now gives way. */
static void out_evict(struct raft_links *links)
{
    list_each(node, &links->outs)
    {
        struct raft_out *o = container_of(node, struct raft_out, node);
        if (o->state == OUT_IDLE && list_empty(&o->kept)) {
            raft_out_free(o);
            return;
        }
    }
}

struct raft_out *raft_out_find(const struct raft_links *links, uint64_t to)
{
    list_each(node, &links->outs)
    {
        struct raft_out *o = container_of(node, struct raft_out, node);
        if (o->to == to) {
            return o;
        }
    }
    return NULL;
}

struct raft_out *raft_out_get(struct raft_links *links, uint64_t to)
{
    struct raft_out *o = raft_out_find(links, to);
    if (o) {
        return o;
    }
    if (links->out_count >= OUT_MAX) {
        out_evict(links);
    }
    o = links->out_count < OUT_MAX ? calloc(1, sizeof(*o)) : NULL;
    if (!o) {
        return NULL;
    }
    o->links = links;
    o->to = to;
    list_init(&o->kept);
    timer_init(&o->timer, links->loop, out_timer_cb);
    list_push(&links->outs, &o->node);
    links->out_count++;
    return o;
}

void raft_links_send(struct raft_links *links, uint64_t to, const char *address, const void *data,
                     size_t size)
{
    tsr_assert(size > 0 && size <= RAFT_FRAME_MAX);
    struct raft_out *o = links->closing ? NULL : raft_out_get(links, to);
    if (!o) {
        metric_add(METRIC_raft_dropped_total, 1);
        return;
    }
    if (address && !str_copy(o->given, sizeof(o->given), address)) {
        o->given[0] = 0; /* cut off it would be another address */
    }
    size_t room = o->state == OUT_OPEN ? QUEUE_MAX : KEPT_MAX;
    struct raft_message *m = NULL;
    if (o->queued + RAFT_FRAME_HEADER + size <= room) {
        m = message_new(o, RAFT_FRAME_MESSAGE, data, size);
    }
    if (!m) {
        metric_add(METRIC_raft_dropped_total, 1);
    } else if (o->state == OUT_OPEN) {
        out_write(o, m);
    } else {
        list_push(&o->kept, &m->node);
    }
    if (o->state == OUT_IDLE) {
        out_connect(o);
    }
}

size_t raft_links_queued(const struct raft_links *links, uint64_t to)
{
    const struct raft_out *o = raft_out_find(links, to);
    return o ? o->queued : 0;
}

void raft_out_close(struct raft_out *o)
{
    timer_stop(&o->timer);
    out_break(o);
}
