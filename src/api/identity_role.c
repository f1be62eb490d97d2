/* Roles (four, fixed), and who has which role where. */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/str.h"

/* --- roles
 * -----------------------------------------------------------------------------------------------
 */

static json_t *role_json(struct api_req *r, const struct identity_role *role)
{
    return json_pack("{s:s,s:s,s:n,s:n,s:{},s:o}", "id", role->id, "name", role->name, "domain_id",
                     "description", "options", "links", ident_links(r, "roles", role->id));
}

void ident_role_list(struct api_req *r)
{
    const char *domain = api_param(r, "domain_id");
    if (!ident_domain_admin(r) && !ident_admin(r, "identity:list_roles")) {
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        /* "domain_id=" asks for roles without a domain: all of ours. */
        if (ident_filter_text(r, "name", identity_role_table[i].name) &&
            (domain == NULL || domain[0] == '\0')) {
            (void)json_array_append_new(list, role_json(r, &identity_role_table[i]));
        }
    }
    ident_reply_list(r, "roles", list);
}

void ident_role_get(struct api_req *r)
{
    if (!ident_domain_admin(r) && !ident_admin(r, "identity:get_role")) {
        return;
    }
    const struct identity_role *role = identity_role_find(r->args[0]);
    if (role == NULL) {
        ident_not_found(r, "role", r->args[0]);
        return;
    }
    ident_reply_one(r, 200, "role", role_json(r, role));
}

/* --- grants: /{projects|domains}/{target}/users/{u}/roles[/{r}], /system/users/{u}/roles[/{r}]
 * ------- */

struct grant {
    enum caller_scope scope;
    const char *target, *user, *role; /* role NULL: all */
};

static struct grant grant_of(const struct api_req *r)
{
    const char *where = r->segments.segment[2];
    if (strcmp(where, "system") == 0) {
        return (struct grant){SCOPE_SYSTEM, "all", r->args[0], r->args[1]};
    }
    return (struct grant){strcmp(where, "projects") == 0 ? SCOPE_PROJECT : SCOPE_DOMAIN, r->args[0],
                          r->args[1], r->args[2]};
}

/* Who administers a domain gives and takes member and reader there: an administrator of a project
 * is one of the whole service. */
static bool grant_ruled(struct api_req *r, const struct grant *g, const json_t *target)
{
    const struct identity_role *role = identity_role_find(g->role);
    const char *domain = g->scope == SCOPE_DOMAIN ? g->target : json_str(target, "domain_id");
    return ident_rules(r, g->scope == SCOPE_SYSTEM ? NULL : domain) &&
           (role == NULL || role->bit == ROLE_MEMBER || role->bit == ROLE_READER ||
            ident_rules(r, NULL));
}

/* Target, user and role exist, and the caller may ask for @action there; else replied. */
static bool grant_known(struct api_req *r, const char *action, const struct grant *g)
{
    if (!ident_domain_admin(r) && !ident_admin(r, action)) {
        return false;
    }
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return false;
    }
    json_t *target = NULL, *user = NULL;
    bool ok = true;
    if (g->scope != SCOPE_SYSTEM) {
        target = ident_get(r, view, g->scope == SCOPE_PROJECT ? "project" : "domain", g->target);
        ok = target != NULL;
    }
    if (ok) {
        user = ident_get(r, view, "user", g->user);
        ok = user != NULL;
    }
    if (ok && g->role != NULL && identity_role_find(g->role) == NULL) {
        ident_not_found(r, "role", g->role);
        ok = false;
    }
    if (ok && !grant_ruled(r, g, target)) {
        ident_forbidden(r, action);
        ok = false;
    }
    meta_view_close(view);
    json_decref(target);
    json_decref(user);
    return ok;
}

void ident_grant_put(struct api_req *r)
{
    char id[ASSIGNMENT_ID_MAX];
    struct grant g = grant_of(r);
    if (!grant_known(r, "identity:create_grant", &g)) {
        return;
    }
    identity_assignment_id(g.user, g.scope, g.target, g.role, id);
    const char *key = g.scope == SCOPE_PROJECT  ? "project_id"
                      : g.scope == SCOPE_DOMAIN ? "domain_id"
                                                : "system";
    json_t *value = json_pack("{s:s,s:s,s:s}", "user_id", g.user, key, g.target, "role_id", g.role);
    ident_submit(r, &(struct ident_change){.command = ident_put("assignment", id, value, "any"),
                                           .status = 204});
}

static void grant_missing(const struct grant *g, char out[ERR_MSG_SIZE])
{
    (void)snprintf(out, ERR_MSG_SIZE,
                   "Could not find role assignment with role: %.40s, user or group: %.40s, "
                   "project, domain, or system: %.40s.",
                   g->role, g->user, g->target);
}

void ident_grant_head(struct api_req *r)
{
    char id[ASSIGNMENT_ID_MAX], missing[ERR_MSG_SIZE];
    struct grant g = grant_of(r);
    struct meta_view *view;
    json_t *record = NULL;
    if (!grant_known(r, "identity:check_grant", &g) || (view = api_view(r)) == NULL) {
        return;
    }
    identity_assignment_id(g.user, g.scope, g.target, g.role, id);
    int rv = meta_dir_get(view, "assignment", id, &record);
    meta_view_close(view);
    json_decref(record);
    if (rv == TSR_ENOENT) {
        grant_missing(&g, missing);
        api_errorf(r, rv, "%s", missing);
    } else if (rv != 0) {
        api_error(r, rv, NULL);
    } else {
        api_empty(r, 204);
    }
}

void ident_grant_delete(struct api_req *r)
{
    char id[ASSIGNMENT_ID_MAX], missing[ERR_MSG_SIZE];
    struct grant g = grant_of(r);
    if (!grant_known(r, "identity:revoke_grant", &g)) {
        return;
    }
    identity_assignment_id(g.user, g.scope, g.target, g.role, id);
    grant_missing(&g, missing);
    ident_submit(r, &(struct ident_change){.command = ident_delete("assignment", id),
                                           .status = 204,
                                           .missing = missing});
}

void ident_grant_list(struct api_req *r)
{
    char id[ASSIGNMENT_ID_MAX];
    struct grant g = grant_of(r);
    struct meta_view *view;
    json_t *grants = NULL, *grant;
    size_t i;
    if (!grant_known(r, "identity:list_grants", &g) || (view = api_view(r)) == NULL) {
        return;
    }
    identity_assignment_id(g.user, g.scope, g.target, NULL, id);
    int rv = meta_dir_list(view, "assignment", id, "", IDENT_LIST_MAX, &grants);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    json_t *list = json_array();
    json_array_foreach(grants, i, grant)
    {
        const struct identity_role *role = identity_role_find(json_str(grant, "role_id"));
        if (role != NULL) {
            (void)json_array_append_new(list, role_json(r, role));
        }
    }
    json_decref(grants);
    ident_reply_list(r, "roles", list);
}

/* --- GET /role_assignments
 * --------------------------------------------------------------------------------- */

static bool is_flag(const struct api_req *r, const char *name)
{
    const char *value = api_param(r, name);
    return value != NULL && !str_ieq(value, "false") && strcmp(value, "0") != 0;
}

/* An administrator of one domain sees who has what on the domain and on its projects. */
static bool scope_ruled(const struct api_req *r, struct meta_view *view, const json_t *grant)
{
    json_t *project = NULL;
    const char *domain = json_str(grant, "domain_id"), *id = json_str(grant, "project_id");
    if (!ident_domain_admin(r)) {
        return true;
    }
    if (id != NULL && meta_dir_get(view, "project", id, &project) == 0) {
        domain = json_str_or(project, "domain_id", "default");
    }
    bool ruled = ident_rules(r, domain);
    json_decref(project);
    return ruled;
}

static bool scope_wanted(const struct api_req *r, const json_t *grant)
{
    const char *system = api_param(r, "scope.system");
    return ident_filter_text(r, "scope.project.id", json_str(grant, "project_id")) &&
           ident_filter_text(r, "scope.domain.id", json_str(grant, "domain_id")) &&
           (system == NULL || json_str(grant, "system") != NULL) &&
           api_param(r, "group.id") == NULL;
}

/* {"id"[, "name", "domain": {"id", "name"}]} */
static json_t *named(struct meta_view *view, const char *kind, const char *id, bool names)
{
    json_t *out = json_pack("{s:s}", "id", id), *record = NULL, *domain = NULL;
    if (!names || meta_dir_get(view, kind, id, &record) != 0) {
        return out;
    }
    (void)json_set_str(out, "name", json_str_or(record, "name", ""));
    const char *domain_id = json_str(record, "domain_id");
    if (domain_id != NULL && meta_dir_get(view, "domain", domain_id, &domain) == 0) {
        (void)json_object_set_new(
            out, "domain",
            json_pack("{s:s,s:s}", "id", domain_id, "name", json_str_or(domain, "name", "")));
    }
    json_decref(domain);
    json_decref(record);
    return out;
}

static json_t *assignment_json(struct api_req *r, struct meta_view *view, const json_t *grant,
                               const struct identity_role *role)
{
    bool names = is_flag(r, "include_names");
    char url[IDENT_URL_MAX], link[IDENT_URL_MAX + 256];
    const char *user = json_str_or(grant, "user_id", ""), *project = json_str(grant, "project_id");
    const char *domain = json_str(grant, "domain_id");
    json_t *scope =
        project != NULL  ? json_pack("{s:o}", "project", named(view, "project", project, names))
        : domain != NULL ? json_pack("{s:o}", "domain", named(view, "domain", domain, names))
                         : json_pack("{s:{s:b}}", "system", "all", 1);
    json_t *role_value = json_pack("{s:s}", "id", role->id);
    if (names) {
        (void)json_set_str(role_value, "name", role->name);
    }
    ident_url(r, url);
    (void)snprintf(link, sizeof(link), "%s/%s%s/users/%.64s/roles/%.64s", url,
                   project != NULL  ? "projects/"
                   : domain != NULL ? "domains/"
                                    : "system",
                   project != NULL  ? project
                   : domain != NULL ? domain
                                    : "",
                   user, role->id);
    return json_pack("{s:o,s:o,s:o,s:{s:s}}", "role", role_value, "user",
                     named(view, "user", user, names), "scope", scope, "links", "assignment", link);
}

/* With "effective", the roles that this one implies too. */
static void add_assignment(struct api_req *r, struct meta_view *view, const json_t *grant,
                           json_t *list)
{
    const struct identity_role *role = identity_role_find(json_str(grant, "role_id"));
    if (role == NULL || !scope_wanted(r, grant)) {
        return;
    }
    unsigned roles = is_flag(r, "effective") ? identity_roles_implied(role->bit) : role->bit;
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        const struct identity_role *each = &identity_role_table[i];
        if ((roles & each->bit) != 0 && ident_filter_text(r, "role.id", each->id)) {
            (void)json_array_append_new(list, assignment_json(r, view, grant, each));
        }
    }
}

void ident_assignment_list(struct api_req *r)
{
    char prefix[IDENTITY_ID_MAX + 8] = "";
    const char *user = api_param(r, "user.id");
    struct meta_view *view;
    json_t *grants = NULL, *grant;
    size_t i;
    bool own = user != NULL && ident_self(r, user); /* "role assignment list --auth-user" */
    if ((!own && !ident_domain_admin(r) && !ident_admin(r, "identity:list_role_assignments")) ||
        (view = api_view(r)) == NULL) {
        return;
    }
    if (user != NULL) {
        (void)snprintf(prefix, sizeof(prefix), "u:%.64s:", user);
    }
    int rv = meta_dir_list(view, "assignment", prefix, "", IDENT_LIST_MAX, &grants);
    json_t *list = json_array();
    json_array_foreach(grants, i, grant)
    {
        if (own || scope_ruled(r, view, grant)) {
            add_assignment(r, view, grant, list);
        }
    }
    json_decref(grants);
    meta_view_close(view);
    if (rv != 0) {
        json_decref(list);
        api_error(r, rv, NULL);
        return;
    }
    ident_reply_list(r, "role_assignments", list);
}
