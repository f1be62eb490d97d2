#include "tessera/base/json.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

enum { JSON_DEPTH_MAX = 64 };

/* jansson's own recursion limit is fixed and far higher; counting brackets outside of strings is
 * enough, as anything else out of order fails in the parser. */
static bool depth_ok(const char *data, size_t size)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = data[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX) {
                return false;
            }
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return true;
}

static bool can_return(const json_t *value, int depth)
{
    const char *key;
    json_t *inner;
    size_t i;
    if (json_is_string(value)) {
        return strlen(json_string_value(value)) == json_string_length(value);
    }
    if (!json_is_object(value) && !json_is_array(value)) {
        return true;
    }
    if (depth == JSON_DEPTH_MAX) {
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, inner)
    {
        if (!can_return(inner, depth + 1)) {
            return false;
        }
    }
    json_array_foreach(value, i, inner)
    {
        if (!can_return(inner, depth + 1)) {
            return false;
        }
    }
    return true;
}

bool json_can_return(const json_t *value)
{
    return can_return(value, 0);
}

static void *memory_or_end(size_t size)
{
    void *memory = malloc(size == 0 ? 1 : size);
    if (memory == NULL) {
        tsr_out_of_memory();
    }
    return memory;
}

void json_memory_or_end(void)
{
    json_set_alloc_funcs(memory_or_end, free);
}

json_t *json_parse(const char *data, size_t size)
{
    if (data == NULL || !depth_ok(data, size)) {
        return NULL;
    }
    json_error_t where;
    return json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
}

char *json_text(const json_t *value, size_t *size_out)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (size_out != NULL) {
        *size_out = text == NULL ? 0 : strlen(text);
    }
    return text;
}

const char *json_str(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

const char *json_str_or(const json_t *object, const char *key, const char *fallback)
{
    const char *value = json_str(object, key);
    return value == NULL ? fallback : value;
}

int64_t json_int(const json_t *object, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : fallback;
}

bool json_bool(const json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

json_t *json_obj(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_object(value) ? value : NULL;
}

json_t *json_arr(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_array(value) ? value : NULL;
}

static int set_new(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0 ? 0 : TSR_ENOMEM;
}

int json_set_str(json_t *object, const char *key, const char *value)
{
    return set_new(object, key, value == NULL ? json_null() : json_string(value));
}

int json_set_int(json_t *object, const char *key, int64_t value)
{
    return set_new(object, key, json_integer(value));
}

int json_set_bool(json_t *object, const char *key, bool value)
{
    return set_new(object, key, json_boolean(value));
}
