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

enum { BOOTSTRAP_SEGMENT = 64 * 1024 }; /* the first one holds little; others have their size */

/* --- small things that all parts use
 * --------------------------------------------------------------- */

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

static void core_send(void *arg, uint64_t to, const struct message *m)
{
    host_send(arg, to, m);
}

static void core_need_snapshot(void *arg, uint64_t to)
{
    export_want(arg, to);
}

/* --- the pump
 * ------------------------------------------------------------------------------------------ */

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

static void host_tick(struct timer *timer)
{
    struct consensus *c = container_of(timer, struct consensus, tick_timer);
    if (c->fatal) {
        return;
    }
    timer_start(&c->tick_timer, TICK_MS);
    submit_tick(c);
    export_tick(c);
    read_tick(c);
    host_pump(c);
}

/* --- open
 * ------------------------------------------------------------------------------------------------
 */

static int load_entry(void *arg, const struct disklog_entry *e)
{
    struct consensus *c = arg;
    uint64_t trailing = c->options.snapshot_trailing;
    if (e->index + trailing <= c->marker.index) {
        return 0;
    }
    return core_load_entry(c->core, e->index, e->term, e->type, e->data, e->size);
}

static int open_core(struct consensus *c)
{
    struct core_options options = {.self = c->options.self,
                                   .address = c->address,
                                   .election_ms = c->options.election_ms,
                                   .heartbeat_ms = c->options.heartbeat_ms,
                                   .window_bytes = c->options.window_bytes,
                                   .trailing_count = c->options.snapshot_trailing,
                                   .trailing_bytes = TRAILING_BYTES,
                                   .send = core_send,
                                   .need_snapshot = core_need_snapshot,
                                   .arg = c};
    loop_random(c->options.loop, &options.seed, sizeof options.seed);
    return core_new(&options, &c->core);
}

/* Core and log from marker and disk; on failure neither is there. */
static int open_log(struct consensus *c, struct err *err)
{
    int rc = open_core(c);
    if (rc == 0) {
        rc = core_load_marker(c->core, &c->marker);
    }
    if (rc == 0) {
        rc = disklog_open(c->options.fs, c->dir, c->options.segment_bytes, c->marker.index,
                          c->marker.term, load_entry, c, &c->log, err);
    }
    if (rc) {
        c->log = NULL;
        core_free(c->core);
        c->core = NULL;
    }
    return rc;
}

static void close_log(struct consensus *c)
{
    if (c->log) {
        disklog_close(c->log);
        c->log = NULL;
    }
    core_free(c->core);
    c->core = NULL;
}

static int open_import(struct consensus *c, struct stage_head *head, const char *path,
                       struct err *err)
{
    struct fsm *fsm = c->options.fsm;
    struct fsm_point point;
    int rc = fsm->ops->point(fsm, &point);
    if (rc == 0 && point.index < head->marker.index) {
        rc = fsm->ops->import_file(fsm, c->options.fs, path, &point);
        if (rc == 0 && point.index != head->marker.index) {
            rc = TSR_ECORRUPT;
        }
    }
    if (rc == 0) {
        rc = marker_store(c->options.fs, c->dir, &head->marker);
    }
    if (rc == 0) {
        rc = disklog_recreate(c->options.fs, c->dir, c->options.segment_bytes, head->marker.index,
                              head->marker.term);
    }
    if (rc) {
        return err_set(err, rc, "a received snapshot could not be installed");
    }
    marker_free(&c->marker);
    c->marker = head->marker;
    memset(&head->marker, 0, sizeof head->marker);
    return 0;
}

/* Log, and an install that a crash interrupted.
 *
 * libraft may have refused the install because the log has all its entries; such a log may hold
 * newer entries that were acknowledged, and must not be emptied. So the log is opened first: if it
 * goes on from the marker and knows the install's last entry, or the marker is that of the install,
 * the install is over. A log that contradicts the marker is expected in one case only: the marker
 * is the install's, and the log was not emptied yet. */
static int open_installed(struct consensus *c, struct err *err)
{
    struct stage_head head = {0};
    char path[512];
    int have = install_load(c->options.fs, c->dir, &head, path, sizeof path, err);
    if (have != 0 && have != TSR_ENOENT) {
        return have;
    }
    int rc = open_log(c, err);
    if (have == TSR_ENOENT) {
        return rc;
    }
    uint64_t index = head.marker.index;
    bool over =
        rc == 0 && (c->marker.index >= index || core_term_of(c->core, index) == head.marker.term);
    if (rc == 0 || (rc == TSR_ECORRUPT && c->marker.index == index)) {
        rc = 0;
        if (!over) {
            close_log(c);
            rc = open_import(c, &head, path, err);
        }
        if (rc == 0) {
            rc = install_remove(c->options.fs, c->dir);
        }
        if (rc == 0 && !over) {
            rc = open_log(c, err);
        }
    }
    marker_free(&head.marker);
    return rc;
}

static int open_check(struct consensus *c, struct err *err)
{
    struct fsm_point point;
    int rc = c->options.fsm->ops->point(c->options.fsm, &point);
    if (rc) {
        return err_set(err, rc, "the metadata store cannot be read");
    }
    uint64_t last = disklog_last_index(c->log);
    if (last < c->marker.index) {
        last = c->marker.index;
    }
    if (point.index > last) {
        return err_set(err, TSR_ECORRUPT,
                       "the log lost acknowledged data: it ends at %llu, the "
                       "store holds %llu",
                       (unsigned long long)last, (unsigned long long)point.index);
    }
    if (point.index < c->marker.index) {
        return err_set(err, TSR_ECORRUPT,
                       "the metadata store lost data: it holds %llu, the "
                       "snapshot marker says %llu",
                       (unsigned long long)point.index, (unsigned long long)c->marker.index);
    }
    uint64_t term = core_term_of(c->core, point.index);
    if (point.index && term && point.term != term) {
        return err_set(err, TSR_ECORRUPT, "log and metadata store disagree at %llu",
                       (unsigned long long)point.index);
    }
    uint64_t newest = disklog_last_term(c->log);
    if (newest < c->marker.term) {
        newest = c->marker.term;
    }
    if (c->vote.term < newest) {
        return err_set(err, TSR_ECORRUPT, "the term and vote record is older than the log");
    }
    c->applied = point.index;
    atomic_store(&c->applied_shared, c->applied);
    return 0;
}

/* R2: a sole voter leads at once, in a term that nobody has led in. */
static int open_vote(struct consensus *c, struct err *err)
{
    if (!conf_sole_voter(core_conf(c->core), c->options.self)) {
        return 0;
    }
    c->vote.term++;
    c->vote.voted_for = c->options.self;
    int rc = vote_store(c->options.fs, c->dir, &c->vote);
    return rc ? err_set(err, rc, "term and vote could not be made durable") : 0;
}

static int open_disk(struct consensus *c, struct err *err)
{
    struct fs *fs = c->options.fs;
    int rc = fs_mkdirs(fs, c->dir);
    if (rc) {
        return err_set(err, rc, "the consensus directory cannot be made");
    }
    rc = vote_load(fs, c->dir, &c->vote, err);
    if (rc == 0) {
        rc = marker_load(fs, c->dir, &c->marker, err);
        rc = rc == TSR_ENOENT ? 0 : rc;
    }
    if (rc == 0) {
        rc = open_installed(c, err);
    }
    if (rc == 0) {
        rc = open_check(c, err);
    }
    return rc ? rc : open_vote(c, err);
}

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
        rc = open_disk(c, err);
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

bool consensus_exists(struct fs *fs, const char *dir)
{
    return disklog_exists(fs, dir) || marker_exists(fs, dir);
}

int consensus_bootstrap(struct fs *fs, const char *dir, uint64_t self, const char *address)
{
    if (consensus_exists(fs, dir)) {
        return TSR_EEXIST;
    }
    struct conf none = {0}, conf;
    int rc = conf_add(&none, self, address, &conf);
    if (rc) {
        return rc;
    }
    conf.members[0].role = CONSENSUS_VOTER;
    struct buf bytes;
    struct vote vote;
    struct disklog *log = NULL;
    buf_init(&bytes);
    rc = conf_encode(&conf, &bytes);
    if (rc == 0) {
        rc = fs_mkdirs(fs, dir);
    }
    if (rc == 0) {
        rc = vote_load(fs, dir, &vote, NULL);
    }
    if (rc == 0) { /* the vote first: a log without one is damage */
        vote.term = vote.term ? vote.term : 1;
        rc = vote_store(fs, dir, &vote);
    }
    if (rc == 0) {
        rc = disklog_open(fs, dir, BOOTSTRAP_SEGMENT, 0, 0, NULL, NULL, &log, NULL);
    }
    if (rc == 0) {
        struct disklog_entry entry = {
            .index = 1, .term = 1, .type = ENTRY_CHANGE, .data = bytes.data, .size = bytes.size};
        rc = disklog_append(log, &entry, 1);
        disklog_close(log);
    }
    buf_free(&bytes);
    return rc;
}

int consensus_start(struct consensus *c)
{
    int rc = core_start(c->core, host_now(c), c->vote.term, c->vote.voted_for, c->applied);
    if (rc) {
        return rc;
    }
    c->started = true;
    timer_start(&c->tick_timer, TICK_MS);
    host_pump_later(c);
    return 0;
}

/* --- close
 * -------------------------------------------------------------------------------------------------
 */

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

/* --- messages
 * ------------------------------------------------------------------------------------------------
 */

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

/* --- status
 * -------------------------------------------------------------------------------------------------
 */

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
    out->leader_changes = c->leader_changes;
    out->contact_ms = core_contact_ms(c->core);
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
