/* Outgoing HTTP: blocking calls, for the command line and for joining a cluster. The one user of
 * libcurl.
 *
 * Trust of an https URL, one of: ca_pem or ca_file (those authorities only), a pin (the authority
 * with that fingerprint, whatever names the certificate has), or none (the system's store).
 * Thread: any but those of loops, as it blocks; a request has one owner, a session one user at a
 * time. */
#ifndef TESSERA_SYS_HTTP_CLIENT_H
#define TESSERA_SYS_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/buf.h"
#include "tessera/base/err.h"

/* Next piece of the body: bytes written to @out (at most @size), 0 at its end, or a negative code,
 * which ends the call. */
typedef long (*http_client_read_fn)(void *arg, void *out, size_t size);
/* A piece of a 2xx reply's body; 0 or a negative code, which ends the call. */
typedef int (*http_client_write_fn)(void *arg, const void *data, size_t size);
/* Bytes so far and in all (0 = not known). */
typedef void (*http_client_progress_fn)(void *arg, int64_t sent, int64_t sent_total,
                                        int64_t received, int64_t received_total);

/* May this address be connected to? Asked for each address right before the connection is made to
 * just that address, so that a name's answer cannot change in between. */
struct sockaddr;
typedef bool (*http_client_address_fn)(void *arg, const struct sockaddr *address);

/* Connections that are kept from one call to the next, for one caller at a time (any thread). */
struct http_client_session;
struct http_client_session *http_client_session_new(void); /* NULL when out of memory */
void http_client_session_free(struct http_client_session *session);

/* Zero-initialise. All memory is the caller's and only read. */
struct http_client_request {
    struct http_client_session *session; /* NULL: a connection for this call alone */
    const char *method;                  /* NULL = GET */
    const char *url;                     /* http:// or https:// */
    const char *const *headers; /* "Name: value", header_count of them, without CR and LF */
    size_t header_count;
    const char *content_type; /* of the body; NULL = none */

    const void *body; /* body_size bytes in memory; or */
    size_t body_size;
    http_client_read_fn read_body; /* from a function: read_size bytes, or chunked if it is -1 */
    int64_t read_size;
    http_client_write_fn write_body; /* NULL: into reply.body. Other than 2xx always goes there */
    http_client_progress_fn progress;
    void *arg;                              /* of the three functions */
    http_client_address_fn address_allowed; /* NULL: every address */
    void *address_arg;
    bool (*stop)(void *arg); /* asked about once a second: true ends the call with TSR_ECANCELED */

    const char *unix_socket; /* connect to this path, whatever the URL's host */
    const char *ca_file, *ca_pem;
    const uint8_t *pin_root_sha256; /* 32 bytes: fingerprint of the authority's certificate (DER) */

    uint64_t connect_timeout_ms; /* 0 = 15 s */
    uint64_t timeout_ms;         /* whole call; 0 = none */
    uint64_t stall_timeout_ms;   /* less than a byte a second for so long; 0 = 120 s */
    size_t reply_max;            /* for reply.body; 0 = 16 MiB */
};

struct http_client_reply {
    int status;         /* HTTP status */
    struct buf headers; /* of the last head, as received */
    struct buf body;
};

/* Make the call. Redirects are not followed, proxies of the environment not used. Any HTTP status
 * is a success (0): look at reply->status. @reply is written over; after an error it is empty,
 * after 0 it is freed by http_client_reply_free. Returns TSR_EINVAL (URL, header), TSR_ECONNECT,
 * TSR_ETIMEOUT, TSR_EUNAUTHORIZED (the server's certificate is not trusted), TSR_ETOOBIG
 * (reply_max), TSR_EEOF (reply cut short), TSR_EPROTO, TSR_EIO, TSR_ENOMEM, or what read_body or
 * write_body returned; @err (may be NULL) has a sentence. */
int http_client_call(const struct http_client_request *request, struct http_client_reply *reply,
                     struct err *err);
void http_client_reply_free(struct http_client_reply *reply);
/* Value of the first header @name (any case), copied into @out; false if absent or too long. */
bool http_client_header(const struct http_client_reply *reply, const char *name, char *out,
                        size_t out_size);

/* The parts of a URL, as the client itself will read it: numbers that stand for an IPv4 address in
 * octal, hex or fewer parts come out as dotted decimals, names in lower case. */
struct http_client_url {
    char scheme[16];
    char host[256]; /* IPv6 addresses without brackets */
    unsigned port;  /* the scheme's own if none is given */
    bool has_user;  /* user name or password */
};
/* TSR_EINVAL: not an absolute URL with scheme and host, or its parts are too long. */
int http_client_url_parse(const char *url, struct http_client_url *out);
/* Where a redirect leads: @location relative to @base; @out is freed by free(). TSR_EINVAL,
 * TSR_ENOMEM. */
int http_client_url_join(const char *base, const char *location, char **out);
/* Look @host up (or read the address it is) and ask @allowed about each of its addresses. 0: at
 * least one is allowed; TSR_EFORBIDDEN: none is; TSR_ECONNECT: there is none. Blocking. */
int http_client_resolve(const char *host, http_client_address_fn allowed, void *arg);

#endif
