/* Connections: reading, writing, ending.
 *
 * Happy path: a poll handle waits for exactly what is wanted (conn_update); conn_poll_cb moves
 *   bytes. A write is tried at once when nothing waits before it; what has happened inside a call
 *   is told in the loop's next turn (conn_kick), never inside the call.
 * Failure: the reader hears of an end once; queued writes fail with the same code. A write that
 *   fails on a plain socket leaves reading alone, as an answer may have come before the cut.
 * Fairness: reading and writing take at most NET_*_TURN_BYTES a turn. Bytes which OpenSSL holds
 *   do not wake poll, so that an unfinished TLS read goes on by a kick.
 * On close: handles are closed; after the last of them called back, writes left over are told
 *   TSR_ECANCELED, then comes the close callback, then the memory goes. */
#include "sys/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void queue_push(struct conn_queue *q, struct conn_write *req)
{
    req->next = NULL;
    if (q->tail != NULL) {
        q->tail->next = req;
    } else {
        q->head = req;
    }
    q->tail = req;
}

static struct conn_write *queue_pop(struct conn_queue *q)
{
    struct conn_write *req = q->head;
    if (req != NULL) {
        q->head = req->next;
        if (q->head == NULL) {
            q->tail = NULL;
        }
        req->next = NULL;
    }
    return req;
}

/* --- life ----------------------------------------------------------------------------------- */

static void conn_finish(struct conn *c)
{
    struct conn_write *req;
    while ((req = queue_pop(&c->done)) != NULL) {
        req->cb(req, req->status);
    }
    while ((req = queue_pop(&c->queue)) != NULL) {
        req->status = TSR_ECANCELED;
        req->cb(req, TSR_ECANCELED);
    }
    if (c->close_cb != NULL) {
        c->close_cb(c, c->close_arg);
    }
    free(c->server_name);
    free(c);
}

void conn_handle_gone(struct conn *c)
{
    tsr_assert(c->handles > 0);
    c->handles--;
    if (c->handles == 0) {
        conn_finish(c);
    }
}

static void idle_closed_cb(uv_handle_t *handle)
{
    conn_handle_gone(handle->data);
}

static void poll_closed_cb(uv_handle_t *handle)
{
    struct conn_poll *p = handle->data;
    struct conn *c = p->conn;
    close(p->fd);
    free(p);
    conn_handle_gone(c);
}

int conn_attach(struct conn *c, int fd)
{
    tsr_assert(c->poll == NULL);
    struct conn_poll *p = calloc(1, sizeof *p);
    if (p == NULL || uv_poll_init(c->uv, &p->uv, fd) != 0) {
        free(p);
        close(fd);
        return TSR_ENOMEM;
    }
    p->uv.data = p;
    p->conn = c;
    p->fd = fd;
    c->poll = p;
    c->events = 0;
    c->handles++;
    return 0;
}

void conn_detach(struct conn *c)
{
    if (c->poll != NULL) {
        uv_close((uv_handle_t *)&c->poll->uv, poll_closed_cb);
        c->poll = NULL;
        c->events = 0;
    }
}

static void conn_idle_cb(uv_idle_t *handle);

struct conn *conn_new(struct loop *loop)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->loop = loop;
    c->uv = uv_loop_native(loop);
    c->state = CONN_CONNECTING;
    list_init(&c->handshake_link);
    timer_init(&c->timer, loop, NULL);
    int status = uv_idle_init(c->uv, &c->idle);
    tsr_assert(status == 0);
    c->idle.data = c;
    c->handles = 1;
    return c;
}

void conn_close(struct conn *c, conn_close_cb cb, void *arg)
{
    tsr_assert(c->state != CONN_CLOSING);
    timer_stop(&c->timer);
    list_remove(&c->handshake_link);
    if (c->state == CONN_OPEN && c->queue.head == NULL && !c->shutdown_done) {
        conn_io_shutdown(c); /* a courtesy: the peer sees an orderly end */
    }
    c->state = CONN_CLOSING;
    c->reading = false;
    c->close_cb = cb;
    c->close_arg = arg;
    if (c->ssl != NULL) {
        SSL_free(c->ssl);
        c->ssl = NULL;
    }
    tls_unref(c->tls);
    c->tls = NULL;
    uv_cancel((uv_req_t *)&c->resolver); /* its callback comes in any case */
    conn_detach(c);
    uv_close((uv_handle_t *)&c->idle, idle_closed_cb);
}

/* --- events --------------------------------------------------------------------------------- */

void conn_kick(struct conn *c)
{
    if (!c->kicked && c->state != CONN_CLOSING) {
        c->kicked = true;
        uv_idle_start(&c->idle, conn_idle_cb);
    }
}

static int wanted_events(const struct conn *c)
{
    int events = 0;
    switch (c->state) {
    case CONN_CONNECTING:
        return UV_WRITABLE;
    case CONN_HANDSHAKE:
        return c->handshake_wants_write ? UV_WRITABLE : UV_READABLE;
    case CONN_OPEN:
        if (c->reading && !c->ended) {
            events |= c->read_wants_write ? UV_WRITABLE : UV_READABLE;
        }
        if (c->queue.head != NULL) {
            events |= c->write_wants_read ? UV_READABLE : UV_WRITABLE;
        } else if (c->shutdown_wanted && !c->shutdown_done) {
            events |= UV_WRITABLE;
        }
        return events;
    default:
        return 0;
    }
}

/* Wait for what is wanted now. */
void conn_update(struct conn *c)
{
    if (c->poll == NULL) {
        return;
    }
    int events = wanted_events(c);
    if (events == c->events) {
        return;
    }
    c->events = events;
    if (events == 0) {
        uv_poll_stop(&c->poll->uv);
    } else {
        int status = uv_poll_start(&c->poll->uv, events, conn_poll_cb);
        tsr_assert(status == 0);
    }
}

/* Nothing can be written any more: whatever waits has failed. */
static void write_failed(struct conn *c, int status)
{
    c->write_status = status;
    c->pending = 0;
    struct conn_write *req;
    while ((req = queue_pop(&c->queue)) != NULL) {
        req->status = status;
        queue_push(&c->done, req);
    }
}

static void read_ended(struct conn *c, int status)
{
    c->ended = true;
    if (status != TSR_EEOF && c->write_status == 0) {
        write_failed(c, status);
        conn_kick(c);
    }
    c->read_cb(c, c->read_arg, status, NULL, 0);
}

static bool may_read(const struct conn *c)
{
    return c->state == CONN_OPEN && c->reading && !c->ended;
}

static void read_some(struct conn *c)
{
    char data[NET_READ_BYTES];
    size_t turn = 0;
    while (may_read(c)) {
        if (turn >= NET_READ_TURN_BYTES) {
            c->read_again = true;
            conn_kick(c);
            return;
        }
        long n = conn_io_read(c, data, sizeof data);
        if (n == TSR_EAGAIN) {
            return;
        }
        if (n < 0) {
            read_ended(c, (int)n);
            return;
        }
        turn += (size_t)n;
        c->read_cb(c, c->read_arg, 0, data, (size_t)n);
        if (c->state == CONN_CLOSING) {
            return;
        }
        /* A short read has emptied the socket; poll tells of more. */
        if (c->ssl != NULL ? c->drained : (size_t)n < sizeof data) {
            return;
        }
    }
}

static void shutdown_some(struct conn *c)
{
    if (c->shutdown_wanted && !c->shutdown_done && c->queue.head == NULL) {
        c->shutdown_done = c->write_status != 0 || conn_io_shutdown(c) != TSR_EAGAIN;
    }
}

static void write_some(struct conn *c)
{
    size_t turn = 0;
    struct conn_write *req;
    while ((req = c->queue.head) != NULL && turn < NET_WRITE_TURN_BYTES) {
        size_t size = conn_write_size(req);
        if (req->done < size) {
            long n = conn_io_write(c, req);
            if (n == TSR_EAGAIN) {
                return;
            }
            if (n < 0) {
                write_failed(c, (int)n);
                break;
            }
            req->done += (size_t)n;
            c->pending -= (size_t)n;
            turn += (size_t)n;
        }
        if (req->done == size) {
            queue_push(&c->done, queue_pop(&c->queue));
        }
    }
    shutdown_some(c);
}

/* Tell of the writes that are done now; those which end meanwhile wait for the next turn, or a
 * fast reader would keep the loop for itself. */
static void deliver(struct conn *c)
{
    const struct conn_write *last = c->done.tail;
    while (c->state != CONN_CLOSING && c->done.head != NULL) {
        struct conn_write *req = queue_pop(&c->done);
        bool end = req == last;
        req->cb(req, req->status);
        if (end) {
            break;
        }
    }
    if (c->done.head != NULL) {
        conn_kick(c);
    }
}

static void connect_failed(struct conn *c)
{
    conn_connect_cb cb = c->connect_cb;
    c->connect_failed = false;
    c->connect_cb = NULL;
    if (cb != NULL) {
        cb(c, c->connect_arg, c->connect_status);
    }
}

static void conn_idle_cb(uv_idle_t *handle)
{
    struct conn *c = handle->data;
    uv_idle_stop(handle);
    c->kicked = false;
    if (c->connect_failed) {
        connect_failed(c);
    }
    if (c->state != CONN_CLOSING && c->done.head != NULL) {
        deliver(c);
    }
    if (c->state == CONN_OPEN && c->read_again) {
        c->read_again = false;
        read_some(c);
    }
    if (c->state == CONN_OPEN) {
        conn_update(c);
    }
}

static void open_ready(struct conn *c, int events)
{
    int write_on = c->write_wants_read ? UV_READABLE : UV_WRITABLE;
    int read_on = c->read_wants_write ? UV_WRITABLE : UV_READABLE;
    if ((events & write_on) != 0) {
        write_some(c);
        deliver(c);
    }
    if (c->state == CONN_OPEN && (events & read_on) != 0) {
        read_some(c);
    }
    if (c->state != CONN_OPEN) {
        return;
    }
    /* A TLS session that broke while writing has nothing more to read. */
    if (c->ssl_status != 0 && may_read(c)) {
        c->read_again = true;
        conn_kick(c);
    }
    conn_update(c);
}

void conn_poll_cb(uv_poll_t *handle, int status, int events)
{
    struct conn_poll *p = handle->data;
    struct conn *c = p->conn;
    if (c->poll != p) {
        return;
    }
    if (status != 0) {
        /* libuv met an error on the socket and stopped; the next read or write names it. */
        events = UV_READABLE | UV_WRITABLE;
        c->events = 0;
    }
    switch (c->state) {
    case CONN_CONNECTING:
        conn_connect_ready(c);
        break;
    case CONN_HANDSHAKE:
        conn_handshake_step(c);
        break;
    case CONN_OPEN:
        open_ready(c, events);
        break;
    default:
        break;
    }
}

void conn_set_open(struct conn *c)
{
    timer_stop(&c->timer);
    c->state = CONN_OPEN;
    conn_set_addresses(c);
    if (c->ssl != NULL && !tls_peer_name(c->ssl, c->peer_name)) {
        c->peer_name[0] = 0;
    }
}

/* --- calls ---------------------------------------------------------------------------------- */

void conn_read_start(struct conn *c, conn_read_cb cb, void *arg)
{
    c->read_cb = cb;
    c->read_arg = arg;
    if (c->reading || c->state == CONN_CLOSING) {
        return;
    }
    c->reading = true;
    if (c->state == CONN_OPEN) {
        if (c->ssl != NULL) {
            c->read_again = true; /* OpenSSL may hold bytes already */
            conn_kick(c);
        }
        conn_update(c);
    }
}

void conn_read_stop(struct conn *c)
{
    c->reading = false;
    if (c->state == CONN_OPEN) {
        conn_update(c);
    }
}

void conn_write(struct conn *c, struct conn_write *req)
{
    req->done = 0;
    req->status = 0;
    bool first = c->queue.head == NULL;
    bool refused = c->write_status != 0 || c->shutdown_wanted || c->state == CONN_FAILED;
    if (refused && c->state != CONN_CLOSING) {
        req->status = c->write_status != 0 ? c->write_status : TSR_EIO;
        queue_push(&c->done, req);
        conn_kick(c);
        return;
    }
    c->pending += conn_write_size(req);
    queue_push(&c->queue, req);
    if (c->state != CONN_OPEN) {
        return; /* sent once open, or canceled by the close under way */
    }
    if (first) {
        write_some(c);
    }
    if (c->done.head != NULL) {
        conn_kick(c);
    }
    conn_update(c);
}

size_t conn_pending(const struct conn *c)
{
    return c->pending;
}

void conn_shutdown(struct conn *c)
{
    c->shutdown_wanted = true;
    if (c->state == CONN_OPEN) {
        shutdown_some(c);
        conn_update(c);
    }
}

struct loop *conn_loop(const struct conn *c)
{
    return c->loop;
}

bool conn_is_tls(const struct conn *c)
{
    return c->is_tls;
}

const char *conn_peer_address(const struct conn *c)
{
    return c->peer_address;
}

const char *conn_local_address(const struct conn *c)
{
    return c->local_address;
}

const char *conn_peer_name(const struct conn *c)
{
    return c->peer_name[0] != 0 ? c->peer_name : NULL;
}

int conn_peer_cred(const struct conn *c, unsigned *uid_out, unsigned *gid_out)
{
    struct ucred cred;
    socklen_t size = sizeof cred;
    if (!c->is_unix || c->poll == NULL ||
        getsockopt(c->poll->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0) {
        return TSR_ENOTSUP;
    }
    *uid_out = cred.uid;
    *gid_out = cred.gid;
    return 0;
}

int conn_peer_fingerprints(const struct conn *c, uint8_t leaf_out[32], uint8_t root_out[32])
{
    if (c->ssl == NULL) {
        return TSR_ENOTSUP;
    }
    return tls_chain_check(SSL_get0_peer_certificate(c->ssl), SSL_get_peer_cert_chain(c->ssl),
                           leaf_out, root_out);
}
