/* Log and vote on disk, both on the log pool, so in the order in which they were started.
 * Group commit: while one write is under way, everything appended meanwhile goes into the next.
 * A failed write or sync is fatal and never tried again. */
#include "consensus/host.h"

enum { SYNC_KNOWN_MS = 60000 }; /* how long a measured write tells something of the disk */

static void log_run(struct job *job)
{
    struct consensus *c = job->c;
    struct core_write *w = &c->writer.write;
    job->rc = w->truncate ? disklog_truncate(c->log, w->truncate) : 0;
    if (job->rc == 0 && w->count) {
        job->rc = disklog_append(c->log, w->entries, w->count);
    }
    c->writer.spare = disklog_spare(c->log);
}

static void log_done(struct job *job)
{
    struct consensus *c = job->c;
    struct writer *w = &c->writer;
    w->ended_ms = host_now(c);
    w->took_ms = (3 * w->took_ms + (w->ended_ms - w->began_ms)) / 4;
    if (c->closing || c->fatal || job->rc) {
        core_write_free(&c->writer.write);
        if (job->rc) {
            host_fatal(c, job->rc, "a write to the consensus log failed");
        }
        return;
    }
    space_log(c, c->writer.spare);
    host_ok(c, core_write_done(c->core, host_now(c), &c->writer.write));
}

static void vote_run(struct job *job)
{
    job->rc = vote_store(job->c->options.fs, job->c->dir, &job->c->vote);
}

static void vote_done(struct job *job)
{
    struct consensus *c = job->c;
    if (job->rc) {
        host_fatal(c, job->rc, "term and vote could not be made durable");
    } else if (!c->closing && !c->fatal) {
        host_ok(c, core_vote_done(c->core, host_now(c)));
    }
}

static void cut_run(struct job *job)
{
    job->rc = disklog_cut(job->c->log, job->c->writer.cut_wanted);
}

static void cut_done(struct job *job)
{
    if (job->rc) {
        host_fatal(job->c, job->rc, "the consensus log could not be cut");
    }
}

void writer_pump(struct consensus *c)
{
    struct writer *w = &c->writer;
    uint64_t term, voted_for;
    if (!w->vote_job.busy && core_vote_wanted(c->core, &term, &voted_for)) {
        c->vote.term = term;
        c->vote.voted_for = voted_for;
        job_start(c, &w->vote_job, c->options.log_pool, vote_run, vote_done);
    }
    /* Entries of the term that is being written wait for it: one pool thread keeps the order. */
    if (!w->log_job.busy && core_write_next(c->core, &w->write)) {
        w->began_ms = host_now(c);
        job_start(c, &w->log_job, c->options.log_pool, log_run, log_done);
    }
    uint64_t keep = core_first_index(c->core);
    uint64_t snapshot = core_snapshot_index(c->core);
    uint64_t cut = keep - 1 < snapshot ? keep - 1 : snapshot;
    if (!w->cut_job.busy && cut > w->cut && !core_installing(c->core)) {
        w->cut = w->cut_wanted = cut;
        job_start(c, &w->cut_job, c->options.log_pool, cut_run, cut_done);
    }
}

uint64_t writer_sync_ms(const struct consensus *c, uint64_t now_ms)
{
    const struct writer *w = &c->writer;
    uint64_t so_far = w->log_job.busy ? now_ms - w->began_ms : 0;
    uint64_t lately = now_ms - w->ended_ms < SYNC_KNOWN_MS ? w->took_ms : 0;
    return so_far > lately ? so_far : lately;
}

bool writer_idle(const struct consensus *c)
{
    return !c->writer.log_job.busy && !c->writer.vote_job.busy && !c->writer.cut_job.busy;
}

void writer_free(struct consensus *c)
{
    core_write_free(&c->writer.write);
}
