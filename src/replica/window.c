/* The reader: a window of chunks ahead of what the client takes, in order.
 *
 * Happy path: manifest (here, else from a peer, checked against its name) -> `fill` opens slots for
 * the next chunks: a zero chunk is ready at once; for a plain connection a local chunk becomes a
 * file range; all others get a buffer and are fetched, several at a time -> `next` gives the first
 * slot when it is ready and, at the following call, lets go of it. Buffers: two are everybody's
 * right (one on its way out, one coming in), more only while half of the class is free; they go to
 * the earliest slot first, so the window always moves. A client that stops reading keeps its
 * buffers for minutes; so when there are none, a local chunk becomes a file range on any
 * connection: a few such clients must not hold up all the others. Failures: a slot that failed ends
 * the reading there: what came before was good, nothing follows. Close: any time; what is under way
 * ends by itself and takes the reader with it. */
#include "replica/manifest_fetch.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/list.h"

enum { WINDOW = 5, BUFFERS_MIN = 2 };

/* Pages that are never written: the system backs them all by its one page of zeros. */
static uint8_t zeros[CHUNK_BYTES_MAX];

enum slot_state { SLOT_OPENING, SLOT_NEEDS_BUFFER, SLOT_FETCHING, SLOT_READY };

struct read_slot {
    struct list node;
    struct replica_reader *r;
    uint32_t n;
    enum slot_state state;
    int status;
    struct chunk_req open;
    bool file, zero;
    void *buffer;
    struct fetch *fetch;
};

struct replica_reader {
    struct replica_ctx *ctx;
    struct manifest manifest;
    bool have_manifest, here; /* the manifest is in our own store */
    uint64_t offset, end;     /* of the range, once the size is known */
    uint64_t length;
    bool want_files;
    struct source_set sources;
    struct manifest_fetch *finding;

    struct list slots; /* in order; the first may be the one that was given */
    unsigned slot_count, held;
    uint32_t next_n, end_n; /* chunks to be opened */
    struct bufpool_waiter waiter;
    bool waiting, given;

    replica_open_cb open_cb;
    replica_piece_cb piece_cb;
    void *open_arg, *piece_arg;
    struct task task;
    bool task_posted, closed;
    unsigned busy; /* callbacks to come */
};

static void fill(struct replica_reader *r);
static void serve_buffers(struct replica_reader *r);

/* --- slots ---------------------------------------------------------------------------------- */

static struct read_slot *first_slot(struct replica_reader *r)
{
    return list_empty(&r->slots) ? NULL : container_of(r->slots.next, struct read_slot, node);
}

static void maybe_free(struct replica_reader *r)
{
    if (!r->closed || r->busy > 0 || r->task_posted) {
        return;
    }
    manifest_free(&r->manifest);
    free(r);
}

/* Lets go of a slot in which nothing is under way but perhaps a fetch. */
static void slot_free(struct read_slot *slot)
{
    struct replica_reader *r = slot->r;
    void *buffer = slot->buffer;
    if (slot->fetch != NULL) {
        fetch_cancel(slot->fetch); /* gives the buffer back */
        buffer = NULL;
        r->held--;
    }
    if (slot->file) {
        chunk_release(r->ctx->chunks, &slot->open.place);
    }
    list_remove(&slot->node);
    r->slot_count--;
    free(slot);
    if (buffer != NULL) {
        r->held--;
        bufpool_put(r->ctx->relay_buffers, buffer); /* may wake our own waiter */
    }
}

static void deliver_task(struct task *task);

/* The caller waits and the first slot has something to say. */
static void deliver_soon(struct replica_reader *r)
{
    struct read_slot *slot = first_slot(r);
    if (r->piece_cb == NULL || r->task_posted ||
        (slot != NULL ? slot->state != SLOT_READY : r->next_n < r->end_n)) {
        return;
    }
    r->task_posted = true;
    r->task.run = deliver_task;
    loop_post(r->ctx->loop, &r->task);
}

static void slot_ready(struct read_slot *slot, int status)
{
    slot->state = SLOT_READY;
    slot->status = status;
    deliver_soon(slot->r);
}

static void fetched_cb(void *arg, int status, size_t size)
{
    struct read_slot *slot = arg;
    (void)size;
    slot->fetch = NULL;
    slot_ready(slot, status);
}

/* --- buffers -------------------------------------------------------------------------------- */

/* The store here was asked for a file. */
static bool slot_asked(const struct read_slot *slot)
{
    return slot->open.chunks != NULL;
}

static void fetch_slot(struct read_slot *slot, void *buffer)
{
    struct replica_reader *r = slot->r;
    /* For files the store here was asked already. */
    bool asked = slot_asked(slot);
    struct fetch_options o = {
        .ctx = r->ctx,
        .pool = r->ctx->relay_buffers,
        .sources = &r->sources,
        .id = r->manifest.chunks[slot->n],
        .size = manifest_chunk_size(&r->manifest, slot->n),
        .flags =
            (asked && slot->status != TSR_ENOTSUP ? 0u : FETCH_LOCAL) | (r->here ? FETCH_HEAL : 0u),
        .buffer = buffer,
        .cb = fetched_cb,
        .arg = slot,
    };
    slot->buffer = buffer;
    slot->state = SLOT_FETCHING;
    slot->fetch = fetch_start(&o);
    if (slot->fetch == NULL) {
        slot_ready(slot, TSR_ENOMEM);
    }
}

static void waiter_cb(struct bufpool_waiter *waiter, void *buffer)
{
    struct replica_reader *r = container_of(waiter, struct replica_reader, waiter);
    r->waiting = false;
    r->held++;
    list_each(node, &r->slots)
    {
        struct read_slot *slot = container_of(node, struct read_slot, node);
        if (slot->state == SLOT_NEEDS_BUFFER) {
            fetch_slot(slot, buffer);
            serve_buffers(r);
            return;
        }
    }
    r->held--;
    bufpool_put(r->ctx->relay_buffers, buffer);
}

static void *take_buffer(struct replica_reader *r)
{
    struct bufpool *pool = r->ctx->relay_buffers;
    if (r->waiting ||
        (r->held >= BUFFERS_MIN && bufpool_in_use(pool) * 2 >= bufpool_count_max(pool))) {
        return NULL;
    }
    void *buffer = bufpool_get(pool);
    if (buffer != NULL) {
        r->held++;
    } else if (r->held < BUFFERS_MIN) {
        r->waiting = true;
        bufpool_wait(pool, &r->waiter);
    }
    return buffer;
}

static void slot_open(struct read_slot *slot);

/* All that can go on without a buffer does. */
static void do_without_buffers(struct replica_reader *r)
{
    list_each(node, &r->slots)
    {
        struct read_slot *slot = container_of(node, struct read_slot, node);
        if (slot->state == SLOT_NEEDS_BUFFER && !slot_asked(slot) && r->ctx->chunks != NULL) {
            slot_open(slot);
        }
    }
}

static void serve_buffers(struct replica_reader *r)
{
    list_each(node, &r->slots)
    {
        struct read_slot *slot = container_of(node, struct read_slot, node);
        if (slot->state != SLOT_NEEDS_BUFFER) {
            continue;
        }
        void *buffer = take_buffer(r);
        if (buffer != NULL) {
            fetch_slot(slot, buffer);
            continue;
        }
        if (r->waiting) {
            do_without_buffers(r);
        }
        return;
    }
}

/* --- the window ----------------------------------------------------------------------------- */

static void opened_cb(struct chunk_req *req, int status)
{
    struct read_slot *slot = req->arg;
    struct replica_reader *r = slot->r;
    r->busy--;
    slot->file = status == 0;
    if (r->closed) {
        slot_free(slot);
        maybe_free(r);
        return;
    }
    if (status == 0 && req->place.size == manifest_chunk_size(&r->manifest, slot->n)) {
        slot_ready(slot, 0);
        return;
    }
    if (slot->file) {
        chunk_release(r->ctx->chunks, &req->place);
        slot->file = false;
    }
    slot->status = status;
    slot->state = SLOT_NEEDS_BUFFER;
    serve_buffers(r);
}

static void slot_open(struct read_slot *slot)
{
    struct replica_reader *r = slot->r;
    slot->state = SLOT_OPENING;
    slot->open.loop = r->ctx->loop;
    slot->open.cb = opened_cb;
    slot->open.arg = slot;
    slot->open.id = r->manifest.chunks[slot->n];
    r->busy++;
    chunk_open(r->ctx->chunks, &slot->open);
}

static void slot_start(struct read_slot *slot)
{
    struct replica_reader *r = slot->r;
    if (slot->zero) {
        slot->state = SLOT_READY;
    } else if (r->want_files && r->ctx->chunks != NULL) {
        slot_open(slot);
    } else {
        slot->state = SLOT_NEEDS_BUFFER;
    }
}

static void fill(struct replica_reader *r)
{
    while (r->slot_count < WINDOW && r->next_n < r->end_n) {
        struct read_slot *slot = calloc(1, sizeof *slot);
        if (slot == NULL) {
            break; /* fewer ahead; with none at all the next piece says so */
        }
        slot->r = r;
        slot->n = r->next_n++;
        slot->zero = chunk_id_is_zero(&r->manifest.chunks[slot->n]);
        list_push(&r->slots, &slot->node);
        r->slot_count++;
        slot_start(slot);
    }
    serve_buffers(r);
}

/* --- pieces --------------------------------------------------------------------------------- */

static struct replica_piece piece_of(const struct read_slot *slot)
{
    const struct replica_reader *r = slot->r;
    uint64_t start = (uint64_t)slot->n * r->manifest.chunk_bytes;
    uint64_t stop = start + manifest_chunk_size(&r->manifest, slot->n);
    uint64_t from = start > r->offset ? start : r->offset;
    uint64_t to = stop < r->end ? stop : r->end;
    struct replica_piece piece = {.size = (size_t)(to - from), .fd = -1};
    if (slot->file) {
        piece.file = true;
        piece.fd = slot->open.place.fd;
        piece.offset = slot->open.place.offset + (int64_t)(from - start);
    } else {
        piece.data = (slot->zero ? zeros : (const uint8_t *)slot->buffer) + (from - start);
    }
    return piece;
}

static void deliver_task(struct task *task)
{
    struct replica_reader *r = container_of(task, struct replica_reader, task);
    r->task_posted = false;
    if (r->closed) {
        maybe_free(r);
        return;
    }
    struct read_slot *slot = first_slot(r);
    if (r->piece_cb == NULL || (slot != NULL && slot->state != SLOT_READY)) {
        return;
    }
    struct replica_piece piece = {.fd = -1};
    int status = 0;
    if (slot != NULL) {
        status = slot->status;
        r->given = status == 0;
        if (status == 0) {
            piece = piece_of(slot);
        }
    } else if (r->next_n < r->end_n) {
        status = TSR_ENOMEM;
    }
    replica_piece_cb cb = r->piece_cb;
    r->piece_cb = NULL;
    cb(r->piece_arg, status, status == 0 ? &piece : NULL);
}

void replica_reader_next(struct replica_reader *r, replica_piece_cb cb, void *arg)
{
    tsr_assert(r->have_manifest && r->piece_cb == NULL && !r->closed);
    if (r->given) {
        r->given = false;
        slot_free(first_slot(r));
    }
    r->piece_cb = cb;
    r->piece_arg = arg;
    fill(r);
    if (list_empty(&r->slots) && !r->task_posted) { /* the end, or no memory */
        r->task_posted = true;
        r->task.run = deliver_task;
        loop_post(r->ctx->loop, &r->task);
    }
    deliver_soon(r);
}

/* --- open ----------------------------------------------------------------------------------- */

static void set_range(struct replica_reader *r)
{
    const struct manifest *m = &r->manifest;
    if (r->offset > m->size) {
        r->offset = m->size;
    }
    r->end = r->length < m->size - r->offset ? r->offset + r->length : m->size;
    if (r->end > r->offset) {
        r->next_n = (uint32_t)(r->offset / m->chunk_bytes);
        r->end_n = (uint32_t)((r->end - 1) / m->chunk_bytes) + 1;
    }
}

static void manifest_cb(void *arg, int status, struct manifest *manifest, bool here)
{
    struct replica_reader *r = arg;
    r->finding = NULL;
    if (status == 0) {
        r->manifest = *manifest;
        r->here = here;
        if (manifest->chunk_bytes != r->ctx->chunk_bytes) {
            status = TSR_ECORRUPT; /* buffers are of the cluster's chunk size */
        }
    }
    if (status == 0) {
        r->have_manifest = true;
        set_range(r);
        fill(r); /* read ahead while the head of the answer is made */
    }
    r->open_cb(r->open_arg, status, status == 0 ? r->manifest.size : 0);
}

int replica_reader_open(struct replica_ctx *ctx, const struct chunk_id *manifest, uint64_t offset,
                        uint64_t length, const uint64_t *hosts, size_t host_count, bool want_files,
                        replica_open_cb cb, void *arg, struct replica_reader **out)
{
    struct replica_reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return TSR_ENOMEM;
    }
    r->ctx = ctx;
    r->offset = offset;
    r->length = length;
    r->want_files = want_files;
    r->open_cb = cb;
    r->open_arg = arg;
    r->waiter.cb = waiter_cb;
    list_init(&r->waiter.node);
    list_init(&r->slots);
    sources_init(&r->sources, ctx->self, hosts, host_count);
    r->finding = manifest_fetch_start(ctx, manifest, &r->sources, manifest_cb, r);
    if (r->finding == NULL) {
        free(r);
        return TSR_ENOMEM;
    }
    *out = r;
    return 0;
}

void replica_reader_close(struct replica_reader *r)
{
    if (r == NULL) {
        return;
    }
    tsr_assert(!r->closed);
    r->closed = true;
    r->piece_cb = NULL;
    if (r->waiting) {
        bufpool_unwait(r->ctx->relay_buffers, &r->waiter);
        r->waiting = false;
    }
    if (r->finding != NULL) {
        manifest_fetch_cancel(r->finding);
    }
    list_each(node, &r->slots)
    {
        struct read_slot *slot = container_of(node, struct read_slot, node);
        if (slot->state != SLOT_OPENING) {
            slot_free(slot);
        }
    }
    maybe_free(r);
}
