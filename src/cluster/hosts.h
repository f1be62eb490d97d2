/* The hosts' records, as the store has them. Private to cluster/. */
#ifndef TESSERA_CLUSTER_HOSTS_H
#define TESSERA_CLUSTER_HOSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/base/json.h"

struct cluster;

/* All records, those that left too; NULL when the store can not be read. */
json_t *hosts_read(struct cluster *c);
bool hosts_left(const json_t *host);
bool hosts_have_role(const json_t *host, const char *role);
/* Borrowed from @hosts; NULL if there is none, or it left. */
json_t *hosts_by_name(json_t *hosts, const char *name);
json_t *hosts_by_id(json_t *hosts, uint64_t id);
json_t *hosts_by_raft_id(json_t *hosts, uint64_t raft_id);
unsigned hosts_count(const json_t *hosts); /* without those that left */
/* "image" or "witness" itself (static), or NULL. */
const char *hosts_role_known(const char *role);
unsigned hosts_with_role(const json_t *hosts, const char *role);

#endif
