/* GET /v1/openrc: the OS_* variables with which the clients of a cloud reach this cluster, as a
 * file to be read by a shell. There is no password in it: the shell asks for one unless OS_PASSWORD
 * is set. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/identity_face.h"
#include "tessera/base/buf.h"

/* Names are whatever somebody chose: nothing in them may end the quotes. */
static void put_export(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, "export %s='", name);
    for (; *value != '\0'; value++) {
        if (*value == '\'') {
            buf_printf(out, "'\\''");
        } else if ((unsigned char)*value >= ' ') {
            buf_append(out, value, 1);
        }
    }
    buf_printf(out, "'\n");
}

static void put_domain(struct buf *out, struct meta_view *view, const char *variable,
                       const char *domain_id)
{
    json_t *domain = NULL;
    (void)meta_dir_get(view, "domain", domain_id, &domain);
    put_export(out, variable, json_str_or(domain, "name", "Default"));
    json_decref(domain);
}

static void put_project(struct buf *out, struct meta_view *view, const char *id)
{
    json_t *project = NULL;
    if (meta_dir_get(view, "project", id, &project) != 0) {
        put_export(out, "OS_PROJECT_ID", id);
        return;
    }
    put_export(out, "OS_PROJECT_NAME", json_str_or(project, "name", ""));
    put_domain(out, view, "OS_PROJECT_DOMAIN_NAME", json_str_or(project, "domain_id", "default"));
    json_decref(project);
}

static void put_password(struct buf *out, const char *user)
{
    put_export(out, "OS_USERNAME", user);
    buf_printf(out,
               "if [ -z \"${OS_PASSWORD:-}\" ]; then\n"
               "    printf 'Password of %%s: ' \"$OS_USERNAME\" >&2\n"
               "    stty -echo 2>/dev/null; read -r OS_PASSWORD; stty echo 2>/dev/null; echo >&2\n"
               "    export OS_PASSWORD\n"
               "fi\n");
}

/* The id of the project: that of the query, else the token's, else the administrators'. */
static int project_wanted(struct api_req *r, struct meta_view *view, char out[IDENT_PROJECT_MAX])
{
    const char *asked = api_param(r, "project");
    asked = asked != NULL && asked[0] != '\0' ? asked : r->caller.project_id;
    return ident_project_named(r, view, asked[0] != '\0' ? asked : "admin", out);
}

static void write_rc(struct api_req *r, struct meta_view *view, const char *origin,
                     const char *interface, const char *project, struct buf *out)
{
    const char *user = api_param(r, "user");
    char url[IDENT_URL_MAX];
    if (user == NULL || user[0] == '\0') {
        user = r->caller.user_name[0] != '\0' ? r->caller.user_name : "admin";
    }
    (void)snprintf(url, sizeof(url), "%s/identity/v3", origin);
    buf_printf(out,
               "# Read by a shell: . openrc\n"
               "unset OS_TOKEN OS_PROJECT_ID OS_PROJECT_NAME OS_DOMAIN_NAME OS_SYSTEM_SCOPE\n");
    put_export(out, "OS_AUTH_URL", url);
    put_export(out, "OS_AUTH_TYPE", "password");
    put_export(out, "OS_IDENTITY_API_VERSION", "3");
    put_export(out, "OS_IMAGE_API_VERSION", "2");
    put_export(out, "OS_REGION_NAME", r->o->region);
    put_export(out, "OS_INTERFACE", interface);
    put_export(out, "OS_ENDPOINT_TYPE", interface);
    put_project(out, view, project);
    put_domain(out, view, "OS_USER_DOMAIN_NAME",
               r->caller.user_domain_id[0] != '\0' ? r->caller.user_domain_id : "default");
    put_password(out, user);
}

static void openrc(struct api_req *r)
{
    char project[IDENT_PROJECT_MAX], origin[512];
    const char *interface = api_param(r, "interface"), *format = api_param(r, "format");
    if (r->o->keystone != NULL) {
        api_errorf(r, TSR_ECONFLICT, "Users log in at Keystone: OS_AUTH_URL is %.200s",
                   r->o->keystone_uri);
        return;
    }
    struct meta_view *view = api_view(r);
    struct buf out;
    if (view == NULL) {
        return;
    }
    buf_init(&out);
    interface = interface != NULL ? interface : "public";
    if (!ident_origin(r, view, interface, origin, sizeof(origin))) {
        meta_view_close(view);
        api_errorf(r, TSR_EINVAL, "The interface is one of public, internal, admin.");
        return;
    }
    if (project_wanted(r, view, project) != 0) {
        meta_view_close(view);
        return;
    }
    write_rc(r, view, origin, interface, project, &out);
    meta_view_close(view);
    buf_append(&out, "", 1);
    if (out.failed) {
        api_error(r, TSR_ENOMEM, NULL);
    } else if (format != NULL && strcmp(format, "json") == 0) {
        api_json(r, 200, json_pack("{s:s}", "openrc", (const char *)out.data));
    } else {
        api_text(r, 200, "text/plain; charset=utf-8", (const char *)out.data);
    }
    buf_free(&out);
}

const struct api_route api_openrc_routes[] = {
    {HTTP_METHOD_GET, "/v1/openrc", openrc, API_READ | API_NO_BODY},
    {0},
};
