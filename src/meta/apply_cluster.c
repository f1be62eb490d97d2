/* Commands on the cluster itself: its identity, hosts, the admin endpoint, settings. */
#include <string.h>

#include "meta/apply.h"
#include "tessera/base/str.h"

static bool is(const char *a, const char *b)
{
    return a != NULL && strcmp(a, b) == 0;
}

/* --- cluster and settings
 * ------------------------------------------------------------------------- */

int apply_cluster_init(struct apply *a, const json_t *cmd)
{
    struct key key;
    struct kv_val value;
    key_of_text(&key, "cluster");
    int rc = writeset_get(&a->w, DB_CLUSTER, key_val(&key), &value);
    if (rc == 0) {
        return apply_refuse(a, TSR_EEXIST, "The cluster exists already.");
    }
    if (rc != TSR_ENOENT) {
        return rc;
    }
    if (!field_text_ok(json_str(cmd, "cluster_id"), false, 128) ||
        !field_text_ok(json_str(cmd, "name"), true, 255) || json_int(cmd, "chunk_bytes", 0) <= 0) {
        return apply_refuse(a, TSR_EINVAL, "A cluster needs an id, a name and a chunk size.");
    }
    json_t *cluster = json_object();
    if (cluster == NULL) {
        a->w.error = TSR_ENOMEM;
        return TSR_ENOMEM;
    }
    put_str(a, cluster, "cluster_id", json_str(cmd, "cluster_id"));
    put_str(a, cluster, "name", json_str(cmd, "name"));
    put_int(a, cluster, "chunk_bytes", json_int(cmd, "chunk_bytes", 0));
    put_int(a, cluster, "created_at", a->now);
    put_int(a, cluster, "command_version", META_COMMAND_VERSION);
    writeset_put_json(&a->w, DB_CLUSTER, &key, cluster);
    json_decref(cluster);
    return 0;
}

int apply_setting_put(struct apply *a, const json_t *cmd)
{
    const char *name = json_str(cmd, "name");
    const json_t *value = json_object_get(cmd, "value");
    struct key key;
    if (name == NULL || *name == 0 || strlen(name) > SETTING_NAME_MAX) {
        return apply_refuse(a, TSR_EINVAL, "Invalid name of a setting.");
    }
    if (value == NULL || json_is_null(value)) {
        key_of_text(&key, name);
        writeset_del(&a->w, DB_SETTING, key_val(&key));
        return 0;
    }
    json_t *record = json_object();
    if (record == NULL) {
        a->w.error = TSR_ENOMEM;
        return TSR_ENOMEM;
    }
    put_copy(a, record, "value", value);
    key_of_text(&key, name);
    writeset_put_json(&a->w, DB_SETTING, &key, record);
    json_decref(record);
    return 0;
}

/* --- hosts
 * ------------------------------------------------------------------------------------------ */

bool host_has_role(const json_t *host, const char *role)
{
    size_t i;
    json_t *have;
    json_array_foreach(json_arr(host, "roles"), i, have)
    {
        if (is(json_string_value(have), role)) {
            return true;
        }
    }
    return false;
}

static int collect(void *arg, struct kv_val key, struct kv_val value)
{
    json_t *host;
    int rc = record_parse(key, value, &host);
    if (rc != 0) {
        return rc;
    }
    return json_array_append_new(arg, host) == 0 ? 0 : TSR_ENOMEM;
}

static json_t *all_hosts(struct apply *a)
{
    struct key prefix;
    json_t *hosts = json_array();
    key_init(&prefix);
    key_byte(&prefix, 0); /* ids stay below 2^48, so their keys begin with 0 */
    int rc = hosts == NULL ? TSR_ENOMEM : writeset_scan(&a->w, DB_HOST, &prefix, collect, hosts);
    if (rc != 0) {
        a->w.error = rc;
        json_decref(hosts);
        return NULL;
    }
    return hosts;
}

int apply_hosts_up(struct apply *a, int64_t *out)
{
    size_t i;
    json_t *host, *hosts = all_hosts(a);
    *out = 0;
    json_array_foreach(hosts, i, host)
    {
        if (is(json_str(host, "state"), "up") && host_has_role(host, "image")) {
            ++*out;
        }
    }
    json_decref(hosts);
    return a->w.error;
}

/* The host of that name, or NULL; a new reference. */
static json_t *host_named(struct apply *a, const char *name)
{
    size_t i;
    json_t *host, *found = NULL, *hosts = all_hosts(a);
    json_array_foreach(hosts, i, host)
    {
        if (is(json_str(host, "name"), name)) {
            found = json_incref(host);
            break;
        }
    }
    json_decref(hosts);
    return found;
}

static bool roles_ok(const json_t *roles)
{
    size_t i;
    json_t *role;
    if (!json_is_array(roles)) {
        return false;
    }
    json_array_foreach(roles, i, role)
    {
        if (!field_text_ok(json_string_value(role), false, 32)) {
            return false;
        }
    }
    return true;
}

static const char *const host_texts[] = {"name",         "zone",         "api_url",
                                         "peer_address", "raft_address", "version"};

static int host_check(struct apply *a, const json_t *given, bool whole)
{
    for (size_t i = 0; i < sizeof(host_texts) / sizeof(host_texts[0]); i++) {
        const json_t *v = json_object_get(given, host_texts[i]);
        bool needed = i == 0 && whole;
        if ((v == NULL || json_is_null(v)) ? needed
                                           : !field_text_ok(json_string_value(v), i != 0, 255)) {
            return apply_refuse(a, TSR_EINVAL, "Invalid %s of a host.", host_texts[i]);
        }
    }
    const json_t *roles = json_object_get(given, "roles");
    if (roles == NULL ? whole : !roles_ok(roles)) {
        return apply_refuse(a, TSR_EINVAL, "Invalid roles of a host.");
    }
    return 0;
}

static int host_next_id(struct apply *a, int64_t *out)
{
    struct key key;
    json_t *counters = NULL;
    key_of_text(&key, "counters");
    int rc = writeset_get_json(&a->w, DB_CLUSTER, &key, &counters);
    if (rc == TSR_ENOENT) {
        counters = json_object();
        rc = counters == NULL ? (a->w.error = TSR_ENOMEM) : 0;
    }
    if (rc != 0) {
        return rc;
    }
    *out = json_int(counters, "next_host", 1);
    put_int(a, counters, "next_host", *out + 1);
    writeset_put_json(&a->w, DB_CLUSTER, &key, counters);
    json_decref(counters);
    return a->w.error;
}

/* Fill @host from the command and store it as incarnation @incarnation of @id. */
static int host_join(struct apply *a, const json_t *cmd, json_t *host, int64_t id,
                     int64_t incarnation)
{
    for (size_t i = 0; i < sizeof(host_texts) / sizeof(host_texts[0]); i++) {
        put_str(a, host, host_texts[i], json_str(cmd, host_texts[i]));
    }
    put_copy(a, host, "roles", json_object_get(cmd, "roles"));
    put_int(a, host, "id", id);
    put_int(a, host, "incarnation", incarnation);
    put_int(a, host, "raft_id", id << 16 | incarnation);
    put_str(a, host, "state", "up");
    put_str(a, host, "raft_role", NULL);
    put_int(a, host, "state_since", apply_time(a, json_int(host, "state_since", 0)));
    put_int(a, host, "joined_at", apply_time(a, json_int(host, "joined_at", 0)));
    put_int(a, a->result, "id", id);
    put_int(a, a->result, "incarnation", incarnation);
    put_int(a, a->result, "raft_id", id << 16 | incarnation);
    struct key key;
    key_of_number(&key, (uint64_t)id);
    writeset_put_json(&a->w, DB_HOST, &key, host);
    return 0;
}

/* Which record the joining host takes over: *out NULL for none. */
static int host_take_over(struct apply *a, const json_t *cmd, json_t **out)
{
    const json_t *rejoin = json_object_get(cmd, "rejoin");
    json_t *same = host_named(a, json_str(cmd, "name"));
    *out = NULL;
    if (json_is_integer(rejoin)) {
        int rc = apply_host(a, (uint64_t)json_integer_value(rejoin), out);
        if (rc == 0 && same != NULL && json_int(same, "id", 0) != json_int(*out, "id", 0)) {
            rc = apply_refuse(a, TSR_EEXIST, "Another host has this name.");
        }
        json_decref(same);
        return rc;
    }
    if (same != NULL && !is(json_str(same, "state"), "left")) {
        json_decref(same);
        return apply_refuse(a, TSR_EEXIST, "Another host has this name.");
    }
    *out = same;
    return a->w.error;
}

int apply_host_add(struct apply *a, const json_t *cmd)
{
    json_t *host = NULL;
    int64_t id, incarnation = 1;
    int rc = host_check(a, cmd, true);
    if (rc == 0) {
        rc = host_take_over(a, cmd, &host);
    }
    if (rc == 0 && host != NULL) {
        id = json_int(host, "id", 0);
        incarnation = json_int(host, "incarnation", 0) + 1;
        if (incarnation > UINT16_MAX) {
            rc = apply_refuse(a, TSR_ETOOBIG, "The host has joined too often under this id.");
        }
    } else if (rc == 0) {
        rc = host_next_id(a, &id);
        host = json_object();
        if (host == NULL) {
            rc = a->w.error = TSR_ENOMEM;
        }
    }
    if (rc == 0) {
        rc = host_join(a, cmd, host, id, incarnation);
    }
    json_decref(host);
    return rc;
}

static int host_of_command(struct apply *a, const json_t *cmd, json_t **out)
{
    int64_t id = json_int(cmd, "id", 0);
    return apply_host(a, id < 0 ? 0 : (uint64_t)id, out);
}

static void host_store(struct apply *a, const json_t *host)
{
    struct key key;
    key_of_number(&key, (uint64_t)json_int(host, "id", 0));
    writeset_put_json(&a->w, DB_HOST, &key, host);
}

/* Keys that only other commands change. */
static bool host_key_fixed(const char *key)
{
    static const char *const fixed[] = {"id",    "incarnation", "raft_id",
                                        "state", "state_since", "joined_at"};
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (is(fixed[i], key)) {
            return true;
        }
    }
    return false;
}

static int host_set(struct apply *a, json_t *set, json_t *host)
{
    const char *key;
    json_t *value;
    json_object_foreach(set, key, value)
    {
        if (host_key_fixed(key)) {
            return apply_refuse(a, TSR_EINVAL, "The %s of a host cannot be set.", key);
        }
        if (is(key, "name")) {
            json_t *same = host_named(a, json_string_value(value));
            bool taken = same != NULL && json_int(same, "id", 0) != json_int(host, "id", 0);
            json_decref(same);
            if (taken) {
                return apply_refuse(a, TSR_EEXIST, "Another host has this name.");
            }
        }
        put_copy(a, host, key, value);
    }
    return 0;
}

int apply_host_update(struct apply *a, const json_t *cmd)
{
    json_t *host = NULL, *set = json_obj(cmd, "set");
    if (json_object_get(set, "name") != NULL && json_str(set, "name") == NULL) {
        return apply_refuse(a, TSR_EINVAL, "Invalid name of a host.");
    }
    int rc = host_check(a, set, false);
    if (rc == 0) {
        rc = host_of_command(a, cmd, &host);
    }
    if (rc == 0) {
        rc = host_set(a, set, host);
    }
    if (rc == 0) {
        host_store(a, host);
    }
    json_decref(host);
    return rc;
}

static void host_state_set(struct apply *a, json_t *host, const char *state)
{
    put_str(a, host, "state", state);
    put_int(a, host, "state_since", apply_time(a, json_int(host, "state_since", 0)));
    host_store(a, host);
}

int apply_host_state(struct apply *a, const json_t *cmd)
{
    const char *state = json_str(cmd, "state");
    json_t *host = NULL;
    if (!is(state, "up") && !is(state, "suspect") && !is(state, "down")) {
        return apply_refuse(a, TSR_EINVAL, "Invalid state of a host.");
    }
    int rc = host_of_command(a, cmd, &host);
    if (rc == 0 && is(json_str(host, "state"), "left")) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The host left the cluster.");
    }
    if (rc == 0 && !is(json_str(host, "state"), state)) {
        host_state_set(a, host, state);
    }
    json_decref(host);
    return rc;
}

/* --- the admin endpoint
 * ----------------------------------------------------------------------------- */

static int endpoint_read(struct apply *a, json_t **out)
{
    struct key key;
    key_of_text(&key, "endpoint");
    int rc = writeset_get_json(&a->w, DB_ENDPOINT, &key, out);
    return rc == TSR_ENOENT ? 0 : rc;
}

int apply_host_remove(struct apply *a, const json_t *cmd)
{
    json_t *host = NULL, *endpoint = NULL;
    int rc = host_of_command(a, cmd, &host);
    if (rc == 0) {
        rc = endpoint_read(a, &endpoint);
    }
    if (rc == 0 && endpoint != NULL && json_int(endpoint, "host", 0) == json_int(host, "id", -1)) {
        rc = apply_refuse(a, TSR_ECONFLICT,
                          "The host holds the admin endpoint; move the endpoint first.");
    }
    if (rc == 0 && !is(json_str(host, "state"), "left")) {
        put_str(a, host, "raft_role", NULL);
        host_state_set(a, host, "left");
    }
    json_decref(endpoint);
    json_decref(host);
    return rc;
}

static int grant_check(struct apply *a, const json_t *cmd, const json_t *current)
{
    json_t *host = NULL;
    int64_t id = json_int(cmd, "host", 0), epoch = json_int(cmd, "epoch", 0);
    int64_t next = json_int(current, "epoch", 0) + 1, term = json_int(cmd, "term", 0);
#ifdef TSR_BREAK_GRANT_TERM
    term = 0;
#endif
    if (term != 0 && (uint64_t)term != a->term) {
        /* Decided by a leader that was replaced: the next one may have renewed the old lease. */
        return apply_refuse(a, TSR_ECONFLICT, "Leadership changed before the grant.");
    }
    if (epoch != next) {
        return apply_refuse(a, TSR_ECONFLICT, "The admin endpoint is at epoch %lld.",
                            (long long)next - 1);
    }
    int rc = apply_host(a, id < 0 ? 0 : (uint64_t)id, &host);
    if (rc == 0 && is(json_str(host, "state"), "left")) {
        rc = apply_refuse(a, TSR_ECONFLICT, "The host left the cluster.");
    }
    json_decref(host);
    return rc;
}

int apply_endpoint_grant(struct apply *a, const json_t *cmd)
{
    json_t *current = NULL, *next = NULL;
    struct key key;
    int rc = endpoint_read(a, &current);
    if (rc == 0) {
        rc = grant_check(a, cmd, current);
    }
    if (rc == 0 && (next = json_object()) == NULL) {
        rc = a->w.error = TSR_ENOMEM;
    }
    if (rc == 0) {
        put_int(a, next, "host", json_int(cmd, "host", 0));
        put_int(a, next, "epoch", json_int(cmd, "epoch", 0));
        put_str(a, next, "address", json_str(cmd, "address"));
        put_str(a, next, "reason", json_str(cmd, "reason"));
        put_int(a, next, "granted_at", apply_time(a, json_int(current, "granted_at", 0)));
        key_of_text(&key, "endpoint");
        writeset_put_json(&a->w, DB_ENDPOINT, &key, next);
    }
    json_decref(next);
    json_decref(current);
    return rc;
}
