/* Changes of an image's metadata.
 *
 * A patch is evaluated on the record as this host knows it and sent with that record's version;
 * when somebody else was first, apply refuses (TSR_EVERSION) and it is evaluated again on the new
 * one. */
#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "image/fields.h"
#include "image/patch.h"
#include "image/render.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

enum { PATCH_TRIES = IMAGE_ATTEMPTS };

/* --- patch
 * ----------------------------------------------------------------------------------------- */

struct patch_run {
    struct image_ctx *ctx;
    struct caller caller;
    char id[UUID_TEXT + 1];
    json_t *operations;
    bool v2_0;
    unsigned tries;
    struct meta_submit submit;
    image_cb cb;
    void *arg;
};

static void patch_free(struct patch_run *p)
{
    json_decref(p->operations);
    free(p);
}

static void patch_try(struct patch_run *p, bool within_call);

/* Answers: from within the first call it must come later. Takes @result. */
static void patch_answer(struct patch_run *p, bool within_call, int status, json_t *result,
                         const struct err *err)
{
    image_cb cb = p->cb;
    void *arg = p->arg;
    struct image_ctx *ctx = p->ctx;
    patch_free(p);
    if (within_call) {
        change_answer(ctx, status, result, err, cb, arg);
        return;
    }
    cb(arg, status, result, err);
    json_decref(result);
}

static void patch_submit_cb(struct meta_submit *req, int status, json_t *result,
                            const struct err *err)
{
    struct patch_run *p = req->arg;
    if (status == TSR_EVERSION && p->tries < PATCH_TRIES) {
        patch_try(p, false);
        return;
    }
    json_t *shown = status == 0 ? image_render(json_obj(result, "image")) : NULL;
    if (status == 0 && shown == NULL) {
        status = TSR_ENOMEM;
    }
    patch_answer(p, false, status, shown, err);
}

static void patch_try(struct patch_run *p, bool within_call)
{
    struct err err = {0};
    json_t *record = NULL, *command = NULL, *shown = NULL;
    p->tries++;
    int rv = change_find(p->ctx, &p->caller, p->id, ACT_MODIFY, &record, &err);
    if (rv == 0) {
        rv = patch_evaluate(record, &p->caller, p->operations, p->v2_0, p->ctx->limits, &command,
                            &err);
    }
    if (rv == 0 && command == NULL) {
        shown = image_render(record);
        rv = shown != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(record);
    if (command == NULL) {
        patch_answer(p, within_call, rv, shown, &err);
        return;
    }
    p->submit = (struct meta_submit){
        .loop = p->ctx->loop, .command = command, .cb = patch_submit_cb, .arg = p};
    (void)change_key(&p->caller, p->tries - 1, command, p->submit.id); /* zero: a random one */
    meta_submit(p->ctx->meta, &p->submit);
}

void image_patch(struct image_ctx *ctx, const struct caller *caller, const char *id,
                 const json_t *operations, bool v2_0, image_cb cb, void *arg)
{
    struct patch_run *p = calloc(1, sizeof(*p));
    tsr_assert(p != NULL);
    p->ctx = ctx;
    p->caller = *caller;
    p->operations = json_incref((json_t *)(uintptr_t)operations);
    p->v2_0 = v2_0;
    p->cb = cb;
    p->arg = arg;
    if (!str_copy(p->id, sizeof(p->id), id)) {
        p->id[0] = '\0'; /* longer than any id: not found */
    }
    patch_try(p, true);
}

/* --- one command each
 * --------------------------------------------------------------------------------- */

/* Check the caller's right, then send @command (taken). */
static void checked_submit(struct image_ctx *ctx, const struct caller *caller, const char *id,
                           enum image_action action, json_t *command, image_cb cb, void *arg)
{
    struct err err = {0};
    int rv = change_find(ctx, caller, id, action, NULL, &err);
    if (rv != 0) {
        json_decref(command);
        change_answer(ctx, rv, NULL, &err, cb, arg);
        return;
    }
    change_submit_keyed(ctx, caller, command, RESULT_NONE, cb, arg);
}

void image_delete(struct image_ctx *ctx, const struct caller *caller, const char *id, image_cb cb,
                  void *arg)
{
    checked_submit(ctx, caller, id, ACT_DELETE,
                   json_pack("{s:s, s:s}", "op", "image.delete", "id", id), cb, arg);
}

void image_tag(struct image_ctx *ctx, const struct caller *caller, const char *id, const char *tag,
               bool add, image_cb cb, void *arg)
{
    struct err err = {0};
    int rv = 0;
    if (tag[0] == '\0' || strchr(tag, '/') != NULL) {
        rv = err_set(&err, TSR_ENOENT, "The resource could not be found.");
    } else if (!utf8_valid(tag, strlen(tag)) || !field_name_ok(tag)) {
        rv = err_set(&err, TSR_EINVAL, "A tag has up to %d characters.", IMAGE_NAME_MAX);
    }
    if (rv != 0) {
        change_answer(ctx, rv, NULL, &err, cb, arg);
        return;
    }
    checked_submit(ctx, caller, id, ACT_MODIFY,
                   json_pack("{s:s, s:s, s:s, s:b, s:i}", "op", "image.tag", "id", id, "tag", tag,
                             "add", add, "quota", ctx->limits->tag_quota),
                   cb, arg);
}

void image_set_active(struct image_ctx *ctx, const struct caller *caller, const char *id,
                      bool active, image_cb cb, void *arg)
{
    checked_submit(ctx, caller, id, active ? ACT_REACTIVATE : ACT_DEACTIVATE,
                   json_pack("{s:s, s:s, s:s}", "op", "image.status", "id", id, "to",
                             active ? "active" : "deactivated"),
                   cb, arg);
}
