/* Room for metadata: what each host reports of it, and no new images while any voter's store is
 * nearly full. All hosts hold the same records, so at MAP_PERCENT of the map there is time to make
 * room before a change meets the end of it. A disk that is full stops nothing but its own host
 * (consensus/space.c). */
#include "cluster/internal.h"
#include "tessera/base/log.h"

enum { SPACE_EVERY_MS = 5000, MAP_PERCENT = 80 };

bool room_short(const json_t *report)
{
    int64_t used = json_int(report, "map_used", 0), bytes = json_int(report, "map_bytes", 0);
    return bytes > 0 && used >= bytes / 100 * MAP_PERCENT;
}

void room_report(struct cluster *c, const struct consensus_status *st, json_t *report)
{
    uint64_t now = cluster_now(c);
    if (now >= c->map_next_ms && meta_space(c->o.meta, &c->map) == 0) {
        c->map_next_ms = now + SPACE_EVERY_MS; /* it walks the list of free pages */
    }
    json_set_int(report, "map_used", (int64_t)c->map.used_bytes);
    json_set_int(report, "map_bytes", (int64_t)c->map.map_bytes);
    if (st->log_full || st->store_full) {
        json_set_str(report, "disk_full", st->log_full ? "log" : "metadata store");
    }
}

static void room_set(struct cluster *c, bool refuse)
{
    if (c->no_creates != refuse) {
        c->no_creates = refuse;
        log_warn("cluster", refuse ? "a metadata store is nearly full: no new images"
                                   : "there is room for metadata again");
        meta_refuse_creates(c->o.meta, refuse);
    }
}

void room_duty(struct cluster *c)
{
    bool refuse = false;
    for (size_t i = 0; i < c->seen_count; i++) {
        refuse = refuse || (health_fresh(c, c->seen[i].id) && room_short(c->seen[i].report));
    }
    room_set(c, refuse);
}

void room_answer(struct cluster *c, json_t *answer)
{
    json_set_bool(answer, "no_creates", c->no_creates);
}

void room_answered(struct cluster *c, const json_t *answer)
{
    room_set(c, json_bool(answer, "no_creates", false));
}
