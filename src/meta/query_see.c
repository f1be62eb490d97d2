/* Who sees what: image-api sections 3.4 (by id) and 4.2 (listed). */
#include <string.h>

#include "meta/query.h"

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

unsigned see_bit(const char *visibility)
{
    return is(visibility, "public")      ? SEE_PUBLIC
           : is(visibility, "private")   ? SEE_PRIVATE
           : is(visibility, "shared")    ? SEE_SHARED
           : is(visibility, "community") ? SEE_COMMUNITY
           : is(visibility, "all")       ? SEE_ALL
                                         : 0;
}

static int member_bits(const char *status, unsigned *out)
{
    *out = status == NULL || is(status, "accepted") ? MEMBER_ACCEPTED
           : is(status, "pending")                  ? MEMBER_PENDING
           : is(status, "rejected")                 ? MEMBER_REJECTED
           : is(status, "all") ? MEMBER_ACCEPTED | MEMBER_PENDING | MEMBER_REJECTED
                               : 0;
    return *out == 0 ? TSR_EINVAL : 0;
}

int see_of(const struct meta_image_query *q, struct see *out)
{
    unsigned asked = SEE_ALL, members;
    bool def = q->visibility == NULL;
    *out = (struct see){.project = q->project, .public_domain = q->public_domain};
    if (!def && *q->visibility != 0 && (asked = see_bit(q->visibility)) == 0) {
        return TSR_EINVAL;
    }
    int rc = member_bits(q->member_status, &members);
    if (rc != 0 || (!def && *q->visibility == 0)) {
        return rc; /* "": nothing at all */
    }
    if (q->admin) {
        out->any = def ? SEE_ALL & ~(unsigned)SEE_COMMUNITY : asked;
        out->own = def ? SEE_COMMUNITY : 0;
    } else if (q->project == NULL) {
        out->any = asked & SEE_PUBLIC;
    } else {
        out->any = asked & (def ? SEE_PUBLIC : SEE_PUBLIC | SEE_COMMUNITY);
        out->own = asked;
        out->members = (asked & SEE_SHARED) != 0 ? members : 0;
    }
    out->own &= ~out->any;
    return 0;
}

struct see_image see_image_of(const json_t *image)
{
    return (struct see_image){.id = json_str(image, "id"),
                              .visibility = json_str(image, "visibility"),
                              .owner = json_str(image, "owner")};
}

/* The status of @project's membership as a bit; 0 = no member. */
static int member_bit(struct meta_view *v, const struct see_image *image, const char *project,
                      unsigned *out)
{
    json_t *member = NULL;
    *out = 0;
    int rc = meta_member_get(v, image->id, project, &member);
    if (rc == 0) {
        const char *status = json_str(member, "status");
        *out = is(status, "accepted")  ? MEMBER_ACCEPTED
               : is(status, "pending") ? MEMBER_PENDING
                                       : MEMBER_REJECTED;
        json_decref(member);
    }
    return rc == TSR_ENOENT ? 0 : rc;
}

bool meta_project_in(struct meta_view *v, const char *project, const char *domain)
{
    json_t *record = NULL;
    bool in = project != NULL && meta_dir_get(v, "project", project, &record) == 0 &&
              is(json_str_or(record, "domain_id", "default"), domain);
    json_decref(record);
    return in;
}

/* Public, but in another domain only. */
static bool elsewhere(struct meta_view *v, const char *domain, const struct see_image *image)
{
    return domain != NULL && see_bit(image->visibility) == SEE_PUBLIC &&
           !meta_project_in(v, image->owner, domain);
}

int see_listed(struct meta_view *v, const struct see *see, const struct see_image *image)
{
    unsigned visibility = see_bit(image->visibility), status;
    if ((see->any & visibility) != 0) {
        return !elsewhere(v, see->public_domain, image);
    }
    if (see->project == NULL) {
        return 0;
    }
    if ((see->own & visibility) != 0 && is(image->owner, see->project)) {
        return 1;
    }
    if (see->members == 0 || visibility != SEE_SHARED) {
        return 0;
    }
    int rc = member_bit(v, image, see->project, &status);
    return rc != 0 ? rc : (status & see->members) != 0;
}

int see_by_id(struct meta_view *v, const struct meta_image_query *q, const struct see_image *image)
{
    unsigned visibility = see_bit(image->visibility), status;
    if (q->admin || visibility == SEE_PUBLIC) {
        return q->admin || !elsewhere(v, q->public_domain, image);
    }
    if (q->project == NULL) {
        return 0;
    }
    if (visibility == SEE_COMMUNITY || image->owner == NULL || is(image->owner, q->project)) {
        return 1;
    }
    if (visibility != SEE_SHARED) {
        return 0;
    }
    int rc = member_bit(v, image, q->project, &status);
    return rc != 0 ? rc : status != 0;
}
