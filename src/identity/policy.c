/* Who may do what to an image: pure rules over caller, record and membership.
 *
 * Three questions in this order: is the image visible (else it does not exist for this caller), is
 * the action one of administrators or services only, and does the caller's role on the owning
 * project allow it. Membership counts only while the image is shared. */
#include "tessera/identity.h"

#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/identity/rules.h"

/* Who beside administrators may do it. */
enum rule {
    RULE_ADMIN,       /* nobody */
    RULE_SERVICE,     /* role service */
    RULE_READ,        /* whoever sees it */
    RULE_PROJECT,     /* any project role, no image needed */
    RULE_DOWNLOAD,    /* role member of whoever sees it */
    RULE_CREATE,      /* role member, for the own project */
    RULE_OWNER,       /* role member of the owner */
    RULE_MEMBER_ONLY, /* role member of the project that it is shared with */
};

static const struct {
    const char *policy;
    enum rule rule;
} actions[] = {
    [ACT_LIST] = {"get_images", RULE_PROJECT},
    [ACT_SHOW] = {"get_image", RULE_READ},
    [ACT_DOWNLOAD] = {"download_image", RULE_DOWNLOAD},
    [ACT_CREATE] = {"add_image", RULE_CREATE},
    [ACT_UPLOAD] = {"upload_image", RULE_OWNER},
    [ACT_MODIFY] = {"modify_image", RULE_OWNER},
    [ACT_DELETE] = {"delete_image", RULE_OWNER},
    [ACT_PUBLICIZE] = {"publicize_image", RULE_ADMIN},
    [ACT_COMMUNITIZE] = {"communitize_image", RULE_OWNER},
    [ACT_DEACTIVATE] = {"deactivate", RULE_OWNER},
    [ACT_REACTIVATE] = {"reactivate", RULE_OWNER},
    [ACT_MEMBER_ADD] = {"add_member", RULE_OWNER},
    [ACT_MEMBER_REMOVE] = {"delete_member", RULE_OWNER},
    [ACT_MEMBER_STATUS] = {"modify_member", RULE_MEMBER_ONLY},
    [ACT_CHANGE_OWNER] = {"change_owner", RULE_ADMIN},
    [ACT_LOCATIONS_READ] = {"fetch_image_location", RULE_SERVICE},
    [ACT_LOCATIONS_ADD] = {"add_image_location", RULE_SERVICE},
    [ACT_STORES_DETAIL] = {"stores_info_detail", RULE_SERVICE},
    [ACT_TASKS] = {"tasks_api_access", RULE_ADMIN},
    [ACT_CACHE_LIST] = {"cache_list", RULE_ADMIN},
    [ACT_CACHE_IMAGE] = {"cache_image", RULE_ADMIN},
    [ACT_CACHE_DELETE] = {"cache_delete", RULE_ADMIN},
    [ACT_COPY] = {"copy_image", RULE_ADMIN},
    [ACT_STORE_DELETE] = {"delete_image_location", RULE_ADMIN},
    [ACT_MEMBER_GET] = {"get_member", RULE_READ},
    [ACT_MEMBER_LIST] = {"get_members", RULE_READ},
    [ACT_METADEF_READ] = {"get_metadef", RULE_PROJECT},
    [ACT_METADEF_WRITE] = {"modify_metadef", RULE_ADMIN},
};

static bool has_project_role(const struct caller *caller, unsigned role)
{
    return caller->scope == SCOPE_PROJECT && caller->project_id[0] != '\0' &&
           (caller->roles & role) != 0;
}

static bool is_admin(const struct caller *caller)
{
    return caller->local_admin || caller_is_admin(caller);
}

/* An image without owner belongs to no project; only administrators may change it. */
static bool is_owner(const struct caller *caller, const json_t *image)
{
    const char *owner = json_str(image, "owner");
    return owner != NULL && caller->project_id[0] != '\0' && strcmp(owner, caller->project_id) == 0;
}

static bool is_shared_member(const json_t *image, bool is_member)
{
    return is_member && strcmp(json_str_or(image, "visibility", ""), "shared") == 0;
}

bool policy_image_visible(const struct caller *caller, const json_t *image, bool is_member)
{
    if (is_admin(caller)) {
        return true;
    }
    if (!has_project_role(caller, ROLE_READER)) {
        return false;
    }
    const char *visibility = json_str_or(image, "visibility", "private");
    return json_str(image, "owner") == NULL || is_owner(caller, image) ||
           strcmp(visibility, "public") == 0 || strcmp(visibility, "community") == 0 ||
           is_shared_member(image, is_member);
}

static int check_deactivated(const struct caller *caller, enum image_action action,
                             const json_t *image, struct err *err)
{
    if (action != ACT_DOWNLOAD || is_admin(caller) || image == NULL ||
        strcmp(json_str_or(image, "status", ""), "deactivated") != 0) {
        return 0;
    }
    return err_set(err, TSR_EFORBIDDEN,
                   "The requested image has been deactivated. Image data download is forbidden.");
}

/* @image may be NULL: then the rule is about the caller's own project. */
static bool allowed(const struct caller *caller, enum rule rule, const json_t *image,
                    bool is_member)
{
    switch (rule) {
    case RULE_ADMIN:
        return false;
    case RULE_SERVICE:
        return has_project_role(caller, ROLE_SERVICE);
    case RULE_READ:
    case RULE_PROJECT:
        return has_project_role(caller, ROLE_READER);
    case RULE_DOWNLOAD:
        return has_project_role(caller, ROLE_MEMBER);
    case RULE_CREATE:
    case RULE_OWNER:
        return has_project_role(caller, ROLE_MEMBER) && (image == NULL || is_owner(caller, image));
    case RULE_MEMBER_ONLY:
        return has_project_role(caller, ROLE_MEMBER) && image != NULL && !is_owner(caller, image) &&
               is_shared_member(image, is_member);
    }
    return false;
}

/* The image of these actions is only about to be, so it can not be invisible. */
static bool needs_no_visible_image(enum image_action action)
{
    return action == ACT_CREATE || action == ACT_LIST;
}

/* What the operator's rules say: 1, 0, or -1 for nothing. A member project is %(member_id)s. */
static int asked_rules(const struct caller *caller, const char *policy, const json_t *image,
                       bool is_member)
{
    if (caller->rules == NULL || caller->local_admin) {
        return -1;
    }
    json_t *target = is_member ? json_copy((json_t *)(uintptr_t)image) : NULL;
    if (target != NULL) {
        (void)json_set_str(target, "member_id", caller->project_id);
    }
    int asked = policy_rules_ask(caller->rules, policy, caller, target != NULL ? target : image);
    json_decref(target);
    return asked;
}

int policy_image(const struct caller *caller, enum image_action action, const json_t *image,
                 bool is_member, struct err *err)
{
    tsr_assert((size_t)action < array_len(actions));
    enum rule rule = actions[action].rule;
    int asked = asked_rules(caller, actions[action].policy, image, is_member);
    bool ok = asked >= 0 ? asked == 1 : is_admin(caller) || allowed(caller, rule, image, is_member);
    bool hidden = asked == 0 && action == ACT_SHOW; /* who may not see it does not know of it */
    if (ok && rule == RULE_SERVICE) {
        return 0; /* services read locations of images that their project can not see */
    }
    if (image != NULL && !needs_no_visible_image(action) &&
        (hidden || !policy_image_visible(caller, image, is_member))) {
        return err_set(err, TSR_ENOENT, "No image found with ID %s",
                       json_str_or(image, "id", "of this name"));
    }
    if (!ok) {
        return err_set(err, TSR_EFORBIDDEN, "You are not authorized to complete %s action.",
                       actions[action].policy);
    }
    return check_deactivated(caller, action, image, err);
}
