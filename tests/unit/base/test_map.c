#include "test.h"

#include "tessera/base/map.h"

static void entries_are_found_replaced_and_removed(void **state)
{
    (void)state;
    struct map m = {0};
    int a, b;
    check(map_get(&m, "k", 1) == NULL);
    check(map_del(&m, "k", 1) == NULL);
    check_ok(map_put(&m, "k", 1, &a));
    check_ok(map_put(&m, "", 0, &b));
    check(map_get(&m, "k", 1) == &a);
    check(map_get(&m, "", 0) == &b);
    check_ok(map_put(&m, "k", 1, &b));
    check_int(m.count, 2);
    check(map_del(&m, "k", 1) == &b);
    check(map_get(&m, "k", 1) == NULL);
    check_int(m.count, 1);
    map_free(&m);
}

static void random_changes_agree_with_a_plain_array(void **state)
{
    (void)state;
    enum { KEYS = 500 };
    static int values[KEYS];
    static void *model[KEYS];
    struct map m;
    map_init(&m);
    uint32_t seed = 1;
    size_t count = 0;
    for (int i = 0; i < 200000; i++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t key = (seed >> 8) % KEYS;
        if (seed >> 31 != 0) {
            check_ok(map_put(&m, &key, sizeof(key), &values[key]));
            count += model[key] == NULL;
            model[key] = &values[key];
        } else {
            check(map_del(&m, &key, sizeof(key)) == model[key]);
            count -= model[key] != NULL;
            model[key] = NULL;
        }
    }
    check_int(m.count, count);
    check(m.capacity <= 4096); /* tombstones do not make it grow */
    for (uint32_t key = 0; key < KEYS; key++) {
        check(map_get(&m, &key, sizeof(key)) == model[key]);
    }
    map_free(&m);
}

static void the_current_entry_may_be_deleted_while_iterating(void **state)
{
    (void)state;
    struct map m = {0};
    int value;
    for (int i = 0; i < 100; i++) {
        check_ok(map_put(&m, &i, sizeof(i), &value));
    }
    size_t at = 0, size;
    const void *key;
    void *found;
    int seen = 0;
    while (map_next(&m, &at, &key, &size, &found)) {
        int copy;
        check_int(size, sizeof(copy));
        memcpy(&copy, key, sizeof(copy));
        check(map_del(&m, &copy, sizeof(copy)) == &value);
        seen++;
    }
    check_int(seen, 100);
    check_int(m.count, 0);
    map_free(&m);
}

TEST_MAIN(cmocka_unit_test(entries_are_found_replaced_and_removed),
          cmocka_unit_test(random_changes_agree_with_a_plain_array),
          cmocka_unit_test(the_current_entry_may_be_deleted_while_iterating))
