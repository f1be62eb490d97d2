/* The durable log.
 *
 * Happy path: append encodes all entries into one buffer, writes it behind the last record of the
 * last segment, syncs, and notes the new end in the high-water mark. When the segment is full, the
 * mark is forced and a new one is made: the spare (preallocated, zeros) gets its header, is synced,
 * renamed and the directory synced; then the next spare is made.
 *
 * Truncation and reset first force a mark that says so; a crash after that is finished at open, and
 * what the half-done work left behind is not looked at. They overwrite with zeros and never change
 * a file's size, so they need no space on a full disk, and a wrong size always is damage.
 *
 * Failure modes: any failed call to the disk makes the object refuse everything (`failed`), as
 * nobody knows what reached the disk; the next open finds out. Only a missing spare is no failure.
 */
#include "consensus/disklog_private.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"

enum { BUFFER_KEPT_MAX = 4 * 1024 * 1024 };

static int fail(struct disklog *log, int rv)
{
    log->failed = true;
    return rv;
}

void disklog_close(struct disklog *log)
{
    if (!log)
        return;
    if (!log->failed && log->mark.file)
        (void)highmark_force(&log->mark);
    dl_free(log);
}

/* --- changes ---------------------------------------------------------------------------------- */

/* How many of @entries fit behind the last record; *bytes_out what they take. */
static unsigned fitting(const struct disklog *log, const struct disklog_entry *entries, unsigned n,
                        size_t *bytes_out)
{
    size_t room = dl_last(log)->bytes - log->at.offset, bytes = 0;
    unsigned k = 0;
    for (; k < n; k++) {
        size_t size = segment_record_size(entries[k].size);
        if (size > room - bytes)
            break;
        bytes += size;
    }
    *bytes_out = bytes;
    return k;
}

static int write_run(struct disklog *log, const struct disklog_entry *entries, unsigned n,
                     size_t bytes)
{
    struct segment_at at = log->at;
    uint64_t durable = log->at.index;
    buf_clear(&log->batch);
    int rv = buf_reserve(&log->batch, bytes);
    if (rv != 0)
        return rv;
    uint8_t *p = (uint8_t *)log->batch.data;
    for (unsigned i = 0; i < n; i++) {
        tsr_assert(entries[i].index == at.index + 1 && entries[i].term >= at.term);
        tsr_assert(entries[i].term > 0 && entries[i].type >= 1 && entries[i].type <= 3);
        p += segment_record_encode(p, &entries[i], durable, &at);
    }
    rv = fs_pwrite(log->fs, log->file, log->batch.data, bytes, (int64_t)log->at.offset);
#ifndef TSR_BREAK_LOG_SYNC
    if (rv == 0)
        rv = fs_sync(log->fs, log->file);
#endif
    if (log->batch.capacity > BUFFER_KEPT_MAX)
        buf_free(&log->batch);
    if (rv != 0)
        return rv;
    log->at = at;
    dl_mark_here(log, HIGHMARK_IDLE);
    return highmark_note(&log->mark);
}

static int roll(struct disklog *log, const struct disklog_entry *next)
{
    uint64_t need = SEGMENT_HEADER_SIZE + segment_record_size(next->size);
    if (need > SEGMENT_BYTES_MAX)
        return TSR_ETOOBIG;
    int rv = highmark_force(&log->mark);
    return rv != 0 ? rv
                   : dl_add_segment(log, need > log->segment_bytes ? need : log->segment_bytes);
}

int disklog_append(struct disklog *log, const struct disklog_entry *entries, unsigned n)
{
    if (log->failed)
        return TSR_EIO;
    int rv = n > 0 && !log->mark.file ? dl_reset_to(log, 0, 0) : 0;
    while (rv == 0 && n > 0) {
        size_t bytes;
        unsigned k = fitting(log, entries, n, &bytes);
        rv = k > 0 ? write_run(log, entries, k, bytes) : roll(log, entries);
        entries += k;
        n -= k;
    }
    return rv != 0 ? fail(log, rv) : 0;
}

/* Read the segment that holds @index again, to know where its predecessor ends. */
static int locate(struct dl_loading *l, uint64_t index)
{
    struct disklog *log = l->log;
    size_t i = log->count - 1;
    while (i > 0 && log->segments[i].first > index)
        i--;
    struct segment_header h;
    int rv = dl_read(l, &log->segments[i]);
    if (rv != 0)
        return rv;
    if (!segment_header_decode(l->data, l->size, &h) || h.first != log->segments[i].first)
        return TSR_ECORRUPT;
    log->at.index = h.first - 1;
    log->at.term = h.prev_term;
    log->at.chain = h.prev_chain;
    log->at.offset = SEGMENT_HEADER_SIZE;
    return segment_walk(l->data, l->size, index - 1, &log->at, NULL, NULL, &rv) == SEGMENT_LIMIT
               ? 0
               : TSR_ECORRUPT;
}

/* log->at is where the log shall end. */
static int truncate_here(struct dl_loading *l)
{
    struct disklog *log = l->log;
    dl_mark_here(log, HIGHMARK_CUTTING);
    int rv = highmark_force(&log->mark);
    size_t before = log->count;
    while (rv == 0 && dl_last(log)->first > log->at.index + 1)
        rv = dl_pop(log);
    if (rv == 0 && log->count < before)
        rv = fs_sync_dir(log->fs, log->dir);
    if (rv == 0)
        rv = dl_open_last(log);
    if (rv == 0)
        rv = dl_write_zeros(log, log->at.offset, segment_used(l->data, l->size));
    if (rv == 0)
        rv = fs_sync(log->fs, log->file);
    dl_mark_here(log, HIGHMARK_IDLE);
    return rv != 0 ? rv : highmark_force(&log->mark);
}

int disklog_truncate(struct disklog *log, uint64_t index)
{
    if (log->failed)
        return TSR_EIO;
    if (index > log->at.index)
        return 0;
    tsr_assert(index >= disklog_first_index(log));
    struct dl_loading l = {.log = log};
    int rv = locate(&l, index);
    if (rv == 0)
        rv = truncate_here(&l);
    free(l.data);
    return rv != 0 ? fail(log, rv) : 0;
}

int disklog_cut(struct disklog *log, uint64_t index)
{
    if (log->failed)
        return TSR_EIO;
    /* Oldest first, so that a crash leaves no gap. */
    size_t n = 0;
    int rv = 0;
    while (rv == 0 && n + 1 < log->count && log->segments[n + 1].first <= index + 1) {
        char path[DISKLOG_PATH_SIZE];
        rv = dl_segment_path(log, log->segments[n].first, path);
        if (rv == 0)
            rv = fs_unlink(log->fs, path);
        n++;
    }
    if (n == 0)
        return 0;
    log->count -= n;
    memmove(log->segments, log->segments + n, log->count * sizeof(log->segments[0]));
    if (rv == 0)
        rv = fs_sync_dir(log->fs, log->dir);
    return rv != 0 ? fail(log, rv) : 0;
}

int disklog_reset(struct disklog *log, uint64_t index, uint64_t term)
{
    if (log->failed)
        return TSR_EIO;
    int rv = dl_reset_to(log, index, term);
    return rv != 0 ? fail(log, rv) : 0;
}

/* --- queries ---------------------------------------------------------------------------------- */

uint64_t disklog_last_index(const struct disklog *log)
{
    return log->at.index;
}

uint64_t disklog_last_term(const struct disklog *log)
{
    return log->at.term;
}

uint64_t disklog_first_index(const struct disklog *log)
{
    return log->count > 0 ? log->segments[0].first : log->at.index + 1;
}

uint64_t disklog_bytes(const struct disklog *log)
{
    uint64_t bytes = log->spare ? log->segment_bytes : 0;
    for (size_t i = 0; i < log->count; i++)
        bytes += log->segments[i].bytes;
    return bytes;
}

bool disklog_spare(const struct disklog *log)
{
    return log->spare;
}

bool disklog_has_spare(struct disklog *log)
{
    if (!log->failed)
        dl_make_spare(log);
    return log->spare && !log->failed;
}
