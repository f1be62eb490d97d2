/* What was sealed lately. */
#include <stdlib.h>

#include "chunk/chunks.h"

enum { SEALED_MAX = 65536 }; /* nobody takes them on a host without a replicator */

struct sealed {
    struct sealed *next;
    struct chunk_id id;
};

void sealed_note(struct chunks *c, const struct chunk_id *id)
{
    bool room = atomic_fetch_add(&c->sealed_count, 1) < SEALED_MAX;
    struct sealed *s = room ? malloc(sizeof(*s)) : NULL;
    if (s == NULL) {
        atomic_fetch_sub(&c->sealed_count, 1);
        atomic_store(&c->sealed_lost, true);
        return;
    }
    s->id = *id;
    s->next = atomic_load(&c->sealed);
    while (!atomic_compare_exchange_weak(&c->sealed, &s->next, s)) {
    }
}

int chunks_sealed_take(struct chunks *c, struct chunk_id **ids_out, size_t *count_out)
{
    struct sealed *list = atomic_exchange(&c->sealed, NULL);
    size_t count = 0, at = 0;
    for (const struct sealed *s = list; s != NULL; s = s->next) {
        count++;
    }
    struct chunk_id *ids = count > 0 ? malloc(count * sizeof(*ids)) : NULL;
    bool lost = atomic_exchange(&c->sealed_lost, false) || (count > 0 && ids == NULL);
    while (list != NULL) {
        struct sealed *next = list->next;
        if (ids != NULL) {
            ids[at++] = list->id;
        }
        free(list);
        list = next;
    }
    atomic_fetch_sub(&c->sealed_count, (unsigned)count);
    *ids_out = ids;
    *count_out = at;
    return lost ? TSR_ETOOBIG : 0;
}
