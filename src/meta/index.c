#include "meta/index.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/digest.h"
#include "tessera/base/str.h"

enum { VALUE_MAX = 200, VALUE_HASH = 8 };

static const char *const sort_fields[SORT_COUNT] = {
    [SORT_CREATED_AT] = "created_at",
    [SORT_UPDATED_AT] = "updated_at",
    [SORT_NAME] = "name",
    [SORT_STATUS] = "status",
    [SORT_SIZE] = "size",
    [SORT_CONTAINER_FORMAT] = "container_format",
    [SORT_ID] = "id",
    [SORT_DISK_FORMAT] = "disk_format",
};

void index_bucket(struct key *k, bool hidden, char letter, const char *arg, const char *arg2)
{
    key_init(k);
    key_byte(k, hidden ? '1' : '0');
    key_byte(k, (uint8_t)letter);
    if (arg != NULL) {
        key_short(k, arg);
    }
    if (arg2 != NULL) {
        key_byte(k, 0);
        key_text(k, arg2); /* a visibility: short */
    }
    key_byte(k, 0);
}

void index_value_text(struct key *k, const char *text)
{
    size_t size = strlen(text);
    key_byte(k, 1);
    if (size <= VALUE_MAX) {
        key_bytes(k, text, size);
    } else {
        uint8_t hash[32];
        digest_of(DIGEST_SHA256, text, size, hash);
        key_bytes(k, text, VALUE_MAX);
        key_byte(k, 1);
        key_bytes(k, hash, VALUE_HASH);
    }
    key_byte(k, 0);
}

static void index_number(struct key *k, int64_t v)
{
    key_be64(k, (uint64_t)v ^ (uint64_t)1 << 63); /* negative before positive */
}

void index_value(struct key *k, const json_t *image, enum meta_sort sort)
{
    const json_t *v = json_object_get(image, sort_fields[sort]);
    if (json_is_string(v)) {
        index_value_text(k, json_string_value(v));
    } else if (json_is_integer(v)) {
        key_byte(k, 1);
        index_number(k, json_integer_value(v));
    } else {
        key_byte(k, 0);
    }
}

static void put_id(struct key *k, const json_t *image)
{
    uint8_t id[META_IMAGE_ID_SIZE + 1] = {0};
    /* apply_image.c and the import let no other length in. */
    str_copy((char *)id, sizeof(id), json_str_or(image, "id", ""));
    key_bytes(k, id, META_IMAGE_ID_SIZE);
}

void index_ties(struct key *k, const json_t *image)
{
    index_number(k, json_int(image, "created_at", 0));
    put_id(k, image);
}

void index_tail(struct key *k, const json_t *image, enum meta_sort sort)
{
    if (sort == SORT_ID) {
        put_id(k, image);
        return;
    }
    if (sort != SORT_CREATED_AT) {
        index_value(k, image, sort);
    }
    index_ties(k, image);
}

/* --- the keys of one image -------------------------------------------------------------------- */

static int add_key(struct writeset *w, struct index_keys *keys, unsigned db, const struct key *key)
{
    if (keys->count == keys->capacity) {
        size_t capacity = keys->capacity == 0 ? 64 : 2 * keys->capacity;
        struct index_key *items = writeset_alloc(w, capacity * sizeof(*items));
        if (items == NULL) {
            return w->error;
        }
        if (keys->count != 0) {
            memcpy(items, keys->items, keys->count * sizeof(*items));
        }
        keys->items = items;
        keys->capacity = capacity;
    }
    uint8_t *data = writeset_alloc(w, key->size);
    if (data == NULL) {
        return w->error;
    }
    memcpy(data, key->data, key->size);
    keys->items[keys->count++] =
        (struct index_key){.db = (uint8_t)db, .key = kv_val_of(data, key->size)};
    return 0;
}

/* What all keys of one image share; of the sorts from first to before end. */
struct tails {
    unsigned first, end;
    struct key of[SORT_COUNT];
};

static int add_one(struct writeset *w, struct index_keys *keys, const struct key *bucket,
                   const struct tails *tails, enum meta_sort sort)
{
    struct key key;
    if (sort < tails->first || sort >= tails->end) {
        return 0;
    }
    key_init(&key);
    key_bytes(&key, bucket->data, bucket->size);
    key_bytes(&key, tails->of[sort].data, tails->of[sort].size);
    return add_key(w, keys, DB_INDEX + (unsigned)sort, &key);
}

static int add_all(struct writeset *w, struct index_keys *keys, const struct key *bucket,
                   const struct tails *tails)
{
    int rc = 0;
    for (unsigned s = tails->first; s < tails->end && rc == 0; s++) {
        rc = add_one(w, keys, bucket, tails, (enum meta_sort)s);
    }
    return rc;
}

static char member_letter(const char *status)
{
    return strcmp(status, "accepted") == 0 ? 'm' : strcmp(status, "pending") == 0 ? 'p' : 'r';
}

static int add_members(struct writeset *w, struct index_keys *keys, bool hidden,
                       const json_t *members, const struct tails *tails)
{
    size_t i;
    json_t *member;
    struct key bucket;
    int rc = 0;
    json_array_foreach(members, i, member)
    {
        index_bucket(&bucket, hidden, member_letter(json_str_or(member, "status", "rejected")),
                     json_str_or(member, "member_id", ""), NULL);
        rc = add_all(w, keys, &bucket, tails);
        if (rc != 0) {
            break;
        }
    }
    return rc;
}

static int add_tags(struct writeset *w, struct index_keys *keys, bool hidden, const json_t *tags,
                    const struct tails *tails)
{
    size_t i;
    json_t *tag;
    struct key bucket;
    int rc = 0;
    json_array_foreach(tags, i, tag)
    {
        index_bucket(&bucket, hidden, 't', json_string_value(tag), NULL);
        rc = add_one(w, keys, &bucket, tails, SORT_CREATED_AT);
        if (rc != 0) {
            break;
        }
    }
    return rc;
}

static int compare_keys(const void *a, const void *b)
{
    const struct index_key *x = a, *y = b;
    if (x->db != y->db) {
        return x->db < y->db ? -1 : 1;
    }
    return bytes_compare(x->key.data, x->key.size, y->key.data, y->key.size);
}

static int add_buckets(struct writeset *w, struct index_keys *keys, const json_t *image,
                       const json_t *members, const struct tails *tails)
{
    const char *owner = json_str(image, "owner");
    const char *visibility = json_str_or(image, "visibility", "private");
    bool hidden = json_bool(image, "os_hidden", false);
    struct key key;
    index_bucket(&key, hidden, 'a', NULL, NULL);
    int rc = add_all(w, keys, &key, tails);
    if (rc == 0) {
        index_bucket(&key, hidden, 'v', visibility, NULL);
        rc = add_all(w, keys, &key, tails);
    }
    if (rc == 0 && owner != NULL) {
        index_bucket(&key, hidden, 'o', owner, NULL);
        rc = add_all(w, keys, &key, tails);
    }
    if (rc == 0 && owner != NULL) {
        index_bucket(&key, hidden, 'w', owner, visibility);
        rc = add_one(w, keys, &key, tails, SORT_CREATED_AT);
    }
    if (rc == 0) {
        rc = add_tags(w, keys, hidden, json_arr(image, "tags"), tails);
    }
    if (rc == 0 && strcmp(visibility, "shared") == 0) {
        rc = add_members(w, keys, hidden, members, tails);
    }
    return rc;
}

static int keys_of(struct writeset *w, const json_t *image, const json_t *members, unsigned first,
                   unsigned end, struct index_keys *out)
{
    struct tails *tails = writeset_alloc(w, sizeof(*tails));
    *out = (struct index_keys){0};
    if (tails == NULL) {
        return w->error;
    }
    tails->first = first;
    tails->end = end;
    for (unsigned s = first; s < end; s++) {
        key_init(&tails->of[s]);
        index_tail(&tails->of[s], image, (enum meta_sort)s);
    }
    return add_buckets(w, out, image, members, tails);
}

int index_keys_in(struct writeset *w, const json_t *image, const json_t *members,
                  enum meta_sort sort, struct index_keys *out)
{
    return keys_of(w, image, members, (unsigned)sort, (unsigned)sort + 1, out);
}

int index_keys_of(struct writeset *w, const json_t *image, const json_t *members,
                  struct index_keys *out)
{
    *out = (struct index_keys){0};
    if (image == NULL) {
        return 0;
    }
    struct key key;
    const char *manifest = json_str(image, "manifest");
    int rc = keys_of(w, image, members, 0, SORT_COUNT, out);
    if (rc == 0 && manifest != NULL) {
        key_of_manifest(&key, manifest, json_str_or(image, "id", ""));
        rc = add_key(w, out, DB_MANIFEST, &key);
    }
    if (rc == 0) {
        qsort(out->items, out->count, sizeof(*out->items), compare_keys);
    }
    return rc;
}

void index_change(struct writeset *w, const struct index_keys *before,
                  const struct index_keys *after)
{
    size_t b = 0, a = 0;
    while (b < before->count || a < after->count) {
        int c = b == before->count  ? 1
                : a == after->count ? -1
                                    : compare_keys(&before->items[b], &after->items[a]);
        if (c < 0) {
            writeset_del(w, before->items[b].db, before->items[b].key);
        } else if (c > 0) {
            writeset_put(w, after->items[a].db, after->items[a].key, kv_val_of("", 0));
        }
        b += c <= 0;
        a += c >= 0;
    }
}
