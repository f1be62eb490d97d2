/* The outside world, part 4: stream connections (TCP or Unix socket, plain or TLS) on a libuv loop.
 *
 * Used by http/ and peer/ only; the simulator replaces peer/'s interface, not this one.
 * TLS runs over the non-blocking socket itself (SSL_set_fd), so that kernel TLS can come later and
 * no data is copied through memory BIOs. Life: open/accept -> read and write -> conn_close.
 *
 * Rules: callbacks run on the loop's thread, never inside the call that starts them. After
 * conn_close no callback but the close callback runs; pending writes get TSR_ECANCELED first.
 * Thread: that of the loop. */
#ifndef TESSERA_SYS_NET_H
#define TESSERA_SYS_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tessera/base/err.h"
#include "tessera/sys/loop.h"

struct conn;
struct listener;
struct tls; /* a TLS context: certificate, key, trusted authorities; reference counted */

/* --- TLS contexts --------------------------------------------------------------------------- */
enum tls_role { TLS_SERVER, TLS_CLIENT };
struct tls_options {
    enum tls_role role;
    const char *cert_pem, *key_pem; /* PEM text; NULL for a client without certificate */
    const char *ca_pem; /* trusted authorities; NULL = trust nothing / system store off */
    bool system_store;  /* client: trust the system's authorities too */
    bool verify_peer;   /* server: demand and check a client certificate */
    const char *alpn;   /* one protocol name, or NULL */
};
/* TLS 1.2+ with session tickets for servers. Returns 0 or TSR_EINVAL with details. Any thread. */
int tls_new(const struct tls_options *options, struct tls **tls_out, struct err *err);
void tls_ref(struct tls *tls);
void tls_unref(struct tls *tls);

/* --- connections ---------------------------------------------------------------------------- */
/* @status 0: @size > 0 bytes at @data, valid during the call; TSR_EEOF: orderly end; else broken.
 * After an end no further read callback comes; the owner still closes. */
typedef void (*conn_read_cb)(struct conn *c, void *arg, int status, const void *data, size_t size);

struct conn_write;
typedef void (*conn_write_cb)(struct conn_write *req, int status);
/* A write: belongs to the caller, with all its memory, until the callback. */
struct conn_write {
    struct conn_write *next;
    conn_write_cb cb;
    struct iovec iov[4];
    unsigned iov_count;
    /* or a file range (iov_count 0): the pages should be in the cache already */
    int fd;
    int64_t offset;
    size_t size;
    /* private */
    size_t done;
    int status;
};

typedef void (*conn_connect_cb)(struct conn *c, void *arg, int status);
typedef void (*conn_close_cb)(struct conn *c, void *arg);
typedef void (*conn_accept_cb)(struct listener *l, void *arg, struct conn *c);

/* Connect to "host:port", "[v6]:port" or "unix:/path"; numeric or resolved. With @tls the callback
 * comes after the handshake; @server_name is checked against the certificate (NULL: chain only).
 * Returns 0 (callback will come exactly once, at most @timeout_ms later) or TSR_EINVAL, TSR_ENOMEM,
 * with nothing to close. When @cb tells a failure the owner still calls conn_close.
 * @cb status: 0; TSR_ECONNECT (every address failed, unknown name); TSR_ETIMEOUT; TSR_EUNAUTHORIZED
 *   (we do not trust the certificate or its name); TSR_EPROTO, TSR_EIO (handshake refused or cut).
 *   With TLS 1.3 a server that does not trust our certificate says so after the callback: the
 * reader then gets TSR_EPROTO. */
int conn_open(struct loop *loop, const char *address, struct tls *tls, const char *server_name,
              uint64_t timeout_ms, conn_connect_cb cb, void *arg, struct conn **conn_out);

/* Start or resume reading. Pausing is how back-pressure works. */
void conn_read_start(struct conn *c, conn_read_cb cb, void *arg);
void conn_read_stop(struct conn *c);
/* Queue a write; completions come in order. */
void conn_write(struct conn *c, struct conn_write *req);
/* Bytes queued and not yet handed to the kernel. */
size_t conn_pending(const struct conn *c);
/* Tell the other side that no more comes (FIN, TLS close_notify), after queued writes. */
void conn_shutdown(struct conn *c);
/* Give up the connection; @cb (may be NULL) runs later, after which @c is gone. */
void conn_close(struct conn *c, conn_close_cb cb, void *arg);

struct loop *conn_loop(const struct conn *c);
bool conn_is_tls(const struct conn *c);
/* "192.0.2.1:1234"; "" for Unix sockets. */
const char *conn_peer_address(const struct conn *c);
/* Local address, as "ip:port". */
const char *conn_local_address(const struct conn *c);
/* Common name of the verified peer certificate, or NULL. */
const char *conn_peer_name(const struct conn *c);
/* Unix sockets: uid/gid of the other process (SO_PEERCRED). TSR_ENOTSUP otherwise. */
int conn_peer_cred(const struct conn *c, unsigned *uid_out, unsigned *gid_out);
/* SHA-256 of the peer's certificate chain's last (authority) certificate and of the leaf, as shown
 * in the handshake. Client with a context that verifies nothing may pin by these. The
 * authority counts only if it really signed the leaf: TSR_EUNAUTHORIZED otherwise; TSR_ENOTSUP
 * without TLS, TSR_ENOENT without a certificate. */
int conn_peer_fingerprints(const struct conn *c, uint8_t leaf_out[32], uint8_t root_out[32]);

/* Listen; several loops may listen on one TCP address (SO_REUSEPORT). New connections have finished
 * their TLS handshake (at most 10 s) before @cb. "unix:/path" replaces a stale socket, mode 0660.
 * TSR_EEXIST: address in use. */
int listener_open(struct loop *loop, const char *address, struct tls *tls, conn_accept_cb cb,
                  void *arg, struct listener **listener_out, struct err *err);
/* The port really bound (address with port 0). */
unsigned listener_port(const struct listener *l);
/* New connections use another certificate from now on. */
void listener_set_tls(struct listener *l, struct tls *tls);
void listener_close(struct listener *l);

#endif
