/* Frames between hosts. Input: mode, then bytes. Calls are cut from a stream in pieces of several
 * sizes with the same result, nothing larger than the limits is ever asked for, and a header that
 * is accepted is the one that would be written. */
#include "fuzz.h"
#include "hash.h"
#include "peer/frame.h"
#include "tessera/base/err.h"

static void check_frame(const struct frame *f, const uint8_t header[FRAME_HEADER], uint64_t *hash)
{
    uint8_t out[FRAME_HEADER];
    fuzz_check(f->head_size <= PEER_HEAD_MAX && f->body_size <= PEER_BODY_MAX);
    fuzz_check(f->code <= 0 && (f->reply || f->code == 0));
    frame_encode(f, out);
    fuzz_check(memcmp(out, header, sizeof out) == 0);
    hash_bytes(hash, out, sizeof out);
}

/* Memory is given for what has come only: a large frame of which little comes is skipped. */
static uint64_t run_calls(struct fuzz_in in, uint32_t seed)
{
    struct frame_stream s;
    uint64_t hash = HASH_START;
    size_t left = in.size;
    uint8_t *head = NULL, *body = NULL;
    int rc = FRAME_MORE;
    frame_stream_init(&s);
    while (in.size > 0 && rc >= 0) {
        struct fuzz_in piece = fuzz_take(&in, seed != 0 ? 1 + fuzz_random(&seed) % 40 : in.size);
        uint8_t *copy = fuzz_bytes(piece);
        const uint8_t *at = copy;
        do {
            rc = frame_stream_feed(&s, &at, &piece.size);
            fuzz_check(rc == FRAME_MORE || rc == FRAME_READY || rc == FRAME_COMPLETE ||
                       rc == TSR_EPROTO);
            if (rc == FRAME_READY) {
                check_frame(&s.frame, s.header, &hash);
                bool fits = s.frame.head_size + s.frame.body_size <= left;
                head = fits ? malloc(s.frame.head_size + 1) : NULL;
                body = fits && s.frame.call % 2 == 0 ? malloc(s.frame.body_size + 1) : NULL;
                frame_stream_place(&s, head, body);
            } else if (rc == FRAME_COMPLETE) {
                hash_bytes(&hash, head, head != NULL ? s.frame.head_size : 0);
                hash_bytes(&hash, body, body != NULL ? s.frame.body_size : 0);
                hash_text(&hash, "complete");
                fuzz_check(!frame_stream_inside(&s));
                free(head);
                free(body);
                head = body = NULL;
            }
        } while (rc > 0);
        fuzz_check(rc < 0 || piece.size == 0);
        free(copy);
    }
    hash_number(&hash, rc < 0);
    free(head);
    free(body);
    return hash;
}

static void run_hello(struct fuzz_in in)
{
    void *copy = fuzz_bytes(in);
    struct raft_hello hello;
    uint8_t out[RAFT_HELLO_MAX];
    if (raft_hello_decode(copy, in.size, &hello) == 0) {
        fuzz_check(memchr(hello.cluster_id, 0, sizeof hello.cluster_id) != NULL);
        fuzz_check(memchr(hello.address, 0, sizeof hello.address) != NULL);
        fuzz_check(raft_hello_encode(&hello, out) == in.size);
        fuzz_check(memcmp(out, copy, in.size) == 0);
    }
    free(copy);
}

static void run_link(struct fuzz_in in)
{
    size_t max = RAFT_HELLO_MAX;
    while (in.size >= RAFT_FRAME_HEADER) {
        uint8_t out[RAFT_FRAME_HEADER];
        struct fuzz_in header = fuzz_take(&in, RAFT_FRAME_HEADER);
        enum raft_frame_kind kind;
        size_t size;
        if (raft_frame_decode(header.data, max, &kind, &size) != 0) {
            return;
        }
        fuzz_check(size > 0 && size <= max);
        raft_frame_encode(kind, size, out);
        fuzz_check(memcmp(out, header.data, sizeof out) == 0);
        struct fuzz_in payload = fuzz_take(&in, size);
        if (kind == RAFT_FRAME_HELLO) {
            run_hello(payload);
        }
        max = RAFT_FRAME_MAX;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    switch (fuzz_u8(&in) % 3) {
    case 0:
        fuzz_check(run_calls(in, 0) == run_calls(in, 1 + (uint32_t)size));
        break;
    case 1:
        run_link(in);
        break;
    default:
        run_hello(in);
        break;
    }
    return 0;
}
