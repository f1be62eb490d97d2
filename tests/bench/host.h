/* What a host has of consensus and metadata, without anything above: loops, threads, store, log and
 * links, wired as in the daemon. Used from a thread that runs no loop; all calls block. */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tessera/consensus.h"
#include "tessera/meta.h"
#include "tessera/sys/loop.h"
#include "tessera/sys/net.h"

struct bench_host {
    /* given */
    const char *meta_dir, *raft_dir, *address, *cluster_id;
    uint64_t raft_id;
    bool bootstrap;                             /* raft_dir is new, and this host the only voter */
    const char *ca_pem, *cert_pem, *key_pem;    /* NULL: no links, a cluster of one */
    void (*on_leader)(struct bench_host *host); /* control loop; may be NULL */
    /* made */
    struct loop *control, *worker;
    struct pool *log_pool, *apply_pool, *disk_pool;
    struct tls *server_tls, *client_tls;
    struct meta *meta;
    struct raft_links *links;
    struct consensus *consensus;
    struct consensus_net net;
    struct task task;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;
};

void bench_host_open(struct bench_host *h);
void bench_host_close(struct bench_host *h);
/* Sets a flag, from any thread, for who waits for it. */
void bench_host_tell(struct bench_host *h, bool *what);
void bench_host_await(struct bench_host *h, const bool *what);

/* Ends the process when @rv is not 0. */
void bench_must(int rv, const char *what);

#endif
