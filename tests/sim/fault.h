/* Inside of the faults. Only tests/sim/fault*.c use this. Each kind of fault is a function that
 * returns whether it happened; what hits later only counts by itself (fault_happened). */
#ifndef TESSERA_TESTS_SIM_FAULT_H
#define TESSERA_TESTS_SIM_FAULT_H

#include "world.h"

/* fault.c */
uint64_t fault_between(struct world *w, uint64_t min, uint64_t max);
void fault_later(struct world *w, uint64_t min_ms, uint64_t max_ms, sim_fn fn, void *arg);
void fault_happened(struct world *w, enum sim_fault fault);
bool fault_crash(struct sim_host *h, enum sim_fs_crash_mode mode);
bool fault_all_run(struct world *w);

/* fault_disk.c */
bool fault_slow_disk(struct sim_host *h);
bool fault_log_error(struct sim_host *h);
bool fault_log_full(struct sim_host *h);
bool fault_blob_error(struct sim_host *h);
bool fault_blob_full(struct sim_host *h);
bool fault_store_error(struct sim_host *h);
bool fault_index_error(struct sim_host *h);
bool fault_wipe(struct sim_host *h);
bool fault_replace(struct sim_host *h);
bool fault_log_rot(struct sim_host *h);
bool fault_log_gone(struct sim_host *h);
bool fault_log_bad(struct sim_host *h, enum sim_fault kind); /* log_lost, log_astray */
bool fault_blob_rot(struct sim_host *h);
bool fault_blob_lost(struct sim_host *h);
/* The disks of @h work again, as far as they were only ordered to fail. */
void fault_disks_heal(struct sim_host *h);

#endif
