/* Staging and imports of staged data as services: what becomes of the image, whatever is lost on
 * the way. */
#include "world.h"

#include "tessera/image/import.h"

static const struct config_list methods = {.items = (char *[]){"glance-direct"}, .count = 1}, none;

struct stage {
    struct world w;
    struct import_rules rules;
    struct image_importer *importer;
    char id[40];
};

static void stage_open(struct stage *s)
{
    memset(s, 0, sizeof(*s));
    world_open(&s->w);
    s->rules = (struct import_rules){.methods = &methods,
                                     .schemes = &none,
                                     .ports = &none,
                                     .hosts_allowed = &none,
                                     .hosts_denied = &none,
                                     .addresses_allowed = &none};
    s->w.ctx.import = &s->rules;
    check_ok(image_importer_new(&s->w.ctx, &s->importer));
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static void stage_close(struct stage *s)
{
    bool closed = false;
    image_importer_close(s->importer, set_true, &closed);
    check(!closed);
    virtual_until(&s->w.c.v, &closed);
    image_importer_free(s->importer);
    world_close(&s->w);
}

static void no_drain(void *arg)
{
    (void)arg;
}

static void no_fail(void *arg, int status, const struct err *err)
{
    (void)arg;
    (void)status;
    (void)err;
    check(false);
}

/* PUT stage of @size bytes of image @n. */
static int put_stage(struct stage *s, unsigned n, size_t size)
{
    struct answer ready = {0}, finished = {0};
    struct image_upload *u = NULL;
    struct image_upload_options o = {.caller = &s->w.owner,
                                     .id = s->id,
                                     .content_length = (int64_t)size,
                                     .size_header = -1,
                                     .stage = true,
                                     .on_ready = answer_cb,
                                     .on_drain = no_drain,
                                     .on_fail = no_fail,
                                     .arg = &ready};
    image_upload_start(&s->w.ctx, &o, &u);
    int rv = world_wait(&s->w, &ready);
    if (rv != 0) {
        return rv;
    }
    uint8_t *data = malloc(size + 1);
    for (size_t i = 0; i < size; i++) {
        data[i] = image_byte(n, i);
    }
    (void)image_upload_write(u, data, size);
    free(data);
    image_upload_finish(u, answer_cb, &finished);
    return world_wait(&s->w, &finished);
}

static int import_as(struct stage *s, const struct caller *caller, const char *text,
                     const char *header_store)
{
    struct answer a = {0};
    json_t *body = json_parse(text, strlen(text));
    struct image_import_options o = {.caller = caller,
                                     .id = s->id,
                                     .body = body,
                                     .header_store = header_store,
                                     .store_id = "tessera",
                                     .request_id = "req-7",
                                     .task_type = "api_image_import",
                                     .cb = answer_cb,
                                     .arg = &a};
    image_import_start(&s->w.ctx, &o);
    json_decref(body);
    int rv = world_wait(&s->w, &a);
    json_decref(a.result);
    return rv;
}

static const char direct[] = "{\"method\":{\"name\":\"glance-direct\"}}";

static int import_direct(struct stage *s)
{
    return import_as(s, &s->w.owner, direct, NULL);
}

static bool status_is(struct stage *s, const char *status)
{
    json_t *record = world_record(&s->w, s->id);
    bool is = strcmp(json_str_or(record, "status", ""), status) == 0;
    json_decref(record);
    return is;
}

static void until_status(struct stage *s, const char *status)
{
    for (int i = 0; i < 200000 && !status_is(s, status); i++) {
        check(virtual_step(&s->w.c.v, UINT64_MAX));
    }
    world_is(&s->w, s->id, status);
}

static json_t *last_task(struct stage *s)
{
    struct meta_view *view;
    json_t *tasks = NULL;
    check_ok(meta_view_open(s->w.meta, &view));
    check_ok(image_task_list(view, s->id, &tasks));
    meta_view_close(view);
    json_t *task = json_incref(json_array_get(tasks, json_array_size(tasks) - 1));
    json_decref(tasks);
    return task;
}

static void task_is(struct stage *s, const char *status, const char *message)
{
    json_t *task = last_task(s);
    check_str(json_str(task, "status"), status);
    check(strstr(json_str_or(task, "message", ""), message) != NULL);
    json_decref(task);
}

static void create_as(struct stage *s, const char *disk_format)
{
    char body[128];
    (void)snprintf(body, sizeof(body), "{\"disk_format\":\"%s\",\"container_format\":\"bare\"}",
                   disk_format);
    world_create(&s->w, body, s->id);
}

static void staged_data_becomes_the_image(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s);
    create_as(&s, "raw");
    check_code(import_direct(&s), TSR_ECONFLICT);
    check_ok(put_stage(&s, 3, 40000));
    world_is(&s.w, s.id, "uploading");
    check_code(put_stage(&s, 3, 10), TSR_ECONFLICT);
    check_ok(import_direct(&s));
    check_code(import_direct(&s), TSR_ECONFLICT);
    until_status(&s, "active");
    task_is(&s, "success", "");
    json_t *task = last_task(&s), *record = world_record(&s.w, s.id);
    check_str(json_str(task, "request_id"), "req-7");
    check_int(json_int(record, "size", 0), 40000);
    check_int(json_int(record, "virtual_size", 0), 40000);
    check(json_str(record, "checksum") != NULL);
    json_decref(record);
    json_decref(task);
    stage_close(&s);
}

static void lost_answers_do_not_change_the_end(void **state)
{
    (void)state;
    static const char *const ops[] = {"image.stage", "import.finish"};
    for (size_t i = 0; i < array_len(ops); i++) {
        struct stage s;
        stage_open(&s);
        create_as(&s, "raw");
        fake.match = ops[i];
        fake.lose = 2;
        fake.refuse = 1;
        check_ok(put_stage(&s, 3, 40000));
        check_ok(import_direct(&s));
        until_status(&s, "active");
        task_is(&s, "success", "");
        stage_close(&s);
    }
}

static void an_import_of_unknown_outcome_still_runs(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s);
    create_as(&s, "raw");
    check_ok(put_stage(&s, 3, 4000));
    fake.match = "import.start";
    fake.lose = 1;
    check_code(import_direct(&s), TSR_ETIMEOUT); /* the client is told that it is not known */
    until_status(&s, "active");
    task_is(&s, "success", "");
    stage_close(&s);
}

static void data_of_another_format_goes_back_to_queued(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s);
    create_as(&s, "qcow2");
    check_ok(put_stage(&s, 3, 4000));
    check_ok(import_direct(&s));
    fake.match = "import.fail";
    fake.refuse = 2;
    until_status(&s, "queued");
    task_is(&s, "failure", "qcow2");
    json_t *record = world_record(&s.w, s.id);
    check_str(json_str(json_obj(record, "props"), "os_glance_failed_import"), "tessera");
    check(json_is_null(json_object_get(record, "manifest")));
    json_decref(record);
    check_ok(put_stage(&s, 3, 100)); /* it can be tried again */
    stage_close(&s);
}

static void a_deleted_image_ends_its_import(void **state)
{
    (void)state;
    struct stage s;
    struct answer a = {0};
    stage_open(&s);
    create_as(&s, "raw");
    check_ok(put_stage(&s, 3, 40000));
    check_ok(import_direct(&s));
    image_delete(&s.w.ctx, &s.w.owner, s.id, answer_cb, &a);
    check_ok(world_wait(&s.w, &a));
    task_is(&s, "failure", "deleted");
    stage_close(&s);
}

/* The process ends in the middle; the next one finds what is left. */
static void restart(struct stage *s, uint8_t boot)
{
    bool closed = false;
    image_importer_close(s->importer, set_true, &closed);
    virtual_until(&s->w.c.v, &closed);
    image_importer_free(s->importer);
    s->w.ctx.boot[0] = boot;
    check_ok(image_importer_new(&s->w.ctx, &s->importer));
}

static void the_next_process_goes_on_once(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s);
    create_as(&s, "raw");
    check_ok(put_stage(&s, 3, 40000));
    check_ok(import_direct(&s));
    restart(&s, 77);
    world_is(&s.w, s.id, "importing");
    image_importer_watch(s.importer);
    until_status(&s, "active");
    task_is(&s, "success", "");
    stage_close(&s);
}

static void the_second_interruption_fails_it(void **state)
{
    (void)state;
    struct stage s;
    char text[256];
    stage_open(&s);
    create_as(&s, "raw");
    check_ok(put_stage(&s, 3, 40000));
    check_ok(import_direct(&s));
    restart(&s, 77);
    json_t *task = last_task(&s);
    (void)snprintf(
        text, sizeof(text),
        "{\"op\":\"import.assign\",\"id\":\"%s\",\"task\":\"%s\",\"epoch\":2,\"host\":2}", s.id,
        json_str(task, "id"));
    world_submit(&s.w, text);
    (void)snprintf(text, sizeof(text),
                   "{\"op\":\"import.claim\",\"id\":\"%s\",\"task\":\"%s\",\"epoch\":2,\"host\":2,"
                   "\"session\":\"ffff\"}",
                   s.id, json_str(task, "id"));
    world_submit(&s.w, text);
    json_decref(task);
    s.w.ctx.self = 2; /* the host that took it over, in its next process */
    image_importer_watch(s.importer);
    until_status(&s, "queued");
    task_is(&s, "failure", "interrupted twice");
    stage_close(&s);
}

static void bodies_are_judged_before_the_image(void **state)
{
    (void)state;
    struct stage s;
    stage_open(&s);
    world_create(&s.w, "{}", s.id);
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"method\":\"glance-direct\"}",
        "{\"method\":{\"name\":7}}",
        "{\"method\":{\"name\":\"web-download\",\"uri\":\"http://x/\"}}", /* not enabled */
        "{\"method\":{\"name\":\"glance-direct\"},\"all_stores\":1}",
        "{\"method\":{\"name\":\"glance-direct\"},\"stores\":\"tessera\"}",
        "{\"method\":{\"name\":\"glance-direct\"},\"stores\":[7]}",
        "{\"method\":{\"name\":\"glance-direct\"},\"all_stores\":true,\"stores\":[\"tessera\"]}"};
    for (size_t i = 0; i < array_len(bad); i++) {
        check_code(import_as(&s, &s.w.other, bad[i], NULL), TSR_EINVAL);
    }
    check_code(import_as(&s, &s.w.owner,
                         "{\"method\":{\"name\":\"glance-direct\"},\"stores\":[\"tessera\"]}",
                         "tessera"),
               TSR_EINVAL);
    check_code(import_as(&s, &s.w.other, direct, NULL), TSR_ENOENT);
    check_ok(put_stage(&s, 1, 100)); /* formats are not needed yet */
    check_code(import_direct(&s), TSR_ECONFLICT);
    create_as(&s, "raw");
    check_ok(put_stage(&s, 1, 100));
    check_code(import_as(&s, &s.w.owner, direct, "elsewhere"), TSR_ECONFLICT);
    struct caller reader = world_caller("p1", ROLE_READER);
    check_code(import_as(&s, &reader, direct, "elsewhere"), TSR_ECONFLICT); /* store before role */
    check_code(import_as(&s, &reader, direct, NULL), TSR_EFORBIDDEN);
    check_ok(import_as(&s, &s.w.owner, direct, "tessera"));
    until_status(&s, "active");
    stage_close(&s);
}

TEST_MAIN(cmocka_unit_test(staged_data_becomes_the_image),
          cmocka_unit_test(lost_answers_do_not_change_the_end),
          cmocka_unit_test(an_import_of_unknown_outcome_still_runs),
          cmocka_unit_test(data_of_another_format_goes_back_to_queued),
          cmocka_unit_test(a_deleted_image_ends_its_import),
          cmocka_unit_test(the_next_process_goes_on_once),
          cmocka_unit_test(the_second_interruption_fails_it),
          cmocka_unit_test(bodies_are_judged_before_the_image))
