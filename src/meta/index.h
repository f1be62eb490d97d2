/* Image indexes: which keys an image has in the sort indexes, and how a key is built.
 *
 * idx_<sort> key = bucket | 00 | tail, nothing as value.
 *   bucket = '1' if os_hidden else '0', then a letter and its argument:
 *     a            every image
 *     o<owner>     images of that owner (none for owner null)
 *     v<vis>       by visibility
 *     m<project>   shared with that project, accepted;  p pending;  r rejected  (only while shared)
 *     w<owner> 00 <vis>, t<tag>     only in idx_created_at
 *   tail = value | BE64 created_at | id   (created_at: without value; id: only the id)
 *   value = 00 for null, else 01 and
 *     text: up to 200 bytes, 00;  longer: 200 bytes, 01, 8 bytes of its SHA-256, 00
 *     size: BE64
 * Byte order of tails is the order of a listing: null first, long texts with equal first 200 bytes
 * by hash, ties by created_at and id. Thread: any; no state. */
#ifndef META_INDEX_H
#define META_INDEX_H

#include "meta/schema.h"
#include "meta/writeset.h"

enum { TAIL_TIE_SIZE = 8 + META_IMAGE_ID_SIZE };

/* Bucket with its closing 00. @arg2 only for 'w'. */
void index_bucket(struct key *k, bool hidden, char letter, const char *arg, const char *arg2);
/* Append the value of one sort key (without ties) of @image. */
void index_value(struct key *k, const json_t *image, enum meta_sort sort);
/* The same for a text that a filter names. */
void index_value_text(struct key *k, const char *text);
/* Append value and ties. */
void index_tail(struct key *k, const json_t *image, enum meta_sort sort);
/* Append the ties: created_at and id. */
void index_ties(struct key *k, const json_t *image);

/* All index keys of an image, in order. Memory of @w. */
struct index_keys {
    struct index_key {
        uint8_t db;
        struct kv_val key;
    } * items;
    size_t count, capacity;
};
/* @members: records of its members (only counted while shared); @image NULL gives none. */
int index_keys_of(struct writeset *w, const json_t *image, const json_t *members,
                  struct index_keys *out);
/* Those in one sort's index, in no order. */
int index_keys_in(struct writeset *w, const json_t *image, const json_t *members,
                  enum meta_sort sort, struct index_keys *out);
/* Write only what differs. */
void index_change(struct writeset *w, const struct index_keys *before,
                  const struct index_keys *after);

#endif
