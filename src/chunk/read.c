/* Reading: every byte that leaves here was hashed since it was written, at most 24 hours ago.
 *
 * Happy path: open the file; its stamp {inode, size, mtime, ctime} is among the verified ones:
 * read, or hand out the file. Otherwise read and hash on the same disk thread, then note the stamp.
 * Failures: another digest -> the copy is moved to the quarantine, the index notes the chunk as
 * lost, TSR_ECORRUPT; the file is gone although a manifest needs it -> lost too, TSR_ENOENT. A lost
 * chunk is put back by whoever reads it from a peer, or by the replicator. */
#include "chunk/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/log.h"
#include "tessera/base/metric.h"

enum {
    VERIFIED_MINUTES = 24 * 60,
    WARM_MIB = 512,      /* read since by others: after this much the pages may be gone */
    SCRATCH = 64 * 1024, /* on the stack of the disk thread */
};

static uint64_t minutes(struct chunks *c)
{
    return loop_now_ns(c->loop) / (60ull * 1000 * 1000 * 1000);
}

static uint64_t read_mib(struct chunks *c)
{
    return atomic_load(&c->read_bytes) / (1024 * 1024);
}

void verified_note(struct chunks *c, const struct chunk_id *id, const struct chunk_place *place)
{
    stamps_put(&c->verified, id, place->stamp, minutes(c));
}

bool verified_is(struct chunks *c, const struct chunk_id *id, const struct chunk_place *place)
{
    return !c->options.verify_always &&
           stamps_has(&c->verified, id, place->stamp, minutes(c), VERIFIED_MINUTES);
}

static void warm_note(struct chunks *c, const struct chunk_id *id, const struct chunk_place *place)
{
    atomic_fetch_add(&c->read_bytes, place->size);
    metric_add(METRIC_chunks_read_total, 1);
    stamps_put(&c->warm, id, place->stamp, read_mib(c));
}

/* --- bad copies ----------------------------------------------------------------------------- */

static int lost_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    return index_chunk_lost(&ix, &req->id, true);
}

/* What the caller hears is why the read failed, whether or not the note could be made. */
static void corrupt_then(struct chunk_req *req)
{
    req_finish(req, TSR_ECORRUPT);
}

static void absent_then(struct chunk_req *req)
{
    req_finish(req, TSR_ENOENT);
}

static bool is_needed(struct chunks *c, const struct chunk_id *id)
{
    struct kv_txn *txn;
    struct chunk_row row = {0};
    if (kv_begin(c->index, false, &txn) != 0) {
        return false;
    }
    struct index ix = index_of(c, txn);
    int rv = index_chunk_get(&ix, id, &row);
    kv_abort(c->index, txn);
    return rv == 0 && row.refs > 0 && !row.lost;
}

static void finish_corrupt(struct chunk_req *req)
{
    struct chunks *c = req->chunks;
    char hex[65];
    hex_encode(req->id.bytes, 32, hex);
    int rv = c->store->ops->quarantine(c->store, CHUNK_DATA, &req->id);
    atomic_fetch_add(&c->bad_count, 1);
    metric_add(METRIC_chunks_bad_total, 1);
    log_error("chunk", "bad copy moved aside chunk=%s result=%s", hex,
              rv == 0 ? "ok" : err_name(rv));
    index_step(req, lost_step, corrupt_then);
}

/* The end of a read that failed with @rv. */
static void finish_failed(struct chunk_req *req, int rv)
{
    if (rv == TSR_ECORRUPT) {
        finish_corrupt(req);
    } else if (rv == TSR_ENOENT && is_needed(req->chunks, &req->id)) {
        index_step(req, lost_step, absent_then);
    } else {
        req_finish(req, rv);
    }
}

/* --- get ------------------------------------------------------------------------------------ */

static int read_whole(struct chunks *c, const struct chunk_place *place, void *data,
                      size_t capacity)
{
    if (place->size > capacity) {
        return TSR_ECORRUPT;
    }
    long n = c->store->ops->read(c->store, place, data, place->size, 0);
    if (n < 0) {
        return (int)n;
    }
    return (size_t)n == place->size ? 0 : TSR_ECORRUPT;
}

static int get_chunk(struct chunks *c, struct chunk_req *req)
{
    struct chunk_place place;
    int rv = c->store->ops->open(c->store, CHUNK_DATA, &req->id, &place);
    if (rv != 0) {
        return rv;
    }
    rv = read_whole(c, &place, req->buffer, c->options.chunk_bytes);
    if (rv == 0 && (req->verify || !verified_is(c, &req->id, &place))) {
        struct chunk_id is;
        digest_of(DIGEST_SHA256, req->buffer, place.size, is.bytes);
        if (chunk_id_equal(&is, &req->id)) {
            verified_note(c, &req->id, &place);
        } else {
            rv = TSR_ECORRUPT;
        }
    }
    if (rv == 0) {
        warm_note(c, &req->id, &place);
        req->size_out = place.size;
    }
    c->store->ops->close(c->store, &place);
    return rv;
}

static void get_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    int rv = get_chunk(req->chunks, req);
    if (rv != 0) {
        finish_failed(req, rv);
        return;
    }
    req_finish(req, 0);
}

void chunk_get(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        disk_step(req, get_run);
    }
}

/* --- open: for sendfile --------------------------------------------------------------------- */

/* Read all of it, so that its pages are in memory when a loop sends them; hashed on the way. */
static int pass_over(struct chunks *c, const struct chunk_id *id, const struct chunk_place *place,
                     bool hash)
{
    uint8_t scratch[SCRATCH];
    struct digest *d = hash ? digest_new(DIGEST_SHA256) : NULL;
    if (hash && d == NULL) {
        return TSR_ENOMEM;
    }
    int rv = 0;
    size_t at = 0;
    while (rv == 0 && at < place->size) {
        size_t want = place->size - at < sizeof scratch ? place->size - at : sizeof scratch;
        long n = c->store->ops->read(c->store, place, scratch, want, at);
        if (n < 0) {
            rv = (int)n;
        } else if ((size_t)n != want) {
            rv = TSR_ECORRUPT;
        } else if (hash) {
            digest_update(d, scratch, want);
        }
        at += want;
    }
    if (rv == 0 && hash) {
        struct chunk_id is;
        digest_final(d, is.bytes);
        rv = chunk_id_equal(&is, id) ? 0 : TSR_ECORRUPT;
    }
    digest_free(d);
    return rv;
}

static int open_chunk(struct chunks *c, struct chunk_req *req)
{
    struct chunk_place place;
    int rv = c->store->ops->open(c->store, CHUNK_DATA, &req->id, &place);
    if (rv != 0) {
        return rv;
    }
    bool verified = !req->verify && verified_is(c, &req->id, &place);
    if (place.fd < 0) {
        rv = TSR_ENOTSUP;
    } else if (place.size > c->options.chunk_bytes) {
        rv = TSR_ECORRUPT;
    } else if (!verified || !stamps_has(&c->warm, &req->id, place.stamp, read_mib(c), WARM_MIB)) {
        rv = pass_over(c, &req->id, &place, !verified);
        if (rv == 0) {
            if (!verified) {
                verified_note(c, &req->id, &place);
            }
            warm_note(c, &req->id, &place);
        }
    }
    if (rv != 0) {
        c->store->ops->close(c->store, &place);
        return rv;
    }
    req->place = place;
    req->size_out = place.size;
    return 0;
}

static void open_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    int rv = open_chunk(req->chunks, req);
    if (rv != 0) {
        finish_failed(req, rv);
        return;
    }
    req_finish(req, 0);
}

void chunk_open(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        disk_step(req, open_run);
    }
}

void chunk_release(struct chunks *c, struct chunk_place *place)
{
    if (place->file != NULL) {
        c->store->ops->close(c->store, place);
    }
}

/* --- manifests ------------------------------------------------------------------------------ */

int manifest_load(struct chunks *c, const struct chunk_id *id, struct manifest *out)
{
    struct chunk_place place;
    int rv = c->store->ops->open(c->store, CHUNK_MANIFEST, id, &place);
    if (rv != 0) {
        return rv;
    }
    size_t max = 16 * 1024 * 1024;
    char *data = place.size <= max ? malloc(place.size + 1) : NULL;
    if (data == NULL) {
        rv = place.size <= max ? TSR_ENOMEM : TSR_ECORRUPT;
    } else {
        rv = read_whole(c, &place, data, place.size);
    }
    c->store->ops->close(c->store, &place);
    if (rv == 0) {
        struct chunk_id is;
        digest_of(DIGEST_SHA256, data, place.size, is.bytes);
        rv = chunk_id_equal(&is, id) ? manifest_decode(data, place.size, out) : TSR_ECORRUPT;
    }
    free(data);
    return rv;
}

static void manifest_run(struct work *work)
{
    struct chunk_req *req = req_of(work);
    struct chunks *c = req->chunks;
    int rv = manifest_load(c, &req->id, &req->manifest);
    if (rv == TSR_ECORRUPT) {
        atomic_fetch_add(&c->bad_count, 1);
        metric_add(METRIC_chunks_bad_total, 1);
        char hex[65];
        hex_encode(req->id.bytes, 32, hex);
        (void)c->store->ops->quarantine(c->store, CHUNK_MANIFEST, &req->id);
        log_error("chunk", "bad manifest moved aside manifest=%s", hex);
    }
    req_finish(req, rv);
}

void chunk_manifest_get(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        req->manifest = (struct manifest){0};
        disk_step(req, manifest_run);
    }
}
