/* Streaming inspection of uploads: does the data match the declared format, and is it safe?
 *
 * Happy path: the first sector tells the formats that have their magic there, the 34th KiB the ISO
 * ones; vmdk and vhdx capture one more window at a time. After that a piece costs an addition.
 * Refusals come as soon as they are certain. Partition tables are only told apart from other
 * formats: the checks that others make of them (boot flags, protective entries) refuse real disks
 * and protect nothing. */
#include "inspect/private.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

struct inspect *inspect_new(const char *disk_format, const char *container_format)
{
    struct inspect *i = calloc(1, sizeof(*i));
    if (i == NULL) {
        return NULL;
    }
    i->on = container_format != NULL && strcmp(container_format, "bare") == 0;
    i->virtual_size = -1;
    (void)str_copy(i->declared, sizeof(i->declared), disk_format != NULL ? disk_format : "");
    if (i->on) {
        i->head = malloc(INSPECT_HEAD);
        if (i->head == NULL) {
            free(i);
            return NULL;
        }
    }
    return i;
}

void inspect_free(struct inspect *i)
{
    if (i != NULL) {
        free(i->capture.data);
        free(i->head);
        free(i);
    }
}

void inspect_raw_strict(struct inspect *i)
{
    i->raw_strict = true;
}

int inspect_unsafe(struct err *err, const char *why)
{
    return err_set(err, TSR_EMEDIA, "Image failed safety checks: %s", why);
}

/* --- what was found ------------------------------------------------------------------------------
 */

static const char *const format_names[INSPECT_FORMAT_COUNT] = {
    [INSPECT_RAW] = "raw",   [INSPECT_QCOW2] = "qcow2",    [INSPECT_QED] = "qed",
    [INSPECT_VMDK] = "vmdk", [INSPECT_VMDK_TEXT] = "vmdk", [INSPECT_VMDK_COWD] = "vmdk",
    [INSPECT_VHD] = "vhd",   [INSPECT_VHDX] = "vhdx",      [INSPECT_VDI] = "vdi",
    [INSPECT_LUKS] = "luks", [INSPECT_PLOOP] = "ploop",    [INSPECT_ISO] = "iso",
    [INSPECT_MBR] = "gpt",
};

/* The one format of the data; an ISO image may carry a partition table besides. */
static enum inspect_format found_format(const struct inspect *i)
{
    enum inspect_format found = INSPECT_RAW;
    for (unsigned f = INSPECT_QCOW2; f < INSPECT_FORMAT_COUNT; f++) {
        if (inspect_found(i, f) && !(f == INSPECT_MBR && found == INSPECT_ISO)) {
            found = f;
        }
    }
    return found;
}

static bool found_several(const struct inspect *i)
{
    unsigned bits = i->found;
    if (inspect_found(i, INSPECT_ISO)) {
        bits &= ~(1u << INSPECT_MBR);
    }
    return (bits & (bits - 1)) != 0;
}

const char *inspect_found_name(const struct inspect *i)
{
    return format_names[found_format(i)];
}

static int mismatch(const struct inspect *i, const char *found, struct err *err)
{
    if (i->declared[0] == 0) {
        return inspect_unsafe(err, "the data is in several formats at once");
    }
    return err_set(err, TSR_EMEDIA, "Image disk_format %s does not match stream data %s",
                   i->declared, found);
}

static bool declared_is(const struct inspect *i, const char *format)
{
    return strcmp(i->declared, format) == 0;
}

/* Formats whose magic is in the first sector. */
static bool declared_in_sector(const struct inspect *i)
{
    return declared_is(i, "qcow2") || declared_is(i, "vmdk") || declared_is(i, "vhd") ||
           declared_is(i, "vhdx") || declared_is(i, "vdi") || declared_is(i, "gpt");
}

static bool declared_plain(const struct inspect *i)
{
    return declared_is(i, "ami") || declared_is(i, "ari") || declared_is(i, "aki") ||
           declared_is(i, "ploop");
}

/* What a raw disk may hold besides; nothing opens it as another kind of disk that grows or links.
 */
static bool raw_holds(enum inspect_format found)
{
    return found == INSPECT_RAW || found == INSPECT_MBR || found == INSPECT_ISO ||
           found == INSPECT_LUKS;
}

/* Is what was found so far the declared format? @all: everything has been looked at. */
static int check_declared(const struct inspect *i, bool all, struct err *err)
{
    if (found_several(i)) {
        return mismatch(i, "of several formats", err);
    }
    enum inspect_format found = found_format(i);
    bool same = strcmp(format_names[found], i->declared) == 0;
    if (declared_is(i, "raw") && i->raw_strict && !raw_holds(found)) {
        return mismatch(i, format_names[found], err);
    }
    if (same || declared_is(i, "raw") || i->declared[0] == 0) {
        return 0;
    }
    if (declared_plain(i)) {
        return found == INSPECT_RAW ? 0 : mismatch(i, format_names[found], err);
    }
    if (all || declared_in_sector(i)) {
        return mismatch(i, format_names[found], err);
    }
    return 0; /* iso: its descriptor is still to come */
}

/* --- the steps
 * ------------------------------------------------------------------------------------- */

static void found_add(struct inspect *i, enum inspect_format format, bool is)
{
    if (is) {
        i->found |= 1u << format;
    }
}

static bool magic(const struct inspect *i, size_t offset, const char *bytes, size_t size)
{
    return i->head_size >= offset + size && memcmp(i->head + offset, bytes, size) == 0;
}

/* What the first sector's magic numbers say. */
static void find_in_sector(struct inspect *i)
{
    found_add(i, INSPECT_QCOW2, magic(i, 0, "QFI\xfb", 4));
    found_add(i, INSPECT_QED, magic(i, 0, "QED\0", 4));
    found_add(i, INSPECT_VMDK, magic(i, 0, "KDMV", 4));
    found_add(i, INSPECT_VMDK_COWD, magic(i, 0, "COWD", 4));
    found_add(i, INSPECT_VHD, magic(i, 0, "conectix", 8));
    found_add(i, INSPECT_VHDX, magic(i, 0, "vhdxfile", 8));
    found_add(i, INSPECT_VDI, magic(i, 64, "\x7f\x10\xda\xbe", 4));
    found_add(i, INSPECT_LUKS, magic(i, 0, "LUKS\xba\xbe", 6));
    found_add(i, INSPECT_PLOOP,
              magic(i, 0, "WithoutFreeSpace", 16) || magic(i, 0, "WithouFreSpacExt", 16));
    found_add(i, INSPECT_MBR, inspect_mbr_found(i->head));
}

/* Of the one format that was found. */
static int check_sector(struct inspect *i, struct err *err)
{
    if (inspect_found(i, INSPECT_QED)) {
        return inspect_unsafe(err, "qed images are not accepted");
    }
    if (inspect_found(i, INSPECT_VMDK_TEXT)) {
        return inspect_unsafe(err, "a vmdk descriptor whose data is in other files");
    }
    if (inspect_found(i, INSPECT_VMDK_COWD)) {
        return inspect_unsafe(err, "vmdk subformats other than monolithicSparse and "
                                   "streamOptimized are not accepted");
    }
    if (inspect_found(i, INSPECT_QCOW2)) {
        return inspect_qcow2(i->head, &i->virtual_size, err);
    }
    if (inspect_found(i, INSPECT_VMDK)) {
        return inspect_vmdk_header(i, err);
    }
    if (inspect_found(i, INSPECT_VHD)) {
        return inspect_vhd(i->head, &i->virtual_size, err);
    }
    if (inspect_found(i, INSPECT_VDI)) {
        return inspect_vdi(i->head, &i->virtual_size, err);
    }
    return 0;
}

/* Looks at the first sector once it is whole, or when the data has ended. QEMU reads beyond the end
 * as zeros: a header that is all there counts, though its sector is not. */
static int step_sector(struct inspect *i, struct err *err)
{
    size_t size = i->head_size;
    i->sector_seen = true;
    found_add(i, INSPECT_VMDK_TEXT,
              inspect_vmdk_text_found(i->head, size < INSPECT_SECTOR ? size : INSPECT_SECTOR));
    if (size >= INSPECT_HEADER_MIN && size < INSPECT_SECTOR) {
        memset(i->head + size, 0, INSPECT_SECTOR - size);
    }
    if (size >= INSPECT_HEADER_MIN) {
        find_in_sector(i);
    }
    int rv = check_sector(i, err);
    if (rv == 0) {
        rv = check_declared(i, false, err);
    }
    if (rv == 0 && declared_is(i, "gpt")) {
        rv = inspect_mbr_check(i->head, err);
    }
    if (rv == 0 && inspect_found(i, INSPECT_VHDX)) {
        inspect_vhdx_start(i);
    }
    return rv;
}

static int step_head(struct inspect *i, struct err *err)
{
    i->head_seen = true;
    if (i->head_size == INSPECT_HEAD) {
        const uint8_t *descriptor = i->head + INSPECT_HEAD - 2048;
        if (inspect_iso_found(descriptor)) {
            found_add(i, INSPECT_ISO, true);
            if (declared_is(i, "iso") || i->declared[0] == 0) {
                i->virtual_size = inspect_iso_size(descriptor);
            }
        }
    }
    return check_declared(i, true, err);
}

static int step_capture(struct inspect *i, struct err *err)
{
    if (inspect_found(i, INSPECT_VMDK)) {
        int rv = inspect_vmdk_descriptor(i->capture.data, i->capture.have, err);
        free(i->capture.data);
        i->capture = (struct inspect_capture){0};
        return rv;
    }
    return inspect_vhdx_step(i, err);
}

static bool capturing(const struct inspect *i)
{
    return i->capture.data != NULL;
}

bool inspect_capture_start(struct inspect *i, uint64_t offset, size_t size)
{
    free(i->capture.data);
    i->capture = (struct inspect_capture){0};
    if (size == 0 || size > INSPECT_CAPTURE_MAX || offset > INT64_MAX) {
        return false;
    }
    struct inspect_capture c = {.offset = offset, .size = size};
    if (offset < i->at && i->at > i->head_size) {
        return false; /* those bytes have gone by */
    }
    c.data = malloc(size);
    if (c.data == NULL) {
        return false;
    }
    if (offset < i->head_size) {
        c.have = i->head_size - (size_t)offset;
        c.have = c.have < size ? c.have : size;
        memcpy(c.data, i->head + offset, c.have);
    }
    i->capture = c;
    return true;
}

/* --- the stream
 * ------------------------------------------------------------------------------------- */

static size_t until(size_t size, uint64_t at, uint64_t mark)
{
    return mark > at && mark - at < size ? (size_t)(mark - at) : size;
}

/* So many bytes can be taken before something has to be looked at. */
static size_t stretch(const struct inspect *i, size_t size)
{
    size = until(size, i->at, INSPECT_SECTOR);
    size = until(size, i->at, INSPECT_HEAD);
    if (capturing(i)) {
        size = until(size, i->at, i->capture.offset);
        size = until(size, i->at, i->capture.offset + i->capture.size);
    }
    return size;
}

static void keep_tail(struct inspect *i, const uint8_t *data, size_t size)
{
    if (size >= INSPECT_TAIL) {
        memcpy(i->tail, data + size - INSPECT_TAIL, INSPECT_TAIL);
        i->tail_size = INSPECT_TAIL;
        return;
    }
    size_t keep = i->tail_size < INSPECT_TAIL - size ? i->tail_size : INSPECT_TAIL - size;
    memmove(i->tail, i->tail + i->tail_size - keep, keep);
    memcpy(i->tail + keep, data, size);
    i->tail_size = keep + size;
}

static void take(struct inspect *i, const uint8_t *data, size_t size)
{
    if (i->head_size < INSPECT_HEAD) { /* then every byte so far is in it */
        memcpy(i->head + i->head_size, data, size);
        i->head_size += size;
    }
    struct inspect_capture *c = &i->capture;
    if (capturing(i) && i->at >= c->offset && c->have < c->size) {
        memcpy(c->data + c->have, data, size);
        c->have += size;
    }
    if (i->want_tail) {
        keep_tail(i, data, size);
    }
    i->at += size;
}

static int look(struct inspect *i, struct err *err)
{
    int rv = 0;
    if (!i->sector_seen && i->head_size >= INSPECT_SECTOR) {
        rv = step_sector(i, err);
    }
    if (rv == 0 && !i->head_seen && i->head_size >= INSPECT_HEAD) {
        rv = step_head(i, err);
    }
    while (rv == 0 && capturing(i) && i->capture.have == i->capture.size) {
        rv = step_capture(i, err);
    }
    i->ended = i->head_seen && !capturing(i) && !i->want_tail;
    return rv;
}

int inspect_write(struct inspect *i, const void *data, size_t size, struct err *err)
{
    const uint8_t *p = data;
    int rv = 0;
    while (size > 0 && i->on && !i->ended && rv == 0) {
        size_t n = stretch(i, size);
        take(i, p, n);
        rv = look(i, err);
        p += n;
        size -= n;
    }
    i->at += size;
    return rv;
}

int inspect_finish(struct inspect *i, uint64_t size, int64_t *virtual_size_out, struct err *err)
{
    int rv = 0;
    *virtual_size_out = -1;
    if (!i->on || size == 0) {
        return 0;
    }
    if (!i->sector_seen) {
        rv = step_sector(i, err);
    }
    if (rv == 0 && !i->head_seen) {
        rv = step_head(i, err);
    }
    if (rv == 0 && inspect_found(i, INSPECT_VMDK)) {
        if (capturing(i)) {
            rv = inspect_unsafe(err, "the data ends inside its vmdk descriptor");
        } else if (i->want_tail) {
            rv = inspect_vmdk_footer(i, err);
        }
    }
    if (rv != 0) {
        return rv;
    }
    bool plain =
        i->declared[0] == 0 && (found_format(i) == INSPECT_RAW || found_format(i) == INSPECT_MBR);
    if (declared_is(i, "raw") || declared_is(i, "gpt") || plain) {
        i->virtual_size = size <= INT64_MAX ? (int64_t)size : -1;
    } else if (declared_is(i, "vhdx") && i->virtual_size < 0) {
        return mismatch(i, "raw", err);
    }
    *virtual_size_out = i->virtual_size;
    return 0;
}

/* --- readers that jump
 * ------------------------------------------------------------------------------ */

uint64_t inspect_wants(const struct inspect *i, uint64_t size)
{
    if (!i->on || i->ended || i->at >= size) {
        return size;
    }
    if (!i->head_seen) {
        return i->at;
    }
    if (capturing(i)) {
        uint64_t at = i->at > i->capture.offset ? i->at : i->capture.offset;
        return at < size ? at : size;
    }
    uint64_t tail = size > INSPECT_TAIL ? size - INSPECT_TAIL : 0;
    return tail > i->at ? tail : i->at;
}

void inspect_skip(struct inspect *i, uint64_t to)
{
    if (to > i->at) {
        tsr_assert(!i->on || i->head_seen);
        i->at = to;
        i->tail_size = 0;
    }
}
