/* A download: plan (pure) -> replica reader -> pieces. The service only opens and passes on; what
 * is sent when is the face's. Closing stops everything, also an answer that is on its way. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "image/upload_hosts.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"
#include "tessera/http.h"

struct image_download {
    struct image_ctx *ctx;
    struct image_download_info info;
    struct replica_reader *reader; /* NULL: no bytes to read */
    image_download_cb cb;
    replica_piece_cb piece_cb;
    void *arg;
    bool closed, posted, done;
    int status;
    struct err err;
    struct task task;
};

static bool has_data(const json_t *record)
{
    const char *status = json_str_or(record, "status", "");
    return (strcmp(status, "active") == 0 || strcmp(status, "deactivated") == 0) &&
           json_str(record, "manifest") != NULL;
}

static void set_names(const json_t *record, struct image_download_info *info)
{
    const char *hash = json_str(record, "os_hash_value");
    (void)str_copy(info->checksum, sizeof(info->checksum), json_str_or(record, "checksum", ""));
    if (hash != NULL && strlen(hash) + 3 <= sizeof(info->etag)) {
        (void)snprintf(info->etag, sizeof(info->etag), "\"%s\"", hash);
    }
}

int image_download_plan(const struct caller *caller, const json_t *record, const char *range,
                        struct image_download_info *out, struct err *err)
{
    *out = (struct image_download_info){0};
    if (!has_data(record)) {
        out->empty = true;
        return 0;
    }
    if (strcmp(json_str_or(record, "status", ""), "deactivated") == 0 && !caller_is_admin(caller)) {
        return err_set(err, TSR_EFORBIDDEN,
                       "The requested image has been deactivated. "
                       "Image data download is forbidden.");
    }
    set_names(record, out);
    out->size = json_int(record, "size", 0);
    out->length = out->size;
    switch (http_range_parse(range, out->size, &out->offset, &out->length)) {
    case HTTP_RANGE_ONE:
        out->partial = true;
        return 0;
    case HTTP_RANGE_MANY:
        return err_set(err, TSR_EINVAL, "Requests with several ranges are not supported.");
    case HTTP_RANGE_BAD:
        return err_set(err, TSR_ERANGE, "The requested range cannot be satisfied.");
    default:
        return 0;
    }
}

/* --- opening
 * --------------------------------------------------------------------------------------------- */

static void answer(struct image_download *d, int status)
{
    image_download_cb cb = d->cb;
    d->cb = NULL;
    if (cb != NULL) {
        cb(d->arg, status, &d->info, &d->err); /* may close d */
    }
}

static void answer_task(struct task *task)
{
    struct image_download *d = container_of(task, struct image_download, task);
    d->posted = false;
    if (d->closed) {
        free(d);
        return;
    }
    if (d->piece_cb != NULL) { /* the end of an empty image */
        replica_piece_cb cb = d->piece_cb;
        static const struct replica_piece end;
        d->piece_cb = NULL;
        cb(d->arg, 0, &end);
        return;
    }
    answer(d, d->status);
}

static void post(struct image_download *d)
{
    d->posted = true;
    d->task.run = answer_task;
    loop_post(d->ctx->loop, &d->task);
}

static void opened_cb(void *arg, int status, uint64_t image_size)
{
    struct image_download *d = arg;
    if (status == 0 && image_size != (uint64_t)d->info.size) {
        status = TSR_ECORRUPT; /* the record and its manifest disagree */
    }
    if (status != 0) {
        (void)err_set(&d->err, status, "%s",
                      status == TSR_ENOENT ? "No host that holds the image can be reached."
                                           : err_text(status));
        status = status == TSR_ENOENT ? TSR_EUNAVAILABLE : status;
    }
    answer(d, status);
}

static int reader_open(struct image_download *d, const json_t *record, bool want_files)
{
    struct chunk_id manifest;
    uint64_t hosts[REPLICA_HOSTS_MAX];
    const char *hex = json_str_or(record, "manifest", "");
    if (hex_decode(hex, strlen(hex), manifest.bytes, sizeof(manifest.bytes)) != 0) {
        return TSR_ECORRUPT;
    }
    size_t count = upload_hosts_holding(d->ctx, record, hosts);
    return replica_reader_open(d->ctx->replica, &manifest, (uint64_t)d->info.offset,
                               (uint64_t)d->info.length, hosts, count, want_files, opened_cb, d,
                               &d->reader);
}

/* An image that this host keeps on request was used. */
static void note_use(struct image_ctx *ctx, const json_t *record)
{
    struct chunks *chunks = ctx->replica->chunks;
    const char *id = json_str_or(record, "id", "");
    struct chunk_id manifest;
    const char *hex = json_str_or(record, "manifest", "");
    if (chunks != NULL && chunk_pin_exists(chunks, id) &&
        hex_decode(hex, strlen(hex), manifest.bytes, sizeof(manifest.bytes)) == 0 &&
        chunk_manifest_here(chunks, &manifest)) {
        chunk_pin_note(chunks, id, CHUNK_PIN_READ);
    }
}

int image_download_open(struct image_ctx *ctx, const struct caller *caller, const json_t *record,
                        const char *range, bool want_files, image_download_cb cb, void *arg,
                        struct image_download **out)
{
    struct image_download *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return TSR_ENOMEM;
    }
    d->ctx = ctx;
    d->cb = cb;
    d->arg = arg;
    d->status = image_download_plan(caller, record, range, &d->info, &d->err);
    if (d->status == 0 && !d->info.empty && d->info.length > 0) {
        int rv = reader_open(d, record, want_files);
        if (rv != 0) {
            free(d);
            return rv;
        }
        note_use(ctx, record);
    } else {
        post(d);
    }
    metric_add(METRIC_downloads_active, 1);
    *out = d;
    return 0;
}

/* --- reading
 * ---------------------------------------------------------------------------------------------- */

static void piece_cb(void *arg, int status, const struct replica_piece *piece)
{
    struct image_download *d = arg;
    replica_piece_cb cb = d->piece_cb;
    d->piece_cb = NULL;
    if (status != 0) {
        metric_add(METRIC_downloads_failed_total, 1);
    } else if (piece->size == 0 && !d->done) {
        d->done = true;
        metric_add(METRIC_downloads_total, 1);
    }
    cb(d->arg, status, piece); /* may close d */
}

void image_download_next(struct image_download *d, replica_piece_cb cb, void *arg)
{
    d->arg = arg;
    d->piece_cb = cb;
    if (d->reader != NULL) {
        replica_reader_next(d->reader, piece_cb, d);
    } else {
        post(d);
    }
}

void image_download_close(struct image_download *d)
{
    metric_add(METRIC_downloads_active, -1);
    if (d->reader != NULL) {
        replica_reader_close(d->reader);
        d->reader = NULL;
    }
    d->closed = true;
    if (!d->posted) {
        free(d);
    }
}
