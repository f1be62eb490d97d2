/* Imports (image-api 2.5): staged data and downloads become an image's data, in the background,
 * with a task that tells how it went.
 *
 * POST import -> checks -> import.start in the log (status `importing`, session {task, host,
 * epoch}) -> the host that took the request runs it -> import.finish or import.fail. If that host
 * goes down the leader assigns the import to another (cluster/imports.c), whose importer claims it
 * and begins anew; the second time it fails. So an import always ends. Thread: the loop of the
 * image_ctx. */
#ifndef TESSERA_IMAGE_IMPORT_H
#define TESSERA_IMAGE_IMPORT_H

#include "tessera/base/config.h"
#include "tessera/image.h"
#include "tessera/sys/http_client.h"

struct sockaddr;

/* --- what may be downloaded (pure) --------------------------------------------------------------
 */

struct import_rules {
    const struct config_list
        *methods; /* glance-direct, web-download, copy-image, glance-download */
    const struct config_list *regions; /* "name=url": image services for glance-download */
    const struct config_list *schemes, *ports;
    const struct config_list *hosts_allowed;     /* empty: all */
    const struct config_list *hosts_denied;      /* names, "*.name", addresses */
    const struct config_list *addresses_allowed; /* networks beside the public ones: "10.0.0.0/8" */
    const char *ca_file;                         /* "": the system's */
    uint64_t connect_ms, idle_ms, total_ms;
    bool decompress;         /* gzip, xz and zstd data of `bare` images is stored unpacked */
    uint64_t decompress_max; /* that many times larger at most */
    const char *convert_to;  /* "raw", "qcow2": what `bare` disks are converted to; "none" */
    uint64_t convert_ms;     /* longest time */
};
bool import_rules_method(const struct import_rules *rules, const char *name);
/* URL of the image service of region @name, without a slash at its end; NULL: not known. */
const char *import_rules_region(const struct import_rules *rules, const char *name);
/* Scheme, host and port of a URL, before its name is looked up. TSR_EINVAL "URI for web-download
 * does not pass filtering: ...". */
int import_rules_url(const struct import_rules *rules, const char *url, struct http_client_url *out,
                     struct err *err);
/* An address that anybody on the internet may connect to: not of this host, this link, a private or
 * special network, in whatever notation (IPv4 inside IPv6 counts as that IPv4). */
bool import_address_public(const struct sockaddr *address);
/* Is it inside one of the networks of @networks ("::1", "10.0.0.0/8")? */
bool import_address_in(const struct config_list *networks, const struct sockaddr *address);

/* The rules together with the addresses of the cluster's own hosts. */
enum { IMPORT_OWN_MAX = 256 };
struct import_guard {
    const struct import_rules *rules;
    size_t count;
    char own[IMPORT_OWN_MAX][64];
};
void import_guard_init(struct import_guard *g, const struct import_rules *rules, struct meta *meta);
/* http_client_address_fn; @guard: struct import_guard. Any thread. */
bool import_guard_allows(void *guard, const struct sockaddr *address);

/* --- requests -----------------------------------------------------------------------------------
 */

struct image_import_options {
    const struct caller *caller;
    const char *id;
    const json_t *body;
    const char *header_store; /* X-Image-Meta-Store or NULL */
    const char *store_id;     /* of the cluster's one store */
    const char *request_id;   /* becomes the task's */
    const char *task_type;    /* "api_image_import" */
    const json_t *task_input; /* NULL: made from the request */
    const char *token;        /* the caller's own, for another region; not kept beyond the import */
    bool location; /* a location, as image_location_add sets it: whoever may @location_action */
    enum image_action location_action;
    const char *hash_algo, *hash_value; /* of the data; NULL: not known */
    image_cb cb; /* 0 with the task's id as {"task"}: accepted; or the refusal */
    void *arg;
};
/* Borrows the options only during the call. */
void image_import_start(struct image_ctx *ctx, const struct image_import_options *options);
/* POST locations: @options->body is {"url", "validation_data"?}; its data is fetched as
 * web-download does, and must have the hash. By services, and by owners if the operator allows. */
void image_location_add(struct image_ctx *ctx, const struct image_import_options *options);

/* Task records in API form. @full: with input, result and message. New reference. */
json_t *image_task_render(const json_t *task, bool full);
/* Tasks of an image, oldest first. */
int image_task_list(struct meta_view *view, const char *image_id, json_t **array_out);

/* --- running them -------------------------------------------------------------------------------
 */

/* One a ctx; sets ctx->importer. TSR_ENOMEM. */
int image_importer_new(struct image_ctx *ctx, struct image_importer **out);
/* On one loop of the host: look after imports that were assigned to this host, or that its process
 * before left behind. */
void image_importer_watch(struct image_importer *i);
/* Running imports are left as they are, for another host or the next process. @cb, once, when
 * nothing runs any more; then image_importer_free. */
void image_importer_close(struct image_importer *i, void (*cb)(void *arg), void *arg);
void image_importer_free(struct image_importer *i);

#endif
