/* Membership while things break (F44), clusters that split in halves (F28), transfers that are
 * interrupted (F47): whole hosts in the simulator. */
#include "cluster.h"

static struct cluster *formed(uint64_t seed, unsigned hosts, unsigned voters)
{
    struct cluster *w = cluster_new(seed, hosts);
    cluster_form(w, voters);
    return w;
}

static unsigned other(struct cluster *w, unsigned than, unsigned nor)
{
    for (unsigned i = 1; i <= w->host_count; i++) {
        if (i != than && i != nor && w->hosts[i].c) {
            return i;
        }
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct consensus_member *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The members as host @n has them, in order of id. */
static void members_of(struct cluster *w, unsigned n, struct consensus_status *out)
{
    consensus_status(w->hosts[n].c, out);
    qsort(out->members, out->member_count, sizeof(out->members[0]), compare);
}

/* Every member that runs has the same membership. */
static bool same_members(struct cluster *w)
{
    struct consensus_status *a = malloc(sizeof *a), *b = malloc(sizeof *b);
    bool same = true;
    struct host *leader = cluster_leader(w);
    assert_non_null(a);
    assert_non_null(b);
    if (leader) {
        members_of(w, leader->n, a);
    }
    for (unsigned m = 0; leader && same && m < a->member_count; m++) {
        struct host *h = host_by_id(w, a->members[m].id);
        if (!h || !h->c) {
            continue;
        }
        members_of(w, h->n, b);
        same = a->member_count == b->member_count;
        for (unsigned i = 0; same && i < a->member_count; i++) {
            same = a->members[i].id == b->members[i].id && a->members[i].role == b->members[i].role;
        }
    }
    free(a);
    free(b);
    return leader && same;
}

static unsigned voters_of(struct cluster *w, unsigned n)
{
    struct consensus_status *st = malloc(sizeof *st);
    assert_non_null(st);
    consensus_status(w->hosts[n].c, st);
    unsigned voters = 0;
    for (unsigned i = 0; i < st->member_count; i++) {
        voters += st->members[i].role == CONSENSUS_VOTER;
    }
    free(st);
    return voters;
}

static uint64_t term_of(struct cluster *w, unsigned n)
{
    struct consensus_status *st = malloc(sizeof *st);
    assert_non_null(st);
    consensus_status(w->hosts[n].c, st);
    uint64_t term = st->term;
    free(st);
    return term;
}

/* Everybody goes on: changes commit, nothing acknowledged is gone, one membership. */
static void goes_on(struct cluster *w)
{
    check(cluster_wait(w, has_leader, 5000));
    struct request *r = submit(w, cluster_leader(w)->n);
    check(cluster_wait(w, all_ended, 15000));
    check_int(r->status, 0);
    check(cluster_wait(w, all_equal, 15000));
    check(cluster_wait(w, same_members, 10000));
    check_acked(w);
}

enum what { ADD, PROMOTE, REMOVE };

/* Four hosts run, three vote; one change begins and @after_ms later the leader is @cut off, or
 * crashes. Whether the change happened or not, it can be asked for again, and then it has. */
static void change_is_broken(uint64_t seed, enum what what, unsigned after_ms, bool cut)
{
    struct cluster *w = formed(seed, 4, 3);
    host_start(w, 4);
    if (what == PROMOTE) {
        check(cluster_add(w, 4));
    }
    for (unsigned i = 0; i < 30; i++) {
        submit(w, 1 + i % 3);
    }
    check(cluster_wait(w, has_leader, 3000));
    unsigned leader = cluster_leader(w)->n, gone = other(w, leader, 4);
    struct host *h = &w->hosts[what == REMOVE ? gone : 4], *l = &w->hosts[leader];
    w->change_done = false;
    check_ok(what == ADD       ? consensus_member_add(l->c, h->id, h->address, on_change, w)
             : what == PROMOTE ? consensus_member_role(l->c, h->id, CONSENSUS_VOTER, on_change, w)
                               : consensus_member_remove(l->c, h->id, on_change, w));
    sim_run_for(w->sim, after_ms);
    if (cut) {
        net_isolate(w, leader, true);
    } else {
        host_crash(w, leader, SIM_FS_RANDOM);
    }
    sim_run_for(w->sim, 3000);
    if (cut) {
        net_isolate(w, leader, false);
    } else {
        host_start(w, leader);
    }
    goes_on(w);
    while (cluster_leader(w) == h) { /* it leads by now: it hands over */
        w->change_done = false;
        check_ok(consensus_transfer(h->c, 0, on_change, w));
        check(cluster_wait(w, change_ended, 3000));
        goes_on(w);
    }
    check(what == ADD       ? cluster_add(w, 4)
          : what == PROMOTE ? cluster_promote(w, 4)
                            : cluster_remove(w, gone));
    goes_on(w);
    check_int(voters_of(w, cluster_leader(w)->n), what == ADD ? 3 : what == PROMOTE ? 4 : 2);
    cluster_free(w);
}

static void a_change_survives_the_loss_of_its_leader_at_any_time(void **state)
{
    (void)state;
    static const unsigned after_ms[] = {0, 1, 2, 3, 5, 8, 13, 30, 60};
    uint64_t seed = 500;
    for (unsigned i = 0; i < sizeof after_ms / sizeof after_ms[0]; i++) {
        for (enum what what = ADD; what <= REMOVE; what++) {
            change_is_broken(seed++, what, after_ms[i], false);
            change_is_broken(seed++, what, after_ms[i], true);
        }
    }
}

static void two_adds_at_once_are_one_after_the_other(void **state)
{
    (void)state;
    struct cluster *w = formed(600, 5, 3);
    host_start(w, 4);
    host_start(w, 5);
    struct host *l = cluster_leader(w);
    w->change_done = false;
    check_ok(consensus_member_add(l->c, w->hosts[4].id, w->hosts[4].address, on_change, w));
    check_code(consensus_member_add(l->c, w->hosts[5].id, w->hosts[5].address, on_change, w),
               TSR_EBUSY);
    check(cluster_wait(w, change_ended, 5000));
    check_ok(w->change_status);
    check(cluster_add(w, 5));
    check(cluster_promote(w, 4));
    check(cluster_promote(w, 5));
    goes_on(w);
    check_int(voters_of(w, l->n), 5);
    cluster_free(w);
}

/* The leader leaves: it can not remove itself, hands over, and is removed by the next one. Then it
 * neither disturbs (its term stays out), nor has its commands taken. */
static void a_leader_that_leaves_hands_over_and_stays_out(void **state)
{
    (void)state;
    struct cluster *w = formed(610, 3, 3);
    unsigned old = cluster_leader(w)->n;
    check_code(consensus_member_remove(w->hosts[old].c, w->hosts[old].id, on_change, w),
               TSR_ECONFLICT);
    w->change_done = false;
    check_ok(consensus_transfer(w->hosts[old].c, 0, on_change, w));
    check(cluster_wait(w, change_ended, 3000));
    check_ok(w->change_status);
    check(cluster_wait(w, has_leader, 3000));
    check(cluster_leader(w)->n != old);
    check(cluster_remove(w, old));
    goes_on(w);
    unsigned leader = cluster_leader(w)->n;
    uint64_t term = term_of(w, leader);
    unsigned acked = w->acked;
    struct request *outside = submit_as(w, old, 999999, "outside", 3000);
    sim_run_for(w->sim, 6000);
    check(outside->status != 0);
    check_int(w->acked, acked);
    check_int(term_of(w, leader), term);
    host_crash(w, old, SIM_FS_KILL);
    host_start(w, old); /* with its old disk */
    sim_run_for(w->sim, 6000);
    check_int(term_of(w, leader), term);
    goes_on(w);
    cluster_free(w);
}

/* F28: no side of a cluster that is cut in halves commits or reads; it heals by itself. */
static void halves_do_nothing_and_heal(void **state)
{
    (void)state;
    for (unsigned size = 2; size <= 4; size += 2) {
        struct cluster *w = formed(620 + size, size, size);
        for (unsigned a = 1; a <= size / 2; a++) {
            for (unsigned b = size / 2 + 1; b <= size; b++) {
                net_cut(w, a, b, true);
                net_cut(w, b, a, true);
            }
        }
        sim_run_for(w->sim, 1500); /* the leader's check of its majority */
        unsigned acked = w->acked;
        for (unsigned n = 1; n <= size; n++) {
            struct request *change = submit_as(w, n, 5000 + n, "half", 2000);
            struct request *read = read_at(w, n);
            sim_run_for(w->sim, 4000);
            check(change->status != 0);
            check(read->status != 0);
        }
        check_int(w->acked, acked);
        for (unsigned a = 1; a <= size / 2; a++) {
            for (unsigned b = size / 2 + 1; b <= size; b++) {
                net_cut(w, a, b, false);
                net_cut(w, b, a, false);
            }
        }
        goes_on(w);
        check(cluster_wait(w, all_equal, 10000));
        cluster_free(w);
    }
}

/* F47: the host that shall take over does not hear of it: the old leader leads on, in its term. */
static void an_interrupted_transfer_leaves_the_leader_working(void **state)
{
    (void)state;
    struct cluster *w = formed(630, 3, 3);
    unsigned leader = cluster_leader(w)->n, target = other(w, leader, 0);
    uint64_t term = term_of(w, leader);
    net_isolate(w, target, true);
    w->change_done = false;
    check_ok(consensus_transfer(w->hosts[leader].c, w->hosts[target].id, on_change, w));
    struct request *meanwhile = submit(w, leader);
    check(cluster_wait(w, change_ended, 2000));
    check(w->change_status != 0);
    check(cluster_wait(w, all_ended, 3000));
    check_int(meanwhile->status, 0);
    check_int(cluster_leader(w)->n, leader);
    check_int(term_of(w, leader), term);
    net_isolate(w, target, false);
    goes_on(w);
    /* It dies at any time of the transfer: somebody leads, and goes on. */
    for (unsigned after_ms = 0; after_ms < 12; after_ms++) {
        check(cluster_wait(w, has_leader, 5000));
        leader = cluster_leader(w)->n;
        target = other(w, leader, 0);
        w->change_done = false;
        check_ok(consensus_transfer(w->hosts[leader].c, w->hosts[target].id, on_change, w));
        sim_run_for(w->sim, after_ms);
        host_crash(w, target, SIM_FS_RANDOM);
        check(cluster_wait(w, change_ended, 5000));
        goes_on(w);
        host_start(w, target);
        check(cluster_wait(w, all_equal, 10000));
    }
    cluster_free(w);
}

int main(void)
{
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_survives_the_loss_of_its_leader_at_any_time),
        cmocka_unit_test(two_adds_at_once_are_one_after_the_other),
        cmocka_unit_test(a_leader_that_leaves_hands_over_and_stays_out),
        cmocka_unit_test(halves_do_nothing_and_heal),
        cmocka_unit_test(an_interrupted_transfer_leaves_the_leader_working),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
