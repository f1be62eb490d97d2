/* One worker: a loop on a thread of its own, with the API's and the peers' servers (SO_REUSEPORT),
 * its own connections to other hosts, its buffers, and its faces. Built and freed by the main
 * thread while the worker's thread does not run; between the two everything happens on the worker's
 * loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

/* --- where other hosts are
 * ---------------------------------------------------------------------------- */

static bool peer_address(void *arg, uint64_t host_id, char *out, size_t size)
{
    struct daemon *d = arg;
    struct meta_view *view = NULL;
    json_t *host = NULL;
    if (meta_view_open(d->meta, &view) != 0) {
        return false;
    }
    int rv = meta_host_get(view, host_id, &host);
    meta_view_close(view);
    const char *address = rv == 0 ? json_str(host, "peer_address") : NULL;
    if (address != NULL) {
        (void)snprintf(out, size, "%s", address);
    }
    json_decref(host);
    return address != NULL;
}

int worker_peer_client(struct daemon *d, struct loop *loop, struct peer_client **out)
{
    return peer_client_new(loop, d->peer_client_tls, d->files.me.cluster_id, peer_address, d, out);
}

/* --- buffers
 * -------------------------------------------------------------------------------------------- */

static void poll_buffers(struct task *task)
{
    struct worker *w = container_of(task, struct worker, nudge_task);
    atomic_store(&w->nudged, false);
    bufpool_poll(w->upload);
    bufpool_poll(w->relay);
    bufpool_poll(w->repair);
}

/* Another loop gave memory back to a shared budget. Any thread. */
static void nudge(void *arg)
{
    struct worker *w = arg;
    if (!atomic_exchange(&w->nudged, true)) {
        loop_post(w->loop, &w->nudge_task);
    }
}

static int open_pool(struct worker *w, struct buf_budget *budget, int64_t bytes,
                     struct bufpool **out)
{
    uint32_t chunk = w->d->files.me.chunk_bytes;
    size_t count = (size_t)(bytes / chunk);
    struct bufpool_options options = {
        .buffer_bytes = chunk,
        .count_max = count < 4 ? 4 : count,
        .cached_max = 2,
        .budget = budget,
        .nudge = nudge,
        .nudge_arg = w,
    };
    return bufpool_new(&options, out);
}

static int open_pools(struct worker *w)
{
    struct daemon *d = w->d;
    int rv = open_pool(w, &d->upload_budget, d->cfg.buffers_upload_bytes, &w->upload);
    if (rv == 0) {
        rv = open_pool(w, &d->relay_budget, d->cfg.buffers_relay_bytes, &w->relay);
    }
    return rv != 0 ? rv : open_pool(w, &d->repair_budget, d->cfg.buffers_repair_bytes, &w->repair);
}

/* --- faces
 * ------------------------------------------------------------------------------------------------
 */

struct admit {
    struct cluster_call call;
    void (*cb)(void *cb_arg, int status, json_t *result, const struct err *err);
    void *cb_arg;
};

static void admit_done(struct cluster_call *call, int status, json_t *result, const struct err *err)
{
    struct admit *a = call->arg;
    a->cb(a->cb_arg, status, result, err);
    free(a);
}

/* A joining host asks this one (POST /v1/join): any host admits, the log decides. */
static void admit(void *arg, const json_t *args, struct loop *loop,
                  void (*cb)(void *cb_arg, int status, json_t *result, const struct err *err),
                  void *cb_arg)
{
    struct daemon *d = arg;
    struct admit *a = calloc(1, sizeof(*a));
    tsr_assert(a != NULL);
    a->cb = cb;
    a->cb_arg = cb_arg;
    a->call = (struct cluster_call){.loop = loop,
                                    .method = "host.admit",
                                    .args = json_deep_copy(args),
                                    .cb = admit_done,
                                    .arg = a};
    cluster_call(d->cluster, &a->call);
}

static int open_api(struct worker *w)
{
    struct daemon *d = w->d;
    const struct config *cfg = &d->cfg;
    struct api_options options = {
        .loop = w->loop,
        .meta = d->meta,
        .identity = d->identity,
        .keystone = d->keystone,
        .keystone_uri =
            cfg->keystone_public_url[0] != '\0' ? cfg->keystone_public_url : cfg->keystone_url,
        .cluster = d->cluster,
        .image = &w->image,
        .store_id = cfg->store_id,
        .host_name = d->files.me.name,
        .self = d->files.me.host_id,
        .admit = admit,
        .arg = d,
        .draining = &d->draining,
    };
    settings_api(cfg, &options);
    options.rules = d->rules.policy;
    options.properties = d->rules.properties;
    return api_new(&options, &w->api);
}

static int listen_all(struct worker *w, struct err *err)
{
    struct daemon *d = w->d;
    const struct config *cfg = &d->cfg;
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < cfg->api_listen.count; i++) {
        rv = http_server_listen(w->http, cfg->api_listen.items[i], d->api_tls, NULL, err);
    }
    for (size_t i = 0; rv == 0 && i < cfg->api_listen_plain.count; i++) {
        rv = http_server_listen(w->http, cfg->api_listen_plain.items[i], NULL, NULL, err);
    }
    if (rv == 0 && w->number == 0) {
        char path[PATH_BYTES + 16];
        (void)snprintf(path, sizeof(path), "unix:%s", cfg->admin_socket);
        rv = http_server_listen(w->http, path, NULL, NULL, err);
        admin_socket_group(cfg);
    }
    return rv;
}

int worker_open(struct daemon *d, unsigned number, struct worker *w, struct err *err)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "worker-%u", number);
    w->d = d;
    w->number = number;
    w->nudge_task.run = poll_buffers;
    int rv = uv_loop_create(name, &w->loop);
    if (rv != 0 || (rv = open_pools(w)) != 0 ||
        (rv = worker_peer_client(d, w->loop, &w->peers)) != 0) {
        return err_set(err, rv, "worker %u can not be made", number);
    }
    w->replica = (struct replica_ctx){
        .loop = w->loop,
        .chunks = d->chunks,
        .peers = peer_client_net(w->peers),
        .cpu_pool = d->cpu_pool,
        .self = d->files.me.host_id,
        .upload_buffers = w->upload,
        .relay_buffers = w->relay,
        .repair_buffers = w->repair,
        .chunk_bytes = d->files.me.chunk_bytes,
    };
    settings_pins(&d->cfg, &w->replica.pin_limits);
    w->image = (struct image_ctx){
        .loop = w->loop,
        .meta = d->meta,
        .replica = &w->replica,
        .load = d->load,
        .limits = &d->limits,
        .self = d->files.me.host_id,
        .zone = d->cfg.zone,
        .import = &d->import,
        .fetch_pool = d->fetch_pool,
        .resolve_pool = d->resolve_pool,
        .convert_pool = d->convert_pool,
        .spool_pool = d->spool_pool,
        .convert_dir = d->convert_dir,
    };
    memcpy(w->image.boot, d->boot, sizeof(w->image.boot));
    memcpy(w->replica.boot, d->boot, sizeof(w->replica.boot));
    struct http_options http = {
        .head_timeout_ms = (uint64_t)d->cfg.head_timeout_ms,
        .idle_timeout_ms = (uint64_t)d->cfg.keep_alive_ms,
        .body_timeout_ms = (uint64_t)d->cfg.upload_idle_ms,
        .connections_max = (size_t)(d->connections_max / d->worker_count + 1),
    };
    if ((rv = image_importer_new(&w->image, &w->importer)) != 0 || (rv = open_api(w)) != 0 ||
        (rv = http_server_new(w->loop, &http, api_handle, w->api, &w->http)) != 0) {
        return err_set(err, rv, "worker %u can not be made", number);
    }
    if ((rv = listen_all(w, err)) != 0) {
        return rv;
    }
    rv = peer_server_new(w->loop, d->peer_server_tls, d->files.me.cluster_id, d->cfg.peer_listen,
                         &d->service, (size_t)d->cfg.buffers_peer_bytes / d->worker_count,
                         &w->peer_server, err);
    return rv;
}

/* --- closing: HTTP first (requests finish), then what they used
 * ------------------------------------------- */

static void part_closed(void *arg)
{
    struct worker *w = arg;
    if (--w->closing == 0) {
        daemon_worker_closed(w->d);
    }
}

static void importer_closed(void *arg)
{
    struct worker *w = arg;
    w->closing = 2;
    peer_server_close(w->peer_server, part_closed, w);
    peer_client_close(w->peers, part_closed, w);
}

/* Imports go on elsewhere, or here after the next start. */
static void http_closed(void *arg)
{
    struct worker *w = arg;
    image_importer_close(w->importer, importer_closed, w);
}

static void close_run(struct task *task)
{
    struct worker *w = container_of(task, struct worker, close_task);
    http_server_close(w->http, (uint64_t)w->d->cfg.drain_timeout_ms, http_closed, w);
}

void worker_close(struct worker *w)
{
    w->close_task.run = close_run;
    loop_post(w->loop, &w->close_task);
}

void worker_free(struct worker *w)
{
    uv_loop_stop(w->loop);
    uv_loop_join(w->loop);
    api_free(w->api);
    image_importer_free(w->importer);
    bufpool_free(w->upload);
    bufpool_free(w->relay);
    bufpool_free(w->repair);
    uv_loop_free(w->loop);
}
