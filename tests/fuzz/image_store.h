/* A metadata store with the means to run commands in it, for targets that check what the image
 * services make against what the store takes. */
#ifndef TSR_TESTS_FUZZ_IMAGE_STORE_H
#define TSR_TESTS_FUZZ_IMAGE_STORE_H

#include "fuzz.h"
#include "tessera/image.h"

struct image_store {
    struct meta *meta;
    uint64_t index;
};

static const char image_store_id[] = "00000000-0000-4000-8000-000000000001";

static inline void image_store_open(struct image_store *s)
{
    struct kv *kv;
    struct err err = {0};
    *s = (struct image_store){0};
    fuzz_check(kv_mem_open(meta_database_count, &kv) == 0);
    fuzz_check(meta_open(kv, &s->meta, &err) == 0);
}

/* Outcome of the command; never fatal. */
static inline int image_store_run(struct image_store *s, const char *text)
{
    struct fsm *fsm = meta_fsm(s->meta);
    struct fsm_command c = {.data = text, .size = strlen(text)};
    struct fsm_entry e = {
        .index = ++s->index, .term = 1, .wall_us = 1000000, .commands = &c, .count = 1};
    memcpy(c.id, &s->index, sizeof s->index);
    fuzz_check(fsm->ops->apply(fsm, &e, 1) == 0);
    if (c.code != 0 && getenv("FUZZ_VERBOSE") != NULL) {
        fprintf(stderr, "%s -> %s\n", text, c.result);
    }
    free(c.result);
    return c.code;
}

/* Takes @command. */
static inline int image_store_run_json(struct image_store *s, json_t *command)
{
    char *text = json_text(command, NULL);
    fuzz_check(text != NULL);
    int code = image_store_run(s, text);
    free(text);
    json_decref(command);
    return code;
}

static inline json_t *image_store_get(struct image_store *s, const char *id)
{
    struct meta_view *v;
    json_t *record = NULL;
    fuzz_check(meta_view_open(s->meta, &v) == 0);
    fuzz_check(meta_image_get(v, id, &record) == 0);
    meta_view_close(v);
    return record;
}

/* A member of project p1, or an administrator. */
static inline struct caller image_store_caller(bool admin)
{
    struct caller c = {.scope = SCOPE_PROJECT, .roles = ROLE_MEMBER | ROLE_READER};
    c.roles |= admin ? (unsigned)ROLE_ADMIN : 0;
    strcpy(c.user_id, "u1");
    strcpy(c.project_id, "p1");
    return c;
}

static const struct image_limits image_store_limits = {
    .image_size_cap = 1 << 30,
    .property_quota = 8,
    .tag_quota = 8,
    .member_quota = 8,
    .replicas = 3,
    .write_replicas = 2,
    .upload_idle_ms = 1000,
};

#endif
