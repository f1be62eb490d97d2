/* Inside meta: the counters of projects, as apply and imports keep them. */
#ifndef META_USAGE_H
#define META_USAGE_H

#include "tessera/meta/usage.h"

struct apply;

/* An image record changes from @old to @next (either may be NULL): count it, or refuse what goes
 * over a limit (TSR_ETOOBIG). */
int apply_usage_change(struct apply *a, const json_t *old, const json_t *next);
/* How many more bytes the running session of @image may reserve; INT64_MAX: no limit. Negative when
 * a limit was lowered under what is in use. */
int apply_usage_room(struct apply *a, const json_t *image, int64_t *out);
/* Add one image to the counters, outside of apply: a store is rebuilt. */
int usage_count(struct kv *kv, struct kv_txn *txn, const json_t *image);

#endif
