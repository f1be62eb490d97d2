/* The planner (leader): walks the images in slices and corrects placements, ends upload sessions of
 * hosts that went down. Level-triggered: a walk starts when hosts changed, leadership began, or
 * none was made for a while.
 *
 * Placement: each image shall be on min(replicas, image hosts that belong to the cluster). The
 * holders stay; missing ones are chosen by placement_repair; the replicators make it so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum {
    PLAN_SLICE = 256,
    PLAN_INFLIGHT_MAX = 32,
    PLAN_EVERY_MS = 30000,
    PLAN_SHARE = 20,
    SESSIONS_EVERY_MS = 10000
};

void planner_want(struct cluster *c)
{
    c->plan_wanted = true;
}

static void placed(struct cluster *c, void *arg, int status, json_t *result, const struct err *err)
{
    (void)arg;
    (void)result;
    c->plan_pending--;
    if (status != 0 && status != TSR_ENOENT) {
        /* Changed meanwhile (TSR_EVERSION) or no quorum: the next walk looks again. */
        if (status != TSR_EVERSION) {
            log_warn("cluster", "placement not recorded: %s", err->msg);
        }
        c->plan_wanted = true;
    }
}

static size_t read_ids(json_t *array, uint64_t *out, size_t max)
{
    size_t n = 0, i;
    json_t *v;
    json_array_foreach(array, i, v)
    {
        if (n < max && json_is_integer(v)) {
            out[n++] = (uint64_t)json_integer_value(v);
        }
    }
    return n;
}

static void plan_image(struct cluster *c, const struct placement_host *hosts, size_t count,
                       size_t want, json_t *image)
{
    uint64_t have[REPLICA_HOSTS_MAX], next[REPLICA_HOSTS_MAX];
    if (json_str(image, "manifest") == NULL) {
        return;
    }
    size_t n = read_ids(json_arr(image, "placement"), have, REPLICA_HOSTS_MAX);
    size_t m =
        placement_repair(hosts, count, json_str_or(image, "id", ""), json_int(image, "size", -1),
                         have, n, want, next, REPLICA_HOSTS_MAX);
    if (m == n && memcmp(have, next, n * sizeof(*have)) == 0) {
        return;
    }
    json_t *ids = json_array();
    for (size_t i = 0; i < m; i++) {
        json_array_append_new(ids, json_integer((json_int_t)next[i]));
    }
    c->plan_pending++;
    cluster_submit(c,
                   json_pack("{s:s,s:s,s:I,s:o}", "op", "image.place", "id",
                             json_str_or(image, "id", ""), "version",
                             (json_int_t)json_int(image, "version", 0), "placement", ids),
                   placed, NULL);
}

static void plan_slice(struct cluster *c)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t count = health_hosts(c, hosts), image_hosts = 0;
    for (size_t i = 0; i < count; i++) {
        image_hosts += hosts[i].image_role;
    }
    size_t want = c->o.replicas < image_hosts ? c->o.replicas : image_hosts;
    struct meta_view *view = NULL;
    json_t *images = NULL;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return;
    }
    int rv = meta_image_walk(view, c->plan_after, PLAN_SLICE, &images);
    meta_view_close(view);
    size_t n = rv == 0 ? json_array_size(images) : 0, i;
    json_t *image;
    json_array_foreach(images, i, image)
    {
        plan_image(c, hosts, count, want, image);
    }
    json_decref(images);
    if (n < PLAN_SLICE) {
        c->plan_running = false;
        uint64_t now = cluster_now(c), took = now - c->plan_begun_ms;
        c->plan_next_ms = now + PLAN_EVERY_MS + PLAN_SHARE * took;
    }
}

void planner_duty(struct cluster *c)
{
    /* From time to time without a cause, too: a host that was full has room again, an upload ended
     * that had chosen its hosts before others came. A large library costs a twentieth of that. */
    bool due = c->plan_wanted || cluster_now(c) >= c->plan_next_ms;
    if (!c->plan_running && due && c->plan_pending == 0) {
        c->plan_wanted = false;
        c->plan_running = true;
        c->plan_begun_ms = cluster_now(c);
        c->plan_after[0] = '\0';
    }
    if (c->plan_running && c->plan_pending < PLAN_INFLIGHT_MAX) {
        plan_slice(c);
    }
}

/* --- images by status
 * ----------------------------------------------------------------------------------- */

void planner_images(struct meta_view *view, const char *status, json_t *out)
{
    const char *const values[] = {status};
    struct meta_filter filter = {
        .field = "status", .compare = CMP_EQ, .values = values, .value_count = 1};
    struct meta_image_query query = {
        .admin = true, .visibility = "all", .filters = &filter, .filter_count = 1, .limit = 1000};
    for (int hidden = 0; hidden < 2; hidden++) {
        char marker[64] = "";
        bool more = true;
        query.hidden = hidden == 1;
        query.marker = NULL;
        while (more) {
            json_t *images = NULL;
            if (meta_image_list(view, &query, &images, &more) != 0) {
                break;
            }
            size_t n = json_array_size(images);
            const char *last = json_str_or(json_array_get(images, n - 1), "id", "");
            (void)str_copy(marker, sizeof(marker), n > 0 ? last : "");
            query.marker = marker;
            more = more && n > 0;
            json_array_extend(out, images);
            json_decref(images);
        }
    }
}

/* --- upload sessions
 * ------------------------------------------------------------------------------------ */

/* Images whose data comes in just now: in `saving`, or in `uploading` and not yet staged (few at
 * any time: an index seek by status). */
static json_t *saving_images(struct cluster *c)
{
    struct meta_view *view = NULL;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return NULL;
    }
    json_t *all = json_array();
    planner_images(view, "saving", all);
    planner_images(view, "uploading", all);
    meta_view_close(view);
    return all;
}

static void end_session(struct cluster *c, json_t *image, const char *why)
{
    json_t *session = json_obj(image, "session");
    log_info("cluster", "upload of image %s ended: %s", json_str_or(image, "id", ""), why);
    cluster_submit(c,
                   json_pack("{s:s,s:s,s:s}", "op", "image.abort", "id",
                             json_str_or(image, "id", ""), "session",
                             json_str_or(session, "id", "")),
                   NULL, NULL);
}

void planner_host_down(struct cluster *c, uint64_t host)
{
    json_t *images = saving_images(c), *image;
    size_t i;
    json_array_foreach(images, i, image)
    {
        if ((uint64_t)json_int(json_obj(image, "session"), "host", 0) == host) {
            end_session(c, image, "the receiving host is down");
        }
    }
    json_decref(images);
}

static void own_done(struct cluster *c, void *arg, int status, json_t *result,
                     const struct err *err)
{
    (void)arg;
    (void)status;
    (void)result;
    (void)err;
    c->sessions_busy = false; /* looked at again at the next report */
}

/* Sessions that the process before left behind are ended: they carry another boot tag. Looked for
 * as long as the host runs: a command of that process may still be on its way when this one starts,
 * and take an image to `saving` later. */
void planner_own_sessions(struct cluster *c)
{
    uint64_t now = cluster_now(c);
    if (now < c->sessions_next_ms || c->sessions_busy || !atomic_load(&c->a_ready)) {
        return;
    }
    char boot[9];
    hex_encode(c->o.boot, sizeof(c->o.boot), boot);
    json_t *images = saving_images(c), *image;
    size_t i;
    c->sessions_next_ms = images != NULL ? now + SESSIONS_EVERY_MS : now;
    json_array_foreach(images, i, image)
    {
        json_t *session = json_obj(image, "session");
        if ((uint64_t)json_int(session, "host", 0) == c->o.self &&
            strncmp(json_str_or(session, "id", ""), boot, 8) != 0) {
            c->sessions_next_ms = now;
            c->sessions_busy = true;
            cluster_submit(c,
                           json_pack("{s:s,s:s,s:s}", "op", "image.abort", "id",
                                     json_str_or(image, "id", ""), "session",
                                     json_str_or(session, "id", "")),
                           own_done, NULL);
            break;
        }
    }
    json_decref(images);
}
