/* Decompression of streams: gzip (RFC 1952), xz, zstd (RFC 8878), by zlib, liblzma and libzstd, of
 * which this is the one user. Several members, streams or frames behind one another are one stream.
 * Memory: some 128 MiB at most, whatever the data asks for. Thread: one owner at a time; blocking
 * by CPU only. */
#ifndef TESSERA_SYS_UNPACK_H
#define TESSERA_SYS_UNPACK_H

#include <stdbool.h>
#include <stddef.h>

struct unpack;

enum unpack_kind { UNPACK_NONE, UNPACK_GZIP, UNPACK_XZ, UNPACK_ZSTD };
enum { UNPACK_HEAD = 6 }; /* bytes that tell the kind */

/* Of data that begins with @head. */
enum unpack_kind unpack_detect(const void *head, size_t size);
const char *unpack_name(enum unpack_kind kind);

/* TSR_ENOMEM. */
int unpack_new(enum unpack_kind kind, struct unpack **out);
void unpack_free(struct unpack *u); /* NULL is fine */
/* One step: *@in and *@in_size move on by what was used, *@out_size becomes what was written to
 * @out. Nothing used and nothing written: more input is needed. TSR_ECORRUPT, TSR_ETOOBIG (it asks
 * for too much memory), TSR_ENOMEM. */
int unpack_step(struct unpack *u, const void **in, size_t *in_size, void *out, size_t *out_size);
/* After all input was used: has the stream come to its end? */
bool unpack_ended(const struct unpack *u);

#endif
