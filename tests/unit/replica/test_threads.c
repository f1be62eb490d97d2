/* The whole path on real threads, files and LMDB: uploads to one host, downloads, collection, all
 * at once. With BENCH_MIB set it tells what one writer and one reader cost. */
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sim_peer.h"
#include "test.h"
#include "tessera/base/str.h"
#include "tessera/replica.h"

enum { CHUNK = 64 * 1024, UPLOADS = 6 };

struct host {
    struct loop *loop;
    struct pool *disk, *index, *cpu;
    struct chunks *chunks;
    struct sim_peers *peers;
    struct replica_ctx ctx;
};

static struct host h;
static uint32_t chunk_bytes = CHUNK;

static struct bufpool *pool_of(size_t count)
{
    struct bufpool *pool;
    struct bufpool_options o = {
        .buffer_bytes = chunk_bytes, .count_max = count, .cached_max = count};
    check_ok(bufpool_new(&o, &pool));
    return pool;
}

static void host_open(void)
{
    const char *dir = test_dir();
    struct kv *kv;
    struct chunk_store *store;
    struct err err;
    static const uint8_t uuid[16] = {1};
    memset(&h, 0, sizeof h);
    check_ok(uv_loop_create("test", &h.loop));
    check_ok(thread_pool_new("disk", 4, &h.disk));
    check_ok(thread_pool_new("index", 1, &h.index));
    check_ok(thread_pool_new("cpu", 2, &h.cpu));
    check_ok(kv_lmdb_open(test_path(dir, "index"), 256 << 20, chunk_index_databases,
                          chunk_index_database_count, KV_SYNC_EACH, &kv));
    check_ok(file_store_open(fs_real(), test_path(dir, "images"), "c", 1, uuid, &store, &err));
    struct chunks_options o = {
        .store = store,
        .index = kv,
        .disk_pool = h.disk,
        .index_pool = h.index,
        .cpu_pool = h.cpu,
        .loop = h.loop,
        .chunk_bytes = chunk_bytes,
        .reservation_ms = 1000 * 1000,
    };
    check_ok(chunks_open(&o, &h.chunks, &err));
    h.peers = sim_peers_new();
    h.ctx = (struct replica_ctx){
        .loop = h.loop,
        .chunks = h.chunks,
        .peers = sim_peers_add(h.peers, 1, h.loop, NULL),
        .cpu_pool = h.cpu,
        .self = 1,
        .upload_buffers = pool_of(64),
        .relay_buffers = pool_of(64),
        .repair_buffers = pool_of(8),
        .chunk_bytes = chunk_bytes,
    };
}

static void host_close(void)
{
    chunks_close(h.chunks);
    thread_pool_free(h.disk);
    thread_pool_free(h.index);
    thread_pool_free(h.cpu);
    bufpool_free(h.ctx.upload_buffers);
    bufpool_free(h.ctx.relay_buffers);
    bufpool_free(h.ctx.repair_buffers);
    uv_loop_free(h.loop);
    sim_peers_free(h.peers);
}

/* --- a transfer: write an image, read it back twice ------------------------------------------ */

struct transfer {
    unsigned n;      /* which content */
    uint8_t session; /* each transfer its own, as each upload has */
    uint64_t size, at;
    struct replica_writer *w;
    struct replica_reader *r;
    struct replica_result result;
    uint8_t piece[65536];
    bool files, written, done;
    struct task task;
    uint8_t *check;
};

static unsigned running;

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15ULL;
    return x ^ x >> 29;
}

/* Eight bytes at @at (a multiple of 8) of image @n. */
static uint64_t word(unsigned n, uint64_t at)
{
    return mix(at + ((uint64_t)n << 48) + 1);
}

static void feed(struct transfer *t);

static void drain_cb(void *arg)
{
    feed(arg);
}

static void read_next(struct transfer *t);

static void piece_cb(void *arg, int status, const struct replica_piece *piece)
{
    struct transfer *t = arg;
    check_ok(status);
    if (piece->size == 0) {
        check_int(t->at, t->size);
        replica_reader_close(t->r);
        t->done = true;
        running--;
        return;
    }
    const uint8_t *data = piece->data;
    if (piece->file) {
        check_int(pread(piece->fd, t->check, piece->size, piece->offset), piece->size);
        data = t->check;
    }
    for (size_t i = 0; i + 8 <= piece->size && t->check != NULL; i += 8) {
        uint64_t is, want = word(t->n, t->at + i);
        memcpy(&is, data + i, 8);
        if (is != want) {
            fail_msg("image %u differs at %llu", t->n, (unsigned long long)(t->at + i));
        }
    }
    t->at += piece->size;
    read_next(t);
}

static void read_next(struct transfer *t)
{
    replica_reader_next(t->r, piece_cb, t);
}

static void open_cb(void *arg, int status, uint64_t size)
{
    struct transfer *t = arg;
    check_ok(status);
    check_int(size, t->size);
    t->at = 0;
    read_next(t);
}

static void start_reading(struct transfer *t)
{
    check_ok(replica_reader_open(&h.ctx, &t->result.manifest, 0, UINT64_MAX, NULL, 0, t->files,
                                 open_cb, t, &t->r));
}

static void sealed_cb(void *arg, int status, const struct replica_result *result,
                      const struct err *err)
{
    struct transfer *t = arg;
    static const uint64_t self[1] = {1};
    uint8_t session[SESSION_ID_SIZE];
    if (status != 0) {
        fail_msg("upload: %s %s", err_name(status), err->msg);
    }
    t->result = *result;
    memset(session, t->session, sizeof session);
    replica_session_end(&h.ctx, session, self, 1);
    t->written = true;
    if (t->check != NULL) {
        start_reading(t);
    } else {
        running--;
        t->done = true;
    }
}

static void feed(struct transfer *t)
{
    bool more = true;
    while (more && t->at < t->size) {
        size_t n = t->size - t->at < sizeof t->piece ? (size_t)(t->size - t->at) : sizeof t->piece;
        for (size_t i = 0; i < sizeof t->piece; i += 8) {
            uint64_t v = word(t->n, t->at + i);
            memcpy(t->piece + i, &v, 8);
        }
        t->at += n;
        more = replica_writer_write(t->w, t->piece, n);
    }
    if (t->at == t->size && more) {
        replica_writer_finish(t->w, sealed_cb, t);
    }
}

static void start_task(struct task *task)
{
    struct transfer *t = container_of(task, struct transfer, task);
    static const uint64_t self[1] = {1};
    struct replica_writer_options o = {
        .hosts = self, .host_count = 1, .seals_min = 1, .on_drain = drain_cb, .arg = t};
    memset(o.session, t->session, SESSION_ID_SIZE);
    check_ok(replica_writer_open(&h.ctx, &o, &t->w));
    feed(t);
}

static struct transfer *transfer_new(unsigned n, uint64_t size, bool checked)
{
    static uint8_t sessions;
    struct transfer *t = calloc(1, sizeof *t);
    t->n = n;
    t->session = ++sessions;
    t->size = size;
    t->files = n % 2 == 0;
    t->check = checked ? malloc(chunk_bytes) : NULL;
    t->task.run = start_task;
    running++;
    loop_post(h.loop, &t->task);
    return t;
}

static bool busy(void *arg)
{
    (void)arg;
    return running > 0;
}

static void collected_cb(struct chunk_req *req, int status)
{
    check_ok(status);
    running--;
    (void)req;
}

static void uploads_downloads_and_collections_run_side_by_side(void **state)
{
    (void)state;
    struct transfer *t[UPLOADS];
    struct chunk_req collect[5];
    host_open();
    for (unsigned i = 0; i < UPLOADS; i++) {
        t[i] = transfer_new(i / 2, 40 * CHUNK + i / 2 * 1000 * 8, true); /* each content twice */
    }
    memset(collect, 0, sizeof collect);
    for (unsigned i = 0; i < 5; i++) {
        collect[i].loop = h.loop;
        collect[i].cb = collected_cb;
        running++;
        chunk_collect(h.chunks, &collect[i]);
    }
    test_run_while(h.loop, busy, NULL, 60000);
    for (unsigned i = 0; i < UPLOADS; i++) {
        check(t[i]->done);
        free(t[i]->check);
        free(t[i]);
    }
    struct chunks_stats stats;
    chunks_stats(h.chunks, &stats);
    check_int(stats.manifest_count, UPLOADS / 2);
    check_int(stats.bad_count, 0);
    host_close();
}

/* --- what it costs --------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void one_writer_at_full_speed(void **state)
{
    (void)state;
    const char *mib = getenv("BENCH_MIB");
    int64_t size;
    if (mib == NULL || str_to_i64(mib, 1, 1 << 20, &size) != 0) {
        return;
    }
    chunk_bytes = CHUNK_BYTES_DEFAULT;
    host_open();
    double cpu = cpu_seconds();
    uint64_t start = loop_now_ns(h.loop);
    struct transfer *t = transfer_new(0, (uint64_t)size << 20, false);
    test_run_while(h.loop, busy, NULL, 600000);
    double seconds = (double)(loop_now_ns(h.loop) - start) / 1e9, used = cpu_seconds() - cpu;
    print_message("write: %.0f MiB/s, %.2f CPU s/GiB\n", (double)size / seconds,
                  used * 1024 / (double)size);
    for (unsigned files = 0; files < 2; files++) {
        cpu = cpu_seconds();
        start = loop_now_ns(h.loop);
        t->files = files == 1;
        t->check = files == 1 ? malloc(chunk_bytes) : NULL;
        running++;
        t->done = false;
        start_reading(t);
        test_run_while(h.loop, busy, NULL, 600000);
        seconds = (double)(loop_now_ns(h.loop) - start) / 1e9;
        used = cpu_seconds() - cpu;
        print_message("read %s: %.0f MiB/s, %.2f CPU s/GiB\n",
                      files ? "as files, compared" : "to memory", (double)size / seconds,
                      used * 1024 / (double)size);
    }
    free(t->check);
    free(t);
    host_close();
}

TEST_MAIN(cmocka_unit_test(uploads_downloads_and_collections_run_side_by_side),
          cmocka_unit_test(one_writer_at_full_speed))
