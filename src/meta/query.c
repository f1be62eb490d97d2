/* Listing images.
 *
 * Which keys of which index can hold matches (buckets, see query_bucket.c) is worked out from who
 * asks and from the filters; their streams are merged in order, each candidate's record is read and
 * decides. Three ways: page    the index is in the asked order: read until the page is full; runs
 * several sort keys: the index gives the first; equal first values are sorted together, holding no
 * more than a page of them; pick    a filter names few images (id, name, tag): read them all and
 * keep the first page. Given up after PICK_MAX candidates in favour of the others. The merge gives
 * each image once, so buckets may overlap.
 *
 * All of it goes on in steps of so many candidates, as a question that no index answers reads every
 * image. A record is parsed only where a filter or an order asks for it. */
#include <stdlib.h>
#include <string.h>

#include "meta/index.h"
#include "meta/query.h"

enum { PICK_MAX = 4096 };

enum way { WAY_DONE, WAY_PAGE, WAY_PICK, WAY_RUNS };

struct meta_list {
    struct meta_view *v;
    const struct meta_image_query *q;
    struct see see;
    struct order order;
    struct prefilter prefilter;
    json_t *marker; /* record, or NULL */
    struct place marker_place;
    struct meta_text *page; /* up to limit + 1 images */
    size_t count, capacity;
    size_t want; /* limit + 1 */
    struct pick {
        struct place place;
        struct meta_text text;
    } * picks; /* sorted; of pick and runs */
    size_t pick_count, pick_capacity;
    struct streams streams;
    enum way way;
    unsigned tried;    /* candidates of WAY_PICK */
    struct kv_val run; /* of WAY_RUNS: the first key's value now, in the store's memory */
};

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

/* --- candidates
 * ----------------------------------------------------------------------------------- */

/* What a listing looks at in each record. */
struct brief {
    bool hidden, has_owner;
    char id[META_IMAGE_ID_SIZE + 1], visibility[16], owner[256];
};

/* Without parsing it. false: the record is out of the ordinary, parse it. */
static bool brief_of(const struct meta_text *t, struct brief *out)
{
    struct json_member m;
    size_t at = 0;
    unsigned found = 0;
    out->has_owner = false;
    while (json_member_next(t->text, t->size, &at, &m)) {
        if (json_member_is(&m, "os_hidden", 9)) {
            out->hidden = m.value_size == 4 && memcmp(m.value, "true", 4) == 0;
            found |= 1;
        } else if (json_member_is(&m, "visibility", 10)) {
            found |= json_member_plain(&m, out->visibility, sizeof(out->visibility)) ? 2 : 0;
        } else if (json_member_is(&m, "id", 2)) {
            found |= json_member_plain(&m, out->id, sizeof(out->id)) ? 4 : 0;
        } else if (json_member_is(&m, "owner", 5)) {
            out->has_owner = json_member_plain(&m, out->owner, sizeof(out->owner));
            found |= out->has_owner || (m.value_size == 4 && m.value[0] == 'n') ? 8 : 0;
        }
    }
    return at != SIZE_MAX && found == 15;
}

static int seen(struct meta_list *r, const struct meta_text *text)
{
    struct brief b;
    if (brief_of(text, &b)) {
        struct see_image image = {b.id, b.visibility, b.has_owner ? b.owner : NULL};
        return b.hidden == r->q->hidden ? see_listed(r->v, &r->see, &image) : 0;
    }
    json_t *record = json_parse(text->text, text->size);
    if (record == NULL) {
        return meta_report_damage(r->v->meta, DB_IMAGE);
    }
    struct see_image image = see_image_of(record);
    int yes = json_bool(record, "os_hidden", false) == r->q->hidden
                  ? see_listed(r->v, &r->see, &image)
                  : 0;
    json_decref(record);
    return yes;
}

/* 1 and *out when the record of @id belongs to the listing, 0 when not, or an error. */
static int candidate(struct meta_list *r, const struct key *id, struct meta_text *out)
{
    struct meta_view *v = r->v;
    struct kv_val value;
    int rc = kv_get(v->meta->kv, v->txn, DB_IMAGE, key_val(id), &value);
    if (rc != 0) {
        return rc;
    }
    if (record_decode(key_val(id), value, &out->text, &out->size) != 0) {
        return meta_report_damage(v->meta, DB_IMAGE);
    }
    if (!prefilter_match(&r->prefilter, out->text, out->size)) {
        return 0;
    }
    if (r->q->filter_count > 0) {
        json_t *image = json_parse(out->text, out->size);
        if (image == NULL) {
            return meta_report_damage(v->meta, DB_IMAGE);
        }
        bool match = filter_match(r->q->filters, r->q->filter_count, image);
        json_decref(image);
        if (!match) {
            return 0;
        }
    }
    return seen(r, out);
}

/* The image that an index key names. */
static int tail_candidate(struct meta_list *r, struct kv_val tail, struct meta_text *out)
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

/* --- the page
 * ------------------------------------------------------------------------------------------ */

/* Room for one more item in an array of @count; as realloc. */
static void *room(void *items, size_t count, size_t *capacity, size_t item)
{
    if (count < *capacity) {
        return items;
    }
    size_t more = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = realloc(items, more * item);
    if (grown != NULL) {
        *capacity = more;
    }
    return grown;
}

static int page_add(struct meta_list *r, const struct meta_text *text)
{
    struct meta_text *page = room(r->page, r->count, &r->capacity, sizeof(*page));
    if (page == NULL) {
        return TSR_ENOMEM;
    }
    r->page = page;
    page[r->count++] = *text;
    return 0;
}

/* --- picking the first of many
 * ------------------------------------------------------------------------ */

static void picks_free(struct meta_list *r)
{
    for (size_t i = 0; i < r->pick_count; i++) {
        free(r->picks[i].place.data);
    }
    r->pick_count = 0;
}

static int place_of_text(struct meta_list *r, const struct meta_text *text, struct place *out)
{
    json_t *image = json_parse(text->text, text->size);
    if (image == NULL) {
        return meta_report_damage(r->v->meta, DB_IMAGE);
    }
    int rc = place_of(&r->order, image, out);
    json_decref(image);
    return rc;
}

/* Keep the image if it is among the first @most behind the marker. */
static int pick_offer(struct meta_list *r, const struct meta_text *text, size_t most)
{
    struct place place = {0};
    int rc = place_of_text(r, text, &place);
    if (rc != 0) {
        return rc;
    }
    struct pick *picks = room(r->picks, r->pick_count, &r->pick_capacity, sizeof(*picks));
    if (picks == NULL) {
        free(place.data);
        return TSR_ENOMEM;
    }
    r->picks = picks;
    size_t low = 0, high = r->pick_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (place_compare(&r->order, &picks[mid].place, &place) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    bool behind = r->marker == NULL || place_compare(&r->order, &place, &r->marker_place) > 0;
    if (!behind || low >= most) {
        free(place.data);
        return 0;
    }
    if (r->pick_count == most) {
        r->pick_count--;
        free(picks[r->pick_count].place.data);
    }
    memmove(&picks[low + 1], &picks[low], (r->pick_count - low) * sizeof(*picks));
    picks[low] = (struct pick){place, *text};
    r->pick_count++;
    return 0;
}

static int picks_flush(struct meta_list *r)
{
    int rc = 0;
    for (size_t i = 0; i < r->pick_count && rc == 0; i++) {
        rc = page_add(r, &r->picks[i].text);
    }
    picks_free(r);
    return rc;
}

/* --- streams
 * -------------------------------------------------------------------------------------- */

/* Streams over all buckets; with @f, over the ranges of the values that it names. */
static int open_streams(struct meta_list *r, enum meta_sort sort, const struct meta_filter *f)
{
    struct buckets b;
    int rc = 0;
    streams_init(&r->streams, r->v, DB_INDEX + (unsigned)sort, r->order.keys[0].descending);
    buckets_of(r->q, &r->see, sort == SORT_CREATED_AT, &b);
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

static int open_tag_streams(struct meta_list *r, const struct meta_filter *f)
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

/* --- the three ways: each starts on open streams, then steps. A step is 0, or 1 at the end
 * ---------------------------------------------------------------------------------------- */

/* @ties: the tails are created_at and id only. */
static int page_start(struct meta_list *r, bool ties)
{
    struct key after;
    key_init(&after);
    if (r->marker != NULL && ties) {
        index_ties(&after, r->marker);
    } else if (r->marker != NULL) {
        index_tail(&after, r->marker, r->order.keys[0].key);
    }
    r->way = WAY_PAGE;
    return streams_seek(&r->streams, r->marker == NULL ? NULL : &after);
}

static int page_step(struct meta_list *r)
{
    struct kv_val tail;
    struct meta_text text = {0};
    if (r->count >= r->want) {
        return 1;
    }
    int rc = streams_next(&r->streams, &tail);
    if (rc == TSR_ENOENT) {
        return 1;
    }
    if (rc == 0) {
        rc = tail_candidate(r, tail, &text);
    }
    return rc == 1 ? page_add(r, &text) : rc;
}

static int pick_start(struct meta_list *r)
{
    r->way = WAY_PICK;
    return streams_seek(&r->streams, NULL);
}

static int go_by_order(struct meta_list *r);

static int pick_step(struct meta_list *r)
{
    struct kv_val tail;
    struct meta_text text = {0};
    if (r->tried++ == PICK_MAX) { /* not so few */
        picks_free(r);
        streams_close(&r->streams);
        return go_by_order(r);
    }
    int rc = streams_next(&r->streams, &tail);
    if (rc == TSR_ENOENT) {
        rc = picks_flush(r);
        return rc == 0 ? 1 : rc;
    }
    if (rc == 0) {
        rc = tail_candidate(r, tail, &text);
    }
    return rc == 1 ? pick_offer(r, &text, r->want) : rc;
}

static int pick_ids(struct meta_list *r, const struct meta_filter *f)
{
    int rc = 0;
    for (size_t i = 0; i < f->value_count && rc >= 0; i++) {
        struct key id;
        struct meta_text text = {0};
        bool again = false;
        for (size_t n = 0; n < i; n++) {
            again = again || is(f->values[n], f->values[i]);
        }
        if (again || strlen(f->values[i]) != META_IMAGE_ID_SIZE) {
            continue;
        }
        key_of_text(&id, f->values[i]);
        rc = candidate(r, &id, &text);
        if (rc == 1) {
            rc = pick_offer(r, &text, r->want);
        } else if (rc == TSR_ENOENT) {
            rc = 0;
        }
    }
    return rc < 0 ? rc : picks_flush(r);
}

/* The part of a tail that the first sort key gave. */
static struct kv_val run_of(const struct meta_list *r, struct kv_val tail)
{
    size_t size = r->order.keys[0].key == SORT_CREATED_AT ? 8
                  : tail.size < TAIL_TIE_SIZE             ? 0
                                                          : tail.size - TAIL_TIE_SIZE;
    return kv_val_of(tail.data, size);
}

static int runs_start(struct meta_list *r)
{
    r->way = WAY_RUNS;
    r->run = (struct kv_val){0};
    if (r->marker == NULL) {
        return streams_seek(&r->streams, NULL);
    }
    struct key tail;
    key_init(&tail);
    index_tail(&tail, r->marker, r->order.keys[0].key);
    tail.size = run_of(r, key_val(&tail)).size;
    return streams_seek_run(&r->streams, &tail);
}

static int runs_step(struct meta_list *r)
{
    struct kv_val tail;
    struct meta_text text = {0};
    int rc = streams_next(&r->streams, &tail);
    if (rc == TSR_ENOENT) {
        rc = picks_flush(r);
        return rc == 0 ? 1 : rc;
    }
    if (rc != 0) {
        return rc;
    }
    struct kv_val next = run_of(r, tail);
    if (r->run.data == NULL || bytes_compare(r->run.data, r->run.size, next.data, next.size) != 0) {
        rc = picks_flush(r);
        if (rc != 0 || r->count >= r->want) {
            return rc != 0 ? rc : 1;
        }
        r->run = next;
    }
    rc = tail_candidate(r, tail, &text);
    return rc == 1 ? pick_offer(r, &text, r->want - r->count) : rc;
}

/* --- choosing
 * ------------------------------------------------------------------------------------------------
 */

/* Sorted by created_at only: the ranges of a name or status, and tags, are in this order too. */
static int go_by_created(struct meta_list *r)
{
    static const struct {
        const char *field;
        enum meta_sort sort;
    } ranges[] = {{"name", SORT_NAME}, {"status", SORT_STATUS}};
    for (size_t i = 0; i < 2; i++) {
        const struct meta_filter *f = filter_exact(r->q, ranges[i].field);
        int rc = f == NULL ? TSR_ETOOBIG : open_streams(r, ranges[i].sort, f);
        if (rc != TSR_ETOOBIG) {
            return rc == 0 ? page_start(r, true) : rc;
        }
    }
    const struct meta_filter *tag = filter_exact(r->q, "tag");
    int rc = tag == NULL ? TSR_ETOOBIG : open_tag_streams(r, tag);
    if (rc == TSR_ETOOBIG) {
        rc = open_streams(r, SORT_CREATED_AT, NULL);
    }
    return rc == 0 ? page_start(r, true) : rc;
}

static int go_by_order(struct meta_list *r)
{
    int rc = open_streams(r, r->order.keys[0].key, NULL);
    if (rc != 0) {
        return rc;
    }
    return r->order.plain ? page_start(r, false) : runs_start(r);
}

/* Filters that may name few images, whatever the order. */
static int go(struct meta_list *r)
{
    const struct meta_filter *id = filter_exact(r->q, "id");
    if (id != NULL) {
        return pick_ids(r, id);
    }
    if (r->order.plain && r->order.keys[0].key == SORT_CREATED_AT) {
        return go_by_created(r);
    }
    const struct meta_filter *name = filter_exact(r->q, "name"), *tag = filter_exact(r->q, "tag");
    int rc = name != NULL  ? open_streams(r, SORT_NAME, name)
             : tag != NULL ? open_tag_streams(r, tag)
                           : TSR_ETOOBIG;
    if (rc == 0) {
        return pick_start(r);
    }
    return rc == TSR_ETOOBIG ? go_by_order(r) : rc;
}

static int find_marker(struct meta_list *r)
{
    if (r->q->marker == NULL) {
        return 0;
    }
    int rc = meta_image_get(r->v, r->q->marker, &r->marker);
    if (rc == TSR_ENOENT) {
        return TSR_EINVAL;
    }
    if (rc == 0) {
        struct see_image image = see_image_of(r->marker);
        rc = see_by_id(r->v, r->q, &image);
        if (rc >= 0) {
            rc = rc == 1 ? place_of(&r->order, r->marker, &r->marker_place) : TSR_EINVAL;
        }
    }
    return rc;
}

/* --- life
 * -----------------------------------------------------------------------------------------------
 */

int meta_list_open(struct meta_view *v, const struct meta_image_query *query,
                   struct meta_list **out)
{
    struct meta_list *r = calloc(1, sizeof(*r));
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
    bool nothing = (r->see.any | r->see.own | r->see.members) == 0;
    if (rc == 0 && query->limit > 0 && !nothing) {
        rc = go(r);
    }
    if (rc != 0) {
        meta_list_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

int meta_list_step(struct meta_list *r, size_t candidates)
{
    for (size_t i = 0; i < candidates && r->way != WAY_DONE; i++) {
        int rc = r->way == WAY_PAGE   ? page_step(r)
                 : r->way == WAY_PICK ? pick_step(r)
                                      : runs_step(r);
        if (rc < 0) {
            return rc;
        }
        r->way = rc == 1 ? WAY_DONE : r->way;
    }
    return r->way == WAY_DONE ? 0 : TSR_EAGAIN;
}

const struct meta_text *meta_list_page(const struct meta_list *r, size_t *count_out, bool *more_out)
{
    bool more = r->q->limit > 0 && r->count >= r->want;
    *more_out = more;
    *count_out = more ? r->want - 1 : r->count;
    return r->page;
}

void meta_list_close(struct meta_list *r)
{
    if (r == NULL) {
        return;
    }
    streams_close(&r->streams);
    picks_free(r);
    free(r->picks);
    free(r->page);
    free(r->marker_place.data);
    prefilter_free(&r->prefilter);
    json_decref(r->marker);
    free(r);
}

static int parse_page(const struct meta_list *r, json_t **array_out, bool *more_out)
{
    size_t count;
    const struct meta_text *page = meta_list_page(r, &count, more_out);
    json_t *array = json_array();
    int rc = array == NULL ? TSR_ENOMEM : 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        json_t *image = json_parse(page[i].text, page[i].size);
        if (image == NULL) {
            rc = meta_report_damage(r->v->meta, DB_IMAGE);
        } else if (json_array_append_new(array, image) != 0) {
            rc = TSR_ENOMEM;
        }
    }
    if (rc != 0) {
        json_decref(array);
        return rc;
    }
    *array_out = array;
    return 0;
}

int meta_image_list(struct meta_view *v, const struct meta_image_query *query, json_t **array_out,
                    bool *more_out)
{
    struct meta_list *list;
    int rc = meta_list_open(v, query, &list);
    if (rc != 0) {
        return rc;
    }
    rc = meta_list_step(list, SIZE_MAX);
    if (rc == 0) {
        rc = parse_page(list, array_out, more_out);
    }
    meta_list_close(list);
    return rc;
}
