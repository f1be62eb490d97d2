#include "image/fields.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

enum value_kind {
    VALUE_CUSTOM,    /* text up to IMAGE_PROPERTY_MAX bytes */
    VALUE_TEXT,      /* text of any length */
    VALUE_TEXT_NULL, /* or null; up to `max` characters */
    VALUE_UUID,
    VALUE_UUID_NULL,
    VALUE_BOOL,
    VALUE_COUNT, /* 0 .. 2^31 - 1 */
    VALUE_INT_NULL,
    VALUE_TAGS,
    VALUE_LOCATIONS,
    VALUE_WORD, /* one of `words` */
    VALUE_WORD_NULL,
};

static const char visibilities[] = "community|public|private|shared";
static const char disk_formats[] = "ami|ari|aki|vhd|vhdx|vmdk|raw|qcow2|vdi|iso|ploop|gpt";
static const char container_formats[] = "ami|ari|aki|bare|ovf|ova|docker|compressed";
static const char statuses[] = "queued|saving|active|killed|deleted|uploading|importing|"
                               "pending_delete|deactivated";

static const struct field {
    const char *name;
    enum field_class class;
    enum value_kind kind;
    unsigned max;
    const char *words;
} fields[] = {
    {"id", FIELD_ID, VALUE_UUID, 0, NULL},
    {"name", FIELD_PLAIN, VALUE_TEXT_NULL, IMAGE_NAME_MAX, NULL},
    {"visibility", FIELD_PLAIN, VALUE_WORD, 0, visibilities},
    {"protected", FIELD_PLAIN, VALUE_BOOL, 0, NULL},
    {"os_hidden", FIELD_PLAIN, VALUE_BOOL, 0, NULL},
    {"min_disk", FIELD_PLAIN, VALUE_COUNT, 0, NULL},
    {"min_ram", FIELD_PLAIN, VALUE_COUNT, 0, NULL},
    {"tags", FIELD_PLAIN, VALUE_TAGS, 0, NULL},
    {"owner", FIELD_OWNER, VALUE_TEXT_NULL, IMAGE_NAME_MAX, NULL},
    {"disk_format", FIELD_FORMAT, VALUE_WORD_NULL, 0, disk_formats},
    {"container_format", FIELD_FORMAT, VALUE_WORD_NULL, 0, container_formats},
    {"os_hash_algo", FIELD_HASH, VALUE_TEXT_NULL, 64, NULL},
    {"os_hash_value", FIELD_HASH, VALUE_TEXT_NULL, 128, NULL},
    {"status", FIELD_READ_ONLY, VALUE_WORD, 0, statuses},
    {"size", FIELD_READ_ONLY, VALUE_INT_NULL, 0, NULL},
    {"virtual_size", FIELD_READ_ONLY, VALUE_INT_NULL, 0, NULL},
    {"checksum", FIELD_READ_ONLY, VALUE_TEXT_NULL, 32, NULL},
    {"created_at", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"updated_at", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"self", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"file", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"schema", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"direct_url", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"stores", FIELD_READ_ONLY, VALUE_TEXT, 0, NULL},
    {"locations", FIELD_LOCATIONS, VALUE_LOCATIONS, 0, NULL},
    {"location", FIELD_RESERVED, VALUE_CUSTOM, 0, NULL},
    {"deleted", FIELD_RESERVED, VALUE_CUSTOM, 0, NULL},
    {"deleted_at", FIELD_RESERVED, VALUE_CUSTOM, 0, NULL},
    {"kernel_id", FIELD_CUSTOM, VALUE_UUID_NULL, 0, NULL},
    {"ramdisk_id", FIELD_CUSTOM, VALUE_UUID_NULL, 0, NULL},
    {"cinder_encryption_key_deletion_policy", FIELD_CUSTOM, VALUE_WORD, 0,
     "on_image_deletion|do_not_delete"},
};

static const struct field *field_find(const char *name)
{
    for (size_t i = 0; i < array_len(fields); i++) {
        if (strcmp(fields[i].name, name) == 0) {
            return &fields[i];
        }
    }
    return NULL;
}

enum field_class field_class(const char *name)
{
    const struct field *f = field_find(name);
    if (f != NULL) {
        return f->class;
    }
    return str_starts(name, "os_glance") ? FIELD_RESERVED : FIELD_CUSTOM;
}

const char *field_short(const char *text, char out[IMAGE_SHORT])
{
    (void)str_copy(out, IMAGE_SHORT, text);
    size_t size = strlen(out);
    while (size > 0 && !utf8_valid(out, size)) {
        out[--size] = '\0';
    }
    return out;
}

bool field_name_ok(const char *text)
{
    return text != NULL && text[0] != '\0' && utf8_length(text) <= IMAGE_NAME_MAX;
}

/* --- values
 * --------------------------------------------------------------------------------------- */

/* Is @word one of "a|b|c"? */
static bool word_in(const char *words, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = words; size > 0 && *at != '\0';) {
        size_t n = strcspn(at, "|");
        if (n == size && memcmp(at, word, n) == 0) {
            return true;
        }
        at += n + (at[n] == '|');
    }
    return false;
}

static bool is_text(const json_t *value, size_t max)
{
    return json_is_string(value) && utf8_length(json_string_value(value)) <= max;
}

/* A JSON number without a fraction counts as whole, however it is written. */
static bool whole_number(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    double real = json_is_real(value) ? json_real_value(value) : 0.5;
    if (!(real >= -9e15 && real <= 9e15) || real != (double)(int64_t)real) {
        return false;
    }
    *out = (int64_t)real;
    return true;
}

static bool is_count(const json_t *value)
{
    int64_t n;
    return whole_number(value, &n) && n >= 0 && n <= INT32_MAX;
}

static bool are_tags(const json_t *value)
{
    size_t i;
    json_t *tag;
    if (!json_is_array(value)) {
        return false;
    }
    json_array_foreach(value, i, tag)
    {
        if (!is_text(tag, IMAGE_NAME_MAX)) {
            return false;
        }
    }
    return true;
}

static bool are_locations(const json_t *value)
{
    size_t i;
    json_t *location;
    if (!json_is_array(value)) {
        return false;
    }
    json_array_foreach(value, i, location)
    {
        if (json_str(location, "url") == NULL || json_obj(location, "metadata") == NULL) {
            return false;
        }
    }
    return true;
}

static bool value_ok(const struct field *f, const json_t *value)
{
    int64_t n;
    switch (f->kind) {
    case VALUE_CUSTOM:
        return json_is_string(value) && json_string_length(value) <= IMAGE_PROPERTY_MAX;
    case VALUE_TEXT:
        return json_is_string(value);
    case VALUE_TEXT_NULL:
        return json_is_null(value) || is_text(value, f->max);
    case VALUE_UUID:
        return json_is_string(value) && uuid_valid(json_string_value(value));
    case VALUE_UUID_NULL:
        return json_is_null(value) ||
               (json_is_string(value) && uuid_valid(json_string_value(value)));
    case VALUE_BOOL:
        return json_is_boolean(value);
    case VALUE_COUNT:
        return is_count(value);
    case VALUE_INT_NULL:
        return json_is_null(value) || whole_number(value, &n);
    case VALUE_TAGS:
        return are_tags(value);
    case VALUE_LOCATIONS:
        return are_locations(value);
    case VALUE_WORD_NULL:
        return json_is_null(value) ||
               (json_is_string(value) && word_in(f->words, json_string_value(value)));
    case VALUE_WORD:
        return json_is_string(value) && word_in(f->words, json_string_value(value));
    }
    return false;
}

int field_check(const char *name, const json_t *value, struct err *err)
{
    static const struct field custom = {"", FIELD_CUSTOM, VALUE_CUSTOM, 0, NULL};
    const struct field *f = field_find(name);
    char shown[IMAGE_SHORT];
    if (f == NULL && utf8_length(name) > IMAGE_NAME_MAX) {
        return err_set(err, TSR_EINVAL, "Property names may have up to %d characters.",
                       IMAGE_NAME_MAX);
    }
    if (!value_ok(f != NULL ? f : &custom, value)) {
        return err_set(err, TSR_EINVAL, "Invalid value for '%s'.", field_short(name, shown));
    }
    return 0;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *tags_sorted(const json_t *tags)
{
    size_t n = json_array_size(tags);
    const char **texts = malloc((n + 1) * sizeof(*texts));
    json_t *out = texts != NULL ? json_array() : NULL;
    for (size_t i = 0; i < n && out != NULL; i++) {
        texts[i] = json_string_value(json_array_get(tags, i));
    }
    if (out != NULL && n > 1) {
        qsort(texts, n, sizeof(*texts), compare_text);
    }
    for (size_t i = 0; i < n && out != NULL; i++) {
        if (i > 0 && strcmp(texts[i], texts[i - 1]) == 0) {
            continue;
        }
        if (json_array_append_new(out, json_string(texts[i])) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    free(texts);
    return out;
}

json_t *field_value(const char *name, const json_t *value)
{
    const struct field *f = field_find(name);
    int64_t n;
    if (f != NULL && f->kind == VALUE_TAGS) {
        return tags_sorted(value);
    }
    if (f != NULL && f->kind == VALUE_COUNT && whole_number(value, &n)) {
        return json_integer(n);
    }
    return json_incref((json_t *)(uintptr_t)value);
}
