/* What the files of the Identity face share. Private to api/identity_*.c. */
#ifndef TESSERA_API_IDENTITY_FACE_H
#define TESSERA_API_IDENTITY_FACE_H

#include "api/face.h"
#include "tessera/base/id.h"

enum { IDENT_URL_MAX = 640, IDENT_LIST_MAX = 100000, IDENT_PROJECT_MAX = 256 };
enum { IDENT_SHORT_NAME_MAX = 64 }; /* of domains and projects, as in Keystone */

/* "https://host:9292/identity/v3", as links of this request begin. */
void ident_url(struct api_req *r, char out[IDENT_URL_MAX]);
/* {"self": "<url>/<kinds>/<id>"} */
json_t *ident_links(struct api_req *r, const char *kinds, const char *id);
/* {"<kinds>": [...], "links": {...}}: reply 200. Takes @items; NULL is "out of memory". */
void ident_reply_list(struct api_req *r, const char *kinds, json_t *items);
/* Replies with all records of @kind, as @shown makes them; it returns NULL for what is left out. */
typedef json_t *(*ident_shown)(struct api_req *r, const json_t *record);
void ident_list(struct api_req *r, const char *kind, const char *kinds, ident_shown shown);
/* {"<kind>": object}. Takes @object. */
void ident_reply_one(struct api_req *r, int status, const char *kind, json_t *object);

/* 403 with the action's name. */
void ident_forbidden(struct api_req *r, const char *action);
/* Replies 403 and returns false unless the caller is an administrator. */
bool ident_admin(struct api_req *r, const char *action);
/* Role admin of a domain: rules the users and projects there, and nothing else. */
bool ident_domain_admin(const struct api_req *r);
/* May the caller administer what is in @domain_id (NULL: what is in no domain)? */
bool ident_rules(const struct api_req *r, const char *domain_id);
/* The record of @kind that the caller administers; else the reply (403, 404) was made: NULL. */
json_t *ident_read_ruled(struct api_req *r, const char *action, const char *kind, const char *id);
bool ident_self(const struct api_req *r, const char *user_id);
/* 404 "Could not find project: X." */
void ident_not_found(struct api_req *r, const char *kind, const char *id);
/* Record of the directory; on failure the reply (404, 503) was made and NULL is returned. */
json_t *ident_get(struct api_req *r, struct meta_view *view, const char *kind, const char *id);
/* The same with a view of its own. */
json_t *ident_read(struct api_req *r, const char *kind, const char *id);
/* "enabled" filters: absent, true or false. */
bool ident_filter_bool(const struct api_req *r, const char *name, bool value);
/* A text filter: absent, or equal (NULL equals nothing). */
bool ident_filter_text(const struct api_req *r, const char *name, const char *value);

/* Where something new goes when no domain is named. */
const char *ident_default_domain(const struct api_req *r);
void ident_new_id(struct api_req *r, char out[ID_HEX + 1]);

/* One directory command. Takes @value. */
json_t *ident_put(const char *kind, const char *id, json_t *value, const char *condition);
json_t *ident_delete(const char *kind, const char *id);

/* Submit and reply. Takes @command and @reply (NULL: an empty reply). */
struct ident_change {
    json_t *command;
    int status; /* of success */
    json_t *reply;
    const char *conflict; /* sentence of a 409; copied */
    const char *missing;  /* sentence of a 404; copied */
    bool secret;          /* the reply holds one: it is not kept for the same Idempotency-Key */
};
void ident_submit(struct api_req *r, const struct ident_change *change);

/* Hash @password (of r->body), then @then(r, hash text). Failures are replied. */
void ident_hash(struct api_req *r, const char *password,
                void (*then)(struct api_req *r, const char *hash));

/* Fields of request bodies. Each replies 400 and returns false on a wrong type or length. */
bool ident_text_field(struct api_req *r, const json_t *object, const char *key, size_t max);
bool ident_bool_field(struct api_req *r, const json_t *object, const char *key);
/* "name": not only blanks, at most @max characters. */
bool ident_name_field(struct api_req *r, const json_t *object, size_t max);
/* The object under @kind of the body, or NULL with a 400. */
json_t *ident_body(struct api_req *r, const char *kind);

/* identity_catalog.c */
/* Where clients find the service: @interface is public, internal or admin. false: no such
 * interface. */
bool ident_origin(struct api_req *r, struct meta_view *view, const char *interface, char *out,
                  size_t size);
json_t *ident_catalog(struct api_req *r, struct meta_view *view);
void ident_catalog_auth(struct api_req *r);
void ident_service_list(struct api_req *r);
void ident_service_get(struct api_req *r);
void ident_endpoint_list(struct api_req *r);
void ident_endpoint_get(struct api_req *r);
void ident_region_list(struct api_req *r);
void ident_region_get(struct api_req *r);

/* identity_auth.c */
void ident_token_create(struct api_req *r);
void ident_token_get(struct api_req *r);
void ident_token_delete(struct api_req *r);
void ident_auth_projects(struct api_req *r);
void ident_auth_domains(struct api_req *r);
void ident_auth_system(struct api_req *r);

/* identity_project.c */
json_t *ident_project_json(struct api_req *r, const json_t *record);
/* Enabled projects on which @user has a role; NULL: out of memory or the store failed. */
json_t *ident_projects_of(struct api_req *r, struct meta_view *view, const char *user,
                          bool enabled_only);
/* The id that @text is, or of the one project that has it as its name. 0, or it was replied. */
int ident_project_named(struct api_req *r, struct meta_view *view, const char *text,
                        char out[IDENT_PROJECT_MAX]);
void ident_project_list(struct api_req *r);
void ident_project_get(struct api_req *r);
void ident_project_create(struct api_req *r);
void ident_project_update(struct api_req *r);
void ident_project_delete(struct api_req *r);
/* All records of @kind that pass name and domain_id filters, found by name where one is given. */
int ident_named_records(struct api_req *r, struct meta_view *view, const char *kind,
                        json_t **array_out);

/* identity_user.c */
void ident_user_list(struct api_req *r);
void ident_user_get(struct api_req *r);
void ident_user_create(struct api_req *r);
void ident_user_update(struct api_req *r);
void ident_user_delete(struct api_req *r);
void ident_user_projects(struct api_req *r);
void ident_user_groups(struct api_req *r);
void ident_user_password(struct api_req *r);

/* identity_role.c */
void ident_role_list(struct api_req *r);
void ident_role_get(struct api_req *r);
void ident_grant_put(struct api_req *r);
void ident_grant_head(struct api_req *r);
void ident_grant_delete(struct api_req *r);
void ident_grant_list(struct api_req *r);
void ident_assignment_list(struct api_req *r);

/* identity_domain.c */
json_t *ident_domain_json(struct api_req *r, const json_t *record);
void ident_domain_list(struct api_req *r);
void ident_domain_get(struct api_req *r);
void ident_domain_create(struct api_req *r);
void ident_domain_update(struct api_req *r);
void ident_domain_delete(struct api_req *r);

/* identity_appcred.c */
void ident_appcred_list(struct api_req *r);
void ident_appcred_get(struct api_req *r);
void ident_appcred_create(struct api_req *r);
void ident_appcred_delete(struct api_req *r);
/* Did the token come from a credential that may not make or delete others? */
bool ident_appcred_bound(struct api_req *r);

/* identity_access.c */
void ident_access_list(struct api_req *r);
void ident_access_get(struct api_req *r);
void ident_access_delete(struct api_req *r);
/* "access_rules" of a new credential. false: replied. */
bool ident_access_fields_ok(struct api_req *r, const json_t *given);
/* What the credential's record keeps of its rules, and the commands that keep the rules themselves;
 * both NULL where there are none. false: replied. */
bool ident_access_rules(struct api_req *r, const json_t *given, json_t **rules_out,
                        json_t **puts_out);

#endif
