/* How long staged data waits, by a monotonic clock. */
#include "cluster/staged.h"
#include "test.h"

enum { LIFE = 1000 };
static struct staged_ages s;

static bool look(const char *image, int64_t at, uint64_t now)
{
    staged_ages_begin(&s);
    bool due = image != NULL && staged_ages_due(&s, image, at, now, LIFE);
    staged_ages_end(&s);
    return due;
}

static void it_is_due_a_life_after_it_was_seen_first(void **state)
{
    (void)state;
    staged_ages_init(&s);
    check(!look("a", 5, 100000)); /* however long ago the record says that it was staged */
    check(!look("a", 5, 100000 + LIFE - 1));
    check(look("a", 5, 100000 + LIFE));
    check(look("a", 5, 100000 + 2 * LIFE)); /* until it is gone */
    staged_ages_free(&s);
    check(!look("a", 5, 100000 + 3 * LIFE)); /* a new leader */
    staged_ages_free(&s);
}

static void what_is_staged_again_begins_again(void **state)
{
    (void)state;
    staged_ages_init(&s);
    check(!look("a", 5, 0));
    check(!look("a", 6, LIFE));
    check(!look("a", 6, 2 * LIFE - 1));
    check(look("a", 6, 2 * LIFE));
    check(!look(NULL, 0, 2 * LIFE)); /* it was imported: forgotten */
    check(!look("a", 6, 2 * LIFE));
    check_int(s.by_image.count, 1);
    staged_ages_free(&s);
    check_int(s.by_image.count, 0);
}

TEST_MAIN(cmocka_unit_test(it_is_due_a_life_after_it_was_seen_first),
          cmocka_unit_test(what_is_staged_again_begins_again))
