/* One process for one identity.
 *
 * A data directory that was copied, or put back as it was a while ago, makes a second process under
 * the same host id and incarnation, with the same certificate: nothing that it shows tells it from
 * the right one. So each process tells of its life (peer.h) in the hello of its consensus links and
 * in its reports and renewals. The leader remembers whose reports it takes, and hands that round
 * with the reports, so that every host can judge a hello:
 *
 *   its mark is known                                 the same process: fine
 *   as few starts as were seen, or fewer              OLD: a copy, or an older state of the disk
 *   its log ends before what that host had applied    OLD: the same, whatever its starts say
 *   more starts, but the other was heard just now     LIVE: both run
 *   more starts                                       it was started again
 *
 * Only the leader takes over a new life, from a report: two followers hardly talk to each other,
 * and would take a copy for the right one. A process that ends closes its connections, so a quick
 * restart is not taken for a second process; and where that is not seen, only a process that is
 * heard after its successor was refused makes two of them. A follower hears the others through the
 * leader, which says how long ago each reported: its word for an old report does not count twice.
 *
 * Who is refused as OLD can not vouch for its log: it notes that and asks to rejoin as any host
 * with a damaged log (rejoin.c), which is answered once no other process of that host reports. Who
 * is refused as LIVE for GIVE_UP_MS ends: a person must say which of the two is right. What is
 * remembered is lost when a process ends; then the other hosts remember. */
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum {
    ALIVE_MS = 2000,    /* so long after it was heard a process is taken to be alive, at the most */
    ANSWER_MS = 1000,   /* so late may the leader's word come */
    GIVE_UP_MS = 3000,  /* refused as LIVE for so long, with no gap of AGAIN_MS */
    AGAIN_MS = 2000,    /* refusals further apart are of two occasions */
    ASK_GAP_MS = 500,   /* a report so long after an ask to rejoin is of another process */
    TELL_MS = 60 * 1000 /* how long `status` shows it */
};

static struct life *life_of(struct cluster *c, uint64_t host)
{
    for (size_t i = 0; i < c->life_count; i++) {
        if (c->lives[i].raft_id >> 16 == host) {
            return &c->lives[i];
        }
    }
    if (c->life_count == CLUSTER_HOSTS_MAX) {
        return NULL;
    }
    struct life *l = &c->lives[c->life_count++];
    *l = (struct life){.raft_id = host << 16};
    return l;
}

static void tell(struct cluster *c, struct life *l, const char *what)
{
    uint64_t now = cluster_now(c);
    if (l->twice_ms == 0 || now - l->twice_ms > TELL_MS) {
        log_error("cluster", "HOST_TWICE: a second process of host=%llu incarnation=%llu: %s",
                  (unsigned long long)(l->raft_id >> 16), (unsigned long long)(l->raft_id & 0xffff),
                  what);
    }
    l->twice_ms = now;
}

/* 0 also where nothing is known of that incarnation: those are told apart elsewhere. */
static int judge(struct cluster *c, struct life *l, uint64_t raft_id, const struct peer_life *told,
                 bool live)
{
    if (raft_id != l->raft_id || l->mark == 0 || l->mark == told->mark) {
        return 0;
    }
    if (told->starts <= l->starts || told->log_end < l->applied) {
        tell(c, l, "it runs on a copy, or on an older state, of the disk: refused");
        return TSR_ECORRUPT;
    }
    uint64_t now = cluster_now(c);
    uint64_t alive_ms = c->o.suspect_ms < ALIVE_MS ? c->o.suspect_ms : ALIVE_MS;
    bool heard = l->heard_ms != 0 && now - l->heard_ms < alive_ms;
    if (!live && !heard) {
        return 0;
    }
    if (l->live_mark != told->mark) { /* it may just have been started again */
        l->live_mark = told->mark;
        l->live_since_ms = now;
    } else if ((heard && l->heard_ms > l->live_since_ms + ANSWER_MS) ||
               (live && now - l->live_since_ms >= ALIVE_MS)) {
        tell(c, l, "the other one is alive: refused");
    }
    return TSR_EEXIST;
}

int cluster_admit(struct cluster *c, uint64_t raft_id, const struct peer_life *life, bool live)
{
    struct life *l = life->mark != 0 ? life_of(c, raft_id >> 16) : NULL;
    return l != NULL ? judge(c, l, raft_id, life, live) : 0;
}

/* A process that ends closes its connections: its successor need not wait. */
void cluster_disconnected(struct cluster *c, uint64_t raft_id)
{
    struct life *l = life_of(c, raft_id >> 16);
    atomic_store(&c->a_parted_ms, cluster_now(c));
    if (l != NULL && l->raft_id == raft_id) {
        l->heard_ms = 0;
        l->gone_ms = cluster_now(c);
    }
}

/* --- in reports and renewals --------------------------------------------------------------------
 */

void life_tell(struct cluster *c, json_t *args)
{
    if (c->o.life.mark != 0) {
        json_set_int(args, "raft_id", (int64_t)c->o.raft_id);
        json_set_int(args, "life", (int64_t)c->o.life.mark);
        json_set_int(args, "starts", (int64_t)c->o.life.starts);
        json_set_int(args, "log_end", (int64_t)c->o.life.log_end);
    }
}

static struct peer_life told_in(const json_t *args)
{
    return (struct peer_life){.mark = (uint64_t)json_int(args, "life", 0),
                              .starts = (uint64_t)json_int(args, "starts", 0),
                              .log_end = (uint64_t)json_int(args, "log_end", 0)};
}

/* The leader took that report, @heard_ms ago on our clock; 0: not known when. */
static void take(struct life *l, uint64_t raft_id, const json_t *report, uint64_t heard_ms)
{
    struct peer_life told = told_in(report);
    uint64_t applied = (uint64_t)json_int(report, "applied", 0);
    if (raft_id > l->raft_id) {
        *l = (struct life){.raft_id = raft_id};
    }
    l->mark = told.mark;
    l->starts = told.starts;
    l->applied = applied > l->applied ? applied : l->applied;
    l->heard_ms = heard_ms;
}

bool life_refuses(struct cluster_op *op)
{
    struct cluster *c = op->c;
    uint64_t raft_id = (uint64_t)json_int(op->args, "raft_id", 0);
    struct peer_life told = told_in(op->args);
    struct life *l =
        told.mark != 0 && c->leader && op->from != c->o.self && raft_id >> 16 == op->from
            ? life_of(c, op->from)
            : NULL;
    if (l == NULL || raft_id < l->raft_id) {
        return false;
    }
    int rv = judge(c, l, raft_id, &told, false);
    if (rv == 0) {
        take(l, raft_id, op->args, cluster_now(c));
        return false;
    }
    op_fail(op, rv, "%s",
            rv == TSR_EEXIST ? "another process of this host is alive"
                             : "this host has an older state of its disk, or a copy");
    return true;
}

/* When a report that is @age_ms old came, as far as it tells that its sender lives. */
static uint64_t heard_at(struct cluster *c, const struct life *l, int64_t age_ms)
{
    uint64_t now = cluster_now(c);
    if (age_ms < 0 || (uint64_t)age_ms >= now) {
        return 0;
    }
    uint64_t heard_ms = now - (uint64_t)age_ms;
    return l->gone_ms != 0 && heard_ms <= l->gone_ms + ANSWER_MS ? 0 : heard_ms;
}

void life_learn(struct cluster *c, uint64_t host, bool up, int64_t age_ms, const json_t *report)
{
    uint64_t raft_id = (uint64_t)json_int(report, "raft_id", 0);
    struct peer_life told = told_in(report);
    struct life *l = told.mark != 0 && host != c->o.self && up ? life_of(c, host) : NULL;
    if (l != NULL && raft_id >> 16 == host && raft_id >= l->raft_id &&
        (raft_id > l->raft_id || told.starts >= l->starts)) {
        take(l, raft_id, report, heard_at(c, l, age_ms));
    }
}

bool life_rejoin_refused(struct cluster *c, uint64_t host)
{
    struct life *l = life_of(c, host);
    struct host_seen *s = health_seen(c, host);
    uint64_t now = cluster_now(c);
    if (l == NULL || s == NULL || !health_fresh(c, host)) {
        return false;
    }
    if (l->asked_ms == 0 || now - l->asked_ms > 2 * (uint64_t)c->o.suspect_ms + TELL_MS) {
        l->asked_ms = now;
    }
    if (s->report_ms > l->asked_ms + ASK_GAP_MS) {
        tell(c, l, "it asks to rejoin while the other one is alive");
    }
    return true;
}

/* --- this process is refused --------------------------------------------------------------------
 */

void cluster_life_refused(struct cluster *c, int code)
{
    uint64_t now = cluster_now(c);
    if (code == TSR_ECORRUPT && c->o.on_rebuild != NULL) {
        c->o.on_rebuild(c->o.arg, "HOST_TWICE",
                        "this data_dir is a copy, or an older state, of one that has run since");
    } else if (code == TSR_EEXIST && c->o.on_twice != NULL) {
        if (c->refused_ms == 0 || now - c->refused_ms > AGAIN_MS) {
            c->refused_since_ms = now;
        }
        c->refused_ms = now;
        if (now - c->refused_since_ms >= GIVE_UP_MS) {
            c->o.on_twice(c->o.arg);
        }
    }
}

/* --- status -------------------------------------------------------------------------------------
 */

static bool seen_twice(struct cluster *c, const struct life *l)
{
    return l->twice_ms != 0 && cluster_now(c) - l->twice_ms < TELL_MS;
}

void life_report(struct cluster *c, json_t *report)
{
    json_t *hosts = json_array();
    for (size_t i = 0; i < c->life_count; i++) {
        if (seen_twice(c, &c->lives[i])) {
            json_array_append_new(hosts, json_integer((json_int_t)(c->lives[i].raft_id >> 16)));
        }
    }
    if (json_array_size(hosts) > 0) {
        json_object_set(report, "seen_twice", hosts);
    }
    json_decref(hosts);
}

bool life_twice(struct cluster *c, uint64_t host)
{
    for (size_t i = 0; i < c->seen_count; i++) {
        const struct host_seen *s = &c->seen[i];
        size_t k;
        json_t *id;
        json_array_foreach(json_arr(s->report, "seen_twice"), k, id)
        {
            if ((uint64_t)json_integer_value(id) == host && health_fresh(c, s->id)) {
                return true;
            }
        }
    }
    return false;
}
