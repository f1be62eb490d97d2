/* The store's layout: databases, keys, and the codec of one record.
 *
 * A record's value is  u32 crc (little endian) | JSON text  where crc = CRC32C(key, text): a value
 * that was damaged, or that landed under another key, is found when it is read.
 * Thread: any; no state. */
#ifndef META_SCHEMA_H
#define META_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/meta.h"
#include "tessera/sys/kv.h"

enum {
    META_FORMAT = 2,         /* of the store; a newer one is refused at open (1: no DB_USAGE) */
    META_RING_SIZE = 4096,   /* (index, digest) pairs kept */
    META_IMAGE_ID_SIZE = 36, /* text of a UUID */
};

/* The primary databases come first: only they travel in a snapshot, the others are derived from
 * them (or, like META and RING, belong to this host). */
enum meta_db {
    DB_IMAGE,     /* id -> image */
    DB_TOMBSTONE, /* id -> {deleted_at} */
    DB_MEMBER,    /* image id 00 project -> member */
    DB_HOST,      /* BE64 id -> host */
    DB_CLUSTER,   /* "cluster" -> cluster, "counters" -> {next_host} */
    DB_ENDPOINT,  /* "endpoint" -> endpoint */
    DB_SETTING,   /* name -> {value} */
    DB_DIR,       /* kind 00 id -> record */
    DB_RESULT,    /* command id -> outcome (results.c) */
    DB_PRIMARY_COUNT,
    DB_RESULT_ORDER = DB_PRIMARY_COUNT, /* BE64 index, command id -> nothing */
    DB_DIR_NAME,                        /* kind 00 domain 00 name -> id */
    DB_MANIFEST,                        /* manifest 00 image id -> nothing */
    DB_META,                            /* "version", "point" */
    DB_RING,                            /* BE16 index % 4096 -> index, digest */
    DB_INDEX,                           /* one per enum meta_sort */
    DB_USAGE = DB_INDEX + SORT_COUNT,   /* project 00 -> counters (usage.c) */
    DB_COUNT,
};

/* --- keys ------------------------------------------------------------------------------------- */

struct key {
    size_t size;
    uint8_t data[KV_KEY_MAX];
};

void key_init(struct key *k);
void key_byte(struct key *k, uint8_t b);
void key_bytes(struct key *k, const void *data, size_t size);
void key_text(struct key *k, const char *text);
void key_be64(struct key *k, uint64_t v);
/* Up to 128 bytes as they are; longer text as 100 bytes, 01 and 32 hex digits of its SHA-256. */
void key_short(struct key *k, const char *text);
/* Smallest key greater than all that start with this one. */
void key_after_prefix(struct key *k);
uint64_t be64_read(const uint8_t *p);

static inline struct kv_val key_val(const struct key *k)
{
    return kv_val_of(k->data, k->size);
}
/* Byte order, shorter first. */
int bytes_compare(const void *a, size_t a_size, const void *b, size_t b_size);
static inline bool val_starts(struct kv_val v, const struct key *prefix)
{
    return v.size >= prefix->size &&
           bytes_compare(v.data, prefix->size, prefix->data, prefix->size) == 0;
}

/* Keys of records. The text must have been bounded by the caller (see field_text_ok). */
void key_of_text(struct key *k, const char *text);
void key_of_number(struct key *k, uint64_t number);
void key_of_member(struct key *k, const char *image_id, const char *project);
void key_of_dir(struct key *k, const char *kind, const char *id);
void key_of_dir_name(struct key *k, const char *kind, const char *domain, const char *name);
void key_of_manifest(struct key *k, const char *manifest, const char *image_id);
void key_of_result_order(struct key *k, uint64_t index, const uint8_t id[COMMAND_ID_SIZE]);

/* Where an entry's name is unique: its domain, for an application credential its user; "" where it
 * has none. */
const char *dir_domain(const char *kind, const json_t *value);
bool dir_kind_ok(const char *kind);
enum { DIR_ID_MAX = 400, SETTING_NAME_MAX = 128 };

/* --- records -----------------------------------------------------------------------------------
 */

uint32_t record_crc(struct kv_val key, const void *text, size_t size);
/* Writes @size + 4 bytes. */
void record_encode(struct kv_val key, const void *text, size_t size, uint8_t *out);
/* Check and strip the CRC. TSR_ECORRUPT. */
int record_decode(struct kv_val key, struct kv_val value, const char **text_out, size_t *size_out);
/* record_decode and parse. TSR_ECORRUPT. */
int record_parse(struct kv_val key, struct kv_val value, json_t **out);

/* --- the point: 1 importing | u64 index | u64 term | digest
 * --------------------------------------- */

struct store_point {
    struct fsm_point at;
    bool importing; /* an import began and has not ended: the store holds nothing of use */
};
int store_point_read(struct kv *kv, struct kv_txn *txn, struct store_point *out);
int store_point_write(struct kv *kv, struct kv_txn *txn, const struct store_point *point);
int store_ring_write(struct kv *kv, struct kv_txn *txn, const struct fsm_point *at);
int store_ring_read(struct kv *kv, struct kv_txn *txn, uint64_t index,
                    uint8_t digest_out[FSM_DIGEST_SIZE]);
/* The store is of this program's format. */
int store_version_write(struct kv *kv, struct kv_txn *txn);
/* Empty all databases, then write version and an empty point. */
int store_format(struct kv *kv, struct kv_txn *txn);

#endif
