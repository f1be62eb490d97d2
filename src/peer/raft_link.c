/* Consensus links: one ordered connection a direction and peer.
 *
 * Happy path: the first send to a peer connects (TLS, the certificate must name the host of the
 * raft id), says hello, and writes messages in order. The other side's accept reads the hello (the
 * raft id's host must be the certificate's, the cluster the same), then hands each message to
 * `receive`. A connection carries messages one way only; bytes coming back on an outgoing one break
 * it.
 *
 * Failures: messages are lost, never reordered, never doubled; the layer above sends again. While
 * disconnected up to KEPT_MAX bytes wait for the attempt under way and go when it fails (what comes
 * later is fresher). Connected, QUEUE_MAX bytes may wait; more are dropped. If queued bytes do not
 * move for 2 s, the connection is given up with all that waits. Next attempts back off 50..500 ms.
 * An incoming connection that ends, or is replaced by a newer one of the same peer, is told by
 * `disconnected` before anything else comes from that peer.
 *
 * Close: no more callbacks; connections close, then everything is freed, then the callback. */
#include <stdlib.h>
#include <string.h>

#include "peer/frame.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"
#include "tessera/base/str.h"
#include "tessera/sys/net.h"

enum {
    QUEUE_MAX = 16 * 1024 * 1024,
    KEPT_MAX = 64 * 1024,
    CONNECT_MS = 1000,
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 500,
    STALL_EVERY_MS = 250,
    STALL_MS = 2000,
    HELLO_MS = 5000,
    STABLE_MS = 1000,
    OUT_MAX = 256,
    IN_MAX = 256,
    BUFFER_KEPT = 1024 * 1024,
};

struct raft_links {
    struct loop *loop;
    struct listener *listener;
    struct tls *client_tls;
    struct raft_hello hello; /* what we say */
    int (*receive)(void *arg, uint64_t from, const void *data, size_t size);
    void (*disconnected)(void *arg, uint64_t from);
    void *arg;
    struct list outs, ins;
    size_t out_count, in_count;
    bool closing, close_posted;
    struct task close_task;
    void (*close_cb)(void *arg);
    void *close_arg;
};

enum out_state { OUT_IDLE, OUT_CONNECTING, OUT_OPEN, OUT_CLOSING, OUT_BACKOFF };

/* To one peer. */
struct out {
    struct list node;
    struct raft_links *links;
    uint64_t to;
    char given[RAFT_ADDRESS_MAX]; /* from the membership */
    char told[RAFT_ADDRESS_MAX];  /* from the peer's hello */
    enum out_state state;
    struct conn *conn;
    struct list kept; /* messages for the next connection */
    size_t queued;    /* bytes in `kept` and in the connection */
    uint64_t opened_ms, backoff_ms;
    struct timer timer; /* back-off; in OUT_OPEN the stall watch */
    uint64_t handed, moved, moved_ms;
};

struct message {
    struct list node; /* in out->kept */
    struct out *out;
    struct conn_write write;
    size_t size; /* of header and data */
    uint8_t bytes[];
};

/* From one peer. */
struct in {
    struct list node;
    struct raft_links *links;
    struct conn *conn;
    uint64_t host_id; /* as the certificate says */
    uint64_t from;    /* raft id; 0 before the hello */
    bool closing;
    struct timer hello_timer;
    uint8_t header[RAFT_FRAME_HEADER];
    size_t header_have;
    enum raft_frame_kind kind;
    uint8_t *data;
    size_t size, have, capacity;
};

static void out_connect(struct out *o);
static void in_close(struct in *in);

/* --- the end of all
 * ------------------------------------------------------------------------------- */

static bool links_quiet(const struct raft_links *links)
{
    if (!list_empty(&links->ins)) {
        return false;
    }
    list_each(node, &links->outs)
    {
        if (container_of(node, struct out, node)->conn) {
            return false;
        }
    }
    return true;
}

static void out_free(struct out *o)
{
    struct list *node;
    while ((node = list_pop(&o->kept))) {
        free(container_of(node, struct message, node));
    }
    timer_stop(&o->timer);
    list_remove(&o->node);
    o->links->out_count--;
    free(o);
}

static void close_task(struct task *task)
{
    struct raft_links *links = container_of(task, struct raft_links, close_task);
    void (*cb)(void *) = links->close_cb;
    void *arg = links->close_arg;
    list_each(node, &links->outs)
    {
        out_free(container_of(node, struct out, node));
    }
    tls_unref(links->client_tls);
    free(links);
    if (cb) {
        cb(arg);
    }
}

static void check_closed(struct raft_links *links)
{
    if (links->closing && !links->close_posted && links_quiet(links)) {
        links->close_posted = true;
        loop_post(links->loop, &links->close_task);
    }
}

/* --- sending: messages
 * -------------------------------------------------------------------------------- */

static void message_free(struct message *m)
{
    m->out->queued -= m->size;
    free(m);
}

static void out_break(struct out *o);

static void message_written_cb(struct conn_write *write, int status)
{
    struct message *m = container_of(write, struct message, write);
    struct out *o = m->out;
    message_free(m);
    if (status != 0) {
        out_break(o);
    }
}

static struct message *message_new(struct out *o, enum raft_frame_kind kind, const void *data,
                                   size_t size)
{
    struct message *m = malloc(sizeof(*m) + RAFT_FRAME_HEADER + size);
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

static void out_write(struct out *o, struct message *m)
{
    if (!timer_running(&o->timer)) {
        o->moved_ms = loop_now_ms(o->links->loop);
        timer_start(&o->timer, STALL_EVERY_MS);
    }
    o->handed += m->size;
    conn_write(o->conn, &m->write);
}

static void kept_drop(struct out *o)
{
    struct list *node;
    while ((node = list_pop(&o->kept))) {
        message_free(container_of(node, struct message, node));
        peer_count(COUNT_RAFT_DROPPED);
    }
}

/* --- sending: the connection
 * ---------------------------------------------------------------------------- */

static void out_back_off(struct out *o)
{
    uint64_t d = o->backoff_ms ? o->backoff_ms * 2 : BACKOFF_MIN_MS;
    o->backoff_ms = d < BACKOFF_MAX_MS ? d : BACKOFF_MAX_MS;
    o->state = OUT_BACKOFF;
    uint64_t half = o->backoff_ms / 2;
    timer_start(&o->timer, half + loop_random_u64(o->links->loop) % (half + 1));
}

static void out_closed_cb(struct conn *conn, void *arg)
{
    struct out *o = arg;
    (void)conn;
    o->conn = NULL;
    if (o->links->closing) {
        check_closed(o->links);
        return;
    }
    if (o->opened_ms && loop_now_ms(o->links->loop) - o->opened_ms > STABLE_MS) {
        o->backoff_ms = 0;
    }
    out_back_off(o);
}

static void out_break(struct out *o)
{
    if (!o->conn || o->state == OUT_CLOSING) {
        return;
    }
    timer_stop(&o->timer);
    kept_drop(o);
    o->state = OUT_CLOSING;
    conn_close(o->conn, out_closed_cb, o);
}

static void out_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct out *o = arg;
    (void)conn;
    (void)data;
    (void)size;
    if (status == 0) {
        peer_count(COUNT_BAD_FRAME);
    }
    out_break(o);
}

static bool out_name_is_right(const struct out *o)
{
    uint64_t id = 0;
    return peer_cert_parse(conn_peer_name(o->conn), o->links->hello.cluster_id, &id) &&
           id == o->to >> 16;
}

static void out_connected_cb(struct conn *conn, void *arg, int status)
{
    struct out *o = arg;
    uint8_t hello[RAFT_HELLO_MAX];
    tsr_assert(o->state == OUT_CONNECTING && conn == o->conn);
    if (status == 0 && !out_name_is_right(o)) {
        peer_count(COUNT_BAD_NAME);
        status = TSR_ECONNECT;
    }
    struct message *m = NULL;
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
    conn_read_start(conn, out_read_cb, o);
    out_write(o, m);
    struct list *node;
    while ((node = list_pop(&o->kept))) {
        out_write(o, container_of(node, struct message, node));
    }
}

static void out_connect(struct out *o)
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
    struct out *o = container_of(timer, struct out, timer);
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
        peer_count(COUNT_STALLED);
        out_break(o);
        return;
    }
    timer_start(&o->timer, STALL_EVERY_MS);
}

/* Room for one more: a record that does nothing now gives way. */
static void out_evict(struct raft_links *links)
{
    list_each(node, &links->outs)
    {
        struct out *o = container_of(node, struct out, node);
        if (o->state == OUT_IDLE && list_empty(&o->kept)) {
            out_free(o);
            return;
        }
    }
}

static struct out *out_find(const struct raft_links *links, uint64_t to)
{
    list_each(node, &links->outs)
    {
        struct out *o = container_of(node, struct out, node);
        if (o->to == to) {
            return o;
        }
    }
    return NULL;
}

static struct out *out_get(struct raft_links *links, uint64_t to)
{
    struct out *o = out_find(links, to);
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
    struct out *o = links->closing ? NULL : out_get(links, to);
    if (!o) {
        peer_count(COUNT_RAFT_DROPPED);
        return;
    }
    if (address && !str_copy(o->given, sizeof(o->given), address)) {
        o->given[0] = 0; /* cut off it would be another address */
    }
    size_t room = o->state == OUT_OPEN ? QUEUE_MAX : KEPT_MAX;
    struct message *m = NULL;
    if (o->queued + RAFT_FRAME_HEADER + size <= room) {
        m = message_new(o, RAFT_FRAME_MESSAGE, data, size);
    }
    if (!m) {
        peer_count(COUNT_RAFT_DROPPED);
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
    const struct out *o = out_find(links, to);
    return o ? o->queued : 0;
}

/* --- receiving
 * --------------------------------------------------------------------------------------------- */

static void in_closed_cb(struct conn *conn, void *arg)
{
    struct in *in = arg;
    struct raft_links *links = in->links;
    (void)conn;
    list_remove(&in->node);
    links->in_count--;
    free(in->data);
    free(in);
    check_closed(links);
}

static void in_close(struct in *in)
{
    if (in->closing) {
        return;
    }
    in->closing = true;
    timer_stop(&in->hello_timer);
    conn_close(in->conn, in_closed_cb, in);
    if (in->from && !in->links->closing) {
        in->links->disconnected(in->links->arg, in->from);
    }
}

static void in_drop(struct in *in, enum peer_counter why)
{
    peer_count(why);
    in_close(in);
}

static void in_replace_older(struct in *in, uint64_t from)
{
    list_each(node, &in->links->ins)
    {
        struct in *other = container_of(node, struct in, node);
        if (other != in && other->from == from && !other->closing) {
            in_close(other);
            return; /* there is one at most */
        }
    }
}

static void in_hello(struct in *in)
{
    struct raft_links *links = in->links;
    struct raft_hello hello;
    if (raft_hello_decode(in->data, in->size, &hello) != 0) {
        in_drop(in, COUNT_BAD_FRAME);
        return;
    }
    if (hello.raft_id >> 16 != in->host_id || hello.raft_id == links->hello.raft_id ||
        strcmp(hello.cluster_id, links->hello.cluster_id) != 0) {
        in_drop(in, COUNT_BAD_NAME);
        return;
    }
    timer_stop(&in->hello_timer);
    in_replace_older(in, hello.raft_id);
    if (in->closing || links->closing) {
        return; /* the callback did that */
    }
    in->from = hello.raft_id;
    struct out *o = out_get(links, hello.raft_id);
    if (o) {
        str_copy(o->told, sizeof(o->told), hello.address);
    }
}

static void in_frame(struct in *in)
{
    struct raft_links *links = in->links;
    if ((in->from == 0) != (in->kind == RAFT_FRAME_HELLO)) {
        in_drop(in, COUNT_BAD_FRAME);
    } else if (in->kind == RAFT_FRAME_HELLO) {
        in_hello(in);
    } else if (links->receive(links->arg, in->from, in->data, in->size) != 0) {
        in_drop(in, COUNT_BAD_FRAME);
    }
    in->header_have = in->have = in->size = 0;
    if (in->capacity > BUFFER_KEPT) {
        free(in->data);
        in->data = NULL;
        in->capacity = 0;
    }
}

/* The header is whole: check it, then make room for what it announces. */
static bool in_begin(struct in *in)
{
    size_t max = in->from ? RAFT_FRAME_MAX : RAFT_HELLO_MAX;
    if (raft_frame_decode(in->header, max, &in->kind, &in->size) != 0) {
        in_drop(in, COUNT_BAD_FRAME);
        return false;
    }
    if (in->capacity < in->size) {
        free(in->data);
        in->data = malloc(in->size);
        in->capacity = in->data ? in->size : 0;
        if (!in->data) {
            in_close(in);
            return false;
        }
    }
    return true;
}

static size_t copy_some(uint8_t *out, size_t want, const uint8_t **data, size_t *size)
{
    size_t n = want < *size ? want : *size;
    memcpy(out, *data, n);
    *data += n;
    *size -= n;
    return n;
}

static void in_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct in *in = arg;
    const uint8_t *at = data;
    (void)conn;
    if (status != 0) {
        in_close(in);
        return;
    }
    while (size > 0 && !in->closing) {
        if (in->header_have < RAFT_FRAME_HEADER) {
            in->header_have += copy_some(in->header + in->header_have,
                                         RAFT_FRAME_HEADER - in->header_have, &at, &size);
            if (in->header_have == RAFT_FRAME_HEADER && !in_begin(in)) {
                return;
            }
            continue;
        }
        in->have += copy_some(in->data + in->have, in->size - in->have, &at, &size);
        if (in->have == in->size) {
            in_frame(in);
        }
    }
}

static void hello_timer_cb(struct timer *timer)
{
    in_drop(container_of(timer, struct in, hello_timer), COUNT_STALLED);
}

static void accept_cb(struct listener *listener, void *arg, struct conn *conn)
{
    struct raft_links *links = arg;
    uint64_t host_id = 0;
    (void)listener;
    bool known = peer_cert_parse(conn_peer_name(conn), links->hello.cluster_id, &host_id);
    if (!known) {
        peer_count(COUNT_BAD_NAME);
    }
    bool room = !links->closing && links->in_count < IN_MAX;
    struct in *in = known && room ? calloc(1, sizeof(*in)) : NULL;
    if (!in) {
        conn_close(conn, NULL, NULL);
        return;
    }
    in->links = links;
    in->conn = conn;
    in->host_id = host_id;
    list_push(&links->ins, &in->node);
    links->in_count++;
    timer_init(&in->hello_timer, links->loop, hello_timer_cb);
    timer_start(&in->hello_timer, HELLO_MS);
    conn_read_start(conn, in_read_cb, in);
}

/* --- life
 * ------------------------------------------------------------------------------------------------------
 */

int raft_links_new(const struct raft_link_options *options, struct raft_links **out,
                   struct err *err)
{
    struct raft_links *links = calloc(1, sizeof(*links));
    if (!links) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    links->hello.raft_id = options->self;
    bool fits =
        str_copy(links->hello.cluster_id, sizeof(links->hello.cluster_id), options->cluster_id) &&
        str_copy(links->hello.address, sizeof(links->hello.address), options->address);
    if (!fits) {
        free(links);
        return err_set(err, TSR_EINVAL, "consensus address or cluster id too long");
    }
    links->loop = options->loop;
    links->receive = options->receive;
    links->disconnected = options->disconnected;
    links->arg = options->arg;
    links->close_task.run = close_task;
    list_init(&links->outs);
    list_init(&links->ins);
    int rc = listener_open(options->loop, options->listen, options->server_tls, accept_cb, links,
                           &links->listener, err);
    if (rc != 0) {
        free(links);
        return rc;
    }
    links->client_tls = options->client_tls;
    tls_ref(links->client_tls);
    *out = links;
    return 0;
}

unsigned raft_links_port(const struct raft_links *links)
{
    return listener_port(links->listener);
}

void raft_links_set_tls(struct raft_links *links, struct tls *server_tls, struct tls *client_tls)
{
    listener_set_tls(links->listener, server_tls);
    tls_ref(client_tls);
    tls_unref(links->client_tls);
    links->client_tls = client_tls;
}

void raft_links_close(struct raft_links *links, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!links->closing);
    links->closing = true;
    links->close_cb = cb;
    links->close_arg = arg;
    listener_close(links->listener);
    list_each(node, &links->ins)
    {
        in_close(container_of(node, struct in, node));
    }
    list_each(node, &links->outs)
    {
        struct out *o = container_of(node, struct out, node);
        timer_stop(&o->timer);
        out_break(o);
    }
    check_closed(links);
}
