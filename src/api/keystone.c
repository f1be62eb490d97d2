/* With an external Keystone: the step that finds out who asks, and the cluster API's calls about
 * Keystone's catalog. */
#include "tessera/identity/keystone.h"

#include <stdlib.h>
#include <string.h>

#include "api/face.h"
#include "tessera/base/str.h"
#include "tessera/sys/http_client.h"

/* --- who asks ----------------------------------------------------------------------------------
 */

static void judged(struct api_req *r, int status)
{
    if (status == 0) {
        r->caller = r->check.caller;
        r->check_next(r);
    } else if (status == TSR_EUNAUTHORIZED) {
        api_error(r, status, NULL);
    } else {
        api_errorf(r, TSR_EUNAVAILABLE, "The identity service does not answer at present.");
    }
}

static void check_cb(struct keystone_check *check, int status)
{
    struct api_req *r = check->arg;
    if (!api_release(r)) {
        judged(r, status);
    }
}

/* Copies of what the check looks at, in one piece of memory. */
static bool take_texts(struct api_req *r, const char *token, const char *service)
{
    const char *path = http_path(r->http);
    size_t token_size = strlen(token) + 1, path_size = strlen(path) + 1;
    size_t service_size = service != NULL ? strlen(service) + 1 : 0;
    char *p = r->check_texts = malloc(token_size + path_size + service_size);
    if (p == NULL) {
        return false;
    }
    r->check.token = memcpy(p, token, token_size);
    r->check.path = memcpy(p + token_size, path, path_size);
    r->check.service_token =
        service != NULL ? memcpy(p + token_size + path_size, service, service_size) : NULL;
    return true;
}

void api_keystone_step(struct api_req *r, api_fn next)
{
    const char *token = api_request_token(r);
    if (token == NULL) {
        api_error(r, TSR_EUNAUTHORIZED, NULL);
        return;
    }
    r->check_next = next;
    r->check = (struct keystone_check){
        .loop = r->o->loop, .method = http_method_text(r->http), .cb = check_cb, .arg = r};
    if (!take_texts(r, token, http_header(r->http, "X-Service-Token"))) {
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    api_hold(r);
    int status = keystone_check(r->o->keystone, &r->check);
    if (status != TSR_EAGAIN && !api_release(r)) {
        judged(r, status);
    }
}

/* --- POST /v1/keystone/register ----------------------------------------------------------------
 */

struct registration {
    struct keystone_job job;
    struct api_req *r;
    char region[256], token[TOKEN_TEXT_MAX + 1];
    char urls[KEYSTONE_INTERFACES][1024];
};

static void registered(struct keystone_job *job, int status)
{
    struct registration *g = job->arg;
    struct api_req *r = g->r;
    json_t *result = job->result;
    struct err err = job->err;
    explicit_bzero(g->token, sizeof(g->token));
    free(g);
    if (api_release(r)) {
        json_decref(result);
        return;
    }
    if (status == 0) {
        api_json(r, 200, result);
        return;
    }
    /* What was done before the failure stays done, and doing it again goes on from there. */
    api_errorf(r, status == TSR_EUNAUTHORIZED ? TSR_EFORBIDDEN : status, "%s", err.msg);
    json_decref(result);
}

/* API URL of the host that holds the admin endpoint, else of this one; and the epoch. */
static int read_urls(struct registration *g, struct meta_view *view)
{
    json_t *endpoint = NULL, *host = NULL;
    uint64_t id = g->r->o->self;
    if (meta_endpoint_get(view, &endpoint) == 0) {
        id = (uint64_t)json_int(endpoint, "host", (int64_t)id);
        g->job.epoch = (uint64_t)json_int(endpoint, "epoch", 0);
    }
    json_decref(endpoint);
    int rv = meta_host_get(view, id, &host);
    const char *url = rv == 0 ? json_str_or(host, "api_url", "") : "";
    for (size_t i = 0; i < KEYSTONE_INTERFACES; i++) {
        (void)str_copy(g->urls[i], sizeof(g->urls[i]), url);
    }
    json_decref(host);
    return rv;
}

static bool take_url(struct api_req *r, const char *key, const char *setting, char *out,
                     size_t size)
{
    struct http_client_url url;
    const char *given = json_str(r->body, key);
    if (given == NULL && setting != NULL && setting[0] != '\0') {
        given = setting;
    }
    if (given == NULL) {
        return true;
    }
    return str_copy(out, size, given) && http_client_url_parse(out, &url) == 0 && !url.has_user &&
           (strcmp(url.scheme, "https") == 0 || strcmp(url.scheme, "http") == 0);
}

/* A trailing slash, or a version: clients add both by themselves. */
static void trim_url(char *url)
{
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/') {
        url[--size] = '\0';
    }
    if (size > 3 && strcmp(url + size - 3, "/v2") == 0) {
        url[size - 3] = '\0';
    }
}

static void start(struct registration *g)
{
    struct api_req *r = g->r;
    g->job.loop = r->o->loop;
    g->job.region = g->region;
    g->job.token = g->token[0] != '\0' ? g->token : NULL;
    for (size_t i = 0; i < KEYSTONE_INTERFACES; i++) {
        trim_url(g->urls[i]);
        g->job.urls[i] = g->urls[i];
    }
    g->job.cb = registered;
    g->job.arg = g;
    api_hold(r);
    keystone_register(r->o->keystone, &g->job);
}

/* {region?, public_url?, internal_url?, admin_url?}. Acts in Keystone as the caller; over the local
 * socket, where there is none, as the service user. */
static void register_service(struct api_req *r)
{
    if (r->o->keystone == NULL) {
        api_errorf(r, TSR_ECONFLICT, "Identity is embedded: there is no Keystone to register in.");
        return;
    }
    if (r->body != NULL && !json_is_object(r->body)) {
        api_errorf(r, TSR_EINVAL, "The request body must be an object.");
        return;
    }
    struct registration *g = calloc(1, sizeof(*g));
    struct meta_view *view = g != NULL ? api_view(r) : NULL;
    if (view == NULL) {
        free(g);
        return;
    }
    g->r = r;
    int rv = read_urls(g, view);
    meta_view_close(view);
    const char *token = api_request_token(r), *region = json_str(r->body, "region");
    if (rv != 0 ||
        !str_copy(g->region, sizeof(g->region), region != NULL ? region : r->o->region) ||
        g->region[0] == '\0' ||
        !take_url(r, "public_url", r->o->public_endpoint, g->urls[0], sizeof(g->urls[0])) ||
        !take_url(r, "internal_url", r->o->internal_endpoint, g->urls[1], sizeof(g->urls[1])) ||
        !take_url(r, "admin_url", NULL, g->urls[2], sizeof(g->urls[2]))) {
        free(g);
        api_errorf(r, rv != 0 ? rv : TSR_EINVAL, "A URL or the region is not valid.");
        return;
    }
    (void)str_copy(g->token, sizeof(g->token), token != NULL ? token : "");
    start(g);
}

const struct api_route api_keystone_routes[] = {
    {HTTP_METHOD_POST, "/v1/keystone/register", register_service,
     API_ADMIN | API_READ | API_JSON_OPTIONAL},
    {0},
};
