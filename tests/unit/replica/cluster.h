/* Some hosts with chunk services, joined by simulated peers, all on one virtual clock. */
#ifndef TEST_REPLICA_CLUSTER_H
#define TEST_REPLICA_CLUSTER_H

#include "../chunk/fixture.h"
#include "sim_peer.h"
#include "tessera/replica.h"

enum { HOSTS = 4, BUFFERS = 16 };

struct cluster {
    struct virtual v;
    struct sim_peers *peers;
    struct host_env envs[HOSTS + 1]; /* by id, from 1 */
    struct peer_service services[HOSTS + 1];
    struct replica_ctx ctx[HOSTS + 1];
    bool up[HOSTS + 1];
};

static inline struct bufpool *cluster_pool(void)
{
    struct bufpool *pool;
    struct bufpool_options o = {.buffer_bytes = TEST_CHUNK, .count_max = BUFFERS};
    check_ok(bufpool_new(&o, &pool));
    return pool;
}

/* The store of a host is closed and opened again; what others send is served by the new one. */
static inline void cluster_store_again(struct cluster *c, unsigned id)
{
    env_close(&c->envs[id]);
    env_open(&c->envs[id]);
    replica_serve_end(&c->services[id]);
    memset(&c->services[id], 0, sizeof c->services[id]);
    replica_serve(&c->services[id], c->envs[id].chunks, &c->v.pools[2].base);
    c->ctx[id].chunks = c->envs[id].chunks;
}

static inline void cluster_host_up(struct cluster *c, unsigned id)
{
    env_open(&c->envs[id]);
    memset(&c->services[id], 0, sizeof c->services[id]);
    replica_serve(&c->services[id], c->envs[id].chunks, &c->v.pools[2].base);
    c->ctx[id].chunks = c->envs[id].chunks;
    c->ctx[id].peers = sim_peers_add(c->peers, id, &c->v.loop, &c->services[id]);
    c->up[id] = true;
}

static inline void cluster_init(struct cluster *c, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    virtual_init(&c->v, seed);
    c->peers = sim_peers_new();
    for (unsigned id = 1; id <= HOSTS; id++) {
        env_init(&c->envs[id], &c->v, id);
        c->ctx[id] = (struct replica_ctx){
            .loop = &c->v.loop,
            .cpu_pool = &c->v.pools[2].base,
            .self = id,
            .upload_buffers = cluster_pool(),
            .relay_buffers = cluster_pool(),
            .repair_buffers = cluster_pool(),
            .chunk_bytes = TEST_CHUNK,
        };
        cluster_host_up(c, id);
    }
}

/* Everything under way has ended. */
static inline void cluster_settle(struct cluster *c)
{
    virtual_sleep(&c->v, 100);
}

static inline void cluster_end(struct cluster *c)
{
    sim_peers_heal(c->peers);
    cluster_settle(c);
    for (unsigned id = 1; id <= HOSTS; id++) {
        check_int(bufpool_in_use(c->ctx[id].upload_buffers), 0);
        check_int(bufpool_in_use(c->ctx[id].relay_buffers), 0);
        check_int(bufpool_in_use(c->ctx[id].repair_buffers), 0);
        bufpool_free(c->ctx[id].upload_buffers);
        bufpool_free(c->ctx[id].relay_buffers);
        bufpool_free(c->ctx[id].repair_buffers);
        env_end(&c->envs[id]);
        replica_serve_end(&c->services[id]);
    }
    sim_peers_free(c->peers);
    timer_heap_free(&c->v.timers);
}

/* --- images --------------------------------------------------------------------------------- */

/* Byte @at of image @n: chunks 3, 7, 11, ... are zero. */
static inline uint8_t image_byte(unsigned n, uint64_t at)
{
    uint64_t chunk = at / TEST_CHUNK;
    if (chunk % 4 == 3) {
        return 0;
    }
    uint64_t x = at * 0x9e3779b97f4a7c15ULL + n * 0xbf58476d1ce4e5b9ULL + chunk;
    return (uint8_t)(x >> 29 | 1);
}

struct upload {
    struct cluster *c;
    struct replica_writer *w;
    unsigned image;
    uint64_t size, at;
    size_t in_use_max;
    bool paused, failed, done;
    int status, fail_status;
    struct replica_result result;
    struct err err;
};

static inline void upload_drain(void *arg)
{
    struct upload *u = arg;
    u->paused = false;
}

static inline void upload_fail(void *arg, int status, const struct err *err)
{
    struct upload *u = arg;
    (void)err;
    u->failed = true;
    u->fail_status = status;
}

static inline void upload_open(struct upload *u, struct cluster *c, unsigned host, unsigned session,
                               unsigned image, uint64_t size, const uint64_t *hosts, size_t count,
                               size_t seals_min)
{
    struct replica_writer_options o = {
        .hosts = hosts,
        .host_count = count,
        .seals_min = seals_min,
        .on_drain = upload_drain,
        .on_fail = upload_fail,
        .arg = u,
    };
    memset(o.session, (int)session, SESSION_ID_SIZE);
    memset(u, 0, sizeof *u);
    u->c = c;
    u->image = image;
    u->size = size;
    check_ok(replica_writer_open(&c->ctx[host], &o, &u->w));
}

/* Give one piece, or let the world go on; false when all is given or it failed. */
static inline bool upload_step(struct upload *u, unsigned host)
{
    if (u->at == u->size || u->failed) {
        return false;
    }
    if (!u->paused) {
        uint8_t piece[3000];
        size_t n = 1 + virtual_random(&u->c->v) % sizeof piece;
        n = n < u->size - u->at ? n : (size_t)(u->size - u->at);
        for (size_t i = 0; i < n; i++) {
            piece[i] = image_byte(u->image, u->at + i);
        }
        u->at += n;
        u->paused = !replica_writer_write(u->w, piece, n);
        if (virtual_random(&u->c->v) % 2 == 0) {
            virtual_ready_step(&u->c->v);
        }
    } else {
        check(virtual_step(&u->c->v, UINT64_MAX));
    }
    size_t in_use = bufpool_in_use(u->c->ctx[host].upload_buffers);
    u->in_use_max = in_use > u->in_use_max ? in_use : u->in_use_max;
    return true;
}

static inline void upload_done(void *arg, int status, const struct replica_result *result,
                               const struct err *err)
{
    struct upload *u = arg;
    u->done = true;
    u->status = status;
    u->err = *err;
    if (result != NULL) {
        u->result = *result;
    }
}

static inline int upload_finish(struct upload *u)
{
    replica_writer_finish(u->w, upload_done, u);
    virtual_until(&u->c->v, &u->done);
    return u->status;
}

static inline void upload_aborted(void *arg)
{
    struct upload *u = arg;
    u->done = true;
}

static inline void upload_abort(struct upload *u)
{
    replica_writer_abort(u->w, upload_aborted, u);
    virtual_until(&u->c->v, &u->done);
}

/* Whole upload by @host, with all of @hosts up. */
static inline struct chunk_id cluster_store(struct cluster *c, unsigned host, unsigned image,
                                            uint64_t size, const uint64_t *hosts, size_t count)
{
    struct upload u;
    upload_open(&u, c, host, 100 + image, image, size, hosts, count, count);
    while (upload_step(&u, host)) {
    }
    check_ok(upload_finish(&u));
    check_int(u.result.sealed_count, count);
    uint8_t session[SESSION_ID_SIZE];
    memset(session, (int)(100 + image), sizeof session);
    replica_session_end(&c->ctx[host], session, hosts, count);
    cluster_settle(c);
    return u.result.manifest;
}

/* --- downloads ------------------------------------------------------------------------------ */

struct download {
    struct cluster *c;
    bool opened, got;
    int status;
    uint64_t size; /* of the image */
    struct replica_piece piece;
};

static inline void download_opened(void *arg, int status, uint64_t size)
{
    struct download *d = arg;
    d->opened = true;
    d->status = status;
    d->size = size;
}

static inline void download_got(void *arg, int status, const struct replica_piece *piece)
{
    struct download *d = arg;
    d->got = true;
    d->status = status;
    if (status == 0) {
        d->piece = *piece;
    }
}

/* Read a range by @host and compare it; the status of the first failure, after @good_out bytes. */
static inline int cluster_read(struct cluster *c, unsigned host, const struct chunk_id *manifest,
                               unsigned image, uint64_t offset, uint64_t length,
                               const uint64_t *hosts, size_t count, bool files, uint64_t *good_out)
{
    struct download d = {.c = c};
    struct replica_reader *r;
    uint64_t at = offset;
    check_ok(replica_reader_open(&c->ctx[host], manifest, offset, length, hosts, count, files,
                                 download_opened, &d, &r));
    virtual_until(&c->v, &d.opened);
    while (d.status == 0) {
        d.got = false;
        replica_reader_next(r, download_got, &d);
        check(!d.got);
        virtual_until(&c->v, &d.got);
        if (d.status != 0 || d.piece.size == 0) {
            break;
        }
        for (size_t i = 0; i < d.piece.size; i++) {
            if (((const uint8_t *)d.piece.data)[i] != image_byte(image, at + i)) {
                print_error("wrong byte at %llu\n", (unsigned long long)(at + i));
                fail();
            }
        }
        at += d.piece.size;
    }
    replica_reader_close(r);
    if (good_out != NULL) {
        *good_out = at - offset;
    }
    return d.status;
}

#endif
