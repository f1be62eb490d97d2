/* An upload: checks -> image.saving -> bytes to the chosen hosts, inspected on the way -> seal ->
 * image.activate.
 *
 *   CHECKED -> SAVING -> OPEN -> (VERIFYING ->) SEALING -> ACTIVATING -> done
 *      |          |        |          |            |           |
 *      |          `--------+----------+------------+-----------+--> ABORTING -> done
 *      `--> refused: nothing was changed
 *
 * Failures: whatever goes wrong once image.saving was sent ends in image.abort, which takes the
 * image back to `queued`; the client hears of the failure after the first attempt at that, and it
 * is sent again until it is decided, also without a client. Outcomes that are not known: saving and
 * activate are sent again under the same command id, so they happen once. An abort is never sent
 * before the saving it undoes is decided; after an activate of unknown outcome it may be sent, as
 * the log puts the two in order and it changes no active image. The client leaves: before the
 * body's end the upload is aborted; after it the upload goes on to its end, there is only nobody to
 * tell. Reservations on the hosts end when the session is decided, never before. */
#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "image/reserve.h"
#include "image/signed_data.h"
#include "image/upload_hosts.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/log.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"

enum {
    ACTIVATE_DEADLINE_MS = 60000,
    ENOUGH_DEADLINE_MS = 15000,
    RETRY_MS = 500,
    RETRY_MS_MAX = 10000
};

enum upload_state {
    UP_CHECKED,
    UP_SAVING,
    UP_OPEN,
    UP_VERIFYING,
    UP_SEALING,
    UP_ACTIVATING,
    UP_ABORTING
};

struct image_upload {
    struct image_ctx *ctx;
    struct image_upload_options o; /* caller and id are not used after the start */
    enum upload_state state;
    bool silent;   /* nobody to tell any more */
    bool unheard;  /* the client left before it was told */
    bool ready;    /* on_ready said yes */
    bool finished; /* the whole body came: finish_cb is to be told */
    bool writer_aborting, abort_decided;
    char id[UUID_TEXT + 1];
    uint8_t session[SESSION_ID_SIZE];
    char session_hex[2 * SESSION_ID_SIZE + 1];
    int64_t announced; /* bytes that the client said there are; -1: it did not */
    struct reservation reservation;
    bool writer_full;
    struct upload_hosts hosts;
    struct inspect *inspect;
    struct signed_data *signature; /* NULL: not signed */
    struct replica_writer *writer;
    uint64_t size;
    int64_t virtual_size;
    image_cb finish_cb;
    void *finish_arg;
    /* sealed data, for (repeated) activation */
    struct replica_result sealed;
    uint64_t sealed_ms;
    /* the failure that is to be told */
    int status;
    struct err err;
    struct task task;
    struct timer timer;
    uint64_t retry_ms;
    uint8_t command[COMMAND_ID_SIZE];
    bool keyed; /* the activation is the command of the caller's Idempotency-Key, */
    uint8_t key[COMMAND_ID_SIZE];
    unsigned attempt; /* the next one of those that it may have */
    struct meta_submit submit;
};

static void abort_send(struct image_upload *u);
static void saving_send(struct image_upload *u);
static void activate_new(struct image_upload *u);
static void activate_send(struct image_upload *u);

static void upload_free(struct image_upload *u)
{
    tsr_assert(u->writer == NULL);
    reservation_end(&u->reservation);
    inspect_free(u->inspect);
    signed_data_free(u->signature);
    metric_add(METRIC_uploads_active, -1);
    free(u);
}

/* Tell the failure, once, by whichever callback waits for it. */
static void tell(struct image_upload *u)
{
    if (u->silent) {
        return;
    }
    u->silent = true;
    metric_add(METRIC_uploads_failed_total, 1);
    if (u->finished) {
        u->finish_cb(u->finish_arg, u->status, NULL, &u->err);
    } else if (!u->ready) {
        u->o.on_ready(u->o.arg, u->status, NULL, &u->err);
    } else {
        u->o.on_fail(u->o.arg, u->status, &u->err);
    }
}

static void fail_set(struct image_upload *u, int status, const struct err *err)
{
    u->status = status;
    if (err != NULL && err->code != 0) {
        u->err = *err;
    } else {
        (void)err_set(&u->err, status, "%s", err_text(status));
    }
}

static void submit(struct image_upload *u, json_t *command, meta_submit_cb cb)
{
    tsr_assert(command != NULL); /* a small object of valid texts */
    u->submit = (struct meta_submit){.loop = u->ctx->loop, .command = command, .cb = cb, .arg = u};
    memcpy(u->submit.id, u->command, COMMAND_ID_SIZE);
    meta_submit(u->ctx->meta, &u->submit);
}

static void retry_later(struct image_upload *u, void (*cb)(struct timer *timer))
{
    timer_init(&u->timer, u->ctx->loop, cb);
    timer_start(&u->timer, u->retry_ms);
    u->retry_ms = u->retry_ms * 2 < RETRY_MS_MAX ? u->retry_ms * 2 : RETRY_MS_MAX;
}

/* --- aborting
 * --------------------------------------------------------------------------------------- */

static void abort_maybe_done(struct image_upload *u)
{
    if (!u->abort_decided || u->writer_aborting) {
        return;
    }
    replica_session_end(u->ctx->replica, u->session, u->hosts.ids, u->hosts.count);
    upload_free(u);
}

static void writer_aborted(void *arg)
{
    struct image_upload *u = arg;
    u->writer_aborting = false;
    abort_maybe_done(u);
}

static void abort_retry(struct timer *timer)
{
    abort_send(container_of(timer, struct image_upload, timer));
}

static void abort_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct image_upload *u = req->arg;
    (void)result;
    (void)err;
    bool decided = !change_undecided(status) || status == TSR_ECANCELED; /* canceled: we stop */
    tell(u);
    if (!decided) {
        log_warn("image", "upload of image=%s session=%s could not be taken back yet: %s", u->id,
                 u->session_hex, err_text(status));
        retry_later(u, abort_retry);
        return;
    }
    u->abort_decided = true;
    abort_maybe_done(u);
}

/* cut: the client has not sent all, or does not hear how it ended. */
static void abort_send(struct image_upload *u)
{
    json_t *command = json_pack("{s:s, s:s, s:s, s:b}", "op", "image.abort", "id", u->id, "session",
                                u->session_hex, "cut", !u->finished || u->unheard);
    submit(u, command, abort_cb);
}

/* From now on the upload only undoes itself. Never answers inside the call. */
static void upload_fail(struct image_upload *u, int status, const struct err *err)
{
    if (u->state == UP_ABORTING) {
        return;
    }
    u->state = UP_ABORTING;
    reservation_end(&u->reservation);
    fail_set(u, status, err);
    u->retry_ms = RETRY_MS;
    if (u->writer != NULL) {
        struct replica_writer *w = u->writer;
        u->writer = NULL;
        u->writer_aborting = true;
        replica_writer_abort(w, writer_aborted, u);
    }
    loop_random(u->ctx->loop, u->command, sizeof(u->command));
    abort_send(u);
}

/* --- the writer
 * ---------------------------------------------------------------------------------------- */

/* The client may go on when the hosts keep up and the quota has room. */
static void more(struct image_upload *u)
{
    if (u->state == UP_OPEN && !u->silent && !u->writer_full && !u->reservation.waiting &&
        u->o.on_drain != NULL) {
        u->o.on_drain(u->o.arg);
    }
}

static void writer_drain(void *arg)
{
    struct image_upload *u = arg;
    u->writer_full = false;
    more(u);
}

static void room_given(void *arg)
{
    more(arg);
}

/* May come from inside replica_writer_write; the writer must still be ended by us. */
static void fail_task(struct task *task)
{
    struct image_upload *u = container_of(task, struct image_upload, task);
    struct err err = u->err;
    upload_fail(u, u->status, &err);
}

static void writer_failed(void *arg, int status, const struct err *err)
{
    struct image_upload *u = arg;
    if (u->state != UP_OPEN || u->status != 0) {
        return; /* finish or abort tell */
    }
    fail_set(u, status, err);
    u->task.run = fail_task;
    loop_post(u->ctx->loop, &u->task);
}

/* Fail from inside write: the same way, later. */
static bool write_fail(struct image_upload *u, int status, const struct err *err)
{
    writer_failed(u, status, err);
    return false;
}

bool image_upload_write(struct image_upload *u, const void *data, size_t size)
{
    struct err err = {0};
    if (u->state != UP_OPEN || u->status != 0) {
        return false;
    }
    u->size += size;
    if (u->size > (uint64_t)u->ctx->limits->image_size_cap) {
        (void)err_set(&err, TSR_ETOOBIG, "The image is larger than the limit of %lld bytes.",
                      (long long)u->ctx->limits->image_size_cap);
        return write_fail(u, TSR_ETOOBIG, &err);
    }
    if (u->o.size_header >= 0 && u->size > (uint64_t)u->o.size_header) {
        (void)err_set(&err, TSR_EINVAL,
                      "The data is longer than x-openstack-image-size says (%lld bytes).",
                      (long long)u->o.size_header);
        return write_fail(u, TSR_EINVAL, &err);
    }
    int rv = u->inspect != NULL ? inspect_write(u->inspect, data, size, &err) : 0;
    if (rv != 0) {
        return write_fail(u, rv, &err);
    }
    if (u->signature != NULL) {
        signed_data_write(u->signature, data, size);
    }
    u->writer_full = !replica_writer_write(u->writer, data, size);
    bool room = reservation_need(&u->reservation, u->size);
    return !u->writer_full && room && u->status == 0;
}

/* --- starting
 * ----------------------------------------------------------------------------------------- */

static void refuse_task(struct task *task)
{
    struct image_upload *u = container_of(task, struct image_upload, task);
    tell(u);
    upload_free(u);
}

static void opened(struct image_upload *u)
{
    struct replica_writer_options w = {.hosts = u->hosts.ids,
                                       .host_count = u->hosts.count,
                                       .seals_min = u->hosts.seals_min,
                                       .on_drain = writer_drain,
                                       .on_fail = writer_failed,
                                       .arg = u};
    memcpy(w.session, u->session, SESSION_ID_SIZE);
    int rv = replica_writer_open(u->ctx->replica, &w, &u->writer);
    if (rv != 0) {
        u->writer = NULL;
        upload_fail(u, rv, NULL);
        return;
    }
    u->state = UP_OPEN;
    u->ready = true;
    u->o.on_ready(u->o.arg, 0, NULL, NULL);
}

static void saving_retry(struct timer *timer)
{
    saving_send(container_of(timer, struct image_upload, timer));
}

/* Before the body: a refusal changed nothing, an unknown outcome must be known before it is undone.
 */
static void saving_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct image_upload *u = req->arg;
    (void)result;
    if (change_undecided(status) && status != TSR_ECANCELED) {
        fail_set(u, status, err);
        tell(u);
        retry_later(u, saving_retry);
        return;
    }
    if (status != 0) {
        fail_set(u, status, err);
        tell(u);
        upload_free(u);
        return;
    }
    if (u->silent) { /* the client left, or was told that it failed */
        upload_fail(u, TSR_EEOF, NULL);
        return;
    }
    opened(u);
}

static void saving_send(struct image_upload *u)
{
    u->state = UP_SAVING;
    json_t *command = json_pack(
        "{s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:b}", "op", "image.saving", "id", u->id, "session",
        u->session_hex, "host", (json_int_t)u->ctx->self, "kind", u->o.stage ? "stage" : "upload",
        "size", (json_int_t)(u->announced > 0 ? u->announced : 0), "length",
        (json_int_t)u->o.content_length, "repeats", u->o.repeats && !u->keyed);
    submit(u, command, saving_cb);
}

static int check_record(const json_t *image, bool stage, struct err *err)
{
    const char *status = json_str_or(image, "status", "");
    bool disk = json_str(image, "disk_format") != NULL;
    bool container = json_str(image, "container_format") != NULL;
    if (!stage && !disk && !container) {
        return err_set(
            err, TSR_EINVAL,
            "Properties disk_format, container_format must be set prior to saving data.");
    }
    if (!stage && (!disk || !container)) {
        return err_set(err, TSR_EINVAL, "Property %s must be set prior to saving data.",
                       disk ? "container_format" : "disk_format");
    }
    if (strcmp(status, "queued") != 0) {
        return err_set(err, TSR_ECONFLICT, "Image status transition from %s to %s is not allowed",
                       status, stage ? "uploading" : "saving");
    }
    return 0;
}

static int check_size(struct image_ctx *ctx, const struct image_upload_options *o, struct err *err)
{
    int64_t cap = ctx->limits->image_size_cap;
    if (o->content_length > cap || o->size_header > cap) {
        return err_set(err, TSR_ETOOBIG, "The image is larger than the limit of %lld bytes.",
                       (long long)cap);
    }
    if (o->content_length >= 0 && o->size_header >= 0 && o->content_length != o->size_header) {
        return err_set(err, TSR_EINVAL,
                       "The body of %lld bytes is not the %lld that x-openstack-image-size says.",
                       (long long)o->content_length, (long long)o->size_header);
    }
    return 0;
}

static int start_checks(struct image_upload *u, struct err *err)
{
    json_t *image = NULL;
    int rv = change_find(u->ctx, u->o.caller, u->o.id, ACT_UPLOAD, &image, err);
    if (rv == 0) {
        rv = check_record(image, u->o.stage, err);
    }
    if (rv == 0) {
        rv = check_size(u->ctx, &u->o, err);
    }
    if (rv == 0) {
        (void)str_copy(u->id, sizeof(u->id), u->o.id); /* a valid id, as it was found */
        u->announced = u->o.content_length >= 0 ? u->o.content_length : u->o.size_header;
        u->reservation = (struct reservation){.id = u->id,
                                              .session = u->session_hex,
                                              .on_room = room_given,
                                              .on_refused = writer_failed,
                                              .arg = u};
        reservation_init(&u->reservation, u->ctx, image, u->o.stage, u->announced);
        rv = upload_hosts_choose(u->ctx, u->id, u->announced, &u->hosts, err);
    }
    if (rv == 0 && !u->o.stage) { /* staged data is inspected by its import */
        u->inspect = upload_inspect_new(u->ctx, json_str(image, "disk_format"),
                                        json_str(image, "container_format"));
        rv = u->inspect != NULL ? signed_data_new(u->ctx, image, &u->signature, err) : TSR_ENOMEM;
    }
    json_decref(image);
    return rv;
}

void image_upload_attempt(const uint8_t key[COMMAND_ID_SIZE], unsigned attempt,
                          uint8_t id[COMMAND_ID_SIZE])
{
    memcpy(id, key, COMMAND_ID_SIZE);
    id[COMMAND_ID_SIZE - 1] ^= (uint8_t)attempt;
}

void image_upload_start(struct image_ctx *ctx, const struct image_upload_options *options,
                        struct image_upload **out)
{
    struct image_upload *u = calloc(1, sizeof(*u));
    struct err err = {0};
    tsr_assert(u != NULL);
    metric_add(METRIC_uploads_active, 1);
    u->ctx = ctx;
    u->o = *options;
    u->retry_ms = RETRY_MS;
    u->virtual_size = -1;
    *out = u;
    int rv = start_checks(u, &err);
    u->keyed = options->caller->keyed;
    u->attempt = options->key_attempt;
    memcpy(u->key, options->caller->key_id, sizeof(u->key));
    u->o.caller = NULL;
    u->o.id = NULL;
    if (rv != 0) {
        fail_set(u, rv, &err);
        u->task.run = refuse_task;
        loop_post(ctx->loop, &u->task);
        return;
    }
    memcpy(u->session, ctx->boot, sizeof(ctx->boot));
    loop_random(ctx->loop, u->session + sizeof(ctx->boot), SESSION_ID_SIZE - sizeof(ctx->boot));
    hex_encode(u->session, SESSION_ID_SIZE, u->session_hex);
    loop_random(ctx->loop, u->command, sizeof(u->command));
    saving_send(u);
}

/* --- finishing
 * ------------------------------------------------------------------------------------------ */

static void activate_retry(struct timer *timer)
{
    activate_send(container_of(timer, struct image_upload, timer));
}

static void activated(struct image_upload *u)
{
    replica_session_end(u->ctx->replica, u->session, u->hosts.ids, u->hosts.count);
    metric_add(METRIC_uploads_total, 1);
    if (!u->silent) {
        u->finish_cb(u->finish_arg, 0, NULL, NULL);
    }
    upload_free(u);
}

static void activate_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct image_upload *u = req->arg;
    (void)result;
    if (status == 0) {
        activated(u);
        return;
    }
    bool undecided = change_undecided(status);
    uint64_t now = loop_now_ms(u->ctx->loop);
    /* Refused, as too few of the hosts that count as up hold a replica: a lost one is soon recorded
     * down. That answer is known, so the next attempt is a command of its own. */
    bool too_few = status == TSR_EUNAVAILABLE && now < u->sealed_ms + ENOUGH_DEADLINE_MS;
    bool again = undecided && status != TSR_ECANCELED && now < u->sealed_ms + ACTIVATE_DEADLINE_MS;
    if (too_few || again) {
        if (too_few) {
            activate_new(u);
        }
        retry_later(u, activate_retry);
        return;
    }
    struct err why = *err;
    if (status == TSR_ENOENT) {
        status = err_set(&why, TSR_EGONE, "Image %s was deleted during the upload.", u->id);
    } else if (status == TSR_ECONFLICT) { /* the leader ended the session: no fault of the client */
        status = err_set(&why, TSR_EUNAVAILABLE,
                         "The upload was given up, as its host was taken for dead. Send it again.");
    }
    upload_fail(u, status, &why);
}

/* Another attempt is another command; under a key that later requests look for. */
static void activate_new(struct image_upload *u)
{
    if (u->keyed && u->attempt < IMAGE_UPLOAD_ATTEMPTS) {
        image_upload_attempt(u->key, u->attempt++, u->command);
    } else {
        u->keyed = false;
        loop_random(u->ctx->loop, u->command, sizeof(u->command));
    }
}

static void activate_send(struct image_upload *u)
{
    json_t *command =
        upload_seal_command(u->ctx, u->o.stage ? "image.stage" : "image.activate", u->id,
                            u->session_hex, &u->hosts, &u->sealed, u->virtual_size);
    u->state = UP_ACTIVATING;
    if (u->keyed) { /* a key is for these bytes */
        (void)json_set_str(command, "fp", u->sealed.sha512);
    }
    submit(u, command, activate_cb);
}

static void sealed_cb(void *arg, int status, const struct replica_result *result,
                      const struct err *err)
{
    struct image_upload *u = arg;
    u->writer = NULL;
    if (status != 0) {
        upload_fail(u, status, err);
        return;
    }
    u->sealed = *result;
    u->sealed_ms = loop_now_ms(u->ctx->loop);
    u->retry_ms = RETRY_MS;
    activate_new(u);
    activate_send(u);
}

static void seal(struct image_upload *u)
{
    u->state = UP_SEALING;
    replica_writer_finish(u->writer, sealed_cb, u);
}

static void verified_cb(void *arg, int status, const struct err *err)
{
    struct image_upload *u = arg;
    if (status != 0) {
        upload_fail(u, status, err);
    } else {
        seal(u);
    }
}

void image_upload_finish(struct image_upload *u, image_cb cb, void *arg)
{
    struct err err = {0};
    u->finished = true;
    u->finish_cb = cb;
    u->finish_arg = arg;
    if (u->state != UP_OPEN || u->status != 0) {
        return; /* it failed before: that is told by @cb */
    }
    int rv = 0;
    if (u->o.size_header >= 0 && u->size != (uint64_t)u->o.size_header) {
        rv = err_set(&err, TSR_EINVAL,
                     "The data is shorter than x-openstack-image-size says (%lld bytes).",
                     (long long)u->o.size_header);
    }
    if (rv == 0 && u->o.rest_only && u->size == 0 && u->announced < 0) {
        rv = err_set(&err, TSR_ECONFLICT,
                     "A host was lost a moment ago, and this client may be sending what is left of "
                     "a body: no data. An empty image wants Content-Length: 0.");
    }
    if (rv == 0 && u->inspect != NULL) {
        rv = inspect_finish(u->inspect, u->size, &u->virtual_size, &err);
    }
    if (rv != 0) {
        upload_fail(u, rv, &err);
        return;
    }
    if (u->signature != NULL) {
        u->state = UP_VERIFYING;
        signed_data_verify(u->signature, verified_cb, u);
        return;
    }
    seal(u);
}

void image_upload_abort(struct image_upload *u)
{
    u->unheard = !u->silent;
    u->silent = true;
    if (u->state == UP_OPEN && u->status == 0) {
        upload_fail(u, TSR_EEOF, NULL);
        metric_add(METRIC_uploads_failed_total, 1);
    }
    /* CHECKED, SAVING: seen when the answer comes. VERIFYING, SEALING, ACTIVATING: goes on.
     * ABORTING: so too.
     */
}

void image_upload_fail(struct image_upload *u, int status, const struct err *err)
{
    if (u->state == UP_OPEN && u->status == 0) {
        upload_fail(u, status, err);
    }
}
