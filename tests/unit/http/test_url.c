/* Ranges, path segments, query parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tessera/base/assert.h"
#include "tessera/http.h"

static void ranges_are_read_as_the_standard_says(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int64_t size;
        enum http_range kind;
        int64_t first, length;
    } table[] = {
        {NULL, 100, HTTP_RANGE_NONE, 0, 0},
        {"", 100, HTTP_RANGE_NONE, 0, 0},
        {"  ", 100, HTTP_RANGE_NONE, 0, 0},
        {"bytes=0-0", 100, HTTP_RANGE_ONE, 0, 1},
        {"bytes=0-99", 100, HTTP_RANGE_ONE, 0, 100},
        {"bytes=0-100", 100, HTTP_RANGE_ONE, 0, 100},
        {"bytes=10-", 100, HTTP_RANGE_ONE, 10, 90},
        {"bytes=99-", 100, HTTP_RANGE_ONE, 99, 1},
        {"Bytes=1-2", 100, HTTP_RANGE_ONE, 1, 2},
        {" bytes= 1-2 ", 100, HTTP_RANGE_ONE, 1, 2},
        {"bytes=-1", 100, HTTP_RANGE_ONE, 99, 1},
        {"bytes=-100", 100, HTTP_RANGE_ONE, 0, 100},
        {"bytes=-1000", 100, HTTP_RANGE_ONE, 0, 100},
        {"bytes=5-99999999999999999999999999", 100, HTTP_RANGE_ONE, 5, 95},
        {"bytes=0-9223372036854775807", INT64_MAX, HTTP_RANGE_ONE, 0, INT64_MAX},
        {"bytes=100-", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=99999999999999999999-", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=5-4", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=-0", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=-", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes", 100, HTTP_RANGE_BAD, 0, 0},
        {"lines=1-2", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=1-2x", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=a-2", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=+1-2", 100, HTTP_RANGE_BAD, 0, 0},
        {"bytes=0-", 0, HTTP_RANGE_BAD, 0, 0},
        {"bytes=-5", 0, HTTP_RANGE_BAD, 0, 0},
        {"bytes=0-1,5-6", 100, HTTP_RANGE_MANY, 0, 0},
    };
    for (size_t i = 0; i < array_len(table); i++) {
        int64_t first = 0, length = 0;
        enum http_range kind = http_range_parse(table[i].value, table[i].size, &first, &length);
        if (kind != table[i].kind || first != table[i].first || length != table[i].length) {
            fail_msg("%s of %lld: kind %d first %lld length %lld",
                     table[i].value != NULL ? table[i].value : "(none)", (long long)table[i].size,
                     (int)kind, (long long)first, (long long)length);
        }
    }
}

static void check_segments(const char *path, const char *expected)
{
    char text[256] = "";
    struct http_segments s;
    if (!http_segments_parse(path, &s)) {
        snprintf(text, sizeof text, "bad");
    } else {
        for (size_t i = 0; i < s.count; i++) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "[%s]", s.segment[i]);
        }
        http_segments_free(&s);
    }
    assert_string_equal(text, expected);
}

static void paths_fall_into_decoded_segments(void **state)
{
    (void)state;
    check_segments("/", "[]");
    check_segments("/v2/images", "[v2][images]");
    check_segments("/v2/images/", "[v2][images][]");
    check_segments("/v2//x", "[v2][][x]");
    check_segments("/a%2Fb/c%20d+e", "[a/b][c d+e]");
    check_segments("/%E2%82%AC", "[\xe2\x82\xac]");
    check_segments("/a%00b", "bad");
    check_segments("/a%2", "bad");
    check_segments("/a%zz", "bad");
    check_segments("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16",
                   "[1][2][3][4][5][6][7][8][9][10][11][12][13][14][15][16]");
    check_segments("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", "bad");
}

static void check_params(const char *query, const char *expected)
{
    char text[256] = "";
    struct http_params p;
    if (http_params_parse(query, &p) != 0) {
        snprintf(text, sizeof text, "bad");
    } else {
        for (size_t i = 0; i < p.count; i++) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "[%s=%s]", p.items[i].name,
                     p.items[i].value);
        }
        http_params_free(&p);
    }
    assert_string_equal(text, expected);
}

static void queries_fall_into_decoded_parameters(void **state)
{
    (void)state;
    check_params("", "");
    check_params("a=1&b=2", "[a=1][b=2]");
    check_params("a", "[a=]");
    check_params("a=", "[a=]");
    check_params("&&a=1&", "[a=1]");
    check_params("a=b=c", "[a=b=c]");
    check_params("=x", "[=x]");
    check_params("name=a+b%2Bc%26d", "[name=a b+c&d]");
    check_params("a=1&a=2", "[a=1][a=2]");
    check_params("a=%ff", "bad");
    check_params("a=%00", "bad");
    check_params("a=%e", "bad");
    check_params("%zz=1", "bad");
}

static void the_first_of_equal_parameters_counts(void **state)
{
    (void)state;
    struct http_params p;
    assert_int_equal(http_params_parse("a=1&b&a=2", &p), 0);
    assert_string_equal(http_param(&p, "a"), "1");
    assert_string_equal(http_param(&p, "b"), "");
    assert_null(http_param(&p, "c"));
    http_params_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_read_as_the_standard_says),
        cmocka_unit_test(paths_fall_into_decoded_segments),
        cmocka_unit_test(queries_fall_into_decoded_parameters),
        cmocka_unit_test(the_first_of_equal_parameters_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
