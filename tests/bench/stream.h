/* Bytes and ids made from a seed: splitmix64 over a counter, so that any place of a stream can be
 * made by itself, faster than any digest, and no two streams share a chunk. */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static inline uint64_t stream_word(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed * UINT64_C(0xd1342543de82ef95) + counter * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Fill @out with the stream's bytes from @offset on, a multiple of 8. */
static inline void stream_fill(uint64_t seed, uint64_t offset, void *out, size_t size)
{
    char *p = out;
    uint64_t counter = offset / 8;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t word = stream_word(seed, counter++);
        memcpy(p, &word, 8);
    }
    uint64_t word = stream_word(seed, counter);
    memcpy(p, &word, size);
}

enum { STREAM_ID_TEXT = 37 };

/* The @n-th UUID (version 4 by its form) of a seed. */
static inline void stream_id(uint64_t seed, uint64_t n, char out[STREAM_ID_TEXT])
{
    uint64_t a = stream_word(seed, 2 * n);
    uint64_t b = stream_word(seed, 2 * n + 1);
    snprintf(out, STREAM_ID_TEXT, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
             (unsigned)(a >> 16) & 0xffffU, (unsigned)a & 0xfffU,
             ((unsigned)(b >> 48) & 0x3fffU) | 0x8000U,
             (unsigned long long)(b & UINT64_C(0xffffffffffff)));
}

#endif
