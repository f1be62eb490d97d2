/* The Identity face over real HTTP: one host with its own consensus, and a client. Bodies, codes
 * and the rights that the stock clients rely on. */
#include "test.h"

#include <stdlib.h>

#include "tessera/api.h"
#include "tessera/base/id.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/http_client.h"

#define PASSWORD "correct horse"
#define DEADLINE 20000

struct site {
    struct loop *loop;
    struct pool *log, *apply, *disk, *auth;
    struct kv *kv;
    struct meta *meta;
    struct consensus *consensus;
    struct consensus_net net;
    struct identity *identity;
    struct http_server *server;
    struct api *api;
    struct meta_submit init;
    struct task stop;
    bool done;
    char url[64];
    char admin_token[512];
};
static struct site s;

/* --- the host
 * --------------------------------------------------------------------------------------- */

static void net_send(struct consensus_net *net, uint64_t to, const char *address, const void *data,
                     size_t size)
{
    (void)net, (void)to, (void)address, (void)data, (void)size;
}
static size_t net_queued(struct consensus_net *net, uint64_t to)
{
    (void)net, (void)to;
    return 0;
}
static const struct consensus_net_ops net_ops = {net_send, net_queued};

static void on_leader(void *arg, uint64_t term)
{
    (void)term;
    *(bool *)arg = true;
}
static void on_lost(void *arg)
{
    (void)arg;
}
static void on_fatal(void *arg, int code, const char *reason)
{
    (void)arg;
    fail_msg("consensus: %s: %s", err_name(code), reason);
}

static void open_consensus(void)
{
    struct err err = {0};
    const char *dir = test_path(test_dir(), "raft");
    s.net.ops = &net_ops;
    struct consensus_options options = {
        .loop = s.loop,
        .log_pool = s.log,
        .apply_pool = s.apply,
        .disk_pool = s.disk,
        .fs = fs_real(),
        .dir = dir,
        .fsm = meta_fsm(s.meta),
        .net = &s.net,
        .events = {.on_leader = on_leader, .on_lost = on_lost, .on_fatal = on_fatal},
        .arg = &s.done,
        .self = 1 << 16,
        .address = "127.0.0.1:1",
        .election_ms = 100,
        .heartbeat_ms = 10,
        .snapshot_entries = 50000,
        .snapshot_bytes = 64 << 20,
        .snapshot_trailing = 5000,
        .segment_bytes = 1 << 20,
        .window_bytes = 4 << 20,
    };
    check_ok(consensus_bootstrap(fs_real(), dir, options.self, options.address));
    check_ok(consensus_open(&options, &s.consensus, &err));
    check_ok(consensus_start(s.consensus));
    meta_attach(s.meta, s.consensus, s.loop);
    test_run_until(s.loop, &s.done, DEADLINE);
}

static void init_done(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    (void)req, (void)result;
    if (status != 0) {
        print_message("init: %s\n", err->msg);
    }
    check_ok(status);
    s.done = true;
}

static void submit_now(json_t *command)
{
    s.done = false;
    s.init = (struct meta_submit){.loop = s.loop, .command = command, .cb = init_done};
    meta_submit(s.meta, &s.init);
    test_run_until(s.loop, &s.done, DEADLINE);
}

static void first_commands(const uint8_t cluster_key[32])
{
    json_t *commands = NULL;
    check_ok(identity_init_commands(cluster_key, PASSWORD, s.loop, &commands));
    submit_now(json_pack("{s:s,s:o}", "op", "batch", "commands", commands));
    submit_now(json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s,s:s,s:s}", "op", "host.add", "name", "holder",
                         "zone", "", "roles", "image", "api_url", "https://holder:9292",
                         "peer_address", "127.0.0.1:2", "raft_address", "127.0.0.1:3", "version",
                         "1"));
    submit_now(json_pack("{s:s,s:i,s:i,s:s,s:s}", "op", "endpoint.grant", "host", 1, "epoch", 1,
                         "address", "", "reason", "test"));
}

static void open_server(void)
{
    unsigned port = 0;
    struct err err = {0};
    struct api_options options = {.loop = s.loop,
                                  .meta = s.meta,
                                  .identity = s.identity,
                                  .public_endpoint = "",
                                  .internal_endpoint = "http://inside:9292/",
                                  .region = "RegionOne",
                                  .store_id = "tessera",
                                  .host_name = "host1",
                                  .self = 1,
                                  .json_body_max = 1 << 20};
    struct http_options http = {0};
    check_ok(api_new(&options, &s.api));
    check_ok(http_server_new(s.loop, &http, api_handle, s.api, &s.server));
    check_ok(http_server_listen(s.server, "127.0.0.1:0", NULL, &port, &err));
    snprintf(s.url, sizeof(s.url), "http://127.0.0.1:%u", port);
}

static int site_open(void **state)
{
    (void)state;
    uint8_t cluster_key[32] = {5};
    struct err err = {0};
    check_ok(uv_loop_create("site", &s.loop));
    check_ok(thread_pool_new("log", 1, &s.log));
    check_ok(thread_pool_new("apply", 1, &s.apply));
    check_ok(thread_pool_new("disk", 1, &s.disk));
    check_ok(thread_pool_new("auth", 1, &s.auth));
    check_ok(kv_mem_open(meta_database_count, &s.kv));
    check_ok(meta_open(s.kv, &s.meta, &err));
    open_consensus();
    first_commands(cluster_key);
    struct identity_options identity = {.meta = s.meta,
                                        .auth_pool = s.auth,
                                        .cluster_key = cluster_key,
                                        .token_life_us = 3600 * INT64_C(1000000)};
    check_ok(identity_new(&identity, &s.identity));
    open_server();
    check_ok(uv_loop_start_thread(s.loop));
    return 0;
}

static void consensus_closed(void *arg)
{
    (void)arg;
    uv_loop_stop(s.loop);
}
static void server_closed(void *arg)
{
    (void)arg;
    meta_detach(s.meta);
    consensus_close(s.consensus, consensus_closed, NULL);
}
static void stop_now(struct task *task)
{
    (void)task;
    http_server_close(s.server, 0, server_closed, NULL);
}

static int site_close(void **state)
{
    (void)state;
    s.stop.run = stop_now;
    loop_post(s.loop, &s.stop);
    uv_loop_join(s.loop);
    thread_pool_free(s.auth);
    thread_pool_free(s.log);
    thread_pool_free(s.apply);
    thread_pool_free(s.disk);
    identity_free(s.identity);
    api_free(s.api);
    meta_close(s.meta);
    uv_loop_free(s.loop);
    return 0;
}

/* --- the client
 * ---------------------------------------------------------------------------------------- */

struct answer {
    int status;
    json_t *body; /* borrowed until the next call */
    char subject[512], location[256], challenge[256], vary[64];
};

/* One answer lives at a time. @text: ' stands for "; NULL = no body. @subject: NULL = none. */
static struct answer *call_subject(const char *method, const char *path, const char *token,
                                   const char *subject, const char *text)
{
    static struct answer a;
    static char url[1024], token_header[600], subject_header[600], body[4096];
    const char *headers[2];
    struct http_client_reply reply;
    struct err err = {0};
    size_t count = 0;
    json_decref(a.body);
    memset(&a, 0, sizeof(a));
    snprintf(url, sizeof(url), "%s/identity%s", s.url, path);
    if (token != NULL) {
        snprintf(token_header, sizeof(token_header), "X-Auth-Token: %s", token);
        headers[count++] = token_header;
    }
    if (subject != NULL) {
        snprintf(subject_header, sizeof(subject_header), "X-Subject-Token: %s", subject);
        headers[count++] = subject_header;
    }
    snprintf(body, sizeof(body), "%s", text != NULL ? text : "");
    for (char *p = body; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    struct http_client_request request = {.method = method,
                                          .url = url,
                                          .headers = headers,
                                          .header_count = count,
                                          .content_type = "application/json",
                                          .body = text != NULL ? body : NULL,
                                          .body_size = strlen(body),
                                          .timeout_ms = DEADLINE};
    check_ok(http_client_call(&request, &reply, &err));
    a.status = reply.status;
    a.body = json_parse(reply.body.data, reply.body.size);
    (void)http_client_header(&reply, "X-Subject-Token", a.subject, sizeof(a.subject));
    (void)http_client_header(&reply, "Location", a.location, sizeof(a.location));
    (void)http_client_header(&reply, "WWW-Authenticate", a.challenge, sizeof(a.challenge));
    (void)http_client_header(&reply, "Vary", a.vary, sizeof(a.vary));
    http_client_reply_free(&reply);
    return &a;
}

static struct answer *call(const char *method, const char *path, const char *token,
                           const char *text)
{
    return call_subject(method, path, token, NULL, text);
}

__attribute__((format(printf, 3, 4))) static struct answer *get(const char *token, int want,
                                                                const char *path, ...)
{
    char full[1024];
    va_list args;
    va_start(args, path);
    vsnprintf(full, sizeof(full), path, args);
    va_end(args);
    struct answer *a = call("GET", full, token, NULL);
    if (a->status != want) {
        print_message("GET %s\n", full);
    }
    check_int(a->status, want);
    return a;
}

static const char *message(const struct answer *a)
{
    return json_str_or(json_obj(a->body, "error"), "message", "");
}

static struct answer *login(const char *user, const char *password, const char *project)
{
    char text[1024], scope[256] = "";
    if (project != NULL) {
        snprintf(scope, sizeof(scope),
                 ",'scope':{'project':{'name':'%s','domain':{'name':'Default'}}}", project);
    }
    snprintf(text, sizeof(text),
             "{'auth':{'identity':{'methods':['password'],'password':{'user':{'name':'%s',"
             "'password':'%s','domain':{'id':'default'}}}}%s}}",
             user, password, scope);
    return call("POST", "/v3/auth/tokens", NULL, text);
}

static const char *admin(void)
{
    if (s.admin_token[0] == '\0') {
        struct answer *a = login("admin", PASSWORD, "admin");
        check_int(a->status, 201);
        snprintf(s.admin_token, sizeof(s.admin_token), "%s", a->subject);
    }
    return s.admin_token;
}

/* Make one thing as administrator; its id. */
static void create(const char *kind, const char *text, char id[33])
{
    char path[64];
    snprintf(path, sizeof(path), "/v3/%ss", kind);
    struct answer *a = call("POST", path, admin(), text);
    if (a->status != 201) {
        print_message("%s\n", message(a));
    }
    check_int(a->status, 201);
    snprintf(id, 33, "%s", json_str_or(json_obj(a->body, kind), "id", ""));
    check_int(strlen(id), 32);
}

static const char *role_id(const char *name)
{
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        if (strcmp(identity_role_table[i].name, name) == 0) {
            return identity_role_table[i].id;
        }
    }
    return "";
}

static int grant(const char *method, const char *project, const char *user, const char *role)
{
    char path[256];
    snprintf(path, sizeof(path), "/v3/projects/%s/users/%s/roles/%s", project, user, role_id(role));
    return call(method, path, admin(), NULL)->status;
}

/* A member "<name>" of a new project "<name>-project". */
struct member {
    char user[33], project[33], token[512];
};
static void make_member(const char *name, struct member *m)
{
    char text[512];
    snprintf(text, sizeof(text),
             "{'project':{'name':'%s-project','domain_id':'default','enabled':true,'options':{},"
             "'tags':[]}}",
             name);
    create("project", text, m->project);
    snprintf(
        text, sizeof(text),
        "{'user':{'name':'%s','domain_id':'default','password':'pw','enabled':true,'options':{}}}",
        name);
    create("user", text, m->user);
    check_int(grant("PUT", m->project, m->user, "member"), 204);
    snprintf(text, sizeof(text), "%s-project", name);
    struct answer *a = login(name, "pw", text);
    check_int(a->status, 201);
    snprintf(m->token, sizeof(m->token), "%s", a->subject);
}

/* --- tests
 * ------------------------------------------------------------------------------------------------
 */

static void discovery_is_open_and_names_this_host(void **state)
{
    (void)state;
    char want[128];
    snprintf(want, sizeof(want), "%s/identity/v3/", s.url);
    struct answer *a = get(NULL, 300, "/");
    check_str(a->location, want);
    const json_t *v = json_array_get(json_arr(json_obj(a->body, "versions"), "values"), 0);
    check_str(json_str(v, "id"), "v3.14");
    check_str(json_str(json_array_get(json_arr(v, "links"), 0), "href"), want);
    (void)get(NULL, 300, "%s", "");
    a = get(NULL, 200, "/v3");
    check_str(json_str(json_obj(a->body, "version"), "status"), "stable");
    a = get(NULL, 200, "/v3/");
    check_str(json_str(json_obj(a->body, "version"), "id"), "v3.14");
}

static const char *url_of(const json_t *catalog, const char *type, const char *interface)
{
    const json_t *service, *e;
    size_t i, k;
    json_array_foreach(catalog, i, service)
    {
        json_array_foreach(json_arr(service, "endpoints"), k, e)
        {
            if (strcmp(json_str_or(service, "type", ""), type) == 0 &&
                strcmp(json_str_or(e, "interface", ""), interface) == 0) {
                check_str(json_str(e, "region"), "RegionOne");
                check_str(json_str(e, "region_id"), "RegionOne");
                return json_str_or(e, "url", "");
            }
        }
    }
    return "";
}

static void a_token_has_all_that_clients_read(void **state)
{
    (void)state;
    char want[128];
    struct answer *a = login("admin", PASSWORD, "admin");
    check_int(a->status, 201);
    check_str(a->vary, "X-Auth-Token");
    check(strlen(a->subject) > 0 && strlen(a->subject) <= 255);
    const json_t *t = json_obj(a->body, "token");
    check_int(strlen(json_str_or(t, "expires_at", "")), strlen("2026-01-01T00:00:00.000000Z"));
    check_int(strlen(json_str_or(t, "issued_at", "")), strlen("2026-01-01T00:00:00.000000Z"));
    check_int(json_string_length(json_array_get(json_arr(t, "audit_ids"), 0)), 22);
    check_str(json_string_value(json_array_get(json_arr(t, "methods"), 0)), "password");
    check_str(json_str(json_obj(t, "user"), "name"), "admin");
    check_str(json_str(json_obj(json_obj(t, "user"), "domain"), "name"), "Default");
    check(json_is_null(json_object_get(json_obj(t, "user"), "password_expires_at")));
    check_str(json_str(json_obj(t, "project"), "name"), "admin");
    check(json_is_false(json_object_get(t, "is_domain")));
    check_int(json_array_size(json_arr(t, "roles")), 3);
    const json_t *catalog = json_arr(t, "catalog");
    check_int(json_array_size(catalog), 2);
    check_str(url_of(catalog, "image", "public"), s.url);
    check_str(url_of(catalog, "image", "internal"), "http://inside:9292");
    check_str(url_of(catalog, "image", "admin"), "https://holder:9292");
    snprintf(want, sizeof(want), "%s/identity/v3", s.url);
    check_str(url_of(catalog, "identity", "public"), want);
    check_str(url_of(catalog, "identity", "admin"), "https://holder:9292/identity/v3");
}

static void an_unscoped_token_has_neither_project_nor_roles_nor_catalog(void **state)
{
    (void)state;
    struct answer *a = login("admin", PASSWORD, NULL);
    check_int(a->status, 201);
    const json_t *t = json_obj(a->body, "token");
    check(t != NULL);
    check(json_object_get(t, "project") == NULL && json_object_get(t, "roles") == NULL);
    check(json_object_get(t, "catalog") == NULL && json_object_get(t, "is_domain") == NULL);
    char token[512];
    snprintf(token, sizeof(token), "%s", a->subject);
    (void)get(token, 403, "/v3/auth/catalog");
    a = get(token, 200, "/v3/auth/projects");
    check_int(json_array_size(json_arr(a->body, "projects")), 1);
}

static void failed_logins_say_where_to_log_in(void **state)
{
    (void)state;
    char want[128];
    struct answer *a = login("admin", "wrong", "admin");
    check_int(a->status, 401);
    check_str(message(a), "The request you have made requires authentication.");
    snprintf(want, sizeof(want), "Keystone uri=\"%s/identity/v3\"", s.url);
    check_str(a->challenge, want);
    check_int(login("nobody", PASSWORD, NULL)->status, 401);
    check_int(login("admin", PASSWORD, "nowhere")->status, 401);
    check_int(call("POST", "/v3/auth/tokens", NULL, "{'auth':{}}")->status, 400);
    check_int(call("POST", "/v3/auth/tokens", NULL, "[]")->status, 400);
    check_int(call("POST", "/v3/auth/tokens", NULL, "{")->status, 400);
    check_int(call("GET", "/v3/projects", "tsr1.nonsense", NULL)->status, 401);
    check_int(call("GET", "/v3/projects", NULL, NULL)->status, 401);
}

static void tokens_are_validated_and_revoked(void **state)
{
    (void)state;
    struct member m;
    make_member("val", &m);
    struct answer *a = call_subject("GET", "/v3/auth/tokens", m.token, m.token, NULL);
    check_int(a->status, 200);
    check_str(a->subject, m.token);
    check_str(json_str(json_obj(json_obj(a->body, "token"), "user"), "id"), m.user);
    check(json_arr(json_obj(a->body, "token"), "catalog") != NULL);
    a = call_subject("GET", "/v3/auth/tokens?nocatalog", admin(), m.token, NULL);
    check_int(a->status, 200);
    check(json_object_get(json_obj(a->body, "token"), "catalog") == NULL);
    check_int(call_subject("HEAD", "/v3/auth/tokens", admin(), m.token, NULL)->status, 200);
    check_int(call_subject("GET", "/v3/auth/tokens", m.token, admin(), NULL)->status, 403);
    check_int(call_subject("GET", "/v3/auth/tokens", m.token, "tsr1.x", NULL)->status, 404);
    check_int(call_subject("GET", "/v3/auth/tokens", m.token, NULL, NULL)->status, 404);
    check_int(call_subject("GET", "/v3/auth/tokens", "tsr1.x", m.token, NULL)->status, 401);
    check_int(call_subject("DELETE", "/v3/auth/tokens", m.token, admin(), NULL)->status, 403);
    check_int(call_subject("DELETE", "/v3/auth/tokens", m.token, m.token, NULL)->status, 204);
    check_int(call_subject("GET", "/v3/auth/tokens", admin(), m.token, NULL)->status, 404);
    (void)get(m.token, 401, "/v3/auth/projects");
}

static void members_get_403_beyond_their_own_things(void **state)
{
    (void)state;
    struct member m;
    make_member("rights", &m);
    static const char *const forbidden[] = {
        "/v3/projects",         "/v3/projects?name=admin",
        "/v3/projects/nothing", "/v3/users",
        "/v3/users/nobody",     "/v3/roles",
        "/v3/domains",          "/v3/services",
        "/v3/endpoints",        "/v3/role_assignments",
        "/v3/groups",
    };
    for (size_t i = 0; i < array_len(forbidden); i++) {
        (void)get(m.token, 403, "%s", forbidden[i]);
    }
    struct answer *a = get(m.token, 200, "/v3/projects/%s", m.project);
    check_str(json_str(json_obj(a->body, "project"), "name"), "rights-project");
    (void)get(m.token, 200, "/v3/users/%s", m.user);
    a = get(m.token, 200, "/v3/users/%s/projects", m.user);
    check_int(json_array_size(json_arr(a->body, "projects")), 1);
    (void)get(m.token, 200, "/v3/auth/catalog");
    check_int(call("POST", "/v3/projects", m.token, "{'project':{'name':'x'}}")->status, 403);
    check_int(call("POST", "/v3/users", m.token, "{'user':{'name':'x'}}")->status, 403);
    check_int(call("DELETE", "/v3/projects/nothing", m.token, NULL)->status, 403);
}

static void names_are_looked_up_as_the_clients_do(void **state)
{
    (void)state;
    struct member m;
    make_member("find", &m);
    (void)get(admin(), 404, "/v3/projects/find-project");
    struct answer *a = get(admin(), 200, "/v3/projects?name=find-project");
    const json_t *list = json_arr(a->body, "projects");
    check_int(json_array_size(list), 1);
    check_str(json_str(json_array_get(list, 0), "id"), m.project);
    check_str(json_str(json_array_get(list, 0), "parent_id"), "default");
    check(json_is_null(json_object_get(json_obj(a->body, "links"), "next")));
    char want[200];
    snprintf(want, sizeof(want), "%s/identity/v3/projects?name=find-project", s.url);
    check_str(json_str(json_obj(a->body, "links"), "self"), want);
    a = get(admin(), 200, "/v3/projects?name=none");
    check_int(json_array_size(json_arr(a->body, "projects")), 0);
    a = get(admin(), 200, "/v3/projects?domain_id=elsewhere");
    check_int(json_array_size(json_arr(a->body, "projects")), 0);
    (void)get(admin(), 404, "/v3/users/find");
    a = get(admin(), 200, "/v3/users?name=find&domain_id=default");
    check_int(json_array_size(json_arr(a->body, "users")), 1);
    check(json_object_get(json_array_get(json_arr(a->body, "users"), 0), "password") == NULL);
    (void)get(admin(), 404, "/v3/roles/member");
    a = get(admin(), 200, "/v3/roles?name=member");
    check_int(json_array_size(json_arr(a->body, "roles")), 1);
    check_int(json_array_size(json_arr(get(admin(), 200, "/v3/roles")->body, "roles")), 4);
    (void)get(admin(), 404, "/v3/domains/Default");
    a = get(admin(), 200, "/v3/domains?name=Default");
    check_str(json_str(json_array_get(json_arr(a->body, "domains"), 0), "id"), "default");
    (void)get(admin(), 404, "/v3/services/image");
    a = get(admin(), 200, "/v3/services?type=image");
    char service[64];
    snprintf(service, sizeof(service), "%s",
             json_str_or(json_array_get(json_arr(a->body, "services"), 0), "id", ""));
    a = get(admin(), 200, "/v3/endpoints?service_id=%s", service);
    check_int(json_array_size(json_arr(a->body, "endpoints")), 3);
    (void)get(admin(), 200, "/v3/services/%s", service);
    (void)get(admin(), 200, "/v3/regions/RegionOne");
    (void)get(admin(), 404, "/v3/groups/none");
    a = get(admin(), 200, "/v3/groups");
    check_int(json_array_size(json_arr(a->body, "groups")), 0);
}

static void projects_are_made_changed_and_deleted(void **state)
{
    (void)state;
    char id[33], path[128];
    create("project", "{'project':{'name':'life','description':'d'}}", id);
    struct answer *a = call("POST", "/v3/projects", admin(), "{'project':{'name':'life'}}");
    check_int(a->status, 409);
    check(strstr(message(a), "it is not permitted to have two projects") != NULL);
    check_int(call("POST", "/v3/projects", admin(), "{'project':{'name':7}}")->status, 400);
    check_int(call("POST", "/v3/projects", admin(), "{'project':{}}")->status, 400);
    check_int(call("POST", "/v3/projects", admin(), "{'name':'x'}")->status, 400);
    check_int(
        call("POST", "/v3/projects", admin(), "{'project':{'name':'x','domain_id':'no'}}")->status,
        404);
    snprintf(path, sizeof(path), "/v3/projects/%s", id);
    a = call("PATCH", path, admin(), "{'project':{'name':'life2','enabled':false}}");
    check_int(a->status, 200);
    check_str(json_str(json_obj(a->body, "project"), "description"), "d");
    check(json_is_false(json_object_get(json_obj(a->body, "project"), "enabled")));
    a = get(admin(), 200, "/v3/projects?enabled=false&name=life2");
    check_int(json_array_size(json_arr(a->body, "projects")), 1);
    check_int(call("PATCH", path, admin(), "{'project':{'name':'admin'}}")->status, 409);
    check_int(call("DELETE", path, admin(), NULL)->status, 204);
    check_int(call("DELETE", path, admin(), NULL)->status, 404);
    check_int(call("PATCH", path, admin(), "{'project':{'name':'x'}}")->status, 404);
    (void)get(admin(), 404, "/v3/projects/%s", id);
}

static void users_are_made_changed_and_deleted(void **state)
{
    (void)state;
    struct member m;
    char path[128];
    make_member("carol", &m);
    check_int(call("POST", "/v3/users", admin(), "{'user':{'name':'carol'}}")->status, 409);
    check_int(call("POST", "/v3/users", admin(), "{'user':{'name':'x','enabled':1}}")->status, 400);
    snprintf(path, sizeof(path), "/v3/users/%s", m.user);
    struct answer *a = call("PATCH", path, admin(), "{'user':{'email':'c@example.org'}}");
    check_int(a->status, 200);
    check_str(json_str(json_obj(a->body, "user"), "email"), "c@example.org");
    (void)get(m.token, 200, "/v3/auth/projects");
    check_int(call("PATCH", path, admin(), "{'user':{'password':'pw2'}}")->status, 200);
    (void)get(m.token, 401, "/v3/auth/projects"); /* a new password voids tokens */
    check_int(login("carol", "pw", "carol-project")->status, 401);
    check_int(login("carol", "pw2", "carol-project")->status, 201);
    check_int(call("PATCH", path, admin(), "{'user':{'enabled':false}}")->status, 200);
    check_int(login("carol", "pw2", "carol-project")->status, 401);
    check_int(call("DELETE", path, admin(), NULL)->status, 204);
    (void)get(admin(), 404, "/v3/users/%s", m.user);
    a = get(admin(), 200, "/v3/role_assignments?scope.project.id=%s", m.project);
    check_int(json_array_size(json_arr(a->body, "role_assignments")), 0);
}

static void a_user_changes_its_own_password_with_the_old_one(void **state)
{
    (void)state;
    struct member m;
    char path[128];
    make_member("dave", &m);
    snprintf(path, sizeof(path), "/v3/users/%s/password", m.user);
    check_int(
        call("POST", path, m.token, "{'user':{'password':'new','original_password':'no'}}")->status,
        401);
    check_int(call("POST", path, m.token, "{'user':{'password':'new'}}")->status, 400);
    check_int(
        call("POST", path, admin(), "{'user':{'password':'new','original_password':'pw'}}")->status,
        403);
    check_int(
        call("POST", path, m.token, "{'user':{'password':'new','original_password':'pw'}}")->status,
        204);
    check_int(login("dave", "new", "dave-project")->status, 201);
}

static void roles_are_given_checked_listed_and_taken(void **state)
{
    (void)state;
    struct member m;
    char path[256];
    make_member("erin", &m);
    check_int(grant("PUT", m.project, m.user, "member"), 204); /* again: fine */
    check_int(grant("HEAD", m.project, m.user, "member"), 204);
    check_int(grant("HEAD", m.project, m.user, "admin"), 404);
    check_int(grant("PUT", m.project, "nobody", "member"), 404);
    check_int(grant("PUT", "nowhere", m.user, "member"), 404);
    struct answer *a = get(admin(), 200, "/v3/projects/%s/users/%s/roles", m.project, m.user);
    check_int(json_array_size(json_arr(a->body, "roles")), 1);
    a = get(admin(), 200, "/v3/role_assignments?user.id=%s&scope.project.id=%s&include_names=True",
            m.user, m.project);
    const json_t *first = json_array_get(json_arr(a->body, "role_assignments"), 0);
    check_str(json_str(json_obj(first, "role"), "name"), "member");
    check_str(json_str(json_obj(first, "user"), "name"), "erin");
    check_str(json_str(json_obj(json_obj(json_obj(first, "scope"), "project"), "domain"), "name"),
              "Default");
    a = get(admin(), 200, "/v3/role_assignments?user.id=%s&effective", m.user);
    check_int(json_array_size(json_arr(a->body, "role_assignments")), 2);
    check_int(grant("DELETE", m.project, m.user, "member"), 204);
    check_int(grant("DELETE", m.project, m.user, "member"), 404);
    (void)get(m.token, 401, "/v3/auth/projects"); /* no role, no scope */
    snprintf(path, sizeof(path), "/v3/system/users/%s/roles/%s", m.user, role_id("reader"));
    check_int(call("PUT", path, admin(), NULL)->status, 204);
    check_int(call("HEAD", path, admin(), NULL)->status, 204);
    check_int(call("DELETE", path, admin(), NULL)->status, 204);
}

static void application_credentials_log_in_without_password(void **state)
{
    (void)state;
    struct member m;
    char path[200], id[64], secret[128], text[600];
    make_member("app", &m);
    snprintf(path, sizeof(path), "/v3/users/%s/application_credentials", m.user);
    struct answer *a = call("POST", path, m.token,
                            "{'application_credential':{'name':'ci','unrestricted':false}}");
    check_int(a->status, 201);
    const json_t *made = json_obj(a->body, "application_credential");
    snprintf(id, sizeof(id), "%s", json_str_or(made, "id", ""));
    snprintf(secret, sizeof(secret), "%s", json_str_or(made, "secret", ""));
    check(strlen(secret) > 30);
    check_int(call("POST", path, m.token, "{'application_credential':{'name':'ci'}}")->status, 409);
    check_int(call("POST", path, admin(), "{'application_credential':{'name':'x'}}")->status, 403);
    check_int(call("POST", path, m.token,
                   "{'application_credential':{'name':'x','access_rules':[{'path':'/'}]}}")
                  ->status,
              400); /* a rule names service and method, too */
    snprintf(text, sizeof(text),
             "{'auth':{'identity':{'methods':['application_credential'],"
             "'application_credential':{'id':'%s','secret':'%s'}}}}",
             id, secret);
    a = call("POST", "/v3/auth/tokens", NULL, text);
    check_int(a->status, 201);
    const json_t *t = json_obj(a->body, "token");
    check_str(json_str(json_obj(t, "application_credential"), "name"), "ci");
    check_str(json_str(json_obj(t, "project"), "id"), m.project);
    a = get(m.token, 200, "%s?name=ci", path);
    check_int(json_array_size(json_arr(a->body, "application_credentials")), 1);
    check(json_object_get(json_array_get(json_arr(a->body, "application_credentials"), 0),
                          "secret") == NULL);
    snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", id);
    (void)get(m.token, 200, "%s", path);
    check_int(call("DELETE", path, m.token, NULL)->status, 204);
    (void)get(m.token, 404, "%s", path);
    check_int(call("POST", "/v3/auth/tokens", NULL, text)->status, 401);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discovery_is_open_and_names_this_host),
        cmocka_unit_test(a_token_has_all_that_clients_read),
        cmocka_unit_test(an_unscoped_token_has_neither_project_nor_roles_nor_catalog),
        cmocka_unit_test(failed_logins_say_where_to_log_in),
        cmocka_unit_test(tokens_are_validated_and_revoked),
        cmocka_unit_test(members_get_403_beyond_their_own_things),
        cmocka_unit_test(names_are_looked_up_as_the_clients_do),
        cmocka_unit_test(projects_are_made_changed_and_deleted),
        cmocka_unit_test(users_are_made_changed_and_deleted),
        cmocka_unit_test(a_user_changes_its_own_password_with_the_old_one),
        cmocka_unit_test(roles_are_given_checked_listed_and_taken),
        cmocka_unit_test(application_credentials_log_in_without_password),
    };
    return cmocka_run_group_tests(tests, site_open, site_close);
}
