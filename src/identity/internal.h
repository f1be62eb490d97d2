/* The object behind identity.h, and what its files share. */
#ifndef IDENTITY_INTERNAL_H
#define IDENTITY_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "tessera/identity.h"

enum { TOKEN_KEY_SIZE = 32, KEY_CACHE_SIZE = 16, FAILURE_SLOTS = 1024, CHECKED_SLOTS = 256 };
enum { PASSWORD_BYTES_MAX = 4096, AUTH_QUEUE_MAX = 64, FAILURES_MAX = 10 };

struct cached_key {
    bool used;
    uint32_t id;
    int64_t loaded_us;
    uint8_t secret[TOKEN_KEY_SIZE];
};

struct failure_slot {
    uint64_t who; /* 0 = free */
    uint64_t since_ms;
    unsigned count;
};

struct checked_slot {
    uint8_t digest[32]; /* SHA-256 of the token's text */
    uint64_t state;     /* meta_view_directory; 0 = free */
    struct caller caller;
};

struct identity {
    struct meta *meta;
    struct pool *auth_pool;
    uint8_t cluster_key[32];
    int64_t token_life_us, expired_window_us;
    /* Opened token keys, counts of failed logins and checked tokens, used by all workers. Locks,
     * not an atomic pointer: what is replaced holds secrets and must be wiped and freed at once,
     * which readers without a lock forbid. They are held for some memory accesses only, never over
     * I/O. */
    pthread_mutex_t key_lock, failure_lock, checked_lock;
    struct cached_key keys[KEY_CACHE_SIZE];
    struct failure_slot failures[FAILURE_SLOTS];
    struct checked_slot checked[CHECKED_SLOTS];
    atomic_bool duties_busy;
};

/* --- keys.c: records token_key {id, key (sealed, base64url), created_at} ------------------------
 */

/* A new key's record, with @id_out "%08x". */
int key_record_new(const uint8_t cluster_key[32], struct loop *loop, int64_t now_us, char id_out[9],
                   json_t **out);
/* TSR_EUNAUTHORIZED: no such key; TSR_EUNAVAILABLE. */
int key_find(struct identity *id, struct meta_view *view, uint32_t key_id, int64_t now_us,
             uint8_t out[TOKEN_KEY_SIZE]);
/* The key to sign with now. TSR_EUNAVAILABLE: there is none. */
int key_signing(struct identity *id, struct meta_view *view, int64_t now_us, uint32_t *key_id_out,
                uint8_t out[TOKEN_KEY_SIZE]);

/* --- checked.c: what identity_check found at a state of the directory
 * --------------------- */

bool checked_get(struct identity *id, const uint8_t digest[32], uint64_t state, int64_t now_us,
                 struct caller *out);
void checked_put(struct identity *id, const uint8_t digest[32], uint64_t state,
                 const struct caller *caller);

/* --- failures.c: too many failed logins of one user
 * -------------------------------------------------- */

uint64_t failure_key(const char *a, const char *b);
bool failures_exceeded(struct identity *id, uint64_t who, uint64_t now_ms);
void failures_add(struct identity *id, uint64_t who, uint64_t now_ms);

/* --- password.c
 * -------------------------------------------------------------------------------------- */

enum { PASSWORD_TEXT_MAX = 128 };
/* "scrypt$<salt>$<hash>". Blocking. */
int password_text(const char *password, const uint8_t salt[16], char out[PASSWORD_TEXT_MAX]);
/* Takes the same time whether or not @text (may be NULL) is a hash. Blocking. */
bool password_verify(const char *password, const char *text);

/* Store results as a login sees them: 0, TSR_EUNAUTHORIZED (absent), TSR_EUNAVAILABLE. */
int auth_code(int rv);

/* --- duties.c: what the leader would submit now; an array, empty most of the time
 * ------------------------ */
json_t *duties_commands(struct identity *id, struct loop *loop);

/* --- directory.c, for login and check
 * ------------------------------------------------------------------ */

/* {id, name, domain, user_id, project_id, roles[ids], secret, expires_at, access_rules[{id,
 * service, method, path}]} */
int appcred_apply(struct meta_view *view, int64_t now_us, struct caller *caller);

#endif
