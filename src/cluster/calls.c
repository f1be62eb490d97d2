/* The methods of the cluster service, from this host's HTTP face and command line or from other
 * hosts. A method that must be decided by the leader is passed to it; one hop at most. */
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/assert.h"

enum { ON_LEADER = 1 };

static const struct method {
    const char *name;
    void (*fn)(struct cluster_op *op);
    unsigned flags;
} methods[] = {
    {"status", status_op, 0},
    {"host.list", status_op_hosts, 0},
    {"host.remove", host_op_remove, ON_LEADER},
    {"host.role", host_op_role, ON_LEADER},
    {"endpoint.show", lease_op_show, 0},
    {"endpoint.move", lease_op_move, ON_LEADER},
    {"endpoint.release", lease_on_release, 0},
    {"leader.transfer", host_op_transfer, ON_LEADER},
    {"host.admit", host_op_admit, 0},
    {"host.rejoin", rejoin_op, 0},
    {"token.create", token_op_create, 0},
};

static const struct method *find(const char *name)
{
    for (size_t i = 0; i < array_len(methods); i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

static void passed_on(struct cluster *c, void *arg, int status, json_t *result)
{
    struct cluster_op *op = arg;
    struct err err = {.code = status};
    (void)c;
    const char *message = json_str(result, "error");
    if (message != NULL) {
        (void)err_set(&err, status, "%s", message);
    }
    op_done(op, status, json_incref(result), &err);
}

void calls_start(struct cluster_op *op, const char *name, bool may_pass)
{
    struct cluster *c = op->c;
    const struct method *m = find(name);
    if (m == NULL) {
        op_fail(op, TSR_ENOENT, "no such method");
        return;
    }
    if ((m->flags & ON_LEADER) == 0 || c->leader) {
        m->fn(op);
        return;
    }
    uint64_t leader = cluster_leader_host(c);
    if (!may_pass || leader == 0 || leader == c->o.self) {
        op_fail(op, leader == 0 ? TSR_ENOQUORUM : TSR_ENOTLEADER, "no host leads at the moment");
        return;
    }
    cluster_peer(c, leader, PEER_CONTROL, json_pack("{s:s,s:O}", "method", name, "args", op->args),
                 8000, passed_on, op);
}

/* --- from this host's other threads
 * --------------------------------------------------------------------- */

static void call_return(struct task *task)
{
    struct cluster_call *call = container_of(task, struct cluster_call, task);
    json_t *result = call->result;
    call->cb(call, call->status, result, &call->err); /* the call is the caller's again */
    json_decref(result);
}

static void call_done(struct cluster_op *op, int status, json_t *result, const struct err *err)
{
    struct cluster_call *call = op->arg;
    call->status = status;
    call->result = json_deep_copy(result); /* crosses threads: nothing is shared */
    call->err = *err;
    call->task.run = call_return;
    loop_post(call->loop, &call->task);
    cluster_unpend(op->c);
}

static void call_run(struct task *task)
{
    struct cluster_call *call = container_of(task, struct cluster_call, task);
    struct cluster *c = call->cluster;
    struct cluster_op *op = calloc(1, sizeof(*op));
    tsr_assert(op != NULL);
    op->c = c;
    op->args = call->args != NULL ? call->args : json_object();
    op->from = c->o.self;
    op->done = call_done;
    op->arg = call;
    call->args = NULL;
    c->pending++;
    calls_start(op, call->method, true);
}

void cluster_call(struct cluster *c, struct cluster_call *call)
{
    call->cluster = c;
    call->task.run = call_run;
    loop_post(c->o.loop, &call->task);
}

/* --- from other hosts: a worker got the frame; the work is the control loop's
 * ------------------------------- */

struct hop {
    struct task task;
    struct cluster *c;
    struct peer_request *req;
    json_t *in;
    int status;
    char *out;
    size_t out_size;
};

static void hop_return(struct task *task)
{
    struct hop *hop = container_of(task, struct hop, task);
    peer_reply(hop->req, hop->status, (struct peer_bytes){hop->out, hop->out_size},
               (struct peer_bytes){NULL, 0});
    free(hop->out);
    free(hop);
}

static void hop_done(struct cluster_op *op, int status, json_t *result, const struct err *err)
{
    struct hop *hop = op->arg;
    json_t *body = status == 0 ? json_incref(result) : json_pack("{s:s}", "error", err->msg);
    hop->status = status;
    hop->out = body != NULL ? json_text(body, &hop->out_size) : NULL;
    json_decref(body);
    hop->task.run = hop_return;
    loop_post(hop->req->loop, &hop->task);
    cluster_unpend(op->c);
}

static void hop_run(struct task *task)
{
    struct hop *hop = container_of(task, struct hop, task);
    struct cluster *c = hop->c;
    struct cluster_op *op = calloc(1, sizeof(*op));
    tsr_assert(op != NULL);
    op->c = c;
    op->from = hop->req->from_host;
    op->done = hop_done;
    op->arg = hop;
    c->pending++;
    enum peer_call_type type = hop->req->type;
    json_t *in = hop->in;
    if (type == PEER_CONTROL) {
        json_t *args = json_obj(in, "args");
        op->args = args != NULL ? json_incref(args) : json_object();
        calls_start(op, json_str_or(in, "method", ""), false);
        json_decref(in);
        return;
    }
    op->args = in;
    if (type == PEER_REPORT) {
        health_on_report(op);
    } else {
        lease_on_renew(op);
    }
}

void calls_control(void *arg, struct peer_request *req)
{
    struct cluster *c = arg;
    struct hop *hop = calloc(1, sizeof(*hop));
    json_t *in = json_parse(req->head.data, req->head.size);
    if (hop == NULL || !json_is_object(in)) {
        free(hop);
        json_decref(in);
        peer_reply(req, hop == NULL ? TSR_ENOMEM : TSR_EPROTO, (struct peer_bytes){NULL, 0},
                   (struct peer_bytes){NULL, 0});
        return;
    }
    *hop = (struct hop){.task = {.run = hop_run}, .c = c, .req = req, .in = in};
    loop_post(c->o.loop, &hop->task);
}

void calls_serve(struct cluster *c)
{
    peer_serve(c->o.service, PEER_REPORT, calls_control, c);
    peer_serve(c->o.service, PEER_LEASE, calls_control, c);
    peer_serve(c->o.service, PEER_CONTROL, calls_control, c);
}
