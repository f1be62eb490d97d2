/* A growable byte buffer. Zero-initialised is empty and valid.
 * Errors: growing returns TSR_ENOMEM and leaves the buffer as it was; the buffer remembers it in
 * `failed`, so that a chain of appends may be checked once at its end.
 * Thread: one owner. */
#ifndef TESSERA_BASE_BUF_H
#define TESSERA_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;      /* always followed by a 0 byte when not NULL */
    size_t size;     /* bytes used */
    size_t capacity; /* bytes allocated, without the 0 byte */
    bool failed;     /* an append ran out of memory */
};

void buf_init(struct buf *b);
void buf_free(struct buf *b); /* frees the data and makes it empty again */
void buf_clear(struct buf *b);
int buf_reserve(struct buf *b, size_t more);
int buf_append(struct buf *b, const void *data, size_t size);
int buf_append_str(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drop the first @n bytes (moves the rest down). */
void buf_consume(struct buf *b, size_t n);
/* Hand the memory (0-terminated) to the caller, who frees it with free(); empties the buffer. */
char *buf_detach(struct buf *b, size_t *size_out);

/* Little-endian codec for formats and protocols. */
int buf_put_u8(struct buf *b, uint8_t v);
int buf_put_u16(struct buf *b, uint16_t v);
int buf_put_u32(struct buf *b, uint32_t v);
int buf_put_u64(struct buf *b, uint64_t v);
/* u32 length, then the bytes. */
int buf_put_blob(struct buf *b, const void *data, size_t size);

/* A bounds-checked reader over bytes from outside. After the first overrun `failed` is set and all
 * later reads give 0 / NULL: check once at the end. */
struct reader {
    const uint8_t *data;
    size_t size;
    size_t at;
    bool failed;
};
struct reader reader_of(const void *data, size_t size);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
/* @n bytes inside the reader's memory, or NULL. */
const void *read_bytes(struct reader *r, size_t n);
/* u32 length + bytes; *size_out = 0 and NULL on failure. */
const void *read_blob(struct reader *r, size_t *size_out);
static inline size_t reader_left(const struct reader *r)
{
    return r->failed ? 0 : r->size - r->at;
}

#endif
