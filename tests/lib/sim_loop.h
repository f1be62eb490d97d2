/* A deterministic world: loops and pools of many hosts in one thread, on one virtual clock.
 *
 * Everything that happens comes from one seed: the delay of each posted task, how long each pool
 * work takes, what loop_random gives. A loop runs its tasks in order of posting; a pool with one
 * thread runs its works in order; between loops and pools any order may come. A work's `run`
 * happens as one step at the end of its delay, then `done` is posted. A host is a group of loops
 * and pools: sim_crash drops whatever it has pending, as a killed process would; its memory is the
 * caller's to free. Thread: one; not re-entrant. */
#ifndef TESSERA_TESTS_SIM_LOOP_H
#define TESSERA_TESTS_SIM_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/sys/loop.h"

struct sim;

struct sim *sim_new(uint64_t seed);
/* Frees loops and pools too; nothing may be pending that owns memory. */
void sim_free(struct sim *sim);

uint64_t sim_now_ms(const struct sim *sim);
uint64_t sim_now_ns(const struct sim *sim);
/* The host whose event runs, or ran last; for log lines. */
unsigned sim_running_group(const struct sim *sim);
/* The world's own randomness (network, faults, schedules). */
uint64_t sim_random(struct sim *sim);
/* 0 .. limit - 1; limit > 0. */
uint64_t sim_below(struct sim *sim, uint64_t limit);
/* True with @percent of 100. */
bool sim_chance(struct sim *sim, unsigned percent);

/* @group: the host (1 ..); 0 = the world itself, which never crashes. */
struct loop *sim_loop_new(struct sim *sim, unsigned group);
/* Works take @min_us .. @max_us each, @threads at a time. */
struct pool *sim_pool_new(struct sim *sim, unsigned group, unsigned threads, uint64_t min_us,
                          uint64_t max_us);
/* From now on. A stall, say. */
void sim_pool_delay(struct pool *pool, uint64_t min_us, uint64_t max_us);
/* From now on @percent of 100 works take up to @max_us instead. */
void sim_pool_tail(struct pool *pool, unsigned percent, uint64_t max_us);
/* How far this loop's clocks are off the world's (wall clock only). */
void sim_loop_wall(struct loop *loop, int64_t offset_us);
/* From now on its wall clock runs @ppm millionths too fast (or, below 0, too slow). */
void sim_loop_drift(struct loop *loop, int64_t ppm);
/* Nothing on it runs until then: a paused process. */
void sim_group_pause(struct sim *sim, unsigned group, uint64_t until_ms);

/* Drop all tasks, timers and works of @group; its loops and pools may be used again at once. */
void sim_crash(struct sim *sim, unsigned group);

/* One event; false if nothing is pending at all. */
bool sim_step(struct sim *sim);
/* All events up to @ms; the clock is there afterwards. */
void sim_run_until(struct sim *sim, uint64_t ms);
void sim_run_for(struct sim *sim, uint64_t ms);

/* Call @fn after @delay_us (a network's delivery, a fault). Dropped when @group crashes. */
typedef void (*sim_fn)(void *arg);
void sim_after(struct sim *sim, unsigned group, uint64_t delay_us, sim_fn fn, sim_fn drop,
               void *arg);

#endif
