#include "chunk/stamps.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/err.h"

enum { WAYS = 4, TIME_BITS = 24 };
static const uint64_t time_mask = (1u << TIME_BITS) - 1;

int stamps_init(struct stamps *s, size_t entries, uint64_t key)
{
    size_t sets = 1;
    while (sets * WAYS < entries) {
        sets *= 2;
    }
    s->words = calloc(sets * WAYS, sizeof *s->words);
    s->sets = sets;
    s->key = key;
    return s->words != NULL ? 0 : TSR_ENOMEM;
}

void stamps_free(struct stamps *s)
{
    free(s->words);
    s->words = NULL;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 32;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 29);
}

/* The place depends on the chunk alone, so that a changed stamp replaces the old word in time. */
static _Atomic uint64_t *set_of(struct stamps *s, const struct chunk_id *id)
{
    uint64_t h;
    memcpy(&h, id->bytes, sizeof h);
    return s->words + (mix(s->key, h) & (s->sets - 1)) * WAYS;
}

static uint64_t print_of(const struct stamps *s, const struct chunk_id *id, const uint64_t stamp[4])
{
    uint64_t h = s->key;
    for (size_t i = 0; i < 4; i++) {
        uint64_t part;
        memcpy(&part, id->bytes + 8 * i, sizeof part);
        h = mix(mix(h, part), stamp[i]);
    }
    h &= ~time_mask;
    return h != 0 ? h : ~time_mask; /* a zero word is free */
}

static uint64_t age_of(uint64_t word, uint64_t now)
{
    return (now - word) & time_mask;
}

void stamps_put(struct stamps *s, const struct chunk_id *id, const uint64_t stamp[4], uint64_t now)
{
    _Atomic uint64_t *set = set_of(s, id);
    uint64_t print = print_of(s, id, stamp);
    size_t victim = 0;
    uint64_t oldest = 0;
    for (size_t i = 0; i < WAYS; i++) {
        uint64_t word = atomic_load_explicit(&set[i], memory_order_relaxed);
        if (word == 0 || (word & ~time_mask) == print) {
            victim = i;
            break;
        }
        if (age_of(word, now) >= oldest) {
            oldest = age_of(word, now);
            victim = i;
        }
    }
    atomic_store_explicit(&set[victim], print | (now & time_mask), memory_order_relaxed);
}

bool stamps_has(struct stamps *s, const struct chunk_id *id, const uint64_t stamp[4], uint64_t now,
                uint64_t age_max)
{
    _Atomic uint64_t *set = set_of(s, id);
    uint64_t print = print_of(s, id, stamp);
    for (size_t i = 0; i < WAYS; i++) {
        uint64_t word = atomic_load_explicit(&set[i], memory_order_relaxed);
        if (word != 0 && (word & ~time_mask) == print && age_of(word, now) <= age_max) {
            return true;
        }
    }
    return false;
}
