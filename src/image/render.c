/* From a parsed record, values are shared, not copied; from its stored text they are copied as they
 * are written, which is ten times faster. Both give the same members; a unit test compares them.
 * The field `stores` of a parsed record is the face's, which knows what the cluster's store is
 * called.
 */
#include "image/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/fields.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"
#include "tessera/identity/rules.h"

struct word {
    const char *text;
    size_t size;
};
#define WORD(text)               \
    {                            \
        (text), sizeof(text) - 1 \
    }

/* Shown as they are in the record. */
static const struct word plain[] = {
    WORD("id"),           WORD("name"),          WORD("status"),
    WORD("visibility"),   WORD("protected"),     WORD("os_hidden"),
    WORD("owner"),        WORD("disk_format"),   WORD("container_format"),
    WORD("min_disk"),     WORD("min_ram"),       WORD("tags"),
    WORD("size"),         WORD("virtual_size"),  WORD("checksum"),
    WORD("os_hash_algo"), WORD("os_hash_value"),
};

static int set_time(json_t *out, const json_t *record, const char *name)
{
    char text[TIME_TEXT];
    time_format_seconds(json_int(record, name, 0), text);
    return json_object_set_new_nocheck(out, name, json_string_nocheck(text));
}

static int set_links(json_t *out, const char *id)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "/v2/images/%s", id);
    int rv = json_object_set_new_nocheck(out, "self", json_string(path));
    (void)snprintf(path, sizeof(path), "/v2/images/%s/file", id);
    rv |= json_object_set_new_nocheck(out, "file", json_string(path));
    return rv |
           json_object_set_new_nocheck(out, "schema", json_string_nocheck("/v2/schemas/image"));
}

json_t *image_render(const json_t *record)
{
    json_t *out = record != NULL ? json_object() : NULL;
    if (out == NULL) {
        return NULL;
    }
    /* Custom properties first: should one ever carry a base field's name, the base field wins. */
    json_t *props = json_obj(record, "props");
    int rv = props != NULL ? json_object_update(out, props) : 0;
    for (size_t i = 0; i < array_len(plain); i++) {
        json_t *value = json_object_get(record, plain[i].text);
        rv |= value != NULL ? json_object_set_nocheck(out, plain[i].text, value)
                            : json_object_set_new_nocheck(out, plain[i].text, json_null());
    }
    rv |= set_time(out, record, "created_at");
    rv |= set_time(out, record, "updated_at");
    rv |= set_links(out, json_str_or(record, "id", ""));
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

/* --- from text
 * -------------------------------------------------------------------------------------- */

static const struct word times[] = {WORD("created_at"), WORD("updated_at")};
static const struct word links[] = {WORD("self"), WORD("file"), WORD("schema")};

static bool is_one_of(const struct json_member *m, const struct word *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (json_member_is(m, words[i].text, words[i].size)) {
            return true;
        }
    }
    return false;
}

static void member_copy(struct buf *out, const struct json_member *m)
{
    (void)buf_append(out, m->key - 1, m->key_size + 3); /* with "": */
    (void)buf_append(out, m->value, m->value_size);
    (void)buf_append(out, ",", 1);
}

/* Custom properties; a base field of the same name wins. */
static void props_copy(struct buf *out, const struct json_member *props, bool stores)
{
    struct json_member m;
    size_t at = 0;
    while (json_member_next(props->value, props->value_size, &at, &m)) {
        if (!is_one_of(&m, plain, array_len(plain)) && !is_one_of(&m, times, array_len(times)) &&
            !is_one_of(&m, links, array_len(links)) &&
            !(stores && json_member_is(&m, "stores", 6))) {
            member_copy(out, &m);
        }
    }
}

static bool holds_data(const struct json_member *status)
{
    char text[16];
    return json_member_plain(status, text, sizeof(text)) &&
           (strcmp(text, "active") == 0 || strcmp(text, "deactivated") == 0);
}

static void time_copy(struct buf *out, const struct json_member *m)
{
    char text[TIME_TEXT];
    int64_t us = 0;
    (void)json_member_int(m, &us);
    time_format_seconds(us, text);
    (void)buf_append(out, m->key - 1, m->key_size + 3);
    (void)buf_append(out, "\"", 1);
    (void)buf_append_str(out, text);
    (void)buf_append(out, "\",", 2);
}

static void links_add(struct buf *out, const char *id)
{
    static const char *const parts[] = {"\"self\":\"/v2/images/", "\",\"file\":\"/v2/images/",
                                        "/file\",\"schema\":\"/v2/schemas/image\"}"};
    for (size_t i = 0; i < array_len(parts); i++) {
        (void)buf_append_str(out, parts[i]);
        (void)buf_append_str(out, i < 2 ? id : "");
    }
}

int image_render_text(const struct meta_text *record, const char *store, struct buf *out)
{
    struct json_member m, props = {.value = "{}", .value_size = 2};
    char id[64] = "";
    bool stores = false;
    size_t at = 0, found = 0;
    (void)buf_reserve(out, record->size + 256);
    (void)buf_append(out, "{", 1);
    while (json_member_next(record->text, record->size, &at, &m)) {
        if (is_one_of(&m, plain, array_len(plain))) {
            member_copy(out, &m);
            found++;
            if (json_member_is(&m, "id", 2)) {
                (void)json_member_plain(&m, id, sizeof(id));
            }
            stores = stores || (store != NULL && json_member_is(&m, "status", 6) && holds_data(&m));
        } else if (is_one_of(&m, times, array_len(times))) {
            time_copy(out, &m);
        } else if (json_member_is(&m, "props", 5)) {
            props = m;
        }
    }
    if (at == SIZE_MAX || found != array_len(plain)) {
        return TSR_ECORRUPT;
    }
    props_copy(out, &props, stores);
    if (stores) {
        (void)buf_append_str(out, "\"stores\":");
        (void)buf_append_str(out, store);
        (void)buf_append(out, ",", 1);
    }
    links_add(out, id);
    return out->failed ? TSR_ENOMEM : 0;
}

json_t *member_render(const json_t *member)
{
    static const char *const names[] = {"member_id", "image_id", "status"};
    json_t *out = member != NULL ? json_object() : NULL;
    if (out == NULL) {
        return NULL;
    }
    int rv = 0;
    for (size_t i = 0; i < array_len(names); i++) {
        rv |= json_object_set(out, names[i], json_object_get(member, names[i]));
    }
    rv |= set_time(out, member, "created_at");
    rv |= set_time(out, member, "updated_at");
    rv |= json_object_set_new(out, "schema", json_string("/v2/schemas/member"));
    if (rv != 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

void image_protect(const struct caller *caller, json_t *rendered)
{
    const char *name;
    json_t *value;
    void *next;
    if (caller->properties == NULL || rendered == NULL) {
        return;
    }
    json_object_foreach_safe(rendered, next, name, value)
    {
        if (field_class(name) == FIELD_CUSTOM && strncmp(name, "os_glance", 9) != 0 &&
            !property_allowed(caller->properties, PROPERTY_READ, name, caller, rendered)) {
            (void)json_object_del(rendered, name);
        }
    }
}

int image_render_seen(const struct caller *caller, const struct meta_text *record,
                      const char *store, struct buf *out)
{
    struct buf whole = {0};
    if (caller->properties == NULL) {
        return image_render_text(record, store, out);
    }
    int rv = image_render_text(record, store, &whole);
    json_t *image = rv == 0 ? json_parse(whole.data, whole.size) : NULL;
    image_protect(caller, image);
    char *text = image != NULL ? json_text(image, NULL) : NULL;
    if (rv == 0) {
        rv = text == NULL ? TSR_ENOMEM : buf_append_str(out, text);
    }
    free(text);
    json_decref(image);
    buf_free(&whole);
    return rv;
}
