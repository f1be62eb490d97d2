/* Access rules of application credentials, as Keystone words them. Pure. */
#ifndef IDENTITY_ACCESS_H
#define IDENTITY_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "tessera/base/err.h"
#include "tessera/base/json.h"

enum { ACCESS_RULES_MAX = 256 };

/* One of an application credential's access rules. */
struct access_rule {
    char *service, *method, *path;
};
struct access_rules {
    struct access_rule *items;
    size_t count;
    bool restricted; /* there are rules, perhaps none at all: what matches none is refused */
};
void access_rules_free(struct access_rules *rules);
/* The rules in @credential's "access_rules"; without that key there are none, and everything is
 * allowed. Freed by access_rules_free, after a failure too. TSR_EPROTO: no list, or too long. */
int access_rules_parse(const json_t *credential, struct access_rules *out, struct err *err);
/* A rule of @service with that method whose path matches: `*` and `{name}` stand for one or more
 * characters but '/', `**` for anything. */
bool access_rules_allow(const struct access_rules *rules, const char *service, const char *method,
                        const char *path);
bool access_path_matches(const char *pattern, const char *path);

#endif
