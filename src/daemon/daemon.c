/* A formed host, from start to stop. Reads like a table of contents: parts are built in layer
 * order, each from what stands on its left, and closed in reverse.
 *
 * The main thread runs the control loop. Everything is built before the other threads start, so no
 * part meets a half-built one. Stop (SIGTERM): refuse new work (/health/ready), hand over the admin
 * endpoint and leadership, let requests finish, close. A fatal error of consensus (a failed write
 * or sync of the log, a damaged file) ends the process at once with a code of its own: what is on
 * disk is what the next start checks. */
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
    CHUNK_RESERVE = 64 * 1024 * 1024, /* left free on the data file system */
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
    d->contact_s = rejoin_contact(d);
    int64_t age_s = loop_wall_us(d->control) / 1000000 - d->contact_s;
    if (d->contact_s != 0 && age_s > 0) { /* else the clock is wrong: nothing is known */
        cluster.contact_age_ms = (uint64_t)age_s * 1000;
    }
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
        (rv = facts_open_meta(d, err)) != 0 || (rv = open_chunks(d, err)) != 0 ||
        (rv = facts_open_links(d, err)) != 0 || (rv = facts_open_consensus(d, err)) != 0 ||
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

/* --- life
 * ---------------------------------------------------------------------------------------------
 */

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
    stop_init(d);
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
    if (signals_start(d->control, stop_begin, on_reload, d) != 0) {
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
