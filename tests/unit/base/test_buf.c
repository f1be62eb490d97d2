#include "test.h"

#include <stdlib.h>

#include "tessera/base/buf.h"

static void appends_keep_a_zero_byte_behind_the_data(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 1000; i++) {
        check_ok(buf_printf(&b, "%d,", i % 10));
    }
    check_int(b.size, 2000);
    check_int(strlen(b.data), 2000);
    buf_consume(&b, 1996);
    check_str(b.data, "8,9,");
    check_ok(buf_append_str(&b, "end"));
    size_t size;
    char *text = buf_detach(&b, &size);
    check_str(text, "8,9,end");
    check_int(size, 7);
    check_int(b.size, 0);
    free(text);
    text = buf_detach(&b, &size);
    check_str(text, "");
    free(text);
    check_ok(buf_printf(&b, "%s", ""));
    check_str(b.data, "");
    buf_free(&b);
}

static void too_much_memory_is_refused_and_remembered(void **state)
{
    (void)state;
    struct buf b = {0};
    check_ok(buf_append_str(&b, "kept"));
    check_code(buf_reserve(&b, SIZE_MAX - 1), TSR_ENOMEM);
    check(b.failed);
    check_str(b.data, "kept");
    buf_clear(&b);
    check(!b.failed);
    buf_free(&b);
}

static void numbers_come_back_as_written(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_u8(&b, 0xfe);
    buf_put_u16(&b, 0x1234);
    buf_put_u32(&b, 0x89abcdef);
    buf_put_u64(&b, 0x0123456789abcdef);
    buf_put_blob(&b, "blob", 4);
    check(!b.failed);
    check_int((uint8_t)b.data[1], 0x34); /* little-endian */
    struct reader r = reader_of(b.data, b.size);
    check_int(read_u8(&r), 0xfe);
    check_int(read_u16(&r), 0x1234);
    check_int(read_u32(&r), 0x89abcdef);
    check_int(read_u64(&r), 0x0123456789abcdef);
    size_t size;
    const void *blob = read_blob(&r, &size);
    check_int(size, 4);
    check_mem(blob, "blob", 4);
    check_int(reader_left(&r), 0);
    check(!r.failed);
    buf_free(&b);
}

static void every_cut_is_noticed_by_the_reader(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_u64(&b, 7);
    buf_put_blob(&b, "data", 4);
    for (size_t cut = 0; cut < b.size; cut++) {
        struct reader r = reader_of(b.data, cut);
        size_t size;
        (void)read_u64(&r);
        const void *blob = read_blob(&r, &size);
        check(r.failed);
        check(blob == NULL && size == 0);
        check_int(read_u8(&r), 0);
        check_int(reader_left(&r), 0);
    }
    uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 1};
    struct reader r = reader_of(huge, sizeof(huge));
    size_t size;
    check(read_blob(&r, &size) == NULL && r.failed);
    buf_free(&b);
}

TEST_MAIN(cmocka_unit_test(appends_keep_a_zero_byte_behind_the_data),
          cmocka_unit_test(too_much_memory_is_refused_and_remembered),
          cmocka_unit_test(numbers_come_back_as_written),
          cmocka_unit_test(every_cut_is_noticed_by_the_reader))
