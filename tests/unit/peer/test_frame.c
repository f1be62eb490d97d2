#include "fixture.h"

static void a_header_comes_back_as_it_went(void **state)
{
    (void)state;
    const struct frame in[] = {
        {.type = 1, .call = 0},
        {.type = 31, .call = UINT32_MAX, .head_size = PEER_HEAD_MAX, .body_size = PEER_BODY_MAX},
        {.type = 4, .reply = true, .code = TSR_ENOSPC, .call = 77, .head_size = 1},
        {.type = 4, .reply = true, .code = -FRAME_CODE_MASK, .call = 77, .body_size = 9},
    };
    for (size_t i = 0; i < array_len(in); i++) {
        uint8_t bytes[FRAME_HEADER];
        struct frame out;
        frame_encode(&in[i], bytes);
        check_ok(frame_decode(bytes, &out));
        check_int(out.type, in[i].type);
        check_int(out.reply, in[i].reply);
        check_int(out.code, in[i].code);
        check_int(out.call, in[i].call);
        check_int(out.head_size, in[i].head_size);
        check_int(out.body_size, in[i].body_size);
    }
}

static void the_bytes_are_those_of_the_format_page(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER];
    const uint8_t want[FRAME_HEADER] = {1, 4, 26, 0x80, 0x04, 0x03, 0x02, 0x01,
                                        9, 0, 0,  0,    2,    0,    0,    0};
    frame_encode(&(struct frame){.type = 4,
                                 .reply = true,
                                 .code = TSR_ENOSPC,
                                 .call = 0x01020304,
                                 .head_size = 2,
                                 .body_size = 3},
                 bytes);
    check_mem(bytes, want, FRAME_HEADER);
}

/* Change one byte of a good header. */
static int decode_with(size_t at, uint8_t value)
{
    uint8_t bytes[FRAME_HEADER];
    struct frame out;
    frame_encode(&(struct frame){.type = 3, .call = 1, .head_size = 10, .body_size = 20}, bytes);
    bytes[at] = value;
    return frame_decode(bytes, &out);
}

static void a_bad_header_is_refused(void **state)
{
    (void)state;
    check_code(decode_with(0, 2), TSR_EPROTO); /* version */
    check_code(decode_with(0, 0), TSR_EPROTO);
    check_code(decode_with(1, 0), TSR_EPROTO); /* type */
    check_code(decode_with(1, 32), TSR_EPROTO);
    check_code(decode_with(2, 1), TSR_EPROTO);    /* a code in a request */
    check_code(decode_with(3, 0x40), TSR_EPROTO); /* an unknown flag */
    check_code(decode_with(3, 0xc0), TSR_EPROTO);
    check_code(decode_with(8, 13), TSR_EPROTO); /* shorter than its head */
    check_code(decode_with(8, 3), TSR_EPROTO);
    check_code(decode_with(11, 1), TSR_EPROTO); /* body over the limit */
    check_code(decode_with(15, 1), TSR_EPROTO); /* head over the limit */
    check_ok(decode_with(8, 14));
}

/* Cut @size bytes of two frames at every place and look what comes out. */
static void a_stream_may_be_cut_anywhere(void **state)
{
    (void)state;
    uint8_t bytes[2 * FRAME_HEADER + 5 + 7];
    frame_encode(&(struct frame){.type = 2, .call = 1, .head_size = 2, .body_size = 3}, bytes);
    memcpy(bytes + FRAME_HEADER, "HEbod", 5);
    frame_encode(&(struct frame){.type = 3, .call = 2, .head_size = 0, .body_size = 7},
                 bytes + FRAME_HEADER + 5);
    memcpy(bytes + 2 * FRAME_HEADER + 5, "another", 7);
    for (size_t step = 1; step <= sizeof(bytes); step++) {
        struct frame_stream s;
        char head[2][8] = {{0}}, body[2][8] = {{0}};
        unsigned complete = 0;
        frame_stream_init(&s);
        for (size_t at = 0; at < sizeof(bytes); at += step) {
            const uint8_t *data = bytes + at;
            size_t size = sizeof(bytes) - at < step ? sizeof(bytes) - at : step;
            int event;
            while ((event = frame_stream_feed(&s, &data, &size)) != FRAME_MORE) {
                if (event == FRAME_READY) {
                    check(complete < 2);
                    frame_stream_place(&s, head[complete], body[complete]);
                } else {
                    check_int(event, FRAME_COMPLETE);
                    complete++;
                }
            }
            check_int(size, 0);
        }
        check_int(complete, 2);
        check(!frame_stream_inside(&s));
        check_str(head[0], "HE");
        check_str(body[0], "bod");
        check_str(head[1], "");
        check_str(body[1], "another");
    }
}

static void a_payload_without_a_place_is_skipped(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER + 9];
    struct frame_stream s;
    const uint8_t *data = bytes;
    size_t size = sizeof(bytes);
    memset(bytes, 7, sizeof(bytes));
    frame_encode(&(struct frame){.type = 2, .call = 1, .head_size = 4, .body_size = 5}, bytes);
    frame_stream_init(&s);
    check_int(frame_stream_feed(&s, &data, &size), FRAME_READY);
    frame_stream_place(&s, NULL, NULL);
    check_int(frame_stream_feed(&s, &data, &size), FRAME_COMPLETE);
    check_int(size, 0);
}

static void garbage_is_refused_at_its_first_byte(void **state)
{
    (void)state;
    struct frame_stream s;
    const uint8_t *data = (const uint8_t *)"G";
    size_t size = 1;
    frame_stream_init(&s);
    check_code(frame_stream_feed(&s, &data, &size), TSR_EPROTO);
}

static void random_bytes_never_break_a_decoder(void **state)
{
    (void)state;
    uint32_t x = 12345;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[64];
        for (size_t i = 0; i < sizeof(bytes); i++) {
            x = x * 1664525u + 1013904223u;
            bytes[i] = (uint8_t)(x >> (24 - (round & 3) * 8));
        }
        bytes[0] = FRAME_VERSION;
        struct frame f;
        if (frame_decode(bytes, &f) == 0) {
            check(f.head_size <= PEER_HEAD_MAX && f.body_size <= PEER_BODY_MAX);
            check(f.type > 0 && f.type < PEER_CALL_MAX);
        }
        struct raft_hello hello;
        (void)raft_hello_decode(bytes, round % sizeof(bytes), &hello);
        enum raft_frame_kind kind;
        size_t size;
        if (raft_frame_decode(bytes, RAFT_FRAME_MAX, &kind, &size) == 0) {
            check(size <= RAFT_FRAME_MAX);
        }
    }
}

static void a_hello_comes_back_and_its_bad_forms_are_refused(void **state)
{
    (void)state;
    struct raft_hello in = {.raft_id = 0x10002,
                            .life = {.starts = 3, .mark = UINT64_MAX, .log_end = 1ull << 40},
                            .cluster_id = CLUSTER,
                            .address = "10.0.0.1:9294"};
    struct raft_hello out;
    uint8_t bytes[RAFT_HELLO_MAX + 8] = {0};
    size_t size = raft_hello_encode(&in, bytes);
    check_ok(raft_hello_decode(bytes, size, &out));
    check_int(out.raft_id, in.raft_id);
    check_int(memcmp(&out.life, &in.life, sizeof(in.life)), 0);
    check_str(out.cluster_id, in.cluster_id);
    check_str(out.address, in.address);
    for (size_t n = 0; n < size; n++) {
        check_code(raft_hello_decode(bytes, n, &out), TSR_EPROTO);
    }
    check_code(raft_hello_decode(bytes, size + 1, &out), TSR_EPROTO); /* bytes after it */
    bytes[44] = 0; /* a 0 byte in the cluster id */
    check_code(raft_hello_decode(bytes, size, &out), TSR_EPROTO);
}

static void a_refusal_comes_back_and_nothing_else_is_taken_for_one(void **state)
{
    (void)state;
    uint8_t bytes[RAFT_REFUSED_SIZE];
    int code = 0;
    raft_refused_encode(TSR_EEXIST, bytes);
    check_ok(raft_refused_decode(bytes, &code));
    check_int(code, TSR_EEXIST);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] ^= 0x40;
        bool read = raft_refused_decode(bytes, &code) == 0;
        check(!read || (i == RAFT_FRAME_HEADER && code != TSR_EEXIST)); /* only another code */
        bytes[i] ^= 0x40;
    }
    memset(bytes + RAFT_FRAME_HEADER, 0, 4);
    check_code(raft_refused_decode(bytes, &code), TSR_EPROTO);
}

static void raft_frames_keep_to_their_limits(void **state)
{
    (void)state;
    uint8_t bytes[RAFT_FRAME_HEADER];
    enum raft_frame_kind kind;
    size_t size;
    raft_frame_encode(RAFT_FRAME_MESSAGE, RAFT_FRAME_MAX, bytes);
    check_ok(raft_frame_decode(bytes, RAFT_FRAME_MAX, &kind, &size));
    check_int(size, RAFT_FRAME_MAX);
    check_code(raft_frame_decode(bytes, RAFT_HELLO_MAX, &kind, &size), TSR_EPROTO);
    bytes[4] = 1;
    check_code(raft_frame_decode(bytes, RAFT_FRAME_MAX, &kind, &size), TSR_EPROTO);
    raft_frame_encode(RAFT_FRAME_HELLO, 8, bytes);
    bytes[1] = 3;
    check_code(raft_frame_decode(bytes, RAFT_FRAME_MAX, &kind, &size), TSR_EPROTO);
    bytes[1] = 1;
    bytes[2] = 1;
    check_code(raft_frame_decode(bytes, RAFT_FRAME_MAX, &kind, &size), TSR_EPROTO);
    bytes[2] = 0;
    bytes[0] = 2;
    check_code(raft_frame_decode(bytes, RAFT_FRAME_MAX, &kind, &size), TSR_EPROTO);
}

static void only_the_one_spelling_of_a_name_is_accepted(void **state)
{
    (void)state;
    char name[128];
    uint64_t id = 0;
    peer_cert_name(42, CLUSTER, name);
    check_str(name, "host-42." CLUSTER);
    check(peer_cert_parse(name, CLUSTER, &id));
    check_int(id, 42);
    id = 7;
    check(!peer_cert_parse(NULL, CLUSTER, &id));
    check(!peer_cert_parse("", CLUSTER, &id));
    check(!peer_cert_parse("host-042." CLUSTER, CLUSTER, &id));
    check(!peer_cert_parse("host-0." CLUSTER, CLUSTER, &id));
    check(!peer_cert_parse("host-+4." CLUSTER, CLUSTER, &id));
    check(!peer_cert_parse("host-." CLUSTER, CLUSTER, &id));
    check(!peer_cert_parse("host-42", CLUSTER, &id));
    check(!peer_cert_parse("host-42.other", CLUSTER, &id));
    check(!peer_cert_parse("host-42." CLUSTER "x", CLUSTER, &id));
    check(!peer_cert_parse("HOST-42." CLUSTER, CLUSTER, &id));
    check(!peer_cert_parse("host-18446744073709551616." CLUSTER, CLUSTER, &id));
    check_int(id, 7);
    check(peer_cert_parse("host-18446744073709551615." CLUSTER, CLUSTER, &id));
    check(id == UINT64_MAX);
}

TEST_MAIN(cmocka_unit_test(a_header_comes_back_as_it_went),
          cmocka_unit_test(the_bytes_are_those_of_the_format_page),
          cmocka_unit_test(a_bad_header_is_refused), cmocka_unit_test(a_stream_may_be_cut_anywhere),
          cmocka_unit_test(a_payload_without_a_place_is_skipped),
          cmocka_unit_test(garbage_is_refused_at_its_first_byte),
          cmocka_unit_test(random_bytes_never_break_a_decoder),
          cmocka_unit_test(a_hello_comes_back_and_its_bad_forms_are_refused),
          cmocka_unit_test(a_refusal_comes_back_and_nothing_else_is_taken_for_one),
          cmocka_unit_test(raft_frames_keep_to_their_limits),
          cmocka_unit_test(only_the_one_spelling_of_a_name_is_accepted))
