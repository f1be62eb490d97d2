/* What Keystone says of a token, into a caller. */
#include <stdlib.h>
#include <string.h>

#include "identity/keystone_internal.h"
#include "tessera/base/str.h"

/* --- the caller --------------------------------------------------------------------------------
 */

bool keystone_token_text_ok(const char *token)
{
    size_t size = strnlen(token, TOKEN_TEXT_MAX + 1);
    for (size_t i = 0; i < size; i++) {
        if (token[i] <= ' ' || token[i] > '~') {
            return false;
        }
    }
    return size > 0 && size <= TOKEN_TEXT_MAX;
}

/* An id that is absent stays "". */
static bool take_id(const json_t *object, char out[IDENTITY_ID_MAX + 1])
{
    const char *id = json_str(object, "id");
    return id == NULL || str_copy(out, IDENTITY_ID_MAX + 1, id);
}

/* Names are for people: a longer one is cut. */
static void take_name(const json_t *object, char out[IDENTITY_NAME_MAX + 1])
{
    (void)str_copy(out, IDENTITY_NAME_MAX + 1, json_str_or(object, "name", ""));
}

static unsigned role_bit(const char *name)
{
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        if (str_ieq(name, identity_role_table[i].name)) {
            return identity_role_table[i].bit;
        }
    }
    return 0;
}

/* false: so many others that rules could not be asked about all of them. */
static bool take_roles(const json_t *token, struct caller *out)
{
    size_t i, used = 0;
    const json_t *role;
    json_array_foreach(json_arr(token, "roles"), i, role)
    {
        const char *name = json_str_or(role, "name", "");
        unsigned bit = role_bit(name);
        out->roles |= bit;
        if (bit != 0 || name[0] == '\0' || strchr(name, '\n') != NULL) {
            continue;
        }
        if (strlen(name) + 2 > sizeof(out->other_roles) - used) {
            return false;
        }
        used = (size_t)(stpcpy(stpcpy(out->other_roles + used, name), "\n") - out->other_roles);
    }
    return true;
}

static bool take_scope(const json_t *token, struct caller *out)
{
    const json_t *project = json_obj(token, "project"), *domain = json_obj(token, "domain");
    if (project != NULL) {
        out->scope = SCOPE_PROJECT;
        take_name(project, out->project_name);
        take_name(json_obj(project, "domain"), out->project_domain_name);
        return take_id(project, out->project_id) && out->project_id[0] != '\0' &&
               take_id(json_obj(project, "domain"), out->project_domain_id);
    }
    if (domain != NULL) {
        out->scope = SCOPE_DOMAIN;
        return take_id(domain, out->domain_id) && out->domain_id[0] != '\0';
    }
    out->scope = json_obj(token, "system") != NULL ? SCOPE_SYSTEM : SCOPE_NONE;
    return true;
}

static void take_methods(const json_t *token, struct caller *out)
{
    size_t i, used = 0;
    const json_t *method;
    json_array_foreach(json_arr(token, "methods"), i, method)
    {
        const char *text = json_string_value(method);
        size_t more = text != NULL ? strlen(text) : 0;
        if (more > 0 && used + more + 2 < sizeof(out->methods)) {
            used += used > 0 ? (size_t)(stpcpy(out->methods + used, ",") - out->methods) - used : 0;
            used = (size_t)(stpcpy(out->methods + used, text) - out->methods);
        }
    }
}

static bool take_all(const json_t *token, struct caller *out)
{
    const json_t *user = json_obj(token, "user"), *audits = json_arr(token, "audit_ids");
    const char *audit = json_string_value(json_array_get(audits, 0));
    if (!take_id(user, out->user_id) || out->user_id[0] == '\0' ||
        !take_id(json_obj(user, "domain"), out->user_domain_id) || !take_scope(token, out) ||
        !take_id(json_obj(token, "application_credential"), out->appcred_id)) {
        return false;
    }
    take_name(user, out->user_name);
    take_name(json_obj(user, "domain"), out->user_domain_name);
    if (!take_roles(token, out)) {
        return false;
    }
    take_methods(token, out);
    (void)str_copy(out->audit_id, sizeof(out->audit_id), audit != NULL ? audit : "");
    (void)time_parse(json_str_or(token, "issued_at", ""), &out->issued_us);
    return time_parse(json_str_or(token, "expires_at", ""), &out->expires_us) == 0;
}

int keystone_token_parse(const char *body, size_t size, struct caller *caller_out,
                         struct access_rules *rules_out, struct err *err)
{
    struct caller caller = {0};
    struct access_rules rules = {0};
    json_t *whole = json_parse(body, size);
    const json_t *token = json_obj(whole, "token");
    int rv = 0;
    if (token == NULL || !take_all(token, &caller)) {
        rv = err_set(err, TSR_EPROTO, "what Keystone says of a token can not be read");
    }
    if (rv == 0) {
        rv = access_rules_parse(json_obj(token, "application_credential"), &rules, err);
    }
    json_decref(whole);
    if (rv == 0) {
        *caller_out = caller;
    }
    if (rv == 0 && rules_out != NULL) {
        *rules_out = rules;
    } else {
        access_rules_free(&rules);
    }
    return rv;
}
