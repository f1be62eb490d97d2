/* Streams packed by the three libraries themselves, unpacked in pieces of every size; damaged and
 * short ones. */
#include "test.h"

#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "tessera/sys/unpack.h"

enum { SIZE = 300000, ROOM = SIZE * 2 };

struct bytes {
    uint8_t data[ROOM];
    size_t size;
};

static uint8_t plain[SIZE];

static void fill(void)
{
    uint32_t seed = 7;
    for (size_t i = 0; i < SIZE; i++) {
        seed = seed * 1664525u + 1013904223u;
        plain[i] = (i / 1000) % 3 == 0 ? 0 : (uint8_t)(seed >> 24);
    }
}

static void pack(enum unpack_kind kind, const uint8_t *data, size_t size, struct bytes *out)
{
    size_t at = 0;
    if (kind == UNPACK_GZIP) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)size};
        check(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        z.next_out = out->data + out->size;
        z.avail_out = (uInt)(ROOM - out->size);
        check(deflate(&z, Z_FINISH) == Z_STREAM_END);
        out->size = ROOM - z.avail_out;
        (void)deflateEnd(&z);
    } else if (kind == UNPACK_XZ) {
        at = out->size;
        check(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, data, size, out->data, &at,
                                      ROOM) == LZMA_OK);
        out->size = at;
    } else {
        at = ZSTD_compress(out->data + out->size, ROOM - out->size, data, size, 3);
        check(!ZSTD_isError(at));
        out->size += at;
    }
}

/* Everything in steps of @in_max and @out_max bytes. */
static int unpack_all(enum unpack_kind kind, const struct bytes *packed, size_t in_max,
                      size_t out_max, struct bytes *out, bool *ended)
{
    struct unpack *u = NULL;
    uint8_t *step = malloc(out_max);
    check_ok(unpack_new(kind, &u));
    int rv = 0;
    size_t at = 0;
    out->size = 0;
    while (rv == 0) {
        size_t left = packed->size - at < in_max ? packed->size - at : in_max, given = left;
        const void *in = packed->data + at;
        size_t made = out_max;
        rv = unpack_step(u, &in, &left, step, &made);
        check(made <= out_max && left <= given);
        at += given - left;
        if (rv == 0 && made == 0 && left == given) {
            break;
        }
        check(out->size + made <= ROOM);
        memcpy(out->data + out->size, step, made);
        out->size += made;
    }
    *ended = unpack_ended(u) && at == packed->size;
    unpack_free(u);
    free(step);
    return rv;
}

static const enum unpack_kind kinds[] = {UNPACK_GZIP, UNPACK_XZ, UNPACK_ZSTD};
static struct bytes packed, out;

static void what_was_packed_comes_out_in_steps_of_any_size(void **state)
{
    (void)state;
    static const size_t steps[][2] = {{SIZE, SIZE * 2}, {1000, 70000}, {1, 4096}, {65536, 100}};
    bool ended;
    fill();
    for (size_t k = 0; k < array_len(kinds); k++) {
        packed.size = 0;
        pack(kinds[k], plain, SIZE, &packed);
        check_int(unpack_detect(packed.data, UNPACK_HEAD), kinds[k]);
        for (size_t s = 0; s < array_len(steps); s++) {
            check_ok(unpack_all(kinds[k], &packed, steps[s][0], steps[s][1], &out, &ended));
            check(ended);
            check_int(out.size, SIZE);
            check(memcmp(out.data, plain, SIZE) == 0);
        }
    }
    check_int(unpack_detect("", 0), UNPACK_NONE);
    check_int(unpack_detect("QFI\xfb\0\0", 6), UNPACK_NONE);
    check_int(unpack_detect("\x1f\x8b", 2), UNPACK_NONE);
}

static void several_streams_behind_one_another_are_one(void **state)
{
    (void)state;
    bool ended;
    for (size_t k = 0; k < array_len(kinds); k++) {
        packed.size = 0;
        pack(kinds[k], plain, 100000, &packed);
        pack(kinds[k], plain + 100000, 100000, &packed);
        check_ok(unpack_all(kinds[k], &packed, 777, 5000, &out, &ended));
        check(ended && out.size == 200000 && memcmp(out.data, plain, out.size) == 0);
    }
}

static void short_and_damaged_streams_never_look_whole(void **state)
{
    (void)state;
    bool ended;
    for (size_t k = 0; k < array_len(kinds); k++) {
        packed.size = 0;
        pack(kinds[k], plain, 50000, &packed);
        size_t whole = packed.size;
        for (size_t cut = 0; cut < whole; cut += 1 + cut / 9) {
            packed.size = cut;
            int rv = unpack_all(kinds[k], &packed, 4096, 70000, &out, &ended);
            check(rv != 0 || !ended || cut == 0);
        }
        packed.size = whole;
        for (size_t n = 0; n < 60; n++) {
            size_t at = UNPACK_HEAD + n * (whole - UNPACK_HEAD) / 61;
            packed.data[at] ^= 0x20;
            int rv = unpack_all(kinds[k], &packed, 4096, 70000, &out, &ended);
            bool same = out.size == 50000 && memcmp(out.data, plain, out.size) == 0;
            /* zstd frames of ZSTD_compress have no checksum; damage may stay unseen there */
            check(rv != 0 || !ended || same || kinds[k] == UNPACK_ZSTD);
            packed.data[at] ^= 0x20;
        }
        packed.data[packed.size] = 'x'; /* something else behind it */
        packed.size++;
        int rv = unpack_all(kinds[k], &packed, 4096, 70000, &out, &ended);
        check(rv != 0 || !ended);
    }
}

TEST_MAIN(cmocka_unit_test(what_was_packed_comes_out_in_steps_of_any_size),
          cmocka_unit_test(several_streams_behind_one_another_are_one),
          cmocka_unit_test(short_and_damaged_streams_never_look_whole))
