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
    PLAN_SLICE = 1024, /* well under a millisecond, if none is to be moved */
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

/* What the plan needs to know of an image that has data. */
struct planned {
    char id[64];
    int64_t size, version;
    uint64_t have[REPLICA_HOSTS_MAX];
    size_t count;
    bool has_data;
};

/* "[1,2,3]" */
static void read_ids(const struct json_member *m, struct planned *out)
{
    const char *at = m->value + 1, *end = m->value + m->value_size - 1;
    while (at < end && out->count < REPLICA_HOSTS_MAX) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct json_member one = {.value = at,
                                  .value_size = (size_t)((comma != NULL ? comma : end) - at)};
        int64_t id;
        if (json_member_int(&one, &id)) {
            out->have[out->count++] = (uint64_t)id;
        }
        at += one.value_size + 1;
    }
}

/* From the record's text: a walk over a large library is mostly reading. */
static bool read_image(const struct meta_text *record, struct planned *out)
{
    struct json_member m;
    size_t at = 0;
    *out = (struct planned){.size = -1};
    while (json_member_next(record->text, record->size, &at, &m)) {
        if (json_member_is(&m, "manifest", 8)) {
            out->has_data = m.value[0] == '"';
        } else if (json_member_is(&m, "placement", 9)) {
            read_ids(&m, out);
        } else if (json_member_is(&m, "id", 2)) {
            (void)json_member_plain(&m, out->id, sizeof(out->id));
        } else if (json_member_is(&m, "size", 4)) {
            (void)json_member_int(&m, &out->size);
        } else if (json_member_is(&m, "version", 7)) {
            (void)json_member_int(&m, &out->version);
        }
    }
    return at != SIZE_MAX && out->has_data;
}

struct plan_walk {
    struct cluster *c;
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t count, want;
};

static bool plan_image(void *arg, const struct meta_text *record)
{
    const struct plan_walk *w = arg;
    struct planned image;
    uint64_t next[REPLICA_HOSTS_MAX];
    if (!read_image(record, &image)) {
        return true;
    }
    size_t m = placement_repair(w->hosts, w->count, image.id, image.size, image.have, image.count,
                                w->want, next, REPLICA_HOSTS_MAX);
    if (m == image.count && memcmp(image.have, next, m * sizeof(*next)) == 0) {
        return true;
    }
    json_t *ids = json_array();
    for (size_t i = 0; i < m; i++) {
        json_array_append_new(ids, json_integer((json_int_t)next[i]));
    }
    w->c->plan_pending++;
    cluster_submit(w->c,
                   json_pack("{s:s,s:s,s:I,s:o}", "op", "image.place", "id", image.id, "version",
                             (json_int_t)image.version, "placement", ids),
                   placed, NULL);
    return w->c->plan_pending < PLAN_INFLIGHT_MAX;
}

static void plan_slice(struct cluster *c)
{
    struct plan_walk w = {.c = c};
    size_t image_hosts = 0, n = 0;
    struct meta_view *view = NULL;
    w.count = health_hosts(c, w.hosts);
    for (size_t i = 0; i < w.count; i++) {
        image_hosts += w.hosts[i].image_role;
    }
    w.want = c->o.replicas < image_hosts ? c->o.replicas : image_hosts;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return;
    }
    int rv = meta_image_scan(view, c->plan_after, PLAN_SLICE, plan_image, &w, &n);
    meta_view_close(view);
    if (rv != 0 || (n < PLAN_SLICE && c->plan_pending < PLAN_INFLIGHT_MAX)) {
        c->plan_running = false;
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
        c->plan_work_ns = 0;
        c->plan_after[0] = '\0';
    }
    if (c->plan_running && c->plan_pending < PLAN_INFLIGHT_MAX) {
        /* What it waits for, a turn or a majority, is no work. */
        uint64_t began = loop_now_ns(c->o.loop);
        plan_slice(c);
        c->plan_work_ns += loop_now_ns(c->o.loop) - began;
        c->plan_next_ms = cluster_now(c) + PLAN_EVERY_MS + PLAN_SHARE * c->plan_work_ns / 1000000;
    }
}

/* --- images by status
 * ----------------------------------------------------------------------------------- */

void planner_images(struct meta_view *view, const char *status, json_t *out)
{
    (void)meta_images_by_status(view, status, out); /* what lacks is seen the next time */
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
                   json_pack("{s:s,s:s,s:s,s:b}", "op", "image.abort", "id",
                             json_str_or(image, "id", ""), "session",
                             json_str_or(session, "id", ""), "cut", 1),
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
                           json_pack("{s:s,s:s,s:s,s:b}", "op", "image.abort", "id",
                                     json_str_or(image, "id", ""), "session",
                                     json_str_or(session, "id", ""), "cut", 1),
                           own_done, NULL);
            break;
        }
    }
    json_decref(images);
}
