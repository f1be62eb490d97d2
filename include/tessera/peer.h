/* Talk between hosts: framed calls over mutual TLS (port 9293), and the consensus links (port
 * 9294).
 *
 * A call is one request frame and one reply frame, matched by number; many may be open on one
 * connection. Each loop has its own `peer_client` with its own connections, made when first needed.
 * The code above sees only struct peer_net, which the simulator implements with messages.
 * Frame (docs/formats.md): version u8, type u8, flags u16, call u32, length u32, then `length`
 * bytes = u32 head length, head (JSON or binary, <= 64 KiB... 2 MiB for forwarded commands), body
 * (<= 16 MiB: a chunk, or the manifest of a 2 TiB image). Thread: the loop's. */
#ifndef TESSERA_PEER_H
#define TESSERA_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"
#include "tessera/sys/loop.h"

/* X(name, number) */
#define PEER_CALLS(X)                                                             \
    X(PING, 1)         /* health: who are you, your clock, your capacity */       \
    X(CHUNK_HAVE, 2)   /* which of these chunks (of this session) do you lack? */ \
    X(CHUNK_PUT, 3)    /* one chunk under a session */                            \
    X(CHUNK_GET, 4)    /* one chunk */                                            \
    X(MANIFEST_GET, 5) /* one manifest */                                         \
    X(SEAL, 6)         /* manifest: every chunk there? sync; you are a replica */ \
    X(SESSION_END, 7)  /* drop a session's reservations */                        \
    X(REPORT, 8)       /* host -> leader: health once a second */                 \
    X(LEASE, 9)        /* admin endpoint holder -> leader: renew */               \
    X(JOIN, 10)        /* a joining host's request passed to the leader */        \
    X(CONTROL, 11)     /* JSON call to the cluster service of another host */

enum peer_call_type {
#define X(name, number) PEER_##name = number,
    PEER_CALLS(X)
#undef X
        PEER_CALL_MAX = 32
};

enum { PEER_HEAD_MAX = 2 * 1024 * 1024, PEER_BODY_MAX = 16 * 1024 * 1024 };

struct peer_bytes {
    const void *data;
    size_t size;
};

struct peer_call;
/* @status 0: reply with code 0; negative code: the peer's refusal (its code) or TSR_ECONNECT /
 * TSR_ETIMEOUT / TSR_EPROTO. @head and @body live during the callback. */
typedef void (*peer_call_cb)(struct peer_call *call, int status, struct peer_bytes head,
                             struct peer_bytes body);
/* A request: belongs to the caller with its memory until the callback. */
struct peer_call {
    uint64_t host_id;
    enum peer_call_type type;
    struct peer_bytes head, body;
    uint64_t timeout_ms; /* 0 = 10 s; the end of a call whose large body is just being written may
                          * come up to 2 s late */
    peer_call_cb cb;
    void *arg;
    void *state[8]; /* private */
};

/* How the layers above call other hosts. */
struct peer_net;
struct peer_net_ops {
    void (*call)(struct peer_net *net, struct peer_call *call);
    void (*cancel)(struct peer_net *net, struct peer_call *call);
};
struct peer_net {
    const struct peer_net_ops *ops;
    struct loop *loop;
};
/* Start a call; the callback comes exactly once, later, on the net's loop. A call made while the
 * connection is being made waits for it; when the attempt or the connection fails, the calls that
 * waited for it or were sent on it get TSR_ECONNECT and are not sent again. TSR_ETOOBIG: head or
 * body over their limit. */
void peer_call_start(struct peer_net *net, struct peer_call *call);
/* The callback comes soon with TSR_ECANCELED unless it came already. */
void peer_call_cancel(struct peer_net *net, struct peer_call *call);

/* A request from another host. The handler answers exactly once with peer_reply, now or later, on
 * the same loop. Data live until then. */
struct peer_request {
    uint64_t from_host; /* as its certificate says */
    enum peer_call_type type;
    struct peer_bytes head, body;
    struct loop *loop;
    void (*reply)(struct peer_request *req, int code, struct peer_bytes head,
                  struct peer_bytes body);
    /* May be NULL: then the body is copied by `reply` and released at once. */
    void (*reply_owned)(struct peer_request *req, int code, struct peer_bytes head,
                        struct peer_bytes body, void (*release)(void *arg), void *arg);
};
/* Copies head and body. @req is gone afterwards. @code: 0 or a TSR_ code. */
void peer_reply(struct peer_request *req, int code, struct peer_bytes head, struct peer_bytes body);
/* The same without copying @body, for replies of a chunk's size: it stays as it is until
 * @release(@arg) has run, exactly once, on the request's loop, also when the connection is gone.
 * @head is copied.
 * @body must not lie in the request's own memory, which is gone afterwards. */
void peer_reply_owned(struct peer_request *req, int code, struct peer_bytes head,
                      struct peer_bytes body, void (*release)(void *arg), void *arg);

typedef void (*peer_handler_fn)(void *arg, struct peer_request *req);
/* Who serves which call: one table, filled before the servers start; shared by all loops. */
struct peer_service {
    struct {
        peer_handler_fn fn;
        void *arg;
    } handlers[PEER_CALL_MAX];
};
void peer_serve(struct peer_service *service, enum peer_call_type type, peer_handler_fn fn,
                void *arg);

/* --- the real network ----------------------------------------------------------------------------
 */
struct tls;

/* Where a host listens for peers: asked at each connect; false = unknown. Thread: the loop's. */
typedef bool (*peer_address_fn)(void *arg, uint64_t host_id, char *out, size_t size);

/* Certificates' common names are "host-<decimal id>.<cluster id>". */
void peer_cert_name(uint64_t host_id, const char *cluster_id, char out[128]);
bool peer_cert_parse(const char *name, const char *cluster_id, uint64_t *host_id_out);

struct peer_client;
/* @tls: client context with ALPN "tessera-peer/1". Up to 2 connections a host and loop. */
int peer_client_new(struct loop *loop, struct tls *tls, const char *cluster_id,
                    peer_address_fn address, void *arg, struct peer_client **out);
struct peer_net *peer_client_net(struct peer_client *client);
void peer_client_set_tls(struct peer_client *client, struct tls *tls);
/* Pending calls get TSR_ECANCELED; @cb afterwards. */
void peer_client_close(struct peer_client *client, void (*cb)(void *arg), void *arg);

struct peer_server;
/* @tls: server context that demands a certificate. @buffer_bytes bounds bodies held at once on this
 * loop, requests' and replies': a connection that would exceed it is not read until others have
 * replied (never deadlocks: one body a connection is always admitted, small calls never wait for
 * it). */
int peer_server_new(struct loop *loop, struct tls *tls, const char *cluster_id, const char *address,
                    const struct peer_service *service, size_t buffer_bytes,
                    struct peer_server **out, struct err *err);
unsigned peer_server_port(const struct peer_server *server);
/* New connections show another certificate from now on. */
void peer_server_set_tls(struct peer_server *server, struct tls *tls);
/* @cb after the connections are closed and every request given to a handler was answered (replies
 * go nowhere by then). */
void peer_server_close(struct peer_server *server, void (*cb)(void *arg), void *arg);

/* --- consensus links (control loop) --------------------------------------------------------------
 */
struct consensus_net;
struct consensus;
struct raft_links; /* implements struct consensus_net's ops; see src/peer/raft_link.c */

/* One life of a host's process, so that two of them under one raft id are told apart: @starts grows
 * with every start on the same disk, @mark is drawn at random (0: nothing is told), @log_end is the
 * last index that its log held when it began. */
struct peer_life {
    uint64_t starts, mark, log_end;
};

/* One ordered connection a direction and peer, ALPN "tessera-raft/1". The first frame tells raft
 * id, life, cluster id and own address. @receive/@disconnected are
 * consensus_receive/consensus_disconnected, passed by the daemon because peer/ is below consensus/.
 */
struct raft_link_options {
    struct loop *loop;
    struct tls *server_tls, *client_tls;
    const char *cluster_id;
    const char *listen;
    uint64_t self; /* raft id */
    const char *address;
    int (*receive)(void *arg, uint64_t from, const void *data, size_t size);
    void (*disconnected)(void *arg, uint64_t from);
    /* May a process with this life speak as @from? 0, or the code that it is told; @live: another
     * one was heard under that id within two seconds. NULL: all may. */
    int (*admit)(void *arg, uint64_t from, const struct peer_life *life, bool live);
    /* The host of @to did not let this process speak; the link is tried again. May be NULL. */
    void (*refused)(void *arg, uint64_t to, int code);
    void *arg;
};
int raft_links_new(const struct raft_link_options *options, struct raft_links **out,
                   struct err *err);
/* What is told of this process from now on. */
void raft_links_set_life(struct raft_links *links, const struct peer_life *life);
unsigned raft_links_port(const struct raft_links *links);
void raft_links_send(struct raft_links *links, uint64_t to, const char *address, const void *data,
                     size_t size);
size_t raft_links_queued(const struct raft_links *links, uint64_t to);
void raft_links_set_tls(struct raft_links *links, struct tls *server_tls, struct tls *client_tls);
/* No `receive` or `disconnected` from now on; @cb when all connections are gone. */
void raft_links_close(struct raft_links *links, void (*cb)(void *arg), void *arg);

/* --- counters of the process (rows of base/metric.h) --------------------------------- */
struct peer_counters {
    uint64_t bad_frames;   /* connections dropped for garbage, size or version */
    uint64_t bad_names;    /* connections dropped for a certificate of another host or cluster */
    uint64_t stalled;      /* connections given up because nothing moved */
    uint64_t raft_dropped; /* consensus messages dropped: queue full or not connected */
};
/* Thread: any. */
void peer_counters(struct peer_counters *out);

#endif
