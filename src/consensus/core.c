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

/* --- life ------------------------------------------------------------------------------------- */

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
    core_heap();
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

/* --- events ----------------------------------------------------------------------------------- */

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

static void core_run(struct core *core)
{
    tsr_assert(!core->running);
    core->running = true;
    while (!core->vote_wanted && core->failed == 0 && !list_empty(&core->events)) {
        struct core_event *ev = container_of(list_pop(&core->events), struct core_event, link);
        core_give(core, ev);
        event_free(ev);
    }
    core->running = false;
}

void core_clock(struct core *core, uint64_t now_ms)
{
    if (now_ms > core->now_ms) {
        core->now_ms = now_ms;
    }
}

int core_events(struct core *core, uint64_t now_ms)
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

/* --- the log on disk -------------------------------------------------------------------------- */

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
#ifdef TSR_BREAK_GUARD_R9
        reached = e->index <= entries_last(&core->log) ? e->index : 0;
#endif
    }
#ifndef TSR_BREAK_GUARD_R9
    /* What the next write removes again is not durable, even if the same entry came back. */
    if (core->truncate && reached >= core->truncate) {
        reached = core->truncate - 1;
    }
#endif
    core_write_free(w);
    if (reached > core->durable) {
        core->durable = reached;
        push_event(core, EVENT_WRITTEN);
    }
    return core_events(core, now_ms);
}

/* --- snapshots -------------------------------------------------------------------------------- */

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
