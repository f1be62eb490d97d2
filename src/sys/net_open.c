/* Opening connections: addresses, names, connect, TLS handshake.
 *
 * Happy path: address literal or resolver -> connect -> (handshake) -> connect callback.
 * Failure: every address of a name is tried in order, each with its share of the time; then the
 *   callback gets TSR_ECONNECT, TSR_ETIMEOUT, TSR_EPROTO (not TLS, alert) or TSR_EUNAUTHORIZED
 *   (the certificate is not one we trust). The owner closes in any case.
 * On close: the resolver is canceled; a connect under way ends with its socket. */
#include "sys/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include "tessera/base/str.h"

/* --- addresses ------------------------------------------------------------------------------ */

int net_address_split(const char *address, char *host, size_t host_size, char *port,
                      size_t port_size)
{
    const char *host_at = address;
    const char *colon = strrchr(address, ':');
    const char *host_end = colon;
    int64_t number;
    if (colon == NULL || str_to_i64(colon + 1, 0, 65535, &number) != 0) {
        return TSR_EINVAL;
    }
    if (address[0] == '[') {
        host_at = address + 1;
        host_end = colon - 1;
        if (host_end <= host_at || *host_end != ']') {
            return TSR_EINVAL;
        }
    } else if (strcspn(address, ":[]") != (size_t)(colon - address)) {
        return TSR_EINVAL; /* a v6 address needs brackets */
    }
    size_t size = (size_t)(host_end - host_at);
    if (size >= host_size) {
        return TSR_EINVAL;
    }
    memcpy(host, host_at, size);
    host[size] = 0;
    return str_copy(port, port_size, colon + 1) ? 0 : TSR_EINVAL;
}

int net_address_unix(const char *address, union conn_address *out, socklen_t *size_out)
{
    if (!str_starts(address, "unix:")) {
        return TSR_ENOENT;
    }
    memset(out, 0, sizeof *out);
    out->un.sun_family = AF_UNIX;
    const char *path = address + strlen("unix:");
    if (*path == 0 || !str_copy(out->un.sun_path, sizeof out->un.sun_path, path)) {
        return TSR_EINVAL;
    }
    *size_out = sizeof out->un;
    return 0;
}

bool net_address_literal(const char *host, const char *port, union conn_address *out,
                         socklen_t *size_out)
{
    memset(out, 0, sizeof *out);
    in_port_t number = htons((uint16_t)strtoul(port, NULL, 10));
    if (inet_pton(AF_INET, host, &out->in4.sin_addr) == 1) {
        out->in4.sin_family = AF_INET;
        out->in4.sin_port = number;
        *size_out = sizeof out->in4;
        return true;
    }
    if (inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = number;
        *size_out = sizeof out->in6;
        return true;
    }
    return false;
}

void net_address_text(const union conn_address *a, char out[NET_ADDRESS_TEXT])
{
    char ip[INET6_ADDRSTRLEN];
    out[0] = 0;
    if (a->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->in4.sin_addr, ip, sizeof ip);
        snprintf(out, NET_ADDRESS_TEXT, "%s:%u", ip, ntohs(a->in4.sin_port));
    } else if (a->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
        inet_ntop(AF_INET, a->in6.sin6_addr.s6_addr + 12, ip, sizeof ip);
        snprintf(out, NET_ADDRESS_TEXT, "%s:%u", ip, ntohs(a->in6.sin6_port));
    } else if (a->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->in6.sin6_addr, ip, sizeof ip);
        snprintf(out, NET_ADDRESS_TEXT, "[%s]:%u", ip, ntohs(a->in6.sin6_port));
    }
}

void conn_set_addresses(struct conn *c)
{
    union conn_address a;
    socklen_t size = sizeof a;
    memset(&a, 0, sizeof a);
    if (getpeername(c->poll->fd, &a.any, &size) == 0) {
        net_address_text(&a, c->peer_address);
    }
    size = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(c->poll->fd, &a.any, &size) == 0) {
        net_address_text(&a, c->local_address);
        c->is_unix = a.any.sa_family == AF_UNIX;
    }
}

/* --- sockets -------------------------------------------------------------------------------- */

/* Non-blocking; for TCP with keep-alive probes after 30 s of silence. */
int net_socket(int family, int *fd_out)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    if (family != AF_UNIX) {
        int on = 1, idle = 30, interval = 10, count = 3;
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    }
    *fd_out = fd;
    return 0;
}

/* --- connect -------------------------------------------------------------------------------- */

static void finish_ok(struct conn *c)
{
    conn_connect_cb cb = c->connect_cb;
    c->connect_cb = NULL;
    conn_set_open(c);
    if (c->queue.head != NULL) {
        conn_kick(c);
    }
    conn_update(c);
    if (cb != NULL) {
        cb(c, c->connect_arg, 0);
    }
}

/* The callback comes in the next turn, as this may run inside conn_open. */
static void finish_failed(struct conn *c, int status)
{
    timer_stop(&c->timer);
    c->state = CONN_FAILED;
    conn_detach(c);
    c->connect_status = status;
    c->connect_failed = true;
    conn_kick(c);
}

static uint64_t time_left(const struct conn *c)
{
    uint64_t now = loop_now_ms(c->loop);
    return now < c->deadline_ms ? c->deadline_ms - now : 0;
}

static int connect_start(struct conn *c, const union conn_address *a, socklen_t size)
{
    int fd = -1;
    int status = net_socket(a->any.sa_family, &fd);
    if (status != 0) {
        return status;
    }
    if (a->any.sa_family != AF_UNIX) {
        unsigned user_timeout = NET_USER_TIMEOUT_MS;
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    }
    if (connect(fd, &a->any, size) != 0 && errno != EINPROGRESS && errno != EINTR) {
        close(fd);
        return TSR_ECONNECT;
    }
    status = conn_attach(c, fd);
    if (status == 0) {
        conn_update(c);
    }
    return status;
}

static void connect_next(struct conn *c)
{
    while (c->address_next < c->address_count) {
        unsigned at = c->address_next++;
        timer_start(&c->timer, time_left(c) / (c->address_count - at));
        if (connect_start(c, &c->addresses[at], c->address_sizes[at]) == 0) {
            return;
        }
    }
    finish_failed(c, TSR_ECONNECT);
}

void conn_connect_ready(struct conn *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(c->poll->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
        conn_detach(c);
        connect_next(c);
        return;
    }
    if (c->tls == NULL) {
        finish_ok(c);
        return;
    }
    timer_start(&c->timer, time_left(c));
    int status = conn_handshake_start(c, c->tls);
    if (status != 0) {
        finish_failed(c, status);
        return;
    }
    conn_handshake_step(c);
}

static void connect_timer_cb(struct timer *timer)
{
    struct conn *c = container_of(timer, struct conn, timer);
    if (c->state == CONN_CONNECTING && c->address_next < c->address_count) {
        conn_detach(c);
        connect_next(c);
        return;
    }
    finish_failed(c, TSR_ETIMEOUT);
}

/* --- TLS handshake (also of accepted connections) ------------------------------------------- */

int conn_handshake_start(struct conn *c, struct tls *tls)
{
    c->ssl = tls_session_new(tls, c->poll->fd, c->server_name);
    if (c->ssl == NULL) {
        return TSR_ENOMEM;
    }
    c->is_tls = true;
    c->state = CONN_HANDSHAKE;
    return 0;
}

void conn_handshake_step(struct conn *c)
{
    int status = conn_io_handshake(c);
    if (status == TSR_EAGAIN) {
        conn_update(c);
    } else if (c->listener != NULL) {
        listener_handshake_done(c, status);
    } else if (status == 0) {
        finish_ok(c);
    } else {
        finish_failed(c, status);
    }
}

/* --- names ---------------------------------------------------------------------------------- */

static void resolved_cb(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct conn *c = request->data;
    for (struct addrinfo *a = list; a != NULL && c->address_count < NET_ADDRESSES_MAX;
         a = a->ai_next) {
        if (a->ai_addrlen <= sizeof c->addresses[0]) {
            memcpy(&c->addresses[c->address_count], a->ai_addr, a->ai_addrlen);
            c->address_sizes[c->address_count++] = a->ai_addrlen;
        }
    }
    uv_freeaddrinfo(list);
    if (c->state == CONN_CONNECTING) {
        if (status != 0) {
            finish_failed(c, TSR_ECONNECT);
        } else {
            connect_next(c);
        }
    }
    conn_handle_gone(c);
}

static int resolve_start(struct conn *c, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    c->resolver.data = c;
    if (uv_getaddrinfo(c->uv, &c->resolver, resolved_cb, host, port, &hints) != 0) {
        return TSR_EINVAL;
    }
    c->handles++;
    return 0;
}

/* --- open ----------------------------------------------------------------------------------- */

static int target_set(struct conn *c, const char *address, char host[256], char port[8])
{
    int status = net_address_unix(address, &c->addresses[0], &c->address_sizes[0]);
    if (status == 0) {
        c->address_count = 1;
    }
    if (status != TSR_ENOENT) {
        return status;
    }
    status = net_address_split(address, host, 256, port, 8);
    if (status == 0 && host[0] == 0) {
        return TSR_EINVAL;
    }
    if (status == 0 && net_address_literal(host, port, &c->addresses[0], &c->address_sizes[0])) {
        c->address_count = 1;
    }
    return status;
}

int conn_open(struct loop *loop, const char *address, struct tls *tls, const char *server_name,
              uint64_t timeout_ms, conn_connect_cb cb, void *arg, struct conn **conn_out)
{
    char host[256];
    char port[8];
    tls_ignore_sigpipe();
    struct conn *c = conn_new(loop);
    if (c == NULL) {
        return TSR_ENOMEM;
    }
    int status = target_set(c, address, host, port);
    if (status == 0 && server_name != NULL) {
        c->server_name = strdup(server_name);
        status = c->server_name != NULL ? 0 : TSR_ENOMEM;
    }
    timer_init(&c->timer, loop, connect_timer_cb);
    if (status == 0 && c->address_count == 0) {
        status = resolve_start(c, host, port);
    }
    if (status != 0) {
        conn_close(c, NULL, NULL);
        return status;
    }
    c->connect_cb = cb;
    c->connect_arg = arg;
    tls_ref(tls);
    c->tls = tls;
    c->deadline_ms = loop_now_ms(loop) + timeout_ms;
    if (c->address_count > 0) {
        connect_next(c);
    } else {
        timer_start(&c->timer, timeout_ms);
    }
    *conn_out = c;
    return 0;
}
