/* A client connection: bytes in, requests one after the other, timeouts, the end.
 *
 * Happy path: session_pump takes what was read, advance() does one step at a time: a head makes a
 *   request and calls the handler, pieces go to the body's owner, a finished reply frees the
 * request and the next head is looked for. Bytes that nobody wants yet wait in `in`; while any
 * wait, the connection is not read. Failure: a bad head is answered and the connection closed; a
 * bad chunk is told to the body's owner, who answers. A client that leaves in the middle of its
 * body, or a broken connection, is the end of the request; one that only closed its sending side
 * still gets its reply. On close: the connection cancels its writes first; then session_closed_cb
 * tells the handler (body, write, abort) and frees. Handlers are called by the pump and by
 * session_closed_cb alone. */
#include "http/session.h"

#include <stdlib.h>

#include "tessera/base/metric.h"

static void session_pump(struct session *s, const char *data, size_t size);

/* --- life ----------------------------------------------------------------------------------- */

static void session_free(struct session *s)
{
    http_parse_free(s->parse);
    buf_free(&s->in);
    free(s);
}

static void session_closed_cb(struct conn *c, void *arg)
{
    struct session *s = arg;
    struct http_server *server = s->server;
    struct http_req *req = s->req;
    (void)c;
    if (req != NULL) {
        body_abort(req);
        reply_abort(req);
        s->req = NULL;
        request_free(req);
        server->request_count--;
        metric_add(METRIC_requests_active, -1);
    }
    s->closed = true;
    list_remove(&s->link);
    if (!s->posted) {
        session_free(s);
    }
    server_session_gone(server);
}

void session_close(struct session *s)
{
    if (!s->dead) {
        s->dead = true;
        timer_stop(&s->timer);
        conn_close(s->conn, session_closed_cb, s);
    }
}

static void session_task(struct task *task)
{
    struct session *s = container_of(task, struct session, task);
    s->posted = false;
    if (s->closed) {
        session_free(s);
    } else if (!s->dead) {
        session_pump(s, NULL, 0);
    }
}

void session_kick(struct session *s)
{
    if (!s->pumping && !s->posted && !s->dead) {
        s->posted = true;
        loop_post(s->server->loop, &s->task);
    }
}

void session_go(struct session *s)
{
    if (!s->dead) {
        session_pump(s, NULL, 0);
    }
}

/* Nothing of a request is here: closing harms nobody. */
bool session_idle(const struct session *s)
{
    return s->phase == PHASE_LINGER ||
           (s->phase == PHASE_HEAD && s->in.size == 0 && http_parse_idle(s->parse));
}

/* --- steps ---------------------------------------------------------------------------------- */

/* The last reply is on its way: end our side, then wait for the client's end, so that unread bytes
 * of his do not reset the connection under the reply. */
static void linger(struct session *s)
{
    s->phase = PHASE_LINGER;
    if (s->eof) {
        session_close(s);
    } else {
        conn_shutdown(s->conn);
    }
}

/* Dropping the body has lasted long enough. */
static void give_up(struct session *s)
{
    s->phase = PHASE_DEAF;
    s->keep_alive = false;
    conn_shutdown(s->conn);
}

static void request_finish(struct session *s)
{
    request_free(s->req);
    s->req = NULL;
    s->server->request_count--;
    metric_add(METRIC_requests_active, -1);
    s->dropped = 0;
    if (s->phase == PHASE_DEAF) {
        return;
    }
    if (s->keep_alive && !s->eof && !s->server->closing && s->phase == PHASE_DONE) {
        s->phase = PHASE_HEAD;
        s->timer_kind = TIMER_NONE; /* the next head gets its own full time */
        timer_stop(&s->timer);
    } else {
        linger(s);
    }
}

static void head_bad(struct session *s)
{
    s->keep_alive = false;
    reply_notice(s, http_parse_status(s->parse));
    linger(s);
}

static void request_begin(struct session *s)
{
    struct http_req *req = request_new(s);
    if (req == NULL) {
        session_close(s);
        return;
    }
    s->req = req;
    s->keep_alive = req->head.keep_alive;
    s->phase = PHASE_BODY;
    s->active_ms = loop_now_ms(s->server->loop);
    s->server->request_count++;
    metric_add(METRIC_requests_active, 1);
}

static void input_bad(struct session *s)
{
    s->phase = PHASE_JUNK;
    s->keep_alive = false;
    tsr_assert(s->req != NULL); /* past the head there is a request */
    if (s->req->body_fail == 0) {
        s->req->body_fail = TSR_EPROTO;
    }
}

/* The parser stops before the line end of the empty line. Take that too: a message without body is
 * complete then, and one with a body must not look as if its body had begun. */
static size_t head_end(struct session *s, const char *data)
{
    size_t used = 0;
    size_t body_size = 0;
    const char *body = NULL;
    enum http_event event = http_parse_step(s->parse, data, 1, &used, &body, &body_size);
    tsr_assert(used == 1 && event == (http_has_body(s->req) ? HTTP_EV_MORE : HTTP_EV_END));
    if (event == HTTP_EV_END) {
        s->phase = PHASE_DONE;
    }
    return used;
}

static size_t parse_some(struct session *s, const char *data, size_t size)
{
    size_t used = 0;
    size_t body_size = 0;
    const char *body = NULL;
    enum http_event event = http_parse_step(s->parse, data, size, &used, &body, &body_size);
    switch (event) {
    case HTTP_EV_HEAD:
        request_begin(s);
        if (s->dead) {
            break;
        }
        used += head_end(s, data + used);
        s->server->handler(s->server->arg, s->req);
        break;
    case HTTP_EV_BODY:
        body_piece(s->req, body, body_size);
        break;
    case HTTP_EV_END:
        s->phase = PHASE_DONE;
        break;
    case HTTP_EV_BAD:
        if (s->phase == PHASE_HEAD) {
            head_bad(s);
        } else {
            input_bad(s);
        }
        break;
    case HTTP_EV_MORE:
        break;
    }
    return used;
}

/* One step; false when there is nothing more to do with what is here. */
static bool advance(struct session *s, const char *data, size_t size, size_t *at)
{
    struct http_req *req = s->req;
    if (req != NULL && reply_finished(req) && s->phase != PHASE_BODY) {
        request_finish(s);
        return true;
    }
    if (req != NULL && (reply_deliver(req) || body_deliver(req))) {
        return true;
    }
    if (*at == size) {
        return false;
    }
    switch (s->phase) {
    case PHASE_BODY:
        if (!body_wanted(req)) {
            return false;
        }
        if (s->dropped > HTTP_DROP_BYTES_MAX) {
            give_up(s);
            return true;
        }
        *at += parse_some(s, data + *at, size - *at);
        return true;
    case PHASE_HEAD:
        *at += parse_some(s, data + *at, size - *at);
        return true;
    case PHASE_DONE:
        return false;
    default:
        s->dropped += (int64_t)(size - *at);
        *at = size;
        return false;
    }
}

/* --- waiting -------------------------------------------------------------------------------- */

static void session_read_cb(struct conn *c, void *arg, int status, const void *data, size_t size);

static void reading_set(struct session *s)
{
    bool want = !s->eof && s->in.size == 0 && s->phase != PHASE_DEAF;
    if (s->phase == PHASE_BODY && s->req->paused) {
        want = false;
    }
    if (s->phase == PHASE_JUNK && s->dropped > HTTP_DROP_BYTES_MAX) {
        want = false;
    }
    if (want == s->reading) {
        return;
    }
    s->reading = want;
    if (want) {
        conn_read_start(s->conn, session_read_cb, s);
    } else {
        conn_read_stop(s->conn);
    }
}

static enum session_timer timer_wanted(const struct session *s)
{
    const struct http_req *req = s->req;
    switch (s->phase) {
    case PHASE_HEAD:
        return http_parse_idle(s->parse) ? TIMER_IDLE : TIMER_HEAD;
    case PHASE_LINGER:
    case PHASE_DEAF:
        return TIMER_LINGER;
    case PHASE_BODY:
    case PHASE_JUNK:
        if (req->ended) {
            return TIMER_DROP;
        }
        break;
    default:
        break;
    }
    if (req->outstanding > 0) {
        return TIMER_WRITE;
    }
    return s->phase == PHASE_BODY && body_wanted(req) ? TIMER_BODY : TIMER_NONE;
}

static uint64_t timer_ms(const struct session *s, enum session_timer kind)
{
    const struct http_options *o = &s->server->options;
    switch (kind) {
    case TIMER_IDLE:
        return o->idle_timeout_ms;
    case TIMER_HEAD:
        return o->head_timeout_ms;
    case TIMER_BODY:
        return o->body_timeout_ms;
    case TIMER_WRITE:
        return o->body_timeout_ms / 4 + 1; /* looked at several times, see write_stalled */
    case TIMER_DROP:
        return HTTP_DROP_MS;
    default:
        return HTTP_LINGER_MS;
    }
}

static void timer_set(struct session *s)
{
    enum session_timer kind = timer_wanted(s);
    if (kind == s->timer_kind) {
        return;
    }
    s->timer_kind = kind;
    if (kind == TIMER_NONE) {
        timer_stop(&s->timer);
    } else {
        s->pending_seen = conn_pending(s->conn);
        timer_start(&s->timer, timer_ms(s, kind));
    }
}

/* No byte was taken by the client for the whole time. */
static bool write_stalled(struct session *s)
{
    uint64_t now = loop_now_ms(s->server->loop);
    size_t pending = conn_pending(s->conn);
    if (pending != s->pending_seen) {
        s->pending_seen = pending;
        s->active_ms = now;
    }
    return now - s->active_ms >= s->server->options.body_timeout_ms;
}

static void session_timer_cb(struct timer *timer)
{
    struct session *s = container_of(timer, struct session, timer);
    uint64_t body_ms = s->server->options.body_timeout_ms;
    uint64_t quiet = loop_now_ms(s->server->loop) - s->active_ms;
    switch (s->timer_kind) {
    case TIMER_BODY:
        if (quiet < body_ms) {
            timer_start(timer, body_ms - quiet);
            return;
        }
        break;
    case TIMER_WRITE:
        if (!write_stalled(s)) {
            timer_start(timer, timer_ms(s, TIMER_WRITE));
            return;
        }
        break;
    case TIMER_HEAD:
        s->keep_alive = false;
        reply_notice(s, 408);
        linger(s);
        session_go(s);
        return;
    case TIMER_DROP:
        give_up(s);
        session_go(s);
        return;
    default:
        break;
    }
    session_close(s);
}

/* --- input ---------------------------------------------------------------------------------- */

static void session_pump(struct session *s, const char *data, size_t size)
{
    tsr_assert(!s->pumping);
    bool kept = s->in.size > 0;
    if (kept) {
        if (size > 0 && buf_append(&s->in, data, size) != 0) {
            session_close(s);
            return;
        }
        data = s->in.data;
        size = s->in.size;
    }
    size_t at = 0;
    s->pumping = true;
    while (!s->dead && advance(s, data, size, &at)) {
    }
    s->pumping = false;
    if (s->dead) {
        return;
    }
    if (kept) {
        buf_consume(&s->in, at);
    } else if (at < size && buf_append(&s->in, data + at, size - at) != 0) {
        session_close(s);
        return;
    }
    if (s->in.size == 0) {
        buf_free(&s->in); /* most connections are idle ones */
    }
    reading_set(s);
    timer_set(s);
}

static void session_eof(struct session *s)
{
    s->eof = true;
    s->keep_alive = false;
    if (s->phase == PHASE_BODY && s->req->ended) {
        s->phase = PHASE_JUNK; /* the rest of a refused body will not come */
    } else if (s->phase == PHASE_BODY || s->phase == PHASE_HEAD || s->phase == PHASE_LINGER) {
        session_close(s);
        return;
    }
    session_pump(s, NULL, 0);
}

static void session_read_cb(struct conn *c, void *arg, int status, const void *data, size_t size)
{
    struct session *s = arg;
    (void)c;
    if (status == TSR_EEOF) {
        session_eof(s);
    } else if (status != 0) {
        session_close(s);
    } else {
        s->active_ms = loop_now_ms(s->server->loop);
        metric_add(METRIC_client_bytes_in_total, (int64_t)size);
        session_pump(s, data, size);
    }
}

void session_start(struct http_server *server, struct conn *conn)
{
    struct session *s = calloc(1, sizeof *s);
    struct http_parse *parse = http_parse_new();
    if (s == NULL || parse == NULL) {
        free(s);
        http_parse_free(parse);
        conn_close(conn, NULL, NULL);
        return;
    }
    s->server = server;
    s->conn = conn;
    s->parse = parse;
    s->task.run = session_task;
    timer_init(&s->timer, server->loop, session_timer_cb);
    list_push(&server->sessions, &s->link);
    server->session_count++;
    metric_add(METRIC_connections, 1);
    reading_set(s);
    timer_set(s);
}
