/* Files of rules: what they let who do, and what is refused as a file. */
#include "test.h"

#include <stdlib.h>

#include "tessera/identity/rules.h"

static struct caller caller(unsigned roles, const char *project)
{
    struct caller c = {.scope = SCOPE_PROJECT, .roles = identity_roles_implied(roles)};
    snprintf(c.user_id, sizeof(c.user_id), "u");
    snprintf(c.project_id, sizeof(c.project_id), "%s", project);
    return c;
}

static struct policy_rules *rules(const char *text)
{
    struct policy_rules *r = NULL;
    struct err err = {0};
    int rv = policy_rules_parse(text, strlen(text), &r, &err);
    if (rv != 0) {
        print_error("%s\n", err.msg);
    }
    check_ok(rv);
    return r;
}

/* What `x: RULE` says to a member of p about an image of p. */
static int says(const char *rule)
{
    char text[1024];
    snprintf(text, sizeof(text), "{\"x\": \"%s\", \"yes\": \"@\", \"no\": \"!\"}", rule);
    struct policy_rules *r = rules(text);
    struct caller c = caller(ROLE_MEMBER, "p");
    json_t *image = json_pack("{s:s,s:s,s:b,s:i,s:{s:s}}", "owner", "p", "visibility", "shared",
                              "protected", 1, "min_disk", 7, "props", "team", "u");
    int out = policy_rules_ask(r, "x", &c, image);
    json_decref(image);
    policy_rules_free(r);
    return out;
}

static void rules_say_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *rule;
        int want;
    } rows[] = {
        {"", 1},
        {"@", 1},
        {"!", 0},
        {"role:member", 1},
        {"role:MEMBER", 1},
        {"role:reader", 1},
        {"role:admin", 0},
        {"role:unheard_of", 0},
        {"rule:yes", 1},
        {"rule:no", 0},
        {"not role:admin", 1},
        {"not not role:admin", 0},
        {"role:admin or role:member", 1},
        {"role:admin and role:member", 0},
        {"role:member and not rule:no", 1},
        {"rule:no and rule:no or rule:yes", 1},
        {"rule:no and (rule:no or rule:yes)", 0},
        {"(role:member)", 1},
        {"((role:member) AND (rule:yes))", 1},
        {"project_id:%(owner)s", 1},
        {"project_id:%(project_id)s", 1},
        {"tenant:%(owner)s", 1},
        {"user_id:%(owner)s", 0},
        {"user_id:%(team)s", 1},
        {"user_id:u", 1},
        {"user_id:%(nothing)s", 0},
        {"nothing:%(owner)s", 0},
        {"domain_id:x", 0},
        {"'shared':%(visibility)s", 1},
        {"'public':%(visibility)s", 0},
        {"'True':%(protected)s", 1},
        {"'7':%(min_disk)s", 1},
        {"is_admin:True", 0},
        {"is_admin:False", 1},
        {"rule:context_is_admin", 0},
        {"system_scope:all", 0},
        {"role:reader and (project_id:%(project_id)s or project_id:%(member_id)s or "
         "'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s)",
         1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (says(rows[i].rule) != rows[i].want) {
            fail_msg("%s", rows[i].rule);
        }
    }
}

static void a_file_is_json_or_lines(void **state)
{
    (void)state;
    struct policy_rules *r =
        rules("# comment\n---\n\"get_image\": \"role:admin\"  # why\n\n"
              "'delete_image': '!'\nadd_image: role:member # all\n"
              "  publicize_image:   \"rule:get_image or \\\"x\\\":x\"\r\nempty:\n");
    struct caller c = caller(ROLE_MEMBER, "p");
    check_int(policy_rules_ask(r, "get_image", &c, NULL), 0);
    check_int(policy_rules_ask(r, "delete_image", &c, NULL), 0);
    check_int(policy_rules_ask(r, "add_image", &c, NULL), 1);
    check_int(policy_rules_ask(r, "publicize_image", &c, NULL), 1);
    check_int(policy_rules_ask(r, "empty", &c, NULL), 1);
    check_int(policy_rules_ask(r, "upload_image", &c, NULL), -1);
    check_int(policy_rules_ask(NULL, "upload_image", &c, NULL), -1);
    policy_rules_free(r);
}

static void bad_files_are_refused_whole(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{",
        "[]",
        "{\"a\": 1}",
        "{\"a\": \"role\"}",
        "{\"a\": \"role:\"}",
        "{\"a\": \":x\"}",
        "{\"a\": \"role:x and\"}",
        "{\"a\": \"and role:x\"}",
        "{\"a\": \"(role:x\"}",
        "{\"a\": \"role:x)\"}",
        "{\"a\": \"role:x role:y\"}",
        "{\"a\": \"not\"}",
        "{\"a\": \"rule:b\"}",
        "{\"a\": \"rule:a\"}",
        "{\"a\": \"rule:b\", \"b\": \"rule:a\"}",
        "a\n",
        "\"a: x\n",
        "a: |\n",
        "a: \"role:x\n",
        "a: role:x\na: role:y\n",
        "a: \"x:y\" z\n",
        ": x:y\n",
        "a: [x]\n",
        "\xff: x:y\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct policy_rules *r = NULL;
        struct err err = {0};
        if (policy_rules_parse(bad[i], strlen(bad[i]), &r, &err) != TSR_EINVAL || err.msg[0] == 0 ||
            r != NULL) {
            fail_msg("%s", bad[i]);
        }
    }
    char deep[4096] = "a: ";
    memset(deep + 3, '(', 2000);
    struct policy_rules *r = NULL;
    struct err err = {0};
    check_code(policy_rules_parse(deep, strlen(deep), &r, &err), TSR_EINVAL);
}

static void the_policy_of_images_asks_the_rules_first(void **state)
{
    (void)state;
    struct policy_rules *r = rules("delete_image: '!'\npublicize_image: role:member\n"
                                   "get_image: \"'public':%(visibility)s\"\n"
                                   "modify_member: project_id:%(member_id)s\n");
    struct caller member = caller(ROLE_MEMBER, "p"), admin = caller(ROLE_ADMIN, "a");
    struct err err = {0};
    json_t *image = json_pack("{s:s,s:s,s:s,s:s}", "id", "i", "owner", "p", "visibility", "shared",
                              "status", "active");
    check_ok(policy_image(&admin, ACT_DELETE, image, false, &err));
    check_code(policy_image(&member, ACT_PUBLICIZE, image, false, &err), TSR_EFORBIDDEN);
    member.rules = admin.rules = r;
    check_code(policy_image(&admin, ACT_DELETE, image, false, &err), TSR_EFORBIDDEN);
    check_ok(policy_image(&member, ACT_PUBLICIZE, image, false, &err));
    check_code(policy_image(&member, ACT_SHOW, image, false, &err), TSR_ENOENT);
    check_ok(policy_image(&member, ACT_MODIFY, image, false, &err)); /* not in the file */
    struct caller other = caller(ROLE_MEMBER, "q");
    other.rules = r;
    check_ok(policy_image(&other, ACT_MEMBER_STATUS, image, true, &err));
    check_code(policy_image(&member, ACT_MEMBER_STATUS, image, false, &err), TSR_EFORBIDDEN);
    admin.local_admin = true;
    check_ok(policy_image(&admin, ACT_DELETE, image, false, &err)); /* the way in that always is */
    json_decref(image);
    policy_rules_free(r);
}

static struct property_rules *properties(const char *text, bool policies)
{
    struct property_rules *r = NULL;
    struct err err = {0};
    int rv = property_rules_parse(text, strlen(text), policies, NULL, &r, &err);
    if (rv != 0) {
        print_error("%s\n", err.msg);
    }
    check_ok(rv);
    return r;
}

static void properties_belong_to_roles(void **state)
{
    (void)state;
    struct property_rules *r =
        properties("# who\n[^x_owner_.*]\ncreate = admin,member\nread = @\nupdate = admin\n"
                   "delete = !\n[.*]\ncreate = @\nread = @\nupdate = @\ndelete = @\n",
                   false);
    struct caller member = caller(ROLE_MEMBER, "p"), reader = caller(ROLE_READER, "p");
    check(property_allowed(r, PROPERTY_CREATE, "x_owner_a", &member, NULL));
    check(!property_allowed(r, PROPERTY_CREATE, "x_owner_a", &reader, NULL));
    check(property_allowed(r, PROPERTY_READ, "x_owner_a", &reader, NULL));
    check(!property_allowed(r, PROPERTY_UPDATE, "x_owner_a", &member, NULL));
    check(!property_allowed(r, PROPERTY_DELETE, "x_owner_a", &member, NULL));
    check(property_allowed(r, PROPERTY_DELETE, "other", &reader, NULL));
    check(property_allowed(NULL, PROPERTY_DELETE, "x", &reader, NULL));
    property_rules_free(r);
    r = properties("[a]\ncreate=@\nread=@\nupdate=@\ndelete=@\n", false);
    check(property_allowed(r, PROPERTY_READ, "abc", &member, NULL));
    check(!property_allowed(r, PROPERTY_READ, "ba", &member, NULL)); /* from the beginning */
    check(!property_allowed(r, PROPERTY_READ, "zz", &member, NULL)); /* nobody's */
    property_rules_free(r);
}

static void properties_belong_to_rules(void **state)
{
    (void)state;
    struct property_rules *r =
        properties("[secret]\ncreate = role:admin\nread = project_id:%(owner)s\n"
                   "update = @\ndelete = !\n",
                   true);
    struct caller member = caller(ROLE_MEMBER, "p"), other = caller(ROLE_MEMBER, "q");
    json_t *image = json_pack("{s:s}", "owner", "p");
    check(property_allowed(r, PROPERTY_READ, "secret", &member, image));
    check(!property_allowed(r, PROPERTY_READ, "secret", &other, image));
    check(!property_allowed(r, PROPERTY_CREATE, "secret", &member, image));
    json_decref(image);
    property_rules_free(r);
    static const char *const bad[] = {"create = @\n",
                                      "[a\n",
                                      "[a(]\n",
                                      "[a]\nread = @\n",
                                      "[a]\nfly = @\n",
                                      "[a]\nread @\n",
                                      "[a]\nread = @\nread = @\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = {0};
        check_code(property_rules_parse(bad[i], strlen(bad[i]), false, NULL, &r, &err), TSR_EINVAL);
        check(err.msg[0] != 0);
    }
}

TEST_MAIN(cmocka_unit_test(rules_say_what_they_say), cmocka_unit_test(a_file_is_json_or_lines),
          cmocka_unit_test(bad_files_are_refused_whole),
          cmocka_unit_test(the_policy_of_images_asks_the_rules_first),
          cmocka_unit_test(properties_belong_to_roles),
          cmocka_unit_test(properties_belong_to_rules))
