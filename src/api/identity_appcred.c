/* Application credentials: a secret of one user for one project, with some of its roles. Made and
 * seen by the user only; the secret is shown once. A token that came from one can not make others,
 * unless it is unrestricted.
 */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/str.h"

enum { SECRET_BYTES = 48 };

static json_t *appcred_json(struct api_req *r, const json_t *record)
{
    char expires[TIME_TEXT], url[IDENT_URL_MAX], link[IDENT_URL_MAX + 200];
    const char *id = json_str_or(record, "id", ""), *user = json_str_or(record, "user_id", "");
    int64_t expires_us = json_int(record, "expires_at", 0);
    json_t *roles = json_array(), *item;
    size_t i;
    json_array_foreach(json_arr(record, "roles"), i, item)
    {
        const struct identity_role *role = identity_role_find(json_string_value(item));
        if (role != NULL) {
            (void)json_array_append_new(
                roles, json_pack("{s:s,s:s,s:n}", "id", role->id, "name", role->name, "domain_id"));
        }
    }
    /* Without the Z of all other times: Keystone leaves it out here, and clients compare or parse
     * it so. */
    time_format_micros(expires_us, expires);
    expires[strcspn(expires, "Z")] = 0;
    ident_url(r, url);
    (void)snprintf(link, sizeof(link), "%s/users/%.64s/application_credentials/%.64s", url, user,
                   id);
    json_t *shown =
        json_pack("{s:s,s:s,s:s?,s:s,s:s,s:o,s:s?,s:b,s:{s:s}}", "id", id, "name",
                  json_str_or(record, "name", ""), "description", json_str(record, "description"),
                  "project_id", json_str_or(record, "project_id", ""), "user_id", user, "roles",
                  roles, "expires_at", expires_us != 0 ? expires : NULL, "unrestricted",
                  json_bool(record, "unrestricted", false), "links", "self", link);
    if (json_arr(record, "access_rules") != NULL) {
        (void)json_object_set(shown, "access_rules", json_object_get(record, "access_rules"));
    }
    return shown;
}

/* Did the token come from a credential that may not make or delete others? */
bool ident_appcred_bound(struct api_req *r)
{
    struct meta_view *view = NULL;
    json_t *record = NULL;
    if (r->caller.appcred_id[0] == '\0') {
        return false;
    }
    if (meta_view_open(r->o->meta, &view) == 0) {
        (void)meta_dir_get(view, "appcred", r->caller.appcred_id, &record);
        meta_view_close(view);
    }
    bool restricted = !json_bool(record, "unrestricted", false);
    json_decref(record);
    return restricted;
}

static bool is_own(struct api_req *r, const char *action)
{
    if (!ident_self(r, r->args[0])) {
        ident_forbidden(r, action);
        return false;
    }
    return true;
}

/* --- reading
 * ------------------------------------------------------------------------------------------- */

static json_t *appcred_listed(struct api_req *r, const json_t *record)
{
    bool wanted = strcmp(json_str_or(record, "user_id", ""), r->args[0]) == 0 &&
                  ident_filter_text(r, "name", json_str(record, "name"));
    return wanted ? appcred_json(r, record) : NULL;
}

void ident_appcred_list(struct api_req *r)
{
    if (ident_self(r, r->args[0]) || ident_admin(r, "identity:list_application_credentials")) {
        ident_list(r, "appcred", "application_credentials", appcred_listed);
    }
}

/* The record if it is that user's; else replied and NULL. */
static json_t *read_own(struct api_req *r)
{
    json_t *record = ident_read(r, "appcred", r->args[1]);
    if (record != NULL && strcmp(json_str_or(record, "user_id", ""), r->args[0]) != 0) {
        json_decref(record);
        ident_not_found(r, "application credential", r->args[1]);
        return NULL;
    }
    return record;
}

void ident_appcred_get(struct api_req *r)
{
    json_t *record;
    if ((!ident_self(r, r->args[0]) && !ident_admin(r, "identity:get_application_credential")) ||
        (record = read_own(r)) == NULL) {
        return;
    }
    json_t *shown = appcred_json(r, record);
    json_decref(record);
    ident_reply_one(r, 200, "application_credential", shown);
}

/* --- changing
 * -------------------------------------------------------------------------------------------- */

/* Ids of the roles asked for, all of which the caller must have; its own ones where none are named.
 */
static json_t *wanted_roles(struct api_req *r, const json_t *given)
{
    unsigned want = 0;
    const json_t *asked = json_arr(given, "roles"), *item;
    size_t i;
    json_array_foreach(asked, i, item)
    {
        const char *id = json_str(item, "id"), *name = json_str(item, "name");
        unsigned bit = 0;
        for (size_t k = 0; k < IDENTITY_ROLES; k++) {
            const struct identity_role *role = &identity_role_table[k];
            bool fits = id != NULL ? strcmp(id, role->id) == 0
                                   : name != NULL && strcmp(name, role->name) == 0;
            bit |= fits ? role->bit : 0;
        }
        if (bit == 0 || (r->caller.roles & bit) == 0) {
            api_errorf(r, TSR_EINVAL, "Invalid application credential: a role that is not yours.");
            return NULL;
        }
        want |= bit;
    }
    want = want != 0 ? want : r->caller.roles;
    json_t *roles = json_array();
    for (size_t k = 0; k < IDENTITY_ROLES; k++) {
        if ((want & identity_role_table[k].bit) != 0) {
            (void)json_array_append_new(roles, json_string(identity_role_table[k].id));
        }
    }
    return roles;
}

static bool fields_ok(struct api_req *r, const json_t *given, int64_t *expires_out)
{
    const char *expires = json_str(given, "expires_at");
    *expires_out = 0;
    if (!ident_name_field(r, given, IDENTITY_NAME_MAX) ||
        !ident_text_field(r, given, "secret", 4096) ||
        !ident_text_field(r, given, "description", 4096) ||
        !ident_text_field(r, given, "expires_at", 64) ||
        !ident_bool_field(r, given, "unrestricted")) {
        return false;
    }
    if (json_str_or(given, "name", "")[0] == '\0') {
        api_errorf(r, TSR_EINVAL, "'name' is a required property");
        return false;
    }
    if (expires != NULL &&
        (time_parse(expires, expires_out) != 0 || *expires_out <= loop_wall_us(r->o->loop))) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field 'expires_at'.");
        return false;
    }
    return ident_access_fields_ok(r, given);
}

/* The secret in clear is kept in the request's body, from which the reply takes it. */
static const char *chosen_secret(struct api_req *r, json_t *given)
{
    uint8_t random[SECRET_BYTES];
    char text[SECRET_BYTES / 3 * 4 + 1];
    if (json_str(given, "secret") == NULL) {
        loop_random(r->o->loop, random, sizeof(random));
        base64url_encode(random, sizeof(random), text);
        (void)json_set_str(given, "secret", text);
    }
    return json_str(given, "secret");
}

static void create_with(struct api_req *r, const char *hash)
{
    char id[ID_HEX + 1], conflict[ERR_MSG_SIZE];
    const json_t *given = json_obj(r->body, "application_credential");
    const char *name = json_str_or(given, "name", "");
    int64_t expires = 0;
    json_t *roles, *rules = NULL, *puts = NULL;
    if (!fields_ok(r, given, &expires) || !ident_access_rules(r, given, &rules, &puts)) {
        return;
    }
    if ((roles = wanted_roles(r, given)) == NULL) {
        json_decref(rules);
        json_decref(puts);
        return;
    }
    ident_new_id(r, id);
    json_t *record = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s?,s:o,s:b}", "id", id, "name", name,
                               "domain", r->caller.user_id, "user_id", r->caller.user_id,
                               "project_id", r->caller.project_id, "secret", hash, "description",
                               json_str(given, "description"), "roles", roles, "unrestricted",
                               json_bool(given, "unrestricted", false));
    if (expires != 0) {
        (void)json_set_int(record, "expires_at", expires);
    }
    if (rules != NULL) {
        (void)json_object_set_new(record, "access_rules", rules);
    }
    json_t *shown = appcred_json(r, record);
    (void)json_set_str(shown, "secret", json_str(given, "secret"));
    (void)snprintf(conflict, sizeof(conflict),
                   "Conflict occurred attempting to store application credential - Duplicate entry "
                   "found with name %.64s.",
                   name);
    json_t *command = ident_put("appcred", id, record, "absent");
    if (puts != NULL) {
        (void)json_array_append_new(puts, command);
        command = json_pack("{s:s,s:o}", "op", "batch", "commands", puts);
    }
    ident_submit(
        r, &(struct ident_change){.command = command,
                                  .status = 201,
                                  .secret = true,
                                  .reply = json_pack("{s:o}", "application_credential", shown),
                                  .conflict = conflict});
}

void ident_appcred_create(struct api_req *r)
{
    json_t *given, *roles;
    int64_t expires;
    if (!is_own(r, "identity:create_application_credential") ||
        (given = ident_body(r, "application_credential")) == NULL) {
        return;
    }
    if (r->caller.scope != SCOPE_PROJECT || ident_appcred_bound(r)) {
        ident_forbidden(r, "identity:create_application_credential");
        return;
    }
    if (!fields_ok(r, given, &expires) || (roles = wanted_roles(r, given)) == NULL) {
        return;
    }
    json_decref(roles);
    const char *secret = chosen_secret(r, given);
    if (secret == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    ident_hash(r, secret, create_with);
}

void ident_appcred_delete(struct api_req *r)
{
    json_t *record;
    bool bound = ident_appcred_bound(r);
    if (bound || !is_own(r, "identity:delete_application_credential")) {
        if (bound) {
            ident_forbidden(r, "identity:delete_application_credential");
        }
        return;
    }
    if ((record = read_own(r)) == NULL) {
        return;
    }
    json_decref(record);
    ident_submit(
        r, &(struct ident_change){.command = ident_delete("appcred", r->args[1]), .status = 204});
}
