/* An import is asked for: POST import, a task of an administrator, or a location. Checks in the
 * order of the contract, then the name of its URL is looked up, then import.start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

/* A name that has no address now is no reason to refuse: the request is answered as Glance answers
 * it (Tempest asks for that), and the task tells what became of the name, which is looked up again,
 * and judged, then. */
static int resolve_check(struct import_job *job, struct err *err)
{
    if (job->resolve_status != TSR_EFORBIDDEN) {
        return 0;
    }
    return err_set(err, TSR_EINVAL,
                   "URI for web-download does not pass filtering: the address of %.100s is not "
                   "allowed",
                   job->host);
}

static void resolve_run(struct work *work)
{
    struct import_job *job = container_of(work, struct import_job, resolve);
    job->resolve_status = http_client_resolve(job->host, import_guard_allows, job->guard);
}

static void resolve_done(struct work *work)
{
    struct import_job *job = container_of(work, struct import_job, resolve);
    struct err err = {0};
    job->resolving = false;
    int rv = resolve_check(job, &err);
    if (rv == 0 && job->state != JOB_ASKING) {
        rv = err_set(&err, TSR_ECANCELED, "%s", err_text(TSR_ECANCELED));
    }
    if (rv != 0) {
        import_job_answer(job, rv, &err);
        import_job_end(job);
        return;
    }
    import_job_ask(job);
}

/* --- the request
 * ------------------------------------------------------------------------------------ */

static json_t *task_of(const struct import_job *job, const struct image_import_options *o)
{
    json_t *input = o->task_input != NULL
                        ? json_deep_copy(o->task_input)
                        : json_pack("{s:s, s:O, s:[s]}", "image_id", job->id, "import_req", o->body,
                                    "backend", o->store_id);
    const char *project = o->caller->project_id, *user = o->caller->user_id;
    return input == NULL
               ? NULL
               : json_pack("{s:s, s:s, s:s?, s:s?, s:s, s:o}", "id", job->task, "type",
                           o->task_type, "owner", project[0] != 0 ? project : NULL, "user_id",
                           user[0] != 0 ? user : NULL, "request_id", o->request_id, "input", input);
}

/* IMPORT_REMOTE: where the image is, and who asks. The address is the operator's word, not a
 * user's.
 */
static int remote_prepare(struct import_job *job, const struct image_import_options *o,
                          const struct import_request *q)
{
    const char *known = import_rules_region(job->ctx->import, q->region);
    const char *base = known != NULL ? known : "";
    size_t size = strlen(base) + sizeof("/v2/images/") + strlen(q->remote_id);
    size_t token = o->token != NULL ? strlen(o->token) : 0;
    job->wrong = q->wrong;
    job->url = malloc(size);
    job->token = malloc(sizeof("X-Auth-Token: ") + token);
    if (job->url == NULL || job->token == NULL) {
        return TSR_ENOMEM;
    }
    (void)snprintf(job->url, size, "%s/v2/images/%s", base, q->remote_id);
    (void)strcpy(stpcpy(job->token, "X-Auth-Token: "), o->token != NULL ? o->token : "");
    return 0;
}

static int start_prepare(struct import_job *job, const struct image_import_options *o,
                         const struct import_request *q)
{
    uint8_t random[16];
    int rv = 0;
    loop_random(job->ctx->loop, random, sizeof(random));
    uuid_format(random, job->task);
    job->kind = q->kind;
    if (q->kind == IMPORT_REMOTE) {
        rv = remote_prepare(job, o, q);
    } else if (q->kind == IMPORT_WEB) {
        job->url = strdup(q->uri);
        rv = job->url != NULL ? 0 : TSR_ENOMEM;
    }
    if (rv == 0 && o->hash_algo != NULL) {
        (void)str_copy(job->expect_algo, sizeof(job->expect_algo), o->hash_algo);
        (void)str_copy(job->expect_hex, sizeof(job->expect_hex), o->hash_value);
    }
    json_t *task = rv == 0 ? task_of(job, o) : NULL;
    if (task == NULL) {
        return TSR_ENOMEM;
    }
    /* For the log all downloads are one method: what differs is in the task's input. */
    job->start = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:o}", "op", "import.start", "id",
                           job->id, "session", job->session_hex, "host", (json_int_t)job->ctx->self,
                           "method", q->kind == IMPORT_DIRECT ? "glance-direct" : "web-download",
                           "store", o->store_id, "task", task);
    (void)change_key(o->caller, 0, job->start, job->command); /* else it is a random one */
    return job->start != NULL ? 0 : TSR_ENOMEM;
}

static int right_check(struct image_ctx *ctx, const struct image_import_options *o,
                       const struct import_request *q, struct err *err)
{
    enum image_action action = o->location              ? o->location_action
                               : q->kind == IMPORT_COPY ? ACT_COPY
                                                        : ACT_UPLOAD;
    return change_find(ctx, o->caller, o->id, action, NULL, err);
}

/* In the order of the contract: shape, visible, status, formats, store, right, URL. */
static int start_checks(struct image_ctx *ctx, const struct image_import_options *o,
                        struct import_request *q, struct http_client_url *url, struct err *err)
{
    json_t *image = NULL;
    int rv = import_request_parse(ctx->importer != NULL ? ctx->import : NULL, o->body,
                                  o->header_store, o->store_id, q, err);
    if (rv == 0) {
        rv = change_find(ctx, o->caller, o->id, o->location ? o->location_action : ACT_SHOW, &image,
                         err);
    }
    if (rv == 0) {
        rv = import_request_check(q, image, err);
    }
    json_decref(image);
    if (rv == 0) {
        rv = right_check(ctx, o, q, err);
    }
    if (rv == 0 && q->kind == IMPORT_COPY && !q->all_stores) {
        rv = err_set(err, TSR_EINVAL, "The image's data is in the store %s already.", o->store_id);
    }
    if (rv == 0 && ctx->importer->closing) {
        rv = err_set(err, TSR_ECANCELED, "%s", err_text(TSR_ECANCELED));
    }
    if (rv == 0 && q->kind == IMPORT_WEB) {
        rv = import_rules_url(ctx->import, q->uri, url, err);
    }
    return rv;
}

/* All stores have it: there is nothing to copy. Who waits for the end of the copying looks for
 * stores that are left, or failed, and finds that there are none. */
static void copy_nothing(struct image_ctx *ctx, const struct image_import_options *o)
{
    change_submit(ctx,
                  json_pack("{s:s, s:s, s:{}, s:{s:s, s:s}}", "op", "image.update", "id", o->id,
                            "set", "props_set", "os_glance_importing_to_stores", "",
                            "os_glance_failed_import", ""),
                  NULL, RESULT_NONE, o->cb, o->arg);
}

void image_import_start(struct image_ctx *ctx, const struct image_import_options *options)
{
    struct import_request q;
    struct http_client_url url;
    struct err err = {0};
    struct import_job *job = NULL;
    int rv = start_checks(ctx, options, &q, &url, &err);
    if (rv == 0 && q.kind == IMPORT_COPY) {
        copy_nothing(ctx, options);
        return;
    }
    if (rv == 0) {
        job = import_job_new(ctx->importer, options->id);
        rv = job != NULL ? start_prepare(job, options, &q) : TSR_ENOMEM;
    }
    if (rv == 0 && q.kind == IMPORT_WEB) {
        job->guard = malloc(sizeof(*job->guard));
        rv = job->guard != NULL ? 0 : TSR_ENOMEM;
    }
    if (rv != 0) {
        if (job != NULL) {
            import_job_end(job);
        }
        change_answer(ctx, rv, NULL, &err, options->cb, options->arg);
        return;
    }
    job->cb = options->cb;
    job->cb_arg = options->arg;
    if (q.kind != IMPORT_WEB) {
        import_job_ask(job);
        return;
    }
    import_guard_init(job->guard, ctx->import, ctx->meta);
    (void)str_copy(job->host, sizeof(job->host), url.host);
    job->resolving = true;
    job->resolve = (struct work){.loop = ctx->loop, .run = resolve_run, .done = resolve_done};
    pool_submit(ctx->resolve_pool, &job->resolve);
}

/* --- locations
 * ---------------------------------------------------------------------------------------- */

/* {"url", "validation_data"?: {"os_hash_algo", "os_hash_value"}} */
static int location_parse(const json_t *body, const char **algo, const char **hex, struct err *err)
{
    const json_t *validation = json_object_get(body, "validation_data");
    struct data_check *check = NULL;
    *algo = *hex = NULL;
    if (json_str(body, "url") == NULL || json_str(body, "url")[0] == 0) {
        return err_set(err, TSR_EINVAL, "A location needs a 'url'.");
    }
    if (validation == NULL || json_is_null(validation)) {
        return 0;
    }
    *algo = json_str(validation, "os_hash_algo");
    *hex = json_str(validation, "os_hash_value");
    if (!json_is_object(validation) || *algo == NULL || *hex == NULL) {
        return err_set(err, TSR_EINVAL,
                       "'validation_data' needs 'os_hash_algo' and 'os_hash_value'.");
    }
    int rv = data_check_new(*algo, *hex, &check, err);
    data_check_free(check);
    return rv;
}

void image_location_add(struct image_ctx *ctx, const struct image_import_options *options)
{
    struct image_import_options o = *options;
    struct err err = {0};
    const char *url = json_str(options->body, "url");
    int rv = location_parse(options->body, &o.hash_algo, &o.hash_value, &err);
    json_t *input = NULL, *request = NULL;
    if (rv == 0) {
        input = json_pack("{s:s, s:s, s:O?}", "image_id", o.id, "loc_url", url, "validation_data",
                          json_object_get(options->body, "validation_data"));
        request = json_pack("{s:{s:s, s:s}}", "method", "name", "web-download", "uri", url);
        rv = input != NULL && request != NULL ? 0 : TSR_ENOMEM;
    }
    if (rv != 0) {
        change_answer(ctx, rv, NULL, &err, o.cb, o.arg);
    } else {
        o.location = true;
        bool by_owner = ctx->limits->locations_by_owners &&
                        policy_image(o.caller, ACT_LOCATIONS_ADD, NULL, false, &err) != 0;
        o.location_action = by_owner ? ACT_UPLOAD : ACT_LOCATIONS_ADD; /* a service, or an admin */
        o.body = request;
        o.task_input = input;
        image_import_start(ctx, &o);
    }
    json_decref(request);
    json_decref(input);
}
