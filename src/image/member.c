/* Sharing: which projects see an image that belongs to another one (image-api section 2.7). */
#include <string.h>

#include "image/change.h"
#include "image/fields.h"
#include "image/render.h"

static bool is(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool is_shared(const json_t *image)
{
    return is(json_str(image, "visibility"), "shared");
}

/* Sees all entries: the owner (readers too) and administrators. */
static bool sees_all(const struct caller *caller, const json_t *image)
{
    return caller_is_admin(caller) ||
           (caller->project_id[0] != '\0' && is(json_str(image, "owner"), caller->project_id));
}

static int no_member(const char *project, const char *id, struct err *err)
{
    char shown[IMAGE_SHORT];
    return err_set(err, TSR_ENOENT, "%s not found in the member list of the image %.40s.",
                   field_short(project, shown), id);
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

int image_member_get(struct meta_view *view, const struct caller *caller, const char *id,
                     const char *project, json_t **out, struct err *err)
{
    json_t *image = NULL, *member = NULL;
    int rv = image_find(view, caller, id, ACT_MEMBER_GET, &image, err);
    if (rv != 0) {
        return rv;
    }
    bool may = is_shared(image) && field_name_ok(project) &&
               (sees_all(caller, image) || is(project, caller->project_id));
    json_decref(image);
    rv = may ? meta_member_get(view, id, project, &member) : TSR_ENOENT;
    if (rv == TSR_ENOENT) {
        return no_member(project, id, err);
    }
    if (rv == 0) {
        *out = member_render(member);
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(member);
    return rv;
}

/* The entries of @records that the caller sees, rendered into @members. */
static int list_render(const struct caller *caller, const json_t *image, const json_t *records,
                       json_t *members)
{
    size_t i;
    json_t *record;
    bool all = sees_all(caller, image);
    json_array_foreach(records, i, record)
    {
        if (!all && !is(json_str(record, "member_id"), caller->project_id)) {
            continue;
        }
        if (json_array_append_new(members, member_render(record)) != 0) {
            return TSR_ENOMEM;
        }
    }
    return 0;
}

int image_member_list(struct meta_view *view, const struct caller *caller, const char *id,
                      json_t **out, struct err *err)
{
    json_t *image = NULL, *records = NULL, *members = json_array();
    int rv = members != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0) {
        rv = image_find(view, caller, id, ACT_MEMBER_LIST, &image, err);
    }
    if (rv == 0 && !is_shared(image)) {
        rv = err_set(err, TSR_EFORBIDDEN, "Only shared images have members.");
    }
    if (rv == 0) {
        rv = meta_member_list(view, id, &records);
    }
    if (rv == 0) {
        rv = list_render(caller, image, records, members);
    }
    if (rv == 0) {
        *out = json_pack("{s:O, s:s}", "members", members, "schema", "/v2/schemas/members");
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(image);
    json_decref(records);
    json_decref(members);
    return rv;
}

/* --- changing
 * ------------------------------------------------------------------------------------------- */

static int add_check(struct image_ctx *ctx, const struct caller *caller, const char *id,
                     const json_t *body, struct err *err)
{
    json_t *image = NULL;
    if (!json_is_object(body) || !field_name_ok(json_str(body, "member"))) {
        return err_set(err, TSR_EINVAL, "A member is named by a text of 1 to 255 characters.");
    }
    int rv = change_find(ctx, caller, id, ACT_MEMBER_ADD, &image, err);
    if (rv == 0 && !is_shared(image)) {
        rv = err_set(err, TSR_EFORBIDDEN, "Only shared images have members.");
    }
    json_decref(image);
    return rv;
}

void image_member_add(struct image_ctx *ctx, const struct caller *caller, const char *id,
                      const json_t *body, image_cb cb, void *arg)
{
    struct err err = {0};
    int rv = add_check(ctx, caller, id, body, &err);
    if (rv != 0) {
        change_answer(ctx, rv, NULL, &err, cb, arg);
        return;
    }
    change_submit_keyed(ctx, caller,
                        json_pack("{s:s, s:s, s:s, s:i}", "op", "member.add", "id", id, "member",
                                  json_str(body, "member"), "quota", ctx->limits->member_quota),
                        RESULT_MEMBER, cb, arg);
}

static bool status_ok(const char *status)
{
    return is(status, "accepted") || is(status, "pending") || is(status, "rejected");
}

/* Only the project itself decides; to the owner the entry is visible, to others it is not there. */
static int status_check(struct meta_view *view, const struct caller *caller, const char *id,
                        const char *project, struct err *err)
{
    json_t *image = NULL, *member = NULL;
    int rv = image_member_get(view, caller, id, project, &member, err);
    json_decref(member);
    if (rv != 0) {
        return rv;
    }
    rv = image_find(view, caller, id, ACT_MEMBER_STATUS, &image, err);
    json_decref(image);
    return rv;
}

void image_member_status(struct image_ctx *ctx, const struct caller *caller, const char *id,
                         const char *project, const json_t *body, image_cb cb, void *arg)
{
    struct err err = {0};
    struct meta_view *view = NULL;
    const char *status = json_str(body, "status");
    int rv = 0;
    if (!json_is_object(body) || !status_ok(status)) {
        rv = err_set(&err, TSR_EINVAL, "Member status must be accepted, pending or rejected.");
    }
    if (rv == 0) {
        rv = meta_view_open(ctx->meta, &view);
    }
    if (rv == 0) {
        rv = status_check(view, caller, id, project, &err);
        meta_view_close(view);
    }
    if (rv != 0) {
        change_answer(ctx, rv, NULL, &err, cb, arg);
        return;
    }
    change_submit_keyed(ctx, caller,
                        json_pack("{s:s, s:s, s:s, s:s}", "op", "member.status", "id", id, "member",
                                  project, "status", status),
                        RESULT_MEMBER, cb, arg);
}

static int remove_check(struct meta_view *view, const struct caller *caller, const char *id,
                        const char *project, struct err *err)
{
    json_t *image = NULL, *member = NULL;
    int rv = image_find(view, caller, id, ACT_MEMBER_REMOVE, &image, err);
    json_decref(image);
    if (rv == 0) {
        rv = image_member_get(view, caller, id, project, &member, err);
        json_decref(member);
    }
    return rv;
}

void image_member_remove(struct image_ctx *ctx, const struct caller *caller, const char *id,
                         const char *project, image_cb cb, void *arg)
{
    struct err err = {0};
    struct meta_view *view = NULL;
    int rv = meta_view_open(ctx->meta, &view);
    if (rv == 0) {
        rv = remove_check(view, caller, id, project, &err);
        meta_view_close(view);
    }
    if (rv != 0) {
        change_answer(ctx, rv, NULL, &err, cb, arg);
        return;
    }
    change_submit_keyed(
        ctx, caller,
        json_pack("{s:s, s:s, s:s}", "op", "member.remove", "id", id, "member", project),
        RESULT_NONE, cb, arg);
}
