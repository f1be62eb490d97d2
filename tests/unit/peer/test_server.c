#include "world.h"

/* A connection that says what it likes. */
struct raw {
    struct conn *conn;
    bool open, ended, closed, written;
    int status;
    struct conn_write write;
    uint8_t got[64];
    size_t got_size;
};

static void raw_read_cb(struct conn *c, void *arg, int status, const void *data, size_t size)
{
    struct raw *r = arg;
    (void)c;
    if (status != 0) {
        r->ended = true;
    } else if (r->got_size + size <= sizeof(r->got)) {
        memcpy(r->got + r->got_size, data, size);
        r->got_size += size;
    }
}

static void raw_connect_cb(struct conn *c, void *arg, int status)
{
    struct raw *r = arg;
    r->open = true;
    r->status = status;
    if (status == 0) {
        conn_read_start(c, raw_read_cb, r);
    }
}

static void raw_written_cb(struct conn_write *write, int status)
{
    (void)status;
    container_of(write, struct raw, write)->written = true;
}

static void raw_closed_cb(struct conn *c, void *arg)
{
    (void)c;
    ((struct raw *)arg)->closed = true;
}

static void raw_open(struct world *w, struct raw *r)
{
    char address[64];
    memset(r, 0, sizeof(*r));
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", w->port);
    check_ok(conn_open(w->loop, address, w->client_tls, NULL, 5000, raw_connect_cb, r, &r->conn));
    test_run_until(w->loop, &r->open, 5000);
    check_ok(r->status);
}

static void raw_send(struct world *w, struct raw *r, void *data, size_t size)
{
    memset(&r->write, 0, sizeof(r->write));
    r->written = false;
    r->write.cb = raw_written_cb;
    r->write.iov[0] = (struct iovec){data, size};
    r->write.iov_count = 1;
    conn_write(r->conn, &r->write);
    test_run_until(w->loop, &r->written, 5000);
}

static void raw_close(struct world *w, struct raw *r)
{
    conn_close(r->conn, raw_closed_cb, r);
    test_run_until(w->loop, &r->closed, 5000);
}

/* The server must end the connection after these bytes, and count it. */
static void check_dropped(struct world *w, void *data, size_t size)
{
    struct raw r;
    struct peer_counters before, after;
    peer_counters(&before);
    raw_open(w, &r);
    raw_send(w, &r, data, size);
    test_run_until(w->loop, &r.ended, 5000);
    peer_counters(&after);
    check_int(after.bad_frames - before.bad_frames, 1);
    raw_close(w, &r);
}

static void garbage_and_oversize_frames_end_the_connection(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    uint8_t frame[FRAME_HEADER];
    char http[] = "GET / HTTP/1.1\r\n\r\n";
    check_dropped(w, http, sizeof(http) - 1);
    frame_encode(&(struct frame){.type = PEER_CONTROL, .call = 1}, frame);
    frame[0] = 2; /* a version to come */
    check_dropped(w, frame, sizeof(frame));
    frame_encode(&(struct frame){.type = PEER_CONTROL, .call = 1}, frame);
    frame[11] = 0xff; /* 4 GiB announced */
    check_dropped(w, frame, sizeof(frame));
    frame_encode(&(struct frame){.type = PEER_CONTROL, .call = 1}, frame);
    frame[15] = 0xff;
    check_dropped(w, frame, sizeof(frame));
    frame_encode(&(struct frame){.type = PEER_CONTROL, .call = 1, .reply = true}, frame);
    check_dropped(w, frame, sizeof(frame)); /* a reply to nothing */
    /* Others are not touched. */
    struct probe p;
    probe_start(&p, w->net, 2, PEER_CONTROL, text("x"), nothing(), 0);
    test_run_until(w->loop, &p.done, 5000);
    check_ok(p.status);
    world_free(w);
}

static void a_connection_that_ends_in_mid_body_frees_its_memory(void **state)
{
    (void)state;
    struct world *w = world_new(1);
    struct raw r;
    uint8_t frame[FRAME_HEADER];
    frame_encode(&(struct frame){.type = PEER_CHUNK_PUT, .call = 1, .body_size = CHUNK}, frame);
    raw_open(w, &r);
    raw_send(w, &r, frame, sizeof(frame));
    raw_send(w, &r, w->chunk, 1000);
    run_for(w->loop, 20);
    raw_close(w, &r);
    run_for(w->loop, 20);
    check_int(w->held_count, 0);
    struct probe p;
    probe_start(&p, w->net, 2, PEER_CHUNK_HAVE, text("x"), (struct peer_bytes){w->chunk, CHUNK}, 0);
    test_run_until(w->loop, &p.done, 5000);
    check_ok(p.status);
    world_free(w);
}

static void replies_come_in_any_order(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe a, b;
    probe_start(&a, w->net, 2, PEER_SEAL, text("a"), nothing(), 0);
    run_until_held(w, 1);
    probe_start(&b, w->net, 2, PEER_CONTROL, text("b"), nothing(), 0);
    test_run_until(w->loop, &b.done, 5000);
    check(!a.done);
    answer_all(w);
    test_run_until(w->loop, &a.done, 5000);
    check_str(a.head, "late");
    world_free(w);
}

static void bodies_held_stay_under_the_bound(void **state)
{
    (void)state;
    enum { CALLS = 20, ROOM = 3 };
    struct world *w = world_new((size_t)ROOM * CHUNK + 1000);
    struct probe p[CALLS], small;
    for (unsigned i = 0; i < CALLS; i++) {
        probe_start(&p[i], w->net, 2, PEER_CHUNK_PUT, text("x"),
                    (struct peer_bytes){w->chunk, CHUNK}, 20000);
    }
    run_until_held(w, ROOM);
    run_for(w->loop, 50);
    check_int(w->held_count, ROOM); /* no more while these are open */
    probe_start(&small, w->net, 2, PEER_CONTROL, text("x"), nothing(), 0);
    test_run_until(w->loop, &small.done, 5000);
    check_ok(small.status); /* small calls pass */
    for (unsigned i = 0; i < CALLS; i++) {
        run_until_held(w, 1);
        answer_one(w);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_run_until(w->loop, &p[i].done, 5000);
        check_ok(p[i].status);
    }
    check(w->held_bytes_max <= (size_t)ROOM * CHUNK);
    world_free(w);
}

static void every_connection_gets_one_body_through_a_full_bound(void **state)
{
    (void)state;
    struct world *w = world_new(1);
    struct peer_client *other = NULL;
    struct probe p[2][3];
    bool closed = false;
    check_ok(peer_client_new(w->loop, w->client_tls, CLUSTER, world_address, w, &other));
    for (unsigned i = 0; i < 3; i++) {
        struct peer_bytes body = {w->chunk, CHUNK};
        probe_start(&p[0][i], w->net, 2, PEER_CHUNK_PUT, text("x"), body, 20000);
        probe_start(&p[1][i], peer_client_net(other), 2, PEER_CHUNK_PUT, text("x"), body, 20000);
    }
    run_until_held(w, 2);
    run_for(w->loop, 50);
    check_int(w->held_count, 2);
    for (unsigned i = 0; i < 6; i++) {
        run_until_held(w, 1);
        answer_one(w);
    }
    for (unsigned i = 0; i < 3; i++) {
        test_run_until(w->loop, &p[0][i].done, 5000);
        test_run_until(w->loop, &p[1][i].done, 5000);
        check_ok(p[0][i].status);
        check_ok(p[1][i].status);
    }
    peer_client_close(other, set_true, &closed);
    test_run_until(w->loop, &closed, 5000);
    world_free(w);
}

static bool fewer_released(void *arg)
{
    const struct world *w = arg;
    return w->released < 10;
}

static void owned_replies_are_released_once_each(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct probe p[10];
    for (unsigned i = 0; i < 10; i++) {
        probe_start(&p[i], w->net, 2, PEER_CHUNK_GET, text("x"), nothing(), 0);
    }
    for (unsigned i = 0; i < 10; i++) {
        test_run_until(w->loop, &p[i].done, 5000);
        check_ok(p[i].status);
    }
    test_run_while(w->loop, fewer_released, w, 5000);
    run_for(w->loop, 10);
    check_int(w->released, 10);
    world_free(w);
}

static void an_owned_reply_to_a_lost_connection_is_released(void **state)
{
    (void)state;
    struct world *w = world_new(64 << 20);
    struct raw r;
    uint8_t frame[FRAME_HEADER];
    frame_encode(&(struct frame){.type = PEER_SEAL, .call = 1}, frame);
    raw_open(w, &r);
    raw_send(w, &r, frame, sizeof(frame));
    run_until_held(w, 1);
    raw_close(w, &r);
    run_for(w->loop, 20);
    struct peer_request *req = w->held[0];
    w->held_count = 0;
    peer_reply_owned(req, 0, nothing(), (struct peer_bytes){w->chunk, CHUNK}, chunk_released, w);
    check_int(w->released, 0); /* not inside the call */
    run_for(w->loop, 10);
    check_int(w->released, 1);
    world_free(w);
}

static void unread_replies_are_bounded(void **state)
{
    (void)state;
    enum { CALLS = 100, BOUND = 5 };
    struct world *w = world_new((size_t)BOUND * PEER_BODY_MAX);
    struct raw r;
    uint8_t frames[CALLS][FRAME_HEADER];
    for (unsigned i = 0; i < CALLS; i++) {
        frame_encode(&(struct frame){.type = PEER_CHUNK_GET, .call = i}, frames[i]);
    }
    raw_open(w, &r);
    conn_read_stop(r.conn); /* asks for a hundred chunks and takes none */
    raw_send(w, &r, frames, sizeof(frames));
    run_for(w->loop, 100);
    check(w->released < 20); /* what the sockets took; the rest was not even read */
    raw_close(w, &r);
    run_for(w->loop, 50);
    world_free(w);
}

static void a_request_flood_is_bounded(void **state)
{
    (void)state;
    enum { CALLS = 400 };
    struct world *w = world_new(64 << 20);
    struct raw r;
    static uint8_t frames[CALLS][FRAME_HEADER];
    for (unsigned i = 0; i < CALLS; i++) {
        frame_encode(&(struct frame){.type = PEER_SEAL, .call = i}, frames[i]);
    }
    raw_open(w, &r);
    raw_send(w, &r, frames, sizeof(frames));
    run_for(w->loop, 50);
    check_int(w->held_count, 256);
    answer_all(w);
    run_until_held(w, CALLS - 256);
    answer_all(w);
    raw_close(w, &r);
    world_free(w);
}

TEST_MAIN(cmocka_unit_test(garbage_and_oversize_frames_end_the_connection),
          cmocka_unit_test(a_connection_that_ends_in_mid_body_frees_its_memory),
          cmocka_unit_test(replies_come_in_any_order),
          cmocka_unit_test(bodies_held_stay_under_the_bound),
          cmocka_unit_test(every_connection_gets_one_body_through_a_full_bound),
          cmocka_unit_test(owned_replies_are_released_once_each),
          cmocka_unit_test(an_owned_reply_to_a_lost_connection_is_released),
          cmocka_unit_test(unread_replies_are_bounded),
          cmocka_unit_test(a_request_flood_is_bounded))
