/* What all faces share: the route tables, the steps of a request (route -> token -> consistency ->
 * body -> handler), and how replies and errors are written. Private to api/. */
#ifndef TESSERA_API_FACE_H
#define TESSERA_API_FACE_H

#include "tessera/api.h"

struct api_req;
typedef void (*api_fn)(struct api_req *r);

enum api_flags {
    API_OPEN = 1,    /* no token needed (one that is sent is ignored) */
    API_READ = 2,    /* linearizable: a read barrier runs before the handler */
    API_NO_BODY = 4, /* a body is 400 "A body is not expected with this request." */
    API_JSON = 8,    /* body is collected and parsed into r->body (missing or bad JSON: 400) */
    API_JSON_OPTIONAL = 16, /* like API_JSON, but no body gives r->body NULL */
    API_LOCAL = 32,         /* only over the local socket */
    API_ADMIN = 64,         /* role admin (or the local socket) */
    API_UNFORMED = 128,     /* works on a host that is not in a cluster */
    API_DATA = 512,     /* the body is image data, which a client may not be able to send twice */
    API_IDENTITY = 256, /* errors and 401 in the identity service's form */
};

/* Pattern: "/v2/images/{}/file"; {} matches one non-empty segment, decoded into r->args[n]. */
struct api_route {
    enum http_method method;
    const char *pattern;
    api_fn fn;
    unsigned flags;
};
/* Ends with {0}. Tables: image_v2.c, image_file.c, metadef.c, identity_v3.c, cluster_v1.c,
 * quota_v1.c, openrc_v1.c, health.c, keystone.c. */
extern const struct api_route api_image_routes[];
extern const struct api_route api_image_file_routes[];
extern const struct api_route api_metadef_routes[];
extern const struct api_route api_identity_routes[];
extern const struct api_route api_cluster_routes[];
extern const struct api_route api_quota_routes[];
extern const struct api_route api_openrc_routes[];
extern const struct api_route api_health_routes[];
extern const struct api_route api_keystone_routes[];

/* One request inside the faces. Freed by the reply functions, or when the client goes away. */
struct api_req {
    struct http_req *http;
    struct api *api;
    const struct api_options *o;
    const struct api_route *route;
    struct http_segments segments;
    const char *args[4];
    struct http_params params;
    struct caller caller;
    json_t *body;  /* API_JSON */
    bool stale;    /* reads: served from local state */
    bool local;    /* over the local socket */
    bool dead;     /* the client is gone: a late service callback must only call api_release */
    unsigned refs; /* service calls in flight + 1 for the open request */
    /* For handlers: own state, and how to stop it when the client goes away (called once, before
     * dead). */
    void *state;
    void (*on_dead)(struct api_req *r);
    /* private */
    struct meta_barrier barrier;
    struct keystone_check check;
    char *check_texts; /* which the check borrows: the client may go away before it ends */
    api_fn check_next;
    bool replied;
    unsigned key_attempt; /* of uploads: activations under the key that were refused */
    bool token_again;     /* the token was looked at again behind a barrier */
};

struct api_match {
    const struct api_route *route; /* NULL: none */
    char allow[64];                /* methods of the routes with this path */
};
/* route.c: the route of r->segments, whose version it makes plain; fills r->args. */
void api_route_find(struct api_req *r, struct api_match *m);

/* Token text of the request without white space around it, or NULL. */
const char *api_request_token(const struct api_req *r);
/* keystone.c: the caller from an external Keystone, into r->caller; then @next, or the refusal. */
void api_keystone_step(struct api_req *r, api_fn next);

/* Hold the request over an asynchronous call; the callback begins with
 *     if (api_release(r)) return;   -- true: the client is gone, nothing to answer (r may be freed)
 */
void api_hold(struct api_req *r);
bool api_release(struct api_req *r);

/* Look at the caller's token again, now that a read barrier was passed: what it allows may have
 * changed through another host. false: it is not valid any more, and the error was replied. */
bool api_token_again(struct api_req *r);

/* cors.c: headers for browsers of other origins; true: a preflight, which was answered. */
bool api_cors(struct api_req *r);

/* A view for this request's reads; on failure the error was replied and NULL is returned. */
struct meta_view *api_view(struct api_req *r);

/* X-Tessera-Stale, where the reply is; for those that api_json_text does not make. */
void api_set_stale(struct api_req *r);
/* Replies (reply.c); each ends the request. */
void api_json(struct api_req *r, int status, json_t *body); /* takes the reference */
void api_json_text(struct api_req *r, int status, const char *text, size_t size);
void api_empty(struct api_req *r, int status);
void api_text(struct api_req *r, int status, const char *content_type, const char *text);
/* The reply is out, or the connection was cut. For a handler that streamed it itself: after
 * http_end or http_cut. */
void api_replied(struct api_req *r);
/* The Image API's nested form (or identity's): {"error": {code, title, message}}; the status is
 * that of the code; adds Retry-After where a retry may help, WWW-Authenticate for 401. */
void api_error(struct api_req *r, int code, const struct err *err);
void api_errorf(struct api_req *r, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Same with a status of one's own. */
void api_error_status(struct api_req *r, int status, const char *message);

/* Minor versions of the Image API that are served, newest first: "17", ... */
extern const char *const api_minors[];
extern const size_t api_minor_count;

/* "https://host:9292" of this request for links, by rule: public_endpoint, else the request's own.
 */
void api_public_url(struct api_req *r, char *out, size_t size);
/* First query parameter or NULL. */
const char *api_param(const struct api_req *r, const char *name);
/* A path that no table knows: 300 with the version list, 404, or 401 (image-api section 1.1); in
 * image_v2.c. */
void api_route_unknown(struct api_req *r);
/* Idempotency-Key: the caller's key from header, project, method, path and body. false: a bad key,
 * replied. */
bool api_key_set(struct api_req *r);
/* Was this request answered before, under the same key? Then it is again: true. To be asked behind
 * a barrier. */
bool api_replay(struct api_req *r);

#endif
