/* Counters of what projects have stored, kept with each image record (apply_image_store), and the
 * quotas that they are held to.
 *
 * The counters of a project are one record of four numbers; it is gone when all are 0. They are
 * derived from the image records, like the indexes: rebuilt when a snapshot is taken over, and once
 * when a store of format 1 is opened. */
#include "meta/usage.h"

#include <string.h>

#include "meta/apply.h"
#include "meta/view.h"
#include "tessera/base/assert.h"

enum { USAGE_NUMBERS = 4, USAGE_SIZE = USAGE_NUMBERS * 8, CRC = 4 };
#define MIB (INT64_C(1) << 20)

const char *const meta_limit_names[LIMIT_NUMBER] = {
    [LIMIT_SIZE] = "image_size_total",      [LIMIT_STAGE] = "image_stage_total",
    [LIMIT_COUNT] = "image_count_total",    [LIMIT_UPLOADING] = "image_count_uploading",
    [LIMIT_STORAGE] = "user_storage_quota",
};
const char meta_quota_all[] = "*";

int meta_limit_find(const char *name)
{
    for (int i = 0; name != NULL && i < LIMIT_NUMBER; i++) {
        if (strcmp(meta_limit_names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

int64_t meta_limit_counted(enum meta_limit limit, int64_t value)
{
    if (value < 0 || (limit != LIMIT_SIZE && limit != LIMIT_STAGE)) {
        return value < 0 ? -1 : value;
    }
    return value > INT64_MAX / MIB ? INT64_MAX : value * MIB;
}

int64_t meta_usage_counter(const struct meta_usage *usage, enum meta_limit limit)
{
    switch (limit) {
    case LIMIT_STAGE:
        return usage->stage;
    case LIMIT_COUNT:
        return usage->count;
    case LIMIT_UPLOADING:
        return usage->uploading;
    default:
        return usage->size;
    }
}

/* --- one image
 * ---------------------------------------------------------------------------------------- */

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

void meta_usage_of(const json_t *image, struct meta_usage *out)
{
    const char *status = json_str_or(image, "status", "");
    int64_t size = json_int(image, "size", 0);
    int64_t reserved = json_int(json_obj(image, "session"), "reserved", 0);
    *out = (struct meta_usage){.count = 1};
    if (is(status, "uploading")) {
        out->stage = json_obj(image, "staged") != NULL ? size : reserved;
        out->uploading = 1;
    } else if (is(status, "saving") || is(status, "importing")) {
        out->size = size > reserved ? size : reserved;
        out->uploading = 1;
    } else {
        out->size = size;
    }
}

static struct meta_usage usage_for(const json_t *image, const char *owner)
{
    struct meta_usage usage = {0};
    const char *own = json_str(image, "owner");
    if (own != NULL && strcmp(own, owner) == 0) {
        meta_usage_of(image, &usage);
    }
    return usage;
}

/* --- the record
 * --------------------------------------------------------------------------------------- */

static void usage_key(struct key *key, const char *project)
{
    key_init(key);
    key_short(key, project);
    key_byte(key, 0); /* a key is never empty */
}

static bool usage_decode(const struct key *key, struct kv_val value, struct meta_usage *out)
{
    const char *text;
    size_t size;
    if (record_decode(key_val(key), value, &text, &size) != 0 || size != USAGE_SIZE) {
        return false;
    }
    const uint8_t *p = (const uint8_t *)text;
    *out = (struct meta_usage){.size = (int64_t)be64_read(p),
                               .stage = (int64_t)be64_read(p + 8),
                               .count = (int64_t)be64_read(p + 16),
                               .uploading = (int64_t)be64_read(p + 24)};
    return true;
}

/* @out: USAGE_SIZE + CRC bytes. */
static void usage_encode(const struct key *key, const struct meta_usage *usage, uint8_t *out)
{
    struct key numbers;
    key_init(&numbers);
    key_be64(&numbers, (uint64_t)usage->size);
    key_be64(&numbers, (uint64_t)usage->stage);
    key_be64(&numbers, (uint64_t)usage->count);
    key_be64(&numbers, (uint64_t)usage->uploading);
    record_encode(key_val(key), numbers.data, numbers.size, out);
}

static bool usage_empty(const struct meta_usage *u)
{
    return u->size == 0 && u->stage == 0 && u->count == 0 && u->uploading == 0;
}

static void usage_move(struct meta_usage *usage, const struct meta_usage *before,
                       const struct meta_usage *after)
{
    usage->size += after->size - before->size;
    usage->stage += after->stage - before->stage;
    usage->count += after->count - before->count;
    usage->uploading += after->uploading - before->uploading;
}

int meta_usage_get(struct meta_view *v, const char *project, struct meta_usage *out)
{
    struct key key;
    struct kv_val value;
    usage_key(&key, project);
    *out = (struct meta_usage){0};
    int rc = kv_get(v->meta->kv, v->txn, DB_USAGE, key_val(&key), &value);
    if (rc != 0) {
        return rc == TSR_ENOENT ? 0 : rc;
    }
    return usage_decode(&key, value, out) ? 0 : meta_report_damage(v->meta, DB_USAGE);
}

/* --- limits
 * ------------------------------------------------------------------------------------------- */

/* What @entry says over what stands in @out. */
static void quota_over(const json_t *entry, struct meta_quota *out)
{
    for (int i = 0; i < LIMIT_NUMBER; i++) {
        const json_t *value = json_object_get(entry, meta_limit_names[i]);
        if (json_is_integer(value)) {
            out->limit[i] = json_integer_value(value) < 0 ? -1 : json_integer_value(value);
        }
    }
}

static void quota_none(struct meta_quota *out)
{
    for (int i = 0; i < LIMIT_NUMBER; i++) {
        out->limit[i] = -1;
    }
}

int meta_quota_get(struct meta_view *v, const char *project, struct meta_quota *out)
{
    const char *ids[] = {meta_quota_all, project};
    int rc = 0;
    quota_none(out);
    for (size_t i = 0; i < array_len(ids) && rc == 0; i++) {
        json_t *entry = NULL;
        rc = ids[i] == NULL ? TSR_ENOENT : meta_dir_get(v, "quota", ids[i], &entry);
        quota_over(entry, out);
        json_decref(entry);
        rc = rc == TSR_ENOENT ? 0 : rc;
    }
    return rc;
}

static int apply_quota(struct apply *a, const char *project, struct meta_quota *out)
{
    const char *ids[] = {meta_quota_all, project};
    int rc = 0;
    quota_none(out);
    for (size_t i = 0; i < array_len(ids) && rc == 0; i++) {
        json_t *entry = NULL;
        struct key key;
        if (strlen(ids[i]) > DIR_ID_MAX) {
            continue; /* no entry has such an id */
        }
        key_of_dir(&key, "quota", ids[i]);
        rc = writeset_get_json(&a->w, DB_DIR, &key, &entry);
        quota_over(entry, out);
        json_decref(entry);
        rc = rc == TSR_ENOENT ? 0 : rc;
    }
    return rc;
}

/* --- keeping them
 * ------------------------------------------------------------------------------------ */

static int over_limit(struct apply *a, enum meta_limit limit, int64_t value, int64_t have)
{
    static const char *const what[LIMIT_NUMBER] = {
        [LIMIT_SIZE] = "MiB of image data",
        [LIMIT_STAGE] = "MiB of staged data",
        [LIMIT_COUNT] = "images",
        [LIMIT_UPLOADING] = "uploads and imports at a time",
        [LIMIT_STORAGE] = "bytes of image data",
    };
    int64_t unit = limit == LIMIT_SIZE || limit == LIMIT_STAGE ? MIB : 1;
    return apply_refuse(a, TSR_ETOOBIG,
                        "The project's quota %s of %lld %s is exceeded; %lld are in use.",
                        meta_limit_names[limit], (long long)value, what[limit],
                        (long long)((have + unit - 1) / unit));
}

/* Refuse what raises a counter past its limit. */
static int limits_check(struct apply *a, const char *owner, const struct meta_usage *before,
                        const struct meta_usage *after)
{
    struct meta_quota quota;
    bool raised = false;
    for (int i = 0; i < LIMIT_NUMBER; i++) {
        raised = raised || meta_usage_counter(after, (enum meta_limit)i) >
                               meta_usage_counter(before, (enum meta_limit)i);
    }
    int rc = raised ? apply_quota(a, owner, &quota) : TSR_ENOENT;
    for (int i = 0; i < LIMIT_NUMBER && rc == 0; i++) {
        enum meta_limit limit = (enum meta_limit)i;
        int64_t have = meta_usage_counter(before, limit), want = meta_usage_counter(after, limit);
        int64_t most = meta_limit_counted(limit, quota.limit[i]);
        if (most >= 0 && want > have && want > most) {
            rc = over_limit(a, limit, quota.limit[i], have);
        }
    }
    return rc == TSR_ENOENT ? 0 : rc;
}

static int usage_load(struct apply *a, const struct key *key, struct meta_usage *out)
{
    struct kv_val value;
    *out = (struct meta_usage){0};
    int rc = writeset_get(&a->w, DB_USAGE, key_val(key), &value);
    if (rc == 0 && !usage_decode(key, value, out)) {
        rc = a->w.error = TSR_ECORRUPT;
    }
    return rc == TSR_ENOENT ? 0 : rc;
}

static int change_of(struct apply *a, const char *owner, const json_t *old, const json_t *next)
{
    struct meta_usage from = usage_for(old, owner), to = usage_for(next, owner), before, after;
    struct key key;
    if (memcmp(&from, &to, sizeof(from)) == 0) {
        return 0;
    }
    usage_key(&key, owner);
    int rc = usage_load(a, &key, &before);
    if (rc != 0) {
        return rc;
    }
    after = before;
    usage_move(&after, &from, &to);
    rc = limits_check(a, owner, &before, &after);
    if (rc != 0) {
        return rc;
    }
    if (usage_empty(&after)) {
        writeset_del(&a->w, DB_USAGE, key_val(&key));
    } else {
        uint8_t value[USAGE_SIZE + CRC];
        usage_encode(&key, &after, value);
        writeset_put(&a->w, DB_USAGE, key_val(&key), kv_val_of(value, sizeof(value)));
    }
    return a->w.error;
}

int apply_usage_change(struct apply *a, const json_t *old, const json_t *next)
{
    const char *from = json_str(old, "owner"), *to = json_str(next, "owner");
    int rc = from != NULL ? change_of(a, from, old, next) : 0;
    if (rc == 0 && to != NULL && (from == NULL || strcmp(from, to) != 0)) {
        rc = change_of(a, to, old, next);
    }
    return rc;
}

int apply_usage_room(struct apply *a, const json_t *image, int64_t *out)
{
    const char *owner = json_str(image, "owner");
    struct meta_usage usage;
    struct meta_quota quota;
    struct key key;
    bool stage = is(json_str_or(image, "status", ""), "uploading");
    *out = INT64_MAX;
    if (owner == NULL) {
        return 0;
    }
    usage_key(&key, owner);
    int rc = usage_load(a, &key, &usage);
    if (rc == 0) {
        rc = apply_quota(a, owner, &quota);
    }
    for (int i = 0; i < LIMIT_NUMBER && rc == 0; i++) {
        enum meta_limit limit = (enum meta_limit)i;
        int64_t most = meta_limit_counted(limit, quota.limit[i]);
        bool counts = stage ? limit == LIMIT_STAGE : limit == LIMIT_SIZE || limit == LIMIT_STORAGE;
        if (counts && most >= 0 && most - meta_usage_counter(&usage, limit) < *out) {
            *out = most - meta_usage_counter(&usage, limit);
        }
    }
    return rc;
}

/* --- counting anew
 * ---------------------------------------------------------------------------------- */

int usage_count(struct kv *kv, struct kv_txn *txn, const json_t *image)
{
    const char *owner = json_str(image, "owner");
    struct meta_usage usage = {0}, own, none = {0};
    struct kv_val value;
    struct key key;
    if (owner == NULL) {
        return 0;
    }
    usage_key(&key, owner);
    int rc = kv_get(kv, txn, DB_USAGE, key_val(&key), &value);
    if (rc == 0 && !usage_decode(&key, value, &usage)) {
        return TSR_ECORRUPT;
    }
    if (rc != 0 && rc != TSR_ENOENT) {
        return rc;
    }
    meta_usage_of(image, &own);
    usage_move(&usage, &none, &own);
    uint8_t out[USAGE_SIZE + CRC];
    usage_encode(&key, &usage, out);
    return kv_put(kv, txn, DB_USAGE, key_val(&key), kv_val_of(out, sizeof(out)));
}
