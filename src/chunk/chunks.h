/* Private parts of the chunk service: how a request moves between the threads.
 *
 * A request is a chain of steps, each on the thread that may do it: `index_step` on the index
 * thread (inside a transaction shared by all requests that wait), `disk_step` on the disk pool,
 * `req_finish` back on the caller's loop. Between steps the request belongs to nobody else: there
 * is nothing to lock. Steps of the index are gathered: while one transaction commits, requests pile
 * up in a lock-free list and all of them share the next one. */
#ifndef CHUNK_CHUNKS_H
#define CHUNK_CHUNKS_H

#include <stdatomic.h>

#include "chunk/index.h"
#include "chunk/stamps.h"
#include "tessera/base/assert.h"
#include "tessera/base/map.h"
#include "tessera/chunk.h"

/* An index step says this instead of 0: a chunk it needs is being deleted; run it again afterwards.
 */
enum {
    STEP_PARK = 1,
    ENDED_MS = 15 * 60 * 1000, /* no message of a session is under way for so long after its end */
    ENDED_MAX = 64 * 1024,
};

struct drain {
    struct work work;
    struct chunks *chunks;
};

struct chunks {
    struct chunks_options options;
    struct chunk_store *store;
    struct kv *index;
    struct loop *loop;

    /* requests for the index thread */
    _Atomic(struct chunk_req *) queue; /* newest first */
    atomic_bool drain_queued;
    unsigned drain_turn; /* of who set drain_queued */
    struct drain drain[2];

    /* index thread only */
    struct chunk_req *parked;
    struct map sessions; /* session -> last used (ms + 1, as a pointer) */
    atomic_uint ends;    /* of sessions, so far */
    struct map ended;    /* session -> when it ended, likewise, for ENDED_MS */
    struct map marks;    /* manifest id: chunk_manifest_mark */
    struct map deleting; /* chunk id: being unlinked */
    struct map dropping; /* manifest id: being dropped */
    bool sync_wanted;    /* this transaction must be durable before its requests go on */

    /* sealed since chunks_sealed_take: pushed by the index thread, taken whole by anybody */
    _Atomic(struct sealed *) sealed;
    atomic_uint sealed_count;
    atomic_bool sealed_lost; /* some were not kept */

    /* pins: what happened to them, noted like that (pins.c) */
    _Atomic(struct pin_note *) pin_notes;
    struct pin_note *pin_noting; /* of the request under way */
    atomic_bool pin_note_busy;
    atomic_uint pin_changes;
    struct chunk_req pin_note_req;

    struct stamps verified; /* minutes */
    struct stamps warm;     /* MiB read since */
    atomic_ullong read_bytes;

    atomic_llong total, available;
    atomic_ullong space_at_ms; /* when they were asked for; 0 = never */
    atomic_ullong chunk_count, manifest_count, bad_count, deleting_count, reserved_count,
        lost_count;

    struct timer timer;
    atomic_bool closing;
    atomic_bool untidy;     /* a collection or drop was left half way: the next open rebuilds */
    atomic_uint holders;    /* the owner, and collections under way; the last one tears down */
    struct work space_work; /* counts as one of them while space_busy */
    atomic_bool space_busy;
};

/* Thread: any. */
void index_step(struct chunk_req *req, int (*step)(struct chunk_req *req, void *txn),
                void (*then)(struct chunk_req *req));
void disk_step(struct chunk_req *req, void (*run)(struct work *work));
void req_finish(struct chunk_req *req, int status);
static inline struct chunk_req *req_of(struct work *work)
{
    return container_of(work, struct chunk_req, work);
}
/* Common start of each call: false when the service closes (the callback will say so). */
bool req_begin(struct chunks *c, struct chunk_req *req);

/* Index thread: note that a session is alive. TSR_ECANCELED: it has ended. */
int session_touch(struct chunks *c, const uint8_t *session);
bool session_ended(const struct chunks *c, const uint8_t *session);
static inline struct index index_of(struct chunks *c, void *txn)
{
    return (struct index){.kv = c->index, .txn = txn, .deleting = &c->deleting};
}
/* Index thread: let parked requests run again. */
void index_unpark(struct chunks *c);

/* Index thread: a manifest was sealed. */
void sealed_note(struct chunks *c, const struct chunk_id *id);

void pins_free(struct chunks *c);

/* The owner or a collection lets go. */
void chunks_release_holder(struct chunks *c);
bool chunks_start_collect(struct chunks *c, struct chunk_req *req);
/* Blocking, at open. */
int chunks_rebuild(struct chunks *c, struct err *err);

/* Blocking: read, check against its name, decode. */
int manifest_load(struct chunks *c, const struct chunk_id *id, struct manifest *out);

/* Disk pool: hash state of what was read. */
void verified_note(struct chunks *c, const struct chunk_id *id, const struct chunk_place *place);
bool verified_is(struct chunks *c, const struct chunk_id *id, const struct chunk_place *place);

#endif
