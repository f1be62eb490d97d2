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
#include "api/identity_face.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"

struct api {
    struct api_options o;
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

void api_replied(struct api_req *r)
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

/* The access rules of an application credential bind the user, not a service that acts for it. A
 * token may always be asked about itself. */
static int access_check(const struct api_req *r, struct meta_view *view,
                        const struct caller *caller)
{
    static const char prefix[] = "/identity";
    const char *method = http_method_text(r->http), *path = http_path(r->http);
    if (!caller->ruled || has_service(r, view)) {
        return 0;
    }
    if ((r->route->flags & API_IDENTITY) == 0) {
        return identity_access_check(view, caller, "image", method, path);
    }
    if (r->route->fn == ident_token_get) {
        return 0;
    }
    int rv = identity_access_check(view, caller, "identity", method, path);
    if (rv == TSR_EUNAUTHORIZED && str_starts(path, prefix)) { /* as without our own prefix */
        rv = identity_access_check(view, caller, "identity", method, path + sizeof(prefix) - 1);
    }
    return rv;
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
    if (rv == 0) {
        rv = access_check(r, view, &caller);
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

/* A header that says one thing and came twice, or NULL (RFC 9110 section 5.3). Which of the two
 * holds is no guess to make: a proxy in front may have judged the other. */
static const char *repeated(const struct http_req *http)
{
    static const char *const single[] = {
        "X-Auth-Token",           "X-Subject-Token",    "X-Service-Token", "Content-Type",
        "X-OpenStack-Image-Size", "X-Image-Meta-Store", "Idempotency-Key", "Range",
        "Content-Range",
    };
    const char *name, *value;
    unsigned seen = 0;
    for (size_t n = 0; http_header_at(http, n, &name, &value); n++) {
        for (size_t i = 0; i < array_len(single); i++) {
            if (str_ieq(name, single[i])) {
                if ((seen & 1U << i) != 0) {
                    return single[i];
                }
                seen |= 1U << i;
            }
        }
    }
    return NULL;
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
    if (http_params_parse(http_query(http), &r->params) != 0) {
        api_errorf(r, TSR_EINVAL, "The query string is not valid.");
        return;
    }
    const char *twice = repeated(http);
    if (twice != NULL) {
        api_errorf(r, TSR_EINVAL, "The header %s was sent more than once.", twice);
        return;
    }
    struct api_match m;
    api_route_find(r, &m);
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
