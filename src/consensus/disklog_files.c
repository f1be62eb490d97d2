/* The files of the durable log: listing, making, removing and zeroing segments; reset. */
#include "consensus/disklog_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"

enum { ZERO_STEP = 65536, MARK_ROOM = 16384 };
#define SPARE_NAME "log.spare"
#define NEW_NAME "log.new"

static void file_close(struct disklog *log)
{
    fs_close(log->fs, log->file);
    log->file = NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

int dl_make_dir(struct fs *fs, const char *dir)
{
    char parent[DISKLOG_PATH_SIZE];
    const char *slash = strrchr(dir, '/');
    size_t size = slash ? (size_t)(slash - dir) : 0;
    if (size >= DISKLOG_PATH_SIZE)
        return TSR_EINVAL;
    snprintf(parent, sizeof(parent), "%.*s", (int)size, dir);
    int rv = fs_mkdirs(fs, dir);
    if (rv == 0)
        rv = fs_sync_dir(fs, size ? parent : slash ? "/" : ".");
    return rv != 0 ? rv : fs_sync_dir(fs, dir);
}

int dl_new(struct fs *fs, const char *dir, uint64_t segment_bytes, struct disklog **out)
{
    tsr_assert(segment_bytes >= SEGMENT_BYTES_MIN && segment_bytes <= SEGMENT_BYTES_MAX &&
               segment_bytes % 8 == 0);
    struct disklog *log = calloc(1, sizeof(*log));
    if (!log)
        return TSR_ENOMEM;
    log->fs = fs;
    log->segment_bytes = segment_bytes;
    log->dir = strdup(dir);
    if (!log->dir) {
        free(log);
        return TSR_ENOMEM;
    }
    *out = log;
    return 0;
}

void dl_free(struct disklog *log)
{
    file_close(log);
    highmark_close(&log->mark);
    buf_free(&log->batch);
    free(log->segments);
    free(log->dir);
    free(log);
}

int dl_path(const struct disklog *log, const char *name, char out[DISKLOG_PATH_SIZE])
{
    int n = snprintf(out, DISKLOG_PATH_SIZE, "%s/%s", log->dir, name);
    return n < 0 || n >= DISKLOG_PATH_SIZE ? TSR_EINVAL : 0;
}

int dl_segment_path(const struct disklog *log, uint64_t first, char out[DISKLOG_PATH_SIZE])
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(first, name);
    return dl_path(log, name, out);
}

/* --- the list of segments --------------------------------------------------------------------- */

static int segments_push(struct disklog *log, uint64_t first, uint64_t bytes)
{
    if (log->count == log->capacity) {
        size_t capacity = log->capacity ? 2 * log->capacity : 16;
        struct dl_segment *more = realloc(log->segments, capacity * sizeof(*more));
        if (!more)
            return TSR_ENOMEM;
        log->segments = more;
        log->capacity = capacity;
    }
    log->segments[log->count++] = (struct dl_segment){first, bytes};
    return 0;
}

static int scan_cb(void *arg, const char *name, bool is_dir)
{
    uint64_t first;
    return !is_dir && segment_name_parse(name, &first) ? segments_push(arg, first, 0) : 0;
}

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct dl_segment *)a)->first, y = ((const struct dl_segment *)b)->first;
    return (x > y) - (x < y);
}

int dl_scan(struct disklog *log)
{
    log->count = 0;
    int rv = fs_list(log->fs, log->dir, scan_cb, log);
    if (rv == 0 && log->count > 1)
        qsort(log->segments, log->count, sizeof(log->segments[0]), by_first);
    return rv;
}

/* Remove the last segment's file. */
int dl_pop(struct disklog *log)
{
    char path[DISKLOG_PATH_SIZE];
    int rv = dl_segment_path(log, log->segments[log->count - 1].first, path);
    if (rv == 0)
        rv = fs_unlink(log->fs, path);
    if (rv == 0)
        log->count--;
    return rv;
}

struct dl_segment *dl_last(const struct disklog *log)
{
    return &log->segments[log->count - 1];
}

/* --- making segments -------------------------------------------------------------------------- */

static int preallocate(struct disklog *log, const char *name, uint64_t bytes)
{
    char path[DISKLOG_PATH_SIZE];
    struct fs_file *f;
    int rv = dl_path(log, name, path);
    if (rv == 0)
        rv = fs_open(log->fs, path, FS_WRITE | FS_CREATE | FS_TRUNC, &f);
    if (rv != 0)
        return rv;
    rv = fs_allocate(log->fs, f, (int64_t)bytes);
    fs_close(log->fs, f);
    if (rv != 0)
        (void)fs_unlink(log->fs, path);
    return rv;
}

/* A log that was never written to has no mark yet: room for it is held until it is made, so that
 * the first append needs no more than is there. */
void dl_make_spare(struct disklog *log)
{
    if (!log->spare && (log->mark.file || preallocate(log, NEW_NAME, MARK_ROOM) == 0))
        log->spare = preallocate(log, SPARE_NAME, log->segment_bytes) == 0;
}

/* Give the preallocated file @name its header, make it durable and show it as the segment that
 * follows log->at. */
static int show_segment(struct disklog *log, const char *name, uint64_t bytes)
{
    char from[DISKLOG_PATH_SIZE], to[DISKLOG_PATH_SIZE];
    uint8_t head[SEGMENT_HEADER_SIZE];
    segment_header_encode(
        &(struct segment_header){
            .log_id = log->mark.log_id,
            .bytes = bytes,
            .first = log->at.index + 1,
            .prev_term = log->at.term,
            .prev_chain = log->at.chain,
        },
        head);
    int rv = dl_path(log, name, from);
    if (rv == 0)
        rv = dl_segment_path(log, log->at.index + 1, to);
    if (rv == 0)
        rv = fs_open(log->fs, from, FS_WRITE, &log->file);
    if (rv == 0)
        rv = fs_pwrite(log->fs, log->file, head, sizeof(head), 0);
    if (rv == 0)
        rv = fs_sync(log->fs, log->file);
    if (rv == 0)
        rv = fs_rename(log->fs, from, to);
    return rv != 0 ? rv : fs_sync_dir(log->fs, log->dir);
}

int dl_add_segment(struct disklog *log, uint64_t bytes)
{
    int rv = 0;
    file_close(log);
    /* An empty last segment that is too small for the next record is replaced by the rename. */
    if (log->count > 0 && dl_last(log)->first == log->at.index + 1)
        log->count--;
    bool take_spare = log->spare && bytes == log->segment_bytes;
    if (take_spare)
        log->spare = false;
    else
        rv = preallocate(log, NEW_NAME, bytes);
    if (rv == 0)
        rv = show_segment(log, take_spare ? SPARE_NAME : NEW_NAME, bytes);
    if (rv == 0)
        rv = segments_push(log, log->at.index + 1, bytes);
    log->at.offset = SEGMENT_HEADER_SIZE;
    if (rv == 0)
        dl_make_spare(log);
    return rv;
}

void dl_mark_here(struct disklog *log, enum highmark_work work)
{
    log->mark.index = log->at.index;
    log->mark.term = log->at.term;
    log->mark.chain = log->at.chain;
    log->mark.work = work;
}

/* The mark says RESETTING: do it. */
int dl_finish_reset(struct disklog *log)
{
    file_close(log);
    int rv = dl_scan(log);
    while (rv == 0 && log->count > 0)
        rv = dl_pop(log);
    if (rv == 0)
        rv = fs_sync_dir(log->fs, log->dir);
    if (rv != 0)
        return rv;
    log->at = (struct segment_at){.index = log->mark.index,
                                  .term = log->mark.term,
                                  .chain = log->mark.chain,
                                  .salt = (uint32_t)log->mark.log_id};
    rv = dl_add_segment(log, log->segment_bytes);
    dl_mark_here(log, HIGHMARK_IDLE);
    return rv != 0 ? rv : highmark_force(&log->mark);
}

/* An id for a new log that no other log has, of what is at hand without a source of randomness. */
static int draw_log_id(struct disklog *log)
{
    struct fs_stat st;
    int rv = fs_stat(log->fs, log->dir, &st);
    if (rv == 0)
        log->mark.log_id =
            segment_chain_seed(st.inode, (uint64_t)st.ctime_ns, (uint64_t)st.mtime_ns);
    return rv;
}

int dl_reset_to(struct disklog *log, uint64_t index, uint64_t term)
{
    int rv = log->mark.file ? 0 : draw_log_id(log);
    if (rv != 0)
        return rv;
    if (!log->mark.file)
        dl_remove_new(log); /* the room that was held for the mark */
    log->mark.index = index;
    log->mark.term = term;
    log->mark.chain = segment_chain_seed(log->mark.log_id, index, term);
    log->mark.work = HIGHMARK_RESETTING;
    rv = log->mark.file ? highmark_force(&log->mark)
                        : highmark_create(&log->mark, log->fs, log->dir);
    return rv != 0 ? rv : dl_finish_reset(log);
}

int dl_write_zeros(struct disklog *log, size_t from, size_t to)
{
    static const uint8_t zeros[ZERO_STEP];
    int rv = 0;
    for (size_t n; rv == 0 && from < to; from += n) {
        n = to - from < ZERO_STEP ? to - from : ZERO_STEP;
        rv = fs_pwrite(log->fs, log->file, zeros, n, (int64_t)from);
    }
    return rv;
}

int dl_open_last(struct disklog *log)
{
    char path[DISKLOG_PATH_SIZE];
    file_close(log);
    int rv = dl_segment_path(log, dl_last(log)->first, path);
    return rv != 0 ? rv : fs_open(log->fs, path, FS_WRITE, &log->file);
}

void dl_remove_new(struct disklog *log)
{
    char path[DISKLOG_PATH_SIZE];
    if (dl_path(log, NEW_NAME, path) == 0)
        (void)fs_unlink(log->fs, path);
}
