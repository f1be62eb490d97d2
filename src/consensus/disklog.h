/* The durable log: segments of checksummed, chained records. Blocking; log thread only, except open
 * (start-up thread). Format drawn in docs/formats.md.
 *
 * A record binds index, term, type, length, CRC32C and a chain digest over its predecessor, so that
 * a lost or replaced middle is found at open. A torn last batch that was never acknowledged is cut.
 * Two things tell acknowledged damage from a torn tail: the high-water mark (a small double-written
 * file, written after each append's sync but synced itself only at close, at each segment roll and
 * at each truncation: exact after a killed process, perhaps older after a power cut, never ahead of
 * what is durable), and the index in each record up to which the log was durable when it was
 * written. Damage that either proves to be acknowledged is TSR_ECORRUPT with the reason. Segments
 * are preallocated. Every failed write or sync is final: the object refuses all further calls with
 * TSR_EIO. */
#ifndef TESSERA_CONSENSUS_DISKLOG_H
#define TESSERA_CONSENSUS_DISKLOG_H

#include "tessera/base/err.h"
#include "tessera/sys/fs.h"

struct disklog;

struct disklog_entry {
    uint64_t index, term;
    uint8_t type; /* 1 command, 2 barrier, 3 change (as libraft) */
    const void *data;
    size_t size;
};

/* Called for each entry in order while opening; @data is valid during the call. Non-zero ends it.
 */
typedef int (*disklog_load_cb)(void *arg, const struct disklog_entry *entry);

/* @start_index/@start_term: snapshot marker's (0, 0 without one): the log must reach from at most
 * start_index + 1 to at least start_index and agree on the term there; entries at or below it may
 * be there (trailing). An absent directory is an empty log and is made. What is reported is
 * durable: what a killed process wrote but did not sync is written again and synced here.
 * TSR_ECORRUPT with one clear sentence; TSR_ENOTSUP: of a newer version; TSR_EIO; TSR_ENOMEM; what
 * @load returned. */
int disklog_open(struct fs *fs, const char *dir, uint64_t segment_bytes, uint64_t start_index,
                 uint64_t start_term, disklog_load_cb load, void *arg, struct disklog **out,
                 struct err *err);
void disklog_close(struct disklog *log); /* writes the high-water mark; no error is lost by that */
/* 0 when empty and never cut. */
uint64_t disklog_last_index(const struct disklog *log);
/* last_index + 1 when empty, so 1 for a fresh log. */
uint64_t disklog_first_index(const struct disklog *log);
/* Term of the last entry, or of what the empty log continues. The vote record's term must not be
 * lower (vote.h). */
uint64_t disklog_last_term(const struct disklog *log);
/* Append consecutive entries (first = last_index + 1), one write and one sync for all. Durable on
 * 0. */
int disklog_append(struct disklog *log, const struct disklog_entry *entries, unsigned n);
/* Remove @index and all after it; durable on 0 before anything may be appended. */
int disklog_truncate(struct disklog *log, uint64_t index);
/* Entries at or below @index are no longer needed: whole segments below it are removed. */
int disklog_cut(struct disklog *log, uint64_t index);
/* Empty the log; the next entry will be @index + 1 (after a snapshot install). Durable on 0; a
 * crash leaves the old log or the empty one. */
int disklog_reset(struct disklog *log, uint64_t index, uint64_t term);
/* The same at start-up, without opening (and whatever the state of) the old log. An install is:
 * import, marker_store, disklog_reset, install_remove. When a crash interrupts it, install_load
 * still finds it at the next start, marker and log may disagree: do import, marker_store,
 * disklog_recreate, install_remove, and only then disklog_open. */
int disklog_recreate(struct fs *fs, const char *dir, uint64_t segment_bytes, uint64_t index,
                     uint64_t term);
/* Whether @dir holds any part of a log; an error when that can not be told (memory, descriptors).
 */
int disklog_look(struct fs *fs, const char *dir, bool *there_out);
/* The same; true when it can not be told. */
bool disklog_exists(struct fs *fs, const char *dir);
/* Bytes on disk. */
uint64_t disklog_bytes(const struct disklog *log);
/* Whether one more segment is preallocated, as far as is known. Log thread. */
bool disklog_spare(const struct disklog *log);
/* Whether one more segment is preallocated (full disk: false). Tries to make it when it is missing,
 * so that asking again notices when space is back. Log thread. */
bool disklog_has_spare(struct disklog *log);

#endif
