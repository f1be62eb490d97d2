/* The text of a token. Pure.
 *
 *   "tsr1." base64url( body | HMAC-SHA256(key, "tsr1." | body) )
 *   body = u8 version 1 | u32 key id | u8 scope | u8 methods | id user | id target | id appcred |
 *          audit[16] | u64 issued us | u64 expires us                        (little endian)
 *   id   = 0 | 255 and 16 bytes (32 hex digits packed) | 1..64 and as many bytes of text
 *
 * With the usual ids a text has 147 characters; at most TOKEN_TEXT_LONGEST. */
#ifndef IDENTITY_TOKEN_H
#define IDENTITY_TOKEN_H

#include "identity/internal.h"

enum { TOKEN_RAW_MAX = 288, TOKEN_TEXT_LONGEST = 5 + TOKEN_RAW_MAX / 3 * 4 };
enum { METHOD_PASSWORD = 1, METHOD_TOKEN = 2, METHOD_APPCRED = 4 };

struct token {
    uint32_t key_id;
    enum caller_scope scope;
    unsigned methods;
    char user[IDENTITY_ID_MAX + 1];
    char target[IDENTITY_ID_MAX + 1]; /* project or domain; "" */
    char appcred[IDENTITY_ID_MAX + 1];
    uint8_t audit[16];
    int64_t issued_us, expires_us;
};

typedef int (*token_key_fn)(void *arg, uint32_t key_id, uint8_t key_out[TOKEN_KEY_SIZE]);

/* TSR_EINVAL: @out_size is too small. */
int token_encode(const struct token *t, const uint8_t key[TOKEN_KEY_SIZE], char *out,
                 size_t out_size);
/* Form and signature. TSR_EUNAUTHORIZED, or what @key_of returned. */
int token_decode(const char *text, token_key_fn key_of, void *arg, struct token *out);

/* "token,password" <-> bits, in that order. */
unsigned methods_parse(const char *text);
void methods_text(unsigned methods, char *out, size_t size);

#endif
