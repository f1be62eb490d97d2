/* The network of the simulator keeps the contract of struct peer_net (over the real loop here). */
#include "fixture.h"
#include "sim_peer.h"

enum { HOSTS = 3 };

struct world {
    struct loop *loop;
    struct sim_peers *peers;
    struct peer_service service[HOSTS + 1];
    struct peer_net *net[HOSTS + 1];
    struct peer_request *held;
    uint64_t served_by, asked_by;
};

static struct world w;

static void echo(void *arg, struct peer_request *req)
{
    w.served_by = (uint64_t)(uintptr_t)arg;
    w.asked_by = req->from_host;
    peer_reply(req, 0, req->head, req->body);
}

static void hold(void *arg, struct peer_request *req)
{
    (void)arg;
    w.held = req;
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof(w));
    check_ok(uv_loop_create("test", &w.loop));
    w.peers = sim_peers_new();
    for (uint64_t id = 1; id <= HOSTS; id++) {
        peer_serve(&w.service[id], PEER_CONTROL, echo, (void *)(uintptr_t)id);
        peer_serve(&w.service[id], PEER_SEAL, hold, NULL);
        w.net[id] = sim_peers_add(w.peers, id, w.loop, &w.service[id]);
        check(w.net[id] == sim_peers_net(w.peers, id));
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    run_for(w.loop, 5);
    uv_loop_free(w.loop);
    sim_peers_free(w.peers);
    return 0;
}

static void ask(struct probe *p, uint64_t from, uint64_t to, enum peer_call_type type)
{
    probe_start(p, w.net[from], to, type, text("head"), text("body"), 100);
}

static int outcome(uint64_t from, uint64_t to)
{
    struct probe p;
    ask(&p, from, to, PEER_CONTROL);
    test_run_until(w.loop, &p.done, 2000);
    check_int(p.times, 1);
    return p.status;
}

static void calls_go_to_the_host_meant(void **state)
{
    (void)state;
    for (uint64_t from = 1; from <= HOSTS; from++) {
        for (uint64_t to = 1; to <= HOSTS; to++) {
            check_ok(outcome(from, to));
            check_int(w.served_by, to);
            check_int(w.asked_by, from);
        }
    }
    struct probe p;
    ask(&p, 1, 2, PEER_CONTROL);
    test_run_until(w.loop, &p.done, 2000);
    check_str(p.head, "head");
    check_int(p.body_size, 4);
    ask(&p, 1, 2, PEER_PING);
    test_run_until(w.loop, &p.done, 2000);
    check_code(p.status, TSR_ENOTSUP);
    check_code(outcome(1, 9), TSR_ECONNECT);
}

static void delay_is_kept(void **state)
{
    (void)state;
    sim_peers_delay(w.peers, 10, 15);
    uint64_t from = loop_now_ms(w.loop);
    check_ok(outcome(1, 2));
    check(loop_now_ms(w.loop) - from >= 20); /* there and back */
}

static void lost_and_cut_calls_time_out(void **state)
{
    (void)state;
    struct sim_peers_stats stats;
    sim_peers_loss(w.peers, 1000);
    check_code(outcome(1, 2), TSR_ETIMEOUT);
    sim_peers_loss(w.peers, 0);
    sim_peers_cut(w.peers, 1, 2, true);
    check_code(outcome(1, 2), TSR_ETIMEOUT);
    check_code(outcome(2, 1), TSR_ETIMEOUT); /* its reply is cut */
    check_int(w.asked_by, 2);
    check_ok(outcome(1, 3));
    sim_peers_heal(w.peers);
    check_ok(outcome(1, 2));
    sim_peers_stats(w.peers, &stats);
    check_int(stats.lost, 3);
}

static void a_host_that_is_down_is_not_reached(void **state)
{
    (void)state;
    struct probe p, q;
    ask(&p, 1, 2, PEER_SEAL);
    run_for(w.loop, 5);
    check(w.held != NULL);
    ask(&q, 2, 3, PEER_SEAL);
    struct peer_request *held = w.held;
    sim_peers_down(w.peers, 2, true);
    test_run_until(w.loop, &p.done, 50);
    test_run_until(w.loop, &q.done, 50);
    check_code(p.status, TSR_ECONNECT); /* at once, not at its time */
    check_code(q.status, TSR_ECONNECT);
    peer_reply(held, 0, nothing(), nothing());
    if (w.held != held) {
        peer_reply(w.held, 0, nothing(), nothing());
    }
    check_code(outcome(1, 2), TSR_ECONNECT);
    check_code(outcome(2, 1), TSR_ECONNECT);
    sim_peers_down(w.peers, 2, false);
    check_ok(outcome(1, 2));
    check_int(p.times + q.times, 2);
}

static void cancel_comes_once_and_late_replies_are_dropped(void **state)
{
    (void)state;
    struct probe p;
    ask(&p, 1, 2, PEER_SEAL);
    run_for(w.loop, 5);
    peer_call_cancel(w.net[1], &p.call);
    check(!p.done);
    peer_reply(w.held, 0, nothing(), nothing());
    run_for(w.loop, 5);
    check_code(p.status, TSR_ECANCELED);
    check_int(p.times, 1);
}

static void a_crashed_host_hears_nothing_and_may_come_back(void **state)
{
    (void)state;
    struct probe mine, theirs;
    ask(&mine, 2, 1, PEER_SEAL);
    run_for(w.loop, 5);
    struct peer_request *at_one = w.held;
    ask(&theirs, 1, 2, PEER_SEAL);
    run_for(w.loop, 5);
    struct peer_request *at_two = w.held;
    check(at_one != at_two);
    struct probe ending;
    ask(&ending, 2, 1, PEER_SEAL);
    peer_call_cancel(w.net[2], &ending.call); /* its callback is on the way */
    sim_peers_crash(w.peers, 2);
    test_run_until(w.loop, &theirs.done, 50);
    check_code(theirs.status, TSR_ECONNECT);
    check_code(outcome(1, 2), TSR_ECONNECT);
    w.net[2] = sim_peers_add(w.peers, 2, w.loop, &w.service[2]);
    check_ok(outcome(1, 2));
    check_ok(outcome(2, 1));
    peer_reply(at_one, 0, nothing(), nothing()); /* to its earlier life */
    peer_reply(at_two, 0, nothing(), nothing()); /* from it */
    run_for(w.loop, 150);
    check(!mine.done && !ending.done);
    check_int(theirs.times, 1);
}

static void released(void *arg)
{
    (*(unsigned *)arg)++;
}

static void an_owned_reply_is_released(void **state)
{
    (void)state;
    struct probe p;
    unsigned times = 0;
    ask(&p, 1, 2, PEER_SEAL);
    run_for(w.loop, 5);
    peer_reply_owned(w.held, 0, text("h"), text("owned"), released, &times);
    test_run_until(w.loop, &p.done, 2000);
    check_ok(p.status);
    check_int(p.body_size, 5);
    check_int(times, 1);
}

#define sim_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

TEST_MAIN(sim_test(calls_go_to_the_host_meant), sim_test(delay_is_kept),
          sim_test(lost_and_cut_calls_time_out), sim_test(a_host_that_is_down_is_not_reached),
          sim_test(cancel_comes_once_and_late_replies_are_dropped),
          sim_test(a_crashed_host_hears_nothing_and_may_come_back),
          sim_test(an_owned_reply_is_released))
