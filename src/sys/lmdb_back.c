#include "sys/lmdb_back.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tessera/base/err.h"
#include "tessera/base/log.h"

enum { PATH_ROOM = 4096, HEAD_SIZE = 16, DB_SIZE = 48 };

/* A meta page of LMDB 0.9 (data version 1), native byte order: page header (16 bytes), then
 *   0 magic u32 | 4 version u32 | 8 address | 16 map size | 24 free list, main (48 bytes each,
 *   the first begins with the page size u32) | 120 last page | 128 transaction id */
struct meta_page {
    uint32_t magic, version;
    uint64_t address, map_size;
    uint8_t dbs[2][DB_SIZE];
    uint64_t last_page, txn;
};
_Static_assert(sizeof(struct meta_page) == 136, "LMDB's layout");
static const uint32_t lmdb_magic = 0xBEEFC0DE, lmdb_version = 1;

static int failed(void)
{
    return err_from_errno(errno);
}

static int path_of(char out[PATH_ROOM], const char *path, const char *name)
{
    int n = snprintf(out, PATH_ROOM, "%s/%s", path, name);
    return n > 0 && n < PATH_ROOM ? 0 : TSR_EINVAL;
}

static bool read_meta(int fd, off_t at, struct meta_page *out)
{
    return pread(fd, out, sizeof(*out), at + HEAD_SIZE) == (ssize_t)sizeof(*out) &&
           out->magic == lmdb_magic && out->version == lmdb_version;
}

static int step(int fd)
{
    struct meta_page metas[2];
    uint32_t page_size;
    if (!read_meta(fd, 0, &metas[0])) {
        return 0; /* empty, or nothing that we know: LMDB says what is wrong with it */
    }
    memcpy(&page_size, metas[0].dbs[0], sizeof(page_size));
    if (page_size < 512 || page_size > 65536 || !read_meta(fd, (off_t)page_size, &metas[1])) {
        return 0;
    }
    int newer = metas[1].txn > metas[0].txn ? 1 : 0;
    if (metas[newer].txn - metas[1 - newer].txn != 1) {
        return 0;
    }
    struct meta_page back = metas[1 - newer];
    back.txn -= back.txn > 0 ? 1 : 0;
    if (pwrite(fd, &back, sizeof(back), (off_t)page_size * newer + HEAD_SIZE) !=
            (ssize_t)sizeof(back) ||
        fdatasync(fd) != 0) {
        return failed();
    }
    log_info("kv", "the store was not closed: opened before its last transaction=%llu",
             (unsigned long long)metas[newer].txn);
    return 0;
}

int lmdb_step_back(const char *path)
{
    char name[PATH_ROOM];
    int rv = path_of(name, path, "data.mdb");
    if (rv != 0) {
        return rv;
    }
    int fd = open(name, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : failed();
    }
    rv = step(fd);
    close(fd);
    return rv;
}

/* --- the mark --------------------------------------------------------------------------------- */

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

int lmdb_take_clean_mark(const char *path, int *clean_out)
{
    char name[PATH_ROOM];
    int rv = path_of(name, path, "clean");
    if (rv != 0) {
        return rv;
    }
    *clean_out = unlink(name) == 0;
    if (!*clean_out) {
        return errno == ENOENT ? 0 : failed();
    }
    return sync_dir(path);
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
