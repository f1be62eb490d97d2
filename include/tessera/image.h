/* What users do with images: life cycle, upload, download, members, inspection of formats.
 *
 * Services: they check the caller's right (identity/policy), the rules of the Image API
 * (values, transitions), and then change facts (meta_submit) or move bytes (replica). No HTTP here.
 * Thread: the loop of the given image_ctx (a worker); callbacks run there, once, never inside the
 * call. */
#ifndef TESSERA_IMAGE_H
#define TESSERA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/buf.h"
#include "tessera/cluster.h"
#include "tessera/identity.h"
#include "tessera/inspect.h"
#include "tessera/meta.h"
#include "tessera/replica.h"

struct image_limits {
    int64_t image_size_cap;
    int property_quota, tag_quota, member_quota;
    int replicas, write_replicas;
    bool strict_write_replicas;
    bool raw_strict;           /* data declared raw must be raw (inspect.h) */
    bool gpt_allowed;          /* `gpt` is a disk_format */
    const char *signature_dir; /* certificates of signed images: UUID.pem; "" or NULL: none */
    bool locations_by_owners;  /* POST locations, beside services and administrators */
    int64_t upload_idle_ms;
};

struct import_rules;   /* image/import.h */
struct image_importer; /* image/import.h */

/* One a worker loop; made by the daemon. */
struct image_ctx {
    struct loop *loop;
    struct meta *meta;
    struct replica_ctx *replica;
    struct cluster_load *load; /* free space and state of hosts, for placement (cluster.h) */
    const struct image_limits *limits;
    uint64_t self;
    const char *zone;
    const struct import_rules *import; /* NULL: no import method is enabled */
    struct image_importer *importer;   /* runs the imports of this loop */
    struct pool *fetch_pool;           /* threads that download; NULL: no web-download */
    struct pool *resolve_pool;         /* threads that look names up */
    struct pool *convert_pool;         /* a thread each qemu-img; NULL: no conversions */
    struct pool *spool_pool;           /* threads for their files, */
    const char *convert_dir;           /* which are below this */
    uint8_t boot[4]; /* random per process: the first bytes of each session id, so that a restarted
                        host finds the sessions that its predecessor left (cluster/sessions.c) */
};

/* Result of a service call: @status 0 with @result (borrowed JSON, may be NULL), or a code with
 * err. */
typedef void (*image_cb)(void *arg, int status, json_t *result, const struct err *err);

/* --- reading (synchronous, on a view)
 * -------------------------------------------------------------------- */
/* The record if the caller may do @action: TSR_ENOENT, TSR_EFORBIDDEN. @image_out: new reference.
 */
int image_find(struct meta_view *view, const struct caller *caller, const char *id,
               enum image_action action, json_t **image_out, struct err *err);
/* Image API form of a record (section 3.1; custom properties at the top level). New reference. */
json_t *image_render(const json_t *record);
/* What a change that was made before, under the same Idempotency-Key, is answered with: the
 * rendered image or member of its recorded result; NULL: nothing. */
json_t *image_replay(const json_t *result);
/* {"status", "body"} in a recorded result, of the last of several commands; NULL: none. Borrowed.
 */
const json_t *image_result_answer(const json_t *result);
/* The command id of the n-th (0..IMAGE_ATTEMPTS - 1) attempt at a change; one that met another
 * version of the record (TSR_EVERSION) is followed by the next. */
enum { IMAGE_ATTEMPTS = 8 };
void image_key_attempt(const struct caller *caller, unsigned attempt, uint8_t id[COMMAND_ID_SIZE]);
/* Take the properties out of a rendered image that @caller may not see. */
void image_protect(const struct caller *caller, json_t *rendered);
/* The same members from a record's stored text, appended to @out as JSON text. @store: the value of
 * `stores` (JSON text) of an image that has data, or NULL. TSR_ECORRUPT, TSR_ENOMEM. */
int image_render_text(const struct meta_text *record, const char *store, struct buf *out);
/* The same without what @caller may not see. */
int image_render_seen(const struct caller *caller, const struct meta_text *record,
                      const char *store, struct buf *out);

/* GET /v2/images (section 4) in steps: what no index answers may read every image, and others are
 * to be served meanwhile. @params (decoded name/value pairs in order) and @view stay until the
 * close. TSR_EINVAL, TSR_EFORBIDDEN. */
struct image_param {
    const char *name, *value;
};
struct image_listing;
int image_listing_open(struct meta_view *view, const struct caller *caller,
                       const struct image_param *params, size_t count, size_t limit_default,
                       size_t limit_max, struct image_listing **out, struct err *err);
/* TSR_EAGAIN: call again, soon. 0: the page is appended to @out: {"images": [rendered...], "first",
 * "next"?, "schema"} as JSON text. @store as above. */
int image_listing_step(struct image_listing *l, const char *store, struct buf *out);
void image_listing_close(struct image_listing *l); /* NULL is fine */
/* All steps at once, parsed. */
int image_list(struct meta_view *view, const struct caller *caller,
               const struct image_param *params, size_t count, size_t limit_default,
               size_t limit_max, json_t **page_out, struct err *err);

/* --- changing
 * ---------------------------------------------------------------------------------------------- */
/* @command_id: 16 bytes for Idempotency-Key, or NULL. */
void image_create(struct image_ctx *ctx, const struct caller *caller, const json_t *body,
                  const uint8_t *command_id, image_cb cb, void *arg);
/* @operations: normalised patch [{"op", "path": decoded single segment or raw, "value"}], v2_0:
 * rules of the old envelope (add of an existing property is a conflict). Re-evaluated on
 * TSR_EVERSION (up to 8 times). */
int image_patch_parse(const json_t *body, bool v2_0, json_t **operations_out, struct err *err);
void image_patch(struct image_ctx *ctx, const struct caller *caller, const char *id,
                 const json_t *operations, bool v2_0, image_cb cb, void *arg);
void image_delete(struct image_ctx *ctx, const struct caller *caller, const char *id, image_cb cb,
                  void *arg);
void image_tag(struct image_ctx *ctx, const struct caller *caller, const char *id, const char *tag,
               bool add, image_cb cb, void *arg);
void image_set_active(struct image_ctx *ctx, const struct caller *caller, const char *id,
                      bool active, image_cb cb, void *arg);

/* Members (section 2.7). Results are in API form. */
int image_member_list(struct meta_view *view, const struct caller *caller, const char *id,
                      json_t **out, struct err *err);
int image_member_get(struct meta_view *view, const struct caller *caller, const char *id,
                     const char *project, json_t **out, struct err *err);
void image_member_add(struct image_ctx *ctx, const struct caller *caller, const char *id,
                      const json_t *body, image_cb cb, void *arg);
void image_member_status(struct image_ctx *ctx, const struct caller *caller, const char *id,
                         const char *project, const json_t *body, image_cb cb, void *arg);
void image_member_remove(struct image_ctx *ctx, const struct caller *caller, const char *id,
                         const char *project, image_cb cb, void *arg);

/* --- upload (section 2.3)
 * ------------------------------------------------------------------------------------- */
struct image_upload;
/* Checks everything of table 2.3 that comes before the body, then takes the image to `saving`.
 * @content_length -1 = unknown; @size_header -1 = none. @cb once: 0 = send bytes now (start the
 * body), or the refusal (the upload is gone). @on_drain: after write said pause. @on_fail: the
 * upload failed while the body runs: answer with that error now; the upload is gone. */
struct image_upload_options {
    const struct caller *caller;
    const char *id;
    int64_t content_length, size_header;
    bool stage;     /* PUT stage: to `uploading`, no formats needed yet, nothing is inspected */
    bool repeats;   /* the client sends what is left of its body again by itself */
    bool rest_only; /* so that no data at all may be what is left: refused without a length */
    unsigned key_attempt; /* keyed: that many activations under the key were refused before */
    image_cb on_ready;
    void (*on_drain)(void *arg);
    void (*on_fail)(void *arg, int status, const struct err *err);
    void *arg;
};
/* The command id of the n-th activation under a key. */
enum { IMAGE_UPLOAD_ATTEMPTS = 64 };
void image_upload_attempt(const uint8_t key[COMMAND_ID_SIZE], unsigned attempt,
                          uint8_t id[COMMAND_ID_SIZE]);
void image_upload_start(struct image_ctx *ctx, const struct image_upload_options *options,
                        struct image_upload **out);
/* Returns false: pause until on_drain. Format inspection happens on the way. */
bool image_upload_write(struct image_upload *u, const void *data, size_t size);
/* End of body: length and format agree -> seal -> activate. @cb once with the refusal or 0; gone
 * then. */
void image_upload_finish(struct image_upload *u, image_cb cb, void *arg);
/* What comes is no body: fails as if a write was refused, so that on_fail tells when the image is
 * `queued` again. */
void image_upload_fail(struct image_upload *u, int status, const struct err *err);
/* The client is gone: image back to `queued`. Gone. No callback. */
void image_upload_abort(struct image_upload *u);

/* --- download (section 2.4)
 * -------------------------------------------------------------------------------------- */
struct image_download;
struct image_download_info {
    bool empty; /* no data yet: 204 */
    int64_t size, offset, length;
    bool partial;      /* 206 */
    char checksum[40]; /* "" if none */
    char etag[132];
};
/* Pure part: what a GET of @record's data is answered with (all of table 2.4 that needs no data;
 * HEAD needs no more). 0; TSR_ERANGE (out->size is set), TSR_EINVAL (several ranges),
 * TSR_EFORBIDDEN. */
int image_download_plan(const struct caller *caller, const json_t *record, const char *range,
                        struct image_download_info *out, struct err *err);
/* @range: value of the Range header or NULL. @want_files: plain connection (replica.h). @cb: 0 =
 * info is filled and pieces may be read; TSR_ERANGE: info->size tells the size; TSR_EINVAL several
 * ranges. Read-only checks of the caller included (the record was found by the caller of this on a
 * fresh view). */
typedef void (*image_download_cb)(void *arg, int status, const struct image_download_info *info,
                                  const struct err *err);
int image_download_open(struct image_ctx *ctx, const struct caller *caller, const json_t *record,
                        const char *range, bool want_files, image_download_cb cb, void *arg,
                        struct image_download **out);
void image_download_next(struct image_download *d, replica_piece_cb cb, void *arg);
void image_download_close(struct image_download *d);

#endif
