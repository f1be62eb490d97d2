/* What is known of the hosts, shared by one writer (control loop) with all readers: a sequence
 * lock. A reader copies and tries again when the writer was at work; the copy is small and writes
 * are rare. */
#include <stdlib.h>
#include <string.h>

#include "tessera/cluster.h"

struct cluster_load {
    atomic_uint sequence; /* odd while being written */
    atomic_size_t count;
    /* Words, so that the racing copy is made of atomic loads only. */
    _Atomic uint64_t words[CLUSTER_HOSTS_MAX * sizeof(struct placement_host) / 8 + 1];
};

_Static_assert(sizeof(struct placement_host) % 8 == 0, "placement_host is copied in words");

struct cluster_load *cluster_load_new(void)
{
    return calloc(1, sizeof(struct cluster_load));
}

void cluster_load_free(struct cluster_load *load)
{
    free(load);
}

void cluster_load_set(struct cluster_load *load, const struct placement_host *hosts, size_t count)
{
    if (count > CLUSTER_HOSTS_MAX) {
        count = CLUSTER_HOSTS_MAX;
    }
    unsigned s = atomic_load_explicit(&load->sequence, memory_order_relaxed);
    atomic_store_explicit(&load->sequence, s + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store_explicit(&load->count, count, memory_order_relaxed);
    for (size_t i = 0; i < count * sizeof(*hosts) / 8; i++) {
        uint64_t word;
        memcpy(&word, (const char *)hosts + i * 8, 8);
        atomic_store_explicit(&load->words[i], word, memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store_explicit(&load->sequence, s + 2, memory_order_release);
}

size_t cluster_load_get(struct cluster_load *load, struct placement_host out[CLUSTER_HOSTS_MAX])
{
    for (;;) {
        unsigned s = atomic_load_explicit(&load->sequence, memory_order_acquire);
        if ((s & 1) != 0) {
            continue;
        }
        size_t count = atomic_load_explicit(&load->count, memory_order_relaxed);
        if (count > CLUSTER_HOSTS_MAX) {
            continue; /* torn; the sequence will say so */
        }
        for (size_t i = 0; i < count * sizeof(*out) / 8; i++) {
            uint64_t word = atomic_load_explicit(&load->words[i], memory_order_relaxed);
            memcpy((char *)out + i * 8, &word, 8);
        }
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load_explicit(&load->sequence, memory_order_relaxed) == s) {
            return count;
        }
    }
}

/* Lower is better: here, same zone and up, up elsewhere, not up. */
static int read_rank(const struct placement_host *hosts, size_t count, uint64_t self,
                     const char *zone, uint64_t id)
{
    if (id == self) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        /* cluster_load_get filled them word by word. NOLINTNEXTLINE(clang-analyzer-core.*) */
        if (hosts[i].id == id) {
            return !hosts[i].up ? 3 : strcmp(hosts[i].zone, zone) == 0 ? 1 : 2;
        }
    }
    return 4;
}

void cluster_read_order(struct cluster_load *load, uint64_t self, const char *zone, uint64_t *hosts,
                        size_t count)
{
    struct placement_host known[CLUSTER_HOSTS_MAX];
    size_t n = cluster_load_get(load, known);
    for (size_t i = 1; i < count; i++) { /* few and mostly in order: insertion sort, stable */
        uint64_t id = hosts[i];
        int rank = read_rank(known, n, self, zone, id);
        size_t j = i;
        while (j > 0 && read_rank(known, n, self, zone, hosts[j - 1]) > rank) {
            hosts[j] = hosts[j - 1];
            j--;
        }
        hosts[j] = id;
    }
}
