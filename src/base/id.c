#include "tessera/base/id.h"

#include <string.h>

#include "tessera/base/err.h"

static const char hex_digits[] = "0123456789abcdef";

void uuid_format(const uint8_t random[16], char out[UUID_TEXT + 1])
{
    uint8_t raw[16];
    memcpy(raw, random, sizeof(raw));
    raw[6] = (uint8_t)((raw[6] & 0x0f) | 0x40);
    raw[8] = (uint8_t)((raw[8] & 0x3f) | 0x80);
    char *p = out;
    for (size_t i = 0; i < sizeof(raw); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *p++ = '-';
        }
        *p++ = hex_digits[raw[i] >> 4];
        *p++ = hex_digits[raw[i] & 15];
    }
    *p = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool uuid_valid(const char *text)
{
    for (int i = 0; i < UUID_TEXT; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : hex_value(text[i]) < 0) {
            return false; /* also at an early end of the text */
        }
    }
    return text[UUID_TEXT] == 0;
}

void hex_encode(const void *data, size_t size, char *out)
{
    const uint8_t *raw = data;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = hex_digits[raw[i] >> 4];
        out[2 * i + 1] = hex_digits[raw[i] & 15];
    }
    out[2 * size] = 0;
}

int hex_decode(const char *text, size_t text_size, void *out, size_t size)
{
    uint8_t *raw = out;
    if (text_size % 2 != 0 || text_size / 2 != size) {
        return TSR_EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return TSR_EINVAL;
        }
        raw[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

bool chunk_id_equal(const struct chunk_id *a, const struct chunk_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static const char base64url_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t base64url_encode(const void *data, size_t size, char *out)
{
    const uint8_t *raw = data;
    char *p = out;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)raw[i] << 16;
        group |= left > 1 ? (uint32_t)raw[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)raw[i + 2] : 0;
        *p++ = base64url_digits[group >> 18];
        *p++ = base64url_digits[group >> 12 & 63];
        if (left > 1) {
            *p++ = base64url_digits[group >> 6 & 63];
        }
        if (left > 2) {
            *p++ = base64url_digits[group & 63];
        }
    }
    *p = 0;
    return (size_t)(p - out);
}

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Padding is right only where it completes a group of four; then it is cut off. */
static int strip_padding(const char *text, size_t *size)
{
    size_t bare = *size;
    while (bare > 0 && *size - bare < 2 && text[bare - 1] == '=') {
        bare--;
    }
    if (bare != *size && *size % 4 != 0) {
        return TSR_EINVAL;
    }
    *size = bare;
    return bare % 4 == 1 ? TSR_EINVAL : 0;
}

long base64url_decode(const char *text, size_t size, void *out, size_t out_max)
{
    uint8_t *raw = out;
    size_t n = 0;
    uint32_t bits = 0;
    unsigned have = 0;
    if (strip_padding(text, &size) != 0) {
        return TSR_EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        int v = base64url_value(text[i]);
        if (v < 0) {
            return TSR_EINVAL;
        }
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have < 8) {
            continue;
        }
        have -= 8;
        if (n == out_max) {
            return TSR_EINVAL;
        }
        raw[n++] = (uint8_t)(bits >> have);
        bits &= (1u << have) - 1;
    }
    if (bits != 0) {
        return TSR_EINVAL; /* one value, one text: left-over bits must be zero */
    }
    return (long)n;
}
