#include "consensus/codec.h"

#include <stdlib.h>
#include <string.h>

#include "consensus/batch.h"
#include "tessera/base/buf.h"

enum {
    CODEC_VERSION = 1,
    ENTRY_HEAD = 8 + 1 + 4, /* term, type, length */
    COMMAND_HEAD = COMMAND_ID_SIZE + 4,
};

/* --- encode ----------------------------------------------------------------------------------- */

static void put_append(struct buf *b, const struct message *m)
{
    buf_put_u8(b, m->append.version);
    buf_put_u64(b, m->append.term);
    buf_put_u64(b, m->append.prev_index);
    buf_put_u64(b, m->append.prev_term);
    buf_put_u64(b, m->append.commit);
    buf_put_u32(b, m->append.count);
    for (unsigned i = 0; i < m->append.count; i++) {
        const struct message_entry *e = &m->append.entries[i];
        buf_put_u64(b, e->term);
        buf_put_u8(b, e->type);
        buf_put_blob(b, e->data, e->size);
    }
}

static void put_append_result(struct buf *b, const struct message *m)
{
    buf_put_u8(b, m->append_result.version);
    buf_put_u64(b, m->append_result.term);
    buf_put_u64(b, m->append_result.rejected);
    buf_put_u64(b, m->append_result.last_index);
    buf_put_u16(b, m->append_result.features);
    buf_put_u16(b, m->append_result.capacity);
}

static void put_vote(struct buf *b, const struct message *m)
{
    buf_put_u8(b, m->vote.version);
    buf_put_u64(b, m->vote.term);
    buf_put_u64(b, m->vote.candidate);
    buf_put_u64(b, m->vote.last_index);
    buf_put_u64(b, m->vote.last_term);
    buf_put_u8(b, m->vote.disrupt);
    buf_put_u8(b, m->vote.pre_vote);
}

static void put_vote_result(struct buf *b, const struct message *m)
{
    buf_put_u8(b, m->vote_result.version);
    buf_put_u64(b, m->vote_result.term);
    buf_put_u8(b, m->vote_result.granted);
    buf_put_u8(b, m->vote_result.pre_vote);
    buf_put_u16(b, m->vote_result.features);
    buf_put_u16(b, m->vote_result.capacity);
}

static void put_timeout_now(struct buf *b, const struct message *m)
{
    buf_put_u8(b, m->timeout_now.version);
    buf_put_u64(b, m->timeout_now.term);
    buf_put_u64(b, m->timeout_now.last_index);
    buf_put_u64(b, m->timeout_now.last_term);
}

static void put_forward(struct buf *b, const struct message *m)
{
    buf_put_u64(b, m->forward.seq);
    buf_put_u32(b, m->forward.count);
    for (unsigned i = 0; i < m->forward.count; i++) {
        buf_append(b, m->forward.commands[i].id, COMMAND_ID_SIZE);
        buf_put_blob(b, m->forward.commands[i].data, m->forward.commands[i].size);
    }
}

static void put_forward_reply(struct buf *b, const struct message *m)
{
    buf_put_u64(b, m->forward_reply.seq);
    buf_put_u8(b, m->forward_reply.accepted);
    buf_put_u64(b, m->forward_reply.index);
    buf_put_u64(b, m->forward_reply.term);
    buf_put_u64(b, m->forward_reply.leader);
}

static void put_snap_offer(struct buf *b, const struct message *m)
{
    const struct stage_head *h = &m->snap_offer.head;
    buf_put_u64(b, m->snap_offer.term);
    buf_put_u64(b, m->snap_offer.stream);
    buf_put_u64(b, h->marker.index);
    buf_put_u64(b, h->marker.term);
    buf_append(b, h->marker.digest, FSM_DIGEST_SIZE);
    buf_put_u64(b, h->marker.conf_index);
    buf_put_blob(b, h->marker.conf, h->marker.conf_size);
    buf_put_u64(b, h->stream_bytes);
    buf_append(b, h->stream_sha256, sizeof h->stream_sha256);
}

static void put_snap_piece(struct buf *b, const struct message *m)
{
    buf_put_u64(b, m->snap_piece.term);
    buf_put_u64(b, m->snap_piece.stream);
    buf_put_u64(b, m->snap_piece.offset);
    buf_put_blob(b, m->snap_piece.data, m->snap_piece.size);
}

static void put_body(struct buf *b, const struct message *m)
{
    switch (m->kind) {
    case MESSAGE_APPEND:
        put_append(b, m);
        break;
    case MESSAGE_APPEND_RESULT:
        put_append_result(b, m);
        break;
    case MESSAGE_VOTE:
        put_vote(b, m);
        break;
    case MESSAGE_VOTE_RESULT:
        put_vote_result(b, m);
        break;
    case MESSAGE_TIMEOUT_NOW:
        put_timeout_now(b, m);
        break;
    case MESSAGE_FORWARD:
        put_forward(b, m);
        break;
    case MESSAGE_FORWARD_REPLY:
        put_forward_reply(b, m);
        break;
    case MESSAGE_READ_ASK:
        buf_put_u64(b, m->read_ask.seq);
        break;
    case MESSAGE_READ_REPLY:
        buf_put_u64(b, m->read_reply.seq);
        buf_put_u8(b, m->read_reply.ok);
        buf_put_u64(b, m->read_reply.index);
        break;
    case MESSAGE_CONFIRM:
    case MESSAGE_CONFIRM_REPLY:
        buf_put_u64(b, m->confirm.term);
        buf_put_u64(b, m->confirm.seq);
        break;
    case MESSAGE_SNAP_OFFER:
        put_snap_offer(b, m);
        break;
    case MESSAGE_SNAP_PIECE:
        put_snap_piece(b, m);
        break;
    case MESSAGE_SNAP_ACK:
        buf_put_u64(b, m->snap_ack.stream);
        buf_put_u64(b, m->snap_ack.have);
        buf_put_u8(b, m->snap_ack.refused);
        break;
    }
}

int message_encode(const struct message *m, struct buf *out)
{
    buf_put_u8(out, CODEC_VERSION);
    buf_put_u8(out, (uint8_t)m->kind);
    put_body(out, m);
    return out->failed ? TSR_ENOMEM : 0;
}

/* --- decode ----------------------------------------------------------------------------------- */

/* A flag is 0 or 1; anything else fails the reader. */
static bool read_flag(struct reader *r)
{
    uint8_t v = read_u8(r);
    if (v > 1) {
        r->failed = true;
    }
    return v == 1;
}

static bool entry_valid(const struct message_entry *e, uint64_t before, uint64_t term)
{
    if (e->term == 0 || e->term < before || e->term > term || e->size % 8 != 0 ||
        e->size > ENTRY_BYTES_MAX) {
        return false;
    }
    struct conf conf;
    int rc;
    switch (e->type) {
    case ENTRY_COMMAND:
        rc = batch_check(e->data, e->size);
        return rc == 0 || rc == TSR_ENOTSUP; /* of a newer version: its apply stops the host */
    case ENTRY_BARRIER:
        return e->size == 8;
    case ENTRY_CHANGE:
        return conf_decode(e->data, e->size, &conf) == 0;
    default:
        return false;
    }
}

static int get_entries(struct reader *r, struct message *m)
{
    unsigned count = m->append.count;
    struct message_entry *entries = calloc(count, sizeof *entries);
    if (!entries) {
        return TSR_ENOMEM;
    }
    uint64_t before = m->append.prev_term;
    for (unsigned i = 0; i < count; i++) {
        struct message_entry *e = &entries[i];
        e->term = read_u64(r);
        e->type = read_u8(r);
        e->data = read_blob(r, &e->size);
        if (r->failed || !entry_valid(e, before, m->append.term)) {
            free(entries);
            return TSR_EPROTO;
        }
        before = e->term;
    }
    m->append.entries = entries;
    return 0;
}

static int get_append(struct reader *r, struct message *m)
{
    m->append.version = read_u8(r);
    m->append.term = read_u64(r);
    m->append.prev_index = read_u64(r);
    m->append.prev_term = read_u64(r);
    m->append.commit = read_u64(r);
    m->append.count = read_u32(r);
    if (r->failed || m->append.term == 0 || m->append.prev_term > m->append.term ||
        (m->append.prev_index == 0) != (m->append.prev_term == 0) ||
        m->append.prev_index > UINT64_MAX / 2 || m->append.count > reader_left(r) / ENTRY_HEAD) {
        return TSR_EPROTO;
    }
    return m->append.count ? get_entries(r, m) : 0;
}

static int get_append_result(struct reader *r, struct message *m)
{
    m->append_result.version = read_u8(r);
    m->append_result.term = read_u64(r);
    m->append_result.rejected = read_u64(r);
    m->append_result.last_index = read_u64(r);
    m->append_result.features = read_u16(r);
    m->append_result.capacity = read_u16(r);
    return m->append_result.term == 0 ? TSR_EPROTO : 0;
}

static int get_vote(struct reader *r, struct message *m)
{
    m->vote.version = read_u8(r);
    m->vote.term = read_u64(r);
    m->vote.candidate = read_u64(r);
    m->vote.last_index = read_u64(r);
    m->vote.last_term = read_u64(r);
    m->vote.disrupt = read_flag(r);
    m->vote.pre_vote = read_flag(r);
    bool bad = m->vote.term == 0 || m->vote.candidate == 0 || m->vote.last_term > m->vote.term ||
               (m->vote.last_index == 0) != (m->vote.last_term == 0);
    return bad ? TSR_EPROTO : 0;
}

static int get_vote_result(struct reader *r, struct message *m)
{
    m->vote_result.version = read_u8(r);
    m->vote_result.term = read_u64(r);
    m->vote_result.granted = read_flag(r);
    m->vote_result.pre_vote = read_flag(r);
    m->vote_result.features = read_u16(r);
    m->vote_result.capacity = read_u16(r);
    return 0; /* term 0: the refusal of a host that has no state yet */
}

static int get_timeout_now(struct reader *r, struct message *m)
{
    m->timeout_now.version = read_u8(r);
    m->timeout_now.term = read_u64(r);
    m->timeout_now.last_index = read_u64(r);
    m->timeout_now.last_term = read_u64(r);
    bool bad = m->timeout_now.term == 0 || m->timeout_now.last_term > m->timeout_now.term;
    return bad ? TSR_EPROTO : 0;
}

static int get_forward(struct reader *r, struct message *m)
{
    m->forward.seq = read_u64(r);
    m->forward.count = read_u32(r);
    if (r->failed || m->forward.count == 0 || m->forward.count > reader_left(r) / COMMAND_HEAD) {
        return TSR_EPROTO;
    }
    struct message_command *commands = calloc(m->forward.count, sizeof *commands);
    if (!commands) {
        return TSR_ENOMEM;
    }
    for (unsigned i = 0; i < m->forward.count; i++) {
        const void *id = read_bytes(r, COMMAND_ID_SIZE);
        commands[i].data = read_blob(r, &commands[i].size);
        if (r->failed || commands[i].size > COMMAND_BYTES_MAX) {
            free(commands);
            return TSR_EPROTO;
        }
        memcpy(commands[i].id, id, COMMAND_ID_SIZE);
    }
    m->forward.commands = commands;
    return 0;
}

static int get_forward_reply(struct reader *r, struct message *m)
{
    m->forward_reply.seq = read_u64(r);
    m->forward_reply.accepted = read_flag(r);
    m->forward_reply.index = read_u64(r);
    m->forward_reply.term = read_u64(r);
    m->forward_reply.leader = read_u64(r);
    return 0;
}

static int get_read_reply(struct reader *r, struct message *m)
{
    m->read_reply.seq = read_u64(r);
    m->read_reply.ok = read_flag(r);
    m->read_reply.index = read_u64(r);
    return 0;
}

static int get_snap_offer(struct reader *r, struct message *m)
{
    struct stage_head *h = &m->snap_offer.head;
    struct conf conf;
    m->snap_offer.term = read_u64(r);
    m->snap_offer.stream = read_u64(r);
    h->marker.index = read_u64(r);
    h->marker.term = read_u64(r);
    const void *digest = read_bytes(r, FSM_DIGEST_SIZE);
    h->marker.conf_index = read_u64(r);
    h->marker.conf = (void *)(uintptr_t)read_blob(r, &h->marker.conf_size);
    h->stream_bytes = read_u64(r);
    const void *sha256 = read_bytes(r, sizeof h->stream_sha256);
    if (r->failed || h->marker.index == 0 || h->marker.term == 0 ||
        h->marker.term > m->snap_offer.term || h->marker.conf_index == 0 ||
        h->marker.conf_index > h->marker.index || h->stream_bytes == 0 ||
        h->stream_bytes > INT64_MAX / 2 ||
        conf_decode(h->marker.conf, h->marker.conf_size, &conf) != 0) {
        return TSR_EPROTO;
    }
    memcpy(h->marker.digest, digest, FSM_DIGEST_SIZE);
    memcpy(h->stream_sha256, sha256, sizeof h->stream_sha256);
    return 0;
}

static int get_snap_piece(struct reader *r, struct message *m)
{
    m->snap_piece.term = read_u64(r);
    m->snap_piece.stream = read_u64(r);
    m->snap_piece.offset = read_u64(r);
    m->snap_piece.data = read_blob(r, &m->snap_piece.size);
    bool bad = m->snap_piece.term == 0 || m->snap_piece.size == 0 ||
               m->snap_piece.size > SNAP_PIECE_MAX || m->snap_piece.offset > INT64_MAX / 2;
    return bad ? TSR_EPROTO : 0;
}

static int get_body(struct reader *r, struct message *m)
{
    switch (m->kind) {
    case MESSAGE_APPEND:
        return get_append(r, m);
    case MESSAGE_APPEND_RESULT:
        return get_append_result(r, m);
    case MESSAGE_VOTE:
        return get_vote(r, m);
    case MESSAGE_VOTE_RESULT:
        return get_vote_result(r, m);
    case MESSAGE_TIMEOUT_NOW:
        return get_timeout_now(r, m);
    case MESSAGE_FORWARD:
        return get_forward(r, m);
    case MESSAGE_FORWARD_REPLY:
        return get_forward_reply(r, m);
    case MESSAGE_READ_ASK:
        m->read_ask.seq = read_u64(r);
        return 0;
    case MESSAGE_READ_REPLY:
        return get_read_reply(r, m);
    case MESSAGE_CONFIRM:
    case MESSAGE_CONFIRM_REPLY:
        m->confirm.term = read_u64(r);
        m->confirm.seq = read_u64(r);
        return 0;
    case MESSAGE_SNAP_OFFER:
        return get_snap_offer(r, m);
    case MESSAGE_SNAP_PIECE:
        return get_snap_piece(r, m);
    case MESSAGE_SNAP_ACK:
        m->snap_ack.stream = read_u64(r);
        m->snap_ack.have = read_u64(r);
        m->snap_ack.refused = read_flag(r);
        return 0;
    }
    return TSR_EPROTO;
}

int message_decode(const void *data, size_t size, struct message *out)
{
    memset(out, 0, sizeof *out);
    if (size > MESSAGE_BYTES_MAX) {
        return TSR_EPROTO;
    }
    struct reader r = reader_of(data, size);
    uint8_t version = read_u8(&r);
    uint8_t kind = read_u8(&r);
    if (r.failed || version != CODEC_VERSION || kind < MESSAGE_APPEND || kind > MESSAGE_SNAP_ACK) {
        return TSR_EPROTO;
    }
    out->kind = (enum message_kind)kind;
    int rc = get_body(&r, out);
    if (rc == 0 && (r.failed || reader_left(&r) != 0)) {
        message_free(out);
        rc = TSR_EPROTO;
    }
    return rc;
}

void message_free(struct message *m)
{
    if (m->kind == MESSAGE_APPEND) {
        free(m->append.entries);
        m->append.entries = NULL;
    } else if (m->kind == MESSAGE_FORWARD) {
        free(m->forward.commands);
        m->forward.commands = NULL;
    }
}
