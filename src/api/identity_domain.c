/* Domains: separate sets of users and projects. Made, changed and deleted by the administrators of
 * the whole service. */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

static const char default_domain[] = "default";

json_t *ident_domain_json(struct api_req *r, const json_t *record)
{
    const char *id = json_str_or(record, "id", "");
    json_t *tags = json_arr(record, "tags"), *options = json_obj(record, "options");
    return json_pack(
        "{s:s,s:s,s:s,s:b,s:o,s:o,s:o}", "id", id, "name", json_str_or(record, "name", ""),
        "description", json_str_or(record, "description", ""), "enabled",
        json_bool(record, "enabled", true), "tags", tags != NULL ? json_incref(tags) : json_array(),
        "options", options != NULL ? json_incref(options) : json_object(), "links",
        ident_links(r, "domains", id));
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

static json_t *domain_listed(struct api_req *r, const json_t *record)
{
    bool wanted = ident_rules(r, json_str(record, "id")) &&
                  ident_filter_text(r, "name", json_str(record, "name")) &&
                  ident_filter_bool(r, "enabled", json_bool(record, "enabled", true));
    return wanted ? ident_domain_json(r, record) : NULL;
}

void ident_domain_list(struct api_req *r)
{
    if (ident_domain_admin(r) || ident_admin(r, "identity:list_domains")) {
        ident_list(r, "domain", "domains", domain_listed);
    }
}

static bool is_own_domain(const struct caller *c, const char *id)
{
    return strcmp(c->user_domain_id, id) == 0 || strcmp(c->project_domain_id, id) == 0 ||
           strcmp(c->domain_id, id) == 0;
}

void ident_domain_get(struct api_req *r)
{
    if (!is_own_domain(&r->caller, r->args[0]) && !ident_admin(r, "identity:get_domain")) {
        return;
    }
    json_t *record = ident_read(r, "domain", r->args[0]);
    if (record != NULL) {
        json_t *domain = ident_domain_json(r, record);
        json_decref(record);
        ident_reply_one(r, 200, "domain", domain);
    }
}

/* --- changing
 * ----------------------------------------------------------------------------------------- */

static bool fields_ok(struct api_req *r, const json_t *given)
{
    const json_t *options = json_object_get(given, "options"),
                 *tags = json_object_get(given, "tags");
    if (!ident_name_field(r, given, IDENT_SHORT_NAME_MAX) ||
        !ident_text_field(r, given, "description", 4096) ||
        !ident_text_field(r, given, "explicit_domain_id", ID_HEX) ||
        !ident_bool_field(r, given, "enabled")) {
        return false;
    }
    if ((options != NULL && !json_is_object(options)) || (tags != NULL && !json_is_array(tags))) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field 'options' or 'tags'.");
        return false;
    }
    return true;
}

static void copy_fields(const json_t *given, json_t *record)
{
    static const char *const keys[] = {"name", "description", "enabled", "tags", "options"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *value = json_object_get(given, keys[i]);
        if (value != NULL && !json_is_null(value)) {
            (void)json_object_set(record, keys[i], value);
        }
    }
}

static void put_domain(struct api_req *r, json_t *record, const char *condition, int status)
{
    char conflict[ERR_MSG_SIZE], missing[ERR_MSG_SIZE];
    const char *id = json_str_or(record, "id", "");
    (void)snprintf(conflict, sizeof(conflict),
                   "Conflict occurred attempting to store domain - Duplicate entry found with "
                   "name %.64s.",
                   json_str_or(record, "name", ""));
    (void)snprintf(missing, sizeof(missing), "Could not find domain: %.64s.", id);
    struct ident_change change = {.status = status,
                                  .reply =
                                      json_pack("{s:o}", "domain", ident_domain_json(r, record)),
                                  .conflict = conflict,
                                  .missing = missing};
    change.command = ident_put("domain", id, record, condition);
    ident_submit(r, &change);
}

void ident_domain_create(struct api_req *r)
{
    char id[ID_HEX + 1];
    const json_t *given;
    if (!ident_admin(r, "identity:create_domain") || (given = ident_body(r, "domain")) == NULL ||
        !fields_ok(r, given)) {
        return;
    }
    if (json_str(given, "name") == NULL) {
        api_errorf(r, TSR_EINVAL, "'name' is a required property");
        return;
    }
    const char *wanted = json_str(given, "explicit_domain_id");
    if (wanted != NULL &&
        (strlen(wanted) != ID_HEX || strspn(wanted, "0123456789abcdef") != ID_HEX)) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field 'explicit_domain_id'.");
        return;
    }
    ident_new_id(r, id);
    json_t *record = json_pack("{s:s,s:s,s:b}", "id", wanted != NULL ? wanted : id, "description",
                               "", "enabled", 1);
    copy_fields(given, record);
    put_domain(r, record, "absent", 201);
}

void ident_domain_update(struct api_req *r)
{
    const json_t *given;
    json_t *record;
    if (!ident_admin(r, "identity:update_domain") || (given = ident_body(r, "domain")) == NULL ||
        !fields_ok(r, given) || (record = ident_read(r, "domain", r->args[0])) == NULL) {
        return;
    }
    if (strcmp(r->args[0], default_domain) == 0 && !json_bool(given, "enabled", true)) {
        json_decref(record);
        ident_forbidden(r, "identity:update_domain, as this domain has the service's own users");
        return;
    }
    copy_fields(given, record);
    put_domain(r, record, "present", 200);
}

/* With its users and projects. Their images stay, owned by projects that nobody has a role on. */
void ident_domain_delete(struct api_req *r)
{
    char missing[ERR_MSG_SIZE];
    json_t *record;
    if (!ident_admin(r, "identity:delete_domain") ||
        (record = ident_read(r, "domain", r->args[0])) == NULL) {
        return;
    }
    bool enabled = json_bool(record, "enabled", true);
    json_decref(record);
    if (enabled) {
        api_errorf(r, TSR_EFORBIDDEN,
                   "Cannot delete a domain that is enabled, please disable it first.");
        return;
    }
    (void)snprintf(missing, sizeof(missing), "Could not find domain: %.64s.", r->args[0]);
    ident_submit(r, &(struct ident_change){.command = ident_delete("domain", r->args[0]),
                                           .status = 204,
                                           .missing = missing});
}
