/* The text of a token: round trip, and everything that is not one. */
#include "test.h"

#include "identity/token.h"

static const uint8_t key_a[TOKEN_KEY_SIZE] = {1, 2, 3}, key_b[TOKEN_KEY_SIZE] = {9};

static int key_of(void *arg, uint32_t key_id, uint8_t out[TOKEN_KEY_SIZE])
{
    (void)arg;
    if (key_id != 0xdeadbeef) {
        return TSR_EUNAUTHORIZED;
    }
    memcpy(out, key_a, TOKEN_KEY_SIZE);
    return 0;
}

static struct token sample(void)
{
    struct token t = {.key_id = 0xdeadbeef,
                      .scope = SCOPE_PROJECT,
                      .methods = METHOD_PASSWORD | METHOD_TOKEN,
                      .user = "0123456789abcdef0123456789abcdef",
                      .target = "ffffffffffffffffffffffffffffffff",
                      .audit = "0123456789abcde",
                      .issued_us = 1800000000000001,
                      .expires_us = 1800014400000001};
    return t;
}

static void a_token_comes_back_as_it_was(void **state)
{
    (void)state;
    char text[512];
    struct token in = sample(), out;
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    check_ok(token_decode(text, key_of, NULL, &out));
    check_mem(&in, &out, sizeof(in));
    check(strlen(text) <= 255);
}

static void ids_that_are_not_hex_and_the_longest_ones_fit(void **state)
{
    (void)state;
    char text[512];
    struct token in = sample(), out;
    strcpy(in.user, "0123456789ABCDEF0123456789ABCDEF"); /* the case is kept */
    memset(in.target, 'x', IDENTITY_ID_MAX);
    memset(in.appcred, 'y', IDENTITY_ID_MAX);
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    check(strlen(text) <= TOKEN_TEXT_LONGEST);
    check_ok(token_decode(text, key_of, NULL, &out));
    check_mem(&in, &out, sizeof(in));
    check_code(token_encode(&in, key_a, text, 100), TSR_EINVAL);
}

static void every_changed_character_voids_a_token(void **state)
{
    (void)state;
    char text[512];
    struct token in = sample(), out;
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    for (size_t i = 0; i < strlen(text); i++) {
        char was = text[i];
        text[i] = was == 'A' ? 'B' : 'A';
        check_code(token_decode(text, key_of, NULL, &out), TSR_EUNAUTHORIZED);
        text[i] = was;
    }
    check_ok(token_decode(text, key_of, NULL, &out));
}

static void a_token_cut_anywhere_is_void(void **state)
{
    (void)state;
    char text[512], cut[520];
    struct token in = sample(), out;
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    for (size_t i = 0; i < strlen(text); i++) {
        memcpy(cut, text, i);
        cut[i] = '\0';
        check_code(token_decode(cut, key_of, NULL, &out), TSR_EUNAUTHORIZED);
    }
    snprintf(cut, sizeof(cut), "%sA", text);
    check_code(token_decode(cut, key_of, NULL, &out), TSR_EUNAUTHORIZED);
}

static void another_key_does_not_sign_for_this_one(void **state)
{
    (void)state;
    char text[512];
    struct token in = sample(), out;
    check_ok(token_encode(&in, key_b, text, sizeof(text)));
    check_code(token_decode(text, key_of, NULL, &out), TSR_EUNAUTHORIZED);
    in.key_id = 1;
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    check_code(token_decode(text, key_of, NULL, &out), TSR_EUNAUTHORIZED);
}

static void random_bytes_are_refused(void **state)
{
    (void)state;
    struct token out;
    char text[600];
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)(round % 590);
        memcpy(text, "tsr1.", 5);
        for (size_t i = 5; i < 5 + size; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[i] = (char)(round % 2 ? 'A' + (seed >> 40) % 26 : 1 + (seed >> 40) % 255);
        }
        text[5 + size] = '\0';
        check_code(token_decode(text, key_of, NULL, &out), TSR_EUNAUTHORIZED);
    }
    check_code(token_decode("", key_of, NULL, &out), TSR_EUNAUTHORIZED);
    check_code(token_decode("gAAAAABnotours", key_of, NULL, &out), TSR_EUNAUTHORIZED);
}

/* A signature by the right key over a body that makes no sense: only a mistake of ours could do
 * that, still nothing may be read past its end. */
static void a_signed_body_of_nonsense_is_refused(void **state)
{
    (void)state;
    char text[512];
    struct token in = sample(), out;
    in.scope = (enum caller_scope)9;
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    check_code(token_decode(text, key_of, NULL, &out), TSR_EUNAUTHORIZED);
    in = sample();
    in.user[0] = '\0';
    check_ok(token_encode(&in, key_a, text, sizeof(text)));
    check_code(token_decode(text, key_of, NULL, &out), TSR_EUNAUTHORIZED);
}

static void methods_are_named_in_a_fixed_order(void **state)
{
    (void)state;
    char text[64];
    methods_text(methods_parse("password,token"), text, sizeof(text));
    check_str(text, "token,password");
    methods_text(METHOD_APPCRED, text, sizeof(text));
    check_str(text, "application_credential");
    methods_text(0, text, sizeof(text));
    check_str(text, "");
    check_int(methods_parse("password,unknown"), METHOD_PASSWORD);
}

TEST_MAIN(cmocka_unit_test(a_token_comes_back_as_it_was),
          cmocka_unit_test(ids_that_are_not_hex_and_the_longest_ones_fit),
          cmocka_unit_test(every_changed_character_voids_a_token),
          cmocka_unit_test(a_token_cut_anywhere_is_void),
          cmocka_unit_test(another_key_does_not_sign_for_this_one),
          cmocka_unit_test(random_bytes_are_refused),
          cmocka_unit_test(a_signed_body_of_nonsense_is_refused),
          cmocka_unit_test(methods_are_named_in_a_fixed_order))
