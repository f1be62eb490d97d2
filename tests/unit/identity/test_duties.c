/* Housekeeping of the leader: keys are rotated, what has ended is removed. */
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

/* One round; how many commands it had. */
static size_t round_of_duties(void)
{
    json_t *commands = duties_commands(w.identity, &w.loop.loop);
    size_t count = json_array_size(commands);
    if (count > 0) {
        check_ok(apply(&w, json_pack("{s:s,s:O}", "op", "batch", "commands", commands)));
    }
    json_decref(commands);
    return count;
}

static size_t count_of(const char *kind)
{
    json_t *list = NULL;
    struct meta_view *v = open_view(&w);
    check_ok(meta_dir_list(v, kind, "", "", 1000, &list));
    meta_view_close(v);
    size_t count = json_array_size(list);
    json_decref(list);
    return count;
}

static void a_key_is_made_daily_and_kept_as_long_as_its_tokens_live(void **state)
{
    (void)state;
    char text[512];
    struct caller c;
    check_int(round_of_duties(), 0);
    advance(&w, 24 * 3600 * SECOND + 1);
    make_caller(&w, w.admin, SCOPE_PROJECT, w.admin_project, &c);
    check_ok(issue(&w, &c, text)); /* signed with the first key */
    check_int(round_of_duties(), 1);
    check_int(round_of_duties(), 0);
    check_int(count_of("token_key"), 2);
    advance(&w, 4 * 3600 * SECOND - 1);
    check_int(round_of_duties(), 0);
    check_ok(check_token(&w, text, &c));
    advance(&w, 5 * 60 * SECOND + 2);
    check_int(round_of_duties(), 1);
    check_int(count_of("token_key"), 1);
    make_caller(&w, w.admin, SCOPE_PROJECT, w.admin_project, &c);
    check_ok(issue(&w, &c, text));
    check_ok(check_token(&w, text, &c));
}

static void a_cluster_without_key_gets_one(void **state)
{
    (void)state;
    json_t *list = NULL;
    struct caller c;
    char text[512];
    struct meta_view *v = open_view(&w);
    check_ok(meta_dir_list(v, "token_key", "", "", 10, &list));
    meta_view_close(v);
    check_ok(remove_record(&w, "token_key", json_str(json_array_get(list, 0), "id")));
    json_decref(list);
    make_caller(&w, w.admin, SCOPE_PROJECT, w.admin_project, &c);
    check_code(issue(&w, &c, text), TSR_EUNAVAILABLE);
    check_int(round_of_duties(), 1);
    check_ok(issue(&w, &c, text));
}

static void revocations_and_join_tokens_go_when_they_have_ended(void **state)
{
    (void)state;
    json_int_t now = w.loop.wall_us;
    check_ok(put(&w, "revocation", "r1", json_pack("{s:I}", "expires_at", now + SECOND)));
    check_ok(put(&w, "join_token", "j1", json_pack("{s:I}", "expires_at", now + SECOND)));
    check_int(round_of_duties(), 0);
    advance(&w, 2 * SECOND);
    check_int(round_of_duties(), 1);
    check_int(count_of("join_token"), 0);
    advance(&w, 5 * 60 * SECOND);
    check_int(round_of_duties(), 1);
    check_int(count_of("revocation"), 0);
}

#define with(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
TEST_MAIN(with(a_key_is_made_daily_and_kept_as_long_as_its_tokens_live),
          with(a_cluster_without_key_gets_one),
          with(revocations_and_join_tokens_go_when_they_have_ended))
