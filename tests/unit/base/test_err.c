#include "test.h"

#include <errno.h>

static void each_code_has_a_name_a_text_and_a_status(void **state)
{
    (void)state;
    check_str(err_name(TSR_EINVAL), "TSR_EINVAL");
    check_str(err_text(TSR_ENOENT), "not found");
    check_int(err_http_status(TSR_ENOSPC), 413);
    check_int(err_http_status(-9999), 500);
    check_str(err_text(-9999), "unknown error");
    check(err_may_retry(TSR_EBUSY));
    check(!err_may_retry(TSR_EINVAL));
}

static void numbers_of_the_system_become_ours(void **state)
{
    (void)state;
    check_code(err_from_errno(EDQUOT), TSR_ENOSPC);
    check_code(err_from_errno(EPERM), TSR_EFORBIDDEN);
    check_code(err_from_errno(ENFILE), TSR_EBUSY);
    check_code(err_from_errno(EPIPE), TSR_ECONNECT);
    check_code(err_from_errno(EADDRINUSE), TSR_EEXIST);
    check_code(err_from_errno(ELOOP), TSR_EIO);
    check_code(err_from_errno(0), 0);
}

static void a_prefix_is_put_in_front_and_long_text_is_cut(void **state)
{
    (void)state;
    struct err err = {0};
    check_code(err_set(&err, TSR_EINVAL, "bad %s", "name"), TSR_EINVAL);
    check_code(err_wrap(&err, TSR_EIO, "image"), TSR_EINVAL);
    check_str(err.msg, "image: bad name");
    for (int i = 0; i < 100; i++) {
        err_wrap(&err, TSR_EIO, "much");
    }
    check_int(strlen(err.msg), ERR_MSG_SIZE - 1);
    check_code(err_set(NULL, TSR_EIO, "x"), TSR_EIO);
    check_code(err_wrap(NULL, TSR_EIO, "x"), TSR_EIO);
    struct err silent = {0};
    check_code(err_wrap(&silent, TSR_EIO, "disk"), TSR_EIO);
    check_str(silent.msg, "disk: input/output error");
}

TEST_MAIN(cmocka_unit_test(each_code_has_a_name_a_text_and_a_status),
          cmocka_unit_test(numbers_of_the_system_become_ours),
          cmocka_unit_test(a_prefix_is_put_in_front_and_long_text_is_cut))
