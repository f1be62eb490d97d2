#include "tessera/base/map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

/* Linear probing. A deleted entry leaves a tombstone (so that iteration stays valid) unless the
 * chain ends there; growing drops tombstones. */
struct map_slot {
    uint64_t hash;
    void *key; /* NULL: free or, with `dead`, a tombstone */
    size_t size;
    void *value;
    bool dead;
};

enum { MAP_FIRST = 16 };

static uint64_t hash_of(const void *key, size_t size)
{
    const uint8_t *p = key;
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, then a finaliser for the low bits */
    for (size_t i = 0; i < size; i++) {
        h = (h ^ p[i]) * 0x100000001b3u;
    }
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_free(struct map *m)
{
    for (size_t i = 0; i < m->capacity; i++) {
        free(m->slots[i].key);
    }
    free(m->slots);
    map_init(m);
}

static struct map_slot *find(const struct map *m, const void *key, size_t size, uint64_t hash)
{
    if (m->capacity == 0) {
        return NULL;
    }
    for (size_t i = hash & (m->capacity - 1);; i = (i + 1) & (m->capacity - 1)) {
        struct map_slot *s = &m->slots[i];
        if (s->key == NULL && !s->dead) {
            return NULL;
        }
        if (s->key != NULL && s->hash == hash && s->size == size &&
            (size == 0 || memcmp(s->key, key, size) == 0)) {
            return s;
        }
    }
}

/* First slot without a key on the chain of @hash. */
static struct map_slot *place(struct map_slot *slots, size_t capacity, uint64_t hash)
{
    size_t i = hash & (capacity - 1);
    while (slots[i].key != NULL) {
        i = (i + 1) & (capacity - 1);
    }
    return &slots[i];
}

static int resize(struct map *m)
{
    size_t capacity = MAP_FIRST;
    while (capacity < (m->count + 1) * 2) {
        capacity *= 2;
    }
    struct map_slot *slots = calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return TSR_ENOMEM;
    }
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].key != NULL) {
            *place(slots, capacity, m->slots[i].hash) = m->slots[i];
        }
    }
    free(m->slots);
    m->slots = slots;
    m->capacity = capacity;
    m->used = m->count;
    return 0;
}

void *map_get(const struct map *m, const void *key, size_t size)
{
    struct map_slot *s = find(m, key, size, hash_of(key, size));
    return s == NULL ? NULL : s->value;
}

int map_put(struct map *m, const void *key, size_t size, void *value)
{
    tsr_assert(value != NULL);
    uint64_t hash = hash_of(key, size);
    struct map_slot *s = find(m, key, size, hash);
    if (s != NULL) {
        s->value = value;
        return 0;
    }
    if ((m->used + 1) * 4 > m->capacity * 3 && resize(m) != 0) {
        return TSR_ENOMEM;
    }
    void *copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL) {
        return TSR_ENOMEM;
    }
    if (size != 0) {
        memcpy(copy, key, size);
    }
    s = place(m->slots, m->capacity, hash);
    m->used += s->dead ? 0 : 1;
    *s = (struct map_slot){.hash = hash, .key = copy, .size = size, .value = value};
    m->count++;
    return 0;
}

void *map_del(struct map *m, const void *key, size_t size)
{
    struct map_slot *s = find(m, key, size, hash_of(key, size));
    if (s == NULL) {
        return NULL;
    }
    void *value = s->value;
    free(s->key);
    *s = (struct map_slot){.dead = true};
    m->count--;
    size_t i = (size_t)(s - m->slots);
    const struct map_slot *next = &m->slots[(i + 1) & (m->capacity - 1)];
    if (next->key != NULL || next->dead) {
        return value;
    }
    while (m->slots[i].dead) { /* the chain ends here: these tombstones guard nothing */
        m->slots[i].dead = false;
        m->used--;
        i = (i - 1) & (m->capacity - 1);
    }
    return value;
}

int map_next(const struct map *m, size_t *at, const void **key_out, size_t *size_out,
             void **value_out)
{
    while (*at < m->capacity) {
        const struct map_slot *s = &m->slots[(*at)++];
        if (s->key == NULL) {
            continue;
        }
        if (key_out != NULL) {
            *key_out = s->key;
        }
        if (size_out != NULL) {
            *size_out = s->size;
        }
        if (value_out != NULL) {
            *value_out = s->value;
        }
        return 1;
    }
    return 0;
}
