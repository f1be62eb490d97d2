/* Connections over real loopback sockets on one libuv loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/sys/cert.h"
#include "tessera/sys/net.h"

enum { PIECE = 1 << 20 };

static char *ca_pem, *ca_key, *server_cert, *server_key, *client_cert, *client_key, *other_ca;

struct end {
    struct conn *conn;
    struct conn_write write;
    bool closing, closed;
    int read_status, write_status, connect_status;
    bool connected;
    size_t received, to_send, sent;
    int fd; /* send from this file instead of memory */
    bool damaged, echo, pause, close_on_read, read_done, write_done;
    char echo_data[64 << 10];
    struct timer timer;
    char name[64];
    int prints_status;
    uint8_t leaf[32], root[32];
};

static struct loop *loop;
static struct end client, server;
static struct listener *listener;
static char *pattern;
static bool stopped;
static int seen_cred;
static unsigned seen_uid;

static void stop(void)
{
    if (!stopped) {
        stopped = true;
        uv_loop_stop(loop);
    }
}

static void closed_cb(struct conn *c, void *arg)
{
    struct end *e = arg;
    (void)c;
    e->closed = true;
    e->conn = NULL;
    if ((client.conn == NULL) && (server.conn == NULL)) {
        stop();
    }
}

static void finish(struct end *e)
{
    timer_stop(&e->timer);
    if (e->conn != NULL && !e->closing) {
        e->closing = true;
        conn_close(e->conn, closed_cb, e);
    }
}

static void read_cb(struct conn *c, void *arg, int status, const void *data, size_t size);

static void resume_cb(struct timer *timer)
{
    struct end *e = container_of(timer, struct end, timer);
    conn_read_start(e->conn, read_cb, e);
}

static void echo_cb(struct conn_write *req, int status)
{
    struct end *e = container_of(req, struct end, write);
    e->write_status = status;
    if (status == 0) {
        conn_read_start(e->conn, read_cb, e);
    } else if (status != TSR_ECANCELED) {
        finish(e);
    }
}

static void read_cb(struct conn *c, void *arg, int status, const void *data, size_t size)
{
    struct end *e = arg;
    if (status != 0) {
        e->read_status = status;
        e->read_done = true;
        if (status != TSR_EEOF || e->write_done || e->to_send == 0) {
            finish(e);
        }
        return;
    }
    assert_true(size > 0 && size <= sizeof e->echo_data);
    size_t at = e->received % PIECE;
    size_t first = size < PIECE - at ? size : PIECE - at;
    e->damaged |= memcmp(data, pattern + at, first) != 0;
    e->damaged |= memcmp((const char *)data + first, pattern, size - first) != 0;
    e->received += size;
    if (e->close_on_read) {
        finish(e);
        return;
    }
    if (e->echo) {
        conn_read_stop(c);
        memcpy(e->echo_data, data, size);
        e->write = (struct conn_write){.cb = echo_cb, .iov_count = 2};
        size_t half = size / 2;
        e->write.iov[0] = (struct iovec){e->echo_data, half};
        e->write.iov[1] = (struct iovec){e->echo_data + half, size - half};
        conn_write(c, &e->write);
    } else if (e->pause) {
        conn_read_stop(c);
        timer_init(&e->timer, loop, resume_cb);
        timer_start(&e->timer, e->received % 3 == 0 ? 1 : 0);
    }
}

static void sent_cb(struct conn_write *req, int status);

static void send_next(struct end *e)
{
    size_t left = e->to_send - e->sent;
    if (left == 0) {
        if (e->to_send > 0) {
            e->write_done = true;
            conn_shutdown(e->conn);
            if (e->read_done) {
                finish(e);
            }
        }
        return;
    }
    size_t size = left < PIECE ? left : PIECE;
    e->sent += size;
    e->write = (struct conn_write){.cb = sent_cb};
    if (e->fd > 0) {
        e->write.fd = e->fd;
        e->write.size = size;
    } else {
        e->write.iov[0] = (struct iovec){pattern, size / 3};
        e->write.iov[1] = (struct iovec){pattern + size / 3, 5};
        e->write.iov[2] = (struct iovec){pattern + size / 3 + 5, size - size / 3 - 5};
        e->write.iov_count = 3;
    }
    conn_write(e->conn, &e->write);
}

static void sent_cb(struct conn_write *req, int status)
{
    struct end *e = container_of(req, struct end, write);
    e->write_status = status;
    if (status == 0) {
        send_next(e);
    } else if (status != TSR_ECANCELED) {
        finish(e);
    }
}

static void note_peer(struct end *e)
{
    const char *name = conn_peer_name(e->conn);
    snprintf(e->name, sizeof e->name, "%s", name != NULL ? name : "");
    e->prints_status = conn_peer_fingerprints(e->conn, e->leaf, e->root);
}

static void accept_cb(struct listener *l, void *arg, struct conn *c)
{
    (void)l, (void)arg;
    server.conn = c;
    server.connected = true;
    unsigned gid;
    seen_cred = conn_peer_cred(c, &seen_uid, &gid);
    note_peer(&server);
    conn_read_start(c, read_cb, &server);
    send_next(&server);
}

static void connect_cb(struct conn *c, void *arg, int status)
{
    struct end *e = arg;
    e->connected = true;
    e->connect_status = status;
    if (status != 0) {
        finish(e);
        return;
    }
    note_peer(e);
    conn_read_start(c, read_cb, e);
    send_next(e);
}

static void begin(void)
{
    memset(&client, 0, sizeof client);
    memset(&server, 0, sizeof server);
    stopped = false;
    assert_int_equal(uv_loop_create("test", &loop), 0);
}

static void end(void)
{
    listener_close(listener);
    listener = NULL;
    uv_loop_free(loop);
}

static void listen_on(const char *address, struct tls *tls)
{
    struct err err = {0};
    int status = listener_open(loop, address, tls, accept_cb, NULL, &listener, &err);
    if (status != 0) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(status, 0);
}

static void connect_to(const char *address, struct tls *tls, const char *name)
{
    char text[128];
    snprintf(text, sizeof text, address, listener != NULL ? listener_port(listener) : 0);
    assert_int_equal(conn_open(loop, text, tls, name, 5000, connect_cb, &client, &client.conn), 0);
}

static struct tls *server_tls(bool verify)
{
    struct tls *tls;
    struct tls_options o = {.role = TLS_SERVER, .cert_pem = server_cert, .key_pem = server_key};
    o.verify_peer = verify;
    o.ca_pem = verify ? ca_pem : NULL;
    o.alpn = "test/1";
    assert_int_equal(tls_new(&o, &tls, NULL), 0);
    return tls;
}

static struct tls *client_tls(const char *ca, bool with_cert)
{
    struct tls *tls;
    struct tls_options o = {.role = TLS_CLIENT, .ca_pem = ca, .alpn = "test/1"};
    if (with_cert) {
        o.cert_pem = client_cert;
        o.key_pem = client_key;
    }
    assert_int_equal(tls_new(&o, &tls, NULL), 0);
    return tls;
}

/* --- transfers ------------------------------------------------------------------------------ */

static void transfer(const char *address, bool tls, bool pause, int fd, size_t size)
{
    begin();
    struct tls *st = tls ? server_tls(false) : NULL;
    struct tls *ct = tls ? client_tls(ca_pem, false) : NULL;
    listen_on(address, st);
    client.to_send = server.to_send = size;
    client.pause = server.pause = pause;
    client.fd = server.fd = fd;
    connect_to(str_starts(address, "unix:") ? address : "127.0.0.1:%u", ct, "127.0.0.1");
    uv_loop_run(loop);
    assert_int_equal(client.received, size);
    assert_int_equal(server.received, size);
    assert_false(client.damaged || server.damaged);
    assert_int_equal(client.read_status, TSR_EEOF);
    assert_int_equal(server.read_status, TSR_EEOF);
    tls_unref(st);
    tls_unref(ct);
    end();
}

static void plain_data_flows_both_ways(void **state)
{
    (void)state;
    transfer("127.0.0.1:0", false, false, 0, 64 << 20);
}

static void tls_data_flows_both_ways(void **state)
{
    (void)state;
    transfer("127.0.0.1:0", true, false, 0, 64 << 20);
}

static void slow_readers_lose_nothing(void **state)
{
    (void)state;
    transfer("127.0.0.1:0", false, true, 0, 8 << 20);
    transfer("127.0.0.1:0", true, true, 0, 8 << 20);
}

static void file_ranges_are_sent_plain_and_with_tls(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    assert_int_equal(fwrite(pattern, 1, PIECE, file), PIECE);
    fflush(file);
    transfer("127.0.0.1:0", false, false, fileno(file), 16 << 20);
    transfer("127.0.0.1:0", true, true, fileno(file), 4 << 20);
    fclose(file);
}

static void a_unix_socket_names_the_other_process_user(void **state)
{
    (void)state;
    char address[] = "unix:/tmp/tessera-net-XXXXXX";
    int fd = mkstemp(address + 5);
    close(fd);
    unlink(address + 5);
    transfer(address, false, false, 0, 1 << 20);
    assert_int_equal(access(address + 5, F_OK), -1);
    transfer(address, true, false, 0, 1 << 20);
    assert_int_equal(seen_cred, 0);
    assert_int_equal(seen_uid, getuid());
}

static void a_file_shorter_than_promised_fails_the_write(void **state)
{
    (void)state;
    FILE *file = tmpfile();
    begin();
    listen_on("127.0.0.1:0", NULL);
    client.to_send = 1000;
    client.fd = fileno(file);
    connect_to("127.0.0.1:%u", NULL, NULL);
    uv_loop_run(loop);
    assert_int_equal(client.write_status, TSR_EIO);
    end();
    fclose(file);
}

/* --- ends ----------------------------------------------------------------------------------- */

static void an_echo_is_heard_until_the_reader_closes_in_its_callback(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        begin();
        struct tls *st = tls ? server_tls(false) : NULL;
        struct tls *ct = tls ? client_tls(ca_pem, false) : NULL;
        listen_on("[::1]:0", st);
        client.to_send = 100000;
        client.close_on_read = true;
        server.echo = true;
        server.write_done = true;
        connect_to("[::1]:%u", ct, "::1");
        uv_loop_run(loop);
        assert_true(client.closed && server.closed);
        assert_true(client.received > 0);
        tls_unref(st);
        tls_unref(ct);
        end();
    }
}

static void close_cancels_what_is_queued(void **state)
{
    (void)state;
    begin();
    listen_on("127.0.0.1:0", NULL);
    client.to_send = 64 << 20;
    client.close_on_read = true; /* while its own data is not taken: the server never reads on */
    server.to_send = 1000;
    server.pause = true;
    connect_to("127.0.0.1:%u", NULL, NULL);
    uv_loop_run(loop);
    assert_true(client.closed);
    assert_int_equal(client.write_status, TSR_ECANCELED);
    end();
}

static void a_refused_connect_says_so(void **state)
{
    (void)state;
    begin();
    connect_to("127.0.0.1:1", NULL, NULL);
    assert_false(client.connected); /* never inside the call */
    uv_loop_run(loop);
    assert_true(client.connected);
    assert_int_equal(client.connect_status, TSR_ECONNECT);
    end();
    begin();
    connect_to("unix:/nonexistent/socket", NULL, NULL);
    uv_loop_run(loop);
    assert_int_equal(client.connect_status, TSR_ECONNECT);
    end();
}

static void a_name_is_resolved_and_all_its_addresses_tried(void **state)
{
    (void)state;
    begin();
    listen_on("127.0.0.1:0", NULL); /* "localhost" may give ::1 first, where nobody listens */
    client.to_send = server.to_send = 1000;
    connect_to("localhost:%u", NULL, NULL);
    uv_loop_run(loop);
    assert_int_equal(client.connect_status, 0);
    assert_int_equal(client.received, 1000);
    end();
}

static void closing_while_connecting_runs_no_connect_callback(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:%u", "localhost:%u", "127.0.0.1:1"};
    for (int i = 0; i < 3; i++) {
        begin();
        listen_on("127.0.0.1:0", NULL);
        connect_to(addresses[i], NULL, NULL);
        server.closed = true;
        finish(&client);
        uv_loop_run(loop);
        assert_true(client.closed);
        assert_false(client.connected);
        if (server.conn != NULL) {
            conn_close(server.conn, NULL, NULL);
        }
        end();
    }
}

static void impossible_addresses_are_refused_at_once(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "host",    "127.0.0.1", "127.0.0.1:",    ":80",
                                      "::1:80", "[::1:80", "[::1]80",   "127.0.0.1:x",   "unix:",
                                      "a:-1",   "a:65536", "[]:80",     "127.0.0.1:1:2", "]:1"};
    begin();
    for (size_t i = 0; i < array_len(bad); i++) {
        struct conn *c = NULL;
        assert_int_equal(conn_open(loop, bad[i], NULL, NULL, 1000, connect_cb, &client, &c),
                         TSR_EINVAL);
        assert_null(c);
    }
    end();
}

static void a_silent_server_times_out_the_handshake(void **state)
{
    (void)state;
    begin();
    listen_on("127.0.0.1:0", NULL); /* accepts, but speaks no TLS */
    server.write_done = true;
    struct tls *ct = client_tls(ca_pem, false);
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%u", listener_port(listener));
    assert_int_equal(conn_open(loop, text, ct, NULL, 200, connect_cb, &client, &client.conn), 0);
    uv_loop_run(loop);
    assert_int_equal(client.connect_status, TSR_ETIMEOUT);
    tls_unref(ct);
    end();
}

/* --- trust ---------------------------------------------------------------------------------- */

static void handshake(bool verify, const char *ca, bool with_cert, const char *name)
{
    begin();
    struct tls *st = server_tls(verify);
    struct tls *ct = client_tls(ca, with_cert);
    listen_on("127.0.0.1:0", st);
    client.to_send = server.to_send = 1000;
    connect_to("127.0.0.1:%u", ct, name);
    uv_loop_run(loop);
    tls_unref(st);
    tls_unref(ct);
    end();
}

static void a_server_of_another_authority_is_not_trusted(void **state)
{
    (void)state;
    handshake(false, other_ca, false, NULL);
    assert_int_equal(client.connect_status, TSR_EUNAUTHORIZED);
    assert_false(server.connected);
}

static void a_server_with_another_name_is_not_trusted(void **state)
{
    (void)state;
    handshake(false, ca_pem, false, "elsewhere.example");
    assert_int_equal(client.connect_status, TSR_EUNAUTHORIZED);
    handshake(false, ca_pem, false, "host1");
    assert_int_equal(client.connect_status, 0);
    assert_int_equal(client.received, 1000);
}

static void mutual_tls_names_both_sides(void **state)
{
    (void)state;
    handshake(true, ca_pem, true, NULL);
    assert_int_equal(client.received, 1000);
    assert_int_equal(server.received, 1000);
    assert_string_equal(client.name, "server-7");
    assert_string_equal(server.name, "client-3");
}

static void a_client_without_certificate_gets_no_data_where_one_is_demanded(void **state)
{
    (void)state;
    handshake(true, ca_pem, false, NULL);
    assert_false(server.connected);
    assert_int_equal(client.received, 0);
}

static void the_authority_is_shown_for_pinning(void **state)
{
    (void)state;
    uint8_t root[32], leaf[32];
    assert_int_equal(cert_fingerprint(ca_pem, root), 0);
    assert_int_equal(cert_fingerprint(server_cert, leaf), 0);
    handshake(false, NULL, false, NULL);
    assert_int_equal(client.connect_status, 0);
    assert_null(strchr(client.name, '-')); /* not verified: no name */
    assert_int_equal(client.prints_status, 0);
    assert_memory_equal(client.root, root, 32);
    assert_memory_equal(client.leaf, leaf, 32);
}

static void the_authority_behind_a_strange_leaf_is_no_pin(void **state)
{
    (void)state;
    char *key, *csr, *leaf, *strange_ca, *strange_key, chain[8192];
    assert_int_equal(cert_authority_new("Strange", 10, &strange_ca, &strange_key), 0);
    assert_int_equal(cert_key_new(&key), 0);
    assert_int_equal(cert_request_new(key, "x", &csr), 0);
    assert_int_equal(cert_sign(csr, "x", NULL, 0, 10, strange_ca, strange_key, &leaf, NULL), 0);
    snprintf(chain, sizeof chain, "%s%s", leaf, ca_pem);
    char *cert = server_cert, *good_key = server_key;
    server_cert = chain;
    server_key = key;
    handshake(false, NULL, false, NULL);
    server_cert = cert;
    server_key = good_key;
    assert_int_equal(client.connect_status, 0);
    assert_int_equal(client.prints_status, TSR_EUNAUTHORIZED);
    free(key), free(csr), free(leaf), free(strange_ca), free(strange_key);
}

/* --- listeners ------------------------------------------------------------------------------ */

static void two_listeners_share_an_address_but_processes_do_not(void **state)
{
    (void)state;
    begin();
    listen_on("127.0.0.1:0", NULL);
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%u", listener_port(listener));
    struct listener *second = NULL;
    assert_int_equal(listener_open(loop, text, NULL, accept_cb, NULL, &second, NULL), 0);
    pid_t child = fork();
    if (child == 0) {
        /* A process of its own has no record of the parent's address: emulate it by a bind of a
         * plain socket, as the probe does. */
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        struct sockaddr_in a = {.sin_family = AF_INET};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.sin_port = htons((uint16_t)listener_port(listener));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        _exit(bind(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno == EADDRINUSE ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    listener_close(second);
    end();
}

static void an_address_of_somebody_else_is_in_use(void **state)
{
    (void)state;
    begin();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t size = sizeof a;
    int on = 1;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on); /* as another host process would */
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    char text[64];
    struct err err = {0};
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(a.sin_port));
    assert_int_equal(listener_open(loop, text, NULL, accept_cb, NULL, &listener, &err), TSR_EEXIST);
    assert_non_null(strstr(err.msg, "in use"));
    close(fd);
    end();
}

static void a_stale_unix_socket_is_replaced_a_live_one_is_not(void **state)
{
    (void)state;
    char address[] = "unix:/tmp/tessera-net-XXXXXX";
    int fd = mkstemp(address + 5);
    close(fd);
    begin();
    /* A regular file is never removed. */
    assert_int_equal(listener_open(loop, address, NULL, accept_cb, NULL, &listener, NULL),
                     TSR_EEXIST);
    unlink(address + 5);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path, address + 5, strlen(address + 5));
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    close(fd);
    listen_on(address, NULL);
    struct stat st;
    assert_int_equal(stat(address + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    struct listener *second = NULL;
    assert_int_equal(listener_open(loop, address, NULL, accept_cb, NULL, &second, NULL),
                     TSR_EEXIST);
    end();
}

static int setup(void **state)
{
    (void)state;
    static const char *const names[] = {"DNS:host1", "IP:127.0.0.1", "IP:::1"};
    char *csr, *leaf, *other_key;
    pattern = malloc(PIECE);
    for (size_t i = 0; i < PIECE; i++) {
        pattern[i] = (char)(i * 2654435761u >> 13);
    }
    cert_authority_new("Test authority", 10, &ca_pem, &ca_key);
    cert_authority_new("Other authority", 10, &other_ca, &other_key);
    cert_key_new(&server_key);
    cert_request_new(server_key, "x", &csr);
    cert_sign(csr, "server-7", names, 3, 10, ca_pem, ca_key, &leaf, NULL);
    server_cert = malloc(8192);
    snprintf(server_cert, 8192, "%s%s", leaf, ca_pem);
    free(csr), free(leaf), free(other_key);
    cert_key_new(&client_key);
    cert_request_new(client_key, "x", &csr);
    cert_sign(csr, "client-3", NULL, 0, 10, ca_pem, ca_key, &client_cert, NULL);
    free(csr);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(pattern), free(ca_pem), free(ca_key), free(other_ca), free(server_key);
    free(server_cert), free(client_key), free(client_cert);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_data_flows_both_ways),
        cmocka_unit_test(tls_data_flows_both_ways),
        cmocka_unit_test(slow_readers_lose_nothing),
        cmocka_unit_test(file_ranges_are_sent_plain_and_with_tls),
        cmocka_unit_test(a_unix_socket_names_the_other_process_user),
        cmocka_unit_test(a_file_shorter_than_promised_fails_the_write),
        cmocka_unit_test(an_echo_is_heard_until_the_reader_closes_in_its_callback),
        cmocka_unit_test(close_cancels_what_is_queued),
        cmocka_unit_test(a_refused_connect_says_so),
        cmocka_unit_test(a_name_is_resolved_and_all_its_addresses_tried),
        cmocka_unit_test(closing_while_connecting_runs_no_connect_callback),
        cmocka_unit_test(impossible_addresses_are_refused_at_once),
        cmocka_unit_test(a_silent_server_times_out_the_handshake),
        cmocka_unit_test(a_server_of_another_authority_is_not_trusted),
        cmocka_unit_test(a_server_with_another_name_is_not_trusted),
        cmocka_unit_test(mutual_tls_names_both_sides),
        cmocka_unit_test(a_client_without_certificate_gets_no_data_where_one_is_demanded),
        cmocka_unit_test(the_authority_is_shown_for_pinning),
        cmocka_unit_test(the_authority_behind_a_strange_leaf_is_no_pin),
        cmocka_unit_test(two_listeners_share_an_address_but_processes_do_not),
        cmocka_unit_test(an_address_of_somebody_else_is_in_use),
        cmocka_unit_test(a_stale_unix_socket_is_replaced_a_live_one_is_not),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
