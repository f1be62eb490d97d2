/* The outside world, part 2: files. Blocking calls: only on pool threads, or at start.
 *
 * The real implementation is POSIX; the simulator's keeps unsynced data, tears, loses or damages
 * it, and fails the N-th call. All functions return 0 or a size >= 0, or a negative code
 * (TSR_ENOENT, TSR_EEXIST, TSR_ENOSPC, TSR_EIO, TSR_ENOMEM, ...). EINTR and short transfers are
 * handled inside. A failed fs_sync is never retried by anyone: the data must be taken for lost.
 * Thread: any; one file may be used by several threads with positional calls. */
#ifndef TESSERA_SYS_FS_H
#define TESSERA_SYS_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fs;
struct fs_file;

enum fs_flags {
    FS_READ = 1,   /* read only */
    FS_WRITE = 2,  /* read and write */
    FS_CREATE = 4, /* create if absent */
    FS_EXCL = 8,   /* with FS_CREATE: fail with TSR_EEXIST */
    FS_TRUNC = 16,
};

struct fs_stat {
    uint64_t inode;
    int64_t size;
    int64_t blocks; /* of 512 bytes: what is really allocated */
    int64_t mtime_ns, ctime_ns;
    bool is_dir;
    unsigned mode; /* permission bits, as in chmod(1) */
};

struct fs_space {
    int64_t total, available; /* bytes for an unprivileged user */
};

/* Called for each name but "." and ".."; non-zero ends the walk and is returned. */
typedef int (*fs_list_cb)(void *arg, const char *name, bool is_dir);

struct fs_ops {
    int (*open)(struct fs *fs, const char *path, int flags, struct fs_file **file_out);
    void (*close)(struct fs *fs, struct fs_file *f);
    long (*pread)(struct fs *fs, struct fs_file *f, void *data, size_t size, int64_t offset);
    int (*pwrite)(struct fs *fs, struct fs_file *f, const void *data, size_t size, int64_t offset);
    int (*sync)(struct fs *fs, struct fs_file *f);
    int (*truncate)(struct fs *fs, struct fs_file *f, int64_t size);
    int (*allocate)(struct fs *fs, struct fs_file *f, int64_t size);
    int (*fstat)(struct fs *fs, struct fs_file *f, struct fs_stat *out);
    int (*fd)(struct fs *fs, struct fs_file *f);
    int (*stat)(struct fs *fs, const char *path, struct fs_stat *out);
    int (*rename)(struct fs *fs, const char *from, const char *to);
    int (*unlink)(struct fs *fs, const char *path);
    int (*mkdir)(struct fs *fs, const char *path);
    int (*sync_dir)(struct fs *fs, const char *path);
    int (*list)(struct fs *fs, const char *path, fs_list_cb cb, void *arg);
    int (*space)(struct fs *fs, const char *path, struct fs_space *out);
};
struct fs {
    const struct fs_ops *ops;
};

int fs_open(struct fs *fs, const char *path, int flags, struct fs_file **file_out); /* mode 0600 */
void fs_close(struct fs *fs, struct fs_file *f); /* NULL is fine */
/* Reads until @size bytes or the end of the file; returns bytes read. */
long fs_pread(struct fs *fs, struct fs_file *f, void *data, size_t size, int64_t offset);
int fs_pwrite(struct fs *fs, struct fs_file *f, const void *data, size_t size, int64_t offset);
int fs_sync(struct fs *fs, struct fs_file *f); /* fdatasync */
int fs_truncate(struct fs *fs, struct fs_file *f, int64_t size);
int fs_allocate(struct fs *fs, struct fs_file *f,
                int64_t size); /* reserve blocks, file grows to size */
int fs_fstat(struct fs *fs, struct fs_file *f, struct fs_stat *out);
int fs_fd(struct fs *fs, struct fs_file *f); /* for sendfile; -1 in the simulator */
int fs_stat(struct fs *fs, const char *path, struct fs_stat *out);
int fs_rename(struct fs *fs, const char *from, const char *to);
int fs_unlink(struct fs *fs, const char *path); /* file or empty directory */
int fs_mkdir(struct fs *fs, const char *path);  /* mode 0700; existing directory is fine */
int fs_mkdirs(struct fs *fs, const char *path); /* with parents */
int fs_sync_dir(struct fs *fs, const char *path);
int fs_list(struct fs *fs, const char *path, fs_list_cb cb, void *arg);
int fs_space(struct fs *fs, const char *path, struct fs_space *out);

/* A file becomes visible complete or not at all: temporary name, write, sync, rename, sync parent.
 */
int fs_write_file(struct fs *fs, const char *path, const void *data, size_t size);
/* Whole file up to @max bytes (TSR_ETOOBIG beyond); caller frees; 0-terminated. */
int fs_read_file(struct fs *fs, const char *path, size_t max, char **data_out, size_t *size_out);

/* The process's real file system; one object, never freed. */
struct fs *fs_real(void);
/* From now until the process ends or executes another program, no other process holds the file
 * @path, which is made if absent. 0; TSR_EEXIST: one does. */
int fs_hold(const char *path);

#endif
