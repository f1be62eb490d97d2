/* How long staged data has been seen to wait, by this leader's monotonic clock (a new leader begins
 * anew: nothing expires early, whatever the wall clocks say). Pure. */
#ifndef CLUSTER_STAGED_H
#define CLUSTER_STAGED_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/base/map.h"

struct staged_ages {
    struct map by_image;
    unsigned look;
};
void staged_ages_init(struct staged_ages *s);
void staged_ages_free(struct staged_ages *s); /* and empty again */
/* A look at all staged data begins; each is asked about; at the end, those that were not asked
 * about are forgotten. */
void staged_ages_begin(struct staged_ages *s);
/* Data of that image, staged at @at (which tells it from what was staged there before): has it been
 * there for @life_ms? */
bool staged_ages_due(struct staged_ages *s, const char *image, int64_t at, uint64_t now_ms,
                     uint64_t life_ms);
void staged_ages_end(struct staged_ages *s);

#endif
