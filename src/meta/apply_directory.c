/* Commands on the directory: small records of identity and cluster, by kind and id; names are
 * unique per kind and domain. */
#include <string.h>

#include "meta/apply.h"

/* Key of the name index, if @value is named; false if not. */
static bool name_key(struct key *key, const char *kind, const json_t *value)
{
    const char *name = json_str(value, "name");
    if (name == NULL) {
        return false;
    }
    key_of_dir_name(key, kind, dir_domain(kind, value), name);
    return true;
}

/* Does another entry have this name? */
static int name_check(struct apply *a, const struct key *key, const char *id)
{
    struct kv_val value;
    const char *text;
    size_t size;
    int rc = writeset_get(&a->w, DB_DIR_NAME, key_val(key), &value);
    if (rc == TSR_ENOENT) {
        return 0;
    }
    if (rc == 0) {
        rc = record_decode(key_val(key), value, &text, &size);
    }
    if (rc != 0) {
        a->w.error = rc;
        return rc;
    }
    if (size != strlen(id) || memcmp(text, id, size) != 0) {
        return apply_refuse(a, TSR_EEXIST, "The name is in use.");
    }
    return 0;
}

static int put_check(struct apply *a, const json_t *cmd, bool exists)
{
    const char *mode = json_str_or(cmd, "if", "any");
    if (strcmp(mode, "absent") == 0) {
        return exists ? apply_refuse(a, TSR_EEXIST, "The id is in use.") : 0;
    }
    if (strcmp(mode, "present") == 0) {
        return exists ? 0 : apply_refuse(a, TSR_ENOENT, "No such entry.");
    }
    return strcmp(mode, "any") == 0 ? 0 : apply_refuse(a, TSR_EINVAL, "Invalid condition.");
}

/* A command made from a version of the entry is only for that version (docs/adr/0002). */
static int version_check(struct apply *a, const json_t *cmd, const json_t *old)
{
    const json_t *made_from = json_object_get(cmd, "version");
    if (made_from == NULL) {
        return 0;
    }
    if (!json_is_integer(made_from)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid version of a directory entry.");
    }
    return json_integer_value(made_from) == json_int(old, "version", 0)
               ? 0
               : apply_refuse(a, TSR_EVERSION, "The entry was changed meanwhile.");
}

static int ids_ok(struct apply *a, const char *kind, const char *id)
{
    if (!dir_kind_ok(kind)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid kind of a directory entry.");
    }
    if (id == NULL || *id == 0 || strlen(id) > DIR_ID_MAX) {
        return apply_refuse(a, TSR_EINVAL, "Invalid id of a directory entry.");
    }
    return 0;
}

static void dir_store(struct apply *a, const char *kind, const char *id, const json_t *old,
                      const json_t *value)
{
    struct key key, name;
    if (old != NULL && name_key(&name, kind, old)) {
        writeset_del(&a->w, DB_DIR_NAME, key_val(&name));
    }
    key_of_dir(&key, kind, id);
    if (value == NULL) {
        writeset_del(&a->w, DB_DIR, key_val(&key));
        return;
    }
    writeset_put_json(&a->w, DB_DIR, &key, value);
    if (name_key(&name, kind, value)) {
        writeset_put_text(&a->w, DB_DIR_NAME, &name, id, strlen(id));
    }
}

int apply_dir_put(struct apply *a, const json_t *cmd)
{
    const char *kind = json_str(cmd, "kind"), *id = json_str(cmd, "id");
    const json_t *given = json_obj(cmd, "value");
    json_t *old = NULL, *value = NULL;
    struct key key, name;
    int rc = ids_ok(a, kind, id);
    if (rc == 0 && (given == NULL || strcmp(json_str_or(given, "id", id), id) != 0)) {
        rc = apply_refuse(a, TSR_EINVAL, "Invalid value of a directory entry.");
    }
    if (rc == 0) {
        key_of_dir(&key, kind, id);
        rc = writeset_get_json(&a->w, DB_DIR, &key, &old);
        rc = rc == TSR_ENOENT ? 0 : rc;
    }
    if (rc == 0) {
        rc = put_check(a, cmd, old != NULL);
    }
    if (rc == 0) {
        rc = version_check(a, cmd, old);
    }
    if (rc == 0 && name_key(&name, kind, given)) {
        rc = name_check(a, &name, id);
    }
    if (rc == 0 && (value = apply_copy(a, given)) != NULL) {
        put_str(a, value, "id", id);
        dir_store(a, kind, id, old, value);
        if (json_obj(cmd, "answer") != NULL) { /* what the client is told, also the next time */
            apply_result(a, "answer", apply_copy(a, json_obj(cmd, "answer")));
        }
    }
    json_decref(value);
    json_decref(old);
    return rc;
}

/* --- deleting, with what hangs on it
 * --------------------------------------------------------------- */

struct cascade {
    const char *field, *other_field, *id;
    bool plain;    /* the id looks the same inside JSON text */
    json_t *found; /* array of values */
};

static int cascade_match(void *arg, struct kv_val key, struct kv_val value)
{
    struct cascade *c = arg;
    const char *text;
    size_t size;
    json_t *entry;
    int rc = record_decode(key, value, &text, &size);
    if (rc != 0 || (c->plain && memmem(text, size, c->id, strlen(c->id)) == NULL)) {
        return rc; /* most entries are told apart without parsing */
    }
    rc = record_parse(key, value, &entry);
    if (rc != 0) {
        return rc;
    }
    const char *owner = json_str(entry, c->field);
    if (owner == NULL) {
        owner = json_str(entry, c->other_field);
    }
    if (owner != NULL && strcmp(owner, c->id) == 0 && json_array_append(c->found, entry) != 0) {
        rc = TSR_ENOMEM;
    }
    json_decref(entry);
    return rc;
}

static int quota_delete(struct apply *a, const char *project)
{
    struct key key;
    struct kv_val value;
    key_of_dir(&key, "quota", project);
    int rc = writeset_get(&a->w, DB_DIR, key_val(&key), &value);
    if (rc == 0) {
        writeset_del(&a->w, DB_DIR, key_val(&key));
    }
    return rc == TSR_ENOENT ? 0 : rc;
}

static int dir_drop(struct apply *a, const char *kind, const char *id, const json_t *old);

/* Delete the entries of @kind that belong to @id, with what hangs on them. */
static int cascade(struct apply *a, const char *kind, const char *field, const char *other_field,
                   const char *id)
{
    struct cascade c = {field, other_field, id, true, json_array()};
    for (const char *p = id; *p != 0; p++) {
        c.plain = c.plain && (unsigned char)*p >= ' ' && *p != '"' && *p != '\\' && *p != '/';
    }
    struct key prefix;
    key_of_dir(&prefix, kind, "");
    int rc =
        c.found == NULL ? TSR_ENOMEM : writeset_scan(&a->w, DB_DIR, &prefix, cascade_match, &c);
    if (rc != 0) {
        a->w.error = rc;
    }
    size_t i;
    json_t *entry;
    json_array_foreach(c.found, i, entry)
    {
        if (rc == 0) {
            rc = dir_drop(a, kind, json_str_or(entry, "id", ""), entry);
        }
    }
    json_decref(c.found);
    return rc;
}

/* Deep as the kinds are: a domain has users and projects, these have assignments. */
static int dir_drop(struct apply *a, const char *kind, const char *id, const json_t *old)
{
    int rc = 0;
    dir_store(a, kind, id, old, NULL);
    if (strcmp(kind, "user") == 0) {
        rc = cascade(a, "assignment", "user_id", "user", id);
        rc = rc == 0 ? cascade(a, "appcred", "user_id", "user", id) : rc;
        rc = rc == 0 ? cascade(a, "access_rule", "user_id", "user", id) : rc;
    } else if (strcmp(kind, "project") == 0) {
        rc = cascade(a, "assignment", "project_id", "project", id);
        rc = rc == 0 ? quota_delete(a, id) : rc;
    } else if (strcmp(kind, "domain") == 0) {
        rc = cascade(a, "assignment", "domain_id", "domain_id", id);
        rc = rc == 0 ? cascade(a, "user", "domain_id", "domain_id", id) : rc;
        rc = rc == 0 ? cascade(a, "project", "domain_id", "domain_id", id) : rc;
    }
    return rc;
}

int apply_dir_delete(struct apply *a, const json_t *cmd)
{
    const char *kind = json_str(cmd, "kind"), *id = json_str(cmd, "id");
    json_t *old = NULL;
    struct key key;
    int rc = ids_ok(a, kind, id);
    if (rc == 0) {
        key_of_dir(&key, kind, id);
        rc = writeset_get_json(&a->w, DB_DIR, &key, &old);
        if (rc == TSR_ENOENT) {
            rc = apply_refuse(a, TSR_ENOENT, "No such entry.");
        }
    }
    if (rc == 0) {
        rc = version_check(a, cmd, old);
    }
    if (rc == 0) {
        rc = dir_drop(a, kind, id, old);
    }
    json_decref(old);
    return rc;
}
