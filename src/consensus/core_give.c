/* Events into libraft, each behind its guards. */
#include "consensus/core_private.h"

#include <stdlib.h>
#include <string.h>

/* R5: before a CHANGE that follows an uncommitted one in the same log: the earlier one must have
 * been committed, since a leader makes one at a time. */
static void settle_earlier_change(struct core *core, const struct raft_append_entries *append)
{
    uint64_t index = core->raft.configuration_uncommitted_index;
    if (index == 0 || append->n_entries == 0 || append->entries[0].type != RAFT_CHANGE ||
        index > append->prev_log_index || append->prev_log_index == 0 ||
        append->term < raft_current_term(&core->raft) ||
        core_term_of(core, append->prev_log_index) != append->prev_log_term) {
        return;
    }
    if (index > core->commit) {
        core->commit = index;
    }
    core_settle_commit(core);
}

static void give_append(struct core *core, struct core_event *ev, struct raft_message *rm,
                        struct core_step *step)
{
    struct raft_append_entries *a = &rm->append_entries;
    unsigned count = ev->m.append.count;
    struct raft_entry *entries = NULL;
    if (count) {
        entries = calloc(count, sizeof *entries);
        if (!entries) {
            core_fail(core, TSR_ENOMEM, "append");
            return;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        entries[i].term = ev->m.append.entries[i].term;
        entries[i].type = (enum raft_entry_type)ev->m.append.entries[i].type;
        entries[i].buf.base = ev->payloads[i]->data;
        entries[i].buf.len = ev->payloads[i]->size;
    }
    a->version = ev->m.append.version;
    a->term = ev->m.append.term;
    a->prev_log_index = ev->m.append.prev_index;
    a->prev_log_term = ev->m.append.prev_term;
    a->leader_commit = ev->m.append.commit;
    a->entries = entries;
    a->n_entries = count;
    step->stale = a->term < raft_current_term(&core->raft);
    guard_prev(&core->raft, a);
    settle_earlier_change(core, a);
    step->entries = entries;
    step->payloads = ev->payloads;
    /* libraft frees the batch of what it does not take; the bytes are in our payloads. */
    void *batch = a->n_entries ? raft_malloc(8) : NULL;
    for (unsigned i = 0; i < a->n_entries; i++) {
        a->entries[i].batch = batch;
    }
    if (!step->stale) {
        core->heard_ms = core->now_ms;
    }
    struct raft_event re = {.type = RAFT_RECEIVE, .receive.message = rm};
    if ((a->n_entries && !batch) || core_step(core, &re, step) != 0) {
        core_fail(core, TSR_ECORRUPT, "an append contradicts what is committed here");
    } else if (step->took_entries) {
        raft_free(batch);
    }
    free(entries);
}

static void give_message(struct core *core, struct core_event *ev)
{
    struct raft *r = &core->raft;
    struct raft_message rm = {.server_id = ev->from, .server_address = ""};
    struct core_step step = {0};
    const struct message *m = &ev->m;
    switch (m->kind) {
    case MESSAGE_APPEND:
        rm.type = RAFT_APPEND_ENTRIES;
        rm.append_entries.term = m->append.term;
        if (guard_second_leader(r, &rm)) {
            core_fail(core, TSR_ECORRUPT, "two leaders in one term"); /* R3 */
            return;
        }
        give_append(core, ev, &rm, &step);
        return;
    case MESSAGE_APPEND_RESULT:
        rm.type = RAFT_APPEND_ENTRIES_RESULT;
        rm.append_entries_result =
            (struct raft_append_entries_result){.version = m->append_result.version,
                                                .term = m->append_result.term,
                                                .rejected = m->append_result.rejected,
                                                .last_log_index = m->append_result.last_index,
                                                .features = m->append_result.features,
                                                .capacity = m->append_result.capacity};
        if (guard_late_refusal(r, ev->from, &rm.append_entries_result)) {
            return; /* R7 */
        }
        break;
    case MESSAGE_VOTE:
        rm.type = RAFT_REQUEST_VOTE;
        rm.request_vote = (struct raft_request_vote){.version = m->vote.version,
                                                     .term = m->vote.term,
                                                     .candidate_id = m->vote.candidate,
                                                     .last_log_index = m->vote.last_index,
                                                     .last_log_term = m->vote.last_term,
                                                     .disrupt_leader = m->vote.disrupt,
                                                     .pre_vote = m->vote.pre_vote};
        break;
    case MESSAGE_VOTE_RESULT:
        if (!guard_vote_result(r)) {
            return; /* R14 */
        }
        rm.type = RAFT_REQUEST_VOTE_RESULT;
        rm.request_vote_result =
            (struct raft_request_vote_result){.version = m->vote_result.version,
                                              .term = m->vote_result.term,
                                              .vote_granted = m->vote_result.granted,
                                              .pre_vote = m->vote_result.pre_vote,
                                              .features = m->vote_result.features,
                                              .capacity = m->vote_result.capacity};
        break;
    case MESSAGE_TIMEOUT_NOW:
        rm.type = RAFT_TIMEOUT_NOW;
        rm.timeout_now = (struct raft_timeout_now){.version = m->timeout_now.version,
                                                   .term = m->timeout_now.term,
                                                   .last_log_index = m->timeout_now.last_index,
                                                   .last_log_term = m->timeout_now.last_term};
        step.timeout_now = true;
        break;
    default:
        return;
    }
    int role = 0;
    bool lent = guard_lend_vote(r, &rm, core->now_ms, core->heard_ms, &role); /* R10 */
    struct raft_event re = {.type = RAFT_RECEIVE, .receive.message = &rm};
    if (core_step(core, &re, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "receive step");
    }
    if (lent) {
        guard_return_vote(r, role);
    }
    if (m->kind == MESSAGE_APPEND_RESULT && core->failed == 0) {
        flow_flush(core, ev->from);
    }
}

static void give_timeout(struct core *core)
{
    if (guard_solo_election(&core->raft, core->now_ms)) { /* R2 */
        core->vote_wanted = core->vote_solo = true;
        core->vote_term = raft_current_term(&core->raft) + 1;
        core->voted_for = core->options.self;
        return;
    }
    struct raft_event re = {.type = RAFT_TIMEOUT};
    struct core_step step = {0};
    if (core_step(core, &re, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "time-out step");
    }
}

/* R9: report only what is still in the log with the same term, is new, and no snapshot replaces. */
static void give_written(struct core *core)
{
    struct raft *r = &core->raft;
    if (core->installing || core->durable <= r->last_stored || r->state == RAFT_CANDIDATE) {
        return;
    }
    struct raft_event re = {.type = RAFT_PERSISTED_ENTRIES,
                            .persisted_entries.index = core->durable};
    struct core_step step = {0};
    if (core_step(core, &re, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "persisted step");
        return;
    }
    flow_flush(core, 0);
}

int core_submit_entry(struct core *core, enum raft_entry_type type, struct payload *payload)
{
    struct raft_entry entry = {.term = raft_current_term(&core->raft),
                               .type = type,
                               .buf = {.base = payload->data, .len = payload->size},
                               .batch = payload->data};
    struct raft_event re = {.type = RAFT_SUBMIT, .submit = {.entries = &entry, .n = 1}};
    struct payload *payloads[1] = {payload};
    struct core_step step = {.entries = &entry, .payloads = payloads};
    return core_step(core, &re, &step);
}

static void give_noop(struct core *core)
{
    if (core->raft.state != RAFT_LEADER || core->leader_index) {
        return;
    }
    struct payload *p = payload_new("\0\0\0\0\0\0\0\0", 8);
    if (!p || core_submit_entry(core, RAFT_BARRIER, p) != 0) {
        core_fail(core, TSR_EINTERNAL, "no-op of the new leader");
    } else {
        core->leader_index = entries_last(&core->log);
    }
    payload_unref(p);
}

/* How many entries up to @index stay: what trails, and all from @keep_from (0 = none) on. */
static unsigned trailing_below(const struct core *core, uint64_t index, uint64_t keep_from)
{
    uint64_t cut = index; /* the last one that goes */
    while (cut > core->log.first && index - cut < core->options.trailing_count &&
           core_bytes(core, cut, index) < core->options.trailing_bytes) {
        cut--;
    }
    if (keep_from && keep_from - 1 < cut) {
        cut = keep_from < core->log.first ? core->log.first - 1 : keep_from - 1;
    }
    return (unsigned)(index - cut);
}

uint64_t core_trailing_first(const struct core *core, uint64_t index)
{
    return index - trailing_below(core, index, 0) + 1;
}

static void give_snapshot(struct core *core, struct core_event *ev)
{
    struct raft *r = &core->raft;
    uint64_t index = ev->marker.index;
    if (core->installing || index <= r->trail.snapshot.index ||
        entries_term(&core->log, index) != ev->marker.term) {
        return; /* an install overtook it */
    }
    struct raft_event re = {.type = RAFT_SNAPSHOT};
    re.snapshot.metadata.index = index;
    re.snapshot.metadata.term = ev->marker.term;
    re.snapshot.metadata.configuration_index = ev->marker.conf_index;
    re.snapshot.trailing = trailing_below(core, index, ev->keep_from);
    struct core_step step = {0};
    if (conf_to_raft(ev->conf->data, ev->conf->size, &re.snapshot.metadata.configuration) != 0 ||
        core_step(core, &re, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "snapshot step");
        return;
    }
    entries_cut(&core->log, r->trail.offset);
    conf_cut(core, index);
}

static void give_install(struct core *core, struct core_event *ev)
{
    struct raft_message rm = {
        .type = RAFT_INSTALL_SNAPSHOT, .server_id = ev->from, .server_address = ""};
    struct raft_install_snapshot *is = &rm.install_snapshot;
    if (guard_installing(&core->raft)) {
        return; /* R17 */
    }
    is->term = ev->term;
    is->last_index = ev->marker.index;
    is->last_term = ev->marker.term;
    is->conf_index = ev->marker.conf_index;
    if (guard_second_leader(&core->raft, &rm)) {
        core_fail(core, TSR_ECORRUPT, "two leaders in one term"); /* R3 */
        return;
    }
    struct core_step step = {.stale = ev->term < raft_current_term(&core->raft)};
    is->data.len = 8;
    is->data.base = raft_malloc(8);
    struct raft_event re = {.type = RAFT_RECEIVE, .receive.message = &rm};
    if (!is->data.base || conf_to_raft(ev->conf->data, ev->conf->size, &is->conf) != 0 ||
        core_step(core, &re, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "install step");
    }
}

static void give_installed(struct core *core, struct core_event *ev)
{
    uint64_t index = ev->marker.index;
    core->installing = false;
    conf_clear(core);
    entries_reset(&core->log, index + 1);
    core->durable = core->written = index;
    core->truncate = 0;
    if (core->commit < index) {
        core->commit = index;
    }
    struct raft_event re = {.type = RAFT_PERSISTED_SNAPSHOT};
    re.persisted_snapshot.metadata.index = index;
    re.persisted_snapshot.metadata.term = ev->marker.term;
    re.persisted_snapshot.metadata.configuration_index = ev->marker.conf_index;
    re.persisted_snapshot.last = true;
    struct core_step step = {0};
    if (conf_push(core, ev->marker.conf_index, ev->conf) != 0 ||
        conf_to_raft(ev->conf->data, ev->conf->size,
                     &re.persisted_snapshot.metadata.configuration) != 0 ||
        core_step(core, &re, &step) != 0) {
        core_fail(core, TSR_EINTERNAL, "installed step");
    }
}

void core_give(struct core *core, struct core_event *ev)
{
    switch (ev->kind) {
    case EVENT_MESSAGE:
        give_message(core, ev);
        break;
    case EVENT_TIMEOUT:
        give_timeout(core);
        break;
    case EVENT_WRITTEN:
        give_written(core);
        break;
    case EVENT_NOOP:
        give_noop(core);
        break;
    case EVENT_SNAPSHOT:
        give_snapshot(core, ev);
        break;
    case EVENT_INSTALL:
        give_install(core, ev);
        break;
    case EVENT_INSTALLED:
        give_installed(core, ev);
        break;
    }
}
