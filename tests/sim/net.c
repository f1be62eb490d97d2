/* Consensus messages: ordered while a connection lives. When one breaks its receiver is told later;
 * what was on its way is lost, or comes late: until the receiver has heard of the end, or of the
 * next connection. */
#include <stdlib.h>
#include <string.h>

#include "tessera/base/digest.h"
#include "world.h"

struct packet {
    struct world *w;
    unsigned from, to, life, connection;
    uint64_t from_id;
    bool broken; /* not a message: the connection ended */
    size_t size;
    char data[];
};

static void packet_free(void *arg)
{
    free(arg);
}

/* May still be delivered. */
static bool connection_lives(const struct packet *p)
{
    const struct world *w = p->w;
    return p->connection >= w->heard[p->from][p->to] && p->connection > w->lost[p->from][p->to] &&
           w->hosts[p->from].raft_id == p->from_id;
}

static void packet_arrive(void *arg)
{
    struct packet *p = arg;
    struct world *w = p->w;
    struct sim_host *to = &w->hosts[p->to];
    if (!to->up || to->life != p->life || to->fatal) {
        free(p);
        return;
    }
    if (to->paused_until_ms > world_ms(w)) { /* it waits in the socket */
        sim_after(w->sim, 0, (to->paused_until_ms - world_ms(w)) * 1000, packet_arrive, packet_free,
                  p);
        return;
    }
    if (p->broken) {
        world_note(w, "net %u->%u connection gone", p->from, p->to);
        if (w->heard[p->from][p->to] < p->connection) {
            w->heard[p->from][p->to] = p->connection;
        }
        consensus_disconnected(to->consensus, p->from_id);
    } else if (connection_lives(p)) {
        w->heard[p->from][p->to] = p->connection;
        uint32_t crc = crc32c(0, p->data, p->size);
        world_mix(w, &crc, sizeof(crc));
        int rv = consensus_receive(to->consensus, p->from_id, p->data, p->size);
        if (rv != 0) {
            world_fail(w, "host %u refuses a message of host %u: %s", p->to, p->from, err_name(rv));
        }
    }
    free(p);
}

static struct packet *packet_new(struct world *w, unsigned from, unsigned to, const void *data,
                                 size_t size)
{
    struct packet *p = malloc(sizeof(*p) + size);
    tsr_assert(p != NULL);
    p->w = w;
    p->from = from;
    p->to = to;
    p->life = w->hosts[to].life;
    p->connection = w->connection[from][to] + 1; /* from 1 */
    p->from_id = w->hosts[from].raft_id;
    p->broken = data == NULL;
    p->size = size;
    if (size > 0) {
        memcpy(p->data, data, size);
    }
    return p;
}

void net_break(struct world *w, unsigned from, unsigned to)
{
    if (from == to) {
        return;
    }
    if (world_below(w, 2) == 0) {
        w->lost[from][to] = w->connection[from][to] + 1;
    }
    w->connection[from][to]++;
    w->arrives_us[from][to] = 0;
    struct packet *p = packet_new(w, from, to, NULL, 0);
    sim_after(w->sim, 0, world_below(w, 400000), packet_arrive, packet_free, p);
}

static void net_send(struct consensus_net *net, uint64_t to_id, const char *address,
                     const void *data, size_t size)
{
    struct sim_host *from = container_of(net, struct sim_host, net);
    struct world *w = from->w;
    unsigned to = (unsigned)(to_id >> 16);
    (void)address;
    if (to < 1 || to > w->host_count || w->hosts[to].raft_id != to_id || !w->hosts[to].up ||
        w->cut[from->n][to]) {
        return;
    }
    if (w->loss_per_mille > 0 && world_below(w, 1000) < w->loss_per_mille) {
        if (world_below(w, 2) == 0) {
            net_break(w, from->n, to);
        }
        return;
    }
    struct packet *p = packet_new(w, from->n, to, data, size);
    uint64_t now = sim_now_ns(w->sim) / 1000;
    uint64_t at = now + w->delay_min_us + world_below(w, w->delay_max_us - w->delay_min_us + 1);
    if (at < w->arrives_us[from->n][to]) {
        at = w->arrives_us[from->n][to];
    }
    w->arrives_us[from->n][to] = at;
    sim_after(w->sim, 0, at - now, packet_arrive, packet_free, p);
}

static size_t net_queued(struct consensus_net *net, uint64_t to)
{
    (void)net;
    (void)to;
    return 0;
}

const struct consensus_net_ops sim_net_ops = {.send = net_send, .queued = net_queued};

void net_cut(struct world *w, unsigned from, unsigned to, bool cut)
{
    if (from == to || w->cut[from][to] == cut) {
        return;
    }
    w->cut[from][to] = cut;
    if (w->hosts[from].life > 0 && w->hosts[to].life > 0) {
        sim_peers_cut(w->peers, from, to, cut);
    }
    if (cut) {
        net_break(w, from, to);
    }
}

void net_started(struct world *w, unsigned n)
{
    for (unsigned i = 1; i <= w->host_count; i++) {
        if (i != n && w->hosts[i].life > 0) {
            sim_peers_cut(w->peers, n, i, w->cut[n][i]);
            sim_peers_cut(w->peers, i, n, w->cut[i][n]);
        }
    }
}

void net_heal(struct world *w)
{
    for (unsigned a = 1; a <= w->host_count; a++) {
        for (unsigned b = 1; b <= w->host_count; b++) {
            net_cut(w, a, b, false);
        }
    }
}

void net_speed(struct world *w, uint64_t min_us, uint64_t max_us)
{
    w->delay_min_us = min_us;
    w->delay_max_us = max_us;
    sim_peers_delay(w->peers, min_us / 1000, (max_us + 999) / 1000);
}

void net_loss(struct world *w, unsigned per_mille)
{
    w->loss_per_mille = per_mille;
    sim_peers_loss(w->peers, per_mille);
}
