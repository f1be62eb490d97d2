/* Tells an import's task how far it has come, so that any host can say. Now and then only: each
 * time is a command in the log. What is not heard of is told the next time. */
#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"

enum { TELL_CHECKS = 5 }; /* every so many checks: 10 s */

static void tell_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct import_job *job = req->arg;
    (void)result;
    (void)err;
    job->telling = false;
    job->told = status == 0 ? job->told : 0;
    import_job_maybe_free(job);
}

static json_t *command(const struct import_job *job)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I}", "op", "import.progress", "id", job->id, "session",
                     job->session_hex, "bytes", (json_int_t)job->came, "total",
                     (json_int_t)import_source_size(job));
}

/* The first time soon, for whoever has just begun it and looks. */
void import_progress_check(struct import_job *job)
{
    if (job->checks++ % TELL_CHECKS != 0 || job->state != JOB_RUNNING || job->telling ||
        job->came == job->told) {
        return;
    }
    json_t *tell = command(job);
    if (tell == NULL) {
        return;
    }
    job->told = job->came;
    job->telling = true;
    job->tell =
        (struct meta_submit){.loop = job->ctx->loop, .command = tell, .cb = tell_cb, .arg = job};
    loop_random(job->ctx->loop, job->tell.id, COMMAND_ID_SIZE);
    meta_submit(job->ctx->meta, &job->tell);
}
