/* SIGHUP: take the live settings of the configuration file, all or none.
 *
 * The new configuration is read into an object of its own, which stays until the process ends,
 * because parts borrow its texts. A setting that needs a restart, a file that can not be read or a
 * certificate that does not fit refuses the whole reload, with one line that says why; the service
 * goes on as before. Workers take over their part on their own loops. The log file is opened anew
 * in any case (log rotation). */
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"

/* One configuration in use; older ones stay for those who still borrow from them. */
struct config_use {
    struct config cfg;
    struct image_limits limits;
    struct rules rules;
    struct config_use *older;
};

struct worker_reload {
    struct task task;
    struct worker *w;
    const struct config_use *use;
    struct tls *tls;
};

static void worker_apply(struct task *task)
{
    struct worker_reload *r = container_of(task, struct worker_reload, task);
    struct api_options api = {0};
    settings_api(&r->use->cfg, &api);
    api.rules = r->use->rules.policy;
    api.properties = r->use->rules.properties;
    api_reconfigure(r->w->api, &api);
    r->w->image.limits = &r->use->limits;
    settings_pins(&r->use->cfg, &r->w->replica.pin_limits);
    http_server_set_tls(r->w->http, r->tls);
    tls_unref(r->tls);
    free(r);
}

static const struct config *current(const struct daemon *d)
{
    return d->live != NULL ? &d->live->cfg : &d->cfg;
}

static int read_new(struct daemon *d, struct config_use *use, struct tls **tls, struct err *err)
{
    int rv = config_init_defaults(&use->cfg);
    if (rv != 0) {
        return rv;
    }
    if (d->config_path != NULL) {
        rv = config_load(&use->cfg, d->config_path, err);
    }
    if (rv == 0 && use->cfg.admin_socket[0] == '\0') { /* as main.c filled it in */
        rv = config_set(&use->cfg, "admin_socket", d->cfg.admin_socket, err);
    }
    const char *name = rv == 0 ? config_restart_needed(current(d), &use->cfg) : NULL;
    if (name != NULL) {
        rv = err_set(err, TSR_EINVAL, "%s can only change with a restart", name);
    }
    if (rv == 0) {
        rv = settings_rules(&use->cfg, &use->rules, err);
    }
    if (rv == 0 && (rv = settings_api_tls(d, &use->cfg, tls, err)) != 0) {
        settings_rules_free(&use->rules);
    }
    if (rv != 0) {
        config_free(&use->cfg);
    }
    return rv;
}

void reload_run(struct daemon *d)
{
    struct err err = {0};
    struct tls *tls = NULL;
    struct config_use *use = calloc(1, sizeof(*use));
    tsr_assert(use != NULL);
    int rv = read_new(d, use, &tls, &err);
    settings_log(rv == 0 ? &use->cfg : current(d));
    if (rv != 0) {
        free(use);
        log_error("daemon", "reload refused, nothing changed: %s",
                  err.msg[0] != '\0' ? err.msg : err_text(rv));
        return;
    }
    settings_limits(&use->cfg, &use->limits);
    use->older = d->live;
    d->live = use;
    struct cluster_options cluster = {0};
    settings_cluster(&use->cfg, &cluster);
    cluster_reconfigure(d->cluster, &cluster);
    for (unsigned i = 0; i < d->worker_count; i++) {
        struct worker_reload *r = calloc(1, sizeof(*r));
        tsr_assert(r != NULL);
        *r = (struct worker_reload){
            .task = {.run = worker_apply}, .w = &d->workers[i], .use = use, .tls = tls};
        tls_ref(tls);
        loop_post(d->workers[i].loop, &r->task);
    }
    tls_unref(tls);
    log_info("daemon", "settings reloaded");
}

void reload_free(struct daemon *d)
{
    while (d->live != NULL) {
        struct config_use *use = d->live;
        d->live = use->older;
        settings_rules_free(&use->rules);
        config_free(&use->cfg);
        free(use);
    }
}
