/* HTTP/1.1 server (RFC 9112) on sys/net: heads, bodies in both directions with flow control,
 * routing. It knows nothing of images. One http_server a loop (worker); a request lives on one
 * loop.
 *
 * Flow of a request: head complete -> handler (body not yet read) -> the handler asks for the body
 * (http_body_collect or http_body_stream), then answers (http_reply... or http_begin/write/end).
 * Pipelined requests wait. `Expect: 100-continue` is answered when the body is first asked for, so
 * a handler that refuses early never invites the body. After an early reply the rest of the body is
 * read and dropped for at most 5 s / 64 MiB before the connection is closed with FIN.
 *
 * Limits: head 64 KiB (431), header count 128, idle keep-alive 75 s, head read time 30 s, body idle
 * time 300 s. Both Content-Length and chunked -> 400 and close; chunk extensions, trailers ignored.
 * Thread: the server's loop for everything. */
#ifndef TESSERA_HTTP_H
#define TESSERA_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"
#include "tessera/sys/net.h"

struct http_server;
struct http_req;

enum http_method {
    HTTP_METHOD_OTHER,
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_OPTIONS
};

/* A new request's head. The handler must see to it that exactly one reply is made, now or later. */
typedef void (*http_handler_fn)(void *arg, struct http_req *req);

struct http_options {
    uint64_t head_timeout_ms, idle_timeout_ms, body_timeout_ms; /* 0 = the defaults above */
    size_t connections_max;                                     /* 0 = 12,000 */
};

int http_server_new(struct loop *loop, const struct http_options *options, http_handler_fn handler,
                    void *arg, struct http_server **server_out);
/* As listener_open; several listeners a server are fine (TLS, plain, Unix socket). */
int http_server_listen(struct http_server *s, const char *address, struct tls *tls,
                       unsigned *port_out, struct err *err);
/* New connections of the TLS listeners use this certificate from now on. */
void http_server_set_tls(struct http_server *s, struct tls *tls);
/* Stop listening, close idle connections, let requests finish up to @drain_ms, then close all. */
void http_server_close(struct http_server *s, uint64_t drain_ms, void (*cb)(void *arg), void *arg);
/* Requests in progress; open connections. */
size_t http_server_requests(const struct http_server *s);
size_t http_server_connections(const struct http_server *s);

/* --- the request ---------------------------------------------------------------------------- */
enum http_method http_method(const struct http_req *req);
const char *http_method_text(const struct http_req *req);
/* Path as sent, without query, still percent-encoded: "/v2/images/x". */
const char *http_path(const struct http_req *req);
/* Query as sent, without '?'; "" if none. */
const char *http_query(const struct http_req *req);
/* Value of the first header @name (any case), surrounding white space stripped; NULL if absent. */
const char *http_header(const struct http_req *req, const char *name);
/* n-th header (0..), false past the end. */
bool http_header_at(const struct http_req *req, size_t n, const char **name_out,
                    const char **value_out);
/* Declared body length; 0 without a body, -1 when chunked. */
int64_t http_content_length(const struct http_req *req);
bool http_is_1_0(const struct http_req *req);
bool http_has_body(const struct http_req *req); /* chunked, or Content-Length > 0 */
struct conn *http_conn(const struct http_req *req);
struct loop *http_loop(const struct http_req *req);
/* "https://host:port" as the client named it: Host header, scheme of this connection. */
void http_origin(const struct http_req *req, char *out, size_t size);
/* "req-<uuid>", or the client's own X-OpenStack-Request-ID if valid (<= 64 of [A-Za-z0-9._-]). */
const char *http_request_id(const struct http_req *req);
/* Owner's data; the handler's to use. */
void http_set_data(struct http_req *req, void *data);
void *http_data(const struct http_req *req);

/* Told once when the connection dies before the reply was complete: release what belongs to the
 * request. After it runs (or after the reply ended) @req is gone. Unset = nothing to release. */
void http_on_abort(struct http_req *req, void (*cb)(struct http_req *req));

/* --- its body ------------------------------------------------------------------------------- */
/* Whole body up to @max bytes. @status 0; TSR_ETOOBIG; TSR_EEOF (the client left: no reply
 * possible, the abort callback follows); TSR_EPROTO (bad chunk). Data lives during the callback.
 * No body: status 0 and size 0. */
typedef void (*http_body_cb)(struct http_req *req, int status, const char *data, size_t size);
void http_body_collect(struct http_req *req, size_t max, http_body_cb cb);

/* Piece by piece: @status 0 with size > 0; then once 0 with size 0 (end of body) or TSR_EEOF /
 * TSR_EPROTO. After http_body_pause no piece comes until http_body_resume. */
void http_body_stream(struct http_req *req, http_body_cb cb);
void http_body_pause(struct http_req *req);
void http_body_resume(struct http_req *req);

/* --- the reply ------------------------------------------------------------------------------ */
/* Add a header to the reply (before it begins). Copies. CR/LF in a value are dropped. */
void http_set_header(struct http_req *req, const char *name, const char *value);
/* Whole reply; copies @body. Adds Content-Length, Date, x-openstack-request-id; HEAD gets no body;
 * 204 and 304 neither body nor length. */
void http_reply(struct http_req *req, int status, const char *content_type, const void *body,
                size_t size);
/* Streamed reply of exactly @length bytes. */
void http_begin(struct http_req *req, int status, const char *content_type, int64_t length);
/* One write at a time: @cb comes when it has drained; @data stays valid until then. @status 0 or
 * the connection is gone (the abort callback follows). */
typedef void (*http_write_cb)(struct http_req *req, int status);
void http_write(struct http_req *req, const void *data, size_t size, http_write_cb cb);
void http_write_file(struct http_req *req, int fd, int64_t offset, size_t size, http_write_cb cb);
/* After all bytes were written; @req is gone. */
void http_end(struct http_req *req);
/* Cut the connection: what was begun can not be finished. The abort callback does not run; @req is
 * gone. */
void http_cut(struct http_req *req);
/* Whether http_reply/http_begin was called. */
bool http_replied(const struct http_req *req);

/* --- pure parts ----------------------------------------------------------------------------- */
/* Range header (RFC 9110 section 14.2) against a size. */
enum http_range { HTTP_RANGE_NONE, HTTP_RANGE_ONE, HTTP_RANGE_MANY, HTTP_RANGE_BAD };
/* NONE: absent or empty value. BAD: malformed, other unit, first >= size, "-0". */
enum http_range http_range_parse(const char *value, int64_t size, int64_t *first_out,
                                 int64_t *length_out);

/* Path segments, percent-decoded: at most 16. false: bad escape, 0 byte, or too many. An empty
 * segment (trailing or double slash) is kept as "". */
enum { HTTP_SEGMENTS_MAX = 16 };
struct http_segments {
    size_t count;
    char *segment[HTTP_SEGMENTS_MAX];
    char *memory;
};
bool http_segments_parse(const char *path, struct http_segments *out);
void http_segments_free(struct http_segments *segments);

/* Query parameters in order, decoded ('+' is a space). NULL items never occur. */
struct http_param {
    char *name, *value;
};
struct http_params {
    size_t count;
    struct http_param *items;
    char *memory;
};
/* TSR_EINVAL: bad escape or not UTF-8. */
int http_params_parse(const char *query, struct http_params *out);
void http_params_free(struct http_params *params);
/* First value of @name or NULL. */
const char *http_param(const struct http_params *params, const char *name);

#endif
