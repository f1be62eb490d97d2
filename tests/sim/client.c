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

#include "client.h"
#include "tessera/base/id.h"

enum {
    EVENTS_PER_IMAGE = 110,
    OPEN_PER_IMAGE = 6,
    TRIES_MAX = 60,
    RETRY_MS = 150,
    LATE_US = 2500000,
    DELETED_MS = 3000,
    THINK_US = 40000,
};

const char *const sim_op_names[OP_COUNT] = {
#define X(name, weight) #name,
    SIM_OPS(X)
#undef X
};

static const unsigned weights[OP_COUNT] = {
#define X(name, weight) [OP_##name] = weight,
    SIM_OPS(X)
#undef X
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
    uint64_t us = c->unsure ? 0 : world_below(c->w, THINK_US);
    sim_after(c->w->sim, 0, 500 + us, begin, NULL, c);
}

void client_end(struct client *c, const char *how)
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

void client_record(struct client *c, struct sim_event *e, int outcome)
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
    if (c->op == OP_upload || c->op == OP_stage) {
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

/* What was stored last, and what was deleted last: somebody may upload it once more. */
static void remember_content(struct client *c)
{
    struct sim_image *image = &c->w->images[c->image];
    if (c->op == OP_upload || c->op == OP_stage) {
        image->content = c->content;
    } else if (c->op == OP_delete && image->content != 0) {
        c->w->deleted_content = image->content;
        c->w->deleted_ms = world_ms(c->w);
    }
}

void client_decided(struct client *c, int outcome)
{
    static const char *const names[] = {"ok", "absent", "exists", "maybe", "missing", "dropped"};
    struct sim_event e = event_of(c);
    if (outcome == OUTCOME_OK) {
        c->w->ops_ok[c->op]++;
        remember_content(c);
    }
    c->unsure = outcome == OUTCOME_MAYBE;
    if (c->unsure && c->op == OP_import) {
        client_import_unsure(c);
    }
    client_record(c, &e, outcome);
    client_end(c, names[outcome]);
}

void client_again(struct client *c, uint64_t us)
{
    c->run = NULL;
    sim_after(c->w->sim, 0, us, try_now, NULL, c);
}

/* Nobody knows whether it happened. */
void client_unclear(struct client *c)
{
    if (!changes(c->op)) {
        c->unsure = true;
        client_end(c, "no answer");
        return;
    }
    bool waits = c->task[0] != '\0'; /* an import was accepted: how it ends can be looked up */
    if ((retried(c->op) || waits) && c->tries < TRIES_MAX * (waits ? 8 : 1)) {
        bool late = world_below(c->w, 4) == 0; /* others may have changed much meanwhile */
        client_again(c, RETRY_MS * 1000 + world_below(c->w, late ? LATE_US : 100000));
        return;
    }
    client_decided(c, OUTCOME_MAYBE);
}

void client_refused(struct client *c, int status)
{
    if (status == TSR_ENOENT &&
        (c->op == OP_tag_remove || c->op == OP_member_remove || c->op == OP_member_status)) {
        client_decided(c, OUTCOME_MISSING);
    } else if (status == TSR_ENOENT) {
        client_decided(c, OUTCOME_ABSENT);
    } else if (status == TSR_EEXIST) {
        client_decided(c, OUTCOME_EXISTS);
    } else if (err_may_retry(status) && status != TSR_EVERSION) {
        client_unclear(c);
    } else {
        client_end(c, err_name(status));
    }
}

void clients_host_crashed(struct world *w, struct sim_host *h)
{
    for (unsigned i = 0; i < w->client_count; i++) {
        struct client *c = w->clients[i];
        if (c->run != NULL && c->run->h == h) {
            c->run->ended = true;
            client_unclear(c);
        }
    }
}

/* Whether this try still counts; it ends now. */
bool run_end(struct run *r)
{
    if (r->ended) {
        return false;
    }
    r->ended = true;
    return true;
}

const char *client_image(const struct client *c)
{
    return c->w->images[c->image].id;
}

/* --- one operation
 * ---------------------------------------------------------------------------------------------------
 */

static void look(struct run *r)
{
    struct client *c = r->c;
    struct meta_view *view = NULL;
    int rv = meta_view_open(r->h->meta, &view);
    if (rv != 0) {
        if (!run_end(r)) {
            return;
        }
        if (c->op == OP_import) { /* it was accepted: how it ended is asked again */
            client_unclear(c);
        } else {
            client_end(c, err_name(rv));
        }
        return;
    }
    if (c->op == OP_show) {
        client_show(r, view);
    } else if (c->op == OP_list) {
        client_list(r, view);
    } else if (c->op == OP_import) {
        client_import_look(r, view);
    } else {
        client_download(r, view);
    }
    meta_view_close(view);
}

static void go(struct run *r)
{
    switch (r->c->op) {
    case OP_upload:
    case OP_abandon:
    case OP_stage:
        client_upload(r);
        return;
    case OP_import:
        if (r->c->task[0] == '\0') {
            client_import(r);
            return;
        }
        look(r);
        return;
    case OP_show:
    case OP_list:
    case OP_download:
        look(r);
        return;
    default:
        client_change(r);
        return;
    }
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
        if (c->tries > 1 || retried(c->op) || c->task[0] != '\0') {
            client_unclear(c);
        } else {
            client_end(c, err_name(status));
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
        client_unclear(c);
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
        sum += w->op_weights[i];
    }
    unsigned at = (unsigned)world_below(w, sum);
    for (unsigned i = 0; i < OP_COUNT; i++) {
        if (at < w->op_weights[i]) {
            return (enum sim_op)i;
        }
        at -= w->op_weights[i];
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

static uint64_t new_value(struct client *c)
{
    struct world *w = c->w;
    switch (c->op) {
    case OP_tag_add:
    case OP_tag_remove:
        return world_below(w, SIM_TAGS);
    case OP_member_add:
    case OP_member_remove:
        return world_below(w, SIM_PROJECTS);
    case OP_member_status: /* accepted or not */
        return world_below(w, SIM_PROJECTS) + world_below(w, 2) * SIM_ACCEPTED;
    case OP_visibility:
        return world_below(w, 3) == 0 ? 1 + world_below(w, SIM_VISIBILITIES - 1) : 0;
    default:
        return ++w->next_value;
    }
}

/* Often what was deleted a moment ago, whole or in part, while hosts still remove its chunks. */
static uint32_t new_content(struct world *w)
{
    uint32_t old = w->deleted_content;
    if (old == 0 || world_ms(w) - w->deleted_ms > DELETED_MS || world_below(w, 2) == 0) {
        return content_new(w);
    }
    return world_below(w, 2) == 0 ? old : content_like(w, old);
}

static void begin(void *arg)
{
    struct client *c = arg;
    struct world *w = c->w;
    if (w->closing) {
        return;
    }
    if (c->unsure && world_below(w, 2) == 0) {
        c->op = OP_show; /* of the same image */
    } else {
        c->op = pick_op(w);
        if (c->op == OP_create || !pick_image(c)) {
            new_image(c);
        }
    }
    c->unsure = false;
    c->value = new_value(c);
    c->task[0] = '\0';
    if (c->op == OP_upload || c->op == OP_abandon || c->op == OP_stage) {
        c->content = new_content(w);
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
                       c->n, sim_op_names[c->op], c->image, client_image(c), c->tries,
                       c->run != NULL ? c->run->h->n : 0, (unsigned long long)c->began_ms);
        }
    }
}

/* In every other run the clients have a taste, too. */
void clients_start(struct world *w, unsigned count)
{
    static const unsigned taste[] = {1, 1, 1, 2, 4};
    bool even = world_below(w, 2) == 0;
    for (unsigned i = 0; i < OP_COUNT; i++) {
        w->op_weights[i] = weights[i] * (even ? 1 : taste[world_below(w, array_len(taste))]);
    }
    for (unsigned i = 0; i < count && w->client_count < SIM_CLIENTS_MAX; i++) {
        struct client *c = calloc(1, sizeof(*c));
        tsr_assert(c != NULL);
        c->w = w;
        c->n = i + 1;
        w->clients[w->client_count++] = c;
        think(c);
    }
}
