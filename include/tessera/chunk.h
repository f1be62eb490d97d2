/* Bytes on this host: chunks named by their SHA-256, manifests, and who needs them.
 *
 * `chunk_store` is the small interface of a store (file store now, block store later); `struct
 * chunks` is what the layers above use: asynchronous, any loop, with reservations and references
 * kept in a host-local index (kv, separate from the metadata; rebuilt from the files when lost or
 * damaged).
 *
 * Life of a chunk here: put or "have" under a session (a reservation in the index) -> seal
 * (manifest refers to it: a reference) -> drop of the manifest -> collected when references and
 * reservations are zero. Collect marks it `deleting` in one index transaction, unlinks it, then
 * removes the row; a put meanwhile waits. What is on disk under a final name is whole. Nothing is
 * protected by clocks. */
#ifndef TESSERA_CHUNK_H
#define TESSERA_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/digest.h"
#include "tessera/base/err.h"
#include "tessera/base/id.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/kv.h"
#include "tessera/sys/loop.h"

enum {
    CHUNK_BYTES_DEFAULT = 4 * 1024 * 1024,
    CHUNK_BYTES_MIN = 4096,
    CHUNK_BYTES_MAX = 4 * 1024 * 1024
};
enum { SESSION_ID_SIZE = 16 };

/* --- manifest (pure)
 * ------------------------------------------------------------------------------- "TSRMAN01",
 * version u32, chunk_bytes u32, size u64, count u32, zeros u32, then count x 32 bytes; the all-zero
 * id is a zero chunk (never stored, never sent). Little-endian. Named by SHA-256 of it all. */
struct manifest {
    uint32_t chunk_bytes;
    uint64_t size; /* of the image */
    uint32_t count;
    struct chunk_id *chunks;
};
bool chunk_id_is_zero(const struct chunk_id *id);
/* Bytes of chunk @n (only the last is short). */
size_t manifest_chunk_size(const struct manifest *m, uint32_t n);
/* *data_out malloc'ed. */
int manifest_encode(const struct manifest *m, char **data_out, size_t *size_out,
                    struct chunk_id *id_out);
/* Checks everything: counts against size, limits; TSR_ECORRUPT. */
int manifest_decode(const void *data, size_t size, struct manifest *out);
void manifest_free(struct manifest *m); /* the array only */

/* --- the store interface (blocking; disk pool)
 * -------------------------------------------------------- */
enum chunk_kind { CHUNK_DATA, CHUNK_MANIFEST };
struct chunk_store;
struct chunk_place { /* where a stored object's bytes are, for sendfile; fd < 0 in the simulator */
    int fd;
    int64_t offset;
    size_t size;
    struct fs_file *file;
    uint64_t stamp[4]; /* inode, size, mtime, ctime: changes when the file changes under us */
};
struct chunk_store_stats {
    int64_t total_bytes, available_bytes; /* of the file system */
};
typedef int (*chunk_store_each_cb)(void *arg, enum chunk_kind kind, const struct chunk_id *id,
                                   size_t size);
struct chunk_store_ops {
    /* Whole under its final name on 0 (durable after sync). Existing: success without writing. */
    int (*put)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id,
               const void *data, size_t size);
    long (*get)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id, void *data,
                size_t capacity);
    int (*open)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id,
                struct chunk_place *out);
    /* Bytes of an open object, from @offset; returns bytes read. */
    long (*read)(struct chunk_store *s, const struct chunk_place *place, void *data, size_t size,
                 size_t offset);
    void (*close)(struct chunk_store *s, struct chunk_place *place);
    int (*has)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id);
    int (*remove)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id);
    /* Move a bad copy aside ("quarantine/<id>.<n>"). */
    int (*quarantine)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *id);
    /* Make these durable: files and their directories once. */
    int (*sync)(struct chunk_store *s, enum chunk_kind kind, const struct chunk_id *ids,
                size_t count);
    /* Every object: all manifests first, then the chunks. Non-zero from @cb ends the walk. */
    int (*each)(struct chunk_store *s, chunk_store_each_cb cb, void *arg);
    int (*stats)(struct chunk_store *s, struct chunk_store_stats *out);
    void (*free)(struct chunk_store *s);
};
struct chunk_store {
    const struct chunk_store_ops *ops;
    uint8_t uuid[16]; /* names this store's disk (identity file); all zero: it has none */
};
/* chunks/ab/abcdef..., manifests/ab/abcdef..., tmp/, quarantine/ below @dir; an identity file
 * ({cluster, host, store uuid}) tells a foreign or unmounted disk: TSR_ECORRUPT with the reason.
 * Leftovers in tmp/ are removed at open. */
int file_store_open(struct fs *fs, const char *dir, const char *cluster_id, uint64_t host_id,
                    const uint8_t random[16], struct chunk_store **out, struct err *err);

/* --- the service
 * --------------------------------------------------------------------------------------- */
struct chunks;
struct chunks_options {
    struct chunk_store *store; /* taken over */
    struct kv *index;          /* taken over; opened with chunk_index_databases, fully in order */
    struct pool *disk_pool;    /* n threads */
    struct pool *index_pool;   /* one thread: the only writer of the index */
    struct pool *cpu_pool;
    struct loop *loop; /* for timers of its own (collection), e.g. the control loop */
    uint32_t chunk_bytes;
    bool verify_always;
    uint64_t reservation_ms; /* 24 h, monotonic age since the session was last used in this process;
                                after a restart counted from the start */
    int64_t reserve_bytes;   /* free space that puts leave alone: puts get TSR_ENOSPC below it */
};
extern const char *const chunk_index_databases[];
extern const unsigned chunk_index_database_count;
/* Blocking. Rebuilds the index from the store when it is new or was not closed in order with a
 * store that disagrees (see rebuild.c).
 * On failure store and index stay the caller's. */
int chunks_open(const struct chunks_options *options, struct chunks **out, struct err *err);
/* Thread: that of options->loop. All requests have ended (they are refused from now on with
 * TSR_ECANCELED). Blocking at the end; a collection that is under way ends at its next step, on its
 * pool thread, so free the disk pool, then the index pool, after this and before the index is
 * opened again. */
void chunks_close(struct chunks *c);
uint32_t chunks_chunk_bytes(const struct chunks *c);

/* One request object for all calls: caller's until cb; cb on req->loop. */
struct chunk_req;
typedef void (*chunk_cb)(struct chunk_req *req, int status);
struct chunk_req {
    struct loop *loop;
    chunk_cb cb;
    void *arg;
    /* in: as each call says */
    uint8_t session[SESSION_ID_SIZE];
    struct chunk_id id;
    const void *data;
    size_t size;
    void *buffer; /* get: at least chunk_bytes */
    const struct chunk_id *ids;
    size_t id_count;
    const struct chunk_pin *pins;
    size_t pin_count;
    bool verify; /* get: hash even if verified before */
    /* out */
    uint8_t *present;         /* have: caller's array of id_count bytes, set to 0/1 */
    size_t size_out;          /* get */
    bool existed;             /* put */
    struct chunk_place place; /* open */
    struct manifest manifest; /* manifest_get: free with manifest_free */
    struct chunk_id *missing; /* seal, TSR_ENOENT: malloc'ed list of absent chunks */
    size_t missing_count;
    uint8_t (*sessions)[SESSION_ID_SIZE]; /* sessions_idle: malloc'ed */
    size_t session_count;
    /* private */
    struct work work;
    struct chunks *chunks;
    struct chunk_req *next;                     /* in the queue of the index thread */
    int (*step)(struct chunk_req *, void *txn); /* what the index thread does for it */
    void (*then)(struct chunk_req *); /* what follows on the index thread, after the commit */
    int status;
    unsigned ends_seen;
    void *extra;
};

/* Store one chunk under @session: id = SHA-256 of data (already computed by the caller; trusted
 * peers' data is hashed by the caller too). In: session, id, data, size. 0: whole here (durable
 * after seal). TSR_ENOSPC, TSR_EIO. */
void chunk_put(struct chunks *c, struct chunk_req *req);
/* Which of ids are here? Present ones get a reservation of @session in the same step. */
void chunk_have(struct chunks *c, struct chunk_req *req);
/* Read one chunk into buffer, verified: hashed now unless its stamp says it was since it was
 * written. TSR_ENOENT; TSR_ECORRUPT: this copy was bad and has been quarantined. Out: size_out. */
void chunk_get(struct chunks *c, struct chunk_req *req);
/* Verified chunk as a file range whose pages have been read (sendfile). Out: place; give it back
 * with chunk_release. TSR_ENOTSUP where there is no file descriptor. */
void chunk_open(struct chunks *c, struct chunk_req *req);
void chunk_release(struct chunks *c, struct chunk_place *place); /* any thread */

/* Every chunk of the manifest (data, size = encoded manifest; id = its name) is here, synced with
 * its directories; the manifest is written and synced; references are taken in one transaction; the
 * session's reservations on it end. TSR_ENOENT + missing. Idempotent. */
void chunk_seal(struct chunks *c, struct chunk_req *req);
/* Drop the session's reservations (upload ended or was given up). What comes of the session later
 * is refused with TSR_ECANCELED. */
void chunk_session_end(struct chunks *c, struct chunk_req *req);
/* Sessions that have or may have reservations here and were not used for @size ms, those of before
 * a restart among them; some of them, if they are many. Out: sessions, session_count. */
void chunk_sessions_idle(struct chunks *c, struct chunk_req *req);
/* The manifest named id, verified against its name. TSR_ENOENT, TSR_ECORRUPT. Out: manifest. */
void chunk_manifest_get(struct chunks *c, struct chunk_req *req);
/* Whether a sealed replica of manifest id is here: 0 or TSR_ENOENT. */
void chunk_manifest_has(struct chunks *c, struct chunk_req *req);
/* The same from the index alone, at once (it may be about to go). False also if the index can not
 * be read. Any thread that may read stores. */
bool chunk_manifest_here(struct chunks *c, const struct chunk_id *id);
/* Manifests that were sealed here since the last call, malloc'ed; whoever drops what no image wants
 * looks at these, as a seal whose image never came to be leaves no other trace. Any thread.
 * TSR_ETOOBIG: so many that they are not known (or out of memory); list them all. */
int chunks_sealed_take(struct chunks *c, struct chunk_id **ids_out, size_t *count_out);
/* First step of a drop: no session needs the manifest now (else TSR_EBUSY). Remembers that; any
 * seal of it makes that void. Between this and the drop the caller makes sure (meta_barrier, then a
 * look) that no image wants it: a session ends only after its activation was decided. */
void chunk_manifest_mark(struct chunks *c, struct chunk_req *req);
/* The replica is no longer wanted here: its references end (chunks are collected later). TSR_EBUSY:
 * a session needs it, or (req->verify) the mark is no longer valid. TSR_ENOENT. */
void chunk_manifest_drop(struct chunks *c, struct chunk_req *req);
/* All sealed manifests here: out ids malloc'ed in `missing`, missing_count. */
void chunk_manifest_list(struct chunks *c, struct chunk_req *req);
/* Chunks that sealed manifests need but whose files are gone or were quarantined; a put heals them.
 * Out as above. */
void chunk_lost_list(struct chunks *c, struct chunk_req *req);
/* Remove unreferenced, unreserved chunks now; in slices. Out: size_out = chunks removed. */
void chunk_collect(struct chunks *c, struct chunk_req *req);

/* --- pins: replicas that this host keeps whatever their placement says
 * -------------------------------------------------------------------------------------------------
 * Rows in the index, one a name; they survive a restart and a rebuild of the other rows. The
 * replicator fetches what is missing of them. Thread: any, for those without a request. */
enum { CHUNK_PIN_NAME = 36 };
struct chunk_pin {
    char name[CHUNK_PIN_NAME + 1]; /* whose: an image's id */
    struct chunk_id manifest;
    int64_t asked_us, here_us,
        read_us; /* wall clock: asked for, whole here, last read; 0 = never */
    uint64_t reads;
};
/* Durable at 0. In: pins, pin_count (name, manifest, asked_us); those that are there stay as they
 * are, or name another manifest from now on. */
void chunk_pin_add(struct chunks *c, struct chunk_req *req);
/* In: pins, pin_count (names). Those that are not there are fine. Durable at 0. */
void chunk_pin_remove(struct chunks *c, struct chunk_req *req);
/* All, in order of name, malloc'ed. 0, or what the store said. */
int chunk_pins(struct chunks *c, struct chunk_pin **pins_out, size_t *count_out);
bool chunk_pin_exists(struct chunks *c, const char *name);
/* Grows when pins are added or removed. */
unsigned chunk_pin_changes(struct chunks *c);
/* A pin was read, or is whole here now: noted soon, if there is such a pin. */
enum chunk_pin_event { CHUNK_PIN_READ, CHUNK_PIN_HERE };
void chunk_pin_note(struct chunks *c, const char *name, enum chunk_pin_event event);

struct chunks_stats {
    int64_t total_bytes, available_bytes;
    uint64_t chunk_count, manifest_count, bad_count, deleting_count, reserved_count, lost_count;
};
void chunks_stats(struct chunks *c, struct chunks_stats *out); /* any thread, cached values */
/* Bytes that puts may still take, as far as is known; INT64_MAX when it is not. Any thread. */
int64_t chunks_room(struct chunks *c);

/* --- the cutter (pure): a stream into chunks
 * ------------------------------------------------------------- */
/* Fills caller-given buffers of chunk_bytes; tells when one is full. See src/chunk/cutter.c. */
struct cutter {
    uint32_t chunk_bytes;
    uint8_t *buffer; /* being filled; NULL = one is needed */
    size_t fill;
    uint64_t total;
};
void cutter_init(struct cutter *c, uint32_t chunk_bytes);
/* Takes as much of *data as fits in the buffer (which must be set); returns true when it is full.
 */
bool cutter_feed(struct cutter *c, const uint8_t **data, size_t *size);
/* All bytes zero? Fast (vector). */
bool chunk_data_is_zero(const void *data, size_t size);

#endif
