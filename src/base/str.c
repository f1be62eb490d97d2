#include "tessera/base/str.h"

#include <string.h>

#include "tessera/base/buf.h"
#include "tessera/base/err.h"

bool str_copy(char *out, size_t out_size, const char *text)
{
    size_t size = strlen(text);
    if (out_size == 0) {
        return false;
    }
    size_t n = size < out_size ? size : out_size - 1;
    memmove(out, text, n);
    out[n] = 0;
    return n == size;
}

bool str_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_ieq(const char *a, const char *b)
{
    while (*a != 0 && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

/* Digits at @p as a number up to INT64_MAX (+1 when @negative); returns what follows, or NULL. */
static const char *scan_number(const char *p, bool negative, uint64_t *out)
{
    uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1 : 0), v = 0;
    if (*p < '0' || *p > '9') {
        return NULL;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (v > (limit - digit) / 10) {
            return NULL;
        }
        v = v * 10 + digit;
    }
    *out = v;
    return p;
}

int str_to_i64(const char *text, int64_t min, int64_t max, int64_t *out)
{
    bool negative = *text == '-';
    uint64_t v;
    const char *end = scan_number(text + (negative ? 1 : 0), negative, &v);
    if (end == NULL || *end != 0) {
        return TSR_EINVAL;
    }
    int64_t n = negative ? (v == 0 ? 0 : -(int64_t)(v - 1) - 1) : (int64_t)v;
    if (n < min || n > max) {
        return TSR_EINVAL;
    }
    *out = n;
    return 0;
}

int str_to_size(const char *text, int64_t *out)
{
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {{"", 0},   {"b", 0},    {"k", 10}, {"kib", 10}, {"m", 20}, {"mib", 20},
                 {"g", 30}, {"gib", 30}, {"t", 40}, {"tib", 40}, {"p", 50}, {"pib", 50}};
    uint64_t v;
    const char *unit = scan_number(text, false, &v);
    if (unit == NULL) {
        return TSR_EINVAL;
    }
    if (*unit == ' ' && unit[1] != 0) {
        unit++;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (str_ieq(unit, units[i].name)) {
            if (v > (uint64_t)INT64_MAX >> units[i].shift) {
                return TSR_EINVAL;
            }
            *out = (int64_t)(v << units[i].shift);
            return 0;
        }
    }
    return TSR_EINVAL;
}

/* Bytes of the code point at @p (RFC 3629: no overlong forms, no surrogates), 0 = not valid. */
static size_t utf8_step(const unsigned char *p, size_t left)
{
    unsigned char c = p[0];
    if (c < 0x80) {
        return 1;
    }
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || left < n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool bad = (c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) ||
               (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

bool utf8_valid(const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0; i < size;) {
        size_t n = utf8_step(p + i, size - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

size_t utf8_length(const char *text)
{
    size_t n = 0;
    for (; *text != 0; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long percent_decode(const char *text, size_t size, bool plus, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = size - i > 2 ? hex_value(text[i + 1]) : -1;
            int low = size - i > 2 ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return TSR_EINVAL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == 0) {
            return TSR_EINVAL;
        }
        out[n++] = c;
    }
    out[n] = 0;
    return (long)n;
}

int percent_encode(struct buf *out, const char *text, bool plus)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || (lower(*text) >= 'a' && lower(*text) <= 'z') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        char piece[3] = {(char)c, 0, 0};
        size_t size = 1;
        if (c == ' ' && plus) {
            piece[0] = '+';
        } else if (!plain) {
            piece[0] = '%';
            piece[1] = digits[c >> 4];
            piece[2] = digits[c & 15];
            size = 3;
        }
        int rv = buf_append(out, piece, size);
        if (rv != 0) {
            return rv;
        }
    }
    return buf_reserve(out, 0); /* even an empty text leaves a terminated buffer */
}
