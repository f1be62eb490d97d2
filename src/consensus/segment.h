/* The format of log segments: pure functions over bytes, no I/O. Drawn in docs/formats.md.
 * Thread: any. */
#ifndef TESSERA_CONSENSUS_SEGMENT_H
#define TESSERA_CONSENSUS_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consensus/disklog.h"

enum {
    SEGMENT_HEADER_SIZE = 4096, /* a page of its own: appends never rewrite it */
    SEGMENT_RECORD_HEADER_SIZE = 48,
    SEGMENT_BYTES_MIN = 8192,
    SEGMENT_BYTES_MAX = 1 << 30,
    SEGMENT_NAME_SIZE = 32,
};

struct segment_header {
    uint64_t log_id; /* drawn when the log was created: a segment of another log is not taken */
    uint64_t bytes;  /* of the file */
    uint64_t first;  /* index of the first record */
    uint64_t prev_term, prev_chain; /* of the record before it */
};

/* Where a walk over records stands: what the last record was and where the next one starts. @salt
 * (of the log's id) goes into the header's CRC, so that neither another log's record nor a payload
 * that looks like one is taken. */
struct segment_at {
    uint64_t index, term, chain;
    size_t offset;
    uint32_t salt;
};

enum segment_end {
    SEGMENT_LIMIT, /* the last wanted record was read */
    SEGMENT_ZERO,  /* a header of zeros, or no room for one: nothing was written here */
    SEGMENT_BAD,   /* something else */
    SEGMENT_STOP,  /* the callback ended it */
};

/* Name of the segment that begins at @first, and back (false: not a segment's name). */
void segment_name(uint64_t first, char out[SEGMENT_NAME_SIZE]);
bool segment_name_parse(const char *name, uint64_t *first_out);

void segment_header_encode(const struct segment_header *h, uint8_t out[SEGMENT_HEADER_SIZE]);
/* A good header, of a version that this program does not know. */
bool segment_newer(const uint8_t *data, size_t size);
/* False: not a header or damaged, or newer. */
bool segment_header_decode(const uint8_t *data, size_t size, struct segment_header *out);

/* The chain digest that a log begins with which continues after (@index, @term). */
uint64_t segment_chain_seed(uint64_t log_id, uint64_t index, uint64_t term);

/* Bytes that a record with @size bytes of payload takes. */
size_t segment_record_size(size_t size);
/* Write one record that follows @at and move @at behind it. @durable: up to where the log was
 * durable when this batch was begun. Returns the bytes written (segment_record_size). */
size_t segment_record_encode(uint8_t *out, const struct disklog_entry *e, uint64_t durable,
                             struct segment_at *at);

/* Read records of a whole segment from @at on, up to the record @limit, moving @at; @cb (may be
 * NULL) gets each one, *rv_out what it returned. */
enum segment_end segment_walk(const uint8_t *data, size_t size, uint64_t limit,
                              struct segment_at *at, disklog_load_cb cb, void *arg, int *rv_out);

/* Whether anything behind @at proves that the entry that should be there was durable once: a whole
 * header whose batch was begun after that. */
bool segment_proves(const uint8_t *data, size_t size, const struct segment_at *at);
/* End of what is not zero. */
size_t segment_used(const uint8_t *data, size_t size);

/* Little-endian fields of all files in this folder. */
void le_put32(uint8_t *p, uint32_t v);
void le_put64(uint8_t *p, uint64_t v);
uint32_t le_get32(const uint8_t *p);
uint64_t le_get64(const uint8_t *p);

#endif
