/* The process's real file system: POSIX calls; EINTR and short transfers end here. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tessera/base/err.h"
#include "tessera/sys/fs.h"

struct fs_file {
    int fd;
};

static int last_error(void)
{
    return err_from_errno(errno);
}

static int op_open(struct fs *fs, const char *path, int flags, struct fs_file **file_out)
{
    (void)fs;
    int how = O_CLOEXEC | ((flags & FS_WRITE) != 0 ? O_RDWR : O_RDONLY);
    how |= (flags & FS_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & FS_EXCL) != 0 ? O_EXCL : 0;
    how |= (flags & FS_TRUNC) != 0 ? O_TRUNC : 0;
    struct fs_file *f = malloc(sizeof(*f));
    if (f == NULL) {
        return TSR_ENOMEM;
    }
    do {
        f->fd = open(path, how, 0600);
    } while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0) {
        int rv = last_error();
        free(f);
        return rv;
    }
    *file_out = f;
    return 0;
}

static void op_close(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    (void)close(f->fd); /* whoever cares for the data has synced; not to be repeated on EINTR */
    free(f);
}

static long op_pread(struct fs *fs, struct fs_file *f, void *data, size_t size, int64_t offset)
{
    (void)fs;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(f->fd, (char *)data + done, size - done, offset + (int64_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return last_error();
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (long)done;
}

static int op_pwrite(struct fs *fs, struct fs_file *f, const void *data, size_t size,
                     int64_t offset)
{
    (void)fs;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(f->fd, (const char *)data + done, size - done, offset + (int64_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? last_error() : TSR_EIO;
        }
        done += (size_t)n;
    }
    return 0;
}

static int op_sync(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    return fdatasync(f->fd) == 0 ? 0 : last_error(); /* never twice: see fs.h */
}

static int op_truncate(struct fs *fs, struct fs_file *f, int64_t size)
{
    (void)fs;
    int rv;
    do {
        rv = ftruncate(f->fd, size);
    } while (rv != 0 && errno == EINTR);
    return rv == 0 ? 0 : last_error();
}

static int op_allocate(struct fs *fs, struct fs_file *f, int64_t size)
{
    (void)fs;
    int rv;
    do {
        rv = posix_fallocate(f->fd, 0, size);
    } while (rv == EINTR);
    return err_from_errno(rv);
}

static void fill_stat(const struct stat *st, struct fs_stat *out)
{
    *out = (struct fs_stat){
        .inode = st->st_ino,
        .size = st->st_size,
        .blocks = st->st_blocks,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
        .is_dir = S_ISDIR(st->st_mode),
        .mode = st->st_mode & 07777,
    };
}

static int op_fstat(struct fs *fs, struct fs_file *f, struct fs_stat *out)
{
    (void)fs;
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        return last_error();
    }
    fill_stat(&st, out);
    return 0;
}

static int op_fd(struct fs *fs, struct fs_file *f)
{
    (void)fs;
    return f->fd;
}

static int op_stat(struct fs *fs, const char *path, struct fs_stat *out)
{
    (void)fs;
    struct stat st;
    if (stat(path, &st) != 0) {
        return last_error();
    }
    fill_stat(&st, out);
    return 0;
}

static int op_rename(struct fs *fs, const char *from, const char *to)
{
    (void)fs;
    return rename(from, to) == 0 ? 0 : last_error();
}

static int op_unlink(struct fs *fs, const char *path)
{
    (void)fs;
    if (unlink(path) == 0) {
        return 0;
    }
    int saved = errno;
    if (saved == EISDIR || saved == EPERM) { /* POSIX says EPERM of a directory, Linux EISDIR */
        if (rmdir(path) == 0) {
            return 0;
        }
        saved = errno == ENOTDIR ? saved : errno;
    }
    return err_from_errno(saved);
}

static int op_mkdir(struct fs *fs, const char *path)
{
    (void)fs;
    if (mkdir(path, 0700) == 0) {
        return 0;
    }
    int rv = last_error();
    struct stat st;
    if (rv == TSR_EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return 0;
    }
    return rv;
}

static int op_sync_dir(struct fs *fs, const char *path)
{
    (void)fs;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return last_error();
    }
    int rv = fsync(fd) == 0 ? 0 : last_error();
    (void)close(fd);
    return rv;
}

static bool entry_is_dir(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN) {
        return entry->d_type == DT_DIR;
    }
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int op_list(struct fs *fs, const char *path, fs_list_cb cb, void *arg)
{
    (void)fs;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return last_error();
    }
    int rv = 0;
    while (rv == 0) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            rv = errno == 0 ? 0 : last_error();
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rv = cb(arg, entry->d_name, entry_is_dir(dir, entry));
        }
    }
    (void)closedir(dir);
    return rv;
}

static int op_space(struct fs *fs, const char *path, struct fs_space *out)
{
    (void)fs;
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return last_error();
    }
    out->total = (int64_t)(st.f_blocks * st.f_frsize);
    out->available = (int64_t)(st.f_bavail * st.f_frsize);
    return 0;
}

struct fs *fs_real(void)
{
    static const struct fs_ops ops = {
        .open = op_open,
        .close = op_close,
        .pread = op_pread,
        .pwrite = op_pwrite,
        .sync = op_sync,
        .truncate = op_truncate,
        .allocate = op_allocate,
        .fstat = op_fstat,
        .fd = op_fd,
        .stat = op_stat,
        .rename = op_rename,
        .unlink = op_unlink,
        .mkdir = op_mkdir,
        .sync_dir = op_sync_dir,
        .list = op_list,
        .space = op_space,
    };
    static struct fs real = {&ops};
    return &real;
}

/* The lock goes with the descriptor, which nobody closes. */
int fs_hold(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return last_error();
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return 0;
    }
    int rv = errno == EWOULDBLOCK ? TSR_EEXIST : last_error();
    (void)close(fd);
    return rv;
}
