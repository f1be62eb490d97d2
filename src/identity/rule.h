/* One rule of a policy file: its text as a tree, and what it says. Private to identity/. */
#ifndef IDENTITY_RULE_H
#define IDENTITY_RULE_H

#include "tessera/identity/rules.h"

enum rule_kind {
    RULE_TRUE,
    RULE_FALSE,
    RULE_ROLE,
    RULE_NAMED,
    RULE_CHECK,
    RULE_NOT,
    RULE_AND,
    RULE_OR
};
enum { RULE_NODES_MAX = 256, RULE_DEPTH_MAX = 64, RULE_TEXT_MAX = 8192 };

struct rule_node {
    enum rule_kind kind;
    int left, right;   /* nodes of not, and, or */
    char *key, *value; /* role, named: value; check: both */
};
struct rule_tree {
    struct rule_node *nodes;
    int count, root;
};

/* TSR_EINVAL: not a rule. */
int rule_parse(const char *text, struct rule_tree *out, struct err *err);
void rule_free(struct rule_tree *tree);
/* @named: what rule:NAME says; 1, 0. */
typedef bool (*rule_named_fn)(const void *arg, const char *name, const struct caller *caller,
                              const json_t *image);
bool rule_ask(const struct rule_tree *tree, rule_named_fn named, const void *arg,
              const struct caller *caller, const json_t *image);
bool rule_role(const struct caller *caller, const char *role);

#endif
