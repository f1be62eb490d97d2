#include "tessera/base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "tessera/base/assert.h"

struct digest {
    EVP_MD_CTX *ctx;
};

static const EVP_MD *kind_md(enum digest_kind kind)
{
    switch (kind) {
    case DIGEST_MD5:
        return EVP_md5();
    case DIGEST_SHA1:
        return EVP_sha1();
    case DIGEST_SHA256:
        return EVP_sha256();
    case DIGEST_SHA512:
        return EVP_sha512();
    case DIGEST_SHA224:
        return EVP_sha224();
    case DIGEST_SHA384:
        return EVP_sha384();
    }
    tsr_assert(kind == DIGEST_SHA512); /* no such kind */
    return NULL;
}

/* With valid arguments OpenSSL fails only for want of memory. */
static void must(int rv)
{
    if (rv != 1) {
        tsr_out_of_memory();
    }
}

struct digest *digest_new(enum digest_kind kind)
{
    struct digest *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    d->ctx = EVP_MD_CTX_new();
    if (d->ctx == NULL || EVP_DigestInit_ex(d->ctx, kind_md(kind), NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_free(struct digest *d)
{
    if (d != NULL) {
        EVP_MD_CTX_free(d->ctx);
        free(d);
    }
}

/* After a successful digest_new these cannot fail: all memory is there. */

void digest_reset(struct digest *d)
{
    must(EVP_DigestInit_ex(d->ctx, NULL, NULL));
}

void digest_update(struct digest *d, const void *data, size_t size)
{
    must(EVP_DigestUpdate(d->ctx, data, size));
}

void digest_final(struct digest *d, uint8_t *out)
{
    must(EVP_DigestFinal_ex(d->ctx, out, NULL));
}

size_t digest_size(enum digest_kind kind)
{
    switch (kind) {
    case DIGEST_MD5:
        return 16;
    case DIGEST_SHA1:
        return 20;
    case DIGEST_SHA256:
        return 32;
    case DIGEST_SHA512:
        return 64;
    case DIGEST_SHA224:
        return 28;
    case DIGEST_SHA384:
        return 48;
    }
    tsr_assert(kind == DIGEST_SHA512); /* no such kind */
    return 0;
}

void digest_of(enum digest_kind kind, const void *data, size_t size, uint8_t *out)
{
    must(EVP_Digest(data, size, out, NULL, kind_md(kind), NULL));
}

void hmac_sha256(const void *key, size_t key_size, const void *data, size_t size, uint8_t out[32])
{
    tsr_assert(key_size <= 1u << 20);
    /* OpenSSL takes a NULL key for "as before". */
    unsigned char *mac =
        HMAC(EVP_sha256(), key == NULL ? "" : key, (int)key_size, data, size, out, NULL);
    tsr_assert(mac != NULL);
}

int digest_compare(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size);
}
