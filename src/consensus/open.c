/* What is on disk at start: vote, marker, an interrupted install, log; whether they agree with each
 * other and with the state machine; and the first log of a new cluster. Blocking. */
#include "consensus/host.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/buf.h"

enum { BOOTSTRAP_SEGMENT = 64 * 1024 }; /* the first one holds little; others have their size */

static void core_send(void *arg, uint64_t to, const struct message *m)
{
    host_send(arg, to, m);
}

static void core_need_snapshot(void *arg, uint64_t to)
{
    export_want(arg, to);
}

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
        return err_set(err, rc,
                       rc == TSR_ENOTSUP ? "the received snapshot was written by a newer version"
                                         : "a received snapshot could not be installed");
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
#ifndef TSR_BREAK_APPLIED_INDEX
    if (point.index > last) {
        return err_set(err, TSR_ECORRUPT,
                       "the log lost acknowledged data: it ends at %llu, the "
                       "store holds %llu",
                       (unsigned long long)last, (unsigned long long)point.index);
    }
#endif
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
#ifdef TSR_BREAK_GUARD_R2
    return 0;
#endif
    if (!conf_sole_voter(core_conf(c->core), c->options.self)) {
        return 0;
    }
    c->vote.term++;
    c->vote.voted_for = c->options.self;
    int rc = vote_store(c->options.fs, c->dir, &c->vote);
    return rc ? err_set(err, rc, "term and vote could not be made durable") : 0;
}

int host_open_disk(struct consensus *c, struct err *err)
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

/* The membership becomes the last entry of the log, in a term of its own that no other host can
 * know; the vote first, as the term of an entry never is above it. */
int consensus_recover(struct consensus *c)
{
    struct conf none = {0}, conf;
    struct buf bytes;
    uint64_t last = core_last_index(c->core);
    buf_init(&bytes);
    int rc = conf_add(&none, c->options.self, c->address, &conf);
    if (rc == 0) {
        conf.members[0].role = CONSENSUS_VOTER;
        rc = conf_encode(&conf, &bytes);
    }
    if (rc == 0) {
        c->vote.term++;
        c->vote.voted_for = c->options.self;
        rc = vote_store(c->options.fs, c->dir, &c->vote);
    }
    if (rc == 0) {
        struct disklog_entry entry = {.index = last + 1,
                                      .term = c->vote.term,
                                      .type = ENTRY_CHANGE,
                                      .data = bytes.data,
                                      .size = bytes.size};
        rc = disklog_append(c->log, &entry, 1);
    }
    buf_free(&bytes);
    return rc;
}

uint64_t consensus_last_term(const struct consensus *c)
{
    uint64_t term = disklog_last_term(c->log);
    return term > c->marker.term ? term : c->marker.term;
}

bool consensus_exists(struct fs *fs, const char *dir)
{
    return disklog_exists(fs, dir) || marker_exists(fs, dir);
}

int consensus_prepare(struct fs *fs, const char *dir)
{
    struct vote vote;
    int rc = fs_mkdirs(fs, dir);
    if (rc == 0) {
        rc = vote_load(fs, dir, &vote, NULL);
    }
    return rc != 0 || vote.generation > 0 ? rc : vote_store(fs, dir, &vote);
}

int consensus_begin(struct fs *fs, const char *dir, uint64_t *starts_out)
{
    struct vote vote;
    int rc = vote_load(fs, dir, &vote, NULL);
    if (rc == 0) {
        rc = vote_store(fs, dir, &vote);
    }
    *starts_out = rc == 0 ? vote.generation : 0;
    return rc;
}

bool consensus_prepared(struct fs *fs, const char *dir)
{
    return vote_exists(fs, dir);
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
