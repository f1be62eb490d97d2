/* Calls to Keystone, with kept connections and the service user's token.
 *
 * The token is got by one login at a time: whoever finds none, or is told that it is stale, waits
 * for the login that is under way and takes its outcome, good or bad, so that a Keystone which
 * hangs costs each of them one time-out and not a queue of them. Secrets are read from their files
 * at each login and wiped after it. What goes wrong is logged when it begins and once a minute. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/keystone_internal.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/fs.h"

enum { SECRET_MAX = 4096, REPLY_MAX = 1 << 20, TELL_AGAIN_MS = 60000 };

uint64_t keystone_deadline(struct keystone *k)
{
    return loop_now_ms(k->o.loop) + k->o.timeout_ms;
}

/* --- what is known of Keystone itself ----------------------------------------------------------
 */

void keystone_note(struct keystone *k, bool works, const char *text)
{
    uint64_t now = loop_now_ms(k->o.loop);
    pthread_mutex_lock(&k->lock);
    bool tell = works ? !k->works : k->works || now - k->told_ms > TELL_AGAIN_MS;
    k->works = works;
    (void)str_copy(k->trouble, sizeof(k->trouble), works ? "" : text);
    k->told_ms = tell ? now : k->told_ms;
    pthread_mutex_unlock(&k->lock);
    if (tell && works) {
        log_info("keystone", "works again");
    } else if (tell) {
        log_warn("keystone", "%s", text);
    }
}

bool keystone_works(struct keystone *k, char *text, size_t size)
{
    pthread_mutex_lock(&k->lock);
    bool works = k->works;
    (void)str_copy(text, size, k->trouble);
    pthread_mutex_unlock(&k->lock);
    return works;
}

/* A failure that is Keystone's or the operator's, not the client's. */
static int unavailable(struct keystone *k, struct err *err, const char *text)
{
    if (!atomic_load(&k->stopping)) {
        keystone_note(k, false, text);
    }
    return err_set(err, TSR_EUNAVAILABLE, "%s", text);
}

/* --- one exchange ------------------------------------------------------------------------------
 */

static struct http_client_session *session_take(struct keystone *k)
{
    struct http_client_session *session = NULL;
    pthread_mutex_lock(&k->lock);
    if (k->session_count > 0) {
        session = k->sessions[--k->session_count];
    }
    pthread_mutex_unlock(&k->lock);
    return session != NULL ? session : http_client_session_new();
}

static void session_give(struct keystone *k, struct http_client_session *session)
{
    pthread_mutex_lock(&k->lock);
    bool kept = session != NULL && k->session_count < KEYSTONE_SESSIONS_MAX;
    if (kept) {
        k->sessions[k->session_count++] = session;
    }
    pthread_mutex_unlock(&k->lock);
    if (!kept) {
        http_client_session_free(session);
    }
}

static bool stopping(void *arg)
{
    struct keystone *k = arg;
    return atomic_load(&k->stopping);
}

static int exchange(struct keystone *k, const struct keystone_request *q, const char *token,
                    struct http_client_reply *reply, struct err *err)
{
    char url[KEYSTONE_URL_MAX + 512], auth[TOKEN_TEXT_MAX + 32], subject[TOKEN_TEXT_MAX + 32];
    const char *headers[4] = {"Accept: application/json", "OpenStack-Identity-Access-Rules: 1"};
    size_t count = 2, size = 0;
    uint64_t now = loop_now_ms(k->o.loop);
    if (now >= q->deadline_ms) {
        return err_set(err, TSR_ETIMEOUT, "no answer in time");
    }
    (void)snprintf(url, sizeof(url), "%s%s", k->base, q->path);
    if (token != NULL) {
        (void)snprintf(auth, sizeof(auth), "X-Auth-Token: %s", token);
        headers[count++] = auth;
    }
    if (q->subject != NULL) {
        (void)snprintf(subject, sizeof(subject), "X-Subject-Token: %s", q->subject);
        headers[count++] = subject;
    }
    char *body = q->body != NULL ? json_text(q->body, &size) : NULL;
    struct http_client_request request = {
        .session = session_take(k),
        .method = q->method,
        .url = url,
        .headers = headers,
        .header_count = count,
        .body = body,
        .body_size = size,
        .content_type = body != NULL ? "application/json" : NULL,
        .stop = stopping,
        .arg = k,
        .ca_file = k->o.ca_file[0] != '\0' ? k->o.ca_file : NULL,
        .connect_timeout_ms = q->deadline_ms - now,
        .timeout_ms = q->deadline_ms - now,
        .reply_max = REPLY_MAX,
    };
    int rv = http_client_call(&request, reply, err);
    session_give(k, request.session);
    if (body != NULL) {
        explicit_bzero(body, size);
        free(body);
    }
    return rv;
}

/* --- the service user --------------------------------------------------------------------------
 */

int keystone_secret_readable(const char *path, struct err *err)
{
    struct fs_stat st;
    int rv = fs_stat(fs_real(), path, &st);
    if (rv != 0) {
        return err_set(err, TSR_EINVAL, "%s can not be read: %s", path, err_text(rv));
    }
    if ((st.mode & 07) != 0) {
        return err_set(err, TSR_EINVAL, "%s holds a secret and is open to everybody: chmod 600",
                       path);
    }
    return 0;
}

/* First line of the file. */
static int read_secret(const char *path, char out[SECRET_MAX], struct err *err)
{
    char *text = NULL;
    size_t size = 0;
    int rv = keystone_secret_readable(path, err);
    if (rv == 0 && (rv = fs_read_file(fs_real(), path, SECRET_MAX - 1, &text, &size)) != 0) {
        rv = err_set(err, rv, "%s can not be read: %s", path, err_text(rv));
    }
    if (rv == 0) {
        size_t line = strcspn(text, "\r\n");
        memcpy(out, text, line);
        out[line] = '\0';
    }
    if (text != NULL) {
        explicit_bzero(text, size);
        free(text);
    }
    return rv;
}

static json_t *login_body(const struct keystone_options *o, const char *secret)
{
    if (o->appcred_id[0] != '\0') {
        return json_pack("{s:{s:{s:[s],s:{s:s,s:s}}}}", "auth", "identity", "methods",
                         "application_credential", "application_credential", "id", o->appcred_id,
                         "secret", secret);
    }
    return json_pack("{s:{s:{s:[s],s:{s:{s:s,s:s,s:{s:s}}}},s:{s:{s:s,s:{s:s}}}}}", "auth",
                     "identity", "methods", "password", "password", "user", "name", o->username,
                     "password", secret, "domain", "name", o->user_domain, "scope", "project",
                     "name", o->project, "domain", "name", o->project_domain);
}

/* The new token, or NULL. */
static char *login_answer(struct keystone *k, const struct http_client_reply *reply,
                          int64_t *renew_us, struct err *err)
{
    char token[TOKEN_TEXT_MAX + 1], text[ERR_MSG_SIZE];
    struct caller caller;
    if (reply->status == 201 &&
        http_client_header(reply, "X-Subject-Token", token, sizeof(token)) &&
        keystone_token_text_ok(token) &&
        keystone_token_parse(reply->body.data, reply->body.size, &caller, NULL, NULL) == 0) {
        int64_t life = caller.expires_us - loop_wall_us(k->o.loop);
        int64_t part = life / KEYSTONE_RENEW_PART;
        *renew_us = caller.expires_us - (part < KEYSTONE_RENEW_US ? part : KEYSTONE_RENEW_US);
        return strdup(token);
    }
    bool refused = reply->status == 401 || reply->status == 403;
    (void)snprintf(text, sizeof(text),
                   refused ? "Keystone refuses the service user's login (HTTP %d)"
                           : "Keystone's answer to the service user's login is no token (HTTP %d)",
                   reply->status);
    (void)unavailable(k, err, text);
    return NULL;
}

static char *login(struct keystone *k, uint64_t deadline_ms, int64_t *renew_us, struct err *err)
{
    char secret[SECRET_MAX];
    struct http_client_reply reply;
    const char *file = k->o.appcred_id[0] != '\0' ? k->o.appcred_secret_file : k->o.password_file;
    struct err why = {0};
    if (read_secret(file, secret, &why) != 0) {
        (void)unavailable(k, err, why.msg);
        return NULL;
    }
    struct keystone_request q = {.method = "POST",
                                 .path = "/auth/tokens?nocatalog",
                                 .body = login_body(&k->o, secret),
                                 .deadline_ms = deadline_ms};
    explicit_bzero(secret, sizeof(secret));
    int rv = exchange(k, &q, NULL, &reply, &why);
    json_decref(q.body);
    if (rv != 0) {
        char text[ERR_MSG_SIZE];
        (void)snprintf(text, sizeof(text), "Keystone can not be reached: %.180s", why.msg);
        (void)unavailable(k, err, text);
        return NULL;
    }
    char *token = login_answer(k, &reply, renew_us, err);
    http_client_reply_free(&reply);
    return token;
}

static void wipe(char *token)
{
    if (token != NULL) {
        explicit_bzero(token, strlen(token));
        free(token);
    }
}

/* A copy of the service token; @stale is the generation of one that was refused (0 = none). */
static char *service_token_now(struct keystone *k, uint64_t stale, uint64_t *generation)
{
    char *token = NULL;
    pthread_mutex_lock(&k->lock);
    *generation = k->service_generation;
    if (k->service_token != NULL && k->service_generation != stale &&
        k->service_renew_us > loop_wall_us(k->o.loop)) {
        token = strdup(k->service_token);
    }
    pthread_mutex_unlock(&k->lock);
    return token;
}

/* Wiped and freed by the caller; NULL with @err. *generation: say it when this one is refused. */
static char *service_token(struct keystone *k, uint64_t stale, uint64_t deadline_ms,
                           uint64_t *generation, struct err *err)
{
    uint64_t before = 0;
    char *token = service_token_now(k, stale, &before);
    *generation = before;
    if (token != NULL) {
        return token;
    }
    pthread_mutex_lock(&k->login_lock);
    token = service_token_now(k, stale, generation);
    if (token != NULL || (*generation != before && k->service_status != 0)) {
        /* Somebody logged in meanwhile, or tried: its outcome is ours. */
        pthread_mutex_unlock(&k->login_lock);
        if (token == NULL) {
            (void)keystone_works(k, err->msg, sizeof(err->msg));
            err->code = TSR_EUNAVAILABLE;
        }
        return token;
    }
    int64_t renew_us = 0;
    char *fresh = login(k, deadline_ms, &renew_us, err);
    token = fresh != NULL ? strdup(fresh) : NULL;
    pthread_mutex_lock(&k->lock);
    wipe(k->service_token);
    k->service_token = fresh;
    k->service_renew_us = renew_us;
    k->service_status = fresh != NULL ? 0 : TSR_EUNAVAILABLE;
    *generation = ++k->service_generation;
    pthread_mutex_unlock(&k->lock);
    pthread_mutex_unlock(&k->login_lock);
    return token;
}

/* --- calls -------------------------------------------------------------------------------------
 */

static int call_once(struct keystone *k, const struct keystone_request *q, const char *token,
                     struct http_client_reply *reply, struct err *err)
{
    struct err why = {0};
    char text[ERR_MSG_SIZE];
    int rv = exchange(k, q, token, reply, &why);
    if (rv != 0) {
        (void)snprintf(text, sizeof(text), "Keystone can not be reached: %.180s", why.msg);
        return unavailable(k, err, text);
    }
    if (reply->status >= 500) {
        (void)snprintf(text, sizeof(text), "Keystone answers HTTP %d", reply->status);
        http_client_reply_free(reply);
        return unavailable(k, err, text);
    }
    return 0;
}

int keystone_call(struct keystone *k, const struct keystone_request *request,
                  struct http_client_reply *reply, struct err *err)
{
    struct err unused;
    uint64_t generation = 0;
    int rv = 0;
    err = err != NULL ? err : &unused;
    if (request->token != NULL) {
        return call_once(k, request, request->token, reply, err);
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        char *token = service_token(k, generation, request->deadline_ms, &generation, err);
        if (token == NULL) {
            return err->code;
        }
        rv = call_once(k, request, token, reply, err);
        wipe(token);
        if (rv != 0 || reply->status != 401) {
            return rv;
        }
        http_client_reply_free(reply); /* ours is stale: once more with a new one */
    }
    return unavailable(k, err, "Keystone refuses the service user's new token");
}

void keystone_client_free(struct keystone *k)
{
    while (k->session_count > 0) {
        http_client_session_free(k->sessions[--k->session_count]);
    }
    wipe(k->service_token);
}
