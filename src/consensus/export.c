/* The whole state for followers that the log does not reach any more.
 *
 * libraft asks -> snapshot.c makes a marker and pins the store -> the disk pool writes the stream
 * into the file "export" with its SHA-256 -> each such follower gets an offer (head and digest),
 * says how much it has, and gets pieces, at most 1 MiB unacknowledged -> while it imports what it
 * got whole, the offers go on -> the log from the state on is kept until it has followed. All that
 * takes long, and entries go on coming: were the log cut meanwhile, the follower would need the
 * next state, and then the next.
 *
 * The file serves further followers as long as the log goes on from it, then it is removed. A
 * follower that stops answering is offered the stream again on and on; libraft asks again when that
 * was in vain. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/host.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"

enum {
    STREAM_AGAIN_MS = 1000,
    STREAM_GIVE_UP_MS = 30000,
    STREAM_QUEUED_MAX = 256 * 1024, /* heartbeats go over the same connection */
};

static struct stream *stream_find(struct consensus *c, uint64_t to)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        struct stream *s = &c->exports.streams[i];
        if ((s->open || s->wanted || s->follows) && s->to == to) {
            return s;
        }
    }
    return NULL;
}

static void stream_end(struct stream *s)
{
    s->open = s->wanted = s->follows = false;
    if (!s->job.busy) { /* a read that is under way ends with piece_done */
        free(s->piece);
        s->piece = NULL;
    }
}

void export_want(struct consensus *c, uint64_t to)
{
    struct stream *s = stream_find(c, to);
    if (s && !s->follows) {
        return;
    }
    for (unsigned i = 0; i < STREAMS_MAX && !s; i++) {
        struct stream *free_one = &c->exports.streams[i];
        if (!free_one->open && !free_one->wanted && !free_one->follows && !free_one->job.busy) {
            s = free_one;
        }
    }
    if (s) {
        s->to = to;
        s->wanted = true;
        s->follows = false; /* it could not, after all */
        s->next = s->acked = 0;
    }
}

static bool export_any(const struct consensus *c, bool open)
{
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        const struct stream *s = &c->exports.streams[i];
        if (open ? (s->open || s->job.busy) : s->wanted) {
            return true;
        }
    }
    return false;
}

bool export_wanted(const struct consensus *c)
{
    return c->exports.phase == EXPORT_WANTED;
}

/* Bounded: what is kept for a stream costs memory. */
static bool export_keeps(const struct consensus *c, uint64_t from)
{
    return core_entry(c->core, from) &&
           core_bytes(c->core, from, core_last_index(c->core)) < 4 * (uint64_t)TRAILING_BYTES;
}

uint64_t export_keep_from(const struct consensus *c)
{
    /* With the entry at which it stands, whose term an append tells. */
    const struct exports *e = &c->exports;
    uint64_t from = e->head.marker.index, keep = 0;
    if (e->phase == EXPORT_WRITING || (e->phase == EXPORT_READY && export_any(c, true))) {
        keep = export_keeps(c, from) ? from : 0;
    }
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        const struct stream *s = &e->streams[i];
        from = s->match;
        if (s->follows && (keep == 0 || from < keep) && export_keeps(c, from)) {
            keep = from;
        }
    }
    return keep;
}

/* --- the file --------------------------------------------------------------------------------- */

static int export_copy(struct consensus *c, struct digest *digest)
{
    struct exports *e = &c->exports;
    char *data = malloc(SNAP_PIECE_MAX);
    if (!data) {
        return TSR_ENOMEM;
    }
    int rc = 0;
    int64_t at = 0;
    for (;;) {
        long n = c->options.fsm->ops->export_read(e->export, data, SNAP_PIECE_MAX);
        if (n <= 0) {
            rc = (int)n;
            break;
        }
        digest_update(digest, data, (size_t)n);
        rc = fs_pwrite(c->options.fs, e->file, data, (size_t)n, at);
        if (rc) {
            break;
        }
        at += n;
    }
    e->head.stream_bytes = (uint64_t)at;
    free(data);
    return rc == 0 && at == 0 ? TSR_EINTERNAL : rc;
}

static void export_run(struct job *job)
{
    struct consensus *c = job->c;
    struct exports *e = &c->exports;
    struct digest *digest = digest_new(DIGEST_SHA256);
    job->rc = digest ? fs_open(c->options.fs, e->path, FS_WRITE | FS_CREATE | FS_TRUNC, &e->file)
                     : TSR_ENOMEM;
    if (job->rc == 0) {
        job->rc = export_copy(c, digest);
    }
    if (job->rc == 0) {
        digest_final(digest, e->head.stream_sha256);
    }
    digest_free(digest);
    c->options.fsm->ops->export_close(e->export);
    e->export = NULL;
}

static void export_remove_run(struct job *job)
{
    struct consensus *c = job->c;
    fs_close(c->options.fs, c->exports.file);
    c->exports.file = NULL;
    (void)fs_unlink(c->options.fs,
                    c->exports.path); /* a left-over is overwritten by the next one */
    job->rc = 0;
}

static void export_remove_done(struct job *job)
{
    struct exports *e = &job->c->exports;
    marker_free(&e->head.marker);
    memset(&e->head, 0, sizeof e->head);
    e->phase = EXPORT_NONE;
}

static void export_remove(struct consensus *c)
{
    c->exports.phase = EXPORT_REMOVING;
    job_start(c, &c->exports.job, c->options.disk_pool, export_remove_run, export_remove_done);
}

static void export_done(struct job *job)
{
    struct consensus *c = job->c;
    if (c->closing || c->fatal) {
        return;
    }
    if (job->rc) {
        export_remove(c); /* no room, say: libraft asks again */
        for (unsigned i = 0; i < STREAMS_MAX; i++) {
            c->exports.streams[i].wanted = false;
        }
        return;
    }
    c->exports.phase = EXPORT_READY;
}

void export_begin(struct consensus *c, struct fsm_export *export, const struct marker *marker)
{
    struct exports *e = &c->exports;
    e->export = export;
    e->head.marker = *marker;
    e->head.marker.conf = malloc(marker->conf_size);
    if (!e->head.marker.conf) {
        c->options.fsm->ops->export_close(export);
        e->export = NULL;
        e->phase = EXPORT_NONE;
        return;
    }
    memcpy(e->head.marker.conf, marker->conf, marker->conf_size);
    e->phase = EXPORT_WRITING;
    job_start(c, &e->job, c->options.disk_pool, export_run, export_done);
}

/* --- streams ---------------------------------------------------------------------------------- */

static void stream_offer(struct consensus *c, struct stream *s)
{
    struct message m = {.kind = MESSAGE_SNAP_OFFER};
    m.snap_offer.term = core_term(c->core);
    m.snap_offer.stream = s->id;
    m.snap_offer.head = c->exports.head;
    s->offered_ms = host_now(c);
    s->answered = false; /* no pieces before its answer, which tells from where */
    host_send(c, s->to, &m);
}

static void piece_run(struct job *job)
{
    struct consensus *c = job->c;
    struct stream *s = container_of(job, struct stream, job);
    long n =
        fs_pread(c->options.fs, c->exports.file, s->piece, s->read_size, (int64_t)s->read_offset);
    job->rc = n < 0 ? (int)n : (size_t)n != s->read_size ? TSR_EIO : 0;
}

static void piece_done(struct job *job)
{
    struct consensus *c = job->c;
    struct stream *s = container_of(job, struct stream, job);
    if (job->rc || c->closing || !s->open) {
        stream_end(s);
        return;
    }
    if (s->next != s->read_offset) {
        return; /* went back meanwhile */
    }
    struct message m = {.kind = MESSAGE_SNAP_PIECE};
    m.snap_piece.term = core_term(c->core);
    m.snap_piece.stream = s->id;
    m.snap_piece.offset = s->read_offset;
    m.snap_piece.data = s->piece;
    m.snap_piece.size = s->read_size;
    host_send(c, s->to, &m);
    s->next += s->read_size;
}

static void stream_pump(struct consensus *c, struct stream *s)
{
    uint64_t total = c->exports.head.stream_bytes;
    if (!s->open || s->job.busy || !s->answered || s->next >= total ||
        s->next - s->acked >= STREAM_WINDOW ||
        c->options.net->ops->queued(c->options.net, s->to) > STREAM_QUEUED_MAX) {
        return;
    }
    if (!s->piece && !(s->piece = malloc(SNAP_PIECE_MAX))) {
        stream_end(s);
        return;
    }
    s->read_offset = s->next;
    s->read_size = total - s->next < SNAP_PIECE_MAX ? (size_t)(total - s->next) : SNAP_PIECE_MAX;
    job_start(c, &s->job, c->options.disk_pool, piece_run, piece_done);
}

/* @s has ended. Its follower has the state, as libraft knows, and now the log has to reach it. */
static void stream_follow(struct consensus *c, struct stream *s)
{
    uint64_t match = core_match(c->core, s->to);
    if (match >= c->exports.head.marker.index) {
        s->follows = true;
        s->match = match;
        s->moved_ms = host_now(c);
    }
}

/* Up to the entries that a marker leaves in the log anyway, or not at all. */
static void stream_follows(struct consensus *c, struct stream *s)
{
    uint64_t match = core_match(c->core, s->to);
    if (match > s->match) {
        s->match = match;
        s->moved_ms = host_now(c);
    }
    if (core_state(c->core) != CONSENSUS_LEADER || !conf_find(core_conf(c->core), s->to) ||
        match >= core_trailing_first(c->core, c->applied) ||
        host_now(c) - s->moved_ms >= STREAM_GIVE_UP_MS) {
        s->follows = false;
    }
}

void export_ack(struct consensus *c, uint64_t from, const struct message *m)
{
    struct stream *s = stream_find(c, from);
    if (!s || !s->open || s->id != m->snap_ack.stream ||
        m->snap_ack.have > c->exports.head.stream_bytes) {
        return;
    }
    if (m->snap_ack.refused) {
        stream_end(s);
        stream_follow(c, s); /* if it refuses what it has already */
        return;
    }
    if (m->snap_ack.have > s->acked || m->snap_ack.have == c->exports.head.stream_bytes) {
        s->moved_ms = host_now(c); /* whole there: it is being installed */
    }
    s->acked = m->snap_ack.have;
    if (!s->answered || s->next < s->acked) {
        s->answered = true;
        s->next = s->acked; /* a resume, or pieces were lost */
    }
}

/* The log does not go on from the file's state any more, or nobody needs it. */
static bool export_stale(const struct consensus *c)
{
    uint64_t index = c->exports.head.marker.index;
    return core_term_of(c->core, index) == 0 ||
           (core_last_index(c->core) > index && !core_entry(c->core, index + 1));
}

static void export_ready(struct consensus *c)
{
    struct exports *e = &c->exports;
    bool leads = core_state(c->core) == CONSENSUS_LEADER;
    if (!leads) {
        for (unsigned i = 0; i < STREAMS_MAX; i++) {
            e->streams[i].wanted = false;
            if (e->streams[i].open && !e->streams[i].job.busy) {
                stream_end(&e->streams[i]);
            }
        }
    }
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        struct stream *s = &e->streams[i];
        /* While it imports it takes no entries, but answers as if it had the state already. */
        if (s->open && core_match(c->core, s->to) > e->head.marker.index) {
            stream_end(s);
            stream_follow(c, s);
        }
    }
    bool stale = export_stale(c);
    if (!export_any(c, true) && (stale || !export_any(c, false))) {
        export_remove(c);
        return;
    }
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        struct stream *s = &e->streams[i];
        if (s->wanted && !stale && !s->job.busy) {
            s->wanted = false;
            s->open = true;
            s->id = loop_random_u64(c->options.loop) | 1;
            s->next = s->acked = 0;
            s->moved_ms = host_now(c);
            stream_offer(c, s);
        }
        stream_pump(c, s);
    }
}

void export_pump(struct consensus *c)
{
    struct exports *e = &c->exports;
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        if (e->streams[i].follows) {
            stream_follows(c, &e->streams[i]);
        }
    }
    if (e->phase == EXPORT_NONE && export_any(c, false)) {
        e->phase = core_state(c->core) == CONSENSUS_LEADER ? EXPORT_WANTED : EXPORT_NONE;
    }
    if (e->phase == EXPORT_WANTED && core_state(c->core) != CONSENSUS_LEADER && snapshot_idle(c)) {
        e->phase = EXPORT_NONE;
        for (unsigned i = 0; i < STREAMS_MAX; i++) {
            e->streams[i].wanted = false;
        }
    }
    if (e->phase == EXPORT_READY) {
        export_ready(c);
    }
}

void export_tick(struct consensus *c)
{
    uint64_t now = host_now(c);
    for (unsigned i = 0; i < STREAMS_MAX && c->exports.phase == EXPORT_READY; i++) {
        struct stream *s = &c->exports.streams[i];
        if (!s->open || s->job.busy) {
            continue;
        }
        if (!conf_find(core_conf(c->core), s->to)) {
            stream_end(s);
        } else if (now - s->moved_ms >= STREAM_GIVE_UP_MS) {
            stream_end(s);
        } else if (now - s->moved_ms >= STREAM_AGAIN_MS && now - s->offered_ms >= STREAM_AGAIN_MS) {
            stream_offer(c, s);
        }
    }
}

void export_free(struct consensus *c)
{
    struct exports *e = &c->exports;
    for (unsigned i = 0; i < STREAMS_MAX; i++) {
        free(e->streams[i].piece);
    }
    if (e->export) {
        c->options.fsm->ops->export_close(e->export);
    }
    fs_close(c->options.fs, e->file);
    marker_free(&e->head.marker);
    free(e->path);
}
