/* Hash map from bytes to pointers (open addressing, grows by itself). Keys are copied.
 * Thread: one owner. */
#ifndef TESSERA_BASE_MAP_H
#define TESSERA_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot;
struct map {
    struct map_slot *slots;
    size_t count, capacity;
    size_t used; /* private: slots taken, with those of deleted entries */
};

void map_init(struct map *m);
/* Frees keys and table; values stay the caller's. */
void map_free(struct map *m);
/* NULL if absent. */
void *map_get(const struct map *m, const void *key, size_t size);
/* Set or replace (value not NULL). Returns 0 or TSR_ENOMEM. */
int map_put(struct map *m, const void *key, size_t size, void *value);
/* Returns the removed value or NULL. */
void *map_del(struct map *m, const void *key, size_t size);
/* Iterate in insertion-independent but, for equal histories, repeatable order: start with *at = 0;
 * returns 0 at the end. Deleting the current entry while iterating is allowed. */
int map_next(const struct map *m, size_t *at, const void **key_out, size_t *size_out,
             void **value_out);

#endif
