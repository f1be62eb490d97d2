/* The leader keeps the admin endpoint's URL current in Keystone.
 *
 * Every half second the leader looks at the record of the admin endpoint. A new epoch, or a minute
 * since the last look, starts a job: a read barrier first (a host that has lost the leadership
 * without knowing does not get past it), then keystone_move. A job that a predecessor began may end
 * after ours: so one more look follows when its time is surely over. Failures are tried again
 * after 1, 2, 4, .. 30 s. Everything runs on the control loop but the job itself. */
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/identity/keystone.h"

enum {
    TICK_MS = 500,
    LOOK_AGAIN_MS = 60000,
    MARGIN_MS = 1000,
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 30000
};

struct keystone_keeper {
    struct keystone_keeper_options o;
    struct timer timer;
    struct meta_barrier barrier;
    struct keystone_job job;
    bool busy, led;
    uint64_t epoch; /* that is done */
    uint64_t next_ms, backoff_ms;
    uint64_t job_epoch;
    char url[512];
    json_t *hosts;
    char trouble[ERR_MSG_SIZE];
    void (*close_cb)(void *arg);
    void *close_arg;
};

static uint64_t now_ms(const struct keystone_keeper *k)
{
    return loop_now_ms(k->o.loop);
}

/* --- what the cluster says ---------------------------------------------------------------------
 */

static void take_hosts(struct keystone_keeper *k, const json_t *list, uint64_t holder)
{
    size_t i;
    const json_t *host;
    json_decref(k->hosts);
    k->hosts = json_array();
    k->url[0] = '\0';
    json_array_foreach(list, i, host)
    {
        const char *url = json_str_or(host, "api_url", "");
        (void)json_array_append_new(k->hosts, json_string(url));
        if ((uint64_t)json_int(host, "id", 0) == holder) {
            (void)str_copy(k->url, sizeof(k->url), url);
        }
    }
}

/* Epoch of the admin endpoint, 0 = none; with its URL and those of all hosts. */
static uint64_t read_endpoint(struct keystone_keeper *k)
{
    struct meta_view *view = NULL;
    json_t *endpoint = NULL, *list = NULL;
    uint64_t epoch = 0;
    if (meta_view_open(k->o.meta, &view) != 0) {
        return 0;
    }
    if (meta_endpoint_get(view, &endpoint) == 0 && meta_host_list(view, &list) == 0) {
        take_hosts(k, list, (uint64_t)json_int(endpoint, "host", 0));
        epoch = k->url[0] != '\0' ? (uint64_t)json_int(endpoint, "epoch", 0) : 0;
    }
    meta_view_close(view);
    json_decref(list);
    json_decref(endpoint);
    return epoch;
}

/* --- a job -------------------------------------------------------------------------------------
 */

static void finish(struct keystone_keeper *k)
{
    k->busy = false;
    if (k->close_cb != NULL) {
        void (*cb)(void *) = k->close_cb;
        void *arg = k->close_arg;
        json_decref(k->hosts);
        free(k);
        cb(arg);
    }
}

static void failed(struct keystone_keeper *k, const char *text)
{
    k->backoff_ms = k->backoff_ms == 0 ? BACKOFF_MIN_MS : k->backoff_ms * 2;
    k->backoff_ms = k->backoff_ms < BACKOFF_MAX_MS ? k->backoff_ms : BACKOFF_MAX_MS;
    k->next_ms = now_ms(k) + k->backoff_ms;
    if (strcmp(k->trouble, text) != 0) {
        log_warn("keystone", "the admin endpoint is not kept current: %s", text);
    }
    (void)str_copy(k->trouble, sizeof(k->trouble), text);
}

static void job_cb(struct keystone_job *job, int status)
{
    struct keystone_keeper *k = job->arg;
    const char *state = json_str_or(job->result, "state", "");
    if (k->close_cb != NULL) {
        /* The end of the process: another leader takes over. */
    } else if (status != 0) {
        failed(k, job->err.msg[0] != '\0' ? job->err.msg : err_text(status));
    } else {
        if (strcmp(state, "moved") == 0) {
            log_info("keystone", "admin endpoint epoch=%llu is at %s now",
                     (unsigned long long)k->job_epoch, k->url);
        } else if (strcmp(state, "foreign") == 0 && k->epoch == 0) {
            log_info("keystone", "the admin endpoint in Keystone is none of our hosts: left alone");
        }
        k->trouble[0] = '\0';
        k->backoff_ms = 0;
        bool settled = k->epoch == k->job_epoch && strcmp(state, "moved") != 0;
        k->next_ms = now_ms(k) + (settled ? LOOK_AGAIN_MS : k->o.timeout_ms + MARGIN_MS);
        k->epoch = k->job_epoch;
    }
    json_decref(job->result);
    job->result = NULL;
    finish(k);
}

static void barrier_cb(struct meta_barrier *barrier, int status)
{
    struct keystone_keeper *k = barrier->arg;
    uint64_t epoch =
        status == 0 && k->close_cb == NULL && k->o.leads(k->o.arg) ? read_endpoint(k) : 0;
    if (epoch == 0) {
        finish(k); /* the next tick looks again */
        return;
    }
    k->job_epoch = epoch;
    k->job = (struct keystone_job){.loop = k->o.loop,
                                   .region = k->o.region,
                                   .urls = {NULL, NULL, k->url},
                                   .epoch = epoch,
                                   .hosts = k->hosts,
                                   .cb = job_cb,
                                   .arg = k};
    keystone_move(k->o.keystone, &k->job);
}

static void tick(struct timer *timer)
{
    struct keystone_keeper *k = container_of(timer, struct keystone_keeper, timer);
    timer_start(&k->timer, TICK_MS);
    bool leads = k->o.leads(k->o.arg);
    if (!leads || k->busy) {
        k->led = leads && k->led;
        if (!leads) {
            k->trouble[0] = '\0';
        }
        return;
    }
    if (!k->led) { /* just elected */
        k->led = true;
        k->epoch = k->backoff_ms = k->next_ms = 0;
    }
    uint64_t epoch = read_endpoint(k);
    bool is_new = epoch != k->epoch && k->backoff_ms == 0;
    if (epoch == 0 || (!is_new && now_ms(k) < k->next_ms)) {
        return;
    }
    k->busy = true;
    k->barrier =
        (struct meta_barrier){.loop = k->o.loop, .timeout_ms = 1000, .cb = barrier_cb, .arg = k};
    meta_barrier(k->o.meta, &k->barrier);
}

/* --- life --------------------------------------------------------------------------------------
 */

int keystone_keeper_new(const struct keystone_keeper_options *options, struct keystone_keeper **out)
{
    struct keystone_keeper *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        return TSR_ENOMEM;
    }
    k->o = *options;
    timer_init(&k->timer, options->loop, tick);
    timer_start(&k->timer, TICK_MS);
    *out = k;
    return 0;
}

void keystone_keeper_close(struct keystone_keeper *keeper, void (*cb)(void *arg), void *arg)
{
    timer_stop(&keeper->timer);
    keeper->close_cb = cb;
    keeper->close_arg = arg;
    if (!keeper->busy) {
        finish(keeper);
    }
}

bool keystone_keeper_trouble(const struct keystone_keeper *keeper, char *text, size_t size)
{
    (void)str_copy(text, size, keeper->trouble);
    return keeper->trouble[0] != '\0';
}
