#include "peer/frame.h"

#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/err.h"

_Static_assert(4ull + PEER_HEAD_MAX + PEER_BODY_MAX < UINT32_MAX, "a frame's length fits u32");

static void put_u16(uint8_t *out, uint16_t v)
{
    out[0] = (uint8_t)v;
    out[1] = (uint8_t)(v >> 8);
}

static void put_u32(uint8_t *out, uint32_t v)
{
    put_u16(out, (uint16_t)v);
    put_u16(out + 2, (uint16_t)(v >> 16));
}

static void put_u64(uint8_t *out, uint64_t v)
{
    put_u32(out, (uint32_t)v);
    put_u32(out + 4, (uint32_t)(v >> 32));
}

void frame_encode(const struct frame *f, uint8_t out[FRAME_HEADER])
{
    tsr_assert(f->head_size <= PEER_HEAD_MAX && f->body_size <= PEER_BODY_MAX);
    tsr_assert(f->code <= 0 && f->code >= -FRAME_CODE_MASK);
    unsigned flags = f->reply ? (unsigned)FRAME_FLAG_REPLY | (unsigned)-f->code : 0;
    out[0] = FRAME_VERSION;
    out[1] = f->type;
    put_u16(out + 2, (uint16_t)flags);
    put_u32(out + 4, f->call);
    put_u32(out + 8, (uint32_t)(4 + f->head_size + f->body_size));
    put_u32(out + 12, (uint32_t)f->head_size);
}

int frame_decode(const uint8_t in[FRAME_HEADER], struct frame *out)
{
    struct reader r = reader_of(in, FRAME_HEADER);
    uint8_t version = read_u8(&r);
    uint8_t type = read_u8(&r);
    unsigned flags = read_u16(&r);
    uint32_t call = read_u32(&r);
    uint32_t length = read_u32(&r);
    uint32_t head = read_u32(&r);
    bool reply = (flags & FRAME_FLAG_REPLY) != 0;
    unsigned known = reply ? (unsigned)FRAME_FLAG_REPLY | (unsigned)FRAME_CODE_MASK : 0;
    if (version != FRAME_VERSION || type == 0 || type >= PEER_CALL_MAX || (flags & ~known) != 0) {
        return TSR_EPROTO;
    }
    if (length < 4 || head > length - 4 || head > PEER_HEAD_MAX ||
        length - 4 - head > PEER_BODY_MAX) {
        return TSR_EPROTO;
    }
    *out = (struct frame){
        .type = type,
        .reply = reply,
        .code = -(int)(flags & FRAME_CODE_MASK),
        .call = call,
        .head_size = head,
        .body_size = length - 4 - head,
    };
    return 0;
}

void frame_stream_init(struct frame_stream *s)
{
    memset(s, 0, sizeof(*s));
}

bool frame_stream_inside(const struct frame_stream *s)
{
    return s->state != FRAME_IN_HEADER || s->have > 0;
}

static size_t take(size_t want, const uint8_t **data, size_t *size, uint8_t *out)
{
    size_t n = want < *size ? want : *size;
    if (out && n > 0) {
        memcpy(out, *data, n);
    }
    *data += n;
    *size -= n;
    return n;
}

static int feed_header(struct frame_stream *s, const uint8_t **data, size_t *size)
{
    s->have += take(FRAME_HEADER - s->have, data, size, s->header + s->have);
    if (s->have < FRAME_HEADER) {
        /* Refuse a foreign protocol at its first byte, not when it has sent sixteen. */
        return s->have > 0 && s->header[0] != FRAME_VERSION ? TSR_EPROTO : FRAME_MORE;
    }
    int rc = frame_decode(s->header, &s->frame);
    if (rc != 0) {
        return rc;
    }
    s->state = FRAME_UNPLACED;
    return FRAME_READY;
}

static int feed_payload(struct frame_stream *s, const uint8_t **data, size_t *size)
{
    const size_t head = s->frame.head_size, all = head + s->frame.body_size;
    if (s->have < head) {
        s->have += take(head - s->have, data, size, s->head ? s->head + s->have : NULL);
    }
    if (s->have >= head && s->have < all) {
        size_t at = s->have - head;
        s->have += take(all - s->have, data, size, s->body ? s->body + at : NULL);
    }
    if (s->have < all) {
        return FRAME_MORE;
    }
    s->state = FRAME_IN_HEADER;
    s->have = 0;
    return FRAME_COMPLETE;
}

int frame_stream_feed(struct frame_stream *s, const uint8_t **data, size_t *size)
{
    if (s->state == FRAME_IN_HEADER) {
        return feed_header(s, data, size);
    }
    tsr_assert(s->state == FRAME_IN_PAYLOAD);
    return feed_payload(s, data, size);
}

void frame_stream_place(struct frame_stream *s, void *head, void *body)
{
    tsr_assert(s->state == FRAME_UNPLACED);
    s->state = FRAME_IN_PAYLOAD;
    s->have = 0;
    s->head = head;
    s->body = body;
}

void raft_frame_encode(enum raft_frame_kind kind, size_t size, uint8_t out[RAFT_FRAME_HEADER])
{
    tsr_assert(size <= RAFT_FRAME_MAX);
    out[0] = FRAME_VERSION;
    out[1] = (uint8_t)kind;
    put_u16(out + 2, 0);
    put_u32(out + 4, (uint32_t)size);
}

int raft_frame_decode(const uint8_t in[RAFT_FRAME_HEADER], size_t size_max,
                      enum raft_frame_kind *kind_out, size_t *size_out)
{
    struct reader r = reader_of(in, RAFT_FRAME_HEADER);
    uint8_t version = read_u8(&r);
    uint8_t kind = read_u8(&r);
    uint16_t zero = read_u16(&r);
    uint32_t size = read_u32(&r);
    if (version != FRAME_VERSION || zero != 0 || size == 0 || size > size_max ||
        (kind != RAFT_FRAME_HELLO && kind != RAFT_FRAME_MESSAGE)) {
        return TSR_EPROTO;
    }
    *kind_out = kind;
    *size_out = size;
    return 0;
}

void raft_refused_encode(int code, uint8_t out[RAFT_REFUSED_SIZE])
{
    raft_frame_encode(RAFT_FRAME_REFUSED, 4, out);
    put_u32(out + RAFT_FRAME_HEADER, (uint32_t)-code);
}

int raft_refused_decode(const uint8_t in[RAFT_REFUSED_SIZE], int *code_out)
{
    uint8_t head[RAFT_FRAME_HEADER];
    struct reader r = reader_of(in + RAFT_FRAME_HEADER, 4);
    uint32_t code = read_u32(&r);
    raft_frame_encode(RAFT_FRAME_REFUSED, 4, head);
    if (memcmp(in, head, sizeof(head)) != 0 || code == 0 || code > FRAME_CODE_MASK) {
        return TSR_EPROTO;
    }
    *code_out = -(int)code;
    return 0;
}

static size_t put_text(uint8_t *out, const char *text)
{
    size_t n = strlen(text);
    put_u32(out, (uint32_t)n);
    memcpy(out + 4, text, n);
    return 4 + n;
}

size_t raft_hello_encode(const struct raft_hello *hello, uint8_t *out)
{
    _Static_assert(32 + 4 + RAFT_CLUSTER_ID_MAX + 4 + RAFT_ADDRESS_MAX <= RAFT_HELLO_MAX,
                   "it fits");
    put_u64(out, hello->raft_id);
    put_u64(out + 8, hello->life.starts);
    put_u64(out + 16, hello->life.mark);
    put_u64(out + 24, hello->life.log_end);
    size_t at = 32;
    at += put_text(out + at, hello->cluster_id);
    at += put_text(out + at, hello->address);
    return at;
}

static bool read_text(struct reader *r, char *out, size_t out_size)
{
    size_t n = 0;
    const void *text = read_blob(r, &n);
    if (r->failed || n >= out_size || (n > 0 && memchr(text, 0, n))) {
        return false;
    }
    if (n > 0) {
        memcpy(out, text, n);
    }
    out[n] = 0;
    return true;
}

int raft_hello_decode(const void *data, size_t size, struct raft_hello *out)
{
    struct reader r = reader_of(data, size);
    struct raft_hello hello = {.raft_id = read_u64(&r)};
    hello.life.starts = read_u64(&r);
    hello.life.mark = read_u64(&r);
    hello.life.log_end = read_u64(&r);
    if (!read_text(&r, hello.cluster_id, sizeof(hello.cluster_id)) ||
        !read_text(&r, hello.address, sizeof(hello.address)) || r.failed || reader_left(&r) != 0) {
        return TSR_EPROTO;
    }
    *out = hello;
    return 0;
}
