/* Pins against the store. Private to replica/. */
#ifndef REPLICA_PINS_H
#define REPLICA_PINS_H

#include "tessera/replica.h"

/* Whether the pin's image is there, with that data: then *image_out is a new reference (NULL where
 * the store can not tell). */
bool pin_stands(struct meta_view *view, const struct chunk_pin *pin, json_t **image_out);
/* May an image of that size be fetched for a pin? */
bool pin_has_room(struct replica_ctx *ctx, int64_t bytes);

#endif
