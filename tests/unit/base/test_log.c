#include "test.h"

#include <stdlib.h>

#include "tessera/base/log.h"

static char last[8192];
static int lines;

static void keep(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    snprintf(last, sizeof(last), "%s", line);
    lines++;
}

static int64_t new_year(void *arg)
{
    (void)arg;
    return INT64_C(1767225600001999);
}

static void a_line_has_time_level_module_host_and_message(void **state)
{
    (void)state;
    log_set_sink(keep, NULL);
    log_set_clock(new_year, NULL);
    log_set_host("h1");
    log_info("image", "stored id=%d", 7);
    check_str(last, "2026-01-01T00:00:00.001Z INFO image host=h1 stored id=7");
    log_set_host(NULL);
    log_error("image", "x");
    check_str(last, "2026-01-01T00:00:00.001Z ERROR image x");
}

static void a_message_cannot_forge_a_line(void **state)
{
    (void)state;
    log_warn("m", "a\nb\x1b[1m\tc");
    check_str(strstr(last, "WARN"), "WARN m a\\nb\\x1b[1m\\tc");
    char *big = malloc(10000);
    memset(big, '\n', 9999);
    big[9999] = 0;
    log_warn("m", "%s", big);
    check(strchr(last, '\n') == NULL);
    free(big);
}

static void lines_below_the_level_are_dropped(void **state)
{
    (void)state;
    int before = lines;
    log_debug("m", "no");
    check_int(lines, before);
    log_set_level(LOG_DEBUG);
    log_debug("m", "yes");
    check_int(lines, before + 1);
    log_set_level(LOG_INFO);
}

static void a_file_is_appended_to_and_can_be_opened_anew(void **state)
{
    (void)state;
    const char *dir = test_dir(), *path = test_path(dir, "log"), *moved = test_path(dir, "log.1");
    log_set_sink(NULL, NULL);
    check_ok(log_open(path));
    log_info("m", "one");
    check_int(rename(path, moved), 0);
    log_info("m", "two");
    check_ok(log_open(path));
    log_info("m", "three");
    check_code(log_open(test_path(dir, "none/log")), TSR_ENOENT);
    log_info("m", "four");
    check_ok(log_open(NULL));
    char text[512] = "";
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    check_str(text,
              "2026-01-01T00:00:00.001Z INFO m three\n2026-01-01T00:00:00.001Z INFO m four\n");
    f = fopen(moved, "r");
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    check_str(text, "2026-01-01T00:00:00.001Z INFO m one\n2026-01-01T00:00:00.001Z INFO m two\n");
}

TEST_MAIN(cmocka_unit_test(a_line_has_time_level_module_host_and_message),
          cmocka_unit_test(a_message_cannot_forge_a_line),
          cmocka_unit_test(lines_below_the_level_are_dropped),
          cmocka_unit_test(a_file_is_appended_to_and_can_be_opened_anew))
