#include "meta/schema.h"

#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"

const char *const meta_databases[] = {
    [DB_IMAGE] = "image",
    [DB_TOMBSTONE] = "tombstone",
    [DB_MEMBER] = "member",
    [DB_HOST] = "host",
    [DB_CLUSTER] = "cluster",
    [DB_ENDPOINT] = "endpoint",
    [DB_SETTING] = "setting",
    [DB_DIR] = "directory",
    [DB_RESULT] = "result",
    [DB_RESULT_ORDER] = "result_order",
    [DB_DIR_NAME] = "directory_name",
    [DB_MANIFEST] = "manifest",
    [DB_META] = "meta",
    [DB_RING] = "ring",
    [DB_INDEX + SORT_CREATED_AT] = "idx_created_at",
    [DB_INDEX + SORT_UPDATED_AT] = "idx_updated_at",
    [DB_INDEX + SORT_NAME] = "idx_name",
    [DB_INDEX + SORT_STATUS] = "idx_status",
    [DB_INDEX + SORT_CONTAINER_FORMAT] = "idx_container_format",
    [DB_INDEX + SORT_DISK_FORMAT] = "idx_disk_format",
    [DB_INDEX + SORT_SIZE] = "idx_size",
    [DB_INDEX + SORT_ID] = "idx_id",
    [DB_USAGE] = "usage",
};
const unsigned meta_database_count = DB_COUNT;

_Static_assert(array_len(meta_databases) == DB_COUNT, "each database has a name");
_Static_assert((int)DB_COUNT <= (int)KV_DBS_MAX, "sys/kv has room for all databases");

/* --- keys ------------------------------------------------------------------------------------- */

enum { SHORT_MAX = 128, SHORT_HEAD = 100, SHORT_HASH = 16 };

void key_init(struct key *k)
{
    k->size = 0;
}

void key_bytes(struct key *k, const void *data, size_t size)
{
    tsr_assert(k->size + size <= sizeof(k->data)); /* callers bound what comes from outside */
    if (size != 0) {
        memcpy(k->data + k->size, data, size);
    }
    k->size += size;
}

void key_byte(struct key *k, uint8_t b)
{
    key_bytes(k, &b, 1);
}

void key_text(struct key *k, const char *text)
{
    key_bytes(k, text, strlen(text));
}

void key_be64(struct key *k, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++) {
        b[i] = (uint8_t)(v >> (56 - 8 * i));
    }
    key_bytes(k, b, sizeof(b));
}

void key_short(struct key *k, const char *text)
{
    size_t size = strlen(text);
    if (size <= SHORT_MAX) {
        key_bytes(k, text, size);
        return;
    }
    uint8_t hash[32];
    char hex[2 * SHORT_HASH + 1];
    digest_of(DIGEST_SHA256, text, size, hash);
    hex_encode(hash, SHORT_HASH, hex);
    key_bytes(k, text, SHORT_HEAD);
    key_byte(k, 1);
    key_text(k, hex);
}

void key_after_prefix(struct key *k)
{
    while (k->size > 0 && k->data[k->size - 1] == 0xff) {
        k->size--;
    }
    tsr_assert(k->size > 0);
    k->data[k->size - 1]++;
}

uint64_t be64_read(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

int bytes_compare(const void *a, size_t a_size, const void *b, size_t b_size)
{
    size_t common = a_size < b_size ? a_size : b_size;
    int c = common == 0 ? 0 : memcmp(a, b, common);
    if (c != 0) {
        return c;
    }
    return a_size < b_size ? -1 : a_size > b_size;
}

void key_of_text(struct key *k, const char *text)
{
    key_init(k);
    key_text(k, text);
}

void key_of_number(struct key *k, uint64_t number)
{
    key_init(k);
    key_be64(k, number);
}

void key_of_member(struct key *k, const char *image_id, const char *project)
{
    key_init(k);
    key_text(k, image_id);
    key_byte(k, 0);
    if (project != NULL) {
        key_short(k, project);
    }
}

void key_of_dir(struct key *k, const char *kind, const char *id)
{
    key_init(k);
    key_text(k, kind);
    key_byte(k, 0);
    key_text(k, id);
}

void key_of_dir_name(struct key *k, const char *kind, const char *domain, const char *name)
{
    key_init(k);
    key_text(k, kind);
    key_byte(k, 0);
    key_short(k, domain);
    key_byte(k, 0);
    key_short(k, name);
}

void key_of_manifest(struct key *k, const char *manifest, const char *image_id)
{
    key_init(k);
    key_text(k, manifest);
    key_byte(k, 0);
    key_text(k, image_id);
}

void key_of_result_order(struct key *k, uint64_t index, const uint8_t id[COMMAND_ID_SIZE])
{
    key_init(k);
    key_be64(k, index);
    key_bytes(k, id, COMMAND_ID_SIZE);
}

const char *dir_domain(const char *kind, const json_t *value)
{
    if (strcmp(kind, "appcred") == 0) {
        return json_str_or(value, "user_id", "");
    }
    const char *domain = json_str(value, "domain_id");
    return domain != NULL ? domain : json_str_or(value, "domain", "");
}

bool dir_kind_ok(const char *kind)
{
    size_t size = kind == NULL ? 0 : strlen(kind);
    return size >= 1 && size <= 32 && strspn(kind, "abcdefghijklmnopqrstuvwxyz_") == size;
}

/* --- records -----------------------------------------------------------------------------------
 */

enum { CRC_SIZE = 4 };

uint32_t record_crc(struct kv_val key, const void *text, size_t size)
{
    return crc32c(crc32c(0, key.data, key.size), text, size);
}

void record_encode(struct kv_val key, const void *text, size_t size, uint8_t *out)
{
    uint32_t crc = record_crc(key, text, size);
    for (int i = 0; i < CRC_SIZE; i++) {
        out[i] = (uint8_t)(crc >> 8 * i);
    }
    if (size != 0) {
        memcpy(out + CRC_SIZE, text, size);
    }
}

int record_decode(struct kv_val key, struct kv_val value, const char **text_out, size_t *size_out)
{
    const uint8_t *p = value.data;
    if (value.size < CRC_SIZE) {
        return TSR_ECORRUPT;
    }
    uint32_t crc = 0;
    for (int i = 0; i < CRC_SIZE; i++) {
        crc |= (uint32_t)p[i] << 8 * i;
    }
    if (crc != record_crc(key, p + CRC_SIZE, value.size - CRC_SIZE)) {
        return TSR_ECORRUPT;
    }
    *text_out = (const char *)p + CRC_SIZE;
    *size_out = value.size - CRC_SIZE;
    return 0;
}

int record_parse(struct kv_val key, struct kv_val value, json_t **out)
{
    const char *text;
    size_t size;
    int rc = record_decode(key, value, &text, &size);
    if (rc != 0) {
        return rc;
    }
    *out = json_parse(text, size);
    return *out == NULL ? TSR_ECORRUPT : 0;
}

/* --- the point -----------------------------------------------------------------------------------
 */

enum { POINT_SIZE = 1 + 8 + 8 + FSM_DIGEST_SIZE, RING_SIZE = 8 + FSM_DIGEST_SIZE };

static int put_record(struct kv *kv, struct kv_txn *txn, unsigned db, const struct key *key,
                      const void *data, size_t size)
{
    uint8_t value[CRC_SIZE + 128];
    tsr_assert(size + CRC_SIZE <= sizeof(value));
    record_encode(key_val(key), data, size, value);
    return kv_put(kv, txn, db, key_val(key), kv_val_of(value, size + CRC_SIZE));
}

static int get_record(struct kv *kv, struct kv_txn *txn, unsigned db, const struct key *key,
                      const uint8_t **data_out, size_t *size_out)
{
    struct kv_val value;
    const char *text;
    int rc = kv_get(kv, txn, db, key_val(key), &value);
    if (rc != 0) {
        return rc;
    }
    rc = record_decode(key_val(key), value, &text, size_out);
    if (rc == 0) {
        *data_out = (const uint8_t *)text;
    }
    return rc;
}

int store_point_read(struct kv *kv, struct kv_txn *txn, struct store_point *out)
{
    struct key key;
    const uint8_t *p;
    size_t size;
    *out = (struct store_point){0};
    key_of_text(&key, "point");
    int rc = get_record(kv, txn, DB_META, &key, &p, &size);
    if (rc != 0) {
        return rc;
    }
    if (size != POINT_SIZE || p[0] > 1) {
        return TSR_ECORRUPT;
    }
    out->importing = p[0] == 1;
    out->at.index = be64_read(p + 1);
    out->at.term = be64_read(p + 9);
    memcpy(out->at.digest, p + 17, FSM_DIGEST_SIZE);
    return 0;
}

int store_point_write(struct kv *kv, struct kv_txn *txn, const struct store_point *point)
{
    struct key key, value;
    key_of_text(&key, "point");
    key_init(&value);
    key_byte(&value, point->importing ? 1 : 0);
    key_be64(&value, point->at.index);
    key_be64(&value, point->at.term);
    key_bytes(&value, point->at.digest, FSM_DIGEST_SIZE);
    return put_record(kv, txn, DB_META, &key, value.data, value.size);
}

static void ring_key(struct key *key, uint64_t index)
{
    uint64_t slot = index % META_RING_SIZE;
    key_init(key);
    key_byte(key, (uint8_t)(slot >> 8));
    key_byte(key, (uint8_t)slot);
}

int store_ring_write(struct kv *kv, struct kv_txn *txn, const struct fsm_point *at)
{
    struct key key, value;
    ring_key(&key, at->index);
    key_of_number(&value, at->index);
    key_bytes(&value, at->digest, FSM_DIGEST_SIZE);
    return put_record(kv, txn, DB_RING, &key, value.data, value.size);
}

int store_ring_read(struct kv *kv, struct kv_txn *txn, uint64_t index,
                    uint8_t digest_out[FSM_DIGEST_SIZE])
{
    struct key key;
    const uint8_t *p;
    size_t size;
    ring_key(&key, index);
    int rc = get_record(kv, txn, DB_RING, &key, &p, &size);
    if (rc != 0) {
        return rc;
    }
    if (size != RING_SIZE) {
        return TSR_ECORRUPT;
    }
    if (be64_read(p) != index) {
        return TSR_ENOENT;
    }
    memcpy(digest_out, p + 8, FSM_DIGEST_SIZE);
    return 0;
}

int store_version_write(struct kv *kv, struct kv_txn *txn)
{
    static const char version[] = "{\"format\":2}";
    _Static_assert(META_FORMAT == 2, "the text above says the format");
    struct key key;
    key_of_text(&key, "version");
    return put_record(kv, txn, DB_META, &key, version, sizeof(version) - 1);
}

int store_format(struct kv *kv, struct kv_txn *txn)
{
    int rc = 0;
    for (unsigned db = 0; db < DB_COUNT && rc == 0; db++) {
        rc = kv_drop(kv, txn, db);
    }
    if (rc == 0) {
        rc = store_version_write(kv, txn);
    }
    if (rc == 0) {
        rc = store_point_write(kv, txn, &(struct store_point){0});
    }
    return rc;
}
