/* The services on one host of a simulated cluster: real store, real chunk services and writers, and
 * a consensus that is played here: an entry is applied at once, and the answer may be lost. */
#ifndef TEST_IMAGE_WORLD_H
#define TEST_IMAGE_WORLD_H

#include "../replica/cluster.h"

#include <stdlib.h>

#include "tessera/image.h"

/* --- consensus, played
 * ------------------------------------------------------------------------------ */

struct consensus {
    struct meta *meta;
    struct loop *loop;
    uint64_t index;
    const char *match; /* commands with this text ... */
    int lose, refuse;  /* ... so many are done but answered TSR_ETIMEOUT; so many not even done */
    unsigned submits;
};
static struct consensus fake;

struct proposal {
    struct task task;
    struct consensus_submit *req;
    struct consensus_read *read;
    struct fsm_command command;
    int status;
};

static void proposal_answer(struct task *task)
{
    struct proposal *p = container_of(task, struct proposal, task);
    p->req->cb(p->req, p->status, p->command.code, p->command.result, p->command.result_size);
    free(p->command.result);
    free(p);
}

static bool counted(int *left)
{
    return *left > 0 && (*left)-- > 0;
}

void consensus_submit(struct consensus *c, struct consensus_submit *req)
{
    struct proposal *p = calloc(1, sizeof(*p));
    bool matches = c->match != NULL && memmem(req->data, req->size, c->match, strlen(c->match));
    c->submits++;
    p->req = req;
    p->command.data = req->data;
    p->command.size = req->size;
    memcpy(p->command.id, req->id, COMMAND_ID_SIZE);
    if (matches && counted(&c->refuse)) {
        p->status = TSR_ENOQUORUM;
    } else {
        struct fsm *fsm = meta_fsm(c->meta);
        struct fsm_entry e = {.index = ++c->index,
                              .term = 1,
                              .wall_us = 1000000 * (int64_t)c->index,
                              .commands = &p->command,
                              .count = 1};
        check_ok(fsm->ops->apply(fsm, &e, 1));
        p->status = matches && counted(&c->lose) ? TSR_ETIMEOUT : 0;
    }
    p->task.run = proposal_answer;
    loop_post(c->loop, &p->task);
}

static void reading_answer(struct task *task)
{
    struct proposal *p = container_of(task, struct proposal, task);
    p->read->cb(p->read, 0);
    free(p);
}

void consensus_read_index(struct consensus *c, struct consensus_read *req)
{
    struct proposal *p = calloc(1, sizeof(*p));
    p->read = req;
    p->task.run = reading_answer;
    loop_post(c->loop, &p->task);
}

/* --- the world
 * ---------------------------------------------------------------------------------------- */

struct world {
    struct cluster c;
    struct meta *meta;
    struct cluster_load *load;
    struct image_limits limits;
    struct image_ctx ctx;
    struct caller owner, other, admin;
};

static inline struct caller world_caller(const char *project, unsigned roles)
{
    struct caller c = {.scope = SCOPE_PROJECT, .roles = roles};
    (void)snprintf(c.project_id, sizeof(c.project_id), "%s", project);
    return c;
}

struct answer {
    bool done;
    int status;
    json_t *result;
    struct err err;
};

static inline void answer_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct answer *a = arg;
    check(!a->done);
    a->done = true;
    a->status = status;
    a->result = json_incref(result);
    if (err != NULL) {
        a->err = *err;
    }
}

static inline int world_wait(struct world *w, struct answer *a)
{
    check(!a->done); /* never inside the call */
    virtual_until(&w->c.v, &a->done);
    return a->status;
}

static inline void world_hosts(struct world *w, unsigned up)
{
    struct placement_host hosts[HOSTS];
    for (unsigned i = 0; i < HOSTS; i++) {
        hosts[i] = (struct placement_host){.id = i + 1,
                                           .up = i < up,
                                           .image_role = true,
                                           .available_bytes = -1,
                                           .total_bytes = -1,
                                           .weight = 100};
    }
    cluster_load_set(w->load, hosts, HOSTS);
}

static inline void world_submit(struct world *w, const char *text)
{
    struct fsm_command c = {.data = text, .size = strlen(text)};
    loop_random(&w->c.v.loop, c.id, sizeof(c.id));
    struct fsm *fsm = meta_fsm(w->meta);
    struct fsm_entry e = {
        .index = ++fake.index, .term = 1, .wall_us = 1, .commands = &c, .count = 1};
    check_ok(fsm->ops->apply(fsm, &e, 1));
    check_ok(c.code);
    free(c.result);
}

static inline void world_open(struct world *w)
{
    memset(w, 0, sizeof(*w));
    struct kv *kv;
    struct err err = {0};
    cluster_init(&w->c, 7);
    check_ok(kv_mem_open(meta_database_count, &kv));
    check_ok(meta_open(kv, &w->meta, &err));
    fake = (struct consensus){.meta = w->meta, .loop = &w->c.v.loop};
    meta_attach(w->meta, &fake, &w->c.v.loop);
    for (int i = 1; i <= HOSTS; i++) {
        char text[256];
        (void)snprintf(text, sizeof(text),
                       "{\"op\":\"host.add\",\"name\":\"h%d\",\"zone\":\"\",\"roles\":[\"image\"],"
                       "\"api_url\":\"u\",\"peer_address\":\"h%d:1\",\"raft_address\":\"h%d:2\","
                       "\"version\":\"1\"}",
                       i, i, i);
        world_submit(w, text);
    }
    w->load = cluster_load_new();
    world_hosts(w, HOSTS);
    w->limits = (struct image_limits){.image_size_cap = 1 << 20,
                                      .property_quota = 128,
                                      .tag_quota = 2,
                                      .member_quota = 2,
                                      .replicas = 3,
                                      .write_replicas = 2};
    w->ctx = (struct image_ctx){.loop = &w->c.v.loop,
                                .meta = w->meta,
                                .replica = &w->c.ctx[1],
                                .load = w->load,
                                .limits = &w->limits,
                                .self = 1,
                                .zone = "",
                                .boot = {1, 2, 3, 4}};
    w->owner = world_caller("p1", ROLE_MEMBER | ROLE_READER);
    w->other = world_caller("p2", ROLE_MEMBER | ROLE_READER);
    w->admin = world_caller("p0", ROLE_ADMIN | ROLE_MEMBER | ROLE_READER);
}

static inline void world_close(struct world *w)
{
    cluster_settle(&w->c);
    meta_detach(w->meta);
    cluster_settle(&w->c);
    cluster_end(&w->c);
    meta_close(w->meta);
    cluster_load_free(w->load);
}

/* A new image of the owner; its id lives in the world's answer. */
static inline void world_create(struct world *w, const char *body_text, char id[40])
{
    struct answer a = {0};
    json_t *body = json_parse(body_text, strlen(body_text));
    image_create(&w->ctx, &w->owner, body, NULL, answer_cb, &a);
    json_decref(body);
    check_ok(world_wait(w, &a));
    (void)snprintf(id, 40, "%s", json_str_or(a.result, "id", ""));
    json_decref(a.result);
}

/* The record now; new reference, NULL: none. */
static inline json_t *world_record(struct world *w, const char *id)
{
    struct meta_view *view;
    json_t *record = NULL;
    check_ok(meta_view_open(w->meta, &view));
    (void)meta_image_get(view, id, &record);
    meta_view_close(view);
    return record;
}

static inline void world_is(struct world *w, const char *id, const char *status)
{
    json_t *record = world_record(w, id);
    check(record != NULL);
    check_str(json_str(record, "status"), status);
    if (strcmp(status, "queued") == 0) {
        check(json_is_null(json_object_get(record, "size")));
        check(json_is_null(json_object_get(record, "checksum")));
        check(json_is_null(json_object_get(record, "session")));
    }
    json_decref(record);
}

#endif
