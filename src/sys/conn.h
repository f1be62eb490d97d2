/* A connection as net.c, net_io.c, net_open.c and net_listen.c share it.
 *
 *   CONNECTING -> HANDSHAKE -> OPEN -> CLOSING (-> freed)
 *        `-----------`-------> FAILED -^
 * An accepted connection starts in HANDSHAKE or OPEN. Every state may go to CLOSING. */
#ifndef SYS_CONN_H
#define SYS_CONN_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include "sys/tls.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"
#include "tessera/sys/net.h"

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_FAILED, CONN_CLOSING };

enum {
    NET_READ_BYTES = 64 << 10,         /* one read callback at most */
    NET_READ_TURN_BYTES = 256 << 10,   /* read from one connection in one turn of the loop */
    NET_WRITE_TURN_BYTES = 1024 << 10, /* written to one connection in one turn of the loop */
    NET_ADDRESSES_MAX = 8,             /* tried for one name */
    NET_ADDRESS_TEXT = 64,
    NET_HANDSHAKE_MS = 10000,
    NET_USER_TIMEOUT_MS = 15000,
};

/* A socket with its poll handle; a failed connect attempt leaves it behind to close by itself. */
struct conn_poll {
    uv_poll_t uv;
    struct conn *conn;
    int fd;
};

struct conn_queue {
    struct conn_write *head, *tail;
};

union conn_address {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

struct conn {
    enum conn_state state;
    struct loop *loop;
    uv_loop_t *uv;
    struct conn_poll *poll;
    int events;     /* what the poll handle waits for now */
    uv_idle_t idle; /* runs once in the next turn when kicked */
    bool kicked;
    unsigned handles; /* libuv objects which may still call back */
    struct timer timer;

    SSL *ssl;
    struct tls *tls; /* held: its protocol name is used during the handshake */
    bool read_wants_write, write_wants_read, handshake_wants_write;
    bool drained; /* the last TLS read emptied the socket */

    conn_read_cb read_cb;
    void *read_arg;
    bool reading;
    bool ended;       /* the reader was told of the end */
    bool read_again;  /* look for data in the next turn without waiting for the socket */
    int read_status;  /* kept back behind data that was read with it */
    int write_status; /* why nothing can be written any more */
    int ssl_status;   /* the session is broken for both directions */

    struct conn_queue queue, done;
    size_t pending;
    bool shutdown_wanted, shutdown_done;

    conn_connect_cb connect_cb;
    void *connect_arg;
    int connect_status; /* told by the next kick */
    bool connect_failed;
    char *server_name;
    uv_getaddrinfo_t resolver;
    union conn_address addresses[NET_ADDRESSES_MAX];
    socklen_t address_sizes[NET_ADDRESSES_MAX];
    unsigned address_count, address_next;
    uint64_t deadline_ms;

    struct listener *listener; /* while its TLS handshake runs */
    struct list handshake_link;

    conn_close_cb close_cb;
    void *close_arg;
    bool is_unix, is_tls;
    char peer_address[NET_ADDRESS_TEXT], local_address[NET_ADDRESS_TEXT];
    char peer_name[TLS_NAME_MAX];
};

/* net.c */
struct conn *conn_new(struct loop *loop);
/* Take @fd (closed on failure too) into a poll handle. */
int conn_attach(struct conn *c, int fd);
void conn_detach(struct conn *c);
void conn_poll_cb(uv_poll_t *handle, int status, int events);
void conn_update(struct conn *c);
void conn_kick(struct conn *c);
/* One of the libuv objects counted in `handles` has called back for the last time. */
void conn_handle_gone(struct conn *c);
void conn_set_open(struct conn *c);

/* net_io.c: one attempt; a size, or TSR_EAGAIN, TSR_EEOF (read) or another code. */
long conn_io_read(struct conn *c, void *data, size_t size);
long conn_io_write(struct conn *c, const struct conn_write *req);
int conn_io_shutdown(struct conn *c);
int conn_io_handshake(struct conn *c);
size_t conn_write_size(const struct conn_write *req);

/* net_open.c */
void conn_connect_ready(struct conn *c);
void conn_handshake_step(struct conn *c);
int conn_handshake_start(struct conn *c, struct tls *tls);
void conn_set_addresses(struct conn *c);
void net_address_text(const union conn_address *a, char out[NET_ADDRESS_TEXT]);
int net_socket(int family, int *fd_out);
/* Split "host:port" or "[v6]:port"; host may be empty. */
int net_address_split(const char *address, char *host, size_t host_size, char *port,
                      size_t port_size);
int net_address_unix(const char *address, union conn_address *out, socklen_t *size_out);
bool net_address_literal(const char *host, const char *port, union conn_address *out,
                         socklen_t *size_out);

/* net_listen.c */
void listener_handshake_done(struct conn *c, int status);

#endif
