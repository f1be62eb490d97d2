/* Listings against a model that looks at every image, on random data and random questions. */
#include "fixture.h"

enum { IMAGES = 500, PROJECTS = 4 };

static uint64_t seed;

static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static const char *const projects[PROJECTS] = {"p0", "p1", "p2", "p3"};
static const char *const visibilities[] = {"public", "private", "shared", "community"};
static const char *const statuses[] = {"accepted", "pending", "rejected"};
static const char *const formats[] = {"raw", "qcow2", "iso"};

/* Few names, so that equal ones are many; some long with a common beginning. */
static const char *name_of(unsigned n)
{
    static char name[300];
    if (n % 10 < 8) {
        snprintf(name, sizeof(name), "name-%u", n % 10);
    } else {
        memset(name, 'x', 198);
        snprintf(name + 198, sizeof(name) - 198, n % 10 == 8 ? "y" : "yy");
    }
    return name;
}

static void fill_one(struct store *s, unsigned i)
{
    const char *id = uuid(i * 7919 % 100003);
    char owner[16] = "null", name[310] = "null";
    if (below(20) != 0) {
        snprintf(owner, sizeof(owner), "'%s'", projects[below(PROJECTS)]);
    }
    if (below(10) != 0) {
        snprintf(name, sizeof(name), "'%s'", name_of(below(100)));
    }
    s->now += below(3) * 400000;
    s->now -= below(3) * 300000; /* clocks of leaders differ; equal times come too */
    check_ok(run(s,
                 "{'op':'image.create','image':{'id':'%s','owner':%s,'name':%s,"
                 "'visibility':'%s','os_hidden':%s,'protected':%s,'disk_format':%s%s%s,"
                 "'container_format':'bare','tags':['t%u','u%u'],'min_disk':%u,"
                 "'props':{'k':'v%u'}}}",
                 id, owner, name, visibilities[below(4)], below(8) == 0 ? "true" : "false",
                 below(2) == 0 ? "true" : "false", "'", formats[below(3)], "'", below(4), below(50),
                 below(5), below(3)));
    const char *visibility = json_str(json_obj(s->result, "image"), "visibility");
    if (strcmp(visibility, "shared") == 0) {
        for (unsigned p = 0; p < PROJECTS; p++) {
            if (below(3) == 0) {
                check_ok(run(s, "{'op':'member.add','id':'%s','member':'%s'}", id, projects[p]));
                check_ok(run(s, "{'op':'member.status','id':'%s','member':'%s','status':'%s'}", id,
                             projects[p], statuses[below(3)]));
            }
        }
    }
    if (below(2) == 0) {
        check_ok(run(s, "{'op':'image.saving','id':'%s','session':'s','host':1}", id));
        check_ok(run(s,
                     "{'op':'image.activate','id':'%s','session':'s','manifest':'%s','size':%u,"
                     "'replicas':[1],'placement':[1],'write_replicas':1}",
                     id, MANIFEST_A, below(20)));
    }
    if (below(6) == 0) { /* hides its members until it is shared again */
        check_ok(run(s, "{'op':'image.update','id':'%s','set':{'visibility':'%s'}}", id,
                     visibilities[below(4)]));
    }
    if (below(12) == 0) {
        run(s, "{'op':'image.update','id':'%s','set':{'protected':false}}", id);
        check_ok(run(s, "{'op':'image.delete','id':'%s'}", id));
    }
}

static void fill(struct store *s, uint64_t start)
{
    seed = start;
    add_hosts(s, 1);
    for (unsigned i = 0; i < IMAGES; i++) {
        fill_one(s, i);
    }
}

/* --- the model
 * ------------------------------------------------------------------------------------- */

static const char *const sort_fields[SORT_COUNT] = {
    [SORT_CREATED_AT] = "created_at",
    [SORT_UPDATED_AT] = "updated_at",
    [SORT_NAME] = "name",
    [SORT_STATUS] = "status",
    [SORT_SIZE] = "size",
    [SORT_CONTAINER_FORMAT] = "container_format",
    [SORT_ID] = "id",
    [SORT_DISK_FORMAT] = "disk_format",
};

static const struct meta_image_query *asked;

static int compare_value(const json_t *a, const json_t *b)
{
    if (json_is_null(a) || json_is_null(b)) {
        return json_is_null(b) - json_is_null(a);
    }
    if (json_is_integer(a)) {
        json_int_t x = json_integer_value(a), y = json_integer_value(b);
        return x < y ? -1 : x > y;
    }
    return strcmp(json_string_value(a), json_string_value(b));
}

static int compare_field(const json_t *a, const json_t *b, enum meta_sort key, bool descending)
{
    int c =
        compare_value(json_object_get(a, sort_fields[key]), json_object_get(b, sort_fields[key]));
    return descending ? -c : c;
}

static int compare_images(const void *pa, const void *pb)
{
    const json_t *a = *(json_t *const *)pa, *b = *(json_t *const *)pb;
    bool any_descending = asked->sort_count == 0;
    for (size_t i = 0; i < asked->sort_count; i++) {
        int c = compare_field(a, b, asked->sort[i].key, asked->sort[i].descending);
        any_descending = any_descending || asked->sort[i].descending;
        if (c != 0) {
            return c;
        }
    }
    int c = compare_field(a, b, SORT_CREATED_AT, any_descending);
    return c != 0 ? c : compare_field(a, b, SORT_ID, any_descending);
}

static bool eq(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool shared_with(struct meta_view *v, const struct meta_image_query *q, const json_t *i,
                        const char *status)
{
    json_t *m;
    if (q->project == NULL || !eq(json_str(i, "visibility"), "shared") ||
        meta_member_get(v, json_str(i, "id"), q->project, &m) != 0) {
        return false;
    }
    bool yes = eq(status, "all") || eq(json_str(m, "status"), status);
    json_decref(m);
    return yes;
}

static bool model_sees(struct meta_view *v, const struct meta_image_query *q, const json_t *i)
{
    const char *vis = json_str(i, "visibility"), *want = q->visibility;
    bool own = eq(json_str(i, "owner"), q->project);
    bool shared = shared_with(v, q, i, q->member_status == NULL ? "accepted" : q->member_status);
    if (q->admin) {
        return want == NULL ? !eq(vis, "community") || own : eq(want, "all") || eq(want, vis);
    }
    if (q->project == NULL) {
        return eq(vis, "public") && (want == NULL || eq(want, "public") || eq(want, "all"));
    }
    if (want == NULL) {
        return own || eq(vis, "public") || shared;
    }
    if (eq(want, "all")) {
        return own || eq(vis, "public") || eq(vis, "community") || shared;
    }
    if (!eq(want, vis)) {
        return false;
    }
    return eq(vis, "public") || eq(vis, "community") || own || shared;
}

static bool model_filter(const struct meta_filter *f, const json_t *i)
{
    const json_t *v = strncmp(f->field, "prop:", 5) == 0
                          ? json_object_get(json_obj(i, "props"), f->field + 5)
                          : json_object_get(i, f->field);
    if (eq(f->field, "tag")) {
        size_t n;
        json_t *t;
        json_array_foreach(json_arr(i, "tags"), n, t)
        {
            if (eq(json_string_value(t), f->values[0])) {
                return true;
            }
        }
        return false;
    }
    if (f->numeric) {
        if (!json_is_integer(v)) {
            return false;
        }
        int64_t x = json_integer_value(v), y = f->number;
        if (strstr(f->field, "_at") != NULL) {
            x /= 1000000;
            y /= 1000000;
        }
        return f->compare == CMP_GTE ? x >= y : f->compare == CMP_LT ? x < y : x == y;
    }
    if (json_is_boolean(v)) {
        return eq(json_is_true(v) ? "true" : "false", f->values[0]);
    }
    for (size_t n = 0; n < f->value_count; n++) {
        if (eq(json_string_value(v), f->values[n])) {
            return true;
        }
    }
    return false;
}

/* --- the questions
 * --------------------------------------------------------------------------------- */

struct question {
    struct meta_image_query q;
    struct meta_filter filters[3];
    const char *values[3][3];
    char texts[3][300];
};

static void ask_filter(struct question *x, struct store *s)
{
    size_t n = x->q.filter_count++;
    struct meta_filter *f = &x->filters[n];
    *f = (struct meta_filter){.values = x->values[n], .value_count = 1};
    char *text = x->texts[n];
    x->values[n][0] = text;
    switch (below(9)) {
    case 0:
        f->field = "name";
        strcpy(text, name_of(below(100)));
        break;
    case 1:
        f->field = "status";
        strcpy(text, below(2) ? "active" : "queued");
        break;
    case 2:
        f->field = "owner";
        strcpy(text, projects[below(PROJECTS)]);
        break;
    case 3:
        f->field = "tag";
        snprintf(text, 300, "%s%u", below(2) ? "t" : "u", below(5));
        break;
    case 4:
        f->field = "prop:k";
        snprintf(text, 300, "v%u", below(4));
        break;
    case 5:
        f->field = below(2) ? "size" : "created_at";
        f->numeric = true;
        f->number = f->field[0] == 's' ? below(20) : s->now - below(200) * 1000000;
        f->compare = below(2) ? CMP_GTE : CMP_LT;
        break;
    case 6:
        f->field = "status";
        f->compare = CMP_IN;
        f->value_count = 3;
        x->values[n][0] = "active";
        x->values[n][1] = "queued";
        x->values[n][2] = "active";
        break;
    case 7:
        f->field = "name";
        f->compare = CMP_IN;
        f->value_count = 2;
        x->values[n][0] = "name-3";
        x->values[n][1] = "name-1";
        break;
    default:
        f->field = "protected";
        strcpy(text, below(2) ? "true" : "false");
        break;
    }
}

static void ask(struct question *x, struct store *s)
{
    static const char *const asks[] = {"public", "private", "shared", "community", "all"};
    static const char *const members[] = {"accepted", "pending", "rejected", "all"};
    *x = (struct question){.q = {.filters = x->filters}};
    x->q.admin = below(4) == 0;
    x->q.project = below(8) == 0 ? NULL : projects[below(PROJECTS)];
    x->q.visibility = below(2) ? NULL : asks[below(5)];
    x->q.member_status = below(3) ? NULL : members[below(4)];
    x->q.hidden = below(8) == 0;
    x->q.limit = 1 + below(below(2) ? 5 : 100);
    unsigned filters = below(3);
    for (unsigned i = 0; i < filters; i++) {
        ask_filter(x, s);
    }
    unsigned sorts = below(4);
    unsigned direction = below(2);
    for (unsigned i = 0; i < sorts; i++) {
        x->q.sort[i].key = (enum meta_sort)below(SORT_COUNT);
        x->q.sort[i].descending = below(3) == 0 ? below(2) : direction;
    }
    x->q.sort_count = sorts;
}

static size_t model_list(struct meta_view *v, const struct meta_image_query *q, json_t *all,
                         json_t **out)
{
    size_t n = 0, i;
    json_t *image;
    json_array_foreach(all, i, image)
    {
        bool yes = json_bool(image, "os_hidden", false) == q->hidden && model_sees(v, q, image);
        for (size_t f = 0; f < q->filter_count; f++) {
            yes = yes && model_filter(&q->filters[f], image);
        }
        if (yes) {
            out[n++] = image;
        }
    }
    asked = q;
    qsort(out, n, sizeof(*out), compare_images);
    return n;
}

/* The same page a few candidates at a time. */
static void check_steps(struct meta_view *v, const struct meta_image_query *q, const json_t *page,
                        bool more)
{
    struct meta_list *list;
    size_t count, steps = 0;
    bool more_here;
    int rc;
    check_ok(meta_list_open(v, q, &list));
    while ((rc = meta_list_step(list, 1 + steps % 5)) == TSR_EAGAIN) {
        steps++;
    }
    check_ok(rc);
    const struct meta_text *texts = meta_list_page(list, &count, &more_here);
    check_int(count, json_array_size(page));
    check(more == more_here);
    for (size_t i = 0; i < count; i++) {
        json_t *image = json_parse(texts[i].text, texts[i].size);
        check(json_equal(image, json_array_get(page, i)));
        json_decref(image);
    }
    meta_list_close(list);
}

/* All pages of one question, each starting at the last image of the one before. */
static void check_question(struct meta_view *v, struct question *x, json_t *all)
{
    json_t *want[IMAGES];
    size_t n = model_list(v, &x->q, all, want), at = 0;
    char marker[40];
    bool more = true;
    x->q.marker = NULL;
    while (more) {
        json_t *page;
        check_ok(meta_image_list(v, &x->q, &page, &more));
        check_steps(v, &x->q, page, more);
        for (size_t i = 0; i < json_array_size(page); i++, at++) {
            check(at < n);
            check_str(json_str(json_array_get(page, i), "id"), json_str(want[at], "id"));
        }
        check(!more || json_array_size(page) == x->q.limit);
        check(more == (at < n));
        if (json_array_size(page) > 0) {
            snprintf(marker, sizeof(marker), "%s",
                     json_str(json_array_get(page, json_array_size(page) - 1), "id"));
            x->q.marker = marker;
        }
        json_decref(page);
    }
    check_int(at, n);
}

static void check_store(struct store *s, unsigned questions)
{
    struct meta_view *v = view(s);
    struct question x;
    char after[64] = "";
    json_t *all;
    check_ok(meta_image_walk(v, after, IMAGES, &all));
    check(json_array_size(all) > IMAGES / 2);
    for (unsigned i = 0; i < questions; i++) {
        ask(&x, s);
        check_question(v, &x, all);
    }
    json_decref(all);
    meta_view_close(v);
    check_int(meta_damaged(s->m), 0);
}

static void listings_equal_the_model_in_memory(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    fill(&s, 42);
    check_store(&s, 200);
    store_close(&s);
}

static void listings_equal_the_model_in_lmdb(void **state)
{
    (void)state;
    struct store s;
    store_open_lmdb(&s, test_dir());
    fill(&s, 7);
    check_store(&s, 200);
    store_close(&s);
}

static void a_marker_must_be_visible_and_need_not_be_listed(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    bool more;
    store_open(&s);
    check_ok(run(&s, "{'op':'image.create','image':{'id':'%s','owner':'a','visibility':'private'}}",
                 uuid(1)));
    check_ok(run(&s, "{'op':'image.create','image':{'id':'%s','owner':'a','name':'n'}}", uuid(2)));
    check_ok(run(&s,
                 "{'op':'image.create','image':{'id':'%s','owner':'b','visibility':'community',"
                 "'name':'n'}}",
                 uuid(3)));
    struct meta_view *v = view(&s);
    struct meta_image_query q = {.project = "b", .limit = 10, .marker = uuid(1)};
    check_code(meta_image_list(v, &q, &out, &more), TSR_EINVAL);
    q.marker = uuid(9);
    check_code(meta_image_list(v, &q, &out, &more), TSR_EINVAL);
    q.marker = "";
    check_code(meta_image_list(v, &q, &out, &more), TSR_EINVAL);
    q.project = "a";
    q.marker = uuid(3); /* seen by its id only */
    check_ok(meta_image_list(v, &q, &out, &more));
    check_int(json_array_size(out), 2);
    check_str(json_str(json_array_get(out, 0), "id"), uuid(2));
    json_decref(out);
    q.project = NULL;
    check_code(meta_image_list(v, &q, &out, &more), TSR_EINVAL);
    meta_view_close(v);
    store_close(&s);
}

static void odd_questions_have_clear_answers(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    bool more;
    store_open(&s);
    create(&s, uuid(1));
    struct meta_view *v = view(&s);
    struct meta_image_query q = {.admin = true, .limit = 10, .visibility = ""};
    check_ok(meta_image_list(v, &q, &out, &more));
    check_int(json_array_size(out), 0);
    json_decref(out);
    q.visibility = "Public";
    check_code(meta_image_list(v, &q, &out, &more), TSR_EINVAL);
    q.visibility = NULL;
    q.member_status = "maybe";
    check_code(meta_image_list(v, &q, &out, &more), TSR_EINVAL);
    q.member_status = NULL;
    q.limit = 0;
    more = true;
    check_ok(meta_image_list(v, &q, &out, &more));
    check_int(json_array_size(out), 0);
    check(!more);
    json_decref(out);
    q.limit = 10;
    const char *ids[] = {uuid(5), uuid(1), uuid(1)};
    struct meta_filter f = {.field = "id", .compare = CMP_IN, .values = ids, .value_count = 3};
    q.filters = &f;
    q.filter_count = 1;
    check_ok(meta_image_list(v, &q, &out, &more));
    check_int(json_array_size(out), 1);
    json_decref(out);
    f = (struct meta_filter){.field = "size", .values = ids, .value_count = 1}; /* size=text */
    check_ok(meta_image_list(v, &q, &out, &more));
    check_int(json_array_size(out), 0);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

static void images_are_walked_in_order_of_id(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    char after[64] = "";
    store_open(&s);
    for (unsigned i = 10; i > 0; i--) {
        create(&s, uuid(i));
    }
    struct meta_view *v = view(&s);
    unsigned next = 1;
    for (;;) {
        check_ok(meta_image_walk(v, after, 3, &out));
        size_t n = json_array_size(out);
        for (size_t i = 0; i < n; i++) {
            check_str(json_str(json_array_get(out, i), "id"), uuid(next++));
        }
        json_decref(out);
        if (n == 0) {
            break;
        }
    }
    check_int(next, 11);
    meta_view_close(v);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(listings_equal_the_model_in_memory),
          cmocka_unit_test(listings_equal_the_model_in_lmdb),
          cmocka_unit_test(a_marker_must_be_visible_and_need_not_be_listed),
          cmocka_unit_test(odd_questions_have_clear_answers),
          cmocka_unit_test(images_are_walked_in_order_of_id))
