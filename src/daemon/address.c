/* How other hosts and clients reach this one, from the settings and the machine's interfaces. */
#include <arpa/inet.h>
#include <grp.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

/* Text of an interface's address, or false for kinds that are none. */
static bool address_text(const struct ifaddrs *i, char out[INET6_ADDRSTRLEN])
{
    if (i->ifa_addr == NULL) {
        return false;
    }
    if (i->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *a = (const void *)i->ifa_addr;
        return inet_ntop(AF_INET, &a->sin_addr, out, INET6_ADDRSTRLEN) != NULL;
    }
    if (i->ifa_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *)i->ifa_addr;
        return !IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr) &&
               inet_ntop(AF_INET6, &a->sin6_addr, out, INET6_ADDRSTRLEN) != NULL;
    }
    return false;
}

/* The first IPv4 address that is not loopback, else any such IPv6 one, else the name. */
static void first_address(char *out, size_t size, const char *fallback)
{
    struct ifaddrs *list = NULL;
    char text[INET6_ADDRSTRLEN];
    (void)str_copy(out, size, fallback);
    if (getifaddrs(&list) != 0) {
        return;
    }
    int best = 0;
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        if ((i->ifa_flags & IFF_LOOPBACK) != 0 || (i->ifa_flags & IFF_UP) == 0 ||
            !address_text(i, text)) {
            continue;
        }
        int rank = i->ifa_addr->sa_family == AF_INET ? 2 : 1;
        if (rank > best) {
            best = rank;
            (void)str_copy(out, size, text);
        }
    }
    freeifaddrs(list);
}

/* Tells others nothing: every address of this machine, or one that only it can reach. */
static bool any_address(const char *host)
{
    return host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 ||
           strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0 ||
           strncmp(host, "127.", 4) == 0;
}

/* A listener on one address is reached there, so that clients and hosts can have networks of their
 * own; advertise_address goes before. */
static int with_port(const struct config *cfg, const char *advertise, const char *listen,
                     const char *prefix, char *out, size_t size)
{
    char host[256];
    uint16_t port = 0;
    int rv = config_address(listen, host, sizeof(host), &port);
    if (rv != 0) {
        return rv;
    }
    if (cfg->advertise_address[0] == '\0' && !any_address(host)) {
        advertise = host;
    }
    const char *form = strchr(advertise, ':') != NULL ? "%s[%s]:%u" : "%s%s:%u";
    (void)snprintf(out, size, form, prefix, advertise, (unsigned)port);
    return 0;
}

int host_addresses_of(const struct config *cfg, struct host_addresses *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    if (cfg->host_name[0] != '\0') {
        (void)str_copy(out->name, sizeof(out->name), cfg->host_name);
    } else if (gethostname(out->name, sizeof(out->name) - 1) != 0) {
        return err_set(err, TSR_EINVAL, "the system has no host name; set host_name");
    }
    if (cfg->advertise_address[0] != '\0') {
        (void)str_copy(out->advertise, sizeof(out->advertise), cfg->advertise_address);
    } else {
        first_address(out->advertise, sizeof(out->advertise), out->name);
    }
    if (with_port(cfg, out->advertise, cfg->api_listen.items[0], "https://", out->api_url,
                  sizeof(out->api_url)) != 0 ||
        with_port(cfg, out->advertise, cfg->peer_listen, "", out->peer_address,
                  sizeof(out->peer_address)) != 0 ||
        with_port(cfg, out->advertise, cfg->raft_listen, "", out->raft_address,
                  sizeof(out->raft_address)) != 0) {
        return err_set(err, TSR_EINVAL, "api_listen, peer_listen and raft_listen need a port");
    }
    return 0;
}

static void add_name(json_t *list, const char *text)
{
    struct in6_addr six;
    struct in_addr four;
    char entry[300];
    bool ip = inet_pton(AF_INET, text, &four) == 1 || inet_pton(AF_INET6, text, &six) == 1;
    (void)snprintf(entry, sizeof(entry), "%s:%s", ip ? "IP" : "DNS", text);
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        if (strcmp(json_string_value(v), entry) == 0) {
            return;
        }
    }
    json_array_append_new(list, json_string(entry));
}

/* Host part of "https://name:port/..". */
static void add_url_host(json_t *list, const char *url)
{
    const char *p = strstr(url, "://");
    char host[256];
    if (p == NULL || !str_copy(host, sizeof(host), p + 3)) {
        return;
    }
    if (host[0] == '[') {
        host[strcspn(host, "]")] = '\0';
        add_name(list, host + 1);
        return;
    }
    host[strcspn(host, ":/")] = '\0';
    if (host[0] != '\0') {
        add_name(list, host);
    }
}

json_t *host_alt_names(const struct config *cfg, const struct host_addresses *a)
{
    json_t *list = json_array();
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];
    add_name(list, a->name);
    add_name(list, a->advertise);
    add_name(list, "localhost");
    add_name(list, "127.0.0.1");
    add_name(list, "::1");
    add_url_host(list, cfg->public_endpoint);
    add_url_host(list, cfg->internal_endpoint);
    if (getifaddrs(&all) == 0) {
        for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
            if (json_array_size(list) < 24 && address_text(i, text)) {
                add_name(list, text);
            }
        }
        freeifaddrs(all);
    }
    return list;
}

/* Members of the configured group may use the local socket, besides root. Where there is no such
 * group, root alone may. */
void admin_socket_group(const struct config *cfg)
{
    const struct group *g = cfg->group[0] != '\0' ? getgrnam(cfg->group) : NULL;
    if (g != NULL && chown(cfg->admin_socket, (uid_t)-1, g->gr_gid) != 0) {
        log_warn("daemon", "the local socket can not be given to group %s", cfg->group);
    }
}
