/* GET /v2/images: query -> page. */
#include <stdlib.h>
#include <string.h>

#include "image/query.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"
#include "tessera/identity/rules.h"

enum { STEP_CANDIDATES = 512 }; /* a few milliseconds of a worker at most */

struct image_listing {
    struct query q;
    struct meta_image_query meta; /* q's, with who asks */
    const struct image_param *params;
    size_t count;
    struct meta_list *list; /* NULL: nothing can match */
    struct caller caller;
};

/* A page of no images still checks its marker. */
static int open_list(struct image_listing *l, struct meta_view *view, const struct caller *caller,
                     struct err *err)
{
    l->meta = l->q.meta;
    l->meta.project = caller->project_id[0] != '\0' ? caller->project_id : NULL;
    l->meta.admin = caller_is_admin(caller);
    l->meta.public_domain =
        caller->public_in_domain && !l->meta.admin ? l->caller.project_domain_id : NULL;
    l->meta.limit = l->meta.limit > 0 ? l->meta.limit : 1;
    int rv = meta_list_open(view, &l->meta, &l->list);
    if (rv == TSR_EINVAL) {
        return err_set(err, rv, "Invalid marker. Image could not be found.");
    }
    return rv;
}

/* What the caller may not see, no filter of its may find out. */
static bool filters_seen(const struct image_listing *l)
{
    for (size_t i = 0; i < l->q.meta.filter_count; i++) {
        const char *field = l->q.meta.filters[i].field;
        if (str_starts(field, "prop:") &&
            !property_allowed(l->caller.properties, PROPERTY_READ, field + 5, &l->caller, NULL)) {
            return false;
        }
    }
    return true;
}

int image_listing_open(struct meta_view *view, const struct caller *caller,
                       const struct image_param *params, size_t count, size_t limit_default,
                       size_t limit_max, struct image_listing **out, struct err *err)
{
    struct image_listing *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return TSR_ENOMEM;
    }
    l->params = params;
    l->count = count;
    l->caller = *caller;
    int rv = policy_image(caller, ACT_LIST, NULL, false, err);
    if (rv == 0) {
        rv = query_parse(&l->q, params, count, limit_default, limit_max, err);
    }
    if (rv == 0 && !l->q.nothing && filters_seen(l)) {
        rv = open_list(l, view, caller, err);
    }
    if (rv != 0) {
        image_listing_close(l);
        return rv;
    }
    *out = l;
    return 0;
}

void image_listing_close(struct image_listing *l)
{
    if (l != NULL) {
        meta_list_close(l->list);
        query_free(&l->q);
        free(l);
    }
}

/* --- the page
 * ------------------------------------------------------------------------------------------ */

/* ,"name":"<link>" */
static int link_add(struct buf *out, const char *name, char *link)
{
    json_t *value = link != NULL ? json_string(link) : NULL;
    char *text = value != NULL ? json_text(value, NULL) : NULL;
    int rv = text != NULL ? buf_printf(out, ",\"%s\":%s", name, text) : TSR_ENOMEM;
    free(text);
    json_decref(value);
    free(link);
    return rv;
}

static int id_of(const struct meta_text *record, char id[64])
{
    struct json_member m;
    size_t at = 0;
    while (json_member_next(record->text, record->size, &at, &m)) {
        if (json_member_is(&m, "id", 2)) {
            return json_member_plain(&m, id, 64) ? 0 : TSR_ECORRUPT;
        }
    }
    return TSR_ECORRUPT;
}

static int write_page(const struct image_listing *l, const struct meta_text *records, size_t count,
                      bool more, const char *store, struct buf *out)
{
    size_t limit = l->q.meta.limit, shown = count < limit ? count : limit;
    char last[64];
    int rv = buf_append_str(out, "{\"images\":[");
    for (size_t i = 0; i < shown && rv == 0; i++) {
        if (i > 0) {
            (void)buf_append(out, ",", 1);
        }
        rv = image_render_seen(&l->caller, &records[i], store, out);
    }
    if (rv == 0) {
        rv = buf_append_str(out, "],\"schema\":\"/v2/schemas/images\"");
    }
    if (rv == 0) {
        rv = link_add(out, "first", query_link(l->params, l->count, NULL));
    }
    if (rv == 0 && more && shown > 0) {
        rv = id_of(&records[shown - 1], last);
        rv = rv == 0 ? link_add(out, "next", query_link(l->params, l->count, last)) : rv;
    }
    (void)buf_append(out, "}", 1);
    return rv != 0 ? rv : out->failed ? TSR_ENOMEM : 0;
}

int image_listing_step(struct image_listing *l, const char *store, struct buf *out)
{
    const struct meta_text *records = NULL;
    size_t count = 0;
    bool more = false;
    if (l->list != NULL) {
        int rv = meta_list_step(l->list, STEP_CANDIDATES);
        if (rv != 0) {
            return rv;
        }
        records = meta_list_page(l->list, &count, &more);
    }
    return write_page(l, records, count, more, store, out);
}

int image_list(struct meta_view *view, const struct caller *caller,
               const struct image_param *params, size_t count, size_t limit_default,
               size_t limit_max, json_t **page_out, struct err *err)
{
    struct image_listing *l = NULL;
    struct buf text = {0};
    int rv = image_listing_open(view, caller, params, count, limit_default, limit_max, &l, err);
    if (rv != 0) {
        return rv;
    }
    do {
        rv = image_listing_step(l, NULL, &text);
    } while (rv == TSR_EAGAIN);
    if (rv == 0 && (*page_out = json_parse(text.data, text.size)) == NULL) {
        rv = TSR_ENOMEM;
    }
    buf_free(&text);
    image_listing_close(l);
    return rv;
}
