/* Membership of the consensus group follows the hosts' records: the leader adds a host that was
 * recorded, promotes it while voters are wanted, replaces a voter that is lost by a standby, and
 * removes those that left or came back under a new incarnation. One change at a time; each look at
 * the duty does the next step, which voters.c names. */
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

struct change {
    struct cluster *c;
    uint64_t id;
    const char *what;
};

static void changed(void *arg, int status)
{
    struct change *ch = arg;
    struct cluster *c = ch->c;
    log_write(status == 0 ? LOG_INFO : LOG_WARN, "cluster",
              "member %s host=%llu incarnation=%llu status=%s", ch->what,
              (unsigned long long)(ch->id >> 16), (unsigned long long)(ch->id & 0xffff),
              status == 0 ? "done" : err_name(status));
    c->changing_members = false;
    free(ch);
    planner_want(c); /* a host more or less to place images on */
    cluster_kick(c);
    cluster_unpend(c);
}

static struct change *change_new(struct cluster *c, uint64_t id, const char *what)
{
    struct change *ch = malloc(sizeof(*ch));
    tsr_assert(ch != NULL);
    *ch = (struct change){c, id, what};
    c->changing_members = true;
    c->pending++;
    return ch;
}

/* It did not begin: nothing will call back. */
static void change_begun(struct change *ch, int rv)
{
    if (rv != 0) {
        ch->c->changing_members = false;
        cluster_unpend(ch->c);
        free(ch);
    }
}

size_t members_view(struct cluster *c, const struct consensus_status *st, json_t *hosts,
                    struct voters_member out[MEMBERS_MAX])
{
    for (unsigned i = 0; i < st->member_count; i++) {
        uint64_t id = st->members[i].id;
        json_t *host = hosts_by_raft_id(hosts, id);
        struct host_seen *seen = health_seen(c, id >> 16);
        uint64_t since = seen == NULL ? 0 : seen->report_ms != 0 ? seen->report_ms : seen->first_ms;
        bool self = id == st->self, fresh = host != NULL && health_fresh(c, id >> 16);
        bool down = host != NULL && strcmp(json_str_or(host, "state", ""), "down") == 0;
        bool early = host != NULL && seen != NULL && seen->report_ms == 0 &&
                     cluster_now(c) - seen->first_ms < c->o.suspect_ms &&
                     strcmp(json_str_or(host, "state", ""), "up") == 0;
        out[i] = (struct voters_member){
            .id = id,
            .role = st->members[i].role,
            .self = self,
            .recorded = host != NULL,
            .image = host != NULL && hosts_have_role(host, "image"),
            .fresh = fresh,
            .likely = fresh || early,
            .lost = !self && down && seen != NULL && cluster_now(c) - since > c->o.repair_after_ms,
        };
    }
    return st->member_count;
}

/* A host that is recorded but unknown to the group is added, without a vote. */
static bool add_one(struct cluster *c, const struct voters_member *members, size_t count,
                    json_t *hosts)
{
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        uint64_t id = (uint64_t)json_int(h, "raft_id", 0);
        const char *address = json_str(h, "raft_address");
        size_t m = 0;
        while (m < count && members[m].id != id) {
            m++;
        }
        if (id == 0 || address == NULL || m < count || hosts_left(h)) {
            continue;
        }
        struct change *ch = change_new(c, id, "added");
        change_begun(ch, consensus_member_add(c->o.consensus, id, address, changed, ch));
        return true;
    }
    return false;
}

static void take(struct cluster *c, struct voters_change change)
{
    static const char *const names[] = {"", "removed", "promoted", "demoted"};
    if (change.step == VOTERS_NOTHING) {
        return;
    }
    struct change *ch = change_new(c, change.id, names[change.step]);
    int rv = change.step == VOTERS_REMOVE
                 ? consensus_member_remove(c->o.consensus, change.id, changed, ch)
                 : consensus_member_role(c->o.consensus, change.id,
                                         change.step == VOTERS_PROMOTE ? CONSENSUS_VOTER
                                                                       : CONSENSUS_STANDBY,
                                         changed, ch);
    change_begun(ch, rv);
}

void members_duty(struct cluster *c)
{
    if (c->changing_members) {
        return;
    }
    json_t *hosts = hosts_read(c);
    if (json_array_size(hosts) == 0) { /* not formed, or not readable now */
        json_decref(hosts);
        return;
    }
    struct consensus_status *st = malloc(sizeof(*st));
    struct voters_member *members = calloc(MEMBERS_MAX, sizeof(*members));
    tsr_assert(st != NULL && members != NULL);
    consensus_status(c->o.consensus, st);
    size_t count = members_view(c, st, hosts, members);
    struct voters_change change = voters_next(members, count, hosts_count(hosts));
    if (change.step == VOTERS_REMOVE || !add_one(c, members, count, hosts)) {
        take(c, change);
    }
    handover_duty(c, st, members, count, hosts);
    free(members);
    free(st);
    json_decref(hosts);
}
