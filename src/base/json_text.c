/* jansson's values to text, several times as fast as json_dumps with JSON_COMPACT | JSON_SORT_KEYS
 * | JSON_ENCODE_ANY, and the same byte for byte (tests/fuzz/fuzz_base_json.c): the text is what
 * hosts digest. Real numbers are left to jansson. */
#include <stdlib.h>
#include <string.h>

#include "base/json_plain.h"
#include "tessera/base/buf.h"
#include "tessera/base/json.h"
#include "tessera/base/str.h"

enum { DEPTH_MAX = 2048, MEMBERS_SHORT = 48, FIRST_ROOM = 500 };

static bool write_value(struct buf *b, const json_t *value, unsigned depth);

/* Where the bytes that stand for themselves end. @ascii: none beyond ASCII was met. */
static size_t skip_plain(const char *text, size_t size, size_t at, bool *ascii)
{
    while (at < size) {
        if (size - at >= 8 && json_eight_plain(text + at)) {
            at += 8;
            continue;
        }
        unsigned char c = (unsigned char)text[at];
        if (c < 0x20 || c == '"' || c == '\\') {
            break;
        }
        *ascii = *ascii && c < 0x80;
        at++;
    }
    return at;
}

static void write_escape(struct buf *b, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *found = c == '\0' ? NULL : strchr(from, c);
    if (found != NULL) {
        char two[2] = {'\\', to[found - from]};
        (void)buf_append(b, two, 2);
    } else {
        (void)buf_printf(b, "\\u%04X", c);
    }
}

static bool write_string(struct buf *b, const char *text, size_t size)
{
    bool ascii = true;
    (void)buf_append(b, "\"", 1);
    for (size_t i = 0; i < size;) {
        size_t start = i;
        i = skip_plain(text, size, i, &ascii);
        (void)buf_append(b, text + start, i - start);
        if (i < size) {
            write_escape(b, (unsigned char)text[i++]);
        }
    }
    (void)buf_append(b, "\"", 1);
    return ascii || utf8_valid(text, size);
}

struct member {
    const char *key;
    const json_t *value;
};

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct member *)a)->key, ((const struct member *)b)->key);
}

/* What was parsed from such a text, and not changed much, is in order already. */
static void sort(struct member *members, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (compare(&members[i - 1], &members[i]) > 0) {
            qsort(members, count, sizeof(*members), compare);
            return;
        }
    }
}

static bool write_members(struct buf *b, const struct member *members, size_t count, unsigned depth)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            (void)buf_append(b, ",", 1);
        }
        if (!write_string(b, members[i].key, strlen(members[i].key))) {
            return false;
        }
        (void)buf_append(b, ":", 1);
        if (!write_value(b, members[i].value, depth)) {
            return false;
        }
    }
    return true;
}

static bool write_object(struct buf *b, json_t *object, unsigned depth)
{
    struct member few[MEMBERS_SHORT], *members = few;
    size_t count = json_object_size(object), n = 0;
    if (count > MEMBERS_SHORT && (members = malloc(count * sizeof(*members))) == NULL) {
        return false;
    }
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        members[n++] = (struct member){key, value};
    }
    sort(members, n);
    (void)buf_append(b, "{", 1);
    bool ok = write_members(b, members, n, depth);
    (void)buf_append(b, "}", 1);
    if (members != few) {
        free(members);
    }
    return ok;
}

static bool write_array(struct buf *b, const json_t *array, unsigned depth)
{
    (void)buf_append(b, "[", 1);
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0) {
            (void)buf_append(b, ",", 1);
        }
        if (!write_value(b, json_array_get(array, i), depth)) {
            return false;
        }
    }
    (void)buf_append(b, "]", 1);
    return true;
}

static bool write_real(struct buf *b, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    bool ok = text != NULL;
    if (ok) {
        (void)buf_append_str(b, text);
    }
    free(text);
    return ok;
}

static bool write_value(struct buf *b, const json_t *value, unsigned depth)
{
    if (value == NULL || depth == 0) {
        return false;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return write_object(b, (json_t *)(uintptr_t)value, depth - 1);
    case JSON_ARRAY:
        return write_array(b, value, depth - 1);
    case JSON_STRING:
        return write_string(b, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        (void)buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return true;
    case JSON_REAL:
        return write_real(b, value);
    case JSON_TRUE:
        (void)buf_append(b, "true", 4);
        return true;
    case JSON_FALSE:
        (void)buf_append(b, "false", 5);
        return true;
    default:
        (void)buf_append(b, "null", 4);
        return true;
    }
}

char *json_text(const json_t *value, size_t *size_out)
{
    struct buf b;
    size_t size = 0;
    char *text = NULL;
    buf_init(&b);
    (void)buf_reserve(&b, FIRST_ROOM);
    if (write_value(&b, value, DEPTH_MAX) && !b.failed) {
        text = buf_detach(&b, &size);
    }
    buf_free(&b);
    if (size_out != NULL) {
        *size_out = size;
    }
    return text;
}

/* --- without writing it ----------------------------------------------------------------------- */

static bool sound(const json_t *value, unsigned depth)
{
    size_t i;
    const char *key;
    json_t *inner;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        json_object_foreach((json_t *)(uintptr_t)value, key, inner)
        {
            if (depth == 0 || !sound(inner, depth - 1)) {
                return false;
            }
        }
        return depth > 0;
    case JSON_ARRAY:
        json_array_foreach(value, i, inner)
        {
            if (depth == 0 || !sound(inner, depth - 1)) {
                return false;
            }
        }
        return depth > 0;
    case JSON_STRING:
        return strlen(json_string_value(value)) == json_string_length(value);
    default:
        return true;
    }
}

bool json_can_return(const json_t *value)
{
    return value != NULL && sound(value, JSON_DEPTH_MAX);
}
