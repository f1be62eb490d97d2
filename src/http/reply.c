/* Replies: whole ones in one write, streamed ones of a length known beforehand.
 *
 * The head waits for the first data, so that both leave together. A reply has ended for the handler
 * with http_reply, http_end or http_cut; the request lives on until its last byte is written and
 * the rest of its body is read or dropped. */
#include <stdio.h>
#include <string.h>

#include "http/session.h"
#include "tessera/base/log.h"
#include "tessera/base/metric.h"

void http_set_header(struct http_req *req, const char *name, const char *value)
{
    tsr_assert(!req->begun);
    buf_printf(&req->headers, "%s: ", name);
    while (*value != 0) {
        size_t size = strcspn(value, "\r\n");
        buf_append(&req->headers, value, size);
        value += size;
        value += strspn(value, "\r\n");
    }
    buf_append_str(&req->headers, "\r\n");
}

/* --- heads ---------------------------------------------------------------------------------- */

/* Whether another request may follow on this connection. */
static bool keep_alive_after(const struct http_req *req)
{
    const struct session *s = req->session;
    if (!s->keep_alive || s->eof || s->server->closing || s->phase == PHASE_JUNK) {
        return false;
    }
    if (s->phase != PHASE_BODY) {
        return true;
    }
    /* A client that was not invited may or may not send its body: nobody can tell. */
    return req->invited && req->head.content_length - req->received <= HTTP_DROP_BYTES_MAX;
}

static bool has_length(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void count_reply(int status)
{
    metric_add(METRIC_requests_total, 1);
    if (status >= 500) {
        metric_add(METRIC_requests_failed_total, 1);
    }
}

static int head_write(struct http_req *req, int status, const char *content_type, int64_t length)
{
    struct session *s = req->session;
    struct buf *out = &req->out;
    s->keep_alive = keep_alive_after(req);
    count_reply(status);
    buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http_reason(status),
               server_date(s->server));
    if (content_type != NULL && *content_type != 0) {
        buf_printf(out, "Content-Type: %s\r\n", content_type);
    }
    if (has_length(status)) {
        buf_printf(out, "Content-Length: %lld\r\n", (long long)length);
    }
    buf_printf(out, "x-openstack-request-id: %s\r\n", req->id);
    if (!s->keep_alive) {
        buf_append_str(out, "Connection: close\r\n");
    } else if (req->head.minor == 0) {
        buf_append_str(out, "Connection: keep-alive\r\n");
    }
    buf_append(out, req->headers.data, req->headers.size);
    buf_append_str(out, "\r\n");
    return out->failed || req->headers.failed ? TSR_ENOMEM : 0;
}

/* --- writes --------------------------------------------------------------------------------- */

static void write_begun(struct http_req *req)
{
    struct session *s = req->session;
    if (req->outstanding++ == 0) {
        s->active_ms = loop_now_ms(s->server->loop);
    }
}

static void out_written(struct conn_write *w, int status)
{
    struct http_req *req = container_of(w, struct http_req, out_write);
    struct session *s = req->session;
    req->outstanding--;
    if (status != 0) {
        session_close(s);
        return;
    }
    s->active_ms = loop_now_ms(s->server->loop);
    metric_add(METRIC_client_bytes_out_total, (int64_t)req->out.size);
    if (req->ended) {
        session_go(s);
    }
}

static void data_written(struct conn_write *w, int status)
{
    struct http_req *req = container_of(w, struct http_req, data_write);
    struct session *s = req->session;
    req->outstanding--;
    req->write_status = status;
    if (status != 0) {
        session_close(s); /* reply_abort tells the handler */
        return;
    }
    s->active_ms = loop_now_ms(s->server->loop);
    metric_add(METRIC_client_bytes_out_total, (int64_t)w->done);
    req->write_due = true;
    session_go(s);
}

static void out_send(struct http_req *req)
{
    memset(&req->out_write, 0, sizeof req->out_write);
    req->out_write.cb = out_written;
    req->out_write.iov[0] = (struct iovec){req->out.data, req->out.size};
    req->out_write.iov_count = 1;
    req->out_sent = true;
    write_begun(req);
    conn_write(req->session->conn, &req->out_write);
}

/* --- the end of a reply --------------------------------------------------------------------- */

/* The handler is done; what is left of the body is dropped. */
static void reply_ended(struct http_req *req)
{
    struct session *s = req->session;
    req->ended = true;
    req->mode = BODY_DROP;
    req->paused = false;
    buf_free(&req->collected);
    if (s->phase == PHASE_BODY && !req->invited) {
        s->phase = PHASE_JUNK;
        s->keep_alive = false;
    }
    session_kick(s);
}

bool reply_finished(const struct http_req *req)
{
    return req->ended && req->outstanding == 0;
}

void http_reply(struct http_req *req, int status, const char *content_type, const void *body,
                size_t size)
{
    struct session *s = req->session;
    tsr_assert(!req->begun && !req->ended);
    req->begun = true;
    if (s->dead) {
        reply_ended(req);
        return;
    }
    int failed = head_write(req, status, content_type, (int64_t)size);
    if (failed == 0 && size > 0 && req->method != HTTP_METHOD_HEAD && has_length(status)) {
        failed = buf_append(&req->out, body, size);
    }
    if (failed != 0) {
        log_error("http", "request=%s: reply dropped: %s", req->id, err_text(failed));
        http_cut(req);
        return;
    }
    out_send(req);
    reply_ended(req);
}

void http_begin(struct http_req *req, int status, const char *content_type, int64_t length)
{
    tsr_assert(!req->begun && !req->ended && length >= 0);
    req->begun = true;
    req->length = length;
    req->bodyless = req->method == HTTP_METHOD_HEAD || !has_length(status);
    if (!req->session->dead && head_write(req, status, content_type, length) != 0) {
        session_close(req->session); /* the handler hears of it by its next write, or the abort */
    }
}

/* Common part of the two writes: false when nothing is to be sent. */
static bool write_start(struct http_req *req, size_t size, http_write_cb cb)
{
    tsr_assert(req->begun && !req->ended && req->write_cb == NULL);
    tsr_assert(size <= (uint64_t)(req->length - req->sent));
    req->sent += (int64_t)size;
    req->write_cb = cb;
    if (req->session->dead) {
        req->write_status = TSR_EEOF;
        return false; /* reply_abort tells */
    }
    if (req->bodyless || size == 0) {
        req->write_status = 0;
        req->write_due = true;
        session_kick(req->session);
        return false;
    }
    memset(&req->data_write, 0, sizeof req->data_write);
    req->data_write.cb = data_written;
    return true;
}

void http_write(struct http_req *req, const void *data, size_t size, http_write_cb cb)
{
    if (!write_start(req, size, cb)) {
        return;
    }
    unsigned n = 0;
    if (!req->out_sent) {
        req->out_sent = true;
        req->data_write.iov[n++] = (struct iovec){req->out.data, req->out.size};
    }
    req->data_write.iov[n++] = (struct iovec){(void *)(uintptr_t)data, size};
    req->data_write.iov_count = n;
    write_begun(req);
    conn_write(req->session->conn, &req->data_write);
}

void http_write_file(struct http_req *req, int fd, int64_t offset, size_t size, http_write_cb cb)
{
    if (!write_start(req, size, cb)) {
        return;
    }
    if (!req->out_sent) {
        out_send(req);
    }
    req->data_write.fd = fd;
    req->data_write.offset = offset;
    req->data_write.size = size;
    write_begun(req);
    conn_write(req->session->conn, &req->data_write);
}

void http_end(struct http_req *req)
{
    tsr_assert(req->begun && !req->ended && req->write_cb == NULL);
    if (!req->bodyless && req->sent != req->length) {
        log_error("http", "request=%s: reply is short, cut", req->id);
        http_cut(req);
        return;
    }
    if (!req->out_sent && !req->session->dead) {
        out_send(req);
    }
    reply_ended(req);
}

void http_cut(struct http_req *req)
{
    struct session *s = req->session;
    req->begun = true;
    req->write_cb = NULL;
    req->write_due = false;
    reply_ended(req);
    session_close(s);
}

/* --- telling the handler -------------------------------------------------------------------- */

bool reply_deliver(struct http_req *req)
{
    if (!req->write_due) {
        return false;
    }
    http_write_cb cb = req->write_cb;
    req->write_due = false;
    req->write_cb = NULL;
    cb(req, req->write_status);
    return true;
}

void reply_abort(struct http_req *req)
{
    while (req->write_cb != NULL) {
        http_write_cb cb = req->write_cb;
        req->write_cb = NULL;
        req->write_due = false;
        cb(req, req->write_status != 0 ? req->write_status : TSR_EEOF);
    }
    if (!req->ended && req->on_abort != NULL) {
        req->ended = true;
        req->on_abort(req);
    }
}

/* --- without a request ---------------------------------------------------------------------- */

static void notice_written(struct conn_write *w, int status)
{
    struct session *s = container_of(w, struct session, notice);
    s->notice_out = false;
    if (status != 0) {
        session_close(s);
    }
}

static void notice_send(struct session *s)
{
    memset(&s->notice, 0, sizeof s->notice);
    s->notice.cb = notice_written;
    s->notice.iov[0] = (struct iovec){s->notice_text, strlen(s->notice_text)};
    s->notice.iov_count = 1;
    s->notice_out = true;
    conn_write(s->conn, &s->notice);
}

void reply_notice(struct session *s, int status)
{
    if (s->notice_out) {
        return;
    }
    const char *reason = http_reason(status);
    char body[160], id[HTTP_REQUEST_ID];
    request_id_make(s, id);
    snprintf(body, sizeof body,
             "{\"error\": {\"code\": %d, \"title\": \"%s\", \"message\": \"The request could not "
             "be understood.\"}}",
             status, reason);
    snprintf(s->notice_text, sizeof s->notice_text,
             "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\nx-openstack-request-id: %s\r\nConnection: close\r\n\r\n%s",
             status, reason, server_date(s->server), strlen(body), id, body);
    notice_send(s);
}

void reply_continue(struct session *s)
{
    if (!s->notice_out) {
        snprintf(s->notice_text, sizeof s->notice_text, "HTTP/1.1 100 Continue\r\n\r\n");
        notice_send(s);
    }
}
