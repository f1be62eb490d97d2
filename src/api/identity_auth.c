/* Tokens: POST (log in), GET and HEAD (validate), DELETE (revoke); and what a token may be scoped
 * to. */
#include "api/identity_face.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/str.h"

/* --- the body
 * ------------------------------------------------------------------------------------------ */

static json_t *methods_json(const char *text)
{
    json_t *list = json_array();
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        (void)json_array_append_new(list, json_stringn(text, size));
        text += size + (text[size] == ',');
    }
    return list;
}

static json_t *roles_json(unsigned roles)
{
    json_t *list = json_array();
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        const struct identity_role *role = &identity_role_table[i];
        if ((roles & role->bit) != 0) {
            (void)json_array_append_new(list,
                                        json_pack("{s:s,s:s}", "id", role->id, "name", role->name));
        }
    }
    return list;
}

static json_t *named_json(const char *id, const char *name, const char *domain_id,
                          const char *domain_name)
{
    return json_pack("{s:s,s:s,s:{s:s,s:s}}", "id", id, "name", name, "domain", "id", domain_id,
                     "name", domain_name);
}

static void add_scope(struct meta_view *view, const struct caller *c, json_t *token)
{
    json_t *record = NULL;
    switch (c->scope) {
    case SCOPE_PROJECT:
        (void)json_set_bool(token, "is_domain", false);
        (void)json_object_set_new(token, "project",
                                  named_json(c->project_id, c->project_name, c->project_domain_id,
                                             c->project_domain_name));
        break;
    case SCOPE_DOMAIN:
        (void)meta_dir_get(view, "domain", c->domain_id, &record);
        (void)json_object_set_new(
            token, "domain",
            json_pack("{s:s,s:s}", "id", c->domain_id, "name", json_str_or(record, "name", "")));
        json_decref(record);
        break;
    case SCOPE_SYSTEM:
        (void)json_object_set_new(token, "system", json_pack("{s:b}", "all", 1));
        break;
    case SCOPE_NONE:
        break;
    }
}

static void add_appcred(struct meta_view *view, const struct caller *c, json_t *token)
{
    json_t *record = NULL;
    if (c->appcred_id[0] == '\0' || meta_dir_get(view, "appcred", c->appcred_id, &record) != 0) {
        return;
    }
    json_t *shown =
        json_pack("{s:s,s:s,s:b}", "id", c->appcred_id, "name", json_str_or(record, "name", ""),
                  "restricted", !json_bool(record, "unrestricted", false));
    if (json_arr(record, "access_rules") != NULL) {
        (void)json_object_set(shown, "access_rules", json_object_get(record, "access_rules"));
    }
    (void)json_object_set_new(token, "application_credential", shown);
    json_decref(record);
}

static json_t *token_json(struct api_req *r, struct meta_view *view, const struct caller *c)
{
    char issued[TIME_TEXT], expires[TIME_TEXT];
    time_format_micros(c->issued_us, issued);
    time_format_micros(c->expires_us, expires);
    json_t *user = named_json(c->user_id, c->user_name, c->user_domain_id, c->user_domain_name);
    (void)json_set_str(user, "password_expires_at", NULL);
    json_t *token =
        json_pack("{s:o,s:[s],s:s,s:s,s:o}", "methods", methods_json(c->methods), "audit_ids",
                  c->audit_id, "issued_at", issued, "expires_at", expires, "user", user);
    if (token != NULL && c->scope != SCOPE_NONE) {
        add_scope(view, c, token);
        add_appcred(view, c, token);
        (void)json_object_set_new(token, "roles", roles_json(c->roles));
        if (api_param(r, "nocatalog") == NULL) {
            (void)json_object_set_new(token, "catalog", ident_catalog(r, view));
        }
    }
    return token;
}

/* --- POST: log in
 * ----------------------------------------------------------------------------------------- */

struct login_op {
    struct identity_login req;
    struct api_req *r;
};

static void reply_token(struct api_req *r, const struct caller *c)
{
    char text[512];
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = identity_issue(r->o->identity, view, c, text, sizeof(text));
    json_t *token = rv == 0 ? token_json(r, view, c) : NULL;
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    http_set_header(r->http, "X-Subject-Token", text);
    ident_reply_one(r, 201, "token", token);
}

static void logged_in(struct identity_login *req, int status, const struct err *err)
{
    struct login_op *op = req->arg;
    struct api_req *r = op->r;
    if (!api_release(r)) {
        if (status != 0) {
            api_error(r, status, err);
        } else {
            reply_token(r, &req->caller);
        }
    }
    free(op);
}

void ident_token_create(struct api_req *r)
{
    struct login_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    op->r = r;
    op->req.loop = r->o->loop;
    op->req.body = r->body;
    op->req.cb = logged_in;
    op->req.arg = op;
    api_hold(r);
    identity_login_start(r->o->identity, &op->req);
}

/* --- GET, HEAD, DELETE: a token as the subject
 * ----------------------------------------------------------------- */

/* Who may look at a token or revoke it: its own user, administrators, services. */
static bool may_handle(const struct api_req *r, const struct caller *subject)
{
    return r->caller.local_admin || caller_is_admin(&r->caller) ||
           (r->caller.roles & ROLE_SERVICE) != 0 || ident_self(r, subject->user_id);
}

/* Services ask so about the token of a user whose request takes long, and which may have ended. */
static bool asks_expired(const struct api_req *r)
{
    const char *value = api_param(r, "allow_expired");
    return value != NULL && (strcmp(value, "1") == 0 || str_ieq(value, "true")) &&
           (caller_is_admin(&r->caller) || (r->caller.roles & ROLE_SERVICE) != 0);
}

static int subject_of(struct api_req *r, struct meta_view *view, struct caller *subject)
{
    const char *text = http_header(r->http, "X-Subject-Token");
    int64_t now = loop_wall_us(r->o->loop);
    if (text == NULL || strlen(text) > TOKEN_TEXT_MAX) {
        return TSR_EUNAUTHORIZED;
    }
    int rv = identity_check(r->o->identity, view, text, now, subject);
    return rv == TSR_EUNAUTHORIZED && asks_expired(r)
               ? identity_check_expired(r->o->identity, view, text, now, subject)
               : rv;
}

/* false: replied. */
static bool check_subject(struct api_req *r, struct meta_view *view, const char *action,
                          struct caller *subject)
{
    int rv = subject_of(r, view, subject);
    if (rv == TSR_EUNAUTHORIZED) {
        api_errorf(r, TSR_ENOENT, "Could not find token.");
    } else if (rv != 0) {
        api_error(r, rv, NULL);
    } else if (!may_handle(r, subject)) {
        ident_forbidden(r, action);
        rv = TSR_EFORBIDDEN;
    }
    return rv == 0;
}

void ident_token_get(struct api_req *r)
{
    struct caller subject;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    if (!check_subject(r, view, "identity:validate_token", &subject)) {
        meta_view_close(view);
        return;
    }
    if (subject.ruled && http_header(r->http, "OpenStack-Identity-Access-Rules") == NULL) {
        /* Who does not know of access rules would not enforce them. */
        meta_view_close(view);
        api_errorf(r, TSR_ENOENT, "Could not find token.");
        return;
    }
    json_t *token = token_json(r, view, &subject);
    meta_view_close(view);
    http_set_header(r->http, "X-Subject-Token", http_header(r->http, "X-Subject-Token"));
    ident_reply_one(r, 200, "token", token);
}

void ident_token_delete(struct api_req *r)
{
    struct caller subject;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    bool ok = check_subject(r, view, "identity:revoke_token", &subject);
    meta_view_close(view);
    if (!ok) {
        return;
    }
    json_t *value = json_pack("{s:s,s:I}", "id", subject.audit_id, "expires_at",
                              (json_int_t)subject.expires_us);
    ident_submit(
        r, &(struct ident_change){
               .command = ident_put("revocation", subject.audit_id, value, "any"), .status = 204});
}

/* --- what the user may ask a scope for
 * --------------------------------------------------------------------------- */

void ident_auth_projects(struct api_req *r)
{
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    json_t *list = ident_projects_of(r, view, r->caller.user_id, true);
    meta_view_close(view);
    ident_reply_list(r, "projects", list);
}

void ident_auth_domains(struct api_req *r)
{
    json_t *all = NULL, *record;
    size_t i;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    json_t *list = json_array();
    int rv = meta_dir_list(view, "domain", "", "", IDENT_LIST_MAX, &all);
    json_array_foreach(all, i, record)
    {
        unsigned roles = 0;
        if (rv == 0 && json_bool(record, "enabled", true)) {
            rv = identity_roles_assigned(view, r->caller.user_id, SCOPE_DOMAIN,
                                         json_str_or(record, "id", ""), &roles);
        }
        if (rv == 0 && roles != 0) {
            (void)json_array_append_new(list, ident_domain_json(r, record));
        }
    }
    json_decref(all);
    meta_view_close(view);
    if (rv != 0) {
        json_decref(list);
        api_error(r, rv, NULL);
        return;
    }
    ident_reply_list(r, "domains", list);
}

void ident_auth_system(struct api_req *r)
{
    unsigned roles = 0;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = identity_roles_assigned(view, r->caller.user_id, SCOPE_SYSTEM, "", &roles);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    ident_reply_list(r, "system", roles != 0 ? json_pack("[{s:b}]", "all", 1) : json_array());
}
