/* The load of bench_commit. */
#ifndef BENCH_COMMIT_H
#define BENCH_COMMIT_H

#include <stdint.h>
#include <jansson.h>

#include "tessera/meta.h"
#include "tessera/sys/loop.h"

enum { COMMIT_FLYING_MAX = 4096 };

/* Blocking, on a thread that runs no loop: @flying changes of @size bytes under way for @seconds,
 * each proposed through meta_submit from @loop. Returns the figures. */
json_t *commit_load(struct meta *meta, struct loop *loop, unsigned flying, long seconds,
                    unsigned size, uint64_t seed);

#endif
