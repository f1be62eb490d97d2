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

TEST_MAIN(cmocka_unit_test(only_one_whole_value_is_accepted),
          cmocka_unit_test(nesting_is_bounded_outside_of_strings),
          cmocka_unit_test(getters_give_the_default_for_other_types),
          cmocka_unit_test(equal_values_give_equal_text))
