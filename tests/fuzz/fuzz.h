/* What every fuzz target uses: a check that stops the program, and cursors over its input.
 *
 * A target is LLVMFuzzerTestOneInput in fuzz_<folder>_<name>.c. Bytes that a parser gets are copied
 * to memory of exactly their size, so that the address sanitizer sees the first one read too many.
 */
#ifndef TSR_TESTS_FUZZ_H
#define TSR_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unlike assert: never compiled away. */
#define fuzz_check(expr)                                                             \
    do {                                                                             \
        if (!(expr)) {                                                               \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #expr); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

struct fuzz_in {
    const uint8_t *data;
    size_t size;
};

/* 0 when the input has ended. */
static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
    if (in->size == 0) {
        return 0;
    }
    in->size--;
    return *in->data++;
}

static inline uint64_t fuzz_uint(struct fuzz_in *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v = v << 8 | fuzz_u8(in);
    }
    return v;
}

/* Up to @want bytes. */
static inline struct fuzz_in fuzz_take(struct fuzz_in *in, size_t want)
{
    struct fuzz_in part = {in->data, want < in->size ? want : in->size};
    in->data += part.size;
    in->size -= part.size;
    return part;
}

/* Up to the next byte @end, which is dropped. */
static inline struct fuzz_in fuzz_until(struct fuzz_in *in, uint8_t end)
{
    const uint8_t *at = in->size > 0 ? memchr(in->data, end, in->size) : NULL;
    struct fuzz_in part = fuzz_take(in, at != NULL ? (size_t)(at - in->data) : in->size);
    (void)fuzz_u8(in);
    return part;
}

/* Copies; free() them. */
static inline void *fuzz_bytes(struct fuzz_in in)
{
    void *copy = malloc(in.size > 0 ? in.size : 1);
    fuzz_check(copy != NULL);
    if (in.size > 0) {
        memcpy(copy, in.data, in.size);
    }
    return copy;
}

/* Ends at the first 0 byte, if there is one. */
static inline char *fuzz_text(struct fuzz_in in)
{
    const void *zero = in.size > 0 ? memchr(in.data, 0, in.size) : NULL;
    size_t size = zero != NULL ? (size_t)((const uint8_t *)zero - in.data) : in.size;
    char *copy = malloc(size + 1);
    fuzz_check(copy != NULL);
    if (size > 0) {
        memcpy(copy, in.data, size);
    }
    copy[size] = 0;
    return copy;
}

/* Pseudo-random piece sizes that depend on the seed alone. */
static inline uint32_t fuzz_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

#endif
