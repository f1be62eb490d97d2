/* Happy path: the inspector says which bytes it wants, a reader of that window is opened, its
 * pieces are given; until nothing is wanted. A finding ends it early. A reader that fails has tried
 * every holder: that is told. */
#include "tessera/image/examine.h"

#include <stdlib.h>
#include <string.h>

#include "image/upload_hosts.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

enum { WINDOW = 1 << 20 };

struct image_examination {
    struct image_ctx *ctx;
    json_t *record;
    image_cb cb;
    void *arg;
    struct inspect *inspect;
    struct chunk_id manifest;
    uint64_t hosts[REPLICA_HOSTS_MAX];
    size_t host_count;
    struct replica_reader *reader;
    uint64_t size, at;
    struct task task; /* starts it, from the loop */
    bool started, stopped;
};

static void examination_free(struct image_examination *e)
{
    if (e->reader != NULL) {
        replica_reader_close(e->reader);
    }
    inspect_free(e->inspect);
    json_decref(e->record);
    free(e);
}

static void answer(struct image_examination *e, int status, json_t *result, const struct err *err)
{
    image_cb cb = e->cb;
    void *arg = e->arg;
    examination_free(e);
    cb(arg, status, result, err);
    json_decref(result);
}

/* Everything was looked at, or @finding ended it. */
static void report(struct image_examination *e, int64_t virtual_size, const char *finding)
{
    struct err err = {0};
    json_t *result = json_pack(
        "{s:s?, s:s?, s:s?, s:I, s:o, s:s, s:b, s:s?}", "image_id", json_str(e->record, "id"),
        "disk_format", json_str(e->record, "disk_format"), "container_format",
        json_str(e->record, "container_format"), "size", (json_int_t)e->size, "virtual_size",
        virtual_size >= 0 ? json_integer((json_int_t)virtual_size) : json_null(), "format",
        inspect_found_name(e->inspect), "ok", finding == NULL, "finding", finding);
    int rv = result != NULL ? 0 : err_set(&err, TSR_ENOMEM, "%s", err_text(TSR_ENOMEM));
    answer(e, rv, result, &err);
}

static void unreadable(struct image_examination *e, int status)
{
    struct err err = {0};
    (void)err_set(&err, status, "The image's data could not be read: %s.", err_text(status));
    answer(e, status, NULL, &err);
}

static void look_on(struct image_examination *e);

static void piece_cb(void *arg, int status, const struct replica_piece *piece)
{
    struct image_examination *e = arg;
    struct err err = {0};
    if (status != 0) {
        unreadable(e, status);
        return;
    }
    int rv = inspect_write(e->inspect, piece->data, piece->size, &err);
    e->at += piece->size;
    if (rv == TSR_EMEDIA) {
        report(e, -1, err.msg);
    } else if (rv != 0) {
        unreadable(e, rv);
    } else if (piece->size > 0 && inspect_wants(e->inspect, e->size) == e->at) {
        replica_reader_next(e->reader, piece_cb, e);
    } else {
        replica_reader_close(e->reader);
        e->reader = NULL;
        look_on(e);
    }
}

static void opened_cb(void *arg, int status, uint64_t size)
{
    struct image_examination *e = arg;
    if (status != 0 || size != e->size) {
        unreadable(e, status != 0 ? status : TSR_ECORRUPT);
        return;
    }
    replica_reader_next(e->reader, piece_cb, e);
}

static void look_on(struct image_examination *e)
{
    struct err err = {0};
    int64_t virtual_size = -1;
    uint64_t at = inspect_wants(e->inspect, e->size);
    inspect_skip(e->inspect, at);
    e->at = at;
    if (at == e->size) {
        int rv = inspect_finish(e->inspect, e->size, &virtual_size, &err);
        report(e, virtual_size, rv != 0 ? err.msg : NULL);
        return;
    }
    uint64_t left = e->size - at;
    int rv = replica_reader_open(e->ctx->replica, &e->manifest, at, left < WINDOW ? left : WINDOW,
                                 e->hosts, e->host_count, false, opened_cb, e, &e->reader);
    if (rv != 0) {
        e->reader = NULL;
        unreadable(e, rv);
    }
}

static void begin(struct task *task)
{
    struct image_examination *e = container_of(task, struct image_examination, task);
    if (e->stopped) {
        examination_free(e);
        return;
    }
    e->started = true;
    look_on(e);
}

int image_examine(struct image_ctx *ctx, const json_t *record, image_cb cb, void *arg,
                  struct image_examination **out)
{
    const char *hex = json_str_or(record, "manifest", "");
    struct image_examination *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return TSR_ENOMEM;
    }
    *e = (struct image_examination){.ctx = ctx, .cb = cb, .arg = arg, .task = {.run = begin}};
    e->size = (uint64_t)json_int(record, "size", 0);
    e->record = json_incref((json_t *)(uintptr_t)record);
    /* What is not `bare` was never inspected: then anything is declared, and the findings count. */
    bool bare = strcmp(json_str_or(record, "container_format", ""), "bare") == 0;
    e->inspect = upload_inspect_new(ctx, bare ? json_str(record, "disk_format") : NULL, "bare");
    int rv = e->inspect != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0 && e->size > 0 &&
        (strlen(hex) != 64 || hex_decode(hex, 64, e->manifest.bytes, 32) != 0)) {
        rv = TSR_ECORRUPT;
    }
    if (rv != 0) {
        examination_free(e);
        return rv;
    }
    e->host_count = upload_hosts_holding(ctx, record, e->hosts);
    *out = e;
    loop_post(ctx->loop, &e->task);
    return 0;
}

void image_examine_stop(struct image_examination *e)
{
    e->stopped = true;
    if (e->started) {
        examination_free(e);
    }
}
