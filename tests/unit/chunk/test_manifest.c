/* Manifests, the cutter, the table of stamps: the pure parts. */
#include <stdlib.h>

#include "chunk/stamps.h"
#include "test.h"
#include "tessera/chunk.h"

static struct manifest sample(struct chunk_id ids[3])
{
    memset(ids, 0, 3 * sizeof *ids);
    memset(ids[0].bytes, 1, 32);
    memset(ids[2].bytes, 3, 32);
    return (struct manifest){.chunk_bytes = 4096, .size = 2 * 4096 + 5, .count = 3, .chunks = ids};
}

static void a_manifest_survives_its_encoding(void **state)
{
    (void)state;
    struct chunk_id ids[3], name, again;
    struct manifest m = sample(ids), got;
    char *data, *data2;
    size_t size, size2;
    check_ok(manifest_encode(&m, &data, &size, &name));
    check_int(size, 32 + 3 * 32);
    check_ok(manifest_decode(data, size, &got));
    check_int(got.size, m.size);
    check_int(got.count, 3);
    check(chunk_id_is_zero(&got.chunks[1]));
    check_int(manifest_chunk_size(&got, 1), 4096);
    check_int(manifest_chunk_size(&got, 2), 5);
    check_ok(manifest_encode(&got, &data2, &size2, &again));
    check_mem(&name, &again, sizeof name);
    manifest_free(&got);
    free(data);
    free(data2);
}

static void every_damaged_byte_of_the_head_and_every_cut_is_refused(void **state)
{
    (void)state;
    struct chunk_id ids[3], name;
    struct manifest m = sample(ids), got;
    char *data;
    size_t size;
    check_ok(manifest_encode(&m, &data, &size, &name));
    for (size_t cut = 0; cut < size; cut++) {
        char *copy = malloc(cut + 1); /* exact, for the address sanitizer */
        memcpy(copy, data, cut);
        check_code(manifest_decode(copy, cut, &got), TSR_ECORRUPT);
        free(copy);
    }
    for (size_t at = 0; at < 32; at++) {
        if (at >= 16 && at < 18) {
            continue; /* the size may differ within its last chunk */
        }
        data[at] ^= 0x40;
        check_code(manifest_decode(data, size, &got), TSR_ECORRUPT);
        data[at] ^= 0x40;
    }
    free(data);
}

static void limits_are_kept_when_encoding(void **state)
{
    (void)state;
    struct chunk_id name;
    char *data;
    size_t size;
    struct manifest m = {.chunk_bytes = 4096, .size = 5000, .count = 1};
    check_code(manifest_encode(&m, &data, &size, &name), TSR_EINVAL);
    m = (struct manifest){.chunk_bytes = 1, .size = 1, .count = 1};
    check_code(manifest_encode(&m, &data, &size, &name), TSR_EINVAL);
    m = (struct manifest){.chunk_bytes = 4096, .size = 4096ull * 600000, .count = 600000};
    check_code(manifest_encode(&m, &data, &size, &name), TSR_ETOOBIG);
}

static void the_cutter_cuts_any_stream_into_equal_chunks(void **state)
{
    (void)state;
    for (size_t step = 1; step < 40; step++) {
        uint8_t in[1000], buffer[64], out[1000];
        struct cutter c;
        size_t out_size = 0;
        for (size_t i = 0; i < sizeof in; i++) {
            in[i] = (uint8_t)(i * 7);
        }
        cutter_init(&c, sizeof buffer);
        c.buffer = buffer;
        for (size_t at = 0; at < sizeof in;) {
            const uint8_t *p = in + at;
            size_t n = sizeof in - at < step ? sizeof in - at : step, given = n;
            if (cutter_feed(&c, &p, &n)) {
                memcpy(out + out_size, buffer, sizeof buffer);
                out_size += sizeof buffer;
                c.fill = 0;
            }
            at += given - n;
        }
        memcpy(out + out_size, buffer, c.fill);
        check_int(out_size + c.fill, sizeof in);
        check_int(c.total, sizeof in);
        check_mem(in, out, sizeof in);
    }
}

static void zeros_are_told_from_everything_else(void **state)
{
    (void)state;
    uint8_t data[4096] = {0};
    for (size_t size = 1; size < sizeof data; size = size * 3 / 2 + 1) {
        check(chunk_data_is_zero(data, size));
        for (size_t at = 0; at < size; at += size / 7 + 1) {
            data[at] = 1;
            check(!chunk_data_is_zero(data, size));
            data[at] = 0;
        }
        data[size - 1] = 128;
        check(!chunk_data_is_zero(data, size));
        data[size - 1] = 0;
    }
}

static void a_stamp_is_known_until_it_is_old_or_differs(void **state)
{
    (void)state;
    struct stamps s;
    struct chunk_id id = {{7}};
    uint64_t stamp[4] = {1, 2, 3, 4};
    check_ok(stamps_init(&s, 100, 12345));
    check(!stamps_has(&s, &id, stamp, 10, 1440));
    stamps_put(&s, &id, stamp, 10);
    check(stamps_has(&s, &id, stamp, 10, 1440));
    check(stamps_has(&s, &id, stamp, 1450, 1440));
    check(!stamps_has(&s, &id, stamp, 1451, 1440));
    for (unsigned i = 0; i < 4; i++) {
        stamp[i]++;
        check(!stamps_has(&s, &id, stamp, 10, 1440));
        stamp[i]--;
    }
    id.bytes[31] ^= 1;
    check(!stamps_has(&s, &id, stamp, 10, 1440));
    stamps_free(&s);
}

TEST_MAIN(cmocka_unit_test(a_manifest_survives_its_encoding),
          cmocka_unit_test(every_damaged_byte_of_the_head_and_every_cut_is_refused),
          cmocka_unit_test(limits_are_kept_when_encoding),
          cmocka_unit_test(the_cutter_cuts_any_stream_into_equal_chunks),
          cmocka_unit_test(zeros_are_told_from_everything_else),
          cmocka_unit_test(a_stamp_is_known_until_it_is_old_or_differs))
