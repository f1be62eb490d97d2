/* Rules of the operator's own: who may do what (policy_file) and who may see and change which
 * property (property_protection_file). Both are read whole or refused whole; a loaded object is
 * never changed and may be used by all threads. A name that is not in the file keeps its built-in
 * rule.
 *
 * A rule: "@" (all), "!" (nobody), role:NAME, rule:NAME, is_admin:True, KEY:VALUE, joined by and,
 * or, not and parentheses. KEY is of the caller: user_id, project_id, domain_id, user_domain_id,
 * project_domain_id, system_scope, or a 'text' in quotes; VALUE is a text or %(KEY)s of the image:
 * id, owner (project_id, tenant), visibility, status, member_id, or any other field or property.
 * What is not there equals nothing. */
#ifndef TESSERA_IDENTITY_RULES_H
#define TESSERA_IDENTITY_RULES_H

#include "tessera/identity.h"

/* --- rules by name */

struct policy_rules;
/* @text: JSON {"name": "rule", ...}, or lines `"name": "rule"` as YAML has them. TSR_EINVAL with
 * line or name in
 * @err: not such a text, a rule that can not be read, one that refers to an unknown one or to
 * itself. */
int policy_rules_parse(const char *text, size_t size, struct policy_rules **out, struct err *err);
void policy_rules_free(struct policy_rules *rules);
/* 1 allowed, 0 not, -1: the file has no rule of that name (or @rules is NULL). @image may be NULL.
 */
int policy_rules_ask(const struct policy_rules *rules, const char *name,
                     const struct caller *caller, const json_t *image);

/* --- protected properties */

enum property_act {
    PROPERTY_CREATE,
    PROPERTY_READ,
    PROPERTY_UPDATE,
    PROPERTY_DELETE,
    PROPERTY_ACTS
};
struct property_rules;
/* @text: sections [regular expression] with lines create, read, update, delete = WHO. WHO: roles
 * with commas, "@" or "!"; or, with @policies, one rule (of @rules or as above). The first section
 * whose expression fits the beginning of a property's name decides; one that fits none is nobody's.
 * @rules is borrowed for the life of the result. */
int property_rules_parse(const char *text, size_t size, bool policies,
                         const struct policy_rules *rules, struct property_rules **out,
                         struct err *err);
void property_rules_free(struct property_rules *rules);
/* @rules NULL: everything is allowed. */
bool property_allowed(const struct property_rules *rules, enum property_act act, const char *name,
                      const struct caller *caller, const json_t *image);

#endif
