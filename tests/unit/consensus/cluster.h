/* A cluster of whole consensus hosts in one thread: simulated clock, pools, disks and network, a
 * state machine in memory, and checkers that look all the time: one leader a term; one digest an
 * index; what was acknowledged stays, once, where it was; a linearizable read sees all that was
 * acknowledged before it began. */
#ifndef TEST_CONSENSUS_CLUSTER_H
#define TEST_CONSENSUS_CLUSTER_H

#include <stdlib.h>

#include "consensus/host.h"
#include "sim_fs.h"
#include "sim_loop.h"
#include "test.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"
#include "tessera/base/map.h"
#include "tessera/consensus.h"

enum { HOSTS_MAX = 7, INDEX_MAX = 200000, TERM_MAX = 5000, REQUESTS_MAX = 20000 };

/* --- the state machine ------------------------------------------------------------------------ */

struct op {
    uint8_t id[COMMAND_ID_SIZE];
    uint64_t index;
    uint64_t sum; /* of the data */
};

struct tx { /* one applied entry */
    struct fsm_point point;
    unsigned ops; /* in all, with this one */
};

struct cluster;

struct store {
    struct fsm fsm;
    struct cluster *world;
    unsigned host;
    struct tx *txs;
    unsigned tx_count, tx_synced;
    struct op *ops;
    struct map by_id; /* id -> op number + 1 */
};

/* --- the world -------------------------------------------------------------------------------- */

struct host {
    struct cluster *world;
    unsigned n; /* 1 .. */
    uint64_t id;
    struct loop *loop;
    struct pool *log_pool, *apply_pool, *disk_pool;
    struct fs *fs;
    struct consensus_net net;
    struct consensus *c; /* NULL: down */
    struct store store;
    char address[32];
    int fatal;
    uint64_t led_term;
    unsigned incarnation;
};

enum request_state { REQUEST_FREE, REQUEST_WAITING, REQUEST_DONE, REQUEST_LOST };
struct request {
    struct consensus_submit submit;
    struct consensus_read read;
    struct cluster *world;
    struct host *host;
    bool is_read;
    enum request_state state;
    int status, code;
    uint64_t position; /* from the result */
    uint64_t floor;    /* read: what was acknowledged before */
    char data[40];
};

struct cluster {
    struct sim *sim;
    unsigned host_count;
    struct host hosts[HOSTS_MAX + 1]; /* from 1 */
    uint8_t (*digests)[FSM_DIGEST_SIZE];
    bool *digest_known;
    uint64_t leader_of[TERM_MAX];
    uint64_t acked_index;
    unsigned acked, sent, ended;
    struct request *requests;
    unsigned request_count;
    /* network */
    unsigned loss_percent, duplicate_percent;
    uint64_t delay_min_us, delay_max_us;
    bool cut[HOSTS_MAX + 1][HOSTS_MAX + 1]; /* from, to */
    uint64_t arrives[HOSTS_MAX + 1][HOSTS_MAX + 1];
    uint64_t bytes_per_s;                           /* of each connection; 0: no limit */
    uint64_t free_us[HOSTS_MAX + 1][HOSTS_MAX + 1]; /* what was sent before has left by then */
    uint64_t queued_most;
    bool (*drop)(struct cluster *w, struct host *from, struct host *to, const struct message *m);
    /* True: a bit of it flips on the way. */
    bool (*bend)(struct cluster *w, struct host *from, struct host *to, const struct message *m);
    /* options of hosts that start */
    uint64_t snapshot_entries, snapshot_trailing, window_bytes;
    size_t ballast; /* bytes of the state besides the operations */
    /* change */
    bool change_done;
    int change_status;
    /* what happened, so that a quiet run does not pass for a good one */
    unsigned crashes, cuts, changes, exports, installs, leaders;
};

static inline struct host *host_by_id(struct cluster *w, uint64_t id)
{
    uint64_t n = id >> 16;
    return n >= 1 && n <= w->host_count && w->hosts[n].id == id ? &w->hosts[n] : NULL;
}

static inline uint64_t sum_of(const char *data, size_t size)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < size; i++) {
        h = (h ^ (uint8_t)data[i]) * 1099511628211u;
    }
    return h;
}

/* --- state machine: implementation ------------------------------------------------------------ */

static inline struct store *store_of(struct fsm *fsm)
{
    return container_of(fsm, struct store, fsm);
}

static inline unsigned store_ops(const struct store *s)
{
    return s->tx_count ? s->txs[s->tx_count - 1].ops : 0;
}

static inline struct fsm_point store_point(const struct store *s)
{
    return s->tx_count ? s->txs[s->tx_count - 1].point : (struct fsm_point){0};
}

static inline void store_index(struct store *s)
{
    map_free(&s->by_id);
    map_init(&s->by_id);
    for (unsigned i = 0; i < store_ops(s); i++) {
        check_ok(map_put(&s->by_id, s->ops[i].id, COMMAND_ID_SIZE, (void *)(uintptr_t)(i + 1)));
    }
}

static inline void store_add_tx(struct store *s, const struct fsm_point *point, unsigned ops)
{
    s->txs = realloc(s->txs, (s->tx_count + 1) * sizeof *s->txs);
    assert_non_null(s->txs);
    s->txs[s->tx_count].point = *point;
    s->txs[s->tx_count++].ops = ops;
    struct cluster *w = s->world;
    check(point->index < INDEX_MAX);
    if (!w->digest_known[point->index]) {
        w->digest_known[point->index] = true;
        memcpy(w->digests[point->index], point->digest, FSM_DIGEST_SIZE);
    } else if (memcmp(w->digests[point->index], point->digest, FSM_DIGEST_SIZE) != 0) {
        fail_msg("host %u: another state at index %llu", s->host, (unsigned long long)point->index);
    }
}

static inline int store_apply(struct fsm *fsm, struct fsm_entry *entries, unsigned n)
{
    struct store *s = store_of(fsm);
    for (unsigned i = 0; i < n; i++) {
        struct fsm_entry *e = &entries[i];
        struct fsm_point point = store_point(s);
        check_int(e->index, point.index + 1);
        check(e->term >= point.term);
        unsigned ops = store_ops(s);
        struct digest *d = digest_new(DIGEST_SHA256);
        digest_update(d, point.digest, sizeof point.digest);
        digest_update(d, &e->index, sizeof e->index);
        digest_update(d, &e->term, sizeof e->term);
        for (unsigned k = 0; k < e->count; k++) {
            struct fsm_command *cmd = &e->commands[k];
            uint64_t at = (uint64_t)(uintptr_t)map_get(&s->by_id, cmd->id, COMMAND_ID_SIZE);
            cmd->duplicate = at != 0;
            if (at == 0) {
                s->ops = realloc(s->ops, (ops + 1) * sizeof *s->ops);
                assert_non_null(s->ops);
                struct op *op = &s->ops[ops++];
                memcpy(op->id, cmd->id, COMMAND_ID_SIZE);
                op->index = e->index;
                op->sum = sum_of(cmd->data, cmd->size);
                digest_update(d, op, sizeof *op);
                at = ops;
                check_ok(map_put(&s->by_id, op->id, COMMAND_ID_SIZE, (void *)(uintptr_t)at));
            }
            cmd->result = malloc(24);
            assert_non_null(cmd->result);
            cmd->result_size =
                (size_t)snprintf(cmd->result, 24, "%llu", (unsigned long long)(at - 1));
            cmd->code = cmd->size >= 6 && memcmp(cmd->data, "refuse", 6) == 0 ? TSR_ECONFLICT : 0;
        }
        point.index = e->index;
        point.term = e->term;
        digest_final(d, point.digest);
        digest_free(d);
        store_add_tx(s, &point, ops);
    }
    return 0;
}

static inline int store_get_point(struct fsm *fsm, struct fsm_point *out)
{
    *out = store_point(store_of(fsm));
    return 0;
}

static inline int store_sync(struct fsm *fsm)
{
    store_of(fsm)->tx_synced = store_of(fsm)->tx_count;
    return 0;
}

struct fsm_export {
    char *data;
    size_t size, at;
};

static inline char store_ballast(size_t at)
{
    return (char)(at * 7 + at / 251);
}

static inline int store_export_open(struct fsm *fsm, struct fsm_export **out, struct fsm_point *at)
{
    struct store *s = store_of(fsm);
    struct fsm_export *e = calloc(1, sizeof *e);
    uint64_t ops = store_ops(s);
    assert_non_null(e);
    *at = store_point(s);
    size_t own = sizeof *at + 8 + ops * sizeof *s->ops;
    e->size = own + s->world->ballast;
    e->data = malloc(e->size);
    assert_non_null(e->data);
    memcpy(e->data, at, sizeof *at);
    memcpy(e->data + sizeof *at, &ops, 8);
    if (ops) {
        memcpy(e->data + sizeof *at + 8, s->ops, ops * sizeof *s->ops);
    }
    for (size_t i = 0; i < s->world->ballast; i++) {
        e->data[own + i] = store_ballast(i);
    }
    s->world->exports++;
    *out = e;
    return 0;
}

static inline long store_export_read(struct fsm_export *e, void *data, size_t size)
{
    size_t n = e->size - e->at < size ? e->size - e->at : size;
    memcpy(data, e->data + e->at, n);
    e->at += n;
    return (long)n;
}

static inline void store_export_close(struct fsm_export *e)
{
    free(e->data);
    free(e);
}

static inline int store_import(struct fsm *fsm, struct fs *fs, const char *path,
                               struct fsm_point *out)
{
    /* The stream sits in its file behind a head: find it by its size from the end. */
    struct store *s = store_of(fsm);
    char *data;
    size_t size;
    int rc = fs_read_file(fs, path, 64 * 1024 * 1024, &data, &size);
    if (rc) {
        return rc;
    }
    struct fsm_point point;
    uint64_t ops;
    if (size < sizeof point + 8) {
        free(data);
        return TSR_ECORRUPT;
    }
    memcpy(&point, data, sizeof point);
    memcpy(&ops, data + sizeof point, 8);
    size_t own = sizeof point + 8 + ops * sizeof *s->ops;
    if (size != own + s->world->ballast) {
        free(data);
        return TSR_ECORRUPT;
    }
    for (size_t i = 0; i < s->world->ballast; i++) {
        check(data[own + i] == store_ballast(i)); /* a digest was looked at before */
    }
    free(s->ops);
    s->ops = malloc((size_t)ops * sizeof *s->ops + 1);
    assert_non_null(s->ops);
    memcpy(s->ops, data + sizeof point + 8, (size_t)ops * sizeof *s->ops);
    free(data);
    s->tx_count = 0;
    s->world->installs++;
    store_add_tx(s, &point, (unsigned)ops);
    s->tx_synced = 1;
    store_index(s);
    *out = point;
    return 0;
}

static const struct fsm_ops store_fsm_ops = {
    .apply = store_apply,
    .point = store_get_point,
    .sync = store_sync,
    .export_open = store_export_open,
    .export_read = store_export_read,
    .export_close = store_export_close,
    .import_file = store_import,
};

/* A power cut takes any number of the newest unsynced transactions. */
static inline void store_power_cut(struct store *s)
{
    unsigned unsynced = s->tx_count - s->tx_synced;
    if (unsynced) {
        s->tx_count = s->tx_synced + (unsigned)sim_below(s->world->sim, unsynced + 1);
        store_index(s);
    }
}

static inline void store_wipe(struct store *s)
{
    free(s->txs);
    free(s->ops);
    map_free(&s->by_id);
    s->txs = NULL;
    s->ops = NULL;
    s->tx_count = s->tx_synced = 0;
    map_init(&s->by_id);
}

/* --- network ---------------------------------------------------------------------------------- */

struct packet {
    struct host *from, *to;
    unsigned incarnation; /* of the receiver: its connections end with it */
    size_t size;
    char data[];
};

static inline void packet_free(void *arg)
{
    free(arg);
}

static inline void packet_arrive(void *arg)
{
    struct packet *p = arg;
    struct cluster *w = p->to->world;
    if (p->to->c && p->to->incarnation == p->incarnation && !w->cut[p->from->n][p->to->n]) {
        check_ok(consensus_receive(p->to->c, p->from->id, p->data, p->size));
    }
    free(p);
}

/* When the last of @size bytes has left: connections with a limit send one after another. */
static inline uint64_t packet_leaves(struct cluster *w, unsigned from, unsigned to, size_t size)
{
    uint64_t now = sim_now_ns(w->sim) / 1000;
    uint64_t *free_us = &w->free_us[from][to];
    if (w->bytes_per_s == 0) {
        return now;
    }
    *free_us = (*free_us < now ? now : *free_us) + size * 1000000 / w->bytes_per_s;
    return *free_us;
}

static inline void packet_send(struct host *from, struct host *to, const void *data, size_t size,
                               bool bent)
{
    struct cluster *w = from->world;
    struct packet *p = malloc(sizeof *p + size);
    assert_non_null(p);
    p->from = from;
    p->to = to;
    p->incarnation = to->incarnation;
    p->size = size;
    memcpy(p->data, data, size);
    if (bent) {
        p->data[size / 2] ^= 4;
    }
    uint64_t now = sim_now_ns(w->sim) / 1000;
    uint64_t at = packet_leaves(w, from->n, to->n, size) + w->delay_min_us +
                  sim_below(w->sim, w->delay_max_us - w->delay_min_us + 1);
    uint64_t *last = &w->arrives[from->n][to->n];
    at = at < *last ? *last : at; /* ordered per connection */
    *last = at;
    sim_after(w->sim, 0, at - now, packet_arrive, packet_free, p);
}

static inline void net_send(struct consensus_net *net, uint64_t id, const char *address,
                            const void *data, size_t size)
{
    struct host *from = container_of(net, struct host, net);
    struct cluster *w = from->world;
    struct host *to = host_by_id(w, id);
    (void)address;
    if (!to || !to->c || w->cut[from->n][to->n] || sim_chance(w->sim, w->loss_percent)) {
        return;
    }
    if (getenv("CLUSTER_TRACE")) {
        struct message m;
        check_ok(message_decode(data, size, &m));
        fprintf(stderr, "%llu %u->%u kind %d", (unsigned long long)sim_now_ms(w->sim), from->n,
                to->n, (int)m.kind);
        if (m.kind == MESSAGE_APPEND) {
            fprintf(stderr, " term %llu prev %llu n %u", (unsigned long long)m.append.term,
                    (unsigned long long)m.append.prev_index, m.append.count);
        } else if (m.kind == MESSAGE_APPEND_RESULT) {
            fprintf(stderr, " rejected %llu last %llu",
                    (unsigned long long)m.append_result.rejected,
                    (unsigned long long)m.append_result.last_index);
        } else if (m.kind == MESSAGE_SNAP_ACK) {
            fprintf(stderr, " have %llu refused %d", (unsigned long long)m.snap_ack.have,
                    m.snap_ack.refused);
        }
        fprintf(stderr, "\n");
        message_free(&m);
    }
    bool bent = false;
    if (w->drop || w->bend) {
        struct message m;
        check_ok(message_decode(data, size, &m));
        bool drop = w->drop && w->drop(w, from, to, &m);
        bent = w->bend && w->bend(w, from, to, &m);
        message_free(&m);
        if (drop) {
            return;
        }
    }
    packet_send(from, to, data, size, bent);
    if (sim_chance(w->sim, w->duplicate_percent)) {
        packet_send(from, to, data, size, bent);
    }
}

static inline size_t net_queued(struct consensus_net *net, uint64_t id)
{
    struct host *from = container_of(net, struct host, net);
    struct cluster *w = from->world;
    struct host *to = host_by_id(w, id);
    uint64_t now = sim_now_ns(w->sim) / 1000;
    if (!to || w->free_us[from->n][to->n] <= now) {
        return 0;
    }
    uint64_t queued = (w->free_us[from->n][to->n] - now) * w->bytes_per_s / 1000000;
    w->queued_most = queued > w->queued_most ? queued : w->queued_most;
    return (size_t)queued;
}

static const struct consensus_net_ops cluster_net_ops = {.send = net_send, .queued = net_queued};

static inline void net_break(struct cluster *w, unsigned a, unsigned b)
{
    if (w->hosts[a].c) {
        consensus_disconnected(w->hosts[a].c, w->hosts[b].id);
    }
    if (w->hosts[b].c) {
        consensus_disconnected(w->hosts[b].c, w->hosts[a].id);
    }
    w->free_us[a][b] = w->free_us[b][a] = 0; /* what had not left is gone */
}

/* Both ways. */
static inline void net_cut(struct cluster *w, unsigned a, unsigned b, bool cut)
{
    w->cut[a][b] = w->cut[b][a] = cut;
    net_break(w, a, b);
}

static inline void net_isolate(struct cluster *w, unsigned n, bool cut)
{
    for (unsigned i = 1; i <= w->host_count; i++) {
        if (i != n) {
            net_cut(w, n, i, cut);
        }
    }
}

static inline void net_heal(struct cluster *w)
{
    w->loss_percent = w->duplicate_percent = 0;
    for (unsigned a = 1; a <= w->host_count; a++) {
        for (unsigned b = 1; b <= w->host_count; b++) {
            w->cut[a][b] = false;
        }
    }
}

/* --- hosts ------------------------------------------------------------------------------------ */

static inline void host_on_leader(void *arg, uint64_t term)
{
    struct host *h = arg;
    struct cluster *w = h->world;
    check(term < TERM_MAX);
    check(w->leader_of[term] == 0 || w->leader_of[term] == h->id);
    w->leader_of[term] = h->id;
    w->leaders++;
    h->led_term = term;
}

static inline void host_on_lost(void *arg)
{
    struct host *h = arg;
    check(h->led_term != 0);
    h->led_term = 0;
}

static inline void host_on_fatal(void *arg, int code, const char *reason)
{
    struct host *h = arg;
    (void)reason;
    h->fatal = code;
}

static inline int host_open(struct cluster *w, unsigned n, struct err *err)
{
    struct host *h = &w->hosts[n];
    struct consensus_options o = {
        .loop = h->loop,
        .log_pool = h->log_pool,
        .apply_pool = h->apply_pool,
        .disk_pool = h->disk_pool,
        .fs = h->fs,
        .dir = "raft",
        .fsm = &h->store.fsm,
        .net = &h->net,
        .events = {.on_leader = host_on_leader, .on_lost = host_on_lost, .on_fatal = host_on_fatal},
        .arg = h,
        .self = h->id,
        .address = h->address,
        .snapshot_entries = w->snapshot_entries,
        .snapshot_trailing = w->snapshot_trailing,
        .window_bytes = w->window_bytes,
        .segment_bytes = 16 * 1024};
    h->fatal = 0;
    h->led_term = 0;
    return consensus_open(&o, &h->c, err);
}

static inline void host_start(struct cluster *w, unsigned n)
{
    struct host *h = &w->hosts[n];
    struct err err = {0};
    int rc = host_open(w, n, &err);
    if (rc) {
        fail_msg("host %u does not start: %s %s", n, err_name(rc), err.msg);
    }
    h->incarnation++;
    check_ok(consensus_start(h->c));
}

static inline void host_crash(struct cluster *w, unsigned n, enum sim_fs_crash_mode mode)
{
    struct host *h = &w->hosts[n];
    w->crashes++;
    sim_crash(w->sim, n);
    sim_fs_crash(h->fs, sim_random(w->sim), mode);
    if (mode != SIM_FS_KILL) {
        store_power_cut(&h->store);
    }
    consensus_abandon(h->c);
    h->c = NULL;
    h->led_term = 0;
    for (unsigned i = 0; i < w->request_count; i++) {
        struct request *r = &w->requests[i];
        if (r->host == h && r->state == REQUEST_WAITING) {
            r->state = REQUEST_LOST;
            w->ended++;
        }
    }
    for (unsigned i = 1; i <= w->host_count; i++) {
        if (i != n) {
            net_break(w, i, n);
        }
    }
}

static inline struct consensus_status status_of(struct host *h)
{
    struct consensus_status st;
    consensus_status(h->c, &st);
    return st;
}

static inline struct host *cluster_leader(struct cluster *w)
{
    struct host *best = NULL;
    for (unsigned i = 1; i <= w->host_count; i++) {
        struct host *h = &w->hosts[i];
        if (h->c && h->led_term && (!best || h->led_term > best->led_term)) {
            best = h;
        }
    }
    return best;
}

/* Step until @cond or @ms passed; returns whether it came. */
static inline bool cluster_wait(struct cluster *w, bool (*cond)(struct cluster *w), uint64_t ms)
{
    uint64_t end = sim_now_ms(w->sim) + ms;
    while (!cond(w)) {
        if (sim_now_ms(w->sim) >= end) {
            return false;
        }
        sim_run_for(w->sim, 1);
    }
    return true;
}

static inline bool has_leader(struct cluster *w)
{
    return cluster_leader(w) != NULL;
}

static inline bool all_ended(struct cluster *w)
{
    return w->ended == w->sent;
}

/* All hosts that are up have applied the same, and nothing is behind. */
static inline bool all_equal(struct cluster *w)
{
    struct host *leader = cluster_leader(w);
    if (!leader) {
        return false;
    }
    struct consensus_status s;
    consensus_status(leader->c, &s);
    for (unsigned i = 1; i <= w->host_count; i++) {
        struct host *h = &w->hosts[i];
        bool member = conf_find(core_conf(leader->c->core), h->id) != NULL;
        if (h->c && member && consensus_applied(h->c) != s.last_index) {
            return false;
        }
    }
    return s.applied_index == s.last_index;
}

static inline void on_change(void *arg, int status)
{
    struct cluster *w = arg;
    w->change_done = true;
    w->change_status = status;
    w->changes += status == 0;
}

static inline bool change_ended(struct cluster *w)
{
    return w->change_done;
}

static inline struct cluster *cluster_new(uint64_t seed, unsigned hosts)
{
    struct cluster *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->sim = sim_new(seed);
    w->digests = calloc(INDEX_MAX, sizeof *w->digests);
    w->digest_known = calloc(INDEX_MAX, sizeof *w->digest_known);
    w->requests = calloc(REQUESTS_MAX, sizeof *w->requests);
    assert_non_null(w->requests);
    w->host_count = hosts;
    w->delay_min_us = 100;
    w->delay_max_us = 400;
    w->snapshot_entries = 50000;
    w->snapshot_trailing = 5000;
    for (unsigned n = 1; n <= hosts; n++) {
        struct host *h = &w->hosts[n];
        h->world = w;
        h->n = n;
        h->id = (uint64_t)n << 16 | 1;
        h->loop = sim_loop_new(w->sim, n);
        h->log_pool = sim_pool_new(w->sim, n, 1, 100, 1000);
        h->apply_pool = sim_pool_new(w->sim, n, 1, 50, 300);
        h->disk_pool = sim_pool_new(w->sim, n, 2, 100, 2000);
        h->fs = sim_fs_new(seed + n);
        h->net.ops = &cluster_net_ops;
        h->store.fsm.ops = &store_fsm_ops;
        h->store.world = w;
        h->store.host = n;
        map_init(&h->store.by_id);
        snprintf(h->address, sizeof h->address, "host%u:9294", n);
    }
    check_ok(consensus_bootstrap(w->hosts[1].fs, "raft", w->hosts[1].id, w->hosts[1].address));
    host_start(w, 1);
    return w;
}

static inline bool change_step(struct cluster *w, unsigned n, int kind)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        struct host *leader;
        if (!cluster_wait(w, has_leader, 20000)) {
            return false;
        }
        leader = cluster_leader(w);
        struct host *h = &w->hosts[n];
        w->change_done = false;
        int rc = kind == 0 ? consensus_member_add(leader->c, h->id, h->address, on_change, w)
                 : kind == 1
                     ? consensus_member_role(leader->c, h->id, CONSENSUS_VOTER, on_change, w)
                     : consensus_member_remove(leader->c, h->id, on_change, w);
        if (rc == TSR_EEXIST || (kind == 2 && rc == TSR_ENOENT)) {
            return true;
        }
        if (rc == 0) {
            if (!cluster_wait(w, change_ended, 90000)) {
                return false;
            }
            if (w->change_status == 0) {
                return true;
            }
        }
        sim_run_for(w->sim, 200);
    }
    return false;
}

static inline bool cluster_add(struct cluster *w, unsigned n)
{
    return change_step(w, n, 0);
}

static inline bool cluster_promote(struct cluster *w, unsigned n)
{
    return change_step(w, n, 1);
}

static inline bool cluster_remove(struct cluster *w, unsigned n)
{
    return change_step(w, n, 2);
}

/* Hosts 1 .. n as voters. */
static inline void cluster_form(struct cluster *w, unsigned n)
{
    for (unsigned i = 2; i <= n; i++) {
        host_start(w, i);
        check(cluster_add(w, i));
        check(cluster_promote(w, i));
    }
    check(cluster_wait(w, all_equal, 5000));
}

static inline void cluster_free(struct cluster *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (w->hosts[n].c) {
            host_crash(w, n, SIM_FS_KILL);
        }
    }
    sim_free(w->sim);
    for (unsigned n = 1; n <= w->host_count; n++) {
        sim_fs_free(w->hosts[n].fs);
        store_wipe(&w->hosts[n].store);
        map_free(&w->hosts[n].store.by_id);
    }
    free(w->digests);
    free(w->digest_known);
    free(w->requests);
    free(w);
}

/* --- requests --------------------------------------------------------------------------------- */

static inline void on_submit(struct consensus_submit *req, int status, int code, const char *result,
                             size_t result_size)
{
    struct request *r = req->arg;
    struct cluster *w = r->world;
    check_int(r->state, REQUEST_WAITING);
    r->state = REQUEST_DONE;
    r->status = status;
    r->code = code;
    w->ended++;
    if (status != 0) {
        return;
    }
    check(result_size > 0 && result_size < 24);
    r->position = strtoull(result, NULL, 10);
    struct store *s = &r->host->store;
    check(r->position < store_ops(s));
    check_mem(s->ops[r->position].id, req->id, COMMAND_ID_SIZE);
    check(s->ops[r->position].sum == sum_of(req->data, req->size));
    if (s->ops[r->position].index > w->acked_index) {
        w->acked_index = s->ops[r->position].index;
    }
    w->acked++;
}

static inline struct request *request_new(struct cluster *w, unsigned n)
{
    check(w->request_count < REQUESTS_MAX);
    struct request *r = &w->requests[w->request_count++];
    r->world = w;
    r->host = &w->hosts[n];
    r->state = REQUEST_WAITING;
    w->sent++;
    return r;
}

static inline struct request *submit_as(struct cluster *w, unsigned n, uint64_t number,
                                        const char *text, uint64_t timeout_ms)
{
    struct request *r = request_new(w, n);
    snprintf(r->data, sizeof r->data, "%s %llu", text, (unsigned long long)number);
    memcpy(r->submit.id, &number, sizeof number);
    r->submit.data = r->data;
    r->submit.size = strlen(r->data);
    r->submit.timeout_ms = timeout_ms;
    r->submit.cb = on_submit;
    r->submit.arg = r;
    consensus_submit(w->hosts[n].c, &r->submit);
    check_int(r->state, REQUEST_WAITING);
    return r;
}

static inline struct request *submit(struct cluster *w, unsigned n)
{
    return submit_as(w, n, w->request_count + 1, "set", 0);
}

static inline void on_read(struct consensus_read *req, int status)
{
    struct request *r = req->arg;
    struct cluster *w = r->world;
    check_int(r->state, REQUEST_WAITING);
    r->state = REQUEST_DONE;
    r->status = status;
    w->ended++;
    if (status == 0 && store_point(&r->host->store).index < r->floor) {
        fail_msg("host %u: a read at %llu, acknowledged before was %llu", r->host->n,
                 (unsigned long long)store_point(&r->host->store).index,
                 (unsigned long long)r->floor);
    }
}

static inline struct request *read_at(struct cluster *w, unsigned n)
{
    struct request *r = request_new(w, n);
    r->is_read = true;
    r->floor = w->acked_index;
    r->read.cb = on_read;
    r->read.arg = r;
    consensus_read_index(w->hosts[n].c, &r->read);
    check_int(r->state, REQUEST_WAITING);
    return r;
}

/* Everything acknowledged is on every host that is up and a member, where it was acknowledged. */
static inline void check_acked(struct cluster *w)
{
    for (unsigned i = 0; i < w->request_count; i++) {
        struct request *r = &w->requests[i];
        if (r->is_read || r->state != REQUEST_DONE || r->status != 0) {
            continue;
        }
        for (unsigned n = 1; n <= w->host_count; n++) {
            struct host *h = &w->hosts[n];
            struct host *leader = cluster_leader(w);
            if (!h->c || !conf_find(core_conf(leader->c->core), h->id)) {
                continue;
            }
            check(r->position < store_ops(&h->store));
            check_mem(h->store.ops[r->position].id, r->submit.id, COMMAND_ID_SIZE);
        }
    }
}

static inline void no_log(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    if (getenv("CLUSTER_LOG")) {
        fprintf(stderr, "%s\n", line);
    }
}

#endif
