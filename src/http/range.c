/* The Range header (RFC 9110 section 14.2). */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "tessera/http.h"

/* Digits at *at, moved behind them; a number beyond @max counts as @max. false: no digit. */
static bool number(const char **at, int64_t max, int64_t *out)
{
    if (!isdigit((unsigned char)**at)) {
        return false;
    }
    int64_t n = 0;
    for (; isdigit((unsigned char)**at); (*at)++) {
        int digit = **at - '0';
        n = n > (max - digit) / 10 ? max : n * 10 + digit;
    }
    *out = n;
    return true;
}

static const char *blanks(const char *at)
{
    return at + strspn(at, " \t");
}

enum http_range http_range_parse(const char *value, int64_t size, int64_t *first_out,
                                 int64_t *length_out)
{
    if (value == NULL || *blanks(value) == 0) {
        return HTTP_RANGE_NONE;
    }
    value = blanks(value);
    if (strncasecmp(value, "bytes=", 6) != 0) {
        return HTTP_RANGE_BAD;
    }
    const char *at = blanks(value + 6);
    if (strchr(at, ',') != NULL) {
        return HTTP_RANGE_MANY;
    }
    int64_t first = 0;
    int64_t last = INT64_MAX;
    bool has_first = number(&at, INT64_MAX, &first);
    if (*at++ != '-') {
        return HTTP_RANGE_BAD;
    }
    bool has_last = number(&at, INT64_MAX, &last);
    if (*blanks(at) != 0 || (!has_first && (!has_last || last == 0))) {
        return HTTP_RANGE_BAD;
    }
    if (!has_first) {
        first = last < size ? size - last : 0;
        last = INT64_MAX;
    }
    if (last < first || first >= size) {
        return HTTP_RANGE_BAD;
    }
    *first_out = first;
    *length_out = (last < size ? last + 1 : size) - first;
    return HTTP_RANGE_ONE;
}
