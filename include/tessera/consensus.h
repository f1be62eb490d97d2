/* Consensus: opaque commands in an agreed order, on every host, none lost, each applied once.
 *
 * Stands on libraft's I/O-free core (src/consensus/core.c, its only door) with our own log, vote
 * record, snapshots and messages. Life: consensus_open (reads the disk) -> consensus_start ->
 * submit / read / change members -> consensus_close.
 *
 * Thread: everything on the control loop given at open, unless said otherwise. The store behind it
 * (struct fsm) is called on the apply pool (one thread); the log on the log pool (one thread).
 * No disk is touched on the control thread. */
#ifndef TESSERA_CONSENSUS_H
#define TESSERA_CONSENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/loop.h"

enum {
    COMMAND_ID_SIZE = 16,
    COMMAND_BYTES_MAX = 1536 * 1024,
    ENTRY_BYTES_MAX = 2 * 1024 * 1024,
    FSM_DIGEST_SIZE = 32,
    MEMBERS_MAX = 64,
    MEMBER_ADDRESS_MAX = 128,
};

/* --- the state machine that the log drives (meta/ implements it) ----------------------------- */

struct fsm_command {
    uint8_t id[COMMAND_ID_SIZE];
    const char *data; /* as submitted */
    size_t size;
    /* out, set by apply: the outcome that the proposer gets. A refusal is an outcome. */
    int code;     /* 0 or a TSR_ code */
    char *result; /* malloc'ed text or NULL; consensus frees it */
    size_t result_size;
    bool duplicate; /* was applied before; the recorded outcome is given again */
};

struct fsm_entry {
    uint64_t index, term;
    int64_t wall_us; /* the leader's wall clock when it made the batch; 0 for entries without
                        commands */
    struct fsm_command *commands;
    unsigned count; /* 0: a no-op or a membership change, applied for its index only */
};

/* What a store holds: everything up to index. digest = running digest of effects. */
struct fsm_point {
    uint64_t index, term;
    uint8_t digest[FSM_DIGEST_SIZE];
};

struct fsm_export; /* a pinned read of the whole store */

struct fsm;
struct fsm_ops {
    /* Apply @n entries (indexes consecutive, above what was applied) in one durable-ordered
     * transaction with the last index, term and digest. Non-zero: the host must stop. Apply pool.
     */
    int (*apply)(struct fsm *fsm, struct fsm_entry *entries, unsigned n);
    /* What is applied. Any thread. */
    int (*point)(struct fsm *fsm, struct fsm_point *out);
    /* Make everything applied durable. Apply pool. */
    int (*sync)(struct fsm *fsm);
    /* Pin the present state; *at is its point. Read it piece by piece from any pool thread, one
     * reader at a time: returns bytes (0 = end) or an error. The stream has its own checks inside.
     */
    int (*export_open)(struct fsm *fsm, struct fsm_export **out, struct fsm_point *at);
    long (*export_read)(struct fsm_export *e, void *data, size_t size);
    void (*export_close)(struct fsm_export *e);
    /* Replace the whole store by the stream in file @path (made by export), then make it durable.
     * All or nothing also across a crash (an unfinished import is found at the next open and
     * reported by point() as index 0). Apply pool. */
    int (*import_file)(struct fsm *fsm, struct fs *fs, const char *path, struct fsm_point *out);
};
struct fsm {
    const struct fsm_ops *ops;
};

/* --- messages between hosts: the daemon gives the real one (peer/link), the simulator its own --
 */

struct consensus_net;
struct consensus_net_ops {
    /* Send one message; ordered per destination while a connection lives; may be lost. Copies
     * @data.
     * @address: from the membership, or NULL (use what the peer told when it connected). Messages
     * that would queue more than 16 MiB for one peer are dropped. */
    void (*send)(struct consensus_net *net, uint64_t to, const char *address, const void *data,
                 size_t size);
    /* Bytes queued to that peer. */
    size_t (*queued)(struct consensus_net *net, uint64_t to);
};
struct consensus_net {
    const struct consensus_net_ops *ops;
};

/* --- options ---------------------------------------------------------------------------------- */

enum consensus_role { CONSENSUS_STANDBY, CONSENSUS_VOTER, CONSENSUS_SPARE };
enum consensus_state { CONSENSUS_FOLLOWER, CONSENSUS_CANDIDATE, CONSENSUS_LEADER };

struct consensus_events {
    /* This host leads in @term and has applied everything committed before. Then on_lost once. */
    void (*on_leader)(void *arg, uint64_t term);
    void (*on_lost)(void *arg);
    /* Entries up to @index were applied here. */
    void (*on_applied)(void *arg, uint64_t index);
    /* The host can not go on: one clear reason; nothing more is done. The daemon stops the process.
     */
    void (*on_fatal)(void *arg, int code, const char *reason);
};

struct consensus_options {
    struct loop *loop;       /* control */
    struct pool *log_pool;   /* one thread */
    struct pool *apply_pool; /* one thread */
    struct pool *disk_pool;  /* for exports and staging files */
    struct fs *fs;
    const char *dir; /* "<data>/raft" */
    struct fsm *fsm;
    struct consensus_net *net;
    struct consensus_events events;
    void *arg;
    uint64_t self;                      /* raft id: host_id << 16 | incarnation */
    const char *address;                /* own consensus address, as in the membership */
    unsigned election_ms, heartbeat_ms; /* 500, 50 */
    uint64_t snapshot_entries, snapshot_bytes, snapshot_trailing; /* 50,000, 64 MiB, 5,000 */
    uint64_t segment_bytes;                                       /* 8 MiB */
    uint64_t window_bytes; /* in flight to one follower: 4 MiB */
};

struct consensus;

/* Blocking (start-up): reads log, vote and marker in @dir and checks them against the store.
 * TSR_ECORRUPT with the reason: this host can not vouch for its log or vote and must not start.
 * TSR_ENOTSUP: a newer version wrote there. */
int consensus_open(const struct consensus_options *options, struct consensus **out,
                   struct err *err);
/* Blocking: write the first log of a new cluster with this host as the only voter.
 * TSR_EEXIST: there is a log already. */
int consensus_bootstrap(struct fs *fs, const char *dir, uint64_t self, const char *address);
/* Blocking: before a host runs under a new id for the first time, make @dir and an empty vote
 * record in it. Who finds it missing later (consensus_prepared is false) must not run under that id
 * again: what it has acknowledged is lost. */
int consensus_prepare(struct fs *fs, const char *dir);
/* Blocking, once a start of the process: a number that is higher than at every earlier start on
 * this disk. TSR_ECORRUPT, TSR_ENOTSUP: of the vote, which consensus_open tells better. */
int consensus_begin(struct fs *fs, const char *dir, uint64_t *starts_out);
bool consensus_prepared(struct fs *fs, const char *dir);
/* Whether @dir holds a log or marker. */
bool consensus_exists(struct fs *fs, const char *dir);
int consensus_start(struct consensus *c);
/* Blocking, instead of consensus_start, when a majority is lost for good: this host is the only
 * voter from the next start on, and all that its log holds counts as committed. It must be the one
 * whose log goes furthest, and no other host may start with its old log again. */
int consensus_recover(struct consensus *c);
/* Term of the last entry that the log held when it was opened. */
uint64_t consensus_last_term(const struct consensus *c);
/* Stops; waiting requests get TSR_ECANCELED; @cb after the last write has ended and memory is free.
 */
void consensus_close(struct consensus *c, void (*cb)(void *arg), void *arg);

/* A message from @from (the id that its certificate vouches for the host part of). Checked here
 * whole; TSR_EPROTO: the caller closes that connection. */
int consensus_receive(struct consensus *c, uint64_t from, const void *data, size_t size);
/* The connection from @from is gone: replies of it that are still coming are dropped. */
void consensus_disconnected(struct consensus *c, uint64_t from);

/* --- changes ---------------------------------------------------------------------------------- */

struct consensus_submit;
/* @status 0: applied on this host; @code is the command's outcome and @result its text (valid
 * during the call). TSR_ENOQUORUM / TSR_ETIMEOUT: not known to be committed when the deadline came,
 * it may still happen (retry with the same id is safe). TSR_EUNAVAILABLE: not taken, as this host's
 * disk is full. TSR_ETOOBIG, TSR_ECANCELED. */
typedef void (*consensus_submit_cb)(struct consensus_submit *req, int status, int code,
                                    const char *result, size_t result_size);
struct consensus_submit {
    uint8_t id[COMMAND_ID_SIZE];
    const char *data; /* caller's until the callback */
    size_t size;
    uint64_t timeout_ms; /* 0 = 10 s */
    consensus_submit_cb cb;
    void *arg;
    /* private */
    void *state[12];
};
/* Propose; forwarded to the leader where this host does not lead, sent again under the same id
 * after a leader change, answered once this host has applied it. */
void consensus_submit(struct consensus *c, struct consensus_submit *req);

/* --- linearizable reads ------------------------------------------------------------------------
 */

struct consensus_read;
/* @status 0: this host has applied everything that was committed when the call was made. */
typedef void (*consensus_read_cb)(struct consensus_read *req, int status);
struct consensus_read {
    uint64_t timeout_ms; /* 0 = 1 s */
    consensus_read_cb cb;
    void *arg;
    void *state[8];
};
/* TSR_EBUSY in the callback: over 10,000 waiting. TSR_ENOQUORUM / TSR_ETIMEOUT. */
void consensus_read_index(struct consensus *c, struct consensus_read *req);

/* --- membership, leadership ----------------------------------------------------------------------
 */

struct consensus_member {
    uint64_t id;
    enum consensus_role role;
    char address[MEMBER_ADDRESS_MAX];
};

typedef void (*consensus_change_cb)(void *arg, int status);
/* Leader only, one at a time (TSR_ENOTLEADER, TSR_EBUSY at once). add: as standby. role: promotion
 * to voter catches up first. remove: also demotes a voter first. Never for the leader itself
 * (TSR_ECONFLICT: transfer first). 0 once the change is committed and settled. */
int consensus_member_add(struct consensus *c, uint64_t id, const char *address,
                         consensus_change_cb cb, void *arg);
int consensus_member_role(struct consensus *c, uint64_t id, enum consensus_role role,
                          consensus_change_cb cb, void *arg);
int consensus_member_remove(struct consensus *c, uint64_t id, consensus_change_cb cb, void *arg);
/* Hand leadership to @id (0 = the best one). TSR_ETIMEOUT after the election timeout: still
 * leading. */
int consensus_transfer(struct consensus *c, uint64_t id, consensus_change_cb cb, void *arg);

struct consensus_status {
    enum consensus_state state;
    enum consensus_role role; /* own; SPARE when not in the configuration */
    uint64_t self, leader;    /* leader 0 = unknown */
    uint64_t term, last_index, commit_index, applied_index, snapshot_index;
    uint64_t leader_changes;
    uint64_t
        contact_ms; /* monotonic ms of the last proof of a quorum (leader) or leader (others) */
    uint64_t
        sync_ms; /* what a durable write of the log takes lately, or the one under way so far */
    /* No room for the log (a spare segment) or the store: nothing new is taken here until there is.
     * contact_ms of a follower stays at the moment when that began. */
    bool log_full, store_full;
    bool ready; /* leader known and, on the leader, own-term entry applied */
    unsigned member_count;
    struct consensus_member members[MEMBERS_MAX];
    uint64_t match[MEMBERS_MAX]; /* leader: highest index known on that member */
};
void consensus_status(struct consensus *c, struct consensus_status *out);
/* Entries applied, term of leadership: for callers on other threads (atomics). */
uint64_t consensus_applied(const struct consensus *c);

#endif
