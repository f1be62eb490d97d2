#include "test.h"

#include "tessera/base/buf.h"
#include "tessera/base/str.h"

static void copies_are_cut_but_terminated(void **state)
{
    (void)state;
    char out[4];
    check(str_copy(out, sizeof(out), "abc"));
    check(!str_copy(out, sizeof(out), "abcd"));
    check_str(out, "abc");
    check(str_starts("image", "im") && !str_starts("im", "image"));
    check(str_ieq("ETag", "etag") && !str_ieq("etag", "etags"));
}

static void numbers_are_whole_and_bounded(void **state)
{
    (void)state;
    int64_t v = 5;
    check_ok(str_to_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &v));
    check(v == INT64_MIN);
    check_ok(str_to_i64("9223372036854775807", INT64_MIN, INT64_MAX, &v));
    check(v == INT64_MAX);
    static const char *const bad[] = {
        "9223372036854775808", "", "-", " 1", "1 ", "+1", "0x1", "1.0", "11", "-1"};
    for (size_t i = 0; i < array_len(bad); i++) {
        check_code(str_to_i64(bad[i], 0, 10, &v), TSR_EINVAL);
    }
}

static void sizes_have_binary_suffixes(void **state)
{
    (void)state;
    int64_t v;
    check_ok(str_to_size("512", &v));
    check_int(v, 512);
    check_ok(str_to_size("4M", &v));
    check_int(v, 4 << 20);
    check_ok(str_to_size("10 GiB", &v));
    check_int(v, INT64_C(10) << 30);
    check_code(str_to_size("10000000TiB", &v), TSR_EINVAL);
    check_code(str_to_size("-1", &v), TSR_EINVAL);
    check_code(str_to_size("1X", &v), TSR_EINVAL);
    check_code(str_to_size("1 ", &v), TSR_EINVAL);
}

static void utf8_is_checked_by_the_standard(void **state)
{
    (void)state;
    check(utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    check_int(utf8_length("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), 4);
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xff"};
    for (size_t i = 0; i < array_len(bad); i++) {
        check(!utf8_valid(bad[i], strlen(bad[i])));
    }
}

static void percent_coding_goes_both_ways(void **state)
{
    (void)state;
    char out[64];
    check_int(percent_decode("a%20b+c%2B", 10, true, out), 6);
    check_str(out, "a b c+");
    check_int(percent_decode("a+b", 3, false, out), 3);
    check_str(out, "a+b");
    check_int(percent_decode("%0", 2, true, out), TSR_EINVAL);
    check_int(percent_decode("%", 1, true, out), TSR_EINVAL);
    check_int(percent_decode("%zz", 3, true, out), TSR_EINVAL);
    check_int(percent_decode("%00", 3, true, out), TSR_EINVAL);
    char place[] = "%41%42"; /* in place */
    check_int(percent_decode(place, 6, false, place), 2);
    check_str(place, "AB");
    struct buf b = {0};
    check_ok(percent_encode(&b, "a b/\xc3\xa9~", false));
    check_str(b.data, "a%20b%2F%C3%A9~");
    buf_clear(&b);
    check_ok(percent_encode(&b, "a b", true));
    check_str(b.data, "a+b");
    buf_free(&b);
}

static void times_are_printed_in_utc(void **state)
{
    (void)state;
    char text[TIME_TEXT];
    time_format_seconds(INT64_C(1767225600000000), text);
    check_str(text, "2026-01-01T00:00:00Z");
    time_format_micros(INT64_C(951827696000123), text);
    check_str(text, "2000-02-29T12:34:56.000123Z");
    time_format_micros(-1, text);
    check_str(text, "1969-12-31T23:59:59.999999Z");
    time_format_micros(INT64_MAX, text);
    check_str(text, "9999-12-31T23:59:59.000000Z");
    time_format_seconds(INT64_MIN, text);
    check_str(text, "0000-01-01T00:00:00Z");
}

static void all_forms_of_times_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"2024-01-02T03:04:05Z", "2024-01-02T03:04:05.000000Z"},
        {"2024-01-02T03:04:05", "2024-01-02T03:04:05.000000Z"},
        {"2024-01-02 03:04:05", "2024-01-02T03:04:05.000000Z"},
        {"2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05.000000Z"},
        {"2024-01-02T03:04:05-0130", "2024-01-02T04:34:05.000000Z"},
        {"2024-01-02T03:04:05+02", "2024-01-02T01:04:05.000000Z"},
        {"2024-01-02T03:04:05.25Z", "2024-01-02T03:04:05.250000Z"},
        {"2024-01-02T03:04:05.1234567", "2024-01-02T03:04:05.123456Z"},
        {"20240102T030405Z", "2024-01-02T03:04:05.000000Z"},
        {"2024-01-02T03:04Z", "2024-01-02T03:04:00.000000Z"},
        {"2024-02-29", "2024-02-29T00:00:00.000000Z"},
        {"2024-02", "2024-02-01T00:00:00.000000Z"},
        {"2024", "2024-01-01T00:00:00.000000Z"},
    };
    for (size_t i = 0; i < array_len(rows); i++) {
        int64_t us;
        char text[TIME_TEXT];
        check_ok(time_parse(rows[i].text, &us));
        time_format_micros(us, text);
        check_str(text, rows[i].want);
    }
    static const char *const bad[] = {"",
                                      "now",
                                      "2024-13-01",
                                      "2023-02-29",
                                      "2024-01-02T25:00:00Z",
                                      "2024-01-02T03:04:05Zx",
                                      "2024-01-02T",
                                      "202401",
                                      "2024-01-02T03:04:05.Z",
                                      "2024-01-02T03:04:05+24:00",
                                      "0000-01-01",
                                      "2024-01-02T03:04:05 "};
    for (size_t i = 0; i < array_len(bad); i++) {
        int64_t us;
        check_code(time_parse(bad[i], &us), TSR_EINVAL);
    }
}

static void every_day_of_four_centuries_comes_back(void **state)
{
    (void)state;
    for (int64_t day = -150000; day < 150000; day += 7) {
        char text[TIME_TEXT];
        int64_t us;
        time_format_seconds(day * INT64_C(86400000000), text);
        check_ok(time_parse(text, &us));
        check_int(us, day * INT64_C(86400000000));
    }
}

TEST_MAIN(cmocka_unit_test(copies_are_cut_but_terminated),
          cmocka_unit_test(numbers_are_whole_and_bounded),
          cmocka_unit_test(sizes_have_binary_suffixes),
          cmocka_unit_test(utf8_is_checked_by_the_standard),
          cmocka_unit_test(percent_coding_goes_both_ways),
          cmocka_unit_test(times_are_printed_in_utc), cmocka_unit_test(all_forms_of_times_are_read),
          cmocka_unit_test(every_day_of_four_centuries_comes_back))
