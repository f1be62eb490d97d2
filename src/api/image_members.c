/* /v2/images/{id}/members (image-api section 2.7). */
#include "api/image_face.h"

void image_members_list(struct api_req *r)
{
    struct err err = {0};
    json_t *members = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = image_member_list(view, &r->caller, r->args[0], &members, &err);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, &err);
        return;
    }
    api_json(r, 200, members);
}

void image_members_get(struct api_req *r)
{
    struct err err = {0};
    json_t *member = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = image_member_get(view, &r->caller, r->args[0], r->args[1], &member, &err);
    meta_view_close(view);
    if (rv != 0) {
        api_error(r, rv, &err);
        return;
    }
    api_json(r, 200, member);
}

static void add_run(struct api_req *r)
{
    api_hold(r);
    image_member_add(r->o->image, &r->caller, r->args[0], r->body, image_json_cb, r);
}

void image_members_add(struct api_req *r)
{
    static const struct image_step step = {add_run};
    image_change(r, &step);
}

static void set_run(struct api_req *r)
{
    api_hold(r);
    image_member_status(r->o->image, &r->caller, r->args[0], r->args[1], r->body, image_json_cb, r);
}

void image_members_set(struct api_req *r)
{
    static const struct image_step step = {set_run};
    image_change(r, &step);
}

static void remove_run(struct api_req *r)
{
    api_hold(r);
    image_member_remove(r->o->image, &r->caller, r->args[0], r->args[1], image_empty_cb, r);
}

void image_members_remove(struct api_req *r)
{
    static const struct image_step step = {remove_run};
    image_change(r, &step);
}
