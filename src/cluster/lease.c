/* The admin endpoint: one host at a time, by a record {host, epoch} in the log and a lease.
 *
 * Holder: renews every LEASE_RENEW_MS with the leader; it holds the role only until LEASE_VALID_MS
 * after the moment at which the last answered renewal was SENT, on its own monotonic clock. Leader:
 * answers a renewal only after a majority has confirmed that it still leads, and grants the next
 * epoch only when LEASE_EXPIRY_MS have passed since it last answered (a new leader: since its
 * election, as it can not know what its predecessor answered). The second span covers the first
 * with a margin for drift, so at no time do two hosts hold the role. A planned move asks the holder
 * to give the role back first, then grants at once: no gap beyond one commit. Grants carry epoch +
 * 1 and are refused at apply when another came first. They also carry the leader's term and are
 * refused as entries of another: a grant that was decided by a leader which was then replaced, and
 * that reaches the log by way of the new one, would overlap with a lease which that one renewed. A
 * grant whose outcome is not known keeps all renewals refused until it is. */
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

_Static_assert((int)LEASE_EXPIRY_MS > (int)LEASE_VALID_MS + (int)LEASE_RENEW_MS / 2,
               "the leader must wait longer than the holder acts");

enum { AWAY_PAUSE_MS = 3000 };

static json_t *read_endpoint(struct cluster *c)
{
    struct meta_view *view = NULL;
    json_t *endpoint = NULL;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return NULL;
    }
    (void)meta_endpoint_get(view, &endpoint);
    meta_view_close(view);
    return endpoint;
}

/* --- the holder
 * ----------------------------------------------------------------------------------------- */

bool lease_held(struct cluster *c)
{
    return c->lease_sent_ms != 0 && cluster_now(c) < c->lease_sent_ms + LEASE_VALID_MS &&
           c->lease_epoch == atomic_load(&c->a_endpoint_epoch) &&
           c->o.self == atomic_load(&c->a_endpoint_host) && c->lease_epoch > c->released_epoch;
}

struct renewal {
    uint64_t sent_ms, epoch;
};

static void renewal_settle(struct cluster *c, struct renewal *r, int status)
{
    c->lease_pending = false;
    if (status == 0 && r->epoch > c->released_epoch) {
        c->lease_sent_ms = r->sent_ms;
        c->lease_epoch = r->epoch;
        atomic_store(&c->a_lease_until_ms, r->sent_ms + LEASE_VALID_MS);
        atomic_store(&c->a_endpoint, lease_held(c));
    }
    free(r);
}

static void renewal_answered(struct cluster *c, void *arg, int status, json_t *result)
{
    (void)result;
    renewal_settle(c, arg, status);
}

static void renewal_local(struct cluster_op *op, int status, json_t *result, const struct err *err)
{
    (void)result;
    (void)err;
    renewal_settle(op->c, op->arg, status);
}

void lease_renew(struct cluster *c)
{
    json_t *endpoint = read_endpoint(c);
    uint64_t holder = endpoint != NULL ? (uint64_t)json_int(endpoint, "host", 0) : 0;
    uint64_t epoch = endpoint != NULL ? (uint64_t)json_int(endpoint, "epoch", 0) : 0;
    json_decref(endpoint);
    uint64_t leader = cluster_leader_host(c);
    if (holder != c->o.self || epoch <= c->released_epoch || leader == 0 || c->lease_pending ||
        c->draining || c->closing) {
        return;
    }
    struct renewal *r = malloc(sizeof(*r));
    tsr_assert(r != NULL);
    *r = (struct renewal){.sent_ms = cluster_now(c), .epoch = epoch};
    json_t *args = json_pack("{s:I}", "epoch", (json_int_t)epoch);
    life_tell(c, args);
    c->lease_pending = true;
    if (leader != c->o.self) {
        cluster_peer(c, leader, PEER_LEASE, args, 1500, renewal_answered, r);
        return;
    }
    struct cluster_op *op = calloc(1, sizeof(*op));
    tsr_assert(op != NULL);
    *op = (struct cluster_op){
        .c = c, .args = args, .from = c->o.self, .done = renewal_local, .arg = r};
    lease_on_renew(op);
}

void lease_on_release(struct cluster_op *op)
{
    struct cluster *c = op->c;
    uint64_t epoch = (uint64_t)json_int(op->args, "epoch", 0);
    if (epoch > c->released_epoch) {
        c->released_epoch = epoch;
    }
    atomic_store(&c->a_endpoint, false);
    log_info("cluster", "admin endpoint given back epoch=%llu", (unsigned long long)epoch);
    op_done(op, 0, json_object(), NULL);
}

/* --- the leader
 * --------------------------------------------------------------------------------------------- */

struct confirm {
    struct consensus_read read;
    struct cluster_op *op;
};

static void confirm_cb(struct consensus_read *read, int status)
{
    struct confirm *f = read->arg;
    struct cluster_op *op = f->op;
    struct cluster *c = op->c;
    free(f);
    uint64_t epoch = (uint64_t)json_int(op->args, "epoch", 0);
    json_t *endpoint = read_endpoint(c);
    bool current = endpoint != NULL && (uint64_t)json_int(endpoint, "epoch", 0) == epoch &&
                   (uint64_t)json_int(endpoint, "host", 0) == op->from;
    json_decref(endpoint);
    if (status != 0 || !c->leader || !current || c->granting) {
        op_fail(op, status != 0 ? status : TSR_ECONFLICT, "not renewed");
        cluster_unpend(c);
        return;
    }
    c->lease_answered_ms = cluster_now(c);
    op_done(op, 0, json_object(), NULL);
    cluster_unpend(c);
}

void lease_on_renew(struct cluster_op *op)
{
    struct cluster *c = op->c;
    if (life_refuses(op)) {
        return;
    }
    struct confirm *f = calloc(1, sizeof(*f));
    tsr_assert(f != NULL);
    f->op = op;
    f->read.timeout_ms = 1000;
    f->read.cb = confirm_cb;
    f->read.arg = f;
    c->pending++;
    consensus_read_index(c->o.consensus, &f->read);
}

struct grant {
    struct cluster_op *op; /* whom to tell, or NULL */
    uint64_t term;
    json_t *command;
};

static bool undecided(int status)
{
    return status == TSR_ETIMEOUT || status == TSR_ENOQUORUM || status == TSR_EUNKNOWN;
}

static void granted(struct cluster *c, void *arg, int status, json_t *result, const struct err *err)
{
    struct grant *g = arg;
    bool same = c->leader && c->leader_term == g->term;
    if (same && undecided(status) && !c->closing) {
        cluster_submit(c, json_deep_copy(g->command), granted,
                       g); /* the epoch admits one of them */
        return;
    }
    if (same) {
        c->granting = false;
        c->lease_answered_ms = cluster_now(c); /* the new holder gets its full span */
    }
    if (g->op != NULL) {
        op_done(g->op, status, json_incref(result), err);
    }
    if (status != 0) {
        log_warn("cluster", "admin endpoint not granted: %s", err->msg);
    }
    json_decref(g->command);
    free(g);
}

/* c->granting was set by the caller: no renewal is answered until the grant is decided. */
static void grant(struct cluster *c, uint64_t host, uint64_t epoch, const char *reason,
                  struct cluster_op *op)
{
    struct meta_view *view = NULL;
    json_t *record = NULL;
    char address[256] = "";
    if (meta_view_open(c->o.meta, &view) == 0) {
        if (meta_host_get(view, host, &record) == 0) {
            str_copy(address, sizeof(address), json_str_or(record, "api_url", ""));
            json_decref(record);
        }
        meta_view_close(view);
    }
    log_info("cluster", "admin endpoint to host %llu epoch=%llu reason=%s",
             (unsigned long long)host, (unsigned long long)epoch, reason);
    struct grant *g = calloc(1, sizeof(*g));
    tsr_assert(g != NULL);
    g->op = op;
    g->term = c->leader_term;
    g->command = json_pack("{s:s,s:I,s:I,s:s,s:s,s:I}", "op", "endpoint.grant", "host",
                           (json_int_t)host, "epoch", (json_int_t)epoch, "address", address,
                           "reason", reason, "term", (json_int_t)c->leader_term);
    tsr_assert(g->command != NULL);
    cluster_submit(c, json_deep_copy(g->command), granted, g);
}

/* A host that could hold it: stores images, up, reported lately; @avoid is left out, 0 = none. The
 * one with the lowest id, so that the choice is the same every time; those that clients can not
 * reach come last. Leaders of this cluster are fine. */
static uint64_t pick(struct cluster *c, uint64_t avoid)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t n = health_hosts(c, hosts);
    for (int cut = 0; cut < 2; cut++) {
        uint64_t best = 0;
        for (size_t i = 0; i < n; i++) {
            const struct placement_host *h = &hosts[i];
            if (h->image_role && h->id != avoid && health_fresh(c, h->id) &&
                (h->up || h->id == c->o.self) && (best == 0 || h->id < best) &&
                reach_cut(c, h->id) == (cut == 1)) {
                best = h->id;
            }
        }
        if (best != 0) {
            return best;
        }
    }
    return 0;
}

static void moved_away(struct cluster_op *op, int status, json_t *result, const struct err *err)
{
    (void)result;
    if (status != 0) {
        log_warn("cluster", "admin endpoint not moved: %s", err->msg);
    }
    op->c->away_next_ms = cluster_now(op->c) + AWAY_PAUSE_MS;
}

/* Its holder lives, but clients can not reach it, and there is one that they can. */
static void move_away(struct cluster *c, uint64_t holder)
{
    uint64_t next = pick(c, holder);
    if (!reach_cut(c, holder) || next == 0 || reach_cut(c, next) ||
        cluster_now(c) < c->away_next_ms) {
        return;
    }
    struct cluster_op *op = calloc(1, sizeof(*op));
    tsr_assert(op != NULL);
    *op = (struct cluster_op){.c = c, .args = json_object(), .from = c->o.self, .done = moved_away};
    c->away_next_ms = cluster_now(c) + AWAY_PAUSE_MS;
    lease_op_move(op);
}

void lease_duty(struct cluster *c)
{
    json_t *endpoint = read_endpoint(c);
    if (endpoint == NULL || c->granting) {
        json_decref(endpoint);
        return;
    }
    uint64_t host = (uint64_t)json_int(endpoint, "host", 0);
    uint64_t epoch = (uint64_t)json_int(endpoint, "epoch", 0);
    json_decref(endpoint);
    move_away(c, host);
    if (c->granting) {
        return;
    }
#ifndef TSR_BREAK_LEASE_WAIT
    if (cluster_now(c) - c->lease_answered_ms < LEASE_EXPIRY_MS) {
        return;
    }
#else
    if (cluster_now(c) - c->lease_answered_ms < LEASE_EXPIRY_MS / 4) {
        return;
    }
#endif
    uint64_t next = pick(c, host);
    if (next == 0) {
        next = pick(c, 0); /* nobody else: the holder itself, if it lives, under a fresh epoch */
    }
    if (next != 0) {
        c->granting = true;
        grant(c, next, epoch + 1, "holder lost its lease", NULL);
    }
}

/* --- operators
 * --------------------------------------------------------------------------------------------------
 */

void lease_op_show(struct cluster_op *op)
{
    struct cluster *c = op->c;
    struct meta_view *view = NULL;
    json_t *endpoint = NULL, *host = NULL;
    int rv = meta_view_open(c->o.meta, &view);
    if (rv == 0) {
        rv = meta_endpoint_get(view, &endpoint);
    }
    if (rv == 0 && meta_host_get(view, (uint64_t)json_int(endpoint, "host", 0), &host) == 0) {
        json_object_set_new(endpoint, "host_id", json_integer(json_int(endpoint, "host", 0)));
        json_set_str(endpoint, "host", json_str_or(host, "name", ""));
        json_set_str(endpoint, "url", json_str_or(host, "api_url", ""));
        json_set_str(endpoint, "host_state", json_str_or(host, "state", ""));
        json_decref(host);
    }
    meta_view_close(view);
    if (rv != 0) {
        op_fail(op, rv, "no admin endpoint has been assigned");
        return;
    }
    op_done(op, 0, endpoint, NULL);
}

struct move {
    struct cluster_op *op;
    uint64_t to, epoch, term;
    struct timer timer;
};

static void move_grant(struct move *m)
{
    struct cluster *c = m->op->c;
    struct cluster_op *op = m->op;
    uint64_t to = m->to, epoch = m->epoch;
    bool same = c->leader && c->leader_term == m->term;
    free(m);
    if (!same) { /* whoever leads now has its own view of the lease */
        op_fail(op, TSR_ENOTLEADER, "leadership changed meanwhile");
        cluster_unpend(c);
        return;
    }
    grant(c, to, epoch + 1, "moved by operator", op);
    cluster_unpend(c);
}

static void on_move_timer(struct timer *t)
{
    move_grant(container_of(t, struct move, timer));
}

static void released(struct cluster *c, void *arg, int status, json_t *result)
{
    struct move *m = arg;
    (void)result;
    if (status == 0) {
        move_grant(m);
        return;
    }
    /* The holder can not be asked: its lease must run out, none is renewed meanwhile. */
    uint64_t gone = cluster_now(c) - c->lease_answered_ms;
    timer_start(&m->timer, gone >= LEASE_EXPIRY_MS ? 1 : LEASE_EXPIRY_MS - gone);
}

/* The leader's own release, without a network call. */
static void release_self(struct cluster *c, uint64_t epoch)
{
    if (epoch > c->released_epoch) {
        c->released_epoch = epoch;
    }
    atomic_store(&c->a_endpoint, false);
}

void lease_op_move(struct cluster_op *op)
{
    struct cluster *c = op->c;
    const char *name = json_str(op->args, "host");
    json_t *endpoint = read_endpoint(c);
    uint64_t holder = endpoint != NULL ? (uint64_t)json_int(endpoint, "host", 0) : 0;
    uint64_t epoch = endpoint != NULL ? (uint64_t)json_int(endpoint, "epoch", 0) : 0;
    json_decref(endpoint);
    if (!c->leader) {
        op_fail(op, TSR_ENOTLEADER, "not the leader");
        return;
    }
    json_t *hosts = name != NULL ? hosts_read(c) : NULL, *named = NULL;
    bool witness = false;
    uint64_t to = 0;
    if (name != NULL) {
        named = hosts_by_name(hosts, name);
        to = (uint64_t)json_int(named, "id", 0);
        witness = named != NULL && !hosts_have_role(named, "image");
        json_decref(hosts);
    } else {
        to = pick(c, holder);
    }
    if (to == 0) {
        op_fail(op, name != NULL ? TSR_ENOENT : TSR_EUNAVAILABLE,
                name != NULL ? "no host is named %s"
                             : "no other host can take the admin endpoint%s",
                name != NULL ? name : "");
        return;
    }
    if (witness) {
        op_fail(op, TSR_ECONFLICT, "host %s is a witness", name);
        return;
    }
    if (to == holder) {
        op_fail(op, TSR_ECONFLICT, "that host holds the admin endpoint already");
        return;
    }
    if (!health_fresh(c, to)) {
        op_fail(op, TSR_EUNAVAILABLE, "that host does not answer");
        return;
    }
    if (c->granting) {
        op_fail(op, TSR_EBUSY, "the admin endpoint is being moved already");
        return;
    }
    struct move *m = calloc(1, sizeof(*m));
    tsr_assert(m != NULL);
    *m = (struct move){.op = op, .to = to, .epoch = epoch, .term = c->leader_term};
    timer_init(&m->timer, c->o.loop, on_move_timer);
    c->granting = true;
    c->pending++;
    if (holder == c->o.self) {
        release_self(c, epoch);
        timer_start(&m->timer, 1);
        return;
    }
    cluster_peer(c, holder, PEER_CONTROL,
                 json_pack("{s:s,s:{s:I}}", "method", "endpoint.release", "args", "epoch",
                           (json_int_t)epoch),
                 1000, released, m);
}
