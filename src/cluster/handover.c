/* The leader looks whether another host should lead: it is a witness itself, its log's disk is slow
 * while another's is not, or it does not belong to the cluster any more. It hands over to a voter
 * that reported lately and holds all that is committed; such a one is looked for at every duty, and
 * a try that failed is not repeated for a while, so that leadership does not go to and fro. */
#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum {
    HANDOVER_PAUSE_MS = 5000,       /* after a try */
    HANDOVER_SLOW_PAUSE_MS = 30000, /* after one for a slow disk */
    SLOW_FOR_MS = 1000,             /* a disk that was slow once is not slow */
    SLOWER_TIMES = 4,               /* than the disk of the host that takes over */
};

static uint64_t sync_ms_of(struct cluster *c, uint64_t host)
{
    struct host_seen *seen = health_seen(c, host);
    return seen != NULL && seen->report != NULL ? (uint64_t)json_int(seen->report, "sync_ms", 0)
                                                : 0;
}

/* The best voter to take over, 0 = none: @faster_ms > 0 asks for a disk that is so fast. */
static uint64_t successor(struct cluster *c, const struct consensus_status *st,
                          const struct voters_member *members, size_t count, uint64_t faster_ms)
{
    uint64_t best = 0, best_index = 0;
    for (size_t i = 0; i < count; i++) {
        const struct voters_member *m = &members[i];
        if (m->self || !m->recorded || !m->fresh || !m->image || m->role != CONSENSUS_VOTER ||
            st->match[i] < st->commit_index) {
            continue;
        }
        if (faster_ms > 0 && sync_ms_of(c, m->id >> 16) * SLOWER_TIMES > faster_ms) {
            continue;
        }
        struct host_seen *seen = health_seen(c, m->id >> 16);
        if (seen != NULL && json_bool(seen->report, "draining", false)) {
            continue;
        }
        if (best == 0 || st->match[i] > best_index) {
            best = m->id;
            best_index = st->match[i];
        }
    }
    return best;
}

static void handed_over(void *arg, int status)
{
    struct cluster *c = arg;
    if (status != 0) {
        log_warn("cluster", "leadership not handed over code=%s", err_name(status));
    }
    c->handing_over = false;
    cluster_unpend(c);
}

static void hand_over(struct cluster *c, uint64_t to, const char *why)
{
    c->handing_over = true;
    c->pending++;
    if (consensus_transfer(c->o.consensus, to, handed_over, c) != 0) {
        c->handing_over = false;
        cluster_unpend(c);
        return;
    }
    log_info("cluster", "leadership handed to host %llu: %s", (unsigned long long)(to >> 16), why);
}

void handover_duty(struct cluster *c, const struct consensus_status *st,
                   const struct voters_member *members, size_t count, json_t *hosts)
{
    uint64_t now = cluster_now(c), own_ms = sync_ms_of(c, c->o.self);
    json_t *self = hosts_by_raft_id(hosts, st->self);
    const char *why = NULL;
    bool slow = false;
    c->slow_since_ms = own_ms < SYNC_SLOW_MS ? 0 : c->slow_since_ms != 0 ? c->slow_since_ms : now;
    if (c->handing_over || c->changing_members || now < c->handover_next_ms) {
        return;
    }
    if (self == NULL) {
        why = "this host was removed";
    } else if (!hosts_have_role(self, "image")) {
        why = "this host is a witness";
    } else if (c->slow_since_ms != 0 && now - c->slow_since_ms >= SLOW_FOR_MS) {
        why = "the disk of this host's log is slow";
        slow = true;
    }
    uint64_t to = why != NULL ? successor(c, st, members, count, slow ? own_ms : 0) : 0;
    if (to != 0) {
        c->handover_next_ms = now + (slow ? HANDOVER_SLOW_PAUSE_MS : HANDOVER_PAUSE_MS);
        hand_over(c, to, why);
    }
}
