/* Clients' changes of what is known about an image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

/* --- changes
 * --------------------------------------------------------------------------------------------------
 */

static void changed(void *arg, int status, json_t *result, const struct err *err)
{
    struct run *r = arg;
    (void)result;
    (void)err;
    if (!run_end(r)) {
        return;
    }
    if (status == 0) {
        client_decided(r->c, OUTCOME_OK);
    } else {
        client_refused(r->c, status);
    }
}

static void put_answered(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    changed(req->arg, status, result, err);
}

static void do_create(struct run *r)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)r->c->value);
    json_t *body =
        json_pack("{s:s,s:s,s:s,s:s,s:s}", "id", client_image(r->c), "name", name, "disk_format",
                  "raw", "container_format", "bare", "visibility", "shared");
    image_create(&r->h->image, sim_caller(), body, r->c->id, changed, r);
    json_decref(body);
}

static void do_put(struct run *r)
{
    char value[16];
    (void)snprintf(value, sizeof(value), "v%u", (unsigned)r->c->value);
    r->submit = (struct meta_submit){
        .loop = r->h->worker,
        .command = json_pack("{s:s,s:s,s:{s:s}}", "op", "image.update", "id", client_image(r->c),
                             "props_set", "reg", value),
        .timeout_ms = 3000,
        .cb = put_answered,
        .arg = r,
    };
    memcpy(r->submit.id, r->c->id, COMMAND_ID_SIZE);
    meta_submit(r->h->meta, &r->submit);
}

static void patch(struct run *r, json_t *body)
{
    struct err err = {0};
    json_t *ops = NULL;
    tsr_assert(image_patch_parse(body, false, &ops, &err) == 0);
    image_patch(&r->h->image, sim_caller(), client_image(r->c), ops, false, changed, r);
    json_decref(ops);
    json_decref(body);
}

static void do_patch(struct run *r)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)r->c->value);
    patch(r, json_pack("[{s:s,s:s,s:s}]", "op", "replace", "path", "/name", "value", name));
}

/* Two fields at once: nobody may see one without the other. */
static void do_update(struct run *r)
{
    char name[16], reg[16];
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)r->c->value);
    (void)snprintf(reg, sizeof(reg), "v%u", (unsigned)r->c->value);
    patch(r, json_pack("[{s:s,s:s,s:s},{s:s,s:s,s:s}]", "op", "replace", "path", "/name", "value",
                       name, "op", "add", "path", "/reg", "value", reg));
}

static void do_visibility(struct run *r)
{
    patch(r, json_pack("[{s:s,s:s,s:s}]", "op", "replace", "path", "/visibility", "value",
                       sim_visibilities[r->c->value]));
}

static void do_tag(struct run *r, bool add)
{
    char tag[16];
    (void)snprintf(tag, sizeof(tag), "t%u", (unsigned)r->c->value);
    image_tag(&r->h->image, sim_caller(), client_image(r->c), tag, add, changed, r);
}

static void do_member(struct run *r, bool add)
{
    char project[16];
    (void)snprintf(project, sizeof(project), "m%u", (unsigned)r->c->value);
    if (!add) {
        image_member_remove(&r->h->image, sim_caller(), client_image(r->c), project, changed, r);
        return;
    }
    json_t *body = json_pack("{s:s}", "member", project);
    image_member_add(&r->h->image, sim_caller(), client_image(r->c), body, changed, r);
    json_decref(body);
}

/* Only the member itself says so. */
static const struct caller *member(unsigned n)
{
    static struct caller callers[SIM_PROJECTS];
    callers[n] = *sim_caller();
    callers[n].roles = ROLE_MEMBER | ROLE_READER;
    (void)snprintf(callers[n].project_id, sizeof(callers[n].project_id), "m%u", n);
    return &callers[n];
}

static void do_member_status(struct run *r)
{
    const struct caller *caller = member((unsigned)(r->c->value % SIM_ACCEPTED));
    bool accept = r->c->value >= SIM_ACCEPTED;
    json_t *body = json_pack("{s:s}", "status", accept ? "accepted" : "rejected");
    image_member_status(&r->h->image, caller, client_image(r->c), caller->project_id, body, changed,
                        r);
    json_decref(body);
}

void client_change(struct run *r)
{
    struct client *c = r->c;
    switch (c->op) {
    case OP_create:
        do_create(r);
        return;
    case OP_patch:
        do_patch(r);
        return;
    case OP_put:
        do_put(r);
        return;
    case OP_update:
        do_update(r);
        return;
    case OP_visibility:
        do_visibility(r);
        return;
    case OP_tag_add:
    case OP_tag_remove:
        do_tag(r, c->op == OP_tag_add);
        return;
    case OP_member_add:
    case OP_member_remove:
        do_member(r, c->op == OP_member_add);
        return;
    case OP_member_status:
        do_member_status(r);
        return;
    case OP_deactivate:
    case OP_reactivate:
        image_set_active(&r->h->image, sim_caller(), client_image(c), c->op == OP_reactivate,
                         changed, r);
        return;
    case OP_delete:
        image_delete(&r->h->image, sim_caller(), client_image(c), changed, r);
        return;
    default:
        tsr_assert(false);
    }
}
