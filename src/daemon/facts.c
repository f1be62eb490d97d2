/* What a host knows: the metadata store, the consensus log, and the links between hosts that it
 * goes over. */
#include <stdlib.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

enum { META_RESERVE = 16 * 1024 * 1024 /* with less, changes wait until there is more */ };

int facts_open_meta(struct daemon *d, struct err *err)
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

int facts_open_links(struct daemon *d, struct err *err)
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

int facts_open_consensus(struct daemon *d, struct err *err)
{
    char path[PATH_BYTES];
    path_join(path, d->cfg.data_dir, "raft");
    damage_set(&d->damage, "LOG_DAMAGED", "");
    int rv = prepare_raft(d, path, err);
    if (rv == 0) {
        rv = consensus_begin(fs_real(), path, &d->life.starts);
        rv = rv == TSR_ECORRUPT || rv == TSR_ENOTSUP ? 0 : rv; /* consensus_open says why */
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

int facts_open(struct daemon *d, struct err *err)
{
    int rv = facts_open_meta(d, err);
    return rv == 0 ? facts_open_consensus(d, err) : rv;
}
