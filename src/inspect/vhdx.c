/* VHDX ([MS-VHDX] 2.2): the region table tells where the metadata is, its table where the virtual
 * size is. Followed forwards only; when something lies behind us or makes no sense the size stays
 * unknown, and data declared vhdx is refused at its end. Differencing disks, whose metadata locates
 * a parent file, are refused. */
#include <stdlib.h>
#include <string.h>

#include "inspect/private.h"
#include "tessera/base/digest.h"

enum {
    REGION_AT = 196608,
    TABLE_BYTES = 65536,
    CHECKSUM_AT = 4,
    ENTRY_BYTES = 32,
    ENTRIES_MAX = 2047,
    REGION_ENTRIES_AT = 16,
    METADATA_ENTRIES_AT = 32,
};
enum { STAGE_REGION, STAGE_METADATA, STAGE_SIZE };

/* 8B7CA206-4790-4B9A-B8FE-575F050F886E and 2FA54224-CD1B-4876-B211-5DBED83BF4B8 as stored. */
static const uint8_t metadata_region[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                            0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t virtual_size_item[16] = {0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
                                              0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8};
/* A8D35F2D-B30B-454D-ABF7-D3D84834AB0C */
static const uint8_t parent_locator_item[16] = {0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
                                                0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c};

static void give_up(struct inspect *i)
{
    i->unreadable = true;
    free(i->capture.data);
    i->capture = (struct inspect_capture){0};
}

static void follow(struct inspect *i, unsigned stage, uint64_t offset, size_t size)
{
    i->stage = stage;
    if (!inspect_capture_start(i, offset, size)) {
        give_up(i);
    }
}

void inspect_vhdx_start(struct inspect *i)
{
    follow(i, STAGE_REGION, REGION_AT, TABLE_BYTES);
}

/* The entry named @guid of a table whose entries begin at @at. */
static const uint8_t *entry_find(const uint8_t *table, uint64_t count, size_t at,
                                 const uint8_t guid[16])
{
    for (size_t n = 0; n < count && n < ENTRIES_MAX; n++) {
        const uint8_t *entry = table + at + n * ENTRY_BYTES;
        if (memcmp(entry, guid, 16) == 0) {
            return entry;
        }
    }
    return NULL;
}

_Static_assert(METADATA_ENTRIES_AT + ENTRIES_MAX * ENTRY_BYTES <= TABLE_BYTES,
               "tables hold entries");

/* There is a second table, which others take when the checksum of this one is wrong. */
static bool table_is_whole(uint8_t *table)
{
    uint64_t want = inspect_le(table + CHECKSUM_AT, 4);
    memset(table + CHECKSUM_AT, 0, 4);
    return memcmp(table, "regi", 4) == 0 && crc32c(0, table, TABLE_BYTES) == want;
}

/* Leads on to the metadata, which must lie ahead. */
static void step_region(struct inspect *i)
{
    const uint8_t *table = i->capture.data, *entry = NULL;
    if (table_is_whole(i->capture.data)) {
        entry = entry_find(table, inspect_le(table + 8, 4), REGION_ENTRIES_AT, metadata_region);
    }
    if (entry == NULL) {
        give_up(i);
        return;
    }
    i->base = inspect_le(entry + 16, 8);
    follow(i, STAGE_METADATA, i->base, TABLE_BYTES);
}

static int step_metadata(struct inspect *i, struct err *err)
{
    const uint8_t *table = i->capture.data, *entry = NULL;
    if (memcmp(table, "metadata", 8) == 0) {
        uint64_t count = inspect_le(table + 10, 2);
        if (entry_find(table, count, METADATA_ENTRIES_AT, parent_locator_item) != NULL) {
            return inspect_unsafe(err, "the vhdx has a parent file");
        }
        entry = entry_find(table, count, METADATA_ENTRIES_AT, virtual_size_item);
    }
    if (entry == NULL || i->base > INT64_MAX - UINT32_MAX) {
        give_up(i);
        return 0;
    }
    follow(i, STAGE_SIZE, i->base + inspect_le(entry + 16, 4), 8);
    return 0;
}

int inspect_vhdx_step(struct inspect *i, struct err *err)
{
    if (i->stage == STAGE_REGION) {
        step_region(i);
        return 0;
    }
    if (i->stage == STAGE_METADATA) {
        return step_metadata(i, err);
    }
    if (inspect_le(i->capture.data, 8) <= INT64_MAX) {
        i->virtual_size = (int64_t)inspect_le(i->capture.data, 8);
    }
    free(i->capture.data);
    i->capture = (struct inspect_capture){0};
    return 0;
}
