/* The durable log on a damaged disk. Input: mode, then
 *   edits: a log of some entries in small segments is written, then edits (file, offset, byte, or a
 *     cut, removal or copy of a file) are made, then it is opened;
 *   raw: the bytes of the first segment and mark as they are, behind a right header or not.
 * Opening ends with a log or with a code and a sentence; entries come in order without a gap, from
 * where they must; no file stays open. A log that opens takes an entry, and opens again with what
 * it reported before and that entry. */
#include "consensus/disklog.h"
#include "consensus/segment.h"
#include "fuzz.h"
#include "sim_fs.h"
#include "tessera/base/err.h"
#include "tessera/base/log.h"

enum { SEGMENT = 8192, FILES_MAX = 16, ENTRIES = 24 };
static const char dir[] = "/log";

struct seen {
    uint64_t first, last, term, hash;
};

static void drop_line(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

static int see(void *arg, const struct disklog_entry *e)
{
    struct seen *s = arg;
    fuzz_check(s->first == 0 || e->index == s->last + 1);
    fuzz_check(e->term >= s->term && e->type >= 1 && e->type <= 3);
    s->first = s->first == 0 ? e->index : s->first;
    s->last = e->index;
    s->term = e->term;
    for (size_t i = 0; i < e->size; i++) { /* all of it can be read */
        s->hash = s->hash * 31 + ((const uint8_t *)e->data)[i];
    }
    return 0;
}

static struct disklog *open_log(struct fs *fs, uint64_t start, uint64_t start_term, struct seen *s)
{
    struct disklog *log = NULL;
    struct err err = {0};
    unsigned open_files = sim_fs_open_files(fs);
    *s = (struct seen){0};
    int rc = disklog_open(fs, dir, SEGMENT, start, start_term, see, s, &log, &err);
    fuzz_check((rc == 0) == (log != NULL));
    fuzz_check(rc == 0 || rc == TSR_ECORRUPT || rc == TSR_EIO);
    if (rc != 0) {
        fuzz_check(err.msg[0] != 0 && sim_fs_open_files(fs) == open_files);
        return NULL;
    }
    fuzz_check(s->first == 0 || s->last == disklog_last_index(log));
    fuzz_check(s->first == 0 || s->first <= start + 1);
    fuzz_check(disklog_last_index(log) >= start);
    return log;
}

static int append(struct disklog *log, uint64_t term, size_t size)
{
    static const uint8_t data[4096] = {1, 2, 3};
    struct disklog_entry e = {disklog_last_index(log) + 1, term, 1, data, size};
    return disklog_append(log, &e, 1);
}

static void write_log(struct fs *fs)
{
    struct seen s;
    struct disklog *log = open_log(fs, 0, 0, &s);
    fuzz_check(log != NULL);
    for (unsigned i = 0; i < ENTRIES; i++) {
        fuzz_check(append(log, 1 + i / 8, (i * 136) % 1024) == 0);
    }
    disklog_close(log);
}

struct names {
    char text[FILES_MAX][64];
    unsigned count;
};

static int add_name(void *arg, const char *name, bool is_dir)
{
    struct names *n = arg;
    if (!is_dir && n->count < FILES_MAX) {
        (void)snprintf(n->text[n->count++], sizeof n->text[0], "%s/%s", dir, name);
    }
    return 0;
}

static void change_bytes(struct fs *fs, const char *path, int64_t offset, struct fuzz_in bytes)
{
    struct fs_file *f;
    fuzz_check(fs_open(fs, path, FS_WRITE, &f) == 0);
    fuzz_check(fs_pwrite(fs, f, bytes.data, bytes.size, offset) == 0 && fs_sync(fs, f) == 0);
    fs_close(fs, f);
}

static void copy_file(struct fs *fs, const char *from, const char *to)
{
    char *data;
    size_t size;
    if (fs_read_file(fs, from, 1 << 20, &data, &size) == 0) {
        fuzz_check(fs_write_file(fs, to, data, size) == 0);
        free(data);
    }
}

/* Edits of 5 bytes and more: what, which file, where, how much. */
static void edit(struct fs *fs, struct fuzz_in *in)
{
    struct names n = {.count = 0};
    fuzz_check(fs_list(fs, dir, add_name, &n) == 0);
    uint8_t what = fuzz_u8(in);
    unsigned which = fuzz_u8(in);
    int64_t where = (int64_t)(fuzz_uint(in, 2) % (2 * SEGMENT));
    if (n.count == 0) {
        return;
    }
    const char *path = n.text[which % n.count];
    struct fs_file *f;
    switch (what % 5) {
    case 0:
    case 1:
        change_bytes(fs, path, where, fuzz_take(in, 1 + fuzz_u8(in) % 32));
        break;
    case 2:
        fuzz_check(fs_open(fs, path, FS_WRITE, &f) == 0);
        fuzz_check(fs_truncate(fs, f, where) == 0 && fs_sync(fs, f) == 0);
        fs_close(fs, f);
        break;
    case 3:
        fuzz_check(fs_unlink(fs, path) == 0);
        break;
    default:
        copy_file(fs, path, n.text[(unsigned)where % n.count]);
        break;
    }
}

static void make_raw(struct fs *fs, struct fuzz_in in)
{
    struct segment_header h = {.log_id = 7, .bytes = SEGMENT, .first = 1};
    uint8_t *data = calloc(1, SEGMENT);
    char path[64], name[SEGMENT_NAME_SIZE];
    fuzz_check(data != NULL);
    bool right = fuzz_u8(&in) % 2 == 0;
    h.prev_chain = segment_chain_seed(h.log_id, 0, 0);
    segment_header_encode(&h, data);
    struct fuzz_in part = fuzz_take(&in, SEGMENT - (right ? SEGMENT_HEADER_SIZE : 0));
    if (part.size > 0) {
        memcpy(data + (right ? SEGMENT_HEADER_SIZE : 0), part.data, part.size);
    }
    segment_name(1, name);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    fuzz_check(fs_mkdir(fs, dir) == 0 && fs_write_file(fs, path, data, SEGMENT) == 0);
    struct segment_header again;
    if (segment_header_decode(data, SEGMENT, &again)) {
        struct segment_at at = {.index = again.first - 1,
                                .term = again.prev_term,
                                .chain = again.prev_chain,
                                .offset = SEGMENT_HEADER_SIZE};
        int rc = 0;
        (void)segment_walk(data, SEGMENT, UINT64_MAX, &at, NULL, NULL, &rc);
        fuzz_check(at.offset <= SEGMENT);
        (void)segment_proves(data, SEGMENT, &at);
    }
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct fs *fs = sim_fs_new(1);
    struct seen first, second;
    log_set_sink(drop_line, NULL);
    uint8_t mode = fuzz_u8(&in);
    uint64_t start = mode & 4 ? fuzz_u8(&in) : 0, term = start != 0 ? 1 + (start - 1) / 8 : 0;
    if (mode % 2 == 0) {
        write_log(fs);
        while (in.size > 0) {
            edit(fs, &in);
        }
    } else {
        make_raw(fs, in);
    }
    if (mode & 2) {
        sim_fs_crash(fs, size, SIM_FS_DROP);
    }
    struct disklog *log = open_log(fs, start, term, &first);
    if (log != NULL) {
        uint64_t last = disklog_last_index(log), now = disklog_last_term(log) + 1;
        bool appended = last < UINT64_MAX / 2 && now != 0 && append(log, now, 40) == 0;
        disklog_close(log);
        log = open_log(fs, start, term, &second);
        fuzz_check(!appended || log != NULL);
        fuzz_check(!appended || (second.last == last + 1 && second.term == now));
        fuzz_check(!appended || first.first == 0 || second.first == first.first);
        if (log != NULL) {
            disklog_close(log);
        }
    }
    fuzz_check(sim_fs_open_files(fs) == 0);
    sim_fs_free(fs);
    return 0;
}
