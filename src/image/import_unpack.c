/* Packed data (gzip, xz, zstd) is unpacked on its way, when the operator wants that: steps of at
 * most a MiB in the pool, each stored before the next. The source waits meanwhile. Bombs: what
 * comes out is held against the size limit and the quota as it comes, and against what went in.
 *
 * Signed data is stored as it is: it is what was signed. */
#include <stdlib.h>
#include <string.h>

#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum { STEP_BYTES = 1 << 20 };
#define FREE_BYTES (UINT64_C(64) << 20) /* so much may come out of anything */

int import_unpack_decide(struct import_job *job, struct err *err)
{
    const struct import_rules *rules = job->ctx->import;
    enum unpack_kind kind = unpack_detect(job->packed.data, job->packed.size);
    if (kind == UNPACK_NONE || !rules->decompress || job->signature != NULL ||
        strcmp(job->container_format, "bare") != 0) {
        return 0;
    }
    log_info("image", "import of image=%s task=%s unpacks %s", job->id, job->task,
             unpack_name(kind));
    job->unpacked = malloc(STEP_BYTES);
    int rv = job->unpacked != NULL ? unpack_new(kind, &job->unpack) : TSR_ENOMEM;
    return rv == 0 ? import_data_rewrite(job, err) : rv;
}

static void step_run(struct work *work)
{
    struct import_job *job = container_of(work, struct import_job, unpack_work);
    size_t size = job->packed.size - job->packed_at;
    const void *in = job->packed.size > 0 ? job->packed.data + job->packed_at : "";
    size_t left = size;
    job->unpacked_size = STEP_BYTES;
    job->unpack_status = unpack_step(job->unpack, &in, &left, job->unpacked, &job->unpacked_size);
    job->packed_at += size - left;
    job->unpack_moved = left != size || job->unpacked_size > 0;
}

static bool bomb(const struct import_job *job)
{
    uint64_t size = job->size + job->unpacked_size;
    return size > FREE_BYTES && size / job->ctx->import->decompress_max > job->came;
}

/* The step used nothing and gave nothing: it needs more, or this is the end. */
static void starved(struct import_job *job)
{
    struct err err = {0};
    bool left = job->packed_at < job->packed.size;
    if (!left) {
        buf_clear(&job->packed);
        job->packed_at = 0;
    }
    if (!job->all_came && !left) {
        import_source_resume(job);
    } else if (!left && unpack_ended(job->unpack)) {
        import_data_judge(job);
    } else {
        (void)err_set(&err, TSR_EMEDIA, "The packed data %s.",
                      left ? "is damaged" : "ends in the middle");
        import_job_fail(job, TSR_EMEDIA, &err);
    }
}

static void step_done(struct work *work)
{
    struct import_job *job = container_of(work, struct import_job, unpack_work);
    struct err err = {0};
    job->unpacking = false;
    if (job->state != JOB_RUNNING || job->status != 0) {
        import_job_maybe_free(job);
        return;
    }
    if (job->unpack_status != 0) {
        (void)err_set(&err, TSR_EMEDIA, "The packed data can not be unpacked: %s.",
                      job->unpack_status == TSR_ECORRUPT ? "it is damaged"
                                                         : err_text(job->unpack_status));
        import_job_fail(job, TSR_EMEDIA, &err);
        return;
    }
    if (bomb(job)) {
        (void)err_set(&err, TSR_ETOOBIG,
                      "The packed data unpacks to more than %llu times its size.",
                      (unsigned long long)job->ctx->import->decompress_max);
        import_job_fail(job, TSR_ETOOBIG, &err);
        return;
    }
    if (job->unpacked_size > 0 && !import_data_store(job, job->unpacked, job->unpacked_size)) {
        return; /* until more can be stored */
    }
    if (job->unpack_moved) {
        import_unpack_go(job);
    } else {
        starved(job);
    }
}

void import_unpack_go(struct import_job *job)
{
    if (job->unpacking || !import_data_ready(job)) {
        return;
    }
    job->unpacking = true;
    job->unpack_work = (struct work){.loop = job->ctx->loop, .run = step_run, .done = step_done};
    pool_submit(job->ctx->replica->cpu_pool, &job->unpack_work);
}
