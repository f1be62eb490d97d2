/* Runs this loop's imports; on one loop of a host it also looks for imports that wait for the host.
 *
 * Those are: assigned by the leader and not claimed yet (session without id), and left behind by
 * the process before (its boot tag). The first are claimed and run. The second are assigned anew to
 * this same host the first time, so that they are then claimed; the second time they fail. Each
 * step is a command whose epoch or session decides, so an old view of the store does no harm. */
#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum { LOOK_MS = 1000, EPOCHS_MAX = 2 };

int image_importer_new(struct image_ctx *ctx, struct image_importer **out)
{
    struct image_importer *i = calloc(1, sizeof(*i));
    if (i == NULL) {
        return TSR_ENOMEM;
    }
    i->ctx = ctx;
    list_init(&i->jobs);
    timer_init(&i->timer, ctx->loop, NULL);
    ctx->importer = i;
    *out = i;
    return 0;
}

void image_importer_free(struct image_importer *i)
{
    if (i != NULL) {
        i->ctx->importer = NULL;
        free(i);
    }
}

/* --- looking
 * ---------------------------------------------------------------------------------------- */

/* Images in `importing`: few, an index seek. */
static json_t *importing(struct meta_view *view)
{
    const char *const values[] = {"importing"};
    struct meta_filter filter = {
        .field = "status", .compare = CMP_EQ, .values = values, .value_count = 1};
    struct meta_image_query query = {
        .admin = true, .visibility = "all", .filters = &filter, .filter_count = 1, .limit = 1000};
    json_t *all = json_array(), *page = NULL;
    bool more;
    for (int hidden = 0; hidden < 2 && all != NULL; hidden++) {
        query.hidden = hidden == 1;
        if (meta_image_list(view, &query, &page, &more) == 0) {
            (void)json_array_extend(all, page);
            json_decref(page);
        }
    }
    return all;
}

static void step_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct image_importer *i = req->arg;
    (void)result;
    i->busy = false;
    if (status != 0) {
        log_info("image", "an import could not be taken up: %s", err->msg);
    }
    if (i->closing && list_empty(&i->jobs)) {
        i->close_cb(i->close_arg);
    }
}

static void step(struct image_importer *i, json_t *command)
{
    if (command == NULL) {
        return;
    }
    i->busy = true;
    i->submit =
        (struct meta_submit){.loop = i->ctx->loop, .command = command, .cb = step_cb, .arg = i};
    meta_submit(i->ctx->meta, &i->submit);
}

/* Of the process before this one. */
static void left_over(struct image_importer *i, const char *id, const json_t *session)
{
    int64_t epoch = json_int(session, "epoch", 0);
    const char *task = json_str_or(session, "task", "");
    log_info("image", "import of image=%s task=%s was interrupted by a restart", id, task);
    if (epoch < EPOCHS_MAX) {
        step(i, json_pack("{s:s, s:s, s:s, s:I, s:I}", "op", "import.assign", "id", id, "task",
                          task, "host", (json_int_t)i->ctx->self, "epoch", (json_int_t)epoch + 1));
        return;
    }
    step(i, json_pack("{s:s, s:s, s:s, s:I, s:s}", "op", "import.fail", "id", id, "task", task,
                      "epoch", (json_int_t)epoch, "message",
                      "The import was interrupted twice, as the hosts that ran it stopped. "
                      "It can be started again."));
}

static bool asked_already(const struct image_importer *i, const char *id)
{
    list_each(node, &i->jobs)
    {
        const struct import_job *job = container_of(node, struct import_job, node);
        if (job->state != JOB_ENDED && strcmp(job->id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* What the request had asked for, from its task. */
static void claim_input(struct import_job *job, const json_t *input)
{
    const json_t *method = json_obj(json_obj(input, "import_req"), "method");
    const json_t *validation = json_obj(input, "validation_data");
    const char *const uris[] = {json_str(method, "uri"), json_str(input, "import_from"),
                                json_str(input, "loc_url")};
    for (size_t n = 0; n < array_len(uris) && job->url == NULL; n++) {
        job->url = uris[n] != NULL ? strdup(uris[n]) : NULL;
    }
    if (strcmp(json_str_or(method, "name", ""), "glance-download") == 0) {
        job->kind = IMPORT_REMOTE;
    } else {
        job->kind = job->url != NULL ? IMPORT_WEB : IMPORT_DIRECT;
    }
    (void)str_copy(job->expect_algo, sizeof(job->expect_algo),
                   json_str_or(validation, "os_hash_algo", ""));
    (void)str_copy(job->expect_hex, sizeof(job->expect_hex),
                   json_str_or(validation, "os_hash_value", ""));
}

static void claim(struct image_importer *i, struct meta_view *view, const char *id,
                  const json_t *session)
{
    const char *task = json_str_or(session, "task", "");
    json_t *record = NULL;
    struct import_job *job = asked_already(i, id) ? NULL : import_job_new(i, id);
    if (job == NULL) {
        return;
    }
    (void)str_copy(job->task, sizeof(job->task), task);
    if (meta_dir_get(view, "task", task, &record) == 0) {
        claim_input(job, json_obj(record, "input"));
        json_decref(record);
    }
    job->taken_over = true;
    job->start = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "op", "import.claim", "id", id, "task",
                           task, "host", (json_int_t)i->ctx->self, "epoch",
                           (json_int_t)json_int(session, "epoch", 0), "session", job->session_hex);
    if (job->start == NULL) {
        import_job_end(job);
        return;
    }
    log_info("image", "taking over the import of image=%s task=%s", id, task);
    import_job_ask(job);
}

static void look(struct image_importer *i)
{
    char boot[2 * sizeof(i->ctx->boot) + 1];
    struct meta_view *view = NULL;
    json_t *image;
    size_t at;
    if (meta_view_open(i->ctx->meta, &view) != 0) {
        return;
    }
    json_t *images = importing(view);
    hex_encode(i->ctx->boot, sizeof(i->ctx->boot), boot);
    json_array_foreach(images, at, image)
    {
        const char *id = json_str_or(image, "id", "");
        const json_t *session = json_obj(image, "session");
        const char *runner = json_str(session, "id");
        if ((uint64_t)json_int(session, "host", 0) != i->ctx->self ||
            json_str(session, "task") == NULL) {
            continue;
        }
        if (runner == NULL) {
            claim(i, view, id, session);
        } else if (!i->busy && strncmp(runner, boot, strlen(boot)) != 0) {
            left_over(i, id, session);
        }
    }
    json_decref(images);
    meta_view_close(view);
}

static void on_timer(struct timer *timer)
{
    struct image_importer *i = container_of(timer, struct image_importer, timer);
    look(i);
    timer_start(&i->timer, LOOK_MS);
}

void image_importer_watch(struct image_importer *i)
{
    i->watching = true;
    if (i->ctx->convert_dir != NULL) {
        import_convert_sweep(i->ctx->convert_dir);
    }
    timer_init(&i->timer, i->ctx->loop, on_timer);
    timer_start(&i->timer, LOOK_MS);
}

/* --- closing
 * ---------------------------------------------------------------------------------------- */

struct closed {
    struct task task;
    struct image_importer *importer;
};

/* Later, from the loop, when nothing ran in the first place. */
static void closed_run(struct task *task)
{
    struct closed *c = container_of(task, struct closed, task);
    struct image_importer *i = c->importer;
    free(c);
    i->close_cb(i->close_arg);
}

static void nothing(void *arg)
{
    (void)arg;
}

void image_importer_close(struct image_importer *i, void (*cb)(void *arg), void *arg)
{
    timer_stop(&i->timer);
    i->closing = true;
    i->close_cb = nothing; /* not from inside */
    list_each(node, &i->jobs)
    {
        import_job_end(container_of(node, struct import_job, node));
    }
    i->close_cb = cb;
    i->close_arg = arg;
    if (list_empty(&i->jobs) && !i->busy) {
        struct closed *c = malloc(sizeof(*c));
        tsr_assert(c != NULL);
        *c = (struct closed){.task = {.run = closed_run}, .importer = i};
        loop_post(i->ctx->loop, &c->task);
    }
}
