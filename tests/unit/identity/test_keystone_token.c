/* What Keystone says of a token, as a caller; access rules; which tokens are known for how long. */
#include "test.h"

#include <stdlib.h>

#include "identity/keystone_internal.h"
#include "identity/rule.h"

static int parse(const char *body, struct caller *caller, struct access_rules *rules)
{
    struct err err = {0};
    int rv = keystone_token_parse(body, strlen(body), caller, rules, &err);
    check(rv == 0 || err.msg[0] != '\0');
    return rv;
}

#define USER                                                                                       \
    "\"user\":{\"id\":\"u1\",\"name\":\"alice\",\"domain\":{\"id\":\"d1\",\"name\":\"Default\"}}," \
    "\"issued_at\":\"2026-01-01T00:00:00.000000Z\",\"expires_at\":\"2026-01-01T01:00:00."          \
    "000000Z\","                                                                                   \
    "\"audit_ids\":[\"r__uw2upQoaQc0Jz4N0PGg\",\"x\"],\"methods\":[\"password\",\"token\"]"

static void a_project_token_becomes_a_caller(void **state)
{
    (void)state;
    struct caller c;
    check_ok(
        parse("{\"token\":{" USER ",\"project\":{\"id\":\"p1\",\"name\":\"alpha\",\"domain\":"
              "{\"id\":\"d2\",\"name\":\"Other\"}},\"roles\":[{\"id\":\"1\",\"name\":\"Member\"},"
              "{\"id\":\"2\",\"name\":\"reader\"},{\"id\":\"3\",\"name\":\"auditor\"}],"
              "\"is_admin_project\":true}}",
              &c, NULL));
    check_int(c.scope, SCOPE_PROJECT);
    check_int(c.roles, ROLE_MEMBER | ROLE_READER);
    check(!caller_is_admin(&c));
    check(rule_role(&c, "auditor") && rule_role(&c, "Auditor") && rule_role(&c, "member"));
    check(!rule_role(&c, "audit") && !rule_role(&c, "auditors") && !rule_role(&c, "admin"));
    check_str(c.user_id, "u1");
    check_str(c.user_name, "alice");
    check_str(c.user_domain_id, "d1");
    check_str(c.project_id, "p1");
    check_str(c.project_name, "alpha");
    check_str(c.project_domain_id, "d2");
    check_str(c.project_domain_name, "Other");
    check_str(c.audit_id, "r__uw2upQoaQc0Jz4N0PGg");
    check_str(c.methods, "password,token");
    check_int(c.expires_us - c.issued_us, INT64_C(3600000000));
}

static void more_roles_than_can_be_kept_are_no_token(void **state)
{
    (void)state;
    struct caller c;
    char body[4096], *p = body;
    p = stpcpy(p,
               "{\"token\":{" USER ",\"project\":{\"id\":\"p\"},\"roles\":[{\"name\":\"reader\"}");
    for (unsigned i = 0; i < 60; i++) {
        p += sprintf(p, ",{\"name\":\"another-role-%02u\"}", i);
    }
    (void)stpcpy(p, "]}}");
    check_code(parse(body, &c, NULL), TSR_EPROTO);
}

static void scopes_without_a_project_have_none(void **state)
{
    (void)state;
    struct caller c;
    check_ok(parse("{\"token\":{" USER "}}", &c, NULL));
    check_int(c.scope, SCOPE_NONE);
    check_int(c.roles, 0);
    check_ok(parse("{\"token\":{" USER
                   ",\"system\":{\"all\":true},\"roles\":[{\"name\":\"admin\"}]}}",
                   &c, NULL));
    check_int(c.scope, SCOPE_SYSTEM);
    check(caller_is_admin(&c));
    check_ok(parse("{\"token\":{" USER
                   ",\"domain\":{\"id\":\"d1\"},\"roles\":[{\"name\":\"ADMIN\"}]}}",
                   &c, NULL));
    check_int(c.scope, SCOPE_DOMAIN);
    check_str(c.domain_id, "d1");
    check(!caller_is_admin(&c));
}

static void what_is_no_token_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "[]",
        "{}",
        "{\"token\":1}",
        "{\"token\":{}}",
        "{\"token\":{\"user\":{\"id\":\"u\"}}}",
        "{\"token\":{" USER "}",
        "{\"token\":{" USER ",\"project\":{}}}",
        "{\"token\":{" USER ",\"project\":{\"id\":7}}}",
        "{\"token\":{\"user\":{\"id\":\"u\"},\"expires_at\":\"tomorrow\"}}",
        "{\"token\":{\"user\":{\"id\":\""
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "\"},\"expires_at\":\"2026-01-01T01:00:00.000000Z\"}}",
        "{\"token\":{" USER ",\"application_credential\":{\"id\":\"a\",\"access_rules\":7}}}"};
    for (size_t i = 0; i < array_len(bodies); i++) {
        struct caller c = {.roles = 77};
        check_code(parse(bodies[i], &c, NULL), TSR_EPROTO);
        check_int(c.roles, 77); /* untouched */
    }
}

static void access_rules_bind_an_application_credential(void **state)
{
    (void)state;
    struct caller c;
    struct access_rules rules = {0};
    check_ok(
        parse("{\"token\":{" USER ",\"application_credential\":{\"id\":\"a1\",\"access_rules\":["
              "{\"service\":\"compute\",\"method\":\"GET\",\"path\":\"/**\"},"
              "{\"service\":\"image\",\"method\":\"GET\",\"path\":\"/v2/images/{id}/file\"}]}}}",
              &c, &rules));
    check_str(c.appcred_id, "a1");
    check(rules.restricted);
    check(access_rules_allow(&rules, "image", "GET", "/v2/images/abc/file"));
    check(!access_rules_allow(&rules, "image", "PUT", "/v2/images/abc/file"));
    check(!access_rules_allow(&rules, "image", "GET", "/v2/images/abc"));
    check(!access_rules_allow(&rules, "image", "GET", "/v2/images/a/b/file"));
    access_rules_free(&rules);

    check_ok(parse("{\"token\":{" USER
                   ",\"application_credential\":{\"id\":\"a1\",\"access_rules\":[]}}}",
                   &c, &rules));
    check(!access_rules_allow(&rules, "image", "GET",
                              "/v2/images")); /* an empty list allows nothing */
    access_rules_free(&rules);
    check_ok(
        parse("{\"token\":{" USER ",\"application_credential\":{\"id\":\"a1\"}}}", &c, &rules));
    check(access_rules_allow(&rules, "image", "GET", "/v2/images"));
    access_rules_free(&rules);
}

static void patterns_match_as_keystone_documents(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *path;
        bool match;
    } cases[] = {
        {"/v2/images", "/v2/images", true},
        {"/v2/images", "/v2/images/", false},
        {"/v2/images/*", "/v2/images/x", true},
        {"/v2/images/*", "/v2/images/", false},
        {"/v2/images/*", "/v2/images/x/y", false},
        {"/v2/*/file", "/v2/images/file", true},
        {"/v2/**", "/v2/images/x/y", true},
        {"/v2/**", "/v2/", true},
        {"/v2/**", "/v2", false},
        {"/**/file", "/v2/images/x/file", true},
        {"/v2/images/{image_id}", "/v2/images/x", true},
        {"/v2/images/{image_id}/file", "/v2/images/x/file", true},
        {"/v2/images/{image_id}/file", "/v2/images//file", false},
        {"/v2/{unclosed", "/v2/{unclosed", true},
        {"", "", true},
        {"", "/", false},
        {"*", "abc", true},
        {"a*c", "abbc", true},
        {"a*c", "ac", false},
        {"***", "a", true},
        {"/v2/images/*/members/*", "/v2/images/i/members/m", true},
        {"/v2.images", "/v2ximages", false},
    };
    for (size_t i = 0; i < array_len(cases); i++) {
        if (access_path_matches(cases[i].pattern, cases[i].path) != cases[i].match) {
            fail_msg("%s on %s", cases[i].pattern, cases[i].path);
        }
    }
}

static void a_pattern_of_stars_costs_little(void **state)
{
    (void)state;
    char pattern[2001], path[2001];
    for (size_t i = 0; i < 2000; i += 2) {
        memcpy(pattern + i, "*a", 2);
        memcpy(path + i, "aa", 2);
    }
    path[1999] = 'b';
    pattern[2000] = path[2000] = '\0';
    check(!access_path_matches(pattern, path));
}

static void odd_texts_are_no_tokens(void **state)
{
    (void)state;
    char text[TOKEN_TEXT_MAX + 2];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    check(!keystone_token_text_ok(text));
    text[TOKEN_TEXT_MAX] = '\0';
    check(keystone_token_text_ok(text));
    check(!keystone_token_text_ok(""));
    check(!keystone_token_text_ok("a b"));
    check(!keystone_token_text_ok("a\nb"));
    check(!keystone_token_text_ok("\xc3\xa4"));
}

static void put(struct known_tokens *known, uint32_t number, bool good, uint64_t until_ms)
{
    struct known_token *token = calloc(1, sizeof(*token));
    check(token != NULL);
    memcpy(token->digest, &number, sizeof(number));
    token->good = good;
    token->until_ms = until_ms;
    known_put(known, token);
}

static bool has(struct known_tokens *known, uint32_t number, uint64_t now_ms)
{
    uint8_t digest[32] = {0};
    memcpy(digest, &number, sizeof(number));
    return known_get(known, digest, now_ms) != NULL;
}

static void a_known_token_is_forgotten_at_its_time(void **state)
{
    (void)state;
    struct known_tokens known;
    known_init(&known);
    put(&known, 1, true, 100);
    check(has(&known, 1, 99));
    check(!has(&known, 1, 100));
    check_int(known.good_count, 0);
    put(&known, 1, true, 200);
    put(&known, 1, false, 300); /* replaced */
    check_int(known.good_count, 0);
    check_int(known.bad_count, 1);
    check(has(&known, 1, 250));
    known_free(&known);
}

static void a_flood_of_bad_tokens_evicts_no_good_one(void **state)
{
    (void)state;
    struct known_tokens known;
    known_init(&known);
    put(&known, 1, true, 1000);
    for (uint32_t i = 0; i < 2 * KEYSTONE_BAD_MAX; i++) {
        put(&known, 1000000 + i, false, 1000);
    }
    check_int(known.bad_count, KEYSTONE_BAD_MAX);
    check(has(&known, 1, 0));
    for (uint32_t i = 0; i < KEYSTONE_GOOD_MAX; i++) {
        check(has(&known, 1, 0)); /* in use: others go first */
        put(&known, 10 + i, true, 1000);
    }
    check_int(known.good_count, KEYSTONE_GOOD_MAX);
    check(has(&known, 1, 0));
    check(!has(&known, 10, 0));
    known_free(&known);
}

TEST_MAIN(cmocka_unit_test(a_project_token_becomes_a_caller),
          cmocka_unit_test(more_roles_than_can_be_kept_are_no_token),
          cmocka_unit_test(scopes_without_a_project_have_none),
          cmocka_unit_test(what_is_no_token_is_refused),
          cmocka_unit_test(access_rules_bind_an_application_credential),
          cmocka_unit_test(patterns_match_as_keystone_documents),
          cmocka_unit_test(a_pattern_of_stars_costs_little),
          cmocka_unit_test(odd_texts_are_no_tokens),
          cmocka_unit_test(a_known_token_is_forgotten_at_its_time),
          cmocka_unit_test(a_flood_of_bad_tokens_evicts_no_good_one))
