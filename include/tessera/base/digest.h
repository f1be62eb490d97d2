/* Digests: the one door to OpenSSL's EVP, plus CRC32C (RFC 3720 appendix B.4).
 * Thread: any; a `struct digest` has one owner at a time. */
#ifndef TESSERA_BASE_DIGEST_H
#define TESSERA_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum digest_kind {
    DIGEST_MD5,
    DIGEST_SHA1,
    DIGEST_SHA256,
    DIGEST_SHA512,
    DIGEST_SHA224,
    DIGEST_SHA384
};
enum { DIGEST_MAX = 64 };

struct digest; /* running digest */

/* NULL when out of memory. */
struct digest *digest_new(enum digest_kind kind);
void digest_free(struct digest *d);
void digest_reset(struct digest *d);
void digest_update(struct digest *d, const void *data, size_t size);
/* Writes digest_size(kind) bytes; the object must be reset before it is used again. */
void digest_final(struct digest *d, uint8_t *out);
size_t digest_size(enum digest_kind kind);

/* In one call. */
void digest_of(enum digest_kind kind, const void *data, size_t size, uint8_t *out);

/* HMAC-SHA256. */
void hmac_sha256(const void *key, size_t key_size, const void *data, size_t size, uint8_t out[32]);
/* Constant-time comparison; 0 = equal. */
int digest_compare(const void *a, const void *b, size_t size);

/* Continue @crc (0 at the start). Uses SSE4.2 where the CPU has it. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
