/* Vote, snapshot marker, staged and finished installs, from damaged files. Input: mode, a choice of
 * whether checksums are made right (no mutation would find them), then the file's content behind
 * its checksum. What loads is stored and loaded again as the same; what does not is a code with a
 * sentence, and no file stays open. */
#include "consensus/conf.h"
#include "consensus/marker.h"
#include "consensus/segment.h"
#include "consensus/vote.h"
#include "fuzz.h"
#include "sim_fs.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"

enum { PAGE = 4096, AT_CRC = 4, AT_REST = 8 };
static const char dir[] = "/raft";

static void drop_line(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

static bool is_refused(int rc)
{
    return rc == TSR_ECORRUPT || rc == TSR_ENOTSUP;
}

static void put_file(struct fs *fs, const char *path, const char *magic, bool right,
                     struct fuzz_in in, size_t size)
{
    size_t all = size != 0 ? size : in.size + AT_REST;
    uint8_t *data = calloc(1, all > AT_REST ? all : AT_REST);
    fuzz_check(data != NULL);
    if (right) {
        memcpy(data, magic, 4);
        size_t n = in.size < all - AT_REST ? in.size : all - AT_REST;
        if (n > 0) {
            memcpy(data + AT_REST, in.data, n);
        }
        le_put32(data + AT_CRC, crc32c(0, data + AT_REST, all - AT_REST));
    } else {
        all = in.size < all ? in.size : all;
        if (all > 0) {
            memcpy(data, in.data, all);
        }
    }
    fuzz_check(fs_write_file(fs, path, data, all) == 0);
    free(data);
}

static void run_vote(struct fs *fs, bool right, struct fuzz_in in)
{
    struct fuzz_in one = fuzz_take(&in, fuzz_u8(&in));
    struct vote v = {9, 9, 9}, again;
    struct err err = {0};
    put_file(fs, "/raft/vote1", "TVOT", right, one, PAGE);
    if (in.size > 0) {
        put_file(fs, "/raft/vote2", "TVOT", right, in, PAGE);
    }
    int rc = vote_load(fs, dir, &v, &err);
    fuzz_check(rc == 0 || (is_refused(rc) && err.msg[0] != 0 && v.term == 9));
    if (rc == 0) {
        fuzz_check(vote_load(fs, dir, &again, &err) == 0);
        fuzz_check(again.generation == v.generation && again.term == v.term);
        if (v.generation < UINT64_MAX) {
            v.term++;
            fuzz_check(vote_store(fs, dir, &v) == 0 && vote_load(fs, dir, &again, &err) == 0);
            fuzz_check(again.generation == v.generation && again.term == v.term);
        }
    }
}

static void run_marker(struct fs *fs, bool right, struct fuzz_in in)
{
    struct marker m = {0}, again = {0};
    struct err err = {0};
    struct conf conf;
    put_file(fs, "/raft/marker", "TMAR", right, in, 0);
    int rc = marker_load(fs, dir, &m, &err);
    fuzz_check(rc == 0 || (is_refused(rc) && err.msg[0] != 0));
    if (rc == 0) {
        (void)conf_decode(m.conf, m.conf_size, &conf);
        fuzz_check(marker_store(fs, dir, &m) == 0 && marker_load(fs, dir, &again, &err) == 0);
        fuzz_check(again.index == m.index && again.term == m.term);
        fuzz_check(again.conf_size == m.conf_size && memcmp(again.conf, m.conf, m.conf_size) == 0);
        marker_free(&again);
    }
    marker_free(&m);
}

/* Head from the input, then a stream, whose digest is made right by a whole pass of a stage. */
static void run_install(struct fs *fs, bool right, struct fuzz_in in)
{
    struct fuzz_in head = fuzz_take(&in, fuzz_uint(&in, 2) % 2048);
    struct stage_head h = {0};
    struct err err = {0};
    char path[256];
    fuzz_check(fs_mkdir(fs, "/raft/install") == 0);
    put_file(fs, "/raft/install/head", "TSTG", right, head, 0);
    fuzz_check(fs_write_file(fs, "/raft/install/stream", in.data, in.size) == 0);
    int rc = install_load(fs, dir, &h, path, sizeof path, &err);
    fuzz_check(rc == 0 || rc == TSR_ENOENT || (is_refused(rc) && err.msg[0] != 0));
    if (rc == 0) {
        fuzz_check(h.stream_bytes == in.size);
        marker_free(&h.marker);
    }
    fuzz_check(install_remove(fs, dir) == 0);
    fuzz_check(install_load(fs, dir, &h, path, sizeof path, &err) == TSR_ENOENT);
}

/* What is left of an earlier try, then pieces as they come from another host. */
static void run_stage(struct fs *fs, bool right, struct fuzz_in in)
{
    static uint8_t conf[16];
    struct stage_head h = {.marker = {.index = 5, .term = 2, .conf_index = 1}};
    struct stage *s;
    uint64_t have = 0;
    h.stream_bytes = fuzz_u8(&in);
    h.marker.conf = conf;
    h.marker.conf_size = sizeof conf;
    struct fuzz_in old = fuzz_take(&in, fuzz_u8(&in));
    fuzz_check(fs_mkdir(fs, "/raft/stage") == 0);
    put_file(fs, "/raft/stage/head", "TSTG", right, old, 0);
    fuzz_check(fs_write_file(fs, "/raft/stage/stream", old.data, old.size) == 0);
    digest_of(DIGEST_SHA256, in.data, in.size < h.stream_bytes ? in.size : h.stream_bytes,
              h.stream_sha256);
    fuzz_check(stage_open(fs, dir, &h, &s, &have) == 0);
    fuzz_check(have <= h.stream_bytes);
    while (in.size > 0) {
        size_t want = 1 + in.data[0] % 16;
        struct fuzz_in piece = fuzz_take(&in, want);
        int rc = stage_write(s, have, piece.data, piece.size);
        fuzz_check((rc == 0) == (piece.size <= h.stream_bytes - have));
        fuzz_check(rc == 0 || rc == TSR_EINVAL);
        have += rc == 0 ? piece.size : 0;
        fuzz_check(stage_write(s, have + 1, piece.data, piece.size) == TSR_EINVAL);
    }
    int rc = stage_finish(s);
    fuzz_check(rc == 0 || rc == (have < h.stream_bytes ? TSR_EINVAL : TSR_ECORRUPT));
    stage_close(s);
    if (rc == 0) {
        char path[256];
        struct err err = {0};
        struct stage_head loaded = {0};
        fuzz_check(install_load(fs, dir, &loaded, path, sizeof path, &err) == 0);
        fuzz_check(loaded.stream_bytes == h.stream_bytes && loaded.marker.index == 5);
        marker_free(&loaded.marker);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct fs *fs = sim_fs_new(1);
    uint8_t mode = fuzz_u8(&in);
    bool right = fuzz_u8(&in) % 2 != 0;
    log_set_sink(drop_line, NULL);
    fuzz_check(fs_mkdir(fs, dir) == 0);
    switch (mode % 4) {
    case 0:
        run_vote(fs, right, in);
        break;
    case 1:
        run_marker(fs, right, in);
        break;
    case 2:
        run_install(fs, right, in);
        break;
    default:
        run_stage(fs, right, in);
        break;
    }
    fuzz_check(sim_fs_open_files(fs) == 0);
    sim_fs_free(fs);
    return 0;
}
