/* A policy file: names and their rules. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "identity/rule.h"
#include "tessera/base/str.h"

enum { RULES_MAX = 512, LINE_MAX_SIZE = 16384 };

struct named_rule {
    char *name;
    struct rule_tree tree;
    int mark; /* while it is checked for circles */
};
struct policy_rules {
    struct named_rule items[RULES_MAX];
    size_t count;
};

/* What services say of an administrator; a file may say something else. */
static const char *const usual[] = {"admin_required", "context_is_admin", "admin_api", "is_admin"};

static struct named_rule *find(const struct policy_rules *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->items[i].name, name) == 0) {
            return (struct named_rule *)(uintptr_t)&r->items[i];
        }
    }
    return NULL;
}

static bool is_usual(const char *name)
{
    for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        if (strcmp(usual[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool named(const void *arg, const char *name, const struct caller *caller,
                  const json_t *image)
{
    const struct policy_rules *r = arg;
    const struct named_rule *rule = r != NULL ? find(r, name) : NULL;
    return rule != NULL ? rule_ask(&rule->tree, named, r, caller, image)
                        : is_usual(name) && (caller->local_admin || caller_is_admin(caller));
}

int policy_rules_ask(const struct policy_rules *rules, const char *name,
                     const struct caller *caller, const json_t *image)
{
    const struct named_rule *rule = rules != NULL ? find(rules, name) : NULL;
    return rule == NULL ? -1 : rule_ask(&rule->tree, named, rules, caller, image);
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

static int add(struct policy_rules *r, const char *name, const char *text, struct err *err)
{
    struct err why = {0};
    if (name[0] == '\0' || r->count == RULES_MAX) {
        return err_set(err, TSR_EINVAL,
                       r->count == RULES_MAX ? "too many rules" : "a rule without a name");
    }
    if (find(r, name) != NULL) {
        return err_set(err, TSR_EINVAL, "%.60s: there are two rules of this name", name);
    }
    struct named_rule *item = &r->items[r->count];
    int rv = rule_parse(text, &item->tree, &why);
    if (rv != 0) {
        return err_set(err, rv, "%.60s: %.180s", name, why.msg);
    }
    item->name = strdup(name);
    if (item->name == NULL) {
        rule_free(&item->tree);
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    r->count++;
    return 0;
}

static int read_json(struct policy_rules *r, const char *text, size_t size, struct err *err)
{
    json_t *all = json_parse(text, size), *value;
    const char *name;
    int rv = json_is_object(all) ? 0 : err_set(err, TSR_EINVAL, "this is no JSON object");
    if (rv == 0) {
        json_object_foreach(all, name, value)
        {
            if (rv == 0 && !json_is_string(value)) {
                rv = err_set(err, TSR_EINVAL, "%.60s: the rule must be a text", name);
            }
            rv = rv != 0 ? rv : add(r, name, json_string_value(value), err);
        }
    }
    json_decref(all);
    return rv;
}

static char *trimmed(char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1])) {
        text[--n] = '\0';
    }
    return text;
}

/* The end of a scalar that may be in quotes, which are taken off; NULL: they do not close. */
static char *scalar(char *text, char **value_out)
{
    char quote = *text;
    if (quote != '"' && quote != '\'') {
        return NULL;
    }
    char *to = text, *from = text + 1;
    *value_out = text;
    for (; *from != '\0'; from++) {
        if (*from == quote && quote == '\'' && from[1] == '\'') {
            from++;
        } else if (*from == '\\' && quote == '"' && from[1] != '\0') {
            from++;
        } else if (*from == quote) {
            *to = '\0';
            return from + 1;
        }
        *to++ = *from;
    }
    return NULL;
}

/* Split `name: rule` at the colon; both may be in quotes. NULL: there is none. */
static char *split(char *line, char **name_out)
{
    char *rest;
    *name_out = line;
    if (*line == '"' || *line == '\'') {
        rest = scalar(line, name_out);
        rest = rest != NULL ? rest + strspn(rest, " \t") : NULL;
        return rest != NULL && *rest == ':' ? rest + 1 : NULL;
    }
    rest = strstr(line, ": ");
    if (rest == NULL && line[strlen(line) - 1] == ':') {
        rest = line + strlen(line) - 1;
    }
    if (rest == NULL) {
        return NULL;
    }
    *rest = '\0';
    return rest + 1;
}

static int read_line(struct policy_rules *r, char *line, struct err *err)
{
    char *name, *value = split(line, &name), *comment;
    if (value == NULL) {
        return err_set(err, TSR_EINVAL, "name: rule is expected");
    }
    value = trimmed(value);
    if (*value == '"' || *value == '\'') {
        char *end = scalar(value, &value);
        end = end != NULL ? trimmed(end) : NULL;
        if (end == NULL || (*end != '\0' && *end != '#')) {
            return err_set(err, TSR_EINVAL, "the quotes do not close");
        }
    } else if (*value != '\0' && strchr("|>[{&*", *value) != NULL) {
        return err_set(err, TSR_EINVAL, "a rule is one line of text");
    } else if ((comment = strstr(value, " #")) != NULL) {
        *comment = '\0';
        value = trimmed(value);
    }
    return add(r, trimmed(name), value, err);
}

static int read_lines(struct policy_rules *r, const char *text, struct err *err)
{
    char line[LINE_MAX_SIZE];
    for (unsigned number = 1; *text != '\0'; number++) {
        size_t size = strcspn(text, "\n");
        struct err why = {0};
        if (size >= sizeof(line)) {
            return err_set(err, TSR_EINVAL, "line %u: too long", number);
        }
        memcpy(line, text, size);
        line[size] = '\0';
        text += size + (text[size] == '\n');
        char *start = trimmed(line);
        if (*start == '\0' || *start == '#' || strcmp(start, "---") == 0) {
            continue;
        }
        int rv = read_line(r, start, &why);
        if (rv != 0) {
            return err_set(err, rv, "line %u: %.220s", number, why.msg);
        }
    }
    return 0;
}

/* No rule may lead to itself, nor to one that is not there. */
static int check_circle(struct policy_rules *r, struct named_rule *rule, struct err *err)
{
    int rv = 0;
    if (rule->mark == 2) {
        return 0;
    }
    if (rule->mark == 1) {
        return err_set(err, TSR_EINVAL, "%.60s: the rule leads to itself", rule->name);
    }
    rule->mark = 1;
    for (int i = 0; i < rule->tree.count && rv == 0; i++) {
        const struct rule_node *n = &rule->tree.nodes[i];
        struct named_rule *other = n->kind == RULE_NAMED ? find(r, n->value) : NULL;
        if (n->kind == RULE_NAMED && other == NULL && !is_usual(n->value)) {
            rv = err_set(err, TSR_EINVAL, "%.60s: there is no rule %.60s", rule->name, n->value);
        } else if (other != NULL) {
            rv = check_circle(r, other, err);
        }
    }
    rule->mark = 2;
    return rv;
}

int policy_rules_parse(const char *text, size_t size, struct policy_rules **out, struct err *err)
{
    struct policy_rules *r = calloc(1, sizeof(*r));
    char *copy = calloc(1, size + 1);
    int rv = 0;
    if (r == NULL || copy == NULL) {
        free(r);
        free(copy);
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    memcpy(copy, text, size);
    if (strlen(copy) != size || !utf8_valid(copy, size)) {
        rv = err_set(err, TSR_EINVAL, "this is no UTF-8 text");
    }
    if (rv == 0) {
        rv = copy[strspn(copy, " \t\r\n")] == '{' ? read_json(r, copy, size, err)
                                                  : read_lines(r, copy, err);
    }
    for (size_t i = 0; rv == 0 && i < r->count; i++) {
        rv = check_circle(r, &r->items[i], err);
    }
    free(copy);
    if (rv != 0) {
        policy_rules_free(r);
        return rv;
    }
    *out = r;
    return 0;
}

void policy_rules_free(struct policy_rules *r)
{
    for (size_t i = 0; r != NULL && i < r->count; i++) {
        free(r->items[i].name);
        rule_free(&r->items[i].tree);
    }
    free(r);
}
