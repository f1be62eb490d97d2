#include "fixture.h"

static void a_member_is_added_accepts_and_leaves(void **state)
{
    (void)state;
    struct store s;
    json_t *m;
    store_open(&s);
    create(&s, uuid(1));
    check_ok(run(&s, "{'op':'member.add','id':'%s','member':'m','quota':2}", uuid(1)));
    m = json_obj(s.result, "member");
    check_str(json_str(m, "member_id"), "m");
    check_str(json_str(m, "image_id"), uuid(1));
    check_str(json_str(m, "status"), "pending");
    check_int(json_int(m, "created_at", 0), s.now);
    int64_t created = s.now;
    check_ok(run(&s, "{'op':'member.status','id':'%s','member':'m','status':'accepted'}", uuid(1)));
    m = json_obj(s.result, "member");
    check_str(json_str(m, "status"), "accepted");
    check_int(json_int(m, "created_at", 0), created);
    check_int(json_int(m, "updated_at", 0), s.now);
    check_ok(run(&s, "{'op':'member.remove','id':'%s','member':'m'}", uuid(1)));
    struct meta_view *v = view(&s);
    check_code(meta_member_get(v, uuid(1), "m", &m), TSR_ENOENT);
    meta_view_close(v);
    store_close(&s);
}

static void member_commands_are_refused_where_they_do_not_fit(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    create(&s, uuid(1));
    check_ok(run(&s, "{'op':'member.add','id':'%s','member':'m'}", uuid(1)));
    check_code(run(&s, "{'op':'member.add','id':'%s','member':'m'}", uuid(1)), TSR_EEXIST);
    check_code(run(&s, "{'op':'member.add','id':'%s','member':'n','quota':1}", uuid(1)),
               TSR_ETOOBIG);
    check_code(run(&s, "{'op':'member.add','id':'%s','member':''}", uuid(1)), TSR_EINVAL);
    check_code(run(&s, "{'op':'member.add','id':'%s','member':'m'}", uuid(2)), TSR_ENOENT);
    check_code(
        run(&s, "{'op':'member.status','id':'%s','member':'x','status':'accepted'}", uuid(1)),
        TSR_ENOENT);
    check_code(run(&s, "{'op':'member.status','id':'%s','member':'m','status':'maybe'}", uuid(1)),
               TSR_EINVAL);
    check_code(run(&s, "{'op':'member.remove','id':'%s','member':'x'}", uuid(1)), TSR_ENOENT);
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'visibility':'private'}}", uuid(1)));
    check_code(run(&s, "{'op':'member.add','id':'%s','member':'q'}", uuid(1)), TSR_EFORBIDDEN);
    check_str(message(&s), "Only shared images have members.");
    store_close(&s);
}

static size_t listed(struct store *s, const char *project, const char *status)
{
    struct meta_view *v = view(s);
    struct meta_image_query q = {
        .project = project, .visibility = "shared", .member_status = status, .limit = 10};
    json_t *out;
    bool more;
    check_ok(meta_image_list(v, &q, &out, &more));
    size_t n = json_array_size(out);
    json_decref(out);
    meta_view_close(v);
    return n;
}

static void a_membership_counts_in_lists_while_the_image_is_shared(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    create(&s, uuid(1));
    check_ok(run(&s, "{'op':'member.add','id':'%s','member':'m'}", uuid(1)));
    check_int(listed(&s, "m", NULL), 0);
    check_int(listed(&s, "m", "pending"), 1);
    check_ok(run(&s, "{'op':'member.status','id':'%s','member':'m','status':'accepted'}", uuid(1)));
    check_int(listed(&s, "m", NULL), 1);
    check_int(listed(&s, "m", "pending"), 0);
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'visibility':'private'}}", uuid(1)));
    check_int(listed(&s, "m", "all"), 0);
    check_ok(run(&s, "{'op':'image.update','id':'%s','set':{'visibility':'shared'}}", uuid(1)));
    check_int(listed(&s, "m", "all"), 1);
    check_ok(run(&s, "{'op':'member.status','id':'%s','member':'m','status':'rejected'}", uuid(1)));
    check_int(listed(&s, "m", NULL), 0);
    check_int(listed(&s, "m", "rejected"), 1);
    check_ok(run(&s, "{'op':'member.remove','id':'%s','member':'m'}", uuid(1)));
    check_int(listed(&s, "m", "all"), 0);
    store_close(&s);
}

static void long_project_names_are_told_apart(void **state)
{
    (void)state;
    struct store s;
    char a[256], b[256];
    json_t *out;
    memset(a, 'x', 255);
    a[255] = 0;
    memcpy(b, a, 256);
    b[254] = 'y';
    store_open(&s);
    create(&s, uuid(1));
    check_ok(run(&s, "{'op':'member.add','id':'%s','member':'%s'}", uuid(1), a));
    check_ok(run(&s, "{'op':'member.add','id':'%s','member':'%s'}", uuid(1), b));
    check_ok(
        run(&s, "{'op':'member.status','id':'%s','member':'%s','status':'accepted'}", uuid(1), a));
    check_int(listed(&s, a, NULL), 1);
    check_int(listed(&s, b, NULL), 0);
    struct meta_view *v = view(&s);
    check_ok(meta_member_list(v, uuid(1), &out));
    check_int(json_array_size(out), 2);
    json_decref(out);
    check_ok(meta_member_get(v, uuid(1), b, &out));
    check_str(json_str(out, "member_id"), b);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(a_member_is_added_accepts_and_leaves),
          cmocka_unit_test(member_commands_are_refused_where_they_do_not_fit),
          cmocka_unit_test(a_membership_counts_in_lists_while_the_image_is_shared),
          cmocka_unit_test(long_project_names_are_told_apart))
