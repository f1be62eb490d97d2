/* A full disk, before it can fail a write.
 *
 * The log writes into preallocated segments; when no spare one can be made any more, what room is
 * left in the last one (more than may be in flight) is for what was taken already. A store that is
 * full leaves its transaction undone, and the same entries are applied again later. In both cases a
 * follower takes no more entries: an append counts as a heartbeat, once a heartbeat's time, and is
 * dropped else; so it keeps its leader and its vote, and its reads tell how old they are. A leader
 * proposes nothing more and hands over. Soon requests made here are refused, as this host would not
 * learn how they end. Twice a
 * second it is looked whether there is room again; then all goes on as if messages had been lost.
 */
#include "consensus/host.h"
#include "tessera/base/log.h"

enum {
    LOOK_MS = 500,       /* between two looks at a full disk */
    HAND_OVER_MS = 2000, /* between two tries to hand over */
    HOPELESS_MS = 3000,  /* without room for so long: requests made here are refused */
};

bool space_full(const struct consensus *c)
{
    return c->space.since_ms != 0;
}

static void space_changed(struct consensus *c)
{
    struct space *s = &c->space;
    bool full = s->log_full || s->store_full;
    if (full && s->since_ms == 0) {
        s->since_ms = host_now(c);
        s->hand_over_ms = 0;
        log_error("consensus", "DISK_FULL: no room for the %s: nothing new is taken here",
                  s->log_full ? "log" : "metadata store");
    } else if (!full && s->since_ms != 0) {
        log_warn("consensus", "there is room again after %llu ms",
                 (unsigned long long)(host_now(c) - s->since_ms));
        s->since_ms = 0;
    }
}

void space_log(struct consensus *c, bool spare)
{
    if (c->space.log_full == spare) {
        c->space.log_full = !spare;
        c->space.look_ms = host_now(c) + LOOK_MS;
        space_changed(c);
    }
}

void space_store(struct consensus *c, bool full)
{
    if (full) {
        c->space.again_ms = host_now(c) + LOOK_MS;
    }
    if (c->space.store_full != full) {
        c->space.store_full = full;
        space_changed(c);
    }
}

bool space_wait(struct consensus *c)
{
    return c->space.store_full && host_now(c) < c->space.again_ms;
}

bool space_hopeless(const struct consensus *c)
{
    return space_full(c) && loop_now_ms(c->options.loop) - c->space.since_ms >= HOPELESS_MS;
}

/* --- follower -----------------------------------------------------------------------------------
 */

int space_append(struct consensus *c, uint64_t from, const struct message *m)
{
    uint64_t now = host_now(c);
    if (!space_full(c) || m->append.count == 0) {
        return core_receive(c->core, now, from, m);
    }
    if (now - c->space.passed_ms < c->options.heartbeat_ms) {
        return 0;
    }
    c->space.passed_ms = now;
    struct message beat = *m;
    beat.append.count = 0;
    beat.append.entries = NULL;
    return core_receive(c->core, now, from, &beat);
}

/* --- looking, handing over ----------------------------------------------------------------------
 */

static void look_run(struct job *job)
{
    job->c->space.found = disklog_has_spare(job->c->log);
}

static void look_done(struct job *job)
{
    struct consensus *c = job->c;
    if (!c->closing && !c->fatal) {
        space_log(c, c->space.found);
    }
}

static void handed_over(void *arg, int status)
{
    (void)arg;
    (void)status;
}

static void space_hand_over(struct consensus *c)
{
    uint64_t now = host_now(c);
    if (core_state(c->core) == CONSENSUS_LEADER && now >= c->space.hand_over_ms) {
        c->space.hand_over_ms = now + HAND_OVER_MS;
        (void)consensus_transfer(c, 0, handed_over, NULL);
    }
}

void space_tick(struct consensus *c)
{
    struct space *s = &c->space;
    uint64_t now = host_now(c);
    if (space_full(c)) {
        space_hand_over(c);
    }
    if (s->log_full && !s->job.busy && !c->writer.log_job.busy && now >= s->look_ms) {
        s->look_ms = now + LOOK_MS;
        job_start(c, &s->job, c->options.log_pool, look_run, look_done);
    }
}
