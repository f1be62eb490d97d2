/* The cluster service's own parts. Private to cluster/; everything runs on the control loop. */
#ifndef TESSERA_CLUSTER_INTERNAL_H
#define TESSERA_CLUSTER_INTERNAL_H

#include "cluster/staged.h"
#include "cluster/voters.h"
#include "tessera/cluster.h"

enum {
    REPORT_EVERY_MS = 500, /* each host to the leader; also how often the duties look */
    LEASE_RENEW_MS = 500,  /* the holder of the admin endpoint to the leader */
    LEASE_VALID_MS = 2000, /* from the moment a renewal was sent: the holder acts only within it */
    LEASE_EXPIRY_MS =
        3000, /* from the moment one was answered: the leader grants again only after it */
    JUDGE_EVERY_MS =
        200, /* the leader, of the others' reports; duties run more often while planning */
    CONTACT_LOST_MS = 2000, /* no proof of a quorum for so long: not ready */
    SYNC_SLOW_MS = 250,     /* a write of the log that takes so long is slow: half an election */
};

/* What this host, while it leads, knows of another (or of itself). */
struct host_seen {
    uint64_t id;
    uint64_t report_ms;   /* monotonic time of the last report; 0 = none since this host leads */
    uint64_t first_ms;    /* when it was first looked at in this term of leadership */
    uint64_t up_again_ms; /* when the last up/down command was sent, so that it is not sent twice */
    json_t *report;       /* the last one, or NULL */
    bool diverged;        /* its state differed from the leader's when last compared */
    bool cut;             /* clients can not reach it (reach.c) */
};

/* life.c: what was seen last of a host's process. */
struct life {
    uint64_t raft_id, mark, starts;
    uint64_t applied;  /* the most that it said to have applied, in any life */
    uint64_t heard_ms; /* when it was known to be alive; 0: its connection ended since */
    uint64_t gone_ms;  /* when that was */
    uint64_t live_mark, live_since_ms; /* who was refused because it was heard, and since when */
    uint64_t asked_ms, twice_ms;
};

/* reach.c: what this host knows of another's API. */
struct reach {
    uint64_t host;
    unsigned misses; /* in a row */
    bool pending;
};

enum { WATCH_CHANGES = 4 };
/* watch.c: what is remembered to tell whether all is well. */
struct watch {
    uint64_t term, leader_ms;        /* of the last leader that was known; when one was */
    uint64_t changes[WATCH_CHANGES]; /* when the last ones were, a ring */
    unsigned change, asked;
    bool removed; /* the others say that this host does not belong */
    /* leader */
    uint64_t commit, commit_ms, commit_before;
};

/* A request to the cluster service, local or from another host. Ends with op_done, once. */
struct cluster_op {
    struct cluster *c;
    json_t *args;  /* never NULL */
    uint64_t from; /* host that asks; own id for local ones */
    void (*done)(struct cluster_op *op, int status, json_t *result, const struct err *err);
    void *arg;
    void *state; /* the method's */
};
/* Takes the reference to @result. */
void op_done(struct cluster_op *op, int status, json_t *result, const struct err *err);
void op_fail(struct cluster_op *op, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct cluster {
    struct cluster_options o;
    struct timer report_timer, lease_timer, duty_timer;
    struct meta_watch records; /* of the hosts */
    bool started, closing, draining;
    void (*close_cb)(void *arg);
    void *close_arg;
    size_t pending; /* calls in flight that hold memory of ours */

    /* leadership */
    bool leader;
    uint64_t leader_since_ms, leader_term;
    struct host_seen seen[CLUSTER_HOSTS_MAX];
    size_t seen_count;
    bool changing_members, handing_over;
    uint64_t handover_next_ms, slow_since_ms;
    struct watch watch;
    struct reach reach[CLUSTER_HOSTS_MAX];
    size_t reach_count;
    uint64_t reach_ms, judged_ms;
    uint64_t minute_ms;

    /* planner */
    bool plan_wanted, plan_running;
    char plan_after[64];
    size_t plan_pending;
    uint64_t plan_work_ns, plan_next_ms;

    /* imports */
    size_t import_pending;
    uint64_t import_next_ms, import_expire_ms;
    struct staged_ages staged;

    /* admin endpoint */
    bool lease_pending;         /* a renewal is on its way */
    uint64_t lease_sent_ms;     /* when the last answered renewal was sent (holder) */
    uint64_t lease_epoch;       /* the epoch it was for */
    uint64_t lease_answered_ms; /* when this leader last answered one */
    uint64_t released_epoch;    /* this host gave that epoch back: never again */
    bool granting;
    uint64_t away_next_ms; /* not moved away from an unreachable holder before */

    bool report_pending;

    /* one process for one identity (life.c) */
    struct life lives[CLUSTER_HOSTS_MAX];
    size_t life_count;
    uint64_t refused_since_ms, refused_ms; /* this process, as another one is alive */

    /* room for metadata (room.c) */
    struct kv_stat map;
    uint64_t map_next_ms;
    bool no_creates;

    /* whether the states agree (rejoin.c) */
    uint64_t started_ms;
    uint64_t check_index, check_next_ms; /* what is compared (leader), or was asked for (others) */
    uint64_t hand_over_ms;               /* when this leader last tried to hand over to rebuild */

    uint64_t sessions_next_ms; /* when to look for upload sessions of an earlier process */
    bool sessions_busy;

    /* for other threads */
    atomic_bool a_cut; /* clients can not reach this host, as the leader knows */
    atomic_bool a_ready, a_leader, a_endpoint;
    uint64_t seen_leader; /* the last one heard of */
    atomic_uint_fast64_t a_leader_host, a_endpoint_host, a_endpoint_epoch, a_contact_ms,
        a_parted_ms, a_lease_until_ms;
};

/* cluster.c */
uint64_t cluster_now(struct cluster *c);
/* Submit a command; @cb (may be NULL) gets @arg. Takes the reference. */
typedef void (*cluster_submit_cb)(struct cluster *c, void *arg, int status, json_t *result,
                                  const struct err *err);
void cluster_submit(struct cluster *c, json_t *command, cluster_submit_cb cb, void *arg);
/* The same under a command id of the caller's (NULL: a fresh one): applied once. */
void cluster_submit_as(struct cluster *c, const uint8_t *id, json_t *command, cluster_submit_cb cb,
                       void *arg);
/* JSON call to another host; the result is borrowed. */
typedef void (*cluster_peer_cb)(struct cluster *c, void *arg, int status, json_t *result);
void cluster_peer(struct cluster *c, uint64_t host, enum peer_call_type type, json_t *head,
                  uint64_t timeout_ms, cluster_peer_cb cb, void *arg);
void cluster_unpend(struct cluster *c);          /* one pending call ended; may finish the close */
void cluster_kick(struct cluster *c);            /* run the duties soon */
uint64_t cluster_leader_host(struct cluster *c); /* 0 = unknown */

/* health.c */
void health_report(struct cluster *c);        /* every host, every REPORT_EVERY_MS */
void health_on_report(struct cluster_op *op); /* leader */
void health_duty(struct cluster *c);          /* leader: up and down */
struct host_seen *health_seen(struct cluster *c, uint64_t id); /* NULL if the table is full */
bool health_fresh(struct cluster *c, uint64_t id); /* reported within suspect_ms (self: always) */
/* Placement view of all hosts from the store and the reports. */
size_t health_hosts(struct cluster *c, struct placement_host out[CLUSTER_HOSTS_MAX]);

/* lease.c */
void lease_renew(struct cluster *c);          /* holder */
void lease_on_renew(struct cluster_op *op);   /* leader */
void lease_on_release(struct cluster_op *op); /* holder: give it back now */
void lease_duty(struct cluster *c);           /* leader: grant again after expiry */
void lease_op_show(struct cluster_op *op);
void lease_op_move(struct cluster_op *op);
bool lease_held(struct cluster *c);

/* members.c */
void members_duty(struct cluster *c);
/* What is known of each member, for voters_next. Returns the count. */
size_t members_view(struct cluster *c, const struct consensus_status *st, json_t *hosts,
                    struct voters_member out[MEMBERS_MAX]);

/* handover.c */
void handover_duty(struct cluster *c, const struct consensus_status *st,
                   const struct voters_member *members, size_t count, json_t *hosts);

/* host_ops.c */
void host_op_transfer(struct cluster_op *op);
void host_op_remove(struct cluster_op *op);
void host_op_role(struct cluster_op *op);

/* planner.c */
void planner_want(struct cluster *c);
void planner_duty(struct cluster *c);
void planner_host_down(struct cluster *c, uint64_t host); /* end its upload sessions */
void planner_own_sessions(struct cluster *c);
/* Append all images of a status. */
void planner_images(struct meta_view *view, const char *status, json_t *out);

/* imports.c */
void imports_duty(
    struct cluster *c); /* leader: imports of hosts that are down, old staged data, tasks */

/* reach.c */
void reach_probe(struct cluster *c);                  /* every host */
void reach_report(struct cluster *c, json_t *report); /* every host */
void reach_duty(struct cluster *c);                   /* leader: who can not be reached */
bool reach_cut(struct cluster *c, uint64_t host);     /* as the leader knows */

/* watch.c */
void watch_publish(struct cluster *c, const struct consensus_status *st);
void watch_report(struct cluster *c, json_t *report);
uint64_t watch_ask(struct cluster *c);
void watch_answered(struct cluster *c, int status);
bool watch_belongs(struct cluster *c, uint64_t host, const json_t *report);
void watch_note(struct cluster *c, const json_t *before, json_t *report);
void watch_duty(struct cluster *c);
void watch_warnings(struct cluster *c, json_t *list, const json_t *hosts);

/* status.c */
/* One more warning: a code, and a sentence for people. */
void status_warn(json_t *list, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void status_op(struct cluster_op *op);
void status_op_hosts(struct cluster_op *op);

/* calls.c */
void calls_serve(struct cluster *c);
void calls_start(struct cluster_op *op, const char *name, bool may_pass);
void calls_control(void *arg, struct peer_request *req);

/* room.c */
bool room_short(const json_t *report);
void room_report(struct cluster *c, const struct consensus_status *st, json_t *report);
void room_duty(struct cluster *c);                   /* leader */
void room_answer(struct cluster *c, json_t *answer); /* leader, to a report */
void room_answered(struct cluster *c, const json_t *answer);

/* rejoin.c */
void rejoin_op(struct cluster_op *op); /* a host that can not vouch for its log asks to come back */
void rejoin_report(struct cluster *c, json_t *report);     /* own digest, own damage */
void rejoin_heard(struct cluster *c, struct host_seen *s); /* leader: judge a report's digest */
void rejoin_answer(struct cluster *c, struct host_seen *s, json_t *answer); /* leader: rebuild? */
void rejoin_answered(struct cluster *c, json_t *answer);                    /* others */
void rejoin_duty(struct cluster *c);                                        /* leader */

/* life.c */
void life_tell(struct cluster *c, json_t *args); /* in what this host sends to the leader */
bool life_refuses(struct cluster_op *op);        /* true: the request was answered */
/* From the leader's table. */
void life_learn(struct cluster *c, uint64_t host, bool up, int64_t age_ms, const json_t *report);
bool life_rejoin_refused(struct cluster *c, uint64_t host); /* leader */
void life_report(struct cluster *c, json_t *report);
bool life_twice(struct cluster *c, uint64_t host); /* leader: some host saw two */

/* join.c */
void host_op_admit(struct cluster_op *op);
void token_op_create(struct cluster_op *op);

#endif
