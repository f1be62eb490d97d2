#include "sys/lmdb_back.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tessera/base/digest.h"
#include "tessera/base/err.h"
#include "tessera/base/log.h"

enum { PATH_ROOM = 4096, HEAD_SIZE = 16 };
enum { SLOTS = 2, SLOT_DISTANCE = 4096, SYNCED_VERSION = 1 };
static const uint32_t lmdb_magic = 0xBEEFC0DE, lmdb_version = 1;

struct slot {
    char magic[4];
    uint32_t crc, version, zero;
    uint64_t number;
    struct lmdb_meta meta;
};
_Static_assert(sizeof(struct slot) == 24 + 136, "no padding");
static const char slot_magic[4] = {'T', 'S', 'Y', 'N'};

static int failed(void)
{
    return err_from_errno(errno);
}

static int path_of(char out[PATH_ROOM], const char *path, const char *name)
{
    int n = snprintf(out, PATH_ROOM, "%s/%s", path, name);
    return n > 0 && n < PATH_ROOM ? 0 : TSR_EINVAL;
}

static int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return failed();
    }
    int rv = fsync(fd) == 0 ? 0 : failed();
    close(fd);
    return rv;
}

/* @gone_out: it was there. */
static int remove_file(const char *path, const char *name, bool *gone_out)
{
    char full[PATH_ROOM];
    int rv = path_of(full, path, name);
    if (rv != 0) {
        return rv;
    }
    *gone_out = unlink(full) == 0;
    if (!*gone_out) {
        return errno == ENOENT ? 0 : failed();
    }
    return sync_dir(path);
}

/* --- meta pages ------------------------------------------------------------------------------- */

static bool read_meta(int fd, off_t at, struct lmdb_meta *out)
{
    return pread(fd, out, sizeof(*out), at + HEAD_SIZE) == (ssize_t)sizeof(*out) &&
           out->magic == lmdb_magic && out->version == lmdb_version;
}

/* Both; false when the file is empty, or nothing that we know: LMDB says what is wrong with it. */
static bool read_metas(int fd, struct lmdb_meta metas[2], uint32_t *page_size_out)
{
    uint32_t page_size;
    if (!read_meta(fd, 0, &metas[0])) {
        return false;
    }
    memcpy(&page_size, metas[0].dbs[0], sizeof(page_size));
    *page_size_out = page_size;
    return page_size >= 512 && page_size <= 65536 && read_meta(fd, (off_t)page_size, &metas[1]);
}

static int write_meta(int fd, unsigned which, uint32_t page_size, const struct lmdb_meta *meta)
{
    ssize_t n = pwrite(fd, meta, sizeof(*meta), (off_t)page_size * which + HEAD_SIZE);
    return n == (ssize_t)sizeof(*meta) ? 0 : failed();
}

int lmdb_meta_read(int fd, uint64_t txn, struct lmdb_meta *out)
{
    struct lmdb_meta metas[2];
    uint32_t page_size;
    if (!read_metas(fd, metas, &page_size)) {
        return TSR_ECORRUPT;
    }
    for (int i = 0; i < 2; i++) {
        if (metas[i].txn == txn) {
            *out = metas[i];
            return 0;
        }
    }
    return TSR_ECORRUPT;
}

/* --- "synced" --------------------------------------------------------------------------------- */

static uint32_t slot_crc(const struct slot *s)
{
    return crc32c(0, (const char *)s + 8, sizeof(*s) - 8);
}

/* TSR_ENOENT: neither slot is whole. */
static int slots_read(int fd, struct slot *out)
{
    bool found = false;
    for (int i = 0; i < SLOTS; i++) {
        struct slot s;
        ssize_t n = pread(fd, &s, sizeof(s), (off_t)i * SLOT_DISTANCE);
        if (n < 0) {
            return failed();
        }
        if (n == (ssize_t)sizeof(s) && memcmp(s.magic, slot_magic, sizeof(s.magic)) == 0 &&
            s.crc == slot_crc(&s) && s.version == SYNCED_VERSION &&
            (!found || s.number > out->number)) {
            *out = s;
            found = true;
        }
    }
    return found ? 0 : TSR_ENOENT;
}

/* The room is taken here: later writes need none. */
static int make_room(const char *path, int fd)
{
    static const char zeros[SLOTS * SLOT_DISTANCE];
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return failed();
    }
    if (st.st_size >= (off_t)sizeof(zeros)) {
        return 0;
    }
    if (pwrite(fd, zeros, sizeof(zeros), 0) != (ssize_t)sizeof(zeros) || fsync(fd) != 0) {
        return failed();
    }
    return sync_dir(path);
}

int lmdb_synced_open(const char *path, struct lmdb_synced *out)
{
    char name[PATH_ROOM];
    struct slot newest = {0};
    int rv = path_of(name, path, "synced");
    *out = (struct lmdb_synced){.fd = -1};
    if (rv != 0) {
        return rv;
    }
    out->fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (out->fd < 0) {
        return failed();
    }
    rv = make_room(path, out->fd);
    if (rv == 0) {
        rv = slots_read(out->fd, &newest);
        out->number = rv == 0 ? newest.number : 0;
        rv = rv == TSR_ENOENT ? 0 : rv;
    }
    if (rv != 0) {
        lmdb_synced_close(out);
    }
    return rv;
}

int lmdb_synced_write(struct lmdb_synced *s, const struct lmdb_meta *meta)
{
    struct slot slot = {.version = SYNCED_VERSION, .number = s->number + 1, .meta = *meta};
    memcpy(slot.magic, slot_magic, sizeof(slot.magic));
    slot.crc = slot_crc(&slot);
    off_t at = (off_t)(slot.number % SLOTS) * SLOT_DISTANCE;
    if (pwrite(s->fd, &slot, sizeof(slot), at) != (ssize_t)sizeof(slot) || fdatasync(s->fd) != 0) {
        return failed();
    }
    s->number = slot.number;
    return 0;
}

void lmdb_synced_close(struct lmdb_synced *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    s->fd = -1;
}

/* --- going back ------------------------------------------------------------------------------- */

/* Both meta pages say @meta, the other one as the transaction before it. */
static int put_back(int fd, const struct lmdb_meta *meta)
{
    struct lmdb_meta metas[2], before = *meta;
    uint32_t page_size, own_size;
    if (!read_metas(fd, metas, &page_size)) {
        return 0;
    }
    uint64_t newest = metas[0].txn > metas[1].txn ? metas[0].txn : metas[1].txn;
    memcpy(&own_size, meta->dbs[0], sizeof(own_size));
    if (own_size != page_size || newest < meta->txn || meta->txn == 0) {
        return TSR_ECORRUPT;
    }
    unsigned own = (unsigned)(meta->txn & 1);
    before.txn--;
    int rv = write_meta(fd, own, page_size, meta);
    if (rv == 0) {
        rv = write_meta(fd, 1 - own, page_size, &before);
    }
    if (rv == 0 && fdatasync(fd) != 0) {
        rv = failed();
    }
    if (rv == 0) {
        log_info("kv", "the store was not closed: opened at transaction=%llu of %llu",
                 (unsigned long long)meta->txn, (unsigned long long)newest);
    }
    return rv;
}

/* A store that has not been synced since it was opened: at most its last commit is torn, and the
 * tree of the other meta page is whole. */
static int one_back(int fd)
{
    struct lmdb_meta metas[2];
    uint32_t page_size;
    if (!read_metas(fd, metas, &page_size)) {
        return 0;
    }
    unsigned newer = metas[1].txn > metas[0].txn ? 1 : 0;
    if (metas[newer].txn - metas[1 - newer].txn != 1) {
        return 0;
    }
    struct lmdb_meta back = metas[1 - newer];
    back.txn -= back.txn > 0 ? 1 : 0;
    int rv = write_meta(fd, newer, page_size, &back);
    if (rv == 0 && fdatasync(fd) != 0) {
        rv = failed();
    }
    if (rv == 0) {
        log_info("kv", "the store was not closed: opened before its last transaction=%llu",
                 (unsigned long long)metas[newer].txn);
    }
    return rv;
}

static int read_synced(const char *path, struct slot *out)
{
    char name[PATH_ROOM];
    int rv = path_of(name, path, "synced");
    if (rv != 0) {
        return rv;
    }
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? TSR_ENOENT : failed();
    }
    rv = slots_read(fd, out);
    close(fd);
    return rv;
}

static int go_back(const char *path, int fd)
{
    struct slot slot = {0};
    bool clean = false, gone;
    char mark[PATH_ROOM];
    int rv = path_of(mark, path, "clean");
    if (rv != 0) {
        return rv;
    }
    if (access(mark, F_OK) == 0) { /* what "synced" says goes first: it will not be true for long */
        rv = remove_file(path, "synced", &gone);
        return rv == 0 ? remove_file(path, "clean", &clean) : rv;
    }
    rv = read_synced(path, &slot);
    return rv == 0 ? put_back(fd, &slot.meta) : rv == TSR_ENOENT ? one_back(fd) : rv;
}

int lmdb_go_back(const char *path)
{
    char name[PATH_ROOM];
    bool gone;
    int rv = path_of(name, path, "data.mdb");
    if (rv != 0) {
        return rv;
    }
    int fd = open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) { /* a new store: nothing that is left of another one counts */
        rv = remove_file(path, "synced", &gone);
        return rv == 0 ? remove_file(path, "clean", &gone) : rv;
    }
    if (fd < 0) {
        return failed();
    }
    rv = go_back(path, fd);
    close(fd);
    return rv;
}

int lmdb_set_clean_mark(const char *path)
{
    char name[PATH_ROOM];
    int rv = path_of(name, path, "clean");
    if (rv != 0) {
        return rv;
    }
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failed();
    }
    rv = fsync(fd) == 0 ? 0 : failed();
    close(fd);
    return rv == 0 ? sync_dir(path) : rv;
}
