/* What the core knows; nothing changes here. */
#include "consensus/core_private.h"

bool core_vote_wanted(const struct core *core, uint64_t *term_out, uint64_t *voted_for_out)
{
    *term_out = core->vote_term;
    *voted_for_out = core->voted_for;
    return core->vote_wanted && core->failed == 0;
}

bool core_blocked(const struct core *core)
{
    return core->vote_wanted;
}

int core_catch_up_status(const struct core *core, uint64_t id)
{
    int status = RAFT_CATCH_UP_NONE;
    if (raft_catch_up(&core->raft, id, &status) != 0) {
        return 0;
    }
    return status == RAFT_CATCH_UP_RUNNING    ? 1
           : status == RAFT_CATCH_UP_ABORTED  ? 2
           : status == RAFT_CATCH_UP_FINISHED ? 3
                                              : 0;
}

bool core_transferring(const struct core *core)
{
    return raft_transferee(&core->raft) != 0;
}

enum consensus_state core_state(const struct core *core)
{
    switch (core->raft.state) {
    case RAFT_LEADER:
        return CONSENSUS_LEADER;
    case RAFT_CANDIDATE:
        return CONSENSUS_CANDIDATE;
    default:
        return CONSENSUS_FOLLOWER;
    }
}

uint64_t core_term(const struct core *core)
{
    return raft_current_term(&core->raft);
}

uint64_t core_leader(const struct core *core)
{
    switch (core->raft.state) {
    case RAFT_LEADER:
        return core->options.self;
    case RAFT_FOLLOWER:
        return core->raft.follower_state.current_leader.id;
    default:
        return 0;
    }
}

uint64_t core_leader_index(const struct core *core)
{
    return core->leader_index;
}

uint64_t core_commit(const struct core *core)
{
    return core->commit;
}

uint64_t core_durable(const struct core *core)
{
    return core->durable;
}

uint64_t core_last_index(const struct core *core)
{
    return entries_last(&core->log);
}

uint64_t core_first_index(const struct core *core)
{
    return core->log.first;
}

uint64_t core_snapshot_index(const struct core *core)
{
    return core->raft.trail.snapshot.index;
}

uint64_t core_term_of(const struct core *core, uint64_t index)
{
    uint64_t term = entries_term(&core->log, index);
    if (term == 0 && index != 0 && index == core->raft.trail.snapshot.index) {
        term = core->raft.trail.snapshot.term;
    }
    return term;
}

const struct entry *core_entry(const struct core *core, uint64_t index)
{
    return entries_get(&core->log, index);
}

uint64_t core_bytes(const struct core *core, uint64_t from, uint64_t to)
{
    return entries_bytes(&core->log, from, to);
}

uint64_t core_timeout_due(const struct core *core)
{
    return raft_timeout(&core->raft);
}

uint64_t core_match(const struct core *core, uint64_t id)
{
    raft_index match = 0;
    return raft_match_index(&core->raft, id, &match) == 0 ? match : 0;
}

uint64_t core_contact_ms(const struct core *core)
{
    /* A leader's timer starts again with each check that a majority answered. */
    return core->raft.state == RAFT_LEADER ? core->raft.election_timer_start : core->heard_ms;
}
