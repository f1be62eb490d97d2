/* The store as a stream, and back.
 *
 *   "TSRSNAP1" | u32 version | u64 index | u64 term | digest[32]          header
 *   01 | u8 database | u32 key size | u32 value size | key | value        records, sorted, primary
 * ones 02 | u64 count | sha256[32] of everything before                      end Numbers are little
 * endian. Values carry their CRC (schema.h), which is checked on both sides: a damaged record is
 * never spread.
 *
 * Import: the whole file is checked first; then the store is emptied, records and indexes are
 * written in transactions of bounded size. All but the last leave a point that says "importing", so
 * readers are refused meanwhile, and a crash in between is found at the next open. */
#include <stdlib.h>
#include <string.h>

#include "meta/index.h"
#include "meta/internal.h"
#include "meta/usage.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"

enum {
    STREAM_VERSION = 1,
    MAGIC_SIZE = 8,
    HEADER_SIZE = MAGIC_SIZE + 4 + 8 + 8 + FSM_DIGEST_SIZE,
    RECORD_HEAD = 1 + 1 + 4 + 4,
    END_SIZE = 1 + 8 + 32,
    VALUE_MAX_SIZE = 2 * IMAGE_METADATA_MAX, /* of any record */
    TXN_BYTES = 16 * 1024 * 1024,
    TXN_IMAGES = 5000,
    PUT_COST = 512, /* of TXN_BYTES, for the pages that a key changes */
    PIECE = 1024 * 1024,
};
static const char magic[MAGIC_SIZE + 1] = "TSRSNAP1";

/* --- out
 * ------------------------------------------------------------------------------------------- */

struct fsm_export {
    struct meta *meta;
    struct kv_txn *txn;
    struct kv_cursor *cursor; /* of @db; NULL: to be opened */
    struct digest *digest;
    struct buf out;
    size_t given; /* of out */
    unsigned db;
    uint64_t count;
    bool ended;
    int error;
};

void meta_export_close(struct fsm_export *e)
{
    if (e == NULL) {
        return;
    }
    if (e->cursor != NULL) {
        kv_cursor_close(e->meta->kv, e->cursor);
    }
    kv_abort(e->meta->kv, e->txn);
    digest_free(e->digest);
    buf_free(&e->out);
    free(e);
}

static int export_header(struct fsm_export *e, const struct fsm_point *at)
{
    buf_append(&e->out, magic, MAGIC_SIZE);
    buf_put_u32(&e->out, STREAM_VERSION);
    buf_put_u64(&e->out, at->index);
    buf_put_u64(&e->out, at->term);
    buf_append(&e->out, at->digest, FSM_DIGEST_SIZE);
    return e->out.failed ? TSR_ENOMEM : 0;
}

int meta_export_open(struct fsm *fsm, struct fsm_export **out, struct fsm_point *at)
{
    struct meta *m = meta_of(fsm);
    struct store_point point;
    struct fsm_export *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return TSR_ENOMEM;
    }
    e->meta = m;
    e->digest = digest_new(DIGEST_SHA256);
    int rc = e->digest == NULL ? TSR_ENOMEM : kv_begin(m->kv, false, &e->txn);
    if (rc == 0) {
        rc = store_point_read(m->kv, e->txn, &point);
    }
    if (rc == 0 && point.importing) {
        rc = TSR_EUNAVAILABLE;
    }
    if (rc == 0) {
        rc = export_header(e, &point.at);
    }
    if (rc != 0) {
        meta_export_close(e);
        return rc;
    }
    digest_update(e->digest, e->out.data, e->out.size);
    *at = point.at;
    *out = e;
    return 0;
}

static int export_end(struct fsm_export *e)
{
    uint8_t sum[32];
    size_t from = e->out.size;
    buf_put_u8(&e->out, 2);
    buf_put_u64(&e->out, e->count);
    if (e->out.failed) {
        return TSR_ENOMEM;
    }
    digest_update(e->digest, e->out.data + from, e->out.size - from);
    digest_final(e->digest, sum);
    buf_append(&e->out, sum, sizeof(sum));
    e->ended = true;
    return e->out.failed ? TSR_ENOMEM : 0;
}

static int export_record(struct fsm_export *e, struct kv_val key, struct kv_val value)
{
    const char *text;
    size_t size, from = e->out.size;
    if (record_decode(key, value, &text, &size) != 0) {
        return meta_report_damage(e->meta, e->db);
    }
    buf_put_u8(&e->out, 1);
    buf_put_u8(&e->out, (uint8_t)e->db);
    buf_put_u32(&e->out, (uint32_t)key.size);
    buf_put_u32(&e->out, (uint32_t)value.size);
    buf_append(&e->out, key.data, key.size);
    buf_append(&e->out, value.data, value.size);
    if (e->out.failed) {
        return TSR_ENOMEM;
    }
    digest_update(e->digest, e->out.data + from, e->out.size - from);
    e->count++;
    return 0;
}

/* Add the next record, or the end. */
static int export_step(struct fsm_export *e)
{
    struct kv *kv = e->meta->kv;
    struct kv_val key, value;
    enum kv_seek how = KV_NEXT;
    if (e->db == DB_PRIMARY_COUNT) {
        return export_end(e);
    }
    if (e->cursor == NULL) {
        int rc = kv_cursor_open(kv, e->txn, e->db, &e->cursor);
        if (rc != 0) {
            return rc;
        }
        how = KV_FIRST;
    }
    int rc = kv_cursor_move(kv, e->cursor, how, &key, &value);
    if (rc == TSR_ENOENT) {
        kv_cursor_close(kv, e->cursor);
        e->cursor = NULL;
        e->db++;
        return 0;
    }
    return rc == 0 ? export_record(e, key, value) : rc;
}

long meta_export_read(struct fsm_export *e, void *data, size_t size)
{
    if (e->given == e->out.size) {
        buf_clear(&e->out);
        e->given = 0;
    }
    while (e->error == 0 && !e->ended && e->out.size - e->given < size) {
        e->error = export_step(e);
    }
    if (e->error != 0) {
        return e->error;
    }
    size_t n = e->out.size - e->given;
    n = n < size ? n : size;
    if (n > 0) {
        memcpy(data, e->out.data + e->given, n);
        e->given += n;
    }
    return (long)n;
}

/* --- in
 * ---------------------------------------------------------------------------------------------- */

struct source {
    struct fs *fs;
    struct fs_file *file;
    struct digest *digest; /* NULL on the second pass */
    int64_t offset;        /* of what is to be read next from the file */
    uint8_t *data;         /* PIECE + VALUE_MAX_SIZE bytes */
    size_t at, size;
    bool eof;
};

enum { SOURCE_MAX = PIECE + VALUE_MAX_SIZE + KV_KEY_MAX };

/* Have @n bytes at hand; NULL at the end or on an error (*rc). They are taken. */
static const uint8_t *take(struct source *s, size_t n, int *rc)
{
    if (*rc != 0) {
        return NULL;
    }
    while (s->size - s->at < n && !s->eof) {
        memmove(s->data, s->data + s->at, s->size - s->at);
        s->size -= s->at;
        s->at = 0;
        size_t room = SOURCE_MAX - s->size;
        long got = fs_pread(s->fs, s->file, s->data + s->size, room, s->offset);
        if (got < 0) {
            *rc = (int)got;
            return NULL;
        }
        s->eof = (size_t)got < room;
        s->offset += got;
        s->size += (size_t)got;
    }
    if (s->size - s->at < n) {
        *rc = TSR_ECORRUPT;
        return NULL;
    }
    const uint8_t *p = s->data + s->at;
    s->at += n;
    return p;
}

static void sum(struct source *s, const uint8_t *p, size_t n)
{
    if (s->digest != NULL && p != NULL) {
        digest_update(s->digest, p, n);
    }
}

static int read_header(struct source *s, struct fsm_point *out)
{
    int rc = 0;
    const uint8_t *p = take(s, HEADER_SIZE, &rc);
    if (rc != 0) {
        return rc;
    }
    sum(s, p, HEADER_SIZE);
    struct reader r = reader_of(p, HEADER_SIZE);
    const void *m = read_bytes(&r, MAGIC_SIZE);
    uint32_t version = read_u32(&r);
    out->index = read_u64(&r);
    out->term = read_u64(&r);
    const void *digest = read_bytes(&r, FSM_DIGEST_SIZE);
    if (memcmp(m, magic, MAGIC_SIZE) == 0 && version > STREAM_VERSION) {
        return TSR_ENOTSUP; /* its digest was right: the leader is a newer version */
    }
    if (memcmp(m, magic, MAGIC_SIZE) != 0 || version != STREAM_VERSION) {
        return TSR_ECORRUPT;
    }
    memcpy(out->digest, digest, FSM_DIGEST_SIZE);
    return 0;
}

struct record {
    unsigned db;
    struct kv_val key, value;
};

/* 1 = a record, 0 = the end (checked), or an error. The record lives until the next call. */
static int read_record(struct source *s, uint64_t count, struct record *out)
{
    int rc = 0;
    uint8_t own[32];
    const uint8_t *kind = take(s, 1, &rc);
    sum(s, kind, 1);
    if (rc == 0 && *kind == 2) {
        const uint8_t *p = take(s, 8, &rc);
        sum(s, p, 8);
        struct reader r = reader_of(p, rc == 0 ? 8 : 0);
        bool right = read_u64(&r) == count;
        p = take(s, 32, &rc);
        if (rc == 0 && s->digest != NULL) {
            digest_final(s->digest, own);
            right = right && memcmp(own, p, 32) == 0;
        }
        return rc != 0 ? rc : right && s->eof && s->at == s->size ? 0 : TSR_ECORRUPT;
    }
    if (rc != 0 || *kind != 1) {
        return rc != 0 ? rc : TSR_ECORRUPT;
    }
    const uint8_t *head = take(s, RECORD_HEAD - 1, &rc);
    if (rc != 0) {
        return rc;
    }
    sum(s, head, RECORD_HEAD - 1);
    struct reader r = reader_of(head, RECORD_HEAD - 1);
    out->db = read_u8(&r);
    size_t key_size = read_u32(&r), value_size = read_u32(&r);
    if (out->db >= DB_PRIMARY_COUNT || key_size == 0 || key_size > KV_KEY_MAX ||
        value_size > VALUE_MAX_SIZE) {
        return TSR_ECORRUPT;
    }
    const uint8_t *p = take(s, key_size + value_size, &rc);
    if (rc != 0) {
        return rc;
    }
    sum(s, p, key_size + value_size);
    out->key = kv_val_of(p, key_size);
    out->value = kv_val_of(p + key_size, value_size);
    return 1;
}

static int verify(struct source *s, struct fsm_point *at)
{
    struct record record = {0}, last = {0};
    struct key key;
    uint64_t count = 0;
    const char *text;
    size_t size;
    int rc = read_header(s, at);
    key_init(&key);
    while (rc == 0 && (rc = read_record(s, count, &record)) == 1) {
        count++;
        bool sorted = record.db > last.db ||
                      (record.db == last.db &&
                       bytes_compare(record.key.data, record.key.size, key.data, key.size) > 0);
        rc = sorted ? record_decode(record.key, record.value, &text, &size) : TSR_ECORRUPT;
        last.db = record.db;
        key_init(&key);
        key_bytes(&key, record.key.data, record.key.size);
    }
    return rc;
}

/* --- writing what was read
 * -------------------------------------------------------------------------------- */

struct import {
    struct meta *meta;
    struct kv *kv;
    struct kv_txn *txn;
    size_t bytes; /* in this transaction */
    bool committed;
};

static int import_commit(struct import *im)
{
    int rc = kv_commit(im->kv, im->txn);
    im->txn = NULL;
    im->bytes = 0;
    im->committed = im->committed || rc == 0;
    return rc;
}

static int import_room(struct import *im, size_t bytes)
{
    im->bytes += bytes;
    if (im->bytes < TXN_BYTES) {
        return 0;
    }
    int rc = import_commit(im);
    return rc == 0 ? kv_begin(im->kv, true, &im->txn) : rc;
}

/* Index entries that need only the record itself. */
static int import_derive(struct import *im, const struct record *record)
{
    struct key key;
    const char *text;
    size_t size;
    json_t *value;
    int rc = record_decode(record->key, record->value, &text, &size);
    if (rc != 0) {
        return rc;
    }
    if (record->db == DB_RESULT) {
        if (record->key.size != COMMAND_ID_SIZE || size < 8) {
            return TSR_ECORRUPT;
        }
        key_of_result_order(&key, be64_read((const uint8_t *)text), record->key.data);
        return kv_put(im->kv, im->txn, DB_RESULT_ORDER, key_val(&key), kv_val_of("", 0));
    }
    if (record->db != DB_DIR) {
        return 0;
    }
    value = json_parse(text, size);
    const char *id = json_str(value, "id"), *name = json_str(value, "name");
    const char *kind = record->key.data;
    if (id == NULL || kind == NULL || strlen(id) > DIR_ID_MAX ||
        memchr(kind, 0, record->key.size) == NULL || !dir_kind_ok(kind)) {
        rc = TSR_ECORRUPT;
    } else if (name != NULL) {
        uint8_t out[DIR_ID_MAX + 4];
        key_of_dir_name(&key, kind, dir_domain(kind, value), name);
        record_encode(key_val(&key), id, strlen(id), out);
        rc = kv_put(im->kv, im->txn, DB_DIR_NAME, key_val(&key), kv_val_of(out, strlen(id) + 4));
    }
    json_decref(value);
    return rc;
}

static int import_records(struct import *im, struct source *s, struct fsm_point *at)
{
    struct record record = {0};
    uint64_t count = 0;
    int rc = read_header(s, at);
    while (rc == 0 && (rc = read_record(s, count, &record)) == 1) {
        count++;
        rc = kv_put(im->kv, im->txn, record.db, record.key, record.value);
        if (rc == 0) {
            rc = import_derive(im, &record);
        }
        if (rc == 0) {
            rc = import_room(im, record.key.size + record.value.size);
        }
    }
    return rc;
}

static int collect_member(void *arg, struct kv_val key, struct kv_val value)
{
    json_t *member;
    int rc = record_parse(key, value, &member);
    if (rc != 0) {
        return rc;
    }
    return json_array_append_new(arg, member) == 0 ? 0 : TSR_ENOMEM;
}

/* What needs the image's record, apart from the sort indexes. */
static int import_image(struct import *im, const json_t *image)
{
    struct key key;
    const char *id = json_str(image, "id"), *manifest = json_str(image, "manifest");
    if (id == NULL || strlen(id) != META_IMAGE_ID_SIZE) {
        return TSR_ECORRUPT;
    }
    int rc = 0;
    if (manifest != NULL) {
        key_of_manifest(&key, manifest, id);
        rc = kv_put(im->kv, im->txn, DB_MANIFEST, key_val(&key), kv_val_of("", 0));
        im->bytes += key.size;
    }
    return rc == 0 ? usage_count(im->kv, im->txn, image) : rc;
}

static int members_of(struct writeset *w, const json_t *image, json_t *members)
{
    struct key prefix;
    key_of_member(&prefix, json_str_or(image, "id", ""), NULL);
    return writeset_scan(w, DB_MEMBER, &prefix, collect_member, members);
}

/* --- sort indexes: keys of many images are put in order before they are written, or each would
 * change a page of its own --- */

struct run {
    char *data;
    struct kv_val *keys;
    size_t used, count, capacity;
};

static void run_free(struct run *run)
{
    free(run->data);
    free(run->keys);
}

static int run_room(struct import *im, struct run *run)
{
    if (run->data == NULL && (run->data = malloc(im->meta->run_bytes)) == NULL) {
        return TSR_ENOMEM;
    }
    if (run->count < run->capacity) {
        return 0;
    }
    size_t capacity = run->capacity == 0 ? 1024 : 2 * run->capacity;
    struct kv_val *keys = realloc(run->keys, capacity * sizeof(*keys));
    if (keys == NULL) {
        return TSR_ENOMEM;
    }
    run->keys = keys;
    run->capacity = capacity;
    return 0;
}

static int compare_vals(const void *a, const void *b)
{
    const struct kv_val *x = a, *y = b;
    return bytes_compare(x->data, x->size, y->data, y->size);
}

static int run_write(struct import *im, struct run *run, enum meta_sort sort)
{
    int rc = 0;
    if (run->count > 0) {
        qsort(run->keys, run->count, sizeof(*run->keys), compare_vals);
    }
    for (size_t i = 0; i < run->count && rc == 0; i++) {
        rc = kv_put(im->kv, im->txn, DB_INDEX + (unsigned)sort, run->keys[i], kv_val_of("", 0));
        if (rc == 0) {
            rc = import_room(im, PUT_COST + run->keys[i].size);
        }
    }
    run->used = run->count = 0;
    return rc;
}

static int run_add(struct import *im, struct run *run, enum meta_sort sort, struct kv_val key)
{
    int rc = run->used + key.size > im->meta->run_bytes ? run_write(im, run, sort) : 0;
    if (rc == 0) {
        rc = run_room(im, run);
    }
    if (rc == 0) {
        char *own = run->data + run->used;
        memcpy(own, key.data, key.size);
        run->keys[run->count++] = kv_val_of(own, key.size);
        run->used += key.size;
    }
    return rc;
}

static int index_image(struct import *im, struct run *run, enum meta_sort sort, const json_t *image)
{
    struct writeset w;
    struct index_keys keys = {0};
    json_t *members = json_array();
    if (members == NULL) {
        return TSR_ENOMEM;
    }
    writeset_init(&w, im->kv, im->txn);
    int rc = members_of(&w, image, members);
    if (rc == 0) {
        rc = index_keys_in(&w, image, members, sort, &keys);
    }
    for (size_t i = 0; i < keys.count && rc == 0; i++) {
        rc = run_add(im, run, sort, keys.items[i].key);
    }
    writeset_free(&w);
    json_decref(members);
    return rc;
}

/* Up to @max images behind @after into @images; the cursor must be closed before we write. */
static int next_images(struct import *im, struct key *after, json_t *images)
{
    struct kv_cursor *cursor;
    struct kv_val key = key_val(after), value;
    int rc = kv_cursor_open(im->kv, im->txn, DB_IMAGE, &cursor);
    if (rc != 0) {
        return rc;
    }
    rc = kv_cursor_move(im->kv, cursor, after->size == 0 ? KV_FIRST : KV_GE, &key, &value);
    while (rc == 0 && json_array_size(images) < TXN_IMAGES / 10) {
        json_t *image;
        rc = record_parse(key, value, &image);
        if (rc == 0 && json_array_append_new(images, image) != 0) {
            rc = TSR_ENOMEM;
        }
        if (rc == 0) {
            key_init(after);
            key_bytes(after, key.data, key.size);
            key_byte(after, 0);
            rc = kv_cursor_move(im->kv, cursor, KV_NEXT, &key, &value);
        }
    }
    kv_cursor_close(im->kv, cursor);
    return rc == TSR_ENOENT ? 0 : rc;
}

/* Every image in order of id, some at a time. @run NULL: import_image, else index_image. */
static int import_walk(struct import *im, struct run *run, enum meta_sort sort)
{
    struct key after;
    int rc = 0;
    size_t n = 1;
    key_init(&after);
    while (rc == 0 && n > 0) {
        json_t *images = json_array();
        if (images == NULL) {
            return TSR_ENOMEM;
        }
        rc = next_images(im, &after, images);
        n = json_array_size(images);
        for (size_t i = 0; i < n && rc == 0; i++) {
            const json_t *image = json_array_get(images, i);
            rc = run == NULL ? import_image(im, image) : index_image(im, run, sort, image);
        }
        json_decref(images);
        if (rc == 0) {
            rc = import_room(im, 0);
        }
    }
    return rc;
}

static int import_indexes(struct import *im)
{
    struct run run = {0};
    int rc = import_walk(im, NULL, SORT_COUNT);
    for (unsigned s = 0; s < SORT_COUNT && rc == 0; s++) {
        rc = import_walk(im, &run, (enum meta_sort)s);
        if (rc == 0) {
            rc = run_write(im, &run, (enum meta_sort)s);
        }
    }
    run_free(&run);
    return rc;
}

static int import_store(struct import *im, struct source *s, struct fsm_point *at)
{
    struct store_point point = {.importing = true};
    int rc = kv_begin(im->kv, true, &im->txn);
    if (rc == 0) {
        rc = store_format(im->kv, im->txn);
    }
    if (rc == 0) {
        rc = store_point_write(im->kv, im->txn, &point);
    }
    if (rc == 0) {
        rc = import_records(im, s, at);
    }
    if (rc == 0) {
        rc = import_indexes(im);
    }
    point = (struct store_point){.at = *at};
    if (rc == 0) {
        rc = store_ring_write(im->kv, im->txn, at);
    }
    if (rc == 0) {
        rc = store_point_write(im->kv, im->txn, &point);
    }
    if (rc == 0) {
        rc = import_commit(im);
    }
    kv_abort(im->kv, im->txn);
    return rc == 0 ? kv_sync(im->kv) : rc;
}

static int source_open(struct source *s, struct fs *fs, const char *path)
{
    *s = (struct source){.fs = fs, .data = malloc(SOURCE_MAX)};
    if (s->data == NULL) {
        return TSR_ENOMEM;
    }
    return fs_open(fs, path, FS_READ, &s->file);
}

static void source_rewind(struct source *s)
{
    digest_free(s->digest);
    s->digest = NULL;
    s->offset = 0;
    s->at = s->size = 0;
    s->eof = false;
}

static void source_close(struct source *s)
{
    source_rewind(s);
    fs_close(s->fs, s->file);
    free(s->data);
}

int meta_import_file(struct fsm *fsm, struct fs *fs, const char *path, struct fsm_point *out)
{
    struct meta *m = meta_of(fsm);
    struct source s;
    struct fsm_point at = {0};
    struct import im = {.meta = m, .kv = m->kv};
    int rc = source_open(&s, fs, path);
    if (rc == 0 && (s.digest = digest_new(DIGEST_SHA256)) == NULL) {
        rc = TSR_ENOMEM;
    }
    if (rc == 0) {
        rc = verify(&s, &at);
    }
    if (rc == 0) {
        source_rewind(&s);
        rc = import_store(&im, &s, &at);
        m->broken = rc != 0 && (im.committed || m->broken);
    }
    source_close(&s);
    if (rc != 0) {
        log_error("meta", "the snapshot cannot be taken over: %s", err_text(rc));
        return rc;
    }
    m->at = at;
    atomic_store(&m->applied, at.index);
    *out = at;
    meta_watch_notify(m, META_ALL_KINDS, &(struct manifest_list){.all = true});
    return 0;
}
