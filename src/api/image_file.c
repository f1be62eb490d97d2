/* /v2/images/{id}/file: upload and download.
 *
 * Upload: headers are judged before the body is asked for; the service takes the image to `saving`;
 * then pieces flow into it, paused while it says so; its end or failure is the reply. Download:
 * pieces flow out one at a time. Once a head is sent a failure can only be shown by cutting the
 * connection: a body is whole or visibly short. The client goes away: on_dead stops the service,
 * whose callbacks do not run any more. So nothing is held over these calls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"
#include "tessera/image/import.h"

/* The OpenStack clients that send a request again by themselves after a 503 or when its connection
 * broke (openstacksdk, Nova's use of glanceclient) send what is left of a body that they have read
 * already: what was to be an image would become its tail, or nothing, and nobody were told. */
static bool repeats(const struct api_req *r)
{
    static const char *const agents[] = {"openstacksdk", "keystoneauth", "glanceclient"};
    const char *agent = http_header(r->http, "User-Agent");
    for (size_t i = 0; i < array_len(agents) && agent != NULL; i++) {
        if (strstr(agent, agents[i]) != NULL) {
            return true;
        }
    }
    return false;
}

int image_upload_status(const struct api_req *r, int status)
{
    return status == 503 && repeats(r) ? 502 : status;
}

/* A host that was lost may have had the request and told nobody of it yet. */
static bool host_lost(const struct api_req *r)
{
    enum { REPEATED_WITHIN_MS = 10000 };
    struct cluster_health health;
    cluster_health(r->o->cluster, &health);
    return health.calm_ms < REPEATED_WITHIN_MS;
}

/* --- PUT
 * -------------------------------------------------------------------------------------------- */

static void upload_forget(struct api_req *r)
{
    r->state = NULL;
    r->on_dead = NULL;
}

static void upload_dead(struct api_req *r)
{
    struct image_upload *u = r->state;
    upload_forget(r);
    image_upload_abort(u);
}

static void upload_failed(void *arg, int status, const struct err *err)
{
    struct api_req *r = arg;
    upload_forget(r);
    api_error(r, status, err);
}

static void upload_done(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    (void)result;
    upload_forget(r);
    if (status != 0) {
        api_error(r, status, err);
        return;
    }
    api_empty(r, 204);
}

static void upload_drain(void *arg)
{
    struct api_req *r = arg;
    http_body_resume(r->http);
}

static void upload_body_cb(struct http_req *http, int status, const char *data, size_t size)
{
    struct api_req *r = http_data(http);
    struct image_upload *u = r->state;
    if (status == TSR_EEOF) {
        return; /* the abort callback follows */
    }
    if (status != 0) {
        struct err err = {0};
        (void)err_set(&err, TSR_EINVAL, "The request body could not be read.");
        image_upload_fail(u, TSR_EINVAL, &err); /* upload_failed follows */
        return;
    }
    if (size == 0) {
        image_upload_finish(u, upload_done, r);
        return;
    }
    if (!image_upload_write(u, data, size)) {
        http_body_pause(http);
    }
}

static void upload_ready(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (status != 0) {
        upload_done(arg, status, result, err);
        return;
    }
    http_body_stream(r->http, upload_body_cb);
}

/* --- PUT again, under the same Idempotency-Key
 * ---------------------------------------------------- */

struct compare {
    struct digest *digest;
    uint8_t id[COMMAND_ID_SIZE];
};

static void compare_free(struct api_req *r)
{
    struct compare *c = r->state;
    upload_forget(r);
    digest_free(c->digest);
    free(c);
}

/* What was stored under the key had this digest, or it was another request. */
static void compare_end(struct api_req *r)
{
    struct compare *c = r->state;
    uint8_t hash[DIGEST_MAX];
    char hex[2 * DIGEST_MAX + 1];
    int code = 0;
    json_t *result = NULL;
    struct meta_view *view = NULL;
    digest_final(c->digest, hash);
    hex_encode(hash, DIGEST_MAX, hex);
    int rv = meta_view_open(r->o->meta, &view);
    if (rv == 0) {
        rv = meta_result_get(view, c->id, hex, &code, &result);
        meta_view_close(view);
    }
    json_decref(result);
    compare_free(r);
    if (rv != 0) {
        api_error(r, rv, NULL);
    } else {
        api_empty(r, 204);
    }
}

static void compare_body_cb(struct http_req *http, int status, const char *data, size_t size)
{
    struct api_req *r = http_data(http);
    struct compare *c = r->state;
    if (status == TSR_EEOF) {
        return; /* the abort callback follows */
    }
    if (status != 0) {
        compare_free(r);
        api_errorf(r, TSR_EINVAL, "The request body could not be read.");
    } else if (size == 0) {
        compare_end(r);
    } else {
        digest_update(c->digest, data, size);
    }
}

/* The activation that was done under the key; *attempt_out: how many were refused. TSR_ENOENT. */
static int activation_find(struct api_req *r, unsigned *attempt_out, uint8_t id[COMMAND_ID_SIZE])
{
    struct meta_view *view = NULL;
    int code = 0, rv = meta_view_open(r->o->meta, &view);
    unsigned n = 0;
    while (rv == 0 && n < IMAGE_UPLOAD_ATTEMPTS) {
        json_t *result = NULL;
        image_upload_attempt(r->caller.key_id, n, id);
        rv = meta_outcome(view, id, &code, &result);
        json_decref(result);
        if (rv != 0 || code == 0) {
            break;
        }
        n++;
    }
    meta_view_close(view);
    *attempt_out = n;
    return rv == 0 && code != 0 ? TSR_ENOENT : rv;
}

bool image_upload_again(struct api_req *r)
{
    uint8_t id[COMMAND_ID_SIZE];
    int rv = activation_find(r, &r->key_attempt, id);
    if (rv != 0) {
        return false;
    }
    struct compare *c = calloc(1, sizeof(*c));
    if (c == NULL || (c->digest = digest_new(DIGEST_SHA512)) == NULL) {
        free(c);
        api_error(r, TSR_ENOMEM, NULL);
        return true;
    }
    memcpy(c->id, id, sizeof(c->id));
    r->state = c;
    r->on_dead = compare_free;
    http_body_stream(r->http, compare_body_cb);
    return true;
}

/* -1: not given. TSR_EINVAL: given, but no size. */
static int size_header(const struct api_req *r, int64_t *out)
{
    const char *text = http_header(r->http, "x-openstack-image-size");
    *out = -1;
    return text == NULL ? 0 : str_to_i64(text, 0, INT64_MAX, out);
}

static void upload_begin(struct api_req *r, bool stage)
{
    struct image_upload_options options = {.caller = &r->caller,
                                           .id = r->args[0],
                                           .content_length = http_content_length(r->http),
                                           .stage = stage,
                                           .repeats = repeats(r),
                                           .rest_only = repeats(r) && host_lost(r),
                                           .key_attempt = r->key_attempt,
                                           .on_ready = upload_ready,
                                           .on_drain = upload_drain,
                                           .on_fail = upload_failed,
                                           .arg = r};
    struct image_upload *u = NULL;
    (void)size_header(r, &options.size_header);
    image_upload_start(r->o->image, &options, &u);
    r->state = u;
    r->on_dead = upload_dead;
}

static void upload_run(struct api_req *r)
{
    upload_begin(r, false);
}

static void stage_run(struct api_req *r)
{
    upload_begin(r, true);
}

/* A request without length and chunks has no body (RFC 9112 section 6.3), whatever its client sends
 * behind the head: one of HTTP/1.0 that ends its data by closing would make an image of nothing and
 * be told that all is well. In HTTP/1.1 nothing ends that way, and nothing is meant. */
static bool length_told(const struct api_req *r)
{
    return !http_is_1_0(r->http) || http_header(r->http, "Content-Length") != NULL;
}

/* false: refused by what its head says. */
static bool head_ok(struct api_req *r)
{
    int64_t size;
    if (!image_media_is(http_header(r->http, "Content-Type"), "application/octet-stream")) {
        api_errorf(r, TSR_EMEDIA, "The media type of image data is application/octet-stream.");
        return false;
    }
    /* Stored as it comes, coded data would be no image: nobody undoes the coding later. */
    const char *coding = http_header(r->http, "Content-Encoding");
    if (coding != NULL && coding[0] != '\0' && !str_ieq(coding, "identity")) {
        api_errorf(r, TSR_EMEDIA, "Image data can have no Content-Encoding.");
        return false;
    }
    if (size_header(r, &size) != 0) {
        api_errorf(r, TSR_EINVAL, "x-openstack-image-size must be a number of bytes.");
        return false;
    }
    /* RFC 9110 section 14.5: a client that goes on with a broken upload (curl -C) sends the rest
     * alone, which would become the image. */
    if (http_header(r->http, "Content-Range") != NULL) {
        api_errorf(r, TSR_EINVAL,
                   "Image data is sent as a whole: a PUT with Content-Range is not possible.");
        return false;
    }
    if (!length_told(r)) {
        api_errorf(r, TSR_ELENGTH,
                   "Image data needs a Content-Length, or Transfer-Encoding: chunked.");
        return false;
    }
    return true;
}

static void put_file(struct api_req *r)
{
    static const struct image_step step = {upload_run};
    const char *store = http_header(r->http, "X-Image-Meta-Store");
    if (!head_ok(r)) {
        return;
    }
    if (store != NULL && strcmp(store, r->o->store_id) != 0) {
        api_errorf(r, TSR_EINVAL, "The store named by X-Image-Meta-Store does not exist.");
        return;
    }
    image_change(r, &step);
}

/* Data for an import by glance-direct. */
static void put_stage(struct api_req *r)
{
    static const struct image_step step = {stage_run};
    if (!import_rules_method(r->o->image->import, "glance-direct")) {
        api_errorf(r, TSR_ENOENT,
                   "Staging is not enabled: glance-direct is no import method here.");
        return;
    }
    if (head_ok(r)) {
        image_change(r, &step);
    }
}

/* --- GET
 * -------------------------------------------------------------------------------------------- */

static void download_stop(struct api_req *r)
{
    struct image_download *d = r->state;
    r->state = NULL;
    r->on_dead = NULL;
    if (d != NULL) {
        image_download_close(d);
    }
}

static void download_next(struct api_req *r);

static void download_written(struct http_req *http, int status)
{
    struct api_req *r = http_data(http);
    if (status == 0 && r->state != NULL) {
        download_next(r);
    }
    /* else the connection is gone: the abort callback follows */
}

static void download_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct api_req *r = arg;
    if (status != 0) {
        download_stop(r);
        http_cut(r->http);
        api_replied(r);
        return;
    }
    if (piece->size == 0) {
        download_stop(r);
        http_end(r->http);
        api_replied(r);
        return;
    }
    if (piece->file) {
        http_write_file(r->http, piece->fd, piece->offset, piece->size, download_written);
    } else {
        http_write(r->http, piece->data, piece->size, download_written);
    }
}

static void download_next(struct api_req *r)
{
    image_download_next(r->state, download_piece, r);
}

static void download_head(struct api_req *r, const struct image_download_info *info)
{
    if (info->checksum[0] != '\0') {
        http_set_header(r->http, "Content-MD5", info->checksum);
    }
    if (info->etag[0] != '\0') {
        http_set_header(r->http, "ETag", info->etag);
    }
    if (info->partial) {
        char range[96];
        (void)snprintf(range, sizeof(range), "bytes %lld-%lld/%lld", (long long)info->offset,
                       (long long)(info->offset + info->length - 1), (long long)info->size);
        http_set_header(r->http, "Content-Range", range);
    }
    http_set_header(r->http, "Accept-Ranges", "bytes");
    api_set_stale(r);
    http_begin(r->http, info->partial ? 206 : 200, "application/octet-stream", info->length);
}

static void download_refuse(struct api_req *r, int status, const struct image_download_info *info,
                            const struct err *err)
{
    if (status == TSR_ERANGE) {
        char range[64];
        (void)snprintf(range, sizeof(range), "bytes */%lld", (long long)info->size);
        http_set_header(r->http, "Content-Range", range);
    }
    api_error(r, status, err);
}

static void download_opened(void *arg, int status, const struct image_download_info *info,
                            const struct err *err)
{
    struct api_req *r = arg;
    if (status != 0) {
        struct image_download_info copy = *info;
        struct err why = *err;
        download_stop(r);
        download_refuse(r, status, &copy, &why);
        return;
    }
    download_head(r, info);
    download_next(r);
}

/* HEAD, and everything that needs no data. true: replied. */
static bool download_without_data(struct api_req *r, const json_t *record, const char *range)
{
    struct image_download_info info;
    struct err err = {0};
    int rv = image_download_plan(&r->caller, record, range, &info, &err);
    if (rv != 0) {
        download_refuse(r, rv, &info, &err);
        return true;
    }
    if (info.empty) {
        api_set_stale(r);
        api_empty(r, 204);
        return true;
    }
    if (http_method(r->http) == HTTP_METHOD_HEAD) {
        download_head(r, &info);
        http_end(r->http);
        api_replied(r);
        return true;
    }
    return false;
}

/* The Range header, or the old request header "Content-Range: bytes a-b/size" in its form. */
static const char *range_of(const struct api_req *r, char *text, size_t size)
{
    const char *range = http_header(r->http, "Range");
    const char *old = http_header(r->http, "Content-Range");
    if (range != NULL || old == NULL || old[0] == '\0') {
        return range;
    }
    size_t length = strcspn(old, "/");
    if (!str_starts(old, "bytes ") || old[length] != '/' || length > 60) {
        return "malformed";
    }
    (void)snprintf(text, size, "bytes=%.*s", (int)(length - 6), old + 6);
    return text;
}

/* ?prefer=a,b: stores in order of preference; there is only one to know. */
static bool prefer_ok(const struct api_req *r)
{
    const char *at = api_param(r, "prefer");
    while (at != NULL && *at != '\0') {
        size_t size = strcspn(at, ",");
        if (size != strlen(r->o->store_id) || memcmp(at, r->o->store_id, size) != 0) {
            return false;
        }
        at += size + (at[size] == ',');
    }
    return true;
}

static void download_start(struct api_req *r, const json_t *record)
{
    char text[80];
    const char *range = range_of(r, text, sizeof(text));
    struct image_download *d = NULL;
    if (!prefer_ok(r)) {
        api_errorf(r, TSR_EINVAL, "A store named by prefer does not exist.");
        return;
    }
    if (download_without_data(r, record, range)) {
        return;
    }
    bool plain = !conn_is_tls(http_conn(r->http));
    int rv =
        image_download_open(r->o->image, &r->caller, record, range, plain, download_opened, r, &d);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    r->state = d;
    r->on_dead = download_stop;
}

static void get_file(struct api_req *r)
{
    struct err err = {0};
    json_t *record = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = image_find(view, &r->caller, r->args[0], ACT_DOWNLOAD, &record, &err);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, &err);
        return;
    }
    download_start(r, record);
    json_decref(record);
}

const struct api_route api_image_file_routes[] = {
    {HTTP_METHOD_GET, "/v2/images/{}/file", get_file, API_READ | API_NO_BODY},
    {HTTP_METHOD_PUT, "/v2/images/{}/file", put_file, API_DATA},
    {HTTP_METHOD_PUT, "/v2/images/{}/stage", put_stage, API_DATA},
    {0},
};
