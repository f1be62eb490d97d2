/* Tokens of an external Keystone: what is known of them, and asking.
 *
 * A check is decided by at most three look-ups, each of one token: the user's; if that is refused
 * and the request carries a service's token, that one; and if it has the role service, the user's
 * again, past its end. A look-up is a flight: one for all who wait for the same, on a thread of the
 * pool. When it lands its answer is known, and all its waiters are decided anew under the same
 * lock, which may put them on the next flight. Failures land too, but are not known: the next check
 * asks again.
 *
 * Time: a flight that has waited for a thread as long as a check may take fails without asking, so
 * the queue of a Keystone that hangs is as short as one time-out. */
#include "tessera/identity/keystone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "identity/keystone_internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"

enum lookup { LOOKUP_NONE, LOOKUP_USER, LOOKUP_SERVICE, LOOKUP_EXPIRED };
enum { LOOKUPS_MAX = 3 };

struct flight {
    struct work work;
    struct keystone *k;
    uint8_t digest[32];
    bool expired; /* also past its end */
    uint64_t deadline_ms;
    struct list waiters;
    char token[];
};

/* --- life --------------------------------------------------------------------------------------
 */

static int set_base(struct keystone *k, struct err *err)
{
    struct http_client_url url;
    size_t size = strlen(k->o.url);
    while (size > 0 && k->o.url[size - 1] == '/') {
        size--;
    }
    if (size >= 3 && memcmp(k->o.url + size - 3, "/v3", 3) == 0) {
        size -= 3;
    }
    int n = snprintf(k->base, sizeof(k->base), "%.*s/v3", (int)size, k->o.url);
    if (http_client_url_parse(k->o.url, &url) != 0 || url.has_user || n < 0 ||
        (size_t)n >= sizeof(k->base) ||
        (strcmp(url.scheme, "http") != 0 && strcmp(url.scheme, "https") != 0) ||
        strpbrk(k->o.url, "?#") != NULL) {
        return err_set(err, TSR_EINVAL, "keystone_url is no http or https URL");
    }
    return 0;
}

int keystone_new(const struct keystone_options *options, struct keystone **out, struct err *err)
{
    const char *secret =
        options->appcred_id[0] != '\0' ? options->appcred_secret_file : options->password_file;
    struct keystone *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    k->o = *options;
    k->works = true;
    atomic_init(&k->stopping, false);
    int rv = set_base(k, err);
    if (rv == 0) {
        rv = keystone_secret_readable(secret, err);
    }
    if (rv != 0) {
        free(k);
        return rv;
    }
    pthread_mutex_init(&k->lock, NULL);
    pthread_mutex_init(&k->login_lock, NULL);
    known_init(&k->known);
    map_init(&k->flights);
    *out = k;
    return 0;
}

void keystone_stop(struct keystone *k)
{
    if (k != NULL) {
        atomic_store(&k->stopping, true);
    }
}

void keystone_free(struct keystone *k)
{
    if (k == NULL) {
        return;
    }
    tsr_assert(k->flights.count == 0);
    map_free(&k->flights);
    known_free(&k->known);
    keystone_client_free(k);
    pthread_mutex_destroy(&k->login_lock);
    pthread_mutex_destroy(&k->lock);
    explicit_bzero(k, sizeof(*k));
    free(k);
}

/* --- deciding ----------------------------------------------------------------------------------
 */

static void digest_token(const char *token, bool expired, uint8_t out[32])
{
    size_t size = strlen(token);
    digest_of(DIGEST_SHA256, token, size, out);
    if (expired) {
        uint8_t mixed[33];
        memcpy(mixed, out, 32);
        mixed[32] = 'x';
        digest_of(DIGEST_SHA256, mixed, sizeof(mixed), out);
    }
}

static const struct known_token *find(struct keystone *k, const char *token, bool expired)
{
    uint8_t digest[32];
    digest_token(token, expired, digest);
    return known_get(&k->known, digest, loop_now_ms(k->o.loop));
}

static bool is_service(const struct known_token *token)
{
    return token->good && (token->caller.roles & ROLE_SERVICE) != 0;
}

/* From what is known: 0, TSR_EUNAUTHORIZED, or TSR_EAGAIN with what to look up. Under the lock. */
static int decide(struct keystone *k, struct keystone_check *c, enum lookup *need)
{
    const struct known_token *user = find(k, c->token, false), *service = NULL, *expired = NULL;
    *need = LOOKUP_USER;
    if (user == NULL) {
        return TSR_EAGAIN;
    }
    if (user->good && access_rules_allow(&user->rules, "image", c->method, c->path)) {
        c->caller = user->caller;
        return 0;
    }
    if (c->service_token == NULL) {
        return TSR_EUNAUTHORIZED;
    }
    *need = LOOKUP_SERVICE;
    service = find(k, c->service_token, false);
    if (service == NULL) {
        return TSR_EAGAIN;
    }
    if (!is_service(service)) {
        return TSR_EUNAUTHORIZED;
    }
    if (user->good) { /* access rules bind users, not the services that act for them */
        c->caller = user->caller;
        return 0;
    }
    *need = LOOKUP_EXPIRED;
    expired = find(k, c->token, true);
    if (expired == NULL) {
        return TSR_EAGAIN;
    }
    if (!expired->good) {
        return TSR_EUNAUTHORIZED;
    }
    c->caller = expired->caller;
    return 0;
}

/* --- flights -----------------------------------------------------------------------------------
 */

static void flight_run(struct work *work);

/* Join the flight that looks @need up, or start it. 0 or TSR_EBUSY, TSR_ENOMEM. Under the lock. */
static int board(struct keystone *k, struct keystone_check *c, enum lookup need)
{
    const char *token = need == LOOKUP_SERVICE ? c->service_token : c->token;
    uint8_t digest[32];
    digest_token(token, need == LOOKUP_EXPIRED, digest);
    struct flight *f = map_get(&k->flights, digest, sizeof(digest));
    if (k->waiting >= KEYSTONE_WAITING_MAX || atomic_load(&k->stopping)) {
        return TSR_EBUSY;
    }
    if (f == NULL) {
        size_t size = strlen(token) + 1;
        f = calloc(1, sizeof(*f) + size);
        if (f == NULL || map_put(&k->flights, digest, sizeof(digest), f) != 0) {
            free(f);
            return TSR_ENOMEM;
        }
        f->k = k;
        f->expired = need == LOOKUP_EXPIRED;
        f->deadline_ms = keystone_deadline(k);
        f->work.run = flight_run;
        memcpy(f->digest, digest, sizeof(digest));
        memcpy(f->token, token, size);
        list_init(&f->waiters);
        pool_submit(k->o.pool, &f->work);
    }
    list_push(&f->waiters, &c->link);
    c->lookups++;
    k->waiting++;
    return 0;
}

/* How long an answer counts. */
static uint64_t good_for_ms(struct keystone *k, const struct flight *f, int64_t expires_us)
{
    int64_t left_ms = (expires_us - loop_wall_us(k->o.loop)) / 1000;
    if (f->expired) {
        left_ms += (int64_t)k->o.allow_expired_ms;
    }
    return left_ms <= 0 ? 0 : (uint64_t)left_ms < k->o.cache_ms ? (uint64_t)left_ms : k->o.cache_ms;
}

/* Keystone's answer into what shall be known. 0 or TSR_EUNAVAILABLE. */
static int read_answer(struct keystone *k, const struct flight *f,
                       const struct http_client_reply *reply, struct known_token *out)
{
    struct err err = {0};
    char text[ERR_MSG_SIZE];
    uint64_t now = loop_now_ms(k->o.loop), bad_ms = KEYSTONE_BAD_MS;
    if (reply->status == 200) {
        int rv = keystone_token_parse(reply->body.data, reply->body.size, &out->caller, &out->rules,
                                      &err);
        uint64_t good_ms = rv == 0 ? good_for_ms(k, f, out->caller.expires_us) : 0;
        if (rv != 0) {
            keystone_note(k, false, err.msg);
            return TSR_EUNAVAILABLE;
        }
        out->good = good_ms > 0;
        out->until_ms = now + good_ms;
    }
    if (reply->status != 200 && reply->status != 404) {
        (void)snprintf(
            text, sizeof(text),
            reply->status == 403
                ? "Keystone lets the service user check no tokens (HTTP %d): it needs "
                  "the role service or admin"
                : "Keystone's answer to the check of a token is not understood (HTTP %d)",
            reply->status);
        keystone_note(k, false, text);
        return TSR_EUNAVAILABLE;
    }
    if (!out->good) {
        out->until_ms = now + (bad_ms < k->o.cache_ms ? bad_ms : k->o.cache_ms);
    }
    keystone_note(k, true, "");
    return 0;
}

/* NULL with *status: nothing to be known. */
static struct known_token *ask(struct flight *f, int *status)
{
    struct keystone *k = f->k;
    struct http_client_reply reply;
    struct keystone_request q = {
        .method = "GET",
        .path = f->expired ? "/auth/tokens?nocatalog&allow_expired=1" : "/auth/tokens?nocatalog",
        .subject = f->token,
        .deadline_ms = f->deadline_ms,
    };
    metric_add(METRIC_keystone_lookups_total, 1);
    struct known_token *token = calloc(1, sizeof(*token));
    *status = token != NULL ? keystone_call(k, &q, &reply, NULL) : TSR_ENOMEM;
    if (*status == 0) {
        memcpy(token->digest, f->digest, sizeof(token->digest));
        *status = read_answer(k, f, &reply, token);
        http_client_reply_free(&reply);
    }
    if (*status != 0) {
        metric_add(METRIC_keystone_failed_total, 1);
        known_token_free(token);
        return NULL;
    }
    return token;
}

static void check_return(struct task *task)
{
    struct keystone_check *c = container_of(task, struct keystone_check, task);
    c->cb(c, c->status);
}

static void check_done(struct keystone_check *c, int status)
{
    c->status = status;
    c->task.run = check_return;
    loop_post(c->loop, &c->task);
}

/* The answer is there: decide, or on to the next look-up. Under the lock. */
static void land(struct keystone *k, struct keystone_check *c, int status)
{
    enum lookup need = LOOKUP_NONE;
    k->waiting--;
    if (status == 0) {
        status = decide(k, c, &need);
    }
    if (status == TSR_EAGAIN) {
        status = c->lookups < LOOKUPS_MAX ? board(k, c, need) : TSR_EUNAVAILABLE;
        if (status == 0) {
            return;
        }
    }
    check_done(c, status);
}

static void flight_run(struct work *work)
{
    struct flight *f = container_of(work, struct flight, work);
    struct keystone *k = f->k;
    int status = 0;
    struct known_token *token = ask(f, &status);
    pthread_mutex_lock(&k->lock);
    (void)map_del(&k->flights, f->digest, sizeof(f->digest));
    if (token != NULL) {
        known_put(&k->known, token);
    }
    struct list *node;
    while ((node = list_pop(&f->waiters)) != NULL) {
        land(k, container_of(node, struct keystone_check, link), status);
    }
    pthread_mutex_unlock(&k->lock);
    explicit_bzero(f->token, strlen(f->token));
    free(f);
}

int keystone_check(struct keystone *k, struct keystone_check *check)
{
    enum lookup need = LOOKUP_NONE;
    memset(&check->caller, 0, sizeof(check->caller));
    check->keystone = k;
    check->lookups = 0;
    list_init(&check->link);
    if (!keystone_token_text_ok(check->token)) {
        return TSR_EUNAUTHORIZED; /* nothing that Keystone would have made */
    }
    if (check->service_token != NULL && !keystone_token_text_ok(check->service_token)) {
        check->service_token = NULL;
    }
    pthread_mutex_lock(&k->lock);
    int status = decide(k, check, &need);
    if (status == TSR_EAGAIN) {
        status = board(k, check, need);
        status = status == 0 ? TSR_EAGAIN : status;
    }
    pthread_mutex_unlock(&k->lock);
    return status;
}
