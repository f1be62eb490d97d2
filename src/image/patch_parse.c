/* From the two envelopes to one form: [{"op", "path", "rest"?, "from"?, "value"?}]; path and rest
 * are decoded segments, rest only below /locations and /tags. "move" is for tags alone, from one
 * place to another: openstacksdk writes it where tags before others go. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "image/patch.h"
#include "tessera/base/assert.h"

enum { LEVELS_MAX = 2, POSITION_DIGITS_MAX = 6 };

/* One path part: white space around it stripped, ~0 and ~1 decoded. NULL: bad escape. */
static char *part_decode(const char *text, size_t size)
{
    while (size > 0 && isspace((unsigned char)text[0])) {
        text++;
        size--;
    }
    while (size > 0 && isspace((unsigned char)text[size - 1])) {
        size--;
    }
    char *out = malloc(size + 1);
    size_t n = 0;
    for (size_t i = 0; i < size && out != NULL; i++) {
        char c = text[i];
        if (c == '~') {
            c = i + 1 < size ? text[i + 1] : '\0';
            if (c != '0' && c != '1') {
                free(out);
                return NULL;
            }
            c = c == '0' ? '~' : '/';
            i++;
        }
        out[n++] = c;
    }
    if (out != NULL) {
        out[n] = '\0';
    }
    return out;
}

static int bad_path(struct err *err)
{
    return err_set(err, TSR_EINVAL, "Invalid path in a JSON patch operation.");
}

/* A place in a list (RFC 6901 section 4): a number without leading zeros, or "-", behind the last.
 */
static bool position_ok(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return strcmp(text, "-") == 0 || (digits > 0 && digits <= POSITION_DIGITS_MAX &&
                                      text[digits] == '\0' && (digits == 1 || text[0] != '0'));
}

/* Set path (and rest) of @op from "/a" or "/a/b". */
static int set_path(json_t *op, const char *path, struct err *err)
{
    static const char *const keys[LEVELS_MAX] = {"path", "rest"};
    if (path[0] != '/') {
        return bad_path(err);
    }
    if (strstr(path, "//") != NULL || (path[1] != '\0' && path[strlen(path) - 1] == '/')) {
        return bad_path(err);
    }
    const char *at = path + 1;
    for (size_t level = 0;; level++) {
        size_t size = strcspn(at, "/");
        char *part = level < LEVELS_MAX ? part_decode(at, size) : NULL;
        if (part == NULL) {
            return bad_path(err);
        }
        int failed = json_object_set_new(op, keys[level], json_string(part));
        free(part);
        if (failed != 0) {
            return TSR_ENOMEM;
        }
        if (at[size] == '\0') {
            break;
        }
        at += size + 1;
    }
    bool deep = json_object_get(op, "rest") != NULL;
    bool locations = strcmp(json_str_or(op, "path", ""), "locations") == 0;
    bool tag = deep && strcmp(json_str_or(op, "path", ""), "tags") == 0;
    if (tag && !position_ok(json_str_or(op, "rest", ""))) {
        return bad_path(err);
    }
    if (deep && !locations && !tag) {
        return err_set(err, TSR_EINVAL, "Json path is limited to one level.");
    }
    if (locations && deep == (strcmp(json_str_or(op, "op", ""), "replace") == 0)) {
        return bad_path(err); /* the list is replaced as a whole, else single entries are meant */
    }
    return 0;
}

static const char *const verbs[] = {"add", "replace", "remove", "move"};
enum { VERBS_OLD = 3 }; /* without "move" */

/* Verb and path of one element, by envelope. */
static int op_of(const json_t *element, bool v2_0, const char **verb_out, const char **path_out,
                 struct err *err)
{
    const char *verb = NULL, *path = NULL;
    if (v2_0) {
        for (size_t i = 0; i < VERBS_OLD; i++) {
            const json_t *named = json_object_get(element, verbs[i]);
            if (named != NULL && verb != NULL) {
                return err_set(err, TSR_EINVAL,
                               "Operation objects must contain only one of "
                               "add, replace and remove.");
            }
            if (named != NULL) {
                verb = verbs[i];
                path = json_string_value(named);
            }
        }
    } else {
        const char *op = json_str(element, "op");
        for (size_t i = 0; i < array_len(verbs) && op != NULL; i++) {
            verb = strcmp(op, verbs[i]) == 0 ? verbs[i] : verb;
        }
        path = json_str(element, "path");
    }
    if (verb == NULL) {
        return err_set(err, TSR_EINVAL, "Operations must be add, replace or remove.");
    }
    if (path == NULL) {
        return err_set(err, TSR_EINVAL, "An operation must have a path.");
    }
    *verb_out = verb;
    *path_out = path;
    return 0;
}

static int check_location(const json_t *op, struct err *err)
{
    json_t *value = json_object_get(op, "value");
    const char *verb = json_str_or(op, "op", "");
    if (strcmp(json_str_or(op, "path", ""), "locations") != 0 || strcmp(verb, "remove") == 0) {
        return 0;
    }
    if (strcmp(verb, "replace") == 0) {
        return field_check("locations", value, err);
    }
    if (json_str(value, "url") == NULL || json_obj(value, "metadata") == NULL) {
        return err_set(err, TSR_EINVAL, "A location has url and metadata.");
    }
    return 0;
}

static bool is_one_tag(const json_t *op)
{
    return strcmp(json_str_or(op, "path", ""), "tags") == 0 && json_str(op, "rest") != NULL;
}

/* Where a tag is moved from. */
static int set_from(const json_t *element, json_t *op, struct err *err)
{
    const char *path = json_str(element, "from");
    json_t *from = json_object();
    int rv = from == NULL                      ? TSR_ENOMEM
             : path == NULL || !is_one_tag(op) ? TSR_EINVAL
                                               : set_path(from, path, NULL);
    if (rv == 0) {
        rv = is_one_tag(from) ? json_set_str(op, "from", json_str(from, "rest")) : TSR_EINVAL;
    }
    json_decref(from);
    return rv != TSR_EINVAL
               ? rv
               : err_set(err, rv, "Only a tag can be moved, to another place among the tags.");
}

static int parse_one(const json_t *element, bool v2_0, json_t *op, struct err *err)
{
    const char *verb = NULL, *path = NULL;
    if (!json_is_object(element)) {
        return err_set(err, TSR_EINVAL, "Operations must be JSON objects.");
    }
    int rv = op_of(element, v2_0, &verb, &path, err);
    tsr_assert(rv != 0 || (verb != NULL && path != NULL));
    if (rv == 0) {
        rv = json_set_str(op, "op", verb);
    }
    if (rv == 0) {
        rv = set_path(op, path, err);
    }
    if (rv != 0 || strcmp(verb, "remove") == 0) {
        return rv;
    }
    if (strcmp(verb, "move") == 0) {
        return set_from(element, op, err);
    }
    json_t *value = json_object_get(element, "value");
    if (value == NULL) {
        return err_set(err, TSR_EINVAL, "Operation \"%s\" requires a member named \"value\".",
                       verb);
    }
    if (json_object_set(op, "value", value) != 0) {
        return TSR_ENOMEM;
    }
    return check_location(op, err);
}

int image_patch_parse(const json_t *body, bool v2_0, json_t **operations_out, struct err *err)
{
    size_t i;
    json_t *element;
    if (!json_is_array(body)) {
        return err_set(err, TSR_EINVAL, "Request body must be a JSON array of operation objects.");
    }
    json_t *operations = json_array();
    int rv = operations != NULL ? 0 : TSR_ENOMEM;
    json_array_foreach((json_t *)(uintptr_t)body, i, element)
    {
        json_t *op = rv == 0 ? json_object() : NULL;
        if (op == NULL) {
            rv = rv != 0 ? rv : TSR_ENOMEM;
            break;
        }
        rv = parse_one(element, v2_0, op, err);
        if (json_array_append_new(operations, op) != 0) {
            rv = TSR_ENOMEM;
        }
    }
    if (rv != 0) {
        json_decref(operations);
        return rv;
    }
    *operations_out = operations;
    return 0;
}
