#include "cluster/hosts.h"

#include <string.h>

#include "cluster/internal.h"

json_t *hosts_read(struct cluster *c)
{
    struct meta_view *view = NULL;
    json_t *list = NULL;
    if (meta_view_open(c->o.meta, &view) != 0) {
        return NULL;
    }
    if (meta_host_list(view, &list) != 0) {
        list = NULL;
    }
    meta_view_close(view);
    return list;
}

bool hosts_left(const json_t *host)
{
    return strcmp(json_str_or(host, "state", ""), "left") == 0;
}

bool hosts_have_role(const json_t *host, const char *role)
{
    size_t i;
    json_t *v;
    json_array_foreach(json_arr(host, "roles"), i, v)
    {
        if (json_is_string(v) && strcmp(json_string_value(v), role) == 0) {
            return true;
        }
    }
    return false;
}

const char *hosts_role_known(const char *role)
{
    return strcmp(role, "image") == 0 ? "image" : strcmp(role, "witness") == 0 ? "witness" : NULL;
}

json_t *hosts_by_name(json_t *hosts, const char *name)
{
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        if (!hosts_left(h) && strcmp(json_str_or(h, "name", ""), name) == 0) {
            return h;
        }
    }
    return NULL;
}

static json_t *by_number(json_t *hosts, const char *key, uint64_t number)
{
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        if (!hosts_left(h) && (uint64_t)json_int(h, key, 0) == number) {
            return h;
        }
    }
    return NULL;
}

json_t *hosts_by_id(json_t *hosts, uint64_t id)
{
    return by_number(hosts, "id", id);
}

json_t *hosts_by_raft_id(json_t *hosts, uint64_t raft_id)
{
    return by_number(hosts, "raft_id", raft_id);
}

unsigned hosts_count(const json_t *hosts)
{
    unsigned n = 0;
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        n += !hosts_left(json_array_get(hosts, i));
    }
    return n;
}

unsigned hosts_with_role(const json_t *hosts, const char *role)
{
    unsigned n = 0;
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        const json_t *h = json_array_get(hosts, i);
        n += !hosts_left(h) && hosts_have_role(h, role);
    }
    return n;
}
