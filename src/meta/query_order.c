/* The order of a listing: given keys, then ties by created_at and id (image-api 4.1). */
#include <stdlib.h>
#include <string.h>

#include "meta/index.h"
#include "meta/query.h"

static bool order_has(const struct order *o, enum meta_sort key)
{
    for (size_t i = 0; i < o->count; i++) {
        if (o->keys[i].key == key) {
            return true;
        }
    }
    return false;
}

/* Keys after the id, and keys named again, change nothing. */
static void order_add(struct order *o, enum meta_sort key, bool descending)
{
    if (!order_has(o, key) && !order_has(o, SORT_ID)) {
        o->keys[o->count].key = key;
        o->keys[o->count].descending = descending;
        o->count++;
    }
}

static bool order_plain(const struct order *o)
{
    for (size_t i = 1; i < o->count; i++) {
        if (o->keys[i].descending != o->keys[0].descending) {
            return false;
        }
    }
    return o->count == 1 || /* id */
           (o->count == 2 && o->keys[0].key == SORT_CREATED_AT) ||
           (o->count == 3 && o->keys[1].key == SORT_CREATED_AT);
}

void order_of(const struct meta_image_query *q, struct order *out)
{
    *out = (struct order){0};
    bool ties = true; /* descending */
    for (size_t i = 0; i < q->sort_count && i < SORT_COUNT; i++) {
        order_add(out, q->sort[i].key, q->sort[i].descending);
        ties = i == 0 ? q->sort[i].descending : ties || q->sort[i].descending;
    }
    order_add(out, SORT_CREATED_AT, ties);
    order_add(out, SORT_ID, ties);
    out->plain = order_plain(out);
}

int place_of(const struct order *o, const json_t *image, struct place *out)
{
    struct key values[SORT_COUNT + 2];
    size_t size = 0;
    for (size_t i = 0; i < o->count; i++) {
        key_init(&values[i]);
        index_value(&values[i], image, o->keys[i].key);
        out->start[i] = size;
        size += values[i].size;
    }
    out->start[o->count] = size;
    out->data = malloc(size + 1); /* no key at all is an order too */
    if (out->data == NULL) {
        return TSR_ENOMEM;
    }
    for (size_t i = 0; i < o->count; i++) {
        memcpy(out->data + out->start[i], values[i].data, values[i].size);
    }
    return 0;
}

int place_compare(const struct order *o, const struct place *a, const struct place *b)
{
    for (size_t i = 0; i < o->count; i++) {
        int c = bytes_compare(a->data + a->start[i], a->start[i + 1] - a->start[i],
                              b->data + b->start[i], b->start[i + 1] - b->start[i]);
        if (c != 0) {
            return o->keys[i].descending ? -c : c;
        }
    }
    return 0;
}
