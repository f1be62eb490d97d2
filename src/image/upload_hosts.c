#include "image/upload_hosts.h"

#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

static size_t up_count(const struct placement_host *hosts, size_t count)
{
    size_t up = 0;
    for (size_t i = 0; i < count; i++) {
        up += hosts[i].up && hosts[i].image_role;
    }
    return up;
}

static size_t bounded(int wanted)
{
    return wanted < 1 ? 1 : wanted > REPLICA_HOSTS_MAX ? REPLICA_HOSTS_MAX : (size_t)wanted;
}

int upload_hosts_choose(struct image_ctx *ctx, const char *image_id, int64_t size,
                        struct upload_hosts *out, struct err *err)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t count = cluster_load_get(ctx->load, hosts);
    size_t up = up_count(hosts, count), seals = bounded(ctx->limits->write_replicas);
    if (up == 0) {
        return err_set(err, TSR_EUNAVAILABLE, "No host can take image data at present.");
    }
    if (ctx->limits->strict_write_replicas && up < seals) {
        return err_set(err, TSR_EUNAVAILABLE,
                       "Only %zu of the %zu hosts that must store an image "
                       "are up.",
                       up, seals);
    }
    out->count = placement_choose(hosts, count, image_id, size, ctx->self,
                                  bounded(ctx->limits->replicas), out->ids);
    if (out->count == 0 || (out->count < seals && ctx->limits->strict_write_replicas)) {
        return err_set(err, TSR_ENOSPC, "There is not enough space to store the image.");
    }
    /* How many replicas are enough depends on the hosts that are up at the end: apply decides, so
     * that an upload survives the loss of any host but the receiving one. */
    out->seals_min = ctx->limits->strict_write_replicas ? seals : 1;
    return 0;
}

static void add(uint64_t *ids, size_t *count, uint64_t id)
{
    for (size_t i = 0; i < *count; i++) {
        if (ids[i] == id) {
            return;
        }
    }
    if (*count < REPLICA_HOSTS_MAX) {
        ids[(*count)++] = id;
    }
}

size_t upload_hosts_placement(struct image_ctx *ctx, const char *image_id,
                              const struct upload_hosts *chosen,
                              const struct replica_result *sealed, uint64_t out[REPLICA_HOSTS_MAX])
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    uint64_t have[REPLICA_HOSTS_MAX];
    size_t have_count = 0;
    for (size_t i = 0; i < sealed->sealed_count; i++) {
        add(have, &have_count, sealed->sealed[i]);
    }
    for (size_t i = 0; i < chosen->count; i++) {
        add(have, &have_count, chosen->ids[i]);
    }
    size_t count = cluster_load_get(ctx->load, hosts);
    size_t placed =
        placement_repair(hosts, count, image_id, (int64_t)sealed->size, have, have_count,
                         bounded(ctx->limits->replicas), out, REPLICA_HOSTS_MAX);
    for (size_t i = 0; i < sealed->sealed_count; i++) {
        add(out, &placed, sealed->sealed[i]); /* a holder is part of the placement, always */
    }
    return placed;
}

static json_t *ids_json(const uint64_t *ids, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count && array != NULL; i++) {
        if (json_array_append_new(array, json_integer((json_int_t)ids[i])) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

json_t *upload_seal_command(struct image_ctx *ctx, const char *op, const char *image_id,
                            const char *session, const struct upload_hosts *chosen,
                            const struct replica_result *sealed, int64_t virtual_size)
{
    char manifest[2 * 32 + 1];
    uint64_t placement[REPLICA_HOSTS_MAX];
    hex_encode(sealed->manifest.bytes, 32, manifest);
    size_t count = upload_hosts_placement(ctx, image_id, chosen, sealed, placement);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:o, s:s, s:s, s:s, s:o, s:o, s:i}", "op", op, "id", image_id,
        "session", session, "manifest", manifest, "size", (json_int_t)sealed->size, "virtual_size",
        virtual_size >= 0 ? json_integer((json_int_t)virtual_size) : json_null(), "checksum",
        sealed->checksum, "os_hash_algo", "sha512", "os_hash_value", sealed->sha512, "replicas",
        ids_json(sealed->sealed, sealed->sealed_count), "placement", ids_json(placement, count),
        "write_replicas", ctx->limits->write_replicas);
}

/* --- reading
 * ---------------------------------------------------------------------------------------- */

static void host_add(uint64_t *hosts, size_t *count, uint64_t id)
{
    for (size_t i = 0; i < *count; i++) {
        if (hosts[i] == id) {
            return;
        }
    }
    if (*count < REPLICA_HOSTS_MAX) {
        hosts[(*count)++] = id;
    }
}

size_t upload_hosts_holding(struct image_ctx *ctx, const json_t *record,
                            uint64_t hosts[REPLICA_HOSTS_MAX])
{
    const char *name;
    json_t *state;
    size_t count = 0, i;
    json_object_foreach(json_obj(record, "replicas"), name, state)
    {
        int64_t id;
        const char *text = json_string_value(state);
        if (text != NULL && strcmp(text, "present") == 0 &&
            str_to_i64(name, 1, INT64_MAX, &id) == 0) {
            host_add(hosts, &count, (uint64_t)id);
        }
    }
    cluster_read_order(ctx->load, ctx->self, ctx->zone, hosts, count);
    size_t present = count;
    json_t *id;
    json_array_foreach(json_arr(record, "placement"), i, id)
    {
        if (json_is_integer(id)) {
            host_add(hosts, &count, (uint64_t)json_integer_value(id));
        }
    }
    cluster_read_order(ctx->load, ctx->self, ctx->zone, hosts + present, count - present);
    return count;
}

struct inspect *upload_inspect_new(const struct image_ctx *ctx, const char *disk_format,
                                   const char *container_format)
{
    struct inspect *i = inspect_new(disk_format, container_format);
    if (i != NULL && ctx->limits->raw_strict) {
        inspect_raw_strict(i);
    }
    return i;
}
