/* The object behind identity/keystone.h, and what its files share. */
#ifndef IDENTITY_KEYSTONE_INTERNAL_H
#define IDENTITY_KEYSTONE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "identity/access.h"
#include "tessera/base/map.h"
#include "tessera/identity/keystone.h"
#include "tessera/sys/http_client.h"

enum {
    KEYSTONE_URL_MAX = 1024,
    KEYSTONE_GOOD_MAX = 8192, /* valid tokens known at a time; the longest unused one makes room */
    KEYSTONE_BAD_MAX = 2048,  /* refused ones, counted apart: a flood of them evicts no good one */
    KEYSTONE_BAD_MS = 10000,
    KEYSTONE_WAITING_MAX = 1024,
    KEYSTONE_SESSIONS_MAX = 16,
    KEYSTONE_RENEW_US = 60 * 1000000, /* the service token is renewed so long before its end, */
    KEYSTONE_RENEW_PART = 4,          /* or in the last quarter of a short life */
};

/* --- keystone_token.c: what Keystone says of a token. Pure -------------------------------------
 */

/* The body of GET or POST /v3/auth/tokens. Roles count in any letter case; what they imply is
 * Keystone's to say. TSR_EPROTO with a reason: it is none, or ids are longer than ours may be.
 * @rules_out (may be NULL) is freed by access_rules_free. */
int keystone_token_parse(const char *body, size_t size, struct caller *caller_out,
                         struct access_rules *rules_out, struct err *err);
/* Printable ASCII without blanks, not longer than a token may be. */
bool keystone_token_text_ok(const char *token);

/* --- keystone_cache.c: tokens that were looked at, under keystone->lock -------------------------
 */

struct known_token {
    struct list link; /* in order of use */
    uint8_t digest[32];
    bool good;
    uint64_t until_ms; /* of the loop's clock */
    struct caller caller;
    struct access_rules rules;
};
struct known_tokens {
    struct map map;
    struct list good, bad; /* least lately used first */
    size_t good_count, bad_count;
};
void known_init(struct known_tokens *known);
void known_free(struct known_tokens *known);
/* NULL if absent or past its time. */
const struct known_token *known_get(struct known_tokens *known, const uint8_t digest[32],
                                    uint64_t now_ms);
/* Takes @token and frees it when it goes; one of the same digest is replaced. */
void known_put(struct known_tokens *known, struct known_token *token);
void known_token_free(struct known_token *token);

/* --- keystone_client.c: calls with the service user's token. Blocking ---------------------------
 */

struct keystone {
    struct keystone_options o;
    char base[KEYSTONE_URL_MAX]; /* ends in "/v3" */
    atomic_bool stopping;

    /* Tokens that are known and look-ups under way, met by all workers and by the pool. A lock, as
     * in struct identity, held for memory accesses only. */
    pthread_mutex_t lock;
    struct known_tokens known;
    struct map flights; /* digest -> struct flight */
    size_t waiting;
    struct http_client_session *sessions[KEYSTONE_SESSIONS_MAX];
    size_t session_count;
    bool works;
    char trouble[ERR_MSG_SIZE];
    uint64_t told_ms;
    char *service_token;
    int64_t service_renew_us;    /* from then on it is renewed */
    uint64_t service_generation; /* counts logins that were tried */
    int service_status;          /* of the last one */

    pthread_mutex_t
        login_lock; /* one login at a time; held over it, by threads of the pool alone */
};

struct keystone_request {
    const char *method, *path; /* path: after "/v3" */
    const char *subject;       /* X-Subject-Token, or NULL */
    const char *token;         /* act with this one; NULL: with the service user's */
    json_t *body;              /* borrowed; NULL = none */
    uint64_t deadline_ms;
};
/* Any HTTP status is 0: look at @reply, which is freed by http_client_reply_free. With the service
 * user's token a 401 is tried once more with a new one, and is TSR_EUNAVAILABLE when that does not
 * help either. TSR_EUNAVAILABLE also when Keystone does not answer in time, or refuses the service
 * user's login. */
int keystone_call(struct keystone *k, const struct keystone_request *request,
                  struct http_client_reply *reply, struct err *err);
uint64_t keystone_deadline(struct keystone *k);
void keystone_note(struct keystone *k, bool works, const char *text);
int keystone_secret_readable(const char *path, struct err *err);
void keystone_client_free(struct keystone *k);

#endif
