/* Snapshot streams from another host. Input: mode, then the stream as it is; or a list of records
 * from which a stream with right checksums is made, which no mutation would find. An import is all
 * or nothing: what was refused while checked leaves the store; what was accepted can be exported
 * again, and commands can be applied. */
#include "fuzz.h"
#include "meta/internal.h"
#include "sim_fs.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"

static void drop_line(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

static struct meta *store_new(void)
{
    struct kv *kv;
    struct meta *m;
    struct err err = {0};
    fuzz_check(kv_mem_open(meta_database_count, &kv) == 0);
    fuzz_check(meta_open(kv, &m, &err) == 0);
    return m;
}

/* Records: u8 database, u8 key size, key, u16 text size, text; in order as given. */
static void make_stream(struct fuzz_in in, struct buf *out)
{
    uint64_t count = 0;
    uint8_t sum[32];
    buf_append(out, "TSRSNAP1", 8);
    buf_put_u32(out, 1);
    buf_put_u64(out, 7);
    buf_put_u64(out, 2);
    buf_append(out, "0123456789abcdef0123456789abcdef", FSM_DIGEST_SIZE);
    while (in.size > 0) {
        unsigned db = fuzz_u8(&in);
        struct fuzz_in key = fuzz_take(&in, fuzz_u8(&in));
        struct fuzz_in text = fuzz_take(&in, fuzz_uint(&in, 2));
        struct kv_val k = kv_val_of(key.data, key.size);
        buf_put_u8(out, 1);
        buf_put_u8(out, (uint8_t)db);
        buf_put_u32(out, (uint32_t)key.size);
        buf_put_u32(out, (uint32_t)text.size + 4);
        buf_append(out, key.data, key.size);
        buf_put_u32(out, record_crc(k, text.data, text.size));
        buf_append(out, text.data, text.size);
        count++;
    }
    buf_put_u8(out, 2);
    buf_put_u64(out, count);
    digest_of(DIGEST_SHA256, out->data, out->size, sum);
    buf_append(out, sum, sizeof sum);
    fuzz_check(!out->failed);
}

/* Views over whatever was taken in: refusals are fine. */
static void look_around(struct meta *m)
{
    struct meta_view *v;
    if (meta_view_open(m, &v) != 0) {
        return;
    }
    const char *const kinds[] = {"domain", "project", "user", "role", "join_token"};
    struct meta_image_query all = {.admin = true, .visibility = "all", .limit = 100};
    json_t *out = NULL;
    bool more;
    char after[64] = "";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (meta_dir_list(v, kinds[i], "", "", 100, &out) == 0) {
            json_decref(out);
        }
    }
    if (meta_image_list(v, &all, &out, &more) == 0) {
        json_decref(out);
    }
    if (meta_image_walk(v, after, 100, &out) == 0) {
        json_decref(out);
    }
    if (meta_host_list(v, &out) == 0) {
        json_decref(out);
    }
    if (meta_endpoint_get(v, &out) == 0) {
        json_decref(out);
    }
    if (meta_cluster_get(v, &out) == 0) {
        json_decref(out);
    }
    meta_view_close(v);
}

static void export_all(struct fsm *fsm, struct buf *out)
{
    struct fsm_export *e;
    struct fsm_point at;
    char piece[4096];
    long n;
    fuzz_check(fsm->ops->export_open(fsm, &e, &at) == 0);
    while ((n = fsm->ops->export_read(e, piece, sizeof piece)) > 0) {
        buf_append(out, piece, (size_t)n);
    }
    fuzz_check(n == 0 && !out->failed);
    fsm->ops->export_close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct buf stream = {0}, again = {0};
    struct fs *fs = sim_fs_new(1);
    struct meta *m = store_new();
    struct fsm *fsm = meta_fsm(m);
    struct fsm_point before, after, at;
    log_set_sink(drop_line, NULL);
    if (fuzz_u8(&in) % 2 == 0) {
        buf_append(&stream, in.data, in.size);
    } else {
        make_stream(in, &stream);
    }
    fuzz_check(fs_write_file(fs, "/stream", stream.data, stream.size) == 0);
    fuzz_check(meta_point(m, &before) == 0);
    int rc = fsm->ops->import_file(fsm, fs, "/stream", &at);
    if (rc == 0) {
        fuzz_check(meta_point(m, &after) == 0 && after.index == at.index);
        export_all(fsm, &again);
        fuzz_check(again.size == stream.size && memcmp(again.data, stream.data, again.size) == 0);
    } else {
        fuzz_check(rc == TSR_ECORRUPT || rc == TSR_ENOTSUP);
    }
    look_around(m);
    fuzz_check(sim_fs_open_files(fs) == 0);
    buf_free(&stream);
    buf_free(&again);
    meta_close(m);
    sim_fs_free(fs);
    return 0;
}
