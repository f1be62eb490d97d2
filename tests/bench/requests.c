/* Many small requests over N connections, each sending its next one when the last was answered.
 *
 * All connections are open before the clock starts. A connection that the server ends in order is
 * opened again (and counted); one that breaks, and any answer but the expected one, is an error.
 * The run ends when the requests or the seconds are used up and every answer has come. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "load.h"
#include "stream.h"
#include "tessera/base/assert.h"
#include "tessera/base/err.h"

enum { STATUS_MAX = 600, ERRORS_MAX = 1000 };

const char *const load_kind_names[LOAD_KINDS] = {"show", "list", "create", "validate", "put"};
static const int expected[LOAD_KINDS] = {200, 200, 201, 200, 201};

struct lane {
    struct client client;
    struct run *run;
    unsigned number;
    bool idle; /* has nothing more to send */
    enum load_kind kind;
    uint64_t sent_ns;
};

struct run {
    const struct load_options *options;
    struct loop *loop;
    struct lane *lanes;
    unsigned open, busy;
    bool started, ending, told;
    uint64_t start_ns, end_ns, last_ns;
    int64_t sent, created, answered, errors, reconnects;
    int64_t broken;
    int64_t statuses[STATUS_MAX];
    int64_t kinds[LOAD_KINDS];
    int64_t bytes;
    uint32_t *latencies_us; /* of answered requests, in order of arrival */
    int64_t capacity;
    unsigned weight_sum;
};

static struct run run;

/* --- one request ---------------------------------------------------------------------------- */

static enum load_kind pick_kind(const struct run *r)
{
    unsigned at = (unsigned)(stream_word(~r->options->seed, (uint64_t)r->sent) % r->weight_sum);
    enum load_kind kind = LOAD_SHOW;
    while (at >= r->options->weights[kind]) {
        at -= r->options->weights[kind++];
    }
    return kind;
}

static bool prepare(struct lane *l)
{
    struct run *r = l->run;
    const struct load_options *o = r->options;
    const char *token = o->tokens[(uint64_t)r->sent % o->token_count];
    char path[512], body[2048], more[2100] = "", id[STREAM_ID_TEXT];
    l->kind = pick_kind(r);
    switch (l->kind) {
    case LOAD_SHOW:
        stream_id(o->seed, stream_word(1, (uint64_t)r->sent) % (uint64_t)o->ids, id);
        snprintf(path, sizeof path, "/v2/images/%s", id);
        break;
    case LOAD_LIST:
        snprintf(path, sizeof path, "/v2/images?%s", o->query);
        break;
    case LOAD_CREATE: {
        int64_t n = o->first + r->created++;
        stream_id(o->seed, (uint64_t)n, id);
        int size = snprintf(body, sizeof body,
                            "{\"id\":\"%s\",\"name\":\"bench-%lld\",\"disk_format\":\"raw\","
                            "\"container_format\":\"bare\"}",
                            id, (long long)n);
        return client_prepare(&l->client, "POST", "/v2/images", token,
                              "Content-Type: application/json\r\n", body, size);
    }
    case LOAD_PUT: { /* one record of about 1 KiB, under a name and an id of its own */
        int64_t n = o->first + r->created++;
        int size = snprintf(body, sizeof body,
                            "{\"project\":{\"name\":\"bench-%llu-%lld\",\"description\":\"%0*d\"}}",
                            (unsigned long long)o->seed, (long long)n, LOAD_PUT_BYTES, 0);
        return client_prepare(&l->client, "POST", "/identity/v3/projects", token,
                              "Content-Type: application/json\r\n", body, size);
    }
    default:
        snprintf(path, sizeof path, "/identity/v3/auth/tokens");
        snprintf(more, sizeof more, "X-Subject-Token: %s\r\n", token);
    }
    return client_prepare(&l->client, "GET", path, token, more, NULL, -1);
}

static bool may_send(const struct run *r)
{
    const struct load_options *o = r->options;
    return !r->ending && (o->requests == 0 || r->sent < o->requests) && r->sent < r->capacity &&
           (o->seconds == 0 || loop_now_ns(r->loop) < r->end_ns);
}

static void finish_when_quiet(struct run *r);

static void send_next(struct lane *l)
{
    struct run *r = l->run;
    if (!may_send(r)) {
        l->idle = true;
        finish_when_quiet(r);
        return;
    }
    if (!prepare(l)) {
        load_failed("a request does not fit", TSR_ETOOBIG);
        return;
    }
    r->sent++;
    r->busy++;
    l->sent_ns = loop_now_ns(r->loop);
    client_send(&l->client);
}

/* --- the end -------------------------------------------------------------------------------- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double latency_ms(const struct run *r, double share)
{
    int64_t at = (int64_t)(share * (double)(r->answered - 1) + 0.5);
    return r->answered == 0 ? 0 : (double)r->latencies_us[at] / 1000.0;
}

static json_t *figures(struct run *r)
{
    double seconds = (double)(r->last_ns - r->start_ns) / 1e9;
    qsort(r->latencies_us, (size_t)r->answered, sizeof *r->latencies_us, compare_u32);
    json_t *statuses = json_object(), *kinds = json_object();
    for (int i = 0; i < STATUS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        if (r->statuses[i] > 0) {
            json_object_set_new(statuses, name, json_integer(r->statuses[i]));
        }
    }
    for (int i = 0; i < LOAD_KINDS; i++) {
        if (r->kinds[i] > 0) {
            json_object_set_new(kinds, load_kind_names[i], json_integer(r->kinds[i]));
        }
    }
    return json_pack("{s:I,s:I,s:I,s:I,s:i,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:o,s:o}", "requests",
                     (json_int_t)r->answered, "errors", (json_int_t)r->errors, "broken",
                     (json_int_t)r->broken, "reconnects", (json_int_t)r->reconnects, "connections",
                     (int)r->options->connections, "seconds", seconds, "per_second",
                     seconds > 0 ? (double)r->answered / seconds : 0.0, "p50_ms",
                     latency_ms(r, 0.5), "p99_ms", latency_ms(r, 0.99), "max_ms",
                     latency_ms(r, 1.0), "reply_bytes", (json_int_t)r->bytes, "created",
                     (json_int_t)r->created, "statuses", statuses, "kinds", kinds);
}

static void finish_when_quiet(struct run *r)
{
    if (r->told || r->busy > 0) {
        return;
    }
    for (unsigned i = 0; i < r->options->connections; i++) {
        if (!r->lanes[i].idle) {
            return;
        }
    }
    r->told = true;
    load_done(figures(r));
}

/* --- connections ---------------------------------------------------------------------------- */

static void open_lane(struct lane *l);

static void reopen_cb(struct conn *conn, void *arg)
{
    (void)conn;
    open_lane(arg);
}

static void on_open(struct client *c, int status)
{
    struct lane *l = container_of(c, struct lane, client);
    struct run *r = l->run;
    if (status != 0) {
        load_failed("connect", status);
        return;
    }
    if (r->started) {
        send_next(l);
        return;
    }
    if (++r->open < r->options->connections) {
        return;
    }
    r->started = true;
    r->start_ns = r->last_ns = loop_now_ns(r->loop);
    r->end_ns = r->start_ns + (uint64_t)r->options->seconds * UINT64_C(1000000000);
    for (unsigned i = 0; i < r->options->connections; i++) {
        send_next(&r->lanes[i]);
    }
}

static void on_body(struct client *c, const void *data, size_t size)
{
    (void)data;
    container_of(c, struct lane, client)->run->bytes += (int64_t)size;
}

static void note(struct lane *l, int status)
{
    struct run *r = l->run;
    r->busy--;
    r->last_ns = loop_now_ns(r->loop);
    if (status > 0) {
        uint64_t us = (r->last_ns - l->sent_ns) / 1000;
        r->latencies_us[r->answered++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
        r->statuses[status < STATUS_MAX ? status : 0]++;
        r->kinds[l->kind]++;
    } else {
        r->broken++;
    }
    if (status != expected[l->kind] && ++r->errors == ERRORS_MAX) {
        r->ending = true; /* figures of failures are of no use */
    }
}

static void on_reply(struct client *c, int status)
{
    struct lane *l = container_of(c, struct lane, client);
    note(l, status);
    if (!c->last) {
        send_next(l);
    } else if (may_send(l->run)) {
        l->run->reconnects++;
        client_close(c, reopen_cb, l);
    } else {
        l->idle = true;
        finish_when_quiet(l->run);
    }
}

static const struct client_hooks hooks = {on_open, on_body, on_reply};

static void open_lane(struct lane *l)
{
    const struct load_options *o = l->run->options;
    const char *address = o->addresses[l->number % o->address_count];
    int status = client_open(&l->client, l->run->loop, address, o->tls, &hooks);
    if (status != 0) {
        load_failed("connect", status);
    }
}

int requests_start(const struct load_options *options, struct loop *loop)
{
    struct run *r = &run;
    *r = (struct run){.options = options, .loop = loop};
    r->capacity = options->requests > 0 ? options->requests : LOAD_REQUESTS_MAX;
    r->latencies_us = calloc((size_t)r->capacity, sizeof *r->latencies_us);
    r->lanes = calloc(options->connections, sizeof *r->lanes);
    if (r->latencies_us == NULL || r->lanes == NULL) {
        return TSR_ENOMEM;
    }
    for (int i = 0; i < LOAD_KINDS; i++) {
        r->weight_sum += options->weights[i];
    }
    for (unsigned i = 0; i < options->connections; i++) {
        r->lanes[i].run = r;
        r->lanes[i].number = i;
        open_lane(&r->lanes[i]);
    }
    return 0;
}
