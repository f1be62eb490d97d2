/* Programs with limits: real ones, small. */
#include "test.h"

#include <stdlib.h>
#include <time.h>

#include "tessera/sys/fs.h"
#include "tessera/sys/process.h"

static int run_sh(const char *dir, const char *script, uint64_t timeout_ms, bool (*stop)(void *arg),
                  struct err *err)
{
    const char *argv[] = {"sh", "-c", script, NULL};
    struct process_options o = {.argv = argv,
                                .dir = dir,
                                .memory_max = UINT64_C(512) << 20,
                                .file_max = 1 << 20,
                                .timeout_ms = timeout_ms,
                                .stop = stop};
    return process_run(&o, err);
}

static void it_runs_where_it_shall_and_tells_how_it_ended(void **state)
{
    (void)state;
    struct err err = {0};
    const char *dir = test_dir();
    char *text = NULL;
    size_t size;
    check_ok(run_sh(dir, "echo here >made", 10000, NULL, &err));
    check_ok(fs_read_file(fs_real(), test_path(dir, "made"), 100, &text, &size));
    check_str(text, "here\n");
    free(text);
    check_code(run_sh(dir, "echo no; echo bad things >&2; exit 3", 10000, NULL, &err), TSR_EIO);
    check(strstr(err.msg, "bad things") != NULL);
    check_code(run_sh(dir, "kill -9 $$", 10000, NULL, &err), TSR_EIO);
    const char *argv[] = {"no-such-program-is-there", NULL};
    struct process_options o = {
        .argv = argv, .dir = dir, .memory_max = 1 << 30, .timeout_ms = 1000};
    check_code(process_run(&o, &err), TSR_ENOENT);
}

static void limits_hold(void **state)
{
    (void)state;
    struct err err = {0};
    const char *dir = test_dir();
    check_code(run_sh(dir, "head -c 2000000 /dev/zero >big", 20000, NULL, &err), TSR_EIO);
    struct fs_stat st;
    check_ok(fs_stat(fs_real(), test_path(dir, "big"), &st));
    check_int(st.size, 1 << 20);
    check_code(run_sh(dir, "sleep 60 & wait", 300, NULL, &err), TSR_ETIMEOUT);
    check_ok(
        run_sh(dir, "test \"$(ulimit -c)\" = 0 && test \"$(ulimit -n)\" = 64", 10000, NULL, &err));
    /* nothing is inherited: 0, 1, 2 and what ls opens */
    check_ok(run_sh(dir, "test $(ls /proc/self/fd | wc -l) -le 4", 10000, NULL, &err));
    check_ok(run_sh(dir, "test -z \"$HOME$USER\"", 10000, NULL, &err));
}

static bool stop_now(void *arg)
{
    (void)arg;
    return true;
}

static void it_can_be_stopped_with_all_it_started(void **state)
{
    (void)state;
    struct err err = {0};
    const char *dir = test_dir();
    time_t began = time(NULL);
    check_code(run_sh(dir, "(sleep 50; echo late >late) & sleep 60", 60000, stop_now, &err),
               TSR_ECANCELED);
    check(time(NULL) - began < 20);
    struct fs_stat st;
    check_code(fs_stat(fs_real(), test_path(dir, "late"), &st), TSR_ENOENT);
}

TEST_MAIN(cmocka_unit_test(it_runs_where_it_shall_and_tells_how_it_ended),
          cmocka_unit_test(limits_hold), cmocka_unit_test(it_can_be_stopped_with_all_it_started))
