/* A login: parse -> whom is it about -> scrypt in the auth pool -> scope and roles -> caller.
 *
 * Happy path: identity_login_start finds the stored hash on the caller's loop, the auth pool
 * computes the hash of what was sent, and back on the loop user, scope and roles are read anew
 * (they may have changed meanwhile). A token instead of a password needs no pool; the callback
 * still comes later. Failures: an unknown user or credential is compared with a hash that nothing
 * matches, so that every refusal of a name, a password or a scope takes one scrypt and looks the
 * same; the reason stays here. Close: the pool finishes its works before the identity is freed. */
#include <stdlib.h>
#include <string.h>

#include "identity/login.h"
#include "identity/token.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

struct login {
    struct identity_login *req;
    struct login_ask ask;
    uint64_t who; /* whose failures are counted */
    char user_id[IDENTITY_ID_MAX + 1];
    char appcred_id[IDENTITY_ID_MAX + 1], appcred_project[IDENTITY_ID_MAX + 1];
    char stored[PASSWORD_TEXT_MAX]; /* "" = nobody */
    bool match;
    int status;
    struct err err;
};

static struct login *login_of(struct work *work)
{
    return container_of(work, struct identity_login, work)->state[0];
}

static void login_finish(struct login *l, int status)
{
    struct identity_login *req = l->req;
    struct err err = l->err;
    if (status != 0 && err.code != status) {
        (void)err_set(&err, status, "%s",
                      status == TSR_EUNAUTHORIZED
                          ? "The request you have made requires authentication."
                          : err_text(status));
    }
    explicit_bzero(l, sizeof(*l));
    free(l);
    req->state[0] = NULL;
    req->cb(req, status, &err);
}

/* --- finding things by name
 * ------------------------------------------------------------------------- */

static int find_domain(struct meta_view *view, const struct login_name *n,
                       char out[IDENTITY_ID_MAX + 1])
{
    json_t *record = NULL;
    int rv = n->domain_id != NULL ? meta_dir_get(view, "domain", n->domain_id, &record)
                                  : meta_dir_find(view, "domain", "", n->domain_name, &record);
    rv = auth_code(rv);
    if (rv == 0) {
        (void)str_copy(out, IDENTITY_ID_MAX + 1, json_str_or(record, "id", ""));
        json_decref(record);
    }
    return rv;
}

static int find_named(struct meta_view *view, const char *kind, const struct login_name *n,
                      json_t **out)
{
    char domain[IDENTITY_ID_MAX + 1];
    if (n->id != NULL) {
        return auth_code(meta_dir_get(view, kind, n->id, out));
    }
    int rv = find_domain(view, n, domain);
    return rv != 0 ? rv : auth_code(meta_dir_find(view, kind, domain, n->name, out));
}

/* --- before the hash
 * ---------------------------------------------------------------------------------- */

static int find_appcred(struct meta_view *view, struct login *l)
{
    json_t *record = NULL, *user = NULL;
    int rv = 0;
    if (l->ask.appcred.id != NULL) {
        rv = auth_code(meta_dir_get(view, "appcred", l->ask.appcred.id, &record));
    } else {
        rv = find_named(view, "user", &l->ask.user, &user);
        if (rv == 0) {
            rv = auth_code(meta_dir_find(view, "appcred", json_str_or(user, "id", ""),
                                         l->ask.appcred.name, &record));
        }
    }
    if (rv == 0) {
        (void)str_copy(l->user_id, sizeof(l->user_id), json_str_or(record, "user_id", ""));
        (void)str_copy(l->appcred_id, sizeof(l->appcred_id), json_str_or(record, "id", ""));
        (void)str_copy(l->appcred_project, sizeof(l->appcred_project),
                       json_str_or(record, "project_id", ""));
        (void)str_copy(l->stored, sizeof(l->stored), json_str_or(record, "secret", ""));
    }
    json_decref(user);
    json_decref(record);
    return rv;
}

static int find_user(struct meta_view *view, struct login *l)
{
    json_t *user = NULL;
    int rv = find_named(view, "user", &l->ask.user, &user);
    if (rv == 0) {
        (void)str_copy(l->user_id, sizeof(l->user_id), json_str_or(user, "id", ""));
        (void)str_copy(l->stored, sizeof(l->stored), json_str_or(user, "password", ""));
        json_decref(user);
    }
    return rv;
}

/* Nobody by that name is no reason to stop: the time must be the same. */
static int find_subject(struct login *l)
{
    struct meta_view *view = NULL;
    int rv = meta_view_open(l->req->identity->meta, &view);
    if (rv != 0) {
        return TSR_EUNAVAILABLE;
    }
    rv = l->ask.method == LOGIN_APPCRED ? find_appcred(view, l) : find_user(view, l);
    meta_view_close(view);
    const struct login_name *n = l->ask.method == LOGIN_APPCRED ? &l->ask.appcred : &l->ask.user;
    l->who = l->user_id[0] != '\0' ? failure_key(l->user_id, "")
                                   : failure_key(n->id != NULL ? n->id : n->name, "?");
    return rv == TSR_EUNAUTHORIZED ? 0 : rv;
}

/* --- after the hash
 * ----------------------------------------------------------------------------------- */

/* Does the user's record still hold what was compared? */
static int still_stored(struct meta_view *view, const struct login *l)
{
    json_t *record = NULL;
    bool by_user = l->ask.method == LOGIN_PASSWORD;
    int rv = auth_code(by_user ? meta_dir_get(view, "user", l->user_id, &record)
                               : meta_dir_get(view, "appcred", l->appcred_id, &record));
    if (rv == 0 &&
        strcmp(json_str_or(record, by_user ? "password" : "secret", ""), l->stored) != 0) {
        rv = TSR_EUNAUTHORIZED;
    }
    json_decref(record);
    return rv;
}

static int target_of(struct meta_view *view, const struct login_ask *ask,
                     char out[IDENTITY_ID_MAX + 1])
{
    json_t *record = NULL;
    if (ask->scope == SCOPE_DOMAIN) {
        return find_domain(view, &ask->target, out);
    }
    if (ask->scope != SCOPE_PROJECT) {
        return 0;
    }
    int rv = find_named(view, "project", &ask->target, &record);
    if (rv == 0) {
        (void)str_copy(out, IDENTITY_ID_MAX + 1, json_str_or(record, "id", ""));
        json_decref(record);
    }
    return rv;
}

/* The default project where it can be had, else no scope. */
static int fill_default(struct meta_view *view, const char *user, struct caller *c,
                        int64_t *valid_from)
{
    json_t *record = NULL;
    int rv = auth_code(meta_dir_get(view, "user", user, &record));
    if (rv != 0) {
        return rv;
    }
    const char *project = json_str(record, "default_project_id");
    rv = project == NULL ? TSR_EUNAUTHORIZED
                         : identity_caller_fill(view, user, SCOPE_PROJECT, project, c, valid_from);
    json_decref(record);
    return rv == TSR_EUNAUTHORIZED ? identity_caller_fill(view, user, SCOPE_NONE, "", c, valid_from)
                                   : rv;
}

static int fill_scope(struct meta_view *view, const struct login *l, const char *user,
                      struct caller *c, int64_t *valid_from)
{
    char target[IDENTITY_ID_MAX + 1] = "";
    if (l->ask.method == LOGIN_APPCRED) {
        return identity_caller_fill(view, user, SCOPE_PROJECT, l->appcred_project, c, valid_from);
    }
    if (!l->ask.scope_given) {
        return fill_default(view, user, c, valid_from);
    }
    int rv = target_of(view, &l->ask, target);
    return rv != 0 ? rv : identity_caller_fill(view, user, l->ask.scope, target, c, valid_from);
}

/* Times and audit id. Issued is never before valid_from, which another host's clock may have made:
 * the token would be born dead. */
static void stamp(struct login *l, int64_t valid_from, int64_t expires_us)
{
    struct caller *c = &l->req->caller;
    uint8_t audit[16];
    int64_t now = loop_wall_us(l->req->loop);
    loop_random(l->req->loop, audit, sizeof(audit));
    base64url_encode(audit, sizeof(audit), c->audit_id);
    c->issued_us = now > valid_from ? now : valid_from;
    c->expires_us = expires_us != 0 ? expires_us : now + l->req->identity->token_life_us;
}

static int grant_secret(struct login *l, struct meta_view *view)
{
    struct caller *c = &l->req->caller;
    int64_t valid_from = 0;
    int rv = still_stored(view, l);
    if (rv == 0) {
        rv = fill_scope(view, l, l->user_id, c, &valid_from);
    }
    if (rv == 0 && l->ask.method == LOGIN_APPCRED) {
        (void)str_copy(c->appcred_id, sizeof(c->appcred_id), l->appcred_id);
        rv = appcred_apply(view, loop_wall_us(l->req->loop), c);
    }
    if (rv == 0) {
        methods_text(l->ask.method == LOGIN_APPCRED ? METHOD_APPCRED : METHOD_PASSWORD, c->methods,
                     sizeof(c->methods));
        stamp(l, valid_from, 0);
    }
    return rv;
}

/* A token for a token: other scope, same end; methods are joined. One that came from an application
 * credential stays bound to it. */
static int grant_token(struct login *l, struct meta_view *view)
{
    struct identity_login *req = l->req;
    struct caller old;
    int64_t valid_from = 0;
    int rv = identity_check(req->identity, view, l->ask.token, loop_wall_us(req->loop), &old);
    if (rv == 0 && old.appcred_id[0] != '\0') {
        rv = TSR_EUNAUTHORIZED;
    }
    if (rv == 0) {
        rv = fill_scope(view, l, old.user_id, &req->caller, &valid_from);
    }
    if (rv == 0) {
        methods_text(methods_parse(old.methods) | METHOD_TOKEN, req->caller.methods,
                     sizeof(req->caller.methods));
        stamp(l, valid_from, old.expires_us);
    }
    return rv;
}

static int grant(struct login *l)
{
    struct meta_view *view = NULL;
    if (meta_view_open(l->req->identity->meta, &view) != 0) {
        return TSR_EUNAVAILABLE;
    }
    int rv = l->ask.method == LOGIN_TOKEN ? grant_token(l, view) : grant_secret(l, view);
    meta_view_close(view);
    if (rv != 0) {
        memset(&l->req->caller, 0, sizeof(l->req->caller));
    }
    return rv;
}

/* --- steps
 * ---------------------------------------------------------------------------------------------- */

static void run_hash(struct work *work)
{
    struct login *l = login_of(work);
    bool sane = strnlen(l->ask.secret, PASSWORD_BYTES_MAX + 1) <= PASSWORD_BYTES_MAX;
    bool match = password_verify(sane ? l->ask.secret : "", l->stored);
    l->match = sane && match;
}

static void hash_done(struct work *work)
{
    struct login *l = login_of(work);
    int status = l->match ? grant(l) : TSR_EUNAUTHORIZED;
    if (!l->match) {
        failures_add(l->req->identity, l->who, loop_now_ms(l->req->loop));
    }
    login_finish(l, status);
}

static void answer_later(struct task *task)
{
    struct identity_login *req = container_of(task, struct identity_login, work.task);
    struct login *l = req->state[0];
    if (l == NULL) {
        struct err err = {.code = TSR_ENOMEM};
        req->cb(req, TSR_ENOMEM, &err);
        return;
    }
    login_finish(l, l->status);
}

static void later(struct identity_login *req, int status)
{
    struct login *l = req->state[0];
    if (l != NULL) {
        l->status = status;
    }
    req->work.task.run = answer_later;
    loop_post(req->loop, &req->work.task);
}

/* What can be decided at once; 1: a hash is needed. */
static int decide(struct login *l)
{
    struct identity *id = l->req->identity;
    int rv = login_parse(l->req->body, &l->ask, &l->err);
    if (rv != 0) {
        return rv;
    }
    if (l->ask.method == LOGIN_TOKEN) {
        return grant(l);
    }
    if (l->ask.method == LOGIN_OTHER || (l->ask.method == LOGIN_APPCRED && l->ask.scope_given)) {
        return TSR_EUNAUTHORIZED;
    }
    rv = find_subject(l);
    if (rv == 0 && failures_exceeded(id, l->who, loop_now_ms(l->req->loop))) {
        rv = err_set(&l->err, TSR_ETOOMANY, "Too many failed logins. Try again in a minute.");
    }
    if (rv == 0 && pool_depth(id->auth_pool) >= AUTH_QUEUE_MAX) {
        rv = err_set(&l->err, TSR_EBUSY, "Too many logins at once. Try again.");
    }
    return rv != 0 ? rv : 1;
}

void identity_login_start(struct identity *id, struct identity_login *req)
{
    struct login *l = calloc(1, sizeof(*l));
    req->identity = id;
    req->state[0] = l;
    memset(&req->caller, 0, sizeof(req->caller));
    if (l == NULL) {
        later(req, TSR_ENOMEM);
        return;
    }
    l->req = req;
    int rv = decide(l);
    if (rv <= 0) {
        later(req, rv);
        return;
    }
    req->work.loop = req->loop;
    req->work.run = run_hash;
    req->work.done = hash_done;
    pool_submit(id->auth_pool, &req->work);
}
