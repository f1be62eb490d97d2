/* Logins: every form that clients send, and every refusal. */
#include "fixture.h"

#include "identity/internal.h"

static struct world w;

static int setup(void **state)
{
    (void)state;
    world_open(&w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

#define BY_NAME(domain, password)                                                             \
    "'identity':{'methods':['password'],'password':{'user':{'name':'admin','domain':{" domain \
    "},'password':'" password "'}}}"
#define ADMIN BY_NAME("'name':'Default'", PASSWORD)

/* @text with %s for @arg. */
static int login_with(struct login_probe *p, const char *text, const char *arg)
{
    char body[2048];
    snprintf(body, sizeof(body), text, arg);
    return login(&w, p, body);
}

static void a_password_by_name_gives_a_token_for_the_project(void **state)
{
    (void)state;
    struct login_probe p;
    struct caller c;
    char text[512];
    check_ok(login(&w, &p, ADMIN_LOGIN));
    check_str(p.req.caller.project_id, w.admin_project);
    check_str(p.req.caller.methods, "password");
    check_int(p.req.caller.issued_us, w.loop.wall_us);
    check_int(p.req.caller.expires_us - p.req.caller.issued_us, 4 * 3600 * SECOND);
    check(caller_is_admin(&p.req.caller));
    check_ok(issue(&w, &p.req.caller, text));
    check_ok(check_token(&w, text, &c));
    check_mem(&c, &p.req.caller, sizeof(c));
}

static void all_forms_of_user_and_scope_are_understood(void **state)
{
    (void)state;
    struct login_probe p;
    char body[2048];
    check_ok(login(&w, &p, "{'auth':{" BY_NAME("'id':'default'", PASSWORD) "}}"));
    check_int(p.req.caller.scope, SCOPE_NONE);
    check_int(p.req.caller.roles, 0);
    check_ok(login_with(&p,
                        "{'auth':{'identity':{'methods':['password'],'password':{'user':{'id':'%s',"
                        "'password':'" PASSWORD "'}}},'scope':'unscoped'}}",
                        w.admin));
    check_str(p.req.caller.user_name, "admin");
    check_ok(
        login_with(&p, "{'auth':{" ADMIN ",'scope':{'project':{'id':'%s'}}}}", w.admin_project));
    check_int(p.req.caller.scope, SCOPE_PROJECT);
    check_ok(login_with(
        &p, "{'auth':{" ADMIN ",'scope':{'project':{'id':'%s','domain':{'id':'default'}}}}}",
        w.admin_project));
    check_ok(login(&w, &p, "{'auth':{" ADMIN ",'scope':{'system':{'all':true}}}}"));
    check_int(p.req.caller.scope, SCOPE_SYSTEM);
    check(caller_is_admin(&p.req.caller));
    snprintf(body, sizeof(body), "{'auth':{" ADMIN ",'scope':{'domain':{'id':'default'}}}}");
    check_code(login(&w, &p, body), TSR_EUNAUTHORIZED);
    grant(&w, w.admin, SCOPE_DOMAIN, "default", ROLE_MEMBER);
    check_ok(login(&w, &p, body));
    check_str(p.req.caller.domain_id, "default");
    check_int(p.req.caller.roles, ROLE_MEMBER | ROLE_READER);
}

static void the_default_project_is_taken_where_the_user_has_a_role(void **state)
{
    (void)state;
    struct login_probe p;
    char service[33];
    find_id(&w, "project", "service", service);
    set_field(&w, "user", w.admin, "default_project_id", json_string(service));
    check_ok(login(&w, &p, "{'auth':{" ADMIN "}}"));
    check_int(p.req.caller.scope, SCOPE_NONE);
    set_field(&w, "user", w.admin, "default_project_id", json_string(w.admin_project));
    check_ok(login(&w, &p, "{'auth':{" ADMIN "}}"));
    check_str(p.req.caller.project_id, w.admin_project);
    check_ok(login(&w, &p, "{'auth':{" ADMIN ",'scope':'unscoped'}}"));
    check_int(p.req.caller.scope, SCOPE_NONE);
}

static void all_refusals_look_the_same(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{'auth':{" BY_NAME("'name':'Default'", "wrong") "}}",
        "{'auth':{" BY_NAME("'name':'Nowhere'", PASSWORD) "}}",
        "{'auth':{" BY_NAME("'id':'nowhere'", PASSWORD) "}}",
        "{'auth':{'identity':{'methods':['password'],'password':{'user':{'id':'nobody',"
        "'password':'x'}}}}}",
        "{'auth':{" ADMIN ",'scope':{'project':{'id':'none'}}}}",
        "{'auth':{" ADMIN ",'scope':{'project':{'name':'service','domain':{'id':'default'}}}}}",
        "{'auth':{" ADMIN ",'scope':{'project':{'name':'admin','domain':{'id':'elsewhere'}}}}}",
        "{'auth':{'identity':{'methods':['token'],'token':{'id':'tsr1.AAAA'}}}}",
        "{'auth':{'identity':{'methods':['totp'],'totp':{}}}}",
        "{'auth':{'identity':{'methods':['application_credential'],'application_credential':{"
        "'id':'none','secret':'x'}}}}",
    };
    for (size_t i = 0; i < array_len(bodies); i++) {
        struct login_probe p;
        struct caller none = {0};
        check_code(login(&w, &p, bodies[i]), TSR_EUNAUTHORIZED);
        check_str(p.err.msg, "The request you have made requires authentication.");
        check_mem(&p.req.caller, &none, sizeof(none));
    }
}

static void an_unknown_user_costs_a_hash_too(void **state)
{
    (void)state;
    struct login_probe p;
    login_begin(&w, &p,
                "{'auth':{'identity':{'methods':['password'],'password':{'user':{'id':'nobody',"
                "'password':'x'}}}}}");
    check_int(w.pool.depth, 1);
    pump(&w);
    check_code(p.status, TSR_EUNAUTHORIZED);
    json_decref(p.body);
}

static void disabled_users_and_users_without_password_stay_out(void **state)
{
    (void)state;
    struct login_probe p;
    set_field(&w, "user", w.admin, "enabled", json_false());
    check_code(login(&w, &p, ADMIN_LOGIN), TSR_EUNAUTHORIZED);
    set_field(&w, "user", w.admin, "enabled", json_true());
    set_field(&w, "user", w.admin, "password", json_null());
    check_code(login(&w, &p, ADMIN_LOGIN), TSR_EUNAUTHORIZED);
}

static void malformed_bodies_are_bad_requests(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "[]",
        "{}",
        "'auth'",
        "{'auth':[]}",
        "{'auth':{'identity':{}}}",
        "{'auth':{'identity':{'methods':[]}}}",
        "{'auth':{'identity':{'methods':'password'}}}",
        "{'auth':{'identity':{'methods':[7]}}}",
        "{'auth':{'identity':{'methods':['password']}}}",
        "{'auth':{'identity':{'methods':['password'],'password':[]}}}",
        "{'auth':{'identity':{'methods':['password'],'password':{}}}}",
        "{'auth':{'identity':{'methods':['password'],'password':{'user':{'name':'x'}}}}}",
        "{'auth':{'identity':{'methods':['password'],'password':{'user':{'name':'x','password':'y'}"
        "}}}}",
        "{'auth':{'identity':{'methods':['password'],'password':{'user':{'id':7,'password':'y'}}}}"
        "}",
        "{'auth':{'identity':{'methods':['token'],'token':{}}}}",
        "{'auth':{" ADMIN ",'scope':7}}",
        "{'auth':{" ADMIN ",'scope':'everything'}}",
        "{'auth':{" ADMIN ",'scope':{}}}",
        "{'auth':{" ADMIN ",'scope':{'project':{}}}}",
        "{'auth':{" ADMIN ",'scope':{'project':{'name':'admin'}}}}",
        "{'auth':{" ADMIN ",'scope':{'system':{'all':false}}}}",
        "{'auth':{" ADMIN ",'scope':{'system':{'all':true},'project':{'id':'x'}}}}",
    };
    for (size_t i = 0; i < array_len(bodies); i++) {
        struct login_probe p;
        check_code(login(&w, &p, bodies[i]), TSR_EINVAL);
        check(p.err.msg[0] != '\0');
    }
}

static void a_token_gives_another_scope_with_the_same_end(void **state)
{
    (void)state;
    struct login_probe p;
    struct caller first;
    char text[512];
    make_caller(&w, w.admin, SCOPE_NONE, "", &first);
    check_ok(issue(&w, &first, text));
    advance(&w, 1000 * SECOND);
    check_ok(login_with(&p,
                        "{'auth':{'identity':{'methods':['token'],'token':{'id':'%s'}},"
                        "'scope':{'project':{'name':'admin','domain':{'name':'Default'}}}}}",
                        text));
    check_int(p.req.caller.expires_us, first.expires_us);
    check_int(p.req.caller.issued_us, w.loop.wall_us);
    check_str(p.req.caller.methods, "token,password");
    check_str(p.req.caller.project_id, w.admin_project);
    check(strcmp(p.req.caller.audit_id, first.audit_id) != 0);
    advance(&w, 4 * 3600 * SECOND);
    check_code(
        login_with(&p, "{'auth':{'identity':{'methods':['token'],'token':{'id':'%s'}}}}", text),
        TSR_EUNAUTHORIZED);
}

static void ten_failures_in_a_minute_are_enough_for_that_minute(void **state)
{
    (void)state;
    struct login_probe p;
    uint64_t who = failure_key(w.admin, "");
    for (int i = 0; i < FAILURES_MAX; i++) {
        check(!failures_exceeded(w.identity, who, loop_now_ms(&w.loop.loop)));
        failures_add(w.identity, who, loop_now_ms(&w.loop.loop));
    }
    check_code(login(&w, &p, ADMIN_LOGIN), TSR_ETOOMANY);
    check_code(
        login(&w, &p,
              "{'auth':{'identity':{'methods':['password'],'password':{'user':{'id':'nobody',"
              "'password':'x'}}}}}"),
        TSR_EUNAUTHORIZED);
    advance(&w, 60 * SECOND);
    check_ok(login(&w, &p, ADMIN_LOGIN));
}

static void each_failed_login_is_counted(void **state)
{
    (void)state;
    struct login_probe p;
    uint64_t who = failure_key(w.admin, "");
    for (int i = 0; i < FAILURES_MAX - 1; i++) {
        failures_add(w.identity, who, loop_now_ms(&w.loop.loop));
    }
    check_ok(login(&w, &p, ADMIN_LOGIN));
    check_code(login(&w, &p, "{'auth':{" BY_NAME("'id':'default'", "wrong") "}}"),
               TSR_EUNAUTHORIZED);
    check_code(login(&w, &p, ADMIN_LOGIN), TSR_ETOOMANY);
}

static void a_full_queue_is_told_at_once(void **state)
{
    (void)state;
    struct login_probe p;
    w.pool.depth = AUTH_QUEUE_MAX;
    check_code(login(&w, &p, ADMIN_LOGIN), TSR_EBUSY);
    w.pool.depth = 0;
}

static void a_password_changed_during_the_hash_does_not_let_the_old_one_in(void **state)
{
    (void)state;
    struct login_probe p;
    login_begin(&w, &p, ADMIN_LOGIN);
    set_field(&w, "user", w.admin, "password", json_string("scrypt$other"));
    pump(&w);
    check_code(p.status, TSR_EUNAUTHORIZED);
    json_decref(p.body);
}

static void a_clock_that_lags_behind_a_change_does_not_make_dead_tokens(void **state)
{
    (void)state;
    struct login_probe p;
    struct caller c;
    char text[512];
    int64_t ahead = w.loop.wall_us + 2 * SECOND;
    set_field(&w, "user", w.admin, "valid_from", json_integer(ahead));
    check_ok(login(&w, &p, ADMIN_LOGIN));
    check_int(p.req.caller.issued_us, ahead);
    check_ok(issue(&w, &p.req.caller, text));
    check_ok(check_token(&w, text, &c));
}

/* --- hashes
 * -------------------------------------------------------------------------------------------- */

struct hash_probe {
    struct identity_hash req;
    bool done;
    int status;
    char text[128];
};

static void hash_probe_cb(struct identity_hash *req, int status, const char *text)
{
    struct hash_probe *p = req->arg;
    p->done = true;
    p->status = status;
    snprintf(p->text, sizeof(p->text), "%s", text != NULL ? text : "");
}

static void hash_of(struct hash_probe *p, const char *password)
{
    memset(p, 0, sizeof(*p));
    p->req = (struct identity_hash){
        .loop = &w.loop.loop, .password = password, .cb = hash_probe_cb, .arg = p};
    identity_hash_start(w.identity, &p->req);
    check(!p->done);
    pump(&w);
    check(p->done);
}

static void a_hash_is_salted_and_verifies_its_password_only(void **state)
{
    (void)state;
    struct hash_probe a, b;
    hash_of(&a, "secret");
    hash_of(&b, "secret");
    check_ok(a.status);
    check(strcmp(a.text, b.text) != 0);
    check(password_verify("secret", a.text));
    check(!password_verify("Secret", a.text));
    check(!password_verify("", "scrypt$"));
    w.pool.depth = AUTH_QUEUE_MAX;
    hash_of(&a, "secret");
    check_code(a.status, TSR_EBUSY);
    w.pool.depth = 0;
}

static void an_application_credential_logs_in_by_id_or_name_without_scope(void **state)
{
    (void)state;
    struct login_probe p;
    struct hash_probe h;
    hash_of(&h, "app secret");
    check_ok(put(&w, "appcred", "ac1",
                 json_pack("{s:s,s:s,s:s,s:s,s:[s],s:s}", "name", "app", "domain", w.admin,
                           "user_id", w.admin, "project_id", w.admin_project, "roles",
                           identity_role_table[1].id, "secret", h.text)));
    check_ok(login(&w, &p,
                   "{'auth':{'identity':{'methods':['application_credential'],"
                   "'application_credential':{'id':'ac1','secret':'app secret'}}}}"));
    check_str(p.req.caller.methods, "application_credential");
    check_int(p.req.caller.roles, ROLE_MEMBER | ROLE_READER);
    check_str(p.req.caller.project_id, w.admin_project);
    check_str(p.req.caller.appcred_id, "ac1");
    check_ok(login_with(&p,
                        "{'auth':{'identity':{'methods':['application_credential'],"
                        "'application_credential':{'name':'app','secret':'app secret',"
                        "'user':{'id':'%s'}}}}}",
                        w.admin));
    check_code(login(&w, &p,
                     "{'auth':{'identity':{'methods':['application_credential'],"
                     "'application_credential':{'id':'ac1','secret':'wrong'}}}}"),
               TSR_EUNAUTHORIZED);
    check_code(login(&w, &p,
                     "{'auth':{'identity':{'methods':['application_credential'],"
                     "'application_credential':{'id':'ac1','secret':'app secret'}},"
                     "'scope':{'system':{'all':true}}}}"),
               TSR_EUNAUTHORIZED);
}

#define with(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
TEST_MAIN(with(a_password_by_name_gives_a_token_for_the_project),
          with(all_forms_of_user_and_scope_are_understood),
          with(the_default_project_is_taken_where_the_user_has_a_role),
          with(all_refusals_look_the_same), with(an_unknown_user_costs_a_hash_too),
          with(disabled_users_and_users_without_password_stay_out),
          with(malformed_bodies_are_bad_requests),
          with(a_token_gives_another_scope_with_the_same_end),
          with(ten_failures_in_a_minute_are_enough_for_that_minute),
          with(each_failed_login_is_counted), with(a_full_queue_is_told_at_once),
          with(a_password_changed_during_the_hash_does_not_let_the_old_one_in),
          with(a_clock_that_lags_behind_a_change_does_not_make_dead_tokens),
          with(a_hash_is_salted_and_verifies_its_password_only),
          with(an_application_credential_logs_in_by_id_or_name_without_scope))
