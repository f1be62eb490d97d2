/* A file of protected properties: which roles or rules may create, read, update, delete them. */
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/rule.h"
#include "tessera/base/str.h"

enum { SECTIONS_MAX = 128, LINE_SIZE = 2048 };

struct section {
    regex_t expression;
    bool compiled;
    char *who[PROPERTY_ACTS];
    struct rule_tree rule[PROPERTY_ACTS]; /* policies */
};
struct property_rules {
    bool policies;
    const struct policy_rules *rules;
    struct section items[SECTIONS_MAX];
    size_t count;
};

static const char *const act_names[PROPERTY_ACTS] = {"create", "read", "update", "delete"};

/* --- asking
 * ------------------------------------------------------------------------------------------- */

static bool named(const void *arg, const char *name, const struct caller *caller,
                  const json_t *image)
{
    return policy_rules_ask(arg, name, caller, image) == 1;
}

static bool roles_hold(const char *list, const struct caller *caller)
{
    char role[256];
    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t size = strcspn(list, ", \t");
        (void)snprintf(role, sizeof(role), "%.*s", (int)(size < 255 ? size : 255), list);
        if (strcmp(role, "@") == 0 || rule_role(caller, role)) {
            return true;
        }
        list += size;
    }
    return false;
}

bool property_allowed(const struct property_rules *rules, enum property_act act, const char *name,
                      const struct caller *caller, const json_t *image)
{
    if (rules == NULL || caller->local_admin) {
        return true;
    }
    for (size_t i = 0; i < rules->count; i++) {
        const struct section *s = &rules->items[i];
        regmatch_t match;
        if (regexec(&s->expression, name, 1, &match, 0) != 0 || match.rm_so != 0) {
            continue;
        }
        return rules->policies ? rule_ask(&s->rule[act], named, rules->rules, caller, image)
                               : roles_hold(s->who[act], caller);
    }
    return false;
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

static int section_begin(struct property_rules *r, char *line, struct err *err)
{
    size_t n = strlen(line);
    if (n < 3 || line[n - 1] != ']' || r->count == SECTIONS_MAX) {
        return err_set(err, TSR_EINVAL,
                       r->count == SECTIONS_MAX ? "too many sections" : "[expression] is expected");
    }
    line[n - 1] = '\0';
    struct section *s = &r->items[r->count++];
    char anchored[LINE_SIZE + 8];
    (void)snprintf(anchored, sizeof(anchored), "^(%s)", line + 1);
    if (regcomp(&s->expression, anchored, REG_EXTENDED) != 0) {
        return err_set(err, TSR_EINVAL, "%.80s is no regular expression", line + 1);
    }
    s->compiled = true;
    return 0;
}

static int act_of(const char *name, size_t size)
{
    for (int i = 0; i < PROPERTY_ACTS; i++) {
        if (strlen(act_names[i]) == size && memcmp(act_names[i], name, size) == 0) {
            return i;
        }
    }
    return -1;
}

static int section_line(struct property_rules *r, const char *line, struct err *err)
{
    size_t size = strcspn(line, " \t=:");
    const char *value = line + size + strspn(line + size, " \t");
    int act = act_of(line, size);
    struct err why = {0};
    if (r->count == 0 || act < 0 || (*value != '=' && *value != ':')) {
        return err_set(err, TSR_EINVAL, "create, read, update or delete = WHO is expected");
    }
    struct section *s = &r->items[r->count - 1];
    value++;
    value += strspn(value, " \t");
    if (s->who[act] != NULL) {
        return err_set(err, TSR_EINVAL, "%s is there twice", act_names[act]);
    }
    s->who[act] = strdup(value);
    if (s->who[act] == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    if (!r->policies) {
        return 0;
    }
    /* The name of a rule of the policy file, or a rule itself. */
    char text[LINE_SIZE + 8];
    bool bare = value[0] != '\0' && strpbrk(value, ":@! ()") == NULL;
    (void)snprintf(text, sizeof(text), "%s%s", bare ? "rule:" : "", value);
    int rv = rule_parse(text, &s->rule[act], &why);
    return rv == 0 ? 0 : err_set(err, rv, "%.200s", why.msg);
}

static int section_check(const struct property_rules *r, struct err *err)
{
    for (int act = 0; r->count > 0 && act < PROPERTY_ACTS; act++) {
        if (r->items[r->count - 1].who[act] == NULL) {
            return err_set(err, TSR_EINVAL, "the section says nothing of %s", act_names[act]);
        }
    }
    return 0;
}

static int read_line(struct property_rules *r, char *line, struct err *err)
{
    if (line[0] == '\0' || line[0] == '#' || line[0] == ';') {
        return 0;
    }
    if (line[0] != '[') {
        return section_line(r, line, err);
    }
    int rv = section_check(r, err);
    return rv != 0 ? rv : section_begin(r, line, err);
}

int property_rules_parse(const char *text, size_t size, bool policies,
                         const struct policy_rules *rules, struct property_rules **out,
                         struct err *err)
{
    struct property_rules *r = calloc(1, sizeof(*r));
    char *copy = calloc(1, size + 1), *at = copy, line[LINE_SIZE];
    struct err why = {0};
    if (r == NULL || copy == NULL) {
        free(r);
        free(copy);
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    memcpy(copy, text, size);
    r->policies = policies;
    r->rules = rules;
    int rv = strlen(copy) == size ? 0 : err_set(err, TSR_EINVAL, "this is no text");
    for (unsigned number = 1; rv == 0 && *at != '\0'; number++) {
        size_t n = strcspn(at, "\n");
        if (n >= sizeof(line)) {
            rv = err_set(err, TSR_EINVAL, "line %u: too long", number);
            break;
        }
        memcpy(line, at, n);
        while (n > 0 && isspace((unsigned char)line[n - 1])) {
            n--;
        }
        line[n] = '\0';
        at += strcspn(at, "\n");
        at += *at == '\n';
        rv = read_line(r, line + strspn(line, " \t"), &why);
        if (rv != 0) {
            (void)err_set(err, rv, "line %u: %.220s", number, why.msg);
        }
    }
    if (rv == 0) {
        rv = section_check(r, err);
    }
    free(copy);
    if (rv != 0) {
        property_rules_free(r);
        return rv;
    }
    *out = r;
    return 0;
}

void property_rules_free(struct property_rules *r)
{
    for (size_t i = 0; r != NULL && i < r->count; i++) {
        struct section *s = &r->items[i];
        if (s->compiled) {
            regfree(&s->expression);
        }
        for (int act = 0; act < PROPERTY_ACTS; act++) {
            free(s->who[act]);
            rule_free(&s->rule[act]);
        }
    }
    free(r);
}
