/* What was seen lately, for many threads without a lock: a fixed table of 64-bit words, each a
 * fingerprint of {chunk, file stamp} with a time. Used for "verified" (time in minutes) and for
 * "its pages were read" (time in MiB read since).
 *
 * A word is read and written whole, so there is nothing to tear. Sets of four; the oldest word of a
 * set makes room. Forgetting costs one more hash or read; a false match needs equal 40-bit keyed
 * fingerprints of two stamps of one chunk in one set, and then only hides rot until the next scrub.
 * Thread: any. */
#ifndef CHUNK_STAMPS_H
#define CHUNK_STAMPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/id.h"

struct stamps {
    _Atomic uint64_t *words;
    size_t sets; /* power of two */
    uint64_t key;
};

/* @entries is rounded up to a power of two. */
int stamps_init(struct stamps *s, size_t entries, uint64_t key);
void stamps_free(struct stamps *s);
/* @now is any counter that does not go down; its low 24 bits are kept. */
void stamps_put(struct stamps *s, const struct chunk_id *id, const uint64_t stamp[4], uint64_t now);
/* Noted at most @age_max (< 2^23) ago? */
bool stamps_has(struct stamps *s, const struct chunk_id *id, const uint64_t stamp[4], uint64_t now,
                uint64_t age_max);

#endif
