/* An external Keystone (identity = keystone): its tokens checked for the faces, the image service
 * and its endpoints registered in its catalog, the admin endpoint's URL kept current there.
 *
 * Tokens are validated by GET /v3/auth/tokens with the token of a service user, and known for
 * cache_ms, never past their end; refused ones for 10 s at most. They are kept by SHA-256, never as
 * text. One validation a token is under way at a time; all of them together have a bounded queue
 * and threads of their own, so that a Keystone which hangs holds up nobody but those who need it.
 * Lifetime: keystone_new -> checks and jobs -> keystone_stop -> the pool's end -> keystone_free.
 * Thread: any. */
#ifndef TESSERA_IDENTITY_KEYSTONE_H
#define TESSERA_IDENTITY_KEYSTONE_H

#include "tessera/base/list.h"
#include "tessera/identity.h"

struct keystone;
/* Texts are borrowed for the life of the object; "" = not set. */
struct keystone_options {
    struct loop *loop;   /* for the time alone */
    struct pool *pool;   /* of its own: its threads wait for Keystone */
    const char *url;     /* "https://host:5000", with or without "/v3" */
    const char *ca_file; /* "": the system's authorities */
    /* The service user: by password, or by application credential. The files hold the secret in
     * their first line and are read at each login, so a new secret needs no restart. */
    const char *username, *password_file, *user_domain, *project, *project_domain;
    const char *appcred_id, *appcred_secret_file;
    uint64_t cache_ms, timeout_ms; /* timeout: for a whole check, waiting included */
    uint64_t allow_expired_ms;     /* how long after its end a token serves a service's call */
};
/* TSR_EINVAL (URL, a secret's file can not be read or is open to all), TSR_ENOMEM. */
int keystone_new(const struct keystone_options *options, struct keystone **out, struct err *err);
/* Refuse new checks, end those under way within about a second. The loops of pending ones must run
 * until the pool has ended. */
void keystone_stop(struct keystone *k);
void keystone_free(struct keystone *k); /* after the pool */

/* --- checking a token --------------------------------------------------------------------------
 */

struct keystone_check {
    struct loop *loop;         /* where cb runs */
    const char *token;         /* borrowed until the end, as all texts here */
    const char *service_token; /* X-Service-Token, or NULL */
    const char *method, *path; /* of the request, for access rules */
    void (*cb)(struct keystone_check *check, int status); /* status as returned below */
    void *arg;
    struct caller caller; /* out, on 0 */
    /* private */
    struct task task;
    struct list link;
    struct keystone *keystone;
    int status;
    unsigned lookups;
};
/* 0: valid. TSR_EUNAUTHORIZED: it is not. TSR_EBUSY: too many are waiting. All of these at once,
 * without cb. TSR_EAGAIN: Keystone is asked, and cb gets one of these or TSR_EUNAVAILABLE (no
 * answer, no good one, or the service user is refused). */
int keystone_check(struct keystone *k, struct keystone_check *check);

/* Is Keystone of use? False after a call that failed, until the next that did not. @text says why.
 */
bool keystone_works(struct keystone *k, char *text, size_t size);

/* --- its catalog -------------------------------------------------------------------------------
 */

enum { KEYSTONE_INTERFACES = 3 };
extern const char *const keystone_interfaces[KEYSTONE_INTERFACES]; /* public, internal, admin */

/* A blocking job on Keystone's threads. Belongs to the caller until cb has run on @loop. */
struct keystone_job {
    struct loop *loop;
    const char *token; /* act with this one; NULL: with the service user's */
    const char *region;
    const char *urls[KEYSTONE_INTERFACES]; /* register: all three */
    uint64_t epoch;                        /* move: of the admin endpoint */
    const json_t *hosts;                   /* move: API URLs of this cluster's hosts */
    void (*cb)(struct keystone_job *job, int status);
    void *arg;
    json_t *result; /* out, a new reference or NULL */
    struct err err;
    /* private */
    struct work work;
    struct keystone *keystone;
    bool move;
};
/* Make what is missing: service `image` named glance, its endpoints in the region (their URLs set),
 * the roles reader, member, admin and service. Doing it again changes nothing. Result
 * {service_id, region, endpoints {public, internal, admin: {id, url}}, done [sentences]}. */
void keystone_register(struct keystone *k, struct keystone_job *job);
/* Let the registered admin endpoint have urls[2]. Left alone where there is none, or where its URL
 * is none of @hosts: then it is the operator's own. TSR_EVERSION: a later epoch was there before.
 * Result {state: "current" | "moved" | "unregistered" | "foreign", url}. */
void keystone_move(struct keystone *k, struct keystone_job *job);

/* The leader's duty: Keystone's admin endpoint follows the cluster's. Control loop. */
struct keystone_keeper;
struct keystone_keeper_options {
    struct loop *loop;
    struct keystone *keystone;
    struct meta *meta;
    const char *region;
    uint64_t timeout_ms;      /* of a call: a predecessor's can arrive so late */
    bool (*leads)(void *arg); /* this host leads the cluster */
    void *arg;
};
int keystone_keeper_new(const struct keystone_keeper_options *options,
                        struct keystone_keeper **out);
/* Ends with @cb; the keeper is gone then. */
void keystone_keeper_close(struct keystone_keeper *keeper, void (*cb)(void *arg), void *arg);
/* Why Keystone's admin endpoint is not current; false when it is, or when others lead. */
bool keystone_keeper_trouble(const struct keystone_keeper *keeper, char *text, size_t size);

#endif
