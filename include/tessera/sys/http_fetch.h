/* A download into a loop: one GET whose body arrives in pieces on the caller's loop, as fast as it
 * takes them. The call itself blocks a thread of a pool (sys/http_client.h); a few pieces are
 * between the two, so a paused loop pauses the server's connection.
 *
 * Redirects are not followed: they are a result, for the caller to judge and to go on.
 * Lifetime: http_fetch_start -> on_data* -> on_done, once, after which it is gone. Thread: the
 * loop. */
#ifndef TESSERA_SYS_HTTP_FETCH_H
#define TESSERA_SYS_HTTP_FETCH_H

#include "tessera/sys/http_client.h"
#include "tessera/sys/loop.h"

struct http_fetch;

struct http_fetch_result {
    int status;          /* HTTP status */
    char location[4096]; /* header Location, "" if none or too long */
    int64_t size;        /* bytes of the body that were given to on_data */
};

struct http_fetch_options {
    struct loop *loop;
    struct pool *pool;                      /* one of its threads is busy until the end */
    const char *url;                        /* copied */
    const char *ca_file;                    /* copied; NULL or "": the system's store */
    const char *header;                     /* copied; "Name: value" sent along; NULL: none */
    http_client_address_fn address_allowed; /* pool thread */
    void *address_arg;                      /* not changed while the fetch runs */
    uint64_t connect_timeout_ms, stall_timeout_ms, timeout_ms;
    /* A piece of a 2xx body, valid during the call; false: no more until http_fetch_resume. */
    bool (*on_data)(void *arg, const void *data, size_t size);
    /* @status as of http_client_call, TSR_ECANCELED after http_fetch_cancel. */
    void (*on_done)(void *arg, int status, const struct http_fetch_result *result,
                    const struct err *err);
    void *arg;
};

/* TSR_ENOMEM. Callbacks never run inside. */
int http_fetch_start(const struct http_fetch_options *options, struct http_fetch **out);
void http_fetch_resume(struct http_fetch *f);
/* Bytes of the body as the server says; -1: it has not, or does not. */
int64_t http_fetch_size(const struct http_fetch *f);
/* Stop soon: no more on_data; on_done follows (within about a second, or at the next byte). */
void http_fetch_cancel(struct http_fetch *f);

#endif
