/* Inside the replicator (replicator.c): its state, shared by its files. */
#ifndef REPLICA_REPLICATOR_PRIVATE_H
#define REPLICA_REPLICATOR_PRIVATE_H

#include <stdatomic.h>

#include "replica/check_set.h"
#include "replica/repair.h"
#include "replica/want.h"
#include "tessera/base/list.h"
#include "tessera/base/map.h"
#include "tessera/replica.h"

enum {
    WALK_SLICE = 256,
    DROP_SLICE = 64,
    CHECK_SLICE = 16,
    AGAIN_AFTER_MS = 5000, /* one that was busy; and a seal, which is decided about soon */
    QUEUE_MAX = 512,
    RUNNING_MAX = 2,
    TICK_MS = 1000,
    FULL_EVERY_MS = 10 * 60 * 1000,
    LOST_EVERY_MS = 30 * 1000,
    PASS_GAP_MS = 500,
    PASS_SHARE = 20, /* a pass may take a twentieth of the loop's time */
    BACKOFF_MAX_MS = 60 * 1000,
    ROOM_AGAIN_MS = 10 * 60 * 1000, /* what is known of the room may be wrong */
};

enum pass { PASS_NONE, PASS_LIST, PASS_WALK, PASS_DROP };

struct job {
    struct list node;
    struct replicator *r;
    struct chunk_id manifest;
    uint64_t hosts[REPLICA_HOSTS_MAX];
    size_t host_count;
    bool recorded, pinned;
    uint64_t lacking; /* no room for so much */
    struct repair *repair;
};

/* Not before due_ms; what had no room not before room_ms either, unless there is room for it. */
struct backoff {
    unsigned count;
    uint64_t due_ms;
    uint64_t lacking, room_ms;
};

struct replicator {
    struct replica_ctx *ctx;
    struct meta *meta;
    struct meta_watch watch;
    struct timer timer;
    struct task task; /* the next slice */
    bool task_posted, closing, dirty;
    unsigned busy;      /* callbacks to come, repairs apart */
    bool dropping;      /* one of them is a drop's: req, barrier, submit are in use */
    struct chunk_id id; /* of that drop */
    struct check_set checks;
    bool checks_dropped; /* something was: collect when they are done */
    uint64_t rate;

    enum pass pass;
    uint64_t pass_work_ns, earliest_ms, next_full_ms, next_lost_ms, retry_ms;
    struct chunk_id *local; /* manifests on disk when the pass began */
    size_t local_count, drop_at;
    struct map local_set;
    char after[64];
    bool resting; /* the walk waits for the queue */

    struct chunk_pin *pins; /* in order of name, as they were read last */
    size_t pin_count;
    unsigned pins_seen;
    bool pins_known, pins_asking, pins_changed;
    struct chunk_pin *pins_going; /* being removed: pin_req is in use */
    uint64_t pins_next_ms, pins_relieve_ms;
    struct chunk_req pin_req;
    struct meta_barrier pin_barrier;

    struct sessions_look *sessions_look; /* under way (replicator_sessions.c) */
    uint64_t sessions_next_ms;

    struct list queue, running;
    unsigned queued, running_count;
    struct map jobs;     /* manifest -> job */
    struct map backoffs; /* manifest -> backoff */
    struct replicator_stats stats;
    uint64_t claimed; /* by repairs */
    struct {
        _Atomic uint64_t missing, fetching, fetched_bytes, failed;
    } told; /* as of the last tick; any thread */

    struct chunk_req list_req, req;
    struct meta_barrier barrier;
    struct meta_submit submit;

    void (*close_cb)(void *arg);
    void *close_arg;
};

static inline uint64_t replicator_now(const struct replicator *r)
{
    return loop_now_ms(r->ctx->loop);
}

/* replicator.c: the next slice of whatever is to do; two repairs at a time; one more of them,
 * unless it is under way or failed just now; is it too early for what failed. */
void replicator_step_soon(struct replicator *r);
void replicator_start_jobs(struct replicator *r);
void replicator_add_job(struct replicator *r, const struct chunk_id *id, const json_t *image,
                        bool recorded);
void replicator_add_pinned_job(struct replicator *r, const struct chunk_id *id,
                               const json_t *image);
bool replicator_waits(struct replicator *r, const struct backoff *b);
void replicator_maybe_free(struct replicator *r);

/* replicator_drop.c. One at a time: r->dropping. Does it look unwanted; begin; after drops. */
enum verdict replicator_judge(struct replicator *r, struct meta_view *view,
                              const struct chunk_id *id);
void replicator_drop(struct replicator *r, const struct chunk_id *id);
void replicator_collect(struct replicator *r);

/* replicator_pins.c. Read them again if they changed; a look at them all, now and then; does one
 * stand for this manifest (then *image_out is a new reference, NULL if that is not known); its
 * replica is whole now. */
void replicator_pins_load(struct replicator *r);
void replicator_pins_tick(struct replicator *r);
bool replicator_pinned(struct replicator *r, struct meta_view *view, const struct chunk_id *id,
                       json_t **image_out);
void replicator_pin_here(struct replicator *r, const struct chunk_id *id);

/* replicator_sessions.c: sessions that are over for good end here. */
void replicator_sessions_tick(struct replicator *r);

/* replicator_check.c: single looks. Some manifests now; those that failed and are due; what was
 * sealed; a slice of what is due. */
void replicator_check(struct replicator *r, const struct chunk_id *ids, size_t count);
void replicator_check_later(struct replicator *r, const struct chunk_id *id);
void replicator_check_failed(struct replicator *r, bool all);
void replicator_check_sealed(struct replicator *r);
void replicator_check_slice(struct replicator *r);

#endif
