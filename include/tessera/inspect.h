/* What is in an image file: its format, its virtual size, and whether it is safe (image-api 3.6,
 * 3.7). Pure: bytes in, verdict out; no length in the data is trusted.
 *
 * inspect_new -> inspect_write* -> inspect_finish -> inspect_free. The bytes come in order, in
 * pieces of any size; a few windows of them are kept (2 MiB at most). A reader that can jump asks
 * inspect_wants what comes next and leaves out the rest with inspect_skip. Thread: one owner. */
#ifndef TESSERA_INSPECT_H
#define TESSERA_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"

struct inspect;

/* @disk_format, @container_format as declared; @disk_format "" or NULL: anything, each format with
 * its own virtual size. Only `bare` containers are inspected. NULL: out of memory. */
struct inspect *inspect_new(const char *disk_format, const char *container_format);
void inspect_free(struct inspect *i);
/* Data declared `raw` must not be in a format that QEMU would open as something else. Partition
 * tables, ISO images and LUKS volumes are what raw disks hold, and stay allowed. */
void inspect_raw_strict(struct inspect *i);

/* TSR_EMEDIA as soon as it is certain: "Image disk_format X does not match stream data Y", or
 * "Image failed safety checks: why". TSR_ENOMEM. */
int inspect_write(struct inspect *i, const void *data, size_t size, struct err *err);
/* At the end, after @size bytes: as above; *virtual_size_out = -1 when null. */
int inspect_finish(struct inspect *i, uint64_t size, int64_t *virtual_size_out, struct err *err);

/* Of data of @size bytes: where the next bytes are that matter; @size: none do any more. Never
 * before what was written or skipped. */
uint64_t inspect_wants(const struct inspect *i, uint64_t size);
/* Leave out the bytes up to @to, which is at most what inspect_wants said. */
void inspect_skip(struct inspect *i, uint64_t to);

/* The format that was found so far: "raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso", "gpt" (a
 * partition table of either kind), "luks", "qed", "ploop". */
const char *inspect_found_name(const struct inspect *i);

#endif
