/* Who votes: the pure decision, one step at a time, until nothing is left to do. */
#include "test.h"

#include "cluster/voters.h"

static struct voters_member member(uint64_t id, enum consensus_role role)
{
    return (struct voters_member){.id = id,
                                  .role = role,
                                  .self = id == 1,
                                  .recorded = true,
                                  .image = true,
                                  .fresh = true,
                                  .likely = true};
}

/* Takes all steps, as the leader would; returns how many. */
static unsigned settle(struct voters_member *m, size_t *count, unsigned hosts)
{
    for (unsigned steps = 0; steps < 100; steps++) {
        struct voters_change change = voters_next(m, *count, hosts);
        if (change.step == VOTERS_NOTHING) {
            return steps;
        }
        size_t i = 0;
        while (i < *count && m[i].id != change.id) {
            i++;
        }
        assert_true(i < *count);
        assert_false(m[i].self);
        if (change.step == VOTERS_REMOVE) {
            m[i] = m[--*count];
        } else {
            m[i].role = change.step == VOTERS_PROMOTE ? CONSENSUS_VOTER : CONSENSUS_STANDBY;
        }
    }
    fail_msg("the steps do not end");
    return 0;
}

static unsigned voters(const struct voters_member *m, size_t count)
{
    unsigned n = 0;
    for (size_t i = 0; i < count; i++) {
        n += m[i].role == CONSENSUS_VOTER;
    }
    return n;
}

static void an_odd_number_votes_five_at_most(void **state)
{
    (void)state;
    static const unsigned wanted[] = {0, 1, 2, 3, 3, 5, 5, 5, 5, 5};
    for (unsigned hosts = 1; hosts < 10; hosts++) {
        struct voters_member m[10];
        size_t count = hosts;
        for (unsigned i = 0; i < hosts; i++) {
            m[i] = member(i + 1, i == 0 ? CONSENSUS_VOTER : CONSENSUS_STANDBY);
        }
        assert_int_equal(settle(m, &count, hosts), wanted[hosts] - 1);
        assert_int_equal(voters(m, count), wanted[hosts]);
    }
}

static void image_hosts_vote_before_witnesses(void **state)
{
    (void)state;
    struct voters_member m[4] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_STANDBY),
                                 member(3, CONSENSUS_STANDBY), member(4, CONSENSUS_STANDBY)};
    size_t count = 4;
    m[1].image = false;
    settle(m, &count, 4);
    assert_int_equal(m[1].role, CONSENSUS_STANDBY);
    assert_int_equal(voters(m, count), 3);
    /* Two image hosts and a witness: all three. */
    struct voters_member small[3] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_STANDBY),
                                     member(3, CONSENSUS_STANDBY)};
    count = 3;
    small[2].image = false;
    settle(small, &count, 3);
    assert_int_equal(voters(small, count), 3);
}

static void a_host_that_is_not_recorded_goes_first(void **state)
{
    (void)state;
    struct voters_member m[3] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_STANDBY),
                                 member(3, CONSENSUS_VOTER)};
    m[2].recorded = false;
    struct voters_change change = voters_next(m, 3, 2);
    assert_int_equal(change.step, VOTERS_REMOVE);
    assert_int_equal(change.id, 3);
    /* Never the leader itself: it hands over first. */
    m[2].recorded = true;
    m[0].recorded = false;
    assert_int_not_equal(voters_next(m, 3, 2).id, 1);
}

static void a_silent_standby_is_not_promoted(void **state)
{
    (void)state;
    struct voters_member m[3] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_VOTER),
                                 member(3, CONSENSUS_STANDBY)};
    m[2].fresh = false;
    assert_int_equal(voters_next(m, 3, 3).step, VOTERS_NOTHING);
}

static void a_lost_voter_is_replaced_by_a_standby_that_answers(void **state)
{
    (void)state;
    struct voters_member m[4] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_VOTER),
                                 member(3, CONSENSUS_VOTER), member(4, CONSENSUS_STANDBY)};
    size_t count = 4;
    m[1].fresh = false; /* silent, but not for long */
    assert_int_equal(voters_next(m, 4, 4).step, VOTERS_NOTHING);
    m[1].lost = true;
    assert_int_equal(settle(m, &count, 4), 2);
    assert_int_equal(m[1].role, CONSENSUS_STANDBY);
    assert_int_equal(m[3].role, CONSENSUS_VOTER);
    /* It comes back: nothing more changes. */
    m[1].fresh = true;
    m[1].lost = false;
    assert_int_equal(settle(m, &count, 4), 0);
    /* Without a standby that answers the lost one stays a voter. */
    m[3].lost = true;
    m[3].fresh = m[1].fresh = false;
    assert_int_equal(voters_next(m, 4, 4).step, VOTERS_NOTHING);
}

static void of_too_many_voters_the_useless_ones_go(void **state)
{
    (void)state;
    struct voters_member m[4] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_VOTER),
                                 member(3, CONSENSUS_VOTER), member(4, CONSENSUS_VOTER)};
    m[1].image = false;
    assert_int_equal(voters_next(m, 4, 4).id, 2);
    m[2].fresh = false;
    assert_int_equal(voters_next(m, 4, 4).id, 3);
    m[3].fresh = false;
    m[3].lost = true;
    assert_int_equal(voters_next(m, 4, 4).id, 4);
}

static void a_removal_leaves_a_majority(void **state)
{
    (void)state;
    struct voters_member m[3] = {member(1, CONSENSUS_VOTER), member(2, CONSENSUS_VOTER),
                                 member(3, CONSENSUS_VOTER)};
    assert_true(voters_majority_without(m, 3, 2));
    m[2].fresh = m[2].likely = false;
    assert_false(voters_majority_without(m, 3, 2));
    assert_true(voters_majority_without(m, 3, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_odd_number_votes_five_at_most),
        cmocka_unit_test(image_hosts_vote_before_witnesses),
        cmocka_unit_test(a_host_that_is_not_recorded_goes_first),
        cmocka_unit_test(a_silent_standby_is_not_promoted),
        cmocka_unit_test(a_lost_voter_is_replaced_by_a_standby_that_answers),
        cmocka_unit_test(of_too_many_voters_the_useless_ones_go),
        cmocka_unit_test(a_removal_leaves_a_majority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
