/* Pages of namespaces and tags: parameters, order, marker. There are few enough of them to be
 * sorted for each request. */
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "image/metadef.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"

/* What clients call a sort key, and the record's field. */
static const struct {
    const char *key, *field;
    bool of_tags;
} sort_keys[] = {
    {"created_at", "created_at", true},
    {"updated_at", "updated_at", true},
    {"id", "id", false},
    {"namespace", "name", false},
    {"name", "name", true},
    {"display_name", "display_name", false},
    {"visibility", "visibility", false},
    {"owner", "owner", false},
    {"protected", "protected", false},
};

const char *metadef_param(const struct metadef_query *query, const char *name)
{
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->params[i].name, name) == 0) {
            return query->params[i].value[0] != '\0' ? query->params[i].value : NULL;
        }
    }
    return NULL;
}

bool metadef_listed(const char *list, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = list; size > 0 && *at != '\0';) {
        size_t n = strcspn(at, ",");
        const char *next = at + n + (at[n] == ',');
        while (n > 0 && *at == ' ') {
            at++;
            n--;
        }
        while (n > 0 && at[n - 1] == ' ') {
            n--;
        }
        if (n == size && memcmp(at, word, n) == 0) {
            return true;
        }
        at = next;
    }
    return false;
}

static int limit_parse(const struct metadef_query *query, bool tags, size_t *out, struct err *err)
{
    const char *text = NULL;
    int64_t limit = 0;
    for (size_t i = 0; i < query->count && text == NULL; i++) {
        text = strcmp(query->params[i].name, "limit") == 0 ? query->params[i].value : NULL;
    }
    if (text == NULL) {
        *out = tags ? SIZE_MAX : query->limit_default;
    } else if (str_to_i64(text, 0, INT64_MAX, &limit) != 0) {
        return err_set(err, TSR_EINVAL, "The limit must be a number that is not negative.");
    } else {
        *out = (uint64_t)limit < SIZE_MAX ? (size_t)limit : SIZE_MAX;
    }
    if (*out > query->limit_max && !(tags && text == NULL)) {
        *out = query->limit_max;
    }
    return 0;
}

int metadef_page_parse(const struct metadef_query *query, bool tags, struct metadef_page *out,
                       struct err *err)
{
    char shown[IMAGE_SHORT];
    const char *key = metadef_param(query, "sort_key"), *dir = metadef_param(query, "sort_dir");
    *out = (struct metadef_page){
        .marker = metadef_param(query, "marker"), .field = "created_at", .descending = true};
    if (key != NULL) {
        out->field = NULL;
        for (size_t i = 0; i < array_len(sort_keys) && out->field == NULL; i++) {
            bool fits = strcmp(sort_keys[i].key, key) == 0 && (!tags || sort_keys[i].of_tags);
            out->field = fits ? sort_keys[i].field : NULL;
        }
    }
    if (out->field == NULL) {
        return err_set(err, TSR_EINVAL, "Invalid sort key: %s", field_short(key, shown));
    }
    if (dir != NULL && strcmp(dir, "asc") != 0 && strcmp(dir, "desc") != 0) {
        return err_set(err, TSR_EINVAL, "Invalid sort direction: %s", field_short(dir, shown));
    }
    out->descending = dir == NULL || strcmp(dir, "desc") == 0;
    return limit_parse(query, tags, &out->limit, err);
}

/* --- order
 * ----------------------------------------------------------------------------------------- */

struct row {
    json_t *item;
    int64_t number;   /* of the field sorted by */
    const char *text; /* of it; "" for numbers, and where it is not set */
    const char *name;
};

static int row_compare(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    if (a->number != b->number) {
        return a->number < b->number ? -1 : 1;
    }
    int c = strcmp(a->text, b->text);
    return c != 0 ? c : strcmp(a->name, b->name);
}

/* Sorted; malloc'ed. */
static struct row *rows_of(const json_t *items, const struct metadef_page *page)
{
    size_t n = json_array_size(items);
    struct row *rows = calloc(n + 1, sizeof(*rows));
    for (size_t i = 0; rows != NULL && i < n; i++) {
        json_t *item = json_array_get(items, i), *value = json_object_get(item, page->field);
        rows[i] = (struct row){.item = item,
                               .number = json_is_true(value) ? 1 : json_integer_value(value),
                               .text = json_str_or(item, page->field, ""),
                               .name = json_str_or(item, "name", "")};
    }
    if (rows != NULL) {
        qsort(rows, n, sizeof(*rows), row_compare);
    }
    for (size_t i = 0; rows != NULL && page->descending && i < n / 2; i++) {
        struct row swap = rows[i];
        rows[i] = rows[n - 1 - i];
        rows[n - 1 - i] = swap;
    }
    return rows;
}

/* Where the page begins: behind the marker. */
static int start_of(const struct row *rows, size_t n, const char *marker, size_t *out,
                    struct err *err)
{
    char shown[IMAGE_SHORT];
    *out = 0;
    if (marker == NULL) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rows[i].name, marker) == 0) {
            *out = i + 1;
            return 0;
        }
    }
    return err_set(err, TSR_ENOENT, "The marker '%s' was not found.", field_short(marker, shown));
}

int metadef_page_cut(const json_t *items, const struct metadef_page *page, json_t **out,
                     bool *more_out, struct err *err)
{
    size_t n = json_array_size(items), i = 0;
    struct row *rows = rows_of(items, page);
    json_t *cut = json_array();
    int rv = rows != NULL && cut != NULL ? 0 : TSR_ENOMEM;
    *more_out = false;
    if (rv == 0) {
        rv = start_of(rows, n, page->marker, &i, err);
    }
    for (; rv == 0 && i < n && !*more_out; i++) {
        if (page->keep != NULL && !page->keep(rows[i].item, page->arg)) {
            continue;
        }
        if (json_array_size(cut) >= page->limit) {
            *more_out = page->limit > 0;
            break;
        }
        rv = json_array_append(cut, rows[i].item) == 0 ? 0 : TSR_ENOMEM;
    }
    free(rows);
    if (rv != 0) {
        json_decref(cut);
        return rv;
    }
    *out = cut;
    return 0;
}

static void link_add(struct buf *b, bool *first, const char *name, const char *value)
{
    (void)buf_append_str(b, *first ? "?" : "&");
    *first = false;
    (void)percent_encode(b, name, true);
    (void)buf_append_str(b, "=");
    (void)percent_encode(b, value, true);
}

char *metadef_page_link(const char *path, const struct metadef_query *query, const char *marker)
{
    struct buf b = {0};
    bool first = true;
    (void)buf_append_str(&b, path);
    for (size_t i = 0; i < query->count; i++) {
        if (strcmp(query->params[i].name, "marker") != 0) {
            link_add(&b, &first, query->params[i].name, query->params[i].value);
        }
    }
    if (marker != NULL) {
        link_add(&b, &first, "marker", marker);
    }
    if (b.failed) {
        buf_free(&b);
        return NULL;
    }
    return buf_detach(&b, NULL);
}
