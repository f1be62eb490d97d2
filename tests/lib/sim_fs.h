/* A file system in memory for tests and for the cluster simulator: it forgets what was not synced,
 * tears, loses, misdirects and damages writes, and fails calls on order. One object is one host's
 * disk. Deterministic: the same calls with the same seeds give the same results.
 *
 * What a power cut leaves:
 * - File contents: what fs_sync of that file covered. Each later write, truncate and allocate is
 * kept, dropped or torn (by sectors of 512 bytes) as mode and seed say, each on its own: so writes
 * are reordered too.
 * - Names (create, rename, unlink, mkdir): what fs_sync_dir of that directory covered. Later
 * operations are kept up to some point and dropped from there on, in the order in which they were
 * made. fs_sync of a new file does not make its name durable.
 * - A sync that fails leaves each write it should have covered either durable or never to be
 * durable, although reads go on showing it: a second sync that succeeds proves nothing.
 *
 * Paths: components separated by '/'; "/a" and "a" are the same; the root is there from the start.
 * Life: sim_fs_new -> use, crash, use ... -> sim_fs_free (closes what is open).
 * Thread: one at a time. */
#ifndef TESSERA_TESTS_SIM_FS_H
#define TESSERA_TESTS_SIM_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/sys/fs.h"

struct fs *sim_fs_new(uint64_t seed);
void sim_fs_free(struct fs *fs);

/* --- crashes ---------------------------------------------------------------------------------- */

enum sim_fs_crash_mode {
    SIM_FS_KILL,   /* the process only: files stay as they look */
    SIM_FS_DROP,   /* power: nothing unsynced survives */
    SIM_FS_KEEP,   /* power: everything unsynced survives (but for lost and misdirected writes) */
    SIM_FS_RANDOM, /* power: as the seed says */
};
/* Handles that are open become stale: every use gives TSR_EIO, they must still be closed. Orders
 * given with sim_fs_fail and sim_fs_stop end. */
void sim_fs_crash(struct fs *fs, uint64_t seed, enum sim_fs_crash_mode mode);

/* --- failing calls ---------------------------------------------------------------------------- */

enum sim_fs_call {
    SIM_FS_OPEN = 1,
    SIM_FS_READ = 2,
    SIM_FS_WRITE = 4,
    SIM_FS_SYNC = 8,
    SIM_FS_RESIZE = 16, /* truncate, allocate */
    SIM_FS_STAT = 32,   /* fstat, stat, list, space */
    SIM_FS_NAME = 64,   /* rename, unlink, mkdir */
    SIM_FS_SYNC_DIR = 128,
    SIM_FS_ANY = 255,
};
#define SIM_FS_FOREVER UINT64_MAX
/* Let @after calls of @kinds through, then fail @times of them with @code. A failing write may have
 * written a part; a failing sync see above. One order at a time; @times 0 takes it back. */
void sim_fs_fail(struct fs *fs, unsigned kinds, uint64_t after, int code, uint64_t times);
/* The machine stops: after @after further calls every call fails with TSR_EIO and has no effect,
 * until sim_fs_crash. */
void sim_fs_stop(struct fs *fs, uint64_t after);
/* Whether an order of sim_fs_fail or sim_fs_stop has hit since it was given. */
bool sim_fs_failed(const struct fs *fs);
/* Calls of these kinds so far (of the ones let through). */
uint64_t sim_fs_calls(const struct fs *fs, unsigned kinds);
/* Not more than this many bytes in files, TSR_ENOSPC beyond. 0 = no limit. */
void sim_fs_limit(struct fs *fs, int64_t bytes);

/* --- slow disk -------------------------------------------------------------------------------- */

/* What a call of these kinds takes from now on; a simulator asks after each job what it has taken.
 */
void sim_fs_latency(struct fs *fs, unsigned kinds, uint64_t us);
uint64_t sim_fs_take_time(struct fs *fs); /* sum in us since the last call */

/* --- damage ----------------------------------------------------------------------------------- */

/* Change bits of one byte, both as it looks and on the disk. False: no such file or byte. */
bool sim_fs_flip(struct fs *fs, const char *path, int64_t offset, uint8_t mask);
/* The next write to a file whose name contains @part is acknowledged and shown, but never reaches
 * the disk (SIM_FS_LOST) or reaches it @shift bytes further on (SIM_FS_MISDIRECTED). It shows after
 * a power cut or sim_fs_drop_caches. */
enum sim_fs_bad_write { SIM_FS_LOST, SIM_FS_MISDIRECTED };
void sim_fs_bad_write(struct fs *fs, const char *part, enum sim_fs_bad_write kind, int64_t shift);
/* Whether that write was made since it was ordered. */
bool sim_fs_bad_write_made(const struct fs *fs);
void sim_fs_bad_write_cancel(struct fs *fs);
/* Show what is on the disk where nothing unsynced covers it. */
void sim_fs_drop_caches(struct fs *fs);

/* --- looking ---------------------------------------------------------------------------------- */

bool sim_fs_has(struct fs *fs,
                const char *path);         /* a file; no call that could be ordered to fail */
uint64_t sim_fs_used(const struct fs *fs); /* bytes in files */
unsigned sim_fs_open_files(const struct fs *fs);

#endif
