/* Users. A user sees itself and its projects and may change its own password; the rest is for
 * administrators. Passwords are hashed before anything is submitted. */
#include "api/identity_face.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PASSWORD_MAX = 4096 };

/* The hash never leaves. */
static json_t *user_json(struct api_req *r, const json_t *record)
{
    static const char *const optional[] = {"default_project_id", "email", "description"};
    const char *id = json_str_or(record, "id", "");
    json_t *options = json_obj(record, "options");
    json_t *user = json_pack("{s:s,s:s,s:s,s:b,s:n,s:o,s:o}", "id", id, "name",
                             json_str_or(record, "name", ""), "domain_id",
                             json_str_or(record, "domain_id", "default"), "enabled",
                             json_bool(record, "enabled", true), "password_expires_at", "options",
                             options != NULL ? json_incref(options) : json_object(), "links",
                             ident_links(r, "users", id));
    for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++) {
        const char *value = json_str(record, optional[i]);
        if (value != NULL) {
            (void)json_set_str(user, optional[i], value);
        }
    }
    return user;
}

/* --- reading
 * ------------------------------------------------------------------------------------------- */

void ident_user_list(struct api_req *r)
{
    struct meta_view *view;
    json_t *records = NULL, *record;
    size_t i;
    if ((!ident_domain_admin(r) && !ident_admin(r, "identity:list_users")) ||
        (view = api_view(r)) == NULL) {
        return;
    }
    int rv = ident_named_records(r, view, "user", &records);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    json_t *list = json_array();
    json_array_foreach(records, i, record)
    {
        if (ident_filter_bool(r, "enabled", json_bool(record, "enabled", true))) {
            (void)json_array_append_new(list, user_json(r, record));
        }
    }
    json_decref(records);
    ident_reply_list(r, "users", list);
}

void ident_user_get(struct api_req *r)
{
    json_t *record = ident_self(r, r->args[0])
                         ? ident_read(r, "user", r->args[0])
                         : ident_read_ruled(r, "identity:get_user", "user", r->args[0]);
    if (record != NULL) {
        json_t *user = user_json(r, record);
        json_decref(record);
        ident_reply_one(r, 200, "user", user);
    }
}

void ident_user_projects(struct api_req *r)
{
    json_t *user = ident_self(r, r->args[0])
                       ? ident_read(r, "user", r->args[0])
                       : ident_read_ruled(r, "identity:list_user_projects", "user", r->args[0]);
    struct meta_view *view = user != NULL ? api_view(r) : NULL;
    json_decref(user);
    if (view != NULL) {
        json_t *list = ident_projects_of(r, view, r->args[0], false);
        meta_view_close(view);
        ident_reply_list(r, "projects", list);
    }
}

void ident_user_groups(struct api_req *r)
{
    if (ident_self(r, r->args[0]) || ident_admin(r, "identity:list_groups_for_user")) {
        ident_reply_list(r, "groups", json_array());
    }
}

/* --- fields
 * -------------------------------------------------------------------------------------------- */

static bool fields_ok(struct api_req *r, const json_t *given)
{
    const json_t *options = json_object_get(given, "options");
    if (!ident_name_field(r, given, IDENTITY_NAME_MAX) ||
        !ident_text_field(r, given, "password", PASSWORD_MAX) ||
        !ident_text_field(r, given, "domain_id", IDENTITY_ID_MAX) ||
        !ident_text_field(r, given, "default_project_id", IDENTITY_ID_MAX) ||
        !ident_text_field(r, given, "email", 1024) ||
        !ident_text_field(r, given, "description", 4096) ||
        !ident_bool_field(r, given, "enabled")) {
        return false;
    }
    if (options != NULL && !json_is_object(options)) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field 'options'.");
        return false;
    }
    return true;
}

/* null takes an optional text away. */
static void copy_fields(const json_t *given, json_t *record)
{
    static const char *const keys[] = {"name",  "enabled",     "default_project_id",
                                       "email", "description", "options"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *value = json_object_get(given, keys[i]);
        if (json_is_null(value) && i >= 2 && i <= 4) {
            (void)json_object_del(record, keys[i]);
        } else if (value != NULL && !json_is_null(value)) {
            (void)json_object_set(record, keys[i], value);
        }
    }
}

static void put_user(struct api_req *r, json_t *record, const char *condition, int status)
{
    char conflict[ERR_MSG_SIZE], missing[ERR_MSG_SIZE];
    const char *id = json_str_or(record, "id", "");
    (void)snprintf(conflict, sizeof(conflict),
                   "Conflict occurred attempting to store user - Duplicate entry found with name "
                   "%.64s at domain ID %.64s.",
                   json_str_or(record, "name", ""), json_str_or(record, "domain_id", ""));
    (void)snprintf(missing, sizeof(missing), "Could not find user: %s.", id);
    struct ident_change change = {
        .status = status,
        .reply = status == 204 ? NULL : json_pack("{s:o}", "user", user_json(r, record)),
        .conflict = conflict,
        .missing = missing};
    change.command = ident_put("user", id, record, condition);
    ident_submit(r, &change);
}

/* --- create
 * ---------------------------------------------------------------------------------------------- */

static void create_with(struct api_req *r, const char *hash)
{
    char id[ID_HEX + 1];
    const json_t *given = json_obj(r->body, "user");
    const char *domain = json_str(given, "domain_id");
    domain = domain != NULL ? domain : ident_default_domain(r);
    if (!ident_rules(r, domain)) {
        ident_forbidden(r, "identity:create_user");
        return;
    }
    json_t *found = ident_read(r, "domain", domain);
    if (found == NULL) {
        return;
    }
    json_decref(found);
    ident_new_id(r, id);
    json_t *record =
        json_pack("{s:s,s:s,s:b,s:{}}", "id", id, "domain_id", domain, "enabled", 1, "options");
    copy_fields(given, record);
    if (hash != NULL) {
        (void)json_set_str(record, "password", hash);
    }
    put_user(r, record, "absent", 201);
}

void ident_user_create(struct api_req *r)
{
    const json_t *given;
    if ((!ident_domain_admin(r) && !ident_admin(r, "identity:create_user")) ||
        (given = ident_body(r, "user")) == NULL || !fields_ok(r, given)) {
        return;
    }
    if (json_str(given, "name") == NULL) {
        api_errorf(r, TSR_EINVAL, "'name' is a required property");
        return;
    }
    const char *password = json_str(given, "password");
    if (password == NULL) {
        create_with(r, NULL);
        return;
    }
    ident_hash(r, password, create_with);
}

/* --- update
 * ------------------------------------------------------------------------------------------------
 */

/* Has the user a role with which it could do more than an administrator of its domain? */
static bool is_mighty(struct api_req *r, const char *user)
{
    char prefix[IDENTITY_ID_MAX + 8];
    json_t *grants = NULL, *grant;
    struct meta_view *view = NULL;
    bool mighty = true; /* when it can not be known */
    size_t i;
    (void)snprintf(prefix, sizeof(prefix), "u:%.64s:", user);
    if (meta_view_open(r->o->meta, &view) == 0) {
        mighty = meta_dir_list(view, "assignment", prefix, "", IDENT_LIST_MAX, &grants) != 0;
        meta_view_close(view);
    }
    json_array_foreach(grants, i, grant)
    {
        const struct identity_role *role = identity_role_find(json_str(grant, "role_id"));
        bool here = strcmp(json_str_or(grant, "domain_id", ""), r->caller.domain_id) == 0;
        mighty = mighty ||
                 (role != NULL && !here && (role->bit == ROLE_ADMIN || role->bit == ROLE_SERVICE));
    }
    json_decref(grants);
    return mighty;
}

/* The user if the caller may change it. An administrator of a domain may not lay hands on users who
 * administer more than that. */
static json_t *read_to_change(struct api_req *r, const char *action)
{
    json_t *record = ident_read_ruled(r, action, "user", r->args[0]);
    if (record != NULL && !ident_rules(r, NULL) && is_mighty(r, r->args[0])) {
        json_decref(record);
        ident_forbidden(r, action);
        return NULL;
    }
    return record;
}

/* Read after the hash was made, so that little time is left for others to change the record. */
static void update_with(struct api_req *r, const char *hash)
{
    const json_t *given = json_obj(r->body, "user");
    json_t *record = read_to_change(r, "identity:update_user");
    if (record == NULL) {
        return;
    }
    const char *domain = json_str(given, "domain_id");
    if (domain != NULL && strcmp(domain, json_str_or(record, "domain_id", "")) != 0) {
        json_decref(record);
        api_errorf(r, TSR_EINVAL, "The domain of a user can not be changed.");
        return;
    }
    bool disabled = json_bool(record, "enabled", true) && !json_bool(given, "enabled", true);
    if (hash != NULL || disabled) {
        (void)json_set_int(record, "valid_from", loop_wall_us(r->o->loop));
    }
    copy_fields(given, record);
    if (hash != NULL) {
        (void)json_set_str(record, "password", hash);
    }
    put_user(r, record, "present", 200);
}

void ident_user_update(struct api_req *r)
{
    json_t *record = read_to_change(r, "identity:update_user");
    const json_t *given = record != NULL ? ident_body(r, "user") : NULL;
    json_decref(record);
    if (given == NULL || !fields_ok(r, given)) {
        return;
    }
    const char *password = json_str(given, "password");
    if (password == NULL) {
        update_with(r, NULL);
        return;
    }
    ident_hash(r, password, update_with);
}

void ident_user_delete(struct api_req *r)
{
    char missing[ERR_MSG_SIZE];
    json_t *record = read_to_change(r, "identity:delete_user");
    if (record == NULL) {
        return;
    }
    json_decref(record);
    (void)snprintf(missing, sizeof(missing), "Could not find user: %.64s.", r->args[0]);
    ident_submit(r, &(struct ident_change){.command = ident_delete("user", r->args[0]),
                                           .status = 204,
                                           .missing = missing});
}

/* --- own password
 * ------------------------------------------------------------------------------------------- The
 * original password is checked by a login like any other, with its limit on failures. */

struct password_op {
    struct identity_login req;
    struct api_req *r;
    json_t *body;
};

static void store_password(struct api_req *r, const char *hash)
{
    json_t *record = ident_read(r, "user", r->args[0]);
    if (record == NULL) {
        return;
    }
    (void)json_set_str(record, "password", hash);
    (void)json_set_int(record, "valid_from", loop_wall_us(r->o->loop));
    put_user(r, record, "present", 204);
}

static void original_checked(struct identity_login *req, int status, const struct err *err)
{
    struct password_op *op = req->arg;
    struct api_req *r = op->r;
    if (!api_release(r)) {
        if (status != 0) {
            api_error(r, status, err);
        } else {
            ident_hash(r, json_str(json_obj(r->body, "user"), "password"), store_password);
        }
    }
    json_decref(op->body);
    free(op);
}

void ident_user_password(struct api_req *r)
{
    const json_t *given;
    if (!ident_self(r, r->args[0])) {
        ident_forbidden(r, "identity:change_password");
        return;
    }
    if ((given = ident_body(r, "user")) == NULL ||
        !ident_text_field(r, given, "password", PASSWORD_MAX)) {
        return;
    }
    const char *original = json_str(given, "original_password");
    if (original == NULL || json_str_or(given, "password", "")[0] == '\0') {
        api_errorf(r, TSR_EINVAL, "'password' and 'original_password' are required properties");
        return;
    }
    struct password_op *op = calloc(1, sizeof(*op));
    json_t *body =
        json_pack("{s:{s:{s:[s],s:{s:{s:s,s:s}}},s:s}}", "auth", "identity", "methods", "password",
                  "password", "user", "id", r->args[0], "password", original, "scope", "unscoped");
    if (op == NULL || body == NULL) {
        free(op);
        json_decref(body);
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    op->r = r;
    op->body = body;
    op->req.loop = r->o->loop;
    op->req.body = body;
    op->req.cb = original_checked;
    op->req.arg = op;
    api_hold(r);
    identity_login_start(r->o->identity, &op->req);
}
