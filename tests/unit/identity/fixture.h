/* A directory for the tests of identity: a real metadata store in memory whose commands are applied
 * at once, a loop with a clock that the test sets, and a pool that works when it is told to. */
#ifndef TEST_IDENTITY_FIXTURE_H
#define TEST_IDENTITY_FIXTURE_H

#include "test.h"

#include <stdlib.h>

#include "tessera/base/id.h"
#include "tessera/identity.h"

#define PASSWORD "correct horse"
#define SECOND INT64_C(1000000)

struct fake_loop {
    struct loop loop;
    int64_t wall_us;
    uint64_t now_ns, seed;
    struct task *first, **last;
};

struct fake_pool {
    struct pool pool;
    struct work *first, **last;
    size_t depth;
};

struct world {
    struct fake_loop loop;
    struct fake_pool pool;
    struct kv *kv;
    struct meta *meta;
    struct identity *identity;
    uint64_t index;
    uint8_t cluster_key[32];
    char admin[33], admin_project[33];
};

/* --- loop and pool
 * -------------------------------------------------------------------------------- */

static inline uint64_t fake_now(struct loop *loop)
{
    return ((struct fake_loop *)loop)->now_ns;
}
static inline int64_t fake_wall(struct loop *loop)
{
    return ((struct fake_loop *)loop)->wall_us;
}
static inline void fake_post(struct loop *loop, struct task *task)
{
    struct fake_loop *l = (struct fake_loop *)loop;
    task->next = NULL;
    *l->last = task;
    l->last = &task->next;
}
static inline void fake_random(struct loop *loop, void *out, size_t size)
{
    struct fake_loop *l = (struct fake_loop *)loop;
    for (size_t i = 0; i < size; i++) {
        l->seed = l->seed * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(l->seed >> 33);
    }
}
static const struct loop_ops fake_loop_ops = {
    .now_ns = fake_now, .wall_us = fake_wall, .post = fake_post, .random = fake_random};

static inline void fake_submit(struct pool *pool, struct work *work)
{
    struct fake_pool *p = (struct fake_pool *)pool;
    work->next = NULL;
    *p->last = work;
    p->last = &work->next;
    p->depth++;
}
static inline size_t fake_depth(struct pool *pool)
{
    return ((struct fake_pool *)pool)->depth;
}
static const struct pool_ops fake_pool_ops = {.submit = fake_submit, .depth = fake_depth};

/* Do what was posted and submitted. */
static inline void pump(struct world *w)
{
    while (w->loop.first != NULL || w->pool.first != NULL) {
        struct task *task = w->loop.first;
        struct work *work = w->pool.first;
        if (task != NULL) {
            w->loop.first = task->next;
            w->loop.last = task->next == NULL ? &w->loop.first : w->loop.last;
            task->run(task);
            continue;
        }
        w->pool.first = work->next;
        w->pool.last = work->next == NULL ? &w->pool.first : w->pool.last;
        w->pool.depth--;
        work->run(work);
        work->done(work);
    }
}

static inline void advance(struct world *w, int64_t us)
{
    w->loop.wall_us += us;
    w->loop.now_ns += (uint64_t)us * 1000;
}

/* --- store
 * ------------------------------------------------------------------------------------------ */

/* Takes @command; its outcome's code. */
static inline int apply(struct world *w, json_t *command)
{
    size_t size = 0;
    check(command != NULL);
    char *text = json_text(command, &size);
    json_decref(command);
    struct fsm *fsm = meta_fsm(w->meta);
    struct fsm_command c = {.data = text, .size = size};
    struct fsm_entry e = {
        .index = ++w->index, .term = 1, .wall_us = w->loop.wall_us, .commands = &c, .count = 1};
    memcpy(c.id, &w->index, sizeof(w->index));
    c.id[15] = 1;
    check_ok(fsm->ops->apply(fsm, &e, 1));
    free(c.result);
    free(text);
    return c.code;
}

static inline int put(struct world *w, const char *kind, const char *id, json_t *value)
{
    return apply(w, json_pack("{s:s,s:s,s:s,s:o,s:s}", "op", "dir.put", "kind", kind, "id", id,
                              "value", value, "if", "any"));
}

static inline int remove_record(struct world *w, const char *kind, const char *id)
{
    return apply(w, json_pack("{s:s,s:s,s:s}", "op", "dir.delete", "kind", kind, "id", id));
}

static inline struct meta_view *open_view(struct world *w)
{
    struct meta_view *v = NULL;
    check_ok(meta_view_open(w->meta, &v));
    return v;
}

/* Change one field (takes @value) of a record. */
static inline void set_field(struct world *w, const char *kind, const char *id, const char *key,
                             json_t *value)
{
    json_t *record = NULL;
    struct meta_view *v = open_view(w);
    check_ok(meta_dir_get(v, kind, id, &record));
    meta_view_close(v);
    json_object_set_new(record, key, value);
    check_ok(put(w, kind, id, record));
}

static inline void grant(struct world *w, const char *user, enum caller_scope scope,
                         const char *target, unsigned bit)
{
    char id[ASSIGNMENT_ID_MAX];
    for (size_t i = 0; i < IDENTITY_ROLES; i++) {
        const struct identity_role *r = &identity_role_table[i];
        if (r->bit == bit) {
            identity_assignment_id(user, scope, target, r->id, id);
            check_ok(put(w, "assignment", id,
                         json_pack("{s:s,s:s,s:s}", "user_id", user,
                                   scope == SCOPE_PROJECT  ? "project_id"
                                   : scope == SCOPE_DOMAIN ? "domain_id"
                                                           : "system",
                                   target, "role_id", r->id)));
        }
    }
}

static inline void find_id(struct world *w, const char *kind, const char *name, char out[33])
{
    json_t *record = NULL;
    struct meta_view *v = open_view(w);
    check_ok(meta_dir_find(v, kind, "default", name, &record));
    meta_view_close(v);
    snprintf(out, 33, "%s", json_str_or(record, "id", ""));
    json_decref(record);
}

static inline void world_open(struct world *w)
{
    struct err err = {0};
    json_t *commands = NULL;
    memset(w, 0, sizeof(*w));
    w->loop.loop.ops = &fake_loop_ops;
    w->loop.last = &w->loop.first;
    w->loop.wall_us = INT64_C(1800000000) * SECOND;
    w->loop.now_ns = UINT64_C(1000) * 1000000000;
    w->loop.seed = 42;
    w->pool.pool.ops = &fake_pool_ops;
    w->pool.last = &w->pool.first;
    memset(w->cluster_key, 7, sizeof(w->cluster_key));
    check_ok(kv_mem_open(meta_database_count, &w->kv));
    check_ok(meta_open(w->kv, &w->meta, &err));
    check_ok(identity_init_commands(w->cluster_key, PASSWORD, &w->loop.loop, &commands));
    check_ok(apply(w, json_pack("{s:s,s:o}", "op", "batch", "commands", commands)));
    struct identity_options options = {.meta = w->meta,
                                       .auth_pool = &w->pool.pool,
                                       .cluster_key = w->cluster_key,
                                       .token_life_us = 4 * 3600 * SECOND};
    check_ok(identity_new(&options, &w->identity));
    find_id(w, "user", "admin", w->admin);
    find_id(w, "project", "admin", w->admin_project);
}

static inline void world_close(struct world *w)
{
    pump(w);
    identity_free(w->identity);
    meta_close(w->meta);
}

/* --- logins
 * -------------------------------------------------------------------------------------------- */

struct login_probe {
    struct identity_login req;
    json_t *body;
    bool done;
    int status;
    struct err err;
};

static inline void login_probe_cb(struct identity_login *req, int status, const struct err *err)
{
    struct login_probe *p = req->arg;
    check(!p->done);
    p->done = true;
    p->status = status;
    p->err = *err;
}

/* ' stands for ". */
static inline void login_begin(struct world *w, struct login_probe *p, const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    memset(p, 0, sizeof(*p));
    p->body = json_parse(copy, strlen(copy));
    check(p->body != NULL);
    free(copy);
    p->req.loop = &w->loop.loop;
    p->req.body = p->body;
    p->req.cb = login_probe_cb;
    p->req.arg = p;
    identity_login_start(w->identity, &p->req);
    check(!p->done); /* never before the call returned */
}

static inline int login(struct world *w, struct login_probe *p, const char *text)
{
    login_begin(w, p, text);
    pump(w);
    check(p->done);
    json_decref(p->body);
    return p->status;
}

static inline int issue(struct world *w, const struct caller *c, char out[512])
{
    struct meta_view *v = open_view(w);
    int rv = identity_issue(w->identity, v, c, out, 512);
    meta_view_close(v);
    return rv;
}

static inline int check_token(struct world *w, const char *token, struct caller *out)
{
    struct meta_view *v = open_view(w);
    int rv = identity_check(w->identity, v, token, w->loop.wall_us, out);
    meta_view_close(v);
    return rv;
}

#define ADMIN_LOGIN                                                                   \
    "{'auth':{'identity':{'methods':['password'],'password':{'user':{'name':'admin'," \
    "'domain':{'name':'Default'},'password':'" PASSWORD "'}}},"                       \
    "'scope':{'project':{'name':'admin','domain':{'id':'default'}}}}}"

/* A caller for user and scope as a login would make it, without the cost of scrypt. */
static inline void make_caller(struct world *w, const char *user, enum caller_scope scope,
                               const char *target, struct caller *out)
{
    int64_t valid_from = 0;
    uint8_t audit[16];
    memset(out, 0, sizeof(*out));
    struct meta_view *v = open_view(w);
    check_ok(identity_caller_fill(v, user, scope, target, out, &valid_from));
    meta_view_close(v);
    loop_random(&w->loop.loop, audit, sizeof(audit));
    base64url_encode(audit, sizeof(audit), out->audit_id);
    snprintf(out->methods, sizeof(out->methods), "password");
    out->issued_us = w->loop.wall_us;
    out->expires_us = w->loop.wall_us + 4 * 3600 * SECOND;
}

#endif
