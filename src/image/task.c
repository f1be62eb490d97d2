/* Tasks as clients see them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/image/import.h"

enum { IMAGE_TASKS_MAX = 1000 };

static json_t *time_json(const json_t *task, const char *name)
{
    char text[TIME_TEXT];
    const json_t *v = json_object_get(task, name);
    if (!json_is_integer(v)) {
        return json_null();
    }
    time_format_seconds(json_integer_value(v), text);
    return json_string(text);
}

enum { MIB = 1 << 20 };

/* While it runs: numbers for programs, and a message for people, as Glance writes it. */
static int put_progress(const json_t *task, json_t *out)
{
    char text[64];
    int64_t done = json_int(task, "bytes_done", -1), total = json_int(task, "bytes_total", -1);
    if (done < 0) {
        return 0;
    }
    if (total >= 0) {
        (void)snprintf(text, sizeof(text), "Copied %lld of %lld MiB", (long long)(done / MIB),
                       (long long)((total + MIB - 1) / MIB));
    } else {
        (void)snprintf(text, sizeof(text), "Copied %lld MiB", (long long)(done / MIB));
    }
    int rv = json_set_str(out, "message", text);
    rv = rv != 0 ? rv : json_set_int(out, "bytes_done", done);
    return rv != 0 ? rv
                   : json_object_set_new(out, "bytes_total",
                                         total >= 0 ? json_integer(total) : json_null());
}

json_t *image_task_render(const json_t *task, bool full)
{
    static const char *const always[] = {"id",       "type",       "status", "owner",
                                         "image_id", "request_id", "user_id"};
    static const char *const times[] = {"created_at", "updated_at", "expires_at"};
    static const char *const more[] = {"input", "result", "message"};
    json_t *out = json_object();
    int rv = out != NULL ? 0 : -1;
    for (size_t i = 0; i < array_len(always) && rv == 0; i++) {
        json_t *v = json_object_get(task, always[i]);
        rv = json_object_set_new(out, always[i], v != NULL ? json_incref(v) : json_null());
    }
    for (size_t i = 0; i < array_len(times) && rv == 0; i++) {
        rv = json_object_set_new(out, times[i], time_json(task, times[i]));
    }
    for (size_t i = 0; i < array_len(more) && full && rv == 0; i++) {
        json_t *v = json_object_get(task, more[i]);
        rv = json_object_set_new(out, more[i], v != NULL ? json_incref(v) : json_null());
    }
    if (rv == 0 && full) {
        rv = put_progress(task, out);
    }
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

static int older(const void *x, const void *y)
{
    const json_t *a = *(json_t *const *)x, *b = *(json_t *const *)y;
    int64_t p = json_int(a, "created_at", 0), q = json_int(b, "created_at", 0);
    return p != q ? (p < q ? -1 : 1) : strcmp(json_str_or(a, "id", ""), json_str_or(b, "id", ""));
}

int image_task_list(struct meta_view *view, const char *image_id, json_t **array_out)
{
    char prefix[64];
    json_t *entries = NULL, *entry, *out = json_array();
    size_t i, n = 0;
    if (out == NULL || !str_copy(prefix, sizeof(prefix) - 1, image_id)) {
        json_decref(out);
        return TSR_ENOMEM;
    }
    strcat(prefix, "/");
    int rv = meta_dir_list(view, "image_task", prefix, NULL, IMAGE_TASKS_MAX, &entries);
    json_t **tasks = rv == 0 ? calloc(json_array_size(entries) + 1, sizeof(*tasks)) : NULL;
    if (rv == 0 && tasks == NULL) {
        rv = TSR_ENOMEM;
    }
    json_array_foreach(entries, i, entry)
    {
        if (rv == 0 && meta_dir_get(view, "task", json_str_or(entry, "id", ""), &tasks[n]) == 0) {
            n++;
        }
    }
    if (n > 0) {
        qsort(tasks, n, sizeof(*tasks), older);
    }
    for (i = 0; i < n; i++) {
        json_array_append_new(out, tasks[i]);
    }
    free(tasks);
    json_decref(entries);
    if (rv != 0) {
        json_decref(out);
        return rv;
    }
    *array_out = out;
    return 0;
}
