/* The event loop around raft_step().
 *
 * Happy path: an event comes in (message, time-out, finished write, submit) -> guards -> raft_step
 * -> what it asks for is noted here (entries, vote, messages, commit) -> the owner looks and acts.
 * A vote change blocks: later events wait in `events` and the step's messages in `held` until
 * core_vote_done. A non-zero raft_step is final, except for the leader's own requests.
 * On free nothing is written; what was not durable is lost, as in a crash. */
#include "consensus/core_private.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum core_event_kind {
    EVENT_MESSAGE,
    EVENT_TIMEOUT,
    EVENT_WRITTEN,
    EVENT_NOOP,
    EVENT_SNAPSHOT,
    EVENT_INSTALL,
    EVENT_INSTALLED,
};

struct core_event {
    struct list link;
    enum core_event_kind kind;
    uint64_t from;
    struct message m; /* append: entries without data, see payloads */
    struct payload **payloads;
    unsigned count;
    /* snapshots */
    struct marker marker; /* conf is in `conf` */
    struct payload *conf;
    uint64_t term, keep_from;
};

/* What a step needs to know of the event it is for. */
struct core_step {
    struct raft_entry *entries; /* given to libraft */
    struct payload *const *payloads;
    bool stale;       /* R1 */
    bool timeout_now; /* R13 */
    bool took_entries, took_snapshot;
};

static void core_run(struct core *core);

/* --- life ----------------------------------------------------------------------------------------
 */

int core_new(const struct core_options *options, struct core **out)
{
    struct core *core = calloc(1, sizeof *core);
    char *address = core ? strdup(options->address) : NULL;
    if (!address) {
        free(core);
        return TSR_ENOMEM;
    }
    core->options = *options;
    core->address = address;
    core->options.address = address;
    entries_init(&core->log, 1);
    list_init(&core->events);
    list_init(&core->held);
    struct raft *r = &core->raft;
    if (raft_init(r, NULL, NULL, options->self, address) != 0) {
        free(address);
        free(core);
        return TSR_ENOMEM;
    }
    r->tracer = NULL; /* the default one formats every line even when it prints nothing */
    raft_seed(r, options->seed ? options->seed : 1);
    raft_set_election_timeout(r, options->election_ms);
    raft_set_heartbeat_timeout(r, options->heartbeat_ms);
    raft_set_pre_vote(r, true);
    raft_set_max_inflight_entries(r, 4096); /* bytes are bounded by the flows */
    /* libraft tells a refusal by the snapshot's index, which our markers raise meanwhile: only this
     * makes it ask again for a follower whose stream ended in vain. While one runs it is ignored.
     */
    raft_set_install_snapshot_timeout(r, 2 * options->election_ms);
    raft_set_max_catch_up_rounds(r, 20);
    raft_set_max_catch_up_round_duration(r, 60 * 1000);
    *out = core;
    return 0;
}

static void event_free(struct core_event *ev)
{
    for (unsigned i = 0; i < ev->count; i++) {
        payload_unref(ev->payloads[i]);
    }
    free(ev->payloads);
    payload_unref(ev->conf);
    if (ev->kind == EVENT_MESSAGE) {
        message_free(&ev->m);
    }
    free(ev);
}

void core_free(struct core *core)
{
    if (!core) {
        return;
    }
    struct list *link;
    while ((link = list_pop(&core->events))) {
        event_free(container_of(link, struct core_event, link));
    }
    core_drop_held(core);
    raft_close(&core->raft, NULL);
    conf_clear(core);
    entries_free(&core->log);
    free(core->address);
    free(core);
}

static int core_fail(struct core *core, int code, const char *what)
{
    if (core->failed == 0) {
        core->failed = code;
        log_error("consensus", "core failed: %s code=%s", what, err_name(code));
    }
    return core->failed;
}

/* --- one step ------------------------------------------------------------------------------------
 */

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
    if (step->stale) {
        guard_stale_reply(&result);
    }
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

static int core_step(struct core *core, struct raft_event *ev, struct core_step *step);

/* R15 and the end of a membership change: libraft wants to be told of each committed one. */
static void settle_commit(struct core *core)
{
    struct raft *r = &core->raft;
    if (raft_commit_index(r) > core->commit) {
        core->commit = raft_commit_index(r);
    }
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
static int core_step(struct core *core, struct raft_event *ev, struct core_step *step)
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
    settle_commit(core);
    return 0;
}

/* --- events --------------------------------------------------------------------------------------
 */

static struct core_event *push_event(struct core *core, enum core_event_kind kind)
{
    struct core_event *ev = calloc(1, sizeof *ev);
    if (!ev) {
        core_fail(core, TSR_ENOMEM, "event");
        return NULL;
    }
    ev->kind = kind;
    list_push(&core->events, &ev->link);
    return ev;
}

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
    settle_commit(core);
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

static int submit_entry(struct core *core, enum raft_entry_type type, struct payload *payload)
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
    if (!p || submit_entry(core, RAFT_BARRIER, p) != 0) {
        core_fail(core, TSR_EINTERNAL, "no-op of the new leader");
    } else {
        core->leader_index = entries_last(&core->log);
    }
    payload_unref(p);
}

/* Largest number of entries kept below @index. */
static unsigned trailing_below(const struct core *core, uint64_t index, uint64_t keep_from)
{
    uint64_t first = index;
    while (first > core->log.first && index - first < core->options.trailing_count &&
           core_bytes(core, first, index) < core->options.trailing_bytes) {
        first--;
    }
    if (keep_from && keep_from < first) {
        first = keep_from < core->log.first ? core->log.first : keep_from;
    }
    return (unsigned)(index - first);
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

static void give(struct core *core, struct core_event *ev)
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

static void core_run(struct core *core)
{
    tsr_assert(!core->running);
    core->running = true;
    while (!core->vote_wanted && core->failed == 0 && !list_empty(&core->events)) {
        struct core_event *ev = container_of(list_pop(&core->events), struct core_event, link);
        give(core, ev);
        event_free(ev);
    }
    core->running = false;
}

static void core_clock(struct core *core, uint64_t now_ms)
{
    if (now_ms > core->now_ms) {
        core->now_ms = now_ms;
    }
}

static int core_events(struct core *core, uint64_t now_ms)
{
    core_clock(core, now_ms);
    core_run(core);
    return core->failed;
}

/* One event for each piece of an append that starts with a CHANGE (R5). */
static void push_append(struct core *core, uint64_t from, const struct message *m)
{
    unsigned at = 0;
    do {
        struct core_event *ev = push_event(core, EVENT_MESSAGE);
        if (!ev) {
            return;
        }
        unsigned left = m->append.count - at;
        unsigned n = left ? guard_piece(m->append.entries + at, left) : 0;
        ev->from = from;
        ev->m = *m;
        ev->m.append.entries = NULL;
        ev->m.append.count = n;
        if (n) {
            ev->m.append.entries = calloc(n, sizeof *ev->m.append.entries);
            ev->payloads = calloc(n, sizeof *ev->payloads);
            if (!ev->m.append.entries || !ev->payloads) {
                core_fail(core, TSR_ENOMEM, "append");
                return;
            }
        }
        for (unsigned i = 0; i < n; i++) {
            const struct message_entry *e = &m->append.entries[at + i];
            ev->m.append.entries[i] = *e;
            ev->m.append.entries[i].data = NULL;
            ev->payloads[i] = payload_new(e->data, e->size);
            if (!ev->payloads[i]) {
                core_fail(core, TSR_ENOMEM, "append");
                return;
            }
            ev->count++;
        }
        if (at) {
            ev->m.append.prev_index = m->append.prev_index + at;
            ev->m.append.prev_term = m->append.entries[at - 1].term;
        }
        at += n;
    } while (at < m->append.count);
}

int core_receive(struct core *core, uint64_t now_ms, uint64_t from, const struct message *m)
{
    if (m->kind == MESSAGE_APPEND) {
        push_append(core, from, m);
    } else {
        struct core_event *ev = push_event(core, EVENT_MESSAGE);
        if (ev) {
            ev->from = from;
            ev->m = *m;
        }
    }
    return core_events(core, now_ms);
}

void core_disconnected(struct core *core, uint64_t from)
{
    list_each(link, &core->events)
    {
        struct core_event *ev = container_of(link, struct core_event, link);
        if (ev->kind == EVENT_MESSAGE && ev->from == from && ev->m.kind == MESSAGE_APPEND_RESULT) {
            list_remove(link);
            event_free(ev);
        }
    }
}

int core_timeout(struct core *core, uint64_t now_ms)
{
    core_clock(core, now_ms);
    if (!core->vote_wanted) {
        push_event(core, EVENT_TIMEOUT);
    }
    return core_events(core, now_ms);
}

int core_vote_done(struct core *core, uint64_t now_ms)
{
    core->vote_wanted = false;
    if (core->vote_solo) {
        core->vote_solo = false;
        core->raft.current_term = core->vote_term;
        core->raft.voted_for = core->voted_for;
        struct raft_event re = {.type = RAFT_TIMEOUT};
        struct core_step step = {0};
        core_clock(core, now_ms);
        if (core_step(core, &re, &step) != 0) {
            core_fail(core, TSR_EINTERNAL, "time-out step");
        }
    }
    if (core->failed == 0) {
        core_release_held(core);
    }
    return core_events(core, now_ms);
}

/* --- the log on disk
 * ------------------------------------------------------------------------------ */

bool core_write_next(struct core *core, struct core_write *out)
{
    memset(out, 0, sizeof *out);
    uint64_t last = entries_last(&core->log);
    if (core->installing || core->failed || (core->truncate == 0 && core->written >= last)) {
        return false;
    }
    unsigned n = last > core->written ? (unsigned)(last - core->written) : 0;
    if (n) {
        out->entries = calloc(n, sizeof *out->entries);
        out->payloads = calloc(n, sizeof *out->payloads);
        if (!out->entries || !out->payloads) {
            core_write_free(out);
            core_fail(core, TSR_ENOMEM, "log write");
            return false;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t index = core->written + 1 + i;
        struct entry *e = entries_get(&core->log, index);
        tsr_assert(e);
        out->payloads[i] = payload_ref(e->payload);
        out->entries[i] = (struct disklog_entry){.index = index,
                                                 .term = e->term,
                                                 .type = e->type,
                                                 .data = e->payload->data,
                                                 .size = e->payload->size};
    }
    out->count = n;
    out->truncate = core->truncate;
    core->truncate = 0;
    core->written = last;
    return true;
}

void core_write_free(struct core_write *w)
{
    for (unsigned i = 0; i < w->count && w->payloads; i++) {
        payload_unref(w->payloads[i]);
    }
    free(w->entries);
    free(w->payloads);
    memset(w, 0, sizeof *w);
}

int core_write_done(struct core *core, uint64_t now_ms, struct core_write *w)
{
    uint64_t reached = 0;
    for (unsigned i = w->count; i > 0 && reached == 0 && !core->installing; i--) {
        const struct disklog_entry *e = &w->entries[i - 1];
        if (entries_term(&core->log, e->index) == e->term) {
            reached = e->index;
        }
    }
    /* What the next write removes again is not durable, even if the same entry came back. */
    if (core->truncate && reached >= core->truncate) {
        reached = core->truncate - 1;
    }
    core_write_free(w);
    if (reached > core->durable) {
        core->durable = reached;
        push_event(core, EVENT_WRITTEN);
    }
    return core_events(core, now_ms);
}

/* --- snapshots
 * ------------------------------------------------------------------------------------ */

static struct core_event *push_marker(struct core *core, enum core_event_kind kind,
                                      const struct marker *marker)
{
    struct core_event *ev = push_event(core, kind);
    if (!ev) {
        return NULL;
    }
    ev->marker = *marker;
    ev->marker.conf = NULL;
    ev->conf = payload_new(marker->conf, marker->conf_size);
    if (!ev->conf) {
        core_fail(core, TSR_ENOMEM, "snapshot");
        return NULL;
    }
    return ev;
}

int core_snapshot(struct core *core, uint64_t now_ms, const struct marker *marker,
                  uint64_t keep_from)
{
    struct core_event *ev = push_marker(core, EVENT_SNAPSHOT, marker);
    if (ev) {
        ev->keep_from = keep_from;
    }
    return core_events(core, now_ms);
}

bool core_wants_install(const struct core *core, uint64_t index, uint64_t term)
{
    return !core->installing && index > core->raft.trail.snapshot.index && index > core->commit &&
           core_term_of(core, index) != term;
}

int core_install(struct core *core, uint64_t now_ms, uint64_t from, uint64_t term,
                 const struct marker *marker)
{
    struct core_event *ev = push_marker(core, EVENT_INSTALL, marker);
    if (ev) {
        ev->from = from;
        ev->term = term;
    }
    return core_events(core, now_ms);
}

bool core_installing(const struct core *core)
{
    return core->installing;
}

int core_installed(struct core *core, uint64_t now_ms, const struct marker *marker)
{
    push_marker(core, EVENT_INSTALLED, marker);
    return core_events(core, now_ms);
}

/* --- start
 * ---------------------------------------------------------------------------------------- */

int core_load_marker(struct core *core, const struct marker *marker)
{
    if (marker->index == 0) {
        return 0;
    }
    struct payload *conf = payload_new(marker->conf, marker->conf_size);
    if (!conf) {
        return TSR_ENOMEM;
    }
    int rc = conf_push(core, marker->conf_index, conf);
    payload_unref(conf);
    core->raft.trail.snapshot.index = marker->index; /* START sets it again */
    core->raft.trail.snapshot.term = marker->term;
    core->log.first = marker->index + 1;
    return rc ? TSR_ECORRUPT : 0;
}

int core_load_entry(struct core *core, uint64_t index, uint64_t term, uint8_t type,
                    const void *data, size_t size)
{
    if (core->log.count == 0) {
        core->log.first = index;
    }
    struct payload *p = payload_new(data, size);
    if (!p) {
        return TSR_ENOMEM;
    }
    bool newer = core->conf_count == 0 || index > core->confs[core->conf_count - 1].index;
    if (type == ENTRY_CHANGE && newer && conf_push(core, index, p) != 0) {
        payload_unref(p);
        return TSR_ECORRUPT;
    }
    int rc = entries_append(&core->log, term, type, p);
    if (rc) {
        payload_unref(p);
    }
    return rc;
}

static int start_entries(struct core *core, struct raft_event *re, void **batch_out)
{
    size_t n = core->log.count;
    struct raft_entry *entries = raft_calloc(n, sizeof *entries);
    *batch_out = raft_malloc(8);
    if (!entries || !*batch_out) {
        raft_free(entries);
        raft_free(*batch_out);
        return TSR_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const struct entry *e = &core->log.items[core->log.head + i];
        entries[i].term = e->term;
        entries[i].type = (enum raft_entry_type)e->type;
        entries[i].buf.base = e->payload->data;
        entries[i].buf.len = e->payload->size;
        entries[i].batch = *batch_out;
    }
    re->start.entries = entries;
    re->start.n_entries = (unsigned)n;
    return 0;
}

int core_start(struct core *core, uint64_t now_ms, uint64_t term, uint64_t voted_for,
               uint64_t applied)
{
    struct raft *r = &core->raft;
    struct raft_snapshot_metadata metadata = {.index = r->trail.snapshot.index,
                                              .term = r->trail.snapshot.term};
    struct raft_event re = {.type = RAFT_START};
    void *batch = NULL;
    int rc = 0;
    core_clock(core, now_ms);
    re.start.term = term;
    re.start.voted_for = voted_for;
    re.start.start_index = core->log.first;
    if (metadata.index) {
        const struct payload *conf = core->conf_count ? core->confs[0].bytes : NULL;
        rc = conf ? conf_to_raft(conf->data, conf->size, &metadata.configuration) : TSR_ECORRUPT;
        metadata.configuration_index = conf ? core->confs[0].index : 0;
        re.start.metadata = &metadata;
    }
    if (rc == 0 && core->log.count) {
        rc = start_entries(core, &re, &batch);
    }
    if (rc) {
        return core_fail(core, rc, "start");
    }
    core->durable = core->written = entries_last(&core->log);
    core->commit = applied > metadata.index ? applied : metadata.index;
    struct core_step step = {0};
    if (core_step(core, &re, &step) != 0) {
        return core_fail(core, TSR_EINTERNAL, "start step");
    }
    raft_free(re.start.entries);
    raft_free(batch);
    return core_events(core, now_ms);
}

/* --- the leader's part
 * ---------------------------------------------------------------------------- */

bool core_refusal(int rc)
{
    return rc == TSR_ENOTLEADER || rc == TSR_EBUSY || rc == TSR_ECONFLICT || rc == TSR_EINVAL ||
           rc == TSR_ENOENT;
}

static bool core_ready(const struct core *core)
{
    return !core->vote_wanted && !core->running && core->failed == 0 && list_empty(&core->events);
}

bool core_can_submit(const struct core *core)
{
    return core->raft.state == RAFT_LEADER && core->leader_index &&
           core->raft.leader_state.transferee == 0 && core_ready(core);
}

int core_submit(struct core *core, uint64_t now_ms, struct payload *payload, uint64_t *index_out)
{
    if (!core_can_submit(core)) {
        return core->raft.state == RAFT_LEADER ? TSR_EBUSY : TSR_ENOTLEADER;
    }
    core_clock(core, now_ms);
    int rv = submit_entry(core, RAFT_COMMAND, payload);
    if (rv != 0) {
        return rv == RAFT_NOTLEADER ? TSR_ENOTLEADER : core_fail(core, TSR_ENOMEM, "submit");
    }
    *index_out = entries_last(&core->log);
    payload_unref(payload); /* the log has its own */
    return core_events(core, now_ms);
}

int core_change(struct core *core, uint64_t now_ms, const struct conf *next, uint64_t *index_out)
{
    bool committed = core->leader_index && core->commit >= core->leader_index;
    int rc = core_ready(core) ? guard_change(&core->raft, &core->conf, next, committed) : TSR_EBUSY;
    if (rc) {
        return rc;
    }
    struct raft_configuration conf;
    struct raft_buffer bytes;
    raft_configuration_init(&conf);
    for (unsigned i = 0; i < next->count && rc == 0; i++) {
        const struct consensus_member *m = &next->members[i];
        rc = raft_configuration_add(&conf, m->id, m->address, (int)m->role);
    }
    if (rc == 0) {
        rc = raft_configuration_encode(&conf, &bytes);
    }
    raft_configuration_close(&conf);
    if (rc) {
        return TSR_EINVAL;
    }
    struct payload *p = payload_new(bytes.base, bytes.len);
    raft_free(bytes.base);
    if (!p) {
        return core_fail(core, TSR_ENOMEM, "change");
    }
    core_clock(core, now_ms);
    int rv = submit_entry(core, RAFT_CHANGE, p);
    payload_unref(p);
    if (rv != 0) {
        return rv == RAFT_NOTLEADER    ? TSR_ENOTLEADER
               : rv == RAFT_CANTCHANGE ? TSR_EBUSY
                                       : core_fail(core, TSR_EINTERNAL, "change");
    }
    *index_out = entries_last(&core->log);
    return core_events(core, now_ms);
}

int core_catch_up(struct core *core, uint64_t now_ms, uint64_t id)
{
    if (!core_ready(core)) {
        return TSR_EBUSY;
    }
    int rc = guard_catch_up(&core->raft, id, entries_last(&core->log));
    if (rc) {
        return rc;
    }
    struct raft_event re = {.type = RAFT_CATCH_UP, .catch_up.server_id = id};
    struct core_step step = {0};
    core_clock(core, now_ms);
    if (core_step(core, &re, &step) != 0) {
        return core_fail(core, TSR_EINTERNAL, "catch-up step");
    }
    return core_events(core, now_ms);
}

int core_transfer(struct core *core, uint64_t now_ms, uint64_t id)
{
    if (core->raft.state != RAFT_LEADER) {
        return TSR_ENOTLEADER;
    }
    if (!core_ready(core) || core->raft.leader_state.transferee != 0 ||
        core->raft.configuration_uncommitted_index != 0) {
        return TSR_EBUSY;
    }
    struct raft_event re = {.type = RAFT_TRANSFER, .transfer.server_id = id};
    struct core_step step = {0};
    core_clock(core, now_ms);
    int rv = core_step(core, &re, &step);
    if (rv != 0) {
        return rv == RAFT_NOTLEADER                      ? TSR_ENOTLEADER
               : rv == RAFT_NOTFOUND || rv == RAFT_BADID ? TSR_ENOENT
                                                         : core_fail(core, TSR_ENOMEM, "transfer");
    }
    return core_events(core, now_ms);
}
