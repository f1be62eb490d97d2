/* Changes and linearizable reads, from any loop.
 *
 * Happy path: the caller's loop makes the text, the control loop hands it to consensus, the outcome
 * comes back there and goes to the caller's loop, which parses it.
 * Failure: what can be found at once (an operation that apply does not know, a command over the
 * size) is answered from the caller's own loop, later, as every answer is. Detach: requests that
 * consensus holds get TSR_ECANCELED when it closes; later ones find no consensus and get the same.
 */
#include <stdlib.h>
#include <string.h>

#include "meta/apply.h"
#include "meta/internal.h"
#include "tessera/base/assert.h"

/* --- back on the caller's loop
 * ------------------------------------------------------------------------ */

static void refusal_text(struct meta_submit *req)
{
    const char *msg = json_str(req->result, "msg");
    if (req->status != 0 && req->err.code == 0) {
        err_set(&req->err, req->status, "%s", msg != NULL ? msg : err_text(req->status));
    }
}

/* Requests with one id share one proposal, and the first of them is applied. Whose fingerprint is
 * another one did not get what it asked for. */
static void fingerprint_check(struct meta_submit *req)
{
    struct meta_view *view = NULL;
    if (!req->has_fp || meta_view_open(req->meta, &view) != 0) {
        return;
    }
    if (result_of_another(view, req->id, req->fp)) {
        req->status = TSR_EUNPROCESSABLE;
        free(req->text);
        req->text = NULL;
    }
    meta_view_close(view);
}

static void submit_answer(struct task *task)
{
    struct meta_submit *req = container_of(task, struct meta_submit, task);
    if (req->text != NULL) { /* now the outcome's text */
        fingerprint_check(req);
    }
    if (req->text != NULL) {
        req->result = json_parse(req->text, strlen(req->text));
        free(req->text);
        req->text = NULL;
    }
    if (!json_is_object(req->result)) {
        json_decref(req->result);
        req->result = json_object();
        tsr_assert(req->result != NULL);
    }
    refusal_text(req);
    json_t *result = req->result;
    struct err err = req->err;
    req->result = NULL;
    req->cb(req, req->status, result, &err); /* may free or reuse the request */
    json_decref(result);
}

static void submit_finish(struct meta_submit *req, int status)
{
    req->status = status;
    req->task.run = submit_answer;
    loop_post(req->loop, &req->task);
}

/* --- on the control loop
 * ------------------------------------------------------------------------------- */

static void submit_done(struct consensus_submit *submit, int status, int code, const char *result,
                        size_t result_size)
{
    struct meta_submit *req = submit->arg;
    free(req->text);
    req->text = NULL;
    if (status == 0 && result != NULL) {
        req->text = strndup(result, result_size);
        if (req->text == NULL) { /* it did happen: say that the answer is not known */
            submit_finish(req, TSR_EUNKNOWN);
            return;
        }
    }
    submit_finish(req, status != 0 ? status : code);
}

static void submit_propose(struct task *task)
{
    struct meta_submit *req = container_of(task, struct meta_submit, task);
    struct consensus *consensus = req->meta->consensus;
    if (consensus == NULL) {
        free(req->text);
        req->text = NULL;
        submit_finish(req, TSR_ECANCELED);
        return;
    }
    req->submit = (struct consensus_submit){.data = req->text,
                                            .size = strlen(req->text),
                                            .timeout_ms = req->timeout_ms,
                                            .cb = submit_done,
                                            .arg = req};
    memcpy(req->submit.id, req->id, COMMAND_ID_SIZE);
    consensus_submit(consensus, &req->submit);
}

/* --- on the caller's loop
 * ------------------------------------------------------------------------------- */

/* What apply could not read must never enter the log: it would stop every host. */
static int submit_encode(struct meta_submit *req, json_t *command)
{
    uint64_t born = atomic_load(&req->meta->applied);
    struct result_record mark;
    result_fingerprint(json_str(command, "fp"), &mark);
    req->has_fp = mark.has_fp;
    memcpy(req->fp, mark.fp, sizeof(req->fp));
    if (!json_is_object(command) || json_set_int(command, "v", META_COMMAND_VERSION) != 0 ||
        json_set_int(command, "born", (int64_t)born) != 0) {
        return err_set(&req->err, TSR_EINVAL, "%s", "A command is a JSON object.");
    }
    if (!apply_knows(command)) {
        return err_set(&req->err, TSR_EINVAL, "Unknown command %s.",
                       json_str_or(command, "op", ""));
    }
    if (atomic_load(&req->meta->no_creates) &&
        strcmp(json_str_or(command, "op", ""), "image.create") == 0) {
        return err_set(&req->err, TSR_EUNAVAILABLE, "%s",
                       "The metadata store is nearly full: no new images until there is room.");
    }
    size_t size;
    req->text = json_text(command, &size);
    if (req->text == NULL) {
        return TSR_ENOMEM;
    }
    if (size > COMMAND_BYTES_MAX) {
        return err_set(&req->err, TSR_ETOOBIG, "A change is limited to %d bytes.",
                       COMMAND_BYTES_MAX);
    }
    return json_can_return(command)
               ? 0
               : err_set(&req->err, TSR_EINVAL, "%s", "The command is nested too deeply.");
}

void meta_refuse_creates(struct meta *m, bool refuse)
{
    atomic_store(&m->no_creates, refuse);
}

void meta_submit(struct meta *m, struct meta_submit *req)
{
    static const uint8_t none[COMMAND_ID_SIZE];
    json_t *command = req->command;
    struct loop *control = atomic_load(&m->control);
    req->command = NULL;
    req->meta = m;
    req->text = NULL;
    req->result = NULL;
    req->err = (struct err){0};
    if (memcmp(req->id, none, sizeof(none)) == 0) {
        loop_random(req->loop, req->id, sizeof(req->id));
    }
    int rc = control == NULL ? TSR_ECANCELED : submit_encode(req, command);
    json_decref(command);
    if (rc != 0) {
        free(req->text);
        req->text = NULL;
        submit_finish(req, rc);
        return;
    }
    req->task.run = submit_propose;
    loop_post(control, &req->task);
}

/* --- barriers
 * ------------------------------------------------------------------------------------------- */

static void barrier_answer(struct task *task)
{
    struct meta_barrier *req = container_of(task, struct meta_barrier, task);
    req->cb(req, req->status);
}

static void barrier_finish(struct meta_barrier *req, int status)
{
    req->status = status;
    req->task.run = barrier_answer;
    loop_post(req->loop, &req->task);
}

static void barrier_done(struct consensus_read *read, int status)
{
    barrier_finish(read->arg, status);
}

static void barrier_ask(struct task *task)
{
    struct meta_barrier *req = container_of(task, struct meta_barrier, task);
    struct consensus *consensus = req->meta->consensus;
    if (consensus == NULL) {
        barrier_finish(req, TSR_ECANCELED);
        return;
    }
    req->read =
        (struct consensus_read){.timeout_ms = req->timeout_ms, .cb = barrier_done, .arg = req};
    consensus_read_index(consensus, &req->read);
}

void meta_barrier(struct meta *m, struct meta_barrier *req)
{
    struct loop *control = atomic_load(&m->control);
    req->meta = m;
    if (control == NULL) {
        barrier_finish(req, TSR_ECANCELED);
        return;
    }
    req->task.run = barrier_ask;
    loop_post(control, &req->task);
}
