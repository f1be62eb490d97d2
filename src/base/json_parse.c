/* Text to jansson's values, several times as fast as jansson's own parser, which takes one
 * character after the other through three layers. It accepts what json_loadb accepts with
 * JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, to a depth of 64, and gives the same values:
 * tests/fuzz/fuzz_base_json.c holds the two against each other. Numbers with a fraction or an
 * exponent are left to jansson. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_plain.h"
#include "tessera/base/json.h"
#include "tessera/base/str.h"

enum { SHORT_STRING = 256 };

struct parser {
    const char *at, *end;
    int depth;
};

static void skip_space(struct parser *p)
{
    while (p->at < p->end &&
           (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t')) {
        p->at++;
    }
}

static bool take(struct parser *p, char c)
{
    if (p->at < p->end && *p->at == c) {
        p->at++;
        return true;
    }
    return false;
}

/* --- strings ---------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Four digits; -1 if they are none. */
static long take_hex(struct parser *p)
{
    long v = 0;
    if (p->end - p->at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*p->at++);
        if (digit < 0) {
            return -1;
        }
        v = v << 4 | digit;
    }
    return v;
}

static char *put_utf8(char *out, long c)
{
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *out++ = (char)(0xe0 | c >> 12);
        } else {
            *out++ = (char)(0xf0 | c >> 18);
            *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (c & 0x3f));
    return out;
}

/* Behind "\u". NULL: no character, half of a pair, or 0, which no string of ours may hold. */
static char *take_unicode(struct parser *p, char *out)
{
    long c = take_hex(p);
    if (c >= 0xd800 && c <= 0xdbff) {
        if (!take(p, '\\') || !take(p, 'u')) {
            return NULL;
        }
        long low = take_hex(p);
        if (low < 0xdc00 || low > 0xdfff) {
            return NULL;
        }
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return NULL;
    }
    return c <= 0 ? NULL : put_utf8(out, c);
}

static char *take_escape(struct parser *p, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end) {
        return NULL;
    }
    char c = *p->at++;
    if (c == 'u') {
        return take_unicode(p, out);
    }
    const char *found = c == '\0' ? NULL : strchr(from, c);
    if (found == NULL) {
        return NULL;
    }
    *out++ = to[found - from];
    return out;
}

/* The end of the string whose first byte is at p->at, and what is in it. NULL: it has none, or a
 * control character. */
static const char *find_end(const struct parser *p, bool *escapes_out, bool *ascii_out)
{
    const char *at = p->at;
    *escapes_out = false;
    *ascii_out = true;
    while (at < p->end) {
        while (p->end - at >= 8 && json_eight_plain(at)) {
            at += 8;
        }
        if (at == p->end) {
            break;
        }
        unsigned char c = (unsigned char)*at;
        if (c == '"') {
            return at;
        }
        if (c < 0x20) {
            break;
        }
        *ascii_out = *ascii_out && c < 0x80;
        if (c == '\\') {
            *escapes_out = true;
            at++; /* what follows is no end */
        }
        at += at < p->end ? 1 : 0;
    }
    return NULL;
}

/* A string as it is meant: in the text itself, or in memory that the caller frees. */
struct text {
    const char *data;
    size_t size;
    char *own;
    char room[SHORT_STRING];
};

static bool resolve(struct parser *p, const char *end, struct text *out)
{
    size_t most = (size_t)(end - p->at); /* an escape is longer than what it stands for */
    out->own = most > sizeof(out->room) ? malloc(most) : NULL;
    char *start = most > sizeof(out->room) ? out->own : out->room, *to = start;
    struct parser inner = {.at = p->at, .end = end};
    while (to != NULL && inner.at < end) {
        char c = *inner.at++;
        if (c == '\\') {
            to = take_escape(&inner, to);
        } else {
            *to++ = c;
        }
    }
    if (to == NULL) {
        free(out->own);
        return false;
    }
    out->data = start;
    out->size = (size_t)(to - start);
    return true;
}

/* Behind the first quotation mark. */
static bool take_string(struct parser *p, struct text *out)
{
    bool escapes, ascii;
    const char *end = find_end(p, &escapes, &ascii);
    if (end == NULL || (!ascii && !utf8_valid(p->at, (size_t)(end - p->at)))) {
        return false;
    }
    out->own = NULL;
    out->data = p->at;
    out->size = (size_t)(end - p->at);
    if (escapes && !resolve(p, end, out)) {
        return false;
    }
    p->at = end + 1;
    return true;
}

/* --- values ----------------------------------------------------------------------------------- */

static json_t *parse_value(struct parser *p);

static json_t *parse_string(struct parser *p)
{
    struct text text;
    if (!take_string(p, &text)) {
        return NULL;
    }
    json_t *value = json_stringn_nocheck(text.data, text.size);
    free(text.own);
    return value;
}

static size_t digits(const char *at, const char *end)
{
    const char *start = at;
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return (size_t)(at - start);
}

static json_t *parse_number(struct parser *p)
{
    const char *start = p->at, *at = start + (*start == '-' ? 1 : 0);
    size_t whole = digits(at, p->end);
    if (whole == 0 || (whole > 1 && *at == '0')) {
        return NULL;
    }
    at += whole;
    if (at < p->end && (*at == '.' || *at == 'e' || *at == 'E')) {
        while (at < p->end && (digits(at, p->end) > 0 || strchr("+-.eE", *at) != NULL) &&
               *at != 0) {
            at++;
        }
        p->at = at;
        json_error_t where;
        return json_loadb(start, (size_t)(at - start), JSON_DECODE_ANY, &where);
    }
    char text[24];
    size_t size = (size_t)(at - start);
    if (size >= sizeof(text)) {
        return NULL; /* does not fit 64 bits */
    }
    memcpy(text, start, size);
    text[size] = '\0';
    errno = 0;
    long long v = strtoll(text, NULL, 10);
    p->at = at;
    return errno == ERANGE ? NULL : json_integer(v);
}

static json_t *parse_word(struct parser *p)
{
    static const struct {
        const char *word;
        size_t size;
    } words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    for (size_t i = 0; i < 3; i++) {
        if ((size_t)(p->end - p->at) >= words[i].size &&
            memcmp(p->at, words[i].word, words[i].size) == 0) {
            p->at += words[i].size;
            return i == 0 ? json_true() : i == 1 ? json_false() : json_null();
        }
    }
    return NULL;
}

static bool parse_items(struct parser *p, json_t *array)
{
    skip_space(p);
    if (take(p, ']')) {
        return true;
    }
    do {
        json_t *value = parse_value(p);
        if (value == NULL || json_array_append_new(array, value) != 0) {
            return false;
        }
        skip_space(p);
    } while (take(p, ','));
    return take(p, ']');
}

/* jansson wants keys that end with 0. @value is taken over. */
static bool put_member(json_t *object, const struct text *key, json_t *value)
{
    char room[SHORT_STRING], *name = key->size < sizeof(room) ? room : malloc(key->size + 1);
    if (name == NULL) {
        json_decref(value);
        return false;
    }
    memcpy(name, key->data, key->size);
    name[key->size] = '\0';
    bool fresh = json_object_get(object, name) == NULL;
    if (!fresh) {
        json_decref(value);
    }
    bool ok = fresh && json_object_set_new_nocheck(object, name, value) == 0;
    if (name != room) {
        free(name);
    }
    return ok;
}

static bool parse_member(struct parser *p, json_t *object)
{
    struct text key;
    skip_space(p);
    if (!take(p, '"') || !take_string(p, &key)) {
        return false;
    }
    skip_space(p);
    json_t *value = take(p, ':') ? parse_value(p) : NULL;
    bool ok = value != NULL && put_member(object, &key, value);
    free(key.own);
    return ok;
}

static bool parse_members(struct parser *p, json_t *object)
{
    skip_space(p);
    if (take(p, '}')) {
        return true;
    }
    do {
        if (!parse_member(p, object)) {
            return false;
        }
        skip_space(p);
    } while (take(p, ','));
    return take(p, '}');
}

static json_t *parse_nested(struct parser *p, bool object)
{
    json_t *value = object ? json_object() : json_array();
    bool ok = value != NULL && ++p->depth <= JSON_DEPTH_MAX &&
              (object ? parse_members(p, value) : parse_items(p, value));
    if (!ok) {
        json_decref(value);
        return NULL;
    }
    p->depth--;
    return value;
}

static json_t *parse_value(struct parser *p)
{
    skip_space(p);
    if (p->at == p->end) {
        return NULL;
    }
    char c = *p->at;
    switch (c) {
    case '"':
        p->at++;
        return parse_string(p);
    case '{':
    case '[':
        p->at++;
        return parse_nested(p, c == '{');
    case 't':
    case 'f':
    case 'n':
        return parse_word(p);
    default:
        return c == '-' || (c >= '0' && c <= '9') ? parse_number(p) : NULL;
    }
}

json_t *json_parse(const char *data, size_t size)
{
    if (data == NULL) {
        return NULL;
    }
    struct parser p = {.at = data, .end = data + size};
    json_t *value = parse_value(&p);
    skip_space(&p);
    if (value != NULL && p.at != p.end) {
        json_decref(value);
        return NULL;
    }
    return value;
}
