/* What real and simulated networks share: dispatch through the ops, the table of services, replies,
 * names in certificates, counters. */
#include "tessera/peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer/frame.h"
#include "tessera/base/assert.h"
#include "tessera/base/metric.h"

void peer_counters(struct peer_counters *out)
{
    out->bad_frames = (uint64_t)metric_get(METRIC_peer_bad_frames_total);
    out->bad_names = (uint64_t)metric_get(METRIC_peer_bad_names_total);
    out->stalled = (uint64_t)metric_get(METRIC_peer_stalled_total);
    out->raft_dropped = (uint64_t)metric_get(METRIC_raft_dropped_total);
}

void peer_call_start(struct peer_net *net, struct peer_call *call)
{
    tsr_assert(call->cb && call->type > 0 && call->type < PEER_CALL_MAX);
    net->ops->call(net, call);
}

void peer_call_cancel(struct peer_net *net, struct peer_call *call)
{
    net->ops->cancel(net, call);
}

void peer_reply(struct peer_request *req, int code, struct peer_bytes head, struct peer_bytes body)
{
    tsr_assert(code <= 0 && code >= -FRAME_CODE_MASK);
    tsr_assert(head.size <= PEER_HEAD_MAX && body.size <= PEER_BODY_MAX);
    req->reply(req, code, head, body);
}

void peer_reply_owned(struct peer_request *req, int code, struct peer_bytes head,
                      struct peer_bytes body, void (*release)(void *arg), void *arg)
{
    tsr_assert(code <= 0 && code >= -FRAME_CODE_MASK);
    tsr_assert(head.size <= PEER_HEAD_MAX && body.size <= PEER_BODY_MAX);
    if (req->reply_owned) {
        req->reply_owned(req, code, head, body, release, arg);
        return;
    }
    req->reply(req, code, head, body);
    release(arg);
}

void peer_serve(struct peer_service *service, enum peer_call_type type, peer_handler_fn fn,
                void *arg)
{
    tsr_assert(type > 0 && type < PEER_CALL_MAX);
    tsr_assert(!service->handlers[type].fn);
    service->handlers[type].fn = fn;
    service->handlers[type].arg = arg;
}

void peer_cert_name(uint64_t host_id, const char *cluster_id, char out[128])
{
    int n = snprintf(out, 128, "host-%" PRIu64 ".%s", host_id, cluster_id);
    tsr_assert(n > 0 && n < 128);
}

bool peer_cert_parse(const char *name, const char *cluster_id, uint64_t *host_id_out)
{
    static const char prefix[] = "host-";
    if (!name || strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return false;
    }
    const char *at = name + sizeof(prefix) - 1;
    if (*at < '1' || *at > '9') {
        return false; /* one spelling only: no zeros in front, no host 0 */
    }
    uint64_t id = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (id > (UINT64_MAX - digit) / 10) {
            return false;
        }
        id = id * 10 + digit;
    }
    if (*at != '.' || strcmp(at + 1, cluster_id) != 0) {
        return false;
    }
    *host_id_out = id;
    return true;
}
