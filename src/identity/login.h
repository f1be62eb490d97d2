/* POST /v3/auth/tokens: what was asked for, parsed. All strings are borrowed from the body. */
#ifndef IDENTITY_LOGIN_H
#define IDENTITY_LOGIN_H

#include "identity/internal.h"

/* A thing named by id, or by name and domain. */
struct login_name {
    const char *id, *name;
    const char *domain_id, *domain_name;
};

enum login_method { LOGIN_PASSWORD, LOGIN_TOKEN, LOGIN_APPCRED, LOGIN_OTHER };

struct login_ask {
    enum login_method method;
    struct login_name user;
    const char *secret; /* password, or of the application credential */
    const char *token;
    struct login_name appcred; /* by id, or name and @user */
    bool scope_given;          /* else the default project */
    enum caller_scope scope;
    struct login_name target; /* project or domain */
};

/* TSR_EINVAL with the reason: malformed. */
int login_parse(const json_t *body, struct login_ask *out, struct err *err);

#endif
