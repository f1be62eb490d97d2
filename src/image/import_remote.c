/* glance-download: what the image service of another region says of the image. Its formats and the
 * properties that a guest depends on become this image's; then its data is downloaded, and must
 * have the size and the hash that it is said to have.
 *
 * The user's own token is shown to the other service, so what he may not see there stays hidden. It
 * is kept in this process only: when the host is lost, so is the token, and the import fails. */
#include <stdlib.h>
#include <string.h>

#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

enum { REMOTE_MAX = 1 << 20 };

static const char *const copied[] = {"hw_", "trait:", "os_distro", "os_secure_boot", "os_type"};

static bool is_copied(const char *name)
{
    for (size_t n = 0; n < array_len(copied); n++) {
        if (str_starts(name, copied[n])) {
            return true;
        }
    }
    return false;
}

static bool remote_data(void *arg, const void *data, size_t size)
{
    struct import_job *job = arg;
    if (job->remote.size + size > REMOTE_MAX || buf_append(&job->remote, data, size) != 0) {
        job->remote_over = true;
        http_fetch_cancel(job->fetch);
    }
    return true;
}

static void refuse(struct import_job *job, const char *why)
{
    struct err err = {0};
    (void)err_set(&err, TSR_EPROTO, "The image of the other region can not be imported: %s.", why);
    import_job_fail(job, TSR_EPROTO, &err);
}

static void updated_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct import_job *job = req->arg;
    struct err why = {0};
    (void)result;
    job->submitting = false;
    if (job->state != JOB_RUNNING) {
        import_job_maybe_free(job);
        return;
    }
    if (status != 0) {
        import_job_fail(job, status, err);
        return;
    }
    size_t size = strlen(job->url) + sizeof("/file");
    char *url = malloc(size);
    int rv = url != NULL ? import_data_open(job, &why) : TSR_ENOMEM;
    if (rv != 0) {
        free(url);
        import_job_fail(job, rv, &why);
        return;
    }
    (void)strcpy(stpcpy(url, job->url), "/file");
    free(job->url);
    job->url = url;
    import_source_fetch(job);
}

/* The properties of @image that come along; NULL: out of memory. */
static json_t *props_of(const json_t *image)
{
    json_t *props = json_object(), *value;
    const char *name;
    json_object_foreach((json_t *)(uintptr_t)image, name, value)
    {
        if (json_is_string(value) && is_copied(name) && json_object_set(props, name, value) != 0) {
            json_decref(props);
            return NULL;
        }
    }
    return props;
}

/* What its data must be. */
static void expect(struct import_job *job, const json_t *image)
{
    const char *algo = json_str(image, "os_hash_algo"), *hex = json_str(image, "os_hash_value");
    if (algo == NULL || hex == NULL) {
        algo = "md5";
        hex = json_str(image, "checksum");
    }
    if (hex != NULL && strlen(hex) < sizeof(job->expect_hex)) {
        (void)str_copy(job->expect_algo, sizeof(job->expect_algo), algo);
        (void)str_copy(job->expect_hex, sizeof(job->expect_hex), hex);
    }
    job->remote_size = (uint64_t)json_int(image, "size", -1);
}

static void take(struct import_job *job, const json_t *image)
{
    const char *disk = json_str(image, "disk_format");
    const char *container = json_str(image, "container_format");
    if (strcmp(json_str_or(image, "status", ""), "active") != 0 || disk == NULL ||
        container == NULL) {
        refuse(job, "it is not active");
        return;
    }
    json_t *props = props_of(image);
    size_t quota = (size_t)job->ctx->limits->property_quota;
    if (job->ctx->limits->property_quota >= 0 && json_object_size(props) > quota) {
        json_decref(props);
        refuse(job, "it has too many properties");
        return;
    }
    expect(job, image);
    (void)str_copy(job->disk_format, sizeof(job->disk_format), disk);
    (void)str_copy(job->container_format, sizeof(job->container_format), container);
    json_t *command = json_pack("{s:s, s:s, s:{s:s, s:s}, s:o, s:[]}", "op", "image.update", "id",
                                job->id, "set", "disk_format", job->disk_format, "container_format",
                                job->container_format, "props_set", props, "props_unset");
    import_job_submit(job, command, updated_cb);
}

static void remote_done(void *arg, int status, const struct http_fetch_result *result,
                        const struct err *why)
{
    struct import_job *job = arg;
    char text[96];
    job->fetch = NULL;
    if (job->state != JOB_RUNNING || job->status != 0) {
        import_job_maybe_free(job);
        return;
    }
    json_t *image = status == 0 && result->status == 200
                        ? json_parse(job->remote.data, job->remote.size)
                        : NULL;
    if (job->remote_over) {
        refuse(job, "its service's answer is too long");
    } else if (status != 0) {
        refuse(job, why->msg[0] != 0 ? why->msg : err_text(status));
    } else if (result->status == 404) {
        refuse(job, "it is not there, or not visible to the user");
    } else if (result->status != 200) {
        (void)snprintf(text, sizeof(text), "its service answers with status %d", result->status);
        refuse(job, text);
    } else if (!json_is_object(image)) {
        refuse(job, "its service's answer is not understood");
    } else {
        take(job, image);
    }
    json_decref(image);
}

void import_remote_begin(struct import_job *job)
{
    const struct import_rules *rules = job->ctx->import;
    struct http_fetch_options o = {.loop = job->ctx->loop,
                                   .pool = job->ctx->fetch_pool,
                                   .url = job->url,
                                   .ca_file = rules->ca_file,
                                   .header = job->token,
                                   .connect_timeout_ms = rules->connect_ms,
                                   .stall_timeout_ms = rules->idle_ms,
                                   .timeout_ms = rules->idle_ms,
                                   .on_data = remote_data,
                                   .on_done = remote_done,
                                   .arg = job};
    int rv = http_fetch_start(&o, &job->fetch);
    if (rv != 0) {
        job->fetch = NULL;
        import_job_fail(job, rv, NULL);
    }
}
