/* Small helpers over jansson, so that reading outside bytes is one line with one check.
 * Getters return a default when the key is absent or of another type; strings stay owned by the
 * object. Thread: one owner per object. */
#ifndef TESSERA_BASE_JSON_H
#define TESSERA_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From now on jansson never meets an allocation that fails: the process ends instead
 * (tsr_out_of_memory). Its parser does not check all of them, and would go on with a shorter text.
 * Before any other call. */
void json_memory_or_end(void);
/* Parse one JSON value (UTF-8, depth <= 64, no duplicate keys, nothing after it). NULL on error. */
json_t *json_parse(const char *data, size_t size);
/* Whether json_parse accepts what json_text makes of it: depth, and no 0 bytes in strings. */
bool json_can_return(const json_t *value);
/* Compact, keys sorted (so equal values give equal text); NULL when out of memory; caller frees. */
char *json_text(const json_t *value, size_t *size_out);

const char *json_str(const json_t *object, const char *key); /* NULL if absent */
const char *json_str_or(const json_t *object, const char *key, const char *fallback);
int64_t json_int(const json_t *object, const char *key, int64_t fallback);
bool json_bool(const json_t *object, const char *key, bool fallback);
json_t *json_obj(const json_t *object, const char *key); /* borrowed; NULL if not an object */
json_t *json_arr(const json_t *object, const char *key); /* borrowed; NULL if not an array */

/* --- text that json_text wrote, read without building a tree -------------------------------------
 */

/* One member of an object: the key without its quotation marks (as written: escapes are not
 * resolved), the value as written. Both point into the text. */
struct json_member {
    const char *key, *value;
    size_t key_size, value_size;
};
/* Walk the members of an object's text in order: *@at is 0 at first. true: *@out is the next one.
 * false: the end, or what is no text of json_text (*@at is then SIZE_MAX). Of values, only their
 * extent is looked at. */
bool json_member_next(const char *text, size_t size, size_t *at, struct json_member *out);
static inline bool json_member_is(const struct json_member *m, const char *key, size_t key_size)
{
    return m->key_size == key_size && __builtin_memcmp(m->key, key, key_size) == 0;
}
/* The value of a string without escapes, into @out of @room bytes. false: another value, one with
 * escapes, or too long. */
bool json_member_plain(const struct json_member *m, char *out, size_t room);
/* The value of an integer. false: another value. */
bool json_member_int(const struct json_member *m, int64_t *out);

/* Setters; each returns 0 or TSR_ENOMEM. NULL string sets JSON null. */
int json_set_str(json_t *object, const char *key, const char *value);
int json_set_int(json_t *object, const char *key, int64_t value);
int json_set_bool(json_t *object, const char *key, bool value);

#endif
