/* The snapshot marker: "the store is durable up to index", with the membership as of then, in a
 * checksummed file replaced atomically. Blocking. */
#ifndef TESSERA_CONSENSUS_MARKER_H
#define TESSERA_CONSENSUS_MARKER_H

#include "tessera/base/buf.h"
#include "tessera/base/err.h"
#include "tessera/consensus.h"
#include "tessera/sys/fs.h"

enum { MARKER_CONF_MAX = 64 * 1024 };

struct marker {
    uint64_t index, term;
    uint8_t digest[FSM_DIGEST_SIZE];
    uint64_t conf_index;
    void *conf; /* encoded membership; malloc'ed */
    size_t conf_size;
};
/* TSR_ENOENT: none. TSR_ECORRUPT: damaged. TSR_ENOTSUP: of a newer version. */
int marker_load(struct fs *fs, const char *dir, struct marker *out, struct err *err);
int marker_store(struct fs *fs, const char *dir, const struct marker *m);
/* Frees what load filled in; the struct may be used again. */
void marker_free(struct marker *m);
/* Whether there is a marker file, whole or damaged. */
bool marker_exists(struct fs *fs, const char *dir);

/* The fields as they stand in the marker and in the head of a stage. decode allocates conf;
 * TSR_ECORRUPT: not well-formed. */
int marker_encode(struct buf *out, const struct marker *m);
int marker_decode(struct reader *r, struct marker *out);

/* A received snapshot that is being staged: header {index, term, conf_index, conf, point digest,
 * stream bytes, SHA-256 of the stream} + stream. Pieces come in order; resume tells how far it got.
 * stage_finish checks the digest, syncs, and renames to "install" (from then on an install that a
 * crash interrupts is finished at the next open). All blocking (disk pool). */
struct stage;
struct stage_head {
    struct marker marker;
    uint64_t stream_bytes; /* total, known when the sender has finished its export file */
    uint8_t stream_sha256[32];
};
/* @head is copied. *have_out: bytes that are here from an earlier try with the same head (a stage
 * with another head is deleted). */
int stage_open(struct fs *fs, const char *dir, const struct stage_head *head, struct stage **out,
               uint64_t *have_out);
/* TSR_EINVAL: @offset is not what is here so far, or beyond stream_bytes (nothing changed). After
 * any other error only stage_close is of use. */
int stage_write(struct stage *s, uint64_t offset, const void *data, size_t size);
/* TSR_ECORRUPT: digest differs, the stage is deleted. TSR_EINVAL: bytes are missing. TSR_EEXIST: an
 * earlier install is not removed yet. stage_close still follows. */
int stage_finish(struct stage *s);
void stage_close(struct stage *s); /* keeps the partial file for a resume */
/* A finished install: its head (marker_free(&head->marker) when done), and the path of the stream
 * alone (for fsm import_file). Reads and checks all of it. TSR_ENOENT if there is none;
 * TSR_ECORRUPT; TSR_ENOTSUP: of a newer version. */
int install_load(struct fs *fs, const char *dir, struct stage_head *head, char *path_out,
                 size_t path_size, struct err *err);
int install_remove(struct fs *fs, const char *dir);

#endif
