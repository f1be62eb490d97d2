#include "identity/login.h"

#include <string.h>

#include "tessera/base/str.h"

static int malformed(struct err *err, const char *what)
{
    return err_set(err, TSR_EINVAL,
                   "Expecting to find %s in the request body. The server could not "
                   "comply with the request since it is either malformed or otherwise incorrect.",
                   what);
}

/* A value that is there must be text. */
static bool text_ok(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value == NULL || json_is_string(value);
}

static int parse_domain(const json_t *object, struct login_name *out, struct err *err)
{
    const json_t *domain = json_obj(object, "domain");
    out->domain_id = json_str(domain, "id");
    out->domain_name = json_str(domain, "name");
    return out->domain_id == NULL && out->domain_name == NULL ? malformed(err, "domain") : 0;
}

/* {"id"} or {"name", "domain": {"id" or "name"}}. */
static int parse_name(const json_t *object, const char *what, struct login_name *out,
                      struct err *err)
{
    if (object == NULL || !text_ok(object, "id") || !text_ok(object, "name")) {
        return malformed(err, what);
    }
    out->id = json_str(object, "id");
    out->name = json_str(object, "name");
    if (out->id != NULL) {
        return 0;
    }
    return out->name == NULL ? malformed(err, what) : parse_domain(object, out, err);
}

static int parse_password(const json_t *object, struct login_ask *out, struct err *err)
{
    const json_t *user = json_obj(object, "user");
    out->method = LOGIN_PASSWORD;
    out->secret = json_str(user, "password");
    if (out->secret == NULL) {
        return malformed(err, "password");
    }
    return parse_name(user, "user", &out->user, err);
}

static int parse_token(const json_t *object, struct login_ask *out, struct err *err)
{
    out->method = LOGIN_TOKEN;
    out->token = json_str(object, "id");
    return out->token == NULL ? malformed(err, "token id") : 0;
}

static int parse_appcred(const json_t *object, struct login_ask *out, struct err *err)
{
    out->method = LOGIN_APPCRED;
    out->secret = json_str(object, "secret");
    out->appcred.id = json_str(object, "id");
    out->appcred.name = json_str(object, "name");
    if (out->secret == NULL || (out->appcred.id == NULL && out->appcred.name == NULL)) {
        return malformed(err, "application credential");
    }
    return out->appcred.id != NULL ? 0
                                   : parse_name(json_obj(object, "user"), "user", &out->user, err);
}

static const struct {
    const char *name;
    int (*parse)(const json_t *object, struct login_ask *out, struct err *err);
} methods[] = {
    {"password", parse_password},
    {"token", parse_token},
    {"application_credential", parse_appcred},
};

/* One method a login. Others, or several that differ, are well-formed but get nobody in. */
static int parse_methods(const json_t *identity, struct login_ask *out, struct err *err)
{
    const json_t *names = json_arr(identity, "methods"), *item;
    const char *first = json_string_value(json_array_get(names, 0));
    size_t i;
    if (first == NULL) {
        return malformed(err, "methods");
    }
    bool mixed = false;
    json_array_foreach(names, i, item)
    {
        const char *name = json_string_value(item);
        if (name == NULL) {
            return malformed(err, "methods");
        }
        if (json_obj(identity, name) == NULL) {
            return malformed(err, "the object of each method");
        }
        mixed = mixed || strcmp(name, first) != 0;
    }
    out->method = LOGIN_OTHER;
    for (i = 0; i < sizeof(methods) / sizeof(methods[0]) && !mixed; i++) {
        if (strcmp(methods[i].name, first) == 0) {
            return methods[i].parse(json_obj(identity, first), out, err);
        }
    }
    return 0;
}

static int parse_scope(const json_t *auth, struct login_ask *out, struct err *err)
{
    const json_t *scope = json_object_get(auth, "scope");
    out->scope = SCOPE_NONE;
    out->scope_given = scope != NULL;
    if (scope == NULL) {
        return 0;
    }
    if (json_is_string(scope)) {
        return strcmp(json_string_value(scope), "unscoped") == 0 ? 0 : malformed(err, "scope");
    }
    if (!json_is_object(scope) || json_object_size(scope) != 1) {
        return malformed(err, "one scope");
    }
    if (json_object_get(scope, "project") != NULL) {
        out->scope = SCOPE_PROJECT;
        return parse_name(json_obj(scope, "project"), "project", &out->target, err);
    }
    if (json_object_get(scope, "domain") != NULL) {
        out->scope = SCOPE_DOMAIN;
        return parse_domain(scope, &out->target, err);
    }
    if (json_object_get(scope, "system") != NULL) {
        out->scope = SCOPE_SYSTEM;
        return json_bool(json_obj(scope, "system"), "all", false) ? 0 : malformed(err, "all");
    }
    return json_object_get(scope, "unscoped") != NULL ? 0 : malformed(err, "scope");
}

int login_parse(const json_t *body, struct login_ask *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    const json_t *auth = json_obj(body, "auth"), *identity = json_obj(auth, "identity");
    if (identity == NULL) {
        return malformed(err, auth == NULL ? "auth" : "identity");
    }
    int rv = parse_methods(identity, out, err);
    return rv != 0 ? rv : parse_scope(auth, out, err);
}
