/* Who may do what: the table of the Image API, row by row, as data. */
#include "test.h"

#include "tessera/identity.h"

enum who { READER, MEMBER, SHARED, OTHER, ADMIN, SERVICE, WHO_COUNT };
static const char *const who_names[] = {"reader of owner", "member of owner", "member project",
                                        "another project", "admin",           "service"};

static struct caller caller_of(enum who who)
{
    static const unsigned roles[] = {
        [READER] = ROLE_READER,
        [MEMBER] = ROLE_MEMBER | ROLE_READER,
        [SHARED] = ROLE_MEMBER | ROLE_READER,
        [OTHER] = ROLE_MEMBER | ROLE_READER,
        [ADMIN] = ROLE_ADMIN | ROLE_MEMBER | ROLE_READER,
        [SERVICE] = ROLE_SERVICE,
    };
    static const char *const projects[] = {
        [READER] = "owner", [MEMBER] = "owner", [SHARED] = "guest",
        [OTHER] = "other",  [ADMIN] = "admin",  [SERVICE] = "service"};
    struct caller c = {.scope = SCOPE_PROJECT, .roles = roles[who]};
    snprintf(c.project_id, sizeof(c.project_id), "%s", projects[who]);
    return c;
}

static json_t *image_of(const char *owner, const char *visibility, const char *status)
{
    return json_pack("{s:s,s:s?,s:s,s:s}", "id", "i1", "owner", owner, "visibility", visibility,
                     "status", status);
}

/* y = yes, f = forbidden, n = does not exist. Columns as enum who. */
struct row {
    enum image_action action;
    const char *visibility;
    const char *status;
    const char want[WHO_COUNT + 1];
};

static const struct row rows[] = {
    {ACT_SHOW, "private", "active", "yynnyn"},
    {ACT_SHOW, "shared", "active", "yyynyn"},
    {ACT_SHOW, "community", "active", "yyyyyn"},
    {ACT_SHOW, "public", "active", "yyyyyn"},
    {ACT_DOWNLOAD, "private", "active", "fynnyn"},
    {ACT_DOWNLOAD, "shared", "active", "fyynyn"},
    {ACT_DOWNLOAD, "community", "active", "fyyyyn"},
    {ACT_DOWNLOAD, "public", "active", "fyyyyn"},
    {ACT_DOWNLOAD, "public", "deactivated", "ffffyn"},
    {ACT_DOWNLOAD, "private", "deactivated", "ffnnyn"},
    {ACT_UPLOAD, "shared", "queued", "fyfnyn"},
    {ACT_UPLOAD, "public", "queued", "fyffyn"},
    {ACT_MODIFY, "private", "active", "fynnyn"},
    {ACT_MODIFY, "shared", "active", "fyfnyn"},
    {ACT_MODIFY, "community", "active", "fyffyn"},
    {ACT_DELETE, "shared", "active", "fyfnyn"},
    {ACT_DELETE, "public", "active", "fyffyn"},
    {ACT_PUBLICIZE, "shared", "active", "fffnyn"},
    {ACT_COMMUNITIZE, "shared", "active", "fyfnyn"},
    {ACT_DEACTIVATE, "shared", "active", "fyfnyn"},
    {ACT_REACTIVATE, "public", "deactivated", "fyffyn"},
    {ACT_MEMBER_ADD, "shared", "active", "fyfnyn"},
    {ACT_MEMBER_REMOVE, "shared", "active", "fyfnyn"},
    {ACT_MEMBER_STATUS, "shared", "active", "ffynyn"},
    {ACT_MEMBER_STATUS, "private", "active", "ffnnyn"},
    {ACT_CHANGE_OWNER, "public", "active", "ffffyn"},
    {ACT_LOCATIONS_READ, "public", "active", "ffffyy"},
    {ACT_LOCATIONS_READ, "private", "active", "ffnnyy"},
};

static int want_code(char c)
{
    return c == 'y' ? 0 : c == 'f' ? TSR_EFORBIDDEN : TSR_ENOENT;
}

static void each_row_of_the_table_holds_for_every_kind_of_caller(void **state)
{
    (void)state;
    for (size_t i = 0; i < array_len(rows); i++) {
        json_t *image = image_of("owner", rows[i].visibility, rows[i].status);
        for (size_t who = 0; who < WHO_COUNT; who++) {
            struct caller c = caller_of((enum who)who);
            struct err err = {0};
            int got = policy_image(&c, rows[i].action, image, who == SHARED, &err);
            if (got != want_code(rows[i].want[who])) {
                print_message("row %zu (action %d, %s): %s\n", i, (int)rows[i].action,
                              rows[i].visibility, who_names[who]);
            }
            check_code(got, want_code(rows[i].want[who]));
        }
        json_decref(image);
    }
}

static const struct {
    enum image_action action;
    const char want[WHO_COUNT + 1];
} imageless[] = {
    {ACT_LIST, "yyyyyf"},         {ACT_CREATE, "fyyyyf"},        {ACT_PUBLICIZE, "ffffyf"},
    {ACT_COMMUNITIZE, "fyyyyf"},  {ACT_STORES_DETAIL, "ffffyy"}, {ACT_TASKS, "ffffyf"},
    {ACT_CACHE_LIST, "ffffyf"},   {ACT_CACHE_IMAGE, "ffffyf"},   {ACT_CACHE_DELETE, "ffffyf"},
    {ACT_METADEF_READ, "yyyyyf"}, {ACT_METADEF_WRITE, "ffffyf"},
};

static void actions_without_an_image_ask_for_roles_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < array_len(imageless); i++) {
        for (size_t who = 0; who < WHO_COUNT; who++) {
            struct caller c = caller_of((enum who)who);
            check_code(policy_image(&c, imageless[i].action, NULL, false, NULL),
                       want_code(imageless[i].want[who]));
        }
    }
}

static void a_token_without_project_sees_no_image_and_creates_none(void **state)
{
    (void)state;
    json_t *image = image_of("owner", "public", "active");
    struct caller c = {.scope = SCOPE_DOMAIN, .roles = ROLE_MEMBER | ROLE_READER};
    check_code(policy_image(&c, ACT_SHOW, image, false, NULL), TSR_ENOENT);
    check_code(policy_image(&c, ACT_LIST, NULL, false, NULL), TSR_EFORBIDDEN);
    check_code(policy_image(&c, ACT_CREATE, NULL, false, NULL), TSR_EFORBIDDEN);
    c.scope = SCOPE_NONE;
    check_code(policy_image(&c, ACT_SHOW, image, false, NULL), TSR_ENOENT);
    json_decref(image);
}

static void administrators_of_the_system_and_of_the_local_socket_may_all(void **state)
{
    (void)state;
    json_t *image = image_of("owner", "private", "deactivated");
    struct caller system = {.scope = SCOPE_SYSTEM, .roles = ROLE_ADMIN};
    struct caller local = {.scope = SCOPE_SYSTEM, .local_admin = true};
    for (int a = ACT_LIST; a <= ACT_METADEF_WRITE; a++) {
        check_ok(policy_image(&system, (enum image_action)a, image, false, NULL));
        check_ok(policy_image(&local, (enum image_action)a, image, false, NULL));
    }
    json_decref(image);
}

static void an_image_without_owner_is_read_by_all_and_changed_by_administrators(void **state)
{
    (void)state;
    json_t *image = image_of(NULL, "private", "active");
    struct caller member = caller_of(OTHER), admin = caller_of(ADMIN);
    check_ok(policy_image(&member, ACT_SHOW, image, false, NULL));
    check_ok(policy_image(&member, ACT_DOWNLOAD, image, false, NULL));
    check_code(policy_image(&member, ACT_MODIFY, image, false, NULL), TSR_EFORBIDDEN);
    check_ok(policy_image(&admin, ACT_MODIFY, image, false, NULL));
    json_decref(image);
}

static void membership_has_no_effect_while_the_image_is_not_shared(void **state)
{
    (void)state;
    json_t *image = image_of("owner", "private", "active");
    struct caller guest = caller_of(SHARED);
    check(!policy_image_visible(&guest, image, true));
    json_decref(image);
}

static void an_image_for_another_project_is_created_by_administrators_only(void **state)
{
    (void)state;
    json_t *image = image_of("other", "shared", "queued");
    struct caller member = caller_of(MEMBER), admin = caller_of(ADMIN);
    check_code(policy_image(&member, ACT_CREATE, image, false, NULL), TSR_EFORBIDDEN);
    check_ok(policy_image(&admin, ACT_CREATE, image, false, NULL));
    json_decref(image);
}

static void refusals_name_the_action(void **state)
{
    (void)state;
    struct err err = {0};
    struct caller reader = caller_of(READER);
    json_t *image = image_of("owner", "shared", "active");
    check_code(policy_image(&reader, ACT_PUBLICIZE, image, false, &err), TSR_EFORBIDDEN);
    check_str(err.msg, "You are not authorized to complete publicize_image action.");
    json_decref(image);
    image = image_of("owner", "public", "deactivated");
    struct caller member = caller_of(MEMBER);
    check_code(policy_image(&member, ACT_DOWNLOAD, image, false, &err), TSR_EFORBIDDEN);
    check_str(err.msg,
              "The requested image has been deactivated. Image data download is forbidden.");
    json_decref(image);
}

TEST_MAIN(cmocka_unit_test(each_row_of_the_table_holds_for_every_kind_of_caller),
          cmocka_unit_test(actions_without_an_image_ask_for_roles_only),
          cmocka_unit_test(a_token_without_project_sees_no_image_and_creates_none),
          cmocka_unit_test(administrators_of_the_system_and_of_the_local_socket_may_all),
          cmocka_unit_test(an_image_without_owner_is_read_by_all_and_changed_by_administrators),
          cmocka_unit_test(membership_has_no_effect_while_the_image_is_not_shared),
          cmocka_unit_test(an_image_for_another_project_is_created_by_administrators_only),
          cmocka_unit_test(refusals_name_the_action))
