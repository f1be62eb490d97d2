/* Formats that their first sectors tell all about: VHD (dynamic: a copy of the footer at the
 * start), VDI, ISO 9660 / UDF, partition tables. */
#include <string.h>

#include "inspect/private.h"

enum {
    VHD_AT_SIZE = 40,
    VHD_AT_TYPE = 60,
    VHD_DYNAMIC = 3,
    VHD_FIXED = 2,
    VHD_DIFFERENCING = 4,
    VDI_AT_TYPE = 76,
    VDI_AT_SIZE = 368,
    VDI_AT_PARENT = 424, /* two UUIDs: of the disk below this one, and of its state */
    VDI_PARENT_BYTES = 32,
    VDI_DYNAMIC = 1,
    VDI_FIXED = 2,
    ISO_AT_BLOCKS = 80,
    ISO_AT_BLOCK_SIZE = 128,
};

static int size_known(uint64_t size, int64_t *out, struct err *err)
{
    if (size > INT64_MAX) {
        return inspect_unsafe(err, "an impossible virtual size");
    }
    *out = (int64_t)size;
    return 0;
}

int inspect_vhd(const uint8_t *sector, int64_t *virtual_size_out, struct err *err)
{
    uint64_t type = inspect_be(sector + VHD_AT_TYPE, 4);
    if (type == VHD_DIFFERENCING) {
        return inspect_unsafe(err, "the vhd has a parent file");
    }
    if (type != VHD_DYNAMIC && type != VHD_FIXED) {
        return inspect_unsafe(err, "an unknown type of vhd");
    }
    return size_known(inspect_be(sector + VHD_AT_SIZE, 8), virtual_size_out, err);
}

int inspect_vdi(const uint8_t *sector, int64_t *virtual_size_out, struct err *err)
{
    static const uint8_t none[VDI_PARENT_BYTES];
    uint64_t type = inspect_le(sector + VDI_AT_TYPE, 4);
    if ((type != VDI_DYNAMIC && type != VDI_FIXED) ||
        memcmp(sector + VDI_AT_PARENT, none, VDI_PARENT_BYTES) != 0) {
        return inspect_unsafe(err, "the vdi is the difference to another disk");
    }
    return size_known(inspect_le(sector + VDI_AT_SIZE, 8), virtual_size_out, err);
}

bool inspect_iso_found(const uint8_t *descriptor)
{
    return memcmp(descriptor + 1, "CD001", 5) == 0 || memcmp(descriptor + 1, "NSR02", 5) == 0 ||
           memcmp(descriptor + 1, "NSR03", 5) == 0;
}

int64_t inspect_iso_size(const uint8_t *descriptor)
{
    if (descriptor[0] != 1) {
        return -1; /* no primary volume descriptor */
    }
    return (int64_t)(inspect_le(descriptor + ISO_AT_BLOCKS, 4) *
                     inspect_le(descriptor + ISO_AT_BLOCK_SIZE, 2));
}

/* A FAT file system's boot sector ends in 55AA too: jump, one or two FATs, a media descriptor. */
static bool is_fat(const uint8_t *sector)
{
    bool jump = sector[0] == 0xe9 || (sector[0] == 0xeb && sector[2] == 0x90);
    return jump && (sector[16] == 1 || sector[16] == 2) && sector[21] >= 0xf0;
}

bool inspect_mbr_found(const uint8_t *sector)
{
    return sector[510] == 0x55 && sector[511] == 0xaa && !is_fat(sector);
}

/* Four entries of 16 bytes from 446: boot flag, first CHS, type, last CHS, first LBA, count. */
int inspect_mbr_check(const uint8_t *sector, struct err *err)
{
    enum { ENTRIES = 4, ENTRIES_AT = 446, ENTRY_BYTES = 16, TYPE_GPT = 0xee };
    unsigned used = 0;
    bool protective = false, first_lba = false;
    for (unsigned n = 0; n < ENTRIES; n++) {
        const uint8_t *e = sector + ENTRIES_AT + n * ENTRY_BYTES;
        if (e[0] != 0x00 && e[0] != 0x80) {
            return inspect_unsafe(err, "a boot flag of the partition table is neither 0 nor 0x80");
        }
        if (e[4] == TYPE_GPT && !protective) {
            protective = true;
            first_lba = memcmp(e + 1, "\x00\x02\x00", 3) == 0 && inspect_le(e + 8, 4) == 1;
        }
        used += e[4] != 0;
    }
    if (used == 0) {
        return inspect_unsafe(err, "the partition table is empty");
    }
    if (protective && (!first_lba || used > 1)) {
        return inspect_unsafe(err, "the protective entry of the GPT is not as it must be");
    }
    return 0;
}
