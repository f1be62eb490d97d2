/* An external Keystone: made where the settings name one, with threads of its own. */
#include <stdio.h>
#include <string.h>

#include "daemon/daemon.h"

static bool leads(void *arg)
{
    struct daemon *d = arg;
    struct cluster_health health;
    cluster_health(d->cluster, &health);
    return health.leader;
}

int keystone_open(struct daemon *d, struct err *err)
{
    struct keystone_options options = {.loop = d->control};
    if (strcmp(d->cfg.identity, "keystone") != 0) {
        return 0;
    }
    if (thread_pool_new("keystone", (unsigned)d->cfg.keystone_threads, &d->keystone_pool) != 0) {
        return err_set(err, TSR_ENOMEM, "threads can not be started");
    }
    options.pool = d->keystone_pool;
    settings_keystone(&d->cfg, &options);
    int rv = keystone_new(&options, &d->keystone, err);
    if (rv != 0 || !d->cfg.keystone_keep_admin_url) {
        return rv;
    }
    struct keystone_keeper_options keeper = {.loop = d->control,
                                             .keystone = d->keystone,
                                             .meta = d->meta,
                                             .region = d->cfg.region,
                                             .timeout_ms = (uint64_t)d->cfg.keystone_timeout_ms,
                                             .leads = leads,
                                             .arg = d};
    return keystone_keeper_new(&keeper, &d->keeper);
}

static void warn(json_t *warnings, const char *text)
{
    (void)json_array_append_new(
        warnings, json_pack("{s:s,s:s}", "code", "KEYSTONE_UNREACHABLE", "text", text));
}

void keystone_warn(void *daemon, json_t *warnings)
{
    struct daemon *d = daemon;
    char text[ERR_MSG_SIZE], line[ERR_MSG_SIZE + 128];
    if (d->keystone != NULL && !keystone_works(d->keystone, text, sizeof(text))) {
        (void)snprintf(line, sizeof(line), "host %s: %s", d->files.me.name, text);
        warn(warnings, line);
    }
    if (d->keeper != NULL && keystone_keeper_trouble(d->keeper, text, sizeof(text))) {
        (void)snprintf(line, sizeof(line), "the admin endpoint in Keystone is not kept current: %s",
                       text);
        warn(warnings, line);
    }
}
