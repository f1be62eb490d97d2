/* The server over real loopback sockets: it runs on a loop with a thread of its own, the tests are
 * blocking clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"
#include "tessera/http.h"

enum { STREAM_PIECE = 100000 };

static struct loop *loop;
static struct http_server *server;
static unsigned port;
static FILE *file;
static char stream_data[STREAM_PIECE];
static atomic_int handled, aborts, body_ends, write_fails;

struct job {
    struct timer timer;
    struct http_req *req;
    int64_t left, received, sum;
    int64_t pause_at;
};

static struct job *job_of(struct http_req *req)
{
    struct job *job = http_data(req);
    if (job == NULL) {
        job = calloc(1, sizeof *job);
        job->req = req;
        http_set_data(req, job);
    }
    return job;
}

static void job_abort(struct http_req *req)
{
    struct job *job = http_data(req);
    timer_stop(&job->timer);
    free(job);
    atomic_fetch_add(&aborts, 1);
}

static void reply_text(struct http_req *req, int status, const char *text)
{
    http_reply(req, status, "text/plain", text, strlen(text));
}

static void echo_cb(struct http_req *req, int status, const char *data, size_t size)
{
    if (status != 0) {
        atomic_fetch_add(&body_ends, 1);
        reply_text(req, status == TSR_ETOOBIG ? 413 : 400, err_text(status));
        return;
    }
    http_reply(req, 200, "text/plain", data, size);
}

static void job_resume(struct timer *timer)
{
    struct job *job = container_of(timer, struct job, timer);
    http_body_resume(job->req);
}

static void count_cb(struct http_req *req, int status, const char *data, size_t size)
{
    struct job *job = job_of(req);
    if (status != 0) {
        atomic_fetch_add(&body_ends, 1);
        if (status == TSR_EPROTO) {
            free(job);
            reply_text(req, 400, "bad chunk");
        }
        return;
    }
    if (size == 0) {
        char text[64];
        snprintf(text, sizeof text, "%lld %lld", (long long)job->received, (long long)job->sum);
        free(job);
        reply_text(req, 200, text);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        job->sum += (unsigned char)data[i];
    }
    job->received += (int64_t)size;
    if (job->pause_at > 0 && job->received >= job->pause_at) {
        job->pause_at += job->received > 100 ? 300000 : 2;
        http_body_pause(req);
        timer_init(&job->timer, http_loop(req), job_resume);
        timer_start(&job->timer, 1);
    }
}

static void stream_cb(struct http_req *req, int status)
{
    struct job *job = http_data(req);
    if (status != 0) {
        atomic_fetch_add(&write_fails, 1);
        return; /* the abort follows */
    }
    if (job->left == 0) {
        free(job);
        http_end(req);
        return;
    }
    size_t size = job->left < STREAM_PIECE ? (size_t)job->left : STREAM_PIECE;
    job->left -= (int64_t)size;
    http_write(req, stream_data, size, stream_cb);
}

static void stream(struct http_req *req)
{
    int64_t size = 0;
    str_to_i64(http_query(req), 0, INT64_MAX, &size);
    struct job *job = job_of(req);
    http_on_abort(req, job_abort);
    job->left = size;
    http_set_header(req, "X-Kind", "stre\r\nam");
    http_begin(req, 200, "application/octet-stream", size);
    stream_cb(req, 0);
}

static void end_cb(struct http_req *req, int status)
{
    if (status == 0) {
        http_end(req);
    }
}

static void cut_cb(struct http_req *req, int status)
{
    (void)status;
    http_cut(req);
}

static void late_cb(struct timer *timer)
{
    struct job *job = container_of(timer, struct job, timer);
    struct http_req *req = job->req;
    free(job);
    reply_text(req, 200, "late");
}

static void late(struct http_req *req, void (*cb)(struct timer *timer))
{
    struct job *job = job_of(req);
    http_on_abort(req, job_abort);
    timer_init(&job->timer, http_loop(req), cb);
    timer_start(&job->timer, 40);
}

static void late_echo_cb(struct timer *timer)
{
    struct job *job = container_of(timer, struct job, timer);
    struct http_req *req = job->req;
    free(job);
    http_set_data(req, NULL);
    http_on_abort(req, NULL);
    http_body_collect(req, 1 << 20, echo_cb);
}

static void handler(void *arg, struct http_req *req)
{
    (void)arg;
    const char *path = http_path(req);
    atomic_fetch_add(&handled, 1);
    if (strcmp(path, "/hello") == 0) {
        reply_text(req, 200, "hello");
    } else if (strcmp(path, "/echo") == 0) {
        http_body_collect(req, 1 << 20, echo_cb);
    } else if (strcmp(path, "/late-echo") == 0) {
        late(req, late_echo_cb);
    } else if (strcmp(path, "/small") == 0) {
        http_body_collect(req, 10, echo_cb);
    } else if (strcmp(path, "/count") == 0 || strcmp(path, "/count-slowly") == 0) {
        struct job *job = job_of(req);
        job->pause_at = strcmp(path, "/count") != 0;
        http_on_abort(req, job_abort);
        http_body_stream(req, count_cb);
    } else if (strcmp(path, "/stream") == 0) {
        stream(req);
    } else if (strcmp(path, "/file") == 0) {
        http_begin(req, 200, NULL, 5000);
        http_write_file(req, fileno(file), 1000, 5000, end_cb);
    } else if (strcmp(path, "/refuse") == 0) {
        reply_text(req, 403, "refused");
    } else if (strcmp(path, "/late") == 0) {
        late(req, late_cb);
    } else if (strcmp(path, "/empty") == 0) {
        http_reply(req, 204, NULL, NULL, 0);
    } else if (strcmp(path, "/cut") == 0) {
        http_begin(req, 200, NULL, 1000);
        http_write(req, stream_data, 10, cut_cb);
    } else if (strcmp(path, "/short") == 0) {
        http_begin(req, 200, NULL, 1000);
        http_write(req, stream_data, 10, end_cb);
    } else if (strcmp(path, "/hold") == 0) {
        job_of(req);
        http_on_abort(req, job_abort);
    } else if (strcmp(path, "/origin") == 0) {
        char text[300];
        http_origin(req, text, sizeof text);
        reply_text(req, 200, text);
    } else {
        char text[300];
        snprintf(text, sizeof text, "%s %s?%s", http_method_text(req), path, http_query(req));
        reply_text(req, 200, text);
    }
}

/* --- fixture -------------------------------------------------------------------------------- */

static void server_start(const struct http_options *options)
{
    struct err err = {0};
    atomic_store(&handled, 0);
    atomic_store(&aborts, 0);
    atomic_store(&body_ends, 0);
    atomic_store(&write_fails, 0);
    assert_int_equal(uv_loop_create("http", &loop), 0);
    assert_int_equal(http_server_new(loop, options, handler, NULL, &server), 0);
    assert_int_equal(http_server_listen(server, "127.0.0.1:0", NULL, &port, &err), 0);
    assert_int_equal(uv_loop_start_thread(loop), 0);
}

static void closed_cb(void *arg)
{
    (void)arg;
    uv_loop_stop(loop);
}

static uint64_t drain_ms;

static void close_task(struct task *task)
{
    (void)task;
    http_server_close(server, drain_ms, closed_cb, NULL);
}

static void server_stop(uint64_t drain)
{
    static struct task task;
    drain_ms = drain;
    task.run = close_task;
    loop_post(loop, &task);
    uv_loop_join(loop);
    uv_loop_free(loop);
}

static int setup(void **state)
{
    (void)state;
    server_start(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop(3000);
    return 0;
}

static int client_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = 8};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* false: the server closed. */
static bool client_send(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Everything until the server closes; fails on a timeout. */
static void client_read_all(int fd, struct buf *out)
{
    char data[64 << 10];
    ssize_t n;
    while ((n = recv(fd, data, sizeof data, 0)) > 0) {
        buf_append(out, data, (size_t)n);
    }
    assert_int_equal(n, 0);
    buf_append(out, "", 1);
}

static void client_read_until(int fd, struct buf *out, const char *end)
{
    char data[4096];
    while (out->data == NULL || strstr(out->data, end) == NULL) {
        ssize_t n = recv(fd, data, sizeof data, 0);
        assert_true(n > 0);
        buf_append(out, data, (size_t)n);
    }
}

static char *exchange(const char *request, size_t size, size_t step)
{
    struct buf out = {0};
    int fd = client_open();
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        assert_true(client_send(fd, request + at, n));
    }
    client_read_all(fd, &out);
    close(fd);
    return buf_detach(&out, NULL);
}

static char *ask(const char *request)
{
    return exchange(request, strlen(request), SIZE_MAX / 2);
}

static void expect_in(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in:\n%s", part, text);
    }
}

static void expect(const char *request, const char *status, const char *part)
{
    char *reply = ask(request);
    char line[64];
    snprintf(line, sizeof line, "HTTP/1.1 %s ", status);
    if (!str_starts(reply, line)) {
        fail_msg("not %s:\n%s", status, reply);
    }
    expect_in(reply, part);
    free(reply);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    while ((text = strstr(text, part)) != NULL) {
        count++;
        text++;
    }
    return count;
}

#define CLOSE "Host: x\r\nConnection: close\r\n"

/* --- heads and framing ---------------------------------------------------------------------- */

static void a_request_is_answered(void **state)
{
    (void)state;
    char *reply = ask("GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(str_starts(reply, "HTTP/1.1 200 OK\r\n"));
    expect_in(reply, "Content-Length: 5\r\n");
    expect_in(reply, "Content-Type: text/plain\r\n");
    expect_in(reply, "Connection: close\r\n");
    expect_in(reply, "x-openstack-request-id: req-");
    expect_in(reply, " GMT\r\n");
    expect_in(reply, "\r\n\r\nhello");
    free(reply);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    static const char text[] =
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        "GET /late HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /late-echo HTTP/1.1\r\nHost: x\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nxyz\r\n2;a=b\r\n12\r\n0\r\nTrailer: t\r\n\r\n"
        "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
        "GET /z HTTP/1.1\r\n" CLOSE "\r\n";
    static const size_t steps[] = {SIZE_MAX / 2, 1, 7};
    for (size_t i = 0; i < array_len(steps); i++) {
        char *reply = exchange(text, sizeof text - 1, steps[i]);
        assert_int_equal(count_of(reply, "HTTP/1.1 200 OK"), 6);
        assert_int_equal(count_of(reply, "HTTP/1.1 403 Forbidden"), 1);
        assert_int_equal(count_of(reply, "Connection: close"), 1);
        const char *at = reply;
        static const char *const order[] = {"GET /a?", "abc",     "late",
                                            "xyz12",   "refused", "GET /z?"};
        for (size_t k = 0; k < array_len(order); k++) {
            at = strstr(at, order[k]);
            assert_non_null(at);
        }
        free(reply);
    }
}

static void old_clients_are_understood(void **state)
{
    (void)state;
    expect("GET /hello HTTP/1.0\r\n\r\n", "200", "Connection: close");
    char *reply = ask("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                      "GET /hello HTTP/1.0\r\n\r\n");
    assert_int_equal(count_of(reply, "200 OK"), 2);
    expect_in(reply, "Connection: keep-alive");
    free(reply);
}

static void targets_take_several_forms(void **state)
{
    (void)state;
    expect("GET /a%20b?c=d?e#f HTTP/1.1\r\n" CLOSE "\r\n", "200", "GET /a%20b?c=d?e");
    expect("GET http://other:81/p?q HTTP/1.1\r\n" CLOSE "\r\n", "200", "GET /p?q");
    expect("GET http://other HTTP/1.1\r\n" CLOSE "\r\n", "200", "GET /?");
    expect("GET http://other?q=1 HTTP/1.1\r\n" CLOSE "\r\n", "200", "GET /?q=1");
    expect("OPTIONS * HTTP/1.1\r\n" CLOSE "\r\n", "200", "OPTIONS *?");
    expect("GET * HTTP/1.1\r\n" CLOSE "\r\n", "400", "");
    expect("CONNECT a:1 HTTP/1.1\r\n" CLOSE "\r\n", "501", "");
    expect("GET http://other:81/origin HTTP/1.1\r\n" CLOSE "\r\n", "200", "http://other:81");
    expect("GET /origin HTTP/1.1\r\nConnection: close\r\nHost: h:9\r\n\r\n", "200", "http://h:9");
    expect("GET /origin HTTP/1.1\r\nConnection: close\r\nHost: a\"b\r\n\r\n", "200",
           "http://127.0.0.1:");
    expect("PROPFIND /x HTTP/1.1\r\n" CLOSE "\r\n", "200", "PROPFIND /x?");
}

static void bad_requests_are_answered_and_closed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nLength : b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\nContent-Length: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\tb\r\n\r\n",
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        char *reply = ask(bad[i]);
        if (!str_starts(reply, "HTTP/1.1 400 Bad Request\r\n")) {
            fail_msg("%s\n-> %s", bad[i], reply);
        }
        expect_in(reply, "Connection: close");
        free(reply);
    }
    expect("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501", "");
    expect("GET /\r\n\r\n", "505", "");
    expect("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505", "");
}

static void oversize_heads_are_refused(void **state)
{
    (void)state;
    char *text = malloc(200000);
    for (int kind = 0; kind < 3; kind++) {
        size_t n = (size_t)sprintf(text, "GET /%s", kind == 0 ? "" : "x HTTP/1.1\r\nHost: a\r\n");
        if (kind == 2) {
            for (int i = 0; i < 200; i++) {
                n += (size_t)sprintf(text + n, "A%d: b\r\n", i);
            }
            n += (size_t)sprintf(text + n, "\r\n");
        } else {
            n += (size_t)sprintf(text + n, "%s", kind == 0 ? "" : "Big: ");
            memset(text + n, 'a', 70000);
            n += 70000;
        }
        char *reply = exchange(text, n, SIZE_MAX / 2);
        assert_true(str_starts(reply, "HTTP/1.1 431 "));
        free(reply);
    }
    /* Just below the limit is fine. */
    size_t n = (size_t)sprintf(text, "GET /hello HTTP/1.1\r\n" CLOSE "Big: ");
    memset(text + n, 'a', 65000);
    n += 65000;
    n += (size_t)sprintf(text + n, "\r\n\r\n");
    char *reply = exchange(text, n, 1000);
    assert_true(str_starts(reply, "HTTP/1.1 200 "));
    free(reply);
    free(text);
}

static void the_clients_request_id_is_kept_if_it_is_a_good_one(void **state)
{
    (void)state;
    expect("GET /hello HTTP/1.1\r\n" CLOSE "X-OpenStack-Request-ID: req-1.a_B\r\n\r\n", "200",
           "x-openstack-request-id: req-1.a_B\r\n");
    expect("GET /hello HTTP/1.1\r\n" CLOSE "X-OpenStack-Request-ID: no spaces\r\n\r\n", "200",
           "x-openstack-request-id: req-");
}

/* --- bodies --------------------------------------------------------------------------------- */

static void a_body_over_the_handlers_limit_is_told(void **state)
{
    (void)state;
    expect("POST /small HTTP/1.1\r\n" CLOSE "Content-Length: 10\r\n\r\n0123456789", "200",
           "0123456789");
    expect("POST /small HTTP/1.1\r\n" CLOSE "Content-Length: 11\r\n\r\n0123456789a", "413", "");
    expect("POST /small HTTP/1.1\r\n" CLOSE
           "Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n5\r\n6789a\r\n0\r\n\r\n",
           "413", "");
    /* The connection goes on after such a body. */
    char *reply = ask("POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n"
                      "01234567890123456789GET /hello HTTP/1.1\r\n" CLOSE "\r\n");
    expect_in(reply, "413 ");
    expect_in(reply, "hello");
    free(reply);
}

static void a_bad_chunk_is_told(void **state)
{
    (void)state;
    expect(
        "POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        "400", "bad chunk");
    expect("POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
           "chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
           "400", "bad chunk");
    expect(
        "POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\rX0\r\n\r\n",
        "400", "bad chunk");
    expect(
        "POST /count HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\rXabc\r\n0\r\n\r\n",
        "400", "bad chunk");
    expect("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
           "400", "protocol error");
}

static void upload(const char *path, bool chunked, size_t total)
{
    struct buf out = {0};
    char head[256], expected[64];
    int fd = client_open();
    int64_t sum = 0;
    if (chunked) {
        snprintf(head, sizeof head,
                 "PUT %s HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n", path);
    } else {
        snprintf(head, sizeof head, "PUT %s HTTP/1.1\r\n" CLOSE "Content-Length: %zu\r\n\r\n", path,
                 total);
    }
    assert_true(client_send(fd, head, strlen(head)));
    for (size_t at = 0; at < total;) {
        size_t n = total - at < STREAM_PIECE ? total - at : STREAM_PIECE;
        if (chunked) {
            n = at % 3 == 0 && n > 5 ? 5 : n;
            snprintf(head, sizeof head, "%zx\r\n", n);
            assert_true(client_send(fd, head, strlen(head)));
        }
        for (size_t i = 0; i < n; i++) {
            sum += (unsigned char)stream_data[i];
        }
        assert_true(client_send(fd, stream_data, n));
        if (chunked) {
            assert_true(client_send(fd, "\r\n", 2));
        }
        at += n;
    }
    if (chunked) {
        assert_true(client_send(fd, "0\r\n\r\n", 5));
    }
    client_read_all(fd, &out);
    snprintf(expected, sizeof expected, "\r\n\r\n%zu %lld", total, (long long)sum);
    expect_in(out.data, expected);
    buf_free(&out);
    close(fd);
}

static void large_bodies_arrive_whole(void **state)
{
    (void)state;
    upload("/count", false, 50 << 20);
    upload("/count", true, 20 << 20);
    upload("/count", false, 0);
    upload("/count", true, 0);
}

static void a_paused_reader_loses_nothing(void **state)
{
    (void)state;
    upload("/count-slowly", false, 10 << 20);
    upload("/count-slowly", true, 10 << 20);
    upload("/count-slowly", true, 7);
}

static void a_body_is_invited_when_it_is_asked_for(void **state)
{
    (void)state;
    struct buf out = {0};
    int fd = client_open();
    static const char head[] =
        "POST /late-echo HTTP/1.1\r\n" CLOSE "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    assert_true(client_send(fd, head, sizeof head - 1));
    client_read_until(fd, &out, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_true(client_send(fd, "body", 4));
    client_read_all(fd, &out);
    expect_in(out.data, "\r\n\r\nbody");
    buf_free(&out);
    close(fd);
}

static void a_refused_body_is_never_invited(void **state)
{
    (void)state;
    char *reply = ask("POST /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                      "Content-Length: 4\r\n\r\n");
    assert_true(str_starts(reply, "HTTP/1.1 403 "));
    expect_in(reply, "Connection: close");
    free(reply);
    reply = ask("POST /small HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                "Content-Length: 4000\r\n\r\n");
    assert_true(str_starts(reply, "HTTP/1.1 413 "));
    free(reply);
}

static void an_early_refusal_is_read_by_a_client_that_still_sends(void **state)
{
    (void)state;
    struct buf out = {0};
    char head[128];
    /* 20 MiB are dropped, and the connection lives on. */
    int fd = client_open();
    snprintf(head, sizeof head, "PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
             200 * STREAM_PIECE);
    assert_true(client_send(fd, head, strlen(head)));
    for (int i = 0; i < 200; i++) {
        assert_true(client_send(fd, stream_data, STREAM_PIECE));
    }
    assert_true(client_send(fd, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n", 21 + sizeof CLOSE + 1));
    client_read_all(fd, &out);
    expect_in(out.data, "403 Forbidden");
    expect_in(out.data, "hello");
    buf_free(&out);
    close(fd);
    /* More than will be dropped: the status still comes first. */
    fd = client_open();
    snprintf(head, sizeof head, "PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
             1 << 30);
    assert_true(client_send(fd, head, strlen(head)));
    for (int i = 0; i < 2000 && client_send(fd, stream_data, STREAM_PIECE); i++) {
    }
    client_read_until(fd, &out, "refused");
    expect_in(out.data, "403 Forbidden");
    expect_in(out.data, "Connection: close");
    buf_free(&out);
    close(fd);
}

/* --- replies -------------------------------------------------------------------------------- */

static void head_requests_get_no_body(void **state)
{
    (void)state;
    static const char *const paths[] = {"/hello", "/stream?500000", "/file"};
    static const char *const lengths[] = {"Content-Length: 5\r\n", "Content-Length: 500000\r\n",
                                          "Content-Length: 5000\r\n"};
    for (size_t i = 0; i < 3; i++) {
        char request[128];
        snprintf(request, sizeof request, "HEAD %s HTTP/1.1\r\n" CLOSE "\r\n", paths[i]);
        char *reply = ask(request);
        expect_in(reply, lengths[i]);
        assert_string_equal(strstr(reply, "\r\n\r\n"), "\r\n\r\n");
        free(reply);
    }
}

static void no_content_has_neither_body_nor_length(void **state)
{
    (void)state;
    char *reply = ask("DELETE /empty HTTP/1.1\r\n" CLOSE "\r\n");
    assert_true(str_starts(reply, "HTTP/1.1 204 No Content\r\n"));
    assert_null(strstr(reply, "Content-Length"));
    assert_string_equal(strstr(reply, "\r\n\r\n"), "\r\n\r\n");
    free(reply);
}

static void a_streamed_reply_arrives_whole(void **state)
{
    (void)state;
    struct buf out = {0};
    int fd = client_open();
    static const char text[] = "GET /stream?30000001 HTTP/1.1\r\n" CLOSE "\r\n";
    assert_true(client_send(fd, text, sizeof text - 1));
    client_read_all(fd, &out);
    const char *body = strstr(out.data, "\r\n\r\n") + 4;
    expect_in(out.data, "X-Kind: stream\r\n");
    assert_int_equal(out.size - 1 - (size_t)(body - out.data), 30000001);
    assert_memory_equal(body, stream_data, STREAM_PIECE);
    assert_memory_equal(body + 30000000, stream_data, 1);
    buf_free(&out);
    close(fd);
    expect("GET /stream?0 HTTP/1.1\r\n" CLOSE "\r\n", "200", "Content-Length: 0\r\n");
}

static void a_file_range_is_sent(void **state)
{
    (void)state;
    struct buf out = {0};
    int fd = client_open();
    static const char text[] = "GET /file HTTP/1.1\r\nHost: x\r\n\r\n"
                               "GET /file HTTP/1.1\r\n" CLOSE "\r\n";
    assert_true(client_send(fd, text, sizeof text - 1));
    client_read_all(fd, &out);
    for (int i = 0; i < 2; i++) {
        char *body = strstr(i == 0 ? out.data : out.data + 5000, "\r\n\r\n") + 4;
        assert_memory_equal(body, stream_data + 1000, 5000);
    }
    buf_free(&out);
    close(fd);
}

static void a_cut_reply_is_seen_to_be_short(void **state)
{
    (void)state;
    static const char *const paths[] = {"/cut", "/short"};
    for (int i = 0; i < 2; i++) {
        char request[64];
        struct buf out = {0};
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[i]);
        int fd = client_open();
        assert_true(client_send(fd, request, strlen(request)));
        client_read_all(fd, &out);
        expect_in(out.data, "Content-Length: 1000\r\n");
        assert_int_equal(out.size - 1 - (size_t)(strstr(out.data, "\r\n\r\n") + 4 - out.data), 10);
        buf_free(&out);
        close(fd);
    }
}

/* --- clients that leave, slow ones, the end --------------------------------------------------- */

static void wait_for(atomic_int *counter, int value)
{
    for (int i = 0; i < 3000 && atomic_load(counter) < value; i++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(counter), value);
}

static void reset_close(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static void a_client_that_leaves_aborts_its_request(void **state)
{
    (void)state;
    static const char hold[] = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = client_open();
    assert_true(client_send(fd, hold, sizeof hold - 1));
    wait_for(&handled, 1);
    reset_close(fd);
    wait_for(&aborts, 1);

    static const char half[] = "PUT /count HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc";
    fd = client_open();
    assert_true(client_send(fd, half, sizeof half - 1));
    close(fd);
    wait_for(&body_ends, 1);
    wait_for(&aborts, 2);

    static const char big[] = "GET /stream?1000000000 HTTP/1.1\r\nHost: x\r\n\r\n";
    fd = client_open();
    assert_true(client_send(fd, big, sizeof big - 1));
    wait_for(&handled, 3);
    reset_close(fd);
    wait_for(&write_fails, 1);
    wait_for(&aborts, 3);

    fd = client_open(); /* leaves before the handler asks for the body */
    static const char early[] = "PUT /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    assert_true(client_send(fd, early, sizeof early - 1));
    wait_for(&handled, 4);
    close(fd);
    wait_for(&aborts, 4);
}

static void a_client_that_only_stops_sending_gets_its_reply(void **state)
{
    (void)state;
    struct buf out = {0};
    static const char text[] = "GET /late HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = client_open();
    assert_true(client_send(fd, text, sizeof text - 1));
    shutdown(fd, SHUT_WR);
    client_read_all(fd, &out);
    expect_in(out.data, "\r\n\r\nlate");
    buf_free(&out);
    close(fd);
    assert_int_equal(atomic_load(&aborts), 0);
}

static void slow_and_idle_clients_are_let_go(void **state)
{
    (void)state;
    struct http_options options = {
        .head_timeout_ms = 100, .idle_timeout_ms = 150, .body_timeout_ms = 120};
    server_start(&options);
    struct buf out = {0};
    int fd = client_open(); /* says nothing */
    client_read_all(fd, &out);
    assert_int_equal(out.size, 1);
    close(fd);
    buf_free(&out);

    fd = client_open(); /* begins a head */
    assert_true(client_send(fd, "GET / HT", 8));
    client_read_all(fd, &out);
    expect_in(out.data, "HTTP/1.1 408 ");
    close(fd);
    buf_free(&out);

    fd = client_open(); /* begins a body */
    static const char half[] = "PUT /count HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc";
    assert_true(client_send(fd, half, sizeof half - 1));
    client_read_all(fd, &out);
    wait_for(&aborts, 1);
    close(fd);
    buf_free(&out);

    fd = client_open(); /* does not read its reply */
    static const char big[] = "GET /stream?1000000000 HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_true(client_send(fd, big, sizeof big - 1));
    wait_for(&aborts, 2);
    assert_int_equal(atomic_load(&write_fails), 1);
    close(fd);
    server_stop(0);
}

static void a_closing_server_finishes_what_it_has_begun(void **state)
{
    (void)state;
    server_start(NULL);
    struct buf out = {0};
    static const char text[] = "GET /late HTTP/1.1\r\nHost: x\r\n\r\n";
    int idle = client_open();
    int busy = client_open();
    assert_true(client_send(busy, text, sizeof text - 1));
    wait_for(&handled, 1);
    drain_ms = 2000;
    static struct task task = {.run = close_task};
    loop_post(loop, &task);
    client_read_all(busy, &out);
    expect_in(out.data, "Connection: close");
    expect_in(out.data, "late");
    close(busy);
    uv_loop_join(loop);
    uv_loop_free(loop);
    close(idle);
    buf_free(&out);
    assert_int_equal(atomic_load(&aborts), 0);

    server_start(NULL); /* one that never ends is cut when the time is over */
    busy = client_open();
    static const char hold[] = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_true(client_send(busy, hold, sizeof hold - 1));
    wait_for(&handled, 1);
    server_stop(50);
    assert_int_equal(atomic_load(&aborts), 1);
    close(busy);
}

static void connections_over_the_limit_are_closed(void **state)
{
    (void)state;
    struct http_options options = {.connections_max = 2};
    server_start(&options);
    int a = client_open(), b = client_open();
    usleep(20000);
    int c = client_open();
    struct buf out = {0};
    client_read_all(c, &out);
    assert_int_equal(out.size, 1);
    buf_free(&out);
    close(a), close(b), close(c);
    server_stop(0);
}

static void what_passes_is_counted(void **state)
{
    (void)state;
    server_start(NULL);
    int64_t replies = metric_get(METRIC_requests_total),
            in = metric_get(METRIC_client_bytes_in_total),
            out = metric_get(METRIC_client_bytes_out_total);
    assert_int_equal(metric_get(METRIC_connections), 0);
    const char *request = "GET /hello HTTP/1.1\r\n" CLOSE "\r\n";
    char *reply = ask(request);
    assert_int_equal(metric_get(METRIC_requests_total) - replies, 1);
    assert_int_equal(metric_get(METRIC_client_bytes_in_total) - in, strlen(request));
    assert_int_equal(metric_get(METRIC_client_bytes_out_total) - out, strlen(reply));
    free(reply);
    server_stop(0);
    assert_int_equal(metric_get(METRIC_connections), 0);
    assert_int_equal(metric_get(METRIC_requests_active), 0);
}

static int group_setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stream_data; i++) {
        stream_data[i] = (char)(i * 2654435761u >> 11);
    }
    file = tmpfile();
    fwrite(stream_data, 1, sizeof stream_data, file);
    return fflush(file);
}

static int group_teardown(void **state)
{
    (void)state;
    return fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(pipelined_requests_are_answered_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(old_clients_are_understood, setup, teardown),
        cmocka_unit_test_setup_teardown(targets_take_several_forms, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_requests_are_answered_and_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(oversize_heads_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(the_clients_request_id_is_kept_if_it_is_a_good_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_body_over_the_handlers_limit_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_chunk_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(large_bodies_arrive_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_paused_reader_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_is_invited_when_it_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_body_is_never_invited, setup, teardown),
        cmocka_unit_test_setup_teardown(an_early_refusal_is_read_by_a_client_that_still_sends,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(head_requests_get_no_body, setup, teardown),
        cmocka_unit_test_setup_teardown(no_content_has_neither_body_nor_length, setup, teardown),
        cmocka_unit_test_setup_teardown(a_streamed_reply_arrives_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_range_is_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cut_reply_is_seen_to_be_short, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_aborts_its_request, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_that_only_stops_sending_gets_its_reply, setup,
                                        teardown),
        cmocka_unit_test(slow_and_idle_clients_are_let_go),
        cmocka_unit_test(a_closing_server_finishes_what_it_has_begun),
        cmocka_unit_test(connections_over_the_limit_are_closed),
        cmocka_unit_test(what_passes_is_counted),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
