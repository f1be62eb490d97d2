#include "test.h"

#include <stdlib.h>

#include "tessera/base/buf.h"
#include "tessera/base/json.h"

static bool parses(const char *text)
{
    json_t *value = json_parse(text, strlen(text));
    json_decref(value);
    return value != NULL;
}

static void only_one_whole_value_is_accepted(void **state)
{
    (void)state;
    check(parses("{\"a\": [1, true, null, \"x\"]}"));
    check(parses("3"));
    check(!parses(""));
    check(!parses("{} {}"));
    check(!parses("{\"a\": 1, \"a\": 2}"));
    check(!parses("{\"a\": \"\\u0000\"}"));
    check(!parses("\"\xff\""));
    check(!parses("[1,]"));
}

static void nesting_is_bounded_outside_of_strings(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int depth = 64; depth <= 65; depth++) {
        buf_clear(&b);
        for (int i = 0; i < depth; i++) {
            buf_append_str(&b, "[");
        }
        for (int i = 0; i < depth; i++) {
            buf_append_str(&b, "]");
        }
        check_int(parses(b.data), depth == 64);
    }
    buf_clear(&b);
    buf_append_str(&b, "[\"\\\"");
    for (int i = 0; i < 100; i++) {
        buf_append_str(&b, "[{");
    }
    buf_append_str(&b, "\"]");
    check(parses(b.data));
    buf_free(&b);
}

static void getters_give_the_default_for_other_types(void **state)
{
    (void)state;
    const char *text = "{\"s\":\"x\",\"i\":7,\"b\":true,\"o\":{},\"a\":[],\"n\":null}";
    json_t *o = json_parse(text, strlen(text));
    check_str(json_str(o, "s"), "x");
    check_str(json_str(o, "i"), NULL);
    check_str(json_str_or(o, "none", "y"), "y");
    check_int(json_int(o, "i", 1), 7);
    check_int(json_int(o, "s", 1), 1);
    check(json_bool(o, "b", false));
    check(json_bool(o, "n", true));
    check(json_obj(o, "o") != NULL && json_obj(o, "a") == NULL);
    check(json_arr(o, "a") != NULL && json_arr(o, "o") == NULL);
    check_str(json_str(NULL, "s"), NULL);
    json_decref(o);
}

static void equal_values_give_equal_text(void **state)
{
    (void)state;
    json_t *a = json_object(), *b = json_object();
    check_ok(json_set_int(a, "one", 1));
    check_ok(json_set_str(a, "two", NULL));
    check_ok(json_set_bool(b, "two", false));
    check_ok(json_set_str(b, "two", NULL));
    check_ok(json_set_int(b, "one", 1));
    size_t size;
    char *left = json_text(a, &size), *right = json_text(b, NULL);
    check_str(left, "{\"one\":1,\"two\":null}");
    check_str(right, left);
    check_int(size, strlen(left));
    free(left);
    free(right);
    json_decref(a);
    json_decref(b);
}

/* Members of @text as an object again, or NULL when the walk does not end where the text does. */
static json_t *walked(const char *text, size_t size)
{
    json_t *out = json_object();
    struct json_member m;
    size_t at = 0;
    while (json_member_next(text, size, &at, &m)) {
        json_t *key = json_parse(m.key - 1, m.key_size + 2),
               *value = json_parse(m.value, m.value_size);
        check(key != NULL && value != NULL);
        check(json_object_set_new(out, json_string_value(key), value) == 0);
        json_decref(key);
    }
    if (at == SIZE_MAX) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static void members_are_found_without_a_tree(void **state)
{
    (void)state;
    static const char *const values[] = {
        "{}",
        "{\"a\":1}",
        "{\"a\":null,\"b\":true,\"c\":-12.5}",
        "{\"a\":\"\",\"b\":\"x\\\"y\",\"c\":\"z\\\\\"}",
        "{\"a\\\"b\":{\"c\":[1,{\"d\":\"]}\"}],\"e\":\"}\"},\"f\":[]}",
        "{\"\":[[],[[]],\"\\\\\"],\"\xc3\xa4\":{}}",
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        json_t *whole = json_parse(values[i], strlen(values[i]));
        size_t size;
        char *text = json_text(whole, &size);
        json_t *again = walked(text, size);
        check(again != NULL && json_equal(whole, again));
        for (size_t cut = 0; cut < size; cut++) { /* no part of it is taken for the whole */
            json_t *part = walked(text, cut);
            check(part == NULL);
        }
        json_decref(again);
        json_decref(whole);
        free(text);
    }
    check(walked("{\"a\":1}x", 8) == NULL);
    check(walked("{\"a\"1}", 6) == NULL);
    check(walked("[1]", 3) == NULL);
}

static void members_give_plain_values(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":\"abc\",\"b\":\"a\\nb\",\"c\":-7,\"d\":1.5,\"e\":null}";
    struct json_member m[5];
    char out[4];
    int64_t n = 0;
    size_t at = 0;
    for (int i = 0; i < 5; i++) {
        check(json_member_next(text, sizeof(text) - 1, &at, &m[i]));
    }
    check(json_member_is(&m[0], "a", 1) && !json_member_is(&m[0], "ab", 2));
    check(json_member_plain(&m[0], out, sizeof(out)));
    check_str(out, "abc");
    check(!json_member_plain(&m[0], out, 3));
    check(!json_member_plain(&m[1], out, sizeof(out)));
    check(!json_member_plain(&m[2], out, sizeof(out)));
    check(json_member_int(&m[2], &n) && n == -7);
    check(!json_member_int(&m[0], &n) && !json_member_int(&m[3], &n) &&
          !json_member_int(&m[4], &n));
}

static void what_json_parse_would_refuse_can_not_return(void **state)
{
    (void)state;
    json_t *zero = json_stringn("a\0b", 3), *deep = json_array();
    check(!json_can_return(zero));
    for (int i = 1; i <= 64; i++) {
        char *text = json_text(deep, NULL);
        json_t *again = json_parse(text, strlen(text));
        check(json_can_return(deep) && again != NULL);
        json_decref(again);
        free(text);
        deep = json_pack("[o]", deep);
    }
    char *text = json_text(deep, NULL);
    check(!json_can_return(deep) && json_parse(text, strlen(text)) == NULL);
    free(text);
    json_t *inside = json_pack("{s:[o,o]}", "a", zero, deep);
    check(!json_can_return(inside));
    json_decref(inside);
}

TEST_MAIN(cmocka_unit_test(what_json_parse_would_refuse_can_not_return),
          cmocka_unit_test(members_are_found_without_a_tree),
          cmocka_unit_test(members_give_plain_values),
          cmocka_unit_test(only_one_whole_value_is_accepted),
          cmocka_unit_test(nesting_is_bounded_outside_of_strings),
          cmocka_unit_test(getters_give_the_default_for_other_types),
          cmocka_unit_test(equal_values_give_equal_text))
