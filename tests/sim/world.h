/* The simulator: whole hosts (everything under the HTTP edge) in one thread, on one virtual clock,
 * from one seed. docs/simulation.md says how to read a run.
 *
 * world.c   the run: time, the ring of events, the end of a failed run
 * net.c     consensus messages between hosts
 * host.c    one host: built as the daemon builds it, crashed, started again, joined anew
 * content.c what clients upload
 * client*.c clients: operations, retries, what they saw
 * history.c what they saw must have an order (linearizability per image)
 * fault*.c  what goes wrong, and never more at once than was promised
 * check_log.c what must hold of the logs of all hosts
 * check.c   invariants while it runs and after healing
 * main.c    the command line
 *
 * A crashed host's memory is left behind: nothing of it runs any more, and a run is one process. */
#ifndef TESSERA_TESTS_SIM_WORLD_H
#define TESSERA_TESTS_SIM_WORLD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim_fs.h"
#include "sim_loop.h"
#include "sim_peer.h"
#include "tessera/base/assert.h"
#include "tessera/image.h"

enum {
    SIM_HOSTS_MAX = 8, /* with those that replace others */
    SIM_CHUNK_BYTES = 4096,
    SIM_INDEX_MAX = 60000,
    SIM_TERM_MAX = 4000,
    SIM_IMAGES_MAX = 400,
    SIM_CONTENTS_MAX = 2000,
    SIM_CLIENTS_MAX = 12,
    SIM_TAGS = 6,
    SIM_PROJECTS = 4,
};

struct world;

/* --- what goes wrong (X: name, weight) ---------------------------------------------------------
 */
#define SIM_FAULTS(X)                                                               \
    X(kill, 12)         /* the process ends; the disk stays */                      \
    X(power_drop, 6)    /* nothing unsynced survives */                             \
    X(power_keep, 4)    /* everything unsynced survives */                          \
    X(power_random, 8)  /* some of it does, torn */                                 \
    X(power_all, 4)     /* every host at once */                                    \
    X(crash_start, 6)   /* it crashes, and again while it starts */                 \
    X(pause, 8)         /* SIGSTOP and later SIGCONT */                             \
    X(pause_all, 4)     /* of every host */                                         \
    X(isolate, 8)       /* one host from all others */                              \
    X(split, 5)         /* two halves */                                            \
    X(one_way, 6)       /* a hears b, b does not hear a */                          \
    X(loss, 5)          /* messages and connections are lost */                     \
    X(slow_links, 5)    /* every message takes long */                              \
    X(flap, 5)          /* connections break and come back, again and again */      \
    X(slow_disk, 5)     /* syncs of the log take long */                            \
    X(log_error, 5)     /* a call on the log's files fails */                       \
    X(log_full, 5)      /* no space for the log */                                  \
    X(blob_error, 5)    /* a call on the blobs' files fails */                      \
    X(blob_full, 5)     /* no space for blobs */                                    \
    X(store_error, 5)   /* a call of the metadata store fails */                    \
    X(index_error, 5)   /* a call of the chunk index fails */                       \
    X(clock, 5)         /* the wall clock jumps */                                  \
    X(drift, 4)         /* the wall clock runs too fast or too slow */              \
    X(wipe, 14)         /* the disks are new; the host joins again */               \
    X(replace, 14)      /* a host is gone for good; another joins */                \
    X(log_rot, 18)      /* bits of the log or the vote flip */                      \
    X(log_gone, 18)     /* files of the log vanish */                               \
    X(log_lost, 22)     /* a write to the log or the vote never reaches the disk */ \
    X(log_astray, 22)   /* it reaches the wrong place */                            \
    X(blob_rot, 30)     /* bits of a chunk flip */                                  \
    X(blob_lost, 30)    /* a write of a chunk never reaches the disk */             \
    X(demote, 30)       /* a voter becomes standby; the planner undoes it */        \
    X(transfer, 9)      /* leadership is handed over */                             \
    X(handover_cut, 6)  /* and who had it is cut off in that moment */              \
    X(topple, 6)        /* who leads is cut off or dies soon, again and again */    \
    X(endpoint_move, 9) /* the admin endpoint is moved by hand */

enum sim_fault {
#define X(name, weight) FAULT_##name,
    SIM_FAULTS(X)
#undef X
        FAULT_COUNT
};
extern const char *const sim_fault_names[FAULT_COUNT];

/* --- hosts -------------------------------------------------------------------------------------
 */

struct sim_host {
    struct world *w;
    unsigned n; /* 1 .. ; host id and group */
    uint64_t raft_id;
    char name[16];
    struct loop *control, *worker;
    struct pool *log_pool, *apply_pool, *index_pool, *disk_pool, *cpu_pool;
    struct fs *raft_fs, *blob_fs;
    struct kv *meta_kv, *index_kv;
    bool formed;   /* it has an id and may be started */
    bool up;       /* the process runs */
    bool fatal;    /* it said that it can not go on */
    bool failing;  /* a disk call was ordered to fail: refusing to start may be right */
    bool stopping; /* its disk was ordered to stop with the machine */
    bool io_error; /* calls on its blobs or their index failed since it started */
    bool rotten;   /* its log was damaged: it may refuse to start */
    bool rejoining, wants_join;
    bool gone; /* removed for good */
    unsigned replaced_by;
    bool log_full; /* its log's disk has no room, or had none since it started */
    bool fragile;  /* a write is missing on its disk and shows with the next power cut */
    enum sim_fault rotten_fault; /* which kind of write */
    enum sim_fs_crash_mode last_crash;
    bool prepared; /* it has been up under this id */
    unsigned life;
    unsigned blind_life; /* in that life it trusts a chunk that has rotted since it was hashed */
    char blind_chunk[65];
    uint64_t paused_until_ms;
    uint64_t led_term;

    /* the process */
    struct consensus_net net;
    struct meta *meta;
    struct chunks *chunks;
    struct consensus *consensus;
    struct cluster *cluster;
    struct cluster_load *load;
    struct replicator *replicator;
    struct image_importer *importer;
    struct peer_service service;
    struct replica_ctx replica;
    struct image_ctx image;
    struct buf_budget budget[3];
};

/* --- clients -----------------------------------------------------------------------------------
 */

/* X: name, weight */
#define SIM_OPS(X)      \
    X(create, 5)        \
    X(patch, 10)        \
    X(put, 12)          \
    X(update, 5)        \
    X(tag_add, 8)       \
    X(tag_remove, 6)    \
    X(member_add, 5)    \
    X(member_remove, 4) \
    X(member_status, 4) \
    X(visibility, 4)    \
    X(deactivate, 3)    \
    X(reactivate, 4)    \
    X(delete, 3)        \
    X(upload, 9)        \
    X(stage, 3)         \
    X(import, 8)        \
    X(abandon, 2)       \
    X(download, 13)     \
    X(show, 17)         \
    X(list, 3)
enum sim_op {
#define X(name, weight) OP_##name,
    SIM_OPS(X)
#undef X
        OP_COUNT
};
extern const char *const sim_op_names[OP_COUNT];

/* What one operation on one image saw or did; the input of history.c. */
struct sim_event {
    uint64_t invoked, returned; /* order numbers; UINT64_MAX: never answered, may happen any time */
    enum sim_op op;
    int outcome;    /* OUTCOME_ */
    uint32_t value; /* name, register, tag bit, member bit, content */
    /* show */
    bool live;
    uint32_t name, reg, tags, members, accepted, visibility, off, content, staged;
    unsigned fields; /* which of them were seen: SEEN_ */
};
enum {
    OUTCOME_OK,
    OUTCOME_ABSENT, /* there is no such image */
    OUTCOME_EXISTS,
    OUTCOME_MAYBE,   /* no answer */
    OUTCOME_MISSING, /* no such tag or member, or no image */
    OUTCOME_DROPPED  /* an import that failed: what was staged is gone */
};
enum {
    SEEN_NAME = 1,
    SEEN_REG = 2,
    SEEN_TAGS = 4,
    SEEN_MEMBERS = 8,
    SEEN_CONTENT = 16, /* and whether it is deactivated */
    SEEN_VISIBILITY = 32,
    SEEN_STAGED = 64
};
enum { SIM_ACCEPTED = 16, SIM_VISIBILITIES = 4 }; /* values of member_status, visibility */

struct sim_image {
    char id[UUID_TEXT + 1];
    struct sim_event *events;
    unsigned count, capacity, open; /* open: never answered */
    bool retired;                   /* clients leave it alone from now on */
    uint32_t content;               /* the last that was stored for it */
};

struct client;

/* --- the world ---------------------------------------------------------------------------------
 */

enum { RING_LINES = 200, RING_LINE = 200 };

struct world {
    struct sim *sim;
    struct sim_peers *peers;
    uint64_t seed;
    bool trace;
    uint64_t steps, order;
    uint64_t hash; /* of everything that happened */
    char ring[RING_LINES][RING_LINE];
    unsigned ring_at;

    unsigned host_count;
    struct sim_host hosts[SIM_HOSTS_MAX + 1]; /* from 1 */
    struct image_limits limits;
    bool verify_always;
    uint64_t snapshot_entries, snapshot_trailing, window_bytes, segment_bytes;
    bool slow_blobs; /* some calls on the blobs' disks take long */

    /* network */
    bool cut[SIM_HOSTS_MAX + 1][SIM_HOSTS_MAX + 1];
    /* number of the newest connection; the newest that the receiver knows of; the newest of which
     * all that was on its way is lost */
    unsigned connection[SIM_HOSTS_MAX + 1][SIM_HOSTS_MAX + 1];
    unsigned heard[SIM_HOSTS_MAX + 1][SIM_HOSTS_MAX + 1];
    unsigned lost[SIM_HOSTS_MAX + 1][SIM_HOSTS_MAX + 1];
    uint64_t arrives_us[SIM_HOSTS_MAX + 1][SIM_HOSTS_MAX + 1];
    unsigned loss_per_mille;
    uint64_t delay_min_us, delay_max_us;

    /* clients */
    struct client *clients[SIM_CLIENTS_MAX];
    unsigned client_count, busy;
    bool closing; /* no new operations */
    struct sim_image images[SIM_IMAGES_MAX];
    unsigned image_count;
    uint64_t ops_done, ops_ok[OP_COUNT], ops_all[OP_COUNT];
    uint64_t next_value;
    unsigned op_weights[OP_COUNT];
    uint32_t deleted_content; /* of an image that was deleted not long ago */
    uint64_t deleted_ms;

    /* checkers */
    uint8_t (*digests)[FSM_DIGEST_SIZE];
    bool *digest_known;
    uint64_t leader_of[SIM_TERM_MAX];
    struct logs *logs; /* check_log.c */
    uint64_t last_check_ms;
    unsigned holder;
    uint64_t holder_changes, leaders;

    /* faults */
    uint64_t faults[FAULT_COUNT];
    unsigned weights[FAULT_COUNT];
    uint64_t only;    /* kinds of fault that may happen; 0 = all */
    unsigned damaged; /* the host whose disk was hurt and is not whole again; 0 = none */
    bool toppling;
    bool calm; /* no new faults */
};

/* world.c */
struct world *world_new(uint64_t seed, bool trace);
/* Form the cluster, run clients and faults, heal, check. Exits the process on a violation. */
void world_run(struct world *w, uint64_t chaos_ms);
void world_step(struct world *w);
/* Run until @cond, asked every @every_ms, or @ms passed; whether it came. */
bool world_wait(struct world *w, bool (*cond)(struct world *w), uint64_t every_ms, uint64_t ms);
void world_for(struct world *w, uint64_t ms);
/* One thing that happened: into the ring, the hash, and with --trace onto the screen. */
void world_note(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void world_mix(struct world *w, const void *data, size_t size); /* into the hash only */
void world_fail(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), noreturn));
void world_totals(struct world *w);
uint64_t world_ms(const struct world *w);
uint64_t world_below(struct world *w, uint64_t limit);

/* net.c */
extern const struct consensus_net_ops sim_net_ops;
void net_cut(struct world *w, unsigned from, unsigned to, bool cut); /* one way; calls too */
void net_break(struct world *w, unsigned from, unsigned to);         /* the connection */
void net_started(struct world *w, unsigned n); /* it has a process: cuts count for its calls */
void net_heal(struct world *w);
void net_speed(struct world *w, uint64_t min_us, uint64_t max_us);
void net_loss(struct world *w, unsigned per_mille);

/* host.c */
void host_make(struct world *w, unsigned n);
void host_join_first(struct sim_host *h); /* it never was in the cluster */
void host_bootstrap(struct sim_host *h);
void host_start(struct sim_host *h);
void host_crash(struct sim_host *h, enum sim_fs_crash_mode mode);
void host_restart_after(struct sim_host *h, uint64_t ms);
void host_pause(struct sim_host *h, uint64_t ms);
bool host_runs(const struct sim_host *h);   /* up and not paused */
unsigned hosts_live(const struct world *w); /* not gone for good */
/* The host is gone for good; the others are asked to remove it until they have, then a new one
 * joins. */
void host_replace(struct sim_host *h);
/* The host lost its log (and with @blobs everything): crash it, ask the others for a new
 * incarnation until they give one, start it. */
void host_join_anew(struct sim_host *h, bool blobs);
struct sim_host *host_leader(struct world *w); /* NULL: none that has applied its own entry */
struct sim_host *host_any(struct world *w);    /* one that runs; NULL: none */
struct sim_host *host_ahead(struct world *w);  /* that has applied most */

/* content.c */
uint32_t content_new(struct world *w);                /* returns its number, 1 .. */
uint32_t content_like(struct world *w, uint32_t old); /* shares most of its chunks */
size_t content_size(uint32_t content);
const uint8_t *content_data(uint32_t content);
const char *content_md5(uint32_t content);
unsigned content_chunk_count(uint32_t content);
const char *content_chunk(uint32_t content, unsigned i); /* its name; "": zeros, never stored */
uint32_t content_of_md5(const char *md5);                /* 0: none; UINT32_MAX: unknown */

/* client.c */
void clients_start(struct world *w, unsigned count);
void clients_tell(struct world *w); /* notes the operations that are open */
void clients_host_crashed(struct world *w, struct sim_host *h);
const struct caller *sim_caller(void);

/* history.c */
void history_add(struct world *w, unsigned image, const struct sim_event *event);
void history_check(struct world *w); /* all images; fails the run */

/* fault.c */
void faults_start(struct world *w);
void faults_heal(struct world *w);

/* check_log.c */
void check_logs(struct world *w);
void check_log_crashed(struct sim_host *h); /* before its process is gone */
/* What it said was durable is there when it starts, or it does not start. */
void check_log_started(struct sim_host *h);
uint64_t check_log_committed(const struct world *w); /* the highest index that any host says is */

/* check.c */
void check_step(struct world *w);
void check_applied(struct sim_host *h, uint64_t index);
void check_leader(struct sim_host *h, uint64_t term);
bool check_formed(struct world *w);
bool check_all_applied(struct world *w);
/* The image was said to be stored: its replicas are on the disks. @now: just now, so there are as
 * many as were promised. */
void check_acknowledged(struct sim_host *h, const char *id, bool now);
void check_end(struct world *w);
/* Every image that clients may rely on is whole on some host other than @not. */
bool check_images_elsewhere(struct world *w, unsigned not );
/* Nothing is being stored: of that, one replica may be all there is. */
bool check_uploads_over(struct world *w);
bool check_settled(struct world *w); /* replicas and members are as the records say */
void check_settled_why(struct world *w, char *out, size_t size);

#endif
