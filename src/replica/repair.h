/* Bring one replica here up to what the log wants. Private to the replicator. */
#ifndef REPLICA_REPAIR_H
#define REPLICA_REPAIR_H

#include "replica/manifest_fetch.h"
#include "tessera/meta.h"

struct repair;
/* Status 0: the replica is whole, sealed and recorded (or nothing was to do). Called once. */
typedef void (*repair_cb)(void *arg, int status);

struct repair_options {
    struct replica_ctx *ctx;
    struct meta *meta;
    struct chunk_id manifest;
    const uint64_t *hosts; /* who should have it, in order of preference */
    size_t host_count;
    bool recorded;             /* the log says that it is present here */
    bool pinned;               /* kept on request: the log is not told that it is present */
    uint64_t bytes_per_second; /* 0 = no limit */
    struct replicator_stats *stats;
    uint64_t *claimed; /* what all repairs under way will still put */
    uint64_t *lacking; /* with TSR_ENOSPC: how much there must be room for, if that is known */
    repair_cb cb;
    void *arg;
};
int repair_start(const struct repair_options *options, struct repair **out);
/* The callback still comes, perhaps inside this call. */
void repair_cancel(struct repair *r);

#endif
