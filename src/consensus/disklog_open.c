/* Opening the durable log: everything is read and checked, and where the records end it is judged
 * whether that is a torn tail (cut) or damage to what was acknowledged (refused).
 *
 * What proves damage: a closed segment that does not reach its successor; an end below the
 * high-water mark; a record at the mark with another digest; or, behind the end, a record whose
 * batch was begun when the missing one was durable already. After a failed sync the page cache may
 * show as good what the disk never got, so all above the mark (which moves only after a good sync)
 * is written again and synced. */
#include "consensus/disklog_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int corrupt(struct dl_loading *l, const char *what)
{
    return err_set(l->err, TSR_ECORRUPT, "log damaged: %s: %s at entry %llu", l->name, what,
                   (unsigned long long)l->log->at.index + 1);
}

/* Compare what is fixed elsewhere about the record at log->at: the mark and the snapshot. */
static int check_here(struct dl_loading *l)
{
    struct disklog *log = l->log;
    if (log->at.index == log->mark.index) {
        l->synced = log->at.offset;
        if (log->at.term != log->mark.term || log->at.chain != log->mark.chain)
            return err_set(l->err, TSR_ECORRUPT,
                           "log damaged: %s: entry %llu is not the one that was acknowledged",
                           l->name, (unsigned long long)log->at.index);
    }
    if (log->at.index == l->start_index && log->at.term != l->start_term)
        return err_set(l->err, TSR_ECORRUPT,
                       "log damaged: %s: entry %llu has term %llu but the snapshot has %llu",
                       l->name, (unsigned long long)log->at.index, (unsigned long long)log->at.term,
                       (unsigned long long)l->start_term);
    return 0;
}

static int load_cb(void *arg, const struct disklog_entry *entry)
{
    struct dl_loading *l = arg;
    int rv = check_here(l);
    return rv != 0 ? rv : l->load ? l->load(l->arg, entry) : 0;
}

int dl_read(struct dl_loading *l, struct dl_segment *s)
{
    struct disklog *log = l->log;
    char path[DISKLOG_PATH_SIZE];
    struct fs_stat st;
    struct fs_file *f;
    segment_name(s->first, l->name);
    free(l->data);
    l->data = NULL;
    int rv = dl_path(log, l->name, path);
    if (rv == 0)
        rv = fs_open(log->fs, path, FS_READ, &f);
    if (rv != 0)
        return rv;
    rv = fs_fstat(log->fs, f, &st);
    if (rv == 0 && (st.size < SEGMENT_BYTES_MIN || st.size > SEGMENT_BYTES_MAX))
        rv = corrupt(l, "wrong file size");
    if (rv == 0) {
        l->size = (size_t)st.size;
        l->data = malloc(l->size);
        long n = l->data ? fs_pread(log->fs, f, l->data, l->size, 0) : TSR_ENOMEM;
        rv = n < 0 ? (int)n : (size_t)n < l->size ? corrupt(l, "wrong file size") : 0;
    }
    fs_close(log->fs, f);
    s->bytes = l->size;
    return rv;
}

/* The header of @s fits its name, the log and what came before. */
static int check_header(struct dl_loading *l, const struct dl_segment *s)
{
    struct disklog *log = l->log;
    struct segment_header h;
    if (!segment_header_decode(l->data, l->size, &h))
        return segment_newer(l->data, l->size)
                   ? err_set(l->err, TSR_ENOTSUP, "log: %s was written by a newer version", l->name)
                   : corrupt(l, "damaged header");
    if (h.log_id != log->mark.log_id || h.first != s->first)
        return corrupt(l, "segment of another log or place");
    if (h.bytes != l->size)
        return corrupt(l, "wrong file size");
    if (s == log->segments) {
        log->at.index = h.first - 1;
        log->at.term = h.prev_term;
        log->at.chain = h.prev_chain;
        log->at.offset = SEGMENT_HEADER_SIZE;
        return check_here(l);
    }
    if (h.first != log->at.index + 1)
        return corrupt(l, "a segment before this one is missing");
    if (h.prev_term != log->at.term || h.prev_chain != log->at.chain)
        return corrupt(l, "does not continue the segment before");
    log->at.offset = SEGMENT_HEADER_SIZE;
    return 0;
}

/* The last segment's records ended with @end: a torn tail, or damage to what was acknowledged? */
static int judge_end(struct dl_loading *l, enum segment_end end)
{
    struct disklog *log = l->log;
    if (end == SEGMENT_LIMIT)
        return 0;
    if (l->limit != UINT64_MAX)
        return corrupt(l, "damaged or missing record before a truncation");
#ifndef TSR_BREAK_HIGH_MARK
    if (log->at.index < log->mark.index)
        return err_set(l->err, TSR_ECORRUPT,
                       "log damaged: %s: entry %llu is damaged or missing, acknowledged up to %llu",
                       l->name, (unsigned long long)log->at.index + 1,
                       (unsigned long long)log->mark.index);
#endif
    if (segment_proves(l->data, l->size, &log->at))
        return corrupt(l, "damaged record before later ones");
    return 0;
}

static int load_segment(struct dl_loading *l, size_t i)
{
    struct disklog *log = l->log;
    bool last = i + 1 == log->count;
    uint64_t limit = last ? l->limit : log->segments[i + 1].first - 1;
    int rv = dl_read(l, &log->segments[i]);
    if (rv == 0)
        rv = check_header(l, &log->segments[i]);
    if (rv != 0)
        return rv;
    l->synced = SEGMENT_HEADER_SIZE;
    enum segment_end end = segment_walk(l->data, l->size, limit, &log->at, load_cb, l, &rv);
    if (end == SEGMENT_STOP)
        return rv;
    if (last)
        return judge_end(l, end);
    return end == SEGMENT_LIMIT ? 0 : corrupt(l, "damaged or missing record");
}

static int load_segments(struct dl_loading *l)
{
    struct disklog *log = l->log;
    log->at.salt = (uint32_t)log->mark.log_id;
    l->limit = log->mark.work == HIGHMARK_CUTTING ? log->mark.index : UINT64_MAX;
    int rv = 0;
    size_t before = log->count;
    while (rv == 0 && log->count > 0 && l->limit < dl_last(log)->first - 1)
        rv = dl_pop(log);
    if (rv == 0 && log->count < before)
        rv = fs_sync_dir(log->fs, log->dir);
    if (rv == 0 && log->count == 0)
        rv = err_set(l->err, TSR_ECORRUPT, "log damaged: all segments are missing");
    for (size_t i = 0; rv == 0 && i < log->count; i++)
        rv = load_segment(l, i);
    if (rv == 0 && log->segments[0].first - 1 > l->start_index)
        rv =
            err_set(l->err, TSR_ECORRUPT,
                    "log damaged: it begins at entry %llu but the snapshot reaches only %llu",
                    (unsigned long long)log->segments[0].first, (unsigned long long)l->start_index);
    return rv;
}

/* Make true on disk what was loaded: no torn tail, everything durable, the mark at the end. */
static int settle(struct dl_loading *l)
{
    struct disklog *log = l->log;
    size_t end = log->at.offset;
    /* Of a truncation that a failed sync may have ended, zeros in the page cache prove nothing. */
    size_t used = l->limit == UINT64_MAX ? segment_used(l->data, l->size) : l->size;
    int rv = dl_open_last(log);
    if (rv == 0 && l->synced < end)
        rv =
            fs_pwrite(log->fs, log->file, l->data + l->synced, end - l->synced, (int64_t)l->synced);
    if (rv == 0)
        rv = dl_write_zeros(log, end, used);
    if (rv == 0 && (l->synced < end || end < used))
        rv = fs_sync(log->fs, log->file);
    dl_mark_here(log, HIGHMARK_IDLE);
    return rv != 0 ? rv : highmark_force(&log->mark);
}

/* Without a mark nothing was ever written, or much is lost. */
static int open_unmarked(struct dl_loading *l)
{
    if (l->log->count > 0)
        return err_set(l->err, TSR_ECORRUPT, "log damaged: its high-water mark is missing");
    if (l->start_index > 0)
        return err_set(l->err, TSR_ECORRUPT,
                       "log damaged: it is missing although there is a snapshot at entry %llu",
                       (unsigned long long)l->start_index);
    dl_make_spare(l->log);
    return 0;
}

static int open_marked(struct dl_loading *l)
{
    struct disklog *log = l->log;
    int rv = 0;
    /* Begun work goes on only under a mark that surely is durable. */
    if (log->mark.work != HIGHMARK_IDLE)
        rv = highmark_force(&log->mark);
    if (rv != 0)
        return rv;
    if (log->mark.work == HIGHMARK_RESETTING) {
        snprintf(l->name, sizeof(l->name), "reset");
        rv = dl_finish_reset(log);
        if (rv == 0)
            rv = check_here(l);
        if (rv == 0 && log->at.index > l->start_index)
            rv = err_set(
                l->err, TSR_ECORRUPT,
                "log damaged: it was reset to entry %llu but the snapshot reaches only %llu",
                (unsigned long long)log->at.index, (unsigned long long)l->start_index);
    } else {
        rv = load_segments(l);
        if (rv == 0)
            rv = settle(l);
        if (rv == 0) {
            dl_remove_new(log);
            dl_make_spare(log);
        }
    }
    if (rv == 0 && log->at.index < l->start_index)
        rv = err_set(l->err, TSR_ECORRUPT,
                     "log damaged: it ends at entry %llu, before the snapshot at %llu",
                     (unsigned long long)log->at.index, (unsigned long long)l->start_index);
    return rv;
}

int disklog_open(struct fs *fs, const char *dir, uint64_t segment_bytes, uint64_t start_index,
                 uint64_t start_term, disklog_load_cb load, void *arg, struct disklog **out,
                 struct err *err)
{
    struct disklog *log;
    struct err local = {0};
    int rv = dl_new(fs, dir, segment_bytes, &log);
    if (rv != 0)
        return err_set(err, rv, "log: %s", err_text(rv));
    struct dl_loading l = {.log = log,
                           .start_index = start_index,
                           .start_term = start_term,
                           .load = load,
                           .arg = arg,
                           .err = &local};
    rv = dl_make_dir(fs, dir);
    if (rv == 0)
        rv = dl_scan(log);
    if (rv == 0) {
        int marked = highmark_open(&log->mark, fs, dir);
        if (marked == 0)
            rv = open_marked(&l);
        else if (marked == TSR_ENOENT)
            rv = open_unmarked(&l);
        else if (marked == TSR_ECORRUPT)
            rv = err_set(&local, TSR_ECORRUPT, "log damaged: its high-water mark is damaged");
        else if (marked == TSR_ENOTSUP)
            rv = err_set(&local, TSR_ENOTSUP,
                         "log: its high-water mark was written by a newer version");
        else
            rv = marked;
    }
    free(l.data);
    if (rv != 0) {
        dl_free(log);
        return err_set(err, rv, "%s", local.code == rv ? local.msg : err_text(rv));
    }
    *out = log;
    return 0;
}

int disklog_recreate(struct fs *fs, const char *dir, uint64_t segment_bytes, uint64_t index,
                     uint64_t term)
{
    struct disklog *log;
    int rv = dl_new(fs, dir, segment_bytes, &log);
    if (rv != 0)
        return rv;
    rv = dl_make_dir(fs, dir);
    if (rv == 0) {
        rv = highmark_open(&log->mark, fs, dir);
        if (rv == TSR_ENOENT || rv == TSR_ECORRUPT)
            rv = 0; /* a new one is made */
    }
    if (rv == 0)
        rv = dl_reset_to(log, index, term);
    dl_free(log);
    return rv;
}

enum { SEEN = 1 };

static int exists_cb(void *arg, const char *name, bool is_dir)
{
    uint64_t first;
    (void)arg;
    return !is_dir && segment_name_parse(name, &first) ? SEEN : 0;
}

int disklog_look(struct fs *fs, const char *dir, bool *there_out)
{
    *there_out = highmark_exists(fs, dir);
    int rv = *there_out ? 0 : fs_list(fs, dir, exists_cb, NULL);
    if (rv == SEEN)
        *there_out = true;
    return rv == SEEN || rv == TSR_ENOENT ? 0 : rv;
}

bool disklog_exists(struct fs *fs, const char *dir)
{
    bool there;
    return disklog_look(fs, dir, &there) != 0 || there;
}
