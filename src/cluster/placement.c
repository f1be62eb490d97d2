/* Which hosts hold an image: pure functions of what is known about the hosts.
 *
 * A host's score for an image is a weighted rendezvous hash (-w / ln u, u from SHA-256 of image and
 * host): the same input gives the same choice everywhere, a host that comes or goes moves only its
 * share, and a host with more room gets more. Zones: a host of a zone that is not used yet goes
 * before all hosts of used zones. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tessera/base/digest.h"
#include "tessera/cluster.h"

/* Room that a host keeps for itself when it is asked to take an image. */
enum { PLACEMENT_RESERVE = 64 * 1024 * 1024 };

static bool has_room(const struct placement_host *h, int64_t size)
{
    if (h->available_bytes < 0) {
        return true; /* not known yet: let it try, it refuses by itself */
    }
    int64_t need = size > 0 ? size : 0;
    return h->available_bytes - PLACEMENT_RESERVE >= need;
}

static bool can_take(const struct placement_host *h, int64_t size)
{
    return h->image_role && h->up && h->weight > 0 && has_room(h, size);
}

static double score(const struct placement_host *h, const char *image_id)
{
    char text[128];
    uint8_t hash[DIGEST_MAX];
    int n = snprintf(text, sizeof(text), "%s/%llu", image_id, (unsigned long long)h->id);
    digest_of(DIGEST_SHA256, text, n > 0 ? (size_t)n : 0, hash);
    uint64_t v = 0;
    memcpy(&v, hash, sizeof(v));
    double u = ((double)(v >> 11) + 1.0) / 9007199254740994.0; /* (0, 1) */
    double share = 1.0;
    if (h->total_bytes > 0 && h->available_bytes >= 0) {
        share = 0.05 + (double)h->available_bytes / (double)h->total_bytes;
    }
    return -(share * h->weight) / log(u);
}

static bool listed(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static const struct placement_host *find(const struct placement_host *hosts, size_t count,
                                         uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (hosts[i].id == id) {
            return &hosts[i];
        }
    }
    return NULL;
}

static bool zone_used(const struct placement_host *hosts, size_t count, const uint64_t *chosen,
                      size_t n, const char *zone)
{
    for (size_t i = 0; i < n; i++) {
        const struct placement_host *h = find(hosts, count, chosen[i]);
        if (h != NULL && strcmp(h->zone, zone) == 0) {
            return true;
        }
    }
    return false;
}

typedef bool (*fits_fn)(const struct placement_host *h, int64_t size);

/* The best host not chosen yet, or NULL. */
static const struct placement_host *best(const struct placement_host *hosts, size_t count,
                                         const char *image_id, int64_t size, const uint64_t *chosen,
                                         size_t n, fits_fn fits)
{
    const struct placement_host *pick = NULL;
    double pick_score = 0;
    bool pick_new_zone = false;
    for (size_t i = 0; i < count; i++) {
        if (!fits(&hosts[i], size) || listed(chosen, n, hosts[i].id)) {
            continue;
        }
        double s = score(&hosts[i], image_id);
        bool new_zone = !zone_used(hosts, count, chosen, n, hosts[i].zone);
        if (pick == NULL || (new_zone && !pick_new_zone) ||
            (new_zone == pick_new_zone && s > pick_score)) {
            pick = &hosts[i];
            pick_score = s;
            pick_new_zone = new_zone;
        }
    }
    return pick;
}

size_t placement_choose(const struct placement_host *hosts, size_t count, const char *image_id,
                        int64_t size, uint64_t prefer, size_t replicas, uint64_t *out)
{
    size_t n = 0;
    const struct placement_host *first = find(hosts, count, prefer);
    if (replicas > 0 && first != NULL && can_take(first, size)) {
        out[n++] = prefer;
    }
    while (n < replicas) {
        const struct placement_host *h = best(hosts, count, image_id, size, out, n, can_take);
        if (h == NULL) {
            break;
        }
        out[n++] = h->id;
    }
    return n;
}

/* A host that is away at the moment, but belongs to the cluster: it fetches its replica on return.
 */
static bool may_take_later(const struct placement_host *h, int64_t size)
{
    return h->image_role && !h->lost && h->weight > 0 && has_room(h, size);
}

size_t placement_repair(const struct placement_host *hosts, size_t count, const char *image_id,
                        int64_t size, const uint64_t *have, size_t have_count, size_t replicas,
                        uint64_t *out, size_t out_max)
{
    size_t n = 0, counted = 0;
    for (size_t i = 0; i < have_count && n < out_max; i++) {
        const struct placement_host *h = find(hosts, count, have[i]);
        if (h != NULL && h->image_role) { /* removed hosts are not in @hosts */
            out[n++] = have[i];
            counted += !h->lost;
        }
    }
    static const fits_fn order[] = {can_take, may_take_later};
    for (size_t o = 0; o < 2; o++) {
        while (counted < replicas && n < out_max) {
            const struct placement_host *h = best(hosts, count, image_id, size, out, n, order[o]);
            if (h == NULL) {
                break;
            }
            out[n++] = h->id;
            counted++;
        }
    }
    return n;
}
