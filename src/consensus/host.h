/* struct consensus and what its parts share. Each part has one file:
 *   consensus.c  life, messages in, timers, status      writer.c      log and vote on disk
 *   applier.c    the state machine                      submit.c      proposals
 *   read_index.c linearizable reads                     member.c      membership, transfer
 *   snapshot.c   marker, cutting the log                export.c      whole state to a follower
 *   install.c    whole state from a leader              open.c        the disk at start
 *   space.c      a full disk
 *
 * After every event host_pump() lets each part look at the core and do what is due; parts never
 * call each other's pumps. Blocking work is a struct job on a pool; while the host closes, jobs
 * that end only free their memory, and the last one finishes the close. */
#ifndef TESSERA_CONSENSUS_HOST_H
#define TESSERA_CONSENSUS_HOST_H

#include <stdatomic.h>

#include "consensus/codec.h"
#include "consensus/core.h"
#include "consensus/disklog.h"
#include "consensus/marker.h"
#include "consensus/vote.h"
#include "tessera/base/list.h"
#include "tessera/base/map.h"
#include "tessera/consensus.h"

enum {
    TICK_MS = 50,
    APPLY_ENTRIES_MAX = 256,
    APPLY_BYTES_MAX = 4 * 1024 * 1024,
    BATCH_BYTES_MAX = 512 * 1024,
    BATCHES_FLYING_MAX = 2,
    FORWARDS_FLYING_MAX = 4,
    FORWARD_BYTES_MAX = 16 * 1024 * 1024, /* queued on the leader */
    READS_MAX = 10000,
    RESEND_MS = 1000,
    LEADERLESS_MS = 4000, /* no leader for so long: requests do not wait for one */
    STREAMS_MAX = 8,
    STREAM_WINDOW = 1024 * 1024,
    TRAILING_BYTES = 16 * 1024 * 1024,
};

struct job {
    struct work work;
    struct consensus *c;
    void (*run)(struct job *job);  /* on the pool */
    void (*done)(struct job *job); /* on the control loop, also while closing */
    bool busy;
    int rc;
};

/* writer.c: one log write and one vote write at a time */
struct writer {
    struct job log_job, vote_job, cut_job;
    struct core_write write;
    bool spare;   /* after the last write: a further segment is preallocated */
    uint64_t cut; /* the log on disk is cut up to here */
    uint64_t cut_wanted;
    uint64_t began_ms, ended_ms, took_ms; /* of log writes; the last one smoothed */
};

/* applier.c */
struct applier {
    struct job job;
    unsigned count;
    struct {
        uint64_t index, term;
        uint8_t type;
        struct payload *payload;
    } in[APPLY_ENTRIES_MAX];
    struct fsm_entry out[APPLY_ENTRIES_MAX];
};

/* submit.c */
struct forward_set; /* commands of one FORWARD message */
struct submits {
    struct map by_id;     /* proposals of this host */
    struct list queue;    /* to be sent or proposed */
    struct list sent;     /* waiting for their apply, or for a time to try again */
    struct list forwards; /* leader: struct forward_command */
    size_t forward_bytes;
    struct map flying; /* leader: ids in the log, not applied yet */
    uint64_t batches[BATCHES_FLYING_MAX];
    unsigned forwards_out;
    uint64_t seq;
    struct list failed; /* requests that ended at once */
};

/* read_index.c */
struct reads {
    struct list fresh;   /* came after the present ask or round */
    struct list asked;   /* covered by it */
    struct list waiting; /* index known, not applied yet */
    struct list failed;
    unsigned count;
    /* asking the leader */
    uint64_t ask_seq, ask_to, ask_ms; /* ask_to 0: none is out */
    /* leading: one round */
    bool round;
    uint64_t round_seq, round_term, round_index, round_ms;
    uint64_t confirmed[MEMBERS_MAX];
    unsigned confirmed_count;
    /* leading: hosts that ask; the newest ask of each */
    struct read_ask {
        uint64_t from, seq;
        bool in_round;
    } asks[MEMBERS_MAX];
    unsigned ask_count;
};

/* member.c */
enum change_phase { CHANGE_NONE, CHANGE_START, CHANGE_CATCH_UP, CHANGE_COMMIT };
struct members {
    enum change_phase phase;
    struct conf next;
    uint64_t id, index, term, deadline_ms;
    bool remove; /* after this step */
    enum consensus_role role;
    consensus_change_cb cb;
    void *arg;
    /* transfer */
    bool transferring, transfer_again;
    uint64_t transfer_id, transfer_term, transfer_deadline_ms;
    consensus_change_cb transfer_cb;
    void *transfer_arg;
};

/* snapshot.c */
/* space.c */
struct space {
    struct job job;
    bool found; /* the look's answer */
    bool log_full, store_full;
    uint64_t since_ms;     /* when the first of them began; 0 = there is room */
    uint64_t look_ms;      /* when to look for a spare segment again */
    uint64_t again_ms;     /* store: when to try again */
    uint64_t hand_over_ms; /* leading: when to try again to hand over */
    uint64_t passed_ms;    /* when an append was last let through as a heartbeat */
    uint64_t marker_ms;    /* when a marker may be tried again */
};

enum snapshot_phase { SNAPSHOT_IDLE, SNAPSHOT_SYNC, SNAPSHOT_STORE };
struct snapshots {
    enum snapshot_phase phase;
    struct job job;
    bool for_export;
    struct fsm_export *export;
    struct fsm_point point;
    struct marker marker; /* being stored */
};

/* export.c */
struct stream {
    uint64_t to, id;
    uint64_t next, acked, moved_ms, offered_ms;
    uint64_t match; /* how far it has followed */
    bool open, wanted, answered, follows;
    uint64_t read_offset;
    size_t read_size;
    struct job job;
    char *piece;
};
enum export_phase { EXPORT_NONE, EXPORT_WANTED, EXPORT_WRITING, EXPORT_READY, EXPORT_REMOVING };
struct exports {
    enum export_phase phase;
    struct job job;
    struct fsm_export *export;
    struct fs_file *file;
    char *path;
    struct stage_head head;
    struct stream streams[STREAMS_MAX];
};

/* install.c */
enum install_phase {
    INSTALL_NONE,
    INSTALL_OPENING,
    INSTALL_STAGING,
    INSTALL_CLOSING,
    INSTALL_FINISHING,
    INSTALL_DELIVERED,
    INSTALL_IMPORTING,
    INSTALL_SWITCHING,
    INSTALL_REMOVING,
};
struct installs {
    enum install_phase phase;
    struct job job;
    struct stage *stage;
    struct stage_head head;
    uint64_t from, stream, term, have, heard_ms;
    struct list pieces; /* received, not written */
    uint64_t queued;    /* bytes of them */
    struct list writing;
    uint64_t written; /* bytes of them */
    char path[512];
    struct fsm_point point;
};

struct consensus {
    struct consensus_options options;
    char *dir, *address;
    struct core *core;
    struct disklog *log;
    struct vote vote;
    struct marker marker; /* the one on disk */
    uint64_t applied;
    atomic_uint_fast64_t applied_shared;

    struct timer raft_timer, tick_timer;
    uint64_t raft_due;
    struct task later_task;
    bool later_posted;

    bool started, closing, pumping, pump_again;
    int fatal;
    unsigned jobs;
    struct job close_job;
    void (*close_cb)(void *arg);
    void *close_arg;

    /* what was seen last: transitions are found by comparing */
    uint64_t seen_leader, seen_term;
    uint64_t led_term; /* leads in this term; 0 = does not */
    bool led_ready;    /* on_leader was called */
    uint64_t leader_changes;

    struct writer writer;
    struct applier applier;
    struct submits submits;
    struct reads reads;
    struct members members;
    struct snapshots snapshots;
    struct exports exports;
    struct installs installs;
    struct space space;
    uint64_t ticks;
    uint64_t leader_ms; /* when a leader was last known (or this host opened) */
};

/* open.c: TSR_ECORRUPT with the reason when this host can not vouch for its log or vote. */
int host_open_disk(struct consensus *c, struct err *err);

/* consensus.c */
uint64_t host_now(struct consensus *c);
/* No leader is known for long: a majority is away, and waiting helps nobody. */
bool host_leaderless(struct consensus *c);
void host_fatal(struct consensus *c, int code, const char *reason);
/* Check the core's result; false when it was final. */
bool host_ok(struct consensus *c, int rc);
void host_pump(struct consensus *c);
void host_send(struct consensus *c, uint64_t to, const struct message *m);
void host_pump_later(struct consensus *c);
void job_start(struct consensus *c, struct job *job, struct pool *pool,
               void (*run)(struct job *job), void (*done)(struct job *job));
/* As after a crash: free all memory, write nothing, call nobody. No job may be running. Simulator.
 */
void consensus_abandon(struct consensus *c);

/* space.c */
bool space_full(const struct consensus *c);
void space_log(struct consensus *c, bool spare);  /* what a write, or a look, found */
void space_store(struct consensus *c, bool full); /* what an apply or an import found */
bool space_wait(struct consensus *c);             /* the store was full only now: not yet again */
void space_tick(struct consensus *c);
/* An append from a leader that this host has no room for: nothing of it, or a heartbeat. */
int space_append(struct consensus *c, uint64_t from, const struct message *m);
/* Without room for long: requests are refused. */
bool space_hopeless(const struct consensus *c);

void writer_pump(struct consensus *c);
/* What a durable write takes lately, or the one under way has taken so far. */
uint64_t writer_sync_ms(const struct consensus *c, uint64_t now_ms);
bool writer_idle(const struct consensus *c);
void writer_free(struct consensus *c);

void applier_pump(struct consensus *c);
void applier_free(struct consensus *c);

void submit_init(struct consensus *c);
void submit_pump(struct consensus *c);
void submit_tick(struct consensus *c);
void submit_leader_changed(struct consensus *c);
void submit_applied(struct consensus *c, const struct fsm_command *command);
void submit_forward(struct consensus *c, uint64_t from, const struct message *m);
void submit_forward_reply(struct consensus *c, uint64_t from, const struct message *m);
void submit_disconnected(struct consensus *c, uint64_t from);
void submit_failed(struct consensus *c);
void submit_cancel(struct consensus *c);
void submit_free(struct consensus *c);

void read_init(struct consensus *c);
void read_pump(struct consensus *c);
void read_tick(struct consensus *c);
void read_leader_changed(struct consensus *c);
void read_message(struct consensus *c, uint64_t from, const struct message *m);
void read_disconnected(struct consensus *c, uint64_t from);
void read_failed(struct consensus *c);
void read_cancel(struct consensus *c);

void member_pump(struct consensus *c);
void member_cancel(struct consensus *c);

void snapshot_pump(struct consensus *c);
bool snapshot_idle(const struct consensus *c);
void snapshot_free(struct consensus *c);

void export_want(struct consensus *c, uint64_t to);
bool export_wanted(const struct consensus *c);
/* The pinned read (owned from here on) and the marker it belongs to. */
void export_begin(struct consensus *c, struct fsm_export *export, const struct marker *marker);
void export_pump(struct consensus *c);
void export_tick(struct consensus *c);
void export_ack(struct consensus *c, uint64_t from, const struct message *m);
/* Log entries from here on are needed by a follower that is being sent the state, or was; 0 = none.
 */
uint64_t export_keep_from(const struct consensus *c);
void export_free(struct consensus *c);

void install_init(struct consensus *c);
void install_pump(struct consensus *c);
void install_offer(struct consensus *c, uint64_t from, const struct message *m);
void install_piece(struct consensus *c, uint64_t from, const struct message *m);
void install_free(struct consensus *c);

#endif
