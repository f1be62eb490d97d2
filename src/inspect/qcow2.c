/* qcow2 (QEMU's docs/interop/qcow2.txt): big-endian header. Refused: images that name another file
 * (backing file, external data file), versions and features that we do not know. */
#include "inspect/private.h"

enum {
    AT_VERSION = 4,
    AT_BACKING = 8,
    AT_SIZE = 24,
    AT_INCOMPATIBLE = 72,
};
/* dirty, corrupt, compression type, extended L2 entries */
static const uint64_t features_allowed = 0x1 | 0x2 | 0x8 | 0x10;
static const uint64_t feature_data_file = 0x4;

int inspect_qcow2(const uint8_t *sector, int64_t *virtual_size_out, struct err *err)
{
    uint64_t version = inspect_be(sector + AT_VERSION, 4);
    uint64_t size = inspect_be(sector + AT_SIZE, 8);
    if (version == 1) {
        return inspect_unsafe(err, "qcow images of version 1 are not accepted");
    }
    if ((version != 2 && version != 3) || size > INT64_MAX) {
        return inspect_unsafe(err, "an unknown version or size of qcow2");
    }
    if (inspect_be(sector + AT_BACKING, 8) != 0) {
        return inspect_unsafe(err, "the qcow2 has a backing file");
    }
    uint64_t features = version == 3 ? inspect_be(sector + AT_INCOMPATIBLE, 8) : 0;
    if ((features & feature_data_file) != 0) {
        return inspect_unsafe(err, "the qcow2 keeps its data in another file");
    }
    if ((features & ~features_allowed) != 0) {
        return inspect_unsafe(err, "the qcow2 has features that are not known");
    }
    *virtual_size_out = (int64_t)size;
    return 0;
}
