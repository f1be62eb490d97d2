/* A program in a process of its own, held by limits: no network where the system lets us, no core
 * file, nothing inherited but a small environment, and killed with its group when time is up, when
 * the caller wants to stop, and by the kernel when this process dies. Thread: a pool's, as it
 * blocks. */
#ifndef TESSERA_SYS_PROCESS_H
#define TESSERA_SYS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"

struct process_options {
    const char *const *argv; /* ends with NULL; argv[0] is looked for in PATH */
    const char *dir;         /* to work in */
    uint64_t memory_max;     /* bytes of address space */
    uint64_t file_max;       /* bytes of a file that it writes */
    uint64_t timeout_ms;     /* also the most CPU seconds that it may use */
    bool (*stop)(void *arg); /* asked ten times a second: true ends it. NULL: never */
    void *arg;
};

/* Until it has ended. 0: it ended with 0. TSR_ENOENT: there is no such program; TSR_ETIMEOUT;
 * TSR_ECANCELED: stopped; TSR_EIO: it failed, @err has what it said last; TSR_ENOMEM: no process.
 */
int process_run(const struct process_options *options, struct err *err);

#endif
