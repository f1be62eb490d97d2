/* Calls through the vtable of a file system, and what is built from them. */
#include "tessera/sys/fs.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/buf.h"
#include "tessera/base/err.h"

int fs_open(struct fs *fs, const char *path, int flags, struct fs_file **file_out)
{
    return fs->ops->open(fs, path, flags, file_out);
}

void fs_close(struct fs *fs, struct fs_file *f)
{
    if (f != NULL) {
        fs->ops->close(fs, f);
    }
}

long fs_pread(struct fs *fs, struct fs_file *f, void *data, size_t size, int64_t offset)
{
    return fs->ops->pread(fs, f, data, size, offset);
}

int fs_pwrite(struct fs *fs, struct fs_file *f, const void *data, size_t size, int64_t offset)
{
    return fs->ops->pwrite(fs, f, data, size, offset);
}

int fs_sync(struct fs *fs, struct fs_file *f)
{
    return fs->ops->sync(fs, f);
}

int fs_truncate(struct fs *fs, struct fs_file *f, int64_t size)
{
    return fs->ops->truncate(fs, f, size);
}

int fs_allocate(struct fs *fs, struct fs_file *f, int64_t size)
{
    return fs->ops->allocate(fs, f, size);
}

int fs_fstat(struct fs *fs, struct fs_file *f, struct fs_stat *out)
{
    return fs->ops->fstat(fs, f, out);
}

int fs_fd(struct fs *fs, struct fs_file *f)
{
    return fs->ops->fd(fs, f);
}

int fs_stat(struct fs *fs, const char *path, struct fs_stat *out)
{
    return fs->ops->stat(fs, path, out);
}

int fs_rename(struct fs *fs, const char *from, const char *to)
{
    return fs->ops->rename(fs, from, to);
}

int fs_unlink(struct fs *fs, const char *path)
{
    return fs->ops->unlink(fs, path);
}

int fs_mkdir(struct fs *fs, const char *path)
{
    return fs->ops->mkdir(fs, path);
}

int fs_sync_dir(struct fs *fs, const char *path)
{
    return fs->ops->sync_dir(fs, path);
}

int fs_list(struct fs *fs, const char *path, fs_list_cb cb, void *arg)
{
    return fs->ops->list(fs, path, cb, arg);
}

int fs_space(struct fs *fs, const char *path, struct fs_space *out)
{
    return fs->ops->space(fs, path, out);
}

/* The directory that holds @path, as new memory; NULL when out of memory. */
static char *parent_of(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    while (size > 0 && path[size - 1] != '/') {
        size--;
    }
    if (size == 0) {
        return strdup(".");
    }
    while (size > 1 && path[size - 1] == '/') {
        size--;
    }
    return strndup(path, size);
}

int fs_mkdirs(struct fs *fs, const char *path)
{
    int rv = fs_mkdir(fs, path);
    if (rv != TSR_ENOENT) {
        return rv;
    }
    char *parent = parent_of(path);
    if (parent == NULL) {
        return TSR_ENOMEM;
    }
    if (strcmp(parent, ".") != 0 && strcmp(parent, path) != 0) {
        rv = fs_mkdirs(fs, parent);
        if (rv == 0) {
            rv = fs_mkdir(fs, path);
        }
    }
    free(parent);
    return rv;
}

static int write_temporary(struct fs *fs, const char *path, const void *data, size_t size)
{
    struct fs_file *f;
    int rv = fs_open(fs, path, FS_WRITE | FS_CREATE | FS_TRUNC, &f);
    if (rv != 0) {
        return rv;
    }
    rv = fs_pwrite(fs, f, data, size, 0);
    if (rv == 0) {
        rv = fs_sync(fs, f);
    }
    fs_close(fs, f);
    return rv;
}

int fs_write_file(struct fs *fs, const char *path, const void *data, size_t size)
{
    struct buf temporary = {0};
    char *parent = parent_of(path);
    int rv = buf_printf(&temporary, "%s.tmp", path);
    if (parent == NULL || rv != 0) {
        rv = TSR_ENOMEM;
        goto out;
    }
    rv = write_temporary(fs, temporary.data, data, size);
    if (rv == 0) {
        rv = fs_rename(fs, temporary.data, path);
    }
    if (rv != 0) {
        (void)fs_unlink(fs, temporary.data);
        goto out;
    }
    rv = fs_sync_dir(fs, parent);
out:
    free(parent);
    buf_free(&temporary);
    return rv;
}

enum { READ_STEP = 65536 };

int fs_read_file(struct fs *fs, const char *path, size_t max, char **data_out, size_t *size_out)
{
    struct fs_file *f;
    struct buf b = {0};
    int rv = fs_open(fs, path, FS_READ, &f);
    if (rv != 0) {
        return rv;
    }
    /* By reading, not by its size: the file may grow meanwhile. One byte over @max tells. */
    for (;;) {
        size_t want = max - b.size < READ_STEP ? max - b.size + 1 : READ_STEP;
        rv = buf_reserve(&b, want);
        if (rv != 0) {
            break;
        }
        long n = fs_pread(fs, f, b.data + b.size, want, (int64_t)b.size);
        if (n < 0) {
            rv = (int)n;
            break;
        }
        b.size += (size_t)n;
        b.data[b.size] = 0;
        if (b.size > max) {
            rv = TSR_ETOOBIG;
            break;
        }
        if ((size_t)n < want) {
            break;
        }
    }
    fs_close(fs, f);
    if (rv != 0) {
        buf_free(&b);
        return rv;
    }
    *data_out = buf_detach(&b, size_out);
    return 0;
}
