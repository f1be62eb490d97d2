/* Small helpers over jansson, so that reading outside bytes is one line with one check.
 * Getters return a default when the key is absent or of another type; strings stay owned by the
 * object. Thread: one owner per object. */
#ifndef TESSERA_BASE_JSON_H
#define TESSERA_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parse one JSON value (UTF-8, depth <= 64, no duplicate keys, nothing after it). NULL on error. */
json_t *json_parse(const char *data, size_t size);
/* Compact, keys sorted (so equal values give equal text); NULL when out of memory; caller frees. */
char *json_text(const json_t *value, size_t *size_out);

const char *json_str(const json_t *object, const char *key); /* NULL if absent */
const char *json_str_or(const json_t *object, const char *key, const char *fallback);
int64_t json_int(const json_t *object, const char *key, int64_t fallback);
bool json_bool(const json_t *object, const char *key, bool fallback);
json_t *json_obj(const json_t *object, const char *key); /* borrowed; NULL if not an object */
json_t *json_arr(const json_t *object, const char *key); /* borrowed; NULL if not an array */

/* Setters; each returns 0 or TSR_ENOMEM. NULL string sets JSON null. */
int json_set_str(json_t *object, const char *key, const char *value);
int json_set_int(json_t *object, const char *key, int64_t value);
int json_set_bool(json_t *object, const char *key, bool value);

#endif
