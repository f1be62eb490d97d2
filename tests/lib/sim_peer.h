/* Calls between hosts without sockets: struct peer_net for several hosts in one process, with
 * delay, loss, cuts, hosts that are down or crash. Stands on loop_post and timers only, so it runs
 * over libuv loops (one thread or several) and over a virtual clock; chance comes from the sender's
 * loop, so that a seeded loop repeats it.
 *
 * Lost or cut: the call times out. Down: TSR_ECONNECT, also for calls under way in either
 * direction. Thread: the setters any; a host's net on that host's loop. */
#ifndef TESSERA_TESTS_SIM_PEER_H
#define TESSERA_TESTS_SIM_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/peer.h"

struct sim_peers;

struct sim_peers *sim_peers_new(void);
/* All calls must have ended or their loops must be gone for good; nothing runs any more. */
void sim_peers_free(struct sim_peers *peers);

/* A host that serves @service (may be NULL) on @loop. The net lives as long as @peers. Again with
 * the same id: the host has restarted, after sim_peers_crash. */
struct peer_net *sim_peers_add(struct sim_peers *peers, uint64_t host_id, struct loop *loop,
                               const struct peer_service *service);
struct peer_net *sim_peers_net(struct sim_peers *peers, uint64_t host_id);

/* Each message takes this long, evenly spread. Default 0. */
void sim_peers_delay(struct sim_peers *peers, uint64_t min_ms, uint64_t max_ms);
/* Of 1000 messages (requests and replies) so many are lost. */
void sim_peers_loss(struct sim_peers *peers, unsigned per_mille);
/* A host that answers nobody, but lives on. */
void sim_peers_down(struct sim_peers *peers, uint64_t host_id, bool down);
/* One way: messages from @from to @to are lost. */
void sim_peers_cut(struct sim_peers *peers, uint64_t from, uint64_t to, bool cut);
/* No cuts, no loss, nobody down (crashed hosts stay away). */
void sim_peers_heal(struct sim_peers *peers);
/* The host's process is gone, with the memory of its calls and handlers: none of its callbacks runs
 * any more, others' calls to it get TSR_ECONNECT. On the host's loop. */
void sim_peers_crash(struct sim_peers *peers, uint64_t host_id);

struct sim_peers_stats {
    uint64_t calls, delivered, replied, lost, refused;
};
void sim_peers_stats(struct sim_peers *peers, struct sim_peers_stats *out);

#endif
