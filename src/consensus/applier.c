/* Feeds the state machine: entries that are committed and durable here, in order, many at a time,
 * one call under way. Then proposers get their outcome and readers learn how far it is. */
#include <stdlib.h>
#include <string.h>

#include "consensus/batch.h"
#include "consensus/host.h"

static void applier_run(struct job *job)
{
    struct consensus *c = job->c;
    struct applier *a = &c->applier;
    for (unsigned i = 0; i < a->count; i++) {
        struct fsm_entry *e = &a->out[i];
        memset(e, 0, sizeof *e);
        e->index = a->in[i].index;
        e->term = a->in[i].term;
        if (a->in[i].type == ENTRY_COMMAND) {
            const struct payload *p = a->in[i].payload;
            job->rc = batch_decode(p->data, p->size, &e->wall_us, &e->commands, &e->count);
            if (job->rc) {
                return; /* written by a newer version: never skipped */
            }
        }
    }
    job->rc = c->options.fsm->ops->apply(c->options.fsm, a->out, a->count);
}

static void applier_clear(struct applier *a)
{
    for (unsigned i = 0; i < a->count; i++) {
        for (unsigned k = 0; k < a->out[i].count && a->out[i].commands; k++) {
            free(a->out[i].commands[k].result);
        }
        free(a->out[i].commands);
        memset(&a->out[i], 0, sizeof a->out[i]);
        payload_unref(a->in[i].payload);
    }
    a->count = 0;
}

static void applier_done(struct job *job)
{
    struct consensus *c = job->c;
    struct applier *a = &c->applier;
    if (job->rc && job->rc != TSR_ENOSPC) {
        host_fatal(c, job->rc,
                   job->rc == TSR_EIO ? "the metadata store can not be written: its disk fails"
                   : job->rc == TSR_ENOTSUP
                       ? "the log holds an entry of a newer version: install that version"
                       : "the state machine could not apply an entry");
    }
    space_store(c, job->rc == TSR_ENOSPC); /* nothing of it was done: the same again, later */
    if (c->closing || c->fatal || job->rc) {
        applier_clear(a);
        return;
    }
    c->applied = a->in[a->count - 1].index;
    atomic_store(&c->applied_shared, c->applied);
    for (unsigned i = 0; i < a->count && !c->closing; i++) {
        for (unsigned k = 0; k < a->out[i].count && !c->closing; k++) {
            submit_applied(c, &a->out[i].commands[k]);
        }
    }
    uint64_t applied = c->applied;
    applier_clear(a);
    if (!c->closing && c->options.events.on_applied) {
        c->options.events.on_applied(c->options.arg, applied);
    }
}

void applier_pump(struct consensus *c)
{
    struct applier *a = &c->applier;
    if (a->job.busy || core_installing(c->core) || c->installs.phase == INSTALL_IMPORTING ||
        space_wait(c)) {
        return;
    }
    uint64_t limit = core_commit(c->core);
    if (limit > core_durable(c->core)) {
        limit = core_durable(c->core);
    }
    size_t bytes = 0;
    a->count = 0;
    for (uint64_t i = c->applied + 1; i <= limit && a->count < APPLY_ENTRIES_MAX; i++) {
        const struct entry *e = core_entry(c->core, i);
        if (!e) {
            host_fatal(c, TSR_EINTERNAL, "an entry to apply is not in memory");
            applier_clear(a);
            return;
        }
        if (a->count && bytes + e->payload->size > APPLY_BYTES_MAX) {
            break;
        }
        bytes += e->payload->size;
        a->in[a->count].index = i;
        a->in[a->count].term = e->term;
        a->in[a->count].type = e->type;
        a->in[a->count].payload = payload_ref(e->payload);
        a->count++;
    }
    if (a->count) {
        job_start(c, &a->job, c->options.apply_pool, applier_run, applier_done);
    }
}

void applier_free(struct consensus *c)
{
    applier_clear(&c->applier);
}
