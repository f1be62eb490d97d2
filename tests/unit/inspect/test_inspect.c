/* Inspection of image data: real images made by qemu-img, and hand-made hostile ones. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "tessera/base/digest.h"
#include "tessera/base/json.h"
#include "tessera/inspect.h"

struct bytes {
    uint8_t *data;
    size_t size;
};

static struct bytes zeros(size_t size)
{
    struct bytes b = {calloc(1, size + 1), size};
    check(b.data != NULL);
    return b;
}

static void put(struct bytes b, size_t at, const void *data, size_t size)
{
    check(at + size <= b.size);
    memcpy(b.data + at, data, size);
}

static void put_be(struct bytes b, size_t at, uint64_t v, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        b.data[at + i] = (uint8_t)(v >> 8 * (size - 1 - i));
    }
}

static void put_le(struct bytes b, size_t at, uint64_t v, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        b.data[at + i] = (uint8_t)(v >> 8 * i);
    }
}

/* Runs the data through in pieces of @piece bytes. */
static int run(const char *format, const char *container, struct bytes b, size_t piece,
               int64_t *virtual_size, struct err *err)
{
    struct inspect *i = inspect_new(format, container);
    check(i != NULL);
    int rv = 0;
    *virtual_size = -1;
    for (size_t at = 0; at < b.size && rv == 0; at += piece) {
        rv = inspect_write(i, b.data + at, b.size - at < piece ? b.size - at : piece, err);
    }
    if (rv == 0) {
        rv = inspect_finish(i, b.size, virtual_size, err);
    }
    inspect_free(i);
    return rv;
}

/* As a reader that leaves out what is not wanted. */
static int run_jumping(const char *format, struct bytes b, int64_t *virtual_size, struct err *err)
{
    struct inspect *i = inspect_new(format, "bare");
    check(i != NULL);
    int rv = 0;
    uint64_t at;
    *virtual_size = -1;
    while (rv == 0 && (at = inspect_wants(i, b.size)) < b.size) {
        inspect_skip(i, at);
        rv = inspect_write(i, b.data + at, b.size - at < 1000 ? b.size - at : 1000, err);
    }
    if (rv == 0) {
        rv = inspect_finish(i, b.size, virtual_size, err);
    }
    inspect_free(i);
    return rv;
}

/* The answer must not depend on how the stream is cut. */
static void expect(const char *format, struct bytes b, int want, int64_t want_size,
                   const char *message)
{
    static const size_t pieces[] = {1 << 20, 65536, 4096, 511, 512, 513, 7, 1};
    for (size_t p = 0; p < array_len(pieces); p++) {
        struct err err = {0};
        int64_t size;
        int rv = run(format, "bare", b, pieces[p], &size, &err);
        if (rv != want) {
            print_error("%s in pieces of %zu: %s\n", format, pieces[p], err.msg);
        }
        check_code(rv, want);
        if (rv == 0) {
            check_int(size, want_size);
        } else if (message != NULL) {
            check(strncmp(err.msg, message, strlen(message)) == 0);
        }
    }
    struct err err = {0};
    int64_t size;
    check_code(run_jumping(format, b, &size, &err), want);
    check(want != 0 || size == want_size);
}

static const char unsafe[] = "Image failed safety checks";

static struct bytes qcow2(unsigned version, uint64_t backing, uint64_t features)
{
    struct bytes b = zeros(70000);
    put(b, 0, "QFI\xfb", 4);
    put_be(b, 4, version, 4);
    put_be(b, 8, backing, 8);
    put_be(b, 24, 1 << 20, 8);
    put_be(b, 72, features, 8);
    return b;
}

static void qcow2_that_names_other_files_is_refused_whatever_was_declared(void **state)
{
    (void)state;
    struct bytes good = qcow2(3, 0, 0x1 | 0x2 | 0x8 | 0x10);
    expect("qcow2", good, 0, 1 << 20, NULL);
    expect("raw", good, 0, 70000, NULL);
    expect("vmdk", good, TSR_EMEDIA, 0, "Image disk_format vmdk does not match stream data qcow2");
    expect("iso", good, TSR_EMEDIA, 0, "Image disk_format iso does not match stream data qcow2");
    expect("ami", good, TSR_EMEDIA, 0, NULL);
    free(good.data);
    const struct bytes bad[] = {qcow2(3, 512, 0), qcow2(2, 512, 0),        qcow2(3, 0, 4),
                                qcow2(3, 0, 32),  qcow2(3, 0, 1ull << 63), qcow2(4, 0, 0),
                                qcow2(1, 0, 0)};
    for (size_t i = 0; i < array_len(bad); i++) {
        expect("qcow2", bad[i], TSR_EMEDIA, 0, unsafe);
        expect("raw", bad[i], TSR_EMEDIA, 0, unsafe);
        free(bad[i].data);
    }
}

static void short_and_empty_data(void **state)
{
    (void)state;
    struct bytes b = zeros(8);
    put(b, 0, "QFI\xfb\0\0\0\x03", 8);
    expect("raw", b, 0, 8, NULL);
    expect("qcow2", b, TSR_EMEDIA, 0, "Image disk_format qcow2 does not match stream data raw");
    expect("iso", b, TSR_EMEDIA, 0, NULL);
    expect("ami", b, 0, -1, NULL);
    b.size = 0;
    expect("raw", b, 0, -1, NULL);
    expect("qcow2", b, 0, -1, NULL);
    free(b.data);
}

static void other_containers_are_not_inspected(void **state)
{
    (void)state;
    struct bytes b = qcow2(3, 512, 4);
    struct err err = {0};
    int64_t size = 0;
    check_ok(run("vmdk", "ova", b, 4096, &size, &err));
    check_int(size, -1);
    free(b.data);
}

static void raw_data_with_a_boot_sector_is_fine(void **state)
{
    (void)state;
    struct bytes b = zeros(100000);
    b.data[510] = 0x55;
    b.data[511] = 0xaa;
    b.data[446] = 0x7f; /* a boot flag that is none */
    expect("raw", b, 0, 100000, NULL);
    expect("ami", b, TSR_EMEDIA, 0, "Image disk_format ami does not match stream data gpt");
    expect("qcow2", b, TSR_EMEDIA, 0, NULL);
    free(b.data);
}

static struct bytes iso(bool mbr)
{
    struct bytes b = zeros(60000);
    b.data[32768] = 1;
    put(b, 32769, "CD001", 5);
    put_le(b, 32768 + 80, 300, 4);
    put_le(b, 32768 + 128, 2048, 2);
    if (mbr) {
        put(b, 510, "\x55\xaa", 2);
    }
    return b;
}

static void iso_images_with_and_without_partition_table(void **state)
{
    (void)state;
    for (int mbr = 0; mbr < 2; mbr++) {
        struct bytes b = iso(mbr == 1);
        expect("iso", b, 0, 300 * 2048, NULL);
        expect("raw", b, 0, 60000, NULL);
        expect("qcow2", b, TSR_EMEDIA, 0, NULL);
        expect("ari", b, TSR_EMEDIA, 0, NULL);
        b.data[32768] = 2;
        expect("iso", b, 0, -1, NULL);
        free(b.data);
    }
}

static void data_of_two_formats_is_refused(void **state)
{
    (void)state;
    struct bytes b = iso(false);
    put(b, 0, "QFI\xfb\0\0\0\x03", 8);
    expect("iso", b, TSR_EMEDIA, 0, NULL);
    expect("raw", b, TSR_EMEDIA, 0, NULL);
    expect("qcow2", b, TSR_EMEDIA, 0, NULL);
    free(b.data);
    b = qcow2(3, 0, 0);
    put(b, 510, "\x55\xaa", 2);
    expect("qcow2", b, TSR_EMEDIA, 0, NULL);
    free(b.data);
}

static void qed_and_bare_vmdk_descriptors_are_always_refused(void **state)
{
    (void)state;
    struct bytes b = zeros(1024);
    put(b, 0, "QED\0", 4);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
    b = zeros(100);
    put(b, 0, "# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\n", 50);
    expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
}

static struct bytes vmdk(const char *descriptor, uint64_t sectors)
{
    struct bytes b = zeros(40000);
    put(b, 0, "KDMV", 4);
    put_le(b, 4, 1, 4);
    put_le(b, 12, 2048, 8);
    put_le(b, 28, 1, 8);
    put_le(b, 36, sectors, 8);
    put_le(b, 56, 21, 8);
    put(b, 512, descriptor, strlen(descriptor));
    return b;
}

static void vmdk_descriptors_are_read_line_by_line(void **state)
{
    (void)state;
    static const char good[] =
        "# Disk DescriptorFile\nversion=1\nCID=abc\nparentCID=ffffffff\n"
        "createType=\"monolithicSparse\"\n\n# Extent\nRW 2048 SPARSE \"a.vmdk\"\n"
        "ddb.adapterType = \"ide\"\n";
    struct bytes b = vmdk(good, 20);
    expect("vmdk", b, 0, 2048 * 512, NULL);
    expect("raw", b, 0, 40000, NULL);
    free(b.data);
    static const char *const bad[] = {
        "",
        "createType=\"monolithicSparse\"\n",
        "RW 2048 SPARSE \"a.vmdk\"\n",
        "createType=\"monolithicFlat\"\nRW 1 FLAT \"a\"\n",
        "createType=\"monolithicSparse\"\nRW 1 SPARSE \"/etc/passwd\"\n",
        "createType=\"monolithicSparse\"\nRW 1 SPARSE \"a\"\nnonsense here\n",
        "createType=\"monolithicSparse\"\nRW 1 SPARSE \"\xc3\xa9\"\n",
        "createType=\"monolithicSparse\"\nRW 1 SPARSE \"a\"\ncreateType=\"vmfs\"\n",
        "createType=\"monolithicSparse\"\nRW 1 SPARSE \"a\"\nparentFileNameHint=\"x\"\n",
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        b = vmdk(bad[i], 20);
        expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
        expect("raw", b, TSR_EMEDIA, 0, unsafe);
        free(b.data);
    }
}

static void vmdk_headers_with_wild_numbers_are_refused(void **state)
{
    (void)state;
    static const char good[] = "createType=\"streamOptimized\"\nRW 1 SPARSE \"a\"\n";
    static const struct {
        size_t at;
        uint64_t value;
    } wild[] = {{28, 2},          {28, 0},          {36, 0}, {36, 2049},
                {36, UINT64_MAX}, {12, UINT64_MAX}, {4, 9},  {36, 2048} /* more than there is */};
    for (size_t i = 0; i < array_len(wild); i++) {
        struct bytes b = vmdk(good, 20);
        put_le(b, wild[i].at, wild[i].value, wild[i].at == 4 ? 4 : 8);
        expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
        free(b.data);
    }
}

static void a_vmdk_footer_must_agree_with_the_header(void **state)
{
    (void)state;
    static const char good[] = "createType=\"streamOptimized\"\nRW 1 SPARSE \"a\"\n";
    struct bytes b = vmdk(good, 20);
    put_le(b, 56, UINT64_MAX, 8);
    expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
    size_t footer = b.size - 1536;
    put_le(b, footer, 1, 8);
    put_le(b, footer + 12, 3, 4);
    memcpy(b.data + footer + 512, b.data, 512);
    put_le(b, footer + 512 + 56, 30, 8);
    expect("vmdk", b, 0, 2048 * 512, NULL);
    put_le(b, footer + 512 + 56, UINT64_MAX, 8);
    expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
    put_le(b, footer + 512 + 56, 30, 8);
    put_le(b, footer + 512 + 12, 1, 8);
    expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
    put_le(b, footer + 512 + 12, 2048, 8);
    put_le(b, footer + 12, 2, 4);
    expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
}

static void vhdx_sum(struct bytes b)
{
    put_le(b, 196608 + 4, 0, 4);
    put_le(b, 196608 + 4, crc32c(0, b.data + 196608, 65536), 4);
}

static struct bytes vhdx(uint64_t region, uint64_t item)
{
    static const uint8_t metadata[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                         0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
    static const uint8_t size[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                     0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
    struct bytes b = zeros(1 << 20);
    put(b, 0, "vhdxfile", 8);
    put(b, 196608, "regi", 4);
    put_le(b, 196608 + 8, 1, 4);
    put(b, 196608 + 16, metadata, 16);
    put_le(b, 196608 + 32, region, 8);
    if (region < b.size - 65536 - 8) {
        put(b, region, "metadata", 8);
        put_le(b, region + 10, 1, 2);
        put(b, region + 32, size, 16);
        put_le(b, region + 48, item, 4);
    }
    if (region < b.size && item < b.size - region - 8) {
        put_le(b, region + item, 5u << 20, 8);
    }
    vhdx_sum(b);
    return b;
}

static void vhdx_tables_are_followed_forwards_only(void **state)
{
    (void)state;
    struct bytes b = vhdx(300000, 65536);
    expect("vhdx", b, 0, 5 << 20, NULL);
    expect("raw", b, 0, 1 << 20, NULL);
    free(b.data);
    static const uint64_t bad[][2] = {{1000, 65536},           {300000, 100},
                                      {200000, 65536},         {UINT64_MAX, 65536},
                                      {(1 << 20) - 10, 65536}, {300000, 0xffffffff}};
    for (size_t i = 0; i < array_len(bad); i++) {
        b = vhdx(bad[i][0], bad[i][1]);
        expect("vhdx", b, TSR_EMEDIA, 0, NULL);
        free(b.data);
    }
    b = vhdx(300000, 65536);
    put_le(b, 196608 + 8, UINT32_MAX, 4); /* a count beyond the table */
    memset(b.data + 196608 + 16, 0, 16);
    vhdx_sum(b);
    expect("vhdx", b, TSR_EMEDIA, 0, NULL);
    free(b.data);
    b = vhdx(300000, 65536);
    b.data[196608 + 4] ^= 1; /* others would take the second table */
    expect("vhdx", b, TSR_EMEDIA, 0, NULL);
    free(b.data);
}

static void differencing_disks_are_refused_whatever_was_declared(void **state)
{
    (void)state;
    static const uint8_t parent[16] = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                                       0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c};
    struct bytes b = vhdx(300000, 65536);
    put_le(b, 300000 + 10, 2, 2);
    put(b, 300000 + 64, parent, 16);
    expect("vhdx", b, TSR_EMEDIA, 0, unsafe);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
    b = zeros(2048);
    put(b, 0, "conectix", 8);
    put_be(b, 40, 1 << 20, 8);
    put_be(b, 60, 3, 4);
    expect("vhd", b, 0, 1 << 20, NULL);
    put_be(b, 60, 4, 4);
    expect("vhd", b, TSR_EMEDIA, 0, unsafe);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
    b = zeros(2048);
    put_le(b, 64, 0xbeda107f, 4);
    put_le(b, 76, 1, 4);
    put_le(b, 368, 1 << 20, 8);
    expect("vdi", b, 0, 1 << 20, NULL);
    b.data[440] = 7; /* the UUID of a parent */
    expect("vdi", b, TSR_EMEDIA, 0, unsafe);
    b.data[440] = 0;
    put_le(b, 76, 4, 4);
    expect("vdi", b, TSR_EMEDIA, 0, unsafe);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
}

/* QEMU reads beyond the end of a file as zeros, so a header that is all there counts. */
static void headers_that_end_before_their_sector_count(void **state)
{
    (void)state;
    struct bytes b = qcow2(2, 72, 0);
    b.size = 100;
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    b.data[15] = 0;
    put_be(b, 8, 0, 8);
    expect("raw", b, 0, 100, NULL);
    expect("qcow2", b, 0, 1 << 20, NULL);
    free(b.data);
    b = zeros(200);
    put(b, 0, "QED\0", 4);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
}

/* What QEMU's own probe takes for one, though its first line is not the usual one. */
static void vmdk_descriptors_are_found_as_qemu_finds_them(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "version=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"/x\"\n",
        "# a\n#b\n\n  \n\r\nversion=2\r\nRW 1 FLAT \"/x\"\n", "# Disk DescriptorFile\nversion=1\n"};
    for (size_t n = 0; n < array_len(texts); n++) {
        struct bytes b = zeros(strlen(texts[n]));
        put(b, 0, texts[n], b.size);
        expect("raw", b, TSR_EMEDIA, 0, unsafe);
        expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
        free(b.data);
    }
    static const char *const others[] = {"#!/bin/sh\necho version=1\n", "version=one\n",
                                         "# only a comment", " x\nversion=1\n"};
    for (size_t n = 0; n < array_len(others); n++) {
        struct bytes b = zeros(strlen(others[n]));
        put(b, 0, others[n], b.size);
        expect("raw", b, 0, (int64_t)b.size, NULL);
        free(b.data);
    }
    struct bytes b = zeros(4096);
    put(b, 0, "COWD", 4);
    expect("vmdk", b, TSR_EMEDIA, 0, unsafe);
    expect("raw", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
}

static void partition(struct bytes b, unsigned n, uint8_t boot, uint8_t type, uint32_t lba)
{
    size_t at = 446 + n * 16;
    b.data[at] = boot;
    put(b, at + 1, "\x00\x02\x00", 3);
    b.data[at + 4] = type;
    put_le(b, at + 8, lba, 4);
}

static void partition_tables_declared_gpt_are_checked(void **state)
{
    (void)state;
    struct bytes b = zeros(100000);
    expect("gpt", b, TSR_EMEDIA, 0, "Image disk_format gpt does not match stream data raw");
    put(b, 510, "\x55\xaa", 2);
    expect("gpt", b, TSR_EMEDIA, 0, unsafe);
    partition(b, 0, 0, 0xee, 1);
    expect("gpt", b, 0, 100000, NULL);
    partition(b, 1, 0, 0x83, 63);
    expect("gpt", b, TSR_EMEDIA, 0, unsafe);
    partition(b, 0, 0x80, 0x83, 63);
    expect("gpt", b, 0, 100000, NULL);
    b.data[446 + 16] = 0x7f;
    expect("gpt", b, TSR_EMEDIA, 0, unsafe);
    expect("raw", b, 0, 100000, NULL);
    memset(b.data + 446, 0, 64);
    partition(b, 0, 0, 0xee, 2);
    expect("gpt", b, TSR_EMEDIA, 0, unsafe);
    free(b.data);
}

static int run_strict(struct bytes b)
{
    struct err err = {0};
    int64_t size;
    struct inspect *i = inspect_new("raw", "bare");
    check(i != NULL);
    inspect_raw_strict(i);
    int rv = inspect_write(i, b.data, b.size, &err);
    rv = rv == 0 ? inspect_finish(i, b.size, &size, &err) : rv;
    inspect_free(i);
    return rv;
}

static void strictly_raw_data_is_in_no_other_format(void **state)
{
    (void)state;
    struct bytes b = qcow2(3, 0, 0);
    check_code(run_strict(b), TSR_EMEDIA);
    memset(b.data, 0, 100);
    check_ok(run_strict(b));
    put(b, 510, "\x55\xaa", 2);
    check_ok(run_strict(b));
    memcpy(b.data, "LUKS\xba\xbe", 6);
    b.data[510] = 0;
    check_ok(run_strict(b));
    memcpy(b.data, "WithouFreSpacExt", 16);
    check_code(run_strict(b), TSR_EMEDIA);
    free(b.data);
    b = iso(true);
    check_ok(run_strict(b));
    free(b.data);
}

static void random_bytes_behind_every_magic_do_no_harm(void **state)
{
    (void)state;
    static const struct {
        const char *magic;
        size_t size, at;
        const char *format;
    } heads[] = {{"QFI\xfb", 4, 0, "qcow2"},
                 {"KDMV", 4, 0, "vmdk"},
                 {"vhdxfile", 8, 0, "vhdx"},
                 {"conectix", 8, 0, "vhd"},
                 {"CD001", 5, 32769, "iso"}};
    uint32_t seed = 1;
    for (unsigned round = 0; round < 200; round++) {
        struct bytes b = zeros(270000);
        for (size_t i = 0; i < b.size; i++) {
            seed = seed * 1664525u + 1013904223u;
            b.data[i] = (uint8_t)(seed >> 24);
        }
        put(b, heads[round % 5].at, heads[round % 5].magic, heads[round % 5].size);
        put(b, 196608, "regi", 4);
        struct err err = {0};
        int64_t size;
        (void)run(heads[round % 5].format, "bare", b, 1 + seed % 100000, &size, &err);
        free(b.data);
    }
}

/* --- images by qemu-img
 * ------------------------------------------------------------------------------ */

static unsigned made_count;
static char made_path[512]; /* of the last one */

static struct bytes made(const char *format, const char *options)
{
    char name[64], command[1024];
    (void)snprintf(name, sizeof(name), "image-%u", made_count++);
    const char *path = made_path;
    (void)snprintf(made_path, sizeof(made_path), "%s", test_path(test_dir(), name));
    (void)snprintf(command, sizeof(command), "qemu-img create -q -f %s %s '%s' 5M >/dev/null 2>&1",
                   format, options, path);
    struct bytes b = {NULL, 0};
    /* On a busy machine qemu-img cannot time the key derivation of a LUKS image, and gives up. */
    int rv = system(command);
    for (unsigned tries = 1; rv != 0 && tries < 50 && strcmp(format, "luks") == 0; tries++) {
        rv = system(command);
    }
    if (rv != 0) {
        print_error("%s\n", command);
        fail();
    }
    FILE *f = fopen(path, "rb");
    check(f != NULL);
    check(fseek(f, 0, SEEK_END) == 0);
    b = zeros((size_t)ftell(f));
    rewind(f);
    check(fread(b.data, 1, b.size, f) == b.size);
    (void)fclose(f);
    return b;
}

/* {"format", "virtual-size"} as QEMU sees the image made last. */
static json_t *qemu_info(const char *tool)
{
    char command[1024];
    (void)snprintf(command, sizeof(command), "qemu-img info --output=json -f %s '%s'", tool,
                   made_path);
    FILE *f = popen(command, "r");
    check(f != NULL);
    json_t *info = json_loadf(f, 0, NULL);
    (void)pclose(f);
    check(info != NULL);
    return info;
}

static void images_made_by_qemu_img_are_what_qemu_says_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *tool, *options, *format;
    } kinds[] = {
        {"qcow2", "", "qcow2"},
        {"qcow2", "-o compat=0.10", "qcow2"},
        {"qcow2", "-o extended_l2=on", "qcow2"},
        {"qcow2", "-o compression_type=zstd", "qcow2"},
        {"qcow2", "-o cluster_size=512", "qcow2"},
        {"qcow2", "-o preallocation=metadata", "qcow2"},
        {"vmdk", "", "vmdk"},
        {"vmdk", "-o subformat=monolithicSparse,adapter_type=lsilogic,hwversion=10", "vmdk"},
        {"vmdk", "-o subformat=streamOptimized", "vmdk"},
        {"vdi", "", "vdi"},
        {"vdi", "-o static=on", "vdi"},
        {"vhdx", "", "vhdx"},
        {"vhdx", "-o subformat=fixed,block_size=1M", "vhdx"},
        {"vpc", "", "vhd"},
        {"vpc", "-o subformat=dynamic", "vhd"},
        {"vpc", "-o force_size=on", "vhd"},
        {"vpc", "-o subformat=fixed,force_size=on", "raw"},
        {"luks", "--object secret,id=s,data=12345678 -o key-secret=s,iter-time=10", "luks"},
        {"parallels", "", "ploop"},
        {"raw", "", "raw"}};
    static const char *const formats[] = {"qcow2", "vmdk", "vdi", "vhdx", "vhd", "iso", "gpt"};
    for (size_t k = 0; k < array_len(kinds); k++) {
        struct bytes b = made(kinds[k].tool, kinds[k].options);
        struct err err = {0};
        int64_t size;
        bool plain = strcmp(kinds[k].format, "raw") == 0 || strcmp(kinds[k].format, "luks") == 0 ||
                     strcmp(kinds[k].format, "ploop") == 0;
        json_t *info = plain ? NULL : qemu_info(kinds[k].tool);
        struct inspect *i = inspect_new("", "bare");
        check(i != NULL);
        check_ok(inspect_write(i, b.data, b.size, &err));
        check_ok(inspect_finish(i, b.size, &size, &err));
        check_str(inspect_found_name(i), kinds[k].format);
        inspect_free(i);
        if (!plain) {
            check_int(size, json_int(info, "virtual-size", -1));
            expect(kinds[k].format, b, 0, size, NULL);
        }
        json_decref(info);
        check_ok(run("raw", "bare", b, 65536, &size, &err));
        check_int(size, b.size);
        for (size_t f = 0; f < array_len(formats); f++) {
            if (strcmp(formats[f], kinds[k].format) != 0) {
                check_code(run(formats[f], "bare", b, 65536, &size, &err), TSR_EMEDIA);
            }
        }
        free(b.data);
    }
}

static void images_by_qemu_img_that_need_other_files_are_refused(void **state)
{
    (void)state;
    char data_file[512], backing[512];
    (void)snprintf(data_file, sizeof(data_file), "-o data_file='%s'",
                   test_path(test_dir(), "data"));
    (void)snprintf(backing, sizeof(backing), "-u -b '%s' -F raw", test_path(test_dir(), "below"));
    const struct {
        const char *tool, *options, *format;
    } kinds[] = {{"qcow2", data_file, "qcow2"},
                 {"qcow2", backing, "qcow2"},
                 {"vmdk", "-o subformat=monolithicFlat", "vmdk"},
                 {"vmdk", "-o subformat=twoGbMaxExtentFlat", "vmdk"},
                 {"vmdk", "-o subformat=twoGbMaxExtentSparse", "vmdk"},
                 {"qcow", "", "qcow2"},
                 {"qed", "", "raw"}};
    for (size_t k = 0; k < array_len(kinds); k++) {
        struct bytes b = made(kinds[k].tool, kinds[k].options);
        expect(kinds[k].format, b, TSR_EMEDIA, 0, unsafe);
        expect("raw", b, TSR_EMEDIA, 0, unsafe);
        expect("", b, TSR_EMEDIA, 0, unsafe);
        free(b.data);
    }
}

TEST_MAIN(cmocka_unit_test(qcow2_that_names_other_files_is_refused_whatever_was_declared),
          cmocka_unit_test(short_and_empty_data),
          cmocka_unit_test(other_containers_are_not_inspected),
          cmocka_unit_test(raw_data_with_a_boot_sector_is_fine),
          cmocka_unit_test(iso_images_with_and_without_partition_table),
          cmocka_unit_test(data_of_two_formats_is_refused),
          cmocka_unit_test(qed_and_bare_vmdk_descriptors_are_always_refused),
          cmocka_unit_test(vmdk_descriptors_are_read_line_by_line),
          cmocka_unit_test(vmdk_headers_with_wild_numbers_are_refused),
          cmocka_unit_test(a_vmdk_footer_must_agree_with_the_header),
          cmocka_unit_test(vhdx_tables_are_followed_forwards_only),
          cmocka_unit_test(differencing_disks_are_refused_whatever_was_declared),
          cmocka_unit_test(headers_that_end_before_their_sector_count),
          cmocka_unit_test(vmdk_descriptors_are_found_as_qemu_finds_them),
          cmocka_unit_test(partition_tables_declared_gpt_are_checked),
          cmocka_unit_test(strictly_raw_data_is_in_no_other_format),
          cmocka_unit_test(random_bytes_behind_every_magic_do_no_harm),
          cmocka_unit_test(images_made_by_qemu_img_are_what_qemu_says_they_are),
          cmocka_unit_test(images_by_qemu_img_that_need_other_files_are_refused))
