/* Outgoing messages: held while a vote is being written, appends cut to the follower's window.
 *
 * libraft counts entries in flight, not bytes, and takes every append as sent whole. So each
 * follower has a flow: the range that libraft wants sent and that has not left yet. It is sent on
 * as soon as replies make room in the byte window, or a CHANGE in it became durable here (R11).
 * When libraft goes back (a refusal, or a follower that was silent), the flow starts again from
 * there. */
#include <stdlib.h>
#include <string.h>

#include "consensus/core_private.h"
#include "tessera/base/assert.h"

enum { FLOW_ENTRIES_MAX = 512 }; /* in one message */

/* --- sending, or holding back ----------------------------------------------------------------- */

static void held_free(struct core_held *h)
{
    if (h->m.kind == MESSAGE_APPEND) {
        for (unsigned i = 0; i < h->m.append.count; i++) {
            payload_unref(h->payloads[i]);
        }
        free(h->payloads);
        free(h->m.append.entries);
    }
    free(h);
}

static void core_hold(struct core *core, uint64_t to, const struct message *m,
                      struct payload *const *payloads)
{
    struct core_held *h = calloc(1, sizeof *h);
    if (!h) {
        return; /* as good as lost on the way */
    }
    h->to = to;
    h->m = *m;
    if (m->kind == MESSAGE_APPEND && m->append.count) {
        size_t n = m->append.count;
        h->payloads = calloc(n, sizeof *h->payloads);
        h->m.append.entries = calloc(n, sizeof *h->m.append.entries);
        if (!h->payloads || !h->m.append.entries) {
            h->m.append.count = 0;
            held_free(h);
            return;
        }
        memcpy(h->m.append.entries, m->append.entries, n * sizeof *m->append.entries);
        for (size_t i = 0; i < n; i++) {
            h->payloads[i] = payload_ref(payloads[i]);
        }
    }
    list_push(&core->held, &h->link);
}

void core_emit(struct core *core, uint64_t to, const struct message *m,
               struct payload *const *payloads)
{
    if (to == 0 || to == core->options.self || core->failed) {
        return; /* R10: a forgotten leader leaves replies addressed to nobody */
    }
    if (core->vote_wanted) {
        core_hold(core, to, m, payloads);
    } else {
        core->options.send(core->options.arg, to, m);
    }
}

void core_release_held(struct core *core)
{
    struct list *link;
    while ((link = list_pop(&core->held))) {
        struct core_held *h = container_of(link, struct core_held, link);
        core->options.send(core->options.arg, h->to, &h->m);
        held_free(h);
    }
}

void core_drop_held(struct core *core)
{
    struct list *link;
    while ((link = list_pop(&core->held))) {
        held_free(container_of(link, struct core_held, link));
    }
}

/* --- flows ------------------------------------------------------------------------------------ */

void flow_reset(struct core *core)
{
    core->flow_count = 0;
}

static struct flow *flow_find(struct core *core, uint64_t id)
{
    for (unsigned i = 0; i < core->flow_count; i++) {
        if (core->flows[i].id == id) {
            return &core->flows[i];
        }
    }
    return NULL;
}

static struct flow *flow_make(struct core *core, uint64_t id)
{
    if (core->flow_count == MEMBERS_MAX) { /* members came and went: forget the first that left */
        for (unsigned i = 0; i < core->flow_count; i++) {
            if (!conf_find(&core->conf, core->flows[i].id)) {
                core->flows[i] = (struct flow){.id = id};
                return &core->flows[i];
            }
        }
        return NULL;
    }
    core->flows[core->flow_count] = (struct flow){.id = id};
    return &core->flows[core->flow_count++];
}

static void flow_send(struct core *core, uint64_t to, uint64_t prev, unsigned count)
{
    struct message_entry entries[FLOW_ENTRIES_MAX];
    struct payload *payloads[FLOW_ENTRIES_MAX];
    struct message m = {.kind = MESSAGE_APPEND};
    m.append.version = 0; /* as MESSAGE__APPEND_ENTRIES_VERSION of libraft */
    m.append.term = core->raft.current_term;
    m.append.prev_index = prev;
    m.append.prev_term = prev ? core_term_of(core, prev) : 0;
    m.append.commit = core->commit;
    if (prev && m.append.prev_term == 0) {
        return; /* cut meanwhile: libraft will ask for a snapshot */
    }
    for (unsigned i = 0; i < count; i++) {
        const struct entry *e = entries_get(&core->log, prev + 1 + i);
        tsr_assert(e);
        entries[i] = (struct message_entry){
            .term = e->term, .type = e->type, .data = e->payload->data, .size = e->payload->size};
        payloads[i] = e->payload;
    }
    m.append.count = count;
    m.append.entries = entries;
    struct flow *flow = flow_find(core, to);
    if (flow) {
        flow->told = core->commit < prev + count ? core->commit : prev + count;
    }
    core_emit(core, to, &m, payloads);
}

/* How many entries from flow->next on may leave in one message now. */
static unsigned flow_room(const struct core *core, const struct flow *flow, uint64_t match)
{
    uint64_t from = match + 1 > core->log.first ? match + 1 : core->log.first;
    uint64_t flying = flow->next > from ? core_bytes(core, from, flow->next - 1) : 0;
    uint64_t size = 0;
    unsigned count = 0;
    for (uint64_t i = flow->next; i <= flow->end && count < FLOW_ENTRIES_MAX; i++) {
        const struct entry *e = entries_get(&core->log, i);
#ifdef TSR_BREAK_GUARD_R11
        bool hold = false;
#else
        bool hold = e && e->type == ENTRY_CHANGE && i > core->durable;
#endif
        if (!e || hold) {
            break;
        }
        uint64_t bytes = core_bytes(core, i, i);
        bool first = count == 0 && flying == 0;
        if (!first && flying + size + bytes > core->options.window_bytes) {
            break;
        }
        if (count && size + bytes > MESSAGE_SPLIT) {
            break;
        }
        size += bytes;
        count++;
    }
    return count;
}

static unsigned flow_push(struct core *core, struct flow *flow)
{
    unsigned sent = 0;
    raft_index match = 0;
    if (raft_match_index(&core->raft, flow->id, &match) != 0) {
        flow->end = flow->next - 1;
        return 0;
    }
    if (flow->next <= match && flow->next <= flow->end) {
        flow->next = match + 1 <= flow->end ? match + 1 : flow->end + 1;
    }
    while (flow->next <= flow->end) {
        unsigned count = flow_room(core, flow, match);
        if (count == 0) {
            break;
        }
        flow_send(core, flow->id, flow->next - 1, count);
        flow->next += count;
        sent++;
    }
    return sent;
}

/* libraft wants prev + 1 .. prev + n sent (n may be 0: a heartbeat). */
void flow_append(struct core *core, const struct raft_message *rm)
{
    uint64_t prev = rm->append_entries.prev_log_index;
    unsigned n = rm->append_entries.n_entries;
    struct flow *flow = flow_find(core, rm->server_id);
    if (!flow) {
        flow = flow_make(core, rm->server_id);
        if (!flow) {
            return;
        }
        flow->next = prev + 1;
        flow->end = prev;
    }
    bool waiting = flow->next <= flow->end;
    if (n == 0) {
        /* A heartbeat must not stand on entries that have not left; but when the log was cut below
         * them, the follower waits for a snapshot and libraft knows better. */
        if (waiting && prev >= flow->next) {
            if (flow->next == 1 || core_term_of(core, flow->next - 1)) {
                prev = flow->next - 1;
            } else {
                flow->next = prev + 1;
                flow->end = prev;
            }
        }
        flow_send(core, flow->id, prev, 0);
        return;
    }
    if (!(waiting && prev == flow->end)) {
        flow->next = prev + 1;
    }
    flow->end = prev + n;
    if (flow_push(core, flow) == 0) {
        flow_send(core, flow->id, flow->next - 1, 0);
    }
}

void flow_flush(struct core *core, uint64_t id)
{
    if (core->raft.state != RAFT_LEADER) {
        return;
    }
    for (unsigned i = 0; i < core->flow_count; i++) {
        struct flow *flow = &core->flows[i];
        if ((id == 0 || flow->id == id) && flow->next <= flow->end) {
            flow_push(core, flow);
        }
    }
}

/* libraft lets followers learn of a commit with the next append only, up to a heartbeat later; a
 * host that forwarded a command, or reads, waits for it. */
void core_tell_commit(struct core *core)
{
    if (core->raft.state != RAFT_LEADER || core->vote_wanted || core->failed) {
        return;
    }
    for (unsigned i = 0; i < core->flow_count; i++) {
        struct flow *flow = &core->flows[i];
        uint64_t match = core_match(core, flow->id);
        uint64_t useful = core->commit < match ? core->commit : match;
        if (useful > flow->told && core_term_of(core, match)) {
            flow_send(core, flow->id, match, 0);
        }
    }
}
