/* What every test program uses: cmocka with checks that show both values, a temporary directory,
 * and a loop that runs until something has happened. */
#ifndef TEST_LIB_TEST_H
#define TEST_LIB_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

struct loop;

/* A whole program: TEST_MAIN(cmocka_unit_test(a_sentence), ...) */
#define TEST_MAIN(...)                                    \
    int main(void)                                        \
    {                                                     \
        const struct CMUnitTest tests[] = {__VA_ARGS__};  \
        return cmocka_run_group_tests(tests, NULL, NULL); \
    }

/* Signed numbers: both are printed in decimal. */
#define check_int(a, b) test_check_int((int64_t)(a), (int64_t)(b), #a, #b, __FILE__, __LINE__)
/* A result code, printed by name. */
#define check_code(expr, code) test_check_code((expr), (code), #expr, __FILE__, __LINE__)
#define check_ok(expr) check_code(expr, 0)
#define check_str(a, b) test_check_str((a), (b), #a, __FILE__, __LINE__)
#define check_mem(a, b, size) assert_memory_equal(a, b, size)
#define check(expr) test_check((expr), #expr, __FILE__, __LINE__)

void test_check_int(int64_t a, int64_t b, const char *a_text, const char *b_text, const char *file,
                    int line);
void test_check_code(int got, int want, const char *text, const char *file, int line);
/* NULL equals NULL only. */
void test_check_str(const char *a, const char *b, const char *text, const char *file, int line);
void test_check(bool ok, const char *text, const char *file, int line);

/* A new empty directory, removed with all its content when the program ends. The text stays valid.
 */
const char *test_dir(void);
/* "<dir>/<name>" of such a directory; valid until the 16th next call. */
const char *test_path(const char *dir, const char *name);

/* Run @loop (uv_loop_create; not running elsewhere) on this thread until *done, which only its
 * callbacks set; fails the test after @deadline_ms. */
void test_run_until(struct loop *loop, const bool *done, uint64_t deadline_ms);
/* The same for a condition. */
void test_run_while(struct loop *loop, bool (*busy)(void *arg), void *arg, uint64_t deadline_ms);

#endif
