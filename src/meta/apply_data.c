/* Commands on an image's data: an upload begins, ends or fails; where its replicas are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/apply.h"
#include "meta/usage.h"
#include "tessera/base/id.h"

enum { HASH_HEX = 64, HOST_TEXT = 24 };

/* How long a client may take to repeat an upload that was cut off: as long as TCP goes on sending
 * to a host that has gone (about 15 minutes, RFC 1122 4.2.3.5 and Linux' tcp_retries2). */
static const int64_t cut_life_us = 15 * 60 * INT64_C(1000000);

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

/* --- a session begins
 * ------------------------------------------------------------------------------ */

/* What each kind of session needs and leads to. */
static const struct session_kind {
    const char *kind, *from[2], *to;
    bool formats;
} session_kinds[] = {
    {"upload", {"queued", NULL}, "saving", true},
    {"stage", {"queued", NULL}, "uploading", false},
    {"import", {"queued", "uploading"}, "importing", true},
};

static const struct session_kind *session_kind_find(const char *kind)
{
    for (size_t i = 0; i < sizeof(session_kinds) / sizeof(session_kinds[0]); i++) {
        if (is(kind, session_kinds[i].kind)) {
            return &session_kinds[i];
        }
    }
    return NULL;
}

static int saving_check(struct apply *a, const json_t *image, const struct session_kind *kind)
{
    const char *status = json_str_or(image, "status", "");
    if (!is(kind->from[0], status) && !is(kind->from[1], status)) {
        return apply_refuse(a, TSR_ECONFLICT,
                            "Image status transition from %s to %s is not allowed", status,
                            kind->to);
    }
    if (kind->formats &&
        (json_str(image, "disk_format") == NULL || json_str(image, "container_format") == NULL)) {
        return apply_refuse(
            a, TSR_EINVAL, "disk_format and container_format must be set before data is uploaded.");
    }
    return 0;
}

/* Some clients send a request again when its connection broke, with what is left of a body that was
 * read already: after an upload that was cut off only one that is announced as long as that one was
 * is known to be whole. */
static int repeat_check(struct apply *a, const json_t *image, const json_t *cmd)
{
    const json_t *cut = json_obj(image, "cut");
    int64_t length = json_int(cmd, "length", -1);
    if (cut == NULL || !json_bool(cmd, "repeats", false) ||
        a->now - json_int(cut, "at", 0) > cut_life_us ||
        (length >= 0 && length == json_int(cut, "length", -1))) {
        return 0;
    }
    return apply_refuse(a, TSR_ECONFLICT,
                        "An upload to this image was cut off, and this client may be sending what "
                        "is left of it. Make a new image for the data.");
}

static void session_set(struct apply *a, json_t *image, const json_t *cmd, const char *kind)
{
    json_t *session = json_object();
    if (session == NULL) {
        a->w.error = TSR_ENOMEM;
        return;
    }
    put_str(a, session, "id", json_str(cmd, "session"));
    put_int(a, session, "host", json_int(cmd, "host", 0));
    put_int(a, session, "started_index", (int64_t)a->index);
    put_str(a, session, "kind", kind);
    if (json_int(cmd, "size", 0) > 0) {
        put_int(a, session, "reserved", json_int(cmd, "size", 0));
    }
    if (json_int(cmd, "length", -1) >= 0) {
        put_int(a, session, "length", json_int(cmd, "length", -1));
    }
    put_value(a, image, "session", session);
    json_object_del(image, "cut");
}

bool apply_session_is(const json_t *image, const char *session)
{
    return session != NULL && is(json_str(json_obj(image, "session"), "id"), session);
}

static int finish(struct apply *a, const json_t *old, json_t *next, bool visible)
{
    apply_image_touch(a, next, visible);
    int rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
    if (rc == 0) {
        apply_result(a, "image", json_incref(next));
    }
    return rc;
}

int apply_image_saving(struct apply *a, const json_t *cmd)
{
    const struct session_kind *kind = session_kind_find(json_str_or(cmd, "kind", "upload"));
    const char *session = json_str(cmd, "session");
    json_t *old = NULL, *next = NULL, *host = NULL;
    if (kind == NULL || !field_text_ok(session, false, 128)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid upload session.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc == 0 && apply_session_is(old, session) && is(json_str(old, "status"), kind->to)) {
        apply_result(a, "image", old); /* said twice */
        return 0;
    }
    if (rc == 0) {
        rc = saving_check(a, old, kind);
    }
    if (rc == 0) {
        rc = repeat_check(a, old, cmd);
    }
    if (rc == 0 && apply_host(a, (uint64_t)json_int(cmd, "host", 0), &host) != 0) {
        rc = a->w.error != 0 ? a->w.error : apply_refuse(a, TSR_EINVAL, "Unknown host.");
    }
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        put_str(a, next, "status", kind->to);
        session_set(a, next, cmd, kind->kind);
        rc = finish(a, old, next, true);
    }
    json_decref(host);
    json_decref(next);
    json_decref(old);
    return rc;
}

static const char *const reserving[3] = {"saving", "uploading", "importing"};

/* The running session will bring at least "bytes"; more, up to "want", is kept for it as far as the
 * quota has room. What is reserved never shrinks. */
int apply_image_reserve(struct apply *a, const json_t *cmd)
{
    int64_t bytes = json_int(cmd, "bytes", -1), want = json_int(cmd, "want", bytes), room = 0;
    json_t *old = NULL, *next = NULL;
    if (bytes < 0 || want < bytes) {
        return apply_refuse(a, TSR_EINVAL, "Invalid size of an upload.");
    }
    int rc = apply_data_find(a, cmd, reserving, &old);
    int64_t reserved = json_int(json_obj(old, "session"), "reserved", 0);
    if (rc == 0) {
        rc = apply_usage_room(a, old, &room);
    }
    if (rc == 0 && want > reserved && want - reserved > room) {
        want = room > 0 && reserved + room > bytes ? reserved + room : bytes;
    }
    if (rc == 0 && want > reserved && (next = apply_copy(a, old)) != NULL) {
        put_int(a, json_obj(next, "session"), "reserved", reserved = want);
        apply_image_touch(a, next, false);
        rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
    }
    put_int(a, a->result, "reserved", reserved);
    json_decref(next);
    json_decref(old);
    return rc;
}

/* --- placement and replicas
 * ---------------------------------------------------------------------------- */

static void host_text(int64_t id, char out[HOST_TEXT])
{
    snprintf(out, HOST_TEXT, "%lld", (long long)id);
}

static bool array_has_int(const json_t *array, int64_t n)
{
    size_t i;
    json_t *v;
    json_array_foreach(array, i, v)
    {
        if (json_is_integer(v) && json_integer_value(v) == n) {
            return true;
        }
    }
    return false;
}

/* Host ids of @given into *out, each once; hosts that left are skipped, unknown ones refused.
 * *images_out: how many of them hold image data by their role. */
static int hosts_of(struct apply *a, const json_t *given, const char *what, json_t **out,
                    int64_t *images_out)
{
    size_t i;
    json_t *v;
    *images_out = 0;
    if (!json_is_array(given)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid value for '%s'.", what);
    }
    json_t *ids = json_array();
    int rc = ids == NULL ? (a->w.error = TSR_ENOMEM) : 0;
    json_array_foreach(given, i, v)
    {
        json_t *host = NULL;
        if (rc != 0 || !json_is_integer(v) || json_integer_value(v) <= 0) {
            rc = rc != 0 ? rc : apply_refuse(a, TSR_EINVAL, "Invalid value for '%s'.", what);
            break;
        }
        rc = apply_host(a, (uint64_t)json_integer_value(v), &host);
        if (rc != 0) {
            rc = a->w.error != 0 ? a->w.error
                                 : apply_refuse(a, TSR_EINVAL, "Unknown host in '%s'.", what);
            break;
        }
        if (!is(json_str(host, "state"), "left") && !array_has_int(ids, json_integer_value(v))) {
            *images_out += host_has_role(host, "image") ? 1 : 0;
            if (json_array_append(ids, v) != 0) {
                rc = a->w.error = TSR_ENOMEM;
            }
        }
        json_decref(host);
    }
    if (rc != 0) {
        json_decref(ids);
        return rc;
    }
    *out = ids;
    return 0;
}

static void replicas_add(struct apply *a, json_t *replicas, const json_t *hosts, const char *state,
                         bool keep)
{
    size_t i;
    json_t *v;
    json_array_foreach(hosts, i, v)
    {
        char id[HOST_TEXT];
        host_text(json_integer_value(v), id);
        if (!keep || json_object_get(replicas, id) == NULL) {
            put_str(a, replicas, id, state);
        }
    }
}

/* --- a session ends
 * -------------------------------------------------------------------------------------- */

static bool hex_ok(const json_t *v, size_t size, bool null_ok)
{
    if (json_is_null(v) || v == NULL) {
        return null_ok;
    }
    const char *text = json_string_value(v);
    return text != NULL && strlen(text) == size && strspn(text, "0123456789abcdef") == size;
}

static bool activate_fields_ok(const json_t *cmd)
{
    const json_t *virtual_size = json_object_get(cmd, "virtual_size");
    const json_t *algo = json_object_get(cmd, "os_hash_algo");
    const json_t *value = json_object_get(cmd, "os_hash_value");
    return hex_ok(json_object_get(cmd, "manifest"), HASH_HEX, false) &&
           json_int(cmd, "size", -1) >= 0 &&
           (virtual_size == NULL || json_is_null(virtual_size) ||
            (json_is_integer(virtual_size) && json_integer_value(virtual_size) >= 0)) &&
           hex_ok(json_object_get(cmd, "checksum"), 32, true) &&
           (algo == NULL || json_is_null(algo) || json_is_string(algo)) &&
           (value == NULL || json_is_null(value) ||
            field_text_ok(json_string_value(value), false, 255));
}

/* Enough durable copies? */
static int activate_enough(struct apply *a, const json_t *cmd, int64_t present)
{
    int64_t required = json_int(cmd, "write_replicas", 1), up;
    int rc = apply_hosts_up(a, &up);
    if (rc != 0) {
        return rc;
    }
    if (required > up) {
        required = up;
    }
    if (required < 1) {
        required = 1;
    }
#ifdef TSR_BREAK_ACTIVATE
    required = 0;
#endif
    if (present < required) {
        return apply_refuse(a, TSR_EUNAVAILABLE,
                            "The data is on %lld hosts; %lld are needed to store it safely.",
                            (long long)present, (long long)required);
    }
    return 0;
}

int apply_data_find(struct apply *a, const json_t *cmd, const char *const statuses[3], json_t **out)
{
    const char *id = json_str(cmd, "id"), *session = json_str(cmd, "session");
    struct key key;
    struct kv_val value;
    int rc = apply_image(a, id, out);
    if (rc == TSR_ENOENT && a->w.error == 0 && id != NULL && strlen(id) == META_IMAGE_ID_SIZE) {
        key_of_text(&key, id);
        int gone = writeset_get(&a->w, DB_TOMBSTONE, key_val(&key), &value);
        return gone == 0            ? apply_refuse(a, TSR_EGONE, "Image %s was deleted.", id)
               : gone == TSR_ENOENT ? rc
                                    : gone;
    }
    if (rc != 0) {
        return rc;
    }
    const char *status = json_str_or(*out, "status", "");
    if (!apply_session_is(*out, session) ||
        (!is(statuses[0], status) && !is(statuses[1], status) && !is(statuses[2], status))) {
        return apply_refuse(a, TSR_ECONFLICT,
                            "The upload session of image %s is no longer the current one.", id);
    }
    return 0;
}

static void seal_set(struct apply *a, const json_t *cmd, json_t *image, const json_t *replicas,
                     const json_t *placement)
{
    static const char *const copied[] = {"manifest", "size",         "virtual_size",
                                         "checksum", "os_hash_algo", "os_hash_value"};
    for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]); i++) {
        put_copy(a, image, copied[i], json_object_get(cmd, copied[i]));
    }
    json_t *states = json_object();
    if (states == NULL) {
        a->w.error = TSR_ENOMEM;
        return;
    }
    replicas_add(a, states, replicas, "present", false);
    replicas_add(a, states, placement, "missing", true);
    put_value(a, image, "replicas", states);
    put_copy(a, image, "placement", placement);
    put_str(a, image, "session", NULL);
}

int apply_data_seal(struct apply *a, const json_t *cmd, json_t *image)
{
    json_t *replicas = NULL, *placement = NULL;
    int64_t present = 0, placed = 0;
    if (!activate_fields_ok(cmd)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid data of an upload.");
    }
    int rc = hosts_of(a, json_object_get(cmd, "replicas"), "replicas", &replicas, &present);
    if (rc == 0) {
        rc = hosts_of(a, json_object_get(cmd, "placement"), "placement", &placement, &placed);
    }
    if (rc == 0) {
        rc = activate_enough(a, cmd, present);
    }
    if (rc == 0) {
        seal_set(a, cmd, image, replicas, placement);
    }
    json_decref(placement);
    json_decref(replicas);
    return rc;
}

int apply_data_enough(struct apply *a, const json_t *cmd, const json_t *image)
{
    json_t *ids = json_array(), *known = NULL, *state;
    const char *id;
    int64_t present = 0;
    int rc = ids == NULL ? (a->w.error = TSR_ENOMEM) : 0;
    json_object_foreach(json_obj(image, "replicas"), id, state)
    {
        if (rc == 0 && is(json_string_value(state), "present") &&
            json_array_append_new(ids, json_integer((json_int_t)atoll(id))) != 0) {
            rc = a->w.error = TSR_ENOMEM;
        }
    }
    if (rc == 0) {
        rc = hosts_of(a, ids, "replicas", &known, &present);
    }
    if (rc == 0) {
        rc = activate_enough(a, cmd, present);
    }
    json_decref(known);
    json_decref(ids);
    return rc;
}

int apply_image_activate(struct apply *a, const json_t *cmd)
{
    static const char *const statuses[3] = {"saving", "importing"};
    json_t *old = NULL, *next = NULL;
    int rc = apply_data_find(a, cmd, statuses, &old);
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        rc = apply_data_seal(a, cmd, next);
        if (rc == 0) {
            put_str(a, next, "status", "active");
            rc = finish(a, old, next, true);
        }
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

void apply_data_drop(struct apply *a, json_t *image)
{
    static const char *const cleared[] = {
        "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "manifest", "session"};
    for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]); i++) {
        put_str(a, image, cleared[i], NULL);
    }
    put_value(a, image, "placement", json_array());
    put_value(a, image, "replicas", json_object());
    json_object_del(image, "staged");
    put_str(a, image, "status", "queued");
}

/* For repeat_check, later. */
static void cut_set(struct apply *a, json_t *image, int64_t length)
{
    json_t *cut = json_object();
    if (cut == NULL) {
        a->w.error = TSR_ENOMEM;
        return;
    }
    put_int(a, cut, "at", a->now);
    put_int(a, cut, "length", length);
    put_value(a, image, "cut", cut);
}

int apply_image_abort(struct apply *a, const json_t *cmd)
{
    json_t *old = NULL, *next = NULL;
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc == TSR_ENOENT && a->w.error == 0) {
        a->err = (struct err){0};
        return 0; /* deleted meanwhile: nothing to take back */
    }
    if (rc == 0 && apply_session_is(old, json_str(cmd, "session")) &&
        (next = apply_copy(a, old)) != NULL) {
        apply_import_end(a, next, "The import was ended.");
        apply_data_drop(a, next);
        if (json_bool(cmd, "cut", false)) {
            cut_set(a, next, json_int(json_obj(old, "session"), "length", -1));
        }
        apply_image_touch(a, next, true);
        rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

int apply_image_status(struct apply *a, const json_t *cmd)
{
    const char *to = json_str(cmd, "to");
    json_t *old = NULL, *next = NULL;
    if (!is(to, "active") && !is(to, "deactivated")) {
        return apply_refuse(a, TSR_EINVAL, "Invalid status.");
    }
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    const char *status = json_str_or(old, "status", "");
    if (rc == 0 && !is(status, "active") && !is(status, "deactivated")) {
        rc = apply_refuse(a, TSR_EFORBIDDEN, "Not allowed to %s image in status '%s'",
                          is(to, "active") ? "reactivate" : "deactivate", status);
    }
    if (rc == 0 && is(status, to)) {
        apply_result(a, "image", json_incref(old));
    } else if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        put_str(a, next, "status", to);
        rc = finish(a, old, next, true);
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

/* --- the planner's and the replicators' commands
 * --------------------------------------------------------- */

/* Hosts that shall no longer hold a copy stay listed while they still do. */
static void place_set(struct apply *a, json_t *image, const json_t *placement)
{
    json_t *states = json_object(), *old = json_obj(image, "replicas"), *state;
    const char *id;
    if (states == NULL) {
        a->w.error = TSR_ENOMEM;
        return;
    }
    json_object_foreach(old, id, state)
    {
        if (is(json_string_value(state), "present") || array_has_int(placement, atoll(id))) {
            put_copy(a, states, id, state);
        }
    }
    replicas_add(a, states, placement, "missing", true);
    put_value(a, image, "replicas", states);
    put_copy(a, image, "placement", placement);
}

int apply_image_place(struct apply *a, const json_t *cmd)
{
    const json_t *version = json_object_get(cmd, "version");
    json_t *old = NULL, *next = NULL, *placement = NULL;
    int64_t images;
    int rc = apply_image(a, json_str(cmd, "id"), &old);
    if (rc == 0 && json_is_integer(version) &&
        json_integer_value(version) != json_int(old, "version", 0)) {
        rc = apply_refuse(a, TSR_EVERSION, "The image was changed meanwhile.");
    }
    if (rc == 0) {
        rc = hosts_of(a, json_object_get(cmd, "placement"), "placement", &placement, &images);
    }
    if (rc == 0 && (next = apply_copy(a, old)) != NULL) {
        place_set(a, next, placement);
        if (!json_equal(old, next)) {
            rc = finish(a, old, next, false);
        } else {
            apply_result(a, "image", json_incref(old));
        }
    }
    json_decref(placement);
    json_decref(next);
    json_decref(old);
    return rc;
}

static int collect_id(void *arg, struct kv_val key, struct kv_val value)
{
    (void)value;
    const char *p = key.data;
    if (key.size != HASH_HEX + 1 + META_IMAGE_ID_SIZE) {
        return TSR_ECORRUPT;
    }
    return json_array_append_new(arg, json_stringn(p + HASH_HEX + 1, META_IMAGE_ID_SIZE)) == 0
               ? 0
               : TSR_ENOMEM;
}

/* One image's replica on one host. */
static int replica_set(struct apply *a, const char *id, int64_t host, const char *state)
{
    char text[HOST_TEXT];
    json_t *old = NULL;
    int rc = apply_image(a, id, &old);
    json_t *next = rc == 0 ? apply_copy(a, old) : NULL;
    if (next != NULL) {
        json_t *states = json_obj(next, "replicas");
        host_text(host, text);
        if (is(state, "present") || array_has_int(json_arr(next, "placement"), host)) {
            put_str(a, states, text, state);
        } else {
            json_object_del(states, text);
        }
        if (!json_equal(old, next)) {
            apply_image_touch(a, next, false);
            rc = a->w.error != 0 ? a->w.error : apply_image_store(a, old, next);
        }
    }
    json_decref(next);
    json_decref(old);
    return rc;
}

int apply_image_replica(struct apply *a, const json_t *cmd)
{
    const char *state = json_str(cmd, "state"), *manifest = json_str(cmd, "manifest");
    int64_t id = json_int(cmd, "host", 0);
    json_t *host = NULL;
    struct key prefix;
    if (!hex_ok(json_object_get(cmd, "manifest"), HASH_HEX, false) ||
        (!is(state, "present") && !is(state, "missing"))) {
        return apply_refuse(a, TSR_EINVAL, "Invalid replica report.");
    }
    int rc = apply_host(a, (uint64_t)id, &host);
    if (rc == 0 && is(state, "present") && is(json_str(host, "state"), "left")) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The host left the cluster.");
    }
    json_decref(host);
    if (rc != 0) {
        return rc;
    }
    json_t *ids = json_array();
    if (ids == NULL) {
        a->w.error = TSR_ENOMEM;
        return TSR_ENOMEM;
    }
    key_of_manifest(&prefix, manifest, "");
    rc = writeset_scan(&a->w, DB_MANIFEST, &prefix, collect_id, ids);
    for (size_t i = 0; i < json_array_size(ids) && rc == 0; i++) {
        rc = replica_set(a, json_string_value(json_array_get(ids, i)), id, state);
        if (rc == TSR_ENOENT) {
            rc = TSR_ECORRUPT; /* an index entry without its image */
            a->w.error = rc;
        }
    }
    if (rc == 0) {
        put_int(a, a->result, "images", (int64_t)json_array_size(ids));
    } else if (a->err.code != rc && a->w.error == 0) {
        a->w.error = rc;
    }
    json_decref(ids);
    return rc;
}
