/* Life of the identity service, and tokens in use: checking and issuing. */
#include <stdlib.h>
#include <string.h>

#include "identity/token.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

int identity_new(const struct identity_options *options, struct identity **out)
{
    struct identity *id = calloc(1, sizeof(*id));
    if (id == NULL) {
        return TSR_ENOMEM;
    }
    id->meta = options->meta;
    id->auth_pool = options->auth_pool;
    memcpy(id->cluster_key, options->cluster_key, sizeof(id->cluster_key));
    id->token_life_us = options->token_life_us;
    id->expired_window_us = options->expired_window_us;
    pthread_mutex_init(&id->key_lock, NULL);
    pthread_mutex_init(&id->failure_lock, NULL);
    pthread_mutex_init(&id->checked_lock, NULL);
    *out = id;
    return 0;
}

void identity_free(struct identity *id)
{
    if (id == NULL) {
        return;
    }
    pthread_mutex_destroy(&id->key_lock);
    pthread_mutex_destroy(&id->failure_lock);
    pthread_mutex_destroy(&id->checked_lock);
    explicit_bzero(id, sizeof(*id));
    free(id);
}

/* --- checking
 * ---------------------------------------------------------------------------------------- */

struct key_query {
    struct identity *identity;
    struct meta_view *view;
    int64_t now_us;
};

static int key_of(void *arg, uint32_t key_id, uint8_t key_out[TOKEN_KEY_SIZE])
{
    struct key_query *q = arg;
    return key_find(q->identity, q->view, key_id, q->now_us, key_out);
}

static int check_revoked(struct meta_view *view, const char *audit_id)
{
    json_t *record = NULL;
    int rv = meta_dir_get(view, "revocation", audit_id, &record);
    if (rv == TSR_ENOENT) {
        return 0;
    }
    json_decref(record);
    return rv == 0 ? TSR_EUNAUTHORIZED : TSR_EUNAVAILABLE;
}

static void fill_token(const struct token *t, struct caller *out)
{
    base64url_encode(t->audit, sizeof(t->audit), out->audit_id);
    methods_text(t->methods, out->methods, sizeof(out->methods));
    (void)str_copy(out->appcred_id, sizeof(out->appcred_id), t->appcred);
    out->issued_us = t->issued_us;
    out->expires_us = t->expires_us;
}

/* @grace_us: how long ago the token may have ended. */
static int check_fully(struct identity *id, struct meta_view *view, const char *token,
                       int64_t now_us, int64_t grace_us, struct caller *out)
{
    struct key_query query = {id, view, now_us};
    struct token t;
    int64_t valid_from = 0;
    int rv = token_decode(token, key_of, &query, &t);
    if (rv != 0) {
        return rv;
    }
    if (t.expires_us <= now_us - grace_us) {
        return TSR_EUNAUTHORIZED;
    }
    fill_token(&t, out);
    rv = check_revoked(view, out->audit_id);
    if (rv == 0) {
        rv = identity_caller_fill(view, t.user, t.scope, t.target, out, &valid_from);
    }
    if (rv == 0 && t.issued_us < valid_from) {
        rv = TSR_EUNAUTHORIZED;
    }
    if (rv == 0 && out->appcred_id[0] != '\0') {
        rv = appcred_apply(view, now_us, out);
    }
    return rv;
}

int identity_check(struct identity *id, struct meta_view *view, const char *token, int64_t now_us,
                   struct caller *out)
{
    uint8_t digest[32];
    size_t size = strnlen(token, TOKEN_TEXT_LONGEST + 1);
    uint64_t state = meta_view_directory(view);
    memset(out, 0, sizeof(*out));
    if (size > TOKEN_TEXT_LONGEST) {
        return TSR_EUNAUTHORIZED;
    }
    digest_of(DIGEST_SHA256, token, size, digest);
    if (checked_get(id, digest, state, now_us, out)) {
        return 0;
    }
    int rv = check_fully(id, view, token, now_us, 0, out);
    if (rv == 0) {
        checked_put(id, digest, state, out);
    } else {
        memset(out, 0, sizeof(*out)); /* nothing of a refused token is to be used by mistake */
    }
    return rv;
}

int identity_check_expired(struct identity *id, struct meta_view *view, const char *token,
                           int64_t now_us, struct caller *out)
{
    memset(out, 0, sizeof(*out));
    int rv = strnlen(token, TOKEN_TEXT_LONGEST + 1) > TOKEN_TEXT_LONGEST
                 ? TSR_EUNAUTHORIZED
                 : check_fully(id, view, token, now_us, id->expired_window_us, out);
    if (rv != 0) {
        memset(out, 0, sizeof(*out));
    }
    return rv;
}

/* --- issuing
 * ----------------------------------------------------------------------------------------- */

int identity_issue(struct identity *id, struct meta_view *view, const struct caller *caller,
                   char *out, size_t out_size)
{
    struct token t = {.scope = caller->scope,
                      .methods = methods_parse(caller->methods),
                      .issued_us = caller->issued_us,
                      .expires_us = caller->expires_us};
    uint8_t key[TOKEN_KEY_SIZE];
    const char *target = caller->scope == SCOPE_PROJECT  ? caller->project_id
                         : caller->scope == SCOPE_DOMAIN ? caller->domain_id
                                                         : "";
    (void)str_copy(t.user, sizeof(t.user), caller->user_id);
    (void)str_copy(t.target, sizeof(t.target), target);
    (void)str_copy(t.appcred, sizeof(t.appcred), caller->appcred_id);
    if (base64url_decode(caller->audit_id, strlen(caller->audit_id), t.audit, sizeof(t.audit)) !=
        (long)sizeof(t.audit)) {
        return TSR_EINVAL;
    }
    int rv = key_signing(id, view, caller->issued_us, &t.key_id, key);
    if (rv != 0) {
        return rv;
    }
    rv = token_encode(&t, key, out, out_size);
    explicit_bzero(key, sizeof(key));
    return rv;
}
