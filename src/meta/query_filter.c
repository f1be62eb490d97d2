#include <stdlib.h>
#include <string.h>

#include "meta/query.h"
#include "tessera/base/buf.h"

/* Seconds that hold the microsecond, also before the epoch. */
static int64_t whole_seconds(int64_t us)
{
    int64_t s = us / 1000000;
    return us % 1000000 < 0 ? s - 1 : s;
}

static bool compare_ok(enum meta_compare how, int c)
{
    switch (how) {
    case CMP_EQ:
    case CMP_IN:
        return c == 0;
    case CMP_NEQ:
        return c != 0;
    case CMP_GT:
        return c > 0;
    case CMP_GTE:
        return c >= 0;
    case CMP_LT:
        return c < 0;
    case CMP_LTE:
        return c <= 0;
    }
    return false;
}

static bool match_number(const struct meta_filter *f, const json_t *value)
{
    if (!json_is_integer(value)) {
        return false;
    }
    int64_t have = json_integer_value(value), want = f->number;
    if (strcmp(f->field, "created_at") == 0 || strcmp(f->field, "updated_at") == 0) {
        have = whole_seconds(have);
        want = whole_seconds(want);
    }
    return compare_ok(f->compare, have < want ? -1 : have > want);
}

static bool match_text(const struct meta_filter *f, const char *text)
{
    size_t n = f->compare == CMP_IN ? f->value_count : f->value_count > 0 ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        if (compare_ok(f->compare, strcmp(text, f->values[i]))) {
            return true;
        }
    }
    return false;
}

static bool match_tags(const struct meta_filter *f, const json_t *tags)
{
    size_t i;
    json_t *tag;
    json_array_foreach(tags, i, tag)
    {
        if (match_text(f, json_string_value(tag))) {
            return true;
        }
    }
    return false;
}

static bool match_one(const struct meta_filter *f, const json_t *image)
{
    static const char prop[] = "prop:";
    if (strcmp(f->field, "tag") == 0) {
        return match_tags(f, json_arr(image, "tags"));
    }
    const json_t *value =
        strncmp(f->field, prop, sizeof(prop) - 1) == 0
            ? json_object_get(json_obj(image, "props"), f->field + sizeof(prop) - 1)
            : json_object_get(image, f->field);
    if (f->numeric) {
        return match_number(f, value);
    }
    if (json_is_boolean(value)) {
        return match_text(f, json_is_true(value) ? "true" : "false");
    }
    return json_is_string(value) && match_text(f, json_string_value(value));
}

bool filter_match(const struct meta_filter *filters, size_t count, const json_t *image)
{
    for (size_t i = 0; i < count; i++) {
        if (!match_one(&filters[i], image)) {
            return false;
        }
    }
    return true;
}

/* --- without parsing
 * -------------------------------------------------------------------------------- */

/* Records are written by one encoder with one set of options, so a string value always looks the
 * same inside the text, with its quotation marks. Booleans are not quoted: those are not looked
 * for. */
int prefilter_init(struct prefilter *p, const struct meta_filter *filters, size_t count)
{
    *p = (struct prefilter){.texts = calloc(count + 1, sizeof(char *))};
    if (p->texts == NULL) {
        return TSR_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        const struct meta_filter *f = &filters[i];
        if (f->numeric || f->compare != CMP_EQ || f->value_count == 0 ||
            strcmp(f->field, "protected") == 0 || strcmp(f->field, "os_hidden") == 0) {
            continue;
        }
        json_t *value = json_string(f->values[0]);
        char *text = value == NULL ? NULL : json_text(value, NULL);
        json_decref(value);
        if (text != NULL) { /* not valid UTF-8: it matches nothing, which the filter itself finds */
            p->texts[p->count++] = text;
        }
    }
    return 0;
}

void prefilter_free(struct prefilter *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->texts[i]);
    }
    free(p->texts);
    *p = (struct prefilter){0};
}

bool prefilter_match(const struct prefilter *p, const char *text, size_t size)
{
    for (size_t i = 0; i < p->count; i++) {
        if (memmem(text, size, p->texts[i], strlen(p->texts[i])) == NULL) {
            return false;
        }
    }
    return true;
}
