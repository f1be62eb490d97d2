#include "consensus/entries.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

enum { ENTRY_OVERHEAD = 64 }; /* what an entry costs besides its bytes, roughly */

struct payload *payload_new(const void *data, size_t size)
{
    struct payload *p = malloc(sizeof *p + size + 8);
    if (!p) {
        return NULL;
    }
    p->size = size;
    p->refs = 1;
    if (data && size) {
        memcpy(p->data, data, size);
    }
    return p;
}

struct payload *payload_ref(struct payload *p)
{
    p->refs++;
    return p;
}

void payload_unref(struct payload *p)
{
    if (p && --p->refs == 0) {
        free(p);
    }
}

void entries_init(struct entries *e, uint64_t first)
{
    memset(e, 0, sizeof *e);
    e->first = first;
}

void entries_free(struct entries *e)
{
    entries_reset(e, e->first);
    free(e->items);
    e->items = NULL;
    e->capacity = 0;
}

void entries_reset(struct entries *e, uint64_t first)
{
    for (size_t i = 0; i < e->count; i++) {
        payload_unref(e->items[e->head + i].payload);
    }
    e->head = e->count = 0;
    e->first = first;
}

uint64_t entries_last(const struct entries *e)
{
    return e->first + e->count - 1;
}

struct entry *entries_get(const struct entries *e, uint64_t index)
{
    if (index < e->first || index - e->first >= e->count) {
        return NULL;
    }
    return &e->items[e->head + (size_t)(index - e->first)];
}

uint64_t entries_term(const struct entries *e, uint64_t index)
{
    const struct entry *entry = entries_get(e, index);
    return entry ? entry->term : 0;
}

/* Room for one more at the end: slide down when half of the array is unused in front, else grow. */
static int entries_room(struct entries *e)
{
    if (e->head + e->count < e->capacity) {
        return 0;
    }
    if (e->head > e->capacity / 2) {
        memmove(e->items, e->items + e->head, e->count * sizeof *e->items);
        e->head = 0;
        return 0;
    }
    size_t capacity = e->capacity ? e->capacity * 2 : 256;
    struct entry *items = realloc(e->items, capacity * sizeof *items);
    if (!items) {
        return TSR_ENOMEM;
    }
    e->items = items;
    e->capacity = capacity;
    return 0;
}

int entries_append(struct entries *e, uint64_t term, uint8_t type, struct payload *payload)
{
    int rc = entries_room(e);
    if (rc) {
        return rc;
    }
    struct entry *entry = &e->items[e->head + e->count];
    uint64_t before = e->count ? entry[-1].end : 0;
    *entry = (struct entry){.term = term,
                            .end = before + payload->size + ENTRY_OVERHEAD,
                            .type = type,
                            .payload = payload};
    e->count++;
    return 0;
}

void entries_truncate(struct entries *e, uint64_t index)
{
    while (e->count && entries_last(e) >= index) {
        payload_unref(e->items[e->head + e->count - 1].payload);
        e->count--;
    }
}

void entries_cut(struct entries *e, uint64_t index)
{
    while (e->count && e->first <= index) {
        payload_unref(e->items[e->head].payload);
        e->head++;
        e->count--;
        e->first++;
    }
    if (e->count == 0) {
        e->head = 0;
        e->first = e->first > index ? e->first : index + 1;
    }
}

uint64_t entries_bytes(const struct entries *e, uint64_t from, uint64_t to)
{
    if (from > to) {
        return 0;
    }
    const struct entry *first = entries_get(e, from);
    const struct entry *last = entries_get(e, to);
    tsr_assert(first && last);
    return last->end - first->end + first->payload->size + ENTRY_OVERHEAD;
}
