#include "image/query.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static int invalid(struct err *err, const char *name, const char *value)
{
    char shown[IMAGE_SHORT], shown_value[IMAGE_SHORT];
    return err_set(err, TSR_EINVAL, "Invalid value '%s' of query parameter %s.",
                   field_short(value, shown_value), field_short(name, shown));
}

/* "<prefix><size bytes of text>", which lives as long as the query. */
static char *text_keep(struct query *q, const char *prefix, const char *text, size_t size)
{
    size_t before = strlen(prefix);
    struct query_text *t = malloc(sizeof(*t) + before + size + 1);
    if (t == NULL) {
        return NULL;
    }
    memcpy(t->text, prefix, before);
    memcpy(t->text + before, text, size);
    t->text[before + size] = '\0';
    t->next = q->texts;
    q->texts = t;
    return t->text;
}

void query_free(struct query *q)
{
    while (q->texts != NULL) {
        struct query_text *t = q->texts;
        q->texts = t->next;
        free(t);
    }
    for (size_t i = 0; i < q->filter_count; i++) {
        free((void *)(uintptr_t)q->filters[i].values);
    }
    free(q->filters);
    *q = (struct query){0};
}

/* --- filters
 * ------------------------------------------------------------------------------------------ */

static struct meta_filter *filter_add(struct query *q, const char *field, enum meta_compare compare)
{
    if (q->filter_count == q->filter_capacity) {
        size_t capacity = q->filter_capacity == 0 ? 8 : 2 * q->filter_capacity;
        struct meta_filter *filters = realloc(q->filters, capacity * sizeof(*filters));
        if (filters == NULL) {
            return NULL;
        }
        q->filters = filters;
        q->filter_capacity = capacity;
    }
    struct meta_filter *f = &q->filters[q->filter_count++];
    *f = (struct meta_filter){.field = field, .compare = compare};
    return f;
}

static int value_add(struct meta_filter *f, const char *value)
{
    const char **values =
        realloc((void *)(uintptr_t)f->values, (f->value_count + 1) * sizeof(*values));
    if (values == NULL) {
        return TSR_ENOMEM;
    }
    values[f->value_count++] = value;
    f->values = values;
    return 0;
}

static int filter_text(struct query *q, const char *field, const char *value)
{
    struct meta_filter *f = filter_add(q, field, CMP_EQ);
    return f != NULL ? value_add(f, value) : TSR_ENOMEM;
}

static int filter_number(struct query *q, const char *field, enum meta_compare compare,
                         int64_t number)
{
    struct meta_filter *f = filter_add(q, field, compare);
    if (f == NULL) {
        return TSR_ENOMEM;
    }
    f->numeric = true;
    f->number = number;
    return 0;
}

/* a,b,"c,d": quotation marks stand at both ends of an item or nowhere. */
static int filter_in(struct query *q, const char *field, const char *list, struct err *err)
{
    struct meta_filter *f = filter_add(q, field, CMP_IN);
    const char *at = list;
    int rv = f != NULL ? 0 : TSR_ENOMEM;
    while (rv == 0) {
        bool quoted = *at == '"';
        at += quoted;
        size_t size = strcspn(at, quoted ? "\"" : ",\"");
        char after = at[size];
        if (quoted ? (after != '"' || (at[size + 1] != ',' && at[size + 1] != '\0'))
                   : after == '"') {
            return invalid(err, field, list);
        }
        char *text = text_keep(q, "", at, size);
        rv = text != NULL ? value_add(f, text) : TSR_ENOMEM;
        at += size + quoted;
        if (*at == '\0') {
            break;
        }
        at++;
    }
    return rv;
}

/* name status id disk_format container_format */
static int filter_words(struct query *q, const char *field, const char *value, struct err *err)
{
    if (str_starts(value, "in:")) {
        return filter_in(q, field, value + 3, err);
    }
    if (str_starts(value, "eq:")) {
        return filter_text(q, field, value + 3);
    }
    if (strchr(value, ':') != NULL) {
        return invalid(err, field, value); /* some other operator */
    }
    return filter_text(q, field, value);
}

static int filter_time(struct query *q, const char *field, const char *value, struct err *err)
{
    static const struct {
        const char *prefix;
        enum meta_compare compare;
    } operators[] = {{"gt:", CMP_GT},   {"gte:", CMP_GTE}, {"lt:", CMP_LT},
                     {"lte:", CMP_LTE}, {"eq:", CMP_EQ},   {"neq:", CMP_NEQ}};
    enum meta_compare compare = CMP_EQ;
    const char *text = value;
    int64_t us;
    for (size_t i = 0; i < array_len(operators); i++) {
        if (str_starts(value, operators[i].prefix)) {
            compare = operators[i].compare;
            text = value + strlen(operators[i].prefix);
            break;
        }
    }
    if (time_parse(text, &us) != 0) {
        return invalid(err, field, value);
    }
    return filter_number(q, field, compare, us);
}

static const char *const numbers[] = {"size", "min_ram", "min_disk"};

/* size_min and the like; *found tells whether @name is one. */
static int filter_bound(struct query *q, const char *name, const char *value, bool *found,
                        struct err *err)
{
    for (size_t i = 0; i < array_len(numbers); i++) {
        size_t size = strlen(numbers[i]);
        const char *suffix = str_starts(name, numbers[i]) ? name + size : "";
        bool min = is(suffix, "_min"), exact = suffix == name + size && *suffix == '\0';
        int64_t n;
        if (!min && !exact && !is(suffix, "_max")) {
            continue;
        }
        *found = true;
        bool whole = str_to_i64(value, INT64_MIN, INT64_MAX, &n) == 0;
        if (exact) {
            q->nothing = q->nothing || !whole;
            return whole ? filter_number(q, numbers[i], CMP_EQ, n) : 0;
        }
        return whole ? filter_number(q, numbers[i], min ? CMP_GTE : CMP_LTE, n)
                     : invalid(err, name, value);
    }
    return 0;
}

static int filter_property(struct query *q, const char *name, const char *value)
{
    char *field = text_keep(q, "prop:", name, strlen(name));
    return field != NULL ? filter_text(q, field, value) : TSR_ENOMEM;
}

static bool in_list(const char *const *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (is(list[i], name)) {
            return true;
        }
    }
    return false;
}

static int filter(struct query *q, const char *name, const char *value, struct err *err)
{
    static const char *const words[] = {"name", "status", "id", "disk_format", "container_format"};
    static const char *const exact[] = {"owner", "checksum", "os_hash_value", "os_hash_algo"};
    static const char *const never[] = {"self", "file", "schema"};
    bool found = false;
    int64_t n;
    if (q->filter_count >= QUERY_FILTERS_MAX) {
        return err_set(err, TSR_EINVAL, "A list can be filtered by up to %d parameters.",
                       QUERY_FILTERS_MAX);
    }
    if (in_list(words, array_len(words), name)) {
        return filter_words(q, name, value, err);
    }
    if (in_list(exact, array_len(exact), name)) {
        return filter_text(q, name, value);
    }
    if (is(name, "tag")) {
        return filter_text(q, "tag", value);
    }
    if (is(name, "protected")) {
        return is(value, "true") || is(value, "false") ? filter_text(q, "protected", value)
                                                       : invalid(err, name, value);
    }
    if (is(name, "created_at") || is(name, "updated_at")) {
        return filter_time(q, name, value, err);
    }
    if (is(name, "virtual_size")) {
        bool whole = str_to_i64(value, INT64_MIN, INT64_MAX, &n) == 0;
        q->nothing = q->nothing || !whole;
        return whole ? filter_number(q, "virtual_size", CMP_EQ, n) : 0;
    }
    if (in_list(never, array_len(never), name)) {
        q->nothing = true;
        return 0;
    }
    int rv = filter_bound(q, name, value, &found, err);
    return found || rv != 0 ? rv : filter_property(q, name, value);
}

/* --- parameters that are no filters
 * --------------------------------------------------------------------- */

static const char *const sort_names[SORT_COUNT] = {
    [SORT_CREATED_AT] = "created_at",
    [SORT_UPDATED_AT] = "updated_at",
    [SORT_NAME] = "name",
    [SORT_STATUS] = "status",
    [SORT_CONTAINER_FORMAT] = "container_format",
    [SORT_DISK_FORMAT] = "disk_format",
    [SORT_SIZE] = "size",
    [SORT_ID] = "id",
};

static bool blank(char c)
{
    return isspace((unsigned char)c) != 0;
}

static bool part_is(const char *text, size_t size, const char *word)
{
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

static int sort_key_of(const char *text, size_t size, enum meta_sort *out)
{
    for (size_t i = 0; i < SORT_COUNT; i++) {
        if (part_is(text, size, sort_names[i])) {
            *out = (enum meta_sort)i;
            return 0;
        }
    }
    return TSR_EINVAL;
}

static int sort_dir_of(const char *text, size_t size, bool *descending_out)
{
    *descending_out = part_is(text, size, "desc");
    return *descending_out || part_is(text, size, "asc") ? 0 : TSR_EINVAL;
}

static void strip(const char **text, size_t *size)
{
    while (*size > 0 && blank(**text)) {
        (*text)++;
        (*size)--;
    }
    while (*size > 0 && blank((*text)[*size - 1])) {
        (*size)--;
    }
}

/* The first mention of a key decides; later ones change nothing. */
static void sort_use(struct query *q, enum meta_sort key, bool descending)
{
    for (size_t i = 0; i < q->meta.sort_count; i++) {
        if (q->meta.sort[i].key == key) {
            return;
        }
    }
    q->meta.sort[q->meta.sort_count].key = key;
    q->meta.sort[q->meta.sort_count++].descending = descending;
}

/* sort=key[:dir],... */
static int sort_new_style(struct query *q, const char *value)
{
    for (const char *at = value;;) {
        size_t size = strcspn(at, ","), key_size;
        const char *colon = memchr(at, ':', size), *key = at, *dir;
        enum meta_sort sort;
        bool descending = true;
        key_size = colon != NULL ? (size_t)(colon - at) : size;
        if (colon != NULL) {
            size_t dir_size = size - key_size - 1;
            dir = colon + 1;
            strip(&dir, &dir_size);
            if (sort_dir_of(dir, dir_size, &descending) != 0) {
                return TSR_EINVAL;
            }
        }
        strip(&key, &key_size);
        if (sort_key_of(key, key_size, &sort) != 0) {
            return TSR_EINVAL;
        }
        sort_use(q, sort, descending);
        if (at[size] == '\0') {
            return 0;
        }
        at += size + 1;
    }
}

static int sort_old_style(struct query *q, const char *name, const char *value)
{
    bool key = is(name, "sort_key");
    size_t *count = key ? &q->sort_key_count : &q->sort_dir_count;
    const char *text = value;
    size_t size = strlen(value);
    strip(&text, &size);
    if (*count == QUERY_SORT_KEYS_MAX) {
        return TSR_EINVAL;
    }
    int rv = key ? sort_key_of(text, size, &q->sort_keys[*count])
                 : sort_dir_of(text, size, &q->sort_dirs[*count]);
    (*count)++;
    return rv;
}

static int sort_finish(struct query *q, struct err *err)
{
    size_t keys = q->sort_key_count, dirs = q->sort_dir_count;
    if (q->sort_given && keys + dirs > 0) {
        return err_set(err, TSR_EINVAL, "Old and new sorting syntax cannot be combined");
    }
    if (dirs > 1 && dirs != keys) {
        return err_set(err, TSR_EINVAL,
                       "Number of sort dirs does not match the number of sort keys");
    }
    if (keys == 0 && dirs == 1) {
        sort_use(q, SORT_CREATED_AT, q->sort_dirs[0]);
    }
    for (size_t i = 0; i < keys; i++) {
        sort_use(q, q->sort_keys[i],
                 dirs == 0   ? true
                 : dirs == 1 ? q->sort_dirs[0]
                             : q->sort_dirs[i]);
    }
    return 0;
}

static int limit_of(struct query *q, const char *value, size_t limit_max)
{
    int64_t n;
    if (str_to_i64(value, 0, INT64_MAX, &n) != 0) {
        return TSR_EINVAL;
    }
    q->meta.limit = n < (int64_t)limit_max ? (size_t)n : limit_max;
    return 0;
}

static int word_of(const char *const *words, size_t count, const char *value, const char **out)
{
    *out = value;
    return in_list(words, count, value) ? 0 : TSR_EINVAL;
}

/* One parameter. TSR_EINVAL without a message: the value does not fit the name. */
static int parameter(struct query *q, const char *name, const char *value, size_t limit_max,
                     struct err *err)
{
    static const char *const visibilities[] = {"public",    "private", "shared",
                                               "community", "all",     ""};
    static const char *const memberships[] = {"accepted", "pending", "rejected", "all"};
    if (is(name, "limit")) {
        return limit_of(q, value, limit_max);
    }
    if (is(name, "marker")) {
        q->meta.marker = value;
        return uuid_valid(value) ? 0 : TSR_EINVAL;
    }
    if (is(name, "sort")) {
        q->sort_given = true;
        return sort_new_style(q, value);
    }
    if (is(name, "sort_key") || is(name, "sort_dir")) {
        return sort_old_style(q, name, value);
    }
    if (is(name, "visibility")) {
        return word_of(visibilities, array_len(visibilities), value, &q->meta.visibility);
    }
    if (is(name, "member_status")) {
        return word_of(memberships, array_len(memberships), value, &q->meta.member_status);
    }
    if (is(name, "os_hidden")) {
        q->meta.hidden = str_ieq(value, "true");
        return q->meta.hidden || str_ieq(value, "false") ? 0 : TSR_EINVAL;
    }
    if (is(name, "changes-since")) {
        return TSR_EINVAL;
    }
    if (is(name, "deleted")) {
        return 0;
    }
    return filter(q, name, value, err);
}

int query_parse(struct query *q, const struct image_param *params, size_t count,
                size_t limit_default, size_t limit_max, struct err *err)
{
    q->meta.limit = limit_default < limit_max ? limit_default : limit_max;
    for (size_t i = 0; i < count; i++) {
        struct err why = {0};
        int rv = parameter(q, params[i].name, params[i].value, limit_max, &why);
        if (rv == TSR_EINVAL && why.msg[0] == '\0') {
            rv = invalid(&why, params[i].name, params[i].value);
        }
        if (rv != 0) {
            return err_set(err, rv, "%s", why.msg);
        }
    }
    q->meta.filters = q->filters;
    q->meta.filter_count = q->filter_count;
    return sort_finish(q, err);
}

/* --- links
 * ------------------------------------------------------------------------------------------------
 */

static void link_add(struct buf *b, const char *name, const char *value, bool *first)
{
    (void)buf_append_str(b, *first ? "?" : "&");
    *first = false;
    (void)percent_encode(b, name, true);
    (void)buf_append_str(b, "=");
    (void)percent_encode(b, value, true);
}

char *query_link(const struct image_param *params, size_t count, const char *marker)
{
    struct buf b = {0};
    bool first = true;
    (void)buf_append_str(&b, "/v2/images");
    for (size_t i = 0; i < count; i++) {
        if (!is(params[i].name, "marker")) {
            link_add(&b, params[i].name, params[i].value, &first);
        }
    }
    if (marker != NULL) {
        link_add(&b, "marker", marker, &first);
    }
    if (b.failed) {
        buf_free(&b);
        return NULL;
    }
    return buf_detach(&b, NULL);
}
