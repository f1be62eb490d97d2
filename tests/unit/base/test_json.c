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

static void as_jansson(const char *text, size_t size)
{
    json_error_t where;
    json_t *own = json_parse(text, size);
    json_t *other = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    check_int(own != NULL, other != NULL);
    check(json_equal(own, other) || own == NULL);
    if (own != NULL) {
        size_t length;
        char *own_text = json_text(own, &length);
        char *others = json_dumps(own, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
        check_str(own_text, others);
        check_int(length, strlen(others));
        check(json_can_return(own));
        free(own_text);
        free(others);
    }
    json_decref(own);
    json_decref(other);
}

/* The parser is ours for its speed; what is JSON is for jansson to say. */
static void spoilt_texts_are_read_as_jansson_reads_them(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"a\":{\"b\":[1,-2,0,true,false,null,\"x\"],\"c\":\"\"},\"long key of a member\":{}}",
        "[\"\\u00e4\\ud83d\\ude00\\n\\\"\\\\\\/ \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\", "
        "\"0123456789abcdef\"]",
        "[9223372036854775807, -9223372036854775808, 1.5, -0, 0.25e-3, 1E9, 9e999]",
        " { \"z\" : [ ] , \"y\" : { } , \"x\" : [ [ ] , 12 ] } \r\n\t",
    };
    static const char bytes[] =
        "\"\\{}[]:,019-+.eEutfn \n\x01\x1f\x7f\x80\xc3\xed\xa0\xf4\x90\xff/dD";
    uint32_t random = 1;
    char text[256];
    for (unsigned round = 0; round < 100000; round++) {
        const char *from = texts[round % array_len(texts)];
        size_t size = strlen(from);
        memcpy(text, from, size);
        for (unsigned i = 0; i < round % 5; i++) {
            random = random * 1664525u + 1013904223u;
            size_t at = (random >> 8) % size, to = (random >> 20) % size;
            switch (random >> 30) {
            case 0:
                text[at] = bytes[(random >> 4) % (sizeof(bytes) - 1)];
                break;
            case 1:
                memmove(text + at, text + at + 1, size - at - 1);
                size -= size > 1 ? 1 : 0;
                break;
            case 2:
                text[at] = text[to];
                break;
            default:
                size = round % 7 == 0 ? at + 1 : size;
            }
        }
        as_jansson(text, size);
    }
}

static void what_json_parse_would_refuse_can_not_return(void **state)
{
    (void)state;
    json_t *zero = json_stringn("a\0b", 3), *deep = json_array(), *broken = json_object();
    check(!json_can_return(zero));
    for (int i = 1; i <= 64; i++) {
        check(json_can_return(deep));
        deep = json_pack("[o]", deep);
    }
    check(!json_can_return(deep));
    char *text = json_text(deep, NULL);
    check(text != NULL && !parses(text));
    free(text);
    check_int(json_object_set_new(broken, "a", json_stringn_nocheck("\xff", 1)), 0);
    check(json_text(broken, NULL) == NULL);
    json_decref(zero);
    json_decref(deep);
    json_decref(broken);
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

TEST_MAIN(cmocka_unit_test(members_are_found_without_a_tree),
          cmocka_unit_test(members_give_plain_values),
          cmocka_unit_test(only_one_whole_value_is_accepted),
          cmocka_unit_test(nesting_is_bounded_outside_of_strings),
          cmocka_unit_test(spoilt_texts_are_read_as_jansson_reads_them),
          cmocka_unit_test(what_json_parse_would_refuse_can_not_return),
          cmocka_unit_test(getters_give_the_default_for_other_types),
          cmocka_unit_test(equal_values_give_equal_text))
