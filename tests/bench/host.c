#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tessera/base/assert.h"
#include "tessera/peer.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/kv.h"

static const uint64_t map_bytes = UINT64_C(64) << 30;

void bench_must(int rv, const char *what)
{
    if (rv != 0) {
        (void)fprintf(stderr, "bench: %s: %s\n", what, err_text(rv));
        _exit(1);
    }
}

void bench_host_tell(struct bench_host *h, bool *what)
{
    pthread_mutex_lock(&h->lock);
    *what = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void bench_host_await(struct bench_host *h, const bool *what)
{
    pthread_mutex_lock(&h->lock);
    while (!*what) {
        pthread_cond_wait(&h->changed, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
}

/* --- links ------------------------------------------------------------------------------------ */

static void net_send(struct consensus_net *net, uint64_t to, const char *address, const void *data,
                     size_t size)
{
    struct bench_host *h = container_of(net, struct bench_host, net);
    if (h->links != NULL) {
        raft_links_send(h->links, to, address, data, size);
    }
}

static size_t net_queued(struct consensus_net *net, uint64_t to)
{
    struct bench_host *h = container_of(net, struct bench_host, net);
    return h->links != NULL ? raft_links_queued(h->links, to) : 0;
}

static const struct consensus_net_ops net_ops = {.send = net_send, .queued = net_queued};

static int link_receive(void *arg, uint64_t from, const void *data, size_t size)
{
    struct bench_host *h = arg;
    return h->consensus != NULL ? consensus_receive(h->consensus, from, data, size) : 0;
}

static void link_disconnected(void *arg, uint64_t from)
{
    struct bench_host *h = arg;
    if (h->consensus != NULL) {
        consensus_disconnected(h->consensus, from);
    }
}

static struct tls *tls_of(const struct bench_host *h, enum tls_role role)
{
    struct tls_options options = {.role = role,
                                  .cert_pem = h->cert_pem,
                                  .key_pem = h->key_pem,
                                  .ca_pem = h->ca_pem,
                                  .verify_peer = true,
                                  .alpn = "tessera-raft/1"};
    struct tls *tls = NULL;
    struct err err = {0};
    bench_must(tls_new(&options, &tls, &err), "TLS");
    return tls;
}

static void open_links(struct bench_host *h)
{
    struct err err = {0};
    h->net.ops = &net_ops;
    if (h->ca_pem == NULL) {
        return;
    }
    h->server_tls = tls_of(h, TLS_SERVER);
    h->client_tls = tls_of(h, TLS_CLIENT);
    struct raft_link_options options = {.loop = h->control,
                                        .server_tls = h->server_tls,
                                        .client_tls = h->client_tls,
                                        .cluster_id = h->cluster_id,
                                        .listen = h->address,
                                        .self = h->raft_id,
                                        .address = h->address,
                                        .receive = link_receive,
                                        .disconnected = link_disconnected,
                                        .arg = h};
    bench_must(raft_links_new(&options, &h->links, &err), h->address);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void open_threads(struct bench_host *h)
{
    bench_must(uv_loop_create("control", &h->control), "control loop");
    bench_must(uv_loop_create("worker", &h->worker), "worker loop");
    bench_must(thread_pool_new("log", 1, &h->log_pool), "log thread");
    bench_must(thread_pool_new("apply", 1, &h->apply_pool), "apply thread");
    bench_must(thread_pool_new("disk", 2, &h->disk_pool), "disk threads");
}

static void open_meta(struct bench_host *h)
{
    struct kv *kv = NULL;
    struct err err = {0};
    bench_must(fs_mkdirs(fs_real(), h->meta_dir), h->meta_dir);
    bench_must(kv_lmdb_open(h->meta_dir, map_bytes, meta_databases, meta_database_count,
                            KV_SYNC_LATE, &kv),
               h->meta_dir);
    bench_must(meta_open(kv, &h->meta, &err), err.msg);
}

static void on_leader(void *arg, uint64_t term)
{
    struct bench_host *h = arg;
    (void)term;
    if (h->on_leader != NULL) {
        h->on_leader(h);
    }
}

static void on_fatal(void *arg, int code, const char *reason)
{
    (void)arg;
    bench_must(code, reason);
}

/* Numbers that are left out are the shipped settings. */
static void open_consensus(struct bench_host *h)
{
    struct err err = {0};
    if (!consensus_exists(fs_real(), h->raft_dir)) {
        bench_must(consensus_prepare(fs_real(), h->raft_dir), h->raft_dir);
    }
    if (h->bootstrap) {
        bench_must(consensus_bootstrap(fs_real(), h->raft_dir, h->raft_id, h->address),
                   h->raft_dir);
    }
    struct consensus_options options = {.loop = h->control,
                                        .log_pool = h->log_pool,
                                        .apply_pool = h->apply_pool,
                                        .disk_pool = h->disk_pool,
                                        .fs = fs_real(),
                                        .dir = h->raft_dir,
                                        .fsm = meta_fsm(h->meta),
                                        .net = &h->net,
                                        .events = {.on_leader = on_leader, .on_fatal = on_fatal},
                                        .arg = h,
                                        .self = h->raft_id,
                                        .address = h->address};
    bench_must(consensus_open(&options, &h->consensus, &err), err.msg);
    meta_attach(h->meta, h->consensus, h->control);
}

static void start_task(struct task *task)
{
    struct bench_host *h = container_of(task, struct bench_host, task);
    bench_must(consensus_start(h->consensus), "consensus");
}

void bench_host_open(struct bench_host *h)
{
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    open_threads(h);
    open_meta(h);
    open_links(h);
    open_consensus(h);
    bench_must(uv_loop_start_thread(h->control), "control thread");
    bench_must(uv_loop_start_thread(h->worker), "worker thread");
    h->task.run = start_task;
    loop_post(h->control, &h->task);
}

/* --- closing ---------------------------------------------------------------------------------- */

static void links_closed(void *arg)
{
    struct bench_host *h = arg;
    bench_host_tell(h, &h->closed);
}

static void consensus_closed(void *arg)
{
    struct bench_host *h = arg;
    h->consensus = NULL;
    if (h->links != NULL) {
        raft_links_close(h->links, links_closed, h);
    } else {
        links_closed(h);
    }
}

static void stop_task(struct task *task)
{
    struct bench_host *h = container_of(task, struct bench_host, task);
    meta_detach(h->meta);
    consensus_close(h->consensus, consensus_closed, h);
}

void bench_host_close(struct bench_host *h)
{
    h->task.run = stop_task;
    loop_post(h->control, &h->task);
    bench_host_await(h, &h->closed);
}
