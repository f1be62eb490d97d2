/* Which hosts hold an image: the pure choice, and the table that workers read. */
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tessera/cluster.h"

static struct placement_host host(uint64_t id, const char *zone, bool up)
{
    struct placement_host h = {.id = id, .up = up, .image_role = true, .weight = 100};
    h.available_bytes = INT64_C(100) << 30;
    h.total_bytes = INT64_C(200) << 30;
    (void)snprintf(h.zone, sizeof(h.zone), "%s", zone);
    return h;
}

static bool has(const uint64_t *ids, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static void the_receiving_host_comes_first(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", true), host(2, "", true), host(3, "", true),
                                     host(4, "", true)};
    uint64_t out[4];
    for (uint64_t self = 1; self <= 4; self++) {
        assert_int_equal(placement_choose(hosts, 4, "image-a", 1000, self, 3, out), 3);
        assert_int_equal(out[0], self);
    }
}

static void hosts_that_are_down_full_or_witnesses_are_left_out(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", false), host(2, "", true), host(3, "", true),
                                     host(4, "", true)};
    uint64_t out[4];
    hosts[1].available_bytes = 1000;
    hosts[2].image_role = false;
    assert_int_equal(placement_choose(hosts, 4, "i", INT64_C(1) << 30, 1, 3, out), 1);
    assert_int_equal(out[0], 4);
    hosts[3].weight = 0;
    assert_int_equal(placement_choose(hosts, 4, "i", INT64_C(1) << 30, 1, 3, out), 0);
}

static void replicas_are_spread_over_zones(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "a", true), host(2, "a", true), host(3, "a", true),
                                     host(4, "b", true), host(5, "b", true), host(6, "c", true)};
    for (int i = 0; i < 200; i++) {
        char image[32];
        uint64_t out[3];
        (void)snprintf(image, sizeof(image), "image-%d", i);
        assert_int_equal(placement_choose(hosts, 6, image, 1, 1, 3, out), 3);
        assert_true(has(out, 3, 1) && has(out, 3, 6));
        assert_true(has(out, 3, 4) || has(out, 3, 5));
    }
}

static void a_host_with_more_room_gets_more(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", true), host(2, "", true)};
    hosts[0].available_bytes = INT64_C(20) << 30;
    hosts[1].available_bytes = INT64_C(180) << 30;
    int second = 0;
    for (int i = 0; i < 1000; i++) {
        char image[32];
        uint64_t out[1];
        (void)snprintf(image, sizeof(image), "image-%d", i);
        assert_int_equal(placement_choose(hosts, 2, image, 1, 0, 1, out), 1);
        second += out[0] == 2;
    }
    assert_in_range(second, 780, 950);
}

static void the_choice_is_repeatable_and_stable_when_a_host_is_added(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", true), host(2, "", true), host(3, "", true),
                                     host(4, "", true)};
    int moved = 0;
    for (int i = 0; i < 400; i++) {
        char image[32];
        uint64_t a[1], b[1], again[1];
        (void)snprintf(image, sizeof(image), "image-%d", i);
        placement_choose(hosts, 3, image, 1, 0, 1, a);
        placement_choose(hosts, 3, image, 1, 0, 1, again);
        placement_choose(hosts, 4, image, 1, 0, 1, b);
        assert_int_equal(a[0], again[0]);
        if (a[0] != b[0]) {
            assert_int_equal(b[0], 4);
            moved++;
        }
    }
    assert_in_range(moved, 60, 140); /* about a quarter */
}

static void repair_keeps_holders_and_adds_what_lacks(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", true), host(2, "", false), host(3, "", true),
                                     host(4, "", true)};
    uint64_t have[] = {2, 1}, out[4];
    size_t n = placement_repair(hosts, 4, "i", 1, have, 2, 3, out, 4);
    assert_int_equal(n, 3);
    assert_true(out[0] == 2 && out[1] == 1); /* a holder that is down stays one */
    assert_true(out[2] == 3 || out[2] == 4);
}

static void repair_drops_hosts_that_left_and_counts_on_those_that_are_away(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", true), host(2, "", false), host(3, "", true)};
    uint64_t have[] = {1, 9}, out[4];
    size_t n = placement_repair(hosts, 3, "i", 1, have, 2, 3, out, 4);
    assert_int_equal(n, 3);
    assert_true(!has(out, n, 9) && has(out, n, 2) && has(out, n, 3));
    assert_int_equal(out[1], 3); /* the one that is up goes before the one that is away */
}

static void replicas_of_a_lost_host_are_made_elsewhere(void **state)
{
    (void)state;
    struct placement_host hosts[] = {host(1, "", true), host(2, "", false), host(3, "", true),
                                     host(4, "", true)};
    uint64_t have[] = {1, 2, 3}, out[REPLICA_HOSTS_MAX];
    assert_int_equal(placement_repair(hosts, 4, "i", 1, have, 3, 3, out, REPLICA_HOSTS_MAX), 3);
    hosts[1].lost = true;
    size_t n = placement_repair(hosts, 4, "i", 1, have, 3, 3, out, REPLICA_HOSTS_MAX);
    assert_int_equal(n, 4); /* the lost one stays listed: it may come back with its replica */
    assert_true(has(out, n, 2) && has(out, n, 4));
    n = placement_repair(hosts, 3, "i", 1, have, 3, 3, out, REPLICA_HOSTS_MAX);
    assert_int_equal(n, 3); /* nobody else is there */
}

static void readers_are_ordered_self_zone_up(void **state)
{
    (void)state;
    struct cluster_load *load = cluster_load_new();
    struct placement_host hosts[] = {host(1, "a", true), host(2, "b", true), host(3, "a", false),
                                     host(4, "a", true)};
    uint64_t ids[] = {3, 2, 4, 1};
    cluster_load_set(load, hosts, 4);
    cluster_read_order(load, 1, "a", ids, 4);
    assert_true(ids[0] == 1 && ids[1] == 4 && ids[2] == 2 && ids[3] == 3);
    cluster_load_free(load);
}

struct racer {
    struct cluster_load *load;
    atomic_bool stop;
};

static void *write_all_the_time(void *arg)
{
    struct racer *r = arg;
    for (int64_t i = 1; !atomic_load(&r->stop); i++) {
        struct placement_host hosts[3] = {host(1, "", true), host(2, "", true), host(3, "", true)};
        for (int h = 0; h < 3; h++) {
            hosts[h].available_bytes = i;
        }
        cluster_load_set(r->load, hosts, 3);
    }
    return NULL;
}

static void a_reader_never_sees_a_half_written_table(void **state)
{
    (void)state;
    struct racer r = {.load = cluster_load_new()};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_all_the_time, &r), 0);
    for (int i = 0; i < 20000; i++) {
        struct placement_host out[CLUSTER_HOSTS_MAX];
        size_t n = cluster_load_get(r.load, out);
        for (size_t h = 1; h < n; h++) {
            assert_int_equal(out[h].available_bytes, out[0].available_bytes);
        }
    }
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    cluster_load_free(r.load);
}

static void a_join_token_is_read_back_or_refused(void **state)
{
    (void)state;
    struct join_token t;
    static const char *const bad[] = {"", "x", "!!!!", "e30", "eyJhZGRyZXNzIjoiaHR0cHM6Ly9hIn0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(join_token_parse(bad[i], &t), TSR_EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_receiving_host_comes_first),
        cmocka_unit_test(hosts_that_are_down_full_or_witnesses_are_left_out),
        cmocka_unit_test(replicas_are_spread_over_zones),
        cmocka_unit_test(a_host_with_more_room_gets_more),
        cmocka_unit_test(the_choice_is_repeatable_and_stable_when_a_host_is_added),
        cmocka_unit_test(repair_keeps_holders_and_adds_what_lacks),
        cmocka_unit_test(repair_drops_hosts_that_left_and_counts_on_those_that_are_away),
        cmocka_unit_test(replicas_of_a_lost_host_are_made_elsewhere),
        cmocka_unit_test(readers_are_ordered_self_zone_up),
        cmocka_unit_test(a_reader_never_sees_a_half_written_table),
        cmocka_unit_test(a_join_token_is_read_back_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
