/* Inspection of uploads. Input: declared format, container, then the image: where the bytes
 * a5 5a a5 5a and a number (u16) stand, zeros follow up to that sector. Given whole and in pieces
 * of pseudo-random sizes: verdict and virtual size are the same, and the memory stays bounded. What
 * was accepted holds nothing by which QEMU would open another file; that is written here a second
 * time, from QEMU's side. */
#include "image/inspect.h"
#include "fuzz.h"

enum { SECTORS_MAX = 1024, VMDK_DESC_MAX = 20 * 512 };

static const char *const formats[] = {"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi",
                                      "iso", "ami",   "ari",  "aki", "ploop"};

struct verdict {
    int rc;
    int64_t virtual_size;
    char msg[ERR_MSG_SIZE];
};

static struct verdict run(const uint8_t *data, size_t size, const char *format,
                          const char *container, uint32_t seed)
{
    struct verdict v = {.virtual_size = -2};
    struct err err = {0};
    struct inspect *i = inspect_new(format, container);
    fuzz_check(i != NULL);
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
static void check_qcow2(const uint8_t *p, size_t size)
{
    if (size < INSPECT_SECTOR || memcmp(p, "QFI\xfb", 4) != 0) {
        return;
    }
    fuzz_check(inspect_be(p + 8, 8) == 0);
    fuzz_check(inspect_be(p + 4, 4) < 3 || (inspect_be(p + 72, 8) & 4) == 0);
}

/* block/vmdk.c: words are searched for in the 10 KiB behind the header up to a 0 byte, whatever the
 * descriptor's size is said to be, comments included; without a capacity it opens the extents. */
static void check_vmdk(const uint8_t *p, size_t size)
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
static uint8_t *make_image(struct fuzz_in in, size_t *size_out)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    const char *format = formats[fuzz_u8(&in) % (sizeof formats / sizeof *formats)];
    const char *container = fuzz_u8(&in) == 7 ? "ovf" : "bare";
    size_t all;
    uint8_t *image = make_image(in, &all);
    struct verdict whole = run(image, all, format, container, 0);
    for (uint32_t seed = 1; seed <= 2; seed++) {
        struct verdict cut = run(image, all, format, container, seed * 77 + (uint32_t)size);
        fuzz_check(cut.rc == whole.rc && cut.virtual_size == whole.virtual_size);
        fuzz_check(strcmp(cut.msg, whole.msg) == 0);
    }
    if (whole.rc == 0 && strcmp(container, "bare") == 0) {
        check_qcow2(image, all);
        check_vmdk(image, all);
    }
    free(image);
    return 0;
}
