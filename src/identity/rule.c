#include "identity/rule.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tessera/base/str.h"

/* --- reading: or < and < not < ( ... ) | check
 * ------------------------------------------------------ */

struct reader_state {
    const char *at;
    struct rule_tree *tree;
    int depth;
    struct err *err;
    int rv;
};

static int fail(struct reader_state *s, int code, const char *what)
{
    if (s->rv == 0) {
        s->rv = err_set(s->err, code, "%s near \"%.40s\"", what, s->at);
    }
    return -1;
}

static int node_new(struct reader_state *s, enum rule_kind kind, int left, int right)
{
    if (s->tree->count == RULE_NODES_MAX) {
        return fail(s, TSR_EINVAL, "the rule is too long");
    }
    s->tree->nodes[s->tree->count] = (struct rule_node){.kind = kind, .left = left, .right = right};
    return s->tree->count++;
}

static void skip_blanks(struct reader_state *s)
{
    while (isspace((unsigned char)*s->at)) {
        s->at++;
    }
}

/* Is the next word this one? Takes it. */
static bool word(struct reader_state *s, const char *text)
{
    size_t size = strlen(text);
    skip_blanks(s);
    if (strncasecmp(s->at, text, size) != 0 ||
        (s->at[size] != '\0' && strchr(" \t\r\n(", s->at[size]) == NULL)) {
        return false;
    }
    s->at += size;
    return true;
}

/* Size of the check at s->at: up to a blank or a parenthesis, apart from those in quotes and
 * %(...)s. */
static size_t check_size(const char *text)
{
    char quote = '\0';
    int open = 0;
    size_t i = 0;
    for (; text[i] != '\0'; i++) {
        char c = text[i];
        if (quote != '\0') {
            quote = c == quote ? '\0' : quote;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (c == '(' && i > 0 && text[i - 1] == '%') {
            open = 1;
        } else if (c == ')' && open != 0) {
            open = 0;
        } else if (isspace((unsigned char)c) || c == '(' || c == ')') {
            break;
        }
    }
    return i;
}

/* The colon between key and value: not one in quotes. */
static const char *colon_of(const char *text, size_t size)
{
    char quote = '\0';
    for (size_t i = 0; i < size; i++) {
        if (quote != '\0') {
            quote = text[i] == quote ? '\0' : quote;
        } else if (text[i] == '\'' || text[i] == '"') {
            quote = text[i];
        } else if (text[i] == ':') {
            return text + i;
        }
    }
    return NULL;
}

static enum rule_kind kind_of(const char *key)
{
    return strcmp(key, "role") == 0   ? RULE_ROLE
           : strcmp(key, "rule") == 0 ? RULE_NAMED
                                      : RULE_CHECK;
}

static int check(struct reader_state *s)
{
    size_t size = check_size(s->at);
    const char *colon = colon_of(s->at, size);
    if (size == 1 && (*s->at == '@' || *s->at == '!')) {
        return node_new(s, *s->at++ == '@' ? RULE_TRUE : RULE_FALSE, -1, -1);
    }
    if (size == 0 || colon == NULL || colon == s->at || colon == s->at + size - 1) {
        return fail(s, TSR_EINVAL, "a check like role:member is expected");
    }
    char *key = strndup(s->at, (size_t)(colon - s->at));
    char *value = strndup(colon + 1, size - (size_t)(colon + 1 - s->at));
    int n = key != NULL && value != NULL ? node_new(s, kind_of(key), -1, -1)
                                         : fail(s, TSR_ENOMEM, "out of memory");
    if (n < 0) {
        free(key);
        free(value);
        return -1;
    }
    s->tree->nodes[n].key = key;
    s->tree->nodes[n].value = value;
    s->at += size;
    return n;
}

static int either(struct reader_state *s);

static int single(struct reader_state *s)
{
    int n;
    if (++s->depth > RULE_DEPTH_MAX) {
        return fail(s, TSR_EINVAL, "the rule is too deep");
    }
    if (word(s, "not")) {
        int inner = single(s);
        n = inner < 0 ? -1 : node_new(s, RULE_NOT, inner, -1);
    } else if (*s->at == '(') {
        s->at++;
        n = either(s);
        skip_blanks(s);
        if (n >= 0 && *s->at++ != ')') {
            s->at--;
            return fail(s, TSR_EINVAL, "a parenthesis is not closed");
        }
    } else {
        n = check(s);
    }
    s->depth--;
    return n;
}

static int both(struct reader_state *s)
{
    int left = single(s);
    while (left >= 0 && word(s, "and")) {
        int right = single(s);
        left = right < 0 ? -1 : node_new(s, RULE_AND, left, right);
    }
    return left;
}

static int either(struct reader_state *s)
{
    int left = both(s);
    while (left >= 0 && word(s, "or")) {
        int right = both(s);
        left = right < 0 ? -1 : node_new(s, RULE_OR, left, right);
    }
    return left;
}

int rule_parse(const char *text, struct rule_tree *out, struct err *err)
{
    struct reader_state s = {.at = text, .tree = out, .err = err};
    *out = (struct rule_tree){.nodes = calloc(RULE_NODES_MAX, sizeof(*out->nodes)), .root = -1};
    if (out->nodes == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    if (strlen(text) > RULE_TEXT_MAX) {
        s.at = "";
        (void)fail(&s, TSR_EINVAL, "the rule is too long");
    }
    skip_blanks(&s);
    if (s.rv == 0 && *s.at == '\0') {
        out->root = node_new(&s, RULE_TRUE, -1, -1); /* an empty rule lets everybody */
    } else if (s.rv == 0) {
        out->root = either(&s);
        skip_blanks(&s);
        if (out->root >= 0 && *s.at != '\0') {
            (void)fail(&s, TSR_EINVAL, "and or or is expected");
        }
    }
    if (s.rv != 0) {
        rule_free(out);
    }
    return s.rv;
}

void rule_free(struct rule_tree *tree)
{
    for (int i = 0; i < tree->count; i++) {
        free(tree->nodes[i].key);
        free(tree->nodes[i].value);
    }
    free(tree->nodes);
    *tree = (struct rule_tree){.root = -1};
}

/* --- asking
 * ------------------------------------------------------------------------------------------- */

bool rule_role(const struct caller *caller, const char *role)
{
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        if (str_ieq(identity_role_table[i].name, role)) {
            return (caller->roles & identity_role_table[i].bit) != 0;
        }
    }
    size_t size = strlen(role);
    for (const char *p = caller->other_roles; *p != '\0'; p += strcspn(p, "\n") + 1) {
        if (strcspn(p, "\n") == size && strncasecmp(p, role, size) == 0) {
            return true;
        }
    }
    return false;
}

/* @text without its quotes into @out; false: it has none, or is too long. */
static bool unquoted(const char *text, char *out, size_t size)
{
    size_t n = strlen(text);
    if (n < 2 || (text[0] != '\'' && text[0] != '"') || text[n - 1] != text[0] || n - 1 > size) {
        return false;
    }
    memcpy(out, text + 1, n - 2);
    out[n - 2] = '\0';
    return true;
}

/* What the caller is, under a name; NULL: nothing. */
static const char *caller_text(const struct caller *c, const char *key)
{
    const struct {
        const char *key, *value;
    } known[] = {
        {"user_id", c->user_id},
        {"project_id", c->project_id},
        {"tenant", c->project_id},
        {"tenant_id", c->project_id},
        {"domain_id", c->domain_id},
        {"user_domain_id", c->user_domain_id},
        {"project_domain_id", c->project_domain_id},
        {"system_scope", c->scope == SCOPE_SYSTEM ? "all" : ""},
        {"is_admin", c->local_admin || caller_is_admin(c) ? "True" : "False"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].key, key) == 0) {
            return known[i].value[0] != '\0' ? known[i].value : NULL;
        }
    }
    return NULL;
}

static const char *image_text(const json_t *image, const char *key, char number[32])
{
    static const char *const owner[] = {"project_id", "tenant", "tenant_id"};
    for (size_t i = 0; i < sizeof(owner) / sizeof(owner[0]); i++) {
        key = strcmp(key, owner[i]) == 0 ? "owner" : key;
    }
    key = strcmp(key, "image_id") == 0 ? "id" : key;
    const json_t *value = json_object_get(image, key);
    value = value != NULL ? value : json_object_get(json_obj(image, "props"), key);
    if (json_is_integer(value)) {
        (void)snprintf(number, 32, "%lld", (long long)json_integer_value(value));
        return number;
    }
    return json_is_true(value) ? "True" : json_is_false(value) ? "False" : json_string_value(value);
}

/* The value of a check: a text, or %(name)s of the image. */
static const char *wanted_text(const json_t *image, const char *value, char *memory, size_t size)
{
    size_t n = strlen(value);
    if (n > 4 && n - 4 < size && strncmp(value, "%(", 2) == 0 && strcmp(value + n - 2, ")s") == 0) {
        char key[256], number[32];
        (void)snprintf(key, sizeof(key), "%.*s", (int)(n - 4), value + 2);
        const char *text = image_text(image, key, number);
        return text != NULL && str_copy(memory, size, text) ? memory : NULL;
    }
    return unquoted(value, memory, size) ? memory : value;
}

static bool check_holds(const struct rule_node *n, const struct caller *caller, const json_t *image)
{
    char literal[256], memory[256];
    const char *have =
        unquoted(n->key, literal, sizeof(literal)) ? literal : caller_text(caller, n->key);
    const char *want = wanted_text(image, n->value, memory, sizeof(memory));
    if (have == NULL || want == NULL) {
        return false;
    }
    return strcmp(n->key, "is_admin") == 0 ? str_ieq(have, strcmp(want, "1") == 0 ? "True" : want)
                                           : strcmp(have, want) == 0;
}

static bool ask(const struct rule_tree *t, int at, rule_named_fn named, const void *arg,
                const struct caller *caller, const json_t *image)
{
    const struct rule_node *n = &t->nodes[at];
    switch (n->kind) {
    case RULE_TRUE:
        return true;
    case RULE_FALSE:
        return false;
    case RULE_ROLE:
        return rule_role(caller, n->value);
    case RULE_NAMED:
        return named(arg, n->value, caller, image);
    case RULE_CHECK:
        return check_holds(n, caller, image);
    case RULE_NOT:
        return !ask(t, n->left, named, arg, caller, image);
    case RULE_AND:
        return ask(t, n->left, named, arg, caller, image) &&
               ask(t, n->right, named, arg, caller, image);
    case RULE_OR:
        return ask(t, n->left, named, arg, caller, image) ||
               ask(t, n->right, named, arg, caller, image);
    }
    return false;
}

bool rule_ask(const struct rule_tree *tree, rule_named_fn named, const void *arg,
              const struct caller *caller, const json_t *image)
{
    return ask(tree, tree->root, named, arg, caller, image);
}
