/* Inside a listing: what a caller may see, the order, the filters, the streams of the indexes. */
#ifndef META_QUERY_H
#define META_QUERY_H

#include "meta/view.h"

/* --- visibility (query_see.c) --------------------------------------------------------------------
 */

enum {
    SEE_PUBLIC = 1,
    SEE_PRIVATE = 2,
    SEE_SHARED = 4,
    SEE_COMMUNITY = 8,
    SEE_ALL = 15,
    MEMBER_ACCEPTED = 1,
    MEMBER_PENDING = 2,
    MEMBER_REJECTED = 4,
};

struct see {
    unsigned any;              /* visibilities seen whoever owns the image */
    unsigned own;              /* visibilities seen of images of @project */
    unsigned members;          /* statuses of membership that show a shared image */
    const char *project;       /* NULL: none */
    const char *public_domain; /* NULL: public images are seen everywhere */
};

/* What decides whether an image is seen; @owner may be NULL. */
struct see_image {
    const char *id, *visibility, *owner;
};
struct see_image see_image_of(const json_t *image);

/* TSR_EINVAL: unknown visibility or member status. */
int see_of(const struct meta_image_query *q, struct see *out);
unsigned see_bit(const char *visibility);
/* Is @image part of the listing, before filters? 1 or 0, or an error. */
int see_listed(struct meta_view *v, const struct see *see, const struct see_image *image);
/* May the caller get @image by its id? 1 or 0, or an error. */
int see_by_id(struct meta_view *v, const struct meta_image_query *q, const struct see_image *image);

/* --- buckets (query_bucket.c)
 * ---------------------------------------------------------------------- */

/* The first filter that names texts of @field exactly, or NULL. */
const struct meta_filter *filter_exact(const struct meta_image_query *q, const char *field);

enum { BUCKETS_MAX = 8 };
struct buckets {
    struct key items[BUCKETS_MAX];
    size_t count;
};
/* Together they hold everything that the caller sees; at most 3 + 3 or 4 + 3. Only idx_created_at
 * (@fine) tells an owner's images apart by visibility. */
void buckets_of(const struct meta_image_query *q, const struct see *see, bool fine,
                struct buckets *b);

/* --- filters (query_filter.c)
 * ---------------------------------------------------------------------- */

bool filter_match(const struct meta_filter *filters, size_t count, const json_t *image);

/* Texts that a record must hold somewhere for the filters to match: tells most records apart
 * without parsing them. */
struct prefilter {
    char **texts;
    size_t count;
};
int prefilter_init(struct prefilter *p, const struct meta_filter *filters, size_t count);
void prefilter_free(struct prefilter *p);
bool prefilter_match(const struct prefilter *p, const char *text, size_t size);

/* --- order (query_order.c)
 * --------------------------------------------------------------------------- */

struct order {
    struct {
        enum meta_sort key;
        bool descending;
    } keys[SORT_COUNT + 2];
    size_t count;
    bool plain; /* the index of the first key is in this order, read in one direction */
};
void order_of(const struct meta_image_query *q, struct order *out);

/* An image's place in an order: the values of all keys, to be compared. */
struct place {
    uint8_t *data;
    size_t start[SORT_COUNT + 3];
};
int place_of(const struct order *o, const json_t *image, struct place *out);
int place_compare(const struct order *o, const struct place *a, const struct place *b);

/* --- streams (query_stream.c)
 * ------------------------------------------------------------------------- */

enum { STREAMS_MAX = 64 };

/* The keys of one index that start with a prefix, in one direction. */
struct stream {
    struct kv_cursor *cursor;
    struct key prefix;
    struct kv_val key;
    bool done;
};

/* Several streams merged by the rest of their keys (the tail), each tail once. */
struct streams {
    struct meta_view *view;
    unsigned db;
    bool descending;
    struct stream items[STREAMS_MAX];
    size_t count;
};

void streams_init(struct streams *s, struct meta_view *v, unsigned db, bool descending);
void streams_close(struct streams *s);
/* TSR_ETOOBIG: more than STREAMS_MAX. */
int streams_add(struct streams *s, const struct key *prefix);
/* Start behind the tail @after (NULL: from the start). */
int streams_seek(struct streams *s, const struct key *after);
/* Start with the first tail that begins with @run, or what follows. */
int streams_seek_run(struct streams *s, const struct key *run);
/* The next tail; TSR_ENOENT at the end. Lives as long as the view. */
int streams_next(struct streams *s, struct kv_val *tail_out);

#endif
