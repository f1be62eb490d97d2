/* The leader's duties for imports. Level-triggered, every second:
 *
 * An import whose host is down, left or unknown is assigned to another host with the next epoch,
 * once; that host claims it and begins anew. If that one is lost too the import fails back to
 * `queued` with a message. So nothing stays in `importing` without a host that works on it. Staged
 * data that nobody imported within its life, and tasks that ended two days ago, are dropped. */
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

enum {
    IMPORT_EVERY_MS = 1000,
    EXPIRE_EVERY_MS = 60000,
    EXPIRE_BATCH = 100,
    IMPORT_INFLIGHT_MAX = 16,
    IMPORT_EPOCHS_MAX = 2,
};

static void done(struct cluster *c, void *arg, int status, json_t *result, const struct err *err)
{
    (void)arg;
    (void)status; /* refused: it was over, or is looked at again */
    (void)result;
    (void)err;
    c->import_pending--;
}

static void send(struct cluster *c, json_t *command)
{
    if (command != NULL) {
        c->import_pending++;
        cluster_submit(c, command, done, NULL);
    }
}

/* Hosts that may run an import: up, with image data, other than @not; the one with least to do is
 * not known here, so the image's id spreads them. 0: none. */
static uint64_t runner_choose(const struct placement_host *hosts, size_t count, uint64_t not,
                              const char *id)
{
    size_t fit = 0, want = 0;
    for (size_t i = 0; i < count; i++) {
        fit += hosts[i].up && hosts[i].image_role && hosts[i].id != not ;
    }
    if (fit == 0) {
        return 0;
    }
    for (const char *p = id; *p != 0; p++) {
        want = want * 31 + (unsigned char)*p;
    }
    want %= fit;
    for (size_t i = 0; i < count; i++) {
        if (hosts[i].up && hosts[i].image_role && hosts[i].id != not &&want-- == 0) {
            return hosts[i].id;
        }
    }
    return 0;
}

static bool host_up(struct meta_view *view, uint64_t id)
{
    json_t *host = NULL;
    bool up = meta_host_get(view, id, &host) == 0 &&
              strcmp(json_str_or(host, "state", ""), "down") != 0 &&
              strcmp(json_str_or(host, "state", ""), "left") != 0;
    json_decref(host);
    return up;
}

static void lost_import(struct cluster *c, const json_t *image, const struct placement_host *hosts,
                        size_t count)
{
    const json_t *session = json_obj(image, "session");
    const char *id = json_str_or(image, "id", ""), *task = json_str_or(session, "task", "");
    int64_t epoch = json_int(session, "epoch", 0);
    uint64_t next = runner_choose(hosts, count, (uint64_t)json_int(session, "host", 0), id);
    if (epoch >= IMPORT_EPOCHS_MAX) {
        log_info("cluster", "import of image=%s task=%s fails: its second host is down, too", id,
                 task);
        send(c, json_pack("{s:s,s:s,s:s,s:I,s:s}", "op", "import.fail", "id", id, "task", task,
                          "epoch", (json_int_t)epoch, "message",
                          "The import was interrupted twice, as the hosts that ran it stopped. It "
                          "can be started again."));
    } else if (next != 0) {
        log_info("cluster", "import of image=%s task=%s goes to host=%llu", id, task,
                 (unsigned long long)next);
        send(c, json_pack("{s:s,s:s,s:s,s:I,s:I}", "op", "import.assign", "id", id, "task", task,
                          "host", (json_int_t)next, "epoch", (json_int_t)epoch + 1));
    }
    /* else: no host is fit now; the next look finds one, or its own come back */
}

static void lost_imports(struct cluster *c, struct meta_view *view)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    json_t *images = json_array(), *image;
    size_t count = 0, i;
    planner_images(view, "importing", images);
    json_array_foreach(images, i, image)
    {
        const json_t *session = json_obj(image, "session");
        if (c->import_pending >= IMPORT_INFLIGHT_MAX || json_str(session, "task") == NULL ||
            host_up(view, (uint64_t)json_int(session, "host", 0))) {
            continue;
        }
        count = count != 0 ? count : health_hosts(c, hosts);
        lost_import(c, image, hosts, count);
    }
    json_decref(images);
}

/* By how long this leader has seen it, not by the wall clock. */
static void old_staged(struct cluster *c, struct meta_view *view)
{
    json_t *images = json_array(), *image;
    size_t i;
    planner_images(view, "uploading", images);
    staged_ages_begin(&c->staged);
    json_array_foreach(images, i, image)
    {
        int64_t at = json_int(json_obj(image, "staged"), "at", -1);
        const char *id = json_str_or(image, "id", "");
        if (at >= 0 && staged_ages_due(&c->staged, id, at, cluster_now(c), c->o.stage_life_ms) &&
            c->import_pending < IMPORT_INFLIGHT_MAX) {
            log_info("cluster", "staged data of image=%s was not imported in time", id);
            send(c,
                 json_pack("{s:s,s:s,s:I}", "op", "image.unstage", "id", id, "at", (json_int_t)at));
        }
    }
    staged_ages_end(&c->staged);
    json_decref(images);
}

static void old_tasks(struct cluster *c, struct meta_view *view)
{
    int64_t now = loop_wall_us(c->o.loop);
    json_t *tasks = NULL, *task, *ids = json_array();
    char after[64] = "";
    size_t i, n;
    do {
        if (meta_dir_list(view, "task", "", after, EXPIRE_BATCH, &tasks) != 0) {
            break;
        }
        n = json_array_size(tasks);
        json_array_foreach(tasks, i, task)
        {
            const char *id = json_str_or(task, "id", "");
            if (json_int(task, "expires_at", INT64_MAX) <= now &&
                json_array_size(ids) < EXPIRE_BATCH) {
                json_array_append_new(ids, json_string(id));
            }
            (void)str_copy(after, sizeof(after), id);
        }
        json_decref(tasks);
    } while (n == EXPIRE_BATCH && json_array_size(ids) < EXPIRE_BATCH);
    if (json_array_size(ids) > 0) {
        send(c, json_pack("{s:s,s:O}", "op", "task.expire", "ids", ids));
    }
    json_decref(ids);
}

void imports_duty(struct cluster *c)
{
    struct meta_view *view = NULL;
    uint64_t now = cluster_now(c);
    if (now < c->import_next_ms || c->import_pending > 0 || meta_view_open(c->o.meta, &view) != 0) {
        return;
    }
    c->import_next_ms = now + IMPORT_EVERY_MS;
    lost_imports(c, view);
    if (now >= c->import_expire_ms) {
        uint64_t life = c->o.stage_life_ms;
        c->import_expire_ms = now + (life != 0 && life < EXPIRE_EVERY_MS ? life : EXPIRE_EVERY_MS);
        if (life != 0) {
            old_staged(c, view);
        }
        old_tasks(c, view);
    }
    meta_view_close(view);
}
