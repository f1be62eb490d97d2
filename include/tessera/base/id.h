/* Identifiers: UUIDs, 32-digit hex ids, digests as hex text. No randomness in here: bytes come from
 * the caller (sys/loop.h `loop_random`). Thread: any. */
#ifndef TESSERA_BASE_ID_H
#define TESSERA_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UUID_TEXT = 36, ID_HEX = 32 };

/* SHA-256 of a chunk's data, or of a manifest. */
struct chunk_id {
    uint8_t bytes[32];
};

/* Lower-case version-4 UUID text from 16 random bytes; @out has UUID_TEXT + 1 bytes. */
void uuid_format(const uint8_t random[16], char out[UUID_TEXT + 1]);
/* 8-4-4-4-12 hexadecimal digits, any case (RFC 9562 section 4, any version). */
bool uuid_valid(const char *text);

/* Lower-case hex of @size bytes; @out has 2 * size + 1 bytes. */
void hex_encode(const void *data, size_t size, char *out);
/* Exactly 2 * @size digits, either case; TSR_EINVAL otherwise. */
int hex_decode(const char *text, size_t text_size, void *out, size_t size);

bool chunk_id_equal(const struct chunk_id *a, const struct chunk_id *b);

/* RFC 4648 section 5 without padding. @out has 4 * (size + 2) / 3 + 1 bytes. Returns its length. */
size_t base64url_encode(const void *data, size_t size, char *out);
/* Returns the decoded size, or TSR_EINVAL. @out has @out_max bytes. Padding is accepted. */
long base64url_decode(const char *text, size_t size, void *out, size_t out_max);

#endif
