/* A manifest from this host or, checked against its name, from the first peer that has it. */
#ifndef REPLICA_MANIFEST_FETCH_H
#define REPLICA_MANIFEST_FETCH_H

#include "replica/fetch.h"

struct manifest_fetch;
/* Status 0: @manifest is the callback's to free; @here: it came from our own store. TSR_EIO: nobody
 * has it; TSR_EUNAVAILABLE: not everybody could be asked. */
typedef void (*manifest_fetch_cb)(void *arg, int status, struct manifest *manifest, bool here);
/* NULL: out of memory, and no callback. @sources stays the owner's until the callback or cancel. */
struct manifest_fetch *manifest_fetch_start(struct replica_ctx *ctx, const struct chunk_id *id,
                                            struct source_set *sources, manifest_fetch_cb cb,
                                            void *arg);
/* The callback does not run any more. */
void manifest_fetch_cancel(struct manifest_fetch *f);

#endif
