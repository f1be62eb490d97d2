/* What operators see: hosts, leadership, the endpoint, and warnings with a code and a sentence.
 * Answered by any host from its own store, also without a leader; then `stale_seconds` says how old
 * it is. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

void status_warn(json_t *list, const char *code, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    json_array_append_new(list, json_pack("{s:s,s:s}", "code", code, "text", text));
}

static const char *role_name(enum consensus_role role)
{
    return role == CONSENSUS_VOTER ? "voter" : role == CONSENSUS_STANDBY ? "standby" : "spare";
}

/* Record + what the group and the reports say. */
static json_t *render_host(struct cluster *c, const struct consensus_status *st, json_t *record)
{
    json_t *h = json_deep_copy(record);
    char text[TIME_TEXT];
    uint64_t id = (uint64_t)json_int(record, "id", 0),
             raft_id = (uint64_t)json_int(record, "raft_id", 0);
    const char *role = "none";
    for (unsigned i = 0; i < st->member_count; i++) {
        if (st->members[i].id == raft_id) {
            role = role_name(st->members[i].role);
            if (c->leader) {
                json_set_int(h, "log_index", (int64_t)st->match[i]);
            }
        }
    }
    json_set_str(h, "raft_role", role);
    json_set_bool(h, "leader", st->leader == raft_id);
    static const char *const times[] = {"joined_at", "state_since"};
    for (size_t i = 0; i < array_len(times); i++) {
        time_format_seconds(json_int(record, times[i], 0), text);
        json_set_str(h, times[i], text);
    }
    struct placement_host load[CLUSTER_HOSTS_MAX];
    size_t n = cluster_load_get(c->o.load, load);
    for (size_t i = 0; i < n; i++) {
        if (load[i].id == id) {
            json_set_int(h, "available_bytes", load[i].available_bytes);
            json_set_int(h, "total_bytes", load[i].total_bytes);
            if (strcmp(json_str_or(record, "state", ""), "up") == 0 && !load[i].up) {
                json_set_str(h, "state", "suspect");
            }
        }
    }
    struct host_seen *seen = health_seen(c, id);
    if (seen != NULL && seen->report != NULL) {
        json_object_set(h, "report", seen->report);
    }
    return h;
}

static json_t *host_records(struct cluster *c)
{
    struct meta_view *view = NULL;
    json_t *list = NULL;
    if (meta_view_open(c->o.meta, &view) == 0) {
        (void)meta_host_list(view, &list);
        meta_view_close(view);
    }
    return list;
}

static json_t *render_hosts(struct cluster *c, const struct consensus_status *st)
{
    json_t *records = host_records(c), *out = json_array(), *record;
    size_t i;
    json_array_foreach(records, i, record)
    {
        if (strcmp(json_str_or(record, "state", ""), "left") != 0) {
            json_array_append_new(out, render_host(c, st, record));
        }
    }
    json_decref(records);
    return out;
}

void status_op_hosts(struct cluster_op *op)
{
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(op->c->o.consensus, st);
    json_t *out = json_object();
    json_object_set_new(out, "hosts", render_hosts(op->c, st));
    free(st);
    op_done(op, 0, out, NULL);
}

static void add_warnings(struct cluster *c, json_t *out, json_t *hosts, bool ready,
                         unsigned replicas)
{
    json_t *list = json_array(), *h;
    size_t i;
    unsigned voters = 0, voters_up = 0, image_hosts = 0;
    json_array_foreach(hosts, i, h)
    {
        bool up = strcmp(json_str_or(h, "state", ""), "up") == 0;
        bool voter = strcmp(json_str_or(h, "raft_role", ""), "voter") == 0;
        voters += voter;
        voters_up += voter && up;
        size_t r;
        json_t *role;
        json_array_foreach(json_arr(h, "roles"), r, role)
        {
            image_hosts += strcmp(json_string_value(role), "image") == 0;
        }
        int64_t available = json_int(h, "available_bytes", -1),
                total = json_int(h, "total_bytes", -1);
        if (available >= 0 && available < total / 10) {
            status_warn(list, "DISK_NEARFULL", "host %s has %lld of %lld MiB left",
                        json_str_or(h, "name", "?"), (long long)(available >> 20),
                        (long long)(total >> 20));
        }
        if (!up) {
            status_warn(list, hosts_have_role(h, "image") ? "HOST_DOWN" : "WITNESS_DOWN",
                        "host %s is %s", json_str_or(h, "name", "?"), json_str_or(h, "state", "?"));
        }
        int64_t missing = json_int(json_obj(h, "report"), "replicas_missing", 0);
        if (missing > 0) {
            status_warn(list, "REPLICAS_LOW", "host %s is still fetching %lld replicas",
                        json_str_or(h, "name", "?"), (long long)missing);
        }
        const json_t *report = json_obj(h, "report");
        const char *damage = json_str(report, "damage");
        if (damage != NULL) {
            status_warn(list, damage, "host %s: %s", json_str_or(h, "name", "?"),
                        json_str_or(report, "damage_reason", "rebuilt"));
        }
        if (json_int(report, "damaged_records", 0) > 0) {
            status_warn(list, "STATE_DAMAGED", "host %s met damaged records in its metadata store",
                        json_str_or(h, "name", "?"));
        }
        const char *full = json_str(report, "disk_full");
        if (full != NULL) {
            status_warn(list, "DISK_FULL", "host %s has no room for its %s: it takes no changes",
                        json_str_or(h, "name", "?"), full);
        }
        if (room_short(report)) {
            status_warn(list, "DISK_FULL",
                        "the metadata store of host %s uses %lld of %lld MiB: no new images",
                        json_str_or(h, "name", "?"),
                        (long long)(json_int(report, "map_used", 0) >> 20),
                        (long long)(json_int(report, "map_bytes", 0) >> 20));
        }
        if (json_bool(report, "diverged", false)) {
            status_warn(list, "STATE_DIVERGED",
                        "the metadata of host %s differs from the leader's at the same index",
                        json_str_or(h, "name", "?"));
        }
        if (json_int(json_obj(h, "report"), "bad_chunks", 0) > 0) {
            status_warn(list, "CHUNK_BAD", "host %s has quarantined damaged chunks",
                        json_str_or(h, "name", "?"));
        }
    }
    if (!ready) {
        status_warn(list, "NO_QUORUM", "no majority of voters can be reached: changes are refused");
    }
    if (voters > 0 && voters % 2 == 0) {
        status_warn(list, "EVEN_VOTERS", "%u voters: %s", voters,
                    voters == 2 ? "neither host may fail for changes; add a third host or a witness"
                                : "an odd number tolerates as many failures with one host less");
    }
    if (voters >= 3 && voters_up <= voters / 2 + 1 && voters_up < voters) {
        status_warn(list, "QUORUM_AT_RISK", "one more voter lost means no majority");
    }
    if (image_hosts < replicas) {
        status_warn(list, "FEW_IMAGE_HOSTS", "%u image hosts for %u wanted replicas", image_hosts,
                    replicas);
    }
    watch_warnings(c, list, hosts);
    if (c->o.warn != NULL) {
        c->o.warn(c->o.arg, list);
    }
    json_set_str(out, "health", json_array_size(list) == 0 ? "OK" : ready ? "WARNING" : "ERROR");
    json_object_set_new(out, "warnings", list);
}

static const char *name_of(json_t *hosts, uint64_t id)
{
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        if ((uint64_t)json_int(h, "id", 0) == id) {
            return json_str(h, "name");
        }
    }
    return NULL;
}

void status_op(struct cluster_op *op)
{
    struct cluster *c = op->c;
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    struct cluster_health health;
    cluster_health(c, &health);
    json_t *out = json_object(), *hosts = render_hosts(c, st), *record = NULL, *endpoint = NULL;
    struct meta_view *view = NULL;
    if (meta_view_open(c->o.meta, &view) == 0) {
        if (meta_cluster_get(view, &record) == 0) {
            json_set_str(out, "cluster_id", json_str_or(record, "cluster_id", ""));
            json_set_str(out, "name", json_str_or(record, "name", ""));
            json_decref(record);
        }
        if (meta_endpoint_get(view, &endpoint) == 0) {
            uint64_t holder = (uint64_t)json_int(endpoint, "host", 0);
            json_set_int(endpoint, "host_id", (int64_t)holder);
            json_set_str(endpoint, "host", name_of(hosts, holder));
        }
        meta_view_close(view);
    }
    json_object_set_new(out, "admin_endpoint", endpoint != NULL ? endpoint : json_null());
    json_set_str(out, "answered_by", name_of(hosts, c->o.self));
    json_set_str(out, "leader", st->leader != 0 ? name_of(hosts, st->leader >> 16) : NULL);
    json_set_int(out, "term", (int64_t)st->term);
    json_set_int(out, "applied", (int64_t)st->applied_index);
    json_set_int(out, "committed", (int64_t)st->commit_index);
    json_set_int(out, "snapshot", (int64_t)st->snapshot_index);
    json_set_bool(out, "ready", health.ready);
    json_set_int(out, "stale_seconds",
                 health.stale_ms == UINT64_MAX ? -1 : (int64_t)(health.stale_ms / 1000));
    add_warnings(c, out, hosts, health.ready, c->o.replicas);
    json_object_set_new(out, "hosts", hosts);
    free(st);
    op_done(op, 0, out, NULL);
}
