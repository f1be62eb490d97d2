#include "test.h"

#include "tessera/base/id.h"

static void uuids_have_version_4_and_are_checked(void **state)
{
    (void)state;
    uint8_t raw[16];
    memset(raw, 0xff, sizeof(raw));
    char text[UUID_TEXT + 1];
    uuid_format(raw, text);
    check_str(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    check(uuid_valid(text));
    check(uuid_valid("FFFFFFFF-ffff-1fff-0fff-ffffffffffff"));
    check(!uuid_valid(""));
    check(!uuid_valid("ffffffff-ffff-4fff-bfff-fffffffffff"));
    check(!uuid_valid("ffffffff-ffff-4fff-bfff-ffffffffffff0"));
    check(!uuid_valid("ffffffffffff-4fff-bfff-ffffffffffff--"));
    check(!uuid_valid("gfffffff-ffff-4fff-bfff-ffffffffffff"));
}

static void hex_text_is_strict(void **state)
{
    (void)state;
    uint8_t raw[3] = {0, 0xab, 0xff}, back[3];
    char text[7];
    hex_encode(raw, 3, text);
    check_str(text, "00abff");
    check_ok(hex_decode("00ABff", 6, back, 3));
    check_mem(raw, back, 3);
    check_code(hex_decode("00abf", 5, back, 3), TSR_EINVAL);
    check_code(hex_decode("00abff", 6, back, 2), TSR_EINVAL);
    check_code(hex_decode("00abfg", 6, back, 3), TSR_EINVAL);
}

static void base64url_follows_the_examples_of_its_standard(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < array_len(pairs); i++) {
        char text[32];
        uint8_t raw[32];
        size_t size = strlen(pairs[i][0]);
        check_int(base64url_encode(pairs[i][0], size, text), strlen(pairs[i][1]));
        check_str(text, pairs[i][1]);
        check_int(base64url_decode(text, strlen(text), raw, sizeof(raw)), size);
        check_mem(raw, pairs[i][0], size);
    }
    uint8_t raw[4];
    check_int(base64url_decode("_-8=", 4, raw, 4), 2);
    check_int(base64url_decode("Zg==", 4, raw, 4), 1);
    check_int(base64url_decode("Zg=", 3, raw, 4), TSR_EINVAL);
    check_int(base64url_decode("Zg===", 5, raw, 4), TSR_EINVAL);
    check_int(base64url_decode("Zh", 2, raw, 4), TSR_EINVAL); /* left-over bits */
    check_int(base64url_decode("Z", 1, raw, 4), TSR_EINVAL);
    check_int(base64url_decode("Z+8", 3, raw, 4), TSR_EINVAL);
    check_int(base64url_decode("Zm9vYg", 6, raw, 3), TSR_EINVAL);
}

TEST_MAIN(cmocka_unit_test(uuids_have_version_4_and_are_checked),
          cmocka_unit_test(hex_text_is_strict),
          cmocka_unit_test(base64url_follows_the_examples_of_its_standard))
