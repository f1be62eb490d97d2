/* A running digest (FNV-1a) by which two runs over the same input are compared. */
#ifndef TSR_TESTS_FUZZ_HASH_H
#define TSR_TESTS_FUZZ_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_START 0xcbf29ce484222325ull

static inline void hash_bytes(uint64_t *hash, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++) {
        *hash = (*hash ^ p[i]) * 0x100000001b3ull;
    }
}

static inline void hash_number(uint64_t *hash, uint64_t v)
{
    hash_bytes(hash, &v, sizeof v);
}

static inline void hash_text(uint64_t *hash, const char *text)
{
    hash_bytes(hash, text, strlen(text) + 1);
}

#endif
