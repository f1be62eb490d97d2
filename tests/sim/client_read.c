/* What clients see, and what must hold of each record that they see. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* --- reads
 * ------------------------------------------------------------------------------------------------------
 */

static uint32_t number_of(const char *text, char head)
{
    return text != NULL && text[0] == head ? (uint32_t)strtoul(text + 1, NULL, 10) : 0;
}

static uint32_t mask_of(struct world *w, json_t *array, const char *key, char head)
{
    uint32_t mask = 0;
    size_t i;
    json_t *v;
    json_array_foreach(array, i, v)
    {
        const char *text = key != NULL ? json_str(v, key) : json_string_value(v);
        uint32_t bit = UINT32_C(1) << number_of(text, head);
        if (mask & bit) {
            world_fail(w, "%s twice in one list", text);
        }
        mask |= bit;
    }
    return mask;
}

const char *const sim_visibilities[SIM_VISIBILITIES] = {"shared", "private", "community", "public"};

static uint32_t content_seen(struct world *w, const json_t *image, const json_t *data)
{
    uint32_t content = content_of_md5(json_str(data, "checksum"));
    if (content == UINT32_MAX) {
        world_fail(w, "image %s has the checksum of nothing that was uploaded",
                   json_str_or(image, "id", "?"));
    }
    return content;
}

void client_see_content(struct world *w, const json_t *image, struct sim_event *e)
{
    static const char *const without[] = {"queued", "saving", "uploading", "importing"};
    const char *status = json_str_or(image, "status", "");
    e->content = content_seen(w, image, image);
    e->off = strcmp(status, "deactivated") == 0;
    bool with = e->off || strcmp(status, "active") == 0, known = with;
    for (size_t i = 0; i < array_len(without); i++) {
        known = known || strcmp(status, without[i]) == 0;
    }
    if (!known) {
        world_fail(w, "image %s has status %s", json_str_or(image, "id", "?"), status);
    }
    if (with != (e->content != 0) ||
        (with && json_int(image, "size", -1) != (int64_t)content_size(e->content))) {
        world_fail(w, "image %s is %s with content %u, size %lld", json_str_or(image, "id", "?"),
                   status, e->content, (long long)json_int(image, "size", -1));
    }
    e->fields |= SEEN_CONTENT;
}

static uint32_t visibility_of(struct world *w, const json_t *image)
{
    const char *text = json_str_or(image, "visibility", "");
    uint32_t i = 0;
    while (i < SIM_VISIBILITIES && strcmp(text, sim_visibilities[i]) != 0) {
        i++;
    }
    if (i == SIM_VISIBILITIES) {
        world_fail(w, "image %s has visibility %s", json_str_or(image, "id", "?"), text);
    }
    return i;
}

static void see(struct world *w, const json_t *image, struct sim_event *e)
{
    e->live = true;
    e->name = number_of(json_str(image, "name"), 'n');
    e->tags = mask_of(w, json_arr(image, "tags"), NULL, 't');
    e->visibility = visibility_of(w, image);
    e->fields |= SEEN_NAME | SEEN_TAGS | SEEN_VISIBILITY;
    client_see_content(w, image, e);
}

/* Data that was staged and that no import has taken. */
static void see_staged(struct world *w, const json_t *image, struct sim_event *e)
{
    const json_t *staged = json_obj(image, "staged");
    if (strcmp(json_str_or(image, "status", ""), "importing") == 0) {
        return;
    }
    e->staged = staged != NULL ? content_seen(w, image, staged) : 0;
    e->fields |= SEEN_STAGED;
}

static int see_members(struct client *c, struct meta_view *view, struct sim_event *e,
                       struct err *err)
{
    json_t *list = NULL, *m;
    size_t i;
    if (e->visibility != 0) {
        return 0; /* only shared images have members to show */
    }
    int rv = image_member_list(view, sim_caller(), client_image(c), &list, err);
    e->members = mask_of(c->w, json_arr(list, "members"), "member_id", 'm');
    json_array_foreach(json_arr(list, "members"), i, m)
    {
        if (strcmp(json_str_or(m, "status", ""), "accepted") == 0) {
            e->accepted |= UINT32_C(1) << number_of(json_str(m, "member_id"), 'm');
        }
    }
    e->fields |= SEEN_MEMBERS;
    json_decref(list);
    return rv;
}

void client_show(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    struct sim_event e = {0};
    struct err err = {0};
    json_t *image = NULL;
    int rv = image_find(view, sim_caller(), client_image(c), ACT_SHOW, &image, &err);
    if (rv == 0) {
        see(c->w, image, &e);
        e.reg = number_of(json_str(json_obj(image, "props"), "reg"), 'v');
        e.fields |= SEEN_REG;
        see_staged(c->w, image, &e);
        rv = see_members(c, view, &e, &err);
    }
    json_decref(image);
    if (!run_end(r)) {
        return;
    }
    if (rv != 0 && rv != TSR_ENOENT) {
        if (r->h->failing) {
            client_end(c, err_name(rv));
            return;
        }
        world_fail(c->w, "show of image %u on host %u: %s (%s)", c->image, r->h->n, err.msg,
                   err_name(rv));
    }
    c->w->ops_ok[OP_show]++;
    client_record(c, &e, OUTCOME_OK);
    client_end(c, rv == 0 ? "ok" : "absent");
}

static json_t *find_listed(json_t *images, const char *id)
{
    size_t i;
    json_t *image;
    json_array_foreach(images, i, image)
    {
        if (strcmp(json_str_or(image, "id", ""), id) == 0) {
            return image;
        }
    }
    return NULL;
}

void client_list(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    struct err err = {0};
    json_t *page = NULL;
    int rv = image_list(view, sim_caller(), NULL, 0, 1000, 1000, &page, &err);
    if (!run_end(r)) {
        return;
    }
    if (rv != 0) {
        if (!r->h->failing) {
            world_fail(c->w, "list on host %u: %s (%s)", r->h->n, err.msg, err_name(rv));
        }
        client_end(c, err_name(rv));
        return;
    }
    for (unsigned i = 0; i < 3; i++) { /* one look at a few */
        struct sim_event e = {0};
        c->image = (unsigned)world_below(c->w, c->w->image_count);
        if (c->w->images[c->image].retired) {
            continue;
        }
        json_t *image = find_listed(json_arr(page, "images"), client_image(c));
        if (image != NULL) {
            see(c->w, image, &e);
        }
        client_record(c, &e, OUTCOME_OK);
    }
    json_decref(page);
    c->w->ops_ok[OP_list]++;
    client_end(c, "ok");
}
