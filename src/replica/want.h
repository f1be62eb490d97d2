/* What the log wants of this host for one image. Pure. Private to the replicator. */
#ifndef REPLICA_WANT_H
#define REPLICA_WANT_H

#include "tessera/chunk.h"
#include "tessera/meta.h"

/* The manifest of the image's data; false: it has none. */
bool want_manifest(const json_t *image, struct chunk_id *out);
/* Does the placement name @host; is its replica recorded? */
bool want_placed(const json_t *image, uint64_t host);
bool want_recorded(const json_t *image, uint64_t host);
/* Who may have the data: those recorded first, then the rest of the placement, which may have it
 * without having said so. */
size_t want_sources(const json_t *image, uint64_t *out, size_t max);

/* All of this from a record's text, without parsing it. */
struct want {
    bool has_data, placed, recorded;
    struct chunk_id manifest;
};
/* false: parse the record. */
bool want_of_text(const struct meta_text *record, uint64_t host, struct want *out);

/* May this image do without the replica on @host? */
enum verdict { VERDICT_KEEP, VERDICT_DROP, VERDICT_TELL_THEN_DROP };
enum verdict want_verdict(const json_t *image, uint64_t host);

#endif
