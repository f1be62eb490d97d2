/* Certificates of a test authority, a loop, and calls that note their outcome. */
#ifndef TESSERA_TESTS_PEER_FIXTURE_H
#define TESSERA_TESTS_PEER_FIXTURE_H

#include <stdlib.h>

#include "peer/frame.h"
#include "tessera/peer.h"
#include "tessera/sys/cert.h"
#include "tessera/sys/loop.h"
#include "tessera/sys/net.h"
#include "test.h"

#define CLUSTER "0123456789abcdef0123456789abcdef"
#define CALL_ALPN "tessera-peer/1"
#define RAFT_ALPN "tessera-raft/1"

struct authority {
    char *cert, *key;
};

static inline struct authority *authority_get(void)
{
    static struct authority one;
    if (!one.cert) {
        check_ok(cert_authority_new("test authority", 2, &one.cert, &one.key));
    }
    return &one;
}

static inline struct authority *foreign_authority(void)
{
    static struct authority one;
    if (!one.cert) {
        check_ok(cert_authority_new("foreign authority", 2, &one.cert, &one.key));
    }
    return &one;
}

/* A context whose certificate, signed by @signer, names @name; it trusts the test authority. */
static inline struct tls *tls_named(enum tls_role role, const char *name, const char *alpn,
                                    const struct authority *signer)
{
    char *key = NULL, *csr = NULL, *cert = NULL;
    struct tls *tls = NULL;
    struct err err = {0};
    static const char *const alt[] = {"IP:127.0.0.1"};
    check_ok(cert_key_new(&key));
    check_ok(cert_request_new(key, name, &csr));
    check_ok(cert_sign(csr, name, alt, 1, 2, signer->cert, signer->key, &cert, &err));
    struct tls_options options = {.role = role,
                                  .cert_pem = cert,
                                  .key_pem = key,
                                  .ca_pem = authority_get()->cert,
                                  .verify_peer = true,
                                  .alpn = alpn};
    check_ok(tls_new(&options, &tls, &err));
    free(key);
    free(csr);
    free(cert);
    return tls;
}

static inline struct tls *tls_of(enum tls_role role, uint64_t host_id, const char *alpn)
{
    char name[128];
    peer_cert_name(host_id, CLUSTER, name);
    return tls_named(role, name, alpn, authority_get());
}

static inline void set_true(void *arg)
{
    *(bool *)arg = true;
}

/* A call and what became of it. */
struct probe {
    struct peer_call call;
    bool done;
    unsigned times;
    int status;
    size_t head_size, body_size;
    uint8_t first, last; /* bytes of the body */
    char head[64];
};

static inline void probe_cb(struct peer_call *call, int status, struct peer_bytes head,
                            struct peer_bytes body)
{
    struct probe *p = call->arg;
    const uint8_t *bytes = body.data;
    p->done = true;
    p->times++;
    p->status = status;
    p->head_size = head.size;
    p->body_size = body.size;
    if (body.size) {
        p->first = bytes[0];
        p->last = bytes[body.size - 1];
    }
    if (head.size && head.size < sizeof(p->head)) {
        memcpy(p->head, head.data, head.size);
    }
}

static inline void probe_start(struct probe *p, struct peer_net *net, uint64_t host_id,
                               enum peer_call_type type, struct peer_bytes head,
                               struct peer_bytes body, uint64_t timeout_ms)
{
    memset(p, 0, sizeof(*p));
    p->call = (struct peer_call){.host_id = host_id,
                                 .type = type,
                                 .head = head,
                                 .body = body,
                                 .timeout_ms = timeout_ms,
                                 .cb = probe_cb,
                                 .arg = p};
    peer_call_start(net, &p->call);
    check(!p->done);
}

static inline struct peer_bytes text(const char *s)
{
    return (struct peer_bytes){s, strlen(s)};
}

static inline struct peer_bytes nothing(void)
{
    return (struct peer_bytes){NULL, 0};
}

struct tick {
    struct timer timer;
    bool done;
};

static inline void tick_cb(struct timer *timer)
{
    container_of(timer, struct tick, timer)->done = true;
}

/* Let the loop run for a while. */
static inline void run_for(struct loop *loop, uint64_t ms)
{
    struct tick t = {.done = false};
    timer_init(&t.timer, loop, tick_cb);
    timer_start(&t.timer, ms);
    test_run_until(loop, &t.done, ms + 5000);
}

#endif
