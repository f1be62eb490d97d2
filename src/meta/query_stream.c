#include "meta/query.h"

void streams_init(struct streams *s, struct meta_view *v, unsigned db, bool descending)
{
    s->view = v;
    s->db = db;
    s->descending = descending;
    s->count = 0;
}

void streams_close(struct streams *s)
{
    for (size_t i = 0; i < s->count; i++) {
        kv_cursor_close(s->view->meta->kv, s->items[i].cursor);
    }
    s->count = 0;
}

int streams_add(struct streams *s, const struct key *prefix)
{
    if (s->count == STREAMS_MAX) {
        return TSR_ETOOBIG;
    }
    struct stream *st = &s->items[s->count];
    int rc = kv_cursor_open(s->view->meta->kv, s->view->txn, s->db, &st->cursor);
    if (rc != 0) {
        return rc;
    }
    st->prefix = *prefix;
    st->done = false;
    s->count++;
    return 0;
}

static int move(struct streams *s, struct stream *st, enum kv_seek how, struct kv_val key)
{
    struct kv_val value;
    st->key = key;
    int rc = kv_cursor_move(s->view->meta->kv, st->cursor, how, &st->key, &value);
    st->done = rc != 0 || !val_starts(st->key, &st->prefix);
    return rc == TSR_ENOENT ? 0 : rc;
}

/* Ascending: the first key not below @bound. Descending: the last key below it. */
static int seek(struct streams *s, struct stream *st, const struct key *bound)
{
    struct kv_val value;
    if (!s->descending) {
        return move(s, st, KV_GE, key_val(bound));
    }
    st->key = key_val(bound);
    int rc = kv_cursor_move(s->view->meta->kv, st->cursor, KV_GE, &st->key, &value);
    if (rc != 0 && rc != TSR_ENOENT) {
        return rc;
    }
    return move(s, st, rc == 0 ? KV_PREV : KV_LAST, (struct kv_val){0});
}

int streams_seek(struct streams *s, const struct key *after)
{
    for (size_t i = 0; i < s->count; i++) {
        struct key bound = s->items[i].prefix;
        if (after != NULL) {
            key_bytes(&bound, after->data, after->size);
            if (!s->descending) {
                key_byte(&bound, 0); /* the next possible key */
            }
        } else if (s->descending) {
            key_after_prefix(&bound);
        }
        int rc = seek(s, &s->items[i], &bound);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int streams_seek_run(struct streams *s, const struct key *run)
{
    for (size_t i = 0; i < s->count; i++) {
        struct key bound = s->items[i].prefix;
        key_bytes(&bound, run->data, run->size);
        if (s->descending) {
            key_after_prefix(&bound);
        }
        int rc = seek(s, &s->items[i], &bound);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static struct kv_val tail_of(const struct stream *st)
{
    return kv_val_of((const uint8_t *)st->key.data + st->prefix.size,
                     st->key.size - st->prefix.size);
}

int streams_next(struct streams *s, struct kv_val *tail_out)
{
    struct stream *best = NULL;
    struct kv_val tail = {0};
    for (size_t i = 0; i < s->count; i++) {
        struct stream *st = &s->items[i];
        if (st->done) {
            continue;
        }
        struct kv_val t = tail_of(st);
        int c = best == NULL ? 0 : bytes_compare(t.data, t.size, tail.data, tail.size);
        if (best == NULL || (s->descending ? c > 0 : c < 0)) {
            best = st;
            tail = t;
        }
    }
    if (best == NULL) {
        return TSR_ENOENT;
    }
    for (size_t i = 0; i < s->count; i++) {
        struct stream *st = &s->items[i];
        struct kv_val t = st->done ? (struct kv_val){0} : tail_of(st);
        if (!st->done && bytes_compare(t.data, t.size, tail.data, tail.size) == 0) {
            int rc = move(s, st, s->descending ? KV_PREV : KV_NEXT, (struct kv_val){0});
            if (rc != 0) {
                return rc;
            }
        }
    }
    *tail_out = tail;
    return 0;
}
