/* Secrets at rest: AES-256-GCM (NIST SP 800-38D) for sealed blobs, scrypt (RFC 7914) for passwords.
 *
 * A sealed blob: nonce[12] | ciphertext[n] | tag[16]. */
#include "tessera/sys/cert.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

enum { SEAL_NONCE = 12, SEAL_TAG = 16, SEAL_DATA_MAX = 1 << 30 };
enum { SCRYPT_N = 1 << 14, SCRYPT_R = 8, SCRYPT_P = 1, SCRYPT_MEMORY_MAX = 64 << 20 };

static bool seal_run(EVP_CIPHER_CTX *ctx, const uint8_t key[32], const void *data, size_t size,
                     uint8_t *out)
{
    uint8_t *text = out + SEAL_NONCE;
    int done = 0;
    return RAND_bytes(out, SEAL_NONCE) == 1 &&
           EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, out) == 1 &&
           (size == 0 || EVP_EncryptUpdate(ctx, text, &done, data, (int)size) == 1) &&
           EVP_EncryptFinal_ex(ctx, text + size, &done) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG, text + size) == 1;
}

int seal_encrypt(const uint8_t key[32], const void *data, size_t size, uint8_t **out,
                 size_t *out_size)
{
    if (size > SEAL_DATA_MAX) {
        return TSR_ETOOBIG;
    }
    uint8_t *sealed = malloc(size + SEAL_NONCE + SEAL_TAG);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool ok = sealed != NULL && ctx != NULL && seal_run(ctx, key, data, size, sealed);
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) {
        free(sealed);
        ERR_clear_error();
        return TSR_ENOMEM;
    }
    *out = sealed;
    *out_size = size + SEAL_NONCE + SEAL_TAG;
    return 0;
}

static bool unseal_run(EVP_CIPHER_CTX *ctx, const uint8_t key[32], const uint8_t *sealed,
                       size_t size, uint8_t *out)
{
    const uint8_t *text = sealed + SEAL_NONCE;
    uint8_t tag[SEAL_TAG];
    int done = 0;
    memcpy(tag, text + size, sizeof tag);
    return EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, sealed) == 1 &&
           (size == 0 || EVP_DecryptUpdate(ctx, out, &done, text, (int)size) == 1) &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, SEAL_TAG, tag) == 1 &&
           EVP_DecryptFinal_ex(ctx, out + size, &done) == 1;
}

int seal_decrypt(const uint8_t key[32], const void *data, size_t size, uint8_t **out,
                 size_t *out_size)
{
    if (size < SEAL_NONCE + SEAL_TAG || size - SEAL_NONCE - SEAL_TAG > SEAL_DATA_MAX) {
        return TSR_ECORRUPT;
    }
    size_t plain_size = size - SEAL_NONCE - SEAL_TAG;
    uint8_t *plain = malloc(plain_size + EVP_MAX_BLOCK_LENGTH);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (plain == NULL || ctx == NULL) {
        free(plain);
        EVP_CIPHER_CTX_free(ctx);
        return TSR_ENOMEM;
    }
    bool ok = unseal_run(ctx, key, data, plain_size, plain);
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) {
        /* What was decrypted before the tag failed is nobody's business. */
        OPENSSL_cleanse(plain, plain_size);
        free(plain);
        ERR_clear_error();
        return TSR_ECORRUPT;
    }
    plain[plain_size] = 0;
    *out = plain;
    *out_size = plain_size;
    return 0;
}

int password_hash(const char *password, const uint8_t salt[16], uint8_t out[32])
{
    int ok = EVP_PBE_scrypt(password, strlen(password), salt, 16, SCRYPT_N, SCRYPT_R, SCRYPT_P,
                            SCRYPT_MEMORY_MAX, out, 32);
    if (ok != 1) {
        ERR_clear_error();
        return TSR_ENOMEM;
    }
    return 0;
}
