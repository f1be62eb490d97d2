/* Formats that their first sectors tell all about: VHD (dynamic: a copy of the footer at the
 * start), VDI, ISO 9660 / UDF, partition tables. */
#include <string.h>

#include "image/inspect.h"

enum { VHD_AT_SIZE = 40, VDI_AT_SIZE = 368, ISO_AT_BLOCKS = 80, ISO_AT_BLOCK_SIZE = 128 };

static int size_known(uint64_t size, int64_t *out, struct err *err)
{
    if (size > INT64_MAX) {
        return inspect_unsafe(err);
    }
    *out = (int64_t)size;
    return 0;
}

int inspect_vhd(const uint8_t *sector, int64_t *virtual_size_out, struct err *err)
{
    return size_known(inspect_be(sector + VHD_AT_SIZE, 8), virtual_size_out, err);
}

int inspect_vdi(const uint8_t *sector, int64_t *virtual_size_out, struct err *err)
{
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
