/* Health for load balancers and probes: truthful, without a token, naming no host. And metrics. */
#include <stdlib.h>
#include <string.h>

#include "api/face.h"
#include "tessera/base/buf.h"
#include "tessera/base/metric.h"

static void answer(struct api_req *r, bool good, const char *why_not)
{
    api_text(r, good ? 200 : 503, "text/plain", good ? "OK\n" : why_not);
}

static bool draining(const struct api_req *r)
{
    return r->o->draining != NULL && atomic_load(r->o->draining);
}

static bool quorum(const struct api_req *r)
{
    struct cluster_health health;
    if (r->o->cluster == NULL) {
        return false;
    }
    cluster_health(r->o->cluster, &health);
    return health.ready;
}

/* The process answers. */
static void live(struct api_req *r)
{
    answer(r, true, "");
}

/* Records of this host's store were found damaged: other hosts answer better. */
static bool damaged(struct api_req *r)
{
    return r->o->meta != NULL && meta_damaged(r->o->meta) > 0;
}

/* The other hosts can not connect to this host's API, though they talk to it. */
static bool cut(const struct api_req *r)
{
    struct cluster_health health = {.cut = false};
    if (r->o->cluster != NULL) {
        cluster_health(r->o->cluster, &health);
    }
    return health.cut;
}

/* New requests are welcome: part of a cluster that has a leader, and not stopping. */
static void ready(struct api_req *r)
{
    answer(r, !draining(r) && quorum(r) && !damaged(r) && !cut(r),
           draining(r)  ? "stopping\n"
           : damaged(r) ? "damaged store\n"
           : cut(r)     ? "clients can not reach this host\n"
                        : "no leader\n");
}

/* Images can be read here, at worst stale ones. */
static void readable(struct api_req *r)
{
    struct cluster_health health = {.applied = 0};
    if (r->o->cluster != NULL) {
        cluster_health(r->o->cluster, &health);
    }
    bool good = health.applied > 0 &&
                (health.ready || health.stale_ms <= (uint64_t)r->o->stale_reads_max_ms);
    answer(r, good && !draining(r) && !damaged(r),
           draining(r)  ? "stopping\n"
           : damaged(r) ? "damaged store\n"
                        : "no data to serve\n");
}

/* Changes and uploads are accepted here. */
static void writable(struct api_req *r)
{
    bool formed = false;
    if (r->o->meta != NULL) {
        struct meta_view *view = NULL;
        json_t *cluster = NULL;
        if (meta_view_open(r->o->meta, &view) == 0) {
            formed = meta_cluster_get(view, &cluster) == 0;
            meta_view_close(view);
            json_decref(cluster);
        }
    }
    answer(r, formed && quorum(r) && !draining(r) && !cut(r),
           draining(r) ? "stopping\n"
           : cut(r)    ? "clients can not reach this host\n"
                       : "no quorum\n");
}

/* This host holds the admin endpoint now. */
static void admin(struct api_req *r)
{
    struct cluster_health health = {.endpoint = false};
    if (r->o->cluster != NULL) {
        cluster_health(r->o->cluster, &health);
    }
    answer(r, health.endpoint, "not the admin endpoint\n");
}

static void maintenance(struct api_req *r)
{
    answer(r, !draining(r), "stopping\n");
}

static void healthcheck(struct api_req *r)
{
    bool good = !draining(r) && quorum(r);
    api_text(r, good ? 200 : 503, "text/plain", good ? "OK" : "UNAVAILABLE");
}

static void metrics(struct api_req *r)
{
    struct buf text;
    buf_init(&text);
    int rv = metric_render(&text);
    if (rv != 0) {
        buf_free(&text);
        api_error(r, rv, NULL);
        return;
    }
    api_text(r, 200, "text/plain; version=0.0.4", text.data != NULL ? text.data : "");
    buf_free(&text);
}

const struct api_route api_health_routes[] = {
    {HTTP_METHOD_GET, "/health/live", live, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/health/ready", ready, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/health/read", readable, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/health/write", writable, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/health/admin", admin, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/health/maintenance", maintenance, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/healthcheck", healthcheck, API_OPEN | API_UNFORMED},
    {HTTP_METHOD_GET, "/metrics", metrics, API_NO_BODY},
    {0},
};
