/* What must hold of the logs of all hosts, looked at every 20 virtual ms (Raft, figure 3):
 *
 * Log matching: one index and term is one payload, on all hosts, ever.
 * Committed entries never change: whatever host says that an index is committed means one term.
 * Leader completeness: who leads in a newer term than anybody before has all committed entries.
 * Durable on a majority: what a leader says is committed is on the disks of most voters. */
#include <stdlib.h>

#include "consensus/host.h"
#include "tessera/base/digest.h"
#include "world.h"

enum { TERMS_MAX = 12 };

struct logged {
    uint64_t term[TERMS_MAX];
    uint32_t crc[TERMS_MAX];
    unsigned count;
    uint64_t committed; /* its term; 0: not yet */
};

struct logs {
    struct logged at[SIM_INDEX_MAX];
    uint64_t committed; /* the highest index that any host says is */
    uint64_t led;       /* the highest term in which a host was seen to lead */
    struct {
        unsigned life;
        uint64_t index, term; /* looked at up to here */
        uint64_t commit, durable;
        uint64_t raft_id; /* of what is durable */
    } of[SIM_HOSTS_MAX + 1];
};

static const struct core *core_of(const struct sim_host *h)
{
    return h->consensus->core;
}

static void look_at_entry(struct sim_host *h, uint64_t index)
{
    const struct entry *e = core_entry(core_of(h), index);
    struct logged *l = &h->w->logs->at[index];
    uint32_t crc = crc32c(e->type, e->payload->data, e->payload->size);
    for (unsigned i = 0; i < l->count; i++) {
        if (l->term[i] == e->term) {
            if (l->crc[i] != crc) {
                world_fail(h->w, "host %u has another entry at index %llu, term %llu", h->n,
                           (unsigned long long)index, (unsigned long long)e->term);
            }
            return;
        }
    }
    if (l->count < TERMS_MAX) {
        l->term[l->count] = e->term;
        l->crc[l->count++] = crc;
    }
}

/* What is new since the last look; all, if the end of that was replaced. */
static void look_at_entries(struct sim_host *h)
{
    struct logs *logs = h->w->logs;
    const struct core *core = core_of(h);
    uint64_t from = core_first_index(core), last = core_last_index(core);
    if (last >= SIM_INDEX_MAX) {
        world_fail(h->w, "host %u: the log is at %llu", h->n, (unsigned long long)last);
    }
    if (logs->of[h->n].index >= from && logs->of[h->n].index <= last &&
        core_term_of(core, logs->of[h->n].index) == logs->of[h->n].term) {
        from = logs->of[h->n].index + 1;
    }
    for (uint64_t i = from; i <= last; i++) {
        look_at_entry(h, i);
    }
    logs->of[h->n].index = last;
    logs->of[h->n].term = last >= core_first_index(core) ? core_term_of(core, last) : 0;
}

static void look_at_commit(struct sim_host *h)
{
    struct logs *logs = h->w->logs;
    const struct core *core = core_of(h);
    uint64_t commit = core_commit(core), last = core_last_index(core);
    commit = commit < last ? commit : last;
    for (uint64_t i = logs->of[h->n].commit + 1; i <= commit; i++) {
        uint64_t term = core_term_of(core, i);
        if (term != 0 && logs->at[i].committed != 0 && logs->at[i].committed != term) {
            world_fail(h->w, "index %llu was committed with term %llu; on host %u with term %llu",
                       (unsigned long long)i, (unsigned long long)logs->at[i].committed, h->n,
                       (unsigned long long)term);
        }
        logs->at[i].committed = term != 0 ? term : logs->at[i].committed;
    }
    logs->of[h->n].commit = commit;
    logs->committed = logs->committed > commit ? logs->committed : commit;
}

/* Its term is the newest, so all that is committed was committed before it was elected. */
static void look_at_new_leader(struct sim_host *h)
{
    struct logs *logs = h->w->logs;
    const struct core *core = core_of(h);
    if (core_last_index(core) < logs->committed) {
        world_fail(h->w, "host %u leads in term %llu with a log up to %llu; committed is %llu",
                   h->n, (unsigned long long)core_term(core),
                   (unsigned long long)core_last_index(core), (unsigned long long)logs->committed);
    }
    for (uint64_t i = core_first_index(core); i <= logs->committed; i++) {
        if (logs->at[i].committed != 0 && core_term_of(core, i) != logs->at[i].committed) {
            world_fail(h->w, "host %u leads in term %llu without the committed entry %llu", h->n,
                       (unsigned long long)core_term(core), (unsigned long long)i);
        }
    }
}

/* A log that was damaged does not count against the leader, but it does not count for it, too. */
static void look_at_majority(struct sim_host *h)
{
    struct world *w = h->w;
    const struct core *core = core_of(h);
    const struct conf *conf = core_conf(core);
    uint64_t commit = core_commit(core);
    unsigned voters = 0, have = 0;
    if (w->damaged != 0) {
        return;
    }
    for (unsigned i = 0; i < conf->count; i++) {
        uint64_t id = conf->members[i].id;
        const struct sim_host *v = &w->hosts[id >> 16];
        if (conf->members[i].role != CONSENSUS_VOTER) {
            continue;
        }
        voters++;
        if (v->raft_id != id || v->failing || v->log_full) {
            have++; /* nobody can say */
        } else if (!v->up) {
            have += w->logs->of[v->n].durable >= commit;
        } else {
            have += core_durable(core_of(v)) >= commit || core_snapshot_index(core_of(v)) >= commit;
        }
    }
    if (have <= voters / 2) {
        world_fail(w, "host %u: %llu is committed, but durable on %u of %u voters", h->n,
                   (unsigned long long)commit, have, voters);
    }
}

void check_logs(struct world *w)
{
    if (w->logs == NULL) {
        w->logs = calloc(1, sizeof(*w->logs));
        tsr_assert(w->logs != NULL);
    }
    uint64_t newest = w->logs->led;
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (!h->up || h->fatal) {
            continue;
        }
        if (w->logs->of[n].life != h->life) {
            w->logs->of[n].life = h->life;
            w->logs->of[n].index = w->logs->of[n].commit = 0;
        }
        bool leads = core_state(core_of(h)) == CONSENSUS_LEADER;
        if (leads && core_term(core_of(h)) > newest) {
            newest = core_term(core_of(h));
            look_at_new_leader(h);
        }
        look_at_entries(h);
        look_at_commit(h);
        if (leads) {
            look_at_majority(h);
        }
    }
    w->logs->led = newest;
}

uint64_t check_log_committed(const struct world *w)
{
    return w->logs != NULL ? w->logs->committed : 0;
}

void check_log_crashed(struct sim_host *h)
{
    if (h->w->logs != NULL) {
        h->w->logs->of[h->n].durable = core_durable(core_of(h));
        h->w->logs->of[h->n].raft_id = h->raft_id;
    }
}

/* After a power cut the high-water mark may be an older one: then damage to the last entries can
 * look like a torn tail. Without a power cut, or when all reached the disk, it can not. */
void check_log_started(struct sim_host *h)
{
    const struct logs *logs = h->w->logs;
    bool exact = h->last_crash == SIM_FS_KILL || h->last_crash == SIM_FS_KEEP;
    if (logs == NULL || logs->of[h->n].raft_id != h->raft_id || (h->rotten && !exact)) {
        return;
    }
    uint64_t was = logs->of[h->n].durable, is = core_durable(core_of(h));
    if (is < was && core_snapshot_index(core_of(h)) < was) {
        world_fail(h->w, "host %u starts with entries up to %llu; durable were %llu", h->n,
                   (unsigned long long)is, (unsigned long long)was);
    }
}
