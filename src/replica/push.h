/* Private parts of the writer: push.c cuts, hashes and sends; push_seal.c makes replicas of it. */
#ifndef REPLICA_PUSH_H
#define REPLICA_PUSH_H

#include "replica/wire.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"
#include "tessera/replica.h"

enum {
    PUSH_STALL_MS = 15 * 1000,  /* how long the others wait for a host that gets nowhere */
    PUSH_SILENT_MS = 30 * 1000, /* how long other uploads wait for the buffers of a silent one */
};

struct push_host {
    struct replica_writer *w;
    uint64_t id;
    bool self;
    bool ask;   /* worth asking before sending: it had the last chunk */
    int failed; /* why it was dropped; 0 = still in the set */

    /* sealing */
    struct peer_call call;
    struct chunk_req req;
    uint8_t head[WIRE_SESSION_ID];
    bool sealed, calling;
    uint64_t called_ms;
    unsigned rounds;
    struct chunk_id *missing;
    size_t missing_count, missing_at;
    void *buffer; /* of a chunk sent again */
};

struct push_slot;
struct push_send {
    struct push_slot *slot;
    struct push_host *host;
    struct peer_call call;
    bool active;
    uint8_t head[WIRE_HAVE_ONE > WIRE_SESSION_ID ? WIRE_HAVE_ONE : WIRE_SESSION_ID];
};

/* One chunk on its way. */
struct push_slot {
    struct list node; /* in order */
    struct replica_writer *w;
    uint32_t n;
    uint8_t *data;
    size_t size;
    struct chunk_id id;
    bool zero;
    unsigned uses; /* of the buffer: digests, local put, sends */
    uint64_t sent_ms;
    struct work work;
    struct chunk_req put;
    struct push_send sends[];
};

/* A running digest: one chunk after the other, each on some cpu thread. */
struct push_chain {
    struct replica_writer *w;
    struct digest *digest;
    struct push_slot *slot; /* being added */
    uint32_t next;
    struct work work;
};

enum push_phase { PUSH_OPEN, PUSH_FLUSHING, PUSH_SEALING, PUSH_ENDING };

struct replica_writer {
    struct replica_ctx *ctx;
    struct replica_writer_options options;
    struct push_host hosts[REPLICA_HOSTS_MAX];
    size_t host_count;
    enum push_phase phase;
    bool aborted;
    int status; /* why it failed */
    struct err err;
    bool told; /* on_fail was called */

    struct cutter cutter;
    struct buf rest; /* what came while there was no buffer */
    bool paused;     /* the source waits for on_drain */
    uint64_t fed_ms; /* when something came, or was asked for */
    struct bufpool_waiter waiter;
    bool waiting;
    unsigned held; /* buffers */

    struct list slots;
    struct push_chain md5, sha512;
    struct manifest manifest; /* grows */
    size_t id_capacity;
    unsigned busy; /* operations whose callback is to come */
    struct timer timer;
    struct task task; /* on_fail, outside of the caller's call */
    bool task_posted;

    char *encoded;
    size_t encoded_size;
    struct chunk_id manifest_id;
    unsigned sealing; /* hosts that are not over */
    uint64_t over_ms; /* when the last one was */

    replica_writer_cb cb;
    void (*abort_cb)(void *arg);
    void *arg;
};

/* Drop a host from the set; the writer fails when too few are left. */
void push_host_fail(struct push_host *host, int status);
void push_fail(struct replica_writer *w, int status, const char *why);
size_t push_hosts_left(const struct replica_writer *w);
/* After every completion: whatever comes next. May free @w. */
void push_advance(struct replica_writer *w);
/* Give back the buffer that the cutter fills, or the wish for one. */
void push_drop_buffer(struct replica_writer *w);
void push_seal_start(struct replica_writer *w);
void push_seal_drop_stalled(struct replica_writer *w);
void push_end(struct replica_writer *w);

#endif
