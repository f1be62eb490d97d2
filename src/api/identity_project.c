/* Projects. A member sees its own project; what it asks beyond that is 403, also where there is
 * nothing: clients then take the text that they were given as a project id. */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

enum { TAGS_MAX = 80, TAG_SIZE_MAX = 255 };

json_t *ident_project_json(struct api_req *r, const json_t *record)
{
    const char *id = json_str_or(record, "id", "");
    const char *domain = json_str_or(record, "domain_id", "default");
    json_t *tags = json_arr(record, "tags"), *options = json_obj(record, "options");
    return json_pack("{s:s,s:s,s:s,s:s,s:b,s:s,s:b,s:o,s:o,s:o}", "id", id, "name",
                     json_str_or(record, "name", ""), "domain_id", domain, "description",
                     json_str_or(record, "description", ""), "enabled",
                     json_bool(record, "enabled", true), "parent_id", domain, "is_domain", 0,
                     "tags", tags != NULL ? json_incref(tags) : json_array(), "options",
                     options != NULL ? json_incref(options) : json_object(), "links",
                     ident_links(r, "projects", id));
}

/* --- reading
 * ------------------------------------------------------------------------------------------- */

/* A name is unique within its domain and found by the index; domains are few. */
static int records_by_name(struct api_req *r, struct meta_view *view, const char *kind,
                           const char *name, json_t *out)
{
    json_t *domains = NULL, *domain;
    size_t i;
    int rv = meta_dir_list(view, "domain", "", "", IDENT_LIST_MAX, &domains);
    json_array_foreach(domains, i, domain)
    {
        json_t *record = NULL;
        const char *id = json_str_or(domain, "id", "");
        if (rv != 0 || !ident_filter_text(r, "domain_id", id) || !ident_rules(r, id)) {
            continue;
        }
        int found = meta_dir_find(view, kind, id, name, &record);
        if (found == 0) {
            (void)json_array_append_new(out, record);
        } else if (found != TSR_ENOENT) {
            rv = found;
        }
    }
    json_decref(domains);
    return rv;
}

/* What is listed for an administrator of one domain is what is in it. */
static bool record_listed(const struct api_req *r, const json_t *record)
{
    return ident_filter_text(r, "domain_id", json_str(record, "domain_id")) &&
           ident_rules(r, json_str_or(record, "domain_id", "default"));
}

static int records_all(struct api_req *r, struct meta_view *view, const char *kind, json_t *out)
{
    json_t *all = NULL, *record;
    size_t i;
    int rv = meta_dir_list(view, kind, "", "", IDENT_LIST_MAX, &all);
    json_array_foreach(all, i, record)
    {
        if (record_listed(r, record)) {
            (void)json_array_append(out, record);
        }
    }
    json_decref(all);
    return rv;
}

int ident_named_records(struct api_req *r, struct meta_view *view, const char *kind,
                        json_t **array_out)
{
    const char *name = api_param(r, "name");
    json_t *out = json_array();
    int rv = out == NULL    ? TSR_ENOMEM
             : name != NULL ? records_by_name(r, view, kind, name, out)
                            : records_all(r, view, kind, out);
    if (rv != 0) {
        json_decref(out);
        return rv;
    }
    *array_out = out;
    return 0;
}

static bool has_tag(const json_t *project, const char *tag, size_t size)
{
    const json_t *item;
    size_t i;
    json_array_foreach(json_arr(project, "tags"), i, item)
    {
        if (json_string_length(item) == size && memcmp(json_string_value(item), tag, size) == 0) {
            return true;
        }
    }
    return false;
}

/* "a,b": how many there are, and how many of them the project has. */
static void count_tags(const json_t *project, const char *list, size_t *named, size_t *found)
{
    *named = *found = 0;
    while (*list != '\0') {
        size_t size = strcspn(list, ",");
        *named += 1;
        *found += has_tag(project, list, size);
        list += size + (list[size] == ',');
    }
}

static bool tags_wanted(const struct api_req *r, const json_t *project)
{
    static const struct {
        const char *param;
        bool all, negate;
    } filters[] = {{"tags", true, false},
                   {"tags-any", false, false},
                   {"not-tags", true, true},
                   {"not-tags-any", false, true}};
    for (size_t i = 0; i < array_len(filters); i++) {
        const char *list = api_param(r, filters[i].param);
        size_t named, found;
        if (list == NULL) {
            continue;
        }
        count_tags(project, list, &named, &found);
        if ((filters[i].all ? found == named : found > 0) == filters[i].negate) {
            return false;
        }
    }
    return true;
}

void ident_project_list(struct api_req *r)
{
    struct meta_view *view;
    json_t *records = NULL, *record;
    size_t i;
    if ((!ident_domain_admin(r) && !ident_admin(r, "identity:list_projects")) ||
        (view = api_view(r)) == NULL) {
        return;
    }
    int rv = ident_named_records(r, view, "project", &records);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    json_t *list = json_array();
    json_array_foreach(records, i, record)
    {
        if (ident_filter_bool(r, "enabled", json_bool(record, "enabled", true)) &&
            ident_filter_bool(r, "is_domain", false) &&
            ident_filter_text(r, "parent_id", json_str(record, "domain_id")) &&
            tags_wanted(r, record)) {
            (void)json_array_append_new(list, ident_project_json(r, record));
        }
    }
    json_decref(records);
    ident_reply_list(r, "projects", list);
}

static bool has_role_on(struct api_req *r, const char *project)
{
    if (strcmp(r->caller.project_id, project) == 0) {
        return true;
    }
    unsigned roles = 0;
    struct meta_view *view = NULL;
    if (r->caller.user_id[0] == '\0' || meta_view_open(r->o->meta, &view) != 0) {
        return false;
    }
    int rv = identity_roles_assigned(view, r->caller.user_id, SCOPE_PROJECT, project, &roles);
    meta_view_close(view);
    return rv == 0 && roles != 0;
}

void ident_project_get(struct api_req *r)
{
    const char *id = r->args[0];
    json_t *record = has_role_on(r, id)
                         ? ident_read(r, "project", id)
                         : ident_read_ruled(r, "identity:get_project", "project", id);
    if (record != NULL) {
        json_t *project = ident_project_json(r, record);
        json_decref(record);
        ident_reply_one(r, 200, "project", project);
    }
}

static bool listed(const json_t *list, const char *id)
{
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (strcmp(json_str_or(item, "id", ""), id) == 0) {
            return true;
        }
    }
    return false;
}

json_t *ident_projects_of(struct api_req *r, struct meta_view *view, const char *user,
                          bool enabled_only)
{
    char prefix[IDENTITY_ID_MAX + 8];
    json_t *grants = NULL, *grant, *list = json_array();
    size_t i;
    (void)snprintf(prefix, sizeof(prefix), "u:%.64s:p:", user);
    if (meta_dir_list(view, "assignment", prefix, "", IDENT_LIST_MAX, &grants) != 0) {
        json_decref(list);
        return NULL;
    }
    json_array_foreach(grants, i, grant)
    {
        const char *id = json_str_or(grant, "project_id", "");
        json_t *record = NULL;
        if (listed(list, id) || meta_dir_get(view, "project", id, &record) != 0) {
            continue;
        }
        if (!enabled_only || json_bool(record, "enabled", true)) {
            (void)json_array_append_new(list, ident_project_json(r, record));
        }
        json_decref(record);
    }
    json_decref(grants);
    return list;
}

static bool looks_like_id(const char *text)
{
    return uuid_valid(text) ||
           (strlen(text) == ID_HEX && strspn(text, "0123456789abcdef") == ID_HEX);
}

int ident_project_named(struct api_req *r, struct meta_view *view, const char *text,
                        char out[IDENT_PROJECT_MAX])
{
    json_t *projects = NULL, *project;
    size_t i, found = 0;
    (void)str_copy(out, IDENT_PROJECT_MAX, looks_like_id(text) ? text : "");
    if (r->o->keystone != NULL) { /* the names in our own directory are none of its projects */
        if (out[0] == '\0') {
            api_errorf(r, TSR_EINVAL, "Projects are Keystone's: give the id of %.100s.", text);
        }
        return out[0] == '\0' ? TSR_EINVAL : 0;
    }
    int rv = meta_dir_list(view, "project", "", "", IDENT_LIST_MAX, &projects);
    json_array_foreach(projects, i, project)
    {
        const char *id = json_str_or(project, "id", "");
        if (strcmp(id, text) == 0) {
            (void)str_copy(out, IDENT_PROJECT_MAX, id);
            found = 1;
            break;
        }
        if (strcmp(json_str_or(project, "name", ""), text) == 0) {
            (void)str_copy(out, IDENT_PROJECT_MAX, id);
            found++;
        }
    }
    json_decref(projects);
    if (rv != 0) {
        api_error(r, rv, NULL);
    } else if (found > 1) {
        rv = TSR_ECONFLICT;
        api_errorf(r, rv, "More than one project is named %.100s; use its id.", text);
    } else if (out[0] == '\0') {
        rv = TSR_ENOENT;
        ident_not_found(r, "project", text);
    }
    return rv;
}

/* --- changing
 * --------------------------------------------------------------------------------------------- */

static bool tags_ok(struct api_req *r, const json_t *given)
{
    const json_t *tags = json_object_get(given, "tags"), *tag;
    size_t i;
    bool ok = tags == NULL || (json_is_array(tags) && json_array_size(tags) <= TAGS_MAX);
    json_array_foreach(tags, i, tag)
    {
        ok = ok && json_is_string(tag) && json_string_length(tag) <= TAG_SIZE_MAX;
    }
    if (!ok) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field 'tags'.");
    }
    return ok;
}

/* Shapes of all fields that a project may be given. */
static bool fields_ok(struct api_req *r, const json_t *given)
{
    const json_t *options = json_object_get(given, "options");
    if (!ident_name_field(r, given, IDENT_SHORT_NAME_MAX) ||
        !ident_text_field(r, given, "description", 4096) ||
        !ident_text_field(r, given, "domain_id", IDENTITY_ID_MAX) ||
        !ident_text_field(r, given, "parent_id", IDENTITY_ID_MAX) ||
        !ident_bool_field(r, given, "enabled") || !ident_bool_field(r, given, "is_domain") ||
        !tags_ok(r, given)) {
        return false;
    }
    if (options != NULL && !json_is_object(options)) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field 'options'.");
        return false;
    }
    if (json_bool(given, "is_domain", false)) {
        api_errorf(r, TSR_EINVAL, "A project that acts as a domain is not supported.");
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

static void put_project(struct api_req *r, json_t *record, const char *condition, int status)
{
    char conflict[ERR_MSG_SIZE], missing[ERR_MSG_SIZE];
    const char *id = json_str_or(record, "id", "");
    (void)snprintf(
        conflict, sizeof(conflict),
        "Conflict occurred attempting to store project - it is not permitted to have two "
        "projects with the same name in the same domain: %.64s.",
        json_str_or(record, "name", ""));
    (void)snprintf(missing, sizeof(missing), "Could not find project: %s.", id);
    struct ident_change change = {.status = status,
                                  .reply =
                                      json_pack("{s:o}", "project", ident_project_json(r, record)),
                                  .conflict = conflict,
                                  .missing = missing};
    change.command = ident_put("project", id, record, condition);
    ident_submit(r, &change);
}

void ident_project_create(struct api_req *r)
{
    char id[ID_HEX + 1];
    const json_t *given;
    if ((!ident_domain_admin(r) && !ident_admin(r, "identity:create_project")) ||
        (given = ident_body(r, "project")) == NULL || !fields_ok(r, given)) {
        return;
    }
    if (json_str(given, "name") == NULL) {
        api_errorf(r, TSR_EINVAL, "'name' is a required property");
        return;
    }
    const char *domain = json_str(given, "domain_id"), *parent = json_str(given, "parent_id");
    domain = domain != NULL ? domain : ident_default_domain(r);
    if (!ident_rules(r, domain)) {
        ident_forbidden(r, "identity:create_project");
        return;
    }
    if (parent != NULL && strcmp(parent, domain) != 0) {
        api_errorf(r, TSR_EINVAL, "Projects within projects are not supported.");
        return;
    }
    json_t *found = ident_read(r, "domain", domain);
    if (found == NULL) {
        return;
    }
    json_decref(found);
    ident_new_id(r, id);
    json_t *record = json_pack("{s:s,s:s,s:s,s:b,s:[],s:{}}", "id", id, "domain_id", domain,
                               "description", "", "enabled", 1, "tags", "options");
    copy_fields(given, record);
    put_project(r, record, "absent", 201);
}

void ident_project_update(struct api_req *r)
{
    json_t *record = ident_read_ruled(r, "identity:update_project", "project", r->args[0]);
    const json_t *given = record != NULL ? ident_body(r, "project") : NULL;
    if (given == NULL || !fields_ok(r, given)) {
        json_decref(record);
        return;
    }
    const char *domain = json_str(given, "domain_id");
    if (domain != NULL && strcmp(domain, json_str_or(record, "domain_id", "")) != 0) {
        json_decref(record);
        api_errorf(r, TSR_EINVAL, "The domain of a project can not be changed.");
        return;
    }
    /* Tokens from before do not come back to life with the project. */
    if (json_bool(record, "enabled", true) && !json_bool(given, "enabled", true)) {
        (void)json_set_int(record, "valid_from", loop_wall_us(r->o->loop));
    }
    copy_fields(given, record);
    put_project(r, record, "present", 200);
}

void ident_project_delete(struct api_req *r)
{
    char missing[ERR_MSG_SIZE];
    json_t *record = ident_read_ruled(r, "identity:delete_project", "project", r->args[0]);
    if (record == NULL) {
        return;
    }
    json_decref(record);
    (void)snprintf(missing, sizeof(missing), "Could not find project: %.64s.", r->args[0]);
    ident_submit(r, &(struct ident_change){.command = ident_delete("project", r->args[0]),
                                           .status = 204,
                                           .missing = missing});
}
