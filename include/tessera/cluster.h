/* Who, where, when: hosts and how they are, joining, roles in consensus, placement, the planner's
 * duties on the leader, and the admin endpoint under its lease.
 *
 * Pure parts (placement, plan) decide; the rest acts through meta_submit, consensus membership
 * calls and peer calls. Thread: the control loop, unless said otherwise. */
#ifndef TESSERA_CLUSTER_H
#define TESSERA_CLUSTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/chunk.h"
#include "tessera/consensus.h"
#include "tessera/meta.h"
#include "tessera/peer.h"
#include "tessera/replica.h"

enum { CLUSTER_HOSTS_MAX = 64 };

/* --- placement (pure)
 * --------------------------------------------------------------------------------- */
struct placement_host {
    uint64_t id;
    char zone[64];
    bool up;         /* recorded up and not suspect */
    bool image_role; /* stores blobs */
    bool lost;       /* down for longer than repair_after: its replicas are made elsewhere */
    int64_t available_bytes, total_bytes; /* -1 = not known */
    unsigned weight;                      /* 100 = normal; 0 = takes nothing new */
};
/* Choose @replicas hosts for an image of @size bytes (-1 unknown): @prefer first if it can (the
 * receiving host), then by zone spread, then by rendezvous hash of (image, host) weighted by free
 * space. Hosts that are not up or have no room are left out. Returns the count (<= replicas). Same
 * input, same output. */
size_t placement_choose(const struct placement_host *hosts, size_t count, const char *image_id,
                        int64_t size, uint64_t prefer, size_t replicas, uint64_t *out);
/* Wanted placement for an existing one: keeps every holder that belongs to the cluster, adds hosts
 * while fewer than @replicas of them are up or lately down (a lost holder stays, but does not
 * count). Returns the new count (the old placement unchanged if nothing is to be done). */
size_t placement_repair(const struct placement_host *hosts, size_t count, const char *image_id,
                        int64_t size, const uint64_t *have, size_t have_count, size_t replicas,
                        uint64_t *out, size_t out_max);

/* --- forming -------------------------------------------------------------------------------- */
/* What a host keeps in <data>/host.json about itself. */
struct host_identity {
    char cluster_id[40], name[64];
    uint64_t host_id, raft_id;
    uint32_t chunk_bytes;
};
/* The token that `cluster token create` prints: base64url of JSON {address, ca, secret}. */
struct join_token {
    char address[256]; /* "https://host:port" of the host that made it */
    uint8_t ca[32];    /* SHA-256 of the cluster's authority certificate */
    char secret[64];   /* one-time */
};
int join_token_parse(const char *text, struct join_token *out);
/* The record of the cluster's authority: {cert, key (sealed, base64url)}; dir kind "secret", id
 * "ca". */
int cluster_authority_record(const uint8_t cluster_key[32], const char *cert_pem,
                             const char *key_pem, json_t **out);

/* --- what is known of the hosts' load, shared with the workers
 * ------------------------------------------ */
/* Written by the control loop, read by any thread under its own lock-free sequence counter. */
struct cluster_load;
struct cluster_load *cluster_load_new(void);
void cluster_load_free(struct cluster_load *load);
void cluster_load_set(struct cluster_load *load, const struct placement_host *hosts, size_t count);
/* A consistent copy; returns the count. Any thread. */
size_t cluster_load_get(struct cluster_load *load, struct placement_host out[CLUSTER_HOSTS_MAX]);
/* Order @hosts for reading: self first, same zone, up before down. In place. Any thread. */
void cluster_read_order(struct cluster_load *load, uint64_t self, const char *zone, uint64_t *hosts,
                        size_t count);

/* --- the service
 * --------------------------------------------------------------------------------------------- */
struct cluster;
struct cluster_options {
    struct loop *loop; /* control */
    struct meta *meta;
    struct consensus *consensus;
    struct peer_net *peers;               /* of the control loop */
    struct peer_service *service;         /* REPORT, LEASE, CONTROL, PING are registered here */
    struct chunks *chunks;                /* NULL on a witness */
    struct replicator *const *replicator; /* NULL or where the daemon keeps it; for stats */
    struct cluster_load *load;
    uint64_t self;
    uint64_t raft_id;      /* with this incarnation */
    struct peer_life life; /* of this process; mark 0: nothing is told of it */
    uint8_t
        boot[4]; /* as in image_ctx: tells this process's upload sessions from its predecessor's */
    const char *version;
    const char *cluster_id, *api_url; /* own API address, for join tokens */
    const uint8_t *cluster_key;       /* 32 bytes */
    uint8_t ca_fingerprint[32];       /* what a joining host shall trust, for join tokens */
    int64_t join_token_life_us;
    int64_t cert_expires_s;  /* end of this host's certificate, wall clock; 0 = not known */
    uint64_t contact_age_ms; /* at the start: since the last proof of a quorum; 0 = not known */
    uint64_t suspect_ms, down_ms, repair_after_ms;
    uint64_t
        stage_life_ms; /* staged data that nobody imports is dropped after so long; 0 = never */
    unsigned replicas;
    /* Whether clients could reach a host: connect to @api_url, then cluster_probed, within some two
     * seconds. NULL: hosts are not probed. */
    void (*probe)(void *arg, struct cluster *c, uint64_t host, const char *api_url);
    void (*leader_minute)(void *arg); /* called once a minute while this host leads */
    /* The leader found, with a majority of the other voters behind it, that this host's store is
     * damaged or differs from theirs: stop serving and rebuild it. May not return. NULL: never. */
    void (*on_rebuild)(void *arg, const char *code, const char *reason);
    /* Another process with this host's identity is alive, and this one was refused: stop. NULL:
     * never. */
    void (*on_twice)(void *arg);
    const char *rebuilt_code, *rebuilt_reason; /* why this process began anew; NULL: it did not */
    void (*warn)(void *arg, json_t *warnings); /* NULL, or adds {code, text} to a status */
    void *arg;
};
int cluster_new(const struct cluster_options *options, struct cluster **out);
void cluster_start(struct cluster *c);
/* Settings that can change while running: times, replicas, life of join tokens. Control loop. */
void cluster_reconfigure(struct cluster *c, const struct cluster_options *options);
/* SIGTERM: hand over the endpoint and leadership if held (bounded time), then @cb. */
void cluster_drain(struct cluster *c, uint64_t timeout_ms, void (*cb)(void *arg), void *arg);
void cluster_close(struct cluster *c, void (*cb)(void *arg), void *arg);
/* The answer to a probe, once each. Control loop. */
void cluster_probed(struct cluster *c, uint64_t host, bool reached);
/* Wire these into raft_link_options: one process for one identity. */
int cluster_admit(struct cluster *c, uint64_t raft_id, const struct peer_life *life, bool live);
void cluster_life_refused(struct cluster *c, int code);
void cluster_disconnected(struct cluster *c, uint64_t raft_id);
/* Wire these into consensus_events. */
void cluster_on_leader(struct cluster *c, uint64_t term);
void cluster_on_lost(struct cluster *c);

/* Whether this host may take changes now / holds the endpoint / how old its knowledge is. Any
 * thread. */
struct cluster_health {
    bool ready;    /* has an elected leader within contact and has caught up */
    bool leader;   /* this host leads */
    bool cut;      /* clients can not reach this host, though the others do */
    bool endpoint; /* this host holds the admin endpoint under a live lease */
    uint64_t leader_host, endpoint_host, endpoint_epoch;
    uint64_t stale_ms; /* since the last proof of a quorum; UINT64_MAX = never */
    bool met;          /* that was in this life of the process */
    uint64_t calm_ms;  /* since a connection of another host ended, or this one started again */
    uint64_t applied;
};
void cluster_health(struct cluster *c, struct cluster_health *out);

/* Operators' calls: @method like "status", "host.list", "endpoint.show", "endpoint.move",
 * "host.remove", "token.create", "transfer"; any thread; passed to the leader where it must decide.
 * @cb on @loop. */
struct cluster_call {
    struct loop *loop;
    const char *method;
    json_t *args; /* reference taken over; may be NULL */
    void (*cb)(struct cluster_call *call, int status, json_t *result, const struct err *err);
    void *arg;
    /* private */
    struct task task;
    struct cluster *cluster;
    int status;
    json_t *result;
    struct err err;
};
void cluster_call(struct cluster *c, struct cluster_call *call);

#endif
