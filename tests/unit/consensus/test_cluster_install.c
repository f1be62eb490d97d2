/* The whole state for a host far behind, on connections where that takes its time: what else goes
 * on meanwhile, what interrupts it, and what overtakes it. */
#include "cluster.h"

enum {
    MB = 1024 * 1024,
    STREAM = 3 * MB, /* of state; three seconds on its way */
    ANSWER_MS = 20,  /* a change with a quick follower takes some 5 ms */
};

static uint64_t piece_bytes; /* sent so far */
static unsigned pieces;

static bool count_pieces(struct cluster *w, struct host *from, struct host *to,
                         const struct message *m)
{
    (void)w;
    (void)from;
    (void)to;
    if (m->kind == MESSAGE_SNAP_PIECE) {
        piece_bytes += m->snap_piece.size;
        pieces++;
    }
    return false;
}

static void changes(struct cluster *w, unsigned n, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        submit(w, n);
        if (i % 4 == 0) {
            sim_run_for(w->sim, 2);
        }
    }
    check(cluster_wait(w, all_ended, 20000));
}

/* Three voters, one of them down and so far behind that the log does not reach it. */
static struct cluster *one_behind(uint64_t seed, struct host **leader_out, struct host **behind_out)
{
    struct cluster *w = cluster_new(seed, 3);
    w->snapshot_entries = 50;
    w->snapshot_trailing = 5;
    host_crash(w, 1, SIM_FS_KILL);
    host_start(w, 1);
    cluster_form(w, 3);
    struct host *leader = cluster_leader(w);
    struct host *behind = &w->hosts[leader->n == 1 ? 2 : 1];
    host_crash(w, behind->n, SIM_FS_KILL);
    changes(w, leader->n, 300);
    check(core_first_index(leader->c->core) > store_point(&behind->store).index + 1);
    w->ballast = STREAM;
    w->bytes_per_s = MB;
    w->drop = count_pieces;
    piece_bytes = pieces = 0;
    *leader_out = leader;
    *behind_out = behind;
    return w;
}

/* A change is committed in the time it takes when nothing else happens. */
static void change_at_once(struct cluster *w, struct host *leader)
{
    struct request *r = submit(w, leader->n);
    for (unsigned ms = 0; ms < ANSWER_MS && r->state == REQUEST_WAITING; ms++) {
        sim_run_for(w->sim, 1);
    }
    check_int(r->state, REQUEST_DONE);
    check_ok(r->status);
}

/* Changes go on until the state is installed. */
static void until_installed(struct cluster *w, struct host *leader)
{
    uint64_t end = sim_now_ms(w->sim) + 20000;
    while (w->installs == 0) {
        check(sim_now_ms(w->sim) < end);
        change_at_once(w, leader);
    }
}

static void to_piece(struct cluster *w, unsigned n)
{
    uint64_t end = sim_now_ms(w->sim) + 20000;
    while (pieces < n) {
        check(sim_now_ms(w->sim) < end);
        sim_run_for(w->sim, 1);
    }
}

static void ends_well(struct cluster *w)
{
    check(cluster_wait(w, all_ended, 20000));
    check(cluster_wait(w, all_equal, 60000));
    check_acked(w);
    cluster_free(w);
}

static void the_leader_goes_on_during_a_long_install(void **state)
{
    (void)state;
    struct host *leader, *behind;
    struct cluster *w = one_behind(60, &leader, &behind);
    uint64_t term = status_of(leader).term, old = store_point(&behind->store).index;
    host_start(w, behind->n);
    uint64_t began = sim_now_ms(w->sim);
    for (unsigned count = 0; w->installs == 0; count++) {
        check_int(store_point(&behind->store).index, old); /* kept until the new one is complete */
        change_at_once(w, leader);
        struct request *read = read_at(w, leader->n);
        sim_run_for(w->sim, ANSWER_MS);
        check_int(read->state, REQUEST_DONE);
        check_ok(read->status);
        struct consensus_status st = status_of(behind);
        if (count > 10) { /* heartbeats come through between the pieces */
            check_int(st.leader, leader->id);
            check(sim_now_ms(w->sim) - st.contact_ms < 400);
        }
        check_int(status_of(leader).term, term);
        check(sim_now_ms(w->sim) - began < 10000);
    }
    check(sim_now_ms(w->sim) - began > 2500); /* it was a long one */
    check(w->queued_most > 0 && w->queued_most < MB / 2);
    check_int(status_of(leader).term, term);
    ends_well(w);
}

/* Markers follow one another and cut the log, but not what a host needs that is being sent the
 * state, imports it (longer than a new try would take to begin), and follows: one install it is. */
static void snapshots_close_together_do_not_cut_what_an_install_needs(void **state)
{
    (void)state;
    struct host *leader, *behind;
    struct cluster *w = one_behind(61, &leader, &behind);
    sim_pool_delay(behind->apply_pool, 4000000, 4000000);
    host_start(w, behind->n);
    to_piece(w, 10);
    uint64_t first = status_of(leader).snapshot_index;
    until_installed(w, leader);
    sim_pool_delay(behind->apply_pool, 50, 300);
    check(status_of(leader).snapshot_index > first + 3 * w->snapshot_entries);
    check(status_of(leader).snapshot_index > store_point(&behind->store).index);
    uint64_t began = sim_now_ms(w->sim), cut = core_first_index(leader->c->core);
    while (status_of(behind).last_index + 5 < status_of(leader).last_index) {
        check(sim_now_ms(w->sim) - began < 5000);
        change_at_once(w, leader);
    }
    check_int(w->installs, 1);
    check_int(w->exports, 1);
    changes(w, leader->n, 200);
    check(core_first_index(leader->c->core) > cut + 1000); /* nothing is kept any more */
    ends_well(w);
}

static void an_interrupted_install_is_resumed_where_it_was(void **state)
{
    (void)state;
    struct host *leader, *behind;
    struct cluster *w = one_behind(62, &leader, &behind);
    host_start(w, behind->n);
    to_piece(w, 16);
    net_cut(w, leader->n, behind->n, true);
    sim_run_for(w->sim, 3000);
    net_cut(w, leader->n, behind->n, false);
    to_piece(w, 44);
    host_crash(w, behind->n, SIM_FS_KILL);
    sim_run_for(w->sim, 500);
    host_start(w, behind->n);
    until_installed(w, leader);
    check_int(w->exports, 1);
    /* Twice what was on its way is lost, no more. */
    check(piece_bytes > STREAM && piece_bytes < STREAM + 2 * STREAM_WINDOW);
    ends_well(w);
}

static bool bend_one_piece(struct cluster *w, struct host *from, struct host *to,
                           const struct message *m)
{
    (void)w;
    (void)from;
    (void)to;
    return m->kind == MESSAGE_SNAP_PIECE && pieces == 12;
}

static void what_is_damaged_on_the_way_is_never_used(void **state)
{
    (void)state;
    for (unsigned where = 0; where < 2; where++) {
        struct host *leader, *behind;
        struct cluster *w = one_behind(63, &leader, &behind);
        uint64_t old = store_point(&behind->store).index;
        w->bend = where == 0 ? bend_one_piece : NULL;
        host_start(w, behind->n);
        to_piece(w, 11);
        if (where == 1) { /* on the leader's disk, before it is read there */
            check(sim_fs_flip(leader->fs, "/raft/export", STREAM - 5, 4));
        }
        uint64_t end = sim_now_ms(w->sim) + 20000;
        while (pieces < STREAM / SNAP_PIECE_MAX + 4) { /* well into the second try */
            check(sim_now_ms(w->sim) < end);
            change_at_once(w, leader);
            check_int(store_point(&behind->store).index, old);
        }
        check(cluster_wait(w, all_equal, 20000));
        check_int(w->installs, 1);
        ends_well(w);
    }
}

/* The next leader has another state to offer, and the log from there only. */
static void another_leader_begins_another_install_at_any_time(void **state)
{
    (void)state;
    unsigned overtaken = 0;
    for (unsigned round = 0; round < 24; round++) {
        struct host *leader, *behind;
        struct cluster *w = one_behind(70 + round, &leader, &behind);
        struct host *next = &w->hosts[6 - leader->n - behind->n];
        host_start(w, behind->n);
        uint64_t until = sim_now_ms(w->sim) + 20 + 170 * round;
        while (sim_now_ms(w->sim) < until) {
            change_at_once(w, leader);
        }
        bool under_way = pieces > 0 && w->installs == 0;
        if (round % 2) { /* it lives, and has a stream open */
            w->change_done = false;
            check_ok(consensus_transfer(leader->c, next->id, on_change, w));
            check(cluster_wait(w, change_ended, 5000));
        } else {
            host_crash(w, leader->n, SIM_FS_RANDOM);
        }
        uint64_t end = sim_now_ms(w->sim) + 20000;
        while (!cluster_leader(w) || cluster_leader(w) == leader) {
            check(sim_now_ms(w->sim) < end);
            sim_run_for(w->sim, 1);
        }
        changes(w, cluster_leader(w)->n, 100);
        sim_run_for(w->sim, 300);
        if (round % 2 == 0) {
            host_start(w, leader->n);
        }
        check(cluster_wait(w, all_equal, 60000));
        overtaken += under_way && w->exports == 2 && w->installs == 1;
        ends_well(w);
    }
    check(overtaken >= 8); /* the first install had begun and was given up for the second */
}

int main(void)
{
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_leader_goes_on_during_a_long_install),
        cmocka_unit_test(snapshots_close_together_do_not_cut_what_an_install_needs),
        cmocka_unit_test(an_interrupted_install_is_resumed_where_it_was),
        cmocka_unit_test(what_is_damaged_on_the_way_is_never_used),
        cmocka_unit_test(another_leader_begins_another_install_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
