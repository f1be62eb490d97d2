/* Token texts. Input: mode, then the text; or the signed body, which gets a right signature here,
 * since no mutation would find one. A token that is accepted is written again as the same text. */
#include "fuzz.h"
#include "identity/token.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"

enum { MAC_SIZE = 32, PREFIX_SIZE = 5 };
static const uint8_t key[TOKEN_KEY_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8};

static int key_of(void *arg, uint32_t key_id, uint8_t key_out[TOKEN_KEY_SIZE])
{
    bool *asked = arg;
    fuzz_check(!*asked);
    *asked = true;
    memcpy(key_out, key, sizeof key);
    return key_id == 404 ? TSR_EUNAVAILABLE : 0;
}

static void check_text(const char *text)
{
    struct token t;
    bool asked = false;
    int rc = token_decode(text, key_of, &asked, &t);
    fuzz_check(rc == 0 || rc == TSR_EUNAUTHORIZED || rc == TSR_EUNAVAILABLE);
    fuzz_check(rc == TSR_EUNAUTHORIZED || asked);
    if (rc == 0) {
        char again[TOKEN_TEXT_LONGEST + 1], methods[64];
        fuzz_check(t.user[0] != 0 && t.scope <= SCOPE_SYSTEM);
        methods_text(t.methods, methods, sizeof methods);
        fuzz_check(methods_parse(methods) == (t.methods & 7));
        fuzz_check(token_encode(&t, key, again, sizeof again) == 0);
        bool asked_again = false;
        struct token t2;
        fuzz_check(token_decode(again, key_of, &asked_again, &t2) == 0);
        fuzz_check(strcmp(t.user, t2.user) == 0 && strcmp(t.target, t2.target) == 0);
        fuzz_check(t.expires_us == t2.expires_us && t.issued_us == t2.issued_us);
    }
}

/* The body as it stands, signed with the key. */
static void check_body(struct fuzz_in in)
{
    static const char prefix[PREFIX_SIZE + 1] = "tsr1.";
    if (in.size > 2 * TOKEN_RAW_MAX) {
        return;
    }
    uint8_t message[PREFIX_SIZE + 2 * TOKEN_RAW_MAX + MAC_SIZE];
    char text[PREFIX_SIZE + 4 * (2 * TOKEN_RAW_MAX + MAC_SIZE + 2) / 3 + 1];
    memcpy(message, prefix, PREFIX_SIZE);
    if (in.size > 0) {
        memcpy(message + PREFIX_SIZE, in.data, in.size);
    }
    hmac_sha256(key, sizeof key, message, PREFIX_SIZE + in.size, message + PREFIX_SIZE + in.size);
    memcpy(text, prefix, PREFIX_SIZE);
    base64url_encode(message + PREFIX_SIZE, in.size + MAC_SIZE, text + PREFIX_SIZE);
    char *copy = fuzz_text((struct fuzz_in){(const uint8_t *)text, strlen(text)});
    check_text(copy);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    if (fuzz_u8(&in) % 2 == 0) {
        char *text = fuzz_text(in);
        check_text(text);
        (void)methods_parse(text);
        free(text);
    } else {
        check_body(in);
    }
    return 0;
}
