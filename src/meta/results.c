/* Outcomes of commands, kept RESULT_WINDOW entries long, so that a command that comes twice (a
 * retry after a leader change, a client's idempotency key) is applied once and answered alike.
 *
 * Value: u32 crc | u64 index (big endian) | u32 code as positive number | u8 has fp | fp[16] |
 * text. The text is not part of the effect digest: hosts of two versions may word a refusal
 * differently. */
#include "meta/apply.h"

#include <string.h>

#include "meta/view.h"
#include "tessera/base/digest.h"

enum { RESULT_HEAD = 8 + 4 + 1 + 16 };

static int result_decode(struct kv_val key, struct kv_val value, struct result_record *out)
{
    const char *text;
    size_t size;
    if (record_decode(key, value, &text, &size) != 0 || size < RESULT_HEAD) {
        return TSR_ECORRUPT;
    }
    const uint8_t *p = (const uint8_t *)text;
    *out = (struct result_record){.index = be64_read(p), .has_fp = p[12] != 0};
    uint32_t code = (uint32_t)p[8] << 24 | (uint32_t)p[9] << 16 | (uint32_t)p[10] << 8 | p[11];
    out->code = -(int)code;
    memcpy(out->fp, p + 13, sizeof(out->fp));
    out->text = text + RESULT_HEAD;
    out->size = size - RESULT_HEAD;
    return 0;
}

int result_get(struct apply *a, const uint8_t id[COMMAND_ID_SIZE], struct result_record *out)
{
    struct kv_val value, key = kv_val_of(id, COMMAND_ID_SIZE);
    int rc = writeset_get(&a->w, DB_RESULT, key, &value);
    return rc != 0 ? rc : result_decode(key, value, out);
}

bool result_of_another(struct meta_view *v, const uint8_t id[COMMAND_ID_SIZE],
                       const uint8_t fp[RESULT_FP_SIZE])
{
    struct result_record record;
    struct kv_val value, key = kv_val_of(id, COMMAND_ID_SIZE);
    int rc = kv_get(v->meta->kv, v->txn, DB_RESULT, key, &value);
    return rc == 0 && result_decode(key, value, &record) == 0 &&
           (!record.has_fp || memcmp(record.fp, fp, RESULT_FP_SIZE) != 0);
}

int meta_outcome(struct meta_view *v, const uint8_t id[COMMAND_ID_SIZE], int *code_out,
                 json_t **out)
{
    struct result_record record;
    struct kv_val value, key = kv_val_of(id, COMMAND_ID_SIZE);
    int rc = kv_get(v->meta->kv, v->txn, DB_RESULT, key, &value);
    if (rc != 0 || (rc = result_decode(key, value, &record)) != 0) {
        return rc;
    }
    *out = json_parse(record.text, record.size);
    *code_out = record.code;
    return *out != NULL ? 0 : TSR_ECORRUPT;
}

int result_put(struct apply *a, const uint8_t id[COMMAND_ID_SIZE],
               const struct result_record *record)
{
    struct key key, order, head;
    key_init(&key);
    key_bytes(&key, id, COMMAND_ID_SIZE);
    key_of_result_order(&order, record->index, id);
    uint32_t code = (uint32_t)-record->code;
    key_of_number(&head, record->index);
    for (int shift = 24; shift >= 0; shift -= 8) {
        key_byte(&head, (uint8_t)(code >> shift));
    }
    key_byte(&head, record->has_fp ? 1 : 0);
    key_bytes(&head, record->fp, sizeof(record->fp));

    size_t size = RESULT_HEAD + record->size;
    uint8_t *body = writeset_alloc(&a->w, size), *value = writeset_alloc(&a->w, size + 4);
    if (body == NULL || value == NULL) {
        return a->w.error;
    }
    memcpy(body, head.data, RESULT_HEAD);
    memcpy(body + RESULT_HEAD, record->text, record->size);
    record_encode(key_val(&key), body, size, value);
    int rc = kv_put(a->w.kv, a->w.txn, DB_RESULT, key_val(&key), kv_val_of(value, size + 4));
    if (rc == 0) {
        rc = kv_put(a->w.kv, a->w.txn, DB_RESULT_ORDER, key_val(&order), kv_val_of("", 0));
    }
    digest_update(a->digest, "r", 1);
    digest_update(a->digest, id, COMMAND_ID_SIZE);
    digest_update(a->digest, head.data, head.size);
    return rc;
}

/* One old outcome; TSR_ENOENT when the oldest is still inside the window. */
static int evict_one(struct apply *a, uint64_t before)
{
    struct kv_cursor *cursor;
    struct kv_val key, value;
    struct key old;
    int rc = kv_cursor_open(a->w.kv, a->w.txn, DB_RESULT_ORDER, &cursor);
    if (rc != 0) {
        return rc;
    }
    rc = kv_cursor_move(a->w.kv, cursor, KV_FIRST, &key, &value);
    if (rc == 0 && key.size != 8 + COMMAND_ID_SIZE) {
        rc = TSR_ECORRUPT;
    }
    if (rc == 0 && be64_read(key.data) >= before) {
        rc = TSR_ENOENT;
    }
    if (rc == 0) { /* the key does not outlive the next write */
        key_init(&old);
        key_bytes(&old, key.data, key.size);
    }
    kv_cursor_close(a->w.kv, cursor);
    if (rc != 0) {
        return rc;
    }
    rc = kv_del(a->w.kv, a->w.txn, DB_RESULT_ORDER, key_val(&old));
    if (rc == 0) {
        rc = kv_del(a->w.kv, a->w.txn, DB_RESULT, kv_val_of(old.data + 8, COMMAND_ID_SIZE));
    }
    digest_update(a->digest, "e", 1);
    digest_update(a->digest, old.data, old.size);
    return rc == TSR_ENOENT ? TSR_ECORRUPT : rc;
}

int result_evict(struct apply *a, unsigned commands)
{
    if (a->index <= RESULT_WINDOW) {
        return 0;
    }
    /* More than one entry can add, so that the backlog of a busy time goes away. */
    for (unsigned i = 0; i < 2 * commands + 2; i++) {
        int rc = evict_one(a, a->index - RESULT_WINDOW);
        if (rc != 0) {
            return rc == TSR_ENOENT ? 0 : rc;
        }
    }
    return 0;
}

void result_fingerprint(const char *fp, struct result_record *out)
{
    uint8_t hash[32];
    out->has_fp = fp != NULL;
    memset(out->fp, 0, sizeof(out->fp));
    if (fp != NULL) {
        digest_of(DIGEST_SHA256, fp, strlen(fp), hash);
        memcpy(out->fp, hash, sizeof(out->fp));
    }
}

int meta_result_get(struct meta_view *v, const uint8_t id[COMMAND_ID_SIZE], const char *fp,
                    int *code, json_t **result)
{
    struct result_record record, own;
    struct kv_val value, key = kv_val_of(id, COMMAND_ID_SIZE);
    int rc = kv_get(v->meta->kv, v->txn, DB_RESULT, key, &value);
    if (rc != 0) {
        return rc;
    }
    if (result_decode(key, value, &record) != 0) {
        return meta_report_damage(v->meta, DB_RESULT);
    }
    result_fingerprint(fp, &own);
    if (own.has_fp != record.has_fp || memcmp(own.fp, record.fp, sizeof(own.fp)) != 0) {
        return TSR_EUNPROCESSABLE;
    }
    *result = json_parse(record.text, record.size);
    *code = record.code;
    return *result != NULL ? 0 : meta_report_damage(v->meta, DB_RESULT);
}
