/* Commands on members: projects that an image is shared with. */
#include <string.h>

#include "meta/apply.h"
#include "meta/index.h"

static int collect(void *arg, struct kv_val key, struct kv_val value)
{
    json_t *member;
    int rc = record_parse(key, value, &member);
    if (rc != 0) {
        return rc;
    }
    return json_array_append_new(arg, member) == 0 ? 0 : TSR_ENOMEM;
}

int apply_members(struct apply *a, const char *image_id, json_t **array_out)
{
    struct key prefix;
    json_t *members = json_array();
    if (members == NULL) {
        a->w.error = TSR_ENOMEM;
        return TSR_ENOMEM;
    }
    key_of_member(&prefix, image_id, NULL);
    int rc = writeset_scan(&a->w, DB_MEMBER, &prefix, collect, members);
    if (rc != 0) {
        a->w.error = rc; /* whatever it was, the scan is not a refusal */
        json_decref(members);
        return rc;
    }
    *array_out = members;
    return 0;
}

/* Write the member record (@member NULL: delete it) and move the image's index entries along. */
static int member_store(struct apply *a, const json_t *image, const char *project,
                        const json_t *member)
{
    const char *id = json_str(image, "id");
    struct index_keys before, after;
    struct key key;
    json_t *members = NULL;
    int rc = apply_members(a, id, &members);
    if (rc == 0) {
        rc = index_keys_of(&a->w, image, members, &before);
    }
    json_decref(members);
    members = NULL;
    if (rc != 0) {
        return rc;
    }
    key_of_member(&key, id, project);
    if (member == NULL) {
        writeset_del(&a->w, DB_MEMBER, key_val(&key));
    } else {
        writeset_put_json(&a->w, DB_MEMBER, &key, member);
    }
    rc = apply_members(a, id, &members);
    if (rc == 0) {
        rc = index_keys_of(&a->w, image, members, &after);
    }
    json_decref(members);
    if (rc == 0) {
        index_change(&a->w, &before, &after);
    }
    return rc;
}

/* Image and member of a command; *member NULL where there is none. */
static int find(struct apply *a, const json_t *cmd, json_t **image, json_t **member)
{
    const char *project = json_str(cmd, "member");
    struct key key;
    *image = *member = NULL;
    if (!field_text_ok(project, false, 255)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid member.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), image);
    if (rc != 0) {
        return rc;
    }
    key_of_member(&key, json_str(*image, "id"), project);
    rc = writeset_get_json(&a->w, DB_MEMBER, &key, member);
    return rc == TSR_ENOENT ? 0 : rc;
}

static int not_found(struct apply *a, const json_t *cmd)
{
    return apply_refuse(a, TSR_ENOENT, "%s not found in the member list of the image %s.",
                        json_str_or(cmd, "member", ""), json_str_or(cmd, "id", ""));
}

static int add_check(struct apply *a, const json_t *cmd, const json_t *image, const json_t *member)
{
    int64_t quota = json_int(cmd, "quota", -1);
    json_t *members = NULL;
    if (strcmp(json_str_or(image, "visibility", ""), "shared") != 0) {
        return apply_refuse(a, TSR_EFORBIDDEN, "Only shared images have members.");
    }
    if (member != NULL) {
        return apply_refuse(a, TSR_EEXIST, "Member %s is duplicated for image %s",
                            json_str_or(cmd, "member", ""), json_str_or(cmd, "id", ""));
    }
    if (quota < 0) {
        return 0;
    }
    int rc = apply_members(a, json_str(image, "id"), &members);
    if (rc == 0 && (int64_t)json_array_size(members) >= quota) {
        rc = apply_refuse(a, TSR_ETOOBIG, "The limit of %lld members of an image is reached.",
                          (long long)quota);
    }
    json_decref(members);
    return rc;
}

int apply_member_add(struct apply *a, const json_t *cmd)
{
    json_t *image, *member;
    int rc = find(a, cmd, &image, &member);
    if (rc == 0) {
        rc = add_check(a, cmd, image, member);
    }
    json_decref(member);
    if (rc != 0) {
        json_decref(image);
        return rc;
    }
    member = json_object();
    if (member == NULL) {
        a->w.error = rc = TSR_ENOMEM;
    } else {
        put_str(a, member, "member_id", json_str(cmd, "member"));
        put_str(a, member, "image_id", json_str(image, "id"));
        put_str(a, member, "status", "pending");
        put_int(a, member, "created_at", a->now);
        put_int(a, member, "updated_at", a->now);
        rc = member_store(a, image, json_str(cmd, "member"), member);
        apply_result(a, "member", member);
    }
    json_decref(image);
    return rc;
}

static bool status_ok(const char *status)
{
    return status != NULL && (strcmp(status, "pending") == 0 || strcmp(status, "accepted") == 0 ||
                              strcmp(status, "rejected") == 0);
}

int apply_member_status(struct apply *a, const json_t *cmd)
{
    const char *status = json_str(cmd, "status");
    json_t *image, *member;
    if (!status_ok(status)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid member status.");
    }
    int rc = find(a, cmd, &image, &member);
    if (rc == 0 && member == NULL) {
        rc = not_found(a, cmd);
    }
    if (rc == 0) {
        if (strcmp(json_str_or(member, "status", ""), status) != 0) {
            put_str(a, member, "status", status);
            put_int(a, member, "updated_at", apply_time(a, json_int(member, "updated_at", 0)));
            rc = member_store(a, image, json_str(cmd, "member"), member);
        }
        apply_result(a, "member", json_incref(member));
    }
    json_decref(member);
    json_decref(image);
    return rc;
}

int apply_member_remove(struct apply *a, const json_t *cmd)
{
    json_t *image, *member;
    int rc = find(a, cmd, &image, &member);
    if (rc == 0 && member == NULL) {
        rc = not_found(a, cmd);
    }
    if (rc == 0) {
        rc = member_store(a, image, json_str(cmd, "member"), NULL);
    }
    json_decref(member);
    json_decref(image);
    return rc;
}
