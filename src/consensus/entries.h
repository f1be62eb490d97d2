/* The part of the log that is kept in memory: everything above the snapshot marker's trailing cut.
 *
 * Payloads are counted references: a write, a message or an apply that is under way keeps the bytes
 * while the log is truncated or cut beneath it. Counts change on the control thread only; other
 * threads only read the bytes. */
#ifndef TESSERA_CONSENSUS_ENTRIES_H
#define TESSERA_CONSENSUS_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payload {
    size_t size;
    unsigned refs;
    _Alignas(8) char data[];
};
/* One reference; NULL when out of memory. @data may be NULL: the caller fills it. */
struct payload *payload_new(const void *data, size_t size);
struct payload *payload_ref(struct payload *p);
void payload_unref(struct payload *p); /* NULL is fine */

struct entry {
    uint64_t term;
    uint64_t end; /* bytes of all entries ever appended up to this one: differences give sizes */
    uint8_t type; /* as libraft: 1 command, 2 barrier, 3 change */
    struct payload *payload;
};

struct entries {
    struct entry *items;
    size_t head, count, capacity;
    uint64_t first; /* index of the first one kept (or the next one, when empty) */
};

void entries_init(struct entries *e, uint64_t first);
void entries_free(struct entries *e);
/* Drop all; the next entry has index @first. */
void entries_reset(struct entries *e, uint64_t first);
/* first - 1 when empty. */
uint64_t entries_last(const struct entries *e);
/* NULL if not kept. */
struct entry *entries_get(const struct entries *e, uint64_t index);
/* 0 if not kept. */
uint64_t entries_term(const struct entries *e, uint64_t index);
/* Takes over the caller's reference on success. TSR_ENOMEM. */
int entries_append(struct entries *e, uint64_t term, uint8_t type, struct payload *payload);
/* Drop @index and all after it. */
void entries_truncate(struct entries *e, uint64_t index);
/* Drop all up to @index. */
void entries_cut(struct entries *e, uint64_t index);
/* Bytes of entries @from .. @to (both kept). */
uint64_t entries_bytes(const struct entries *e, uint64_t from, uint64_t to);

#endif
