/* The first commands of a new cluster. `cluster init` leaves them in init.json next to host.json;
 * the host submits them as one batch when it first leads, and removes the file when they are in the
 * log. A crash in between repeats the batch, which is then refused as a whole because the cluster
 * exists. */
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/sys/fs.h"

enum { INIT_RETRY_MS = 200, INIT_FILE_MAX = 1024 * 1024 };

struct init {
    struct meta_submit req;
    struct daemon *d;
};

static void remove_file(struct daemon *d)
{
    char path[PATH_BYTES];
    path_join(path, d->cfg.data_dir, "init.json");
    int rv = fs_unlink(fs_real(), path);
    if (rv != 0 && rv != TSR_ENOENT) {
        log_warn("init", "init.json can not be removed: %s", err_text(rv));
    }
    json_decref(d->init_batch);
    d->init_batch = NULL;
}

static void submitted(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct init *i = req->arg;
    struct daemon *d = i->d;
    (void)result;
    free(i);
    d->init_busy = false;
    if (status == 0 || status == TSR_EEXIST) {
        log_info("init", "cluster %s is formed", d->files.me.cluster_id);
        remove_file(d);
    } else if (status != TSR_ECANCELED) {
        log_warn("init", "first commands not accepted yet: %s", err->msg);
        timer_start(&d->init_timer, INIT_RETRY_MS);
    }
}

static void on_timer(struct timer *timer)
{
    struct daemon *d = container_of(timer, struct daemon, init_timer);
    if (d->init_batch == NULL || d->init_busy || atomic_load(&d->stopping)) {
        return;
    }
    struct init *i = calloc(1, sizeof(*i));
    tsr_assert(i != NULL);
    i->d = d;
    i->req.loop = d->control;
    i->req.command = json_deep_copy(d->init_batch);
    i->req.cb = submitted;
    i->req.arg = i;
    d->init_busy = true;
    meta_submit(d->meta, &i->req);
}

int init_load(struct daemon *d, struct err *err)
{
    char path[PATH_BYTES], *text = NULL;
    size_t size = 0;
    path_join(path, d->cfg.data_dir, "init.json");
    int rv = fs_read_file(fs_real(), path, INIT_FILE_MAX, &text, &size);
    if (rv == TSR_ENOENT) {
        return 0;
    }
    if (rv != 0) {
        return err_set(err, rv, "%s can not be read", path);
    }
    d->init_batch = json_parse(text, size);
    free(text);
    return d->init_batch != NULL ? 0 : err_set(err, TSR_ECORRUPT, "%s is damaged", path);
}

void init_start(struct daemon *d)
{
    timer_init(&d->init_timer, d->control, on_timer);
    if (d->init_batch != NULL) {
        timer_start(&d->init_timer, 1);
    }
}
