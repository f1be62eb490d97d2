/* A chunk service over a simulated disk and an in-memory index, with calls that wait. */
#ifndef TEST_CHUNK_FIXTURE_H
#define TEST_CHUNK_FIXTURE_H

#include "sim_fs.h"
#include "test.h"
#include "tessera/base/digest.h"
#include "tessera/chunk.h"
#include "virtual.h"

enum { TEST_CHUNK = 4096 };

struct host_env {
    struct virtual *v;
    struct fs *fs;
    struct kv *kv;
    struct kv_ops kv_ops; /* as the store's, but closing keeps it: the disk outlives the process */
    const struct kv_ops *kv_real;
    uint64_t id;
    struct chunks *chunks;
    int64_t reserve_bytes;
    uint64_t reservation_ms;
};

static inline void env_keep(struct kv *kv)
{
    (void)kv;
}

static inline void env_init(struct host_env *e, struct virtual *v, uint64_t id)
{
    memset(e, 0, sizeof *e);
    e->v = v;
    e->id = id;
    e->fs = sim_fs_new(id);
    e->reservation_ms = 24ull * 3600 * 1000;
    check_ok(kv_mem_open(chunk_index_database_count, &e->kv));
    e->kv_real = e->kv->ops;
    e->kv_ops = *e->kv->ops;
    e->kv_ops.close = env_keep;
    e->kv->ops = &e->kv_ops;
}

static inline int env_try_open(struct host_env *e, struct err *err)
{
    struct chunk_store *store;
    uint8_t random[16];
    loop_random(&e->v->loop, random, sizeof random);
    int rv = file_store_open(e->fs, "/images", "cluster-1", e->id, random, &store, err);
    if (rv != 0) {
        return rv;
    }
    struct chunks_options o = {
        .store = store,
        .index = e->kv,
        .disk_pool = &e->v->pools[0].base,
        .index_pool = &e->v->pools[1].base,
        .cpu_pool = &e->v->pools[2].base,
        .loop = &e->v->loop,
        .chunk_bytes = TEST_CHUNK,
        .reservation_ms = e->reservation_ms,
        .reserve_bytes = e->reserve_bytes,
    };
    rv = chunks_open(&o, &e->chunks, err);
    if (rv != 0) {
        store->ops->free(store);
    }
    return rv;
}

static inline void env_open(struct host_env *e)
{
    struct err err = {0};
    int rv = env_try_open(e, &err);
    if (rv != 0) {
        print_error("%s\n", err.msg);
    }
    check_ok(rv);
}

static inline void env_close(struct host_env *e)
{
    chunks_close(e->chunks);
    e->chunks = NULL;
    while (virtual_ready_step(e->v)) {
    }
}

static inline void env_end(struct host_env *e)
{
    if (e->chunks != NULL) {
        env_close(e);
    }
    sim_fs_free(e->fs);
    e->kv->ops = e->kv_real;
    kv_close(e->kv);
}

/* --- calls that wait ------------------------------------------------------------------------ */

struct waiting {
    struct chunk_req req;
    bool done;
    int status;
};

static inline void waiting_cb(struct chunk_req *req, int status)
{
    struct waiting *w = req->arg;
    w->done = true;
    w->status = status;
}

static inline void session_id(unsigned session, uint8_t id[SESSION_ID_SIZE])
{
    memset(id, (int)(session & 0xff), SESSION_ID_SIZE);
    id[0] = (uint8_t)(session >> 8);
}

static inline struct waiting waiting_for(struct host_env *e, unsigned session)
{
    struct waiting w = {.req = {.loop = &e->v->loop, .cb = waiting_cb}};
    session_id(session, w.req.session);
    return w;
}

typedef void (*chunk_call)(struct chunks *c, struct chunk_req *req);

static inline int wait_call(struct host_env *e, chunk_call call, struct waiting *w)
{
    w->req.arg = w;
    call(e->chunks, &w->req);
    assert_false(w->done);
    virtual_until(e->v, &w->done);
    return w->status;
}

/* Content number @n: @size bytes and their name. */
static inline void content(unsigned n, uint8_t *data, size_t size, struct chunk_id *id)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(n * 37 + i * (n + 1) + 1 + (i >> 8));
    }
    memcpy(data, &n, sizeof n);
    digest_of(DIGEST_SHA256, data, size, id->bytes);
}

static inline struct chunk_id content_id(unsigned n)
{
    uint8_t data[TEST_CHUNK];
    struct chunk_id id;
    content(n, data, sizeof data, &id);
    return id;
}

static inline int env_put(struct host_env *e, unsigned session, unsigned n)
{
    uint8_t data[TEST_CHUNK];
    struct waiting w = waiting_for(e, session);
    content(n, data, sizeof data, &w.req.id);
    w.req.data = data;
    w.req.size = sizeof data;
    return wait_call(e, chunk_put, &w);
}

static inline int env_get(struct host_env *e, unsigned n)
{
    uint8_t data[TEST_CHUNK], got[TEST_CHUNK];
    struct waiting w = waiting_for(e, 0);
    content(n, data, sizeof data, &w.req.id);
    w.req.buffer = got;
    int rv = wait_call(e, chunk_get, &w);
    if (rv == 0) {
        check_int(w.req.size_out, sizeof data);
        check_mem(data, got, sizeof data);
    }
    return rv;
}

/* A manifest of these contents; freed by the caller. */
static inline void manifest_of(const unsigned *contents, uint32_t count, char **data, size_t *size,
                               struct chunk_id *id)
{
    struct chunk_id ids[64];
    struct manifest m = {.chunk_bytes = TEST_CHUNK,
                         .size = (uint64_t)count * TEST_CHUNK,
                         .count = count,
                         .chunks = ids};
    tsr_assert(count <= 64);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = content_id(contents[i]);
    }
    check_ok(manifest_encode(&m, data, size, id));
}

static inline int env_seal(struct host_env *e, unsigned session, const unsigned *contents,
                           uint32_t count, struct chunk_id *id_out)
{
    char *data;
    size_t size;
    struct waiting w = waiting_for(e, session);
    manifest_of(contents, count, &data, &size, &w.req.id);
    w.req.data = data;
    w.req.size = size;
    int rv = wait_call(e, chunk_seal, &w);
    free(data);
    free(w.req.missing);
    if (id_out != NULL) {
        *id_out = w.req.id;
    }
    return rv;
}

static inline int env_manifest(struct host_env *e, chunk_call call, const struct chunk_id *id)
{
    struct waiting w = waiting_for(e, 0);
    w.req.id = *id;
    return wait_call(e, call, &w);
}

static inline int env_session_end(struct host_env *e, unsigned session)
{
    struct waiting w = waiting_for(e, session);
    return wait_call(e, chunk_session_end, &w);
}

static inline size_t env_collect(struct host_env *e)
{
    struct waiting w = waiting_for(e, 0);
    check_ok(wait_call(e, chunk_collect, &w));
    return w.req.size_out;
}

static inline void chunk_path(unsigned n, char out[128])
{
    char hex[65];
    struct chunk_id id = content_id(n);
    hex_encode(id.bytes, 32, hex);
    snprintf(out, 128, "/images/chunks/%.2s/%s", hex, hex);
}

static inline bool env_has_file(struct host_env *e, unsigned n)
{
    char path[128];
    struct fs_stat st;
    chunk_path(n, path);
    return fs_stat(e->fs, path, &st) == 0;
}

#endif
