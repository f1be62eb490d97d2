#include "fixture.h"

#include "tessera/base/list.h"

enum { SIDES = 3 };

struct side {
    struct raft_links *links;
    struct loop *loop;
    uint64_t id;
    struct tls *server, *client;
    unsigned port;
    char address[64];
    /* what came */
    unsigned count, gone;
    uint64_t last_from;
    uint32_t next; /* numbers expected in order */
    unsigned gaps;
    size_t bytes;
    int answer;
    /* lives */
    uint64_t only; /* the mark that may speak; 0: all */
    bool live;     /* as admit was told last */
    int refused;
};

static int receive(void *arg, uint64_t from, const void *data, size_t size)
{
    struct side *s = arg;
    uint32_t number = 0;
    s->count++;
    s->last_from = from;
    s->bytes += size;
    memcpy(&number, data, size < 4 ? size : 4);
    check(number >= s->next); /* never back */
    s->gaps += number > s->next;
    s->next = number + 1;
    return s->answer;
}

static void disconnected(void *arg, uint64_t from)
{
    struct side *s = arg;
    s->gone++;
    s->last_from = from;
}

static int admit(void *arg, uint64_t from, const struct peer_life *life, bool live)
{
    struct side *s = arg;
    (void)from;
    s->live = live;
    return s->only != 0 && life->mark != s->only ? TSR_EEXIST : 0;
}

static void refused(void *arg, uint64_t to, int code)
{
    struct side *s = arg;
    check_int(to >> 16, 2);
    s->refused = code;
}

static void side_open(struct side *s)
{
    char listen[64];
    struct err err = {0};
    (void)snprintf(listen, sizeof(listen), "127.0.0.1:%u", s->port);
    struct raft_link_options options = {.loop = s->loop,
                                        .server_tls = s->server,
                                        .client_tls = s->client,
                                        .cluster_id = CLUSTER,
                                        .listen = listen,
                                        .self = s->id,
                                        .address = s->address,
                                        .receive = receive,
                                        .disconnected = disconnected,
                                        .admit = admit,
                                        .refused = refused,
                                        .arg = s};
    if (s->port == 0) { /* the address to tell is known after the port */
        check_ok(raft_links_new(&options, &s->links, &err));
        s->port = raft_links_port(s->links);
        (void)snprintf(s->address, sizeof(s->address), "127.0.0.1:%u", s->port);
        bool closed = false;
        raft_links_close(s->links, set_true, &closed);
        test_run_until(s->loop, &closed, 5000);
        (void)snprintf(listen, sizeof(listen), "127.0.0.1:%u", s->port);
    }
    check_ok(raft_links_new(&options, &s->links, &err));
}

static void side_new(struct side *s, struct loop *loop, uint64_t id)
{
    memset(s, 0, sizeof(*s));
    s->loop = loop;
    s->id = id;
    s->server = tls_of(TLS_SERVER, id >> 16, RAFT_ALPN);
    s->client = tls_of(TLS_CLIENT, id >> 16, RAFT_ALPN);
    side_open(s);
}

static void side_close(struct side *s)
{
    bool closed = false;
    raft_links_close(s->links, set_true, &closed);
    check(!closed);
    test_run_until(s->loop, &closed, 5000);
    s->links = NULL;
}

static void side_free(struct side *s)
{
    if (s->links) {
        side_close(s);
    }
    tls_unref(s->server);
    tls_unref(s->client);
}

static struct loop *loop_new(void)
{
    struct loop *loop = NULL;
    check_ok(uv_loop_create("test", &loop));
    return loop;
}

struct want {
    struct side *side;
    unsigned count, gone;
};
static bool not_yet(void *arg)
{
    const struct want *w = arg;
    return w->side->count < w->count || w->side->gone < w->gone;
}
static void run_until_count(struct side *s, unsigned count, unsigned gone)
{
    struct want w = {s, count, gone};
    test_run_while(s->loop, not_yet, &w, 5000);
}

static void send_number(struct side *from, struct side *to, uint32_t number, size_t size)
{
    char *data = calloc(1, size);
    memcpy(data, &number, sizeof(number));
    raft_links_send(from->links, to->id, to->address, data, size);
    free(data);
}

static void messages_arrive_whole_and_in_order(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    side_new(&a, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    size_t bytes = 0;
    send_number(&a, &b, 0, 100);
    run_until_count(&b, 1, 0);
    for (uint32_t i = 1; i < 500; i++) {
        size_t size = 4 + (i * 7919u) % 30000;
        send_number(&a, &b, i, size);
        bytes += size;
    }
    check(raft_links_queued(a.links, b.id) > 0);
    run_until_count(&b, 500, 0);
    check_int(b.gaps, 0);
    check_int(b.bytes, bytes + 100);
    check_int(b.last_from, a.id);
    run_for(loop, 10);
    check_int(raft_links_queued(a.links, b.id), 0);
    /* Back, without an address: from the hello. */
    uint32_t zero = 0;
    raft_links_send(b.links, a.id, NULL, &zero, sizeof(zero));
    run_until_count(&a, 1, 0);
    check_int(a.last_from, b.id);
    side_free(&a);
    side_free(&b);
    uv_loop_free(loop);
}

static void the_largest_message_passes(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    side_new(&a, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    send_number(&a, &b, 0, 8);
    run_until_count(&b, 1, 0);
    send_number(&a, &b, 1, RAFT_FRAME_MAX);
    send_number(&a, &b, 2, 8);
    run_until_count(&b, 3, 0);
    check_int(b.bytes, RAFT_FRAME_MAX + 16);
    side_free(&a);
    side_free(&b);
    uv_loop_free(loop);
}

static void a_restarted_peer_is_reached_again(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    side_new(&a, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    send_number(&a, &b, 0, 8);
    run_until_count(&b, 1, 0);
    side_close(&b);
    for (uint32_t i = 1; i < 5; i++) { /* lost, or refused: nothing hangs */
        send_number(&a, &b, i, 8);
        run_for(loop, 30);
    }
    b.next = 0;
    b.count = 0;
    side_open(&b);
    for (uint32_t i = 100; b.count == 0 && i < 200; i++) {
        send_number(&a, &b, i, 8);
        run_for(loop, 20);
    }
    check(b.count > 0);
    check(b.next > 100);
    /* And the other way round: the sender restarts, the receiver hears of the end. */
    side_close(&a);
    run_until_count(&b, 1, 1);
    check_int(b.last_from, a.id);
    side_open(&a);
    unsigned before = b.count;
    send_number(&a, &b, 1000, 8);
    run_until_count(&b, before + 1, 1);
    side_free(&a);
    side_free(&b);
    uv_loop_free(loop);
}

static void what_waits_for_a_connection_is_bounded(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    side_new(&a, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    for (uint32_t i = 0; i < 100; i++) {
        send_number(&a, &b, i, 4096);
    }
    check(raft_links_queued(a.links, b.id) <= 64 * 1024);
    run_until_count(&b, 15, 0);
    run_for(loop, 20);
    check_int(b.count, 15);
    check_int(b.gaps, 0); /* the first ones were kept */
    side_free(&a);
    side_free(&b);
    uv_loop_free(loop);
}

/* A listener that takes connections and never reads. */
struct deaf {
    struct conn *conns[8];
    unsigned count;
};
static void deaf_accept(struct listener *l, void *arg, struct conn *c)
{
    struct deaf *d = arg;
    (void)l;
    check(d->count < 8);
    d->conns[d->count++] = c;
}

static bool deaf_has_none(void *arg)
{
    return ((struct deaf *)arg)->count == 0;
}

static void a_reader_that_stands_still_costs_bounded_memory_and_is_left(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    struct deaf deaf = {.count = 0};
    struct listener *l = NULL;
    struct err err = {0};
    struct peer_counters before, after;
    side_new(&a, loop, 0x10001);
    memset(&b, 0, sizeof(b));
    b.id = 0x20001;
    b.loop = loop;
    struct tls *tls = tls_of(TLS_SERVER, 2, RAFT_ALPN);
    check_ok(listener_open(loop, "127.0.0.1:0", tls, deaf_accept, &deaf, &l, &err));
    (void)snprintf(b.address, sizeof(b.address), "127.0.0.1:%u", listener_port(l));
    peer_counters(&before);
    send_number(&a, &b, 0, 8);
    test_run_while(loop, deaf_has_none, &deaf, 5000);
    run_for(loop, 20);
    size_t most = 0;
    uint64_t from = loop_now_ms(loop);
    while (peer_counters(&after), after.stalled == before.stalled) {
        check(loop_now_ms(loop) - from < 6000);
        for (unsigned i = 0; i < 40; i++) {
            send_number(&a, &b, 1, 64 * 1024);
        }
        size_t queued = raft_links_queued(a.links, b.id);
        most = queued > most ? queued : most;
        run_for(loop, 20);
    }
    check(most <= 16 * 1024 * 1024);
    check(most > 8 * 1024 * 1024);
    check(after.raft_dropped > before.raft_dropped);
    check(loop_now_ms(loop) - from >= 1900);
    run_for(loop, 20);
    check(raft_links_queued(a.links, b.id) <= 64 * 1024);
    side_free(&a);
    listener_close(l);
    for (unsigned i = 0; i < deaf.count; i++) {
        conn_close(deaf.conns[i], NULL, NULL);
    }
    run_for(loop, 20);
    tls_unref(tls);
    uv_loop_free(loop);
}

static void a_message_that_is_refused_ends_the_connection(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    side_new(&a, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    b.answer = TSR_EPROTO;
    send_number(&a, &b, 0, 8);
    run_until_count(&b, 1, 1);
    b.answer = 0;
    for (uint32_t i = 1; b.count == 1 && i < 100; i++) {
        send_number(&a, &b, i, 8);
        run_for(loop, 20);
    }
    check(b.count > 1);
    side_free(&a);
    side_free(&b);
    uv_loop_free(loop);
}

/* --- connections with a voice of their own --------------------------------------------------- */

struct raw {
    struct conn *conn;
    bool open, ended, closed;
    struct conn_write writes[3];
    unsigned write_count;
};

static void raw_read_cb(struct conn *c, void *arg, int status, const void *data, size_t size)
{
    (void)c;
    (void)data;
    (void)size;
    if (status != 0) {
        ((struct raw *)arg)->ended = true;
    }
}

static void raw_connect_cb(struct conn *c, void *arg, int status)
{
    struct raw *r = arg;
    check_ok(status);
    r->open = true;
    conn_read_start(c, raw_read_cb, r);
}

static void raw_written_cb(struct conn_write *w, int status)
{
    (void)w;
    (void)status;
}

static void raw_closed_cb(struct conn *c, void *arg)
{
    (void)c;
    ((struct raw *)arg)->closed = true;
}

static void raw_open(struct raw *r, struct side *to, struct tls *tls)
{
    memset(r, 0, sizeof(*r));
    check_ok(conn_open(to->loop, to->address, tls, NULL, 5000, raw_connect_cb, r, &r->conn));
    test_run_until(to->loop, &r->open, 5000);
}

static void raw_send(struct raw *r, const void *data, size_t size)
{
    struct conn_write *w = &r->writes[r->write_count++];
    memset(w, 0, sizeof(*w));
    w->cb = raw_written_cb;
    w->iov[0].iov_base = malloc(size);
    memcpy(w->iov[0].iov_base, data, size);
    w->iov[0].iov_len = size;
    w->iov_count = 1;
    conn_write(r->conn, w);
}

static void raw_close(struct raw *r, struct side *to)
{
    conn_close(r->conn, raw_closed_cb, r);
    test_run_until(to->loop, &r->closed, 5000);
    for (unsigned i = 0; i < r->write_count; i++) {
        free(r->writes[i].iov[0].iov_base);
    }
}

static void raw_frame(struct raw *r, enum raft_frame_kind kind, const void *data, size_t size)
{
    uint8_t bytes[RAFT_FRAME_HEADER + RAFT_HELLO_MAX];
    raft_frame_encode(kind, size, bytes);
    memcpy(bytes + RAFT_FRAME_HEADER, data, size);
    raw_send(r, bytes, RAFT_FRAME_HEADER + size);
}

static void raw_hello(struct raw *r, uint64_t raft_id, const char *cluster)
{
    uint8_t bytes[RAFT_HELLO_MAX];
    struct raft_hello hello = {.raft_id = raft_id, .address = "127.0.0.1:1"};
    (void)snprintf(hello.cluster_id, sizeof(hello.cluster_id), "%s", cluster);
    raw_frame(r, RAFT_FRAME_HELLO, bytes, raft_hello_encode(&hello, bytes));
}

static void check_ends(struct raw *r, struct side *to)
{
    test_run_until(to->loop, &r->ended, 5000);
    raw_close(r, to);
    check_int(to->count, 0);
    check_int(to->gone, 0); /* it never was a peer */
}

static void a_wrong_hello_ends_the_connection(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side b;
    struct raw r;
    side_new(&b, loop, 0x20001);
    struct tls *tls = tls_of(TLS_CLIENT, 1, RAFT_ALPN);
    raw_open(&r, &b, tls);
    raw_hello(&r, 0x30001, CLUSTER); /* another host's id */
    check_ends(&r, &b);
    raw_open(&r, &b, tls);
    raw_hello(&r, 0x10001, "ffff"); /* another cluster */
    check_ends(&r, &b);
    raw_open(&r, &b, tls);
    raw_frame(&r, RAFT_FRAME_HELLO, "short", 5);
    check_ends(&r, &b);
    raw_open(&r, &b, tls);
    raw_frame(&r, RAFT_FRAME_MESSAGE, "early", 5); /* before a hello */
    check_ends(&r, &b);
    raw_open(&r, &b, tls);
    raw_send(&r, "\x16\x03\x01garbage", 10);
    check_ends(&r, &b);
    raw_open(&r, &b, tls);
    raw_send(&r, "\x01\x01\0\0\xff\xff\xff\x7f", 8); /* a hello of 2 GiB */
    check_ends(&r, &b);
    side_free(&b);
    tls_unref(tls);
    uv_loop_free(loop);
}

static void an_oversize_message_ends_the_connection(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side b;
    struct raw r;
    side_new(&b, loop, 0x20001);
    struct tls *tls = tls_of(TLS_CLIENT, 1, RAFT_ALPN);
    raw_open(&r, &b, tls);
    raw_hello(&r, 0x10001, CLUSTER);
    raw_send(&r, "\x01\x02\0\0\x01\0\x80\0", 8); /* 8 MiB and one byte */
    test_run_until(loop, &r.ended, 5000);
    check_int(b.gone, 1);
    raw_close(&r, &b);
    side_free(&b);
    tls_unref(tls);
    uv_loop_free(loop);
}

static void a_newer_connection_replaces_the_older_one(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side b;
    struct raw old, new;
    uint32_t zero = 0, one = 1;
    side_new(&b, loop, 0x20001);
    struct tls *tls = tls_of(TLS_CLIENT, 1, RAFT_ALPN);
    raw_open(&old, &b, tls);
    raw_hello(&old, 0x10001, CLUSTER);
    raw_frame(&old, RAFT_FRAME_MESSAGE, &zero, 4);
    run_until_count(&b, 1, 0);
    raw_open(&new, &b, tls);
    raw_hello(&new, 0x10001, CLUSTER);
    raw_frame(&new, RAFT_FRAME_MESSAGE, &one, 4);
    run_until_count(&b, 2, 1);
    test_run_until(loop, &old.ended, 5000);
    check_int(b.gone, 1);
    raw_close(&old, &b);
    raw_close(&new, &b);
    run_until_count(&b, 2, 2);
    side_free(&b);
    tls_unref(tls);
    uv_loop_free(loop);
}

static void a_peer_with_anothers_certificate_is_not_spoken_to(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, b;
    struct peer_counters before, after;
    side_new(&a, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    peer_counters(&before);
    b.id = 0x30001; /* the address given leads to host 2 */
    send_number(&a, &b, 0, 8);
    run_for(loop, 100);
    peer_counters(&after);
    check(after.bad_names > before.bad_names);
    check_int(b.count, 0);
    check_int(raft_links_queued(a.links, b.id), 0);
    side_free(&a);
    side_free(&b);
    uv_loop_free(loop);
}

static void a_second_process_of_a_peer_is_refused_and_told(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct side a, twin, b;
    side_new(&a, loop, 0x10001);
    side_new(&twin, loop, 0x10001);
    side_new(&b, loop, 0x20001);
    raft_links_set_life(a.links, &(struct peer_life){.starts = 1, .mark = 7, .log_end = 3});
    raft_links_set_life(twin.links, &(struct peer_life){.starts = 2, .mark = 8, .log_end = 3});
    b.only = 7;
    send_number(&a, &b, 0, 8);
    run_until_count(&b, 1, 0);
    check(!b.live);
    send_number(&twin, &b, 1, 8);
    for (int i = 0; i < 100 && twin.refused == 0; i++) {
        run_for(loop, 20);
    }
    check_int(twin.refused, TSR_EEXIST);
    check(b.live); /* the first one was heard just now */
    check_int(b.count, 1);
    check_int(b.gone, 0);
    send_number(&a, &b, 1, 8); /* on its connection still */
    run_until_count(&b, 2, 0);
    check_int(a.refused, 0);
    side_close(&a);
    b.only = 8; /* now the other one is right */
    twin.refused = 0;
    for (uint32_t i = 2; i < 100 && b.count < 3; i++) {
        send_number(&twin, &b, i, 8);
        run_for(loop, 20);
    }
    check(b.count >= 3);
    check_int(b.gone, 1);
    check(!b.live);
    side_free(&a);
    side_free(&twin);
    side_free(&b);
    uv_loop_free(loop);
}

TEST_MAIN(cmocka_unit_test(messages_arrive_whole_and_in_order),
          cmocka_unit_test(the_largest_message_passes),
          cmocka_unit_test(a_restarted_peer_is_reached_again),
          cmocka_unit_test(what_waits_for_a_connection_is_bounded),
          cmocka_unit_test(a_reader_that_stands_still_costs_bounded_memory_and_is_left),
          cmocka_unit_test(a_message_that_is_refused_ends_the_connection),
          cmocka_unit_test(a_wrong_hello_ends_the_connection),
          cmocka_unit_test(an_oversize_message_ends_the_connection),
          cmocka_unit_test(a_newer_connection_replaces_the_older_one),
          cmocka_unit_test(a_peer_with_anothers_certificate_is_not_spoken_to),
          cmocka_unit_test(a_second_process_of_a_peer_is_refused_and_told))
