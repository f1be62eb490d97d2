/* Imports and tasks: POST /v2/images/{id}/import, GET /v2/images/{id}/tasks, /v2/tasks
 * (image-api 2.5, 2.12). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image_face.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/image/import.h"

/* --- import
 * ------------------------------------------------------------------------------------------ */

void image_import_headers(struct api_req *r)
{
    const struct import_rules *rules = r->o->image->import;
    char text[256] = "";
    for (size_t i = 0; rules != NULL && i < rules->methods->count; i++) {
        size_t size = strlen(text);
        (void)snprintf(text + size, sizeof(text) - size, "%s%s", i > 0 ? "," : "",
                       rules->methods->items[i]);
    }
    if (text[0] != 0) {
        http_set_header(r->http, "OpenStack-image-import-methods", text);
    }
}

/* Two requests under one key at a time: the second finds the image as the first has left it. */
static void refused(struct api_req *r, int status, const struct err *err)
{
    if (status != TSR_ECONFLICT || !api_replay(r)) {
        api_error(r, status, err);
    }
}

static void accepted_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    (void)result;
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        refused(r, status, err);
        return;
    }
    api_empty(r, 202);
}

static void import_run(struct api_req *r)
{
    struct image_import_options options = {
        .caller = &r->caller,
        .id = r->args[0],
        .body = r->body,
        .header_store = http_header(r->http, "X-Image-Meta-Store"),
        .store_id = r->o->store_id,
        .request_id = http_request_id(r->http),
        .task_type = "api_image_import",
        .token = http_header(r->http, "X-Auth-Token"),
        .cb = accepted_cb,
        .arg = r,
    };
    api_hold(r);
    image_import_start(r->o->image, &options);
}

void image_import_post(struct api_req *r)
{
    static const struct image_step step = {import_run};
    image_change(r, &step);
}

static void location_run(struct api_req *r)
{
    struct image_import_options options = {
        .caller = &r->caller,
        .id = r->args[0],
        .body = r->body,
        .store_id = r->o->store_id,
        .request_id = http_request_id(r->http),
        .task_type = "location_import",
        .cb = accepted_cb,
        .arg = r,
    };
    api_hold(r);
    image_location_add(r->o->image, &options);
}

void image_locations_post(struct api_req *r)
{
    static const struct image_step step = {location_run};
    image_change(r, &step);
}

/* --- tasks of an image
 * ------------------------------------------------------------------------------- */

void image_tasks_list(struct api_req *r)
{
    struct err err = {0};
    json_t *image = NULL, *tasks = NULL, *task, *shown = json_array();
    size_t i;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        json_decref(shown);
        return;
    }
    int rv = image_find(view, &r->caller, r->args[0], ACT_SHOW, &image, &err);
    if (rv == 0) {
        rv = image_task_list(view, r->args[0], &tasks);
    }
    meta_view_close(view);
    json_array_foreach(tasks, i, task)
    {
        json_t *one = image_task_render(task, true);
        if (one != NULL) {
            (void)json_object_set_new(one, "deleted", json_false());
            (void)json_object_set_new(one, "deleted_at", json_null());
            (void)json_array_append_new(shown, one);
        }
    }
    json_decref(tasks);
    json_decref(image);
    if (rv != 0) {
        json_decref(shown);
        api_error(r, rv, &err);
        return;
    }
    api_json(r, 200, json_pack("{s:o}", "tasks", shown));
}

/* --- /v2/tasks: administrators
 * ----------------------------------------------------------------------- */

static bool task_right(struct api_req *r)
{
    struct err err = {0};
    int rv = policy_image(&r->caller, ACT_TASKS, NULL, false, &err);
    if (rv != 0) {
        api_error(r, rv, &err);
    }
    return rv == 0;
}

static json_t *task_full(const json_t *record, bool full)
{
    char self[96];
    json_t *out = image_task_render(record, full);
    (void)snprintf(self, sizeof(self), "/v2/tasks/%s", json_str_or(record, "id", ""));
    if (out != NULL) {
        (void)json_object_set_new(out, "self", json_string(self));
        (void)json_object_set_new(out, "schema", json_string("/v2/schemas/task"));
    }
    return out;
}

static json_t *task_get(struct api_req *r, const char *id)
{
    json_t *record = NULL;
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return NULL;
    }
    int rv = meta_dir_get(view, "task", id, &record);
    meta_view_close(view);
    if (rv != 0) {
        api_errorf(r, rv, rv == TSR_ENOENT ? "No task found with that ID." : "%s", err_text(rv));
        return NULL;
    }
    return record;
}

void image_task_show(struct api_req *r)
{
    if (!task_right(r)) {
        return;
    }
    json_t *record = task_get(r, r->args[0]);
    if (record != NULL) {
        api_json(r, 200, task_full(record, true));
        json_decref(record);
    }
}

struct task_query {
    const char *type, *status, *marker, *key;
    bool ascending;
    int64_t limit;
};

static bool one_of(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; text != NULL && i < count; i++) {
        if (strcmp(text, words[i]) == 0) {
            return true;
        }
    }
    return text == NULL;
}

/* What is wrong with the query, or NULL. */
static const char *query_parse(const struct api_req *r, struct task_query *q)
{
    static const char *const types[] = {"import", "api_image_import", "location_import"};
    static const char *const statuses[] = {"pending", "processing", "success", "failure"};
    static const char *const keys[] = {"created_at", "updated_at", "expires_at", "status",
                                       "type",       "id",         "owner"};
    const char *limit = api_param(r, "limit"), *dir = api_param(r, "sort_dir");
    static const char *const dirs[] = {"asc", "desc"};
    *q = (struct task_query){.type = api_param(r, "type"),
                             .status = api_param(r, "status"),
                             .marker = api_param(r, "marker"),
                             .key = api_param(r, "sort_key"),
                             .limit = (int64_t)r->o->limit_default};
    if (limit != NULL && str_to_i64(limit, 0, INT64_MAX, &q->limit) != 0) {
        return "limit must be a number.";
    }
    if (q->limit > (int64_t)r->o->limit_max) {
        q->limit = (int64_t)r->o->limit_max;
    }
    if (!one_of(q->type, types, array_len(types))) {
        return "Invalid type.";
    }
    if (!one_of(q->status, statuses, array_len(statuses))) {
        return "Invalid status value.";
    }
    if (!one_of(q->key, keys, array_len(keys)) || !one_of(dir, dirs, array_len(dirs))) {
        return "Invalid sort key or direction.";
    }
    q->key = q->key != NULL ? q->key : "created_at";
    q->ascending = dir != NULL && strcmp(dir, "asc") == 0;
    return NULL;
}

static int compare(const json_t *a, const json_t *b, const char *key)
{
    const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    if (json_is_string(x) && json_is_string(y)) {
        return strcmp(json_string_value(x), json_string_value(y));
    }
    int64_t p = json_int(a, key, 0), q = json_int(b, key, 0);
    return p < q ? -1 : p > q;
}

/* A total order, whatever the key; qsort has no room for an argument, so the key travels here. */
static _Thread_local const struct task_query *sorting;

static int compare_tasks(const void *x, const void *y)
{
    const json_t *a = *(json_t *const *)x, *b = *(json_t *const *)y;
    int c = compare(a, b, sorting->key);
    c = c != 0 ? c : compare(a, b, "created_at");
    c = c != 0 ? c : compare(a, b, "id");
    return sorting->ascending ? c : -c;
}

struct task_set {
    json_t **items;
    size_t count, capacity;
};

static int set_add(struct task_set *s, json_t *task)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity * 2 + 64;
        json_t **items = realloc(s->items, capacity * sizeof(*items));
        if (items == NULL) {
            return TSR_ENOMEM;
        }
        s->items = items;
        s->capacity = capacity;
    }
    s->items[s->count++] = json_incref(task);
    return 0;
}

static void set_free(struct task_set *s)
{
    for (size_t i = 0; i < s->count; i++) {
        json_decref(s->items[i]);
    }
    free(s->items);
}

/* Tasks live two days after their end, so all of them are few enough to be looked at. */
static int set_read(struct meta_view *view, const struct task_query *q, struct task_set *s)
{
    enum { SLICE = 500 };
    char after[64] = "";
    size_t n = SLICE, i;
    int rv = 0;
    while (n == SLICE && rv == 0) {
        json_t *slice = NULL, *task;
        rv = meta_dir_list(view, "task", "", after, SLICE, &slice);
        n = json_array_size(slice);
        json_array_foreach(slice, i, task)
        {
            const char *type = json_str_or(task, "type", ""), *id = json_str_or(task, "id", "");
            const char *status = json_str_or(task, "status", "");
            if (rv == 0 && (q->type == NULL || strcmp(type, q->type) == 0) &&
                (q->status == NULL || strcmp(status, q->status) == 0)) {
                rv = set_add(s, task);
            }
            (void)str_copy(after, sizeof(after), id);
        }
        json_decref(slice);
    }
    return rv;
}

/* Where the page begins; SIZE_MAX: no such marker. */
static size_t set_begin(const struct task_set *s, const char *marker)
{
    if (marker == NULL) {
        return 0;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(json_str_or(s->items[i], "id", ""), marker) == 0) {
            return i + 1;
        }
    }
    return SIZE_MAX;
}

/* "/v2/tasks?..." with the request's own parameters and another @marker (NULL: none). */
static json_t *link_json(const struct api_req *r, const char *marker)
{
    struct buf text = {0};
    const char *join = "?";
    int rv = buf_append(&text, "/v2/tasks", 9);
    for (size_t i = 0; i <= r->params.count && rv == 0; i++) {
        bool last = i == r->params.count;
        const char *name = last ? "marker" : r->params.items[i].name;
        const char *value = last ? marker : r->params.items[i].value;
        if (value == NULL || (!last && strcmp(name, "marker") == 0)) {
            continue;
        }
        rv = buf_append(&text, join, 1);
        rv = rv == 0 ? percent_encode(&text, name, true) : rv;
        rv = rv == 0 ? buf_append(&text, "=", 1) : rv;
        rv = rv == 0 ? percent_encode(&text, value, true) : rv;
        join = "&";
    }
    json_t *out = rv == 0 ? json_stringn(text.data, text.size) : NULL;
    buf_free(&text);
    return out;
}

static json_t *page_json(const struct api_req *r, const struct task_query *q,
                         const struct task_set *s, size_t begin)
{
    json_t *tasks = json_array();
    size_t at = begin;
    for (; at < s->count && at - begin < (size_t)q->limit; at++) {
        (void)json_array_append_new(tasks, task_full(s->items[at], false));
    }
    json_t *page = json_pack("{s:o, s:o, s:s}", "tasks", tasks, "first", link_json(r, NULL),
                             "schema", "/v2/schemas/tasks");
    if (page != NULL && at > begin && at < s->count) {
        (void)json_object_set_new(page, "next",
                                  link_json(r, json_str_or(s->items[at - 1], "id", "")));
    }
    return page;
}

void image_task_index(struct api_req *r)
{
    struct task_query q;
    struct task_set set = {0};
    if (!task_right(r)) {
        return;
    }
    const char *wrong = query_parse(r, &q);
    if (wrong != NULL) {
        api_errorf(r, TSR_EINVAL, "%s", wrong);
        return;
    }
    struct meta_view *view = api_view(r);
    if (view == NULL) {
        return;
    }
    int rv = set_read(view, &q, &set);
    meta_view_close(view);
    if (rv == 0 && set.count > 0) {
        sorting = &q;
        qsort(set.items, set.count, sizeof(*set.items), compare_tasks);
    }
    size_t begin = set_begin(&set, q.marker);
    if (rv != 0) {
        api_error(r, rv, NULL);
    } else if (begin == SIZE_MAX) {
        api_errorf(r, TSR_EINVAL, "Invalid marker. Task could not be found.");
    } else {
        api_json(r, 200, page_json(r, &q, &set, begin));
    }
    set_free(&set);
}

/* --- POST /v2/tasks: create an image and import into it
 * ------------------------------------------------ */

void image_task_made(struct api_req *r, const char *id)
{
    char path[96];
    json_t *record = task_get(r, id);
    if (record == NULL) {
        return;
    }
    (void)snprintf(path, sizeof(path), "/v2/tasks/%.64s", id);
    image_set_location(r, path);
    api_json(r, 201, task_full(record, true));
    json_decref(record);
}

/* The image of a task that was refused goes away again, unseen. */
static void undone_cb(void *arg, int status, json_t *result, const struct err *err)
{
    (void)arg;
    (void)status;
    (void)result;
    (void)err;
}

static void task_started_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (status != 0 && !(r->caller.keyed && status == TSR_ECONFLICT)) {
        image_delete(r->o->image, &r->caller, json_str_or(r->body, "image_id", ""), undone_cb,
                     NULL);
    }
    if (api_release(r)) {
        return;
    }
    if (status != 0) {
        refused(r, status, err);
        return;
    }
    image_task_made(r, json_str_or(result, "task", ""));
}

static void task_image_cb(void *arg, int status, json_t *result, const struct err *err)
{
    struct api_req *r = arg;
    if (status != 0) {
        if (!api_release(r)) {
            api_error(r, status, err);
        }
        return;
    }
    const json_t *input = json_obj(r->body, "input");
    (void)json_set_str(r->body, "image_id", json_str_or(result, "id", ""));
    json_t *body = json_pack("{s:{s:s, s:s}}", "method", "name", "web-download", "uri",
                             json_str_or(input, "import_from", ""));
    struct image_import_options options = {
        .caller = &r->caller,
        .id = json_str_or(r->body, "image_id", ""),
        .body = body,
        .store_id = r->o->store_id,
        .request_id = json_str_or(r->body, "request_id", ""),
        .task_type = "import",
        .task_input = input,
        .cb = task_started_cb,
        .arg = r,
    };
    image_import_start(r->o->image, &options);
    json_decref(body);
}

static void task_run(struct api_req *r)
{
    const json_t *input = json_obj(r->body, "input");
    json_t *image = json_deep_copy(json_obj(input, "image_properties"));
    const char *format = json_str(input, "import_from_format");
    if (image != NULL && json_object_get(image, "disk_format") == NULL) {
        (void)json_set_str(image, "disk_format", format);
    }
    if (image != NULL && json_object_get(image, "container_format") == NULL) {
        (void)json_set_str(image, "container_format", "bare");
    }
    (void)json_set_str(r->body, "request_id", http_request_id(r->http));
    /* Two commands: the key's own id is that of the second one, which says that all was done. */
    uint8_t first[COMMAND_ID_SIZE];
    image_key_attempt(&r->caller, IMAGE_ATTEMPTS, first);
    api_hold(r);
    image_create(r->o->image, &r->caller, image, r->caller.keyed ? first : NULL, task_image_cb, r);
    json_decref(image);
}

void image_task_post(struct api_req *r)
{
    static const struct image_step step = {task_run};
    struct http_client_url url;
    struct err err = {0};
    const json_t *input = json_obj(r->body, "input");
    const char *type = json_str(r->body, "type"), *from = json_str(input, "import_from");
    if (!task_right(r)) {
        return;
    }
    if (type == NULL || strcmp(type, "import") != 0) {
        api_errorf(r, TSR_EINVAL, "A task needs the type import.");
        return;
    }
    if (from == NULL || json_str(input, "import_from_format") == NULL ||
        json_obj(input, "image_properties") == NULL) {
        api_errorf(r, TSR_EINVAL,
                   "The input of an import task needs import_from, "
                   "import_from_format and image_properties.");
        return;
    }
    const struct import_rules *rules = r->o->image->import;
    if (!import_rules_method(rules, "web-download")) {
        api_errorf(r, TSR_EINVAL, "Imports from a URL are not enabled.");
        return;
    }
    int rv = import_rules_url(rules, from, &url, &err);
    if (rv != 0) {
        api_error(r, rv, &err);
        return;
    }
    image_change(r, &step);
}
