/* A store for the tests of meta: commands given as text, one entry each, times and ids counted. */
#ifndef TEST_META_FIXTURE_H
#define TEST_META_FIXTURE_H

#include "test.h"

#include <stdlib.h>

#include "tessera/meta.h"

struct store {
    struct kv *kv;
    struct meta *m;
    uint64_t index, next_id;
    int64_t now;
    json_t *result; /* of the last command */
    bool duplicate;
};

static inline void store_open_kv(struct store *s, struct kv *kv)
{
    struct err err = {0};
    *s = (struct store){.kv = kv, .now = 1000000};
    check_ok(meta_open(kv, &s->m, &err));
}

static inline void store_open(struct store *s)
{
    struct kv *kv;
    check_ok(kv_mem_open(meta_database_count, &kv));
    store_open_kv(s, kv);
}

static inline void store_open_lmdb(struct store *s, const char *dir)
{
    struct kv *kv;
    check_ok(kv_lmdb_open(dir, 256 << 20, meta_databases, meta_database_count, KV_SYNC_NONE, &kv));
    store_open_kv(s, kv);
}

static inline void store_close(struct store *s)
{
    json_decref(s->result);
    meta_close(s->m);
    *s = (struct store){0};
}

static inline void store_command_id(uint64_t n, uint8_t id[COMMAND_ID_SIZE])
{
    memset(id, 0, COMMAND_ID_SIZE);
    memcpy(id, &n, sizeof(n));
    id[15] = 1;
}

/* Apply one entry with one command of that id; what apply itself returns. *code: the outcome. */
static inline int store_apply(struct store *s, uint64_t id, const char *text, int *code)
{
    struct fsm *fsm = meta_fsm(s->m);
    struct fsm_command c = {.data = text, .size = strlen(text)};
    struct fsm_entry e = {
        .index = s->index + 1, .term = 1, .wall_us = s->now += 1000, .commands = &c, .count = 1};
    store_command_id(id, c.id);
    int rc = fsm->ops->apply(fsm, &e, 1);
    json_decref(s->result);
    s->result = NULL;
    s->duplicate = c.duplicate;
    *code = c.code;
    if (rc == 0) {
        s->index++;
        assert_non_null(c.result);
        s->result = json_parse(c.result, c.result_size);
        assert_non_null(s->result);
    } else {
        assert_null(c.result);
    }
    free(c.result);
    return rc;
}

/* ' stands for ". */
static inline char *store_text(const char *fmt, va_list args)
{
    char *text;
    check(vasprintf(&text, fmt, args) >= 0);
    for (char *p = text; *p != 0; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return text;
}

/* Run one command; its outcome's code. */
__attribute__((format(printf, 2, 3))) static inline int run(struct store *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *text = store_text(fmt, args);
    va_end(args);
    int code;
    check_ok(store_apply(s, ++s->next_id, text, &code));
    free(text);
    return code;
}

static inline const char *message(const struct store *s)
{
    return json_str_or(s->result, "msg", "");
}

/* "00000000-0000-4000-8000-00000000002a" for 42; valid until the eighth next call. */
static inline const char *uuid(unsigned n)
{
    static char ring[8][40];
    static unsigned at;
    char *out = ring[at++ % 8];
    snprintf(out, 40, "00000000-0000-4000-8000-%012x", n);
    return out;
}

static inline struct meta_view *view(struct store *s)
{
    struct meta_view *v;
    check_ok(meta_view_open(s->m, &v));
    return v;
}

/* The image as it is stored; NULL if there is none. */
static inline json_t *image(struct store *s, const char *id)
{
    struct meta_view *v = view(s);
    json_t *out = NULL;
    int rc = meta_image_get(v, id, &out);
    meta_view_close(v);
    check(rc == 0 || rc == TSR_ENOENT);
    return out;
}

static inline void check_field(struct store *s, const char *id, const char *field,
                               const char *want_json)
{
    json_t *i = image(s, id);
    assert_non_null(i);
    char *have = json_text(json_object_get(i, field), NULL);
    check_str(have, want_json);
    free(have);
    json_decref(i);
}

static inline struct fsm_point point(struct store *s)
{
    struct fsm_point p;
    check_ok(meta_point(s->m, &p));
    return p;
}

#define MANIFEST_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define MANIFEST_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static inline void add_hosts(struct store *s, int n)
{
    for (int i = 1; i <= n; i++) {
        check_ok(run(s,
                     "{'op':'host.add','name':'host%d','zone':'z','roles':['image','voter'],"
                     "'api_url':'https://h%d:9292','peer_address':'h%d:9293',"
                     "'raft_address':'h%d:9294','version':'1'}",
                     i, i, i, i));
    }
}

static inline void create(struct store *s, const char *id)
{
    check_ok(run(s,
                 "{'op':'image.create','image':{'id':'%s','owner':'p1','disk_format':'raw',"
                 "'container_format':'bare'}}",
                 id));
}

#endif
