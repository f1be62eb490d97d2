/* Start, and the leader's own requests: their refusals are not final. */
#include "consensus/core_private.h"

#include <stdlib.h>
#include <string.h>

/* --- start ------------------------------------------------------------------------------------ */

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

/* --- the leader's part ------------------------------------------------------------------------ */

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
    int rv = core_submit_entry(core, RAFT_COMMAND, payload);
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
    int rv = core_submit_entry(core, RAFT_CHANGE, p);
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
