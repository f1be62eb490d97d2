/* Clients' imports of what was staged: asked for on one host, then looked at on any until the task
 * has ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "tessera/image/import.h"

enum { LOOK_US = 150000 };

void client_import_unsure(struct client *c)
{
    struct sim_event dropped = {
        .op = OP_import, .invoked = c->invoked, .returned = UINT64_MAX, .outcome = OUTCOME_DROPPED};
    history_add(c->w, c->image, &dropped);
}

static void import_answered(void *arg, int status, json_t *result, const struct err *err)
{
    struct run *r = arg;
    struct client *c = r->c;
    (void)err;
    if (!run_end(r)) {
        return;
    }
    if (status == 0) {
        (void)snprintf(c->task, sizeof(c->task), "%s", json_str_or(result, "task", "?"));
        client_again(c, LOOK_US);
    } else if (err_may_retry(status)) {
        client_decided(c, OUTCOME_MAYBE);
    } else {
        client_refused(c, status);
    }
}

void client_import(struct run *r)
{
    json_t *body = json_pack("{s:{s:s}}", "method", "name", "glance-direct");
    struct image_import_options options = {
        .caller = sim_caller(),
        .id = client_image(r->c),
        .body = body,
        .store_id = "sim",
        .request_id = "req-sim",
        .task_type = "api_image_import",
        .cb = import_answered,
        .arg = r,
    };
    image_import_start(&r->h->image, &options);
    json_decref(body);
}

static void status_of(struct meta_view *view, const struct client *c, char out[16])
{
    json_t *tasks = NULL, *task;
    size_t i;
    out[0] = '\0';
    if (image_task_list(view, client_image(c), &tasks) != 0) {
        return;
    }
    json_array_foreach(tasks, i, task)
    {
        if (strcmp(json_str_or(task, "id", ""), c->task) == 0) {
            (void)snprintf(out, 16, "%s", json_str_or(task, "status", ""));
        }
    }
    json_decref(tasks);
}

/* The task of an image that was deleted goes with it: then nobody can tell. */
void client_import_look(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    char status[16];
    if (!run_end(r)) {
        return;
    }
    status_of(view, c, status);
    if (strcmp(status, "success") == 0) {
        check_acknowledged(r->h, client_image(c), false);
        client_decided(c, OUTCOME_OK);
    } else if (strcmp(status, "failure") == 0) {
        client_decided(c, OUTCOME_DROPPED);
    } else if (status[0] == '\0') {
        client_decided(c, OUTCOME_MAYBE);
    } else {
        client_again(c, LOOK_US);
    }
}
