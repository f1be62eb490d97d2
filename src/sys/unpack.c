#include "tessera/sys/unpack.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "tessera/base/err.h"

enum { MEMORY_MAX = 128 << 20, ZSTD_WINDOW_LOG = 26, GZIP_WINDOW = 15 + 16 };

struct unpack {
    enum unpack_kind kind;
    bool ended; /* at the end of a member, stream or frame */
    z_stream gzip;
    lzma_stream xz;
    ZSTD_DStream *zstd;
};

enum unpack_kind unpack_detect(const void *head, size_t size)
{
    if (size >= 3 && memcmp(head, "\x1f\x8b\x08", 3) == 0) {
        return UNPACK_GZIP;
    }
    if (size >= 6 && memcmp(head,
                            "\xfd"
                            "7zXZ\0",
                            6) == 0) {
        return UNPACK_XZ;
    }
    return size >= 4 && memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 ? UNPACK_ZSTD : UNPACK_NONE;
}

const char *unpack_name(enum unpack_kind kind)
{
    static const char *const names[] = {"none", "gzip", "xz", "zstd"};
    return names[kind];
}

int unpack_new(enum unpack_kind kind, struct unpack **out)
{
    struct unpack *u = calloc(1, sizeof(*u));
    bool ok = false;
    if (u == NULL) {
        return TSR_ENOMEM;
    }
    u->kind = kind;
    switch (kind) {
    case UNPACK_GZIP:
        ok = inflateInit2(&u->gzip, GZIP_WINDOW) == Z_OK;
        break;
    case UNPACK_XZ:
        u->xz = (lzma_stream)LZMA_STREAM_INIT;
        ok = lzma_stream_decoder(&u->xz, MEMORY_MAX, 0) == LZMA_OK;
        break;
    case UNPACK_ZSTD:
        u->zstd = ZSTD_createDStream();
        ok = u->zstd != NULL && !ZSTD_isError(ZSTD_initDStream(u->zstd)) &&
             !ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
        break;
    case UNPACK_NONE:
        break;
    }
    if (!ok) {
        unpack_free(u);
        return TSR_ENOMEM;
    }
    *out = u;
    return 0;
}

void unpack_free(struct unpack *u)
{
    if (u == NULL) {
        return;
    }
    if (u->kind == UNPACK_GZIP) {
        (void)inflateEnd(&u->gzip);
    } else if (u->kind == UNPACK_XZ) {
        lzma_end(&u->xz);
    } else {
        (void)ZSTD_freeDStream(u->zstd);
    }
    free(u);
}

static int step_gzip(struct unpack *u, const uint8_t *in, size_t *used, uint8_t *out, size_t *made)
{
    enum { STEP_MAX = 1 << 30 };
    z_stream *z = &u->gzip;
    if (u->ended && inflateReset(z) != Z_OK) { /* another member */
        return TSR_ECORRUPT;
    }
    uInt in_size = (uInt)(*used < STEP_MAX ? *used : STEP_MAX);
    uInt out_size = (uInt)(*made < STEP_MAX ? *made : STEP_MAX);
    z->next_in = (Bytef *)(uintptr_t)in;
    z->avail_in = in_size;
    z->next_out = out;
    z->avail_out = out_size;
    int rv = inflate(z, Z_NO_FLUSH);
    *used = in_size - z->avail_in;
    *made = out_size - z->avail_out;
    u->ended = rv == Z_STREAM_END;
    return rv == Z_OK || rv == Z_STREAM_END || rv == Z_BUF_ERROR ? 0
           : rv == Z_MEM_ERROR                                   ? TSR_ENOMEM
                                                                 : TSR_ECORRUPT;
}

static int step_xz(struct unpack *u, const uint8_t *in, size_t *used, uint8_t *out, size_t *made)
{
    lzma_stream *x = &u->xz;
    if (u->ended && lzma_stream_decoder(x, MEMORY_MAX, 0) != LZMA_OK) { /* another stream */
        return TSR_ENOMEM;
    }
    x->next_in = in;
    x->avail_in = *used;
    x->next_out = out;
    x->avail_out = *made;
    lzma_ret rv = lzma_code(x, LZMA_RUN);
    *used -= x->avail_in;
    *made -= x->avail_out;
    u->ended = rv == LZMA_STREAM_END;
    switch (rv) {
    case LZMA_OK:
    case LZMA_STREAM_END:
    case LZMA_BUF_ERROR:
        return 0;
    case LZMA_MEMLIMIT_ERROR:
        return TSR_ETOOBIG;
    case LZMA_MEM_ERROR:
        return TSR_ENOMEM;
    default:
        return TSR_ECORRUPT;
    }
}

static int step_zstd(struct unpack *u, const uint8_t *in, size_t *used, uint8_t *out, size_t *made)
{
    ZSTD_inBuffer from = {in, *used, 0};
    ZSTD_outBuffer to = {out, *made, 0};
    size_t rv = ZSTD_decompressStream(u->zstd, &to, &from);
    *used = from.pos;
    *made = to.pos;
    if (ZSTD_isError(rv)) {
        return strstr(ZSTD_getErrorName(rv), "memory") != NULL ? TSR_ETOOBIG : TSR_ECORRUPT;
    }
    u->ended = rv == 0;
    return 0;
}

int unpack_step(struct unpack *u, const void **in, size_t *in_size, void *out, size_t *out_size)
{
    size_t used = *in_size, made = *out_size;
    if (used == 0 && u->ended) {
        *out_size = 0;
        return 0;
    }
    int rv = u->kind == UNPACK_GZIP ? step_gzip(u, *in, &used, out, &made)
             : u->kind == UNPACK_XZ ? step_xz(u, *in, &used, out, &made)
                                    : step_zstd(u, *in, &used, out, &made);
    *in = (const uint8_t *)*in + used;
    *in_size -= used;
    *out_size = made;
    return rv;
}

bool unpack_ended(const struct unpack *u)
{
    return u->ended;
}
