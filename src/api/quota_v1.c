/* /v1/quotas: what projects may store, and what they use. "default" stands for all projects that
 * have no limit of their own. */
#include <stdio.h>
#include <string.h>

#include "api/identity_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/meta/usage.h"

static const char all_projects[] = "default";

/* --- which project
 * ---------------------------------------------------------------------------------- */

/* The id of the quota entry that the path names. */
static int entry_of(struct api_req *r, struct meta_view *view, char out[IDENT_PROJECT_MAX])
{
    if (strcmp(r->args[0], all_projects) == 0) {
        (void)str_copy(out, IDENT_PROJECT_MAX, meta_quota_all);
        return 0;
    }
    return ident_project_named(r, view, r->args[0], out);
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

static json_t *own_limits(const json_t *entry)
{
    json_t *out = json_object();
    for (int i = 0; i < LIMIT_NUMBER; i++) {
        json_t *value = json_object_get(entry, meta_limit_names[i]);
        if (value != NULL) {
            (void)json_object_set(out, meta_limit_names[i], value);
        }
    }
    return out;
}

/* Sizes in bytes. */
static json_t *usage_of(struct meta_view *view, const char *project)
{
    struct meta_usage u = {0};
    (void)meta_usage_get(view, project, &u);
    return json_pack("{s:I, s:I, s:I, s:I}", "size_bytes", (json_int_t)u.size, "stage_bytes",
                     (json_int_t)u.stage, "images", (json_int_t)u.count, "uploading",
                     (json_int_t)u.uploading);
}

static json_t *quota_json(struct meta_view *view, const char *id, const json_t *entry)
{
    bool all = strcmp(id, meta_quota_all) == 0;
    struct meta_quota quota;
    json_t *limits = json_object();
    if (meta_quota_get(view, all ? NULL : id, &quota) != 0) {
        json_decref(limits);
        return NULL;
    }
    for (int i = 0; i < LIMIT_NUMBER; i++) {
        (void)json_set_int(limits, meta_limit_names[i], quota.limit[i]);
    }
    json_t *out = json_pack("{s:s, s:o, s:o}", "project_id", all ? all_projects : id, "own",
                            own_limits(entry), "limits", limits);
    if (!all && out != NULL) {
        (void)json_object_set_new(out, "usage", usage_of(view, id));
    }
    return out;
}

static void quota_list(struct api_req *r)
{
    json_t *entries = NULL, *entry, *list = json_array();
    struct meta_view *view = api_view(r);
    bool all = false;
    size_t i;
    if (view == NULL) {
        json_decref(list);
        return;
    }
    int rv = meta_dir_list(view, "quota", "", "", IDENT_LIST_MAX, &entries);
    json_array_foreach(entries, i, entry)
    {
        const char *id = json_str_or(entry, "id", "");
        all = all || strcmp(id, meta_quota_all) == 0;
        (void)json_array_append_new(list, quota_json(view, id, entry));
    }
    if (!all) {
        (void)json_array_insert_new(list, 0, quota_json(view, meta_quota_all, NULL));
    }
    json_decref(entries);
    meta_view_close(view);
    if (rv != 0) {
        json_decref(list);
        api_error(r, rv, NULL);
        return;
    }
    api_json(r, 200, json_pack("{s:o}", "quotas", list));
}

static void quota_show(struct api_req *r)
{
    char id[IDENT_PROJECT_MAX];
    json_t *entry = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    if (entry_of(r, view, id) == 0) {
        int rv = meta_dir_get(view, "quota", id, &entry);
        if (rv == 0 || rv == TSR_ENOENT) {
            api_json(r, 200, json_pack("{s:o}", "quota", quota_json(view, id, entry)));
        } else {
            api_error(r, rv, NULL);
        }
        json_decref(entry);
    }
    meta_view_close(view);
}

/* --- changing
 * ----------------------------------------------------------------------------------------- */

/* Put the body's limits over those of @entry; null takes one away. */
static bool change_limits(struct api_req *r, json_t *entry)
{
    const json_t *given = json_obj(r->body, "limits");
    const char *name;
    json_t *value;
    if (given == NULL) {
        api_errorf(r, TSR_EINVAL, "The body must be {\"limits\": {NAME: NUMBER, ...}}.");
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)given, name, value)
    {
        if (meta_limit_find(name) < 0) {
            api_errorf(r, TSR_EINVAL, "There is no limit %.64s.", name);
            return false;
        }
        if (json_is_null(value)) {
            (void)json_object_del(entry, name);
        } else if (!json_is_integer(value) || json_integer_value(value) < -1) {
            api_errorf(r, TSR_EINVAL, "%s must be a whole number; -1 is no limit.", name);
            return false;
        } else if (json_object_set(entry, name, value) != 0) {
            api_error(r, TSR_ENOMEM, NULL);
            return false;
        }
    }
    return true;
}

static void quota_set(struct api_req *r)
{
    char id[IDENT_PROJECT_MAX];
    json_t *entry = NULL, *shown = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    bool found = entry_of(r, view, id) == 0;
    if (found) {
        int rv = meta_dir_get(view, "quota", id, &entry);
        entry = rv == 0 ? entry : json_pack("{s:s}", "id", id);
    }
    meta_view_close(view);
    if (!found || !change_limits(r, entry)) {
        json_decref(entry);
        return;
    }
    int64_t version = json_int(entry, "version", 0);
    (void)json_set_int(entry, "version", version + 1);
    shown =
        json_pack("{s:{s:s, s:o}}", "quota", "project_id", r->args[0], "own", own_limits(entry));
    struct ident_change change = {.status = 200, .reply = shown};
    change.command = ident_put("quota", id, entry, "any");
    (void)json_set_int(change.command, "version", version);
    ident_submit(r, &change);
}

static void quota_delete(struct api_req *r)
{
    char id[IDENT_PROJECT_MAX];
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    bool found = entry_of(r, view, id) == 0;
    meta_view_close(view);
    if (found) {
        ident_submit(r, &(struct ident_change){.command = ident_delete("quota", id),
                                               .status = 204,
                                               .missing = "No limits are set there."});
    }
}

const struct api_route api_quota_routes[] = {
    {HTTP_METHOD_GET, "/v1/quotas", quota_list, API_ADMIN | API_READ | API_NO_BODY},
    {HTTP_METHOD_GET, "/v1/quotas/{}", quota_show, API_ADMIN | API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, "/v1/quotas/{}", quota_set, API_ADMIN | API_READ | API_JSON},
    {HTTP_METHOD_DELETE, "/v1/quotas/{}", quota_delete, API_ADMIN | API_READ | API_NO_BODY},
    {0},
};
