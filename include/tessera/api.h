/* The HTTP faces: Image API v2, Identity v3, cluster API /v1, health. Thin: parse, call one
 * service, render. One `struct api` a worker loop; the daemon makes it and hands api_handle to
 * http_server. Thread: that loop. */
#ifndef TESSERA_API_H
#define TESSERA_API_H

#include "tessera/cluster.h"
#include "tessera/http.h"
#include "tessera/identity.h"
#include "tessera/identity/keystone.h"
#include "tessera/image.h"

struct api;
struct config_list;
/* Everything the faces use; borrowed, outlives the api. */
struct api_options {
    struct loop *loop;
    struct meta *meta; /* NULL: this host is not part of a cluster yet (only /v1/init, /v1/join) */
    const char *unformed; /* what requests are told then; NULL or "" = that it is in no cluster */
    struct identity *identity;
    struct keystone *keystone; /* tokens are an external Keystone's; NULL: embedded identity */
    const char *keystone_uri;  /* what clients without a good token are told */
    struct cluster *cluster;
    struct image_ctx *image;
    const char *public_endpoint, *internal_endpoint; /* "" = not set */
    const char *region;
    const struct config_list *cors_origins; /* may be NULL */
    const struct policy_rules *rules;       /* of the operator's own; NULL: none */
    const struct property_rules *properties;
    bool public_in_domain; /* public_scope = domain */
    const char *store_id;
    const char *host_name;
    uint64_t self;
    size_t json_body_max;
    size_t limit_default, limit_max;
    int64_t stale_reads_max_ms; /* 0 = never serve stale */
    bool read_local;            /* read_consistency = local */
    /* Bring this host into a cluster; calls @cb on the loop. Only on the local socket. */
    void (*form)(void *arg, const char *verb, const json_t *args, struct loop *loop,
                 void (*cb)(void *cb_arg, int status, json_t *result, const struct err *err),
                 void *cb_arg);
    /* A joining host's request (no token of a user; its one-time secret decides). */
    void (*admit)(void *arg, const json_t *args, struct loop *loop,
                  void (*cb)(void *cb_arg, int status, json_t *result, const struct err *err),
                  void *cb_arg);
    void *arg;
    const atomic_bool *draining; /* /health/ready fails while set */
};
int api_new(const struct api_options *options, struct api **out);
/* Take over the settings that can change while running (endpoints, region, limits, consistency)
 * from
 * @options; the rest stays. Texts are borrowed for the api's life. */
void api_reconfigure(struct api *api, const struct api_options *options);
void api_free(struct api *api); /* after its http_server is closed */
/* http_handler_fn: for TCP listeners, and for the local socket (root or the group: no token
 * needed). */
void api_handle(void *api, struct http_req *req);

#endif
