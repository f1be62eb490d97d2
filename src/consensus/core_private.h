/* Shared by the core_*.c files only. */
#ifndef TESSERA_CONSENSUS_CORE_PRIVATE_H
#define TESSERA_CONSENSUS_CORE_PRIVATE_H

#include "consensus/core.h"
#include "consensus/guard.h"
#include "consensus/libraft.h"
#include "tessera/base/assert.h"
#include "tessera/base/list.h"

/* A CHANGE entry of the log (or the marker's). */
struct conf_entry {
    uint64_t index;
    struct payload *bytes;
};

/* What a follower is still to be sent. libraft believes that all up to @end has left; we send as
 * much as the byte window allows, and no CHANGE that is not durable here yet (R11). */
struct flow {
    uint64_t id;
    uint64_t next, end;
    uint64_t told; /* it knows that all up to here is committed, unless a message was lost */
};

struct core {
    struct core_options options;
    struct raft raft;
    char *address;
    uint64_t now_ms;
    int failed;
    bool running; /* inside the event loop: libraft is not re-entrant */

    struct entries log;
    struct conf_entry confs[MEMBERS_MAX * 4]; /* oldest first; see conf_push */
    unsigned conf_count;
    struct conf conf; /* the newest, decoded */

    uint64_t commit;   /* R15: libraft's can go down, ours not */
    uint64_t durable;  /* our log is on disk up to here */
    uint64_t written;  /* handed to the log up to here */
    uint64_t truncate; /* what is on disk or on its way there from here on is dead; 0 = nothing */
    uint64_t leader_index;
    uint64_t heard_ms;
    bool installing;

    /* The vote that must be durable before anything else happens. */
    bool vote_wanted, vote_solo;
    uint64_t vote_term, voted_for;

    struct list events; /* what waits for it */
    struct list held;   /* messages that wait for it */

    struct flow flows[MEMBERS_MAX];
    unsigned flow_count;
};

struct core_held {
    struct list link;
    uint64_t to;
    struct message m; /* entries and their payloads are owned */
    struct payload **payloads;
};

enum core_event_kind {
    EVENT_MESSAGE,
    EVENT_TIMEOUT,
    EVENT_WRITTEN,
    EVENT_NOOP,
    EVENT_SNAPSHOT,
    EVENT_INSTALL,
    EVENT_INSTALLED,
};

struct core_event {
    struct list link;
    enum core_event_kind kind;
    uint64_t from;
    struct message m; /* append: entries without data, see payloads */
    struct payload **payloads;
    unsigned count;
    /* snapshots */
    struct marker marker; /* conf is in `conf` */
    struct payload *conf;
    uint64_t term, keep_from;
};

/* What a step needs to know of the event it is for. */
struct core_step {
    struct raft_entry *entries; /* given to libraft */
    struct payload *const *payloads;
    bool stale;       /* R1 */
    bool timeout_now; /* R13 */
    bool took_entries, took_snapshot;
};

/* core.c */
void core_clock(struct core *core, uint64_t now_ms);
int core_events(struct core *core, uint64_t now_ms);

/* core_step.c: core_step returns libraft's code; what a refusal means is the caller's to know. */
int core_fail(struct core *core, int code, const char *what);
int core_step(struct core *core, struct raft_event *ev, struct core_step *step);
void core_settle_commit(struct core *core);

/* core_give.c */
void core_give(struct core *core, struct core_event *ev);
int core_submit_entry(struct core *core, enum raft_entry_type type, struct payload *payload);

/* core_flow.c */
void core_emit(struct core *core, uint64_t to, const struct message *m,
               struct payload *const *payloads);
void core_release_held(struct core *core);
void core_drop_held(struct core *core);
void flow_reset(struct core *core);
void flow_append(struct core *core, const struct raft_message *rm);
void flow_flush(struct core *core, uint64_t id); /* 0 = all */

/* core_conf.c */
int conf_push(struct core *core, uint64_t index, struct payload *bytes);
int conf_truncate(struct core *core, uint64_t index);
void conf_cut(struct core *core, uint64_t index);
void conf_clear(struct core *core);
int conf_to_raft(const void *data, size_t size, struct raft_configuration *out);

/* core_heap.c: libraft's memory never runs out; the process ends instead. */
void core_heap(void);

#endif
