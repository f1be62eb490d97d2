/* How a formed host stops: its parts are closed one after the other, in reverse order of their
 * opening, each on the loop where it lives; the control loop ends with the last. */
#include <stdlib.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/sys/signal.h"

enum { CLOSE_GRACE_MS = 15000 /* closing parts takes no longer */ };

static void links_closed(void *arg)
{
    struct daemon *d = arg;
    timer_stop(&d->stop_timer);
    timer_stop(&d->init_timer);
    timer_stop(&d->hosts_timer);
    signals_stop();
    uv_loop_stop(d->control);
}

static void consensus_closed(void *arg)
{
    struct daemon *d = arg;
    d->consensus = NULL;
    raft_links_close(d->links, links_closed, d);
}

static void cluster_closed(void *arg)
{
    struct daemon *d = arg;
    d->cluster = NULL;
    meta_detach(d->meta);
    consensus_close(d->consensus, consensus_closed, d);
}

static void peers_closed(void *arg)
{
    struct daemon *d = arg;
    cluster_close(d->cluster, cluster_closed, d);
}

static void keeper_closed(void *arg)
{
    struct daemon *d = arg;
    d->keeper = NULL;
    peer_client_close(d->peers, peers_closed, d);
}

struct closed_task {
    struct task task;
    struct daemon *d;
};

static void worker_closed_run(struct task *task)
{
    struct closed_task *t = container_of(task, struct closed_task, task);
    struct daemon *d = t->d;
    free(t);
    if (--d->workers_open > 0) {
        return;
    }
    keystone_stop(d->keystone); /* no client waits any more */
    if (d->keeper != NULL) {
        keystone_keeper_close(d->keeper, keeper_closed, d);
    } else {
        keeper_closed(d);
    }
}

void daemon_worker_closed(struct daemon *d)
{
    struct closed_task *t = malloc(sizeof(*t));
    tsr_assert(t != NULL);
    *t = (struct closed_task){.task = {.run = worker_closed_run}, .d = d};
    loop_post(d->control, &t->task);
}

static void replicator_closed_run(struct task *task)
{
    struct closed_task *t = container_of(task, struct closed_task, task);
    struct daemon *d = t->d;
    free(t);
    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_close(&d->workers[i]);
    }
}

static void replicator_closed(void *arg)
{
    struct daemon *d = arg;
    struct closed_task *t = malloc(sizeof(*t));
    tsr_assert(t != NULL);
    *t = (struct closed_task){.task = {.run = replicator_closed_run}, .d = d};
    loop_post(d->control, &t->task);
}

static void close_replicator_run(struct task *task)
{
    struct closed_task *t = container_of(task, struct closed_task, task);
    struct daemon *d = t->d;
    free(t);
    replicator_close(d->replicator, replicator_closed, d);
}

static void drained(void *arg)
{
    struct daemon *d = arg;
    struct closed_task *t = malloc(sizeof(*t));
    tsr_assert(t != NULL);
    d->replicator_seen = NULL;
    *t = (struct closed_task){.task = {.run = close_replicator_run}, .d = d};
    loop_post(d->workers[0].loop, &t->task); /* the replicator lives there */
}

/* Something did not close in time: nothing acknowledged is lost by going now. */
static void on_time_out(struct timer *timer)
{
    (void)timer;
    log_warn("daemon", "stopping took too long: leaving at once");
    _exit(0);
}

void stop_begin(void *arg)
{
    struct daemon *d = arg;
    if (atomic_exchange(&d->stopping, true)) {
        return;
    }
    log_info("daemon", "stopping");
    atomic_store(&d->draining, true);
    timer_start(&d->stop_timer, (uint64_t)d->cfg.drain_timeout_ms + CLOSE_GRACE_MS);
    cluster_drain(d->cluster, 3000, drained, d);
}

void stop_init(struct daemon *d)
{
    timer_init(&d->stop_timer, d->control, on_time_out);
}
