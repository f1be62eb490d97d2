/* The snapshot marker: sync the store at J, make {J, membership} durable, tell libraft, and the log
 * below (less what trails) may go. When a follower needs the whole state, the same step also pins
 * the store at J for the export, so that marker and stream agree. A crash between the steps leaves
 * an older marker and more log than needed: harmless. */
#include <stdlib.h>
#include <string.h>

#include "consensus/host.h"

enum { MARKER_AGAIN_MS = 1000 };

static void sync_run(struct job *job)
{
    struct consensus *c = job->c;
    struct snapshots *s = &c->snapshots;
    struct fsm *fsm = c->options.fsm;
#ifndef TSR_BREAK_STORE_SYNC
    job->rc = fsm->ops->sync(fsm);
#endif
    if (job->rc == 0 && s->for_export) {
        job->rc = fsm->ops->export_open(fsm, &s->export, &s->point);
    } else if (job->rc == 0) {
        job->rc = fsm->ops->point(fsm, &s->point);
    }
}

static void store_run(struct job *job)
{
    struct consensus *c = job->c;
    job->rc = marker_store(c->options.fs, c->dir, &c->snapshots.marker);
}

static void snapshot_end(struct consensus *c)
{
    struct snapshots *s = &c->snapshots;
    if (s->export) {
        c->options.fsm->ops->export_close(s->export);
        s->export = NULL;
    }
    marker_free(&s->marker);
    memset(&s->marker, 0, sizeof s->marker);
    s->phase = SNAPSHOT_IDLE;
}

/* Marker durable (or the present one serves): hand the pinned read on. */
static void snapshot_export(struct consensus *c)
{
    struct snapshots *s = &c->snapshots;
    if (s->for_export && s->export && s->point.index == c->marker.index) {
        struct fsm_export *export = s->export;
        s->export = NULL;
        export_begin(c, export, &c->marker);
    }
    snapshot_end(c);
}

static void store_done(struct job *job)
{
    struct consensus *c = job->c;
    struct snapshots *s = &c->snapshots;
    if (job->rc && job->rc != TSR_ENOSPC) {
        host_fatal(c, job->rc, "the snapshot marker could not be made durable");
    }
    if (c->closing || c->fatal || job->rc) {
        c->space.marker_ms = host_now(c) + MARKER_AGAIN_MS; /* full disk: the old one serves on */
        snapshot_end(c);
        return;
    }
    marker_free(&c->marker);
    c->marker = s->marker;
    memset(&s->marker, 0, sizeof s->marker);
    if (host_ok(c, core_snapshot(c->core, host_now(c), &c->marker, export_keep_from(c)))) {
        snapshot_export(c);
    } else {
        snapshot_end(c);
    }
}

static int snapshot_marker(struct consensus *c)
{
    struct snapshots *s = &c->snapshots;
    struct marker *m = &s->marker;
    const struct payload *conf = core_conf_at(c->core, s->point.index, &m->conf_index);
    if (!conf) {
        return TSR_EINTERNAL;
    }
    m->conf = malloc(conf->size);
    if (!m->conf) {
        return TSR_ENOMEM;
    }
    memcpy(m->conf, conf->data, conf->size);
    m->conf_size = conf->size;
    m->index = s->point.index;
    m->term = core_term_of(c->core, m->index);
    memcpy(m->digest, s->point.digest, FSM_DIGEST_SIZE);
    return m->term ? 0 : TSR_EINTERNAL;
}

static void sync_done(struct job *job)
{
    struct consensus *c = job->c;
    struct snapshots *s = &c->snapshots;
    if (job->rc && job->rc != TSR_ENOSPC) {
        host_fatal(c, job->rc, "the state could not be made durable");
    }
    if (c->closing || c->fatal || core_installing(c->core) || job->rc) {
        c->space.marker_ms = host_now(c) + (job->rc ? MARKER_AGAIN_MS : 0); /* full disk */
        snapshot_end(c);
        return;
    }
    if (s->point.index <= c->marker.index) {
        snapshot_export(c);
        return;
    }
    int rc = snapshot_marker(c);
    if (rc) {
        host_fatal(c, rc, "no term or membership is known for the snapshot");
        snapshot_end(c);
        return;
    }
    s->phase = SNAPSHOT_STORE;
    job_start(c, &s->job, c->options.log_pool, store_run, store_done);
}

static bool snapshot_due(const struct consensus *c)
{
    uint64_t last = core_snapshot_index(c->core);
    uint64_t first = last + 1 > core_first_index(c->core) ? last + 1 : core_first_index(c->core);
    if (c->applied < first || !core_entry(c->core, c->applied)) {
        return false;
    }
    return c->applied - last >= c->options.snapshot_entries ||
           core_bytes(c->core, first, c->applied) >= c->options.snapshot_bytes;
}

void snapshot_pump(struct consensus *c)
{
    struct snapshots *s = &c->snapshots;
    bool wanted = export_wanted(c);
    if (s->phase != SNAPSHOT_IDLE || core_installing(c->core) || core_blocked(c->core) ||
        c->applied == 0 || !(wanted || snapshot_due(c)) || host_now(c) < c->space.marker_ms) {
        return;
    }
    s->for_export = wanted;
    s->phase = SNAPSHOT_SYNC;
    job_start(c, &s->job, c->options.apply_pool, sync_run, sync_done);
}

bool snapshot_idle(const struct consensus *c)
{
    return c->snapshots.phase == SNAPSHOT_IDLE;
}

void snapshot_free(struct consensus *c)
{
    snapshot_end(c);
}
