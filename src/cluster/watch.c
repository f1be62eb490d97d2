/* What is true but not fatal: slow disks and hosts, clocks that differ, leadership that goes to and
 * fro, certificates that end, hosts that were removed and run on.
 *
 * Each host puts what it knows of itself into its report; the leader adds what only it can compare
 * (watch_note, watch_duty) and hands the reports round; watch_warnings makes sentences of them, on
 * any host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum {
    SKEW_MS = 2000,       /* clocks that differ by more are named */
    BEHIND_MS = 3000,     /* what was committed so long ago should be applied everywhere */
    FLAPPING_MS = 600000, /* more than FLAPPING_CHANGES changes of leader within it */
    FLAPPING_CHANGES = 3,
    CERT_SOON_DAYS = 30,
    CERT_NOW_DAYS = 7,
    DAY_S = 86400,
    LEADERLESS_ASK_MS = 3000, /* no leader for so long: ask another host whether this one belongs */
};

_Static_assert(FLAPPING_CHANGES + 1 == WATCH_CHANGES, "the ring holds the changes that count");

/* --- this host
 * ---------------------------------------------------------------------------------- */

void watch_publish(struct cluster *c, const struct consensus_status *st)
{
    struct watch *w = &c->watch;
    if (st->leader != 0 && st->term != w->term) {
        w->term = st->term;
        w->changes[w->change++ % WATCH_CHANGES] = cluster_now(c);
    }
    if (st->leader != 0 || w->leader_ms == 0) {
        w->leader_ms = cluster_now(c);
    }
}

static bool flapping(struct cluster *c)
{
    const struct watch *w = &c->watch;
    uint64_t oldest = w->changes[w->change % WATCH_CHANGES];
    return w->change >= WATCH_CHANGES && cluster_now(c) - oldest < FLAPPING_MS;
}

void watch_report(struct cluster *c, json_t *report)
{
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    json_set_int(report, "raft_id", (int64_t)st->self);
    json_set_int(report, "sync_ms", (int64_t)st->sync_ms);
    reach_report(c, report);
    json_set_int(report, "wall_us", loop_wall_us(c->o.loop));
    if (c->o.cert_expires_s > 0) {
        json_set_int(report, "cert_expires_at", c->o.cert_expires_s);
    }
    free(st);
}

/* Whom a host without a leader asks whether it belongs to the cluster: another one each time. */
uint64_t watch_ask(struct cluster *c)
{
    struct watch *w = &c->watch;
    if (cluster_now(c) - w->leader_ms < LEADERLESS_ASK_MS) {
        return 0;
    }
    json_t *hosts = hosts_read(c);
    size_t n = json_array_size(hosts);
    uint64_t id = 0;
    for (size_t i = 0; i < n && (id == 0 || id == c->o.self); i++) {
        const json_t *h = json_array_get(hosts, w->asked++ % n);
        id = hosts_left(h) ? 0 : (uint64_t)json_int(h, "id", 0);
    }
    json_decref(hosts);
    return id == c->o.self ? 0 : id;
}

void watch_answered(struct cluster *c, int status)
{
    if (status == TSR_EFORBIDDEN && !c->watch.removed) {
        log_error("cluster",
                  "this host was removed from the cluster, or came back with the disk of "
                  "an earlier incarnation: empty its data_dir and join again");
    }
    if (status == 0 || status == TSR_EFORBIDDEN) {
        c->watch.removed = status == TSR_EFORBIDDEN;
    }
}

/* --- the leader, of another
 * --------------------------------------------------------------------- */

/* A host that left, or an incarnation that was replaced, has no say; any host can tell it. */
bool watch_belongs(struct cluster *c, uint64_t host, const json_t *report)
{
    uint64_t raft_id = (uint64_t)json_int(report, "raft_id", 0);
    json_t *hosts = hosts_read(c), *h;
    bool known = false, good = true;
    size_t i;
    json_array_foreach(hosts, i, h)
    {
        if ((uint64_t)json_int(h, "id", 0) == host) {
            known = true;
            good =
                !hosts_left(h) && (raft_id == 0 || raft_id >= (uint64_t)json_int(h, "raft_id", 0));
        }
    }
    json_decref(hosts);
    return !known || good;
}

void watch_note(struct cluster *c, const json_t *before, json_t *report)
{
    static const char *const judged[] = {"behind", "unreachable",
                                         "twice"}; /* until it is looked at again */
    for (size_t i = 0; i < array_len(judged); i++) {
        json_set_bool(report, judged[i], json_bool(before, judged[i], false));
    }
    int64_t wall_us = json_int(report, "wall_us", 0);
    int64_t skew_ms = (wall_us - loop_wall_us(c->o.loop)) / 1000;
    if (wall_us > 0 && (skew_ms > SKEW_MS || skew_ms < -SKEW_MS)) {
        json_set_int(report, "clock_skew_ms", skew_ms);
    }
}

/* Which hosts answer, but have not applied what was committed a while ago. */
void watch_duty(struct cluster *c)
{
    struct watch *w = &c->watch;
    uint64_t now = cluster_now(c);
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    if (now - w->commit_ms >= BEHIND_MS) {
        w->commit_before = now - w->commit_ms < 2 * (uint64_t)BEHIND_MS ? w->commit : 0;
        w->commit = st->commit_index;
        w->commit_ms = now;
    }
    free(st);
    for (size_t i = 0; i < c->seen_count; i++) {
        struct host_seen *s = &c->seen[i];
        if (s->report != NULL) {
            json_set_bool(s->report, "behind",
                          health_fresh(c, s->id) &&
                              (uint64_t)json_int(s->report, "applied", 0) < w->commit_before);
            json_set_bool(s->report, "twice", life_twice(c, s->id));
        }
    }
}

/* --- sentences
 * ---------------------------------------------------------------------------------- */

static void warn_host(struct cluster *c, json_t *list, const json_t *host)
{
    const json_t *report = json_obj(host, "report");
    const char *name = json_str_or(host, "name", "?");
    int64_t sync_ms = json_int(report, "sync_ms", 0);
    if (sync_ms >= SYNC_SLOW_MS) {
        status_warn(list, "FSYNC_SLOW", "writes to the log of host %s take %lld ms", name,
                    (long long)sync_ms);
    }
    if (json_bool(report, "behind", false)) {
        status_warn(list, "HOST_SLOW", "host %s answers, but is more than %d s behind", name,
                    BEHIND_MS / 1000);
    }
    int64_t skew_ms = json_int(report, "clock_skew_ms", 0);
    if (skew_ms != 0) {
        status_warn(list, "CLOCK_SKEW", "the clock of host %s is %lld.%lld s %s the leader's", name,
                    llabs(skew_ms) / 1000, llabs(skew_ms) % 1000 / 100,
                    skew_ms > 0 ? "before" : "behind");
    }
    if (json_bool(report, "unreachable", false)) {
        status_warn(list, "API_UNREACHABLE",
                    "the other hosts can not connect to the API of host %s", name);
    }
    if (json_bool(report, "twice", false)) {
        status_warn(
            list, "HOST_TWICE",
            "a second process runs, or ran just now, with the identity of host %s: a copy of"
            " its data_dir was started; it is refused",
            name);
    }
    int64_t expires = json_int(report, "cert_expires_at", 0);
    int64_t days = (expires - loop_wall_us(c->o.loop) / 1000000) / DAY_S;
    if (expires > 0 && days < CERT_SOON_DAYS) {
        status_warn(list, "CERT_EXPIRES", "the certificate of host %s ends in %lld days%s", name,
                    (long long)days, days < CERT_NOW_DAYS ? ": renew it now" : "");
    }
}

void watch_warnings(struct cluster *c, json_t *list, const json_t *hosts)
{
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        const json_t *host = json_array_get(hosts, i);
        if (strcmp(json_str_or(host, "state", ""), "up") == 0) {
            warn_host(c, list, host);
        }
    }
    if (flapping(c)) {
        status_warn(list, "LEADER_FLAPPING", "more than %d changes of leader within %d minutes",
                    FLAPPING_CHANGES, FLAPPING_MS / 60000);
    }
    if (c->watch.removed) {
        status_warn(list, "HOST_REMOVED",
                    "this host was removed, or has the disk of an earlier "
                    "incarnation: empty its data_dir and join again");
    }
}
