/* Serves calls of other hosts on one loop.
 *
 * Happy path: accept (TLS done, certificate's name read) -> header of a frame -> admission ->
 * memory for head and body, filled once from the connection -> handler -> reply, written from the
 * copy or from the handler's memory -> everything of the request is freed when the reply is
 * written.
 *
 * Bounds. A large request costs its length, a request for a chunk or manifest the reply's largest
 * size; the sum stays under the server's bound, but for a connection with nothing else open. A
 * connection that has to wait is not read (paused) and stands in line; small calls only count. At
 * most INFLIGHT_MAX requests a connection are open, each until its reply is written.
 *
 * Failures. Garbage, sizes over the limits, a foreign certificate: the connection closes before
 * anything is allocated. Half a frame or an unread reply without any movement for 30 s: the same.
 * A connection that ends leaves its requests to their handlers; their replies go nowhere.
 *
 * Close: listener, connections, then the open requests; then the callback, from the loop. */
#include <stdlib.h>
#include <string.h>

#include "peer/frame.h"
#include "peer/memory.h"
#include "tessera/base/assert.h"
#include "tessera/base/metric.h"
#include "tessera/base/list.h"
#include "tessera/sys/net.h"

enum {
    INFLIGHT_MAX = 256,
    SMALL_MAX = 64 * 1024, /* never waits for memory */
    STALL_EVERY_MS = 10000,
    STALL_TICKS = 3,
};

struct peer_server {
    struct loop *loop;
    struct listener *listener;
    char *cluster_id;
    const struct peer_service *service;
    size_t bound, held;
    struct payload_memory memory;
    struct list conns;
    struct list paused; /* connections in line, in order of arrival */
    struct task resume_task;
    bool resume_posted;
    size_t served; /* requests that live */
    bool closing, close_posted;
    struct task close_task;
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* A connection. */
struct link {
    struct peer_server *server;
    struct conn *conn;
    struct list node, paused_node;
    struct list requests;
    uint64_t host_id;
    bool paused, closing;
    unsigned inflight;
    struct frame_stream stream;
    struct served *incoming; /* the request being received */
    uint8_t *stash;          /* read before the pause, not looked at yet */
    size_t stash_size;
    struct timer stall_timer;
    uint64_t bytes_in, bytes_handed, stall_mark;
    unsigned stall_ticks;
};

struct served {
    struct peer_request req;
    struct peer_server *server;
    struct link *link; /* NULL once the connection is gone */
    struct list node;  /* in link->requests */
    uint32_t number;
    size_t cost;
    uint8_t *head, *body;
    /* the reply */
    uint8_t header[FRAME_HEADER];
    uint8_t *head_copy, *body_copy;
    size_t body_copy_size;
    void (*release)(void *arg);
    void *release_arg;
    struct conn_write write;
    struct task task;
};

static void link_feed(struct link *l, const uint8_t *data, size_t size);
static void link_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size);
static void resume_task(struct task *task);

/* --- ends ---------------------------------------------------------------------------------------
 */

static void server_close_task(struct task *task)
{
    struct peer_server *server = container_of(task, struct peer_server, close_task);
    server->close_posted = false;
    if (server->served > 0 || !list_empty(&server->conns) || server->resume_posted) {
        return;
    }
    void (*cb)(void *) = server->close_cb;
    void *arg = server->close_arg;
    payload_memory_close(&server->memory);
    free(server->cluster_id);
    free(server);
    if (cb) {
        cb(arg);
    }
}

static void server_check_closed(struct peer_server *server)
{
    if (server->closing && !server->close_posted && server->served == 0 &&
        list_empty(&server->conns)) {
        server->close_posted = true;
        loop_post(server->loop, &server->close_task);
    }
}

static void resume_soon(struct peer_server *server)
{
    if (!server->resume_posted && !list_empty(&server->paused)) {
        server->resume_posted = true;
        loop_post(server->loop, &server->resume_task);
    }
}

/* The request's own memory is not needed while the reply is written. */
static void drop_request_memory(struct served *s)
{
    payload_put(&s->server->memory, s->head, s->req.head.size);
    payload_put(&s->server->memory, s->body, s->req.body.size);
    s->head = s->body = NULL;
}

static void served_free(struct served *s)
{
    struct peer_server *server = s->server;
    if (s->link) {
        list_remove(&s->node);
        s->link->inflight--;
    }
    server->held -= s->cost;
    server->served--;
    void (*release)(void *) = s->release;
    void *arg = s->release_arg;
    drop_request_memory(s);
    free(s->head_copy);
    payload_put(&server->memory, s->body_copy, s->body_copy_size);
    free(s);
    if (release) {
        release(arg);
    }
    resume_soon(server);
    server_check_closed(server);
}

static void link_closed_cb(struct conn *conn, void *arg)
{
    struct link *l = arg;
    struct peer_server *server = l->server;
    (void)conn;
    list_each(node, &l->requests)
    {
        struct served *s = container_of(node, struct served, node);
        list_remove(&s->node);
        s->link = NULL; /* its handler still has it */
    }
    list_remove(&l->node);
    free(l->stash);
    free(l);
    server_check_closed(server);
}

static void link_close(struct link *l)
{
    if (l->closing) {
        return;
    }
    l->closing = true;
    timer_stop(&l->stall_timer);
    list_remove(&l->paused_node);
    if (l->incoming) { /* no handler knows it */
        struct served *s = l->incoming;
        l->incoming = NULL;
        served_free(s);
    }
    conn_close(l->conn, link_closed_cb, l);
}

static void link_drop(struct link *l, enum metric why)
{
    metric_add(why, 1);
    link_close(l);
}

/* --- replies
 * --------------------------------------------------------------------------------------- */

static void reply_written_cb(struct conn_write *write, int status)
{
    struct served *s = container_of(write, struct served, write);
    struct link *l = s->link;
    served_free(s);
    if (status != 0) {
        link_close(l);
    }
}

static void served_free_task(struct task *task)
{
    served_free(container_of(task, struct served, task));
}

static void add_iov(struct conn_write *w, const void *data, size_t size)
{
    if (size > 0) {
        union {
            const void *in;
            void *out; /* struct iovec has no const; a write does not change it */
        } u = {.in = data};
        w->iov[w->iov_count++] = (struct iovec){u.out, size};
    }
}

static void served_send(struct served *s, int code, struct peer_bytes head, struct peer_bytes body)
{
    struct link *l = s->link;
    if (!l || l->closing) {
        /* From the loop: a reply's memory is never released inside peer_reply_owned. */
        s->task.run = served_free_task;
        loop_post(s->server->loop, &s->task);
        return;
    }
    frame_encode(&(struct frame){.type = (uint8_t)s->req.type,
                                 .reply = true,
                                 .code = code,
                                 .call = s->number,
                                 .head_size = head.size,
                                 .body_size = body.size},
                 s->header);
    struct conn_write *w = &s->write;
    memset(w, 0, sizeof(*w));
    w->cb = reply_written_cb;
    w->fd = -1;
    add_iov(w, s->header, FRAME_HEADER);
    add_iov(w, head.data, head.size);
    add_iov(w, body.data, body.size);
    l->bytes_handed += FRAME_HEADER + head.size + body.size;
    metric_add(METRIC_peer_bytes_out_total, (int64_t)(FRAME_HEADER + head.size + body.size));
    conn_write(l->conn, w);
}

/* Returns NULL for size 0; sets *failed when out of memory. */
static uint8_t *copy_of(struct peer_bytes in, bool *failed)
{
    if (in.size == 0) {
        return NULL;
    }
    uint8_t *copy = malloc(in.size);
    if (!copy) {
        *failed = true;
        return NULL;
    }
    memcpy(copy, in.data, in.size);
    return copy;
}

static void served_reply(struct peer_request *req, int code, struct peer_bytes head,
                         struct peer_bytes body)
{
    struct served *s = container_of(req, struct served, req);
    bool failed = false;
    s->head_copy = copy_of(head, &failed);
    s->body_copy = payload_get(&s->server->memory, body.size);
    s->body_copy_size = body.size;
    failed = failed || !s->body_copy;
    if (s->body_copy && body.size > 0) {
        memcpy(s->body_copy, body.data, body.size);
    }
    drop_request_memory(s);
    if (failed) {
        served_send(s, TSR_ENOMEM, (struct peer_bytes){NULL, 0}, (struct peer_bytes){NULL, 0});
        return;
    }
    served_send(s, code, (struct peer_bytes){s->head_copy, head.size},
                (struct peer_bytes){s->body_copy, body.size});
}

static void served_reply_owned(struct peer_request *req, int code, struct peer_bytes head,
                               struct peer_bytes body, void (*release)(void *arg), void *arg)
{
    struct served *s = container_of(req, struct served, req);
    bool failed = false;
    s->release = release;
    s->release_arg = arg;
    s->head_copy = copy_of(head, &failed);
    drop_request_memory(s);
    if (failed) {
        served_send(s, TSR_ENOMEM, (struct peer_bytes){NULL, 0}, (struct peer_bytes){NULL, 0});
        return;
    }
    served_send(s, code, (struct peer_bytes){s->head_copy, head.size}, body);
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

static size_t cost_of(const struct frame *f)
{
    size_t cost = f->head_size + f->body_size;
    return f->type == PEER_CHUNK_GET || f->type == PEER_MANIFEST_GET ? cost + PEER_BODY_MAX : cost;
}

static bool admissible(const struct link *l)
{
    size_t cost = cost_of(&l->stream.frame);
    if (l->inflight >= INFLIGHT_MAX) {
        return false;
    }
    return l->inflight == 0 || cost <= SMALL_MAX || l->server->held + cost <= l->server->bound;
}

static bool request_begin(struct link *l)
{
    const struct frame *f = &l->stream.frame;
    struct served *s = calloc(1, sizeof(*s));
    if (!s) {
        return false;
    }
    s->server = l->server;
    s->head = payload_get(&s->server->memory, f->head_size);
    s->body = payload_get(&s->server->memory, f->body_size);
    if (!s->head || !s->body) {
        payload_put(&s->server->memory, s->head, f->head_size);
        payload_put(&s->server->memory, s->body, f->body_size);
        free(s);
        return false;
    }
    s->link = l;
    s->number = f->call;
    s->cost = cost_of(f);
    s->req = (struct peer_request){
        .from_host = l->host_id,
        .type = f->type,
        .head = {s->head, f->head_size},
        .body = {s->body, f->body_size},
        .loop = l->server->loop,
        .reply = served_reply,
        .reply_owned = served_reply_owned,
    };
    list_push(&l->requests, &s->node);
    l->inflight++;
    l->server->served++;
    l->server->held += s->cost;
    l->incoming = s;
    frame_stream_place(&l->stream, s->head, s->body);
    return true;
}

static void request_end(struct link *l)
{
    struct served *s = l->incoming;
    const struct peer_service *service = l->server->service;
    l->incoming = NULL;
    peer_handler_fn fn = service->handlers[s->req.type].fn;
    if (fn) {
        fn(service->handlers[s->req.type].arg, &s->req);
    } else {
        served_reply(&s->req, TSR_ENOTSUP, (struct peer_bytes){NULL, 0},
                     (struct peer_bytes){NULL, 0});
    }
}

static void link_pause(struct link *l, const uint8_t *data, size_t size)
{
    tsr_assert(!l->paused);
    if (size > 0) {
        l->stash = malloc(size);
        if (!l->stash) {
            link_close(l);
            return;
        }
        memcpy(l->stash, data, size);
        l->stash_size = size;
    }
    l->paused = true;
    list_push(&l->server->paused, &l->paused_node);
    conn_read_stop(l->conn);
}

/* A handler may answer, close the server, or end other connections: look at `closing` each time. */
static void link_feed(struct link *l, const uint8_t *data, size_t size)
{
    while (!l->closing) {
        int event = 0;
        if (l->stream.state != FRAME_UNPLACED) {
            event = frame_stream_feed(&l->stream, &data, &size);
        }
        if (event == FRAME_COMPLETE) {
            request_end(l);
            continue;
        }
        if (event < 0 || (l->stream.state == FRAME_UNPLACED && l->stream.frame.reply)) {
            link_drop(l, METRIC_peer_bad_frames_total);
            return;
        }
        if (l->stream.state != FRAME_UNPLACED) {
            return; /* FRAME_MORE */
        }
        if (!admissible(l)) {
            link_pause(l, data, size);
            return;
        }
        if (!request_begin(l)) {
            link_close(l); /* out of memory */
            return;
        }
    }
}

static void link_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct link *l = arg;
    (void)conn;
    if (status != 0) {
        link_close(l);
        return;
    }
    l->bytes_in += size;
    metric_add(METRIC_peer_bytes_in_total, (int64_t)size);
    link_feed(l, data, size);
}

static void link_resume(struct link *l)
{
    uint8_t *stash = l->stash;
    size_t size = l->stash_size;
    l->paused = false;
    list_remove(&l->paused_node);
    l->stash = NULL;
    l->stash_size = 0;
    link_feed(l, stash, size);
    free(stash);
    if (!l->closing && !l->paused) {
        conn_read_start(l->conn, link_read_cb, l);
    }
}

/* Memory came free: go along the line. Who waits for memory is not overtaken by the next one. */
static void resume_task(struct task *task)
{
    struct peer_server *server = container_of(task, struct peer_server, resume_task);
    bool memory_short = false;
    server->resume_posted = false; /* what comes free meanwhile posts again */
    struct list line;
    list_init(&line);
    list_splice(&line, &server->paused);
    struct list *node;
    while ((node = list_pop(&line))) {
        struct link *l = container_of(node, struct link, paused_node);
        bool costs = l->inflight > 0 && cost_of(&l->stream.frame) > SMALL_MAX;
        if (!admissible(l) || (costs && memory_short)) {
            memory_short = memory_short || (costs && l->inflight < INFLIGHT_MAX);
            list_push(&server->paused, &l->paused_node);
            continue;
        }
        link_resume(l);
    }
    server_check_closed(server);
}

/* --- connections
 * ------------------------------------------------------------------------------------ */

static void stall_timer_cb(struct timer *timer)
{
    struct link *l = container_of(timer, struct link, stall_timer);
    size_t pending = conn_pending(l->conn);
    bool expects = pending > 0 || (frame_stream_inside(&l->stream) && !l->paused);
    uint64_t mark = l->bytes_in + l->bytes_handed - pending;
    l->stall_ticks = expects && mark == l->stall_mark ? l->stall_ticks + 1 : 0;
    l->stall_mark = mark;
    if (l->stall_ticks >= STALL_TICKS) {
        link_drop(l, METRIC_peer_stalled_total);
        return;
    }
    timer_start(&l->stall_timer, STALL_EVERY_MS);
}

static void accept_cb(struct listener *listener, void *arg, struct conn *conn)
{
    struct peer_server *server = arg;
    uint64_t host_id = 0;
    (void)listener;
    bool known = peer_cert_parse(conn_peer_name(conn), server->cluster_id, &host_id);
    struct link *l = known && !server->closing ? calloc(1, sizeof(*l)) : NULL;
    if (!l) {
        if (!known) {
            metric_add(METRIC_peer_bad_names_total, 1);
        }
        conn_close(conn, NULL, NULL);
        return;
    }
    l->server = server;
    l->conn = conn;
    l->host_id = host_id;
    list_init(&l->paused_node);
    list_init(&l->requests);
    list_push(&server->conns, &l->node);
    frame_stream_init(&l->stream);
    timer_init(&l->stall_timer, server->loop, stall_timer_cb);
    timer_start(&l->stall_timer, STALL_EVERY_MS);
    conn_read_start(conn, link_read_cb, l);
}

int peer_server_new(struct loop *loop, struct tls *tls, const char *cluster_id, const char *address,
                    const struct peer_service *service, size_t buffer_bytes,
                    struct peer_server **out, struct err *err)
{
    struct peer_server *server = calloc(1, sizeof(*server));
    char *id = strdup(cluster_id);
    if (!server || !id || payload_memory_init(&server->memory) != 0) {
        free(server);
        free(id);
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    server->loop = loop;
    server->cluster_id = id;
    server->service = service;
    server->bound = buffer_bytes;
    server->resume_task.run = resume_task;
    server->close_task.run = server_close_task;
    list_init(&server->conns);
    list_init(&server->paused);
    int rc = listener_open(loop, address, tls, accept_cb, server, &server->listener, err);
    if (rc != 0) {
        payload_memory_close(&server->memory);
        free(id);
        free(server);
        return rc;
    }
    *out = server;
    return 0;
}

unsigned peer_server_port(const struct peer_server *server)
{
    return listener_port(server->listener);
}

void peer_server_set_tls(struct peer_server *server, struct tls *tls)
{
    listener_set_tls(server->listener, tls);
}

void peer_server_close(struct peer_server *server, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!server->closing);
    server->closing = true;
    server->close_cb = cb;
    server->close_arg = arg;
    listener_close(server->listener);
    list_each(node, &server->conns)
    {
        link_close(container_of(node, struct link, node));
    }
    server_check_closed(server);
}
