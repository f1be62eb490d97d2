/* Changes of metadata definitions.
 *
 * Happy path: the body is checked, the namespace's record is looked up, the edit is made on it
 * (metadef_edit, pure), and the record afterwards is sent with the version that it was made from.
 * A namespace that names resource types which are not known yet makes them in the same batch.
 * Others were first: apply refuses (the version is another, or a name or type is there now), and
 * the edit is made again on what is there now; that then finds the true reason, if it is to be
 * refused. Nothing is to be stopped on close: the submit ends with meta_detach. */
#include "image/metadef.h"

#include <stdlib.h>
#include <string.h>

#include "image/change.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

enum { TRIES = IMAGE_ATTEMPTS, ANSWER_MAX = 32 * 1024 };

struct run {
    struct image_ctx *ctx;
    struct caller caller;
    enum metadef_op op;
    char ns[METADEF_NAME_BYTES + 1], item[METADEF_NAME_BYTES + 1];
    json_t *value; /* checked body */
    char id[UUID_TEXT + 1];
    unsigned tries;
    json_t *shown; /* of this try */
    struct meta_submit submit;
    image_cb cb;
    void *arg;
};

static void run_try(struct run *r, bool within_call);

/* From within the first call the answer must come later. */
static void run_answer(struct run *r, bool within_call, int status, const struct err *err)
{
    json_t *shown = status == 0 ? r->shown : NULL;
    if (status != 0) {
        json_decref(r->shown);
    }
    if (within_call) {
        change_answer(r->ctx, status, shown, err, r->cb, r->arg);
    } else {
        r->cb(r->arg, status, shown, err);
        json_decref(shown);
    }
    json_decref(r->value);
    free(r);
}

static void run_submit_cb(struct meta_submit *req, int status, json_t *result,
                          const struct err *err)
{
    struct run *r = req->arg;
    const json_t *answer = image_result_answer(result);
    if (status == 0 && json_object_get(answer, "body") != NULL) {
        json_decref(r->shown); /* the first of two requests under one key is answered */
        r->shown = json_incref(json_object_get(answer, "body"));
    }
    bool others_first = status == TSR_EVERSION || status == TSR_EEXIST || status == TSR_ENOENT;
    if (others_first && r->tries < TRIES) {
        json_decref(r->shown);
        r->shown = NULL;
        run_try(r, false);
        return;
    }
    run_answer(r, false, status, err);
}

/* --- commands
 * -------------------------------------------------------------------------------------- */

/* Append what makes the resource types of @record that do not exist yet. */
static int type_commands(struct meta_view *view, const json_t *record, int64_t now,
                         json_t *commands)
{
    json_t *association;
    size_t i;
    int rv = 0;
    json_array_foreach(json_arr(record, "resource_types"), i, association)
    {
        const char *name = json_str_or(association, "name", "");
        bool exists = true;
        rv = rv == 0 ? metadef_type_exists(view, name, &exists) : rv;
        if (rv == 0 && !exists) {
            rv = json_array_append_new(commands, json_pack("{s:s, s:s, s:s, s:{s:I}, s:s}", "op",
                                                           "dir.put", "kind", METADEF_TYPE_KIND,
                                                           "id", name, "value", "created_at",
                                                           (json_int_t)now, "if", "absent")) == 0
                     ? 0
                     : TSR_ENOMEM;
        }
    }
    return rv;
}

static json_t *record_command(const struct run *r, const json_t *record, json_t *next)
{
    if (r->op == METADEF_CREATE) {
        return json_pack("{s:s, s:s, s:s, s:O, s:s}", "op", "dir.put", "kind", METADEF_KIND, "id",
                         r->id, "value", next, "if", "absent");
    }
    json_t *id = json_object_get(record, "id"), *version = json_object_get(record, "version");
    if (next == NULL) {
        return json_pack("{s:s, s:s, s:O, s:O}", "op", "dir.delete", "kind", METADEF_KIND, "id", id,
                         "version", version);
    }
    return json_pack("{s:s, s:s, s:O, s:O, s:s, s:O}", "op", "dir.put", "kind", METADEF_KIND, "id",
                     id, "value", next, "if", "present", "version", version);
}

/* One command, or a batch where resource types are made with it. */
static int command_of(const struct run *r, struct meta_view *view, const json_t *record,
                      json_t *next, int64_t now, json_t **out)
{
    json_t *commands = json_array();
    int rv = commands != NULL ? 0 : TSR_ENOMEM;
    if (rv == 0 && (r->op == METADEF_CREATE || r->op == METADEF_TYPE_CREATE)) {
        rv = type_commands(view, next, now, commands);
    }
    if (rv == 0 && json_array_append_new(commands, record_command(r, record, next)) != 0) {
        rv = TSR_ENOMEM;
    }
    if (rv == 0) {
        *out = json_array_size(commands) == 1
                   ? json_incref(json_array_get(commands, 0))
                   : json_pack("{s:s, s:O}", "op", "batch", "commands", commands);
        rv = *out != NULL ? 0 : TSR_ENOMEM;
    }
    json_decref(commands);
    return rv;
}

/* --- Idempotency-Key
 * --------------------------------------------------------------------------------- */

static int answer_status(enum metadef_op op)
{
    switch (op) {
    case METADEF_CREATE:
    case METADEF_PROPERTY_CREATE:
    case METADEF_OBJECT_CREATE:
    case METADEF_TAG_CREATE:
    case METADEF_TAGS_REPLACE:
    case METADEF_TAGS_APPEND:
    case METADEF_TYPE_CREATE:
        return 201;
    default:
        return 200;
    }
}

/* What is kept of the answer; a long one without what is nested in it. */
static json_t *answer_body(const json_t *shown)
{
    size_t size = 0;
    char *text = json_text(shown, &size);
    json_t *body = json_copy((json_t *)(uintptr_t)shown);
    free(text);
    if (size <= ANSWER_MAX) {
        return body;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)shown, key, value)
    {
        if (json_is_object(value) || json_is_array(value)) {
            (void)json_object_del(body, key);
        }
    }
    return body;
}

/* The command becomes the one of the caller's key, and tells what the request is answered, now and
 * the next time. */
static void run_key(struct run *r, json_t *command, uint8_t id[COMMAND_ID_SIZE])
{
    const json_t *batch = json_arr(command, "commands");
    json_t *put = batch != NULL ? json_array_get(batch, json_array_size(batch) - 1) : command;
    if (change_key(&r->caller, r->tries - 1, command, id) && r->shown != NULL) {
        (void)json_object_set_new(
            put, "answer",
            json_pack("{s:i, s:o}", "status", answer_status(r->op), "body", answer_body(r->shown)));
    }
}

/* --- one try
 * --------------------------------------------------------------------------------------- */

static int name_free(struct meta_view *view, const char *name, const char *but_id, struct err *err)
{
    json_t *other = NULL;
    int rv = meta_dir_find(view, METADEF_KIND, "", name, &other);
    bool own = rv == 0 && strcmp(json_str_or(other, "id", ""), but_id) == 0;
    json_decref(other);
    if (rv == 0 && !own) {
        return err_set(err, TSR_EEXIST, "The metadata definition namespace already exists.");
    }
    return rv == TSR_ENOENT ? 0 : rv;
}

/* What there is, and whether the caller may change it. *record_out: NULL for a new namespace. */
static int run_find(struct run *r, struct meta_view *view, json_t **record_out, struct err *err)
{
    json_t *record = NULL;
    int rv = 0;
    if (r->op != METADEF_CREATE) {
        rv = metadef_record(view, &r->caller, r->ns, &record, err);
    }
    if (rv == 0) {
        rv = policy_image(&r->caller, ACT_METADEF_WRITE, NULL, false, err);
    }
    if (rv == 0 && (r->op == METADEF_CREATE || r->op == METADEF_UPDATE)) {
        rv = name_free(view, json_str_or(r->value, "name", ""),
                       record != NULL ? json_str_or(record, "id", "") : "", err);
    }
    if (rv != 0) {
        json_decref(record);
        return rv;
    }
    *record_out = record;
    return 0;
}

static int run_evaluate(struct run *r, struct meta_view *view, json_t **command_out,
                        struct err *err)
{
    json_t *record = NULL, *next = NULL;
    struct metadef_edit edit = {.op = r->op,
                                .item = r->item,
                                .value = r->value,
                                .project = r->caller.project_id,
                                .id = r->id,
                                .now = loop_wall_us(r->ctx->loop)};
    int rv = run_find(r, view, &record, err);
    if (rv == 0) {
        rv = metadef_edit(record, &edit, &next, &r->shown, err);
    }
    if (rv == 0) {
        rv = command_of(r, view, record, next, edit.now, command_out);
    }
    json_decref(next);
    json_decref(record);
    return rv;
}

static void run_try(struct run *r, bool within_call)
{
    struct err err = {0};
    struct meta_view *view = NULL;
    json_t *command = NULL;
    r->tries++;
    int rv = meta_view_open(r->ctx->meta, &view);
    if (rv == 0) {
        rv = run_evaluate(r, view, &command, &err);
        meta_view_close(view);
    }
    if (rv != 0) {
        run_answer(r, within_call, rv, &err);
        return;
    }
    r->submit = (struct meta_submit){
        .loop = r->ctx->loop, .command = command, .cb = run_submit_cb, .arg = r};
    run_key(r, command, r->submit.id);
    meta_submit(r->ctx->meta, &r->submit);
}

/* A text that is longer than any name, or is none, names nothing. */
static void name_copy(char out[METADEF_NAME_BYTES + 1], const char *name)
{
    if (name == NULL || !str_copy(out, METADEF_NAME_BYTES + 1, name) ||
        !utf8_valid(name, strlen(name))) {
        out[0] = '\0';
    }
}

void metadef_change(struct image_ctx *ctx, const struct caller *caller,
                    const struct metadef_change *change, image_cb cb, void *arg)
{
    struct err err = {0};
    uint8_t random[16];
    struct run *r = calloc(1, sizeof(*r));
    tsr_assert(r != NULL);
    r->ctx = ctx;
    r->caller = *caller;
    r->op = change->op;
    r->cb = cb;
    r->arg = arg;
    name_copy(r->ns, change->ns);
    name_copy(r->item, change->item);
    loop_random(ctx->loop, random, sizeof(random));
    uuid_format(random, r->id);
    int rv = metadef_check(change->op, change->body, &r->value, &err);
    if (rv != 0) {
        run_answer(r, true, rv, &err);
        return;
    }
    run_try(r, true);
}
