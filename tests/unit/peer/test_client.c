#include "world.h"

static void a_call_is_echoed(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p;
    probe_start(&p, w->net, 2, PEER_CONTROL, text("{\"a\":1}"), text("body"), 0);
    test_run_until(w->loop, &p.done, 5000);
    check_ok(p.status);
    check_str(p.head, "{\"a\":1}");
    check_int(p.body_size, 4);
    check_int(p.first, 'b');
    world_free(w);
}

static void an_empty_call_and_a_refusal_come_through(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p[3];
    probe_start(&p[0], w->net, 2, PEER_CONTROL, nothing(), nothing(), 0);
    probe_start(&p[1], w->net, 2, PEER_PING, nothing(), nothing(), 0);
    probe_start(&p[2], w->net, 2, PEER_REPORT, nothing(), nothing(), 0); /* nobody serves it */
    for (unsigned i = 0; i < 3; i++) {
        test_run_until(w->loop, &p[i].done, 5000);
    }
    check_ok(p[0].status);
    check_int(p[0].head_size + p[0].body_size, 0);
    check_code(p[1].status, TSR_ENOSPC);
    check_str(p[1].head, "full");
    check_code(p[2].status, TSR_ENOTSUP);
    world_free(w);
}

static void many_large_calls_go_both_ways_at_once(void **state)
{
    (void)state;
    enum { CALLS = 24, GUARD_MS = 60000 }; /* 200 MiB over TLS, perhaps instrumented */
    struct world *w = world_new(16 << 20);
    struct probe put[CALLS], get[CALLS], small[CALLS];
    char *body = malloc(PEER_BODY_MAX);
    memset(body, 'b', PEER_BODY_MAX);
    body[PEER_BODY_MAX - 1] = 'z';
    for (unsigned i = 0; i < CALLS; i++) {
        probe_start(&put[i], w->net, 2, PEER_CHUNK_HAVE, text("put"),
                    (struct peer_bytes){body, PEER_BODY_MAX}, GUARD_MS);
        probe_start(&get[i], w->net, 2, PEER_CHUNK_GET, text("get"), nothing(), GUARD_MS);
        probe_start(&small[i], w->net, 2, PEER_CONTROL, text("small"), text("s"), GUARD_MS);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_run_until(w->loop, &small[i].done, GUARD_MS);
        check_ok(small[i].status);
    }
    check(!put[CALLS - 1].done); /* small ones did not wait behind the others */
    for (unsigned i = 0; i < CALLS; i++) {
        test_run_until(w->loop, &put[i].done, GUARD_MS);
        test_run_until(w->loop, &get[i].done, GUARD_MS);
        check_ok(put[i].status);
        check_int(put[i].body_size, PEER_BODY_MAX);
        check_int(put[i].last, 'z');
        check_ok(get[i].status);
        check_int(get[i].body_size, CHUNK);
        check_int(get[i].first, 'c');
        check_int(put[i].times + get[i].times + small[i].times, 3);
    }
    world_free(w);
    free(body);
}

static void more_calls_than_slots_all_come_back(void **state)
{
    (void)state;
    enum { CALLS = 1000 };
    struct world *w = world_new(64 << 20);
    struct probe *p = calloc(CALLS, sizeof(*p));
    for (unsigned i = 0; i < CALLS; i++) {
        probe_start(&p[i], w->net, 2, PEER_CONTROL, text("h"), text("b"), 0);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_run_until(w->loop, &p[i].done, 5000);
        check_ok(p[i].status);
    }
    world_free(w);
    free(p);
}

static void a_large_head_passes_and_a_larger_one_is_refused(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p[3];
    char *big = calloc(1, PEER_BODY_MAX + 1);
    probe_start(&p[0], w->net, 2, PEER_CONTROL, (struct peer_bytes){big, PEER_HEAD_MAX}, nothing(),
                0);
    probe_start(&p[1], w->net, 2, PEER_CONTROL, (struct peer_bytes){big, PEER_HEAD_MAX + 1},
                nothing(), 0);
    probe_start(&p[2], w->net, 2, PEER_CONTROL, nothing(),
                (struct peer_bytes){big, PEER_BODY_MAX + 1}, 0);
    for (unsigned i = 0; i < 3; i++) {
        test_run_until(w->loop, &p[i].done, 5000);
    }
    check_ok(p[0].status);
    check_int(p[0].head_size, PEER_HEAD_MAX);
    check_code(p[1].status, TSR_ETOOBIG);
    check_code(p[2].status, TSR_ETOOBIG);
    world_free(w);
    free(big);
}

static void a_call_without_an_answer_times_out(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p, after;
    uint64_t from = loop_now_ms(w->loop);
    probe_start(&p, w->net, 2, PEER_SEAL, text("x"), nothing(), 100);
    test_run_until(w->loop, &p.done, 5000);
    check_code(p.status, TSR_ETIMEOUT);
    check(loop_now_ms(w->loop) - from >= 95);
    answer_all(w); /* the late reply is skipped, the connection lives on */
    probe_start(&after, w->net, 2, PEER_CONTROL, text("y"), nothing(), 0);
    test_run_until(w->loop, &after.done, 5000);
    check_ok(after.status);
    check_int(p.times, 1);
    world_free(w);
}

static void a_cancelled_call_ends_once(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p, early, after;
    probe_start(&early, w->net, 2, PEER_CONTROL, text("x"), nothing(), 0);
    peer_call_cancel(w->net, &early.call); /* before the connection is there */
    check(!early.done);
    peer_call_cancel(w->net, &early.call); /* twice does nothing */
    probe_start(&p, w->net, 2, PEER_SEAL, text("x"), nothing(), 0);
    run_until_held(w, 1);
    peer_call_cancel(w->net, &p.call);
    check(!p.done);
    test_run_until(w->loop, &p.done, 5000);
    check_code(early.status, TSR_ECANCELED);
    check_code(p.status, TSR_ECANCELED);
    answer_all(w);
    probe_start(&after, w->net, 2, PEER_CONTROL, text("y"), nothing(), 0);
    test_run_until(w->loop, &after.done, 5000);
    check_ok(after.status);
    check_int(p.times + early.times, 2);
    peer_call_cancel(w->net, &p.call); /* it came already */
    run_for(w->loop, 10);
    check_int(p.times, 1);
    world_free(w);
}

static void a_cancelled_upload_ends_though_nobody_reads_it(void **state)
{
    (void)state;
    enum { CALLS = 8 };
    struct world *w = world_new(1); /* one body at a time; the rest waits in the sockets */
    struct probe p[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        probe_start(&p[i], w->net, 2, PEER_CHUNK_PUT, text("x"),
                    (struct peer_bytes){w->chunk, CHUNK}, 20000);
    }
    run_until_held(w, 1);
    run_for(w->loop, 100);
    check_int(w->held_count, 1);
    for (unsigned i = 0; i < CALLS; i++) {
        peer_call_cancel(w->net, &p[i].call);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_run_until(w->loop, &p[i].done, 3000);
        check_code(p[i].status, TSR_ECANCELED);
        check_int(p[i].times, 1);
    }
    world_free(w);
}

static void a_peer_that_ends_in_mid_call_gives_econnect(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p[2], refused, after;
    bool closed = false;
    probe_start(&p[0], w->net, 2, PEER_SEAL, text("x"), nothing(), 0);
    probe_start(&p[1], w->net, 2, PEER_CHUNK_PUT, text("x"), (struct peer_bytes){w->chunk, CHUNK},
                0);
    run_until_held(w, 2);
    peer_server_close(w->server, set_true, &closed);
    for (unsigned i = 0; i < 2; i++) {
        test_run_until(w->loop, &p[i].done, 5000);
        check_code(p[i].status, TSR_ECONNECT);
    }
    check(!closed); /* two requests are with their handlers */
    answer_all(w);
    test_run_until(w->loop, &closed, 5000);
    probe_start(&refused, w->net, 2, PEER_CONTROL, text("x"), nothing(), 0);
    test_run_until(w->loop, &refused.done, 5000);
    check_code(refused.status, TSR_ECONNECT);
    world_serve(w, 64 << 20);
    probe_start(&after, w->net, 2, PEER_CONTROL, text("y"), nothing(), 0);
    test_run_until(w->loop, &after.done, 5000);
    check_ok(after.status); /* after the back-off */
    world_free(w);
}

static void an_unknown_address_gives_econnect(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p;
    w->known = false;
    probe_start(&p, w->net, 2, PEER_CONTROL, text("x"), nothing(), 0);
    test_run_until(w->loop, &p.done, 5000);
    check_code(p.status, TSR_ECONNECT);
    world_free(w);
}

static void a_server_of_another_name_is_not_spoken_to(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p;
    struct peer_counters before, after;
    peer_counters(&before);
    probe_start(&p, w->net, 3, PEER_CONTROL, text("x"), nothing(), 0); /* host 2 answers there */
    test_run_until(w->loop, &p.done, 5000);
    check_code(p.status, TSR_ECONNECT);
    peer_counters(&after);
    check_int(after.bad_names - before.bad_names, 1);
    check_int(w->held_count, 0);
    world_free(w);
}

static void call_with(struct tls *client_tls, const char *cluster, int *status)
{
    struct world *w = world_new(64 << 20);
    struct probe p;
    bool closed = false;
    peer_client_close(w->client, set_true, &closed);
    test_run_until(w->loop, &closed, 5000);
    check_ok(peer_client_new(w->loop, client_tls, cluster, world_address, w, &w->client));
    probe_start(&p, peer_client_net(w->client), 2, PEER_CONTROL, text("x"), nothing(), 1000);
    test_run_until(w->loop, &p.done, 5000);
    *status = p.status;
    world_free(w);
    tls_unref(client_tls);
}

static void wrong_clusters_and_foreign_certificates_are_refused(void **state)
{
    (void)state;
    int status = 0;
    /* The server's name is of another cluster than the client's. */
    call_with(tls_of(TLS_CLIENT, 1, CALL_ALPN), "ffffffffffffffffffffffffffffffff", &status);
    check_code(status, TSR_ECONNECT);
    /* The client's name is of another cluster than the server's. */
    call_with(tls_named(TLS_CLIENT, "host-1.ffff", CALL_ALPN, authority_get()), CLUSTER, &status);
    check_code(status, TSR_ECONNECT);
    /* The client's certificate is another authority's. */
    call_with(tls_named(TLS_CLIENT, "host-1." CLUSTER, CALL_ALPN, foreign_authority()), CLUSTER,
              &status);
    check_code(status, TSR_ECONNECT);
    /* A protocol of another port. */
    call_with(tls_of(TLS_CLIENT, 1, RAFT_ALPN), CLUSTER, &status);
    check_code(status, TSR_ECONNECT);
}

static void closing_the_client_ends_its_calls_first(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p[4];
    bool closed = false;
    probe_start(&p[0], w->net, 2, PEER_SEAL, text("x"), nothing(), 0);
    run_until_held(w, 1);
    probe_start(&p[1], w->net, 2, PEER_CHUNK_PUT, text("x"), (struct peer_bytes){w->chunk, CHUNK},
                0);
    probe_start(&p[2], w->net, 9, PEER_CONTROL, text("x"), nothing(), 0);
    peer_client_close(w->client, set_true, &closed);
    probe_start(&p[3], w->net, 2, PEER_CONTROL, text("x"), nothing(), 0);
    test_run_until(w->loop, &closed, 5000);
    for (unsigned i = 0; i < 4; i++) {
        check(p[i].done);
        check_code(p[i].status, TSR_ECANCELED);
        check_int(p[i].times, 1);
    }
    w->client = NULL;
    world_free(w);
}

struct chain {
    struct peer_call call;
    struct world *w;
    unsigned left;
    bool done;
};

static void chain_cb(struct peer_call *call, int status, struct peer_bytes head,
                     struct peer_bytes body)
{
    struct chain *c = call->arg;
    (void)head;
    (void)body;
    check_ok(status);
    if (--c->left == 0) {
        peer_client_close(c->w->client, set_true, &c->done); /* inside a callback */
        return;
    }
    peer_call_start(c->w->net, call);
}

static void a_callback_may_call_again_and_close(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct chain c = {.w = w, .left = 50};
    c.call = (struct peer_call){.host_id = 2, .type = PEER_CONTROL, .cb = chain_cb, .arg = &c};
    peer_call_start(w->net, &c.call);
    test_run_until(w->loop, &c.done, 5000);
    check_int(c.left, 0);
    w->client = NULL;
    world_free(w);
}

TEST_MAIN(cmocka_unit_test(a_call_is_echoed),
          cmocka_unit_test(an_empty_call_and_a_refusal_come_through),
          cmocka_unit_test(many_large_calls_go_both_ways_at_once),
          cmocka_unit_test(more_calls_than_slots_all_come_back),
          cmocka_unit_test(a_large_head_passes_and_a_larger_one_is_refused),
          cmocka_unit_test(a_call_without_an_answer_times_out),
          cmocka_unit_test(a_cancelled_call_ends_once),
          cmocka_unit_test(a_cancelled_upload_ends_though_nobody_reads_it),
          cmocka_unit_test(a_peer_that_ends_in_mid_call_gives_econnect),
          cmocka_unit_test(an_unknown_address_gives_econnect),
          cmocka_unit_test(a_server_of_another_name_is_not_spoken_to),
          cmocka_unit_test(wrong_clusters_and_foreign_certificates_are_refused),
          cmocka_unit_test(closing_the_client_ends_its_calls_first),
          cmocka_unit_test(a_callback_may_call_again_and_close))
