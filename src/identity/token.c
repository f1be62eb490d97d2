#include "identity/token.h"

#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

static const char prefix[] = "tsr1.";
enum { PREFIX_SIZE = sizeof(prefix) - 1, VERSION = 1, ID_PACKED = 255, MAC_SIZE = 32 };

/* --- writing ------------------------------------------------------------------------------------
 */

/* A bounded writer: a token's parts are bounded too, so overrun is a mistake of the caller. */
struct writer {
    uint8_t data[TOKEN_RAW_MAX];
    size_t size;
};

static void put(struct writer *w, const void *data, size_t size)
{
    tsr_assert(size <= sizeof(w->data) - w->size);
    if (size > 0) {
        memcpy(w->data + w->size, data, size);
    }
    w->size += size;
}

static void put_u8(struct writer *w, unsigned v)
{
    uint8_t byte = (uint8_t)v;
    put(w, &byte, 1);
}

static void put_uint(struct writer *w, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        put_u8(w, (unsigned)(v >> (8 * i)) & 0xff);
    }
}

/* Only lower-case hex is packed: what comes back must be the same text. */
static bool is_lower_hex(const char *text)
{
    return strlen(text) == ID_HEX && strspn(text, "0123456789abcdef") == ID_HEX;
}

static void put_id(struct writer *w, const char *text)
{
    uint8_t packed[ID_HEX / 2];
    size_t size = strlen(text);
    if (is_lower_hex(text) && hex_decode(text, size, packed, sizeof(packed)) == 0) {
        put_u8(w, ID_PACKED);
        put(w, packed, sizeof(packed));
        return;
    }
    tsr_assert(size <= IDENTITY_ID_MAX);
    put_u8(w, (unsigned)size);
    put(w, text, size);
}

static void sign(const uint8_t key[TOKEN_KEY_SIZE], const uint8_t *body, size_t size,
                 uint8_t out[MAC_SIZE])
{
    uint8_t message[PREFIX_SIZE + TOKEN_RAW_MAX];
    memcpy(message, prefix, PREFIX_SIZE);
    memcpy(message + PREFIX_SIZE, body, size);
    hmac_sha256(key, TOKEN_KEY_SIZE, message, PREFIX_SIZE + size, out);
}

int token_encode(const struct token *t, const uint8_t key[TOKEN_KEY_SIZE], char *out,
                 size_t out_size)
{
    struct writer w = {.size = 0};
    uint8_t mac[MAC_SIZE];
    put_u8(&w, VERSION);
    put_uint(&w, t->key_id, 4);
    put_u8(&w, t->scope);
    put_u8(&w, t->methods);
    put_id(&w, t->user);
    put_id(&w, t->target);
    put_id(&w, t->appcred);
    put(&w, t->audit, sizeof(t->audit));
    put_uint(&w, (uint64_t)t->issued_us, 8);
    put_uint(&w, (uint64_t)t->expires_us, 8);
    sign(key, w.data, w.size, mac);
    put(&w, mac, sizeof(mac));
    if (out_size < PREFIX_SIZE + 4 * ((w.size + 2) / 3) + 1) {
        return TSR_EINVAL;
    }
    memcpy(out, prefix, PREFIX_SIZE);
    base64url_encode(w.data, w.size, out + PREFIX_SIZE);
    return 0;
}

/* --- reading ------------------------------------------------------------------------------------
 */

static void get_id(struct reader *r, char out[IDENTITY_ID_MAX + 1])
{
    size_t size = read_u8(r);
    out[0] = '\0';
    if (size == ID_PACKED) {
        const void *packed = read_bytes(r, ID_HEX / 2);
        if (packed != NULL) {
            hex_encode(packed, ID_HEX / 2, out);
        }
        return;
    }
    const void *text = size <= IDENTITY_ID_MAX ? read_bytes(r, size) : NULL;
    if (text == NULL || memchr(text, 0, size) != NULL) {
        r->failed = true;
        return;
    }
    memcpy(out, text, size);
    out[size] = '\0';
}

static bool parse(struct reader r, struct token *out)
{
    memset(out, 0, sizeof(*out));
    unsigned version = read_u8(&r);
    out->key_id = read_u32(&r);
    unsigned scope = read_u8(&r);
    out->methods = read_u8(&r);
    get_id(&r, out->user);
    get_id(&r, out->target);
    get_id(&r, out->appcred);
    const void *audit = read_bytes(&r, sizeof(out->audit));
    if (audit != NULL) {
        memcpy(out->audit, audit, sizeof(out->audit));
    }
    out->issued_us = (int64_t)read_u64(&r);
    out->expires_us = (int64_t)read_u64(&r);
    out->scope = (enum caller_scope)scope;
    return !r.failed && r.at == r.size && version == VERSION && scope <= SCOPE_SYSTEM &&
           out->user[0] != '\0';
}

int token_decode(const char *text, token_key_fn key_of, void *arg, struct token *out)
{
    uint8_t raw[TOKEN_RAW_MAX], key[TOKEN_KEY_SIZE], mac[MAC_SIZE];
    size_t length = strlen(text);
    if (length > TOKEN_TEXT_LONGEST || !str_starts(text, prefix)) {
        return TSR_EUNAUTHORIZED;
    }
    long size = base64url_decode(text + PREFIX_SIZE, length - PREFIX_SIZE, raw, sizeof(raw));
    if (size < 1 + 4 + MAC_SIZE) {
        return TSR_EUNAUTHORIZED;
    }
    /* Nothing but the key id is believed before the signature was checked. */
    size_t body = (size_t)size - MAC_SIZE;
    struct reader head = reader_of(raw + 1, 4);
    int rv = key_of(arg, read_u32(&head), key);
    if (rv != 0) {
        return rv;
    }
    sign(key, raw, body, mac);
    explicit_bzero(key, sizeof(key));
    if (digest_compare(mac, raw + body, MAC_SIZE) != 0 || !parse(reader_of(raw, body), out)) {
        return TSR_EUNAUTHORIZED;
    }
    return 0;
}

/* --- methods -------------------------------------------------------------------------------------
 */

static const struct {
    unsigned bit;
    const char *name;
} methods[] = {
    {METHOD_TOKEN, "token"},
    {METHOD_PASSWORD, "password"},
    {METHOD_APPCRED, "application_credential"},
};

unsigned methods_parse(const char *text)
{
    unsigned bits = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        for (size_t i = 0; i < array_len(methods); i++) {
            if (strlen(methods[i].name) == size && memcmp(methods[i].name, text, size) == 0) {
                bits |= methods[i].bit;
            }
        }
        text += size + (text[size] == ',');
    }
    return bits;
}

void methods_text(unsigned bits, char *out, size_t size)
{
    out[0] = '\0';
    for (size_t i = 0; i < array_len(methods); i++) {
        if ((bits & methods[i].bit) == 0) {
            continue;
        }
        size_t used = strlen(out);
        (void)str_copy(out + used, size - used, used > 0 ? "," : "");
        used = strlen(out);
        (void)str_copy(out + used, size - used, methods[i].name);
    }
}
