/* Error codes: one table gives the number, the text, the HTTP status and whether a retry may help.
 *
 * Functions return 0 or a negative code. Where details help a person, the caller passes a
 * `struct err` which keeps the code and one sentence; it may be NULL everywhere.
 * Thread: any; no state. */
#ifndef TESSERA_BASE_ERR_H
#define TESSERA_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* X(name, number, http status, may retry, text) */
#define TSR_ERRORS(X)                                                               \
    X(EINVAL, 1, 400, 0, "invalid request")                                         \
    X(EUNAUTHORIZED, 2, 401, 0, "authentication required")                          \
    X(EFORBIDDEN, 3, 403, 0, "not allowed")                                         \
    X(ENOENT, 4, 404, 0, "not found")                                               \
    X(EMETHOD, 5, 405, 0, "method not allowed")                                     \
    X(EEXIST, 6, 409, 0, "already exists")                                          \
    X(ECONFLICT, 7, 409, 0, "not possible in the present state")                    \
    X(EVERSION, 8, 409, 1, "changed meanwhile")                                     \
    X(EGONE, 9, 410, 0, "gone")                                                     \
    X(ETOOBIG, 10, 413, 0, "over a limit")                                          \
    X(EMEDIA, 11, 415, 0, "unsupported media type")                                 \
    X(ERANGE, 12, 416, 0, "range not satisfiable")                                  \
    X(EUNPROCESSABLE, 13, 422, 0, "idempotency key used with another request")      \
    X(EHEADERS, 14, 431, 0, "request header block too large")                       \
    X(EINTERNAL, 15, 500, 0, "internal error")                                      \
    X(ENOTSUP, 16, 501, 0, "not implemented")                                       \
    X(EBUSY, 17, 503, 1, "busy, try again")                                         \
    X(ENOTLEADER, 18, 503, 1, "this host does not lead")                            \
    X(ENOQUORUM, 19, 503, 1, "no majority of voters can be reached")                \
    X(ETIMEOUT, 20, 503, 1, "timed out")                                            \
    X(EUNKNOWN, 21, 503, 1, "outcome unknown, retry with the same idempotency key") \
    X(ECANCELED, 22, 503, 1, "canceled, the service is stopping")                   \
    X(ECONNECT, 23, 503, 1, "peer cannot be reached")                               \
    X(EPROTO, 24, 502, 0, "protocol error")                                         \
    X(EIO, 25, 500, 0, "input/output error")                                        \
    X(ENOSPC, 26, 413, 0, "no space left")                                          \
    X(ENOMEM, 27, 500, 0, "out of memory")                                          \
    X(ECORRUPT, 28, 500, 0, "damaged data")                                         \
    X(EEOF, 29, 400, 0, "connection ended early")                                   \
    X(EAGAIN, 30, 503, 1, "would block")                                            \
    X(ETOOMANY, 31, 429, 1, "too many requests")                                    \
    X(EUNAVAILABLE, 32, 503, 1, "service not available")                            \
    X(ELENGTH, 33, 411, 0, "length required")

enum {
#define X(name, number, status, retry, text) TSR_##name = -(number),
    TSR_ERRORS(X)
#undef X
};

enum { ERR_MSG_SIZE = 256 };

/* A code with one sentence for a person; no secrets, paths or peer names in it. */
struct err {
    int code;
    char msg[ERR_MSG_SIZE];
};

/* "TSR_EINVAL" and "invalid request"; never NULL. */
const char *err_name(int code);
const char *err_text(int code);

/* HTTP status for a negative code (500 for unknown codes). */
int err_http_status(int code);

/* Whether the same call may succeed later. */
bool err_may_retry(int code);

/* Map a positive errno value (ENOSPC, EIO, ...) to a code of ours. */
int err_from_errno(int errnum);

/* Fill @err (may be NULL) and return @code. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "prefix: " in front of the message on the way up; returns err->code (or @code if NULL). */
int err_wrap(struct err *err, int code, const char *prefix);

#endif
