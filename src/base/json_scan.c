#include <string.h>

#include "tessera/base/err.h"
#include "tessera/base/json.h"
#include "tessera/base/str.h"

static const size_t none = SIZE_MAX;

/* Behind the string that begins at @at (its first quotation mark), or none. */
static size_t skip_string(const char *text, size_t size, size_t at)
{
    for (at++; at < size; at++) {
        const char *quote = memchr(text + at, '"', size - at);
        if (quote == NULL) {
            return none;
        }
        at = (size_t)(quote - text);
        size_t slashes = 0; /* those in front of it: an odd number belongs to this mark */
        while (text[at - slashes - 1] == '\\') {
            slashes++;
        }
        if (slashes % 2 == 0) {
            return at + 1;
        }
    }
    return none;
}

/* Behind the object or array that begins at @at. */
static size_t skip_nested(const char *text, size_t size, size_t at)
{
    size_t depth = 0;
    while (at < size) {
        char c = text[at];
        if (c == '"') {
            at = skip_string(text, size, at);
            continue;
        }
        at++;
        if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return at;
        }
    }
    return none;
}

static size_t skip_value(const char *text, size_t size, size_t at)
{
    if (at >= size) {
        return none;
    }
    if (text[at] == '"') {
        return skip_string(text, size, at);
    }
    if (text[at] == '{' || text[at] == '[') {
        return skip_nested(text, size, at);
    }
    size_t start = at;
    while (at < size && text[at] != ',' && text[at] != '}') {
        at++;
    }
    return at == start || at == size ? none : at;
}

bool json_member_next(const char *text, size_t size, size_t *at, struct json_member *out)
{
    size_t from = *at;
    *at = none;
    if (from >= size) {
        return false;
    }
    if (text[from] == '}') {
        *at = from + 1 == size ? from : none; /* stays at the end */
        return false;
    }
    if (text[from] != (from == 0 ? '{' : ',') || from + 1 == size) {
        return false;
    }
    size_t key = from + 1;
    if (from == 0 && text[key] == '}') {
        *at = key + 1 == size ? key : none;
        return false;
    }
    size_t colon = text[key] == '"' ? skip_string(text, size, key) : none;
    if (colon >= size || text[colon] != ':') {
        return false;
    }
    size_t end = skip_value(text, size, colon + 1);
    if (end >= size) {
        return false;
    }
    *out = (struct json_member){.key = text + key + 1,
                                .key_size = colon - key - 2,
                                .value = text + colon + 1,
                                .value_size = end - colon - 1};
    *at = end;
    return true;
}

bool json_member_plain(const struct json_member *m, char *out, size_t room)
{
    if (m->value_size < 2 || m->value[0] != '"' || m->value_size - 2 >= room ||
        memchr(m->value, '\\', m->value_size) != NULL) {
        return false;
    }
    memcpy(out, m->value + 1, m->value_size - 2);
    out[m->value_size - 2] = '\0';
    return true;
}

bool json_member_int(const struct json_member *m, int64_t *out)
{
    char text[24];
    if (m->value_size >= sizeof(text)) {
        return false;
    }
    memcpy(text, m->value, m->value_size);
    text[m->value_size] = '\0';
    return str_to_i64(text, INT64_MIN, INT64_MAX, out) == 0;
}
