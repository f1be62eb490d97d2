/* Who shall vote: the next step from what is known of the hosts. Pure. */
#ifndef TESSERA_CLUSTER_VOTERS_H
#define TESSERA_CLUSTER_VOTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/consensus.h"

enum { VOTERS_MAX = 5 };

struct voters_member {
    uint64_t id; /* in the consensus group */
    enum consensus_role role;
    bool self;     /* the leader, which decides */
    bool recorded; /* belongs to the cluster, under this incarnation */
    bool image;    /* stores images: not a witness */
    bool fresh;    /* reported lately */
    bool likely;   /* fresh, or recorded up while the leader is too new to have heard of it */
    bool lost;     /* silent for longer than repair_after */
};

enum voters_step { VOTERS_NOTHING, VOTERS_REMOVE, VOTERS_PROMOTE, VOTERS_DEMOTE };
struct voters_change {
    enum voters_step step;
    uint64_t id;
};

/* 1, 2 (with a warning: none may fail), 3, 3, 5, 5, ... */
unsigned voters_wanted(unsigned hosts);

/* The one change that comes next, for @hosts hosts that belong to the cluster. In this order:
 *   whoever is not recorded any more goes;
 *   while voters are wanted, a standby that answers is promoted, image hosts before witnesses;
 *   a voter that is lost gives its vote up where a standby answers that can take it;
 *   of too many voters one is demoted: lost or silent before others, witnesses before image hosts.
 * The leader itself is never named. Same input, same output. */
struct voters_change voters_next(const struct voters_member *members, size_t count, unsigned hosts);

/* Whether a majority of the remaining voters is likely to answer once @without is gone. */
bool voters_majority_without(const struct voters_member *members, size_t count, uint64_t without);

#endif
