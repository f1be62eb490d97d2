/* What operators ask of hosts: hand over leadership, give a host a role, remove one.
 *
 * Removal and change of role run on the leader, in steps: a host that holds the admin endpoint
 * gives it up first; a leader that is to go hands over leadership, and the host that leads then
 * gets the same request. Each step that can not be done yet is tried again until the deadline. */
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum {
    ROLE_DEADLINE_MS = 7500, /* below the time that a host waits for an answer of the leader */
    RETRY_MS = 100,
    HOP_MS = 7000,
};

/* --- transfer of leadership
 * ----------------------------------------------------------------------------- */

static void transferred(void *arg, int status)
{
    struct cluster_op *op = arg;
    struct cluster *c = op->c;
    if (status == 0) {
        op_done(op, 0, json_object(), NULL);
    } else {
        op_fail(op, status,
                status == TSR_ETIMEOUT
                    ? "the other host did not take over in time; this one leads on"
                    : "leadership was not handed over");
    }
    cluster_unpend(c);
}

/* Args: host (name), or none: the one that is furthest. */
void host_op_transfer(struct cluster_op *op)
{
    struct cluster *c = op->c;
    const char *name = json_str(op->args, "host");
    uint64_t to = 0;
    if (name != NULL) {
        json_t *hosts = hosts_read(c), *host = hosts_by_name(hosts, name);
        uint64_t id = (uint64_t)json_int(host, "id", 0);
        to = (uint64_t)json_int(host, "raft_id", 0);
        json_decref(hosts);
        if (to == 0) {
            op_fail(op, TSR_ENOENT, "no host is named %s", name);
            return;
        }
        if (id == c->o.self) {
            op_fail(op, TSR_ECONFLICT, "host %s leads already", name);
            return;
        }
        if (!health_fresh(c, id)) {
            op_fail(op, TSR_EUNAVAILABLE, "host %s does not answer", name);
            return;
        }
    }
    c->pending++;
    int rv = consensus_transfer(c->o.consensus, to, transferred, op);
    if (rv != 0) {
        op_fail(op, rv,
                rv == TSR_ENOENT ? "that host has no vote: it can not lead"
                                 : "leadership can not be handed over now");
        cluster_unpend(c);
    }
}

/* --- removal, roles
 * ------------------------------------------------------------------------------------- */

struct departure {
    struct cluster_op *op;
    struct timer timer;
    uint64_t deadline_ms, host;
    const char *method; /* to pass on */
    const char *role;   /* the new one, or NULL: removal */
};

static void step(struct departure *d);

static void depart_end(struct departure *d, int status, json_t *result, const struct err *err)
{
    struct cluster *c = d->op->c;
    timer_stop(&d->timer);
    op_done(d->op, status, result, err);
    free(d);
    planner_want(c);
    cluster_kick(c);
    cluster_unpend(c);
}

static void depart_fail(struct departure *d, int status, const char *text)
{
    struct err err = {.code = status};
    (void)err_set(&err, status, "%s", text);
    depart_end(d, status, NULL, &err);
}

/* The next look, or the end when the time is over. */
static void again(struct departure *d, int status, const char *why)
{
    if (cluster_now(d->op->c) >= d->deadline_ms || d->op->c->closing) {
        depart_fail(d, status, why);
        return;
    }
    timer_start(&d->timer, RETRY_MS);
}

static void on_depart_timer(struct timer *t)
{
    step(container_of(t, struct departure, timer));
}

static void recorded(struct cluster *c, void *arg, int status, json_t *result,
                     const struct err *err)
{
    (void)c;
    depart_end(arg, status, json_incref(result), err);
}

static void record(struct departure *d)
{
    json_t *command = d->role == NULL
                          ? json_pack("{s:s,s:I}", "op", "host.remove", "id", (json_int_t)d->host)
                          : json_pack("{s:s,s:I,s:{s:[s]}}", "op", "host.update", "id",
                                      (json_int_t)d->host, "set", "roles", d->role);
    cluster_submit(d->op->c, command, recorded, d);
}

static void endpoint_moved(struct cluster_op *op, int status, json_t *result, const struct err *err)
{
    struct departure *d = op->arg;
    (void)result;
    if (status == 0) {
        step(d);
    } else {
        again(d, status, err->msg[0] != '\0' ? err->msg : "the admin endpoint was not moved");
    }
}

static void move_endpoint(struct departure *d)
{
    struct cluster_op *op = calloc(1, sizeof(*op));
    tsr_assert(op != NULL);
    *op = (struct cluster_op){.c = d->op->c,
                              .args = json_object(),
                              .from = d->op->c->o.self,
                              .done = endpoint_moved,
                              .arg = d};
    lease_op_move(op);
}

static void passed_on(struct cluster *c, void *arg, int status, json_t *result)
{
    struct departure *d = arg;
    (void)c;
    if (status == TSR_ENOTLEADER) { /* elected, but not ready yet */
        again(d, status, "no host leads at the moment");
        return;
    }
    const char *message = json_str(result, "error");
    if (status != 0) {
        depart_fail(d, status, message != NULL ? message : "the new leader did not answer");
    } else {
        depart_end(d, 0, json_incref(result), NULL);
    }
}

/* This host led when the request came, and does not any more. */
static void pass_on(struct departure *d)
{
    struct cluster *c = d->op->c;
    uint64_t leader = cluster_leader_host(c);
    if (leader == 0 || leader == c->o.self) {
        again(d, TSR_ENOTLEADER, "no host leads at the moment");
        return;
    }
    cluster_peer(c, leader, PEER_CONTROL,
                 json_pack("{s:s,s:O}", "method", d->method, "args", d->op->args), HOP_MS,
                 passed_on, d);
}

static void handed_over(void *arg, int status)
{
    struct departure *d = arg;
    if (status != 0) {
        again(d, status, "this host leads, and no other takes over");
    } else {
        step(d);
    }
}

static uint64_t endpoint_holder(struct cluster *c)
{
    struct meta_view *view = NULL;
    json_t *endpoint = NULL;
    uint64_t host = 0;
    if (meta_view_open(c->o.meta, &view) == 0) {
        if (meta_endpoint_get(view, &endpoint) == 0) {
            host = (uint64_t)json_int(endpoint, "host", 0);
        }
        meta_view_close(view);
    }
    json_decref(endpoint);
    return host;
}

static void step(struct departure *d)
{
    struct cluster *c = d->op->c;
    bool holder = endpoint_holder(c) == d->host;
    if (!c->leader) {
        pass_on(d);
    } else if (holder && (d->role == NULL || strcmp(d->role, "image") != 0)) {
        move_endpoint(d);
    } else if (d->host == c->o.self && d->role == NULL) {
        int rv = consensus_transfer(c->o.consensus, 0, handed_over, d);
        if (rv != 0) {
            again(d, rv, "this host leads, and no other can take over");
        }
    } else {
        record(d);
    }
}

static void depart(struct cluster_op *op, uint64_t host, const char *method, const char *role)
{
    struct departure *d = calloc(1, sizeof(*d));
    tsr_assert(d != NULL);
    d->op = op;
    d->host = host;
    d->method = method;
    d->role = role;
    d->deadline_ms = cluster_now(op->c) + ROLE_DEADLINE_MS;
    timer_init(&d->timer, op->c->o.loop, on_depart_timer);
    op->c->pending++;
    step(d);
}

/* Whether a majority of voters would still answer; no vote of the host's own: true. */
static bool majority_without(struct cluster *c, json_t *hosts, uint64_t raft_id)
{
    struct consensus_status *st = malloc(sizeof(*st));
    struct voters_member *members = calloc(MEMBERS_MAX, sizeof(*members));
    tsr_assert(st != NULL && members != NULL);
    consensus_status(c->o.consensus, st);
    size_t count = members_view(c, st, hosts, members);
    bool good = voters_majority_without(members, count, raft_id);
    free(members);
    free(st);
    return good;
}

/* A host that is gone for good. One that is up is removed only with force, so that nobody takes a
 * working one out by mistake; and never one without which nothing could be changed any more. */
void host_op_remove(struct cluster_op *op)
{
    struct cluster *c = op->c;
    const char *name = json_str_or(op->args, "host", "");
    bool force = json_bool(op->args, "force", false);
    json_t *hosts = hosts_read(c), *host = hosts_by_name(hosts, name);
    uint64_t id = (uint64_t)json_int(host, "id", 0),
             raft_id = (uint64_t)json_int(host, "raft_id", 0);
    bool last_image = hosts_have_role(host, "image") && hosts_with_role(hosts, "image") == 1;
    bool majority = majority_without(c, hosts, raft_id);
    json_decref(hosts);
    if (id == 0) {
        op_fail(op, TSR_ENOENT, "no host is named %s", name);
    } else if (!force && health_fresh(c, id)) {
        op_fail(op, TSR_ECONFLICT, "host %s is up: stop it first, or use --force", name);
    } else if (last_image) {
        op_fail(op, TSR_ECONFLICT, "host %s is the only one that stores images", name);
    } else if (!majority) {
        op_fail(op, TSR_ECONFLICT,
                "without host %s no majority of voters would be up: start or remove the hosts that "
                "are down first",
                name);
    } else {
        depart(op, id, "host.remove", NULL);
    }
}

/* Args: host, role: "image" (stores images) or "witness" (votes, stores none). */
void host_op_role(struct cluster_op *op)
{
    struct cluster *c = op->c;
    const char *name = json_str_or(op->args, "host", ""),
               *asked = json_str_or(op->args, "role", "");
    const char *role = hosts_role_known(asked);
    json_t *hosts = hosts_read(c), *host = hosts_by_name(hosts, name);
    uint64_t id = (uint64_t)json_int(host, "id", 0);
    bool same = role != NULL && hosts_have_role(host, role);
    bool last_image = hosts_have_role(host, "image") && hosts_with_role(hosts, "image") == 1;
    json_decref(hosts);
    struct host_seen *seen = health_seen(c, id);
    json_t *report = seen != NULL ? seen->report : NULL;
    int64_t replicas =
        json_int(report, "replicas_present", 0) + json_int(report, "replicas_missing", 0);
    if (role == NULL) {
        op_fail(op, TSR_EINVAL, "a host's role is image or witness");
    } else if (id == 0) {
        op_fail(op, TSR_ENOENT, "no host is named %s", name);
    } else if (same) {
        op_done(op, 0, json_object(), NULL);
    } else if (last_image) {
        op_fail(op, TSR_ECONFLICT, "host %s is the only one that stores images", name);
    } else if (strcmp(role, "witness") == 0 && (!health_fresh(c, id) || report == NULL)) {
        op_fail(op, TSR_EUNAVAILABLE, "host %s does not say what it stores", name);
    } else if (strcmp(role, "witness") == 0 && replicas > 0) {
        op_fail(op, TSR_ECONFLICT,
                "host %s holds %lld replicas: remove it, empty its data_dir, and join it again as "
                "a witness",
                name, (long long)replicas);
    } else {
        depart(op, id, "host.role", role);
    }
}
