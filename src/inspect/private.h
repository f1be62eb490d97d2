/* Inspection of image data, as its files share it: which bytes are kept, and what each format says.
 *
 * A stream is seen once. Kept are its first INSPECT_HEAD bytes, up to three captures further on
 * that a format asked for (always ahead of what was read), and, when asked for, its last 1536
 * bytes. A format's functions are pure: they look at kept bytes and never trust a length in them.
 */
#ifndef INSPECT_PRIVATE_H
#define INSPECT_PRIVATE_H

#include "tessera/inspect.h"

enum {
    INSPECT_SECTOR = 512,
    INSPECT_HEADER_MIN = 72,  /* the shortest header: of qcow2 version 2 */
    INSPECT_HEAD = 34 * 1024, /* the ISO 9660 descriptor ends here */
    INSPECT_TAIL = 3 * INSPECT_SECTOR,
    INSPECT_CAPTURE_MAX = 1024 * 1024,
};

enum inspect_format {
    INSPECT_RAW,
    INSPECT_QCOW2,
    INSPECT_QED,
    INSPECT_VMDK,
    INSPECT_VMDK_TEXT, /* a bare descriptor: its data would be in other files */
    INSPECT_VMDK_COWD, /* the sparse form of old ESX hosts */
    INSPECT_VHD,
    INSPECT_VHDX,
    INSPECT_VDI,
    INSPECT_LUKS,
    INSPECT_PLOOP,
    INSPECT_ISO,
    INSPECT_MBR,
    INSPECT_FORMAT_COUNT
};

/* Bytes [offset, offset + size) of the stream, as far as they have come. */
struct inspect_capture {
    uint64_t offset;
    size_t size, have;
    uint8_t *data;
};

struct inspect {
    bool on;    /* only `bare` containers are inspected */
    bool ended; /* nothing more is wanted of the middle of the stream */
    bool raw_strict;
    char declared[16];
    uint64_t at; /* bytes seen */
    bool sector_seen, head_seen;
    unsigned found; /* bits of enum inspect_format */
    int64_t virtual_size;
    uint8_t *head;
    size_t head_size;
    struct inspect_capture capture;
    unsigned stage;  /* of the format that captures */
    uint64_t base;   /* vhdx: where its metadata region begins */
    bool unreadable; /* vhdx: its tables can not be followed */
    bool want_tail;
    uint8_t tail[INSPECT_TAIL]; /* the newest INSPECT_TAIL bytes, oldest first */
    size_t tail_size;
};

static inline bool inspect_found(const struct inspect *i, enum inspect_format format)
{
    return (i->found & (1u << format)) != 0;
}

/* Capture the next window; false: it lies behind us, is too large, or there is no memory. */
bool inspect_capture_start(struct inspect *i, uint64_t offset, size_t size);
/* "Image failed safety checks: @why" */
int inspect_unsafe(struct err *err, const char *why);

/* --- little- and big-endian numbers of kept bytes ----------------------------------------------
 */
static inline uint64_t inspect_le(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    while (size > 0) {
        v = v << 8 | p[--size];
    }
    return v;
}
static inline uint64_t inspect_be(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    for (size_t n = 0; n < size; n++) {
        v = v << 8 | p[n];
    }
    return v;
}

/* --- one file a format ---------------------------------------------------------------------------
 */

/* The first sector is whole: safety of it and virtual size. 0 or TSR_EMEDIA. */
int inspect_qcow2(const uint8_t *sector, int64_t *virtual_size_out, struct err *err);
int inspect_vhd(const uint8_t *sector, int64_t *virtual_size_out, struct err *err);
int inspect_vdi(const uint8_t *sector, int64_t *virtual_size_out, struct err *err);
/* @descriptor: the 2 KiB at 32 KiB. */
bool inspect_iso_found(const uint8_t *descriptor);
int64_t inspect_iso_size(const uint8_t *descriptor);
bool inspect_mbr_found(const uint8_t *sector);
/* Would others take this partition table for one? Asked of data declared `gpt`. */
int inspect_mbr_check(const uint8_t *sector, struct err *err);
/* Does a text that QEMU takes for a descriptor begin here? @size: at most a sector. */
bool inspect_vmdk_text_found(const uint8_t *data, size_t size);

/* vmdk: the header asks for the descriptor's capture; then that; at the end the footer. */
int inspect_vmdk_header(struct inspect *i, struct err *err);
int inspect_vmdk_descriptor(const uint8_t *text, size_t size, struct err *err);
int inspect_vmdk_footer(const struct inspect *i, struct err *err);

/* vhdx: starts the first capture; each whole capture leads to the next. */
void inspect_vhdx_start(struct inspect *i);
int inspect_vhdx_step(struct inspect *i, struct err *err);

#endif
