/* Changes and lists as services: patches that meet each other, sharing, tags, actions, deletion. */
#include "world.h"

static int patch_of(struct world *w, const struct caller *caller, const char *id, const char *text,
                    struct answer *a)
{
    struct err err = {0};
    json_t *body = json_parse(text, strlen(text)), *ops = NULL;
    check_ok(image_patch_parse(body, false, &ops, &err));
    *a = (struct answer){0};
    image_patch(&w->ctx, caller, id, ops, false, answer_cb, a);
    json_decref(ops);
    json_decref(body);
    return world_wait(w, a);
}

static void answer_drop(struct answer *a)
{
    json_decref(a->result);
    *a = (struct answer){0};
}

static void patches_that_meet_are_both_applied(void **state)
{
    (void)state;
    struct world w;
    struct answer a[10] = {0};
    char id[40];
    world_open(&w);
    world_create(&w, "{\"name\":\"n\"}", id);
    for (int i = 0; i < 8; i++) { /* sent before any is answered */
        char text[128];
        (void)snprintf(text, sizeof(text), "[{\"op\":\"add\",\"path\":\"/key%d\",\"value\":\"v\"}]",
                       i);
        struct err err = {0};
        json_t *body = json_parse(text, strlen(text)), *ops = NULL;
        check_ok(image_patch_parse(body, false, &ops, &err));
        image_patch(&w.ctx, &w.owner, id, ops, false, answer_cb, &a[i]);
        json_decref(ops);
        json_decref(body);
    }
    for (int i = 0; i < 8; i++) {
        virtual_until(&w.c.v, &a[i].done);
        check_ok(a[i].status);
        answer_drop(&a[i]);
    }
    json_t *record = world_record(&w, id);
    check_int(json_object_size(json_obj(record, "props")), 8);
    json_decref(record);
    world_close(&w);
}

static void patches_are_judged_by_who_asks(void **state)
{
    (void)state;
    struct world w;
    struct answer a;
    char id[40];
    static const char rename_it[] = "[{\"op\":\"replace\",\"path\":\"/name\",\"value\":\"m\"}]";
    world_open(&w);
    world_create(&w, "{\"name\":\"n\",\"visibility\":\"community\"}", id);
    check_code(patch_of(&w, &w.other, id, rename_it, &a), TSR_EFORBIDDEN);
    check_code(patch_of(&w, &w.owner, "no-uuid", rename_it, &a), TSR_ENOENT);
    check_ok(patch_of(&w, &w.owner, id, rename_it, &a));
    check_str(json_str(a.result, "name"), "m");
    check(json_object_get(a.result, "props") == NULL);
    answer_drop(&a);
    unsigned before = fake.submits;
    check_ok(patch_of(&w, &w.owner, id, "[]", &a));
    check_str(json_str(a.result, "name"), "m");
    check_int(fake.submits, before);
    answer_drop(&a);
    world_close(&w);
}

static int member_add(struct world *w, const struct caller *c, const char *id,
                      const char *body_text)
{
    struct answer a = {0};
    json_t *body = json_parse(body_text, strlen(body_text));
    image_member_add(&w->ctx, c, id, body, answer_cb, &a);
    json_decref(body);
    int rv = world_wait(w, &a);
    if (rv == 0) {
        check_str(json_str(a.result, "status"), "pending");
        check_str(json_str(a.result, "schema"), "/v2/schemas/member");
    }
    answer_drop(&a);
    return rv;
}

static int member_set(struct world *w, const struct caller *c, const char *id, const char *project,
                      const char *status)
{
    struct answer a = {0};
    json_t *body = json_pack("{s:s, s:s}", "member", project, "status", status);
    image_member_status(&w->ctx, c, id, project, body, answer_cb, &a);
    json_decref(body);
    int rv = world_wait(w, &a);
    answer_drop(&a);
    return rv;
}

static int member_remove(struct world *w, const struct caller *c, const char *id,
                         const char *project)
{
    struct answer a = {0};
    image_member_remove(&w->ctx, c, id, project, answer_cb, &a);
    return world_wait(w, &a);
}

static size_t member_count(struct world *w, const struct caller *c, const char *id, int want)
{
    struct meta_view *view;
    struct err err = {0};
    json_t *out = NULL;
    check_ok(meta_view_open(w->meta, &view));
    check_code(image_member_list(view, c, id, &out, &err), want);
    meta_view_close(view);
    size_t n = json_array_size(json_arr(out, "members"));
    json_decref(out);
    return n;
}

static size_t list_count(struct world *w, const struct caller *c, const char *name,
                         const char *value)
{
    struct meta_view *view;
    struct err err = {0};
    json_t *page = NULL;
    struct image_param params[] = {{name, value}};
    check_ok(meta_view_open(w->meta, &view));
    check_ok(image_list(view, c, params, name != NULL, 25, 100, &page, &err));
    meta_view_close(view);
    size_t n = json_array_size(json_arr(page, "images"));
    json_decref(page);
    return n;
}

static void sharing_follows_the_rules(void **state)
{
    (void)state;
    struct world w;
    struct answer a;
    char id[40];
    struct caller third = world_caller("p3", ROLE_MEMBER | ROLE_READER);
    struct caller reader = world_caller("p2", ROLE_READER);
    world_open(&w);
    world_create(&w, "{}", id);
    check_code(member_add(&w, &w.owner, id, "{}"), TSR_EINVAL);
    check_code(member_add(&w, &w.owner, id, "{\"member\":\"\"}"), TSR_EINVAL);
    check_code(member_add(&w, &w.owner, id, "[]"), TSR_EINVAL);
    check_code(member_add(&w, &w.other, id, "{\"member\":\"p2\"}"), TSR_ENOENT);
    check_ok(member_add(&w, &w.owner, id, "{\"member\":\"p2\"}"));
    check_code(member_add(&w, &w.owner, id, "{\"member\":\"p2\"}"), TSR_EEXIST);
    check_ok(member_add(&w, &w.owner, id, "{\"member\":\"p1\"}"));
    check_code(member_add(&w, &w.owner, id, "{\"member\":\"p4\"}"), TSR_ETOOBIG);
    check_code(member_add(&w, &w.other, id, "{\"member\":\"p4\"}"), TSR_EFORBIDDEN);
    check_int(member_count(&w, &w.owner, id, 0), 2);
    check_int(member_count(&w, &w.other, id, 0), 1);
    check_int(member_count(&w, &third, id, TSR_ENOENT), 0);
    check_int(list_count(&w, &w.other, NULL, NULL), 0);
    check_int(list_count(&w, &w.other, "member_status", "pending"), 1);
    check_code(member_set(&w, &w.owner, id, "p2", "accepted"), TSR_EFORBIDDEN);
    check_code(member_set(&w, &w.owner, id, "p9", "accepted"), TSR_ENOENT);
    check_code(member_set(&w, &w.other, id, "p2", "maybe"), TSR_EINVAL);
    check_code(member_set(&w, &w.other, id, "p1", "accepted"), TSR_ENOENT);
    check_code(member_set(&w, &reader, id, "p2", "accepted"), TSR_EFORBIDDEN);
    check_ok(member_set(&w, &w.other, id, "p2", "accepted"));
    check_int(list_count(&w, &w.other, NULL, NULL), 1);
    check_code(member_remove(&w, &w.other, id, "p2"), TSR_EFORBIDDEN);
    check_code(member_remove(&w, &w.owner, id, "p9"), TSR_ENOENT);
    check_ok(patch_of(&w, &w.owner, id,
                      "[{\"op\":\"replace\",\"path\":\"/visibility\",\"value\":\"private\"}]", &a));
    answer_drop(&a);
    check_int(member_count(&w, &w.owner, id, TSR_EFORBIDDEN), 0);
    check_code(member_add(&w, &w.owner, id, "{\"member\":\"p5\"}"), TSR_EFORBIDDEN);
    check_int(list_count(&w, &w.other, NULL, NULL), 0);
    check_ok(patch_of(&w, &w.owner, id,
                      "[{\"op\":\"replace\",\"path\":\"/visibility\",\"value\":\"shared\"}]", &a));
    answer_drop(&a);
    check_int(list_count(&w, &w.other, NULL, NULL), 1);
    check_ok(member_remove(&w, &w.owner, id, "p2"));
    check_int(list_count(&w, &w.other, NULL, NULL), 0);
    world_close(&w);
}

static int tag(struct world *w, const char *id, const char *text, bool add)
{
    struct answer a = {0};
    image_tag(&w->ctx, &w->owner, id, text, add, answer_cb, &a);
    return world_wait(w, &a);
}

static void tags_are_a_set_with_a_limit(void **state)
{
    (void)state;
    struct world w;
    char id[40], text[400];
    world_open(&w);
    world_create(&w, "{}", id);
    check_ok(tag(&w, id, "b", true));
    check_ok(tag(&w, id, "b", true));
    check_ok(tag(&w, id, "a", true));
    check_code(tag(&w, id, "c", true), TSR_ETOOBIG);
    check_ok(tag(&w, id, "a", true));
    check_ok(tag(&w, id, "b", false));
    check_code(tag(&w, id, "b", false), TSR_ENOENT);
    check_code(tag(&w, id, "x/y", true), TSR_ENOENT);
    check_code(tag(&w, id, "\xff", true), TSR_EINVAL);
    memset(text, 't', 256);
    text[256] = '\0';
    check_code(tag(&w, id, text, true), TSR_EINVAL);
    check_code(tag(&w, "8c2e4bd9-2a4b-4b1c-9d1a-5a5f3f0a9c11", "a", true), TSR_ENOENT);
    world_close(&w);
}

static void deletion_and_actions(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    char id[40];
    world_open(&w);
    world_create(&w, "{\"protected\":true,\"visibility\":\"community\"}", id);
    image_set_active(&w.ctx, &w.owner, id, false, answer_cb, &a);
    check_code(world_wait(&w, &a), TSR_EFORBIDDEN); /* queued */
    answer_drop(&a);
    image_delete(&w.ctx, &w.admin, id, answer_cb, &a);
    check_code(world_wait(&w, &a), TSR_EFORBIDDEN); /* protected */
    answer_drop(&a);
    check_ok(patch_of(&w, &w.owner, id,
                      "[{\"op\":\"replace\",\"path\":\"/protected\",\"value\":false}]", &a));
    answer_drop(&a);
    image_delete(&w.ctx, &w.other, id, answer_cb, &a);
    check_code(world_wait(&w, &a), TSR_EFORBIDDEN);
    answer_drop(&a);
    image_delete(&w.ctx, &w.owner, id, answer_cb, &a);
    check_ok(world_wait(&w, &a));
    answer_drop(&a);
    image_delete(&w.ctx, &w.owner, id, answer_cb, &a);
    check_code(world_wait(&w, &a), TSR_ENOENT);
    answer_drop(&a);
    char body[128];
    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", id);
    json_t *again = json_parse(body, strlen(body));
    image_create(&w.ctx, &w.owner, again, NULL, answer_cb, &a);
    check_code(world_wait(&w, &a), TSR_EEXIST); /* ids are never used again */
    json_decref(again);
    world_close(&w);
}

static void a_key_gives_the_first_answer_again(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0}, b = {0}, c = {0};
    static const uint8_t key[COMMAND_ID_SIZE] = {9, 9, 9};
    world_open(&w);
    json_t *body = json_pack("{s:s}", "name", "one"), *other = json_pack("{s:s}", "name", "two");
    image_create(&w.ctx, &w.owner, body, key, answer_cb, &a);
    check_ok(world_wait(&w, &a));
    image_create(&w.ctx, &w.owner, body, key, answer_cb, &b);
    check_ok(world_wait(&w, &b));
    check_str(json_str(a.result, "id"), json_str(b.result, "id"));
    image_create(&w.ctx, &w.owner, other, key, answer_cb, &c);
    check_code(world_wait(&w, &c), TSR_EUNPROCESSABLE);
    check_int(list_count(&w, &w.owner, NULL, NULL), 1);
    answer_drop(&a);
    answer_drop(&b);
    answer_drop(&c);
    json_decref(body);
    json_decref(other);
    world_close(&w);
}

static void pages_follow_each_other_without_gaps(void **state)
{
    (void)state;
    struct world w;
    char id[40], marker[40] = "";
    size_t seen = 0;
    world_open(&w);
    for (int i = 0; i < 7; i++) {
        world_create(&w, "{\"name\":\"n\"}", id);
    }
    for (int page_number = 0; page_number < 4; page_number++) {
        struct meta_view *view;
        struct err err = {0};
        json_t *page = NULL;
        struct image_param params[] = {{"name", "n"}, {"limit", "2"}, {"marker", marker}};
        check_ok(meta_view_open(w.meta, &view));
        check_ok(
            image_list(view, &w.owner, params, marker[0] != '\0' ? 3 : 2, 25, 100, &page, &err));
        meta_view_close(view);
        json_t *images = json_arr(page, "images");
        seen += json_array_size(images);
        check_str(json_str(page, "first"), "/v2/images?name=n&limit=2");
        const char *last =
            json_str_or(json_array_get(images, json_array_size(images) - 1), "id", "");
        (void)snprintf(marker, sizeof(marker), "%s", last);
        check((json_str(page, "next") != NULL) == (page_number < 3));
        json_decref(page);
    }
    check_int(seen, 7);
    check_int(list_count(&w, &w.owner, "limit", "0"), 0);
    world_close(&w);
}

TEST_MAIN(cmocka_unit_test(patches_that_meet_are_both_applied),
          cmocka_unit_test(patches_are_judged_by_who_asks),
          cmocka_unit_test(sharing_follows_the_rules),
          cmocka_unit_test(tags_are_a_set_with_a_limit), cmocka_unit_test(deletion_and_actions),
          cmocka_unit_test(a_key_gives_the_first_answer_again),
          cmocka_unit_test(pages_follow_each_other_without_gaps))
