/* The image service in Keystone's catalog: registering it, and moving its admin endpoint.
 *
 * Both look first and change what differs, so they may be done again at any time, also after they
 * were cut off half-way. An endpoint that we make or move carries `tessera_epoch`, the epoch of the
 * cluster's admin endpoint: a leader that has been replaced sees a later one than its own there,
 * and leaves it alone. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/keystone_internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"

const char *const keystone_interfaces[KEYSTONE_INTERFACES] = {"public", "internal", "admin"};
static const char epoch_key[] = "tessera_epoch";
enum { INTERFACE_ADMIN = 2 };

static uint64_t epoch_of(const json_t *endpoint)
{
    return (uint64_t)json_int(endpoint, epoch_key, 0);
}

/* --- calls of a job ----------------------------------------------------------------------------
 */

/* One call; a status other than @wanted (or @or_else, 0 = none) is an error. @out: the body's
 * object named @key, a new reference. */
static int ask(struct keystone_job *job, const char *method, const char *path, json_t *body,
               const char *key, json_t **out)
{
    struct keystone *k = job->keystone;
    struct http_client_reply reply;
    struct keystone_request q = {.method = method,
                                 .path = path,
                                 .token = job->token,
                                 .body = body,
                                 .deadline_ms = keystone_deadline(k)};
    int rv = keystone_call(k, &q, &reply, &job->err);
    if (rv != 0) {
        return rv;
    }
    json_t *answer = json_parse(reply.body.data, reply.body.size), *object = NULL;
    if (reply.status >= 200 && reply.status < 300) {
        object = json_object_get(answer, key);
        rv = object != NULL
                 ? 0
                 : err_set(&job->err, TSR_EPROTO,
                           "Keystone's answer to %s %.100s is not understood", method, path);
    } else if (reply.status == 404) {
        rv = err_set(&job->err, TSR_ENOENT, "Keystone knows no %.100s", path);
    } else {
        rv = err_set(&job->err, reply.status == 401 ? TSR_EUNAUTHORIZED : TSR_EFORBIDDEN,
                     "Keystone refuses %s %.80s (HTTP %d): %.100s", method, path, reply.status,
                     json_str_or(json_obj(answer, "error"), "message", "no reason given"));
    }
    if (rv == 0 && out != NULL) {
        *out = json_incref(object);
    }
    json_decref(answer);
    http_client_reply_free(&reply);
    return rv;
}

/* {"kind": fields} */
static int send(struct keystone_job *job, const char *method, const char *path, const char *kind,
                json_t *fields, json_t **out)
{
    json_t *body = json_pack("{s:o}", kind, fields);
    int rv = body != NULL ? ask(job, method, path, body, kind, out) : TSR_ENOMEM;
    json_decref(body);
    return rv;
}

static void said(struct keystone_job *job, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void said(struct keystone_job *job, const char *fmt, ...)
{
    char text[KEYSTONE_URL_MAX + 128];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)json_array_append_new(json_arr(job->result, "done"), json_string(text));
}

/* --- finding -----------------------------------------------------------------------------------
 */

/* The service of type image: the one named glance, else the first. NULL in *out: there is none. */
static int find_service(struct keystone_job *job, json_t **out)
{
    json_t *list = NULL, *service, *found = NULL;
    size_t i;
    int rv = ask(job, "GET", "/services?type=image", NULL, "services", &list);
    json_array_foreach(list, i, service)
    {
        bool named = strcmp(json_str_or(service, "name", ""), "glance") == 0;
        if (json_str(service, "id") != NULL && (found == NULL || named)) {
            found = service;
            if (named) {
                break;
            }
        }
    }
    *out = json_incref(found);
    json_decref(list);
    return rv;
}

static int find_endpoints(struct keystone_job *job, const char *service_id, json_t **list_out)
{
    char path[512];
    struct buf region;
    buf_init(&region);
    (void)percent_encode(&region, job->region, false);
    int n = snprintf(path, sizeof(path), "/endpoints?service_id=%.64s&region_id=%s", service_id,
                     region.data != NULL ? region.data : "");
    buf_free(&region);
    return n > 0 && (size_t)n < sizeof(path) ? ask(job, "GET", path, NULL, "endpoints", list_out)
                                             : TSR_EINVAL;
}

/* Of that interface; the filters of the query are not relied upon. */
static json_t *pick(const json_t *list, const char *service_id, const char *region,
                    const char *interface)
{
    size_t i;
    json_t *e;
    json_array_foreach(list, i, e)
    {
        if (strcmp(json_str_or(e, "interface", ""), interface) == 0 &&
            strcmp(json_str_or(e, "service_id", ""), service_id) == 0 &&
            strcmp(json_str_or(e, "region_id", ""), region) == 0 && json_str(e, "id") != NULL) {
            return e;
        }
    }
    return NULL;
}

static int change_url(struct keystone_job *job, const json_t *endpoint, const char *url)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/endpoints/%.64s", json_str_or(endpoint, "id", ""));
    json_t *fields = json_pack("{s:s}", "url", url);
    if (strcmp(json_str_or(endpoint, "interface", ""), "admin") == 0) {
        (void)json_set_int(fields, epoch_key, (int64_t)job->epoch);
    }
    return send(job, "PATCH", path, "endpoint", fields, NULL);
}

/* --- registering -------------------------------------------------------------------------------
 */

static int ensure_roles(struct keystone_job *job)
{
    json_t *list = NULL, *role;
    size_t i;
    int rv = ask(job, "GET", "/roles", NULL, "roles", &list);
    for (size_t n = 0; rv == 0 && n < IDENTITY_ROLES; n++) {
        const char *name = identity_role_table[n].name;
        bool found = false;
        json_array_foreach(list, i, role)
        {
            found = found || (str_ieq(json_str_or(role, "name", ""), name) &&
                              json_str(role, "domain_id") == NULL);
        }
        if (!found) {
            rv = send(job, "POST", "/roles", "role", json_pack("{s:s}", "name", name), NULL);
            if (rv == 0) {
                said(job, "made role %s", name);
            }
        }
    }
    json_decref(list);
    return rv;
}

static int ensure_service(struct keystone_job *job, char id_out[IDENTITY_ID_MAX + 1])
{
    json_t *service = NULL;
    int rv = find_service(job, &service);
    if (rv == 0 && service == NULL) {
        rv = send(job, "POST", "/services", "service",
                  json_pack("{s:s,s:s,s:s,s:b}", "type", "image", "name", "glance", "description",
                            "Images", "enabled", 1),
                  &service);
        if (rv == 0) {
            said(job, "made service image, named glance");
        }
    }
    if (rv == 0 && (!str_copy(id_out, IDENTITY_ID_MAX + 1, json_str_or(service, "id", "")) ||
                    id_out[0] == '\0')) {
        rv = err_set(&job->err, TSR_EPROTO, "Keystone's service has no id");
    }
    json_decref(service);
    return rv;
}

static int ensure_region(struct keystone_job *job)
{
    json_t *list = NULL, *region;
    size_t i;
    int rv = ask(job, "GET", "/regions", NULL, "regions", &list);
    bool found = false;
    json_array_foreach(list, i, region)
    {
        found = found || strcmp(json_str_or(region, "id", ""), job->region) == 0;
    }
    json_decref(list);
    if (rv == 0 && !found) {
        rv = send(job, "POST", "/regions", "region", json_pack("{s:s}", "id", job->region), NULL);
        if (rv == 0) {
            said(job, "made region %s", job->region);
        }
    }
    return rv;
}

static int make_endpoint(struct keystone_job *job, const char *service_id, size_t i, json_t **out)
{
    json_t *fields =
        json_pack("{s:s,s:s,s:s,s:s,s:b}", "service_id", service_id, "region_id", job->region,
                  "interface", keystone_interfaces[i], "url", job->urls[i], "enabled", 1);
    if (i == INTERFACE_ADMIN) {
        (void)json_set_int(fields, epoch_key, (int64_t)job->epoch);
    }
    return send(job, "POST", "/endpoints", "endpoint", fields, out);
}

static int ensure_endpoint(struct keystone_job *job, const json_t *list, const char *service_id,
                           size_t i)
{
    const char *interface = keystone_interfaces[i], *url = job->urls[i];
    json_t *made = NULL, *endpoint = pick(list, service_id, job->region, interface);
    int rv = 0;
    if (endpoint == NULL) {
        rv = make_endpoint(job, service_id, i, &made);
        endpoint = made;
        if (rv == 0) {
            said(job, "made the %s endpoint: %s", interface, url);
        }
    } else if (strcmp(json_str_or(endpoint, "url", ""), url) != 0 ||
               (i == INTERFACE_ADMIN && epoch_of(endpoint) != job->epoch)) {
        rv = change_url(job, endpoint, url);
        if (rv == 0 && strcmp(json_str_or(endpoint, "url", ""), url) != 0) {
            said(job, "changed the %s endpoint from %s to %s", interface,
                 json_str_or(endpoint, "url", "?"), url);
        }
    }
    if (rv == 0) {
        (void)json_object_set_new(
            json_obj(job->result, "endpoints"), interface,
            json_pack("{s:s,s:s}", "id", json_str_or(endpoint, "id", ""), "url", url));
    }
    json_decref(made);
    return rv;
}

static int register_all(struct keystone_job *job)
{
    char service_id[IDENTITY_ID_MAX + 1];
    json_t *list = NULL;
    job->result = json_pack("{s:s,s:{},s:[]}", "region", job->region, "endpoints", "done");
    int rv = job->result != NULL ? ensure_roles(job) : TSR_ENOMEM;
    if (rv == 0 && (rv = ensure_service(job, service_id)) == 0 && (rv = ensure_region(job)) == 0) {
        (void)json_set_str(job->result, "service_id", service_id);
        rv = find_endpoints(job, service_id, &list);
    }
    for (size_t i = 0; rv == 0 && i < KEYSTONE_INTERFACES; i++) {
        rv = ensure_endpoint(job, list, service_id, i);
    }
    json_decref(list);
    return rv;
}

/* --- moving ------------------------------------------------------------------------------------
 */

static bool is_ours(const json_t *hosts, const char *url)
{
    size_t i;
    const json_t *host;
    json_array_foreach(hosts, i, host)
    {
        if (strcmp(json_string_value(host), url) == 0) {
            return true;
        }
    }
    return false;
}

static int move_endpoint(struct keystone_job *job, json_t *endpoint, const char **state)
{
    const char *url = job->urls[INTERFACE_ADMIN], *now = json_str_or(endpoint, "url", "");
    if (strcmp(now, url) == 0) {
        *state = "current";
        return 0;
    }
    if (!is_ours(job->hosts, now)) {
        *state = "foreign";
        return 0;
    }
    if (epoch_of(endpoint) > job->epoch) {
        return err_set(
            &job->err, TSR_EVERSION,
            "its epoch there is a later one; if this cluster was made anew, register it");
    }
    *state = "moved";
    return change_url(job, endpoint, url);
}

static int move(struct keystone_job *job)
{
    const char *state = "unregistered";
    json_t *service = NULL, *list = NULL;
    int rv = find_service(job, &service);
    if (rv == 0 && service != NULL) {
        const char *id = json_str_or(service, "id", "");
        rv = find_endpoints(job, id, &list);
        json_t *endpoint = rv == 0 ? pick(list, id, job->region, "admin") : NULL;
        if (endpoint != NULL) {
            rv = move_endpoint(job, endpoint, &state);
        }
    }
    if (rv == 0) {
        job->result = json_pack("{s:s,s:s}", "state", state, "url", job->urls[INTERFACE_ADMIN]);
    }
    json_decref(list);
    json_decref(service);
    return rv;
}

/* --- jobs --------------------------------------------------------------------------------------
 */

static void job_run(struct work *work)
{
    struct keystone_job *job = container_of(work, struct keystone_job, work);
    job->err = (struct err){0};
    job->err.code = job->move ? move(job) : register_all(job);
    if (job->err.code == 0) {
        keystone_note(job->keystone, true, "");
    }
}

static void job_done(struct work *work)
{
    struct keystone_job *job = container_of(work, struct keystone_job, work);
    job->cb(job, job->err.code);
}

static void job_start(struct keystone *k, struct keystone_job *job, bool is_move)
{
    job->keystone = k;
    job->move = is_move;
    job->result = NULL;
    job->work = (struct work){.loop = job->loop, .run = job_run, .done = job_done};
    pool_submit(k->o.pool, &job->work);
}

void keystone_register(struct keystone *k, struct keystone_job *job)
{
    job_start(k, job, false);
}

void keystone_move(struct keystone *k, struct keystone_job *job)
{
    job_start(k, job, true);
}
