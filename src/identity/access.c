/* Access rules of application credentials: which requests its tokens may make. The rules stand in
 * the credential's record, so that a request needs one look-up; what was once used in a rule is
 * kept as an entry of its own, too, until its user deletes it. */
#include "identity/access.h"

#include <stdlib.h>
#include <string.h>

#include "identity/internal.h"

void access_rules_free(struct access_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        free(rules->items[i].service);
        free(rules->items[i].method);
        free(rules->items[i].path);
    }
    free(rules->items);
    *rules = (struct access_rules){0};
}

/* The wildcard at @pattern: its length, or 0. */
static size_t wildcard(const char *pattern, bool *deep)
{
    const char *brace = pattern[0] == '{' ? strchr(pattern, '}') : NULL;
    *deep = pattern[0] == '*' && pattern[1] == '*';
    return *deep ? 2 : pattern[0] == '*' ? 1 : brace != NULL ? (size_t)(brace - pattern) + 1 : 0;
}

/* Which ends of the path, so far, can the pattern have reached? One row of a table a pattern item,
 * so that no pattern makes this slow: O(pattern * path). */
bool access_path_matches(const char *pattern, const char *path)
{
    size_t size = strlen(path);
    bool *at = calloc(size + 1, sizeof(*at)), deep;
    if (at == NULL) {
        return false;
    }
    at[0] = true;
    while (*pattern != '\0') {
        size_t item = wildcard(pattern, &deep);
        if (item == 0) { /* a character as it is: each end moves on by one, from the right */
            for (size_t i = size; i > 0; i--) {
                at[i] = at[i - 1] && path[i - 1] == *pattern;
            }
            at[0] = false;
        } else if (deep) {
            for (size_t i = 1; i <= size; i++) {
                at[i] = at[i] || at[i - 1];
            }
        } else {
            bool before = at[0]; /* an end before this character, or one inside the wildcard */
            at[0] = false;
            for (size_t i = 1; i <= size; i++) {
                bool here = at[i];
                at[i] = path[i - 1] != '/' && (before || at[i - 1]);
                before = here;
            }
        }
        pattern += item != 0 ? item : 1;
    }
    bool matches = at[size];
    free(at);
    return matches;
}

bool access_rules_allow(const struct access_rules *rules, const char *service, const char *method,
                        const char *path)
{
    if (!rules->restricted) {
        return true;
    }
    for (size_t i = 0; i < rules->count; i++) {
        const struct access_rule *r = &rules->items[i];
        if (strcmp(r->service, service) == 0 && strcmp(r->method, method) == 0 &&
            access_path_matches(r->path, path)) {
            return true;
        }
    }
    return false;
}

int access_rules_parse(const json_t *credential, struct access_rules *out, struct err *err)
{
    const json_t *list = json_object_get(credential, "access_rules"), *rule;
    size_t i;
    if (list == NULL || json_is_null(list)) {
        return 0;
    }
    if (!json_is_array(list) || json_array_size(list) > ACCESS_RULES_MAX) {
        return err_set(err, TSR_EPROTO, "access rules of a token can not be read");
    }
    out->restricted = true;
    out->items = calloc(json_array_size(list) + 1, sizeof(*out->items));
    if (out->items == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    json_array_foreach(list, i, rule)
    {
        struct access_rule *r = &out->items[out->count++];
        r->service = strdup(json_str_or(rule, "service", ""));
        r->method = strdup(json_str_or(rule, "method", ""));
        r->path = strdup(json_str_or(rule, "path", ""));
        if (r->service == NULL || r->method == NULL || r->path == NULL) {
            return err_set(err, TSR_ENOMEM, "out of memory");
        }
    }
    return 0;
}

int identity_access_check(struct meta_view *view, const struct caller *caller, const char *service,
                          const char *method, const char *path)
{
    struct access_rules rules = {0};
    struct err err;
    json_t *record = NULL;
    if (!caller->ruled) {
        return 0;
    }
    int rv = auth_code(meta_dir_get(view, "appcred", caller->appcred_id, &record));
    if (rv == 0 && access_rules_parse(record, &rules, &err) != 0) {
        rv = TSR_EUNAVAILABLE;
    }
    if (rv == 0 && !access_rules_allow(&rules, service, method, path)) {
        rv = TSR_EUNAUTHORIZED;
    }
    access_rules_free(&rules);
    json_decref(record);
    return rv;
}
