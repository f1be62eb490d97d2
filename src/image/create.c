#include "image/create.h"

#include <string.h>

#include "image/change.h"
#include "image/fields.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/identity/rules.h"

static int check_shapes(const json_t *body, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        if (name[0] == '\0') {
            return err_set(err, TSR_EINVAL, "A property must have a name.");
        }
        int rv = field_check(name, value, err);
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

static int check_names(const json_t *body, const struct caller *caller, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        char shown[IMAGE_SHORT];
        switch (field_class(name)) {
        case FIELD_READ_ONLY:
            return err_set(err, TSR_EFORBIDDEN, "Attribute '%s' is read-only.", name);
        case FIELD_RESERVED:
        case FIELD_LOCATIONS:
            return err_set(err, TSR_EFORBIDDEN, "Attribute '%s' is reserved.",
                           field_short(name, shown));
        case FIELD_CUSTOM:
            if (!property_allowed(caller->properties, PROPERTY_CREATE, name, caller, NULL)) {
                return err_set(err, TSR_EFORBIDDEN, "Property '%s' is protected.",
                               field_short(name, shown));
            }
            break;
        default:
            break;
        }
    }
    return 0;
}

int visibility_allowed(const struct caller *caller, const char *visibility, const json_t *image,
                       struct err *err)
{
    if (visibility != NULL && strcmp(visibility, "public") == 0) {
        return policy_image(caller, ACT_PUBLICIZE, image, false, err);
    }
    if (visibility != NULL && strcmp(visibility, "community") == 0) {
        return policy_image(caller, ACT_COMMUNITIZE, image, false, err);
    }
    return 0;
}

static int check_rights(const json_t *body, const struct caller *caller, struct err *err)
{
    int rv = policy_image(caller, ACT_CREATE, NULL, false, err);
    if (rv != 0) {
        return rv;
    }
    const json_t *owner = json_object_get(body, "owner");
    if (owner != NULL && !caller_is_admin(caller)) {
        const char *project = json_string_value(owner);
        char shown[IMAGE_SHORT];
        if (project == NULL || strcmp(project, caller->project_id) != 0) {
            return err_set(err, TSR_EFORBIDDEN,
                           "You are not permitted to create images owned by '%s'.",
                           field_short(project != NULL ? project : "None", shown));
        }
    }
    return visibility_allowed(caller, json_str(body, "visibility"), NULL, err);
}

static int check_limits(const json_t *body, const json_t *props, const struct image_limits *limits,
                        struct err *err)
{
    size_t tags = json_array_size(json_object_get(body, "tags"));
    if (limits->tag_quota >= 0 && tags > (size_t)limits->tag_quota) {
        return err_set(err, TSR_ETOOBIG, "The limit of %d tags on an image is exceeded.",
                       limits->tag_quota);
    }
    if (!limits->gpt_allowed && strcmp(json_str_or(body, "disk_format", ""), "gpt") == 0) {
        return err_set(err, TSR_EINVAL, "The disk_format gpt is not enabled here.");
    }
    if (limits->property_quota >= 0 && json_object_size(props) > (size_t)limits->property_quota) {
        return err_set(err, TSR_ETOOBIG, "The limit of %d properties of an image is exceeded.",
                       limits->property_quota);
    }
    return 0;
}

/* Sort the body's values into @image and @props. Returns 0 or not. */
static int fill(const json_t *body, json_t *image, json_t *props)
{
    const char *name;
    json_t *value;
    int rv = 0;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        switch (field_class(name)) {
        case FIELD_HASH:
            break;
        case FIELD_CUSTOM:
            rv |= json_object_set(props, name, value);
            break;
        default:
            rv |= json_object_set_new(image, name, field_value(name, value));
            break;
        }
    }
    return rv;
}

static int set_defaults(json_t *image, const struct caller *caller, const char *random_id)
{
    int rv = 0;
    if (json_object_get(image, "id") == NULL) {
        rv |= json_set_str(image, "id", random_id);
    }
    if (json_object_get(image, "owner") == NULL) {
        rv |=
            json_set_str(image, "owner", caller->project_id[0] != '\0' ? caller->project_id : NULL);
    }
    return rv;
}

int create_evaluate(const json_t *body, const struct caller *caller,
                    const struct image_limits *limits, const char *random_id, json_t **image_out,
                    struct err *err)
{
    if (!json_is_object(body)) {
        return err_set(err, TSR_EINVAL, "The request body must be a JSON object.");
    }
    int rv = check_shapes(body, err);
    rv = rv != 0 ? rv : check_names(body, caller, err);
    rv = rv != 0 ? rv : check_rights(body, caller, err);
    if (rv != 0) {
        return rv;
    }
    json_t *image = json_object(), *props = json_object();
    if (image == NULL || props == NULL || fill(body, image, props) != 0 ||
        set_defaults(image, caller, random_id) != 0) {
        rv = TSR_ENOMEM;
    }
    rv = rv != 0 ? rv : check_limits(body, props, limits, err);
    if (rv == 0 && json_object_set(image, "props", props) != 0) {
        rv = TSR_ENOMEM;
    }
    json_decref(props);
    if (rv != 0) {
        json_decref(image);
        return rv;
    }
    *image_out = image;
    return 0;
}

/* The same request gives the same text: a key that is used for another request is found out. */
static int set_fingerprint(json_t *command, const json_t *body)
{
    size_t size = 0;
    char *text = json_text(body, &size);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    uint8_t hash[DIGEST_MAX];
    char hex[2 * 32 + 1];
    digest_of(DIGEST_SHA256, text, size, hash);
    hex_encode(hash, 32, hex);
    free(text);
    return json_set_str(command, "fp", hex);
}

void image_create(struct image_ctx *ctx, const struct caller *caller, const json_t *body,
                  const uint8_t *command_id, image_cb cb, void *arg)
{
    uint8_t random[16];
    char id[UUID_TEXT + 1];
    json_t *image = NULL;
    struct err err = {0};
    loop_random(ctx->loop, random, sizeof(random));
    uuid_format(random, id);
    int rv = create_evaluate(body, caller, ctx->limits, id, &image, &err);
    if (rv != 0) {
        change_answer(ctx, rv, NULL, &err, cb, arg);
        return;
    }
    json_t *command = json_pack("{s:s, s:o}", "op", "image.create", "image", image);
    if (command != NULL && command_id != NULL && set_fingerprint(command, body) != 0) {
        json_decref(command);
        command = NULL;
    }
    change_submit(ctx, command, command_id, RESULT_IMAGE, cb, arg);
}
