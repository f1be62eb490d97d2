/* The directory's records as tokens see them: is a user or a scope there and enabled, which roles.
 *
 * Records: domain {id, name, enabled, description} · project {id, name, domain_id, enabled,
 * description, tags[], options{}, valid_from} · user {id, name, domain_id, enabled, password,
 * default_project_id, email, description, options{}, valid_from} · role {id, name} · assignment,
 * see identity.h · appcred. */
#include <stdio.h>
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

const struct identity_role identity_role_table[IDENTITY_ROLES] = {
    {ROLE_ADMIN, "admin", "46436dfc31c011182cc5ca46541c6f00"},
    {ROLE_MEMBER, "member", "1a75a152b097a4ec5467bb4408f79bab"},
    {ROLE_READER, "reader", "6a0c4cc2f1683f83994b76b1d88fa2a7"},
    {ROLE_SERVICE, "service", "dbe741104bc1a0dfac014ef6f337935b"},
};

const struct identity_role *identity_role_find(const char *id)
{
    for (size_t i = 0; id != NULL && i < IDENTITY_ROLES; i++) {
        if (strcmp(identity_role_table[i].id, id) == 0) {
            return &identity_role_table[i];
        }
    }
    return NULL;
}

unsigned identity_roles_implied(unsigned roles)
{
    if ((roles & ROLE_ADMIN) != 0) {
        roles |= ROLE_MEMBER;
    }
    if ((roles & ROLE_MEMBER) != 0) {
        roles |= ROLE_READER;
    }
    return roles;
}

/* --- roles
 * ---------------------------------------------------------------------------------------- */

void identity_assignment_id(const char *user, enum caller_scope scope, const char *target,
                            const char *role_id, char out[ASSIGNMENT_ID_MAX])
{
    char kind = scope == SCOPE_PROJECT ? 'p' : scope == SCOPE_DOMAIN ? 'd' : 's';
    (void)snprintf(out, ASSIGNMENT_ID_MAX, "u:%.64s:%c:%.64s:r:%.64s", user, kind,
                   scope == SCOPE_SYSTEM ? "all" : target, role_id != NULL ? role_id : "");
}

static int roles_of(struct meta_view *view, const char *user, enum caller_scope scope,
                    const char *target, unsigned *roles)
{
    char prefix[ASSIGNMENT_ID_MAX];
    json_t *list = NULL, *record;
    size_t i;
    identity_assignment_id(user, scope, target, NULL, prefix);
    if (meta_dir_list(view, "assignment", prefix, "", IDENTITY_ROLES, &list) != 0) {
        return TSR_EUNAVAILABLE;
    }
    json_array_foreach(list, i, record)
    {
        const struct identity_role *role = identity_role_find(json_str(record, "role_id"));
        *roles |= role != NULL ? role->bit : 0;
    }
    json_decref(list);
    return 0;
}

/* Who administers project admin administers the system. */
static int roles_of_admin_project(struct meta_view *view, const char *user, unsigned *roles)
{
    json_t *project = NULL;
    unsigned there = 0;
    int rv = meta_dir_find(view, "project", "default", "admin", &project);
    if (rv == TSR_ENOENT) {
        return 0;
    }
    if (rv == 0 && json_bool(project, "enabled", true)) {
        rv = roles_of(view, user, SCOPE_PROJECT, json_str_or(project, "id", ""), &there);
    }
    json_decref(project);
    *roles |= there & ROLE_ADMIN;
    return rv == 0 ? 0 : TSR_EUNAVAILABLE;
}

int identity_roles_assigned(struct meta_view *view, const char *user, enum caller_scope scope,
                            const char *target, unsigned *roles_out)
{
    *roles_out = 0;
    int rv = roles_of(view, user, scope, target, roles_out);
    if (rv == 0 && scope == SCOPE_SYSTEM) {
        rv = roles_of_admin_project(view, user, roles_out);
    }
    return rv;
}

/* --- user and scope
 * -------------------------------------------------------------------------------- */

static int get_enabled(struct meta_view *view, const char *kind, const char *id, json_t **out)
{
    int rv = auth_code(meta_dir_get(view, kind, id, out));
    if (rv == 0 && !json_bool(*out, "enabled", true)) {
        json_decref(*out);
        *out = NULL;
        return TSR_EUNAUTHORIZED;
    }
    return rv;
}

static int fill_domain(struct meta_view *view, const char *domain_id,
                       char id_out[IDENTITY_ID_MAX + 1], char name_out[IDENTITY_NAME_MAX + 1])
{
    json_t *domain = NULL;
    int rv = get_enabled(view, "domain", domain_id, &domain);
    if (rv == 0) {
        (void)str_copy(id_out, IDENTITY_ID_MAX + 1, domain_id);
        (void)str_copy(name_out, IDENTITY_NAME_MAX + 1, json_str_or(domain, "name", ""));
        json_decref(domain);
    }
    return rv;
}

static void raise_valid_from(const json_t *record, int64_t *valid_from)
{
    int64_t us = json_int(record, "valid_from", 0);
    *valid_from = us > *valid_from ? us : *valid_from;
}

static int fill_user(struct meta_view *view, const char *id, struct caller *c, int64_t *valid_from)
{
    json_t *user = NULL;
    int rv = get_enabled(view, "user", id, &user);
    if (rv != 0) {
        return rv;
    }
    (void)str_copy(c->user_id, sizeof(c->user_id), id);
    (void)str_copy(c->user_name, sizeof(c->user_name), json_str_or(user, "name", ""));
    raise_valid_from(user, valid_from);
    rv = fill_domain(view, json_str_or(user, "domain_id", "default"), c->user_domain_id,
                     c->user_domain_name);
    json_decref(user);
    return rv;
}

static int fill_project(struct meta_view *view, const char *id, struct caller *c,
                        int64_t *valid_from)
{
    json_t *project = NULL;
    int rv = get_enabled(view, "project", id, &project);
    if (rv != 0) {
        return rv;
    }
    (void)str_copy(c->project_id, sizeof(c->project_id), id);
    (void)str_copy(c->project_name, sizeof(c->project_name), json_str_or(project, "name", ""));
    raise_valid_from(project, valid_from);
    const char *domain_id = json_str_or(project, "domain_id", "default");
    if (strcmp(domain_id, c->user_domain_id) == 0) { /* the usual case needs no second look-up */
        memcpy(c->project_domain_id, c->user_domain_id, sizeof(c->project_domain_id));
        memcpy(c->project_domain_name, c->user_domain_name, sizeof(c->project_domain_name));
    } else {
        rv = fill_domain(view, domain_id, c->project_domain_id, c->project_domain_name);
    }
    json_decref(project);
    return rv;
}

static void clear_subject(struct caller *c)
{
    c->scope = SCOPE_NONE;
    c->roles = 0;
    c->user_id[0] = c->user_name[0] = c->user_domain_id[0] = c->user_domain_name[0] = '\0';
    c->project_id[0] = c->project_name[0] = c->project_domain_id[0] = '\0';
    c->project_domain_name[0] = c->domain_id[0] = '\0';
}

int identity_caller_fill(struct meta_view *view, const char *user, enum caller_scope scope,
                         const char *target, struct caller *caller, int64_t *valid_from_out)
{
    char domain_name[IDENTITY_NAME_MAX + 1];
    *valid_from_out = 0;
    clear_subject(caller);
    int rv = fill_user(view, user, caller, valid_from_out);
    if (rv == 0 && scope == SCOPE_PROJECT) {
        rv = fill_project(view, target, caller, valid_from_out);
    }
    if (rv == 0 && scope == SCOPE_DOMAIN) {
        rv = fill_domain(view, target, caller->domain_id, domain_name);
    }
    if (rv != 0 || scope == SCOPE_NONE) {
        return rv;
    }
    rv = identity_roles_assigned(view, user, scope, target, &caller->roles);
    if (rv == 0 && caller->roles == 0) {
        return TSR_EUNAUTHORIZED;
    }
    caller->roles = identity_roles_implied(caller->roles);
    caller->scope = scope;
    return rv;
}

/* An application credential gives the roles that were named when it was made, as long as its user
 * still has them. */
int appcred_apply(struct meta_view *view, int64_t now_us, struct caller *caller)
{
    json_t *record = NULL, *item;
    size_t i;
    unsigned roles = 0;
    int rv = auth_code(meta_dir_get(view, "appcred", caller->appcred_id, &record));
    if (rv != 0) {
        return rv;
    }
    int64_t expires = json_int(record, "expires_at", INT64_MAX);
    caller->ruled = json_object_get(record, "access_rules") != NULL;
    bool mine = strcmp(json_str_or(record, "user_id", ""), caller->user_id) == 0 &&
                strcmp(json_str_or(record, "project_id", ""), caller->project_id) == 0;
    json_array_foreach(json_arr(record, "roles"), i, item)
    {
        const struct identity_role *role = identity_role_find(json_string_value(item));
        roles |= role != NULL ? role->bit : 0;
    }
    json_decref(record);
    caller->roles &= identity_roles_implied(roles);
    return mine && expires > now_us && caller->roles != 0 ? 0 : TSR_EUNAUTHORIZED;
}
