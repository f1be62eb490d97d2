/* Listing images.
 *
 * Which keys of which index can hold matches (buckets, see index.h) is worked out from who asks and
 * from the filters; their streams are merged in order, each candidate's record is read and decides.
 * Three ways: page    the index is in the asked order: read until the page is full; runs    several
 * sort keys: the index gives the first; equal first values are sorted together, holding no more
 * than a page of them; pick    a filter names few images (id, name, tag): read them all and keep
 * the first page. Given up after PICK_MAX candidates in favour of the others. The merge gives each
 * image once, so buckets may overlap. */
#include <stdlib.h>
#include <string.h>

#include "meta/index.h"
#include "meta/query.h"

enum { PICK_MAX = 4096, BUCKETS_MAX = 8 };

struct list_run {
    struct meta_view *v;
    const struct meta_image_query *q;
    struct see see;
    struct order order;
    struct prefilter prefilter;
    json_t *marker; /* record, or NULL */
    struct place marker_place;
    json_t *page; /* array: up to limit + 1 images */
    size_t want;  /* limit + 1 */
    struct pick {
        struct place place;
        json_t *image;
    } * picks; /* sorted; of pick and runs */
    size_t pick_count, pick_capacity;
    struct streams streams;
};

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

/* The first filter that names texts of @field exactly, or NULL. */
static const struct meta_filter *exact_filter(const struct meta_image_query *q, const char *field)
{
    for (size_t i = 0; i < q->filter_count; i++) {
        const struct meta_filter *f = &q->filters[i];
        if (is(f->field, field) && !f->numeric &&
            (f->compare == CMP_IN || (f->compare == CMP_EQ && f->value_count == 1))) {
            return f;
        }
    }
    return NULL;
}

/* --- candidates
 * ----------------------------------------------------------------------------------- */

/* 1 and *out when the record of @id belongs to the listing, 0 when not, or an error. */
static int candidate(struct list_run *r, const struct key *id, json_t **out)
{
    struct meta_view *v = r->v;
    struct kv_val value;
    const char *text;
    size_t size;
    json_t *image = NULL;
    int rc = kv_get(v->meta->kv, v->txn, DB_IMAGE, key_val(id), &value);
    if (rc != 0) {
        return rc;
    }
    if (record_decode(key_val(id), value, &text, &size) != 0) {
        return meta_report_damage(v->meta, DB_IMAGE);
    }
    if (!prefilter_match(&r->prefilter, text, size)) {
        return 0;
    }
    image = json_parse(text, size);
    if (image == NULL) {
        return meta_report_damage(v->meta, DB_IMAGE);
    }
    int yes = json_bool(image, "os_hidden", false) == r->q->hidden &&
              filter_match(r->q->filters, r->q->filter_count, image);
    if (yes) {
        yes = see_listed(v, &r->see, image);
    }
    if (yes != 1) {
        json_decref(image);
        return yes;
    }
    *out = image;
    return 1;
}

/* The image that an index key names. */
static int tail_candidate(struct list_run *r, struct kv_val tail, json_t **out)
{
    struct key id;
    if (tail.size < META_IMAGE_ID_SIZE) {
        return meta_report_damage(r->v->meta, r->streams.db);
    }
    key_init(&id);
    key_bytes(&id, (const uint8_t *)tail.data + tail.size - META_IMAGE_ID_SIZE, META_IMAGE_ID_SIZE);
    int rc = candidate(r, &id, out);
    return rc == TSR_ENOENT ? meta_report_damage(r->v->meta, r->streams.db) : rc;
}

/* --- picking the first of many
 * ------------------------------------------------------------------------ */

static void picks_free(struct list_run *r)
{
    for (size_t i = 0; i < r->pick_count; i++) {
        free(r->picks[i].place.data);
        json_decref(r->picks[i].image);
    }
    r->pick_count = 0;
}

static int picks_room(struct list_run *r)
{
    if (r->pick_count < r->pick_capacity) {
        return 0;
    }
    size_t capacity = r->pick_capacity == 0 ? 64 : 2 * r->pick_capacity;
    struct pick *picks = realloc(r->picks, capacity * sizeof(*picks));
    if (picks == NULL) {
        return TSR_ENOMEM;
    }
    r->picks = picks;
    r->pick_capacity = capacity;
    return 0;
}

/* Keep @image (taken) if it is among the first @most behind the marker. */
static int pick_offer(struct list_run *r, json_t *image, size_t most)
{
    struct place place;
    int rc = place_of(&r->order, image, &place);
    if (rc == 0 && picks_room(r) != 0) {
        free(place.data);
        rc = TSR_ENOMEM;
    }
    if (rc != 0) {
        json_decref(image);
        return rc;
    }
    size_t low = 0, high = r->pick_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (place_compare(&r->order, &r->picks[mid].place, &place) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    bool behind = r->marker == NULL || place_compare(&r->order, &place, &r->marker_place) > 0;
    if (!behind || low >= most) {
        free(place.data);
        json_decref(image);
        return 0;
    }
    if (r->pick_count == most) {
        r->pick_count--;
        free(r->picks[r->pick_count].place.data);
        json_decref(r->picks[r->pick_count].image);
    }
    memmove(&r->picks[low + 1], &r->picks[low], (r->pick_count - low) * sizeof(*r->picks));
    r->picks[low] = (struct pick){place, image};
    r->pick_count++;
    return 0;
}

static int picks_flush(struct list_run *r)
{
    for (size_t i = 0; i < r->pick_count; i++) {
        if (json_array_append(r->page, r->picks[i].image) != 0) {
            return TSR_ENOMEM;
        }
    }
    picks_free(r);
    return 0;
}

/* --- which buckets
 * -------------------------------------------------------------------------------------- */

struct buckets {
    struct key items[BUCKETS_MAX];
    size_t count;
};

static const struct {
    unsigned bit;
    const char *name;
} visibilities[] = {{SEE_PUBLIC, "public"},
                    {SEE_PRIVATE, "private"},
                    {SEE_SHARED, "shared"},
                    {SEE_COMMUNITY, "community"}};

static void bucket_add(struct buckets *b, bool hidden, char letter, const char *arg,
                       const char *arg2)
{
    index_bucket(&b->items[b->count++], hidden, letter, arg, arg2);
}

/* Images of @owner of these visibilities; only idx_created_at (@fine) tells them apart. */
static void buckets_owner(struct buckets *b, bool hidden, const char *owner, unsigned mask,
                          bool whole, bool fine)
{
    if (mask == 0) {
        return;
    }
    if (whole || !fine) {
        bucket_add(b, hidden, 'o', owner, NULL);
        return;
    }
    for (int i = 0; i < 4; i++) {
        if ((mask & visibilities[i].bit) != 0) {
            bucket_add(b, hidden, 'w', owner, visibilities[i].name);
        }
    }
}

static void buckets_members(struct buckets *b, bool hidden, const struct see *see)
{
    static const char letters[] = {'m', 'p', 'r'}; /* in the order of the MEMBER_ bits */
    for (int i = 0; i < 3; i++) {
        if ((see->members & 1u << i) != 0) {
            bucket_add(b, hidden, letters[i], see->project, NULL);
        }
    }
}

/* Together they hold everything that the caller sees. At most 3 + 3 or 4 + 3. */
static void buckets_of(const struct list_run *r, bool fine, struct buckets *b)
{
    const struct meta_filter *f = exact_filter(r->q, "owner");
    const struct see *see = &r->see;
    bool hidden = r->q->hidden;
    b->count = 0;
    if (f != NULL && f->value_count == 1) {
        unsigned mask = see->any | (is(see->project, f->values[0]) ? see->own : 0);
        buckets_owner(b, hidden, f->values[0], mask, mask == SEE_ALL, fine);
        buckets_members(b, hidden, see);
        return;
    }
    if (see->any == SEE_ALL) {
        bucket_add(b, hidden, 'a', NULL, NULL);
        return;
    }
    for (int i = 0; i < 4; i++) {
        if ((see->any & visibilities[i].bit) != 0) {
            bucket_add(b, hidden, 'v', visibilities[i].name, NULL);
        }
    }
    if (see->project != NULL) {
        buckets_owner(b, hidden, see->project, see->own, (see->own | see->any) == SEE_ALL, fine);
        buckets_members(b, hidden, see);
    }
}

/* Streams over all buckets; with @f, over the ranges of the values that it names. */
static int open_streams(struct list_run *r, enum meta_sort sort, const struct meta_filter *f)
{
    struct buckets b;
    int rc = 0;
    streams_init(&r->streams, r->v, DB_INDEX + (unsigned)sort, r->order.keys[0].descending);
    buckets_of(r, sort == SORT_CREATED_AT, &b);
    for (size_t i = 0; i < b.count && rc == 0; i++) {
        for (size_t n = 0; n < (f == NULL ? 1 : f->value_count) && rc == 0; n++) {
            struct key prefix = b.items[i];
            if (f != NULL) {
                index_value_text(&prefix, f->values[n]);
            }
            rc = streams_add(&r->streams, &prefix);
        }
    }
    if (rc != 0) {
        streams_close(&r->streams);
    }
    return rc;
}

static int open_tag_streams(struct list_run *r, const struct meta_filter *f)
{
    int rc = 0;
    streams_init(&r->streams, r->v, DB_INDEX + SORT_CREATED_AT, r->order.keys[0].descending);
    for (size_t n = 0; n < f->value_count && rc == 0; n++) {
        struct key prefix;
        index_bucket(&prefix, r->q->hidden, 't', f->values[n], NULL);
        rc = streams_add(&r->streams, &prefix);
    }
    if (rc != 0) {
        streams_close(&r->streams);
    }
    return rc;
}

/* --- the three ways
 * ---------------------------------------------------------------------------------------- */

static int read_page(struct list_run *r)
{
    struct kv_val tail;
    json_t *image = NULL;
    int rc = 0;
    while (rc >= 0 && json_array_size(r->page) < r->want) {
        rc = streams_next(&r->streams, &tail);
        if (rc == 0) {
            rc = tail_candidate(r, tail, &image);
        }
        if (rc == 1 && json_array_append_new(r->page, image) != 0) {
            rc = TSR_ENOMEM;
        }
    }
    return rc < 0 && rc != TSR_ENOENT ? rc : 0;
}

/* @ties: the tails are created_at and id only. */
static int page(struct list_run *r, bool ties)
{
    struct key after;
    key_init(&after);
    if (r->marker != NULL && ties) {
        index_ties(&after, r->marker);
    } else if (r->marker != NULL) {
        index_tail(&after, r->marker, r->order.keys[0].key);
    }
    int rc = streams_seek(&r->streams, r->marker == NULL ? NULL : &after);
    if (rc == 0) {
        rc = read_page(r);
    }
    streams_close(&r->streams);
    return rc;
}

/* TSR_EAGAIN: too many. */
static int read_picks(struct list_run *r)
{
    struct kv_val tail;
    json_t *image = NULL;
    for (unsigned n = 0; n < PICK_MAX; n++) {
        int rc = streams_next(&r->streams, &tail);
        if (rc == TSR_ENOENT) {
            return picks_flush(r);
        }
        if (rc == 0) {
            rc = tail_candidate(r, tail, &image);
        }
        if (rc == 1) {
            rc = pick_offer(r, image, r->want);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return TSR_EAGAIN;
}

static int pick(struct list_run *r)
{
    int rc = streams_seek(&r->streams, NULL);
    if (rc == 0) {
        rc = read_picks(r);
    }
    if (rc != 0) {
        picks_free(r);
    }
    streams_close(&r->streams);
    return rc;
}

static int pick_ids(struct list_run *r, const struct meta_filter *f)
{
    int rc = 0;
    for (size_t i = 0; i < f->value_count && rc >= 0; i++) {
        struct key id;
        json_t *image = NULL;
        bool again = false;
        for (size_t n = 0; n < i; n++) {
            again = again || is(f->values[n], f->values[i]);
        }
        if (again || strlen(f->values[i]) != META_IMAGE_ID_SIZE) {
            continue;
        }
        key_of_text(&id, f->values[i]);
        rc = candidate(r, &id, &image);
        if (rc == 1) {
            rc = pick_offer(r, image, r->want);
        } else if (rc == TSR_ENOENT) {
            rc = 0;
        }
    }
    return rc < 0 ? rc : picks_flush(r);
}

/* The part of a tail that the first sort key gave. */
static struct kv_val run_of(const struct list_run *r, struct kv_val tail)
{
    size_t size = r->order.keys[0].key == SORT_CREATED_AT ? 8
                  : tail.size < TAIL_TIE_SIZE             ? 0
                                                          : tail.size - TAIL_TIE_SIZE;
    return kv_val_of(tail.data, size);
}

static int read_runs(struct list_run *r)
{
    struct kv_val tail, run = {0};
    json_t *image = NULL;
    for (;;) {
        int rc = streams_next(&r->streams, &tail);
        if (rc == TSR_ENOENT) {
            return picks_flush(r);
        }
        if (rc != 0) {
            return rc;
        }
        struct kv_val next = run_of(r, tail);
        if (run.data == NULL || bytes_compare(run.data, run.size, next.data, next.size) != 0) {
            rc = picks_flush(r);
            if (rc != 0 || json_array_size(r->page) >= r->want) {
                return rc;
            }
            run = next;
        }
        rc = tail_candidate(r, tail, &image);
        if (rc == 1) {
            rc = pick_offer(r, image, r->want - json_array_size(r->page));
        }
        if (rc < 0) {
            return rc;
        }
    }
}

static int runs(struct list_run *r)
{
    enum meta_sort sort = r->order.keys[0].key;
    int rc;
    if (r->marker == NULL) {
        rc = streams_seek(&r->streams, NULL);
    } else {
        struct key tail;
        key_init(&tail);
        index_tail(&tail, r->marker, sort);
        tail.size = run_of(r, key_val(&tail)).size;
        rc = streams_seek_run(&r->streams, &tail);
    }
    if (rc == 0) {
        rc = read_runs(r);
    }
    streams_close(&r->streams);
    return rc;
}

/* --- choosing
 * ------------------------------------------------------------------------------------------------
 */

/* Sorted by created_at only: the ranges of a name or status, and tags, are in this order too. */
static int list_by_created(struct list_run *r)
{
    static const struct {
        const char *field;
        enum meta_sort sort;
    } ranges[] = {{"name", SORT_NAME}, {"status", SORT_STATUS}};
    for (size_t i = 0; i < 2; i++) {
        const struct meta_filter *f = exact_filter(r->q, ranges[i].field);
        int rc = f == NULL ? TSR_ETOOBIG : open_streams(r, ranges[i].sort, f);
        if (rc != TSR_ETOOBIG) {
            return rc == 0 ? page(r, true) : rc;
        }
    }
    const struct meta_filter *tag = exact_filter(r->q, "tag");
    int rc = tag == NULL ? TSR_ETOOBIG : open_tag_streams(r, tag);
    if (rc == TSR_ETOOBIG) {
        rc = open_streams(r, SORT_CREATED_AT, NULL);
    }
    return rc == 0 ? page(r, true) : rc;
}

/* Filters that name few images, whatever the order. TSR_EAGAIN: they do not. */
static int list_few(struct list_run *r)
{
    const struct meta_filter *name = exact_filter(r->q, "name"), *tag = exact_filter(r->q, "tag");
    int rc = TSR_ETOOBIG;
    if (name != NULL) {
        rc = open_streams(r, SORT_NAME, name);
    } else if (tag != NULL) {
        rc = open_tag_streams(r, tag);
    }
    return rc == 0 ? pick(r) : rc == TSR_ETOOBIG ? TSR_EAGAIN : rc;
}

static int list(struct list_run *r)
{
    const struct meta_filter *id = exact_filter(r->q, "id");
    if (id != NULL) {
        return pick_ids(r, id);
    }
    if (r->order.plain && r->order.keys[0].key == SORT_CREATED_AT) {
        return list_by_created(r);
    }
    int rc = list_few(r);
    if (rc != TSR_EAGAIN) {
        return rc;
    }
    rc = open_streams(r, r->order.keys[0].key, NULL);
    if (rc != 0) {
        return rc;
    }
    return r->order.plain ? page(r, false) : runs(r);
}

static int find_marker(struct list_run *r)
{
    if (r->q->marker == NULL) {
        return 0;
    }
    int rc = meta_image_get(r->v, r->q->marker, &r->marker);
    if (rc == TSR_ENOENT) {
        return TSR_EINVAL;
    }
    if (rc == 0) {
        rc = see_by_id(r->v, r->q, r->marker);
        if (rc >= 0) {
            rc = rc == 1 ? place_of(&r->order, r->marker, &r->marker_place) : TSR_EINVAL;
        }
    }
    return rc;
}

static int finish(struct list_run *r, json_t **array_out, bool *more_out)
{
    *more_out = json_array_size(r->page) >= r->want;
    while (json_array_size(r->page) >= r->want) {
        json_array_remove(r->page, json_array_size(r->page) - 1);
    }
    *array_out = r->page;
    r->page = NULL;
    return 0;
}

int meta_image_list(struct meta_view *v, const struct meta_image_query *query, json_t **array_out,
                    bool *more_out)
{
    struct list_run *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return TSR_ENOMEM;
    }
    r->v = v;
    r->q = query;
    r->want = query->limit == SIZE_MAX ? SIZE_MAX : query->limit + 1;
    order_of(query, &r->order);
    int rc = see_of(query, &r->see);
    if (rc == 0) {
        rc = find_marker(r);
    }
    if (rc == 0) {
        rc = prefilter_init(&r->prefilter, query->filters, query->filter_count);
    }
    if (rc == 0 && (r->page = json_array()) == NULL) {
        rc = TSR_ENOMEM;
    }
    bool nothing = (r->see.any | r->see.own | r->see.members) == 0;
    if (rc == 0 && query->limit > 0 && !nothing) {
        rc = list(r);
    }
    if (rc == 0 && query->limit == 0) {
        *more_out = false;
        *array_out = r->page;
        r->page = NULL;
    } else if (rc == 0) {
        rc = finish(r, array_out, more_out);
    }
    picks_free(r);
    free(r->picks);
    free(r->marker_place.data);
    prefilter_free(&r->prefilter);
    json_decref(r->marker);
    json_decref(r->page);
    free(r);
    return rc;
}
