#include "image/change.h"

#include <stdlib.h>
#include <string.h>

#include "image/render.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"

struct change {
    struct meta_submit submit;
    struct task task;
    enum change_result kind;
    image_cb cb;
    void *arg;
    int status;
    json_t *result;
    struct err err;
};

static struct change *change_new(image_cb cb, void *arg)
{
    struct change *c = calloc(1, sizeof(*c));
    tsr_assert(c != NULL);
    c->cb = cb;
    c->arg = arg;
    return c;
}

static void answer(struct task *task)
{
    struct change *c = container_of(task, struct change, task);
    c->cb(c->arg, c->status, c->result, &c->err);
    json_decref(c->result);
    free(c);
}

void change_answer(struct image_ctx *ctx, int status, json_t *result, const struct err *err,
                   image_cb cb, void *arg)
{
    struct change *c = change_new(cb, arg);
    c->status = status;
    c->result = result;
    if (err != NULL) {
        c->err = *err;
    }
    c->task.run = answer;
    loop_post(ctx->loop, &c->task);
}

static json_t *result_of(enum change_result kind, const json_t *result)
{
    switch (kind) {
    case RESULT_IMAGE:
        return image_render(json_obj(result, "image"));
    case RESULT_MEMBER:
        return member_render(json_obj(result, "member"));
    default:
        return NULL;
    }
}

static void submit_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct change *c = req->arg;
    json_t *shown = NULL;
    struct err refusal = *err;
    if (status == 0) {
        shown = result_of(c->kind, result);
        if (shown == NULL && c->kind != RESULT_NONE) {
            status = err_set(&refusal, TSR_ENOMEM, "out of memory");
        }
    }
    c->cb(c->arg, status, shown, &refusal);
    json_decref(shown);
    free(c);
}

void change_submit(struct image_ctx *ctx, json_t *command, const uint8_t *id,
                   enum change_result result, image_cb cb, void *arg)
{
    if (command == NULL) {
        change_answer(ctx, TSR_ENOMEM, NULL, NULL, cb, arg);
        return;
    }
    struct change *c = change_new(cb, arg);
    c->kind = result;
    c->submit =
        (struct meta_submit){.loop = ctx->loop, .command = command, .cb = submit_cb, .arg = c};
    if (id != NULL) {
        memcpy(c->submit.id, id, COMMAND_ID_SIZE);
    }
    meta_submit(ctx->meta, &c->submit);
}

bool change_key(const struct caller *caller, unsigned attempt, json_t *command,
                uint8_t id[COMMAND_ID_SIZE])
{
    if (!caller->keyed || command == NULL || json_set_str(command, "fp", caller->key_fp) != 0) {
        return false;
    }
    image_key_attempt(caller, attempt, id);
    return true;
}

void image_key_attempt(const struct caller *caller, unsigned attempt, uint8_t id[COMMAND_ID_SIZE])
{
    memcpy(id, caller->key_id, COMMAND_ID_SIZE);
    id[COMMAND_ID_SIZE - 1] ^= (uint8_t)attempt;
}

void change_submit_keyed(struct image_ctx *ctx, const struct caller *caller, json_t *command,
                         enum change_result result, image_cb cb, void *arg)
{
    uint8_t id[COMMAND_ID_SIZE];
    bool keyed = change_key(caller, 0, command, id);
    change_submit(ctx, command, keyed ? id : NULL, result, cb, arg);
}

const json_t *image_result_answer(const json_t *result)
{
    const json_t *batch = json_arr(result, "results");
    size_t count = json_array_size(batch);
    return json_obj(count > 0 ? json_array_get(batch, count - 1) : result, "answer");
}

json_t *image_replay(const json_t *result)
{
    const json_t *image = json_obj(result, "image"), *member = json_obj(result, "member");
    return image != NULL ? image_render(image) : member != NULL ? member_render(member) : NULL;
}

bool change_undecided(int status)
{
    switch (status) {
    case TSR_ENOQUORUM:
    case TSR_ETIMEOUT:
    case TSR_EUNKNOWN:
    case TSR_ECANCELED:
    case TSR_ENOTLEADER:
    case TSR_ECONNECT:
    case TSR_EBUSY:
    case TSR_EAGAIN:
    case TSR_ENOMEM:
        return true;
    default:
        return false;
    }
}

int change_find(struct image_ctx *ctx, const struct caller *caller, const char *id,
                enum image_action action, json_t **image_out, struct err *err)
{
    struct meta_view *view = NULL;
    json_t *image = NULL;
    int rv = meta_view_open(ctx->meta, &view);
    if (rv == 0) {
        rv = image_find(view, caller, id, action, &image, err);
        meta_view_close(view);
    }
    if (rv == 0 && image_out != NULL) {
        *image_out = image;
    } else {
        json_decref(image);
    }
    return rv;
}

/* --- finding
 * ------------------------------------------------------------------------------------------ */

/* Membership only matters to a project that does not own the image, while it is shared. */
static int is_member(struct meta_view *view, const struct caller *caller, const json_t *image,
                     bool *out)
{
    const char *owner = json_str(image, "owner");
    *out = false;
    if (caller->project_id[0] == '\0' ||
        strcmp(json_str_or(image, "visibility", ""), "shared") != 0 ||
        (owner != NULL && strcmp(owner, caller->project_id) == 0)) {
        return 0;
    }
    json_t *member = NULL;
    int rv = meta_member_get(view, json_str(image, "id"), caller->project_id, &member);
    json_decref(member);
    *out = rv == 0;
    return rv == TSR_ENOENT ? 0 : rv;
}

static int not_found(const char *id, struct err *err)
{
    return err_set(err, TSR_ENOENT, "No image found with ID %.100s", uuid_valid(id) ? id : "");
}

/* The visibility that @image has for a caller in another domain, where public ends at one's own. */
static json_t *as_seen(struct meta_view *view, const struct caller *caller, json_t *image)
{
    if (!caller->public_in_domain || caller_is_admin(caller) ||
        strcmp(json_str_or(image, "visibility", ""), "public") != 0 ||
        meta_project_in(view, json_str(image, "owner"), caller->project_domain_id)) {
        return json_incref(image);
    }
    json_t *hidden = json_copy(image);
    (void)json_set_str(hidden, "visibility", "private");
    return hidden;
}

int image_find(struct meta_view *view, const struct caller *caller, const char *id,
               enum image_action action, json_t **image_out, struct err *err)
{
    json_t *image = NULL;
    bool member = false;
    if (!uuid_valid(id)) {
        return not_found(id, err); /* clients look names up this way */
    }
    int rv = meta_image_get(view, id, &image);
    if (rv == TSR_ENOENT) {
        return not_found(id, err);
    }
    if (rv == 0) {
        rv = is_member(view, caller, image, &member);
    }
    json_t *seen = rv == 0 ? as_seen(view, caller, image) : NULL;
    if (rv == 0) {
        rv = seen != NULL ? policy_image(caller, action, seen, member, err) : TSR_ENOMEM;
    }
    json_decref(seen);
    if (rv != 0) {
        json_decref(image);
        return rv;
    }
    *image_out = image;
    return 0;
}
