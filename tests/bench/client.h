/* One keep-alive HTTP/1.1 client connection for measuring: one exchange at a time, replies with a
 * Content-Length only (which is what the API sends).
 *
 * client_open -> on_open -> client_send (or conn_write, for a streamed body) -> on_body.. ->
 * on_reply -> client_send ... -> client_close. All callbacks come on the loop's thread. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/sys/net.h"

enum { CLIENT_HEAD_MAX = 16 << 10, CLIENT_REQUEST_MAX = 8 << 10 };

struct client;
struct client_hooks {
    void (*on_open)(struct client *c, int status); /* 0, or the connection could not be made */
    void (*on_body)(struct client *c, const void *data, size_t size); /* may be NULL */
    /* @status: HTTP status, or a negative code: the connection broke and must be closed. */
    void (*on_reply)(struct client *c, int status);
};

struct client {
    const struct client_hooks *hooks;
    struct conn *conn;
    bool busy;    /* a request is out */
    bool in_body; /* the reply's head is complete */
    bool last;    /* the server ends this connection after the reply */
    int status;
    int64_t body_left;
    int64_t body_size; /* of the reply at hand */
    size_t head_size;
    char head[CLIENT_HEAD_MAX];
    struct conn_write write;
    bool writing;    /* `write` is not back yet */
    bool send_waits; /* ... and the next request waits for it */
    size_t request_size;
    char request[CLIENT_REQUEST_MAX]; /* head and, for small ones, body */
};

/* Loopback addresses ("127.x.y.z:port", "[::1]:port") only: this is no tool to load others with. */
bool client_address_ok(const char *address);

int client_open(struct client *c, struct loop *loop, const char *address, struct tls *tls,
                const struct client_hooks *hooks);
/* Put head (and small body) of a request together; false when it does not fit. @body may be NULL
 * with @body_size set: the caller streams it with conn_write after client_send. */
bool client_prepare(struct client *c, const char *method, const char *path, const char *token,
                    const char *more_headers, const void *body, int64_t body_size);
void client_send(struct client *c);
void client_close(struct client *c, conn_close_cb cb, void *arg);

#endif
