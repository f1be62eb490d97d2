/* Pins: which replicas this host keeps whatever their placement says, and when they were read. */
#include <stdlib.h>
#include <string.h>

#include "chunk/chunks.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

struct pin_note {
    struct pin_note *next;
    char name[CHUNK_PIN_NAME + 1];
    enum chunk_pin_event event;
    int64_t at_us;
};

static struct kv_val name_val(const char *name)
{
    return kv_val_of(name, strlen(name));
}

static int row_get(struct index *ix, const char *name, struct pin_row *row)
{
    struct kv_val val;
    int rv = kv_get(ix->kv, ix->txn, DB_PIN, name_val(name), &val);
    if (rv == 0 && val.size != sizeof(*row)) {
        rv = TSR_ECORRUPT;
    }
    if (rv == 0) {
        memcpy(row, val.data, sizeof(*row));
    }
    return rv;
}

static int row_put(struct index *ix, const char *name, const struct pin_row *row)
{
    return kv_put(ix->kv, ix->txn, DB_PIN, name_val(name), kv_val_of(row, sizeof(*row)));
}

/* --- add, remove ---------------------------------------------------------------------------- */

static int add_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < req->pin_count; i++) {
        const struct chunk_pin *pin = &req->pins[i];
        struct pin_row row;
        rv = row_get(&ix, pin->name, &row);
        if (rv == 0 && memcmp(row.manifest, pin->manifest.bytes, sizeof(row.manifest)) == 0) {
            continue;
        }
        if (rv == 0 || rv == TSR_ENOENT || rv == TSR_ECORRUPT) {
            row = (struct pin_row){.asked_us = pin->asked_us};
            memcpy(row.manifest, pin->manifest.bytes, sizeof(row.manifest));
            rv = row_put(&ix, pin->name, &row);
        }
    }
    req->chunks->sync_wanted = true;
    return rv;
}

static int remove_step(struct chunk_req *req, void *txn)
{
    struct chunks *c = req->chunks;
    int rv = 0;
    for (size_t i = 0; rv == 0 && i < req->pin_count; i++) {
        rv = kv_del(c->index, txn, DB_PIN, name_val(req->pins[i].name));
        rv = rv == TSR_ENOENT ? 0 : rv;
    }
    c->sync_wanted = true;
    return rv;
}

static void changed_then(struct chunk_req *req)
{
    atomic_fetch_add(&req->chunks->pin_changes, 1);
    req_finish(req, req->status);
}

void chunk_pin_add(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        index_step(req, add_step, changed_then);
    }
}

void chunk_pin_remove(struct chunks *c, struct chunk_req *req)
{
    if (req_begin(c, req)) {
        index_step(req, remove_step, changed_then);
    }
}

/* --- read ----------------------------------------------------------------------------------- */

struct pin_list {
    struct chunk_pin *items;
    size_t count, capacity;
};

static int list_one(void *arg, struct kv_val key, struct kv_val val)
{
    struct pin_list *list = arg;
    struct pin_row row;
    if (key.size > CHUNK_PIN_NAME || val.size != sizeof(row)) {
        return TSR_ECORRUPT;
    }
    if (list->count == list->capacity) {
        size_t more = list->capacity == 0 ? 16 : list->capacity * 2;
        struct chunk_pin *items = realloc(list->items, more * sizeof(*items));
        if (items == NULL) {
            return TSR_ENOMEM;
        }
        list->items = items;
        list->capacity = more;
    }
    memcpy(&row, val.data, sizeof(row));
    struct chunk_pin *pin = &list->items[list->count++];
    *pin = (struct chunk_pin){.asked_us = row.asked_us,
                              .here_us = row.here_us,
                              .read_us = row.read_us,
                              .reads = row.reads};
    memcpy(pin->name, key.data, key.size);
    memcpy(pin->manifest.bytes, row.manifest, sizeof(row.manifest));
    return 0;
}

int chunk_pins(struct chunks *c, struct chunk_pin **pins_out, size_t *count_out)
{
    struct pin_list list = {0};
    struct kv_txn *txn;
    int rv = kv_begin(c->index, false, &txn);
    if (rv == 0) {
        struct index ix = index_of(c, txn);
        rv = index_walk(&ix, DB_PIN, list_one, &list);
        kv_abort(c->index, txn);
    }
    if (rv != 0) {
        free(list.items);
        list = (struct pin_list){0};
    }
    *pins_out = list.items;
    *count_out = list.count;
    return rv;
}

bool chunk_pin_exists(struct chunks *c, const char *name)
{
    struct kv_txn *txn;
    struct pin_row row;
    if (kv_begin(c->index, false, &txn) != 0) {
        return false;
    }
    struct index ix = index_of(c, txn);
    int rv = row_get(&ix, name, &row);
    kv_abort(c->index, txn);
    return rv == 0;
}

unsigned chunk_pin_changes(struct chunks *c)
{
    return atomic_load(&c->pin_changes);
}

/* --- notes: gathered in a lock-free list, written by a request of the service's own ----------- */

static void free_notes(struct pin_note *notes)
{
    while (notes != NULL) {
        struct pin_note *next = notes->next;
        free(notes);
        notes = next;
    }
}

/* May run more than once for the same notes: nothing is taken off them. */
static int note_step(struct chunk_req *req, void *txn)
{
    struct index ix = index_of(req->chunks, txn);
    int rv = 0;
    for (const struct pin_note *n = req->chunks->pin_noting; rv == 0 && n != NULL; n = n->next) {
        struct pin_row row;
        rv = row_get(&ix, n->name, &row);
        if (rv == TSR_ENOENT) {
            rv = 0;
            continue;
        }
        if (rv == 0 && n->event == CHUNK_PIN_READ) {
            row.reads++;
            row.read_us = n->at_us > row.read_us ? n->at_us : row.read_us;
        } else if (rv == 0 && row.here_us == 0) {
            row.here_us = n->at_us;
        }
        rv = rv == 0 ? row_put(&ix, n->name, &row) : rv;
    }
    return rv;
}

static void start_noting(struct chunks *c);

static void noted_then(struct chunk_req *req)
{
    struct chunks *c = req->chunks;
    if (req->status != 0) {
        log_warn("chunk", "use of kept images was not noted error=%s", err_name(req->status));
    }
    free_notes(c->pin_noting);
    c->pin_noting = NULL;
    atomic_store(&c->pin_note_busy, false);
    if (!atomic_load(&c->closing)) {
        start_noting(c);
    }
    chunks_release_holder(c);
}

static void start_noting(struct chunks *c)
{
    if (atomic_load(&c->pin_notes) == NULL || atomic_exchange(&c->pin_note_busy, true)) {
        return; /* whoever is at it looks again */
    }
    atomic_fetch_add(&c->holders, 1);
    c->pin_noting = atomic_exchange(&c->pin_notes, NULL);
    c->pin_note_req.chunks = c;
    index_step(&c->pin_note_req, note_step, noted_then);
}

void chunk_pin_note(struct chunks *c, const char *name, enum chunk_pin_event event)
{
    struct pin_note *n = atomic_load(&c->closing) ? NULL : calloc(1, sizeof(*n));
    if (n == NULL || !str_copy(n->name, sizeof(n->name), name)) {
        free(n);
        return;
    }
    n->event = event;
    n->at_us = loop_wall_us(c->loop);
    n->next = atomic_load(&c->pin_notes);
    while (!atomic_compare_exchange_weak(&c->pin_notes, &n->next, n)) {
    }
    start_noting(c);
}

void pins_free(struct chunks *c)
{
    free_notes(atomic_exchange(&c->pin_notes, NULL));
    free_notes(c->pin_noting);
}
