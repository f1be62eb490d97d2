/* The query of GET /v2/images taken apart (image-api section 4). Pure. */
#ifndef IMAGE_QUERY_H
#define IMAGE_QUERY_H

#include "tessera/image.h"

/* Filters: more than an image has fields, properties and tags. Each is asked of each image. */
enum { QUERY_SORT_KEYS_MAX = 32, QUERY_FILTERS_MAX = 512 };

/* Zero-initialised, then query_parse; query_free in every case. */
struct query {
    struct meta_image_query meta; /* who asks is not filled in; limit: what the page may hold */
    bool nothing;                 /* a filter that no image can match */
    /* private */
    struct meta_filter *filters;
    size_t filter_count, filter_capacity;
    struct query_text {
        struct query_text *next;
        char text[];
    } * texts;
    size_t sort_key_count, sort_dir_count;
    enum meta_sort sort_keys[QUERY_SORT_KEYS_MAX];
    bool sort_dirs[QUERY_SORT_KEYS_MAX]; /* descending */
    bool sort_given;
};

/* TSR_EINVAL with the reason, TSR_ENOMEM. Texts of @params are borrowed. */
int query_parse(struct query *q, const struct image_param *params, size_t count,
                size_t limit_default, size_t limit_max, struct err *err);
void query_free(struct query *q);
/* "/v2/images?..." with every parameter of the request but `marker`, then @marker if not NULL.
 * malloc'ed; NULL when out of memory. */
char *query_link(const struct image_param *params, size_t count, const char *marker);

#endif
