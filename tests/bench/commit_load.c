/* N changes under way at a time, each a new record, proposed where the leader is. A change counts
 * when its outcome is back on the loop that proposed it: in the log of a majority, synced there,
 * and applied here. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "host.h"
#include "tessera/base/assert.h"
#include "tessera/base/json.h"

enum { SAMPLES_MAX = 4 << 20 };

struct load;
struct lane {
    struct meta_submit req;
    struct load *load;
    uint64_t sent_ns;
};

struct load {
    struct meta *meta;
    struct loop *loop;
    unsigned flying, busy;
    uint64_t begun_ns, ended_ns, end_ns; /* of the measured part: begun_ns 0 before it */
    uint64_t window_ns, seed, sent, answered, errors;
    char first_error[160];
    char *value;
    float *samples_ms;
    struct lane lanes[COMMIT_FLYING_MAX];
    struct task task;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void lane_start(struct lane *l);

static void load_end(struct load *load)
{
    load->ended_ns = loop_now_ns(load->loop);
    pthread_mutex_lock(&load->lock);
    load->done = true;
    pthread_cond_signal(&load->changed);
    pthread_mutex_unlock(&load->lock);
}

/* Each lane makes one change first, outside the figures. */
static void load_begin(struct load *load)
{
    load->begun_ns = loop_now_ns(load->loop);
    load->end_ns = load->begun_ns + load->window_ns;
    load->answered = 0;
    load->busy = load->flying;
    for (unsigned i = 0; i < load->flying; i++) {
        lane_start(&load->lanes[i]);
    }
}

static void lane_done(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct lane *l = req->arg;
    struct load *load = l->load;
    uint64_t now = loop_now_ns(load->loop);
    (void)result;
    if (status != 0) {
        if (load->errors++ == 0) {
            (void)snprintf(load->first_error, sizeof load->first_error, "%s: %.120s",
                           err_name(status), err->msg);
        }
    } else if (load->answered < SAMPLES_MAX) {
        load->samples_ms[load->answered++] = (float)(now - l->sent_ns) / 1e6F;
    }
    if (load->begun_ns != 0 && now < load->end_ns && load->errors < 100) {
        lane_start(l);
    } else if (--load->busy == 0 && load->begun_ns == 0 && load->errors == 0) {
        load_begin(load);
    } else if (load->busy == 0) {
        load_end(load);
    }
}

static void lane_start(struct lane *l)
{
    struct load *load = l->load;
    char id[64];
    (void)snprintf(id, sizeof id, "bench-%llu-%llu", (unsigned long long)load->seed,
                   (unsigned long long)load->sent++);
    l->req = (struct meta_submit){.loop = load->loop, .cb = lane_done, .arg = l};
    l->req.command = json_pack("{s:s,s:s,s:s,s:{s:s}}", "op", "dir.put", "kind", "bench", "id", id,
                               "value", "value", load->value);
    if (l->req.command == NULL) {
        bench_must(TSR_ENOMEM, "load");
    }
    l->sent_ns = loop_now_ns(load->loop);
    meta_submit(load->meta, &l->req);
}

static void load_start(struct task *task)
{
    struct load *load = container_of(task, struct load, task);
    for (unsigned i = 0; i < load->flying; i++) {
        load->lanes[i].load = load;
        lane_start(&load->lanes[i]);
    }
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double share(const struct load *load, double part)
{
    return load->answered == 0
               ? 0
               : (double)load->samples_ms[(size_t)(part * (double)(load->answered - 1) + 0.5)];
}

static json_t *figures(struct load *load)
{
    double took = (double)(load->ended_ns - load->begun_ns) / 1e9;
    qsort(load->samples_ms, (size_t)load->answered, sizeof *load->samples_ms, compare);
    return json_pack("{s:I,s:I,s:s,s:i,s:f,s:f,s:f,s:f,s:f}", "requests",
                     (json_int_t)load->answered, "errors", (json_int_t)load->errors, "first_error",
                     load->first_error, "in_flight", (int)load->flying, "seconds", took,
                     "per_second", (double)load->answered / took, "p50_ms", share(load, 0.5),
                     "p99_ms", share(load, 0.99), "max_ms", share(load, 1.0));
}

json_t *commit_load(struct meta *meta, struct loop *loop, unsigned flying, long seconds,
                    unsigned size, uint64_t seed)
{
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL ||
        (load->samples_ms = malloc(SAMPLES_MAX * sizeof *load->samples_ms)) == NULL ||
        (load->value = malloc(size + 1)) == NULL) {
        bench_must(TSR_ENOMEM, "load");
    }
    memset(load->value, '0', size);
    load->value[size] = 0;
    load->meta = meta;
    load->loop = loop;
    load->flying = load->busy = flying;
    load->window_ns = (uint64_t)seconds * 1000000000U;
    load->seed = seed;
    load->task.run = load_start;
    pthread_mutex_init(&load->lock, NULL);
    pthread_cond_init(&load->changed, NULL);
    loop_post(loop, &load->task);
    pthread_mutex_lock(&load->lock);
    while (!load->done) {
        pthread_cond_wait(&load->changed, &load->lock);
    }
    pthread_mutex_unlock(&load->lock);
    json_t *out = figures(load);
    pthread_mutex_destroy(&load->lock);
    pthread_cond_destroy(&load->changed);
    free(load->samples_ms);
    free(load->value);
    free(load);
    return out;
}
