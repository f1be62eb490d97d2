#include "test.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "tessera/sys/loop.h"

void test_check_int(int64_t a, int64_t b, const char *a_text, const char *b_text, const char *file,
                    int line)
{
    if (a != b) {
        print_error("%s is %lld, %s is %lld\n", a_text, (long long)a, b_text, (long long)b);
        _fail(file, line);
    }
}

void test_check_code(int got, int want, const char *text, const char *file, int line)
{
    if (got != want) {
        print_error("%s gave %d (%s), not %d (%s)\n", text, got, err_name(got), want,
                    err_name(want));
        _fail(file, line);
    }
}

void test_check_str(const char *a, const char *b, const char *text, const char *file, int line)
{
    if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0)) {
        return;
    }
    print_error("%s is \"%s\", not \"%s\"\n", text, a == NULL ? "(NULL)" : a,
                b == NULL ? "(NULL)" : b);
    _fail(file, line);
}

void test_check(bool ok, const char *text, const char *file, int line)
{
    if (!ok) {
        print_error("not so: %s\n", text);
        _fail(file, line);
    }
}

/* --- directories ---------------------------------------------------------------------------- */

enum { DIRS_MAX = 64, DIR_TEXT = 256, PATHS_MAX = 16 };

static char dirs[DIRS_MAX][DIR_TEXT];
static unsigned dir_count;
static pid_t dir_owner;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void remove_dirs(void)
{
    if (getpid() != dir_owner) {
        return; /* a forked child must not take its parent's files away */
    }
    for (unsigned i = 0; i < dir_count; i++) {
        (void)nftw(dirs[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}

const char *test_dir(void)
{
    const char *base = getenv("TMPDIR");
    tsr_assert(dir_count < DIRS_MAX);
    if (dir_count == 0) {
        dir_owner = getpid();
        atexit(remove_dirs);
    }
    char *dir = dirs[dir_count];
    int n = snprintf(dir, DIR_TEXT, "%s/tessera-test-XXXXXX", base == NULL ? "/tmp" : base);
    tsr_assert(n > 0 && n < DIR_TEXT);
    tsr_assert(mkdtemp(dir) != NULL);
    dir_count++;
    return dir;
}

const char *test_path(const char *dir, const char *name)
{
    static char paths[PATHS_MAX][DIR_TEXT * 2];
    static unsigned next;
    char *path = paths[next++ % PATHS_MAX];
    int n = snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
    tsr_assert(n > 0 && (size_t)n < sizeof(paths[0]));
    return path;
}

/* --- loops ---------------------------------------------------------------------------------- */

static void on_deadline(struct timer *timer)
{
    (void)timer; /* it only has to wake the loop */
}

void test_run_while(struct loop *loop, bool (*busy)(void *arg), void *arg, uint64_t deadline_ms)
{
    struct timer deadline;
    timer_init(&deadline, loop, on_deadline);
    timer_start(&deadline, deadline_ms);
    while (busy(arg) && timer_running(&deadline)) {
        (void)uv_run(uv_loop_native(loop), UV_RUN_ONCE);
    }
    timer_stop(&deadline);
    if (busy(arg)) {
        fail_msg("nothing happened within %llu ms", (unsigned long long)deadline_ms);
    }
}

static bool not_done(void *arg)
{
    return !**(const bool *const *)arg;
}

void test_run_until(struct loop *loop, const bool *done, uint64_t deadline_ms)
{
    test_run_while(loop, not_done, &done, deadline_ms);
}
