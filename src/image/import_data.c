/* What becomes of an import's data: it is counted, hashed, inspected, and written to the hosts (a
 * download), or only judged (staged data, which is there already). At its end it is what it must
 * be, or the import fails. */
#include <string.h>

#include "image/import_job.h"
#include "tessera/base/assert.h"

bool import_data_ready(const struct import_job *job)
{
    return job->state == JOB_RUNNING && job->status == 0 && !job->writer_full &&
           !job->reservation.waiting && !import_convert_busy(job);
}

/* Go on when the hosts keep up, and the project's quota has room. */
void import_data_more(struct import_job *job)
{
    if (!import_data_ready(job) || job->judged) {
        return;
    }
    if (import_convert_gives(job)) {
        import_convert_go(job);
    } else if (job->unpack != NULL) {
        import_unpack_go(job);
    } else if (job->all_came) {
        import_data_judge(job);
    } else {
        import_source_resume(job);
    }
}

static void writer_drain(void *arg)
{
    struct import_job *job = arg;
    job->writer_full = false;
    import_data_more(job);
}

static void room_given(void *arg)
{
    import_data_more(arg);
}

static void writer_failed(void *arg, int status, const struct err *err)
{
    import_job_fail_later(arg, status, err);
}

static int writer_open(struct import_job *job, struct err *err)
{
    int rv = upload_hosts_choose(job->ctx, job->id, -1, &job->hosts, err);
    if (rv != 0) {
        return rv;
    }
    struct replica_writer_options w = {.hosts = job->hosts.ids,
                                       .host_count = job->hosts.count,
                                       .seals_min = job->hosts.seals_min,
                                       .on_drain = writer_drain,
                                       .on_fail = writer_failed,
                                       .arg = job};
    memcpy(w.session, job->session, SESSION_ID_SIZE);
    rv = replica_writer_open(job->ctx->replica, &w, &job->writer);
    if (rv != 0) {
        job->writer = NULL;
    }
    job->opened = rv == 0;
    return rv;
}

void import_data_prepare(struct import_job *job, const json_t *image)
{
    job->image = json_incref((json_t *)(uintptr_t)image);
}

/* Its size is not known: it is asked for room in the quota as it comes. */
static int write_begin(struct import_job *job, struct err *err)
{
    job->reservation = (struct reservation){.id = job->id,
                                            .session = job->session_hex,
                                            .on_room = room_given,
                                            .on_refused = writer_failed,
                                            .arg = job};
    reservation_init(&job->reservation, job->ctx, job->image, false, -1);
    return writer_open(job, err);
}

int import_data_rewrite(struct import_job *job, struct err *err)
{
    if (job->rewrite) {
        return 0;
    }
    job->rewrite = true;
    return write_begin(job, err);
}

int import_data_begin_again(struct import_job *job, struct err *err)
{
    inspect_free(job->inspect);
    job->size = 0;
    job->judged = false;
    job->inspect = upload_inspect_new(job->ctx, job->disk_format, job->container_format);
    return job->inspect != NULL ? write_begin(job, err) : TSR_ENOMEM;
}

int import_data_open(struct import_job *job, struct err *err)
{
    const char *declared;
    inspect_free(job->inspect);
    job->inspect = NULL;
    data_check_free(job->check_data);
    signed_data_free(job->signature);
    job->check_data = NULL;
    job->came = job->size = 0;
    job->head_seen = job->all_came = job->judged = false;
    buf_clear(&job->packed);
    int rv = signed_data_new(job->ctx, job->image, &job->signature, err);
    if (rv != 0) {
        return rv;
    }
    rv = import_convert_open(job, &declared, err);
    if (rv != 0) {
        return rv;
    }
    job->inspect = upload_inspect_new(job->ctx, declared, job->container_format);
    rv = job->inspect != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0 && job->expect_algo[0] != 0) {
        rv = data_check_new(job->expect_algo, job->expect_hex, &job->check_data, err);
    }
    return rv == 0 && job->rewrite && job->convert == NULL ? write_begin(job, err) : rv;
}

static int too_big(const struct import_job *job, uint64_t size, struct err *err)
{
    int64_t cap = job->ctx->limits->image_size_cap;
    return size <= (uint64_t)cap
               ? 0
               : err_set(err, TSR_ETOOBIG, "The image is larger than the limit of %lld bytes.",
                         (long long)cap);
}

bool import_data_store(struct import_job *job, const void *data, size_t size)
{
    struct err err = {0};
    job->size += size;
    int rv = too_big(job, job->size, &err);
    if (rv == 0) {
        rv = inspect_write(job->inspect, data, size, &err);
    }
    if (rv != 0) {
        import_job_fail_later(job, rv, &err);
        return false;
    }
    if (import_convert_takes(job)) {
        return import_convert_take(job, data, size);
    }
    if (job->writer == NULL) {
        return true;
    }
    job->writer_full = !replica_writer_write(job->writer, data, size);
    bool room = reservation_need(&job->reservation, job->size);
    return !job->writer_full && room;
}

/* The first bytes are there, or all. */
static bool head_look(struct import_job *job)
{
    struct err err = {0};
    job->head_seen = true;
    int rv = import_unpack_decide(job, &err);
    if (rv != 0) {
        import_job_fail_later(job, rv, &err);
        return false;
    }
    if (job->unpack != NULL) {
        import_unpack_go(job);
        return false;
    }
    bool more = job->packed.size == 0 || import_data_store(job, job->packed.data, job->packed.size);
    buf_free(&job->packed);
    return more;
}

bool import_data_write(struct import_job *job, const void *data, size_t size)
{
    struct err err = {0};
    job->came += size;
    int rv = too_big(job, job->came, &err);
    if (job->check_data != NULL) {
        data_check_write(job->check_data, data, size);
    }
    if (job->signature != NULL) {
        signed_data_write(job->signature, data, size);
    }
    if (rv == 0 && (!job->head_seen || job->unpack != NULL)) {
        rv = buf_append(&job->packed, data, size);
    }
    if (rv != 0) {
        import_job_fail_later(job, rv, &err);
        return false;
    }
    if (!job->head_seen) {
        return job->packed.size < UNPACK_HEAD || head_look(job);
    }
    if (job->unpack != NULL) {
        import_unpack_go(job);
        return false;
    }
    return import_data_store(job, data, size);
}

/* The image says that it is in the format that its data was converted to. */
static void renamed_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct import_job *job = req->arg;
    (void)result;
    job->submitting = false;
    if (job->state != JOB_SEALING) {
        import_job_maybe_free(job);
    } else if (status != 0) {
        import_job_fail(job, status, err);
    } else {
        import_job_finish(job);
    }
}

static void sealed_cb(void *arg, int status, const struct replica_result *result,
                      const struct err *err)
{
    struct import_job *job = arg;
    job->writer = NULL;
    if (job->state != JOB_SEALING) {
        import_job_maybe_free(job);
        return;
    }
    if (status != 0) {
        import_job_fail(job, status, err);
        return;
    }
    job->sealed = *result;
    if (job->convert == NULL) {
        import_job_finish(job);
        return;
    }
    /* Only now: a host that takes over before this reads the data as what it is. */
    import_job_submit(job,
                      json_pack("{s:s, s:s, s:{s:s}, s:{}, s:[]}", "op", "image.update", "id",
                                job->id, "set", "disk_format", job->disk_format, "props_set",
                                "props_unset"),
                      renamed_cb);
}

static void seal(struct import_job *job)
{
    if (job->rewrite) {
        job->state = JOB_SEALING;
        replica_writer_finish(job->writer, sealed_cb, job);
    } else {
        import_job_finish(job);
    }
}

static void verified_cb(void *arg, int status, const struct err *err)
{
    struct import_job *job = arg;
    if (job->state != JOB_RUNNING || job->status != 0) {
        import_job_maybe_free(job); /* it fails already, or has ended */
        return;
    }
    if (status != 0) {
        import_job_fail(job, status, err);
    } else {
        seal(job);
    }
}

void import_data_judge(struct import_job *job)
{
    struct err err = {0};
    job->judged = true;
    int rv = inspect_finish(job->inspect, job->size, &job->virtual_size, &err);
    if (rv == 0 && job->remote_size != UINT64_MAX && job->remote_size != job->came) {
        rv = err_set(&err, TSR_EEOF, "The data is not as long as the other region says it is.");
    }
    if (rv == 0 && job->check_data != NULL) {
        rv = data_check_finish(job->check_data, &err);
        data_check_free(job->check_data);
        job->check_data = NULL;
    }
    if (rv != 0) {
        import_job_fail(job, rv, &err);
    } else if (import_convert_takes(job)) {
        import_convert_run(job);
    } else if (job->signature != NULL) {
        signed_data_verify(job->signature, verified_cb, job);
    } else {
        seal(job);
    }
}

void import_data_end(struct import_job *job)
{
    job->all_came = true;
    if (!job->head_seen) {
        (void)head_look(job);
    } else if (job->unpack != NULL) {
        import_unpack_go(job);
    }
    if (job->unpack == NULL) {
        import_data_more(job);
    }
}

static void writer_aborted(void *arg)
{
    struct import_job *job = arg;
    job->writer_aborting = false;
    import_job_maybe_free(job);
}

void import_data_stop(struct import_job *job)
{
    import_convert_stop(job);
    if (job->writer != NULL && job->state != JOB_SEALING) {
        struct replica_writer *w = job->writer;
        job->writer = NULL;
        job->writer_aborting = true;
        replica_writer_abort(w, writer_aborted, job);
    }
}
