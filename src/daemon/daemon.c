/* A formed host, from start to stop. Reads like a table of contents: parts are built in layer
 * order, each from what stands on its left, and closed in reverse.
 *
 * The main thread runs the control loop. Everything is built before the other threads start, so no
 * part meets a half-built one. Stop (SIGTERM): refuse new work (/health/ready), hand over the admin
 * endpoint and leadership, let requests finish, close. A fatal error of consensus (a failed write
 * or sync of the log, a damaged file) ends the process at once with a code of its own: what is on
 * disk is what the next start checks. */
#include <stdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/cert.h"
#include "tessera/sys/signal.h"

enum {
    CLOSE_GRACE_MS = 15000,           /* closing parts takes no longer */
    CHUNK_RESERVE = 64 * 1024 * 1024, /* left free on the data file system */
    META_RESERVE = 16 * 1024 * 1024,  /* with less, changes wait until there is more */
    RESOLVE_THREADS = 2,
    SPOOL_THREADS = 2,
};
static const uint64_t index_map_bytes = UINT64_C(64) << 30;

/* --- sys
 * ------------------------------------------------------------------------------------------------
 */

static unsigned cores_or(int64_t wanted)
{
    long n = wanted > 0 ? (long)wanted : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > WORKERS_MAX ? WORKERS_MAX : (unsigned)n;
}

static int open_threads(struct daemon *d, struct err *err)
{
    int rv = 0;
    if ((rv = thread_pool_new("log", 1, &d->log_pool)) != 0 ||
        (rv = thread_pool_new("apply", 1, &d->apply_pool)) != 0 ||
        (rv = thread_pool_new("index", 1, &d->index_pool)) != 0 ||
        (rv = thread_pool_new("disk", (unsigned)d->cfg.disk_threads, &d->disk_pool)) != 0 ||
        (rv = thread_pool_new("cpu", cores_or(d->cfg.cpu_threads), &d->cpu_pool)) != 0 ||
        (rv = thread_pool_new("auth", 1, &d->auth_pool)) != 0 ||
        (rv = thread_pool_new("fetch", (unsigned)d->cfg.import_threads, &d->fetch_pool)) != 0 ||
        (rv = thread_pool_new("convert", (unsigned)d->cfg.import_convert_threads,
                              &d->convert_pool)) != 0 ||
        (rv = thread_pool_new("spool", SPOOL_THREADS, &d->spool_pool)) != 0 ||
        (rv = thread_pool_new("resolve", RESOLVE_THREADS, &d->resolve_pool)) != 0) {
        return err_set(err, rv, "threads can not be started");
    }
    buf_budget_init(&d->upload_budget, (size_t)d->cfg.buffers_upload_bytes);
    buf_budget_init(&d->relay_budget, (size_t)d->cfg.buffers_relay_bytes);
    buf_budget_init(&d->repair_budget, (size_t)d->cfg.buffers_repair_bytes);
    loop_random(d->control, d->boot, sizeof(d->boot));
    return 0;
}

static int open_one_tls(struct daemon *d, enum tls_role role, const char *alpn, bool peers,
                        struct tls **out, struct err *err)
{
    struct tls_options options = {
        .role = role,
        .cert_pem = d->files.cert_pem,
        .key_pem = d->files.key_pem,
        .ca_pem = d->files.ca_pem,
        .verify_peer = peers,
        .alpn = alpn,
    };
    return tls_new(&options, out, err);
}

static int open_tls(struct daemon *d, struct err *err)
{
    int rv = settings_api_tls(d, &d->cfg, &d->api_tls, err);
    if (rv != 0 ||
        (rv = open_one_tls(d, TLS_SERVER, "tessera-peer/1", true, &d->peer_server_tls, err)) != 0 ||
        (rv = open_one_tls(d, TLS_CLIENT, "tessera-peer/1", true, &d->peer_client_tls, err)) != 0 ||
        (rv = open_one_tls(d, TLS_SERVER, "tessera-raft/1", true, &d->raft_server_tls, err)) != 0 ||
        (rv = open_one_tls(d, TLS_CLIENT, "tessera-raft/1", true, &d->raft_client_tls, err)) != 0) {
        return rv;
    }
    return 0;
}

/* --- facts: store, log, links
 * ------------------------------------------------------------------------------ */

static int open_meta(struct daemon *d, struct err *err)
{
    char path[PATH_BYTES];
    struct kv *kv = NULL;
    path_join(path, d->cfg.data_dir, "meta");
    damage_set(&d->damage, "STATE_DAMAGED", "");
    int rv = fs_mkdirs(fs_real(), path);
    if (rv == 0) {
        rv = kv_lmdb_open(path, (uint64_t)d->cfg.metadata_map_bytes, meta_databases,
                          meta_database_count, KV_SYNC_LATE, &kv);
    }
    if (rv != 0) {
        return err_set(err, rv, "the metadata store in %s can not be opened: %s", path,
                       err_text(rv));
    }
    rv = meta_open(kv, &d->meta, err);
    if (rv == 0) {
        kv_lmdb_reserve(kv, META_RESERVE);
    }
    if (rv == 0) {
        damage_set(&d->damage, "", "");
    }
    return rv;
}

static void net_send(struct consensus_net *net, uint64_t to, const char *address, const void *data,
                     size_t size)
{
    struct daemon *d = container_of(net, struct daemon, net);
    raft_links_send(d->links, to, address, data, size);
}

static size_t net_queued(struct consensus_net *net, uint64_t to)
{
    struct daemon *d = container_of(net, struct daemon, net);
    return raft_links_queued(d->links, to);
}

static const struct consensus_net_ops net_ops = {.send = net_send, .queued = net_queued};

static int link_receive(void *arg, uint64_t from, const void *data, size_t size)
{
    struct daemon *d = arg;
    return d->consensus != NULL ? consensus_receive(d->consensus, from, data, size) : 0;
}

static void link_disconnected(void *arg, uint64_t from)
{
    struct daemon *d = arg;
    if (d->consensus != NULL) {
        consensus_disconnected(d->consensus, from);
    }
    if (d->cluster != NULL) {
        cluster_disconnected(d->cluster, from);
    }
}

static int link_admit(void *arg, uint64_t from, const struct peer_life *life, bool live)
{
    struct daemon *d = arg;
    return d->cluster != NULL ? cluster_admit(d->cluster, from, life, live) : 0;
}

static void link_refused(void *arg, uint64_t to, int code)
{
    struct daemon *d = arg;
    log_warn("daemon", "host=%llu refuses this process: %s", (unsigned long long)(to >> 16),
             code == TSR_EEXIST ? "another one of this host is alive"
                                : "its disk is a copy or old");
    if (d->cluster != NULL) {
        cluster_life_refused(d->cluster, code);
    }
}

static int open_links(struct daemon *d, struct err *err)
{
    struct raft_link_options options = {
        .loop = d->control,
        .server_tls = d->raft_server_tls,
        .client_tls = d->raft_client_tls,
        .cluster_id = d->files.me.cluster_id,
        .listen = d->cfg.raft_listen,
        .self = d->files.me.raft_id,
        .address = d->addresses.raft_address,
        .receive = link_receive,
        .disconnected = link_disconnected,
        .admit = link_admit,
        .refused = link_refused,
        .arg = d,
    };
    d->net.ops = &net_ops;
    return raft_links_new(&options, &d->links, err);
}

static void on_leader(void *arg, uint64_t term)
{
    struct daemon *d = arg;
    if (d->cluster != NULL) {
        cluster_on_leader(d->cluster, term);
    }
}

static void on_lost(void *arg)
{
    struct daemon *d = arg;
    if (d->cluster != NULL) {
        cluster_on_lost(d->cluster);
    }
}

/* Damage met while running: what is on disk is not to be trusted as it is. */
static void on_fatal(void *arg, int code, const char *reason)
{
    struct daemon *d = arg;
    if (code == TSR_ECORRUPT && rejoin_possible(d)) {
        damage_rebuild(d, meta_damaged(d->meta) > 0 ? "STATE_DAMAGED" : "LOG_DAMAGED", reason,
                       false);
    }
    log_error("daemon", "this host stops: %s (%s)", reason, err_name(code));
    _exit(code == TSR_ECORRUPT ? EXIT_DAMAGED : code == TSR_ENOTSUP ? EXIT_VERSION : EXIT_DISK);
}

void daemon_twice(void)
{
    log_error("daemon",
              "this host stops: another process with its identity is alive. Is data_dir a "
              "copy of that one's? Stop one of the two; a second host needs a data_dir of "
              "its own, and joins with a token");
    _exit(EXIT_TWICE);
}

static void on_twice(void *arg)
{
    (void)arg;
    daemon_twice();
}

static void on_rebuild(void *arg, const char *code, const char *reason)
{
    damage_rebuild(arg, code, reason, false);
}

/* From the first start of an incarnation on, an empty raft/ is damage: it may have voted. */
static int prepare_raft(struct daemon *d, const char *path, struct err *err)
{
    if (!d->files.fresh) {
        return consensus_prepared(fs_real(), path)
                   ? 0
                   : err_set(err, TSR_ECORRUPT, "term, vote and log are missing in raft/");
    }
    int rv = consensus_prepare(fs_real(), path);
    if (rv == 0) {
        d->files.fresh = false;
        rv = host_files_store(d->cfg.data_dir, &d->files);
    }
    return rv == 0 ? 0 : err_set(err, rv, "%s can not be made", path);
}

/* What is told of this process, so that the others notice a second one (cluster/life.c). */
static void begin_life(struct daemon *d)
{
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(d->consensus, st);
    d->life.log_end = st->last_index;
    d->life.mark = loop_random_u64(d->control) >> 1 | 1; /* not 0, and a number in JSON */
    free(st);
    if (d->links != NULL) {
        raft_links_set_life(d->links, &d->life);
    }
}

static int open_consensus(struct daemon *d, struct err *err)
{
    char path[PATH_BYTES];
    path_join(path, d->cfg.data_dir, "raft");
    damage_set(&d->damage, "LOG_DAMAGED", "");
    int rv = prepare_raft(d, path, err);
    if (rv == 0) {
        rv = consensus_begin(fs_real(), path, &d->life.starts);
        rv = rv == TSR_ECORRUPT ? 0 : rv; /* consensus_open says why */
    }
    if (rv != 0) {
        return rv;
    }
    struct consensus_options options = {
        .loop = d->control,
        .log_pool = d->log_pool,
        .apply_pool = d->apply_pool,
        .disk_pool = d->disk_pool,
        .fs = fs_real(),
        .dir = path,
        .fsm = meta_fsm(d->meta),
        .net = &d->net,
        .events = {.on_leader = on_leader, .on_lost = on_lost, .on_fatal = on_fatal},
        .arg = d,
        .self = d->files.me.raft_id,
        .address = d->addresses.raft_address,
        .election_ms = (unsigned)d->cfg.election_ms,
        .heartbeat_ms = (unsigned)d->cfg.heartbeat_ms,
        .snapshot_entries = (uint64_t)d->cfg.snapshot_entries,
        .snapshot_bytes = (uint64_t)d->cfg.snapshot_log_bytes,
        .snapshot_trailing = (uint64_t)d->cfg.snapshot_trailing,
        .segment_bytes = (uint64_t)d->cfg.log_segment_bytes,
        .window_bytes = 4 * 1024 * 1024,
    };
    rv = consensus_open(&options, &d->consensus, err);
    if (rv == 0) {
        damage_set(&d->damage, "", "");
        meta_attach(d->meta, d->consensus, d->control);
        begin_life(d);
    }
    return rv;
}

int daemon_open_facts(struct daemon *d, struct err *err)
{
    int rv = open_meta(d, err);
    return rv == 0 ? open_consensus(d, err) : rv;
}

/* --- bytes
 * ------------------------------------------------------------------------------------------------------
 */

/* A damaged chunk index is moved aside: what it says is found again in blobs/. */
static int open_index(struct daemon *d, struct kv **out)
{
    static const char *const names[] = {"index"};
    char path[PATH_BYTES];
    path_join(path, d->cfg.data_dir, "index");
    int rv = TSR_ECORRUPT;
    for (int i = 0; i < 2 && rv == TSR_ECORRUPT; i++) {
        rv = i == 0
                 ? 0
                 : damage_set_aside(d->cfg.data_dir, d->files.me.raft_id, names, array_len(names));
        if (rv == 0 && (rv = fs_mkdirs(fs_real(), path)) == 0) {
            rv = kv_lmdb_open(path, index_map_bytes, chunk_index_databases,
                              chunk_index_database_count, KV_SYNC_EACH, out);
        }
        if (rv == TSR_ECORRUPT && i == 0) {
            log_warn("daemon", "the chunk index is damaged: it is moved to damaged/ and made anew");
        }
    }
    return rv;
}

static int open_chunks(struct daemon *d, struct err *err)
{
    char path[PATH_BYTES];
    struct chunk_store *store = NULL;
    struct kv *index = NULL;
    uint8_t random[16];
    loop_random(d->control, random, sizeof(random));
    path_join(path, d->cfg.data_dir, "blobs");
    int rv = file_store_open(fs_real(), path, d->files.me.cluster_id, d->files.me.host_id, random,
                             &store, err);
    if (rv != 0) {
        return rv;
    }
    rv = open_index(d, &index);
    if (rv != 0) {
        return err_set(err, rv, "the chunk index can not be opened: %s", err_text(rv));
    }
    struct chunks_options options = {
        .store = store,
        .index = index,
        .disk_pool = d->disk_pool,
        .index_pool = d->index_pool,
        .cpu_pool = d->cpu_pool,
        .loop = d->control,
        .chunk_bytes = d->files.me.chunk_bytes,
        .verify_always = strcmp(d->cfg.verify_reads, "always") == 0,
        .reservation_ms = (uint64_t)d->cfg.reservation_life_ms,
        .reserve_bytes = CHUNK_RESERVE,
    };
    rv = chunks_open(&options, &d->chunks, err);
    if (rv != 0) {
        store->ops->free(store);
        kv_close(index);
    }
    return rv;
}

/* --- services
 * -----------------------------------------------------------------------------------------------------
 */

static void leader_minute(void *arg)
{
    struct daemon *d = arg;
    identity_duties(d->identity, d->control);
}

static int open_services(struct daemon *d, struct err *err)
{
    int rv = worker_peer_client(d, d->control, &d->peers);
    d->load = cluster_load_new();
    struct identity_options identity = {
        .meta = d->meta,
        .auth_pool = d->auth_pool,
        .cluster_key = d->files.cluster_key,
        .token_life_us = d->cfg.token_life_ms * 1000,
        .expired_window_us = d->cfg.token_expired_window_ms * 1000,
    };
    if (rv != 0 || d->load == NULL || (rv = identity_new(&identity, &d->identity)) != 0) {
        return err_set(err, rv != 0 ? rv : TSR_ENOMEM, "services can not be made");
    }
    replica_serve(&d->service, d->chunks, d->cpu_pool);
    struct cluster_options cluster = {
        .loop = d->control,
        .meta = d->meta,
        .consensus = d->consensus,
        .peers = peer_client_net(d->peers),
        .service = &d->service,
        .chunks = d->chunks,
        .replicator = &d->replicator_seen,
        .load = d->load,
        .self = d->files.me.host_id,
        .raft_id = d->files.me.raft_id,
        .life = d->life,
        .version = TSR_VERSION,
        .cluster_id = d->files.me.cluster_id,
        .api_url = d->addresses.api_url,
        .cluster_key = d->files.cluster_key,
        .probe = probe_api,
        .leader_minute = leader_minute,
        .on_rebuild = on_rebuild,
        .on_twice = on_twice,
        .warn = keystone_warn,
        .arg = d,
    };
    if (d->files.rebuilt_code[0] != '\0') {
        cluster.rebuilt_code = d->files.rebuilt_code;
        cluster.rebuilt_reason = d->files.rebuilt_reason;
    }
    settings_cluster(&d->cfg, &cluster);
    if (cert_not_after(d->files.cert_pem, &cluster.cert_expires_s) != 0) {
        cluster.cert_expires_s = 0;
    }
    memcpy(cluster.boot, d->boot, sizeof(cluster.boot));
    rv = settings_join_pin(d, cluster.ca_fingerprint, err);
    if (rv != 0) {
        return rv;
    }
    if ((rv = settings_rules(&d->cfg, &d->rules, err)) != 0) {
        return rv;
    }
    settings_limits(&d->cfg, &d->limits);
    settings_import(&d->cfg, &d->import);
    path_join(d->convert_dir, d->cfg.data_dir, "convert");
    rv = cluster_new(&cluster, &d->cluster);
    return rv == 0 ? keystone_open(d, err) : rv;
}

static int open_workers(struct daemon *d, struct err *err)
{
    int rv = 0;
    d->worker_count = cores_or(d->cfg.workers);
    for (unsigned i = 0; rv == 0 && i < d->worker_count; i++) {
        rv = worker_open(d, i, &d->workers[i], err);
    }
    if (rv == 0) {
        image_importer_watch(d->workers[0].importer);
        rv = replicator_new(&d->workers[0].replica, d->meta, &d->replicator);
        d->replicator_seen = d->replicator;
    }
    return rv;
}

static int open_all(struct daemon *d, struct err *err)
{
    int rv;
    if ((rv = open_threads(d, err)) != 0 || (rv = open_tls(d, err)) != 0 ||
        (rv = open_meta(d, err)) != 0 || (rv = open_chunks(d, err)) != 0 ||
        (rv = open_links(d, err)) != 0 || (rv = open_consensus(d, err)) != 0 ||
        (rv = open_services(d, err)) != 0 || (rv = init_load(d, err)) != 0 ||
        (rv = open_workers(d, err)) != 0) {
        return rv;
    }
    return 0;
}

static int start_all(struct daemon *d, struct err *err)
{
    int rv = consensus_start(d->consensus);
    if (rv != 0) {
        return err_set(err, rv, "consensus can not be started");
    }
    cluster_start(d->cluster);
    rejoin_keep_hosts(d);
    init_start(d);
    for (unsigned i = 0; i < d->worker_count; i++) {
        if ((rv = uv_loop_start_thread(d->workers[i].loop)) != 0) {
            return err_set(err, rv, "threads can not be started");
        }
    }
    d->workers_open = d->worker_count;
    return 0;
}

/* --- stopping
 * ---------------------------------------------------------------------------------------------------------
 */

static void links_closed(void *arg)
{
    struct daemon *d = arg;
    timer_stop(&d->stop_timer);
    timer_stop(&d->init_timer);
    timer_stop(&d->hosts_timer);
    signals_stop();
    uv_loop_stop(d->control);
}

static void consensus_closed(void *arg)
{
    struct daemon *d = arg;
    d->consensus = NULL;
    raft_links_close(d->links, links_closed, d);
}

static void cluster_closed(void *arg)
{
    struct daemon *d = arg;
    d->cluster = NULL;
    meta_detach(d->meta);
    consensus_close(d->consensus, consensus_closed, d);
}

static void peers_closed(void *arg)
{
    struct daemon *d = arg;
    cluster_close(d->cluster, cluster_closed, d);
}

static void keeper_closed(void *arg)
{
    struct daemon *d = arg;
    d->keeper = NULL;
    peer_client_close(d->peers, peers_closed, d);
}

struct closed_task {
    struct task task;
    struct daemon *d;
};

static void worker_closed_run(struct task *task)
{
    struct closed_task *t = container_of(task, struct closed_task, task);
    struct daemon *d = t->d;
    free(t);
    if (--d->workers_open > 0) {
        return;
    }
    keystone_stop(d->keystone); /* no client waits any more */
    if (d->keeper != NULL) {
        keystone_keeper_close(d->keeper, keeper_closed, d);
    } else {
        keeper_closed(d);
    }
}

void daemon_worker_closed(struct daemon *d)
{
    struct closed_task *t = malloc(sizeof(*t));
    tsr_assert(t != NULL);
    *t = (struct closed_task){.task = {.run = worker_closed_run}, .d = d};
    loop_post(d->control, &t->task);
}

static void replicator_closed_run(struct task *task)
{
    struct closed_task *t = container_of(task, struct closed_task, task);
    struct daemon *d = t->d;
    free(t);
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_close(&d->workers[i]);
    }
}

static void replicator_closed(void *arg)
{
    struct daemon *d = arg;
    struct closed_task *t = malloc(sizeof(*t));
    tsr_assert(t != NULL);
    *t = (struct closed_task){.task = {.run = replicator_closed_run}, .d = d};
    loop_post(d->control, &t->task);
}

static void close_replicator_run(struct task *task)
{
    struct closed_task *t = container_of(task, struct closed_task, task);
    struct daemon *d = t->d;
    free(t);
    replicator_close(d->replicator, replicator_closed, d);
}

static void drained(void *arg)
{
    struct daemon *d = arg;
    struct closed_task *t = malloc(sizeof(*t));
    tsr_assert(t != NULL);
    d->replicator_seen = NULL;
    *t = (struct closed_task){.task = {.run = close_replicator_run}, .d = d};
    loop_post(d->workers[0].loop, &t->task); /* the replicator lives there */
}

/* Something did not close in time: nothing acknowledged is lost by going now. */
static void on_stop_timer(struct timer *timer)
{
    (void)timer;
    log_warn("daemon", "stopping took too long: leaving at once");
    _exit(0);
}

static void on_stop(void *arg)
{
    struct daemon *d = arg;
    if (atomic_exchange(&d->stopping, true)) {
        return;
    }
    log_info("daemon", "stopping");
    atomic_store(&d->draining, true);
    timer_start(&d->stop_timer, (uint64_t)d->cfg.drain_timeout_ms + CLOSE_GRACE_MS);
    cluster_drain(d->cluster, 3000, drained, d);
}

static void on_reload(void *arg)
{
    struct daemon *d = arg;
    if (!atomic_load(&d->stopping)) {
        reload_run(d);
    }
}

static void free_all(struct daemon *d)
{
    thread_pool_free(
        d->keystone_pool); /* before the workers' loops, which its ends are posted to */
    keystone_free(d->keystone);
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_free(&d->workers[i]);
    }
    replica_serve_end(&d->service);
    chunks_close(d->chunks);
    meta_close(d->meta);
    identity_free(d->identity);
    cluster_load_free(d->load);
    thread_pool_free(d->log_pool);
    thread_pool_free(d->apply_pool);
    thread_pool_free(d->disk_pool); /* before index: a collection goes from disk to index */
    thread_pool_free(d->index_pool);
    thread_pool_free(d->cpu_pool);
    thread_pool_free(d->auth_pool);
    thread_pool_free(d->convert_pool);
    thread_pool_free(d->spool_pool);
    thread_pool_free(d->fetch_pool);
    thread_pool_free(d->resolve_pool);
    tls_unref(d->api_tls);
    tls_unref(d->peer_server_tls);
    tls_unref(d->peer_client_tls);
    tls_unref(d->raft_server_tls);
    tls_unref(d->raft_client_tls);
    json_decref(d->init_batch);
    free(d->hosts_text);
    reload_free(d);
    settings_rules_free(&d->rules);
}

int exit_code_of(int rv)
{
    switch (rv) {
    case TSR_EEXIST:
        return EXIT_ADDRESS;
    case TSR_ECORRUPT:
        return EXIT_DAMAGED;
    case TSR_EIO:
    case TSR_ENOSPC:
        return EXIT_DISK;
    case TSR_ENOTSUP:
        return EXIT_VERSION;
    case TSR_ENOMEM:
    case TSR_EAGAIN:
    case TSR_EBUSY: /* of a call that needs a file descriptor */
        return EXIT_RESOURCES;
    default:
        return EXIT_CONFIG;
    }
}

static struct daemon *the_daemon; /* of handlers that get no argument */

/* Which store is not told: both are made anew, the chunk index from blobs/. */
static void page_damaged(const char *reason)
{
    if (rejoin_possible(the_daemon)) {
        damage_rebuild(the_daemon, "STATE_DAMAGED", reason, true);
    }
    log_error("daemon", "this host stops: %s", reason);
    _exit(EXIT_DAMAGED);
}

/* The stores are mapped files: a page that the file or the disk does not have ends here. The fault
 * is in the code that reads the map, so what the handler calls meets no lock. */
static void on_bus_error(int number)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set,
                    number); /* a blocked signal would stay blocked in the program's next life */
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    (void)signal(number, SIG_DFL);
    page_damaged("a page of meta/ or index/ can not be read: the file is cut short, or the disk "
                 "fails");
}

/* Half-open parts have timers and threads: they end with the process. */
static int start_failed(struct daemon *d, int rv, struct err *err)
{
    const char *reason = err->msg[0] != '\0' ? err->msg : err_text(rv);
    if (rv == TSR_ECORRUPT && d->damage.code[0] != '\0' && rejoin_possible(d)) {
        (void)str_copy(d->damage.reason, sizeof(d->damage.reason), reason);
        return form_run(d);
    }
    const char *what = rv == TSR_EBUSY                        ? " (out of file descriptors?)"
                       : rv == TSR_EAGAIN || rv == TSR_ENOMEM ? " (out of memory or threads?)"
                                                              : "";
    log_error("daemon", "can not start: %s%s (%s)", reason, what, err_name(rv));
    if (d->cfg.log_file[0] != '\0') {
        (void)fprintf(stderr, "tesserad: can not start: %s\n", reason);
    }
    return exit_code_of(rv);
}

/* A note of an earlier process: nothing of the old log and store is opened. */
static int noted_damage(struct daemon *d)
{
    struct err err = {0};
    int rv = rejoin_possible(d) ? open_tls(d, &err) : TSR_ECORRUPT;
    if (rv != 0) {
        log_error("daemon", "can not start: %s: %s", d->damage.code, d->damage.reason);
        (void)damage_forget(
            d->cfg.data_dir); /* nobody can confirm: what is there is all there is */
        return EXIT_DAMAGED;
    }
    return form_run(d);
}

int daemon_run(struct daemon *d)
{
    struct err err = {0};
    struct sigaction bus = {.sa_handler = on_bus_error};
    the_daemon = d;
    (void)sigaction(SIGBUS, &bus, NULL);
    kv_on_damage(page_damaged);
    timer_init(&d->stop_timer, d->control, on_stop_timer);
    int rv = d->files.discard ? damage_resume(d) : 0;
    if (rv == 0 && damage_load(d->cfg.data_dir, &d->damage) == 0) {
        _exit(noted_damage(d));
    }
    if (rv == 0) {
        rv = open_all(d, &err);
    }
    if (rv == 0) {
        rv = start_all(d, &err);
    }
    if (rv != 0) {
        _exit(start_failed(d, rv, &err));
    }
    if (signals_start(d->control, on_stop, on_reload, d) != 0) {
        return EXIT_CONFIG;
    }
    log_info("daemon", "host %s id=%llu api=%s peers=%s raft=%s version=%s", d->files.me.name,
             (unsigned long long)d->files.me.host_id, d->addresses.api_url,
             d->addresses.peer_address, d->addresses.raft_address, TSR_VERSION);
    uv_loop_run(d->control);
    free_all(d);
    log_info("daemon", "stopped");
    return d->exit_code;
}
