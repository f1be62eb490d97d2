#include "consensus/guard.h"

#include <string.h>

/* Fields of struct raft are used here: another layout must not compile. */
_Static_assert(sizeof(void *) != 8 || sizeof(struct raft) == 992, "libraft: unknown struct raft");

static struct raft_server *guard_self(const struct raft *r)
{
    for (unsigned i = 0; i < r->configuration.n; i++) {
        if (r->configuration.servers[i].id == r->id) {
            return &r->configuration.servers[i];
        }
    }
    return NULL;
}

void guard_stale_reply(struct raft_append_entries_result *result)
{
    result->rejected = 0;
    result->last_log_index = 0;
}

bool guard_solo_election(const struct raft *r, uint64_t now_ms)
{
#ifdef TSR_BREAK_GUARD_R2
    return false;
#endif
    const struct raft_server *self = guard_self(r);
    if (r->state != RAFT_FOLLOWER || !self || self->role != RAFT_VOTER || r->snapshot.installing ||
        now_ms < raft_timeout(r)) {
        return false;
    }
    unsigned voters = 0;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        voters += r->configuration.servers[i].role == RAFT_VOTER;
    }
    return voters == 1;
}

bool guard_second_leader(const struct raft *r, const struct raft_message *m)
{
#ifdef TSR_BREAK_GUARD_R3
    return false;
#endif
    if (r->state != RAFT_LEADER) {
        return false;
    }
    return (m->type == RAFT_APPEND_ENTRIES && m->append_entries.term == r->current_term) ||
           (m->type == RAFT_INSTALL_SNAPSHOT && m->install_snapshot.term == r->current_term);
}

/* One member differs: added at the end as a non-voter, another role, or gone; the rest in order. */
static bool guard_one_change(const struct conf *old, const struct conf *next)
{
    unsigned changes = 0, i = 0, j = 0;
    while (i < old->count) {
        const struct consensus_member *a = &old->members[i];
        const struct consensus_member *b = j < next->count ? &next->members[j] : NULL;
        if (b && a->id == b->id) {
            changes += a->role != b->role;
            if (strcmp(a->address, b->address) != 0) {
                return false;
            }
            j++;
        } else {
            changes++; /* gone; what follows must be the rest of the old ones */
        }
        i++;
    }
    for (; j < next->count; j++) {
        changes++;
        if (conf_find(old, next->members[j].id) || next->members[j].role == CONSENSUS_VOTER) {
            return false;
        }
    }
    return changes == 1 && conf_voters(next) > 0;
}

int guard_change(const struct raft *r, const struct conf *old, const struct conf *next,
                 bool own_term_committed)
{
    if (r->state != RAFT_LEADER) {
        return TSR_ENOTLEADER;
    }
    const struct consensus_member *self = conf_find(next, r->id);
#ifndef TSR_BREAK_GUARD_R3
    if (!self || self->role != CONSENSUS_VOTER) {
        return TSR_ECONFLICT;
    }
#else
    (void)self;
#endif
#ifdef TSR_BREAK_GUARD_R4
    own_term_committed = true;
#endif
    if (!own_term_committed || r->configuration_uncommitted_index != 0 ||
        r->leader_state.promotee_id != 0 || r->leader_state.transferee != 0) {
        return TSR_EBUSY;
    }
    return guard_one_change(old, next) ? 0 : TSR_EINVAL;
}

unsigned guard_piece(const struct message_entry *entries, unsigned count)
{
#ifdef TSR_BREAK_GUARD_R5
    return count;
#endif
    for (unsigned i = 1; i < count; i++) {
        if (entries[i].type == ENTRY_CHANGE) {
            return i;
        }
    }
    return count;
}

unsigned guard_prev(const struct raft *r, struct raft_append_entries *append)
{
#ifdef TSR_BREAK_GUARD_R6
    return 0;
#endif
    uint64_t snapshot = r->trail.snapshot.index;
    if (append->prev_log_index >= snapshot) {
        return 0;
    }
    uint64_t below = snapshot - append->prev_log_index;
    unsigned dropped = below < append->n_entries ? (unsigned)below : append->n_entries;
    append->entries += dropped;
    append->n_entries -= dropped;
    append->prev_log_index = snapshot;
    append->prev_log_term = r->trail.snapshot.term;
    return dropped;
}

bool guard_late_refusal(const struct raft *r, uint64_t from,
                        const struct raft_append_entries_result *result)
{
#ifdef TSR_BREAK_GUARD_R7
    return false;
#endif
    raft_index match;
    return result->rejected != 0 && raft_match_index(r, from, &match) == 0 &&
           result->rejected <= match;
}

uint64_t guard_timer(uint64_t due_ms, uint64_t now_ms)
{
#ifdef TSR_BREAK_GUARD_R8
    return due_ms;
#endif
    uint64_t soonest = now_ms + GUARD_TIMER_MIN_MS;
    return due_ms < soonest ? soonest : due_ms;
}

bool guard_lend_vote(struct raft *r, const struct raft_message *m, uint64_t now_ms,
                     uint64_t heard_ms, int *role_out)
{
#ifdef TSR_BREAK_GUARD_R10
    return false;
#endif
    struct raft_server *self = guard_self(r);
    if (m->type != RAFT_REQUEST_VOTE || r->state != RAFT_FOLLOWER || !self ||
        self->role == RAFT_VOTER || now_ms - heard_ms < r->election_timeout) {
        return false;
    }
    *role_out = self->role;
    self->role = RAFT_VOTER;
    r->follower_state.current_leader.id = 0;
    return true;
}

void guard_return_vote(struct raft *r, int role)
{
    struct raft_server *self = guard_self(r);
    if (self) {
        self->role = role;
    }
}

void guard_pre_vote(const struct raft *r, struct raft_request_vote_result *result)
{
#ifdef TSR_BREAK_GUARD_R12
    return;
#endif
    if (result->pre_vote && !result->vote_granted && r->current_term > result->term) {
        result->term = r->current_term;
    }
}

void guard_disrupt(struct raft_request_vote *vote, bool in_timeout_now)
{
#ifdef TSR_BREAK_GUARD_R13
    return;
#endif
    if (!in_timeout_now) {
        vote->disrupt_leader = false;
    }
}

bool guard_vote_result(const struct raft *r)
{
#ifdef TSR_BREAK_GUARD_R14
    return true;
#endif
    return r->state == RAFT_CANDIDATE;
}

int guard_catch_up(const struct raft *r, uint64_t id, uint64_t last_index)
{
    if (r->state != RAFT_LEADER) {
        return TSR_ENOTLEADER;
    }
    if (r->leader_state.promotee_id != 0 || r->configuration_uncommitted_index != 0) {
        return TSR_EBUSY;
    }
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *server = &r->configuration.servers[i];
        if (server->id != id) {
            continue;
        }
        raft_index match;
        if (server->role == RAFT_VOTER) {
            return TSR_EINVAL;
        }
        return raft_match_index(r, id, &match) == 0 && match == last_index ? 1 : 0;
    }
    return TSR_ENOENT;
}

bool guard_installing(const struct raft *r)
{
#ifdef TSR_BREAK_GUARD_R17
    return false;
#endif
    return r->snapshot.installing;
}
