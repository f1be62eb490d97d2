/* Life of a host, messages in, timers, status. See host.h for the parts.
 *
 * Open reads the disk and checks that log, vote, marker and store agree; then everything runs on
 * the control loop: an event goes into the core, host_pump lets the parts act on what it says.
 * Fatal: one report, nothing is sent or written any more; the owner closes.
 * Close: waiting requests end, jobs that run end, the log is closed on its pool, memory is freed.
 */
#include "consensus/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/guard.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/log.h"

/* --- small things that all parts use ---------------------------------------------------------- */

uint64_t host_now(struct consensus *c)
{
    return loop_now_ms(c->options.loop);
}

void host_fatal(struct consensus *c, int code, const char *reason)
{
    if (c->fatal || c->closing) {
        return;
    }
    c->fatal = code;
    log_error("consensus", "stopped: %s code=%s", reason, err_name(code));
    if (c->options.events.on_fatal) {
        c->options.events.on_fatal(c->options.arg, code, reason);
    }
}

bool host_ok(struct consensus *c, int rc)
{
    if (rc) {
        host_fatal(c, rc, "the consensus core can not go on");
    }
    return rc == 0 && c->fatal == 0;
}

static void host_close_step(struct consensus *c);

static void job_work(struct work *work)
{
    struct job *job = container_of(work, struct job, work);
    job->run(job);
}

static void job_ended(struct work *work)
{
    struct job *job = container_of(work, struct job, work);
    struct consensus *c = job->c;
    job->busy = false;
    c->jobs--;
    job->done(job);
    if (c->closing) {
        host_close_step(c);
    } else {
        host_pump(c);
    }
}

void job_start(struct consensus *c, struct job *job, struct pool *pool,
               void (*run)(struct job *job), void (*done)(struct job *job))
{
    tsr_assert(!job->busy);
    job->c = c;
    job->run = run;
    job->done = done;
    job->busy = true;
    job->rc = 0;
    job->work = (struct work){.loop = c->options.loop, .run = job_work, .done = job_ended};
    c->jobs++;
    pool_submit(pool, &job->work);
}

void host_send(struct consensus *c, uint64_t to, const struct message *m)
{
    if (c->fatal || to == c->options.self) {
        return;
    }
    struct buf b;
    buf_init(&b);
    if (message_encode(m, &b) == 0) {
        const struct consensus_member *member = conf_find(core_conf(c->core), to);
        c->options.net->ops->send(c->options.net, to, member ? member->address : NULL, b.data,
                                  b.size);
    }
    buf_free(&b);
}

/* --- the pump --------------------------------------------------------------------------------- */

static void host_leadership(struct consensus *c)
{
    uint64_t leader = core_leader(c->core);
    uint64_t term = core_term(c->core);
    bool leads = leader == c->options.self;
    if (c->led_term && (!leads || term != c->led_term)) {
        bool ready = c->led_ready;
        c->led_term = 0;
        c->led_ready = false;
        if (ready && c->options.events.on_lost) {
            c->options.events.on_lost(c->options.arg);
        }
    }
    if (leader != c->seen_leader || term != c->seen_term) {
        if (leader && leader != c->seen_leader) {
            c->leader_changes++;
            log_info("consensus", "leader host=%llu term=%llu", (unsigned long long)leader,
                     (unsigned long long)term);
        }
        c->seen_leader = leader;
        c->seen_term = term;
        submit_leader_changed(c);
        read_leader_changed(c);
    }
    if (leads && c->led_term == 0) {
        c->led_term = term;
    }
    uint64_t first = core_leader_index(c->core);
    if (leads && !c->led_ready && first && c->applied >= first) {
        c->led_ready = true;
        if (c->options.events.on_leader) {
            c->options.events.on_leader(c->options.arg, term);
        }
    }
}

static void host_timer(struct consensus *c)
{
    uint64_t now = host_now(c);
    uint64_t due = core_timeout_due(c->core);
    if (timer_running(&c->raft_timer) && c->raft_due == due) {
        return;
    }
    c->raft_due = due;
    timer_start(&c->raft_timer, guard_timer(due, now) - now); /* R8 */
}

void host_pump(struct consensus *c)
{
    if (c->pumping) {
        c->pump_again = true;
        return;
    }
    if (!c->started) {
        return;
    }
    c->pumping = true;
    do {
        c->pump_again = false;
        void (*const parts[])(struct consensus *) = {
            writer_pump, host_leadership, applier_pump, install_pump, snapshot_pump,
            export_pump, member_pump,     submit_pump,  read_pump,    writer_pump,
        };
        for (size_t i = 0; i < array_len(parts); i++) {
            if (c->fatal || c->closing) {
                c->pumping = false;
                return;
            }
            parts[i](c);
        }
    } while (c->pump_again);
    c->pumping = false;
    if (!c->fatal && !c->closing) {
        core_tell_commit(c->core);
        host_timer(c);
    }
}

static void host_later(struct task *task)
{
    struct consensus *c = container_of(task, struct consensus, later_task);
    c->later_posted = false;
    c->jobs--;
    submit_failed(c);
    read_failed(c);
    if (c->closing) {
        host_close_step(c);
    } else {
        host_pump(c);
    }
}

void host_pump_later(struct consensus *c)
{
    if (!c->later_posted) {
        c->later_posted = true;
        c->jobs++;
        c->later_task.run = host_later;
        loop_post(c->options.loop, &c->later_task);
    }
}

static void host_raft_timer(struct timer *timer)
{
    struct consensus *c = container_of(timer, struct consensus, raft_timer);
    if (!c->fatal && host_ok(c, core_timeout(c->core, host_now(c)))) {
        host_pump(c);
    }
}

bool host_leaderless(struct consensus *c)
{
    return core_leader(c->core) == 0 && host_now(c) - c->leader_ms >= LEADERLESS_MS;
}

static void host_tick(struct timer *timer)
{
    struct consensus *c = container_of(timer, struct consensus, tick_timer);
    if (c->fatal) {
        return;
    }
    timer_start(&c->tick_timer, TICK_MS);
    if (core_leader(c->core) != 0) {
        c->leader_ms = host_now(c);
    }
    space_tick(c);
    submit_tick(c);
    export_tick(c);
    read_tick(c);
    host_pump(c);
}

/* --- open ------------------------------------------------------------------------------------- */

static void host_free(struct consensus *c)
{
    submit_free(c);
    applier_free(c);
    writer_free(c);
    snapshot_free(c);
    export_free(c);
    install_free(c);
    core_free(c->core);
    marker_free(&c->marker);
    free(c->dir);
    free(c->address);
    free(c);
}

static void host_defaults(struct consensus_options *o)
{
    o->election_ms = o->election_ms ? o->election_ms : 500;
    o->heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : 50;
    o->snapshot_entries = o->snapshot_entries ? o->snapshot_entries : 50000;
    o->snapshot_bytes = o->snapshot_bytes ? o->snapshot_bytes : 64 * 1024 * 1024;
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : 8 * 1024 * 1024;
    o->window_bytes = o->window_bytes ? o->window_bytes : 4 * 1024 * 1024;
}

int consensus_open(const struct consensus_options *options, struct consensus **out, struct err *err)
{
    struct consensus *c = calloc(1, sizeof *c);
    if (!c) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    c->options = *options;
    host_defaults(&c->options);
    submit_init(c);
    read_init(c);
    install_init(c);
    timer_init(&c->raft_timer, options->loop, host_raft_timer);
    timer_init(&c->tick_timer, options->loop, host_tick);
    c->dir = strdup(options->dir);
    c->address = strdup(options->address ? options->address : "");
    size_t size = strlen(options->dir) + sizeof "/export";
    c->exports.path = malloc(size);
    int rc = TSR_ENOMEM;
    if (c->dir && c->address && c->exports.path) {
        snprintf(c->exports.path, size, "%s/export", c->dir);
        rc = host_open_disk(c, err);
    }
    if (rc) {
        if (c->log) {
            disklog_close(c->log);
        }
        host_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

int consensus_start(struct consensus *c)
{
    int rc = core_start(c->core, host_now(c), c->vote.term, c->vote.voted_for, c->applied);
    if (rc) {
        return rc;
    }
    c->started = true;
    c->leader_ms = host_now(c);
    space_log(c, disklog_spare(c->log)); /* opening has tried to make one */
    timer_start(&c->tick_timer, TICK_MS);
    host_pump_later(c);
    return 0;
}

/* --- close ------------------------------------------------------------------------------------ */

static void close_run(struct job *job)
{
    disklog_close(job->c->log);
    job->c->log = NULL;
}

static void close_done(struct job *job)
{
    struct consensus *c = job->c;
    void (*cb)(void *arg) = c->close_cb;
    void *arg = c->close_arg;
    submit_cancel(c);
    read_cancel(c);
    host_free(c);
    cb(arg);
}

static void close_work(struct work *work)
{
    struct job *job = container_of(work, struct job, work);
    job->run(job);
}

static void close_ended(struct work *work)
{
    close_done(container_of(work, struct job, work));
}

/* The last job that ends closes the log, behind everything on its pool. */
static void host_close_step(struct consensus *c)
{
    if (c->jobs != 0 || c->close_job.busy) {
        return;
    }
    c->close_job.busy = true;
    c->close_job.c = c;
    c->close_job.run = close_run;
    c->close_job.work =
        (struct work){.loop = c->options.loop, .run = close_work, .done = close_ended};
    pool_submit(c->options.log_pool, &c->close_job.work);
}

void consensus_close(struct consensus *c, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!c->closing);
    c->closing = true;
    c->close_cb = cb;
    c->close_arg = arg;
    timer_stop(&c->raft_timer);
    timer_stop(&c->tick_timer);
    member_cancel(c);
    submit_cancel(c);
    read_cancel(c);
    host_close_step(c);
}

void consensus_abandon(struct consensus *c)
{
    if (c->log) {
        disklog_close(c->log); /* the simulated disk is gone: this frees memory only */
    }
    host_free(c);
}

/* --- messages --------------------------------------------------------------------------------- */

static int host_message(struct consensus *c, uint64_t from, const struct message *m)
{
    switch (m->kind) {
    case MESSAGE_VOTE:
        if (m->vote.candidate != from) {
            return TSR_EPROTO;
        }
        host_ok(c, core_receive(c->core, host_now(c), from, m));
        break;
    case MESSAGE_APPEND:
        host_ok(c, space_append(c, from, m));
        break;
    case MESSAGE_APPEND_RESULT:
    case MESSAGE_VOTE_RESULT:
    case MESSAGE_TIMEOUT_NOW:
        host_ok(c, core_receive(c->core, host_now(c), from, m));
        break;
    case MESSAGE_FORWARD:
        submit_forward(c, from, m);
        break;
    case MESSAGE_FORWARD_REPLY:
        submit_forward_reply(c, from, m);
        break;
    case MESSAGE_READ_ASK:
    case MESSAGE_READ_REPLY:
    case MESSAGE_CONFIRM:
    case MESSAGE_CONFIRM_REPLY:
        read_message(c, from, m);
        break;
    case MESSAGE_SNAP_OFFER:
        install_offer(c, from, m);
        break;
    case MESSAGE_SNAP_PIECE:
        install_piece(c, from, m);
        break;
    case MESSAGE_SNAP_ACK:
        export_ack(c, from, m);
        break;
    }
    return 0;
}

int consensus_receive(struct consensus *c, uint64_t from, const void *data, size_t size)
{
    struct message m;
    if (c->closing || c->fatal || !c->started) {
        return 0;
    }
    if (from == 0 || from == c->options.self) {
        return TSR_EPROTO;
    }
    int rc = message_decode(data, size, &m);
    if (rc) {
        return rc == TSR_ENOMEM ? 0 : rc; /* as good as lost on the way */
    }
    rc = host_message(c, from, &m);
    message_free(&m);
    host_pump(c);
    return rc;
}

void consensus_disconnected(struct consensus *c, uint64_t from)
{
    if (c->closing || c->fatal || !c->started) {
        return;
    }
    core_disconnected(c->core, from);
    submit_disconnected(c, from);
    read_disconnected(c, from);
    host_pump(c);
}

/* --- status ----------------------------------------------------------------------------------- */

void consensus_status(struct consensus *c, struct consensus_status *out)
{
    memset(out, 0, sizeof *out);
    const struct conf *conf = core_conf(c->core);
    const struct consensus_member *self = conf_find(conf, c->options.self);
    out->state = core_state(c->core);
    out->role = self ? self->role : CONSENSUS_SPARE;
    out->self = c->options.self;
    out->leader = core_leader(c->core);
    out->term = core_term(c->core);
    out->last_index = core_last_index(c->core);
    out->commit_index = core_commit(c->core);
    out->applied_index = c->applied;
    out->snapshot_index = core_snapshot_index(c->core);
    out->sync_ms = writer_sync_ms(c, host_now(c));
    out->leader_changes = c->leader_changes;
    out->contact_ms = core_contact_ms(c->core);
    out->log_full = c->space.log_full;
    out->store_full = c->space.store_full;
    if (c->space.since_ms && c->space.since_ms < out->contact_ms &&
        out->state != CONSENSUS_LEADER) {
        out->contact_ms = c->space.since_ms; /* what came later is not taken here */
    }
    out->ready = out->leader && (out->state != CONSENSUS_LEADER || c->led_ready);
    out->member_count = conf->count;
    for (unsigned i = 0; i < conf->count; i++) {
        out->members[i] = conf->members[i];
        bool own = conf->members[i].id == c->options.self;
        out->match[i] = own ? core_durable(c->core) : core_match(c->core, conf->members[i].id);
    }
}

uint64_t consensus_applied(const struct consensus *c)
{
    return atomic_load(&c->applied_shared);
}
