/* Metadata definitions: bodies, edits, rendering, pages (pure), and changes that meet each other.
 */
#include "world.h"

#include "image/metadef.h"
#include "tessera/base/str.h"

static json_t *parse(const char *text)
{
    json_t *value = json_parse(text, strlen(text));
    if (value == NULL) {
        print_error("%s\n", text);
    }
    check(value != NULL);
    return value;
}

/* The text of @value (taken). */
static char *text_of(json_t *value)
{
    char *text = json_text(value, NULL);
    json_decref(value);
    return text;
}

static void check_json(json_t *value, const char *want)
{
    char *text = text_of(value);
    check_str(text, want);
    free(text);
}

/* --- bodies
 * ----------------------------------------------------------------------------------------- */

static int checked(enum metadef_op op, const char *body_text)
{
    struct err err = {0};
    json_t *body = parse(body_text), *out = NULL;
    int rv = metadef_check(op, body, &out, &err);
    check((rv == 0) == (out != NULL));
    check(rv == 0 || err.msg[0] != '\0');
    json_decref(out);
    json_decref(body);
    return rv;
}

static void bodies_of_another_form_are_refused(void **state)
{
    (void)state;
    static const struct {
        enum metadef_op op;
        const char *body;
        int want;
    } rows[] = {
        {METADEF_CREATE, "{\"namespace\":\"n\"}", 0},
        {METADEF_CREATE, "{}", TSR_EINVAL},
        {METADEF_CREATE, "[]", TSR_EINVAL},
        {METADEF_CREATE, "\"n\"", TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":5}", TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":\"\"}", TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"x\":1}", TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"self\":\"s\"}", TSR_EFORBIDDEN},
        {METADEF_CREATE, "{\"schema\":\"s\"}", TSR_EFORBIDDEN},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"visibility\":\"shared\"}", TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"owner\":null}", TSR_EINVAL},
        {METADEF_CREATE,
         "{\"namespace\":\"n\",\"objects\":[{\"name\":\"o\",\"self\":\"s\",\"schema\":\"s\","
         "\"created_at\":\"t\",\"updated_at\":\"t\"}],\"tags\":[{\"name\":\"t\","
         "\"created_at\":\"t\"}]}",
         0},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"objects\":[{\"name\":\"o\",\"more\":1}]}",
         TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"tags\":{}}", TSR_EINVAL},
        {METADEF_CREATE, "{\"namespace\":\"n\",\"properties\":{\"\":{}}}", TSR_EINVAL},
        {METADEF_UPDATE, "{\"display_name\":\"d\"}", TSR_EINVAL},
        {METADEF_PROPERTY_CREATE, "{\"name\":\"p\",\"title\":\"t\",\"type\":\"string\"}", 0},
        {METADEF_PROPERTY_CREATE, "{\"name\":\"p\",\"title\":\"t\",\"type\":null}", 0},
        {METADEF_PROPERTY_CREATE, "{\"title\":\"t\",\"type\":\"string\"}", TSR_EINVAL},
        {METADEF_PROPERTY_CREATE, "{\"name\":\"p\",\"type\":\"string\"}", TSR_EINVAL},
        {METADEF_PROPERTY_CREATE, "{\"name\":\"p\",\"title\":\"t\"}", TSR_EINVAL},
        {METADEF_PROPERTY_CREATE, "{\"name\":\"p\",\"title\":\"t\",\"type\":\"text\"}", TSR_EINVAL},
        {METADEF_PROPERTY_CREATE,
         "{\"name\":\"p\",\"title\":\"t\",\"type\":\"array\",\"operators\":[\"<in>\",\"<in>\"],"
         "\"required\":[],\"minimum\":-1.5,\"maximum\":2,\"maxLength\":1.0,\"minLength\":0,"
         "\"pattern\":\"^a\",\"enum\":[1,null],\"readonly\":true,\"default\":{\"any\":[]},"
         "\"items\":{\"type\":\"integer\",\"enum\":[1]},\"maxItems\":1,\"minItems\":0,"
         "\"uniqueItems\":false,\"additionalItems\":true}",
         0},
        {METADEF_PROPERTY_UPDATE,
         "{\"name\":\"p\",\"title\":\"t\",\"type\":\"string\",\"maxLength\":1.5}", TSR_EINVAL},
        {METADEF_PROPERTY_UPDATE,
         "{\"name\":\"p\",\"title\":\"t\",\"type\":\"string\",\"minItems\":-1}", TSR_EINVAL},
        {METADEF_PROPERTY_UPDATE,
         "{\"name\":\"p\",\"title\":\"t\",\"type\":\"string\",\"required\":[\"a\",\"a\"]}",
         TSR_EINVAL},
        {METADEF_PROPERTY_UPDATE,
         "{\"name\":\"p\",\"title\":\"t\",\"type\":\"string\",\"items\":{\"x\":1}}", TSR_EINVAL},
        {METADEF_PROPERTY_UPDATE,
         "{\"name\":\"p\",\"title\":\"t\",\"type\":\"string\",\"updated_at\":\"x\"}",
         TSR_EFORBIDDEN},
        {METADEF_OBJECT_CREATE, "{\"name\":\"o\"}", 0},
        {METADEF_OBJECT_CREATE, "{\"name\":\"o\",\"self\":\"x\"}", TSR_EFORBIDDEN},
        {METADEF_OBJECT_CREATE, "{\"name\":\"o\",\"required\":[1]}", TSR_EINVAL},
        {METADEF_OBJECT_UPDATE, "{\"description\":\"o\"}", TSR_EINVAL},
        {METADEF_TAG_UPDATE, "{\"name\":\"t\"}", 0},
        {METADEF_TAG_UPDATE, "{\"name\":\"\"}", TSR_EINVAL},
        {METADEF_TAG_UPDATE, "{\"name\":\"t\",\"created_at\":\"x\"}", TSR_EFORBIDDEN},
        {METADEF_TAGS_REPLACE, "{\"tags\":[]}", 0},
        {METADEF_TAGS_REPLACE, "{\"tags\":[\"a\"]}", TSR_EINVAL},
        {METADEF_TAGS_REPLACE, "{}", TSR_EINVAL},
        {METADEF_TYPE_CREATE, "{\"name\":\"T\",\"prefix\":\"p:\",\"properties_target\":\"i\"}", 0},
        {METADEF_TYPE_CREATE, "{\"prefix\":\"p:\"}", TSR_EINVAL},
    };
    for (size_t i = 0; i < array_len(rows); i++) {
        int rv = checked(rows[i].op, rows[i].body);
        if (rv != rows[i].want) {
            print_error("row %zu: %s\n", i, rows[i].body);
        }
        check_code(rv, rows[i].want);
    }
}

static void names_have_up_to_80_characters_of_any_script(void **state)
{
    (void)state;
    char name[4 * 82];
    name[0] = '\0';
    for (int i = 0; i < 80; i++) {
        strcat(name, "\xe2\x82\xac");
    }
    check(metadef_name_ok(name));
    strcat(name, "x");
    check(!metadef_name_ok(name));
    check(!metadef_name_ok(""));
    check(!metadef_name_ok(NULL));
    check(!metadef_name_ok("\xff"));
}

static void doubles_are_found_among_many(void **state)
{
    (void)state;
    const char *twice;
    json_t *names = json_array();
    for (int i = 0; i < 20000; i++) {
        json_array_append_new(names, json_sprintf("n%d", i));
    }
    check_ok(metadef_double(names, true, &twice));
    check(twice == NULL);
    json_array_append_new(names, json_string("N777"));
    check_ok(metadef_double(names, false, &twice));
    check(twice == NULL);
    check_ok(metadef_double(names, true, &twice));
    check_str(twice, "N777");
    json_decref(names);
}

/* --- edits
 * ----------------------------------------------------------------------------------------- */

enum { SECOND = 1000000 };

static json_t *record; /* of the tests of edits */
static int64_t now;

/* Edit the record; the answer is *shown (or dropped). */
static int edit(enum metadef_op op, const char *item, const char *body_text, json_t **shown)
{
    struct err err = {0};
    json_t *body = body_text != NULL ? parse(body_text) : NULL, *value = NULL, *next, *answer;
    check_ok(metadef_check(op, body, &value, &err));
    now += SECOND;
    struct metadef_edit e = {
        .op = op, .item = item, .value = value, .project = "p1", .id = "the-id", .now = now};
    int rv = metadef_edit(op == METADEF_CREATE ? NULL : record, &e, &next, &answer, &err);
    check(rv == 0 || (next == NULL && answer == NULL && err.msg[0] != '\0'));
    if (rv == 0 && next != NULL) {
        int64_t before = op == METADEF_CREATE ? 0 : json_int(record, "version", -1);
        check_int(json_int(next, "version", 0), before + 1);
        json_decref(record);
        record = next;
    }
    if (shown != NULL) {
        *shown = answer;
    } else {
        json_decref(answer);
    }
    json_decref(value);
    json_decref(body);
    return rv;
}

static void edit_begin(const char *body)
{
    now = 1600000000LL * SECOND;
    record = NULL;
    check_ok(edit(METADEF_CREATE, NULL, body, NULL));
}

static void edit_end(void)
{
    json_decref(record);
    record = NULL;
}

static void a_new_namespace_has_defaults_and_what_was_given(void **state)
{
    (void)state;
    edit_begin("{\"namespace\":\"n\",\"objects\":[{\"name\":\"o\",\"self\":\"s\"}],"
               "\"properties\":{\"p\":{\"name\":\"x\",\"title\":\"t\",\"type\":\"string\"}}}");
    json_object_del(record, "objects");
    check_json(record,
               "{\"created_at\":1600000001000000,\"id\":\"the-id\",\"name\":\"n\",\"owner\":\"p1\","
               "\"properties\":{\"p\":{\"title\":\"t\",\"type\":\"string\"}},\"protected\":false,"
               "\"resource_types\":[],\"tags\":[],\"updated_at\":1600000001000000,\"version\":1,"
               "\"visibility\":\"private\"}");
    record = NULL;
    json_t *shown;
    check_ok(edit(METADEF_CREATE, NULL, "{\"namespace\":\"a b\",\"owner\":\"q\"}", &shown));
    check_json(shown, "{\"created_at\":\"2020-09-13T12:26:42Z\",\"namespace\":\"a b\","
                      "\"owner\":\"q\",\"protected\":false,"
                      "\"schema\":\"/v2/schemas/metadefs/namespace\","
                      "\"self\":\"/v2/metadefs/namespaces/a%20b\","
                      "\"updated_at\":\"2020-09-13T12:26:42Z\",\"visibility\":\"private\"}");
    edit_end();
    check_code(edit(METADEF_CREATE, NULL,
                    "{\"namespace\":\"n\",\"tags\":[{\"name\":\"a\"},{\"name\":\"A\"}]}", NULL),
               TSR_EEXIST);
    check_code(edit(METADEF_CREATE, NULL,
                    "{\"namespace\":\"n\",\"objects\":[{\"name\":\"a\"},{\"name\":\"a\"}]}", NULL),
               TSR_EEXIST);
}

static void an_update_resets_fields_and_keeps_what_is_inside(void **state)
{
    (void)state;
    edit_begin("{\"namespace\":\"n\",\"description\":\"d\",\"visibility\":\"public\","
               "\"owner\":\"q\",\"tags\":[{\"name\":\"t\"}]}");
    int64_t created = json_int(record, "created_at", 0);
    check_ok(edit(METADEF_UPDATE, NULL, "{\"namespace\":\"m\",\"tags\":[]}", NULL));
    check_str(json_str(record, "name"), "m");
    check_str(json_str(record, "owner"), "p1");
    check_str(json_str(record, "visibility"), "private");
    check(json_object_get(record, "description") == NULL);
    check_int(json_array_size(json_arr(record, "tags")), 1);
    check_int(json_int(record, "created_at", 0), created);
    check_int(json_int(record, "updated_at", 0), now);
    edit_end();
}

static void times_of_a_record_never_decrease(void **state)
{
    (void)state;
    edit_begin("{\"namespace\":\"n\"}");
    int64_t before = json_int(record, "updated_at", 0);
    now -= 100 * (int64_t)SECOND;
    check_ok(edit(METADEF_UPDATE, NULL, "{\"namespace\":\"n\"}", NULL));
    check_int(json_int(record, "updated_at", 0), before);
    edit_end();
}

static void properties_are_put_renamed_and_taken_out(void **state)
{
    (void)state;
    json_t *shown;
    edit_begin("{\"namespace\":\"n\"}");
    static const char a[] = "{\"name\":\"a\",\"title\":\"A\",\"type\":\"string\"}";
    static const char b[] = "{\"name\":\"b\",\"title\":\"B\",\"type\":\"string\"}";
    check_ok(edit(METADEF_PROPERTY_CREATE, NULL, a, &shown));
    check_json(shown, a);
    check_code(edit(METADEF_PROPERTY_CREATE, NULL, a, NULL), TSR_EEXIST);
    check_code(edit(METADEF_PROPERTY_UPDATE, "b", a, NULL), TSR_ENOENT);
    check_ok(edit(METADEF_PROPERTY_UPDATE, "a", b, NULL));
    check_ok(edit(METADEF_PROPERTY_CREATE, NULL, a, NULL));
    check_code(edit(METADEF_PROPERTY_UPDATE, "a", b, NULL), TSR_EEXIST);
    check_code(edit(METADEF_PROPERTY_DELETE, "c", NULL, NULL), TSR_ENOENT);
    check_ok(edit(METADEF_PROPERTY_DELETE, "a", NULL, NULL));
    check_json(json_incref(json_obj(record, "properties")),
               "{\"b\":{\"title\":\"B\",\"type\":\"string\"}}");
    check_ok(edit(METADEF_CLEAR_PROPERTIES, NULL, NULL, NULL));
    check_int(json_object_size(json_obj(record, "properties")), 0);
    edit_end();
}

static void objects_keep_their_creation_time_and_place(void **state)
{
    (void)state;
    edit_begin("{\"namespace\":\"n\"}");
    check_ok(edit(METADEF_OBJECT_CREATE, NULL, "{\"name\":\"a\"}", NULL));
    int64_t created = now;
    check_ok(edit(METADEF_OBJECT_CREATE, NULL, "{\"name\":\"A\"}", NULL));
    check_code(edit(METADEF_OBJECT_CREATE, NULL, "{\"name\":\"a\"}", NULL), TSR_EEXIST);
    check_code(edit(METADEF_OBJECT_UPDATE, "x", "{\"name\":\"x\"}", NULL), TSR_ENOENT);
    check_code(edit(METADEF_OBJECT_UPDATE, "a", "{\"name\":\"A\"}", NULL), TSR_EEXIST);
    check_ok(edit(METADEF_OBJECT_UPDATE, "a", "{\"name\":\"b\",\"description\":\"d\"}", NULL));
    json_t *first = json_array_get(json_arr(record, "objects"), 0);
    check_str(json_str(first, "name"), "b");
    check_int(json_int(first, "created_at", 0), created);
    check_int(json_int(first, "updated_at", 0), now);
    check(metadef_find(json_arr(record, "objects"), "A") != NULL);
    check(metadef_find(json_arr(record, "objects"), "a") == NULL);
    check_ok(edit(METADEF_OBJECT_DELETE, "b", NULL, NULL));
    check_code(edit(METADEF_OBJECT_DELETE, "b", NULL, NULL), TSR_ENOENT);
    check_ok(edit(METADEF_CLEAR_OBJECTS, NULL, NULL, NULL));
    check_int(json_array_size(json_arr(record, "objects")), 0);
    edit_end();
}

static void tags_differ_by_more_than_letter_case(void **state)
{
    (void)state;
    json_t *shown;
    edit_begin("{\"namespace\":\"n\"}");
    check_ok(edit(METADEF_TAG_CREATE, "One", NULL, &shown));
    check_str(json_str(shown, "name"), "One");
    json_decref(shown);
    check_code(edit(METADEF_TAG_CREATE, "ONE", NULL, NULL), TSR_EEXIST);
    check_code(edit(METADEF_TAG_CREATE, "", NULL, NULL), TSR_EINVAL);
    check_ok(edit(METADEF_TAG_UPDATE, "One", "{\"name\":\"one\"}", NULL));
    check_code(edit(METADEF_TAG_UPDATE, "One", "{\"name\":\"two\"}", NULL), TSR_ENOENT);
    check_ok(edit(METADEF_TAGS_APPEND, NULL, "{\"tags\":[{\"name\":\"b\"}]}", &shown));
    check_json(shown, "{\"tags\":[{\"name\":\"b\"}]}");
    check_code(
        edit(METADEF_TAGS_APPEND, NULL, "{\"tags\":[{\"name\":\"c\"},{\"name\":\"B\"}]}", NULL),
        TSR_EEXIST);
    check_int(json_array_size(json_arr(record, "tags")), 2);
    check_ok(edit(METADEF_TAGS_REPLACE, NULL, "{\"tags\":[{\"name\":\"B\"}]}", NULL));
    check_int(json_array_size(json_arr(record, "tags")), 1);
    check_code(edit(METADEF_TAG_DELETE, "b", NULL, NULL), TSR_ENOENT);
    check_ok(edit(METADEF_TAG_DELETE, "B", NULL, NULL));
    check_ok(edit(METADEF_CLEAR_TAGS, NULL, NULL, NULL));
    edit_end();
}

static void nothing_of_a_protected_namespace_is_deleted(void **state)
{
    (void)state;
    edit_begin("{\"namespace\":\"n\",\"protected\":true,\"tags\":[{\"name\":\"t\"}],"
               "\"objects\":[{\"name\":\"o\"}],\"resource_type_associations\":[{\"name\":\"r\"}],"
               "\"properties\":{\"p\":{\"title\":\"t\",\"type\":\"string\"}}}");
    static const struct {
        enum metadef_op op;
        const char *item;
    } rows[] = {
        {METADEF_DELETE, NULL},     {METADEF_CLEAR_PROPERTIES, NULL}, {METADEF_CLEAR_OBJECTS, NULL},
        {METADEF_CLEAR_TAGS, NULL}, {METADEF_PROPERTY_DELETE, "p"},   {METADEF_OBJECT_DELETE, "o"},
        {METADEF_TAG_DELETE, "t"},  {METADEF_TYPE_DELETE, "r"},
    };
    for (size_t i = 0; i < array_len(rows); i++) {
        check_code(edit(rows[i].op, rows[i].item, NULL, NULL), TSR_EFORBIDDEN);
    }
    check_ok(edit(METADEF_TAG_CREATE, "more", NULL, NULL));
    check_ok(edit(METADEF_UPDATE, NULL, "{\"namespace\":\"n\"}", NULL));
    for (size_t i = array_len(rows); i-- > 4;) {
        check_ok(edit(rows[i].op, rows[i].item, NULL, NULL));
    }
    check_ok(edit(METADEF_DELETE, NULL, NULL, NULL));
    edit_end();
}

static void a_namespace_is_bounded(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *next, *shown;
    char *text = malloc(METADEF_BYTES_MAX);
    memset(text, 'x', METADEF_BYTES_MAX - 1);
    text[METADEF_BYTES_MAX - 1] = '\0';
    edit_begin("{\"namespace\":\"n\"}");
    json_t *value = json_pack("{s:s, s:s, s:[], s:{}}", "name", "o", "description", text,
                              "required", "properties");
    struct metadef_edit e = {
        .op = METADEF_OBJECT_CREATE, .item = "", .value = value, .project = "", .now = now};
    check_code(metadef_edit(record, &e, &next, &shown, &err), TSR_ETOOBIG);
    check(next == NULL && shown == NULL);
    json_decref(value);
    free(text);
    edit_end();
}

static void names_get_the_prefix_of_a_resource_type(void **state)
{
    (void)state;
    edit_begin("{\"namespace\":\"n\",\"properties\":{\"p\":{\"title\":\"t\",\"type\":\"string\"}},"
               "\"objects\":[{\"name\":\"o\",\"required\":[\"q\"],\"properties\":{\"q\":"
               "{\"title\":\"t\",\"type\":\"string\"}}}],"
               "\"resource_type_associations\":[{\"name\":\"T\",\"prefix\":\"x:\"},"
               "{\"name\":\"U\"}]}");
    json_t *shown = metadef_render(record, "T");
    check(json_object_get(json_obj(shown, "properties"), "x:p") != NULL);
    json_t *object = json_array_get(json_arr(shown, "objects"), 0);
    check(json_object_get(json_obj(object, "properties"), "x:q") != NULL);
    check_json(json_incref(json_arr(object, "required")), "[\"x:q\"]");
    json_decref(shown);
    static const char *const others[] = {"U", "V", NULL};
    for (size_t i = 0; i < array_len(others); i++) {
        shown = metadef_render(record, others[i]);
        check(json_object_get(json_obj(shown, "properties"), "p") != NULL);
        json_decref(shown);
    }
    edit_end();
}

/* --- pages
 * ----------------------------------------------------------------------------------------- */

static int page_parse(const char *query_text, bool tags, struct metadef_page *page)
{
    static struct image_param params[4];
    static char texts[4][64];
    size_t n = 0;
    char copy[128], *rest = copy;
    (void)str_copy(copy, sizeof(copy), query_text);
    for (char *word; (word = strsep(&rest, "&")) != NULL && *word != '\0'; n++) {
        (void)str_copy(texts[n], sizeof(texts[n]), word);
        char *value = strchr(texts[n], '=');
        *value = '\0';
        params[n] = (struct image_param){texts[n], value + 1};
    }
    struct metadef_query query = {params, n, 25, 100};
    struct err err = {0};
    return metadef_page_parse(&query, tags, page, &err);
}

static void paging_parameters_are_checked(void **state)
{
    (void)state;
    struct metadef_page page;
    check_ok(page_parse("", false, &page));
    check_int(page.limit, 25);
    check(page.descending && page.marker == NULL);
    check_str(page.field, "created_at");
    check_ok(page_parse("limit=0&marker=m&sort_key=namespace&sort_dir=asc", false, &page));
    check_int(page.limit, 0);
    check_str(page.marker, "m");
    check_str(page.field, "name");
    check(!page.descending);
    check_ok(page_parse("limit=5000", false, &page));
    check_int(page.limit, 100);
    check_ok(page_parse("", true, &page));
    check(page.limit == SIZE_MAX);
    static const char *const bad[] = {"limit=x", "limit=", "limit=-1", "sort_dir=up",
                                      "sort_key=nonsense"};
    for (size_t i = 0; i < array_len(bad); i++) {
        check_code(page_parse(bad[i], false, &page), TSR_EINVAL);
    }
    check_code(page_parse("sort_key=namespace", true, &page), TSR_EINVAL);
}

static bool keeps_even(const json_t *item, const void *arg)
{
    (void)arg;
    return json_int(item, "n", 0) % 2 == 0;
}

/* Names of the page, a '+' if more follows; or the code. */
static const char *cut(const json_t *items, struct metadef_page page)
{
    static char out[64];
    struct err err = {0};
    json_t *list = NULL, *item;
    bool more = false;
    size_t i;
    int rv = metadef_page_cut(items, &page, &list, &more, &err);
    if (rv != 0) {
        return err_name(rv);
    }
    out[0] = '\0';
    json_array_foreach(list, i, item)
    {
        strcat(out, json_str_or(item, "name", "?"));
    }
    json_decref(list);
    return more ? strcat(out, "+") : out;
}

static void pages_follow_the_marker_in_order(void **state)
{
    (void)state;
    json_t *items = parse("[{\"name\":\"b\",\"n\":1,\"v\":\"x\"},{\"name\":\"a\",\"n\":1,\"v\":"
                          "\"y\"},{\"name\":\"d\",\"n\":4},{\"name\":\"c\",\"n\":2,\"v\":\"x\"}]");
    check_str(cut(items, (struct metadef_page){.limit = 9, .field = "n"}), "abcd");
    check_str(cut(items, (struct metadef_page){.limit = 9, .field = "n", .descending = true}),
              "dcba");
    check_str(cut(items, (struct metadef_page){.limit = 9, .field = "v"}), "dbca");
    check_str(cut(items, (struct metadef_page){.limit = 2, .field = "n"}), "ab+");
    check_str(cut(items, (struct metadef_page){.limit = 2, .field = "n", .marker = "b"}), "cd");
    check_str(cut(items, (struct metadef_page){.limit = 2, .field = "n", .marker = "d"}), "");
    check_str(cut(items, (struct metadef_page){.limit = 0, .field = "n"}), "");
    check_str(cut(items, (struct metadef_page){.limit = 2, .field = "n", .marker = "z"}),
              "TSR_ENOENT");
    struct metadef_page even = {.limit = 1, .field = "n", .keep = keeps_even};
    check_str(cut(items, even), "c+");
    even.marker = "a"; /* not one of those listed */
    even.limit = 2;
    check_str(cut(items, even), "cd");
    json_decref(items);
}

static void links_repeat_the_query(void **state)
{
    (void)state;
    struct image_param params[] = {{"limit", "2"}, {"marker", "old"}, {"x", "a b&\xc3\xbc"}};
    struct metadef_query query = {params, 3, 25, 100};
    char *link = metadef_page_link("/p", &query, NULL);
    check_str(link, "/p?limit=2&x=a+b%26%C3%BC");
    free(link);
    link = metadef_page_link("/p", &query, "n/1");
    check_str(link, "/p?limit=2&x=a+b%26%C3%BC&marker=n%2F1");
    free(link);
    query.count = 0;
    link = metadef_page_link("/p", &query, NULL);
    check_str(link, "/p");
    free(link);
    check(metadef_listed("a, b,c", "b") && metadef_listed("a", "a"));
    check(!metadef_listed("ab,c", "a") && !metadef_listed("", "a") && !metadef_listed("a,,b", ""));
}

/* --- as a service
 * ---------------------------------------------------------------------------------- */

static void send(struct world *w, const struct caller *caller, enum metadef_op op, const char *ns,
                 const char *item, const char *body_text, struct answer *a)
{
    json_t *body = body_text != NULL ? parse(body_text) : NULL;
    struct metadef_change change = {op, ns, item, body};
    *a = (struct answer){0};
    metadef_change(&w->ctx, caller, &change, answer_cb, a);
    json_decref(body);
}

static int change(struct world *w, const struct caller *caller, enum metadef_op op, const char *ns,
                  const char *item, const char *body_text)
{
    struct answer a;
    send(w, caller, op, ns, item, body_text, &a);
    int rv = world_wait(w, &a);
    json_decref(a.result);
    return rv;
}

static json_t *shown(struct world *w, const struct caller *caller, const char *ns)
{
    struct meta_view *view;
    struct err err = {0};
    json_t *out = NULL;
    check_ok(meta_view_open(w->meta, &view));
    int rv = metadef_namespace(view, caller, ns, NULL, &out, &err);
    meta_view_close(view);
    check(rv == 0 || rv == TSR_ENOENT);
    return out;
}

static void changes_that_meet_are_all_made(void **state)
{
    (void)state;
    struct world w;
    struct answer a[8];
    world_open(&w);
    check_ok(change(&w, &w.admin, METADEF_CREATE, NULL, NULL, "{\"namespace\":\"n\"}"));
    for (int i = 0; i < 8; i++) { /* sent before any is answered */
        char tag[8];
        (void)snprintf(tag, sizeof(tag), "t%d", i);
        send(&w, &w.admin, METADEF_TAG_CREATE, "n", tag, NULL, &a[i]);
    }
    for (int i = 0; i < 8; i++) {
        check_ok(world_wait(&w, &a[i]));
        json_decref(a[i].result);
    }
    json_t *out = shown(&w, &w.admin, "n");
    check_int(json_array_size(json_arr(out, "tags")), 8);
    json_decref(out);
    world_close(&w);
}

static void of_two_with_one_name_the_second_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct answer a, b, c;
    static const char both[] = "{\"namespace\":\"n\",\"resource_type_associations\":"
                               "[{\"name\":\"New\"}]}";
    static const char third[] = "{\"namespace\":\"m\",\"resource_type_associations\":"
                                "[{\"name\":\"New\"},{\"name\":\"OS::Nova::Server\"}]}";
    world_open(&w);
    send(&w, &w.admin, METADEF_CREATE, NULL, NULL, both, &a);
    send(&w, &w.admin, METADEF_CREATE, NULL, NULL, both, &b);
    send(&w, &w.admin, METADEF_CREATE, NULL, NULL, third, &c);
    check_ok(world_wait(&w, &a));
    check_code(world_wait(&w, &b), TSR_EEXIST);
    check_ok(world_wait(&w, &c)); /* its resource type was there by then */
    json_decref(a.result);
    json_decref(c.result);
    check_code(change(&w, &w.admin, METADEF_UPDATE, "m", NULL, "{\"namespace\":\"n\"}"),
               TSR_EEXIST);
    check_ok(change(&w, &w.admin, METADEF_UPDATE, "m", NULL, "{\"namespace\":\"o\"}"));
    check(shown(&w, &w.admin, "m") == NULL);
    struct meta_view *view;
    struct err err = {0};
    json_t *types = NULL;
    check_ok(meta_view_open(w.meta, &view));
    check_ok(metadef_resource_types(view, &w.owner, &types, &err));
    meta_view_close(view);
    check_int(json_array_size(json_arr(types, "resource_types")), 7);
    json_decref(types);
    world_close(&w);
}

static void a_change_of_what_is_deleted_meanwhile_finds_nothing(void **state)
{
    (void)state;
    struct world w;
    struct answer a, b;
    world_open(&w);
    check_ok(change(&w, &w.admin, METADEF_CREATE, NULL, NULL, "{\"namespace\":\"n\"}"));
    send(&w, &w.admin, METADEF_DELETE, "n", NULL, NULL, &a);
    send(&w, &w.admin, METADEF_TAG_CREATE, "n", "t", NULL, &b);
    check_ok(world_wait(&w, &a));
    check(a.result == NULL);
    check_code(world_wait(&w, &b), TSR_ENOENT);
    check_code(change(&w, &w.admin, METADEF_DELETE, "n", NULL, NULL), TSR_ENOENT);
    world_close(&w);
}

static void only_administrators_change_and_projects_see_their_own(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    check_code(change(&w, &w.owner, METADEF_CREATE, NULL, NULL, "{\"namespace\":\"n\"}"),
               TSR_EFORBIDDEN);
    check_code(change(&w, &w.owner, METADEF_CREATE, NULL, NULL, "{}"), TSR_EINVAL);
    check_ok(change(&w, &w.admin, METADEF_CREATE, NULL, NULL,
                    "{\"namespace\":\"own\",\"owner\":\"p1\"}"));
    check_ok(change(&w, &w.admin, METADEF_CREATE, NULL, NULL,
                    "{\"namespace\":\"pub\",\"visibility\":\"public\"}"));
    check_code(change(&w, &w.owner, METADEF_TAG_CREATE, "own", "t", NULL), TSR_EFORBIDDEN);
    check_code(change(&w, &w.other, METADEF_TAG_CREATE, "own", "t", NULL), TSR_ENOENT);
    check_code(change(&w, &w.other, METADEF_TAG_CREATE, "pub", "t", NULL), TSR_EFORBIDDEN);
    check_code(change(&w, &w.admin, METADEF_TAG_CREATE, "\xff", "t", NULL), TSR_ENOENT);
    check_code(change(&w, &w.admin, METADEF_TAG_CREATE, "own", "\xff", NULL), TSR_EINVAL);
    struct caller none = {.scope = SCOPE_NONE, .roles = ROLE_READER};
    struct caller local = {.scope = SCOPE_SYSTEM, .roles = ROLE_ADMIN, .local_admin = true};
    const struct {
        const struct caller *caller;
        bool own, pub;
    } rows[] = {{&w.owner, true, true},
                {&w.other, false, true},
                {&w.admin, true, true},
                {&local, true, true},
                {&none, false, false}};
    for (size_t i = 0; i < array_len(rows); i++) {
        json_t *own = shown(&w, rows[i].caller, "own"), *pub = shown(&w, rows[i].caller, "pub");
        check_int(own != NULL, rows[i].own);
        check_int(pub != NULL, rows[i].pub);
        json_decref(own);
        json_decref(pub);
    }
    world_close(&w);
}

static void an_undecided_change_is_told_as_such(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    fake.match = "metadef";
    fake.refuse = 1;
    check_code(change(&w, &w.admin, METADEF_CREATE, NULL, NULL, "{\"namespace\":\"n\"}"),
               TSR_ENOQUORUM);
    check(shown(&w, &w.admin, "n") == NULL);
    check_ok(change(&w, &w.admin, METADEF_CREATE, NULL, NULL, "{\"namespace\":\"n\"}"));
    world_close(&w);
}

TEST_MAIN(cmocka_unit_test(bodies_of_another_form_are_refused),
          cmocka_unit_test(names_have_up_to_80_characters_of_any_script),
          cmocka_unit_test(doubles_are_found_among_many),
          cmocka_unit_test(a_new_namespace_has_defaults_and_what_was_given),
          cmocka_unit_test(an_update_resets_fields_and_keeps_what_is_inside),
          cmocka_unit_test(times_of_a_record_never_decrease),
          cmocka_unit_test(properties_are_put_renamed_and_taken_out),
          cmocka_unit_test(objects_keep_their_creation_time_and_place),
          cmocka_unit_test(tags_differ_by_more_than_letter_case),
          cmocka_unit_test(nothing_of_a_protected_namespace_is_deleted),
          cmocka_unit_test(a_namespace_is_bounded),
          cmocka_unit_test(names_get_the_prefix_of_a_resource_type),
          cmocka_unit_test(paging_parameters_are_checked),
          cmocka_unit_test(pages_follow_the_marker_in_order),
          cmocka_unit_test(links_repeat_the_query),
          cmocka_unit_test(changes_that_meet_are_all_made),
          cmocka_unit_test(of_two_with_one_name_the_second_is_refused),
          cmocka_unit_test(a_change_of_what_is_deleted_meanwhile_finds_nothing),
          cmocka_unit_test(only_administrators_change_and_projects_see_their_own),
          cmocka_unit_test(an_undecided_change_is_told_as_such))
