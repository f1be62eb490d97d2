/* A download into a loop (sys/http_fetch) from our own server: whole, paused, canceled, refused. */
#include "test.h"

#include <stdlib.h>

#include <sys/socket.h>

#include "tessera/http.h"
#include "tessera/sys/http_fetch.h"

enum { PIECE = 100000, PIECES = 400 };

static struct loop *server_loop, *loop;
static struct pool *pool;
static struct http_server *server;
static unsigned port;
static char piece[PIECE];

struct sending {
    int left;
};

static void sent_cb(struct http_req *req, int status)
{
    struct sending *s = http_data(req);
    if (status != 0) {
        return;
    }
    if (s->left-- == 0) {
        free(s);
        http_end(req);
        return;
    }
    http_write(req, piece, sizeof(piece), sent_cb);
}

static void gone(struct http_req *req)
{
    free(http_data(req));
}

static void handler(void *arg, struct http_req *req)
{
    (void)arg;
    const char *path = http_path(req);
    if (strcmp(path, "/to") == 0) {
        http_set_header(req, "Location", "/big");
        http_reply(req, 302, "text/plain", "elsewhere", 9);
        return;
    }
    struct sending *s = calloc(1, sizeof(*s));
    s->left = PIECES;
    http_set_data(req, s);
    http_on_abort(req, gone);
    if (strcmp(path, "/big") == 0) {
        http_begin(req, 200, NULL, (int64_t)PIECE * PIECES);
        sent_cb(req, 0);
    } /* else /hold: until the client gives up */
}

static void closed_cb(void *arg)
{
    (void)arg;
    uv_loop_stop(server_loop);
}

static void close_task(struct task *task)
{
    (void)task;
    http_server_close(server, 0, closed_cb, NULL);
}

static int setup(void **state)
{
    (void)state;
    check_ok(uv_loop_create("server", &server_loop));
    check_ok(uv_loop_create("client", &loop));
    check_ok(thread_pool_new("fetch", 2, &pool));
    check_ok(http_server_new(server_loop, NULL, handler, NULL, &server));
    check_ok(http_server_listen(server, "127.0.0.1:0", NULL, &port, NULL));
    check_ok(uv_loop_start_thread(server_loop));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static struct task task = {.run = close_task};
    thread_pool_free(pool);
    loop_post(server_loop, &task);
    uv_loop_join(server_loop);
    uv_loop_free(server_loop);
    uv_loop_free(loop);
    return 0;
}

struct take {
    struct http_fetch *fetch;
    struct timer timer;
    int64_t size, pause_at, cancel_at, told; /* told: what there is in all */
    int pauses, status;
    struct http_fetch_result result;
    bool done, paused;
};

static void resume_cb(struct timer *timer)
{
    struct take *t = container_of(timer, struct take, timer);
    t->paused = false;
    http_fetch_resume(t->fetch);
}

static bool data_cb(void *arg, const void *data, size_t size)
{
    struct take *t = arg;
    (void)data;
    check(!t->done && !t->paused);
    t->size += (int64_t)size;
    int64_t told = http_fetch_size(t->fetch);
    t->told = told > 0 ? told : t->told;
    if (t->cancel_at > 0 && t->size >= t->cancel_at) {
        http_fetch_cancel(t->fetch);
        return false;
    }
    if (t->pause_at > 0 && t->size >= t->pause_at) {
        t->pause_at += 3 * 1000 * 1000;
        t->pauses++;
        t->paused = true;
        timer_start(&t->timer, 5);
        return false;
    }
    return true;
}

static void done_cb(void *arg, int status, const struct http_fetch_result *result,
                    const struct err *err)
{
    struct take *t = arg;
    (void)err;
    check(!t->done);
    t->done = true;
    t->status = status;
    t->result = *result;
}

static bool everything(void *arg, const struct sockaddr *address)
{
    (void)arg;
    return address->sa_family == AF_INET;
}

static bool nothing(void *arg, const struct sockaddr *address)
{
    (void)arg;
    (void)address;
    return false;
}

static void begin(struct take *t, const char *path, http_client_address_fn allowed)
{
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
    struct http_fetch_options o = {.loop = loop,
                                   .pool = pool,
                                   .url = url,
                                   .address_allowed = allowed,
                                   .on_data = data_cb,
                                   .on_done = done_cb,
                                   .arg = t};
    timer_init(&t->timer, loop, resume_cb);
    check_ok(http_fetch_start(&o, &t->fetch));
    check(!t->done);
}

static void a_body_arrives_whole_whatever_the_pauses(void **state)
{
    (void)state;
    struct take t = {.pause_at = 1};
    begin(&t, "/big", everything);
    test_run_until(loop, &t.done, 20000);
    check_ok(t.status);
    check_int(t.result.status, 200);
    check_int(t.size, (int64_t)PIECE * PIECES);
    check_int(t.result.size, t.size);
    check_int(t.told, t.size);
    check(t.pauses > 5);
}

static void a_redirect_is_a_result(void **state)
{
    (void)state;
    struct take t = {0};
    begin(&t, "/to", everything);
    test_run_until(loop, &t.done, 20000);
    check_ok(t.status);
    check_int(t.result.status, 302);
    check_str(t.result.location, "/big");
    check_int(t.size, 0);
}

static void an_address_that_is_not_allowed_is_never_connected_to(void **state)
{
    (void)state;
    struct take t = {0};
    begin(&t, "/big", nothing);
    test_run_until(loop, &t.done, 20000);
    check_code(t.status, TSR_EFORBIDDEN);
    check_int(t.size, 0);
}

static void cancel_ends_it_in_the_middle_and_while_it_waits(void **state)
{
    (void)state;
    struct take t = {.cancel_at = 5000000};
    begin(&t, "/big", everything);
    test_run_until(loop, &t.done, 20000);
    check_code(t.status, TSR_ECANCELED);
    struct take held = {0};
    begin(&held, "/hold", everything);
    http_fetch_cancel(held.fetch);
    test_run_until(loop, &held.done, 20000);
    check_code(held.status, TSR_ECANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_arrives_whole_whatever_the_pauses),
        cmocka_unit_test(a_redirect_is_a_result),
        cmocka_unit_test(an_address_that_is_not_allowed_is_never_connected_to),
        cmocka_unit_test(cancel_ends_it_in_the_middle_and_while_it_waits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
