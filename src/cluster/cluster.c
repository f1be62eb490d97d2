/* The cluster service: life, timers, and the small helpers that its parts share.
 *
 * Every host reports to the leader; the host that leads runs the duties (health, lease, members,
 * planner) every REPORT_EVERY_MS. All duties are level-triggered: they compare what is with what
 * shall be and do the next step, so that a lost call or a change of leader needs no bookkeeping. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/metric.h"

uint64_t cluster_now(struct cluster *c)
{
    return loop_now_ms(c->o.loop);
}

/* --- submit and call, with memory of our own
 * ------------------------------------------------------ */

void cluster_unpend(struct cluster *c)
{
    tsr_assert(c->pending > 0);
    c->pending--;
    if (c->closing && c->pending == 0 && c->close_cb != NULL) {
        void (*cb)(void *) = c->close_cb;
        void *arg = c->close_arg;
        for (size_t i = 0; i < c->seen_count; i++) {
            json_decref(c->seen[i].report);
        }
        free(c);
        cb(arg);
    }
}

struct submit {
    struct meta_submit req;
    struct cluster *c;
    cluster_submit_cb cb;
    void *arg;
};

static void submit_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct submit *s = req->arg;
    struct cluster *c = s->c;
    if (s->cb != NULL) {
        s->cb(c, s->arg, status, result, err);
    } else if (status != 0) {
        log_warn("cluster", "command refused code=%s detail=%s", err_name(status), err->msg);
    }
    free(s);
    cluster_unpend(c);
}

void cluster_submit(struct cluster *c, json_t *command, cluster_submit_cb cb, void *arg)
{
    cluster_submit_as(c, NULL, command, cb, arg);
}

void cluster_submit_as(struct cluster *c, const uint8_t *id, json_t *command, cluster_submit_cb cb,
                       void *arg)
{
    struct submit *s = calloc(1, sizeof(*s));
    tsr_assert(s != NULL && command != NULL);
    if (id != NULL) {
        memcpy(s->req.id, id, sizeof(s->req.id));
    }
    s->c = c;
    s->cb = cb;
    s->arg = arg;
    s->req.loop = c->o.loop;
    s->req.command = command;
    s->req.cb = submit_cb;
    s->req.arg = s;
    c->pending++;
    meta_submit(c->o.meta, &s->req);
}

struct peer_json {
    struct peer_call call;
    struct cluster *c;
    char *text;
    cluster_peer_cb cb;
    void *arg;
};

static void peer_json_cb(struct peer_call *call, int status, struct peer_bytes head,
                         struct peer_bytes body)
{
    struct peer_json *p = call->arg;
    struct cluster *c = p->c;
    (void)body;
    json_t *result = head.size > 0 ? json_parse(head.data, head.size) : NULL;
    if (p->cb != NULL) {
        p->cb(c, p->arg, status, result);
    }
    json_decref(result);
    free(p->text);
    free(p);
    cluster_unpend(c);
}

void cluster_peer(struct cluster *c, uint64_t host, enum peer_call_type type, json_t *head,
                  uint64_t timeout_ms, cluster_peer_cb cb, void *arg)
{
    struct peer_json *p = calloc(1, sizeof(*p));
    tsr_assert(p != NULL);
    size_t size = 0;
    p->text = json_text(head, &size);
    tsr_assert(p->text != NULL);
    json_decref(head);
    p->c = c;
    p->cb = cb;
    p->arg = arg;
    p->call.host_id = host;
    p->call.type = type;
    p->call.head = (struct peer_bytes){p->text, size};
    p->call.timeout_ms = timeout_ms;
    p->call.cb = peer_json_cb;
    p->call.arg = p;
    c->pending++;
    peer_call_start(c->o.peers, &p->call);
}

void op_done(struct cluster_op *op, int status, json_t *result, const struct err *err)
{
    struct err none = {.code = status};
    if (err == NULL) {
        err = &none;
    }
    op->done(op, status, result, err);
    json_decref(result);
    json_decref(op->args);
    free(op);
}

void op_fail(struct cluster_op *op, int status, const char *fmt, ...)
{
    struct err err = {.code = status};
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err.msg, sizeof(err.msg), fmt, args);
    va_end(args);
    op_done(op, status, NULL, &err);
}

uint64_t cluster_leader_host(struct cluster *c)
{
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    uint64_t leader = st->leader >> 16;
    free(st);
    return leader;
}

/* --- timers
 * ------------------------------------------------------------------------------------------ */

static void publish(struct cluster *c)
{
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    uint64_t now = cluster_now(c);
    bool contact = st->contact_ms != 0 && now - st->contact_ms < CONTACT_LOST_MS;
    uint64_t leader = st->leader >> 16;
    if (leader != 0 && leader != c->seen_leader) {
        metric_add(METRIC_leader_changes_total, c->seen_leader != 0);
        c->seen_leader = leader;
    }
    atomic_store(&c->a_leader_host, leader);
    /* Never backwards: a leader that steps down has heard of no other leader yet. */
    if (st->contact_ms > atomic_load(&c->a_contact_ms)) {
        atomic_store(&c->a_contact_ms, st->contact_ms);
    }
    atomic_store(&c->a_leader, c->leader);
    metric_set(METRIC_is_leader, c->leader);
    metric_set(METRIC_applied_index, (int64_t)st->applied_index);
    watch_publish(c, st);
    if (c->leader) {
        atomic_store(&c->a_cut, reach_cut(c, c->o.self));
    } else if (st->leader == 0) {
        atomic_store(&c->a_cut, false); /* nobody judges */
    }
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    bool placing = cluster_load_get(c->o.load, hosts) > 0; /* knows where an upload could go */
    atomic_store(&c->a_ready, st->ready && contact && placing && st->role != CONSENSUS_SPARE &&
                                  !c->watch.removed);
    free(st);
    struct meta_view *view = NULL;
    json_t *endpoint = NULL;
    if (meta_view_open(c->o.meta, &view) == 0) {
        if (meta_endpoint_get(view, &endpoint) == 0) {
            atomic_store(&c->a_endpoint_host, (uint64_t)json_int(endpoint, "host", 0));
            atomic_store(&c->a_endpoint_epoch, (uint64_t)json_int(endpoint, "epoch", 0));
            json_decref(endpoint);
        }
        meta_view_close(view);
    }
    atomic_store(&c->a_lease_until_ms,
                 c->lease_sent_ms == 0 ? 0 : c->lease_sent_ms + LEASE_VALID_MS);
    atomic_store(&c->a_endpoint, lease_held(c));
}

static void on_report_timer(struct timer *t)
{
    struct cluster *c = container_of(t, struct cluster, report_timer);
    publish(c);
    reach_probe(c);
    health_report(c);
    planner_own_sessions(c);
    timer_start(&c->report_timer, REPORT_EVERY_MS);
}

static void on_lease_timer(struct timer *t)
{
    struct cluster *c = container_of(t, struct cluster, lease_timer);
    lease_renew(c);
    timer_start(&c->lease_timer, LEASE_RENEW_MS);
}

static void on_duty_timer(struct timer *t)
{
    struct cluster *c = container_of(t, struct cluster, duty_timer);
    publish(c);
    if (!c->leader) {
        return;
    }
    health_duty(c);
    if (cluster_now(c) - c->judged_ms >= JUDGE_EVERY_MS) {
        c->judged_ms = cluster_now(c);
        watch_duty(c);
        reach_duty(c);
    }
    lease_duty(c);
    members_duty(c);
    rejoin_duty(c);
    room_duty(c);
    planner_duty(c);
    imports_duty(c);
    uint64_t now = cluster_now(c);
    if (now - c->minute_ms >= 60000 && c->o.leader_minute != NULL) {
        c->minute_ms = now;
        c->o.leader_minute(c->o.arg);
    }
    timer_start(&c->duty_timer, c->plan_running ? 20 : 250);
}

/* The hosts' records changed: who places uploads learns it now, not at the next report. */
static void on_records(struct meta_watch *watch, unsigned kinds)
{
    struct cluster *c = watch->arg;
    if ((kinds & META_HOSTS) != 0) {
        health_report(c);
        publish(c);
    }
}

void cluster_kick(struct cluster *c)
{
    if (c->leader && !c->closing) {
        timer_start(&c->duty_timer, 1);
    }
}

/* --- life
 * ---------------------------------------------------------------------------------------------- */

int cluster_new(const struct cluster_options *options, struct cluster **out)
{
    struct cluster *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return TSR_ENOMEM;
    }
    c->o = *options;
    staged_ages_init(&c->staged);
    timer_init(&c->report_timer, c->o.loop, on_report_timer);
    timer_init(&c->lease_timer, c->o.loop, on_lease_timer);
    timer_init(&c->duty_timer, c->o.loop, on_duty_timer);
    calls_serve(c);
    *out = c;
    return 0;
}

void cluster_reconfigure(struct cluster *c, const struct cluster_options *options)
{
    c->o.suspect_ms = options->suspect_ms;
    c->o.down_ms = options->down_ms;
    c->o.repair_after_ms = options->repair_after_ms;
    c->o.replicas = options->replicas;
    c->o.join_token_life_us = options->join_token_life_us;
    planner_want(c);
}

void cluster_start(struct cluster *c)
{
    c->started = true;
    c->started_ms = cluster_now(c);
    if (consensus_applied(c->o.consensus) > 0) { /* not the first time */
        atomic_store(&c->a_parted_ms, c->started_ms);
    } else {
        c->o.contact_age_ms = 0; /* there is no state that could be old */
    }
    c->records = (struct meta_watch){.loop = c->o.loop, .cb = on_records, .arg = c};
    meta_watch_add(c->o.meta, &c->records);
    timer_start(&c->report_timer, 1);
    timer_start(&c->lease_timer, 1);
}

void cluster_on_leader(struct cluster *c, uint64_t term)
{
    if (c->closing) { /* no timer may start any more */
        return;
    }
    log_info("cluster", "leading term=%llu", (unsigned long long)term);
    c->leader = true;
    c->leader_term = term;
    c->granting = false; /* what was begun in an earlier term is void: grants carry theirs */
    c->leader_since_ms = cluster_now(c);
    c->lease_answered_ms =
        c->leader_since_ms; /* the last answer of the leader before is not known */
    c->minute_ms = 0;
    c->handover_next_ms = 0;
    for (size_t i = 0; i < c->seen_count; i++) {
        json_decref(c->seen[i].report);
    }
    c->seen_count = 0;
    planner_want(c);
    timer_start(&c->duty_timer, 1);
    timer_start(&c->report_timer, 1);
}

void cluster_on_lost(struct cluster *c)
{
    log_info("cluster", "no longer leading");
    c->leader = false;
    staged_ages_free(&c->staged);
    timer_stop(&c->duty_timer);
    publish(c);
}

struct drain {
    struct cluster *c;
    struct timer timer;
    void (*cb)(void *arg);
    void *arg;
    bool done;
};

static void drain_finish(struct drain *d)
{
    timer_stop(&d->timer);
    void (*cb)(void *) = d->cb;
    void *arg = d->arg;
    struct cluster *c = d->c;
    free(d);
    cb(arg);
    cluster_unpend(c);
}

static void drain_transferred(void *arg, int status)
{
    struct drain *d = arg;
    (void)status;
    drain_finish(d);
}

static void drain_leadership(struct drain *d)
{
    if (!d->c->leader || consensus_transfer(d->c->o.consensus, 0, drain_transferred, d) != 0) {
        drain_finish(d);
    }
}

/* The endpoint first (so that the catalog names another host at once), then leadership. */
static void drain_endpoint_moved(struct cluster_op *op, int status, json_t *result,
                                 const struct err *err)
{
    struct drain *d = op->arg;
    (void)result;
    if (status != 0) {
        log_warn("cluster", "endpoint not handed over: %s", err->msg);
    }
    drain_leadership(d);
}

static void on_drain_timer(struct timer *t)
{
    struct drain *d = container_of(t, struct drain, timer);
    drain_finish(d);
}

void cluster_drain(struct cluster *c, uint64_t timeout_ms, void (*cb)(void *arg), void *arg)
{
    struct drain *d = calloc(1, sizeof(*d));
    tsr_assert(d != NULL);
    c->draining = true;
    c->pending++;
    d->c = c;
    d->cb = cb;
    d->arg = arg;
    (void)timeout_ms; /* each step below has a deadline of its own, shorter than this */
    timer_init(&d->timer, c->o.loop, on_drain_timer);
    if (!lease_held(c)) {
        /* Leadership still needs a callback from a later event. */
        if (c->leader && consensus_transfer(c->o.consensus, 0, drain_transferred, d) == 0) {
            return;
        }
        timer_start(&d->timer, 1);
        return;
    }
    struct cluster_op *op = calloc(1, sizeof(*op));
    tsr_assert(op != NULL);
    op->c = c;
    op->args = json_object();
    op->from = c->o.self;
    op->done = drain_endpoint_moved;
    op->arg = d;
    calls_start(op, "endpoint.move", true);
}

void cluster_close(struct cluster *c, void (*cb)(void *arg), void *arg)
{
    timer_stop(&c->report_timer);
    timer_stop(&c->lease_timer);
    timer_stop(&c->duty_timer);
    if (c->started) {
        meta_watch_remove(c->o.meta, &c->records);
    }
    c->closing = true;
    c->leader = false;
    staged_ages_free(&c->staged);
    c->close_cb = cb;
    c->close_arg = arg;
    c->pending++;
    cluster_unpend(c);
}

void cluster_health(struct cluster *c, struct cluster_health *out)
{
    uint64_t now = cluster_now(c);
    uint64_t contact = atomic_load(&c->a_contact_ms);
    out->ready = atomic_load(&c->a_ready);
    out->cut = atomic_load(&c->a_cut);
    out->leader = atomic_load(&c->a_leader);
    out->leader_host = atomic_load(&c->a_leader_host);
    out->endpoint_host = atomic_load(&c->a_endpoint_host);
    out->endpoint_epoch = atomic_load(&c->a_endpoint_epoch);
    out->endpoint = atomic_load(&c->a_endpoint) && now < atomic_load(&c->a_lease_until_ms);
    out->met = contact != 0;
    out->stale_ms = contact != 0               ? (now > contact ? now - contact : 0)
                    : c->o.contact_age_ms != 0 ? c->o.contact_age_ms + now - c->started_ms
                                               : UINT64_MAX;
    uint64_t parted = atomic_load(&c->a_parted_ms);
    out->calm_ms = parted == 0 ? UINT64_MAX : now > parted ? now - parted : 0;
    out->applied = consensus_applied(c->o.consensus);
}
