#include "meta/view.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/log.h"
#include "tessera/base/str.h"

int meta_report_damage(struct meta *m, unsigned db)
{
    uint64_t n = atomic_fetch_add(&m->damaged, 1) + 1;
    if ((n & (n - 1)) == 0) { /* 1, 2, 4, 8 ...: said, not flooded */
        log_error("meta", "damaged record in database %s (damaged=%llu)", meta_databases[db],
                  (unsigned long long)n);
    }
    return TSR_ECORRUPT;
}

int meta_view_open(struct meta *m, struct meta_view **out)
{
    struct meta_view *v = malloc(sizeof(*v));
    struct store_point point;
    if (v == NULL) {
        return TSR_ENOMEM;
    }
    /* Before the transaction: it may show more than this number stands for, never less. */
    *v = (struct meta_view){.meta = m, .directory = atomic_load(&m->directory)};
    int rc = kv_begin(m->kv, false, &v->txn);
    if (rc != 0) {
        free(v);
        return rc;
    }
    rc = store_point_read(m->kv, v->txn, &point);
    if (rc == TSR_ENOENT || rc == TSR_ECORRUPT) {
        rc = meta_report_damage(m, DB_META);
    } else if (rc == 0 && point.importing) {
        rc = TSR_EUNAVAILABLE; /* half of a snapshot is no state */
    }
    if (rc != 0) {
        meta_view_close(v);
        return rc;
    }
    v->index = point.at.index;
    *out = v;
    return 0;
}

void meta_view_close(struct meta_view *v)
{
    if (v != NULL) {
        kv_abort(v->meta->kv, v->txn);
        free(v);
    }
}

uint64_t meta_view_index(struct meta_view *v)
{
    return v->index;
}

uint64_t meta_view_directory(struct meta_view *v)
{
    return v->directory;
}

int view_parse(struct meta_view *v, unsigned db, struct kv_val key, struct kv_val value,
               json_t **out)
{
    int rc = record_parse(key, value, out);
    return rc == TSR_ECORRUPT ? meta_report_damage(v->meta, db) : rc;
}

int view_get(struct meta_view *v, unsigned db, const struct key *key, json_t **out)
{
    struct kv_val value;
    if (key->size == 0) {
        return TSR_ENOENT;
    }
    int rc = kv_get(v->meta->kv, v->txn, db, key_val(key), &value);
    return rc == 0 ? view_parse(v, db, key_val(key), value, out) : rc;
}

/* Parse each record from @from on while its key starts with @prefix, at most @max. @from must start
 * with the prefix. */
static int walk(struct meta_view *v, unsigned db, const struct key *prefix, const struct key *from,
                size_t max, json_t **array_out)
{
    struct kv_cursor *cursor;
    struct kv_val key = key_val(from), value;
    json_t *array = json_array(), *record;
    if (array == NULL) {
        return TSR_ENOMEM;
    }
    int rc = kv_cursor_open(v->meta->kv, v->txn, db, &cursor);
    if (rc != 0) {
        json_decref(array);
        return rc;
    }
    rc = kv_cursor_move(v->meta->kv, cursor, from->size == 0 ? KV_FIRST : KV_GE, &key, &value);
    while (rc == 0 && json_array_size(array) < max && val_starts(key, prefix)) {
        rc = view_parse(v, db, key, value, &record);
        if (rc == 0 && json_array_append_new(array, record) != 0) {
            rc = TSR_ENOMEM;
        }
        if (rc == 0) {
            rc = kv_cursor_move(v->meta->kv, cursor, KV_NEXT, &key, &value);
        }
    }
    kv_cursor_close(v->meta->kv, cursor);
    if (rc != 0 && rc != TSR_ENOENT) {
        json_decref(array);
        return rc;
    }
    *array_out = array;
    return 0;
}

static int walk_all(struct meta_view *v, unsigned db, const struct key *prefix, json_t **array_out)
{
    return walk(v, db, prefix, prefix, SIZE_MAX, array_out);
}

/* --- images and members
 * --------------------------------------------------------------------------- */

static bool image_key(struct key *key, const char *id)
{
    if (id == NULL || strlen(id) != META_IMAGE_ID_SIZE) {
        return false;
    }
    key_of_text(key, id);
    return true;
}

int meta_image_get(struct meta_view *v, const char *id, json_t **out)
{
    struct key key;
    return image_key(&key, id) ? view_get(v, DB_IMAGE, &key, out) : TSR_ENOENT;
}

int meta_image_text(struct meta_view *v, const char *id, struct meta_text *out)
{
    struct key key;
    struct kv_val value;
    if (!image_key(&key, id)) {
        return TSR_ENOENT;
    }
    int rc = kv_get(v->meta->kv, v->txn, DB_IMAGE, key_val(&key), &value);
    if (rc == 0 && record_decode(key_val(&key), value, &out->text, &out->size) != 0) {
        rc = meta_report_damage(v->meta, DB_IMAGE);
    }
    return rc;
}

bool meta_image_deleted(struct meta_view *v, const char *id)
{
    struct key key;
    struct kv_val value;
    return image_key(&key, id) &&
           kv_get(v->meta->kv, v->txn, DB_TOMBSTONE, key_val(&key), &value) == 0;
}

enum { MANIFEST_IMAGES_MAX = 100 };

int meta_manifest_images(struct meta_view *v, const char *manifest_hex, json_t **array_out)
{
    struct kv *kv = v->meta->kv;
    struct kv_cursor *cursor;
    struct key prefix, id;
    struct kv_val key, value;
    if (manifest_hex == NULL || strlen(manifest_hex) != 64) {
        *array_out = json_array();
        return *array_out == NULL ? TSR_ENOMEM : 0;
    }
    json_t *array = json_array(), *image;
    key_of_manifest(&prefix, manifest_hex, "");
    int rc = array == NULL ? TSR_ENOMEM : kv_cursor_open(kv, v->txn, DB_MANIFEST, &cursor);
    if (rc != 0) {
        json_decref(array);
        return rc;
    }
    key = key_val(&prefix);
    rc = kv_cursor_move(kv, cursor, KV_GE, &key, &value);
    while (rc == 0 && val_starts(key, &prefix) && json_array_size(array) < MANIFEST_IMAGES_MAX) {
        key_init(&id);
        key_bytes(&id, (const char *)key.data + prefix.size, key.size - prefix.size);
        rc = view_get(v, DB_IMAGE, &id, &image);
        if (rc == TSR_ENOENT) {
            rc = meta_report_damage(v->meta, DB_MANIFEST);
        }
        if (rc == 0 && json_array_append_new(array, image) != 0) {
            rc = TSR_ENOMEM;
        }
        if (rc == 0) {
            rc = kv_cursor_move(kv, cursor, KV_NEXT, &key, &value);
        }
    }
    kv_cursor_close(kv, cursor);
    if (rc != 0 && rc != TSR_ENOENT) {
        json_decref(array);
        return rc;
    }
    *array_out = array;
    return 0;
}

/* Where a walk goes on. */
static int walk_from(struct key *from, const char after[64])
{
    key_init(from);
    size_t size = strnlen(after, 64);
    if (size >= 64) {
        return TSR_EINVAL;
    }
    if (size > 0) {
        key_bytes(from, after, size);
        key_byte(from, 0); /* the next possible key */
    }
    return 0;
}

int meta_image_walk(struct meta_view *v, char after[64], size_t max, json_t **array_out)
{
    struct key all, from;
    key_init(&all);
    int rc = walk_from(&from, after);
    if (rc == 0) {
        rc = walk(v, DB_IMAGE, &all, &from, max, array_out);
    }
    size_t n = rc == 0 ? json_array_size(*array_out) : 0;
    if (n > 0) {
        (void)str_copy(after, 64, json_str_or(json_array_get(*array_out, n - 1), "id", ""));
    }
    return rc;
}

int meta_image_scan(struct meta_view *v, char after[64], size_t max,
                    bool (*cb)(void *arg, const struct meta_text *record), void *arg,
                    size_t *count_out)
{
    struct kv_cursor *cursor;
    struct kv_val key, value;
    struct meta_text text;
    struct key from;
    bool more = true;
    *count_out = 0;
    int rc = walk_from(&from, after);
    if (rc == 0) {
        rc = kv_cursor_open(v->meta->kv, v->txn, DB_IMAGE, &cursor);
    }
    if (rc != 0) {
        return rc;
    }
    key = key_val(&from);
    rc = kv_cursor_move(v->meta->kv, cursor, from.size == 0 ? KV_FIRST : KV_GE, &key, &value);
    while (rc == 0 && more && *count_out < max) {
        if (key.size >= 64 || record_decode(key, value, &text.text, &text.size) != 0) {
            rc = meta_report_damage(v->meta, DB_IMAGE);
            break;
        }
        memcpy(after, key.data, key.size);
        after[key.size] = '\0';
        (*count_out)++;
        more = cb(arg, &text);
        rc = more ? kv_cursor_move(v->meta->kv, cursor, KV_NEXT, &key, &value) : 0;
    }
    kv_cursor_close(v->meta->kv, cursor);
    return rc == TSR_ENOENT ? 0 : rc;
}

int meta_member_get(struct meta_view *v, const char *image_id, const char *project, json_t **out)
{
    struct key key;
    if (!image_key(&key, image_id) || project == NULL || *project == 0) {
        return TSR_ENOENT;
    }
    key_of_member(&key, image_id, project);
    return view_get(v, DB_MEMBER, &key, out);
}

int meta_member_list(struct meta_view *v, const char *image_id, json_t **array_out)
{
    struct key prefix;
    if (!image_key(&prefix, image_id)) {
        *array_out = json_array();
        return *array_out == NULL ? TSR_ENOMEM : 0;
    }
    key_of_member(&prefix, image_id, NULL);
    return walk_all(v, DB_MEMBER, &prefix, array_out);
}

/* --- cluster
 * ----------------------------------------------------------------------------------------- */

int meta_host_get(struct meta_view *v, uint64_t id, json_t **out)
{
    struct key key;
    key_of_number(&key, id);
    return view_get(v, DB_HOST, &key, out);
}

int meta_host_list(struct meta_view *v, json_t **array_out)
{
    struct key all;
    key_init(&all);
    return walk_all(v, DB_HOST, &all, array_out);
}

int meta_endpoint_get(struct meta_view *v, json_t **out)
{
    struct key key;
    key_of_text(&key, "endpoint");
    return view_get(v, DB_ENDPOINT, &key, out);
}

int meta_cluster_get(struct meta_view *v, json_t **out)
{
    struct key key;
    key_of_text(&key, "cluster");
    return view_get(v, DB_CLUSTER, &key, out);
}

int meta_setting_get(struct meta_view *v, const char *name, json_t **out)
{
    struct key key;
    json_t *record;
    if (name == NULL || strlen(name) > SETTING_NAME_MAX) {
        return TSR_ENOENT;
    }
    key_of_text(&key, name);
    int rc = view_get(v, DB_SETTING, &key, &record);
    if (rc == 0) {
        *out = json_incref(json_object_get(record, "value"));
        json_decref(record);
        rc = *out == NULL ? meta_report_damage(v->meta, DB_SETTING) : 0;
    }
    return rc;
}

/* --- directory
 * ------------------------------------------------------------------------------------------ */

int meta_dir_get(struct meta_view *v, const char *kind, const char *id, json_t **out)
{
    struct key key;
    if (!dir_kind_ok(kind) || id == NULL || strlen(id) > DIR_ID_MAX) {
        return TSR_ENOENT;
    }
    key_of_dir(&key, kind, id);
    return view_get(v, DB_DIR, &key, out);
}

int meta_dir_find(struct meta_view *v, const char *kind, const char *domain, const char *name,
                  json_t **out)
{
    struct key key;
    struct kv_val value;
    const char *text;
    size_t size;
    char id[DIR_ID_MAX + 1];
    if (!dir_kind_ok(kind) || name == NULL) {
        return TSR_ENOENT;
    }
    key_of_dir_name(&key, kind, domain == NULL ? "" : domain, name);
    int rc = kv_get(v->meta->kv, v->txn, DB_DIR_NAME, key_val(&key), &value);
    if (rc != 0) {
        return rc;
    }
    rc = record_decode(key_val(&key), value, &text, &size);
    if (rc != 0 || size > DIR_ID_MAX) {
        return meta_report_damage(v->meta, DB_DIR_NAME);
    }
    memcpy(id, text, size);
    id[size] = 0;
    rc = meta_dir_get(v, kind, id, out);
    return rc == TSR_ENOENT ? meta_report_damage(v->meta, DB_DIR_NAME) : rc;
}

int meta_dir_list(struct meta_view *v, const char *kind, const char *prefix, const char *after,
                  size_t limit, json_t **array_out)
{
    struct key start, from;
    if (!dir_kind_ok(kind) || (prefix != NULL && strlen(prefix) > DIR_ID_MAX) ||
        (after != NULL && strlen(after) > DIR_ID_MAX)) {
        return TSR_EINVAL;
    }
    key_of_dir(&start, kind, prefix == NULL ? "" : prefix);
    from = start;
    if (after != NULL && *after != 0) {
        struct key next;
        key_of_dir(&next, kind, after);
        key_byte(&next, 0);
        if (bytes_compare(next.data, next.size, from.data, from.size) > 0) {
            from = next;
        }
    }
    return walk(v, DB_DIR, &start, &from, limit, array_out);
}
