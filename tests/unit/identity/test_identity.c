/* Tokens in use: what voids them, which roles they carry, which key signs. */
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

static void admin_token(char text[512])
{
    struct caller c;
    make_caller(&w, w.admin, SCOPE_PROJECT, w.admin_project, &c);
    check_ok(issue(&w, &c, text));
}

/* User "u1" with @bit on project "p1". */
static void add_user(unsigned bit)
{
    check_ok(
        put(&w, "project", "p1", json_pack("{s:s,s:s}", "name", "alpha", "domain_id", "default")));
    check_ok(
        put(&w, "user", "u1", json_pack("{s:s,s:s}", "name", "alice", "domain_id", "default")));
    grant(&w, "u1", SCOPE_PROJECT, "p1", bit);
}

static void user_token(char text[512])
{
    struct caller c;
    make_caller(&w, "u1", SCOPE_PROJECT, "p1", &c);
    check_ok(issue(&w, &c, text));
}

static void a_token_tells_who_and_where_and_the_implied_roles(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    admin_token(text);
    check_ok(check_token(&w, text, &c));
    check_str(c.user_id, w.admin);
    check_str(c.user_name, "admin");
    check_str(c.user_domain_name, "Default");
    check_str(c.project_id, w.admin_project);
    check_str(c.project_name, "admin");
    check_str(c.project_domain_id, "default");
    check_int(c.scope, SCOPE_PROJECT);
    check_int(c.roles, ROLE_ADMIN | ROLE_MEMBER | ROLE_READER);
    check_int(strlen(c.audit_id), 22);
    check_str(c.methods, "password");
    check(strlen(text) <= 255);
}

static void a_token_ends_when_its_time_is_over(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    admin_token(text);
    advance(&w, 4 * 3600 * SECOND - 1);
    check_ok(check_token(&w, text, &c));
    advance(&w, 1);
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
    check_str(c.user_id, "");
}

static int check_expired(const char *token, struct caller *out)
{
    struct meta_view *view = NULL;
    check_ok(meta_view_open(w.meta, &view));
    int rv = identity_check_expired(w.identity, view, token, w.loop.wall_us, out);
    meta_view_close(view);
    return rv;
}

static void a_token_beside_a_services_own_may_have_ended_a_while_ago(void **state)
{
    (void)state;
    char text[512], revoked[512];
    struct caller c;
    w.identity->expired_window_us = 3600 * SECOND;
    admin_token(text);
    admin_token(revoked);
    check_ok(check_token(&w, revoked, &c));
    check_ok(put(&w, "revocation", c.audit_id, json_pack("{s:I}", "expires_at", (json_int_t)1)));
    advance(&w, 5 * 3600 * SECOND - 1);
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
    check_ok(check_expired(text, &c));
    check_str(c.user_name, "admin");
    check_code(check_expired(revoked, &c), TSR_EUNAUTHORIZED);
    advance(&w, 1);
    check_code(check_expired(text, &c), TSR_EUNAUTHORIZED);
    check_str(c.user_id, "");
}

static void a_revoked_token_is_void_and_its_sister_is_not(void **state)
{
    (void)state;
    char text[512], sister[512];
    struct caller c;
    admin_token(text);
    admin_token(sister);
    check_ok(check_token(&w, text, &c));
    check_ok(put(&w, "revocation", c.audit_id, json_pack("{s:I}", "expires_at", (json_int_t)1)));
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
    check_ok(check_token(&w, sister, &c));
}

static void disabling_or_deleting_the_user_voids_its_tokens(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    add_user(ROLE_MEMBER);
    user_token(text);
    check_ok(check_token(&w, text, &c));
    set_field(&w, "user", "u1", "enabled", json_false());
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
    set_field(&w, "user", "u1", "enabled", json_true());
    check_ok(check_token(&w, text, &c));
    check_ok(remove_record(&w, "user", "u1"));
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
}

static void disabling_project_or_domain_voids_tokens(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    add_user(ROLE_MEMBER);
    user_token(text);
    set_field(&w, "project", "p1", "enabled", json_false());
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
    set_field(&w, "project", "p1", "enabled", json_true());
    set_field(&w, "domain", "default", "enabled", json_false());
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
}

static void tokens_from_before_valid_from_are_void(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    add_user(ROLE_MEMBER);
    user_token(text);
    set_field(&w, "user", "u1", "valid_from", json_integer(w.loop.wall_us));
    check_ok(check_token(&w, text, &c));
    set_field(&w, "user", "u1", "valid_from", json_integer(w.loop.wall_us + 1));
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
    set_field(&w, "user", "u1", "valid_from", json_integer(0));
    set_field(&w, "project", "p1", "valid_from", json_integer(w.loop.wall_us + 1));
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
}

static void roles_are_those_of_the_moment_of_use(void **state)
{
    (void)state;
    char text[512], id[ASSIGNMENT_ID_MAX];
    struct caller c;
    add_user(ROLE_READER);
    user_token(text);
    check_ok(check_token(&w, text, &c));
    check_int(c.roles, ROLE_READER);
    grant(&w, "u1", SCOPE_PROJECT, "p1", ROLE_ADMIN);
    check_ok(check_token(&w, text, &c));
    check(caller_is_admin(&c));
    identity_assignment_id("u1", SCOPE_PROJECT, "p1", identity_role_table[0].id, id);
    check_ok(remove_record(&w, "assignment", id));
    identity_assignment_id("u1", SCOPE_PROJECT, "p1", identity_role_table[2].id, id);
    check_ok(remove_record(&w, "assignment", id));
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
}

static void roles_on_one_project_give_nothing_on_one_with_a_longer_name(void **state)
{
    (void)state;
    unsigned roles = 0;
    add_user(ROLE_MEMBER);
    struct meta_view *v = open_view(&w);
    check_ok(identity_roles_assigned(v, "u1", SCOPE_PROJECT, "p", &roles));
    check_int(roles, 0);
    check_ok(identity_roles_assigned(v, "u", SCOPE_PROJECT, "p1", &roles));
    check_int(roles, 0);
    check_ok(identity_roles_assigned(v, "u1", SCOPE_DOMAIN, "p1", &roles));
    check_int(roles, 0);
    check_ok(identity_roles_assigned(v, "u1", SCOPE_SYSTEM, "", &roles));
    check_int(roles, 0);
    meta_view_close(v);
}

static void put_key(const char *id, int64_t created)
{
    char unused[9];
    json_t *value = NULL;
    check_ok(key_record_new(w.cluster_key, &w.loop.loop, created, unused, &value));
    json_set_str(value, "id", id);
    check_ok(put(&w, "token_key", id, value));
}

static uint32_t signing(void)
{
    uint8_t secret[TOKEN_KEY_SIZE];
    uint32_t id = 0;
    struct meta_view *v = open_view(&w);
    check_ok(key_signing(w.identity, v, w.loop.wall_us, &id, secret));
    meta_view_close(v);
    return id;
}

static void a_new_key_signs_once_every_host_has_had_a_minute_to_learn_it(void **state)
{
    (void)state;
    char before[512], after[512];
    struct caller c;
    uint32_t first = signing();
    advance(&w, 3600 * SECOND);
    admin_token(before);
    put_key("00000abc", w.loop.wall_us);
    check_int(signing(), first);
    advance(&w, 60 * SECOND);
    check_int(signing(), 0xabc);
    admin_token(after);
    check_ok(check_token(&w, before, &c));
    check_ok(check_token(&w, after, &c));
}

static void a_key_that_is_gone_signs_for_nobody_a_minute_later(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    put_key("00000abc", w.loop.wall_us - 120 * SECOND);
    put_key("00000abd", w.loop.wall_us - 60 * SECOND);
    check_int(signing(), 0xabd);
    admin_token(text);
    check_ok(remove_record(&w, "token_key", "00000abd"));
    advance(&w, 60 * SECOND);
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
}

static void a_cluster_key_that_does_not_fit_is_no_verdict_on_the_token(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    struct identity *other = NULL;
    uint8_t wrong[32] = {0};
    admin_token(text);
    struct identity_options options = {
        .meta = w.meta, .auth_pool = &w.pool.pool, .cluster_key = wrong, .token_life_us = 1};
    check_ok(identity_new(&options, &other));
    struct meta_view *v = open_view(&w);
    check_code(identity_check(other, v, text, w.loop.wall_us, &c), TSR_EUNAVAILABLE);
    meta_view_close(v);
    identity_free(other);
}

static void an_application_credential_limits_roles_and_dies_with_its_record(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    add_user(ROLE_MEMBER);
    check_ok(
        put(&w, "appcred", "ac1",
            json_pack("{s:s,s:s,s:s,s:s,s:[s],s:s}", "name", "app", "domain", "u1", "user_id", "u1",
                      "project_id", "p1", "roles", identity_role_table[2].id, "secret", "x")));
    make_caller(&w, "u1", SCOPE_PROJECT, "p1", &c);
    snprintf(c.appcred_id, sizeof(c.appcred_id), "ac1");
    check_ok(issue(&w, &c, text));
    check_ok(check_token(&w, text, &c));
    check_int(c.roles, ROLE_READER);
    check_ok(remove_record(&w, "appcred", "ac1"));
    check_code(check_token(&w, text, &c), TSR_EUNAUTHORIZED);
}

/* What was remembered of one state of the store is not believed of the next. */
static void a_token_checked_before_is_checked_anew_after_any_change(void **state)
{
    (void)state;
    char text[512], other[512];
    struct caller first, again;
    add_user(ROLE_MEMBER);
    user_token(text);
    admin_token(other);
    struct meta_view *old = open_view(&w);
    check_ok(check_token(&w, text, &first));
    check_ok(check_token(&w, text, &again));
    check_mem(&first, &again, sizeof(first));
    check_ok(check_token(&w, other, &again));
    check_str(again.user_id, w.admin);
    set_field(&w, "user", "u1", "name", json_string("alina"));
    check_ok(check_token(&w, text, &again));
    check_str(again.user_name, "alina");
    check_ok(identity_check(w.identity, old, text, w.loop.wall_us, &again));
    check_str(again.user_name, "alice");
    meta_view_close(old);
    set_field(&w, "user", "u1", "enabled", json_false());
    check_code(check_token(&w, text, &again), TSR_EUNAUTHORIZED);
}

static void the_first_directory_is_complete(void **state)
{
    (void)state;
    char service[33];
    json_t *list = NULL;
    find_id(&w, "project", "service", service);
    check_int(strlen(service), 32);
    check_int(strlen(w.admin), 32);
    struct meta_view *v = open_view(&w);
    check_ok(meta_dir_list(v, "role", "", "", 100, &list));
    check_int(json_array_size(list), IDENTITY_ROLES);
    json_decref(list);
    check_ok(meta_dir_list(v, "token_key", "", "", 100, &list));
    check_int(json_array_size(list), 1);
    json_decref(list);
    meta_view_close(v);
}

#define with(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
TEST_MAIN(with(a_token_tells_who_and_where_and_the_implied_roles),
          with(a_token_ends_when_its_time_is_over),
          with(a_token_beside_a_services_own_may_have_ended_a_while_ago),
          with(a_revoked_token_is_void_and_its_sister_is_not),
          with(disabling_or_deleting_the_user_voids_its_tokens),
          with(disabling_project_or_domain_voids_tokens),
          with(tokens_from_before_valid_from_are_void), with(roles_are_those_of_the_moment_of_use),
          with(roles_on_one_project_give_nothing_on_one_with_a_longer_name),
          with(a_new_key_signs_once_every_host_has_had_a_minute_to_learn_it),
          with(a_key_that_is_gone_signs_for_nobody_a_minute_later),
          with(a_cluster_key_that_does_not_fit_is_no_verdict_on_the_token),
          with(an_application_credential_limits_roles_and_dies_with_its_record),
          with(a_token_checked_before_is_checked_anew_after_any_change),
          with(the_first_directory_is_complete))
