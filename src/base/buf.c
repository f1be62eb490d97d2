#include "tessera/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

enum { BUF_FIRST = 64 };

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_free(struct buf *b)
{
    free(b->data);
    buf_init(b);
}

void buf_clear(struct buf *b)
{
    b->size = 0;
    b->failed = false;
    if (b->data != NULL) {
        b->data[0] = 0;
    }
}

static int fail(struct buf *b)
{
    b->failed = true;
    return TSR_ENOMEM;
}

int buf_reserve(struct buf *b, size_t more)
{
    if (b->data != NULL && more <= b->capacity - b->size) {
        return 0;
    }
    if (more > SIZE_MAX / 4 || b->size > SIZE_MAX / 4) {
        return fail(b);
    }
    size_t need = b->size + more;
    size_t capacity = b->capacity < BUF_FIRST ? BUF_FIRST : b->capacity;
    while (capacity < need) {
        capacity *= 2;
    }
    char *data = realloc(b->data, capacity + 1);
    if (data == NULL) {
        return fail(b);
    }
    b->data = data;
    b->data[b->size] = 0;
    b->capacity = capacity;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t size)
{
    int rv = buf_reserve(b, size);
    if (rv != 0) {
        return rv;
    }
    if (size != 0) {
        memcpy(b->data + b->size, data, size);
    }
    b->size += size;
    b->data[b->size] = 0;
    return 0;
}

int buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int need = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (need < 0 || buf_reserve(b, (size_t)need) != 0) {
        return fail(b);
    }
    va_start(args, fmt);
    int wrote = vsnprintf(b->data + b->size, (size_t)need + 1, fmt, args);
    va_end(args);
    tsr_assert(wrote == need);
    b->size += (size_t)need;
    return 0;
}

void buf_consume(struct buf *b, size_t n)
{
    tsr_assert(n <= b->size);
    if (n == 0) {
        return;
    }
    b->size -= n;
    memmove(b->data, b->data + n, b->size);
    b->data[b->size] = 0;
}

char *buf_detach(struct buf *b, size_t *size_out)
{
    char *data = b->data;
    if (size_out != NULL) {
        *size_out = b->size;
    }
    if (data == NULL) { /* an empty buffer still gives an empty string */
        data = calloc(1, 1);
    }
    buf_init(b);
    return data;
}

int buf_put_u8(struct buf *b, uint8_t v)
{
    return buf_append(b, &v, 1);
}

static int put_le(struct buf *b, uint64_t v, unsigned bytes)
{
    uint8_t raw[8];
    for (unsigned i = 0; i < bytes; i++) {
        raw[i] = (uint8_t)(v >> (8 * i));
    }
    return buf_append(b, raw, bytes);
}

int buf_put_u16(struct buf *b, uint16_t v)
{
    return put_le(b, v, 2);
}

int buf_put_u32(struct buf *b, uint32_t v)
{
    return put_le(b, v, 4);
}

int buf_put_u64(struct buf *b, uint64_t v)
{
    return put_le(b, v, 8);
}

int buf_put_blob(struct buf *b, const void *data, size_t size)
{
    tsr_assert(size <= UINT32_MAX);
    if (buf_reserve(b, size + 4) != 0) { /* both parts or neither */
        return TSR_ENOMEM;
    }
    (void)buf_put_u32(b, (uint32_t)size);
    return buf_append(b, data, size);
}

struct reader reader_of(const void *data, size_t size)
{
    return (struct reader){.data = data, .size = size};
}

const void *read_bytes(struct reader *r, size_t n)
{
    if (r->failed || n > r->size - r->at) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->data == NULL ? (const uint8_t *)"" : r->data + r->at;
    r->at += n;
    return p;
}

static uint64_t read_le(struct reader *r, unsigned bytes)
{
    const uint8_t *p = read_bytes(r, bytes);
    uint64_t v = 0;
    for (unsigned i = 0; p != NULL && i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

uint8_t read_u8(struct reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t read_u16(struct reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t read_u32(struct reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t read_u64(struct reader *r)
{
    return read_le(r, 8);
}

const void *read_blob(struct reader *r, size_t *size_out)
{
    size_t size = read_u32(r);
    const void *p = read_bytes(r, size);
    *size_out = p == NULL ? 0 : size;
    return p;
}
