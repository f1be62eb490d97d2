/* An import from the request to its end.
 *
 *   ASKING ----> RUNNING ----> SEALING ----> FINISHING ----> ENDED
 *     |             |             |              |             ^
 *     `-> refused   `-------------+--------------+-> FAILING --'
 *
 * ASKING: the checks, the URL's name looked up (pool), import.start or import.claim until it is
 * decided. RUNNING: staged data is read and inspected; or a download is inspected and written to
 * the chosen hosts. SEALING (download): the hosts make it durable. FINISHING: import.finish until
 * it is decided. FAILING: import.fail likewise. The commands carry the session, so what comes late
 * changes nothing.
 *
 * Not ours any more (deleted, assigned to another host): seen every two seconds, and by the refusal
 * of a command; the job then ends without a word. The process stops: so too; the import waits for
 * the next runner. A job is freed when nothing of it is in flight (maybe_free). */
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
    REDIRECTS_MAX = 5,
    READ_ATTEMPTS = 5,
    READ_AGAIN_MS = 3000,
    ENOUGH_DEADLINE_MS = 60000,
};

static void job_fail(struct import_job *job, int status, const struct err *err);
static void finish_send(struct import_job *job);
static void fail_send(struct import_job *job);
static void fetch_begin(struct import_job *job);
static void read_begin(struct import_job *job);

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
    job->fail_task.run = on_fail_task;
    timer_init(&job->timer, loop, NULL);
    timer_init(&job->check, loop, on_check);
    list_push(&i->jobs, &job->node);
    return job;
}

static void maybe_free(struct import_job *job)
{
    struct image_importer *i = job->importer;
    if (job->state != JOB_ENDED || job->submitting || job->resolving || job->writer_aborting ||
        job->task_posted || job->fetch != NULL || job->writer != NULL) {
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
    free(job->guard);
    free(job->url);
    free(job);
    if (i->closing && list_empty(&i->jobs) && !i->busy) {
        i->close_cb(i->close_arg);
    }
}

static void writer_aborted(void *arg)
{
    struct import_job *job = arg;
    job->writer_aborting = false;
    maybe_free(job);
}

/* No more bytes move. */
static void stop_moving(struct import_job *job)
{
    timer_stop(&job->timer);
    reservation_end(&job->reservation);
    if (job->reader != NULL) {
        replica_reader_close(job->reader);
        job->reader = NULL;
    }
    if (job->fetch != NULL) {
        http_fetch_cancel(job->fetch); /* its on_done follows */
    }
    if (job->writer != NULL && job->state != JOB_SEALING) {
        struct replica_writer *w = job->writer;
        job->writer = NULL;
        job->writer_aborting = true;
        replica_writer_abort(w, writer_aborted, job);
    }
}

void import_job_end(struct import_job *job)
{
    if (job->state == JOB_ENDED) {
        maybe_free(job);
        return;
    }
    stop_moving(job);
    timer_stop(&job->check);
    job->state = JOB_ENDED;
    maybe_free(job);
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

static void retry_later(struct import_job *job, void (*cb)(struct timer *timer))
{
    timer_stop(&job->timer);
    timer_init(&job->timer, job->ctx->loop, cb);
    timer_start(&job->timer, job->retry_ms);
    job->retry_ms = job->retry_ms * 2 < RETRY_MS_MAX ? job->retry_ms * 2 : RETRY_MS_MAX;
}

static void new_command(struct import_job *job)
{
    loop_random(job->ctx->loop, job->command, sizeof(job->command));
    job->retry_ms = RETRY_MS;
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

static void job_fail(struct import_job *job, int status, const struct err *err)
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
        job_fail(job, job->status, &err);
    } else {
        maybe_free(job);
    }
}

static void fail_later(struct import_job *job, int status, const struct err *err)
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
        maybe_free(job);
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
    job_fail(job, status, err);
}

static json_t *finish_command(struct import_job *job)
{
    if (job->download) {
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

static void finish_begin(struct import_job *job)
{
    job->state = JOB_FINISHING;
    job->sealed_ms = loop_now_ms(job->ctx->loop);
    new_command(job);
    finish_send(job);
}

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
    if (++job->attempts < READ_ATTEMPTS && status != TSR_ECANCELED) {
        timer_init(&job->timer, job->ctx->loop, read_retry);
        timer_start(&job->timer, READ_AGAIN_MS);
        return;
    }
    (void)err_set(&err, status, "The staged data could not be read: %s.", err_text(status));
    job_fail(job, status, &err);
}

static void read_next(struct import_job *job);

static void read_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct import_job *job = arg;
    struct err err = {0};
    if (status != 0) {
        read_failed(job, status);
        return;
    }
    int rv = piece->size > 0 ? inspect_write(job->inspect, piece->data, piece->size, &err)
                             : inspect_finish(job->inspect, job->size, &job->virtual_size, &err);
    if (rv != 0) {
        job_fail(job, rv, &err);
        return;
    }
    if (piece->size > 0) {
        job->size += piece->size;
        read_next(job);
        return;
    }
    replica_reader_close(job->reader);
    job->reader = NULL;
    finish_begin(job);
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
    inspect_free(job->inspect);
    job->size = 0;
    job->inspect = upload_inspect_new(job->ctx, job->disk_format, job->container_format);
    if (job->inspect == NULL) {
        job_fail(job, TSR_ENOMEM, NULL);
        return;
    }
    int rv = replica_reader_open(job->ctx->replica, &job->manifest, 0, UINT64_MAX, job->hosts.ids,
                                 job->hosts.count, false, read_opened, job, &job->reader);
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
    job->hosts.count = 0;
    json_object_foreach(json_obj(image, "replicas"), id, state)
    {
        const char *text = json_string_value(state);
        if (text != NULL && strcmp(text, "present") == 0 && job->hosts.count < REPLICA_HOSTS_MAX) {
            job->hosts.ids[job->hosts.count++] = strtoull(id, NULL, 10);
        }
    }
    return hex != NULL && strlen(hex) == 64 && hex_decode(hex, 64, job->manifest.bytes, 32) == 0;
}

/* --- download
 * --------------------------------------------------------------------------------------- */

/* Go on when the hosts keep up and the project's quota has room. */
static void more(struct import_job *job)
{
    if (job->state == JOB_RUNNING && job->fetch != NULL && !job->writer_full &&
        !job->reservation.waiting) {
        http_fetch_resume(job->fetch);
    }
}

static void writer_drain(void *arg)
{
    struct import_job *job = arg;
    job->writer_full = false;
    more(job);
}

static void room_given(void *arg)
{
    more(arg);
}

static void writer_failed(void *arg, int status, const struct err *err)
{
    fail_later(arg, status, err);
}

static bool fetch_data(void *arg, const void *data, size_t size)
{
    struct import_job *job = arg;
    struct err err = {0};
    if (job->state != JOB_RUNNING || job->status != 0) {
        return true; /* dropped: the end is near */
    }
    job->size += size;
    int rv = 0;
    if (job->size > (uint64_t)job->ctx->limits->image_size_cap) {
        rv = err_set(&err, TSR_ETOOBIG, "The image is larger than the limit of %lld bytes.",
                     (long long)job->ctx->limits->image_size_cap);
    }
    if (rv == 0) {
        rv = inspect_write(job->inspect, data, size, &err);
    }
    if (rv != 0) {
        fail_later(job, rv, &err);
        return true;
    }
    job->writer_full = !replica_writer_write(job->writer, data, size);
    bool room = reservation_need(&job->reservation, job->size);
    return (!job->writer_full && room) || job->status != 0;
}

static void sealed_cb(void *arg, int status, const struct replica_result *result,
                      const struct err *err)
{
    struct import_job *job = arg;
    job->writer = NULL;
    if (job->state != JOB_SEALING) {
        maybe_free(job);
        return;
    }
    if (status != 0) {
        job_fail(job, status, err);
        return;
    }
    job->sealed = *result;
    finish_begin(job);
}

static void download_done(struct import_job *job)
{
    struct err err = {0};
    int rv = inspect_finish(job->inspect, job->size, &job->virtual_size, &err);
    if (rv != 0) {
        job_fail(job, rv, &err);
        return;
    }
    job->state = JOB_SEALING;
    replica_writer_finish(job->writer, sealed_cb, job);
}

/* A redirect is a URL like the first: its text is judged here, its address when it is connected to.
 */
static void redirect(struct import_job *job, const char *location)
{
    struct err err = {0};
    struct http_client_url parts;
    char *next = NULL;
    if (++job->redirects > REDIRECTS_MAX) {
        (void)err_set(&err, TSR_EINVAL, "The server redirected more than %d times.", REDIRECTS_MAX);
        job_fail(job, TSR_EINVAL, &err);
        return;
    }
    int rv = http_client_url_join(job->url, location, &next);
    if (rv == 0) {
        rv = import_rules_url(job->ctx->import, next, &parts, &err);
    }
    if (rv != 0) {
        free(next);
        (void)err_wrap(&err, rv, "redirected");
        job_fail(job, rv, &err);
        return;
    }
    free(job->url);
    job->url = next;
    fetch_begin(job);
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
    job_fail(job, status, &err);
}

static void fetch_done(void *arg, int status, const struct http_fetch_result *result,
                       const struct err *why)
{
    struct import_job *job = arg;
    struct err err = {0};
    job->fetch = NULL;
    if (job->state != JOB_RUNNING || job->status != 0) {
        maybe_free(job); /* else the posted task goes on */
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
        download_done(job);
    } else {
        (void)err_set(&err, TSR_EPROTO, "The server answered with status %d.", code);
        job_fail(job, TSR_EPROTO, &err);
    }
}

static void fetch_begin(struct import_job *job)
{
    const struct import_rules *rules = job->ctx->import;
    struct http_fetch_options o = {.loop = job->ctx->loop,
                                   .pool = job->ctx->fetch_pool,
                                   .url = job->url,
                                   .ca_file = rules->ca_file,
                                   .address_allowed = import_guard_allows,
                                   .address_arg = job->guard,
                                   .connect_timeout_ms = rules->connect_ms,
                                   .stall_timeout_ms = rules->idle_ms,
                                   .timeout_ms = rules->total_ms,
                                   .on_data = fetch_data,
                                   .on_done = fetch_done,
                                   .arg = job};
    int rv = http_fetch_start(&o, &job->fetch);
    if (rv != 0) {
        job->fetch = NULL;
        job_fail(job, rv, NULL);
    }
}

static int download_open(struct import_job *job, struct err *err)
{
    struct http_client_url parts;
    if (job->url == NULL || job->ctx->import == NULL || job->ctx->fetch_pool == NULL) {
        return err_set(err, TSR_EUNAVAILABLE, "web-download is not available on this host.");
    }
    int rv = import_rules_url(job->ctx->import, job->url, &parts, err);
    if (rv == 0) {
        rv = upload_hosts_choose(job->ctx, job->id, -1, &job->hosts, err);
    }
    if (rv == 0) {
        job->inspect = upload_inspect_new(job->ctx, job->disk_format, job->container_format);
        job->guard = job->guard != NULL ? job->guard : malloc(sizeof(*job->guard));
        rv = job->inspect != NULL && job->guard != NULL ? 0 : TSR_ENOMEM;
    }
    if (rv != 0) {
        return rv;
    }
    import_guard_init(job->guard, job->ctx->import, job->ctx->meta);
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

/* --- running
 * ---------------------------------------------------------------------------------------- */

void import_job_run(struct import_job *job, const json_t *image)
{
    struct err err = {0};
    const json_t *session = json_obj(image, "session");
    job->state = JOB_RUNNING;
    job->download = strcmp(json_str_or(session, "method", ""), "web-download") == 0;
    (void)str_copy(job->disk_format, sizeof(job->disk_format),
                   json_str_or(image, "disk_format", ""));
    (void)str_copy(job->container_format, sizeof(job->container_format),
                   json_str_or(image, "container_format", ""));
    timer_start(&job->check, CHECK_MS);
    log_info("image", "import of image=%s task=%s begins method=%s", job->id, job->task,
             json_str_or(session, "method", ""));
    if (job->download) {
        job->reservation = (struct reservation){.id = job->id,
                                                .session = job->session_hex,
                                                .on_room = room_given,
                                                .on_refused = writer_failed,
                                                .arg = job};
        reservation_init(&job->reservation, job->ctx, image, false, -1);
        int rv = download_open(job, &err);
        if (rv != 0) {
            job_fail(job, rv, &err);
            return;
        }
        fetch_begin(job);
    } else if (staged_hosts(job, image)) {
        read_begin(job);
    } else {
        job_fail(job, TSR_EINTERNAL, NULL);
    }
}

/* --- asking
 * ----------------------------------------------------------------------------------------- */

static void answer(struct import_job *job, int status, const struct err *err)
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
        answer(job, status, err);
    }
    if (job->state == JOB_ASKING && again(job, status)) {
        retry_later(job, ask_retry);
        return;
    }
    if (status != 0 || job->state != JOB_ASKING) {
        answer(job, status, err);
        import_job_end(job);
        return;
    }
    json_t *image = json_incref(json_obj(result, "image"));
    answer(job, 0, NULL);
    import_job_run(job, image);
    json_decref(image);
}

void import_job_ask(struct import_job *job)
{
    submit(job, json_incref(job->start), ask_cb);
}

/* A name that has no address now is no reason to refuse: the request is answered as Glance answers
 * it, and the task tells what became of the name (which is looked up again, and judged, then). */
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
        answer(job, rv, &err);
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

static int start_prepare(struct import_job *job, const struct image_import_options *o,
                         const struct import_request *q)
{
    uint8_t random[16];
    loop_random(job->ctx->loop, random, sizeof(random));
    uuid_format(random, job->task);
    json_t *task = task_of(job, o);
    job->url = q->download ? strdup(q->uri) : NULL;
    if (task == NULL || (q->download && job->url == NULL)) {
        json_decref(task);
        return TSR_ENOMEM;
    }
    job->start = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:o}", "op", "import.start", "id",
                           job->id, "session", job->session_hex, "host", (json_int_t)job->ctx->self,
                           "method", q->method, "store", o->store_id, "task", task);
    return job->start != NULL ? 0 : TSR_ENOMEM;
}

/* In the order of the contract: shape, visible, status, formats, store, right, URL. */
static int start_checks(struct image_ctx *ctx, const struct image_import_options *o,
                        struct import_request *q, struct http_client_url *url, struct err *err)
{
    json_t *image = NULL;
    int rv = import_request_parse(ctx->importer != NULL ? ctx->import : NULL, o->body,
                                  o->header_store, o->store_id, q, err);
    if (rv == 0) {
        rv = change_find(ctx, o->caller, o->id, ACT_SHOW, &image, err);
    }
    if (rv == 0) {
        rv = import_request_check(q, image, err);
    }
    json_decref(image);
    if (rv == 0) {
        rv = change_find(ctx, o->caller, o->id, ACT_UPLOAD, NULL, err);
    }
    if (rv == 0 && ctx->importer->closing) {
        rv = err_set(err, TSR_ECANCELED, "%s", err_text(TSR_ECANCELED));
    }
    if (rv == 0 && q->download) {
        rv = import_rules_url(ctx->import, q->uri, url, err);
    }
    return rv;
}

void image_import_start(struct image_ctx *ctx, const struct image_import_options *options)
{
    struct import_request q;
    struct http_client_url url;
    struct err err = {0};
    struct import_job *job = NULL;
    int rv = start_checks(ctx, options, &q, &url, &err);
    if (rv == 0) {
        job = import_job_new(ctx->importer, options->id);
        rv = job != NULL ? start_prepare(job, options, &q) : TSR_ENOMEM;
    }
    if (rv == 0 && q.download) {
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
    if (!q.download) {
        import_job_ask(job);
        return;
    }
    import_guard_init(job->guard, ctx->import, ctx->meta);
    (void)str_copy(job->host, sizeof(job->host), url.host);
    job->resolving = true;
    job->resolve = (struct work){.loop = ctx->loop, .run = resolve_run, .done = resolve_done};
    pool_submit(ctx->resolve_pool, &job->resolve);
}
