/* Termination and reload signals as events on a loop. One use a process. Thread: the loop's. */
#ifndef TESSERA_SYS_SIGNAL_H
#define TESSERA_SYS_SIGNAL_H

#include "tessera/sys/loop.h"

/* SIGTERM and SIGINT call @stop, SIGHUP calls @reload. SIGPIPE is ignored. Returns 0 or TSR_ENOMEM.
 */
int signals_start(struct loop *loop, void (*stop)(void *arg), void (*reload)(void *arg), void *arg);
/* Back to nothing, so that the loop may end. */
void signals_stop(void);

#endif
