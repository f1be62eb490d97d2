/* Membership of the consensus group follows the hosts' records: the leader adds a host that was
 * recorded, promotes it while voters are wanted, and removes those that left or came back under a
 * new incarnation. One change at a time; each look at the duty does the next step. */
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

/* 1, 2 (with a warning: none may fail), 3, 3, 5, 5, ... */
unsigned members_voters_wanted(unsigned hosts)
{
    if (hosts <= 3) {
        return hosts;
    }
    return hosts >= VOTERS_MAX ? VOTERS_MAX : 3;
}

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

static void change_refused(struct change *ch)
{
    ch->c->changing_members = false;
    cluster_unpend(ch->c);
    free(ch);
}

static const struct consensus_member *member_of(const struct consensus_status *st, uint64_t id)
{
    for (unsigned i = 0; i < st->member_count; i++) {
        if (st->members[i].id == id) {
            return &st->members[i];
        }
    }
    return NULL;
}

static bool recorded(json_t *hosts, uint64_t raft_id)
{
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        if ((uint64_t)json_int(h, "raft_id", 0) == raft_id &&
            strcmp(json_str_or(h, "state", ""), "left") != 0) {
            return true;
        }
    }
    return false;
}

/* Step 1: who is no longer recorded goes. */
static bool remove_one(struct cluster *c, const struct consensus_status *st, json_t *hosts)
{
    for (unsigned i = 0; i < st->member_count; i++) {
        uint64_t id = st->members[i].id;
        if (recorded(hosts, id) || id == st->self) {
            continue;
        }
        struct change *ch = change_new(c, id, "removed");
        if (consensus_member_remove(c->o.consensus, id, changed, ch) != 0) {
            change_refused(ch);
        }
        return true;
    }
    return false;
}

/* Step 2: who is recorded but unknown to the group is added, without a vote. */
static bool add_one(struct cluster *c, const struct consensus_status *st, json_t *hosts)
{
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        uint64_t id = (uint64_t)json_int(h, "raft_id", 0);
        const char *address = json_str(h, "raft_address");
        if (id == 0 || address == NULL || member_of(st, id) != NULL ||
            strcmp(json_str_or(h, "state", ""), "left") == 0) {
            continue;
        }
        struct change *ch = change_new(c, id, "added");
        if (consensus_member_add(c->o.consensus, id, address, changed, ch) != 0) {
            change_refused(ch);
        }
        return true;
    }
    return false;
}

/* Step 3: standbys that answer are promoted while voters are wanted. */
static bool promote_one(struct cluster *c, const struct consensus_status *st, json_t *hosts)
{
    unsigned live = 0, voters = 0;
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        live += strcmp(json_str_or(h, "state", ""), "left") != 0;
    }
    for (unsigned m = 0; m < st->member_count; m++) {
        voters += st->members[m].role == CONSENSUS_VOTER;
    }
    if (voters >= members_voters_wanted(live)) {
        return false;
    }
    for (unsigned m = 0; m < st->member_count; m++) {
        uint64_t id = st->members[m].id;
        if (st->members[m].role == CONSENSUS_VOTER || !recorded(hosts, id) ||
            !health_fresh(c, id >> 16)) {
            continue;
        }
        struct change *ch = change_new(c, id, "promoted");
        if (consensus_member_role(c->o.consensus, id, CONSENSUS_VOTER, changed, ch) != 0) {
            change_refused(ch);
        }
        return true;
    }
    return false;
}

/* Step 4: after a removal there may be a voter too many (5 hosts become 4: 3 voters); one that does
 * not answer goes first. */
static bool demote_one(struct cluster *c, const struct consensus_status *st, json_t *hosts)
{
    unsigned live = 0, voters = 0;
    uint64_t chosen = 0;
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        live += strcmp(json_str_or(h, "state", ""), "left") != 0;
    }
    for (unsigned m = 0; m < st->member_count; m++) {
        uint64_t id = st->members[m].id;
        if (st->members[m].role != CONSENSUS_VOTER) {
            continue;
        }
        voters++;
        if (id != st->self && (chosen == 0 || health_fresh(c, chosen >> 16))) {
            chosen = id;
        }
    }
    if (voters <= members_voters_wanted(live) || chosen == 0) {
        return false;
    }
    struct change *ch = change_new(c, chosen, "demoted");
    if (consensus_member_role(c->o.consensus, chosen, CONSENSUS_STANDBY, changed, ch) != 0) {
        change_refused(ch);
    }
    return true;
}

void members_duty(struct cluster *c)
{
    if (c->changing_members) {
        return;
    }
    struct meta_view *view = NULL;
    json_t *hosts = NULL;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return;
    }
    int rv = meta_host_list(view, &hosts);
    meta_view_close(view);
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    if (rv == 0 && json_array_size(hosts) > 0 && !remove_one(c, st, hosts) &&
        !add_one(c, st, hosts) && !promote_one(c, st, hosts)) {
        (void)demote_one(c, st, hosts);
    }
    free(st);
    json_decref(hosts);
}

/* --- operators
 * ---------------------------------------------------------------------------------------- */

static void transferred(void *arg, int status)
{
    struct cluster_op *op = arg;
    struct cluster *c = op->c;
    if (status == 0) {
        op_done(op, 0, json_object(), NULL);
    } else {
        op_fail(op, status, "leadership was not handed over");
    }
    cluster_unpend(c);
}

void members_op_transfer(struct cluster_op *op)
{
    struct cluster *c = op->c;
    c->pending++;
    int rv = consensus_transfer(c->o.consensus, 0, transferred, op);
    if (rv != 0) {
        op_fail(op, rv, "leadership can not be handed over now");
        cluster_unpend(c);
    }
}

static void host_removed(struct cluster *c, void *arg, int status, json_t *result,
                         const struct err *err)
{
    op_done(arg, status, json_incref(result), err);
    planner_want(c);
    cluster_kick(c);
}

/* A host that is gone for good: it must be down, so that nobody removes a working one by mistake.
 */
void members_op_remove(struct cluster_op *op)
{
    struct cluster *c = op->c;
    const char *name = json_str_or(op->args, "host", "");
    bool force = json_bool(op->args, "force", false);
    struct meta_view *view = NULL;
    json_t *hosts = NULL, *h;
    uint64_t id = 0;
    if (meta_view_open(c->o.meta, &view) == 0) {
        (void)meta_host_list(view, &hosts);
        meta_view_close(view);
    }
    size_t i;
    json_array_foreach(hosts, i, h)
    {
        if (strcmp(json_str_or(h, "name", ""), name) == 0 &&
            strcmp(json_str_or(h, "state", ""), "left") != 0) {
            id = (uint64_t)json_int(h, "id", 0);
        }
    }
    json_decref(hosts);
    if (id == 0) {
        op_fail(op, TSR_ENOENT, "no host is named %s", name);
    } else if (id == c->o.self) {
        op_fail(op, TSR_ECONFLICT, "this host leads: hand over leadership first");
    } else if (!force && health_fresh(c, id)) {
        op_fail(op, TSR_ECONFLICT, "host %s is up: stop it first, or use --force", name);
    } else {
        cluster_submit(c, json_pack("{s:s,s:I}", "op", "host.remove", "id", (json_int_t)id),
                       host_removed, op);
    }
}
