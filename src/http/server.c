/* The server: listeners, all sessions, draining.
 *
 * Close: listeners first, then idle sessions; the others finish their request and are told to the
 * client as the last (Connection: close). After drain_ms all are closed. The callback comes when
 * the last session is gone, in a turn of its own; the server is freed just before. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/session.h"
#include "tessera/base/metric.h"

struct server_listener {
    struct list link;
    struct listener *listener;
    bool tls;
};

static void server_task(struct task *task)
{
    struct http_server *s = container_of(task, struct http_server, task);
    void (*cb)(void *arg) = s->close_cb;
    void *arg = s->close_arg;
    timer_stop(&s->drain);
    free(s);
    if (cb != NULL) {
        cb(arg);
    }
}

static void close_check(struct http_server *s)
{
    if (s->closing && s->session_count == 0 && !s->close_posted) {
        s->close_posted = true;
        loop_post(s->loop, &s->task);
    }
}

void server_session_gone(struct http_server *s)
{
    s->session_count--;
    metric_add(METRIC_connections, -1);
    close_check(s);
}

static void close_sessions(struct http_server *s, bool idle_only)
{
    list_each(node, &s->sessions)
    {
        struct session *session = container_of(node, struct session, link);
        if (!idle_only || session_idle(session)) {
            session_close(session); /* leaves the list later */
        }
    }
}

static void drain_timer_cb(struct timer *timer)
{
    close_sessions(container_of(timer, struct http_server, drain), false);
}

int http_server_new(struct loop *loop, const struct http_options *options, http_handler_fn handler,
                    void *arg, struct http_server **server_out)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return TSR_ENOMEM;
    }
    if (options != NULL) {
        s->options = *options;
    }
    struct http_options *o = &s->options;
    o->head_timeout_ms = o->head_timeout_ms != 0 ? o->head_timeout_ms : HTTP_HEAD_MS;
    o->idle_timeout_ms = o->idle_timeout_ms != 0 ? o->idle_timeout_ms : HTTP_IDLE_MS;
    o->body_timeout_ms = o->body_timeout_ms != 0 ? o->body_timeout_ms : HTTP_BODY_MS;
    o->connections_max = o->connections_max != 0 ? o->connections_max : HTTP_CONNECTIONS_MAX;
    s->loop = loop;
    s->handler = handler;
    s->arg = arg;
    s->task.run = server_task;
    list_init(&s->sessions);
    list_init(&s->listeners);
    timer_init(&s->drain, loop, drain_timer_cb);
    *server_out = s;
    return 0;
}

static void accept_cb(struct listener *l, void *arg, struct conn *c)
{
    struct http_server *s = arg;
    (void)l;
    if (s->closing || s->session_count >= s->options.connections_max) {
        conn_close(c, NULL, NULL);
        return;
    }
    session_start(s, c);
}

int http_server_listen(struct http_server *s, const char *address, struct tls *tls,
                       unsigned *port_out, struct err *err)
{
    struct server_listener *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    int status = listener_open(s->loop, address, tls, accept_cb, s, &l->listener, err);
    if (status != 0) {
        free(l);
        return status;
    }
    l->tls = tls != NULL;
    list_push(&s->listeners, &l->link);
    if (port_out != NULL) {
        *port_out = listener_port(l->listener);
    }
    return 0;
}

void http_server_set_tls(struct http_server *s, struct tls *tls)
{
    list_each(node, &s->listeners)
    {
        struct server_listener *l = container_of(node, struct server_listener, link);
        if (l->tls) {
            listener_set_tls(l->listener, tls);
        }
    }
}

void http_server_close(struct http_server *s, uint64_t drain_ms, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!s->closing);
    s->closing = true;
    s->close_cb = cb;
    s->close_arg = arg;
    struct list *node;
    while ((node = list_pop(&s->listeners)) != NULL) {
        struct server_listener *l = container_of(node, struct server_listener, link);
        listener_close(l->listener);
        free(l);
    }
    close_sessions(s, true);
    timer_start(&s->drain, drain_ms);
    close_check(s);
}

size_t http_server_requests(const struct http_server *s)
{
    return s->request_count;
}

size_t http_server_connections(const struct http_server *s)
{
    return s->session_count;
}

/* RFC 9110 section 5.6.7; made anew at most once a second. */
const char *server_date(struct http_server *s)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    uint64_t now_ms = loop_now_ms(s->loop);
    if (s->date[0] == 0 || now_ms - s->date_ms >= 1000) {
        time_t seconds = (time_t)(loop_wall_us(s->loop) / 1000000);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        s->date_ms = now_ms;
        size_t n = strftime(s->date, sizeof s->date, "   , %d     %Y %H:%M:%S GMT", &tm);
        tsr_assert(n == strlen("Thu, 01 Jan 1970 00:00:00 GMT"));
        memcpy(s->date, days[tm.tm_wday], 3);
        memcpy(s->date + 8, months[tm.tm_mon], 3);
    }
    return s->date;
}
