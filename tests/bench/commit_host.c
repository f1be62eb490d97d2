/* One host of bench_commit: what a real one has of consensus, metadata and links (log, apply and
 * disk threads, LMDB synced behind its commits, TLS both ways), and nothing above. Host 1 makes the
 * cluster, takes the others in as voters, and obeys standard input. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commit.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/peer.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/kv.h"
#include "tessera/sys/net.h"

#define CLUSTER_ID "0123456789abcdef0123456789abcdef"
enum { PATH_BYTES = 512, ADDRESS_BYTES = 64, AGAIN_MS = 100 };
static const uint64_t map_bytes = UINT64_C(64) << 30;

struct host {
    const struct commit_host *given;
    struct loop *control, *worker;
    struct pool *log_pool, *apply_pool, *disk_pool;
    struct tls *server_tls, *client_tls;
    struct meta *meta;
    struct raft_links *links;
    struct consensus *consensus;
    struct consensus_net net;
    char address[ADDRESS_BYTES], dir[PATH_BYTES];
    struct timer again;
    struct task task;
    uint64_t joining; /* host 1: the number of the host that is being made a voter */
    bool added;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool formed, closed;
};

void commit_die(const char *what, int code)
{
    (void)fprintf(stderr, "bench_commit: %s: %s\n", what, err_text(code));
    _exit(1);
}

static void must(int rv, const char *what)
{
    if (rv != 0) {
        commit_die(what, rv);
    }
}

static uint64_t raft_id(uint64_t number)
{
    return number << 16 | 1;
}

static void address_of(const struct host *h, uint64_t number, char out[ADDRESS_BYTES])
{
    (void)snprintf(out, ADDRESS_BYTES, "127.0.0.1:%u", h->given->port_base + (unsigned)number - 1);
}

static void tell(struct host *h, bool *what)
{
    pthread_mutex_lock(&h->lock);
    *what = true;
    pthread_cond_signal(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

static void await(struct host *h, const bool *what)
{
    pthread_mutex_lock(&h->lock);
    while (!*what) {
        pthread_cond_wait(&h->changed, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
}

/* --- the links, as in the daemon -------------------------------------------------------------- */

static void net_send(struct consensus_net *net, uint64_t to, const char *address, const void *data,
                     size_t size)
{
    raft_links_send(container_of(net, struct host, net)->links, to, address, data, size);
}

static size_t net_queued(struct consensus_net *net, uint64_t to)
{
    return raft_links_queued(container_of(net, struct host, net)->links, to);
}

static const struct consensus_net_ops net_ops = {.send = net_send, .queued = net_queued};

static int link_receive(void *arg, uint64_t from, const void *data, size_t size)
{
    struct host *h = arg;
    return h->consensus != NULL ? consensus_receive(h->consensus, from, data, size) : 0;
}

static void link_disconnected(void *arg, uint64_t from)
{
    struct host *h = arg;
    if (h->consensus != NULL) {
        consensus_disconnected(h->consensus, from);
    }
}

static void on_fatal(void *arg, int code, const char *reason)
{
    (void)arg;
    commit_die(reason, code);
}

/* --- three voters ----------------------------------------------------------------------------- */

static void form_step(struct host *h);

static void form_again(struct timer *timer)
{
    form_step(container_of(timer, struct host, again));
}

static void form_done(void *arg, int status)
{
    struct host *h = arg;
    if (status == 0 && !h->added) {
        h->added = true;
    } else if (status == 0) {
        h->added = false;
        h->joining++;
    }
    timer_start(&h->again, status == 0 ? 0 : AGAIN_MS);
}

static void form_step(struct host *h)
{
    char address[ADDRESS_BYTES];
    if (h->joining > COMMIT_HOSTS) {
        tell(h, &h->formed);
        return;
    }
    address_of(h, h->joining, address);
    uint64_t id = raft_id(h->joining);
    int rv = h->added ? consensus_member_role(h->consensus, id, CONSENSUS_VOTER, form_done, h)
                      : consensus_member_add(h->consensus, id, address, form_done, h);
    if (rv != 0) {
        timer_start(&h->again, AGAIN_MS);
    }
}

/* --- opening ---------------------------------------------------------------------------------- */

static struct tls *tls_of(const struct commit_host *given, enum tls_role role)
{
    struct tls_options options = {.role = role,
                                  .cert_pem = given->cert_pem,
                                  .key_pem = given->key_pem,
                                  .ca_pem = given->ca_pem,
                                  .verify_peer = true,
                                  .alpn = "tessera-raft/1"};
    struct tls *tls = NULL;
    struct err err = {0};
    must(tls_new(&options, &tls, &err), "TLS");
    return tls;
}

static void open_threads(struct host *h)
{
    must(uv_loop_create("control", &h->control), "control loop");
    must(uv_loop_create("worker", &h->worker), "worker loop");
    must(thread_pool_new("log", 1, &h->log_pool), "log thread");
    must(thread_pool_new("apply", 1, &h->apply_pool), "apply thread");
    must(thread_pool_new("disk", 2, &h->disk_pool), "disk threads");
}

static void open_meta(struct host *h)
{
    char path[PATH_BYTES];
    struct kv *kv = NULL;
    struct err err = {0};
    (void)snprintf(path, sizeof path, "%s/host%" PRIu64 "/meta", h->given->dir, h->given->number);
    must(fs_mkdirs(fs_real(), path), path);
    must(kv_lmdb_open(path, map_bytes, meta_databases, meta_database_count, KV_SYNC_LATE, &kv),
         path);
    must(meta_open(kv, &h->meta, &err), err.msg);
}

static void open_links(struct host *h)
{
    struct err err = {0};
    h->server_tls = tls_of(h->given, TLS_SERVER);
    h->client_tls = tls_of(h->given, TLS_CLIENT);
    address_of(h, h->given->number, h->address);
    struct raft_link_options options = {.loop = h->control,
                                        .server_tls = h->server_tls,
                                        .client_tls = h->client_tls,
                                        .cluster_id = CLUSTER_ID,
                                        .listen = h->address,
                                        .self = raft_id(h->given->number),
                                        .address = h->address,
                                        .receive = link_receive,
                                        .disconnected = link_disconnected,
                                        .arg = h};
    h->net.ops = &net_ops;
    must(raft_links_new(&options, &h->links, &err), h->address);
}

/* Numbers that are left out are the shipped settings. */
static void open_consensus(struct host *h)
{
    struct err err = {0};
    (void)snprintf(h->dir, sizeof h->dir, "%s/host%" PRIu64 "/raft", h->given->dir,
                   h->given->number);
    must(consensus_prepare(fs_real(), h->dir), h->dir);
    if (h->given->number == 1) {
        must(consensus_bootstrap(fs_real(), h->dir, raft_id(1), h->address), h->dir);
    }
    struct consensus_options options = {.loop = h->control,
                                        .log_pool = h->log_pool,
                                        .apply_pool = h->apply_pool,
                                        .disk_pool = h->disk_pool,
                                        .fs = fs_real(),
                                        .dir = h->dir,
                                        .fsm = meta_fsm(h->meta),
                                        .net = &h->net,
                                        .events = {.on_fatal = on_fatal},
                                        .arg = h,
                                        .self = raft_id(h->given->number),
                                        .address = h->address};
    must(consensus_open(&options, &h->consensus, &err), err.msg);
    meta_attach(h->meta, h->consensus, h->control);
}

static void start_task(struct task *task)
{
    struct host *h = container_of(task, struct host, task);
    timer_init(&h->again, h->control, form_again);
    must(consensus_start(h->consensus), "consensus");
    if (h->given->number == 1) {
        h->joining = 2;
        timer_start(&h->again, AGAIN_MS);
    }
}

/* --- closing ---------------------------------------------------------------------------------- */

static void links_closed(void *arg)
{
    struct host *h = arg;
    tell(h, &h->closed);
}

static void consensus_closed(void *arg)
{
    struct host *h = arg;
    h->consensus = NULL;
    raft_links_close(h->links, links_closed, h);
}

static void stop_task(struct task *task)
{
    struct host *h = container_of(task, struct host, task);
    timer_stop(&h->again);
    meta_detach(h->meta);
    consensus_close(h->consensus, consensus_closed, h);
}

static void say_point(struct host *h, int out_fd)
{
    struct fsm_point at;
    char line[160];
    char hex[2 * FSM_DIGEST_SIZE + 1];
    must(meta_point(h->meta, &at), "the store's position");
    hex_encode(at.digest, FSM_DIGEST_SIZE, hex);
    int size = snprintf(line, sizeof line, "{\"index\": %" PRIu64 ", \"digest\": \"%s\"}\n",
                        at.index, hex);
    if (write(out_fd, line, (size_t)size) != size) {
        commit_die("last words", TSR_EIO);
    }
}

/* --- running ---------------------------------------------------------------------------------- */

/* Each line "FLYING SECONDS BYTES SEED" is answered by a line of JSON. */
static void obey(struct host *h)
{
    char line[256];
    await(h, &h->formed);
    (void)puts("{\"formed\": true}");
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned flying = 0, size = 0;
        long seconds = 0;
        uint64_t seed = 0;
        if (sscanf(line, "%u %ld %u %" SCNu64, &flying, &seconds, &size, &seed) != 4 ||
            flying < 1 || flying > COMMIT_FLYING_MAX || seconds < 1 || size < 1 || size > 65536) {
            commit_die("a line was not FLYING SECONDS BYTES SEED", TSR_EINVAL);
        }
        json_t *out = commit_load(h->meta, h->worker, flying, seconds, size, seed);
        (void)json_dumpf(out, stdout, JSON_REAL_PRECISION(6));
        (void)putchar('\n');
        (void)fflush(stdout);
        json_decref(out);
    }
}

void commit_host_run(const struct commit_host *given, int stop_fd, int out_fd)
{
    struct host h = {.given = given};
    pthread_mutex_init(&h.lock, NULL);
    pthread_cond_init(&h.changed, NULL);
    open_threads(&h);
    open_meta(&h);
    open_links(&h);
    open_consensus(&h);
    must(uv_loop_start_thread(h.control), "control thread");
    must(uv_loop_start_thread(h.worker), "worker thread");
    h.task.run = start_task;
    loop_post(h.control, &h.task);
    if (given->number == 1) {
        obey(&h);
    } else {
        char end;
        while (read(stop_fd, &end, 1) > 0) {
        }
    }
    h.task.run = stop_task;
    loop_post(h.control, &h.task);
    await(&h, &h.closed);
    say_point(&h, out_fd);
    meta_close(h.meta);
    _exit(0);
}
