/* One raft_step() and what it asks for, noted in the core. Nothing is done here: the owner looks.
 */
#include "consensus/core_private.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/log.h"

int core_fail(struct core *core, int code, const char *what)
{
    if (core->failed == 0) {
        core->failed = code;
        log_error("consensus", "core failed: %s code=%s", what, err_name(code));
    }
    return core->failed;
}

/* --- one step --------------------------------------------------------------------------------- */

static void take_vote(struct core *core)
{
    core->vote_wanted = true;
    core->vote_term = raft_current_term(&core->raft);
    core->voted_for = raft_voted_for(&core->raft);
}

/* Remove @index and all after it from memory; the disk follows with the next write. */
static void take_truncation(struct core *core, uint64_t index)
{
    if (index <= core->commit) {
        core_fail(core, TSR_ECORRUPT, "a committed entry would be replaced");
        return;
    }
    entries_truncate(&core->log, index);
    if (conf_truncate(core, index)) {
        core_fail(core, TSR_ECORRUPT, "membership in the log is damaged");
    }
    if (core->durable >= index) {
        core->durable = index - 1;
    }
    if (core->written >= index) {
        core->written = index - 1;
        if (core->truncate == 0 || index < core->truncate) {
            core->truncate = index;
        }
    }
}

static struct payload *take_payload(const struct raft_update *u, unsigned i,
                                    const struct core_step *step)
{
    const struct raft_entry *e = &u->entries.batch[i];
    if (step->entries) {
        return payload_ref(step->payloads[e - step->entries]);
    }
    struct payload *p = payload_new(e->buf.base, e->buf.len); /* libraft's own barrier */
    raft_free(e->buf.base);
    return p;
}

static void take_entries(struct core *core, const struct raft_update *u, struct core_step *step)
{
    uint64_t index = u->entries.index;
    if (index <= entries_last(&core->log)) {
        take_truncation(core, index);
    }
    step->took_entries = true;
    for (unsigned i = 0; i < u->entries.n && core->failed == 0; i++, index++) {
        uint8_t type = (uint8_t)u->entries.batch[i].type;
        struct payload *p = take_payload(u, i, step);
        if (!p || index != entries_last(&core->log) + 1 ||
            entries_append(&core->log, u->entries.batch[i].term, type, p) != 0) {
            core_fail(core, p ? TSR_EINTERNAL : TSR_ENOMEM, "entries");
            payload_unref(p);
            return;
        }
        if (type == ENTRY_CHANGE && conf_push(core, index, p) != 0) {
            core_fail(core, TSR_ECORRUPT, "membership in the log is damaged");
        }
    }
}

static void take_append_result(struct core *core, const struct raft_message *rm,
                               const struct core_step *step)
{
    struct raft_append_entries_result result = rm->append_entries_result;
#ifndef TSR_BREAK_GUARD_R1 /* docs/simulation.md: what happens without each guard */
    if (step->stale) {
        guard_stale_reply(&result);
    }
#endif
    struct message m = {.kind = MESSAGE_APPEND_RESULT};
    m.append_result.version = result.version;
    m.append_result.term = result.term;
    m.append_result.rejected = result.rejected;
    m.append_result.last_index = result.last_log_index;
    m.append_result.features = result.features;
    m.append_result.capacity = result.capacity;
    core_emit(core, rm->server_id, &m, NULL);
}

static void take_vote_request(struct core *core, const struct raft_message *rm,
                              const struct core_step *step)
{
    struct raft_request_vote vote = rm->request_vote;
    guard_disrupt(&vote, step->timeout_now);
    struct message m = {.kind = MESSAGE_VOTE};
    m.vote.version = vote.version;
    m.vote.term = vote.term;
    m.vote.candidate = vote.candidate_id;
    m.vote.last_index = vote.last_log_index;
    m.vote.last_term = vote.last_log_term;
    m.vote.disrupt = vote.disrupt_leader;
    m.vote.pre_vote = vote.pre_vote;
    core_emit(core, rm->server_id, &m, NULL);
}

static void take_vote_result(struct core *core, const struct raft_message *rm)
{
    struct raft_request_vote_result result = rm->request_vote_result;
    guard_pre_vote(&core->raft, &result);
    struct message m = {.kind = MESSAGE_VOTE_RESULT};
    m.vote_result.version = result.version;
    m.vote_result.term = result.term;
    m.vote_result.granted = result.vote_granted;
    m.vote_result.pre_vote = result.pre_vote;
    m.vote_result.features = result.features;
    m.vote_result.capacity = result.capacity;
    core_emit(core, rm->server_id, &m, NULL);
}

static void take_timeout_now(struct core *core, const struct raft_message *rm)
{
    struct message m = {.kind = MESSAGE_TIMEOUT_NOW};
    m.timeout_now.version = rm->timeout_now.version;
    m.timeout_now.term = rm->timeout_now.term;
    m.timeout_now.last_index = rm->timeout_now.last_log_index;
    m.timeout_now.last_term = rm->timeout_now.last_log_term;
    core_emit(core, rm->server_id, &m, NULL);
}

static void take_message(struct core *core, const struct raft_message *rm,
                         const struct core_step *step)
{
    switch (rm->type) {
    case RAFT_APPEND_ENTRIES:
        flow_append(core, rm);
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        take_append_result(core, rm, step);
        break;
    case RAFT_REQUEST_VOTE:
        take_vote_request(core, rm, step);
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        take_vote_result(core, rm);
        break;
    case RAFT_TIMEOUT_NOW:
        take_timeout_now(core, rm);
        break;
    case RAFT_INSTALL_SNAPSHOT:
        core->options.need_snapshot(core->options.arg, rm->server_id);
        break;
    }
}

static void take_snapshot(struct core *core, struct raft_update *u, struct core_step *step)
{
    step->took_snapshot = true;
    raft_configuration_close(&u->snapshot.metadata.configuration);
    raft_free(u->snapshot.chunk.base);
    uint64_t index = u->snapshot.metadata.index;
    entries_reset(&core->log, index + 1);
    core->written = index;
    core->truncate = 0;
    core->durable = 0;
    core->installing = true;
}

static void push_first(struct core *core, enum core_event_kind kind)
{
    struct core_event *ev = calloc(1, sizeof *ev);
    if (!ev) {
        core_fail(core, TSR_ENOMEM, "event");
        return;
    }
    ev->kind = kind;
    list_insert_before(core->events.next, &ev->link);
}

#ifdef TSR_BREAK_OLD_TERM
static void count_any_term(struct core *core)
{
    const struct conf *conf = core_conf(core);
    for (uint64_t i = entries_last(&core->log); i > core->commit && core->leader_index; i--) {
        unsigned voters = 0, have = 0;
        for (unsigned k = 0; k < conf->count; k++) {
            const struct consensus_member *m = &conf->members[k];
            bool own = m->id == core->raft.id;
            voters += m->role == CONSENSUS_VOTER;
            have +=
                m->role == CONSENSUS_VOTER && (own ? core->durable : core_match(core, m->id)) >= i;
        }
        core->commit = have > voters / 2 ? i : core->commit;
    }
}
#endif

/* R15 and the end of a membership change: libraft wants to be told of each committed one. */
void core_settle_commit(struct core *core)
{
    struct raft *r = &core->raft;
    if (raft_commit_index(r) > core->commit) {
        core->commit = raft_commit_index(r);
    }
#ifdef TSR_BREAK_OLD_TERM
    count_any_term(core);
#endif
    uint64_t index = r->configuration_uncommitted_index;
    const struct entry *e = index && index <= core->commit ? entries_get(&core->log, index) : NULL;
    if (!e) {
        return;
    }
    struct raft_event ev = {.type = RAFT_CONFIGURATION};
    ev.configuration.index = index;
    if (e->type != ENTRY_CHANGE ||
        conf_to_raft(e->payload->data, e->payload->size, &ev.configuration.conf) != 0) {
        core_fail(core, TSR_ECORRUPT, "membership in the log is damaged");
        return;
    }
    struct core_step step = {0};
    if (core_step(core, &ev, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "configuration step");
    }
}

static void settle_state(struct core *core, bool led)
{
    bool leads = core->raft.state == RAFT_LEADER;
    if (leads && !led) {
        flow_reset(core);
        core->leader_index = 0;
        if (core_term_of(core, entries_last(&core->log)) == raft_current_term(&core->raft)) {
            core->leader_index = entries_last(&core->log); /* libraft's own barrier */
        } else {
            push_first(core, EVENT_NOOP); /* R4 */
        }
    } else if (led && !leads) {
        flow_reset(core);
        core->leader_index = 0;
    }
}

/* Returns libraft's code: what a refusal means is the caller's to know. */
int core_step(struct core *core, struct raft_event *ev, struct core_step *step)
{
    struct raft_update u;
    memset(&u, 0, sizeof u);
    ev->time = core->now_ms;
    ev->capacity = UINT16_MAX;
    bool led = core->raft.state == RAFT_LEADER;
    int rv = raft_step(&core->raft, ev, &u);
    if (rv != 0) {
        return rv;
    }
    if (u.flags & ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR))) {
        take_vote(core);
    }
    if (u.flags & (RAFT_UPDATE_ENTRIES)) {
        take_entries(core, &u, step);
    }
    if (u.flags & (RAFT_UPDATE_SNAPSHOT)) {
        take_snapshot(core, &u, step);
    }
    if (core->raft.state == RAFT_LEADER && !led) {
        flow_reset(core);
    }
    if (u.flags & (RAFT_UPDATE_MESSAGES)) {
        if (raft_commit_index(&core->raft) > core->commit) {
            core->commit = raft_commit_index(&core->raft);
        }
        for (unsigned i = 0; i < u.messages.n && core->failed == 0; i++) {
            take_message(core, &u.messages.batch[i], step);
        }
    }
    settle_state(core, led);
    core_settle_commit(core);
    return 0;
}
