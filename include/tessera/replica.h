/* Whole copies on the hosts: an upload written to several hosts at once, a download read from
 * whichever host has it, and the replicator, which makes this host hold what the placement says.
 *
 * It takes lists of hosts; which hosts is decided above (cluster/placement). Peers are called
 * through struct peer_net. Thread: the loop of the given context; every loop has its own
 * `replica_ctx`. */
#ifndef TESSERA_REPLICA_H
#define TESSERA_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/bufpool.h"
#include "tessera/chunk.h"
#include "tessera/meta.h"
#include "tessera/peer.h"

enum { REPLICA_HOSTS_MAX = 16 };

/* What replicas may take that this host keeps on request, beyond what their placement says. */
struct replica_pin_limits {
    int64_t bytes_max; /* in all; 0 = no limit */
    int64_t free_min;  /* with less free on the disk they go */
};

/* What one loop needs to move data. */
struct replica_ctx {
    struct loop *loop;
    struct chunks *chunks; /* NULL: this host stores no images (witness) */
    struct peer_net *peers;
    struct pool *cpu_pool;
    uint64_t self;                  /* host id */
    struct bufpool *upload_buffers; /* chunk_bytes each; client uploads */
    struct bufpool *relay_buffers;  /* downloads from peers or for TLS */
    struct bufpool *repair_buffers; /* replicator */
    uint32_t chunk_bytes;
    struct replica_pin_limits pin_limits;
    uint8_t boot[4]; /* random per process: the first bytes of its own sessions' ids */
};

/* Peer calls answered by this host: CHUNK_HAVE, CHUNK_PUT, CHUNK_GET, MANIFEST_GET, SEAL,
 * SESSION_END. CHUNK_PUT verifies the digest of what it got. Handlers run on the loop of the peer
 * server that got the call. */
void replica_serve(struct peer_service *service, struct chunks *chunks, struct pool *cpu_pool);
/* When no server has a call of it any more; also where replica_serve was never called. */
void replica_serve_end(struct peer_service *service);

/* --- writing: an upload
 * -------------------------------------------------------------------------------- */

struct replica_result {
    struct chunk_id manifest;
    uint64_t size;
    char checksum[33]; /* MD5 hex */
    char sha512[129];
    uint64_t sealed[REPLICA_HOSTS_MAX]; /* hosts that hold a durable replica */
    size_t sealed_count;
};

struct replica_writer;
typedef void (*replica_writer_cb)(void *arg, int status, const struct replica_result *result,
                                  const struct err *err);
struct replica_writer_options {
    uint8_t session[SESSION_ID_SIZE];
    const uint64_t *hosts; /* wanted holders, own id among them if it is one */
    size_t host_count;
    size_t seals_min;            /* fail early when fewer hosts than this can still succeed */
    void (*on_drain)(void *arg); /* after write said pause: go on */
    void (*on_fail)(void *arg, int status, const struct err *err); /* early failure (no host has
                              room: TSR_ENOSPC, too few hosts left: TSR_EUNAVAILABLE): stop sending;
                              finish or abort must still be called */
    void *arg;
};
int replica_writer_open(struct replica_ctx *ctx, const struct replica_writer_options *options,
                        struct replica_writer **out);
/* Feed bytes in order (copied). Returns false: pause the source until on_drain. At most a few
 * chunks of memory; the slowest host slows the sender, a dead one is dropped from the set. */
bool replica_writer_write(struct replica_writer *w, const void *data, size_t size);
/* No more bytes: seal everywhere, then @cb once; @w is gone afterwards. 0 with at least seals_min
 * hosts sealed. The session's reservations end with replica_session_end (after the activation was
 * decided). */
void replica_writer_finish(struct replica_writer *w, replica_writer_cb cb, void *arg);
/* Give up: pending calls are canceled, reservations on all hosts dropped; @cb (may be NULL) at the
 * end. */
void replica_writer_abort(struct replica_writer *w, void (*cb)(void *arg), void *arg);
/* End the reservations of a session on these hosts (best effort; they also expire). */
void replica_session_end(struct replica_ctx *ctx, const uint8_t session[SESSION_ID_SIZE],
                         const uint64_t *hosts, size_t host_count);

/* --- reading: a download
 * -------------------------------------------------------------------------------- */

struct replica_reader;
/* One piece, in order. Either memory (data) or a file range (file = true: place). It stays valid
 * until replica_reader_next or close is called. */
struct replica_piece {
    const void *data;
    size_t size;
    bool file;
    int fd;
    int64_t offset;
};
typedef void (*replica_open_cb)(void *arg, int status, uint64_t image_size);
typedef void (*replica_piece_cb)(void *arg, int status, const struct replica_piece *piece);
/* Finds the manifest (here or on @hosts, in the given order of preference), then reads ahead a
 * bounded window of [offset, offset + length). @length UINT64_MAX = to the end. @want_files: file
 * ranges are welcome (plain connections); without buffers they come also where they are not. */
int replica_reader_open(struct replica_ctx *ctx, const struct chunk_id *manifest, uint64_t offset,
                        uint64_t length, const uint64_t *hosts, size_t host_count, bool want_files,
                        replica_open_cb cb, void *arg, struct replica_reader **out);
/* Next piece; @cb once: status 0 with piece, size 0 at the end. A bad or lost source is replaced by
 * the next one; TSR_EIO / TSR_EUNAVAILABLE when all failed: the client must be cut, never given a
 * short body that looks complete. Wrong bytes are never given. */
void replica_reader_next(struct replica_reader *r, replica_piece_cb cb, void *arg);
/* Any time; a pending callback does not run any more. */
void replica_reader_close(struct replica_reader *r);

/* --- the replicator: want -> have
 * ------------------------------------------------------------------------- */

struct replicator;
struct replicator_stats {
    uint64_t wanted, present, missing, fetching, fetched_bytes, failed;
};
/* Runs on ctx->loop. Watches the store: every image whose placement has this host and whose replica
 * here is not `present` is fetched (missing chunks only, several hosts, bounded), sealed, and
 * reported with image.replica; a replica recorded `present` that is not on disk is reported
 * `missing` and fetched; manifests here that no image wants here any more are dropped, then
 * collected. A full check after start; then by watch. Retries with back-off. Pinned images
 * (chunk.h) are fetched and kept too, unrecorded, within ctx->pin_limits. */
int replicator_new(struct replica_ctx *ctx, struct meta *meta, struct replicator **out);
/* Bytes per second that repair may use on this host; 0 = no limit (at first). Applies to repairs
 * that begin later. */
void replicator_set_rate(struct replicator *r, uint64_t bytes_per_second);
/* As of the last tick, a second ago at most. Any thread, until the close. */
void replicator_stats(const struct replicator *r, struct replicator_stats *out);
void replicator_close(struct replicator *r, void (*cb)(void *arg), void *arg);

/* Pins whose images are gone; pins to give up, least used first, until what is here only for them
 * is within the limits. *out malloc'ed, also when *count_out is 0. */
int replica_pins_void(struct chunks *chunks, struct meta_view *view, struct chunk_pin **out,
                      size_t *count_out);
int replica_pins_excess(struct replica_ctx *ctx, struct meta_view *view, struct chunk_pin **out,
                        size_t *count_out, int64_t *bytes_out);

#endif
