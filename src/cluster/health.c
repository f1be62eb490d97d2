/* How the hosts are: each host reports to the leader twice a second; the leader judges and records
 * up and down in the log, and answers with what it knows of all hosts, so that every host can place
 * uploads and order its sources by fresh facts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

struct host_seen *health_seen(struct cluster *c, uint64_t id)
{
    for (size_t i = 0; i < c->seen_count; i++) {
        if (c->seen[i].id == id) {
            return &c->seen[i];
        }
    }
    if (c->seen_count == CLUSTER_HOSTS_MAX) {
        return NULL;
    }
    struct host_seen *s = &c->seen[c->seen_count++];
    *s = (struct host_seen){.id = id, .first_ms = cluster_now(c)};
    return s;
}

bool health_fresh(struct cluster *c, uint64_t id)
{
    if (id == c->o.self) {
        return true;
    }
    struct host_seen *s = health_seen(c, id);
    return s != NULL && s->report_ms != 0 && cluster_now(c) - s->report_ms < c->o.suspect_ms;
}

/* --- this host's own report
 * --------------------------------------------------------------------------- */

static json_t *make_report(struct cluster *c)
{
    json_t *r = json_object();
    tsr_assert(r != NULL);
    struct chunks_stats stats = {.total_bytes = -1, .available_bytes = -1};
    if (c->o.chunks != NULL) {
        chunks_stats(c->o.chunks, &stats);
    }
    json_set_int(r, "total_bytes", stats.total_bytes);
    json_set_int(r, "available_bytes", stats.available_bytes);
    json_set_int(r, "chunks", (int64_t)stats.chunk_count);
    json_set_int(r, "manifests", (int64_t)stats.manifest_count);
    json_set_int(r, "bad_chunks", (int64_t)stats.bad_count);
    json_set_int(r, "applied", (int64_t)consensus_applied(c->o.consensus));
    json_set_int(r, "damaged_records", (int64_t)meta_damaged(c->o.meta));
    json_set_str(r, "version", c->o.version);
    json_set_bool(r, "draining", c->draining);
    watch_report(c, r);
    life_tell(c, r);
    life_report(c, r);
    rejoin_report(c, r);
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    room_report(c, st, r);
    free(st);
    if (c->o.replicator != NULL && *c->o.replicator != NULL) {
        struct replicator_stats rs;
        replicator_stats(*c->o.replicator, &rs);
        json_set_int(r, "replicas_missing", (int64_t)rs.missing);
        json_set_int(r, "replicas_present", (int64_t)rs.present);
    }
    return r;
}

/* How long ago it reported to this leader; -1: never. */
static int64_t report_age_ms(struct cluster *c, uint64_t id)
{
    const struct host_seen *s = health_seen(c, id);
    return s != NULL && s->report_ms != 0 ? (int64_t)(cluster_now(c) - s->report_ms) : -1;
}

/* The leader's table of hosts, as an answer to a report. */
static json_t *make_table(struct cluster *c)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t n = health_hosts(c, hosts);
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *h = json_object();
        json_set_int(h, "id", (int64_t)hosts[i].id);
        json_set_str(h, "zone", hosts[i].zone);
        json_set_bool(h, "up", hosts[i].up);
        json_set_bool(h, "image", hosts[i].image_role);
        json_set_int(h, "available", hosts[i].available_bytes);
        json_set_int(h, "total", hosts[i].total_bytes);
        json_set_int(h, "weight", hosts[i].weight);
        json_set_int(h, "age_ms", report_age_ms(c, hosts[i].id));
        json_array_append_new(array, h);
    }
    json_t *out = json_object(), *reports = json_object();
    for (size_t i = 0; i < c->seen_count; i++) {
        char id[24];
        (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)c->seen[i].id);
        json_object_set(reports, id, c->seen[i].report);
    }
    json_object_set_new(out, "hosts", array);
    json_object_set_new(out, "reports", reports);
    return out;
}

/* For `status` from this host: what the others reported, as the leader knows it. */
static void take_reports(struct cluster *c, json_t *reports)
{
    const char *id;
    json_t *report;
    json_object_foreach(reports, id, report)
    {
        struct host_seen *s = health_seen(c, strtoull(id, NULL, 10));
        if (s != NULL && !c->leader) {
            json_decref(s->report);
            s->report = json_incref(report);
        }
    }
    if (!c->leader) {
        atomic_store(&c->a_cut, reach_cut(c, c->o.self));
    }
}

/* Whose reports the leader takes, and hears at the moment. */
static void learn_lives(struct cluster *c, json_t *table)
{
    size_t i;
    json_t *h;
    json_array_foreach(json_arr(table, "hosts"), i, h)
    {
        uint64_t id = (uint64_t)json_int(h, "id", 0);
        struct host_seen *s = health_seen(c, id);
        if (s != NULL && !c->leader) {
            life_learn(c, id, json_bool(h, "up", false), json_int(h, "age_ms", 0), s->report);
        }
    }
}

static void take_table(struct cluster *c, json_t *table)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t n = 0, i;
    json_t *h;
    json_array_foreach(json_arr(table, "hosts"), i, h)
    {
        if (n == CLUSTER_HOSTS_MAX) {
            break;
        }
        struct placement_host *p = &hosts[n++];
        memset(p, 0, sizeof(*p));
        p->id = (uint64_t)json_int(h, "id", 0);
        (void)str_copy(p->zone, sizeof(p->zone), json_str_or(h, "zone", ""));
        p->up = json_bool(h, "up", false);
        p->image_role = json_bool(h, "image", false);
        p->available_bytes = json_int(h, "available", -1);
        p->total_bytes = json_int(h, "total", -1);
        p->weight = (unsigned)json_int(h, "weight", 100);
    }
    if (n > 0) {
        cluster_load_set(c->o.load, hosts, n);
    }
}

static void report_done(struct cluster *c, void *arg, int status, json_t *result)
{
    (void)arg;
    c->report_pending = false;
    watch_answered(c, status);
    cluster_life_refused(c, status);
    if (status == 0 && result != NULL) {
        take_table(c, result);
        take_reports(c, json_obj(result, "reports"));
        learn_lives(c, result);
        room_answered(c, result);
        rejoin_answered(c, result);
    }
}

/* Without a leader's word this host still knows the records: good enough to order sources. */
static void load_from_store(struct cluster *c)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t n = health_hosts(c, hosts);
    if (n > 0) {
        cluster_load_set(c->o.load, hosts, n);
    }
}

static void note_report(struct cluster *c, uint64_t from, json_t *report)
{
    struct host_seen *s = health_seen(c, from);
    if (s == NULL) {
        return;
    }
    s->report_ms = cluster_now(c);
    watch_note(c, s->report, report);
    json_decref(s->report);
    s->report = json_incref(report);
    rejoin_heard(c, s);
}

void health_report(struct cluster *c)
{
    json_t *report = make_report(c);
    if (c->leader) {
        note_report(c, c->o.self, report);
        json_decref(report);
        load_from_store(c);
        return;
    }
    uint64_t leader = cluster_leader_host(c);
    leader = leader != 0 ? leader : watch_ask(c);
    if (leader == 0 || leader == c->o.self) {
        json_decref(report);
        load_from_store(c);
        return;
    }
    if (c->report_pending) {
        json_decref(report);
        return;
    }
    c->report_pending = true;
    cluster_peer(c, leader, PEER_REPORT, report, 1000, report_done, NULL);
}

void health_on_report(struct cluster_op *op)
{
    struct cluster *c = op->c;
    if (!watch_belongs(c, op->from, op->args)) {
        op_fail(op, TSR_EFORBIDDEN, "that host does not belong to the cluster any more");
        return;
    }
    if (life_refuses(op)) {
        return;
    }
    if (!c->leader) {
        op_fail(op, TSR_ENOTLEADER, "not the leader");
        return;
    }
    note_report(c, op->from, op->args);
    json_t *table = make_table(c);
    room_answer(c, table);
    struct host_seen *s = health_seen(c, op->from);
    if (s != NULL) {
        rejoin_answer(c, s, table);
    }
    op_done(op, 0, table, NULL);
}

/* --- the leader's judgement
 * ------------------------------------------------------------------------------- */

/* A new leader has no reports yet: until they must have come, the record counts. Else an upload in
 * these moments would see no host to store on but this one. */
static bool not_heard_yet(struct cluster *c, const struct host_seen *s)
{
    return s != NULL && s->report_ms == 0 && cluster_now(c) - s->first_ms < c->o.suspect_ms;
}

size_t health_hosts(struct cluster *c, struct placement_host out[CLUSTER_HOSTS_MAX])
{
    struct meta_view *view = NULL;
    json_t *list = NULL;
    size_t n = 0;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return 0;
    }
    int rv = meta_host_list(view, &list);
    meta_view_close(view);
    if (rv != 0) {
        return 0;
    }
    size_t i;
    json_t *h;
    json_array_foreach(list, i, h)
    {
        const char *state = json_str_or(h, "state", "down");
        if (n == CLUSTER_HOSTS_MAX || strcmp(state, "left") == 0) {
            continue;
        }
        struct placement_host *p = &out[n++];
        memset(p, 0, sizeof(*p));
        p->id = (uint64_t)json_int(h, "id", 0);
        (void)str_copy(p->zone, sizeof(p->zone), json_str_or(h, "zone", ""));
        p->image_role = hosts_have_role(h, "image");
        p->weight = (unsigned)json_int(h, "weight", 100);
        p->available_bytes = p->total_bytes = -1;
        p->up = strcmp(state, "up") == 0;
        if (c->leader) { /* reports are with the leader */
            struct host_seen *s = health_seen(c, p->id);
            uint64_t since = s == NULL ? 0 : s->report_ms != 0 ? s->report_ms : s->first_ms;
            p->lost = s != NULL && !p->up && p->id != c->o.self &&
                      cluster_now(c) - since > c->o.repair_after_ms;
            p->up = p->up && (health_fresh(c, p->id) || not_heard_yet(c, s));
            if (s != NULL && s->report != NULL) {
                p->available_bytes = json_int(s->report, "available_bytes", -1);
                p->total_bytes = json_int(s->report, "total_bytes", -1);
                p->up = p->up && !json_bool(s->report, "draining", false);
            }
        }
    }
    json_decref(list);
    return n;
}

static void set_state(struct cluster *c, struct host_seen *s, json_t *host, const char *state)
{
    uint64_t now = cluster_now(c);
    if (s->up_again_ms != 0 && now - s->up_again_ms < 1000) {
        return; /* the last command is still on its way */
    }
    s->up_again_ms = now;
    log_info("cluster", "host %s is %s", json_str_or(host, "name", "?"), state);
    cluster_submit(
        c, json_pack("{s:s,s:I,s:s}", "op", "host.state", "id", (json_int_t)s->id, "state", state),
        NULL, NULL);
    planner_want(c);
}

static void judge(struct cluster *c, json_t *host)
{
    uint64_t id = (uint64_t)json_int(host, "id", 0);
    const char *state = json_str_or(host, "state", "down");
    struct host_seen *s = health_seen(c, id);
    if (strcmp(state, "left") == 0) {
        planner_host_down(c, id); /* it may have been removed with an upload on its way */
        return;
    }
    if (s == NULL) {
        return;
    }
    uint64_t since = s->report_ms != 0 ? s->report_ms : s->first_ms;
    bool silent = id != c->o.self && cluster_now(c) - since > c->o.down_ms;
    bool up = strcmp(state, "up") == 0;
    if (up && silent) {
        set_state(c, s, host, "down");
    } else if (!up && health_fresh(c, id)) {
        set_state(c, s, host, "up");
    }
    if (!up && silent) {
        planner_host_down(c, id);
    }
}

void health_duty(struct cluster *c)
{
    struct meta_view *view = NULL;
    json_t *list = NULL;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return;
    }
    int rv = meta_host_list(view, &list);
    meta_view_close(view);
    if (rv != 0) {
        return;
    }
    size_t i;
    json_t *host;
    json_array_foreach(list, i, host)
    {
        judge(c, host);
    }
    json_decref(list);
}
