/* Shared by the two halves of bench_commit: a host of three, and the load on its leader. */
#ifndef BENCH_COMMIT_H
#define BENCH_COMMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "tessera/consensus.h"
#include "tessera/meta.h"
#include "tessera/sys/loop.h"

enum { COMMIT_HOSTS = 3, COMMIT_FLYING_MAX = 4096 };

/* What each process gets from the one that starts it. */
struct commit_host {
    uint64_t number; /* 1 .. COMMIT_HOSTS */
    const char *dir;
    unsigned port_base;
    char *ca_pem, *cert_pem, *key_pem;
};

/* One host until standard input (or, for the others, @stop_fd) ends; its last words are one line
 * {"index", "digest"} on @out_fd. Never returns. */
void commit_host_run(const struct commit_host *host, int stop_fd, int out_fd);

void commit_die(const char *what, int code);

/* Blocking, on a thread that runs no loop: @flying changes of @size bytes under way for @seconds,
 * each proposed through meta_submit from @loop. Returns the figures. */
json_t *commit_load(struct meta *meta, struct loop *loop, unsigned flying, long seconds,
                    unsigned size, uint64_t seed);

#endif
