/* Whether clients can reach the hosts, where they have a network of their own (F31): each host
 * connects to the API of every other once a second and reports those that it can not reach; the
 * leader believes a majority of at least two reporters about a host that talks to it all the same.
 * Such a host says so to load balancers, and does not stay the admin endpoint. When no host would
 * be left, the fault is not the hosts' (there is no way between them on that network): then none is
 * named. */
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/log.h"

enum { PROBE_EVERY_MS = 1000, PROBE_MISSES = 3, REPORTERS_MIN = 2 };

static struct reach *reach_of(struct cluster *c, uint64_t host)
{
    for (size_t i = 0; i < c->reach_count; i++) {
        if (c->reach[i].host == host) {
            return &c->reach[i];
        }
    }
    if (c->reach_count == CLUSTER_HOSTS_MAX) {
        return NULL;
    }
    struct reach *r = &c->reach[c->reach_count++];
    *r = (struct reach){.host = host};
    return r;
}

void cluster_probed(struct cluster *c, uint64_t host, bool reached)
{
    struct reach *r = reach_of(c, host);
    if (r != NULL) {
        r->pending = false;
        r->misses = reached ? 0 : r->misses + 1;
    }
    cluster_unpend(c);
}

void reach_probe(struct cluster *c)
{
    uint64_t now = cluster_now(c);
    if (c->o.probe == NULL || c->closing || now - c->reach_ms < PROBE_EVERY_MS) {
        return;
    }
    c->reach_ms = now;
    json_t *hosts = hosts_read(c), *h;
    size_t i;
    json_array_foreach(hosts, i, h)
    {
        uint64_t id = (uint64_t)json_int(h, "id", 0);
        struct reach *r = id == c->o.self || hosts_left(h) ? NULL : reach_of(c, id);
        const char *url = json_str(h, "api_url");
        if (r == NULL || r->pending || url == NULL) {
            continue;
        }
        r->pending = true;
        c->pending++;
        c->o.probe(c->o.arg, c, id, url);
    }
    json_decref(hosts);
}

void reach_report(struct cluster *c, json_t *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->reach_count; i++) {
        if (c->reach[i].misses >= PROBE_MISSES) {
            json_array_append_new(list, json_integer((json_int_t)c->reach[i].host));
        }
    }
    json_object_set_new(report, "unreached", list);
}

static bool names(const json_t *report, uint64_t host)
{
    const json_t *list = json_arr(report, "unreached");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if ((uint64_t)json_integer_value(json_array_get(list, i)) == host) {
            return true;
        }
    }
    return false;
}

static bool believed(struct cluster *c, uint64_t host)
{
    unsigned reporters = 0, against = 0;
    for (size_t i = 0; i < c->seen_count; i++) {
        const struct host_seen *s = &c->seen[i];
        if (s->id != host && s->report != NULL && health_fresh(c, s->id)) {
            reporters++;
            against += names(s->report, host);
        }
    }
    return reporters >= REPORTERS_MIN && against * 2 > reporters;
}

bool reach_cut(struct cluster *c, uint64_t host)
{
    struct host_seen *s = health_seen(c, host);
    return s != NULL && json_bool(s->report, "unreachable", false);
}

void reach_duty(struct cluster *c)
{
    json_t *hosts = hosts_read(c), *h;
    unsigned image = hosts_with_role(hosts, "image"), cut = 0;
    size_t i;
    json_array_foreach(hosts, i, h)
    {
        cut += !hosts_left(h) && hosts_have_role(h, "image") &&
               believed(c, (uint64_t)json_int(h, "id", 0));
    }
    json_array_foreach(hosts, i, h)
    {
        uint64_t id = (uint64_t)json_int(h, "id", 0);
        struct host_seen *s = hosts_left(h) ? NULL : health_seen(c, id);
        if (s == NULL || s->report == NULL) {
            continue;
        }
        bool now = cut < image && health_fresh(c, id) && believed(c, id);
        if (now != s->cut) {
            s->cut = now;
            log_warn("cluster", "the API of host %s %s", json_str_or(h, "name", "?"),
                     now ? "can not be reached by the other hosts" : "is reached again");
        }
        json_set_bool(s->report, "unreachable", now);
    }
    json_decref(hosts);
}
