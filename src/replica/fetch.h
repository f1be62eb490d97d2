/* One chunk from wherever it is: this host first (if wanted), then peers, each verified. */
#ifndef REPLICA_FETCH_H
#define REPLICA_FETCH_H

#include "tessera/replica.h"

/* Peers to ask, in order of preference; shared by the fetches of one transfer so that they spread.
 */
struct source_set {
    struct {
        uint64_t id;
        unsigned inflight, failed;
    } hosts[REPLICA_HOSTS_MAX];
    size_t count;
};
/* Leaves @self out, and what is beyond the bound. */
void sources_init(struct source_set *set, uint64_t self, const uint64_t *hosts, size_t host_count);
/* The best host whose bit in *tried is not set, sets it; -1 = none left. Fewest failures, then
 * fewest calls under way, then order. */
int sources_pick(const struct source_set *set, uint32_t *tried);

enum fetch_flags {
    FETCH_LOCAL = 1, /* try this host first */
    FETCH_HEAL = 2,  /* this host should have it: put it back when its copy was bad or gone */
};

struct fetch;
/* Status 0: @size verified bytes are in the buffer, which is the caller's again.
 * TSR_EIO: nobody has good bytes; TSR_EUNAVAILABLE: nobody could be asked. */
typedef void (*fetch_cb)(void *arg, int status, size_t size);

struct fetch_options {
    struct replica_ctx *ctx;
    struct bufpool *pool;       /* of the buffer */
    struct source_set *sources; /* the owner's, until the callback or cancel */
    struct chunk_id id;
    size_t size; /* what the manifest says */
    unsigned flags;
    void *buffer;
    fetch_cb cb;
    void *arg;
};
/* NULL: out of memory; the buffer stays the caller's and no callback comes. */
struct fetch *fetch_start(const struct fetch_options *options);
/* The callback does not run any more; the buffer goes back to its pool when it is free. */
void fetch_cancel(struct fetch *f);

#endif
