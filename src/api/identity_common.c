/* Helpers of the Identity face: links, lists, checks of rights and fields, and the one way in which
 * a change is submitted and answered. */
#include "api/identity_face.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/str.h"

/* --- rendering
 * ------------------------------------------------------------------------------------ */

void ident_url(struct api_req *r, char out[IDENT_URL_MAX])
{
    char origin[512];
    api_public_url(r, origin, sizeof(origin));
    (void)snprintf(out, IDENT_URL_MAX, "%s/identity/v3", origin);
}

json_t *ident_links(struct api_req *r, const char *kinds, const char *id)
{
    char url[IDENT_URL_MAX];
    ident_url(r, url);
    return json_pack("{s:s++++}", "self", url, "/", kinds, "/", id);
}

void ident_reply_list(struct api_req *r, const char *kinds, json_t *items)
{
    char origin[512];
    const char *query = http_query(r->http);
    api_public_url(r, origin, sizeof(origin));
    api_json(r, 200,
             json_pack("{s:o,s:{s:s+++,s:n,s:n}}", kinds, items, "links", "self", origin,
                       http_path(r->http), query[0] != '\0' ? "?" : "", query, "next", "previous"));
}

void ident_list(struct api_req *r, const char *kind, const char *kinds, ident_shown shown)
{
    struct meta_view *view = api_view(r);
    json_t *all = NULL, *record;
    size_t i;
    if (view == NULL) {
        return;
    }
    int rv = meta_dir_list(view, kind, "", "", IDENT_LIST_MAX, &all);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, NULL);
        return;
    }
    json_t *list = json_array();
    json_array_foreach(all, i, record)
    {
        json_t *item = shown(r, record);
        if (item != NULL) {
            (void)json_array_append_new(list, item);
        }
    }
    json_decref(all);
    ident_reply_list(r, kinds, list);
}

void ident_reply_one(struct api_req *r, int status, const char *kind, json_t *object)
{
    api_json(r, status, json_pack("{s:o}", kind, object));
}

/* --- rights and look-ups
 * ----------------------------------------------------------------------------- */

void ident_forbidden(struct api_req *r, const char *action)
{
    api_errorf(r, TSR_EFORBIDDEN, "You are not authorized to perform the requested action: %s.",
               action);
}

bool ident_admin(struct api_req *r, const char *action)
{
    if (r->caller.local_admin || caller_is_admin(&r->caller)) {
        return true;
    }
    ident_forbidden(r, action);
    return false;
}

bool ident_domain_admin(const struct api_req *r)
{
    return r->caller.scope == SCOPE_DOMAIN && (r->caller.roles & ROLE_ADMIN) != 0;
}

bool ident_rules(const struct api_req *r, const char *domain_id)
{
    return r->caller.local_admin || caller_is_admin(&r->caller) ||
           (domain_id != NULL && ident_domain_admin(r) &&
            strcmp(r->caller.domain_id, domain_id) == 0);
}

/* What is not there is 404 only for who could have known. */
json_t *ident_read_ruled(struct api_req *r, const char *action, const char *kind, const char *id)
{
    if (!ident_domain_admin(r) && !ident_admin(r, action)) {
        return NULL;
    }
    json_t *record = ident_read(r, kind, id);
    if (record != NULL && !ident_rules(r, json_str_or(record, "domain_id", "default"))) {
        json_decref(record);
        ident_forbidden(r, action);
        return NULL;
    }
    return record;
}

bool ident_self(const struct api_req *r, const char *user_id)
{
    return r->caller.user_id[0] != '\0' && strcmp(r->caller.user_id, user_id) == 0;
}

void ident_not_found(struct api_req *r, const char *kind, const char *id)
{
    api_errorf(r, TSR_ENOENT, "Could not find %s: %.64s.", kind, id);
}

json_t *ident_get(struct api_req *r, struct meta_view *view, const char *kind, const char *id)
{
    json_t *record = NULL;
    int rv = meta_dir_get(view, kind, id, &record);
    if (rv == TSR_ENOENT) {
        ident_not_found(r, kind, id);
    } else if (rv != 0) {
        api_error(r, rv, NULL);
    }
    return rv == 0 ? record : NULL;
}

json_t *ident_read(struct api_req *r, const char *kind, const char *id)
{
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return NULL;
    }
    json_t *record = NULL;
    int rv = meta_dir_get(view, kind, id, &record);
    meta_view_close(view);
    if (rv == TSR_ENOENT) {
        ident_not_found(r, kind, id);
    } else if (rv != 0) {
        api_error(r, rv, NULL);
    }
    return rv == 0 ? record : NULL;
}

bool ident_filter_bool(const struct api_req *r, const char *name, bool value)
{
    const char *want = api_param(r, name);
    if (want == NULL) {
        return true;
    }
    bool no = str_ieq(want, "false") || strcmp(want, "0") == 0;
    return value == !no;
}

bool ident_filter_text(const struct api_req *r, const char *name, const char *value)
{
    const char *want = api_param(r, name);
    return want == NULL || (value != NULL && strcmp(want, value) == 0);
}

const char *ident_default_domain(const struct api_req *r)
{
    return r->caller.domain_id[0] != '\0'        ? r->caller.domain_id
           : r->caller.user_domain_id[0] != '\0' ? r->caller.user_domain_id
                                                 : "default";
}

void ident_new_id(struct api_req *r, char out[ID_HEX + 1])
{
    uint8_t bytes[ID_HEX / 2];
    loop_random(r->o->loop, bytes, sizeof(bytes));
    hex_encode(bytes, sizeof(bytes), out);
}

/* --- fields
 * ------------------------------------------------------------------------------------------- */

json_t *ident_body(struct api_req *r, const char *kind)
{
    json_t *object = json_obj(r->body, kind);
    if (object == NULL) {
        api_errorf(r, TSR_EINVAL, "Invalid input for field '%s': an object is expected.", kind);
    }
    return object;
}

bool ident_text_field(struct api_req *r, const json_t *object, const char *key, size_t max)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (!json_is_string(value) || json_string_length(value) > max) {
        api_errorf(r, TSR_EINVAL,
                   "Invalid input for field '%s': text of at most %zu bytes is expected.", key,
                   max);
        return false;
    }
    return true;
}

bool ident_name_field(struct api_req *r, const json_t *object, size_t max)
{
    const json_t *value = json_object_get(object, "name");
    const char *name = json_string_value(value);
    if (value == NULL) {
        return true;
    }
    if (name == NULL || name[strspn(name, " \t\r\n")] == '\0' || utf8_length(name) > max ||
        strlen(name) > IDENTITY_NAME_MAX) {
        api_errorf(r, TSR_EINVAL,
                   "Invalid input for field 'name': text of 1 to %zu characters is expected.", max);
        return false;
    }
    return true;
}

bool ident_bool_field(struct api_req *r, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL || json_is_boolean(value)) {
        return true;
    }
    api_errorf(r, TSR_EINVAL, "Invalid input for field '%s': true or false is expected.", key);
    return false;
}

/* --- changes
 * ------------------------------------------------------------------------------------------- */

json_t *ident_put(const char *kind, const char *id, json_t *value, const char *condition)
{
    return json_pack("{s:s,s:s,s:s,s:o,s:s}", "op", "dir.put", "kind", kind, "id", id, "value",
                     value, "if", condition);
}

json_t *ident_delete(const char *kind, const char *id)
{
    return json_pack("{s:s,s:s,s:s}", "op", "dir.delete", "kind", kind, "id", id);
}

struct change_op {
    struct meta_submit submit;
    struct api_req *r;
    int status;
    json_t *reply;
    char conflict[ERR_MSG_SIZE], missing[ERR_MSG_SIZE];
};

static void op_free(struct change_op *op)
{
    json_decref(op->reply);
    free(op);
}

static void op_reply(struct change_op *op, int status, const struct err *err)
{
    struct api_req *r = op->r;
    if (status == TSR_EEXIST && op->conflict[0] != '\0') {
        api_errorf(r, status, "%s", op->conflict);
    } else if (status == TSR_ENOENT && op->missing[0] != '\0') {
        api_errorf(r, status, "%s", op->missing);
    } else if (status != 0) {
        api_error(r, status, err);
    } else if (op->reply != NULL) {
        api_json(r, op->status, json_incref(op->reply));
    } else {
        api_empty(r, op->status);
    }
}

static void submitted(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct change_op *op = req->arg;
    const json_t *answer = json_obj(result, "answer");
    if (status == 0 && answer != NULL) { /* of the first of two requests under one key */
        json_decref(op->reply);
        op->reply = json_incref(json_object_get(answer, "body"));
    }
    if (!api_release(op->r)) {
        op_reply(op, status, err);
    }
    op_free(op);
}

void ident_submit(struct api_req *r, const struct ident_change *change)
{
    struct change_op *op = calloc(1, sizeof(*op));
    if (op == NULL || change->command == NULL || (change->status != 204 && change->reply == NULL)) {
        free(op);
        json_decref(change->command);
        json_decref(change->reply);
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    op->r = r;
    op->status = change->status;
    op->reply = change->reply;
    (void)str_copy(op->conflict, sizeof(op->conflict), change->conflict ? change->conflict : "");
    (void)str_copy(op->missing, sizeof(op->missing), change->missing ? change->missing : "");
    op->submit.loop = r->o->loop;
    op->submit.command = change->command;
    op->submit.cb = submitted;
    op->submit.arg = op;
    if (r->caller.keyed && !change->secret) {
        memcpy(op->submit.id, r->caller.key_id, COMMAND_ID_SIZE);
        (void)json_set_str(op->submit.command, "fp", r->caller.key_fp);
        if (op->reply != NULL) {
            (void)json_object_set_new(
                op->submit.command, "answer",
                json_pack("{s:i,s:O}", "status", op->status, "body", op->reply));
        }
    }
    api_hold(r);
    meta_submit(r->o->meta, &op->submit);
}

/* --- password hashes
 * -------------------------------------------------------------------------------------- */

struct hash_op {
    struct identity_hash req;
    struct api_req *r;
    void (*then)(struct api_req *r, const char *hash);
};

static void hashed(struct identity_hash *req, int status, const char *text)
{
    struct hash_op *op = req->arg;
    if (!api_release(op->r)) {
        if (status != 0) {
            api_error(op->r, status, NULL);
        } else {
            op->then(op->r, text);
        }
    }
    free(op);
}

void ident_hash(struct api_req *r, const char *password,
                void (*then)(struct api_req *r, const char *hash))
{
    struct hash_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    op->r = r;
    op->then = then;
    op->req.loop = r->o->loop;
    op->req.password = password;
    op->req.cb = hashed;
    op->req.arg = op;
    api_hold(r);
    identity_hash_start(r->o->identity, &op->req);
}
