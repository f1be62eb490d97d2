/* The whole state from a leader: staged first, then switched in one go.
 *
 * Offer -> stage_open tells how much is here from an earlier try -> pieces are written and
 * acknowledged -> stage_finish checks the digest and makes the install durable -> only then one
 * InstallSnapshot goes into libraft, so a broken stream never leaves this host without a vote.
 * When libraft takes it: wait until writes and applies have ended, import into the state machine,
 * marker, empty log, remove the install, tell libraft. A crash anywhere after stage_finish is
 * finished at the next open. When libraft has all entries already, the install is only removed. */
#include <stdlib.h>
#include <string.h>

#include "consensus/host.h"
#include "tessera/base/assert.h"

struct piece {
    struct list link;
    uint64_t offset;
    size_t size;
    char data[];
};

void install_init(struct consensus *c)
{
    list_init(&c->installs.pieces);
    list_init(&c->installs.writing);
}

static void pieces_free(struct list *pieces)
{
    struct list *link;
    while ((link = list_pop(pieces))) {
        free(container_of(link, struct piece, link));
    }
}

static void install_ack(struct consensus *c, uint64_t to, uint64_t stream, bool refused)
{
    struct message m = {.kind = MESSAGE_SNAP_ACK};
    m.snap_ack.stream = stream;
    m.snap_ack.have = refused ? 0 : c->installs.have;
    m.snap_ack.refused = refused;
    host_send(c, to, &m);
}

static void install_clear(struct consensus *c)
{
    struct installs *in = &c->installs;
    pieces_free(&in->pieces);
    pieces_free(&in->writing);
    in->queued = 0;
    in->written = 0;
    marker_free(&in->head.marker);
    memset(&in->head, 0, sizeof in->head);
    in->stream = 0;
    in->phase = INSTALL_NONE;
}

/* --- staging ---------------------------------------------------------------------------------- */

static void close_run(struct job *job)
{
    stage_close(job->c->installs.stage);
    job->c->installs.stage = NULL;
    job->rc = 0;
}

static void close_done(struct job *job)
{
    install_clear(job->c);
}

static void install_close(struct consensus *c)
{
    if (!c->installs.stage) {
        install_clear(c);
        return;
    }
    c->installs.phase = INSTALL_CLOSING;
    job_start(c, &c->installs.job, c->options.disk_pool, close_run, close_done);
}

static void open_run(struct job *job)
{
    struct consensus *c = job->c;
    job->rc =
        stage_open(c->options.fs, c->dir, &c->installs.head, &c->installs.stage, &c->installs.have);
}

static void open_done(struct job *job)
{
    struct consensus *c = job->c;
    struct installs *in = &c->installs;
    if (c->closing || c->fatal) {
        return;
    }
    if (job->rc) {
        in->stage = NULL;
        install_ack(c, in->from, in->stream, true);
        install_clear(c);
        return;
    }
    in->phase = INSTALL_STAGING;
    install_ack(c, in->from, in->stream, false);
}

void install_offer(struct consensus *c, uint64_t from, const struct message *m)
{
    struct installs *in = &c->installs;
    const struct marker *marker = &m->snap_offer.head.marker;
    if (in->phase != INSTALL_NONE && in->stream == m->snap_offer.stream) {
        in->heard_ms = host_now(c);
        in->term = m->snap_offer.term > in->term ? m->snap_offer.term : in->term;
        if (in->phase != INSTALL_OPENING && in->phase != INSTALL_CLOSING) {
            install_ack(c, from, in->stream, false);
        }
        return;
    }
    if (in->phase == INSTALL_STAGING && m->snap_offer.term >= in->term) {
        if (!in->job.busy) {
            install_close(c); /* another stream takes over when it is offered again */
        }
        return;
    }
    if (in->phase != INSTALL_NONE) {
        return;
    }
    if (m->snap_offer.term < core_term(c->core) ||
        !core_wants_install(c->core, marker->index, marker->term)) {
        install_ack(c, from, m->snap_offer.stream, true);
        return;
    }
    void *conf = malloc(marker->conf_size);
    if (!conf) {
        return;
    }
    memcpy(conf, marker->conf, marker->conf_size);
    in->head = m->snap_offer.head;
    in->head.marker.conf = conf;
    in->from = from;
    in->stream = m->snap_offer.stream;
    in->term = m->snap_offer.term;
    in->have = 0;
    in->heard_ms = host_now(c);
    in->phase = INSTALL_OPENING;
    job_start(c, &in->job, c->options.disk_pool, open_run, open_done);
}

void install_piece(struct consensus *c, uint64_t from, const struct message *m)
{
    struct installs *in = &c->installs;
    if (in->phase != INSTALL_STAGING || from != in->from || in->stream != m->snap_piece.stream ||
        m->snap_piece.offset != in->have + in->written + in->queued ||
        m->snap_piece.offset + m->snap_piece.size > in->head.stream_bytes ||
        in->queued >= 2 * STREAM_WINDOW) {
        return; /* after a loss: the sender goes back to what was acknowledged */
    }
    struct piece *p = malloc(sizeof *p + m->snap_piece.size);
    if (!p) {
        return;
    }
    list_init(&p->link);
    p->offset = m->snap_piece.offset;
    p->size = m->snap_piece.size;
    memcpy(p->data, m->snap_piece.data, p->size);
    list_push(&in->pieces, &p->link);
    in->queued += p->size;
    in->heard_ms = host_now(c);
    in->term = m->snap_piece.term > in->term ? m->snap_piece.term : in->term;
}

static void pieces_run(struct job *job)
{
    struct installs *in = &job->c->installs;
    job->rc = 0;
    for (struct list *l = in->writing.next; l != &in->writing && job->rc == 0; l = l->next) {
        struct piece *p = container_of(l, struct piece, link);
        job->rc = stage_write(in->stage, p->offset, p->data, p->size);
    }
}

static void pieces_done(struct job *job)
{
    struct consensus *c = job->c;
    struct installs *in = &c->installs;
    pieces_free(&in->writing);
    if (c->closing || c->fatal) {
        return;
    }
    if (job->rc) {
        install_ack(c, in->from, in->stream, true);
        install_close(c);
        return;
    }
    in->have += in->written;
    in->written = 0;
    install_ack(c, in->from, in->stream, false);
}

/* --- from whole to switched ------------------------------------------------------------------- */

static void finish_run(struct job *job)
{
    struct consensus *c = job->c;
    struct installs *in = &c->installs;
    struct stage_head head = {0};
    job->rc = stage_finish(in->stage);
    stage_close(in->stage);
    in->stage = NULL;
    if (job->rc == 0) {
        job->rc = install_load(c->options.fs, c->dir, &head, in->path, sizeof in->path, NULL);
        marker_free(&head.marker);
    }
}

static void finish_done(struct job *job)
{
    struct consensus *c = job->c;
    struct installs *in = &c->installs;
    if (c->closing || c->fatal) {
        return;
    }
    if (job->rc == TSR_ECORRUPT || job->rc == TSR_EINVAL || job->rc == TSR_EEXIST) {
        /* Damaged on the way, or on the sender's disk: sent anew, from the start. */
        install_ack(c, in->from, in->stream, true);
        install_clear(c);
        return;
    }
    if (job->rc) {
        host_fatal(c, job->rc, "a received snapshot could not be made durable");
        return;
    }
    in->phase = INSTALL_DELIVERED;
    host_ok(c, core_install(c->core, host_now(c), in->from, in->term, &in->head.marker));
}

static void import_run(struct job *job)
{
    struct consensus *c = job->c;
    struct fsm *fsm = c->options.fsm;
    job->rc = fsm->ops->import_file(fsm, c->options.fs, c->installs.path, &c->installs.point);
    if (job->rc == 0 && c->installs.point.index != c->installs.head.marker.index) {
        job->rc = TSR_ECORRUPT;
    }
}

static void switch_run(struct job *job)
{
    struct consensus *c = job->c;
    const struct marker *m = &c->installs.head.marker;
    job->rc = marker_store(c->options.fs, c->dir, m);
    if (job->rc == 0) {
        job->rc = disklog_reset(c->log, m->index, m->term);
    }
    if (job->rc == 0) {
        job->rc = install_remove(c->options.fs, c->dir);
    }
}

static void switch_done(struct job *job)
{
    struct consensus *c = job->c;
    struct installs *in = &c->installs;
    if (job->rc) {
        host_fatal(c, job->rc, "a received snapshot could not be switched to");
    }
    if (c->closing || c->fatal) {
        return;
    }
    marker_free(&c->marker);
    c->marker = in->head.marker;
    memset(&in->head.marker, 0, sizeof in->head.marker);
    c->applied = c->marker.index;
    c->writer.cut = c->marker.index;
    atomic_store(&c->applied_shared, c->applied);
    host_ok(c, core_installed(c->core, host_now(c), &c->marker));
    install_clear(c);
    if (c->options.events.on_applied) {
        c->options.events.on_applied(c->options.arg, c->applied);
    }
}

static void import_done(struct job *job)
{
    struct consensus *c = job->c;
    if (job->rc && job->rc != TSR_ENOSPC) {
        host_fatal(c, job->rc,
                   job->rc == TSR_ENOTSUP
                       ? "the leader's snapshot is of a newer version: install that version"
                       : "a received snapshot could not be imported");
    }
    if (c->closing || c->fatal) {
        return;
    }
    space_store(c, job->rc == TSR_ENOSPC);
    if (job->rc) {
        c->installs.phase = INSTALL_DELIVERED; /* imported again, from its start */
        return;
    }
    c->installs.phase = INSTALL_SWITCHING;
    job_start(c, &c->installs.job, c->options.log_pool, switch_run, switch_done);
}

static void remove_run(struct job *job)
{
    job->rc = install_remove(job->c->options.fs, job->c->dir);
}

static void remove_done(struct job *job)
{
    if (job->rc) {
        host_fatal(job->c, job->rc, "a received snapshot could not be removed");
    } else {
        install_clear(job->c);
    }
}

static void staging_pump(struct consensus *c)
{
    struct installs *in = &c->installs;
    if (!list_empty(&in->pieces)) {
        list_splice(&in->writing, &in->pieces);
        in->written = in->queued;
        in->queued = 0;
        job_start(c, &in->job, c->options.disk_pool, pieces_run, pieces_done);
    } else if (!core_wants_install(c->core, in->head.marker.index, in->head.marker.term)) {
        install_ack(c, in->from, in->stream, true);
        install_close(c);
    } else if (in->have == in->head.stream_bytes) {
        in->phase = INSTALL_FINISHING;
        job_start(c, &in->job, c->options.disk_pool, finish_run, finish_done);
    }
}

void install_pump(struct consensus *c)
{
    struct installs *in = &c->installs;
    if (in->job.busy) {
        return;
    }
    if (in->phase == INSTALL_STAGING) {
        staging_pump(c);
    } else if (in->phase == INSTALL_DELIVERED && !core_blocked(c->core)) {
        if (!core_installing(c->core)) {
            in->phase = INSTALL_REMOVING;
            job_start(c, &in->job, c->options.log_pool, remove_run, remove_done);
        } else if (writer_idle(c) && snapshot_idle(c) && !c->applier.job.busy && !space_wait(c)) {
            in->phase = INSTALL_IMPORTING;
            job_start(c, &in->job, c->options.apply_pool, import_run, import_done);
        }
    }
}

void install_free(struct consensus *c)
{
    stage_close(c->installs.stage);
    c->installs.stage = NULL;
    install_clear(c);
}
