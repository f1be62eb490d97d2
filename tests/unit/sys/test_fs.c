#include "test.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tessera/sys/fs.h"

static struct fs *fs;
static const char *dir;

static int setup(void **state)
{
    (void)state;
    fs = fs_real();
    dir = test_dir();
    return 0;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct fs_file *f;
    struct fs_stat st;
    char text[16] = "";
    const char *path = test_path(dir, "file");
    check_code(fs_open(fs, path, FS_READ, &f), TSR_ENOENT);
    check_ok(fs_open(fs, path, FS_WRITE | FS_CREATE | FS_EXCL, &f));
    check_ok(fs_pwrite(fs, f, "world", 5, 6));
    check_ok(fs_pwrite(fs, f, "hello ", 6, 0));
    check_ok(fs_sync(fs, f));
    check_int(fs_pread(fs, f, text, sizeof(text), 0), 11); /* short at the end of the file */
    check_str(text, "hello world");
    check_int(fs_pread(fs, f, text, 5, 100), 0);
    check_ok(fs_truncate(fs, f, 5));
    check_ok(fs_fstat(fs, f, &st));
    check_int(st.size, 5);
    check(fs_fd(fs, f) >= 0 && st.inode != 0 && !st.is_dir && st.mtime_ns > 0);
    check_ok(fs_allocate(fs, f, 100000));
    check_ok(fs_stat(fs, path, &st));
    check_int(st.size, 100000);
    check(st.blocks * 512 >= 100000);
    fs_close(fs, f);
    fs_close(fs, NULL);
    check_code(fs_open(fs, path, FS_WRITE | FS_CREATE | FS_EXCL, &f), TSR_EEXIST);
    check_ok(fs_open(fs, path, FS_WRITE | FS_TRUNC, &f));
    check_ok(fs_fstat(fs, f, &st));
    check_int(st.size, 0);
    fs_close(fs, f);
}

static void a_missing_directory_is_told_from_everywhere(void **state)
{
    (void)state;
    struct fs_file *f;
    struct fs_space space;
    const char *path = test_path(dir, "none/file");
    check_code(fs_open(fs, path, FS_WRITE | FS_CREATE, &f), TSR_ENOENT);
    check_code(fs_mkdir(fs, path), TSR_ENOENT);
    check_code(fs_unlink(fs, path), TSR_ENOENT);
    check_code(fs_rename(fs, path, test_path(dir, "b")), TSR_ENOENT);
    check_code(fs_sync_dir(fs, path), TSR_ENOENT);
    check_code(fs_list(fs, path, NULL, NULL), TSR_ENOENT);
    check_code(fs_space(fs, path, &space), TSR_ENOENT);
    check_code(fs_write_file(fs, path, "x", 1), TSR_ENOENT);
    check_ok(fs_space(fs, dir, &space));
    check(space.total > 0 && space.available <= space.total);
}

static void directories_are_made_with_their_parents(void **state)
{
    (void)state;
    struct fs_stat st;
    check_ok(fs_mkdirs(fs, test_path(dir, "a/b//c/")));
    check_ok(fs_mkdirs(fs, test_path(dir, "a/b/c")));
    check_ok(fs_mkdir(fs, test_path(dir, "a")));
    check_ok(fs_stat(fs, test_path(dir, "a/b/c"), &st));
    check(st.is_dir);
    check_ok(fs_write_file(fs, test_path(dir, "file"), "", 0));
    check_code(fs_mkdir(fs, test_path(dir, "file")), TSR_EEXIST);
    check_code(fs_unlink(fs, test_path(dir, "a/b")), TSR_ECONFLICT);
    check_ok(fs_unlink(fs, test_path(dir, "a/b/c")));
    check_ok(fs_unlink(fs, test_path(dir, "file")));
}

static int count_names(void *arg, const char *name, bool is_dir)
{
    int *count = arg;
    if (strcmp(name, "stop") == 0) {
        return TSR_EGONE;
    }
    check_int(is_dir, strcmp(name, "sub") == 0);
    ++*count;
    return 0;
}

static void a_directory_is_listed_until_the_caller_says_stop(void **state)
{
    (void)state;
    int count = 0;
    check_ok(fs_mkdir(fs, test_path(dir, "sub")));
    check_ok(fs_write_file(fs, test_path(dir, "file"), "1", 1));
    check_ok(fs_list(fs, dir, count_names, &count));
    check_int(count, 2);
    check_ok(fs_write_file(fs, test_path(dir, "stop"), "1", 1));
    check_code(fs_list(fs, dir, count_names, &count), TSR_EGONE);
}

/* Passes all to the real file system but fails the n-th call. */
static struct fs_ops failing_ops;
static struct fs failing = {&failing_ops};
static int calls_left;

static bool fails(void)
{
    return --calls_left == 0;
}
static int f_open(struct fs *x, const char *path, int flags, struct fs_file **out)
{
    (void)x;
    return fails() ? TSR_EIO : fs_open(fs, path, flags, out);
}
static void f_close(struct fs *x, struct fs_file *f)
{
    (void)x;
    fs_close(fs, f);
}
static int f_pwrite(struct fs *x, struct fs_file *f, const void *data, size_t size, int64_t offset)
{
    (void)x;
    return fails() ? TSR_ENOSPC : fs_pwrite(fs, f, data, size, offset);
}
static int f_sync(struct fs *x, struct fs_file *f)
{
    (void)x;
    return fails() ? TSR_EIO : fs_sync(fs, f);
}
static int f_rename(struct fs *x, const char *from, const char *to)
{
    (void)x;
    return fails() ? TSR_EIO : fs_rename(fs, from, to);
}
static int f_unlink(struct fs *x, const char *path)
{
    (void)x;
    return fs_unlink(fs, path);
}
static int f_sync_dir(struct fs *x, const char *path)
{
    (void)x;
    return fails() ? TSR_EIO : fs_sync_dir(fs, path);
}

static void a_file_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    const char *path = test_path(dir, "file");
    char *data;
    size_t size;
    failing_ops = (struct fs_ops){.open = f_open,
                                  .close = f_close,
                                  .pwrite = f_pwrite,
                                  .sync = f_sync,
                                  .rename = f_rename,
                                  .unlink = f_unlink,
                                  .sync_dir = f_sync_dir};
    check_ok(fs_write_file(fs, path, "old", 3));
    int n = 1;
    for (;; n++) {
        calls_left = n;
        int rv = fs_write_file(&failing, path, "new!", 4);
        check_ok(fs_read_file(fs, path, 100, &data, &size));
        check_str(data, n < 5 ? "old" : "new!");
        free(data);
        if (rv == 0) {
            break;
        }
        int names = 0;
        check_ok(fs_list(fs, dir, count_names, &names));
        check_int(names, 1); /* no temporary file is left */
    }
    check_int(n, 6);
}

static void a_file_over_the_limit_is_not_read(void **state)
{
    (void)state;
    const char *path = test_path(dir, "file");
    static char big[200000];
    char *data;
    size_t size;
    memset(big, 'x', sizeof(big));
    check_ok(fs_write_file(fs, path, big, sizeof(big)));
    check_code(fs_read_file(fs, path, sizeof(big) - 1, &data, &size), TSR_ETOOBIG);
    check_ok(fs_read_file(fs, path, sizeof(big), &data, &size));
    check_int(size, sizeof(big));
    check_mem(data, big, size);
    check_int(data[size], 0);
    free(data);
    check_ok(fs_write_file(fs, path, "", 0));
    check_ok(fs_read_file(fs, path, 0, &data, &size));
    check_str(data, "");
    free(data);
    check_code(fs_read_file(fs, test_path(dir, "none"), 1, &data, &size), TSR_ENOENT);
}

static int held_elsewhere(const char *path)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fs_hold(path) == TSR_EEXIST ? 7 : 0);
    }
    check(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void what_one_process_holds_no_other_holds(void **state)
{
    (void)state;
    const char *path = test_path(dir, "lock");
    check_int(held_elsewhere(path), 0); /* it ended: nobody holds it */
    check_ok(fs_hold(path));
    check_int(held_elsewhere(path), 7);
    check_code(fs_hold(test_path(dir, "none/lock")), TSR_ENOENT);
}

#define CASE(name) cmocka_unit_test_setup(name, setup)
TEST_MAIN(CASE(what_is_written_is_read_back), CASE(a_missing_directory_is_told_from_everywhere),
          CASE(directories_are_made_with_their_parents),
          CASE(a_directory_is_listed_until_the_caller_says_stop),
          CASE(a_file_is_written_whole_or_not_at_all), CASE(a_file_over_the_limit_is_not_read),
          CASE(what_one_process_holds_no_other_holds))
