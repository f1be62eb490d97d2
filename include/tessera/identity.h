/* Who asks: tokens, the directory of domains, projects, users and roles, and who may do what.
 *
 * Embedded identity (Identity API v3 subset): records live in the metadata store, tokens are signed
 * ("tsr1." + base64url of fields + HMAC-SHA256) and checked by any host without a look-up of the
 * token; roles and enabled flags are read from the local store at each use. An external Keystone
 * comes behind the same identity_check later. Passwords by scrypt in the auth pool. Thread: any
 * loop; views are the caller's. */
#ifndef TESSERA_IDENTITY_H
#define TESSERA_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"
#include "tessera/base/json.h"
#include "tessera/meta.h"
#include "tessera/sys/loop.h"

enum { IDENTITY_ID_MAX = 64, IDENTITY_NAME_MAX = 255, TOKEN_TEXT_MAX = 8192 };

enum caller_role { ROLE_ADMIN = 1, ROLE_MEMBER = 2, ROLE_READER = 4, ROLE_SERVICE = 8 };
enum caller_scope { SCOPE_NONE, SCOPE_PROJECT, SCOPE_DOMAIN, SCOPE_SYSTEM };

struct policy_rules;
struct property_rules;

/* A checked token, as the layers above use it. roles has the implied ones (admin > member >
 * reader). */
struct caller {
    enum caller_scope scope;
    unsigned roles;
    char other_roles[512]; /* an external Keystone's other ones: each name, then a line feed */
    char user_id[IDENTITY_ID_MAX + 1], user_name[IDENTITY_NAME_MAX + 1];
    char user_domain_id[IDENTITY_ID_MAX + 1], user_domain_name[IDENTITY_NAME_MAX + 1];
    char project_id[IDENTITY_ID_MAX + 1], project_name[IDENTITY_NAME_MAX + 1]; /* "" if unscoped */
    char project_domain_id[IDENTITY_ID_MAX + 1], project_domain_name[IDENTITY_NAME_MAX + 1];
    char domain_id[IDENTITY_ID_MAX + 1]; /* scope domain */
    char audit_id[24];
    char methods[64]; /* "password,token" */
    char appcred_id[IDENTITY_ID_MAX + 1];
    bool ruled; /* by the access rules of its application credential */
    int64_t issued_us, expires_us;
    /* The operator's own rules (identity/rules.h); NULL: the built-in ones. Borrowed. */
    const struct policy_rules *rules;
    const struct property_rules *properties;
    bool public_in_domain; /* public images are those of its own domain's projects */
    /* Idempotency-Key: the command that this request becomes. */
    bool keyed;
    uint8_t key_id[16];
    char key_fp[65];  /* of the body: a key is for one request */
    bool local_admin; /* came over the local socket: cluster administrator without a token */
};
/* Administrator of the service: role admin on a project or the system. Who administers a domain
 * only is none: the cluster and its images are not the domain's. */
static inline bool caller_is_admin(const struct caller *c)
{
    return (c->roles & ROLE_ADMIN) != 0 && (c->scope == SCOPE_PROJECT || c->scope == SCOPE_SYSTEM);
}

struct identity;
struct identity_options {
    struct meta *meta;
    struct pool *auth_pool;
    const uint8_t *cluster_key; /* 32 bytes; seals token keys in the store */
    int64_t token_life_us;
    int64_t expired_window_us; /* identity_check_expired takes tokens that ended since then */
};
int identity_new(const struct identity_options *options, struct identity **out);
void identity_free(struct identity *id);

/* The commands that make a cluster's first directory: domain Default, projects admin and service,
 * user admin with @password (role admin on project admin), the four roles, the first token key. An
 * array of dir.put commands for a `batch`. Blocking (scrypt). */
int identity_init_commands(const uint8_t cluster_key[32], const char *password, struct loop *loop,
                           json_t **commands_out);

/* Check a token: signature, time, revocation, user and project enabled, valid_from; fills *out with
 * roles read now. 0, TSR_EUNAUTHORIZED, TSR_EUNAVAILABLE (store). Any thread; no blocking. */
int identity_check(struct identity *id, struct meta_view *view, const char *token, int64_t now_us,
                   struct caller *out);
/* The same for a token that a service brought along with its own: it may have ended meanwhile, as
 * far back as the window. Everything else (revoked, disabled, roles) is judged as of now. */
int identity_check_expired(struct identity *id, struct meta_view *view, const char *token,
                           int64_t now_us, struct caller *out);
/* Do the access rules of the caller's application credential allow the request? 0 (also where there
 * are no rules), TSR_EUNAUTHORIZED, TSR_EUNAVAILABLE (store). */
int identity_access_check(struct meta_view *view, const struct caller *caller, const char *service,
                          const char *method, const char *path);
/* Issue a token text for @caller's user and scope; @out has at least 512 bytes. TSR_EUNAVAILABLE:
 * no key. */
int identity_issue(struct identity *id, struct meta_view *view, const struct caller *caller,
                   char *out, size_t out_size);

/* POST /v3/auth/tokens: @body is the request's JSON; password hashing in the auth pool (bounded
 * queue; TSR_EBUSY), failed logins limited (TSR_ETOOMANY). All failures of name, password, scope
 * look the same (TSR_EUNAUTHORIZED, same time). */
struct identity_login;
typedef void (*identity_login_cb)(struct identity_login *req, int status, const struct err *err);
struct identity_login {
    struct loop *loop;
    const json_t *body;
    identity_login_cb cb;
    void *arg;
    struct caller caller; /* out */
    /* private */
    struct work work;
    struct identity *identity;
    void *state[6];
};
void identity_login_start(struct identity *id, struct identity_login *req);

/* Salted hash for storing a password, in the auth pool: out text "scrypt$<salt hex>$<hash hex>". */
struct identity_hash {
    struct loop *loop;
    const char *password;
    void (*cb)(struct identity_hash *req, int status, const char *text);
    void *arg;
    struct work work;
    uint8_t salt[16];
    char text[128];
    int status;
};
void identity_hash_start(struct identity *id, struct identity_hash *req);

/* Duties of the leader, called once a minute on a loop: rotate token keys daily, drop old keys,
 * expired revocations, join tokens. What it submits ends with meta_detach at the latest: free the
 * identity after that, when the loop has run once more. */
void identity_duties(struct identity *id, struct loop *loop);

/* --- the directory's fixed parts, for the identity face
 * --------------------------------------------------- */
enum { IDENTITY_ROLES = 4, ASSIGNMENT_ID_MAX = 3 * IDENTITY_ID_MAX + 16 };
struct identity_role {
    unsigned bit; /* enum caller_role */
    const char *name;
    const char *id; /* the same in every cluster */
};
/* In order of name: admin, member, reader, service. */
extern const struct identity_role identity_role_table[IDENTITY_ROLES];
const struct identity_role *identity_role_find(const char *id); /* NULL if unknown */
unsigned identity_roles_implied(unsigned roles);                /* admin > member > reader */
/* Id of the record that gives @user a role: "u:<user>:<p|d|s>:<target>:r:<role>"; with @role_id
 * NULL the prefix of all roles there. Its value: {user_id, project_id|domain_id|system, role_id}.
 */
void identity_assignment_id(const char *user, enum caller_scope scope, const char *target,
                            const char *role_id, char out[ASSIGNMENT_ID_MAX]);
/* Roles assigned there, without the implied ones. @target is not read for the system, whose
 * administrators are also those of project admin. 0 or TSR_EUNAVAILABLE. */
int identity_roles_assigned(struct meta_view *view, const char *user, enum caller_scope scope,
                            const char *target, unsigned *roles_out);
/* User, scope and roles as of now into a caller (times, methods, audit id stay as they are).
 * Whatever is absent or disabled, or no role on the scope: TSR_EUNAUTHORIZED; TSR_EUNAVAILABLE.
 * @valid_from_out: tokens issued before are void. */
int identity_caller_fill(struct meta_view *view, const char *user, enum caller_scope scope,
                         const char *target, struct caller *caller, int64_t *valid_from_out);

/* --- policy (pure): may this caller do that to this image?
 * --------------------------------------------- */
enum image_action {
    ACT_LIST,
    ACT_SHOW,
    ACT_DOWNLOAD,
    ACT_CREATE,
    ACT_UPLOAD,
    ACT_MODIFY,
    ACT_DELETE,
    ACT_PUBLICIZE,
    ACT_COMMUNITIZE,
    ACT_DEACTIVATE,
    ACT_REACTIVATE,
    ACT_MEMBER_ADD,
    ACT_MEMBER_REMOVE,
    ACT_MEMBER_STATUS,
    ACT_CHANGE_OWNER,
    ACT_LOCATIONS_READ,
    ACT_LOCATIONS_ADD,
    ACT_STORES_DETAIL,
    ACT_TASKS,
    ACT_CACHE_LIST,
    ACT_CACHE_IMAGE,
    ACT_CACHE_DELETE,
    ACT_COPY,
    ACT_MEMBER_GET,
    ACT_MEMBER_LIST,
    ACT_STORE_DELETE,
    ACT_METADEF_READ,
    ACT_METADEF_WRITE,
};
/* @image: record or NULL for actions without one. @is_member: the caller's project has a member
 * entry. 0; TSR_ENOENT: invisible, so it does not exist for this caller; TSR_EFORBIDDEN with the
 * sentence of image-api section 6. */
int policy_image(const struct caller *caller, enum image_action action, const json_t *image,
                 bool is_member, struct err *err);
/* Visible at all (section 3.4)? */
bool policy_image_visible(const struct caller *caller, const json_t *image, bool is_member);

#endif
