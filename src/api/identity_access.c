/* Access rules of application credentials, as entries that their user sees and deletes. The same
 * rule is one entry, however many credentials have it: its id is made of what it says. */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/str.h"

enum { RULES_MAX = 256, PATH_MAX_SIZE = 225, SERVICE_MAX = 255 };

static const char *const fields[] = {"service", "method", "path"};

/* --- reading
 * ------------------------------------------------------------------------------------------- */

static json_t *rule_json(struct api_req *r, const json_t *record)
{
    char url[IDENT_URL_MAX], link[IDENT_URL_MAX + 200];
    const char *id = json_str_or(record, "id", "");
    ident_url(r, url);
    (void)snprintf(link, sizeof(link), "%s/users/%.64s/access_rules/%.64s", url,
                   json_str_or(record, "user_id", ""), id);
    return json_pack("{s:s,s:s,s:s,s:s,s:{s:s}}", "id", id, "service",
                     json_str_or(record, "service", ""), "method",
                     json_str_or(record, "method", ""), "path", json_str_or(record, "path", ""),
                     "links", "self", link);
}

static bool is_of(const json_t *record, const char *user)
{
    return strcmp(json_str_or(record, "user_id", ""), user) == 0;
}

static json_t *rule_listed(struct api_req *r, const json_t *record)
{
    bool wanted = is_of(record, r->args[0]);
    for (size_t k = 0; k < array_len(fields); k++) {
        wanted = wanted && ident_filter_text(r, fields[k], json_str(record, fields[k]));
    }
    return wanted ? rule_json(r, record) : NULL;
}

void ident_access_list(struct api_req *r)
{
    if (ident_self(r, r->args[0]) || ident_admin(r, "identity:list_access_rules")) {
        ident_list(r, "access_rule", "access_rules", rule_listed);
    }
}

/* The record if it is that user's; else replied and NULL. */
static json_t *read_own(struct api_req *r)
{
    json_t *record = ident_read(r, "access_rule", r->args[1]);
    if (record != NULL && !is_of(record, r->args[0])) {
        json_decref(record);
        ident_not_found(r, "access rule", r->args[1]);
        return NULL;
    }
    return record;
}

void ident_access_get(struct api_req *r)
{
    json_t *record;
    if ((!ident_self(r, r->args[0]) && !ident_admin(r, "identity:get_access_rule")) ||
        (record = read_own(r)) == NULL) {
        return;
    }
    json_t *shown = rule_json(r, record);
    json_decref(record);
    ident_reply_one(r, 200, "access_rule", shown);
}

/* --- with a new credential
 * ----------------------------------------------------------------------------- */

static bool rule_ok(const json_t *rule)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};
    const char *key;
    const json_t *value;
    bool known = false;
    json_object_foreach((json_t *)rule, key, value)
    {
        if (!json_is_string(value) || (strcmp(key, "id") != 0 && strcmp(key, "service") != 0 &&
                                       strcmp(key, "method") != 0 && strcmp(key, "path") != 0)) {
            return false;
        }
    }
    const char *method = json_str_or(rule, "method", ""), *path = json_str_or(rule, "path", "");
    const char *service = json_str_or(rule, "service", "");
    for (size_t i = 0; i < array_len(methods); i++) {
        known = known || strcmp(method, methods[i]) == 0;
    }
    bool whole = known && path[0] == '/' && strlen(path) <= PATH_MAX_SIZE && service[0] != '\0' &&
                 strlen(service) <= SERVICE_MAX;
    /* One that the user has already may be named by its id alone. */
    return whole || (json_object_size(rule) == 1 && json_str(rule, "id") != NULL);
}

bool ident_access_fields_ok(struct api_req *r, const json_t *given)
{
    const json_t *list = json_object_get(given, "access_rules"), *rule;
    size_t i;
    bool ok = list == NULL || json_is_null(list) ||
              (json_is_array(list) && json_array_size(list) <= RULES_MAX);
    json_array_foreach(list, i, rule)
    {
        ok = ok && json_is_object(rule) && rule_ok(rule);
    }
    if (!ok) {
        api_errorf(r, TSR_EINVAL,
                   "Invalid input for field 'access_rules': a list of objects with service, method "
                   "and path is expected.");
    }
    return ok;
}

static void rule_id(const char *user, const json_t *rule, char out[ID_HEX + 1])
{
    uint8_t hash[DIGEST_MAX];
    char text[IDENTITY_ID_MAX + SERVICE_MAX + PATH_MAX_SIZE + 64];
    (void)snprintf(text, sizeof(text), "%s\n%s\n%s\n%s", user, json_str_or(rule, "service", ""),
                   json_str_or(rule, "method", ""), json_str_or(rule, "path", ""));
    digest_of(DIGEST_SHA256, text, strlen(text), hash);
    hex_encode(hash, ID_HEX / 2, out);
}

/* The caller's rule of that id, or NULL. */
static json_t *rule_named(struct api_req *r, struct meta_view *view, const char *id)
{
    json_t *record = NULL;
    if (id != NULL && meta_dir_get(view, "access_rule", id, &record) == 0 &&
        !is_of(record, r->caller.user_id)) {
        json_decref(record);
        record = NULL;
    }
    return record;
}

/* One rule into both lists. false: it is an id that names none of the caller's rules. */
static bool rule_take(struct api_req *r, struct meta_view *view, const json_t *rule, json_t *rules,
                      json_t *puts)
{
    char id[ID_HEX + 1];
    json_t *found = rule_named(r, view, json_str(rule, "id"));
    const json_t *says = found != NULL ? found : rule;
    if (json_str(says, "path") == NULL) {
        return false;
    }
    rule_id(r->caller.user_id, says, id);
    json_t *kept = json_pack("{s:s,s:s,s:s,s:s}", "id", id, "service", json_str(says, "service"),
                             "method", json_str(says, "method"), "path", json_str(says, "path"));
    json_t *record = json_copy(kept);
    (void)json_set_str(record, "user_id", r->caller.user_id);
    (void)json_array_append_new(rules, kept);
    (void)json_array_append_new(puts, ident_put("access_rule", id, record, "any"));
    json_decref(found);
    return true;
}

bool ident_access_rules(struct api_req *r, const json_t *given, json_t **rules_out,
                        json_t **puts_out)
{
    const json_t *list = json_arr(given, "access_rules"), *rule;
    struct meta_view *view;
    size_t i;
    bool ok = true;
    *rules_out = *puts_out = NULL;
    if (json_array_size(list) == 0) {
        return true;
    }
    if ((view = api_view(r)) == NULL) {
        return false;
    }
    json_t *rules = json_array(), *puts = json_array();
    json_array_foreach(list, i, rule)
    {
        if (ok && !rule_take(r, view, rule, rules, puts)) {
            ident_not_found(r, "access rule", json_str_or(rule, "id", ""));
            ok = false;
        }
    }
    meta_view_close(view);
    if (ok) {
        *rules_out = rules;
        *puts_out = puts;
    } else {
        json_decref(rules);
        json_decref(puts);
    }
    return ok;
}

/* --- deleting
 * -------------------------------------------------------------------------------------------- */

static bool has_rule(const json_t *credential, const char *id)
{
    const json_t *rule;
    size_t i;
    json_array_foreach(json_arr(credential, "access_rules"), i, rule)
    {
        if (strcmp(json_str_or(rule, "id", ""), id) == 0) {
            return true;
        }
    }
    return false;
}

/* Does a credential have the rule? Or TSR_E*. */
static int in_use(struct api_req *r, const char *id)
{
    json_t *all = NULL, *record;
    size_t i;
    int found = 0;
    struct meta_view *view = NULL;
    int rv = meta_view_open(r->o->meta, &view);
    if (rv != 0) {
        return rv;
    }
    rv = meta_dir_list(view, "appcred", "", "", IDENT_LIST_MAX, &all);
    meta_view_close(view);
    json_array_foreach(all, i, record)
    {
        found |= has_rule(record, id);
    }
    json_decref(all);
    return rv != 0 ? rv : found;
}

void ident_access_delete(struct api_req *r)
{
    static const char action[] = "identity:delete_access_rule";
    json_t *record;
    if (!ident_self(r, r->args[0]) && !ident_admin(r, action)) {
        return;
    }
    if (ident_appcred_bound(r)) {
        ident_forbidden(r, action);
        return;
    }
    if ((record = read_own(r)) == NULL) {
        return;
    }
    json_decref(record);
    int rv = in_use(r, r->args[1]);
    if (rv < 0) {
        api_error(r, rv, NULL);
    } else if (rv > 0) {
        api_errorf(r, TSR_EFORBIDDEN,
                   "You are not authorized to perform the requested action: the access rule is in "
                   "use by an application credential.");
    } else {
        ident_submit(r, &(struct ident_change){.command = ident_delete("access_rule", r->args[1]),
                                               .status = 204});
    }
}
