#include "consensus/highmark.h"

#include <stdio.h>
#include <string.h>

#include "consensus/segment.h"
#include "tessera/base/digest.h"

/* The slots are far apart, so that no write and no bad sector ever touches both. One slot lies
 * within one sector and is thus old or new after a power cut. */
enum { SLOT_SIZE = 64, SLOT_DISTANCE = 4096, SLOTS = 2, HIGHMARK_VERSION = 1, PATH_SIZE = 1024 };
static const char highmark_magic[4] = {'T', 'M', 'R', 'K'};

static int path_of(char out[PATH_SIZE], const char *dir)
{
    int n = snprintf(out, PATH_SIZE, "%s/log.mark", dir);
    return n < 0 || n >= PATH_SIZE ? TSR_EINVAL : 0;
}

static void slot_encode(const struct highmark *m, uint8_t out[SLOT_SIZE])
{
    memset(out, 0, SLOT_SIZE);
    memcpy(out, highmark_magic, 4);
    le_put32(out + 8, HIGHMARK_VERSION);
    le_put32(out + 12, (uint32_t)m->work);
    le_put64(out + 16, m->generation);
    le_put64(out + 24, m->log_id);
    le_put64(out + 32, m->index);
    le_put64(out + 40, m->term);
    le_put64(out + 48, m->chain);
    le_put32(out + 4, crc32c(0, out + 8, SLOT_SIZE - 8));
}

static int slot_decode(const uint8_t *p, struct highmark *m)
{
    if (memcmp(p, highmark_magic, 4) != 0 || le_get32(p + 4) != crc32c(0, p + 8, SLOT_SIZE - 8))
        return TSR_ECORRUPT;
    if (le_get32(p + 8) > HIGHMARK_VERSION)
        return TSR_ENOTSUP;
    if (le_get32(p + 8) != HIGHMARK_VERSION || le_get32(p + 12) > HIGHMARK_RESETTING)
        return TSR_ECORRUPT;
    m->work = (enum highmark_work)le_get32(p + 12);
    m->generation = le_get64(p + 16);
    m->log_id = le_get64(p + 24);
    m->index = le_get64(p + 32);
    m->term = le_get64(p + 40);
    m->chain = le_get64(p + 48);
    return 0;
}

static int slots_read(struct highmark *m)
{
    bool found = false;
    for (int i = 0; i < SLOTS; i++) {
        uint8_t slot[SLOT_SIZE];
        struct highmark seen = *m;
        long n = fs_pread(m->fs, m->file, slot, SLOT_SIZE, (int64_t)i * SLOT_DISTANCE);
        if (n < 0)
            return (int)n;
        int rv = n == SLOT_SIZE ? slot_decode(slot, &seen) : TSR_ECORRUPT;
        if (rv == TSR_ENOTSUP)
            return rv; /* a newer version writes them in turn, too: the other slot is old */
        if (rv == 0 && (!found || seen.generation > m->generation)) {
            *m = seen;
            found = true;
        }
    }
    return found ? 0 : TSR_ECORRUPT;
}

int highmark_open(struct highmark *m, struct fs *fs, const char *dir)
{
    char path[PATH_SIZE];
    *m = (struct highmark){.fs = fs};
    int rv = path_of(path, dir);
    if (rv == 0)
        rv = fs_open(fs, path, FS_WRITE, &m->file);
    if (rv != 0)
        return rv;
    rv = slots_read(m);
    if (rv != 0)
        highmark_close(m);
    return rv;
}

int highmark_create(struct highmark *m, struct fs *fs, const char *dir)
{
    char path[PATH_SIZE];
    uint8_t both[SLOT_DISTANCE + SLOT_SIZE] = {0};
    m->fs = fs;
    m->file = NULL;
    m->generation = 1;
    slot_encode(m, both);
    slot_encode(m, both + SLOT_DISTANCE);
    int rv = path_of(path, dir);
    if (rv == 0)
        rv = fs_write_file(fs, path, both, sizeof(both));
    return rv != 0 ? rv : fs_open(fs, path, FS_WRITE, &m->file);
}

int highmark_note(struct highmark *m)
{
    uint8_t slot[SLOT_SIZE];
    m->generation++;
    slot_encode(m, slot);
    return fs_pwrite(m->fs, m->file, slot, SLOT_SIZE,
                     (int64_t)(m->generation % SLOTS) * SLOT_DISTANCE);
}

int highmark_force(struct highmark *m)
{
    int rv = highmark_note(m);
    if (rv == 0)
        rv = highmark_note(m);
    return rv != 0 ? rv : fs_sync(m->fs, m->file);
}

void highmark_close(struct highmark *m)
{
    if (m->file)
        fs_close(m->fs, m->file);
    m->file = NULL;
}

bool highmark_exists(struct fs *fs, const char *dir)
{
    char path[PATH_SIZE];
    struct fs_stat st;
    return path_of(path, dir) == 0 && fs_stat(fs, path, &st) != TSR_ENOENT;
}
