/* Which keys of an index can hold what a caller sees (buckets: docs/metadata.md, "Image indexes").
 */
#include <string.h>

#include "meta/index.h"
#include "meta/query.h"

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

const struct meta_filter *filter_exact(const struct meta_image_query *q, const char *field)
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

void buckets_of(const struct meta_image_query *q, const struct see *see, bool fine,
                struct buckets *b)
{
    const struct meta_filter *f = filter_exact(q, "owner");
    bool hidden = q->hidden;
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
