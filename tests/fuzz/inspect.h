/* Inspection of images. The image: where the bytes a5 5a a5 5a and a number (u16) stand, zeros
 * follow up to that sector. Given whole, in pieces of pseudo-random sizes, and to a reader that
 * jumps: verdict and virtual size are the same, and the memory stays bounded. What was accepted
 * holds nothing by which QEMU would open another file; that is written here a second time, from
 * QEMU's side. */
#ifndef TSR_TESTS_FUZZ_INSPECT_H
#define TSR_TESTS_FUZZ_INSPECT_H

#include "inspect/private.h"
#include "fuzz.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"

enum { SECTORS_MAX = 1024, VMDK_DESC_MAX = 20 * 512 };

struct inspect_case {
    const char *format, *container;
    bool strict, sum; /* raw is raw only; the checksum of a vhdx is made right */
};

struct verdict {
    int rc;
    int64_t virtual_size;
    char msg[ERR_MSG_SIZE];
};

static inline struct verdict inspect_run(const uint8_t *data, size_t size,
                                         const struct inspect_case *c, uint32_t seed)
{
    struct verdict v = {.virtual_size = -2};
    struct err err = {0};
    struct inspect *i = inspect_new(c->format, c->container);
    fuzz_check(i != NULL);
    if (c->strict) {
        inspect_raw_strict(i);
    }
    size_t at = 0;
    while (at < size && v.rc == 0) {
        size_t n = size - at;
        if (seed != 0) {
            uint32_t r = fuzz_random(&seed);
            size_t piece = at < 600 && r % 4 == 0 ? 1 : 1 + r % (r % 3 == 0 ? 700 : 40000);
            n = piece < n ? piece : n;
        }
        uint8_t *copy = fuzz_bytes((struct fuzz_in){data + at, n});
        v.rc = inspect_write(i, copy, n, &err);
        free(copy);
        at += n;
        fuzz_check(i->capture.size <= INSPECT_CAPTURE_MAX && i->head_size <= INSPECT_HEAD);
        fuzz_check(i->capture.have <= i->capture.size);
    }
    if (v.rc == 0) {
        v.rc = inspect_finish(i, size, &v.virtual_size, &err);
    }
    fuzz_check(v.rc == 0 || (v.rc == TSR_EMEDIA && err.msg[0] != 0));
    fuzz_check(v.rc != 0 || v.virtual_size >= -1);
    memcpy(v.msg, err.msg, sizeof v.msg);
    inspect_free(i);
    return v;
}

/* block/qcow2.c: backing file name, external data file. */
static inline void check_qcow2(const uint8_t *p, size_t size)
{
    if (size < INSPECT_SECTOR || memcmp(p, "QFI\xfb", 4) != 0) {
        return;
    }
    fuzz_check(inspect_be(p + 8, 8) == 0);
    fuzz_check(inspect_be(p + 4, 4) < 3 || (inspect_be(p + 72, 8) & 4) == 0);
}

/* block/vmdk.c: words are searched for in the 10 KiB behind the header up to a 0 byte, whatever the
 * descriptor's size is said to be, comments included; without a capacity it opens the extents. */
static inline void check_vmdk(const uint8_t *p, size_t size)
{
    if (size < INSPECT_SECTOR || memcmp(p, "KDMV", 4) != 0) {
        return;
    }
    char text[VMDK_DESC_MAX + 1] = "";
    size_t n = size - INSPECT_SECTOR < VMDK_DESC_MAX ? size - INSPECT_SECTOR : VMDK_DESC_MAX;
    memcpy(text, p + INSPECT_SECTOR, n);
    fuzz_check(strstr(text, "parentFileNameHint") == NULL);
    const char *type = strstr(text, "createType");
    fuzz_check(type != NULL && strstr(type + 1, "createType") == NULL);
    fuzz_check(inspect_le(p + 12, 8) != 0);
}

/* *size_out bytes; free() them. */
static inline uint8_t *make_image(struct fuzz_in in, size_t *size_out)
{
    size_t n = 0;
    uint8_t *image = calloc(1, in.size + SECTORS_MAX * INSPECT_SECTOR);
    fuzz_check(image != NULL);
    while (in.size > 0) {
        if (in.size >= 6 && memcmp(in.data, "\xa5\x5a\xa5\x5a", 4) == 0) {
            (void)fuzz_uint(&in, 4);
            size_t to = (size_t)(fuzz_uint(&in, 2) % SECTORS_MAX) * INSPECT_SECTOR;
            n = to > n ? to : n;
        } else {
            image[n++] = fuzz_u8(&in);
        }
    }
    *size_out = n;
    return image;
}

/* As a reader that leaves out what is not wanted. */
static inline int inspect_run_jumping(const uint8_t *data, size_t size,
                                      const struct inspect_case *c, int64_t *virtual_size)
{
    struct err err = {0};
    struct inspect *i = inspect_new(c->format, c->container);
    fuzz_check(i != NULL);
    if (c->strict) {
        inspect_raw_strict(i);
    }
    int rc = 0;
    uint64_t at;
    while (rc == 0 && (at = inspect_wants(i, size)) < size) {
        inspect_skip(i, at);
        rc = inspect_write(i, data + at, size - at < 777 ? size - at : 777, &err);
    }
    rc = rc == 0 ? inspect_finish(i, size, virtual_size, &err) : rc;
    inspect_free(i);
    return rc;
}

static inline void sum_vhdx(uint8_t *image, size_t size)
{
    enum { TABLE = 196608, BYTES = 65536 };
    if (size >= TABLE + BYTES) {
        memset(image + TABLE + 4, 0, 4);
        uint32_t sum = crc32c(0, image + TABLE, BYTES);
        memcpy(image + TABLE + 4, &sum, 4); /* little-endian, as all hosts are */
    }
}

static inline void inspect_fuzz(struct fuzz_in in, const struct inspect_case *c)
{
    size_t all;
    int64_t virtual_size = -2;
    uint8_t *image = make_image(in, &all);
    if (c->sum) {
        sum_vhdx(image, all);
    }
    struct verdict whole = inspect_run(image, all, c, 0);
    for (uint32_t seed = 1; seed <= 2; seed++) {
        struct verdict cut = inspect_run(image, all, c, seed * 77 + (uint32_t)in.size);
        fuzz_check(cut.rc == whole.rc && cut.virtual_size == whole.virtual_size);
        fuzz_check(strcmp(cut.msg, whole.msg) == 0);
    }
    fuzz_check(inspect_run_jumping(image, all, c, &virtual_size) == whole.rc);
    fuzz_check(whole.rc != 0 || virtual_size == whole.virtual_size);
    if (whole.rc == 0 && strcmp(c->container, "bare") == 0) {
        check_qcow2(image, all);
        check_vmdk(image, all);
    }
    free(image);
}

/* A bare image that is declared as one of @formats. The first byte says as which (low four bits),
 * how strictly (16), and for a vhdx whether its checksum stays as it is (32). */
static inline void inspect_fuzz_declared(const uint8_t *data, size_t size,
                                         const char *const *formats, size_t count)
{
    struct fuzz_in in = {data, size};
    uint8_t how = fuzz_u8(&in);
    struct inspect_case c = {.container = "bare", .format = formats[(how & 15) % count]};
    c.strict = (how & 16) != 0;
    c.sum = (how & 32) == 0 && strcmp(formats[0], "vhdx") == 0;
    inspect_fuzz(in, &c);
}

#endif
