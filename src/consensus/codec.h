/* Messages between consensus hosts: bytes <-> struct message. Pure, all checks inside: a message
 * that message_decode() accepts can go into libraft, which has no checks of its own.
 *
 * Every message: u8 version = 1 | u8 kind | body, little-endian, nothing after it. Bodies are
 * listed with the structures below in the order of their fields; blobs and texts have a u32 length.
 *
 * Thread: any. */
#ifndef TESSERA_CONSENSUS_CODEC_H
#define TESSERA_CONSENSUS_CODEC_H

#include "consensus/conf.h"
#include "consensus/marker.h"
#include "tessera/consensus.h"

struct buf;

enum message_kind {
    MESSAGE_APPEND = 1,
    MESSAGE_APPEND_RESULT,
    MESSAGE_VOTE,
    MESSAGE_VOTE_RESULT,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_FORWARD,
    MESSAGE_FORWARD_REPLY,
    MESSAGE_READ_ASK,
    MESSAGE_READ_REPLY,
    MESSAGE_CONFIRM,
    MESSAGE_CONFIRM_REPLY,
    MESSAGE_SNAP_OFFER,
    MESSAGE_SNAP_PIECE,
    MESSAGE_SNAP_ACK,
};

enum {
    MESSAGE_BYTES_MAX = 4 * 1024 * 1024, /* anything larger is refused before it is looked at */
    MESSAGE_SPLIT = 1024 * 1024,         /* appends and forwards are split at this */
    SNAP_PIECE_MAX = 64 * 1024,
    ENTRY_COMMAND = 1, /* as libraft's entry types */
    ENTRY_BARRIER = 2,
    ENTRY_CHANGE = 3,
};

struct message_entry {
    uint64_t term;
    uint8_t type;
    const void *data;
    size_t size; /* a multiple of 8 */
};

struct message_command {
    uint8_t id[COMMAND_ID_SIZE];
    const void *data;
    size_t size;
};

struct message {
    enum message_kind kind;
    union {
        struct { /* libraft AppendEntries; @version is the library's own message version */
            uint8_t version;
            uint64_t term, prev_index, prev_term, commit;
            unsigned count;
            struct message_entry *entries; /* decoded: malloc'ed, see message_free */
        } append;
        struct {
            uint8_t version;
            uint64_t term, rejected, last_index;
            uint16_t features, capacity;
        } append_result;
        struct {
            uint8_t version;
            uint64_t term, candidate, last_index, last_term;
            bool disrupt, pre_vote;
        } vote;
        struct {
            uint8_t version;
            uint64_t term;
            bool granted, pre_vote;
            uint16_t features, capacity;
        } vote_result;
        struct {
            uint8_t version;
            uint64_t term, last_index, last_term;
        } timeout_now;
        struct { /* commands for the leader, from the host that proposes them */
            uint64_t seq;
            unsigned count;
            struct message_command *commands; /* decoded: malloc'ed */
        } forward;
        struct { /* accepted: all are in the log up to @index in @term */
            uint64_t seq;
            bool accepted;
            uint64_t index, term;
            uint64_t leader; /* refused: who leads, 0 = unknown */
        } forward_reply;
        struct {
            uint64_t seq;
        } read_ask;
        struct {
            uint64_t seq;
            bool ok;
            uint64_t index;
        } read_reply;
        struct { /* both directions: is @term still the present one */
            uint64_t term, seq;
        } confirm;
        struct { /* a whole state for a follower that is too far behind */
            uint64_t term, stream;
            struct stage_head head; /* decoded: marker.conf points into the message */
        } snap_offer;
        struct {
            uint64_t term, stream, offset;
            const void *data;
            size_t size;
        } snap_piece;
        struct { /* @have bytes are staged; refused: the stream is not wanted (any more) */
            uint64_t stream, have;
            bool refused;
        } snap_ack;
    };
};

/* Appends to @out. TSR_ENOMEM. */
int message_encode(const struct message *m, struct buf *out);
/* Bytes of entries and commands point into @data. TSR_EPROTO (nothing to free), TSR_ENOMEM. */
int message_decode(const void *data, size_t size, struct message *out);
void message_free(struct message *m);

#endif
