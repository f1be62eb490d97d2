/* Paths and queries taken apart (RFC 3986 sections 3.3 and 3.4). */
#include <stdlib.h>
#include <string.h>

#include "tessera/base/str.h"
#include "tessera/http.h"

bool http_segments_parse(const char *path, struct http_segments *out)
{
    struct http_segments s = {0};
    const char *at = *path == '/' ? path + 1 : path;
    s.memory = malloc(strlen(at) + 1);
    if (s.memory == NULL) {
        return false;
    }
    char *to = s.memory;
    for (;;) {
        size_t size = strcspn(at, "/");
        long decoded =
            s.count < HTTP_SEGMENTS_MAX ? percent_decode(at, size, false, to) : TSR_ETOOBIG;
        if (decoded < 0) {
            free(s.memory);
            return false;
        }
        s.segment[s.count++] = to;
        to += decoded + 1;
        if (at[size] == 0) {
            break;
        }
        at += size + 1;
    }
    *out = s;
    return true;
}

void http_segments_free(struct http_segments *segments)
{
    free(segments->memory);
    memset(segments, 0, sizeof *segments);
}

static size_t items_in(const char *query)
{
    size_t count = 1;
    for (const char *at = query; *at != 0; at++) {
        count += *at == '&';
    }
    return count;
}

/* Decoded size or a code; the text is checked to be UTF-8. */
static long decode(const char *at, size_t size, char *to)
{
    long decoded = percent_decode(at, size, true, to);
    return decoded >= 0 && !utf8_valid(to, (size_t)decoded) ? TSR_EINVAL : decoded;
}

/* "name=value" or "name" of @size bytes, decoded at *to, which moves on. */
static int item_parse(const char *at, size_t size, char **to, struct http_param *out)
{
    const char *equals = memchr(at, '=', size);
    size_t name_size = equals != NULL ? (size_t)(equals - at) : size;
    long decoded = decode(at, name_size, *to);
    if (decoded < 0) {
        return TSR_EINVAL;
    }
    out->name = *to;
    *to += decoded + 1;
    out->value = out->name + decoded; /* "" without a '=' */
    if (equals != NULL) {
        decoded = decode(equals + 1, size - name_size - 1, *to);
        if (decoded < 0) {
            return TSR_EINVAL;
        }
        out->value = *to;
        *to += decoded + 1;
    }
    return 0;
}

int http_params_parse(const char *query, struct http_params *out)
{
    struct http_params p = {0};
    p.items = calloc(items_in(query), sizeof *p.items);
    p.memory = malloc(strlen(query) + 2);
    int status = p.items != NULL && p.memory != NULL ? 0 : TSR_ENOMEM;
    char *to = p.memory;
    while (status == 0 && *query != 0) {
        size_t size = strcspn(query, "&");
        if (size > 0) {
            status = item_parse(query, size, &to, &p.items[p.count]);
            p.count++;
        }
        query += size + (query[size] == '&');
    }
    if (status != 0) {
        http_params_free(&p);
        return status;
    }
    *out = p;
    return 0;
}

void http_params_free(struct http_params *params)
{
    free(params->items);
    free(params->memory);
    memset(params, 0, sizeof *params);
}

const char *http_param(const struct http_params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0) {
            return params->items[i].value;
        }
    }
    return NULL;
}
