/* What pins ask for, judged with the store: is the image still there, is it more than the placement
 * asks for, which go first when room is short. */
#include "replica/pins.h"

#include <stdlib.h>
#include <string.h>

#include "replica/want.h"
#include "tessera/base/id.h"

bool pin_stands(struct meta_view *view, const struct chunk_pin *pin, json_t **image_out)
{
    struct chunk_id manifest;
    json_t *image = NULL;
    *image_out = NULL;
    int rv = meta_image_get(view, pin->name, &image);
    if (rv == 0 && want_manifest(image, &manifest) &&
        memcmp(manifest.bytes, pin->manifest.bytes, sizeof(manifest.bytes)) == 0) {
        *image_out = image;
        return true;
    }
    json_decref(image);
    return rv != 0 && rv != TSR_ENOENT; /* not known: it stands */
}

int replica_pins_void(struct chunks *chunks, struct meta_view *view, struct chunk_pin **out,
                      size_t *count_out)
{
    size_t count, kept = 0;
    int rv = chunk_pins(chunks, out, &count);
    for (size_t i = 0; rv == 0 && i < count; i++) {
        json_t *image;
        if (!pin_stands(view, &(*out)[i], &image)) {
            (*out)[kept++] = (*out)[i];
        }
        json_decref(image);
    }
    *count_out = kept;
    return rv;
}

/* --- what goes first ------------------------------------------------------------------------ */

struct kept {
    struct chunk_pin pin;
    int64_t bytes, used_us;
};

/* Is it here, and would go if there were no pin? */
static bool only_pinned(struct replica_ctx *ctx, struct meta_view *view,
                        const struct chunk_pin *pin, int64_t *bytes_out)
{
    char hex[65];
    json_t *images = NULL;
    hex_encode(pin->manifest.bytes, 32, hex);
    if (!chunk_manifest_here(ctx->chunks, &pin->manifest) ||
        meta_manifest_images(view, hex, &images) != 0) {
        return false;
    }
    bool only = json_array_size(images) > 0;
    *bytes_out = json_int(json_array_get(images, 0), "size", 0);
    for (size_t i = 0; only && i < json_array_size(images); i++) {
        only = want_verdict(json_array_get(images, i), ctx->self) != VERDICT_KEEP;
    }
    json_decref(images);
    return only;
}

static int by_use(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return (x->used_us > y->used_us) - (x->used_us < y->used_us);
}

static struct kept kept_of(const struct chunk_pin *pin, int64_t bytes)
{
    int64_t since = pin->here_us > pin->asked_us ? pin->here_us : pin->asked_us;
    return (struct kept){
        .pin = *pin, .bytes = bytes, .used_us = pin->read_us > since ? pin->read_us : since};
}

/* How much too much @total is. */
static int64_t excess_of(struct replica_ctx *ctx, int64_t total)
{
    const struct replica_pin_limits *l = &ctx->pin_limits;
    struct chunks_stats stats;
    chunks_stats(ctx->chunks, &stats);
    int64_t over = l->bytes_max > 0 ? total - l->bytes_max : 0;
    int64_t lacking = stats.available_bytes >= 0 ? l->free_min - stats.available_bytes : 0;
    return over > lacking ? over : lacking;
}

int replica_pins_excess(struct replica_ctx *ctx, struct meta_view *view, struct chunk_pin **out,
                        size_t *count_out, int64_t *bytes_out)
{
    struct chunk_pin *pins;
    size_t count, n = 0, taken = 0;
    int64_t total = 0, freed = 0;
    int rv = chunk_pins(ctx->chunks, &pins, &count);
    struct kept *kept = rv == 0 && count > 0 ? calloc(count, sizeof(*kept)) : NULL;
    for (size_t i = 0; kept != NULL && i < count; i++) {
        int64_t bytes;
        if (only_pinned(ctx, view, &pins[i], &bytes)) {
            kept[n++] = kept_of(&pins[i], bytes);
            total += bytes;
        }
    }
    int64_t excess = n > 0 ? excess_of(ctx, total) : 0;
    if (n > 1) {
        qsort(kept, n, sizeof(*kept), by_use);
    }
    while (taken < n && freed < excess) {
        pins[taken] = kept[taken].pin;
        freed += kept[taken++].bytes;
    }
    free(kept);
    *out = pins;
    *count_out = taken;
    *bytes_out = freed;
    return rv;
}

bool pin_has_room(struct replica_ctx *ctx, int64_t bytes)
{
    const struct replica_pin_limits *l = &ctx->pin_limits;
    struct chunks_stats stats;
    chunks_stats(ctx->chunks, &stats);
    /* Somewhat more than what would make it go at once. */
    return (l->bytes_max <= 0 || bytes <= l->bytes_max) &&
           (stats.available_bytes < 0 ||
            stats.available_bytes - bytes >= l->free_min + l->free_min / 4);
}
