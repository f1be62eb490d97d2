/* Identity API v3: its routes, version discovery, and what is always empty here. */
#include "api/identity_face.h"

#include <stdio.h>
#include <string.h>

static json_t *version_json(struct api_req *r)
{
    char url[IDENT_URL_MAX], href[IDENT_URL_MAX + 1];
    ident_url(r, url);
    (void)snprintf(href, sizeof(href), "%s/", url);
    return json_pack("{s:s,s:s,s:s,s:[{s:s,s:s}],s:[{s:s,s:s}]}", "id", "v3.14", "status", "stable",
                     "updated", "2020-04-07T00:00:00Z", "links", "rel", "self", "href", href,
                     "media-types", "base", "application/json", "type",
                     "application/vnd.openstack.identity-v3+json");
}

static void versions(struct api_req *r)
{
    char url[IDENT_URL_MAX], href[IDENT_URL_MAX + 1];
    ident_url(r, url);
    (void)snprintf(href, sizeof(href), "%s/", url);
    http_set_header(r->http, "Location", href);
    api_json(r, 300, json_pack("{s:{s:[o]}}", "versions", "values", version_json(r)));
}

static void version(struct api_req *r)
{
    api_json(r, 200, json_pack("{s:o}", "version", version_json(r)));
}

/* Groups, stored credentials and limits do not exist here; clients that ask get the empty answer.
 */
static void empty_list(struct api_req *r)
{
    const char *kinds = r->segments.segment[2];
    char action[64];
    (void)snprintf(action, sizeof(action), "identity:list_%.40s", kinds);
    if (strcmp(kinds, "limits") != 0 && strcmp(kinds, "registered_limits") != 0 &&
        !ident_admin(r, action)) {
        return;
    }
    ident_reply_list(r, kinds, json_array());
}

static void no_such_thing(struct api_req *r)
{
    const char *kinds = r->segments.segment[2];
    char kind[32], action[64];
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)(strlen(kinds) - 1), kinds);
    (void)snprintf(action, sizeof(action), "identity:get_%.40s", kind);
    if (ident_admin(r, action)) {
        ident_not_found(r, kind, r->args[0]);
    }
}

#define V3 "/identity/v3"
enum {
    OPEN = API_IDENTITY | API_OPEN,
    READ = API_IDENTITY | API_READ,
    CHANGE = API_IDENTITY | API_READ, /* a check before the change must see what was just made */
    BODY = API_IDENTITY | API_READ | API_JSON,
};

const struct api_route api_identity_routes[] = {
    {HTTP_METHOD_GET, "/identity", versions, OPEN},
    {HTTP_METHOD_GET, "/identity/", versions, OPEN},
    {HTTP_METHOD_GET, V3, version, OPEN},
    {HTTP_METHOD_GET, V3 "/", version, OPEN},

    {HTTP_METHOD_POST, V3 "/auth/tokens", ident_token_create, BODY | API_OPEN},
    {HTTP_METHOD_GET, V3 "/auth/tokens", ident_token_get, READ},
    {HTTP_METHOD_DELETE, V3 "/auth/tokens", ident_token_delete, CHANGE},
    {HTTP_METHOD_GET, V3 "/auth/projects", ident_auth_projects, READ},
    {HTTP_METHOD_GET, V3 "/auth/domains", ident_auth_domains, READ},
    {HTTP_METHOD_GET, V3 "/auth/system", ident_auth_system, READ},
    {HTTP_METHOD_GET, V3 "/auth/catalog", ident_catalog_auth, READ},

    {HTTP_METHOD_GET, V3 "/projects", ident_project_list, READ},
    {HTTP_METHOD_POST, V3 "/projects", ident_project_create, BODY},
    {HTTP_METHOD_GET, V3 "/projects/{}", ident_project_get, READ},
    {HTTP_METHOD_PATCH, V3 "/projects/{}", ident_project_update, BODY},
    {HTTP_METHOD_DELETE, V3 "/projects/{}", ident_project_delete, CHANGE},

    {HTTP_METHOD_GET, V3 "/users", ident_user_list, READ},
    {HTTP_METHOD_POST, V3 "/users", ident_user_create, BODY},
    {HTTP_METHOD_GET, V3 "/users/{}", ident_user_get, READ},
    {HTTP_METHOD_PATCH, V3 "/users/{}", ident_user_update, BODY},
    {HTTP_METHOD_DELETE, V3 "/users/{}", ident_user_delete, CHANGE},
    {HTTP_METHOD_GET, V3 "/users/{}/projects", ident_user_projects, READ},
    {HTTP_METHOD_GET, V3 "/users/{}/groups", ident_user_groups, READ},
    {HTTP_METHOD_POST, V3 "/users/{}/password", ident_user_password, BODY},
    {HTTP_METHOD_GET, V3 "/users/{}/application_credentials", ident_appcred_list, READ},
    {HTTP_METHOD_POST, V3 "/users/{}/application_credentials", ident_appcred_create, BODY},
    {HTTP_METHOD_GET, V3 "/users/{}/application_credentials/{}", ident_appcred_get, READ},
    {HTTP_METHOD_DELETE, V3 "/users/{}/application_credentials/{}", ident_appcred_delete, CHANGE},
    {HTTP_METHOD_GET, V3 "/users/{}/access_rules", ident_access_list, READ},
    {HTTP_METHOD_GET, V3 "/users/{}/access_rules/{}", ident_access_get, READ},
    {HTTP_METHOD_DELETE, V3 "/users/{}/access_rules/{}", ident_access_delete, CHANGE},

    {HTTP_METHOD_GET, V3 "/roles", ident_role_list, READ},
    {HTTP_METHOD_GET, V3 "/roles/{}", ident_role_get, READ},
    {HTTP_METHOD_GET, V3 "/domains", ident_domain_list, READ},
    {HTTP_METHOD_POST, V3 "/domains", ident_domain_create, BODY},
    {HTTP_METHOD_GET, V3 "/domains/{}", ident_domain_get, READ},
    {HTTP_METHOD_PATCH, V3 "/domains/{}", ident_domain_update, BODY},
    {HTTP_METHOD_DELETE, V3 "/domains/{}", ident_domain_delete, CHANGE},

    {HTTP_METHOD_PUT, V3 "/projects/{}/users/{}/roles/{}", ident_grant_put, CHANGE},
    {HTTP_METHOD_HEAD, V3 "/projects/{}/users/{}/roles/{}", ident_grant_head, READ},
    {HTTP_METHOD_DELETE, V3 "/projects/{}/users/{}/roles/{}", ident_grant_delete, CHANGE},
    {HTTP_METHOD_GET, V3 "/projects/{}/users/{}/roles", ident_grant_list, READ},
    {HTTP_METHOD_PUT, V3 "/domains/{}/users/{}/roles/{}", ident_grant_put, CHANGE},
    {HTTP_METHOD_HEAD, V3 "/domains/{}/users/{}/roles/{}", ident_grant_head, READ},
    {HTTP_METHOD_DELETE, V3 "/domains/{}/users/{}/roles/{}", ident_grant_delete, CHANGE},
    {HTTP_METHOD_GET, V3 "/domains/{}/users/{}/roles", ident_grant_list, READ},
    {HTTP_METHOD_PUT, V3 "/system/users/{}/roles/{}", ident_grant_put, CHANGE},
    {HTTP_METHOD_HEAD, V3 "/system/users/{}/roles/{}", ident_grant_head, READ},
    {HTTP_METHOD_DELETE, V3 "/system/users/{}/roles/{}", ident_grant_delete, CHANGE},
    {HTTP_METHOD_GET, V3 "/system/users/{}/roles", ident_grant_list, READ},
    {HTTP_METHOD_GET, V3 "/role_assignments", ident_assignment_list, READ},

    {HTTP_METHOD_GET, V3 "/services", ident_service_list, READ},
    {HTTP_METHOD_GET, V3 "/services/{}", ident_service_get, READ},
    {HTTP_METHOD_GET, V3 "/endpoints", ident_endpoint_list, READ},
    {HTTP_METHOD_GET, V3 "/endpoints/{}", ident_endpoint_get, READ},
    {HTTP_METHOD_GET, V3 "/regions", ident_region_list, READ},
    {HTTP_METHOD_GET, V3 "/regions/{}", ident_region_get, READ},

    {HTTP_METHOD_GET, V3 "/groups", empty_list, READ},
    {HTTP_METHOD_GET, V3 "/groups/{}", no_such_thing, READ},
    {HTTP_METHOD_GET, V3 "/credentials", empty_list, READ},
    {HTTP_METHOD_GET, V3 "/credentials/{}", no_such_thing, READ},
    {HTTP_METHOD_GET, V3 "/limits", empty_list, READ},
    {HTTP_METHOD_GET, V3 "/registered_limits", empty_list, READ},
    {0},
};
