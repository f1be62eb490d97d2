/* One host, built in the daemon's order from the real parts. The log with the vote and the blobs
 * have a disk each, so that one can fill or fail without the other; the two stores are in memory
 * and lose whole unsynced transactions at a power cut. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/image/import.h"
#include "world.h"

enum {
    ELECTION_MS = 500,
    HEARTBEAT_MS = 50,
    SUSPECT_MS = 2000,
    DOWN_MS = 5000,
    RESERVATION_MS = 200000, /* longer than a seal may take */
    BUFFERS = 12,
    JOIN_RETRY_MS = 700,
};

static const struct config_list import_methods = {.items = (char *[]){"glance-direct"}, .count = 1},
                                nothing;
static const struct import_rules import_rules = {.methods = &import_methods,
                                                 .schemes = &nothing,
                                                 .ports = &nothing,
                                                 .hosts_allowed = &nothing,
                                                 .hosts_denied = &nothing,
                                                 .addresses_allowed = &nothing};
static const char cluster_id[] = "00000000-0000-4000-8000-000000000001";
static const uint8_t cluster_key[32] = {1, 2, 3};

/* --- life of the process
 * ------------------------------------------------------------------------------------ */

bool host_runs(const struct sim_host *h)
{
    return h->up && !h->fatal && h->paused_until_ms <= world_ms(h->w);
}

struct sim_host *host_leader(struct world *w)
{
    struct sim_host *best = NULL;
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (host_runs(h) && h->led_term != 0 && (best == NULL || h->led_term > best->led_term)) {
            best = h;
        }
    }
    return best;
}

unsigned hosts_live(const struct world *w)
{
    unsigned live = 0;
    for (unsigned n = 1; n <= w->host_count; n++) {
        live += !w->hosts[n].gone;
    }
    return live;
}

struct sim_host *host_any(struct world *w)
{
    unsigned first = (unsigned)world_below(w, w->host_count);
    for (unsigned i = 0; i < w->host_count; i++) {
        struct sim_host *h = &w->hosts[1 + (first + i) % w->host_count];
        if (host_runs(h)) {
            return h;
        }
    }
    return NULL;
}

struct sim_host *host_ahead(struct world *w)
{
    struct sim_host *best = NULL;
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (h->up && (best == NULL ||
                      consensus_applied(h->consensus) > consensus_applied(best->consensus))) {
            best = h;
        }
    }
    return best;
}

struct death {
    struct sim_host *h;
    unsigned life;
    int code;
};

static void fatal_now(void *arg)
{
    struct death *d = arg;
    struct sim_host *h = d->h;
    if (h->up && h->life == d->life) {
        host_crash(h, SIM_FS_KILL);
        host_restart_after(h, 500 + world_below(h->w, 2500));
    }
    free(d);
}

static void on_fatal(void *arg, int code, const char *reason)
{
    struct sim_host *h = arg;
    world_note(h->w, "host %u stops: %s (%s)", h->n, reason, err_name(code));
    if (!h->failing && !h->rotten) {
        world_fail(h->w, "host %u stops, though its disk never failed: %s (%s)", h->n, reason,
                   err_name(code));
    }
    if (h->fatal) {
        return;
    }
    struct death *d = malloc(sizeof(*d));
    tsr_assert(d != NULL);
    *d = (struct death){h, h->life, code};
    h->fatal = true; /* the daemon leaves at once */
    sim_group_pause(h->w->sim, h->n, UINT64_MAX / 1000000);
    sim_after(h->w->sim, 0, 0, fatal_now, free, d);
}

static void on_leader(void *arg, uint64_t term)
{
    struct sim_host *h = arg;
    h->led_term = term;
    world_note(h->w, "host %u leads term=%llu", h->n, (unsigned long long)term);
    check_leader(h, term);
    if (h->cluster != NULL) {
        cluster_on_leader(h->cluster, term);
    }
}

static void on_lost(void *arg)
{
    struct sim_host *h = arg;
    world_note(h->w, "host %u no longer leads", h->n);
    h->led_term = 0;
    if (h->cluster != NULL) {
        cluster_on_lost(h->cluster);
    }
}

static void on_applied(void *arg, uint64_t index)
{
    check_applied(arg, index);
}

static int open_meta(struct sim_host *h, struct err *err)
{
    return meta_open(h->meta_kv, &h->meta, err);
}

static int open_chunks(struct sim_host *h, struct err *err)
{
    struct chunk_store *store = NULL;
    uint8_t random[16];
    loop_random(h->control, random, sizeof(random));
    int rv = file_store_open(h->blob_fs, "blobs", cluster_id, h->n, random, &store, err);
    if (rv != 0) {
        return rv;
    }
    struct chunks_options options = {
        .store = store,
        .index = h->index_kv,
        .disk_pool = h->disk_pool,
        .index_pool = h->index_pool,
        .cpu_pool = h->cpu_pool,
        .loop = h->control,
        .chunk_bytes = SIM_CHUNK_BYTES,
        .verify_always = h->w->verify_always,
        .reservation_ms = RESERVATION_MS,
    };
    return chunks_open(&options, &h->chunks, err);
}

/* From the first start of an incarnation on, an empty folder is damage: it may have voted. */
static int prepare(struct sim_host *h, struct err *err)
{
    if (h->prepared) {
        return consensus_prepared(h->raft_fs, "raft")
                   ? 0
                   : err_set(err, TSR_ECORRUPT, "term, vote and log are missing");
    }
    int rv = consensus_prepare(h->raft_fs, "raft");
    h->prepared = rv == 0;
    return rv == 0 ? 0 : err_set(err, rv, "no record of term and vote can be made");
}

static int open_consensus(struct sim_host *h, struct err *err)
{
    char address[32];
    (void)snprintf(address, sizeof(address), "%s:9294", h->name);
    struct consensus_options options = {
        .loop = h->control,
        .log_pool = h->log_pool,
        .apply_pool = h->apply_pool,
        .disk_pool = h->disk_pool,
        .fs = h->raft_fs,
        .dir = "raft",
        .fsm = meta_fsm(h->meta),
        .net = &h->net,
        .events = {.on_leader = on_leader,
                   .on_lost = on_lost,
                   .on_applied = on_applied,
                   .on_fatal = on_fatal},
        .arg = h,
        .self = h->raft_id,
        .address = address,
        .election_ms = ELECTION_MS,
        .heartbeat_ms = HEARTBEAT_MS,
        .snapshot_entries = h->w->snapshot_entries,
        .snapshot_bytes = 64 * 1024 * 1024,
        .snapshot_trailing = h->w->snapshot_trailing,
        .segment_bytes = h->w->segment_bytes,
        .window_bytes = h->w->window_bytes,
    };
    h->net.ops = &sim_net_ops;
    int rv = prepare(h, err);
    if (rv == 0) {
        rv = consensus_open(&options, &h->consensus, err);
    }
    if (rv == 0) {
        meta_attach(h->meta, h->consensus, h->control);
    }
    return rv;
}

static struct bufpool *buffers(struct buf_budget *budget)
{
    struct bufpool *pool = NULL;
    buf_budget_init(budget, (size_t)BUFFERS * SIM_CHUNK_BYTES);
    struct bufpool_options options = {
        .buffer_bytes = SIM_CHUNK_BYTES, .count_max = BUFFERS, .cached_max = 2, .budget = budget};
    tsr_assert(bufpool_new(&options, &pool) == 0);
    return pool;
}

static void open_worker(struct sim_host *h)
{
    memset(&h->service, 0, sizeof(h->service));
    struct peer_net *peers = sim_peers_add(h->w->peers, h->n, h->worker, &h->service);
    h->replica = (struct replica_ctx){
        .loop = h->worker,
        .chunks = h->chunks,
        .peers = peers,
        .cpu_pool = h->cpu_pool,
        .self = h->n,
        .upload_buffers = buffers(&h->budget[0]),
        .relay_buffers = buffers(&h->budget[1]),
        .repair_buffers = buffers(&h->budget[2]),
        .chunk_bytes = SIM_CHUNK_BYTES,
    };
    h->image = (struct image_ctx){
        .loop = h->worker,
        .meta = h->meta,
        .replica = &h->replica,
        .load = h->load,
        .limits = &h->w->limits,
        .self = h->n,
        .zone = "z",
        .import = &import_rules,
    };
}

static int open_services(struct sim_host *h)
{
    uint8_t boot[4];
    loop_random(h->control, boot, sizeof(boot));
    h->load = cluster_load_new();
    tsr_assert(h->load != NULL);
    open_worker(h);
    memcpy(h->image.boot, boot, sizeof(boot));
    memcpy(h->replica.boot, boot, sizeof(boot));
    replica_serve(&h->service, h->chunks, h->cpu_pool);
    struct cluster_options options = {
        .loop = h->control,
        .meta = h->meta,
        .consensus = h->consensus,
        .peers = h->replica.peers,
        .service = &h->service,
        .chunks = h->chunks,
        .replicator = &h->replicator,
        .load = h->load,
        .self = h->n,
        .version = "sim",
        .cluster_id = cluster_id,
        .api_url = h->name,
        .cluster_key = cluster_key,
        .suspect_ms = SUSPECT_MS,
        .down_ms = DOWN_MS,
        .repair_after_ms = 15 * 60 * 1000,
        .replicas = (unsigned)h->w->limits.replicas,
    };
    memcpy(options.boot, boot, sizeof(boot));
    int rv = cluster_new(&options, &h->cluster);
    if (rv == 0) {
        rv = replicator_new(&h->replica, h->meta, &h->replicator);
    }
    return rv != 0 ? rv : image_importer_new(&h->image, &h->importer);
}

static void process_gone(struct sim_host *h)
{
    h->meta = NULL;
    h->chunks = NULL;
    h->consensus = NULL;
    h->cluster = NULL;
    h->load = NULL;
    h->replicator = NULL;
    h->importer = NULL;
    h->led_term = 0;
    h->stopping = false;
    h->up = h->fatal = false;
}

static void cut_power(struct sim_host *h, struct kv *kv, enum sim_fs_crash_mode mode)
{
    unsigned unsynced = kv_mem_unsynced(kv);
    unsigned keep = mode == SIM_FS_KEEP   ? unsynced
                    : mode == SIM_FS_DROP ? 0
                                          : (unsigned)world_below(h->w, unsynced + 1);
    kv_mem_crash_keep(kv, keep);
}

/* A host that refuses to start: right only if its disk was hurt. */
static void refused(struct sim_host *h, int rv, const struct err *err)
{
    struct world *w = h->w;
    world_note(w, "host %u does not start: %s (%s)", h->n, err->msg, err_name(rv));
    process_gone(h);
    sim_crash(w->sim, h->n);
    enum sim_fs_crash_mode mode = h->failing && !h->fragile ? SIM_FS_RANDOM : SIM_FS_KILL;
    sim_fs_crash(h->raft_fs, world_below(w, UINT64_MAX), mode);
    sim_fs_crash(h->blob_fs, world_below(w, UINT64_MAX), mode);
    if (mode != SIM_FS_KILL) {
        cut_power(h, h->meta_kv, mode);
        cut_power(h, h->index_kv, mode);
    }
    if (rv == TSR_ECORRUPT && h->rotten) {
        host_join_anew(h, false);
    } else if (h->failing) {
        h->failing = false;
        host_restart_after(h, 500);
    } else {
        world_fail(w, "host %u does not start, though its disk is good: %s (%s)", h->n, err->msg,
                   err_name(rv));
    }
}

void host_start(struct sim_host *h)
{
    struct err err = {0};
    tsr_assert(!h->up && h->formed);
    h->life++;
    h->paused_until_ms = 0;
    sim_group_pause(h->w->sim, h->n, 0);
    int rv;
    if ((rv = open_meta(h, &err)) != 0 || (rv = open_chunks(h, &err)) != 0 ||
        (rv = open_consensus(h, &err)) != 0) {
        refused(h, rv, &err);
        return;
    }
    if ((rv = open_services(h)) != 0) {
        world_fail(h->w, "host %u: services: %s", h->n, err_name(rv));
    }
    h->up = true;
    h->failing = h->stopping;
    h->io_error = false;
    net_started(h->w, h->n);
    rv = consensus_start(h->consensus);
    if (rv != 0) {
        world_fail(h->w, "host %u: consensus does not start: %s", h->n, err_name(rv));
    }
    check_log_started(h);
    cluster_start(h->cluster);
    image_importer_watch(h->importer);
    world_note(h->w, "host %u up incarnation=%llu applied=%llu", h->n,
               (unsigned long long)(h->raft_id & 0xffff),
               (unsigned long long)consensus_applied(h->consensus));
}

void host_crash(struct sim_host *h, enum sim_fs_crash_mode mode)
{
    struct world *w = h->w;
    static const char *const names[] = {"kill", "drop", "keep", "random"};
    if (!h->up) {
        return;
    }
    world_note(w, "host %u crash %s", h->n, names[mode]);
    h->last_crash = mode;
    sim_peers_crash(w->peers, h->n);
    sim_crash(w->sim, h->n);
    sim_group_pause(w->sim, h->n, 0);
    sim_fs_crash(h->raft_fs, world_below(w, UINT64_MAX), mode);
    sim_fs_crash(h->blob_fs, world_below(w, UINT64_MAX), mode);
    check_log_crashed(h);
    kv_mem_fail_after(h->meta_kv, 0);
    kv_mem_fail_after(h->index_kv, 0);
    if (mode != SIM_FS_KILL) {
        cut_power(h, h->meta_kv, mode);
        cut_power(h, h->index_kv, mode);
    }
    process_gone(h);
    for (unsigned i = 1; i <= w->host_count; i++) {
        net_break(w, h->n, i);
        net_break(w, i, h->n);
    }
    clients_host_crashed(w, h);
}

static void restart_now(void *arg)
{
    struct sim_host *h = arg;
    if (!h->up && h->formed && !h->rejoining) {
        host_start(h);
    }
}

void host_restart_after(struct sim_host *h, uint64_t ms)
{
    sim_after(h->w->sim, 0, ms * 1000, restart_now, NULL, h);
}

void host_pause(struct sim_host *h, uint64_t ms)
{
    h->paused_until_ms = world_ms(h->w) + ms;
    sim_group_pause(h->w->sim, h->n, h->paused_until_ms);
}

/* --- forming and joining
 * -------------------------------------------------------------------------------------- */

static json_t *add_command(const struct sim_host *h, bool rejoin)
{
    char peer[32], raft[32];
    (void)snprintf(peer, sizeof(peer), "%s:9293", h->name);
    (void)snprintf(raft, sizeof(raft), "%s:9294", h->name);
    json_t *c = json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s,s:s,s:s}", "op", "host.add", "name", h->name,
                          "zone", "z", "roles", "image", "api_url", h->name, "peer_address", peer,
                          "raft_address", raft, "version", "sim");
    if (rejoin) {
        json_set_int(c, "rejoin", (int64_t)h->n);
    }
    return c;
}

struct joining {
    struct meta_submit submit;
    struct sim_host *h;
    uint8_t id[COMMAND_ID_SIZE];
    bool rejoin;
    struct sim_host *via;
    unsigned via_life;
};

static void join_try(void *arg);

static void join_again(struct joining *j)
{
    sim_after(j->h->w->sim, 0, JOIN_RETRY_MS * 1000, join_try, NULL, j);
}

/* The host that was asked died: nobody will answer. */
static void join_watch(void *arg)
{
    struct joining *j = arg;
    if (j->via == NULL) {
        return;
    }
    if (!j->via->up || j->via->life != j->via_life) {
        j->via = NULL;
        join_again(j);
        return;
    }
    sim_after(j->h->w->sim, 0, JOIN_RETRY_MS * 1000, join_watch, NULL, j);
}

static void join_answered(struct meta_submit *req, int status, json_t *result,
                          const struct err *err)
{
    struct joining *j = req->arg;
    struct sim_host *h = j->h;
    j->via = NULL;
    if (status != 0 && !err_may_retry(status)) {
        world_fail(h->w, "host %u can not join: %s (%s)", h->n, err->msg, err_name(status));
    }
    if (status != 0) {
        join_again(j);
        return;
    }
    h->raft_id = (uint64_t)json_int(result, "raft_id", 0);
    tsr_assert(h->raft_id >> 16 == h->n);
    h->formed = true;
    h->rejoining = false;
    h->rotten = h->failing = h->fragile = false;
    world_note(h->w, "host %u joins as incarnation %llu", h->n,
               (unsigned long long)(h->raft_id & 0xffff));
    host_restart_after(h, 10 + world_below(h->w, 500));
}

static void join_try(void *arg)
{
    struct joining *j = arg;
    struct sim_host *via = host_any(j->h->w);
    if (via == NULL) {
        join_again(j);
        return;
    }
    /* The old request may still be in the memory of a dead process: a new one each time. */
    struct joining *next = calloc(1, sizeof(*next));
    tsr_assert(next != NULL);
    memcpy(next->id, j->id, sizeof(next->id));
    next->h = j->h;
    next->rejoin = j->rejoin;
    next->via = via;
    next->via_life = via->life;
    next->submit.loop = via->worker;
    next->submit.command = add_command(next->h, next->rejoin);
    memcpy(next->submit.id, next->id, sizeof(next->id));
    next->submit.cb = join_answered;
    next->submit.arg = next;
    meta_submit(via->meta, &next->submit);
    sim_after(next->h->w->sim, 0, JOIN_RETRY_MS * 1000, join_watch, NULL, next);
}

static void join_start(struct sim_host *h, bool rejoin)
{
    struct joining *j = calloc(1, sizeof(*j));
    tsr_assert(j != NULL);
    j->h = h;
    j->rejoin = rejoin;
    for (size_t i = 0; i < sizeof(j->id); i++) {
        j->id[i] = (uint8_t)world_below(h->w, 256);
    }
    h->rejoining = true;
    h->formed = false;
    join_again(j);
}

static void new_stores(struct sim_host *h, bool blobs)
{
    h->prepared = false;
    h->raft_fs = sim_fs_new(world_below(h->w, UINT64_MAX));
    tsr_assert(kv_mem_open(meta_database_count, &h->meta_kv) == 0);
    if (blobs) {
        h->blob_fs = sim_fs_new(world_below(h->w, UINT64_MAX));
        tsr_assert(kv_mem_open(chunk_index_database_count, &h->index_kv) == 0);
    }
}

void host_join_anew(struct sim_host *h, bool blobs)
{
    host_crash(h, SIM_FS_KILL);
    new_stores(h, blobs);
    join_start(h, true);
}

void host_make(struct world *w, unsigned n)
{
    struct sim_host *h = &w->hosts[n];
    h->w = w;
    h->n = n;
    (void)snprintf(h->name, sizeof(h->name), "host%u", n);
    h->control = sim_loop_new(w->sim, n);
    h->worker = sim_loop_new(w->sim, n);
    h->log_pool = sim_pool_new(w->sim, n, 1, 100, 1500);
    h->apply_pool = sim_pool_new(w->sim, n, 1, 50, 400);
    h->index_pool = sim_pool_new(w->sim, n, 1, 20, 300);
    h->disk_pool = sim_pool_new(w->sim, n, 4, 50, 1500);
    sim_pool_tail(h->disk_pool, w->slow_blobs ? 10 : 0, 80000);
    h->cpu_pool = sim_pool_new(w->sim, n, 2, 10, 100);
    new_stores(h, true);
}

void host_join_first(struct sim_host *h)
{
    join_start(h, false);
}

/* --- replacing a host
 * ----------------------------------------------------------------------------------------- */

enum { REMOVE_RETRY_MS = 1000 };

struct removing {
    struct cluster_call call;
    struct sim_host *h;
};

static bool is_removed(const struct sim_host *h)
{
    struct sim_host *ahead = host_ahead(h->w);
    struct meta_view *view = NULL;
    json_t *hosts = NULL, *host;
    size_t i;
    bool left = false;
    if (ahead == NULL || meta_view_open(ahead->meta, &view) != 0) {
        return false;
    }
    (void)meta_host_list(view, &hosts);
    meta_view_close(view);
    json_array_foreach(hosts, i, host)
    {
        left = left || (json_int(host, "id", 0) == (int64_t)h->n &&
                        strcmp(json_str_or(host, "state", ""), "left") == 0);
    }
    json_decref(hosts);
    return left;
}

static void remove_answered(struct cluster_call *call, int status, json_t *result,
                            const struct err *err)
{
    struct removing *r = call->arg;
    (void)result;
    world_note(r->h->w, "removal of host %u: %s", r->h->n, status == 0 ? "done" : err->msg);
}

/* Asked again, of any host, until the records say so. What was asked of a host that died is left
 * behind. */
static void remove_try(void *arg)
{
    struct sim_host *h = arg, *via = host_any(h->w);
    if (is_removed(h)) {
        world_note(h->w, "host %u is removed", h->n);
        host_join_first(&h->w->hosts[h->replaced_by]);
        return;
    }
    if (via != NULL) {
        struct removing *r = calloc(1, sizeof(*r));
        tsr_assert(r != NULL);
        r->h = h;
        r->call = (struct cluster_call){.loop = via->worker,
                                        .method = "host.remove",
                                        .args = json_pack("{s:s,s:b}", "host", h->name, "force", 1),
                                        .cb = remove_answered,
                                        .arg = r};
        cluster_call(via->cluster, &r->call);
    }
    sim_after(h->w->sim, 0, REMOVE_RETRY_MS * 1000, remove_try, NULL, h);
}

void host_replace(struct sim_host *h)
{
    struct world *w = h->w;
    tsr_assert(w->host_count < SIM_HOSTS_MAX);
    host_crash(h, SIM_FS_KILL);
    h->gone = true;
    h->formed = false;
    h->raft_id = 0;
    h->replaced_by = ++w->host_count;
    host_make(w, h->replaced_by);
    sim_after(w->sim, 0, REMOVE_RETRY_MS * 1000, remove_try, NULL, h);
}

static void formed_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct joining *j = req->arg;
    (void)result;
    if (status != 0) {
        world_fail(j->h->w, "the cluster can not be formed: %s", err->msg);
    }
}

/* The first host: alone in its log; its first commands come through the log as with the daemon. */
void host_bootstrap(struct sim_host *h)
{
    char address[32];
    (void)snprintf(address, sizeof(address), "%s:9294", h->name);
    h->raft_id = (uint64_t)h->n << 16 | 1;
    h->formed = true;
    tsr_assert(fs_mkdirs(h->raft_fs, "raft") == 0);
    tsr_assert(consensus_bootstrap(h->raft_fs, "raft", h->raft_id, address) == 0);
    host_start(h);
    struct joining *j = calloc(1, sizeof(*j));
    tsr_assert(j != NULL);
    j->h = h;
    json_t *list =
        json_pack("[{s:s,s:s,s:s,s:I},o,{s:s,s:I,s:s},{s:s,s:I,s:I,s:s,s:s}]", "op", "cluster.init",
                  "cluster_id", cluster_id, "name", "sim", "chunk_bytes",
                  (json_int_t)SIM_CHUNK_BYTES, add_command(h, false), "op", "host.state", "id",
                  (json_int_t)h->n, "state", "up", "op", "endpoint.grant", "host", (json_int_t)h->n,
                  "epoch", (json_int_t)1, "address", h->name, "reason", "cluster formed");
    j->submit.loop = h->worker;
    j->submit.command = json_pack("{s:s,s:o}", "op", "batch", "commands", list);
    j->submit.timeout_ms = 10000;
    j->submit.arg = j;
    j->submit.cb = formed_cb;
    meta_submit(h->meta, &j->submit);
}
