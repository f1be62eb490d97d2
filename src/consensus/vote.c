/* Two files of one page each, "vote1" and "vote2", written one after the other with the same
 * content. The cases after a crash or damage, g = the generation that was last acknowledged:
 *
 *   vote1      vote2      right is
 *   g          g          g
 *   bad, g     g, bad     g: torn first write of g + 1 (never acknowledged), or rot
 *   g + 1      g, bad     g + 1: stopped between or in the second write. May be taken, as its vote
 * was decided; made g + 1 on both before anyone relies on it bad        bad        unknown: must
 * not vote */
#include "consensus/vote.h"

#include <stdio.h>
#include <string.h>

#include "consensus/disklog.h"
#include "consensus/marker.h"
#include "consensus/segment.h"
#include "tessera/base/digest.h"

enum { COPIES = 2, COPY_SIZE = 4096, VOTE_VERSION = 1, PATH_SIZE = 1024 };
static const char vote_magic[4] = {'T', 'V', 'O', 'T'};

enum copy_state { COPY_VALID, COPY_BAD, COPY_MISSING, COPY_NEWER };

static int path_of(char out[PATH_SIZE], const char *dir, int copy)
{
    int n = snprintf(out, PATH_SIZE, "%s/vote%d", dir, copy + 1);
    return n < 0 || n >= PATH_SIZE ? TSR_EINVAL : 0;
}

static void encode(const struct vote *v, uint8_t out[COPY_SIZE])
{
    memset(out, 0, COPY_SIZE);
    memcpy(out, vote_magic, 4);
    le_put32(out + 8, VOTE_VERSION);
    le_put64(out + 16, v->generation);
    le_put64(out + 24, v->term);
    le_put64(out + 32, v->voted_for);
    le_put32(out + 4, crc32c(0, out + 8, COPY_SIZE - 8));
}

static enum copy_state decode(const uint8_t *p, struct vote *v)
{
    if (memcmp(p, vote_magic, 4) != 0 || le_get32(p + 4) != crc32c(0, p + 8, COPY_SIZE - 8))
        return COPY_BAD;
    if (le_get32(p + 8) != VOTE_VERSION)
        return le_get32(p + 8) > VOTE_VERSION ? COPY_NEWER : COPY_BAD;
    v->generation = le_get64(p + 16);
    v->term = le_get64(p + 24);
    v->voted_for = le_get64(p + 32);
    return v->generation > 0 ? COPY_VALID : COPY_BAD;
}

static int read_copy(struct fs *fs, const char *dir, int copy, struct vote *v,
                     enum copy_state *state_out)
{
    char path[PATH_SIZE];
    uint8_t page[COPY_SIZE];
    struct fs_file *f;
    *state_out = COPY_MISSING;
    int rv = path_of(path, dir, copy);
    if (rv == 0)
        rv = fs_open(fs, path, FS_READ, &f);
    if (rv != 0)
        return rv == TSR_ENOENT ? 0 : rv;
    long n = fs_pread(fs, f, page, COPY_SIZE, 0);
    fs_close(fs, f);
    *state_out = n == COPY_SIZE ? decode(page, v) : COPY_BAD;
    /* A sector that cannot be read is damage like any other: the second copy is for that. */
    return n < 0 && n != TSR_EIO ? (int)n : 0;
}

static int write_copy(struct fs *fs, const char *dir, int copy, const struct vote *v)
{
    char path[PATH_SIZE];
    uint8_t page[COPY_SIZE];
    struct fs_file *f;
    int rv = path_of(path, dir, copy);
    if (rv == 0)
        rv = fs_open(fs, path, FS_WRITE | FS_CREATE, &f);
    if (rv != 0)
        return rv;
    encode(v, page);
    rv = fs_pwrite(fs, f, page, COPY_SIZE, 0);
#ifndef TSR_BREAK_VOTE_SYNC /* defects that the simulator must find: docs/simulation.md */
    if (rv == 0)
        rv = fs_sync(fs, f);
#endif
    fs_close(fs, f);
    return rv;
}

/* @names: the files' names too may not be durable yet. */
static int write_both(struct fs *fs, const char *dir, const struct vote *v, bool names)
{
    int rv = 0;
    for (int i = 0; rv == 0 && i < COPIES; i++)
        rv = write_copy(fs, dir, i, v);
    return rv == 0 && names ? fs_sync_dir(fs, dir) : rv;
}

static int nothing_valid(struct fs *fs, const char *dir, const enum copy_state state[COPIES],
                         struct vote *out, struct err *err)
{
    bool missing = state[0] == COPY_MISSING && state[1] == COPY_MISSING, there;
    int rv = disklog_look(fs, dir, &there);
    if (rv != 0)
        return err_set(err, rv, "vote record: %s", err_text(rv));
    there = there || marker_exists(fs, dir);
    /* Or stopped in the very first store: nobody can have been told of that vote. */
    if (!there && (missing || (state[0] == COPY_BAD && state[1] == COPY_MISSING))) {
        *out = (struct vote){0};
        return 0;
    }
    return err_set(err, TSR_ECORRUPT,
                   missing ? "vote record missing although this host has a log or snapshot"
                           : "vote record damaged: no valid copy is left");
}

int vote_load(struct fs *fs, const char *dir, struct vote *out, struct err *err)
{
    struct vote v[COPIES] = {{0}};
    enum copy_state state[COPIES];
    int rv = 0;
    for (int i = 0; rv == 0 && i < COPIES; i++)
        rv = read_copy(fs, dir, i, &v[i], &state[i]);
    if (rv != 0)
        return err_set(err, rv, "vote record: %s", err_text(rv));
    if (state[0] == COPY_NEWER || state[1] == COPY_NEWER)
        return err_set(err, TSR_ENOTSUP, "the vote record was written by a newer version");
    if (state[0] != COPY_VALID && state[1] != COPY_VALID)
        return nothing_valid(fs, dir, state, out, err);
    if (state[0] == COPY_VALID && state[1] == COPY_VALID && v[0].generation == v[1].generation &&
        memcmp(&v[0], &v[1], sizeof(v[0])) != 0)
        return err_set(err, TSR_ECORRUPT, "vote record damaged: its copies contradict each other");
    struct vote *best = state[0] != COPY_VALID                                        ? &v[1]
                        : state[1] == COPY_VALID && v[1].generation > v[0].generation ? &v[1]
                                                                                      : &v[0];
    /* Always written again: a killed process or a failed sync may have left it in the page cache
     * alone. */
    rv = write_both(fs, dir, best, true);
    if (rv != 0)
        return err_set(err, rv, "vote record: %s", err_text(rv));
    *out = *best;
    return 0;
}

bool vote_exists(struct fs *fs, const char *dir)
{
    char path[PATH_SIZE];
    struct fs_stat st;
    for (int i = 0; i < COPIES; i++) {
        if (path_of(path, dir, i) == 0 && fs_stat(fs, path, &st) != TSR_ENOENT)
            return true;
    }
    return false;
}

int vote_store(struct fs *fs, const char *dir, struct vote *v)
{
    struct vote next = *v;
    next.generation++;
    bool first = v->generation == 0;
    int rv = write_both(fs, dir, &next, first);
    if (rv == TSR_ENOENT && first) {
        rv = fs_mkdirs(fs, dir); /* whose own name disklog_open makes durable, before any entry */
        if (rv == 0)
            rv = write_both(fs, dir, &next, true);
    }
    if (rv == 0)
        v->generation = next.generation;
    return rv;
}
