#include "test.h"

#include <string.h>

#include "replica/check_set.h"

static struct chunk_id id_of(unsigned n)
{
    struct chunk_id id = {{0}};
    memcpy(id.bytes, &n, sizeof n);
    return id;
}

static unsigned next(struct check_set *s, uint64_t now)
{
    struct chunk_id id;
    unsigned n = 0;
    if (check_set_next(s, now, &id)) {
        memcpy(&n, id.bytes, sizeof n);
    }
    return n;
}

static void each_is_given_once_and_in_its_time(void **state)
{
    (void)state;
    struct check_set s;
    struct chunk_id id;
    check_set_init(&s);
    check(!check_set_has_due(&s, 1000));
    for (unsigned n = 1; n <= 3; n++) {
        id = id_of(n);
        check_ok(check_set_add(&s, &id));
        check_ok(check_set_add(&s, &id));
        check_ok(check_set_add_later(&s, &id, 5000)); /* is in the set */
    }
    for (unsigned n = 4; n <= 5; n++) {
        id = id_of(n);
        check_ok(check_set_add_later(&s, &id, 1000 + n));
    }
    check_int(next(&s, 0), 1);
    check_int(next(&s, 0), 2);
    check_int(next(&s, 0), 3);
    check(!check_set_has_due(&s, 1003));
    check_int(next(&s, 1003), 0);
    check_int(next(&s, 1004), 4);
    check_int(next(&s, 1004), 0);
    id = id_of(5);
    check_ok(check_set_add(&s, &id)); /* now, after all */
    check_int(next(&s, 0), 5);
    check_int(next(&s, UINT64_MAX), 0);
    check_ok(check_set_add(&s, &id));
    check_ok(check_set_add_later(&s, &(struct chunk_id){{9}}, 7));
    check_set_free(&s);
}

TEST_MAIN(cmocka_unit_test(each_is_given_once_and_in_its_time))
