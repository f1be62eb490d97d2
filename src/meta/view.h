/* A consistent read: one read transaction and its point. */
#ifndef META_VIEW_H
#define META_VIEW_H

#include "meta/internal.h"

struct meta_view {
    struct meta *meta;
    struct kv_txn *txn;
    uint64_t index, directory;
};

/* A record; counts damage. */
int view_get(struct meta_view *v, unsigned db, const struct key *key, json_t **out);
/* Parse what a cursor gave; counts damage. */
int view_parse(struct meta_view *v, unsigned db, struct kv_val key, struct kv_val value,
               json_t **out);

#endif
