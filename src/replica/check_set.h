/* Manifests to be looked at: each once, some only after a while. Private to the replicator. */
#ifndef REPLICA_CHECK_SET_H
#define REPLICA_CHECK_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/base/list.h"
#include "tessera/base/map.h"
#include "tessera/chunk.h"

struct check_set {
    struct map by_id;
    struct list due, later; /* later: in order of their time */
};

void check_set_init(struct check_set *s);
void check_set_free(struct check_set *s);
/* Now. One that waits for later becomes due. TSR_ENOMEM. */
int check_set_add(struct check_set *s, const struct chunk_id *id);
/* At @due_ms, which is never before that of an earlier call; no change if it is in the set. */
int check_set_add_later(struct check_set *s, const struct chunk_id *id, uint64_t due_ms);
/* Take the next one that is due. */
bool check_set_next(struct check_set *s, uint64_t now_ms, struct chunk_id *out);
bool check_set_has_due(const struct check_set *s, uint64_t now_ms);

#endif
