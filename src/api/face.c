/* Steps of a request: route -> local socket? -> token -> body -> read barrier -> handler.
 *
 * Happy path: api_handle finds the route, checks the token on a fresh view, collects JSON where the
 * route wants it, waits for the read barrier where it reads, and calls the handler, which replies
 * once. The token is judged by what this host has applied, so a refusal of a token of our own, or
 * of a role, is only believed behind a barrier; and behind the barrier of the request it is looked
 * at again, because it may have been revoked meanwhile. Failures reply at the step where they are
 * found and nothing later runs. When the client goes away the handler's on_dead runs, and the
 * memory is freed when the last service call has come back (refs). */
#include "api/face.h"
#include "api/image_face.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"

struct api {
    struct api_options o;
};

static const struct api_route *const tables[] = {
    api_image_routes,    api_image_file_routes, api_metadef_routes,
    api_identity_routes, api_cluster_routes,    api_quota_routes,
    api_openrc_routes,   api_health_routes,     api_keystone_routes,
};

int api_new(const struct api_options *options, struct api **out)
{
    struct api *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return TSR_ENOMEM;
    }
    a->o = *options;
    *out = a;
    return 0;
}

void api_reconfigure(struct api *api, const struct api_options *options)
{
    struct api_options *o = &api->o;
    o->public_endpoint = options->public_endpoint;
    o->internal_endpoint = options->internal_endpoint;
    o->region = options->region;
    o->cors_origins = options->cors_origins;
    o->rules = options->rules;
    o->properties = options->properties;
    o->public_in_domain = options->public_in_domain;
    o->json_body_max = options->json_body_max;
    o->limit_default = options->limit_default;
    o->limit_max = options->limit_max;
    o->stale_reads_max_ms = options->stale_reads_max_ms;
    o->read_local = options->read_local;
}

void api_free(struct api *api)
{
    free(api);
}

/* --- life of a request -------------------------------------------------------------------------
 */

static void req_free(struct api_req *r)
{
    http_segments_free(&r->segments);
    http_params_free(&r->params);
    json_decref(r->body);
    free(r->check_texts);
    free(r);
}

void api_hold(struct api_req *r)
{
    r->refs++;
}

bool api_release(struct api_req *r)
{
    tsr_assert(r->refs > 0);
    bool gone = r->dead || r->replied;
    if (--r->refs == 0) {
        req_free(r);
    }
    return gone;
}

/* The reply is out (or the connection was cut): the open request's own reference ends. */
static void req_done(struct api_req *r)
{
    tsr_assert(!r->replied);
    r->replied = true;
    r->http = NULL;
    api_release(r);
}

static void req_aborted(struct http_req *http)
{
    struct api_req *r = http_data(http);
    if (r->on_dead != NULL) {
        void (*on_dead)(struct api_req *) = r->on_dead;
        r->on_dead = NULL;
        on_dead(r);
    }
    r->dead = true;
    r->http = NULL;
    api_release(r);
}

/* --- replies -------------------------------------------------------------------------------------
 */

/* All replies of the identity service depend on the token, those of paths that it does not have
 * too. */
static void set_vary(struct api_req *r)
{
    if (r->segments.count > 0 && strcmp(r->segments.segment[0], "identity") == 0) {
        http_set_header(r->http, "Vary", "X-Auth-Token");
    }
}

void api_json(struct api_req *r, int status, json_t *body)
{
    size_t size = 0;
    char *text = body != NULL ? json_text(body, &size) : NULL;
    json_decref(body);
    if (text == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    api_json_text(r, status, text, size);
    free(text);
}

void api_json_text(struct api_req *r, int status, const char *text, size_t size)
{
    if (r->stale) {
        struct cluster_health health;
        char value[32];
        cluster_health(r->o->cluster, &health);
        (void)snprintf(value, sizeof(value), "%llu", (unsigned long long)(health.stale_ms / 1000));
        http_set_header(r->http, "X-Tessera-Stale", value);
    }
    set_vary(r);
    http_reply(r->http, status, "application/json", text, size);
    req_done(r);
}

void api_empty(struct api_req *r, int status)
{
    set_vary(r);
    http_reply(r->http, status, NULL, NULL, 0);
    req_done(r);
}

void api_text(struct api_req *r, int status, const char *content_type, const char *text)
{
    http_reply(r->http, status, content_type, text, strlen(text));
    req_done(r);
}

void api_streamed(struct api_req *r)
{
    req_done(r);
}

static const char *status_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Request Entity Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Requested Range Not Satisfiable"},
        {422, "Unprocessable Entity"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
    };
    for (size_t i = 0; i < array_len(titles); i++) {
        if (titles[i].status == status) {
            return titles[i].title;
        }
    }
    return "Error";
}

void api_error_status(struct api_req *r, int status, const char *message)
{
    if (r->route != NULL && (r->route->flags & API_DATA) != 0) {
        status = image_upload_status(r, status);
    }
    if (status == 401) {
        char url[512], header[1200];
        api_public_url(r, url, sizeof(url));
        (void)snprintf(header, sizeof(header), "Keystone uri=\"%s%s\"",
                       r->o->keystone != NULL ? r->o->keystone_uri : url,
                       r->o->keystone != NULL ? "" : "/identity/v3");
        http_set_header(r->http, "WWW-Authenticate", header);
    }
    if (status == 503 || status == 429) {
        http_set_header(r->http, "Retry-After", "1");
    }
    json_t *body = json_pack("{s:{s:i,s:s,s:s}}", "error", "code", status, "title",
                             status_title(status), "message", message);
    if (body == NULL) {
        /* A message that is no UTF-8, or no memory: the bare status still tells the truth. */
        http_reply(r->http, status, "application/json", "{\"error\": {}}", 13);
        req_done(r);
        return;
    }
    api_json(r, status, body);
}

void api_error(struct api_req *r, int code, const struct err *err)
{
    const char *message = err != NULL && err->msg[0] != '\0' ? err->msg : err_text(code);
    int status = err_http_status(code);
    if (status == 401) {
        message = "The request you have made requires authentication.";
    }
    if (status >= 500 && status != 503) {
        log_error("api", "request failed id=%s method=%s path=%s code=%s detail=%s",
                  http_request_id(r->http), http_method_text(r->http), http_path(r->http),
                  err_name(code), message);
        message = err_text(code); /* internal text never reaches a client */
    }
    api_error_status(r, status, message);
}

void api_errorf(struct api_req *r, int code, const char *fmt, ...)
{
    struct err err = {.code = code};
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err.msg, sizeof(err.msg), fmt, args);
    va_end(args);
    api_error(r, code, &err);
}

/* --- helpers for handlers
 * -------------------------------------------------------------------------- */

void api_public_url(struct api_req *r, char *out, size_t size)
{
    if (r->o->public_endpoint != NULL && r->o->public_endpoint[0] != '\0') {
        (void)str_copy(out, size, r->o->public_endpoint);
        return;
    }
    http_origin(r->http, out, size);
}

const char *api_param(const struct api_req *r, const char *name)
{
    return http_param(&r->params, name);
}

struct meta_view *api_view(struct api_req *r)
{
    struct meta_view *view = NULL;
    int rv = meta_view_open(r->o->meta, &view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return NULL;
    }
    return view;
}

/* --- routing
 * ------------------------------------------------------------------------------------------ */

/* Does @pattern match? Fills args. */
static bool pattern_match(const char *pattern, const struct http_segments *segments,
                          const char **args)
{
    size_t n = 0, arg = 0;
    const char *p = pattern;
    if (strcmp(pattern, "/") == 0) {
        return segments->count == 0 || (segments->count == 1 && segments->segment[0][0] == '\0');
    }
    while (*p == '/') {
        p++;
        size_t len = strcspn(p, "/");
        if (n == segments->count) {
            return false;
        }
        const char *segment = segments->segment[n++];
        if (len == 2 && memcmp(p, "{}", 2) == 0) {
            if (segment[0] == '\0' || arg == 4) {
                return false;
            }
            args[arg++] = segment;
        } else if (strlen(segment) != len || memcmp(segment, p, len) != 0) {
            return false;
        }
        p += len;
    }
    return n == segments->count;
}

static bool is_minor_version(const char *segment)
{
    for (size_t i = 0; i < api_minor_count; i++) {
        if (str_starts(segment, "v2.") && strcmp(api_minors[i], segment + 3) == 0) {
            return true;
        }
    }
    return false;
}

struct match {
    const struct api_route *route;
    char allow[64]; /* methods of other routes with the same path */
};

static const char *const method_names[] = {
    [HTTP_METHOD_GET] = "GET", [HTTP_METHOD_HEAD] = "HEAD",   [HTTP_METHOD_POST] = "POST",
    [HTTP_METHOD_PUT] = "PUT", [HTTP_METHOD_PATCH] = "PATCH", [HTTP_METHOD_DELETE] = "DELETE",
};

/* HEAD is answered as GET without a body. */
static bool method_fits(enum http_method want, enum http_method have)
{
    return want == have || (want == HTTP_METHOD_GET && have == HTTP_METHOD_HEAD);
}

static void find_route(struct api_req *r, struct match *m)
{
    enum http_method method = http_method(r->http);
    memset(m, 0, sizeof(*m));
    for (size_t t = 0; t < array_len(tables); t++) {
        if (r->o->keystone != NULL && tables[t] == api_identity_routes) {
            continue; /* users and tokens are Keystone's */
        }
        for (const struct api_route *route = tables[t]; route->pattern != NULL; route++) {
            const char *args[4] = {NULL};
            if (!pattern_match(route->pattern, &r->segments, args)) {
                continue;
            }
            /* The exact method wins over GET-for-HEAD. */
            if (route->method == method ||
                (m->route == NULL && method_fits(route->method, method))) {
                m->route = route;
                memcpy(r->args, args, sizeof(args));
            }
            if (m->allow[0] != '\0') {
                strncat(m->allow, ", ", sizeof(m->allow) - strlen(m->allow) - 1);
            }
            strncat(m->allow, method_names[route->method], sizeof(m->allow) - strlen(m->allow) - 1);
        }
    }
}

/* --- the steps
 * ------------------------------------------------------------------------------------------ */

const char *api_request_token(const struct api_req *r)
{
    const char *token = http_header(r->http, "X-Auth-Token"); /* without blanks around it */
    return token != NULL && token[0] != '\0' && strlen(token) <= TOKEN_TEXT_MAX ? token : NULL;
}

static void caller_rules(struct api_req *r)
{
    r->caller.rules = r->o->rules;
    r->caller.properties = r->o->properties;
    r->caller.public_in_domain = r->o->public_in_domain;
}

/* Does a service vouch for the request with a token of its own? */
static bool has_service(const struct api_req *r, struct meta_view *view)
{
    const char *token = http_header(r->http, "X-Service-Token");
    struct caller service;
    return token != NULL && token[0] != '\0' &&
           identity_check(r->o->identity, view, token, loop_wall_us(r->o->loop), &service) == 0 &&
           service.scope == SCOPE_PROJECT && (service.roles & ROLE_SERVICE) != 0;
}

/* What this host knows of the token now, into r->caller. */
static int token_check(struct api_req *r)
{
    struct meta_view *view = NULL;
    struct caller caller = {0};
    int rv = meta_view_open(r->o->meta, &view);
    if (rv != 0) {
        return rv;
    }
    rv = identity_check(r->o->identity, view, api_request_token(r), loop_wall_us(r->o->loop),
                        &caller);
    if (rv == TSR_EUNAUTHORIZED && has_service(r, view)) {
        rv = identity_check_expired(r->o->identity, view, api_request_token(r),
                                    loop_wall_us(r->o->loop), &caller);
    }
    meta_view_close(view);
    if (rv == 0) {
        bool keyed = r->caller.keyed;
        memcpy(caller.key_id, r->caller.key_id, sizeof(caller.key_id));
        memcpy(caller.key_fp, r->caller.key_fp, sizeof(caller.key_fp));
        r->caller = caller;
        r->caller.keyed = keyed;
        caller_rules(r);
    }
    return rv;
}

static bool lacks_role(const struct api_req *r)
{
    return (r->route->flags & API_ADMIN) != 0 && !r->caller.local_admin &&
           !caller_is_admin(&r->caller);
}

static void token_refuse(struct api_req *r, int status)
{
    if (status != 0) {
        api_error(r, status, NULL);
    } else {
        api_errorf(r, TSR_EFORBIDDEN, "This needs the role admin.");
    }
}

bool api_token_again(struct api_req *r)
{
    /* What Keystone says of a token does not depend on this cluster's state. */
    if ((r->route->flags & API_OPEN) != 0 || r->caller.local_admin || r->o->keystone != NULL) {
        return true;
    }
    int rv = token_check(r);
    if (rv != 0 || lacks_role(r)) {
        token_refuse(r, rv);
        return false;
    }
    return true;
}

static void step_handler(struct api_req *r)
{
    caller_rules(r);
    bool whole = (r->route->flags & (API_JSON | API_JSON_OPTIONAL | API_NO_BODY)) != 0;
    if (!api_key_set(r) || (whole && api_replay(r))) {
        return; /* else the handler reads the body, which is part of the request */
    }
    r->route->fn(r);
}

static void barrier_cb(struct meta_barrier *barrier, int status)
{
    struct api_req *r = barrier->arg;
    if (api_release(r)) {
        return;
    }
    if (status == 0) {
        if (api_token_again(r)) {
            step_handler(r);
        }
        return;
    }
    struct cluster_health health;
    cluster_health(r->o->cluster, &health);
    if (r->o->stale_reads_max_ms == 0 || health.stale_ms > (uint64_t)r->o->stale_reads_max_ms) {
        api_errorf(r, TSR_ENOQUORUM, "The service has no majority of its hosts at present.");
        return;
    }
    r->stale = true;
    metric_add(METRIC_stale_reads_total, 1);
    step_handler(r);
}

static void step_barrier(struct api_req *r)
{
    if ((r->route->flags & API_READ) == 0 || r->o->read_local) {
        step_handler(r);
        return;
    }
    r->barrier =
        (struct meta_barrier){.loop = r->o->loop, .timeout_ms = 1000, .cb = barrier_cb, .arg = r};
    api_hold(r);
    meta_barrier(r->o->meta, &r->barrier);
}

static void body_cb(struct http_req *http, int status, const char *data, size_t size)
{
    struct api_req *r = http_data(http);
    if (status == TSR_EEOF) {
        return; /* the abort callback follows */
    }
    if (status != 0) {
        api_errorf(r, status,
                   status == TSR_ETOOBIG ? "Request body is too large."
                                         : "The request body could not be read.");
        return;
    }
    if (size == 0) {
        if ((r->route->flags & API_JSON_OPTIONAL) != 0) {
            step_barrier(r);
            return;
        }
        api_errorf(r, TSR_EINVAL, "A body is expected with this request.");
        return;
    }
    r->body = json_parse(data, size);
    if (r->body == NULL) {
        api_errorf(r, TSR_EINVAL, "Malformed JSON in request body.");
        return;
    }
    step_barrier(r);
}

static void step_body(struct api_req *r)
{
    if ((r->route->flags & (API_JSON | API_JSON_OPTIONAL)) != 0) {
        http_body_collect(r->http, r->o->json_body_max, body_cb);
        return;
    }
    if ((r->route->flags & API_NO_BODY) != 0 && http_has_body(r->http)) {
        api_errorf(r, TSR_EINVAL, "A body is not expected with this request.");
        return;
    }
    step_barrier(r);
}

static void token_judge(struct api_req *r);

static void token_barrier_cb(struct meta_barrier *barrier, int status)
{
    struct api_req *r = barrier->arg;
    (void)status; /* without a majority, what this host knows decides */
    if (!api_release(r)) {
        token_judge(r);
    }
}

/* A token of ours that is refused may be of a user or a role that another host has just made. */
static bool token_doubtful(const struct api_req *r, int status)
{
    const char *token = api_request_token(r);
    return !r->token_again && (status == 0 || status == TSR_EUNAUTHORIZED) &&
           str_starts(token, "tsr1.");
}

static void token_judge(struct api_req *r)
{
    int rv = token_check(r);
    if (rv == 0 && !lacks_role(r)) {
        step_body(r);
        return;
    }
    if (!token_doubtful(r, rv)) {
        token_refuse(r, rv);
        return;
    }
    r->token_again = true;
    r->barrier = (struct meta_barrier){
        .loop = r->o->loop, .timeout_ms = 1000, .cb = token_barrier_cb, .arg = r};
    api_hold(r);
    meta_barrier(r->o->meta, &r->barrier);
}

static void step_role(struct api_req *r)
{
    if (lacks_role(r)) {
        token_refuse(r, 0);
        return;
    }
    step_body(r);
}

static void step_token(struct api_req *r)
{
    unsigned flags = r->route->flags;
    if ((flags & API_OPEN) != 0) {
        step_body(r);
        return;
    }
    const char *token = api_request_token(r);
    if (token == NULL && r->local) {
        r->caller.local_admin = true;
        r->caller.scope = SCOPE_SYSTEM;
        r->caller.roles = ROLE_ADMIN | ROLE_MEMBER | ROLE_READER;
        step_body(r);
        return;
    }
    if (token == NULL) {
        api_error(r, TSR_EUNAUTHORIZED, NULL);
        return;
    }
    if (r->o->keystone != NULL) {
        api_keystone_step(r, step_role);
        return;
    }
    token_judge(r);
}

/* Root, or a member of the socket file's group (the file mode lets nobody else connect). */
static bool is_local(struct http_req *http)
{
    unsigned uid = 0, gid = 0;
    return conn_peer_cred(http_conn(http), &uid, &gid) == 0;
}

/* "/v2.7/images" is "/v2/images". */
static void fold_minor_version(struct http_segments *segments)
{
    if (segments->count > 0 && is_minor_version(segments->segment[0])) {
        segments->segment[0][2] = '\0';
    }
}

/* "Accept: application/vnd.openstack.images-v2.7" asks for that version of a path that names none.
 */
static void add_version(struct api_req *r)
{
    static const char media[] = "application/vnd.openstack.images-";
    const char *accept = http_header(r->http, "Accept");
    struct http_segments *s = &r->segments;
    if (accept == NULL || !str_starts(accept, media) || s->count == 0 ||
        s->count == HTTP_SEGMENTS_MAX || s->segment[0][0] == '\0') {
        return;
    }
    char version[8];
    const char *at = accept + sizeof(media) - 1;
    size_t size = strcspn(at, ",; +");
    if (size >= sizeof(version)) {
        return;
    }
    memcpy(version, at, size);
    version[size] = '\0';
    if (strcmp(version, "v2") == 0 || is_minor_version(version)) {
        static char v2[] = "v2";
        memmove(&s->segment[1], &s->segment[0], s->count * sizeof(s->segment[0]));
        s->segment[0] = v2;
        s->count++;
    }
}

void api_handle(void *arg, struct http_req *http)
{
    struct api *api = arg;
    struct api_req *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        http_reply(http, 503, "application/json", "{\"error\": {}}", 13);
        return;
    }
    r->http = http;
    r->api = api;
    r->o = &api->o;
    r->refs = 1;
    http_set_data(http, r);
    http_on_abort(http, req_aborted);
    r->local = is_local(http);
    if (api_cors(r)) {
        return;
    }
    if (!http_segments_parse(http_path(http), &r->segments)) {
        api_errorf(r, TSR_ENOENT, "The resource could not be found.");
        return;
    }
    fold_minor_version(&r->segments);
    if (http_params_parse(http_query(http), &r->params) != 0) {
        api_errorf(r, TSR_EINVAL, "The query string is not valid.");
        return;
    }
    struct match m;
    find_route(r, &m);
    if (m.route == NULL && m.allow[0] == '\0') {
        add_version(r);
        find_route(r, &m);
    }
    r->route = m.route;
    if (m.route == NULL && m.allow[0] != '\0') {
        http_set_header(http, "Allow", m.allow);
        api_errorf(r, TSR_EMETHOD, "The method is not allowed for this resource.");
        return;
    }
    if (m.route == NULL) {
        api_route_unknown(r);
        return;
    }
    if ((m.route->flags & API_LOCAL) != 0 && !r->local) {
        api_errorf(r, TSR_ENOENT, "The resource could not be found.");
        return;
    }
    if (r->o->meta == NULL && (m.route->flags & API_UNFORMED) == 0) {
        bool told = r->o->unformed != NULL && r->o->unformed[0] != '\0';
        api_errorf(r, TSR_EUNAVAILABLE, "%s",
                   told ? r->o->unformed : "This host is not part of a cluster yet.");
        return;
    }
    step_token(r);
}
