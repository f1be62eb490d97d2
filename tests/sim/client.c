/* Clients. Each does one operation after another on some host, as the HTTP face would: a barrier,
 * then the service's call. What it saw goes into the history of the image.
 *
 * `create` and `put` carry an idempotency id and are sent again, to any host, until they are
 * decided: they must happen once. Of the others an unclear answer (time-out, host died) is recorded
 * as "may still happen, at any time". A try that was made on a host that died is left behind with
 * its memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/id.h"
#include "world.h"

enum {
    EVENTS_PER_IMAGE = 110,
    OPEN_PER_IMAGE = 6,
    TRIES_MAX = 60,
    RETRY_MS = 150,
    THINK_US = 40000,
};

const char *const sim_op_names[OP_COUNT] = {
#define X(name) #name,
    SIM_OPS(X)
#undef X
};

static const unsigned weights[OP_COUNT] = {
    [OP_create] = 5,     [OP_patch] = 12,     [OP_put] = 12,   [OP_tag_add] = 8,
    [OP_tag_remove] = 6, [OP_member_add] = 5, [OP_delete] = 3, [OP_member_remove] = 4,
    [OP_upload] = 10,    [OP_abandon] = 2,    [OP_show] = 16,  [OP_download] = 14,
    [OP_list] = 3,
};

/* One try on one host. */
struct run {
    struct client *c;
    struct sim_host *h;
    unsigned life;
    struct meta_barrier barrier;
    struct meta_submit submit;
    struct image_upload *upload;
    struct image_download *download;
    size_t at; /* bytes sent or got */
    struct image_download_info info;
    bool ended;
    struct task task;
    struct timer timer;
};

struct client {
    struct world *w;
    unsigned n;
    struct run *run; /* NULL: thinking or waiting to try again */
    bool busy;       /* an operation is open */
    enum sim_op op;
    unsigned image;
    uint64_t value;
    uint32_t content;
    uint8_t id[COMMAND_ID_SIZE];
    uint64_t invoked, began_ms;
    unsigned tries;
};

static const struct caller admin = {
    .scope = SCOPE_PROJECT,
    .roles = ROLE_ADMIN | ROLE_MEMBER | ROLE_READER,
    .user_id = "u1",
    .user_name = "sim",
    .project_id = "p0",
    .project_name = "sim",
};

const struct caller *sim_caller(void)
{
    return &admin;
}

static void begin(void *arg);
static void try_now(void *arg);

/* --- the end of an operation
 * ---------------------------------------------------------------------------------- */

static void think(struct client *c)
{
    sim_after(c->w->sim, 0, 500 + world_below(c->w, THINK_US), begin, NULL, c);
}

static void op_end(struct client *c, const char *how)
{
    struct world *w = c->w;
    world_note(w, "client %u %s image %u: %s", c->n, sim_op_names[c->op], c->image, how);
    w->ops_done++;
    w->ops_all[c->op]++;
    w->busy--;
    c->busy = false;
    c->run = NULL;
    think(c);
}

static void record(struct client *c, struct sim_event *e, int outcome)
{
    e->op = c->op;
    e->invoked = c->invoked;
    e->outcome = outcome;
    e->returned = outcome == OUTCOME_MAYBE ? UINT64_MAX : c->w->order++;
    history_add(c->w, c->image, e);
}

static struct sim_event event_of(const struct client *c)
{
    struct sim_event e = {.value = (uint32_t)c->value};
    if (c->op == OP_upload) {
        e.value = c->content;
    }
    return e;
}

static bool retried(enum sim_op op)
{
    return op == OP_create || op == OP_put;
}

static bool changes(enum sim_op op)
{
    return op != OP_show && op != OP_download && op != OP_list && op != OP_abandon;
}

static void decided(struct client *c, int outcome)
{
    static const char *const names[] = {"ok", "absent", "exists", "maybe", "missing"};
    struct sim_event e = event_of(c);
    if (outcome == OUTCOME_OK) {
        c->w->ops_ok[c->op]++;
    }
    record(c, &e, outcome);
    op_end(c, names[outcome]);
}

/* Nobody knows whether it happened. */
static void unclear(struct client *c)
{
    if (!changes(c->op)) {
        op_end(c, "no answer");
        return;
    }
    if (retried(c->op) && c->tries < TRIES_MAX) {
        c->run = NULL;
        sim_after(c->w->sim, 0, RETRY_MS * 1000 + world_below(c->w, 100000), try_now, NULL, c);
        return;
    }
    decided(c, OUTCOME_MAYBE);
}

static void refused(struct client *c, int status)
{
    if (status == TSR_ENOENT && (c->op == OP_tag_remove || c->op == OP_member_remove)) {
        decided(c, OUTCOME_MISSING);
    } else if (status == TSR_ENOENT) {
        decided(c, OUTCOME_ABSENT);
    } else if (status == TSR_EEXIST) {
        decided(c, OUTCOME_EXISTS);
    } else if (err_may_retry(status) && status != TSR_EVERSION) {
        unclear(c);
    } else {
        op_end(c, err_name(status));
    }
}

void clients_host_crashed(struct world *w, struct sim_host *h)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        struct client *c = w->clients[i];
        if (c->run != NULL && c->run->h == h) {
            c->run->ended = true;
            unclear(c);
        }
    }
}

/* Whether this try still counts; it ends now. */
static bool run_end(struct run *r)
{
    if (r->ended) {
        return false;
    }
    r->ended = true;
    return true;
}

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
        decided(r->c, OUTCOME_OK);
    } else {
        refused(r->c, status);
    }
}

static void put_answered(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    changed(req->arg, status, result, err);
}

static const char *image_id(const struct client *c)
{
    return c->w->images[c->image].id;
}

static void do_create(struct run *r)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)r->c->value);
    json_t *body =
        json_pack("{s:s,s:s,s:s,s:s,s:s}", "id", image_id(r->c), "name", name, "disk_format", "raw",
                  "container_format", "bare", "visibility", "shared");
    image_create(&r->h->image, &admin, body, r->c->id, changed, r);
    json_decref(body);
}

static void do_put(struct run *r)
{
    char value[16];
    (void)snprintf(value, sizeof(value), "v%u", (unsigned)r->c->value);
    r->submit = (struct meta_submit){
        .loop = r->h->worker,
        .command = json_pack("{s:s,s:s,s:{s:s}}", "op", "image.update", "id", image_id(r->c),
                             "props_set", "reg", value),
        .timeout_ms = 3000,
        .cb = put_answered,
        .arg = r,
    };
    memcpy(r->submit.id, r->c->id, COMMAND_ID_SIZE);
    meta_submit(r->h->meta, &r->submit);
}

static void do_patch(struct run *r)
{
    char name[16];
    struct err err = {0};
    json_t *ops = NULL;
    (void)snprintf(name, sizeof(name), "n%u", (unsigned)r->c->value);
    json_t *body = json_pack("[{s:s,s:s,s:s}]", "op", "replace", "path", "/name", "value", name);
    tsr_assert(image_patch_parse(body, false, &ops, &err) == 0);
    image_patch(&r->h->image, &admin, image_id(r->c), ops, false, changed, r);
    json_decref(ops);
    json_decref(body);
}

static void do_tag(struct run *r, bool add)
{
    char tag[16];
    (void)snprintf(tag, sizeof(tag), "t%u", (unsigned)r->c->value);
    image_tag(&r->h->image, &admin, image_id(r->c), tag, add, changed, r);
}

static void do_member(struct run *r, bool add)
{
    char project[16];
    (void)snprintf(project, sizeof(project), "m%u", (unsigned)r->c->value);
    if (!add) {
        image_member_remove(&r->h->image, &admin, image_id(r->c), project, changed, r);
        return;
    }
    json_t *body = json_pack("{s:s}", "member", project);
    image_member_add(&r->h->image, &admin, image_id(r->c), body, changed, r);
    json_decref(body);
}

/* --- uploads
 * ---------------------------------------------------------------------------------------------------
 */

static void upload_more(struct run *r);

static void upload_finished(void *arg, int status, json_t *result, const struct err *err)
{
    struct run *r = arg;
    (void)result;
    r->upload = NULL;
    if (!run_end(r)) {
        return;
    }
    if (status == 0) {
        check_acknowledged(r->h, image_id(r->c));
        decided(r->c, OUTCOME_OK);
    } else if (status == TSR_EGONE || status == TSR_ENOENT || status == TSR_ENOSPC) {
        op_end(r->c, err_name(status));
    } else {
        world_note(r->c->w, "client %u upload: %s (%s)", r->c->n, err->msg, err_name(status));
        decided(r->c, OUTCOME_MAYBE);
    }
}

static void upload_failed(void *arg, int status, const struct err *err)
{
    struct run *r = arg;
    (void)err;
    r->upload = NULL;
    if (run_end(r)) {
        op_end(r->c, err_name(status));
    }
}

static void upload_more_task(struct task *task)
{
    upload_more(container_of(task, struct run, task));
}

static void upload_drain(void *arg)
{
    struct run *r = arg;
    if (!r->ended && r->upload != NULL) {
        upload_more(r);
    }
}

static void upload_done_sending(struct run *r)
{
    struct client *c = r->c;
    if (c->op == OP_upload) {
        image_upload_finish(r->upload, upload_finished, r);
        return;
    }
    image_upload_abort(r->upload);
    r->upload = NULL;
    if (run_end(r)) {
        op_end(c, "given up");
    }
}

static void upload_more(struct run *r)
{
    struct client *c = r->c;
    if (r->ended || r->upload == NULL) {
        return;
    }
    size_t size = content_size(c->content);
    size_t end = c->op == OP_abandon ? size / 2 : size;
    if (r->at >= end) {
        upload_done_sending(r);
        return;
    }
    size_t n = 1 + (size_t)world_below(c->w, 9000);
    n = n < end - r->at ? n : end - r->at;
    size_t from = r->at;
    r->at += n;
    bool more = image_upload_write(r->upload, content_data(c->content) + from, n);
    if (more && r->upload != NULL && !r->ended) { /* the next piece comes from the network */
        r->task.run = upload_more_task;
        loop_post(r->h->worker, &r->task);
    }
}

static void upload_ready(void *arg, int status, json_t *result, const struct err *err)
{
    struct run *r = arg;
    (void)result;
    (void)err;
    if (r->ended) {
        return;
    }
    if (status == 0) {
        upload_more(r);
        return;
    }
    r->upload = NULL;
    if (!run_end(r)) {
        return;
    }
    if (status == TSR_ENOENT && r->c->op == OP_upload) {
        decided(r->c, OUTCOME_ABSENT);
    } else {
        op_end(r->c, err_name(status));
    }
}

static void do_upload(struct run *r)
{
    int64_t size = (int64_t)content_size(r->c->content);
    struct image_upload_options options = {
        .caller = &admin,
        .id = image_id(r->c),
        .content_length = world_below(r->c->w, 2) == 0 ? size : -1,
        .size_header = -1,
        .on_ready = upload_ready,
        .on_drain = upload_drain,
        .on_fail = upload_failed,
        .arg = r,
    };
    image_upload_start(&r->h->image, &options, &r->upload);
}

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

static void see_content(struct world *w, const json_t *image, struct sim_event *e)
{
    const char *status = json_str_or(image, "status", "");
    e->content = content_of_md5(json_str(image, "checksum"));
    if (e->content == UINT32_MAX) {
        world_fail(w, "image %s has the checksum of nothing that was uploaded",
                   json_str_or(image, "id", "?"));
    }
    bool active = strcmp(status, "active") == 0;
    if (!active && strcmp(status, "queued") != 0 && strcmp(status, "saving") != 0) {
        world_fail(w, "image %s has status %s", json_str_or(image, "id", "?"), status);
    }
    if (active != (e->content != 0) ||
        (active && json_int(image, "size", -1) != (int64_t)content_size(e->content))) {
        world_fail(w, "image %s is %s with content %u, size %lld", json_str_or(image, "id", "?"),
                   status, e->content, (long long)json_int(image, "size", -1));
    }
    e->fields |= SEEN_CONTENT;
}

static void see(struct world *w, const json_t *image, struct sim_event *e)
{
    e->live = true;
    e->name = number_of(json_str(image, "name"), 'n');
    e->tags = mask_of(w, json_arr(image, "tags"), NULL, 't');
    e->fields |= SEEN_NAME | SEEN_TAGS;
    see_content(w, image, e);
}

static void do_show(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    struct sim_event e = {0};
    struct err err = {0};
    json_t *image = NULL, *members = NULL;
    int rv = image_find(view, &admin, image_id(c), ACT_SHOW, &image, &err);
    if (rv == 0) {
        see(c->w, image, &e);
        e.reg = number_of(json_str(json_obj(image, "props"), "reg"), 'v');
        rv = image_member_list(view, &admin, image_id(c), &members, &err);
        e.members = mask_of(c->w, json_arr(members, "members"), "member_id", 'm');
        e.fields |= SEEN_REG | SEEN_MEMBERS;
        json_decref(members);
    }
    json_decref(image);
    if (!run_end(r)) {
        return;
    }
    if (rv != 0 && rv != TSR_ENOENT) {
        if (r->h->failing) {
            op_end(c, err_name(rv));
            return;
        }
        world_fail(c->w, "show of image %u on host %u: %s (%s)", c->image, r->h->n, err.msg,
                   err_name(rv));
    }
    c->w->ops_ok[OP_show]++;
    record(c, &e, OUTCOME_OK);
    op_end(c, rv == 0 ? "ok" : "absent");
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

static void do_list(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    struct err err = {0};
    json_t *page = NULL;
    int rv = image_list(view, &admin, NULL, 0, 1000, 1000, &page, &err);
    if (!run_end(r)) {
        return;
    }
    if (rv != 0) {
        if (!r->h->failing) {
            world_fail(c->w, "list on host %u: %s (%s)", r->h->n, err.msg, err_name(rv));
        }
        op_end(c, err_name(rv));
        return;
    }
    for (unsigned i = 0; i < 3; i++) { /* one look at a few */
        struct sim_event e = {0};
        c->image = (unsigned)world_below(c->w, c->w->image_count);
        if (c->w->images[c->image].retired) {
            continue;
        }
        json_t *image = find_listed(json_arr(page, "images"), image_id(c));
        if (image != NULL) {
            see(c->w, image, &e);
        }
        record(c, &e, OUTCOME_OK);
    }
    json_decref(page);
    c->w->ops_ok[OP_list]++;
    op_end(c, "ok");
}

/* --- downloads
 * --------------------------------------------------------------------------------------------------
 */

static void download_end(struct run *r, int status)
{
    struct client *c = r->c;
    struct sim_event e = {.live = true, .fields = SEEN_CONTENT, .content = c->content};
    image_download_close(r->download);
    r->download = NULL;
    if (!run_end(r)) {
        return;
    }
    if (status != 0) {
        op_end(c, err_name(status));
        return;
    }
    c->w->ops_ok[OP_download]++;
    record(c, &e, OUTCOME_OK);
    op_end(c, "ok");
}

static void download_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct run *r = arg;
    struct client *c = r->c;
    if (r->ended) {
        return;
    }
    if (status != 0) {
        download_end(r, status);
        return;
    }
    if (piece->size == 0) {
        if ((int64_t)r->at != r->info.length) {
            world_fail(c->w, "download of image %u on host %u ends well after %zu of %lld bytes",
                       c->image, r->h->n, r->at, (long long)r->info.length);
        }
        download_end(r, 0);
        return;
    }
    size_t from = (size_t)r->info.offset + r->at;
    if (piece->file || from + piece->size > content_size(c->content) ||
        memcmp(piece->data, content_data(c->content) + from, piece->size) != 0) {
        world_fail(c->w, "download of image %u on host %u: wrong bytes at %zu", c->image, r->h->n,
                   from);
    }
    r->at += piece->size;
    image_download_next(r->download, download_piece, r);
}

static void download_open(void *arg, int status, const struct image_download_info *info,
                          const struct err *err)
{
    struct run *r = arg;
    (void)err;
    if (r->ended) {
        return;
    }
    if (status != 0) {
        download_end(r, status);
        return;
    }
    if (info->empty != (r->c->content == 0)) {
        world_fail(r->c->w, "download of image %u: empty is %d, content %u", r->c->image,
                   info->empty, r->c->content);
    }
    if (info->empty) {
        download_end(r, 0);
        return;
    }
    r->info = *info;
    image_download_next(r->download, download_piece, r);
}

static void do_download(struct run *r, struct meta_view *view)
{
    struct client *c = r->c;
    struct sim_event e = {0};
    struct err err = {0};
    json_t *image = NULL;
    char range[64];
    int rv = image_find(view, &admin, image_id(c), ACT_DOWNLOAD, &image, &err);
    if (rv != 0) {
        if (run_end(r) && rv == TSR_ENOENT) {
            record(c, &e, OUTCOME_OK);
        }
        op_end(c, err_name(rv));
        return;
    }
    see_content(c->w, image, &e);
    c->content = e.content;
    bool part = c->content != 0 && world_below(c->w, 3) == 0;
    if (part) {
        size_t size = content_size(c->content), from = (size_t)world_below(c->w, size);
        (void)snprintf(range, sizeof(range), "bytes=%zu-%zu", from,
                       from + (size_t)world_below(c->w, size - from));
    }
    rv = image_download_open(&r->h->image, &admin, image, part ? range : NULL, false, download_open,
                             r, &r->download);
    json_decref(image);
    if (rv != 0 && run_end(r)) {
        op_end(c, err_name(rv));
    }
}

/* --- one operation
 * ---------------------------------------------------------------------------------------------------
 */

static void go(struct run *r)
{
    struct client *c = r->c;
    struct meta_view *view = NULL;
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
    case OP_tag_add:
    case OP_tag_remove:
        do_tag(r, c->op == OP_tag_add);
        return;
    case OP_member_add:
    case OP_member_remove:
        do_member(r, c->op == OP_member_add);
        return;
    case OP_delete:
        image_delete(&r->h->image, &admin, image_id(c), changed, r);
        return;
    case OP_upload:
    case OP_abandon:
        do_upload(r);
        return;
    default:
        break;
    }
    int rv = meta_view_open(r->h->meta, &view);
    if (rv != 0) {
        if (run_end(r)) {
            op_end(c, err_name(rv));
        }
        return;
    }
    if (c->op == OP_show) {
        do_show(r, view);
    } else if (c->op == OP_list) {
        do_list(r, view);
    } else {
        do_download(r, view);
    }
    meta_view_close(view);
}

static void barrier_done(struct meta_barrier *req, int status)
{
    struct run *r = req->arg;
    if (r->ended) {
        return;
    }
    if (status == 0) {
        go(r);
        return;
    }
    if (run_end(r)) { /* nothing was sent */
        struct client *c = r->c;
        if (c->tries > 1 || retried(c->op)) {
            unclear(c);
        } else {
            op_end(c, err_name(status));
        }
    }
}

static void try_now(void *arg)
{
    struct client *c = arg;
    struct sim_host *h = &c->w->hosts[1 + world_below(c->w, c->w->host_count)];
    if (!h->up || h->fatal) { /* a paused one takes the request and answers when it goes on */
        h = host_any(c->w);
    }
    c->tries++;
    if (h == NULL) {
        unclear(c);
        return;
    }
    struct run *r = calloc(1, sizeof(*r));
    tsr_assert(r != NULL);
    r->c = c;
    r->h = h;
    r->life = h->life;
    c->run = r;
    r->barrier = (struct meta_barrier){.loop = h->worker, .cb = barrier_done, .arg = r};
    meta_barrier(h->meta, &r->barrier);
}

static enum sim_op pick_op(struct world *w)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < OP_COUNT; i++) {
        sum += weights[i];
    }
    unsigned at = (unsigned)world_below(w, sum);
    for (unsigned i = 0; i < OP_COUNT; i++) {
        if (at < weights[i]) {
            return (enum sim_op)i;
        }
        at -= weights[i];
    }
    return OP_show;
}

static bool pick_image(struct client *c)
{
    struct world *w = c->w;
    for (unsigned i = 0; i < 20 && w->image_count > 0; i++) {
        unsigned newest = w->image_count < 12 ? w->image_count : 12;
        unsigned at = w->image_count - 1 - (unsigned)world_below(w, newest);
        struct sim_image *image = &w->images[at];
        if (!image->retired && (image->count > EVENTS_PER_IMAGE || image->open > OPEN_PER_IMAGE)) {
            image->retired = true;
        }
        if (!image->retired) {
            c->image = at;
            return true;
        }
    }
    return false;
}

static void new_image(struct client *c)
{
    struct world *w = c->w;
    uint8_t random[16];
    tsr_assert(w->image_count < SIM_IMAGES_MAX);
    for (size_t i = 0; i < sizeof(random); i++) {
        random[i] = (uint8_t)world_below(w, 256);
    }
    c->op = OP_create;
    c->image = w->image_count++;
    uuid_format(random, w->images[c->image].id);
}

static void begin(void *arg)
{
    struct client *c = arg;
    struct world *w = c->w;
    if (w->closing) {
        return;
    }
    c->op = pick_op(w);
    if (c->op == OP_create || !pick_image(c)) {
        new_image(c);
    }
    c->value = c->op == OP_tag_add || c->op == OP_tag_remove         ? world_below(w, SIM_TAGS)
               : c->op == OP_member_add || c->op == OP_member_remove ? world_below(w, SIM_PROJECTS)
                                                                     : ++w->next_value;
    if (c->op == OP_upload || c->op == OP_abandon) {
        c->content = content_new(w);
    }
    for (size_t i = 0; i < sizeof(c->id); i++) {
        c->id[i] = (uint8_t)world_below(w, 256);
    }
    c->tries = 0;
    c->invoked = w->order++;
    c->began_ms = world_ms(w);
    c->busy = true;
    w->busy++;
    try_now(c);
}

void clients_tell(struct world *w)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        const struct client *c = w->clients[i];
        if (c->busy) {
            world_note(w, "client %u waits: %s image %u (%s), try %u on host %u, since %llu ms",
                       c->n, sim_op_names[c->op], c->image, image_id(c), c->tries,
                       c->run != NULL ? c->run->h->n : 0, (unsigned long long)c->began_ms);
        }
    }
}

void clients_start(struct world *w, unsigned count)
{
    for (unsigned i = 0; i < count && w->client_count < SIM_CLIENTS_MAX; i++) {
        struct client *c = calloc(1, sizeof(*c));
        tsr_assert(c != NULL);
        c->w = w;
        c->n = i + 1;
        w->clients[w->client_count++] = c;
        think(c);
    }
}
