/* Where an import's data comes from: staged data, read from the hosts that hold it, or a download
 * into the loop. Both pause while import_data says so. A read that fails is begun anew after a
 * while; a download is not resumed. */
#include <stdlib.h>
#include <string.h>

#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum { REDIRECTS_MAX = 5, READ_ATTEMPTS = 5, READ_AGAIN_MS = 3000 };

static void read_begin(struct import_job *job);

/* --- staged data: read and inspect
 * ------------------------------------------------------------------ */

static void read_retry(struct timer *timer)
{
    read_begin(container_of(timer, struct import_job, timer));
}

/* Hosts come back, or the replicators make a copy elsewhere. */
static void read_failed(struct import_job *job, int status)
{
    struct err err = {0};
    if (job->reader != NULL) {
        replica_reader_close(job->reader);
        job->reader = NULL;
    }
    if (++job->attempts < READ_ATTEMPTS && status != TSR_ECANCELED && !job->rewrite) {
        timer_init(&job->timer, job->ctx->loop, read_retry);
        timer_start(&job->timer, READ_AGAIN_MS);
        return;
    }
    (void)err_set(&err, status, "The staged data could not be read: %s.", err_text(status));
    import_job_fail(job, status, &err);
}

static void read_next(struct import_job *job);

static void read_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct import_job *job = arg;
    if (status != 0) {
        read_failed(job, status);
        return;
    }
    if (piece->size == 0) {
        replica_reader_close(job->reader);
        job->reader = NULL;
        import_data_end(job);
    } else if (import_data_write(job, piece->data, piece->size)) {
        read_next(job);
    } /* else import_source_resume, or the job fails */
}

static void read_next(struct import_job *job)
{
    replica_reader_next(job->reader, read_piece, job);
}

static void read_opened(void *arg, int status, uint64_t size)
{
    struct import_job *job = arg;
    (void)size;
    if (status != 0) {
        read_failed(job, status);
        return;
    }
    read_next(job);
}

static void read_begin(struct import_job *job)
{
    struct err err = {0};
    import_data_stop(job); /* of an attempt before */
    int rv = import_data_open(job, &err);
    if (rv != 0) {
        import_job_fail(job, rv, &err);
        return;
    }
    rv = replica_reader_open(job->ctx->replica, &job->manifest, 0, UINT64_MAX, job->holders.ids,
                             job->holders.count, false, read_opened, job, &job->reader);
    if (rv != 0) {
        job->reader = NULL;
        read_failed(job, rv);
    }
}

/* Who holds the staged data. */
static bool staged_hosts(struct import_job *job, const json_t *image)
{
    const char *hex = json_str(image, "manifest"), *id;
    json_t *state;
    job->holders.count = 0;
    json_object_foreach(json_obj(image, "replicas"), id, state)
    {
        const char *text = json_string_value(state);
        if (text != NULL && strcmp(text, "present") == 0 &&
            job->holders.count < REPLICA_HOSTS_MAX) {
            job->holders.ids[job->holders.count++] = strtoull(id, NULL, 10);
        }
    }
    return hex != NULL && strlen(hex) == 64 && hex_decode(hex, 64, job->manifest.bytes, 32) == 0;
}

/* --- download
 * --------------------------------------------------------------------------------------- */

static bool fetch_data(void *arg, const void *data, size_t size)
{
    struct import_job *job = arg;
    if (job->state != JOB_RUNNING || job->status != 0) {
        return true; /* dropped: the end is near */
    }
    return import_data_write(job, data, size) || job->status != 0;
}

/* A redirect is a URL like the first: its text is judged here, its address when it is connected to.
 */
static void redirect(struct import_job *job, const char *location)
{
    struct err err = {0};
    struct http_client_url parts;
    char *next = NULL;
    if (job->token != NULL) { /* a token goes to nobody else */
        (void)err_set(&err, TSR_EPROTO, "The other region's image service redirects.");
        import_job_fail(job, TSR_EPROTO, &err);
        return;
    }
    if (++job->redirects > REDIRECTS_MAX) {
        (void)err_set(&err, TSR_EINVAL, "The server redirected more than %d times.", REDIRECTS_MAX);
        import_job_fail(job, TSR_EINVAL, &err);
        return;
    }
    int rv = http_client_url_join(job->url, location, &next);
    if (rv == 0) {
        rv = import_rules_url(job->ctx->import, next, &parts, &err);
    }
    if (rv != 0) {
        free(next);
        (void)err_wrap(&err, rv, "redirected");
        import_job_fail(job, rv, &err);
        return;
    }
    free(job->url);
    job->url = next;
    import_source_fetch(job);
}

static void fetch_failed(struct import_job *job, int status, const struct err *why)
{
    struct err err = {0};
    struct http_client_url parts;
    bool known = http_client_url_parse(job->url, &parts) == 0;
    const char *host = known ? parts.host : "the server";
    if (status == TSR_EFORBIDDEN) {
        (void)err_set(&err, status, "The address of %.100s is not allowed for web-download.", host);
    } else {
        (void)err_set(&err, status, "The download from %.80s failed: %.140s", host,
                      why != NULL && why->msg[0] != 0 ? why->msg : err_text(status));
    }
    import_job_fail(job, status, &err);
}

static void fetch_done(void *arg, int status, const struct http_fetch_result *result,
                       const struct err *why)
{
    struct import_job *job = arg;
    struct err err = {0};
    job->fetch = NULL;
    if (job->state != JOB_RUNNING || job->status != 0) {
        import_job_maybe_free(job); /* else the posted task goes on */
        return;
    }
    if (status != 0) {
        fetch_failed(job, status, why);
        return;
    }
    int code = result->status;
    bool moved = code == 301 || code == 302 || code == 303 || code == 307 || code == 308;
    if (moved && result->location[0] != 0) {
        redirect(job, result->location);
    } else if (code == 200) {
        import_data_end(job);
    } else {
        (void)err_set(&err, TSR_EPROTO, "The server answered with status %d.", code);
        import_job_fail(job, TSR_EPROTO, &err);
    }
}

void import_source_fetch(struct import_job *job)
{
    const struct import_rules *rules = job->ctx->import;
    struct http_fetch_options o = {.loop = job->ctx->loop,
                                   .pool = job->ctx->fetch_pool,
                                   .url = job->url,
                                   .ca_file = rules->ca_file,
                                   .address_allowed =
                                       job->kind == IMPORT_REMOTE ? NULL : import_guard_allows,
                                   .address_arg = job->guard,
                                   .header = job->token,
                                   .connect_timeout_ms = rules->connect_ms,
                                   .stall_timeout_ms = rules->idle_ms,
                                   .timeout_ms = rules->total_ms,
                                   .on_data = fetch_data,
                                   .on_done = fetch_done,
                                   .arg = job};
    int rv = http_fetch_start(&o, &job->fetch);
    if (rv != 0) {
        job->fetch = NULL;
        import_job_fail(job, rv, NULL);
    }
}

static int download_open(struct import_job *job, struct err *err)
{
    struct http_client_url parts;
    int rv = 0;
    if (job->ctx->import == NULL || job->ctx->fetch_pool == NULL) {
        return err_set(err, TSR_EUNAVAILABLE, "Downloads are not available on this host.");
    }
    if (job->kind == IMPORT_REMOTE && job->wrong != NULL) {
        return err_set(err, TSR_EINVAL, "%s", job->wrong);
    }
    if (job->kind == IMPORT_REMOTE) {
        return job->token != NULL && job->url != NULL
                   ? 0
                   : err_set(err, TSR_EUNAVAILABLE,
                             "The host that took the request is lost, and with it the user's token "
                             "for the other region. The import can be started again.");
    }
    rv = job->url != NULL ? import_rules_url(job->ctx->import, job->url, &parts, err)
                          : err_set(err, TSR_EINVAL, "The import has no URL.");
    if (rv == 0) {
        job->guard = job->guard != NULL ? job->guard : malloc(sizeof(*job->guard));
        rv = job->guard != NULL ? import_data_open(job, err) : TSR_ENOMEM;
    }
    if (rv == 0) {
        import_guard_init(job->guard, job->ctx->import, job->ctx->meta);
    }
    return rv;
}

int64_t import_source_size(const struct import_job *job)
{
    if (job->kind == IMPORT_REMOTE) {
        return job->remote_size <= INT64_MAX ? (int64_t)job->remote_size : -1;
    }
    if (job->kind == IMPORT_DIRECT) {
        return json_int(job->image, "size", -1);
    }
    return job->fetch != NULL ? http_fetch_size(job->fetch) : -1;
}

/* --- both
 * -------------------------------------------------------------------------------------------- */

void import_source_resume(struct import_job *job)
{
    if (job->fetch != NULL) {
        http_fetch_resume(job->fetch);
    } else if (job->reader != NULL) {
        read_next(job);
    }
}

void import_source_stop(struct import_job *job)
{
    if (job->reader != NULL) {
        replica_reader_close(job->reader);
        job->reader = NULL;
    }
    if (job->fetch != NULL) {
        http_fetch_cancel(job->fetch); /* its on_done follows */
    }
}

void import_source_begin(struct import_job *job, const json_t *image)
{
    struct err err = {0};
    const char *method = json_str_or(json_obj(image, "session"), "method", "");
    (void)str_copy(job->disk_format, sizeof(job->disk_format),
                   json_str_or(image, "disk_format", ""));
    (void)str_copy(job->container_format, sizeof(job->container_format),
                   json_str_or(image, "container_format", ""));
    log_info("image", "import of image=%s task=%s begins method=%s", job->id, job->task,
             job->kind == IMPORT_REMOTE ? "glance-download" : method);
    if (strcmp(method, "web-download") == 0) {
        job->rewrite = true;
    }
    import_data_prepare(job, image);
    if (job->rewrite) {
        int rv = download_open(job, &err);
        if (rv != 0) {
            import_job_fail(job, rv, &err);
        } else if (job->kind == IMPORT_REMOTE) {
            import_remote_begin(job);
        } else {
            import_source_fetch(job);
        }
    } else if (staged_hosts(job, image)) {
        read_begin(job);
    } else {
        import_job_fail(job, TSR_EINTERNAL, NULL);
    }
}
