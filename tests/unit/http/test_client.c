/* Outgoing calls (sys/http_client) against our own server: plain, TLS, Unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tessera/base/str.h"
#include "tessera/http.h"
#include "tessera/sys/cert.h"
#include "tessera/sys/http_client.h"

static struct loop *loop;
static struct http_server *server;
static unsigned plain_port, tls_port;
static char unix_path[] = "/tmp/tessera-client-XXXXXX";
static char unix_address[64];
static char *ca_pem, *other_ca, *server_chain, *server_key;
static char zeros[100000];

struct job {
    int64_t count;
};

static void count_cb(struct http_req *req, int status, const char *data, size_t size)
{
    struct job *job = http_data(req);
    (void)data;
    if (status != 0) {
        return;
    }
    if (size > 0) {
        job->count += (int64_t)size;
        return;
    }
    char text[200];
    const char *type = http_header(req, "Content-Type");
    snprintf(text, sizeof text, "%s %lld %lld %s", http_method_text(req), (long long)job->count,
             (long long)http_content_length(req), type != NULL ? type : "none");
    free(job);
    http_set_header(req, "X-Subject-Token", "  secret ");
    http_reply(req, 201, "text/plain", text, strlen(text));
}

static void piece_cb(struct http_req *req, int status)
{
    struct job *job = http_data(req);
    if (status != 0) {
        return;
    }
    if (job->count == 0) {
        free(job);
        http_end(req);
        return;
    }
    job->count -= (int64_t)sizeof zeros;
    http_write(req, zeros, sizeof zeros, piece_cb);
}

static void drop_job(struct http_req *req)
{
    free(http_data(req));
}

static void handler(void *arg, struct http_req *req)
{
    (void)arg;
    const char *path = http_path(req);
    struct job *job = calloc(1, sizeof *job);
    http_set_data(req, job);
    http_on_abort(req, drop_job);
    if (strcmp(path, "/count") == 0) {
        http_body_stream(req, count_cb);
    } else if (strcmp(path, "/big") == 0) {
        job->count = 100 * (int64_t)sizeof zeros;
        http_begin(req, 200, NULL, job->count);
        piece_cb(req, 0);
    } else if (strcmp(path, "/hold") == 0) {
        /* until the client gives up */
    } else if (strcmp(path, "/cut") == 0) {
        free(job);
        http_begin(req, 200, NULL, 1000);
        http_cut(req);
    } else {
        free(job);
        http_reply(req, 403, "text/plain", "refused", 7);
    }
}

static void closed_cb(void *arg)
{
    (void)arg;
    uv_loop_stop(loop);
}

static void close_task(struct task *task)
{
    (void)task;
    http_server_close(server, 0, closed_cb, NULL);
}

static int setup(void **state)
{
    (void)state;
    static const char *const names[] = {"DNS:localhost", "IP:127.0.0.1"};
    char *ca_key, *other_key, *csr, *leaf;
    cert_authority_new("Test authority", 10, &ca_pem, &ca_key);
    cert_authority_new("Other authority", 10, &other_ca, &other_key);
    cert_key_new(&server_key);
    cert_request_new(server_key, "x", &csr);
    cert_sign(csr, "server", names, 2, 10, ca_pem, ca_key, &leaf, NULL);
    server_chain = malloc(8192);
    snprintf(server_chain, 8192, "%s%s", leaf, ca_pem);
    free(ca_key), free(other_key), free(csr), free(leaf);

    struct tls *tls;
    struct tls_options o = {.role = TLS_SERVER, .cert_pem = server_chain, .key_pem = server_key};
    o.alpn = "http/1.1";
    assert_int_equal(tls_new(&o, &tls, NULL), 0);
    int fd = mkstemp(unix_path);
    close(fd);
    unlink(unix_path);
    snprintf(unix_address, sizeof unix_address, "unix:%s", unix_path);
    assert_int_equal(uv_loop_create("http", &loop), 0);
    assert_int_equal(http_server_new(loop, NULL, handler, NULL, &server), 0);
    assert_int_equal(http_server_listen(server, "127.0.0.1:0", NULL, &plain_port, NULL), 0);
    assert_int_equal(http_server_listen(server, "127.0.0.1:0", tls, &tls_port, NULL), 0);
    assert_int_equal(http_server_listen(server, unix_address, NULL, NULL, NULL), 0);
    tls_unref(tls);
    assert_int_equal(uv_loop_start_thread(loop), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static struct task task = {.run = close_task};
    loop_post(loop, &task);
    uv_loop_join(loop);
    uv_loop_free(loop);
    free(ca_pem), free(other_ca), free(server_chain), free(server_key);
    return 0;
}

static const char *url(bool tls, const char *path)
{
    static char text[200];
    snprintf(text, sizeof text, "%s://127.0.0.1:%u%s", tls ? "https" : "http",
             tls ? tls_port : plain_port, path);
    return text;
}

static void call(const struct http_client_request *r, int status, const char *body)
{
    struct http_client_reply reply;
    struct err err = {0};
    int result = http_client_call(r, &reply, &err);
    if (result != 0) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(result, 0);
    assert_int_equal(reply.status, status);
    if (body != NULL) {
        assert_string_equal(reply.body.data, body);
    }
    http_client_reply_free(&reply);
}

static void call_fails(const struct http_client_request *r, int code)
{
    struct http_client_reply reply;
    struct err err = {0};
    assert_int_equal(http_client_call(r, &reply, &err), code);
    assert_int_equal(err.code, code);
    assert_true(err.msg[0] != 0);
    assert_null(reply.body.data);
}

static void a_call_brings_status_headers_and_body(void **state)
{
    (void)state;
    struct http_client_reply reply;
    struct http_client_request r = {.method = "POST", .url = url(false, "/count"), .body = "abc"};
    char token[20], small[4];
    r.body_size = 3;
    r.content_type = "application/json";
    assert_int_equal(http_client_call(&r, &reply, NULL), 0);
    assert_int_equal(reply.status, 201);
    assert_string_equal(reply.body.data, "POST 3 3 application/json");
    assert_true(http_client_header(&reply, "x-subject-token", token, sizeof token));
    assert_string_equal(token, "secret");
    assert_false(http_client_header(&reply, "x-subject-token", small, sizeof small));
    assert_false(http_client_header(&reply, "x-subject", token, sizeof token));
    http_client_reply_free(&reply);
}

static void methods_without_body_send_none(void **state)
{
    (void)state;
    struct http_client_request r = {.method = "POST", .url = url(false, "/count")};
    call(&r, 201, "POST 0 0 none");
    r.method = "DELETE";
    call(&r, 201, "DELETE 0 0 none");
    r.method = "PATCH";
    r.content_type = "application/x-patch";
    call(&r, 201, "PATCH 0 0 application/x-patch");
    r.method = "HEAD";
    call(&r, 201, NULL);
}

struct source {
    int64_t left, received, last_sent;
    int fail;
};

static long read_cb(void *arg, void *out, size_t size)
{
    struct source *s = arg;
    size_t n = (int64_t)size < s->left ? size : (size_t)s->left;
    memset(out, 'x', n);
    s->left -= (int64_t)n;
    return s->fail != 0 ? s->fail : (long)n;
}

static int write_cb(void *arg, const void *data, size_t size)
{
    struct source *s = arg;
    (void)data;
    s->received += (int64_t)size;
    return s->fail;
}

static void progress_cb(void *arg, int64_t sent, int64_t sent_total, int64_t received,
                        int64_t received_total)
{
    struct source *s = arg;
    (void)sent_total, (void)received, (void)received_total;
    s->last_sent = sent;
}

static void bodies_stream_both_ways(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct source s = {.left = 20000000};
        struct http_client_request r = {.method = "PUT", .url = url(tls, "/count"), .arg = &s};
        r.ca_pem = ca_pem;
        r.read_body = read_cb;
        r.read_size = 20000000;
        r.progress = progress_cb;
        call(&r, 201, "PUT 20000000 20000000 none");
        assert_int_equal(s.last_sent, 20000000);
        s.left = 5000000;
        r.read_size = -1;
        call(&r, 201, "PUT 5000000 -1 none");
        struct http_client_request get = {.url = url(tls, "/big"), .arg = &s, .ca_pem = ca_pem};
        get.write_body = write_cb;
        call(&get, 200, NULL);
        assert_int_equal(s.received, 10000000);
    }
}

static void what_the_functions_return_ends_the_call(void **state)
{
    (void)state;
    struct source s = {.left = 1000, .fail = TSR_ENOSPC};
    struct http_client_request r = {.url = url(false, "/big"), .arg = &s, .write_body = write_cb};
    call_fails(&r, TSR_ENOSPC);
    struct http_client_request put = {.method = "PUT", .url = url(false, "/count"), .arg = &s};
    put.read_body = read_cb;
    put.read_size = 1000;
    call_fails(&put, TSR_ENOSPC);
}

static void a_refused_upload_shows_its_status(void **state)
{
    (void)state;
    struct source s = {.left = (int64_t)1 << 40};
    struct http_client_request r = {.method = "PUT", .url = url(false, "/no"), .arg = &s};
    r.read_body = read_cb;
    r.read_size = -1;
    r.write_body = write_cb;
    call(&r, 403, "refused");
    assert_int_equal(s.received, 0); /* an error's body is no data */
}

static void only_the_named_authority_is_trusted(void **state)
{
    (void)state;
    struct http_client_request r = {.url = url(true, "/no"), .ca_pem = ca_pem};
    call(&r, 403, "refused");
    r.ca_pem = other_ca;
    call_fails(&r, TSR_EUNAUTHORIZED);
    r.ca_pem = NULL;
    call_fails(&r, TSR_EUNAUTHORIZED);
}

static void a_pin_names_the_authority(void **state)
{
    (void)state;
    uint8_t pin[32], leaf[32];
    assert_int_equal(cert_fingerprint(ca_pem, pin), 0);
    assert_int_equal(cert_fingerprint(server_chain, leaf), 0);
    struct http_client_request r = {.url = url(true, "/no"), .pin_root_sha256 = pin};
    call(&r, 403, "refused");
    r.pin_root_sha256 = leaf;
    call_fails(&r, TSR_EUNAUTHORIZED);
    pin[31] ^= 1;
    r.pin_root_sha256 = pin;
    call_fails(&r, TSR_EUNAUTHORIZED);
}

static void a_unix_socket_is_reached(void **state)
{
    (void)state;
    struct http_client_request r = {.url = "http://localhost/no", .unix_socket = unix_path};
    call(&r, 403, "refused");
    r.unix_socket = "/nonexistent/socket";
    call_fails(&r, TSR_ECONNECT);
}

static void failures_have_their_codes(void **state)
{
    (void)state;
    struct http_client_request r = {.url = "http://127.0.0.1:1/"};
    call_fails(&r, TSR_ECONNECT);
    r.url = "ftp://127.0.0.1/";
    call_fails(&r, TSR_EINVAL);
    r.url = url(false, "/hold");
    r.timeout_ms = 100;
    call_fails(&r, TSR_ETIMEOUT);
    r.timeout_ms = 0;
    r.url = url(false, "/big");
    r.reply_max = 1000;
    call_fails(&r, TSR_ETOOBIG);
    r.url = url(false, "/cut");
    call_fails(&r, TSR_EEOF);
    const char *const bad[] = {"A: b\r\nC: d"};
    r.headers = bad;
    r.header_count = 1;
    call_fails(&r, TSR_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_brings_status_headers_and_body),
        cmocka_unit_test(methods_without_body_send_none),
        cmocka_unit_test(bodies_stream_both_ways),
        cmocka_unit_test(what_the_functions_return_ends_the_call),
        cmocka_unit_test(a_refused_upload_shows_its_status),
        cmocka_unit_test(only_the_named_authority_is_trusted),
        cmocka_unit_test(a_pin_names_the_authority),
        cmocka_unit_test(a_unix_socket_is_reached),
        cmocka_unit_test(failures_have_their_codes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
