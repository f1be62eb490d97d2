/* tesserad: what the process owns. Private to daemon/. */
#ifndef TESSERA_DAEMON_DAEMON_H
#define TESSERA_DAEMON_DAEMON_H

#include <stdatomic.h>

#include "tessera/api.h"
#include "tessera/base/bufpool.h"
#include "tessera/base/config.h"
#include "tessera/cluster.h"
#include "tessera/consensus.h"
#include "tessera/http.h"
#include "tessera/identity.h"
#include "tessera/identity/keystone.h"
#include "tessera/identity/rules.h"
#include "tessera/image.h"
#include "tessera/image/import.h"
#include "tessera/meta.h"
#include "tessera/peer.h"
#include "tessera/replica.h"

enum { WORKERS_MAX = 64, PATH_BYTES = 1200 };

/* files.c: what a formed host keeps about itself below data_dir. */
struct host_files {
    struct host_identity me;
    char *ca_pem, *cert_pem, *key_pem;
    uint8_t cluster_key[32];
    bool fresh;                  /* this incarnation has never run: raft/ may be empty */
    bool discard, discard_index; /* raft/ and meta/ (and index/) are of an older incarnation */
    char rebuilt_code[24], rebuilt_reason[ERR_MSG_SIZE]; /* why there is this incarnation; or "" */
};
/* TSR_ENOENT: not formed. */
int host_files_load(const char *data_dir, struct host_files *out, struct err *err);
/* host.json is written last: with it the host is formed. */
int host_files_store(const char *data_dir, const struct host_files *files);
void host_files_free(struct host_files *files);
void path_join(char out[PATH_BYTES], const char *a, const char *b);

/* damage.c: log, vote or store that can not be vouched for. */
struct damage {
    char code[24], reason[ERR_MSG_SIZE]; /* code "" = none; LOG_DAMAGED, STATE_DAMAGED, ... */
    char nonce[33];                      /* of the request to rejoin; "" = not asked for good yet */
    bool index;                          /* the chunk index may be damaged too */
};
void damage_set(struct damage *damage, const char *code, const char *reason);
int damage_load(const char *data_dir, struct damage *out); /* TSR_ENOENT: none is noted */
int damage_store(const char *data_dir, const struct damage *damage);
int damage_forget(const char *data_dir);
/* Move folders of data_dir to damaged/<time>-<incarnation>/; those that are not there are fine. */
int damage_set_aside(const char *data_dir, uint64_t raft_id, const char *const *names,
                     size_t count);
void exec_self(char **argv); /* start this program anew in the same process; returns on failure */
int remove_tree(const char *path); /* files and folders below, and itself; absent is fine */

/* address.c: how others reach this host. */
struct host_addresses {
    char name[256], advertise[256];
    char api_url[320], peer_address[320], raft_address[320];
};
int host_addresses_of(const struct config *cfg, struct host_addresses *out, struct err *err);
void admin_socket_group(const struct config *cfg);
/* Names for the host's certificate: "DNS:..", "IP:.."; freed with json_decref. */
json_t *host_alt_names(const struct config *cfg, const struct host_addresses *a);

struct daemon;

/* One worker: its loop, servers, clients and faces. */
struct worker {
    struct daemon *d;
    unsigned number;
    struct loop *loop;
    struct http_server *http;
    struct peer_client *peers;
    struct peer_server *peer_server;
    struct replica_ctx replica;
    struct image_ctx image;
    struct image_importer *importer;
    struct api *api;
    struct bufpool *upload, *relay, *repair;
    struct task close_task, nudge_task;
    atomic_bool nudged;
    unsigned closing; /* parts still to be closed */
};
int worker_open(struct daemon *d, unsigned number, struct worker *w, struct err *err);
/* From the control loop; worker_closed(d) runs there when all is shut. */
void worker_close(struct worker *w);
void worker_free(struct worker *w);
/* Connections to other hosts for a loop. */
int worker_peer_client(struct daemon *d, struct loop *loop, struct peer_client **out);

struct rules {
    struct policy_rules *policy;
    struct property_rules *properties;
};

struct daemon {
    struct rules rules;      /* as started */
    struct config cfg;       /* as started: who borrows texts borrows them from here */
    struct config_use *live; /* the newest configuration after SIGHUP; NULL = cfg (reload.c) */
    const char *config_path; /* NULL: none was read */
    char **argv;
    struct host_files files;
    struct host_addresses addresses;
    struct peer_life life;
    uint8_t boot[4];
    struct loop *control;
    struct pool *log_pool, *apply_pool, *index_pool, *disk_pool, *cpu_pool, *auth_pool;
    struct tls *api_tls, *peer_server_tls, *peer_client_tls, *raft_server_tls, *raft_client_tls;
    struct buf_budget upload_budget, relay_budget, repair_budget;
    struct meta *meta;
    struct chunks *chunks;
    struct identity *identity;
    struct pool *keystone_pool; /* these three: only with an external Keystone */
    struct keystone *keystone;
    struct keystone_keeper *keeper;
    struct cluster_load *load;
    struct raft_links *links;
    struct consensus_net net; /* bridges consensus to raft_links */
    struct consensus *consensus;
    struct peer_service service;
    struct peer_client *peers; /* of the control loop */
    struct cluster *cluster;
    struct replicator *replicator;
    struct replicator *replicator_seen; /* what cluster may ask for statistics */
    struct image_limits limits;
    struct import_rules import;
    struct pool *fetch_pool, *resolve_pool; /* downloads of imports, and their names */
    struct pool *convert_pool, *spool_pool; /* conversions of imports, and their files */
    char convert_dir[PATH_BYTES];
    struct worker workers[WORKERS_MAX];
    uint64_t connections_max; /* of clients: the setting, or fewer */
    unsigned worker_count, workers_open;
    struct timer stop_timer, init_timer;
    struct damage damage; /* why this host can not start as it is */
    struct timer hosts_timer;
    char *hosts_text;  /* hosts.json as written */
    int64_t contact_s; /* wall clock: last proof of a quorum before this start; 0 = not known */
    bool hosts_writing;
    json_t *init_batch; /* first commands of a new cluster, until they are in the log */
    bool init_busy;
    atomic_bool draining, stopping;
    int exit_code;
};

/* settings.c: what the parts take from the configuration, at the start and again at SIGHUP. */
/* The operator's own rules, as long as somebody borrows them. */
int settings_rules(const struct config *cfg, struct rules *out, struct err *err);
void settings_rules_free(struct rules *rules);
void settings_limits(const struct config *cfg, struct image_limits *out);
void settings_pins(const struct config *cfg, struct replica_pin_limits *out);
void settings_cluster(const struct config *cfg, struct cluster_options *out);
void settings_keystone(const struct config *cfg, struct keystone_options *out);
void settings_import(const struct config *cfg, struct import_rules *out);
void settings_api(const struct config *cfg, struct api_options *out);
void settings_log(const struct config *cfg);
int settings_api_tls(struct daemon *d, const struct config *cfg, struct tls **out, struct err *err);
int settings_join_pin(struct daemon *d, uint8_t out[32], struct err *err);
/* keystone.c: an external Keystone, where the settings name one. */
int keystone_open(struct daemon *d, struct err *err);
/* Warnings for the cluster's status. Control loop. */
void keystone_warn(void *daemon, json_t *warnings);
/* reload.c: SIGHUP. Takes the file's live settings, all or none. */
/* probe.c: cluster_options.probe. */
void probe_api(void *arg, struct cluster *cluster, uint64_t host, const char *api_url);

void reload_run(struct daemon *d);
void reload_free(struct daemon *d);

/* daemon.c: another process with this host's identity is alive: says so and ends. */
void daemon_twice(void) __attribute__((noreturn));
/* daemon.c: a formed host; runs until stopped; returns the exit code. */
int daemon_run(struct daemon *d);
void daemon_worker_closed(struct daemon *d);
/* init.c: submit the first commands of a new cluster as soon as this host leads. */
int init_load(struct daemon *d, struct err *err);
void init_start(struct daemon *d);
/* damage.c: note the damage and start anew, which leads to rejoin.c. Does not return. Any thread.
 */
void damage_rebuild(struct daemon *d, const char *code, const char *reason, bool index)
    __attribute__((noreturn));
/* This host is incarnation @raft_id from now on, with new log and store; blobs stay. */
int damage_finish(struct daemon *d, uint64_t raft_id);
int damage_resume(struct daemon *d); /* host.json says discard: a crash came in between */

/* rejoin.c: ask the cluster to come back; form.c serves the socket meanwhile. */
struct rejoin;
void rejoin_keep_hosts(struct daemon *d);       /* hosts.json, while this host works */
bool rejoin_possible(const struct daemon *d);   /* there is somebody to ask */
int64_t rejoin_contact(const struct daemon *d); /* of hosts.json: for d->contact_s */
/* @why: a sentence on how it stands, kept up to date. @done: files are as they shall be. */
int rejoin_start(struct daemon *d, char *why, size_t why_size, void (*done)(void *arg), void *arg,
                 struct rejoin **out);
void rejoin_stop(struct rejoin *r); /* NULL is fine */

/* form.c: a host that is in no cluster yet, or (d->damage) has to rejoin: serves the local socket
 * for init and join. Returns the exit code, or does not return after forming: the program starts
 * anew. */
int form_run(struct daemon *d);

/* facts.c: each when what it is made of is there; or store and log alone, without threads and
 * links. */
int facts_open_meta(struct daemon *d, struct err *err);
int facts_open_links(struct daemon *d, struct err *err);
int facts_open_consensus(struct daemon *d, struct err *err);
int facts_open(struct daemon *d, struct err *err);
/* stop.c: SIGTERM, once open (@arg is the daemon). */
void stop_init(struct daemon *d);
void stop_begin(void *arg);
/* main.c: no other process uses data_dir from now on. 0, or the exit code: told. */
int data_dir_hold(struct daemon *d);
/* recover.c: tesserad --recover. @index: as the operator typed it, or NULL to only tell. Returns
 * the exit code. */
int recover_run(struct daemon *d, const char *index);
/* daemon.c: of an error at the start. */
int exit_code_of(int rv);

/* sysexits-like codes that a service manager can tell apart (docs/operations.md). */
enum {
    EXIT_CONFIG = 78,    /* bad settings or certificate: operator needed */
    EXIT_ADDRESS = 69,   /* an address or the data directory is in use */
    EXIT_DAMAGED = 65,   /* log, vote or store can not be vouched for: operator needed */
    EXIT_VERSION = 76,   /* the log holds what only a newer version knows: operator needed */
    EXIT_RESOURCES = 71, /* out of memory, threads or file descriptors */
    EXIT_DISK = 74,      /* a write or sync failed */
    EXIT_TWICE = 77,     /* another process with this host's identity is alive: operator needed */
    EXIT_RESTART = 0,
};

#endif
