/* Commands on staged data, imports and their tasks.
 *
 * Staged data is an image's data before the image is `active`: manifest, size, placement and
 * replicas stand in the record as always, so that replicators, planner and collection treat it like
 * any other; the hashes wait in `staged`, as clients must not see them yet.
 *
 * An import belongs to one runner: {task, host, epoch, id} in the image's session. `id` is what the
 * runner's commands carry; it is null from import.assign until the new host has claimed the import.
 * Each ending of an import, the image's deletion included, ends its task in the same transaction.
 */
#include <stdio.h>
#include <string.h>

#include "meta/apply.h"
#include "tessera/base/id.h"

enum { MESSAGE_MAX = 500 };
static const int64_t task_life_us = 48 * 3600 * INT64_C(1000000);

static bool is(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static int store(struct apply *a, const json_t *old, json_t *next)
{
    apply_image_touch(a, next, true);
    int rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
    if (rc == 0) {
        apply_result(a, "image", json_incref(next));
    }
    return rc;
}

/* --- staged data
 * ------------------------------------------------------------------------------------ */

int apply_image_stage(struct apply *a, const json_t *cmd)
{
    static const char *const statuses[3] = {"uploading", NULL, NULL};
    static const char *const hashes[] = {"checksum", "os_hash_algo", "os_hash_value"};
    json_t *old = NULL, *next = NULL, *staged = json_object();
    int rc = staged == NULL ? (a->w.error = TSR_ENOMEM) : apply_data_find(a, cmd, statuses, &old);
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        rc = apply_data_seal(a, cmd, next);
    }
    if (rc == 0 && next != NULL) {
        for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
            put_copy(a, staged, hashes[i], json_object_get(next, hashes[i]));
            put_str(a, next, hashes[i], NULL);
        }
        put_int(a, staged, "at", apply_time(a, json_int(old, "updated_at", 0)));
        put_copy(a, next, "staged", staged);
        put_str(a, next, "virtual_size", NULL);
        rc = store(a, old, next);
    }
    json_decref(staged);
    json_decref(next);
    json_decref(old);
    return rc;
}

int apply_image_unstage(struct apply *a, const json_t *cmd)
{
    json_t *old = NULL, *next = NULL;
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc != 0) {
        return rc;
    }
    int64_t at = json_int(json_obj(old, "staged"), "at", -1);
    if (!is(json_str(old, "status"), "uploading") || at < 0 || json_int(cmd, "at", -2) != at) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The image has no data that was staged then.");
    } else if ((next = apply_copy(a, old)) != NULL) {
        apply_data_drop(a, next);
        rc = store(a, old, next);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

/* --- tasks
 * ------------------------------------------------------------------------------------------ */

static void task_index_key(struct key *key, const char *image, const char *task)
{
    char id[2 * META_IMAGE_ID_SIZE + 2];
    snprintf(id, sizeof(id), "%s/%s", image, task);
    key_of_dir(key, "image_task", id);
}

static bool task_ok(const json_t *task)
{
    static const char *const texts[] = {"type", "owner", "user_id", "request_id"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const json_t *v = json_object_get(task, texts[i]);
        if (v != NULL && !json_is_null(v) && !field_text_ok(json_string_value(v), true, 255)) {
            return false;
        }
    }
    const char *id = json_str(task, "id");
    return id != NULL && uuid_valid(id) && json_str(task, "type") != NULL &&
           json_is_object(json_object_get(task, "input"));
}

static int task_new(struct apply *a, const json_t *given, const char *image)
{
    static const char *const copied[] = {"id", "type", "owner", "user_id", "request_id", "input"};
    const char *id = json_str(given, "id");
    struct key key;
    struct kv_val value;
    json_t *task = json_object(), *entry = json_object();
    key_of_dir(&key, "task", id);
    int rc = writeset_get(&a->w, DB_DIR, key_val(&key), &value);
    if (rc == 0) {
        rc = apply_refuse(a, TSR_EEXIST, "The task exists already.");
    } else if (rc == TSR_ENOENT) {
        rc = task == NULL || entry == NULL ? (a->w.error = TSR_ENOMEM) : 0;
    }
    if (rc == 0) {
        for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]); i++) {
            put_copy(a, task, copied[i], json_object_get(given, copied[i]));
        }
        put_str(a, task, "image_id", image);
        put_str(a, task, "status", "processing");
        put_str(a, task, "message", "");
        put_str(a, task, "result", NULL);
        put_str(a, task, "expires_at", NULL);
        put_int(a, task, "created_at", a->now);
        put_int(a, task, "updated_at", a->now);
        put_str(a, entry, "id", id);
        if (a->w.error == 0) {
            writeset_put_json(&a->w, DB_DIR, &key, task);
            task_index_key(&key, image, id);
            writeset_put_json(&a->w, DB_DIR, &key, entry);
        }
        rc = a->w.error;
    }
    json_decref(entry);
    json_decref(task);
    return rc;
}

/* The task ends; one that is gone is fine. */
static void task_end(struct apply *a, const char *id, const char *image, const char *message)
{
    json_t *task = NULL, *result;
    struct key key;
    if (id == NULL) {
        return;
    }
    key_of_dir(&key, "task", id);
    if (writeset_get_json(&a->w, DB_DIR, &key, &task) != 0) {
        return; /* an error of the store is sticky */
    }
    int64_t now = apply_time(a, json_int(task, "updated_at", 0));
    put_str(a, task, "status", message == NULL ? "success" : "failure");
    put_str(a, task, "message", message == NULL ? "" : message);
    put_int(a, task, "updated_at", now);
    put_int(a, task, "expires_at", now + task_life_us);
    json_object_del(task, "bytes_done");
    json_object_del(task, "bytes_total");
    if (message == NULL && (result = json_object()) != NULL) {
        put_str(a, result, "image_id", image);
        put_value(a, task, "result", result);
    }
    if (a->w.error == 0) {
        writeset_put_json(&a->w, DB_DIR, &key, task);
    }
    json_decref(task);
}

/* How far it has come; @total -1: not known. */
static int task_progress(struct apply *a, const char *id, int64_t done, int64_t total)
{
    json_t *task = NULL;
    struct key key;
    key_of_dir(&key, "task", id);
    int rc = writeset_get_json(&a->w, DB_DIR, &key, &task);
    if (rc != 0) {
        return rc == TSR_ENOENT ? 0 : rc;
    }
    put_int(a, task, "bytes_done", done);
    if (total >= 0) {
        put_int(a, task, "bytes_total", total);
    } else {
        json_object_del(task, "bytes_total");
    }
    put_int(a, task, "updated_at", apply_time(a, json_int(task, "updated_at", 0)));
    if (a->w.error == 0) {
        writeset_put_json(&a->w, DB_DIR, &key, task);
    }
    json_decref(task);
    return a->w.error;
}

static int task_expire(struct apply *a, const char *id)
{
    json_t *task = NULL;
    struct key key, index;
    key_of_dir(&key, "task", id);
    int rc = writeset_get_json(&a->w, DB_DIR, &key, &task);
    if (rc != 0) {
        return rc == TSR_ENOENT ? 0 : rc;
    }
    int64_t at = json_int(task, "expires_at", INT64_MAX);
    const char *image = json_str_or(task, "image_id", "");
    if (at <= a->now) {
        writeset_del(&a->w, DB_DIR, key_val(&key));
        if (strlen(image) == META_IMAGE_ID_SIZE) {
            task_index_key(&index, image, id);
            writeset_del(&a->w, DB_DIR, key_val(&index));
        }
    }
    json_decref(task);
    return a->w.error;
}

int apply_task_expire(struct apply *a, const json_t *cmd)
{
    const json_t *ids = json_arr(cmd, "ids");
    json_t *id;
    size_t i;
    int rc = 0;
    json_array_foreach(ids, i, id)
    {
        const char *text = json_string_value(id);
        if (text == NULL || !uuid_valid(text)) {
            return apply_refuse(a, TSR_EINVAL, "Invalid id of a task.");
        }
        rc = rc != 0 ? rc : task_expire(a, text);
    }
    return rc;
}

/* --- an import begins
 * ------------------------------------------------------------------------------- */

static int start_check(struct apply *a, const json_t *image, const char *method)
{
    const char *status = json_str_or(image, "status", "");
    bool direct = is(method, "glance-direct");
    if (!direct && !is(method, "web-download")) {
        return apply_refuse(a, TSR_EINVAL, "Unknown import method.");
    }
    if (is(status, "importing")) {
        return apply_refuse(a, TSR_ECONFLICT, "Another import of this image is running.");
    }
    if (!is(status, direct ? "uploading" : "queued")) {
        return apply_refuse(a, TSR_ECONFLICT, "Image needs to be in %s state to use %s method",
                            direct ? "'uploading'" : "'queued'", method);
    }
    if (direct && json_obj(image, "staged") == NULL) {
        return apply_refuse(a, TSR_ECONFLICT, "The data of the image is still being staged.");
    }
    if (json_str(image, "disk_format") == NULL || json_str(image, "container_format") == NULL) {
        return apply_refuse(a, TSR_ECONFLICT, "'%s' needs to be set before import",
                            json_str(image, "container_format") == NULL ? "container_format"
                                                                        : "disk_format");
    }
    return 0;
}

static void start_set(struct apply *a, const json_t *cmd, json_t *image)
{
    const char *task = json_str(json_obj(cmd, "task"), "id");
    json_t *session = json_object(), *props = json_obj(image, "props");
    if (session == NULL || props == NULL) {
        json_decref(session);
        a->w.error = TSR_ENOMEM;
        return;
    }
    put_str(a, session, "id", json_str(cmd, "session"));
    put_int(a, session, "host", json_int(cmd, "host", 0));
    put_int(a, session, "started_index", (int64_t)a->index);
    put_str(a, session, "kind", "import");
    put_str(a, session, "task", task);
    put_int(a, session, "epoch", 1);
    put_str(a, session, "method", json_str(cmd, "method"));
    put_str(a, session, "store", json_str_or(cmd, "store", ""));
    put_value(a, image, "session", session);
    put_str(a, image, "status", "importing");
    put_str(a, props, "os_glance_import_task", task);
    put_str(a, props, "os_glance_importing_to_stores", json_str_or(cmd, "store", ""));
    put_str(a, props, "os_glance_failed_import", "");
}

static int host_check(struct apply *a, int64_t id)
{
    json_t *host = NULL;
    int rc = id > 0 ? apply_host(a, (uint64_t)id, &host) : TSR_ENOENT;
    if (a->w.error == 0 && (rc != 0 || is(json_str(host, "state"), "left"))) {
        rc = apply_refuse(a, TSR_EINVAL, "Unknown host.");
    }
    json_decref(host);
    return rc;
}

int apply_import_start(struct apply *a, const json_t *cmd)
{
    const char *session = json_str(cmd, "session");
    const json_t *task = json_obj(cmd, "task");
    json_t *old = NULL, *next = NULL;
    if (!field_text_ok(session, false, 128) || !task_ok(task) ||
        !field_text_ok(json_str_or(cmd, "store", ""), true, 64)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid import.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc == 0) {
        rc = start_check(a, old, json_str(cmd, "method"));
    }
    if (rc == 0) {
        rc = host_check(a, json_int(cmd, "host", 0));
    }
    if (rc == 0) {
        rc = task_new(a, task, json_str(old, "id"));
    }
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        start_set(a, cmd, next);
        rc = store(a, old, next);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

/* --- who runs it
 * ------------------------------------------------------------------------------------ */

/* The image, if @cmd is about its import of @epoch. */
static int runner_find(struct apply *a, const json_t *cmd, int64_t epoch, json_t **out)
{
    int rc = apply_image(a, json_str(cmd, "id"), out);
    const json_t *session = json_obj(*out, "session");
    if (rc == 0 && (!is(json_str(*out, "status"), "importing") ||
                    !is(json_str(session, "task"), json_str(cmd, "task")) ||
                    json_int(session, "epoch", 0) != epoch)) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The import is no longer the current one.");
    }
    return rc;
}

int apply_import_assign(struct apply *a, const json_t *cmd)
{
    int64_t epoch = json_int(cmd, "epoch", 0), host = json_int(cmd, "host", 0);
    json_t *old = NULL, *next = NULL;
    int rc = epoch > 1 ? runner_find(a, cmd, epoch - 1, &old)
                       : apply_refuse(a, TSR_EINVAL, "Invalid epoch.");
    if (rc == 0) {
        rc = host_check(a, host);
    }
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        json_t *session = json_obj(next, "session");
        put_str(a, session, "id", NULL);
        put_int(a, session, "host", host);
        put_int(a, session, "epoch", epoch);
        apply_image_touch(a, next, false);
        rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

int apply_import_claim(struct apply *a, const json_t *cmd)
{
    const char *id = json_str(cmd, "session");
    json_t *old = NULL, *next = NULL;
    int rc = field_text_ok(id, false, 128) ? runner_find(a, cmd, json_int(cmd, "epoch", 0), &old)
                                           : apply_refuse(a, TSR_EINVAL, "Invalid session.");
    const json_t *session = json_obj(old, "session");
    if (rc == 0 && (json_int(session, "host", 0) != json_int(cmd, "host", -1) ||
                    json_str(session, "id") != NULL)) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The import is another host's.");
    }
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        put_str(a, json_obj(next, "session"), "id", id);
        apply_image_touch(a, next, false);
        rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
        apply_result(a, "image", json_incref(next));
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

/* Touches the task alone: the image is as it was, for clients and for those who wait for changes.
 */
int apply_import_progress(struct apply *a, const json_t *cmd)
{
    int64_t done = json_int(cmd, "bytes", -1), total = json_int(cmd, "total", -1);
    json_t *image = NULL;
    if (done < 0 || total < -1) {
        return apply_refuse(a, TSR_EINVAL, "Invalid progress.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), &image);
    if (rc == 0 && !(is(json_str(image, "status"), "importing") &&
                     apply_session_is(image, json_str(cmd, "session")))) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The import is no longer the current one.");
    }
    const char *task = json_str(json_obj(image, "session"), "task");
    if (rc == 0 && task != NULL) {
        rc = task_progress(a, task, done, total);
    }
    json_decref(image);
    return rc;
}

/* --- an import ends
 * --------------------------------------------------------------------------------- */

/* The properties after an import: the lock is gone, the lists stay, empty but for failed stores. */
static void props_end(struct apply *a, json_t *image, const char *failed)
{
    json_t *props = json_obj(image, "props");
    if (props != NULL) {
        json_object_del(props, "os_glance_import_task");
        put_str(a, props, "os_glance_importing_to_stores", "");
        put_str(a, props, "os_glance_failed_import", failed);
    }
}

void apply_import_end(struct apply *a, json_t *image, const char *message)
{
    const json_t *session = json_obj(image, "session");
    char failed[64 + 1];
    if (!is(json_str(session, "kind"), "import") || json_str(session, "task") == NULL) {
        return;
    }
    snprintf(failed, sizeof(failed), "%s", json_str_or(session, "store", ""));
    task_end(a, json_str(session, "task"), NULL, message);
    props_end(a, image, failed);
}

/* glance-direct: the data is in the record. */
static int finish_staged(struct apply *a, const json_t *cmd, json_t *image)
{
    static const char *const hashes[] = {"checksum", "os_hash_algo", "os_hash_value"};
    const json_t *staged = json_obj(image, "staged");
    const json_t *virtual_size = json_object_get(cmd, "virtual_size");
    if (staged == NULL ||
        (virtual_size != NULL && !json_is_null(virtual_size) &&
         (!json_is_integer(virtual_size) || json_integer_value(virtual_size) < 0))) {
        return apply_refuse(a, TSR_EINVAL, "Invalid data of an import.");
    }
    int rc = apply_data_enough(a, cmd, image);
    if (rc == 0) {
        for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
            put_copy(a, image, hashes[i], json_object_get(staged, hashes[i]));
        }
        put_copy(a, image, "virtual_size", virtual_size);
        put_str(a, image, "session", NULL);
    }
    return rc;
}

/* What was inspected must be what the image says it is. */
static int formats_check(struct apply *a, const json_t *cmd, const json_t *image)
{
    static const char *const names[] = {"disk_format", "container_format"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!is(json_str(cmd, names[i]), json_str(image, names[i]))) {
            return apply_refuse(a, TSR_EMEDIA, "The image's %s was changed during the import.",
                                names[i]);
        }
    }
    return 0;
}

int apply_import_finish(struct apply *a, const json_t *cmd)
{
    static const char *const statuses[3] = {"importing", NULL, NULL};
    json_t *old = NULL, *next = NULL;
    int rc = apply_data_find(a, cmd, statuses, &old);
    const json_t *session = json_obj(old, "session");
    if (rc == 0) {
        rc = formats_check(a, cmd, old);
    }
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        rc = json_bool(cmd, "staged", false) ? finish_staged(a, cmd, next)
                                             : apply_data_seal(a, cmd, next);
    }
    if (rc == 0 && next != NULL) {
        put_str(a, next, "status", "active");
        json_object_del(next, "staged");
        props_end(a, next, "");
        task_end(a, json_str(session, "task"), json_str(old, "id"), NULL);
        rc = store(a, old, next);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

/* By the runner (session), or by the planner (task and epoch). One that is over is fine. */
int apply_import_fail(struct apply *a, const json_t *cmd)
{
    const char *message = json_str(cmd, "message"), *session = json_str(cmd, "session");
    json_t *old = NULL, *next = NULL;
    if (!field_text_ok(message, false, MESSAGE_MAX)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid message.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc == TSR_ENOENT && a->w.error == 0) {
        a->err = (struct err){0};
        return 0; /* deleted meanwhile, and its task with it */
    }
    const json_t *now = json_obj(old, "session");
    bool ours = session != NULL ? apply_session_is(old, session)
                                : is(json_str(now, "task"), json_str(cmd, "task")) &&
                                      json_int(now, "epoch", 0) == json_int(cmd, "epoch", -1);
    if (rc == 0 && ours && is(json_str(old, "status"), "importing") &&
        (next = apply_copy(a, old)) != NULL) {
        apply_import_end(a, next, message);
        apply_data_drop(a, next);
        rc = store(a, old, next);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}
