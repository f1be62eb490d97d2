/* Which URLs and addresses a download may use.
 *
 * A URL is judged twice. Its text: scheme, port, host name, after the client that will use it has
 * read it (so no two readers disagree about what the host is). Its address: when the connection is
 * about to be made, for each address, and for each redirect anew. The second check is the one that
 * protects: names, numbers in any notation and answers that change all end in an address. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"
#include "tessera/image/import.h"

/* --- addresses
 * -------------------------------------------------------------------------------------- */

struct network {
    uint8_t bytes[16];
    unsigned bits;
};

/* 16 bytes; IPv4 as ::ffff:a.b.c.d. */
static bool bytes_of(const struct sockaddr *address, uint8_t out[16])
{
    if (address->sa_family == AF_INET) {
        memset(out, 0, 10);
        out[10] = out[11] = 0xff;
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        memcpy(out + 12, &in->sin_addr, 4);
        return true;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)address;
        memcpy(out, &in->sin6_addr, 16);
        return true;
    }
    return false;
}

static bool network_has(const struct network *n, const uint8_t bytes[16])
{
    unsigned whole = n->bits / 8, rest = n->bits % 8;
    if (memcmp(n->bytes, bytes, whole) != 0) {
        return false;
    }
    return rest == 0 || ((n->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

static bool network_parse(const char *text, struct network *out)
{
    char address[64];
    const char *slash = strchr(text, '/');
    size_t size = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct in_addr v4;
    int64_t bits;
    if (size >= sizeof(address)) {
        return false;
    }
    memcpy(address, text, size);
    address[size] = 0;
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, address, &v4) == 1) {
        out->bytes[10] = out->bytes[11] = 0xff;
        memcpy(out->bytes + 12, &v4, 4);
        bits = 32;
        if (slash != NULL && str_to_i64(slash + 1, 0, 32, &bits) != 0) {
            return false;
        }
        out->bits = (unsigned)bits + 96;
        return true;
    }
    if (inet_pton(AF_INET6, address, out->bytes) != 1) {
        return false;
    }
    bits = 128;
    if (slash != NULL && str_to_i64(slash + 1, 0, 128, &bits) != 0) {
        return false;
    }
    out->bits = (unsigned)bits;
    return true;
}

static bool text_has(const char *network, const uint8_t bytes[16])
{
    struct network n;
    return network_parse(network, &n) && network_has(&n, bytes);
}

/* Special networks of RFC 6890 and what came after. */
static const char *const special[] = {
    "0.0.0.0/8",     "10.0.0.0/8",      "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",
    "::/128",        "::1/128",         "64:ff9b:1::/48", "100::/64",       "2001::/23",
    "2001:db8::/32", "3fff::/20",       "5f00::/16",      "fc00::/7",       "fe80::/10",
    "fec0::/10",     "ff00::/8",
};

/* The IPv4 address that an IPv6 address stands for, as ::ffff:a.b.c.d. */
static bool embedded(const uint8_t b[16], uint8_t out[16])
{
    static const struct {
        const char *network;
        unsigned at;
    } forms[] = {
        {"64:ff9b::/96", 12}, /* NAT64 */
        {"2002::/16", 2},     /* 6to4 */
        {"::/96", 12},        /* compatible, long out of use */
    };
    for (size_t i = 0; i < array_len(forms); i++) {
        if (text_has(forms[i].network, b)) {
            memset(out, 0, 10);
            out[10] = out[11] = 0xff;
            memcpy(out + 12, b + forms[i].at, 4);
            return true;
        }
    }
    return false;
}

static bool bytes_public(const uint8_t bytes[16])
{
    uint8_t inner[16];
    for (size_t i = 0; i < array_len(special); i++) {
        if (text_has(special[i], bytes)) {
            return false;
        }
    }
    return !embedded(bytes, inner) || bytes_public(inner);
}

bool import_address_public(const struct sockaddr *address)
{
    uint8_t bytes[16];
    return bytes_of(address, bytes) && bytes_public(bytes);
}

static bool bytes_in(const struct config_list *networks, const uint8_t bytes[16])
{
    for (size_t i = 0; networks != NULL && i < networks->count; i++) {
        if (text_has(networks->items[i], bytes)) {
            return true;
        }
    }
    return false;
}

bool import_address_in(const struct config_list *networks, const struct sockaddr *address)
{
    uint8_t bytes[16];
    return bytes_of(address, bytes) && bytes_in(networks, bytes);
}

/* --- the cluster's own hosts
 * -------------------------------------------------------------------------- */

/* The host part of "host:port" or of a URL, if it is an address. */
static void own_add(struct import_guard *g, const char *text)
{
    char host[256];
    uint16_t port;
    struct network n;
    const char *slashes = text != NULL ? strstr(text, "://") : NULL;
    char bare[320];
    if (text == NULL || g->count == IMPORT_OWN_MAX) {
        return;
    }
    (void)str_copy(bare, sizeof(bare), slashes != NULL ? slashes + 3 : text);
    bare[strcspn(bare, "/")] = 0;
    if (config_address(bare, host, sizeof(host), &port) != 0) {
        (void)str_copy(host, sizeof(host), bare); /* an address alone */
    }
    if (strlen(host) < sizeof(g->own[0]) && network_parse(host, &n)) {
        (void)str_copy(g->own[g->count++], sizeof(g->own[0]), host);
    }
}

void import_guard_init(struct import_guard *g, const struct import_rules *rules, struct meta *meta)
{
    struct meta_view *view = NULL;
    json_t *hosts = NULL, *endpoint = NULL, *host;
    size_t i;
    g->rules = rules;
    g->count = 0;
    if (meta_view_open(meta, &view) != 0) {
        return;
    }
    if (meta_host_list(view, &hosts) == 0) {
        json_array_foreach(hosts, i, host)
        {
            own_add(g, json_str(host, "api_url"));
            own_add(g, json_str(host, "peer_address"));
            own_add(g, json_str(host, "raft_address"));
        }
    }
    if (meta_endpoint_get(view, &endpoint) == 0) {
        own_add(g, json_str(endpoint, "address"));
    }
    json_decref(endpoint);
    json_decref(hosts);
    meta_view_close(view);
}

bool import_guard_allows(void *guard, const struct sockaddr *address)
{
    const struct import_guard *g = guard;
    uint8_t bytes[16];
    if (!bytes_of(address, bytes)) {
        return false;
    }
    if (bytes_in(g->rules->hosts_denied, bytes)) {
        return false;
    }
    if (bytes_in(g->rules->addresses_allowed, bytes)) {
        return true;
    }
    for (size_t i = 0; i < g->count; i++) {
        if (text_has(g->own[i], bytes)) {
            return false;
        }
    }
    return bytes_public(bytes);
}

/* --- URLs
 * ------------------------------------------------------------------------------------------- */

static bool list_has(const struct config_list *list, const char *text)
{
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (str_ieq(list->items[i], text)) {
            return true;
        }
    }
    return false;
}

bool import_rules_method(const struct import_rules *rules, const char *name)
{
    return rules != NULL && list_has(rules->methods, name);
}

const char *import_rules_region(const struct import_rules *rules, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; rules->regions != NULL && i < rules->regions->count; i++) {
        const char *item = rules->regions->items[i];
        if (strncmp(item, name, size) == 0 && item[size] == '=') {
            return item + size + 1;
        }
    }
    return NULL;
}

/* "name", "*.name" (what is below it), or a network that holds the address @host. */
static bool host_matches(const char *pattern, const char *host)
{
    struct in_addr v4;
    struct network n = {.bits = 128}, p;
    if (str_starts(pattern, "*.")) {
        size_t tail = strlen(pattern) - 1, size = strlen(host);
        return size > tail && str_ieq(host + size - tail, pattern + 1);
    }
    if (str_ieq(pattern, host)) {
        return true;
    }
    if (inet_pton(AF_INET, host, &v4) == 1 || inet_pton(AF_INET6, host, n.bytes) == 1) {
        return network_parse(host, &n) && network_parse(pattern, &p) && network_has(&p, n.bytes);
    }
    return false;
}

static bool hosts_have(const struct config_list *list, const char *host)
{
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (host_matches(list->items[i], host)) {
            return true;
        }
    }
    return false;
}

static bool url_ok(const struct import_rules *rules, const struct http_client_url *u)
{
    char port[16];
    (void)snprintf(port, sizeof(port), "%u", u->port);
    return !u->has_user && list_has(rules->schemes, u->scheme) && list_has(rules->ports, port) &&
           !hosts_have(rules->hosts_denied, u->host) &&
           (rules->hosts_allowed == NULL || rules->hosts_allowed->count == 0 ||
            hosts_have(rules->hosts_allowed, u->host));
}

/* As much of it as a message may show. */
static void shown(const char *url, char out[128])
{
    size_t n = 0;
    for (; url[n] != 0 && n < 127; n++) {
        out[n] = url[n] > ' ' && url[n] < 0x7f ? url[n] : '?';
    }
    out[n] = 0;
}

int import_rules_url(const struct import_rules *rules, const char *url, struct http_client_url *out,
                     struct err *err)
{
    char text[128];
    int rv = http_client_url_parse(url, out);
    if (rv == 0) {
        size_t size = strlen(out->host);
        if (size > 1 && out->host[size - 1] == '.') {
            out->host[size - 1] = 0; /* the root's dot makes no other name */
        }
        rv = url_ok(rules, out) ? 0 : TSR_EINVAL;
    }
    if (rv == TSR_EINVAL) {
        shown(url, text);
        return err_set(err, TSR_EINVAL, "URI for web-download does not pass filtering: %s", text);
    }
    return rv;
}
