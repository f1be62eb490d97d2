/* An import from the request to its end.
 *
 *   ASKING ----> RUNNING ----> SEALING ----> FINISHING ----> ENDED
 *     |             |             |              |             ^
 *     `-> refused   `-------------+--------------+-> FAILING --'
 *
 * ASKING: the checks, the URL's name looked up (import_start.c), import.start or import.claim until
 * it is decided. RUNNING: the data comes (import_source.c) and is judged and written
 * (import_data.c). SEALING: the hosts make it durable. FINISHING: import.finish until it is
 * decided. FAILING: import.fail likewise. The commands carry the session, so what comes late
 * changes nothing.
 *
 * Not ours any more (deleted, assigned to another host): seen every two seconds, and by the refusal
 * of a command; the job then ends without a word. The process stops: so too; the import waits for
 * the next runner. A job is freed when nothing of it is in flight (import_job_maybe_free). */
#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum {
    RETRY_MS = 500,
    RETRY_MS_MAX = 10000,
    CHECK_MS = 2000,
    ENOUGH_DEADLINE_MS = 60000,
};

static void finish_send(struct import_job *job);
static void fail_send(struct import_job *job);

/* --- life
 * ------------------------------------------------------------------------------------------ */

static void on_check(struct timer *timer);
static void on_fail_task(struct task *task);

struct import_job *import_job_new(struct image_importer *i, const char *image_id)
{
    struct import_job *job = calloc(1, sizeof(*job));
    struct loop *loop = i->ctx->loop;
    if (job == NULL) {
        return NULL;
    }
    job->importer = i;
    job->ctx = i->ctx;
    (void)str_copy(job->id, sizeof(job->id), image_id);
    memcpy(job->session, i->ctx->boot, sizeof(i->ctx->boot));
    loop_random(loop, job->session + sizeof(i->ctx->boot), SESSION_ID_SIZE - sizeof(i->ctx->boot));
    hex_encode(job->session, SESSION_ID_SIZE, job->session_hex);
    loop_random(loop, job->command, sizeof(job->command));
    job->retry_ms = RETRY_MS;
    job->virtual_size = -1;
    job->remote_size = UINT64_MAX;
    job->fail_task.run = on_fail_task;
    timer_init(&job->timer, loop, NULL);
    timer_init(&job->check, loop, on_check);
    list_push(&i->jobs, &job->node);
    return job;
}

void import_job_maybe_free(struct import_job *job)
{
    struct image_importer *i = job->importer;
    if (job->state != JOB_ENDED || job->submitting || job->telling || job->resolving ||
        job->writer_aborting || job->task_posted || job->fetch != NULL || job->writer != NULL ||
        job->unpacking || import_convert_busy(job) || signed_data_busy(job->signature)) {
        return;
    }
    if (job->opened) {
        replica_session_end(job->ctx->replica, job->session, job->hosts.ids, job->hosts.count);
    }
    timer_stop(&job->timer);
    timer_stop(&job->check);
    reservation_end(&job->reservation);
    list_remove(&job->node);
    inspect_free(job->inspect);
    json_decref(job->start);
    json_decref(job->image);
    data_check_free(job->check_data);
    signed_data_free(job->signature);
    buf_free(&job->remote);
    buf_free(&job->packed);
    unpack_free(job->unpack);
    import_convert_free(job);
    free(job->unpacked);
    if (job->token != NULL) {
        explicit_bzero(job->token, strlen(job->token));
    }
    free(job->token);
    free(job->guard);
    free(job->url);
    free(job);
    if (i->closing && list_empty(&i->jobs) && !i->busy) {
        i->close_cb(i->close_arg);
    }
}

/* No more bytes move. */
static void stop_moving(struct import_job *job)
{
    timer_stop(&job->timer);
    reservation_end(&job->reservation);
    import_source_stop(job);
    import_data_stop(job);
}

void import_job_end(struct import_job *job)
{
    if (job->state == JOB_ENDED) {
        import_job_maybe_free(job);
        return;
    }
    stop_moving(job);
    timer_stop(&job->check);
    job->state = JOB_ENDED;
    import_job_maybe_free(job);
}

/* Is the import still this job's? What cannot be read now is asked again later. */
static bool still_ours(struct import_job *job)
{
    struct meta_view *view = NULL;
    json_t *image = NULL;
    if (meta_view_open(job->ctx->meta, &view) != 0) {
        return true;
    }
    int rv = meta_image_get(view, job->id, &image);
    meta_view_close(view);
    const char *session = json_str(json_obj(image, "session"), "id");
    bool ours =
        rv == 0 ? session != NULL && strcmp(session, job->session_hex) == 0 : rv != TSR_ENOENT;
    json_decref(image);
    return ours;
}

static void on_check(struct timer *timer)
{
    struct import_job *job = container_of(timer, struct import_job, check);
    if (job->state != JOB_ENDED && job->state != JOB_ASKING && !still_ours(job)) {
        log_info("image", "import of image=%s task=%s is not this host's any more", job->id,
                 job->task);
        import_job_end(job);
        return;
    }
    import_progress_check(job);
    timer_start(&job->check, CHECK_MS);
}

/* --- commands
 * --------------------------------------------------------------------------------------- */

static void submit(struct import_job *job, json_t *command, meta_submit_cb cb)
{
    tsr_assert(command != NULL); /* a small object of valid texts */
    job->submitting = true;
    job->submit =
        (struct meta_submit){.loop = job->ctx->loop, .command = command, .cb = cb, .arg = job};
    memcpy(job->submit.id, job->command, COMMAND_ID_SIZE);
    meta_submit(job->ctx->meta, &job->submit);
}

static void new_command(struct import_job *job)
{
    loop_random(job->ctx->loop, job->command, sizeof(job->command));
    job->retry_ms = RETRY_MS;
}

void import_job_submit(struct import_job *job, json_t *command, meta_submit_cb cb)
{
    new_command(job);
    submit(job, command, cb);
}

static void retry_later(struct import_job *job, void (*cb)(struct timer *timer))
{
    timer_stop(&job->timer);
    timer_init(&job->timer, job->ctx->loop, cb);
    timer_start(&job->timer, job->retry_ms);
    job->retry_ms = job->retry_ms * 2 < RETRY_MS_MAX ? job->retry_ms * 2 : RETRY_MS_MAX;
}

/* Its outcome will come: it is sent again. */
static bool again(const struct import_job *job, int status)
{
    return change_undecided(status) && status != TSR_ECANCELED && !job->importer->closing;
}

/* --- failing
 * ---------------------------------------------------------------------------------------- */

static void fail_retry(struct timer *timer)
{
    fail_send(container_of(timer, struct import_job, timer));
}

static void fail_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct import_job *job = req->arg;
    (void)result;
    (void)err;
    job->submitting = false;
    if (job->state == JOB_FAILING && again(job, status)) {
        retry_later(job, fail_retry);
        return;
    }
    import_job_end(job);
}

static void fail_send(struct import_job *job)
{
    submit(job,
           json_pack("{s:s, s:s, s:s, s:s}", "op", "import.fail", "id", job->id, "session",
                     job->session_hex, "message", job->err.msg),
           fail_cb);
}

void import_job_fail(struct import_job *job, int status, const struct err *err)
{
    if (job->state == JOB_FAILING || job->state == JOB_ENDED) {
        return;
    }
    stop_moving(job);
    job->status = status;
    bool told = err != NULL && err->msg[0] != 0 && utf8_valid(err->msg, strlen(err->msg));
    (void)str_copy(job->err.msg, sizeof(job->err.msg), told ? err->msg : err_text(status));
    log_info("image", "import of image=%s task=%s failed: %s", job->id, job->task, job->err.msg);
    job->state = JOB_FAILING;
    new_command(job);
    fail_send(job);
}

/* From inside a callback of the writer, which must be left first. */
static void on_fail_task(struct task *task)
{
    struct import_job *job = container_of(task, struct import_job, fail_task);
    struct err err = job->err;
    job->task_posted = false;
    if (job->state == JOB_RUNNING) {
        import_job_fail(job, job->status, &err);
    } else {
        import_job_maybe_free(job);
    }
}

void import_job_fail_later(struct import_job *job, int status, const struct err *err)
{
    if (job->state != JOB_RUNNING || job->status != 0) {
        return;
    }
    job->status = status;
    if (err != NULL && err->msg[0] != 0) {
        job->err = *err;
    } else {
        (void)err_set(&job->err, status, "%s", err_text(status));
    }
    job->task_posted = true;
    loop_post(job->ctx->loop, &job->fail_task);
}

/* --- finishing
 * -------------------------------------------------------------------------------------- */

static void finish_retry(struct timer *timer)
{
    finish_send(container_of(timer, struct import_job, timer));
}

static void finish_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct import_job *job = req->arg;
    (void)result;
    job->submitting = false;
    if (job->state != JOB_FINISHING) {
        import_job_maybe_free(job);
        return;
    }
    bool too_few = status == TSR_EUNAVAILABLE && !job->importer->closing &&
                   loop_now_ms(job->ctx->loop) < job->sealed_ms + ENOUGH_DEADLINE_MS;
    if (too_few) { /* a lost host is soon recorded down; that answer is known, so ask anew */
        loop_random(job->ctx->loop, job->command, sizeof(job->command));
    }
    if (too_few || again(job, status)) {
        retry_later(job, finish_retry);
        return;
    }
    if (status == 0) {
        log_info("image", "import of image=%s task=%s is done", job->id, job->task);
    }
    if (status == 0 || status == TSR_EGONE || status == TSR_ENOENT || status == TSR_ECONFLICT ||
        status == TSR_ECANCELED || job->importer->closing) {
        import_job_end(job);
        return;
    }
    import_job_fail(job, status, err);
}

static json_t *finish_command(struct import_job *job)
{
    if (job->rewrite) {
        return upload_seal_command(job->ctx, "import.finish", job->id, job->session_hex,
                                   &job->hosts, &job->sealed, job->virtual_size);
    }
    return json_pack("{s:s, s:s, s:s, s:b, s:o, s:i}", "op", "import.finish", "id", job->id,
                     "session", job->session_hex, "staged", 1, "virtual_size",
                     job->virtual_size >= 0 ? json_integer((json_int_t)job->virtual_size)
                                            : json_null(),
                     "write_replicas", job->ctx->limits->write_replicas);
}

static void finish_send(struct import_job *job)
{
    json_t *command = finish_command(job);
    if (command != NULL) {
        (void)json_set_str(command, "disk_format", job->disk_format);
        (void)json_set_str(command, "container_format", job->container_format);
    }
    submit(job, command, finish_cb);
}

void import_job_finish(struct import_job *job)
{
    job->state = JOB_FINISHING;
    job->sealed_ms = loop_now_ms(job->ctx->loop);
    new_command(job);
    finish_send(job);
}

/* --- asking
 * ----------------------------------------------------------------------------------------- */

void import_job_answer(struct import_job *job, int status, const struct err *err)
{
    image_cb cb = job->cb;
    job->cb = NULL;
    if (cb == NULL) {
        return;
    }
    json_t *result = status == 0 ? json_pack("{s:s}", "task", job->task) : NULL;
    cb(job->cb_arg, status, result, err);
    json_decref(result);
}

static void ask_retry(struct timer *timer)
{
    import_job_ask(container_of(timer, struct import_job, timer));
}

static void ask_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct import_job *job = req->arg;
    job->submitting = false;
    if (status != 0) {
        import_job_answer(job, status, err);
    }
    if (job->state == JOB_ASKING && again(job, status)) {
        retry_later(job, ask_retry);
        return;
    }
    if (status != 0 || job->state != JOB_ASKING) {
        import_job_answer(job, status, err);
        import_job_end(job);
        return;
    }
    json_t *image = json_incref(json_obj(result, "image"));
    const char *task = json_str(json_obj(image, "session"), "task");
    if (task != NULL && strcmp(task, job->task) != 0) { /* of an earlier request under one key */
        (void)str_copy(job->task, sizeof(job->task), task);
        import_job_answer(job, 0, NULL);
        import_job_end(job);
        json_decref(image);
        return;
    }
    import_job_answer(job, 0, NULL);
    job->state = JOB_RUNNING;
    timer_start(&job->check, CHECK_MS);
    import_source_begin(job, image);
    json_decref(image);
}

void import_job_ask(struct import_job *job)
{
    submit(job, json_incref(job->start), ask_cb);
}
