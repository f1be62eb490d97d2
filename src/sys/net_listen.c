/* Listening: accept, TLS handshake of new connections, addresses held by this process.
 *
 * Happy path: the socket becomes readable -> a few accepts a turn -> handshake (with TLS) ->
 *   accept callback. The kernel spreads connections over loops that listen on one address
 *   (SO_REUSEPORT).
 * Failure: a handshake that fails or takes longer than NET_HANDSHAKE_MS is closed unseen. Without
 *   file descriptors left, accepting pauses for ACCEPT_PAUSE_MS, logged once a time.
 * On close: connections in their handshake are closed, accepted ones are their owner's. */
#include "sys/conn.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum {
    LISTEN_BACKLOG = 1024,
    ACCEPT_TURN_MAX = 16,
    ACCEPT_PAUSE_MS = 100,
    HANDSHAKES_MAX = 1024, /* at a time and listener */
};

/* A TCP address that listeners of this process hold. SO_REUSEPORT would also let a second process
 * of the same user in, which then silently gets half of our clients: so the first listener makes
 * sure that the address is free, and the others find it here. */
struct held_address {
    struct list link;
    union conn_address address;
    unsigned count;
};
static struct list held_addresses = {&held_addresses, &held_addresses};
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;

struct listener {
    uv_poll_t poll;
    struct loop *loop;
    int fd;
    bool closing;
    struct tls *tls;
    conn_accept_cb cb;
    void *arg;
    struct timer pause;
    bool pause_logged;
    struct list handshakes;
    size_t handshake_count;
    struct held_address *held;
    unsigned port;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* --- addresses ------------------------------------------------------------------------------ */

/* Compared as text: equal addresses have equal texts, padding is no part of it. */
static struct held_address *held_find(const union conn_address *a)
{
    char wanted[NET_ADDRESS_TEXT];
    char text[NET_ADDRESS_TEXT];
    net_address_text(a, wanted);
    list_each(node, &held_addresses)
    {
        struct held_address *h = container_of(node, struct held_address, link);
        net_address_text(&h->address, text);
        if (strcmp(text, wanted) == 0) {
            return h;
        }
    }
    return NULL;
}

static void held_release(struct held_address *h)
{
    if (h == NULL) {
        return;
    }
    pthread_mutex_lock(&held_lock);
    if (--h->count == 0) {
        list_remove(&h->link);
        free(h);
    }
    pthread_mutex_unlock(&held_lock);
}

static int socket_bind(const union conn_address *a, socklen_t size, bool shared, int *fd_out)
{
    int fd;
    int on = 1, off = 0;
    int status = net_socket(a->any.sa_family, &fd);
    if (status != 0) {
        return status;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->any.sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (shared) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    if (bind(fd, &a->any, size) != 0 || (!shared && listen(fd, 1) != 0)) {
        status = errno == EADDRINUSE ? TSR_EEXIST : err_from_errno(errno);
        close(fd);
        return status;
    }
    *fd_out = fd;
    return 0;
}

static int tcp_bind_locked(struct listener *l, union conn_address *a, socklen_t size)
{
    l->held = held_find(a);
    bool any_port = a->in4.sin_port == 0; /* at the same place in v4 and v6 */
    if (l->held == NULL && !any_port) {
        int probe = -1;
        int status = socket_bind(a, size, false, &probe);
        if (status != 0) {
            return status;
        }
        close(probe);
    }
    int status = socket_bind(a, size, true, &l->fd);
    if (status != 0) {
        return status;
    }
    getsockname(l->fd, &a->any, &size);
    if (l->held == NULL) {
        l->held = calloc(1, sizeof *l->held);
        if (l->held == NULL) {
            return TSR_ENOMEM;
        }
        l->held->address = *a;
        list_push(&held_addresses, &l->held->link);
    }
    l->held->count++;
    l->port = ntohs(a->in4.sin_port);
    return 0;
}

static int tcp_bind(struct listener *l, union conn_address *a, socklen_t size)
{
    pthread_mutex_lock(&held_lock);
    int status = tcp_bind_locked(l, a, size);
    pthread_mutex_unlock(&held_lock);
    return status;
}

/* A socket file that nobody listens on is a leftover of a process that died. */
static int unix_clear_stale(const union conn_address *a, socklen_t size)
{
    struct stat st;
    int fd;
    if (lstat(a->un.sun_path, &st) != 0) {
        return 0;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return TSR_EEXIST;
    }
    int status = net_socket(AF_UNIX, &fd);
    if (status != 0) {
        return status;
    }
    bool alive = connect(fd, &a->any, size) == 0 || errno == EAGAIN;
    close(fd);
    if (alive) {
        return TSR_EEXIST;
    }
    return unlink(a->un.sun_path) == 0 || errno == ENOENT ? 0 : err_from_errno(errno);
}

static int unix_bind(struct listener *l, const union conn_address *a, socklen_t size)
{
    int status = unix_clear_stale(a, size);
    if (status == 0) {
        status = net_socket(AF_UNIX, &l->fd);
    }
    if (status != 0) {
        return status;
    }
    /* Before bind, so that the file never stands there with a wider mode. */
    if (fchmod(l->fd, 0660) != 0 || bind(l->fd, &a->any, size) != 0) {
        return errno == EADDRINUSE ? TSR_EEXIST : err_from_errno(errno);
    }
    str_copy(l->path, sizeof l->path, a->un.sun_path);
    return chmod(l->path, 0660) == 0 ? 0 : err_from_errno(errno);
}

/* Blocking for a name; listeners are opened at start, with addresses as a rule. */
static int listen_address(const char *text, union conn_address *out, socklen_t *size_out)
{
    char host[256];
    char port[8];
    int status = net_address_split(text, host, sizeof host, port, sizeof port);
    if (status != 0) {
        return status;
    }
    if (host[0] == 0 || strcmp(host, "*") == 0) {
        str_copy(host, sizeof host, "0.0.0.0");
    }
    if (net_address_literal(host, port, out, size_out)) {
        return 0;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0 || found->ai_addrlen > sizeof *out) {
        return TSR_EINVAL;
    }
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *size_out = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int listener_bind(struct listener *l, const char *address)
{
    union conn_address a;
    socklen_t size;
    int status = net_address_unix(address, &a, &size);
    if (status == 0) {
        status = unix_bind(l, &a, size);
    } else if (status == TSR_ENOENT) {
        status = listen_address(address, &a, &size);
        status = status == 0 ? tcp_bind(l, &a, size) : status;
    }
    if (status == 0 && listen(l->fd, LISTEN_BACKLOG) != 0) {
        status = errno == EADDRINUSE ? TSR_EEXIST : err_from_errno(errno);
    }
    return status;
}

/* --- accepting ------------------------------------------------------------------------------ */

static void accept_ready(uv_poll_t *handle, int status, int events);

static void accept_resume(struct timer *timer)
{
    struct listener *l = container_of(timer, struct listener, pause);
    uv_poll_start(&l->poll, UV_READABLE, accept_ready);
}

static void accept_pause(struct listener *l, int errnum)
{
    if (!l->pause_logged) {
        l->pause_logged = true;
        log_warn("net", "accepting paused port=%u: %s", l->port, strerror(errnum));
    }
    uv_poll_stop(&l->poll);
    timer_start(&l->pause, ACCEPT_PAUSE_MS);
}

static void handshake_forget(struct listener *l, struct conn *c)
{
    c->listener = NULL;
    list_remove(&c->handshake_link);
    l->handshake_count--;
}

void listener_handshake_done(struct conn *c, int status)
{
    struct listener *l = c->listener;
    handshake_forget(l, c);
    if (status != 0) {
        conn_set_addresses(c);
        log_write(status == TSR_EUNAUTHORIZED ? LOG_INFO : LOG_DEBUG, "net",
                  "handshake failed peer=%s: %s", c->peer_address,
                  status == TSR_EUNAUTHORIZED ? "certificate not trusted" : err_text(status));
        conn_close(c, NULL, NULL);
        return;
    }
    conn_set_open(c);
    l->cb(l, l->arg, c);
}

static void handshake_timer_cb(struct timer *timer)
{
    listener_handshake_done(container_of(timer, struct conn, timer), TSR_ETIMEOUT);
}

static void handshake_begin(struct listener *l, struct conn *c)
{
    if (l->handshake_count >= HANDSHAKES_MAX || conn_handshake_start(c, l->tls) != 0) {
        conn_close(c, NULL, NULL);
        return;
    }
    tls_ref(l->tls);
    c->tls = l->tls;
    c->listener = l;
    list_push(&l->handshakes, &c->handshake_link);
    l->handshake_count++;
    timer_init(&c->timer, l->loop, handshake_timer_cb);
    timer_start(&c->timer, NET_HANDSHAKE_MS);
    conn_update(c); /* the client speaks first */
}

static void accepted(struct listener *l, int fd)
{
    int on = 1, idle = 30, interval = 10, count = 3;
    if (l->path[0] == 0) {
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    }
    struct conn *c = conn_new(l->loop);
    if (c == NULL) {
        close(fd);
        return;
    }
    if (conn_attach(c, fd) != 0) {
        conn_close(c, NULL, NULL);
        return;
    }
    if (l->tls != NULL) {
        handshake_begin(l, c);
        return;
    }
    conn_set_open(c);
    l->cb(l, l->arg, c);
}

static void accept_ready(uv_poll_t *handle, int status, int events)
{
    struct listener *l = handle->data;
    (void)status, (void)events;
    for (int i = 0; i < ACCEPT_TURN_MAX && !l->closing; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->pause_logged = false;
            accepted(l, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            accept_pause(l, errno);
            return;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
        /* Anything else concerns the one connection: it went before it was accepted. */
    }
}

/* --- calls ---------------------------------------------------------------------------------- */

static void listener_free(struct listener *l)
{
    if (l->fd >= 0) {
        close(l->fd);
    }
    held_release(l->held);
    tls_unref(l->tls);
    free(l);
}

int listener_open(struct loop *loop, const char *address, struct tls *tls, conn_accept_cb cb,
                  void *arg, struct listener **listener_out, struct err *err)
{
    tls_ignore_sigpipe();
    struct listener *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    l->fd = -1;
    l->loop = loop;
    l->cb = cb;
    l->arg = arg;
    list_init(&l->handshakes);
    timer_init(&l->pause, loop, accept_resume);
    int status = listener_bind(l, address);
    if (status == 0 && uv_poll_init(uv_loop_native(loop), &l->poll, l->fd) != 0) {
        status = TSR_ENOMEM;
    }
    if (status != 0) {
        listener_free(l);
        return err_set(err, status, "cannot listen on %s: %s", address,
                       status == TSR_EEXIST ? "address in use" : err_text(status));
    }
    tls_ref(tls);
    l->tls = tls;
    l->poll.data = l;
    uv_poll_start(&l->poll, UV_READABLE, accept_ready);
    *listener_out = l;
    return 0;
}

unsigned listener_port(const struct listener *l)
{
    return l->port;
}

void listener_set_tls(struct listener *l, struct tls *tls)
{
    tls_ref(tls);
    tls_unref(l->tls);
    l->tls = tls;
}

static void listener_closed_cb(uv_handle_t *handle)
{
    listener_free(handle->data);
}

void listener_close(struct listener *l)
{
    if (l == NULL || l->closing) {
        return;
    }
    l->closing = true;
    timer_stop(&l->pause);
    struct list *node;
    while ((node = list_pop(&l->handshakes)) != NULL) {
        struct conn *c = container_of(node, struct conn, handshake_link);
        handshake_forget(l, c);
        conn_close(c, NULL, NULL);
    }
    if (l->path[0] != 0) {
        unlink(l->path);
    }
    uv_close((uv_handle_t *)&l->poll, listener_closed_cb);
}
