#include "replica/want.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/id.h"
#include "tessera/base/str.h"

static bool has_number(const json_t *array, uint64_t number)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        if ((uint64_t)json_integer_value(json_array_get(array, i)) == number) {
            return true;
        }
    }
    return false;
}

bool want_manifest(const json_t *image, struct chunk_id *out)
{
    const char *hex = json_str(image, "manifest");
    return hex != NULL && hex_decode(hex, strlen(hex), out->bytes, sizeof out->bytes) == 0;
}

bool want_placed(const json_t *image, uint64_t host)
{
    return has_number(json_arr(image, "placement"), host);
}

bool want_recorded(const json_t *image, uint64_t host)
{
    char key[24];
    snprintf(key, sizeof key, "%llu", (unsigned long long)host);
    const char *state = json_str(json_obj(image, "replicas"), key);
    return state != NULL && strcmp(state, "present") == 0;
}

size_t want_sources(const json_t *image, uint64_t *out, size_t max)
{
    json_t *replicas = json_obj(image, "replicas"), *placement = json_arr(image, "placement"), *v;
    const char *key;
    size_t count = 0;
    json_object_foreach(replicas, key, v)
    {
        int64_t id;
        if (str_to_i64(key, 1, INT64_MAX, &id) == 0 && want_recorded(image, (uint64_t)id) &&
            count < max) {
            out[count++] = (uint64_t)id;
        }
    }
    for (size_t i = 0; i < json_array_size(placement); i++) {
        uint64_t id = (uint64_t)json_integer_value(json_array_get(placement, i));
        if (!want_recorded(image, id) && count < max) {
            out[count++] = id;
        }
    }
    return count;
}

enum verdict want_verdict(const json_t *image, uint64_t host)
{
    const json_t *placement = json_arr(image, "placement");
    if (json_array_size(placement) == 0 || has_number(placement, host)) {
        return VERDICT_KEEP; /* staged or not yet placed, or wanted here */
    }
    for (size_t i = 0; i < json_array_size(placement); i++) {
        if (!want_recorded(image, (uint64_t)json_integer_value(json_array_get(placement, i)))) {
            return VERDICT_KEEP;
        }
    }
    return want_recorded(image, host) ? VERDICT_TELL_THEN_DROP : VERDICT_DROP;
}

/* --- from text
 * ---------------------------------------------------------------------------------------- */

/* "[1,2,3]" */
static bool text_has_number(const struct json_member *m, const char *number)
{
    size_t size = strlen(number);
    const char *at = m->value, *end = m->value + m->value_size;
    while (at < end) {
        const char *next = at + 1;
        size_t left = (size_t)(end - next);
        if (left > size && memcmp(next, number, size) == 0 &&
            (next[size] == ',' || next[size] == ']')) {
            return true;
        }
        at = memchr(next, ',', left);
        if (at == NULL) {
            return false;
        }
    }
    return false;
}

static bool text_is_present(const struct json_member *replicas, const char *host)
{
    struct json_member m;
    size_t at = 0;
    while (json_member_next(replicas->value, replicas->value_size, &at, &m)) {
        if (json_member_is(&m, host, strlen(host))) {
            return m.value_size == 9 && memcmp(m.value, "\"present\"", 9) == 0;
        }
    }
    return false;
}

bool want_of_text(const struct meta_text *record, uint64_t host, struct want *out)
{
    char number[24];
    struct json_member m;
    size_t at = 0;
    snprintf(number, sizeof number, "%llu", (unsigned long long)host);
    *out = (struct want){0};
    while (json_member_next(record->text, record->size, &at, &m)) {
        if (json_member_is(&m, "manifest", 8)) {
            out->has_data =
                m.value_size == 2 + 64 && hex_decode(m.value + 1, 64, out->manifest.bytes, 32) == 0;
        } else if (json_member_is(&m, "placement", 9)) {
            out->placed = text_has_number(&m, number);
        } else if (json_member_is(&m, "replicas", 8)) {
            out->recorded = text_is_present(&m, number);
        }
    }
    return at != SIZE_MAX;
}
