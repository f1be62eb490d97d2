/* Frames of peer calls and of consensus links: pure codecs, fuzzed. Numbers are little-endian.
 *
 * Call:      0 version u8 | 1 type u8 | 2 flags u16 | 4 call u32 | 8 length u32 | 12 head length
 * u32 | 16 head | body.   length = 4 + head + body. flags: 0 in a request; in a reply bit 15 and
 * the negated code in bits 0..11. Consensus: 0 version u8 | 1 kind u8 | 2 zero u16 | 4 length u32 |
 * 8 bytes.
 *
 * Every header is checked whole before anything is allocated for what follows it. */
#ifndef TESSERA_PEER_FRAME_H
#define TESSERA_PEER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/peer.h"

enum { FRAME_VERSION = 1, FRAME_HEADER = 16, FRAME_FLAG_REPLY = 0x8000, FRAME_CODE_MASK = 0x0fff };

struct frame {
    uint8_t type;
    bool reply;
    int code; /* replies: 0 or negative */
    uint32_t call;
    size_t head_size, body_size;
};

void frame_encode(const struct frame *f, uint8_t out[FRAME_HEADER]);
/* TSR_EPROTO: wrong version, type, flags or sizes. */
int frame_decode(const uint8_t in[FRAME_HEADER], struct frame *out);

/* Cuts a stream of bytes into frames. After FRAME_READY the owner looks at `frame` and gives memory
 * (or none: the payload is skipped) with frame_stream_place; after FRAME_COMPLETE it takes what it
 * placed and feeds on. */
enum frame_event { FRAME_MORE = 0, FRAME_READY = 1, FRAME_COMPLETE = 2 };
enum frame_state { FRAME_IN_HEADER, FRAME_UNPLACED, FRAME_IN_PAYLOAD };

struct frame_stream {
    enum frame_state state;
    uint8_t header[FRAME_HEADER];
    size_t have; /* bytes of header, then of payload */
    struct frame frame;
    uint8_t *head, *body;
};

void frame_stream_init(struct frame_stream *s);
/* Consumes from *data; returns an event or TSR_EPROTO. Call again until FRAME_MORE. */
int frame_stream_feed(struct frame_stream *s, const uint8_t **data, size_t *size);
/* NULL for head or body: that part is skipped. */
void frame_stream_place(struct frame_stream *s, void *head, void *body);
/* Some bytes of a frame came and others are missing. */
bool frame_stream_inside(const struct frame_stream *s);

enum { RAFT_FRAME_HEADER = 8, RAFT_FRAME_MAX = 8 * 1024 * 1024, RAFT_HELLO_MAX = 1024 };
enum raft_frame_kind { RAFT_FRAME_HELLO = 1, RAFT_FRAME_MESSAGE = 2, RAFT_FRAME_REFUSED = 3 };
enum { RAFT_REFUSED_SIZE = RAFT_FRAME_HEADER + 4 };

void raft_frame_encode(enum raft_frame_kind kind, size_t size, uint8_t out[RAFT_FRAME_HEADER]);
/* The way back, in answer to a hello: the negated code as u32. */
void raft_refused_encode(int code, uint8_t out[RAFT_REFUSED_SIZE]);
int raft_refused_decode(const uint8_t in[RAFT_REFUSED_SIZE], int *code_out);
/* @size_max: RAFT_HELLO_MAX before the hello, RAFT_FRAME_MAX afterwards. */
int raft_frame_decode(const uint8_t in[RAFT_FRAME_HEADER], size_t size_max,
                      enum raft_frame_kind *kind_out, size_t *size_out);

enum { RAFT_CLUSTER_ID_MAX = 100, RAFT_ADDRESS_MAX = 128 };
/* The first frame of a consensus link: raft id u64, life (starts, mark, log end: u64 each), cluster
 * id (u32 length, bytes), address (same). */
struct raft_hello {
    uint64_t raft_id;
    struct peer_life life;
    char cluster_id[RAFT_CLUSTER_ID_MAX];
    char address[RAFT_ADDRESS_MAX];
};
/* @out has RAFT_HELLO_MAX bytes. Returns the size. */
size_t raft_hello_encode(const struct raft_hello *hello, uint8_t *out);
int raft_hello_decode(const void *data, size_t size, struct raft_hello *out);

#endif
