/* Room in the project's quota for data whose size is not known when it begins to come.
 *
 * A session that says its size reserves it in the command that begins it. Another asks for more
 * with image.reserve as the data arrives, ahead of it, and pauses while it has none. Only projects
 * that have a limit ask at all. Life: reservation_init -> reservation_need* -> reservation_end. */
#ifndef IMAGE_RESERVE_H
#define IMAGE_RESERVE_H

#include "tessera/image.h"

struct reserve_call;

struct reservation {
    struct image_ctx *ctx;
    const char *id, *session; /* the owner's */
    bool limited, exhausted, waiting;
    uint64_t need, granted;
    struct reserve_call *call;                                        /* in flight */
    void (*on_room)(void *arg);                                       /* go on */
    void (*on_refused)(void *arg, int status, const struct err *err); /* never inside a call */
    void *arg;
};

/* @image: the record, for its owner; @stage: it is staged; @size: what was reserved in the
 * beginning as all there will be, or -1. The callbacks are the caller's to set. */
void reservation_init(struct reservation *r, struct image_ctx *ctx, const json_t *image, bool stage,
                      int64_t size);
/* @size bytes have come in all. False: pause until on_room. */
bool reservation_need(struct reservation *r, uint64_t size);
/* No callback comes afterwards. */
void reservation_end(struct reservation *r);

#endif
