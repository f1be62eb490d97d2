#include "meta/writeset.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/digest.h"

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    max_align_t data[];
};

enum { BLOCK_SIZE = 64 * 1024 };

void writeset_init(struct writeset *w, struct kv *kv, struct kv_txn *txn)
{
    *w = (struct writeset){.kv = kv, .txn = txn};
}

static void free_blocks(struct arena_block *b)
{
    while (b != NULL) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
}

void writeset_free(struct writeset *w)
{
    free_blocks(w->blocks);
    free(w->items);
    *w = (struct writeset){0};
}

void writeset_reset(struct writeset *w)
{
    w->count = 0;
    if (w->blocks == NULL) {
        return;
    }
    /* The oldest block has the usual size: keep that one. */
    struct arena_block *b = w->blocks;
    while (b->next != NULL) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    b->used = 0;
    w->blocks = b;
}

static int fail(struct writeset *w, int rc)
{
    if (w->error == 0) {
        w->error = rc;
    }
    return rc;
}

void *writeset_alloc(struct writeset *w, size_t size)
{
    size_t need = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (w->blocks == NULL || w->blocks->size - w->blocks->used < need) {
        size_t room = need > BLOCK_SIZE ? need : BLOCK_SIZE;
        struct arena_block *b = malloc(sizeof(*b) + room);
        if (b == NULL) {
            fail(w, TSR_ENOMEM);
            return NULL;
        }
        *b = (struct arena_block){.next = w->blocks, .size = room};
        w->blocks = b;
    }
    void *p = (char *)w->blocks->data + w->blocks->used;
    w->blocks->used += need;
    return p;
}

static struct kv_val copy(struct writeset *w, struct kv_val v)
{
    void *p = writeset_alloc(w, v.size);
    if (p == NULL) {
        return (struct kv_val){0};
    }
    if (v.size != 0) {
        memcpy(p, v.data, v.size);
    }
    return kv_val_of(p, v.size);
}

/* First item not before (db, key); *found when it is equal. */
static size_t find(const struct writeset *w, unsigned db, struct kv_val key, bool *found)
{
    size_t low = 0, high = w->count;
    *found = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const struct write *i = &w->items[mid];
        int c = i->db != db ? (i->db < db ? -1 : 1)
                            : bytes_compare(i->key.data, i->key.size, key.data, key.size);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

int writeset_get(struct writeset *w, unsigned db, struct kv_val key, struct kv_val *out)
{
    if (w->error != 0) {
        return w->error;
    }
    bool found;
    size_t at = find(w, db, key, &found);
    if (found) {
        if (w->items[at].del) {
            return TSR_ENOENT;
        }
        *out = w->items[at].value;
        return 0;
    }
    int rc = kv_get(w->kv, w->txn, db, key, out);
    return rc == 0 || rc == TSR_ENOENT ? rc : fail(w, rc);
}

/* The item for (db, key), new or old; NULL when out of memory. */
static struct write *slot(struct writeset *w, unsigned db, struct kv_val key)
{
    bool found;
    size_t at = find(w, db, key, &found);
    if (found) {
        return &w->items[at];
    }
    if (w->count == w->capacity) {
        size_t capacity = w->capacity == 0 ? 64 : 2 * w->capacity;
        struct write *items = realloc(w->items, capacity * sizeof(*items));
        if (items == NULL) {
            fail(w, TSR_ENOMEM);
            return NULL;
        }
        w->items = items;
        w->capacity = capacity;
    }
    struct kv_val own = copy(w, key);
    if (own.data == NULL) {
        return NULL;
    }
    memmove(&w->items[at + 1], &w->items[at], (w->count - at) * sizeof(*w->items));
    w->count++;
    w->items[at] = (struct write){.db = (uint8_t)db, .del = true, .key = own};
    return &w->items[at];
}

void writeset_put(struct writeset *w, unsigned db, struct kv_val key, struct kv_val value)
{
    struct kv_val own = copy(w, value);
    struct write *s = own.data == NULL ? NULL : slot(w, db, key);
    if (s != NULL) {
        s->del = false;
        s->value = own;
    }
}

void writeset_del(struct writeset *w, unsigned db, struct kv_val key)
{
    struct write *s = slot(w, db, key);
    if (s != NULL) {
        s->del = true;
        s->value = (struct kv_val){0};
    }
}

static bool in_prefix(struct kv_val key, const struct key *prefix)
{
    return val_starts(key, prefix);
}

/* Merge what the store holds with what is held back. */
static int scan_merge(struct writeset *w, unsigned db, const struct key *prefix,
                      struct kv_cursor *cursor, writeset_scan_cb cb, void *arg)
{
    bool found;
    size_t at = find(w, db, key_val(prefix), &found);
    struct kv_val key = key_val(prefix), value;
    int rc = kv_cursor_move(w->kv, cursor, KV_GE, &key, &value);
    for (;;) {
        bool base = rc == 0 && in_prefix(key, prefix);
        if (rc != 0 && rc != TSR_ENOENT) {
            return fail(w, rc);
        }
        const struct write *own = NULL;
        if (at < w->count && w->items[at].db == db && in_prefix(w->items[at].key, prefix)) {
            own = &w->items[at];
        }
        if (!base && own == NULL) {
            return 0;
        }
        int c = own == NULL ? 1
                : !base     ? -1
                            : bytes_compare(own->key.data, own->key.size, key.data, key.size);
        int stop = 0;
        if (c > 0) {
            stop = cb(arg, key, value);
        } else {
            stop = own->del ? 0 : cb(arg, own->key, own->value);
            at++;
        }
        if (stop != 0) {
            return stop;
        }
        if (c >= 0) {
            rc = kv_cursor_move(w->kv, cursor, KV_NEXT, &key, &value);
        }
    }
}

int writeset_scan(struct writeset *w, unsigned db, const struct key *prefix, writeset_scan_cb cb,
                  void *arg)
{
    struct kv_cursor *cursor;
    if (w->error != 0) {
        return w->error;
    }
    int rc = kv_cursor_open(w->kv, w->txn, db, &cursor);
    if (rc != 0) {
        return fail(w, rc);
    }
    rc = scan_merge(w, db, prefix, cursor, cb, arg);
    kv_cursor_close(w->kv, cursor);
    return rc;
}

static void digest_effect(struct digest *digest, const struct write *i)
{
    struct key head;
    key_init(&head);
    key_byte(&head, i->del ? 'd' : 'p');
    key_byte(&head, i->db);
    key_be64(&head, i->key.size);
    key_be64(&head, i->value.size);
    key_bytes(&head, i->key.data, i->key.size <= 400 ? i->key.size : 0);
    digest_update(digest, head.data, head.size);
    if (i->key.size > 400) {
        digest_update(digest, i->key.data, i->key.size);
    }
    if (i->value.size != 0) {
        digest_update(digest, i->value.data, i->value.size);
    }
}

int writeset_flush(struct writeset *w, struct digest *digest)
{
    for (size_t n = 0; n < w->count && w->error == 0; n++) {
        const struct write *i = &w->items[n];
        int rc = i->del ? kv_del(w->kv, w->txn, i->db, i->key)
                        : kv_put(w->kv, w->txn, i->db, i->key, i->value);
        /* A key that a batch made and deleted again never was in the store. */
        if (rc != 0 && !(i->del && rc == TSR_ENOENT)) {
            return fail(w, rc);
        }
        digest_effect(digest, i);
    }
    return w->error;
}

int writeset_get_json(struct writeset *w, unsigned db, const struct key *key, json_t **out)
{
    struct kv_val value;
    int rc = writeset_get(w, db, key_val(key), &value);
    if (rc != 0) {
        return rc;
    }
    rc = record_parse(key_val(key), value, out);
    return rc == 0 ? 0 : fail(w, rc);
}

void writeset_put_text(struct writeset *w, unsigned db, const struct key *key, const void *text,
                       size_t size)
{
    uint8_t *p = writeset_alloc(w, size + 4);
    if (p == NULL) {
        return;
    }
    record_encode(key_val(key), text, size, p);
    struct write *s = slot(w, db, key_val(key));
    if (s != NULL) {
        s->del = false;
        s->value = kv_val_of(p, size + 4);
    }
}

void writeset_put_json(struct writeset *w, unsigned db, const struct key *key, const json_t *value)
{
    size_t size;
    char *text = json_text(value, &size);
    if (text == NULL) {
        fail(w, TSR_ENOMEM);
        return;
    }
    writeset_put_text(w, db, key, text, size);
    free(text);
}
