/* The one table of settings: from it come the fields of `struct config`, the parser, the checks and
 * the sample file conf/tesserad.conf.
 *
 * A file has lines `name = value`; `#` or `;` starts a comment line. Values: bool yes/no, whole
 * numbers, sizes "4MiB", durations "300s" (ms, s, min, h, d; a bare number is milliseconds),
 * addresses "host:port", "[::1]:9292", ":9292", lists with commas (also over several indented
 * lines). Thread: one owner; read-only use from many once set up. */
#ifndef TESSERA_BASE_CONFIG_H
#define TESSERA_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct err;

#define CONFIG_KIB INT64_C(1024)
#define CONFIG_MIB (CONFIG_KIB * 1024)
#define CONFIG_GIB (CONFIG_MIB * 1024)
#define CONFIG_TIB (CONFIG_GIB * 1024)
#define CONFIG_SECOND INT64_C(1000)
#define CONFIG_MINUTE (CONFIG_SECOND * 60)
#define CONFIG_HOUR (CONFIG_MINUTE * 60)
#define CONFIG_DAY (CONFIG_HOUR * 24)

/* X(name, type, default, min, max, unit, scope, reload, help)
 * min and max bound numbers, the length of strings, and the number of items of lists.
 * unit: what is counted; for CHOICE the words allowed, separated by '|'. */
/* clang-format off */
#define TSR_SETTINGS(X) \
    X(data_dir, STRING, "/var/lib/tessera", 1, 1024, "", HOST, RESTART, \
      "Directory of everything that this host keeps: log, metadata, chunks, certificates.") \
    X(host_name, STRING, "", 0, 255, "", HOST, RESTART, \
      "Name of this host in the cluster. Empty: the system's host name.") \
    X(zone, STRING, "", 0, 255, "", HOST, RESTART, \
      "Failure zone of this host (rack, room); replicas are spread over zones.") \
    X(advertise_address, STRING, "", 0, 255, "", HOST, RESTART, \
      "Address or name at which the other hosts and clients reach this one. Empty: the address that each listener is set to; for those on all addresses the first one that is not loopback, else the host name.") \
    X(api_listen, LIST, "[::]:9292", 1, 16, "addresses", HOST, RESTART, \
      "Where the API is served over TLS.") \
    X(api_listen_plain, LIST, "", 0, 16, "addresses", HOST, RESTART, \
      "Where the API is served without TLS, for trusted networks only. Empty: nowhere.") \
    X(peer_listen, ADDRESS, "0.0.0.0:9293", 1, 300, "", HOST, RESTART, \
      "Where other hosts connect for chunks and calls (mutual TLS).") \
    X(raft_listen, ADDRESS, "0.0.0.0:9294", 1, 300, "", HOST, RESTART, \
      "Where other hosts connect for consensus (mutual TLS).") \
    X(admin_socket, STRING, "", 0, 100, "", HOST, RESTART, \
      "Local socket of the tessera command. Empty: admin.sock in data_dir.") \
    X(group, STRING, "tessera", 0, 255, "", HOST, RESTART, \
      "System group whose members may use the local socket, besides root.") \
    X(log_file, STRING, "", 0, 1024, "", HOST, LIVE, \
      "File that log lines are appended to. Empty: standard error.") \
    X(log_level, CHOICE, "info", 0, 16, "error|warn|info|debug", HOST, LIVE, \
      "Least important lines that are logged.") \
    X(api_cert_file, STRING, "", 0, 1024, "", HOST, LIVE, \
      "Certificate chain of the API (PEM). Empty: issued by the cluster's own authority.") \
    X(api_key_file, STRING, "", 0, 1024, "", HOST, LIVE, \
      "Private key of api_cert_file (PEM).") \
    X(public_endpoint, STRING, "", 0, 1024, "", CLUSTER, LIVE, \
      "Base URL shown to clients as the public endpoint. Empty: the virtual IP, else the answering host.") \
    X(internal_endpoint, STRING, "", 0, 1024, "", CLUSTER, LIVE, \
      "Base URL shown to clients as the internal endpoint. Empty: the answering host.") \
    X(region, STRING, "RegionOne", 1, 255, "", CLUSTER, LIVE, \
      "Region in the service catalog.") \
    X(store_id, STRING, "tessera", 1, 64, "", CLUSTER, RESTART, \
      "Name of the store in image records and store discovery.") \
    X(workers, INT, "0", 0, 256, "threads", HOST, RESTART, \
      "Threads that serve connections. 0: one a CPU core.") \
    X(disk_threads, INT, "4", 1, 64, "threads", HOST, RESTART, \
      "Threads for file work in each data directory.") \
    X(cpu_threads, INT, "0", 0, 256, "threads", HOST, RESTART, \
      "Threads that compute digests. 0: one a CPU core.") \
    X(identity, CHOICE, "embedded", 0, 16, "embedded|keystone", CLUSTER, RESTART, \
      "Who knows the users. embedded: this cluster, under /identity/v3. keystone: an external Keystone, whose tokens are checked there.") \
    X(keystone_url, STRING, "", 0, 1000, "", CLUSTER, RESTART, \
      "Keystone's URL for this host, with or without /v3.") \
    X(keystone_public_url, STRING, "", 0, 1000, "", CLUSTER, RESTART, \
      "Keystone's URL that clients without a valid token are told. Empty: keystone_url.") \
    X(keystone_ca_file, STRING, "", 0, 1024, "", HOST, RESTART, \
      "Authorities (PEM) that Keystone's certificate is checked with. Empty: the system's.") \
    X(keystone_username, STRING, "", 0, 255, "", CLUSTER, RESTART, \
      "User with which tokens are checked: role service or admin on keystone_project; admin, to keep the catalog current.") \
    X(keystone_password_file, STRING, "", 0, 1024, "", HOST, RESTART, \
      "File with that user's password in its first line, for nobody else to read (mode 0600 or 0640).") \
    X(keystone_user_domain, STRING, "Default", 1, 255, "", CLUSTER, RESTART, \
      "Name of the domain of keystone_username.") \
    X(keystone_project, STRING, "service", 1, 255, "", CLUSTER, RESTART, \
      "Project on which keystone_username has its role.") \
    X(keystone_project_domain, STRING, "Default", 1, 255, "", CLUSTER, RESTART, \
      "Name of the domain of keystone_project.") \
    X(keystone_application_credential_id, STRING, "", 0, 64, "", CLUSTER, RESTART, \
      "Application credential to check tokens with, in place of user and password.") \
    X(keystone_application_credential_secret_file, STRING, "", 0, 1024, "", HOST, RESTART, \
      "File with the application credential's secret in its first line (mode 0600 or 0640).") \
    X(keystone_cache_ms, DURATION, "5min", CONFIG_SECOND, CONFIG_DAY, "time", CLUSTER, RESTART, \
      "How long a token that Keystone found valid is not asked about again: a revoked one works so long at most.") \
    X(keystone_timeout_ms, DURATION, "5s", 100, CONFIG_MINUTE, "time", CLUSTER, RESTART, \
      "A request whose token Keystone has not judged after so long is answered with 503.") \
    X(keystone_threads, INT, "8", 1, 64, "threads", HOST, RESTART, \
      "Questions that are asked of Keystone at a time.") \
    X(keystone_keep_admin_url, BOOL, "yes", 0, 0, "", CLUSTER, RESTART, \
      "Keep the URL of the registered admin endpoint at the host that holds the role, as long as it is one of this cluster's hosts.") \
    X(replicas, INT, "3", 1, 16, "hosts", CLUSTER, LIVE, \
      "Hosts that shall hold each image.") \
    X(write_replicas, INT, "2", 1, 16, "hosts", CLUSTER, LIVE, \
      "Hosts that hold an image before an upload is answered (as far as so many are up).") \
    X(strict_write_replicas, BOOL, "no", 0, 0, "", CLUSTER, LIVE, \
      "Refuse uploads while fewer than write_replicas hosts are up.") \
    X(chunk_bytes, SIZE, "4MiB", 4 * CONFIG_KIB, 4 * CONFIG_MIB, "bytes", CLUSTER, RESTART, \
      "Size of a chunk, a power of two. Fixed when the cluster is made.") \
    X(image_size_cap, SIZE, "1TiB", 1, 1024 * CONFIG_TIB, "bytes", CLUSTER, LIVE, \
      "Largest image accepted.") \
    X(image_property_quota, INT, "128", 0, 10000, "properties", CLUSTER, LIVE, \
      "Additional properties an image may have.") \
    X(image_tag_quota, INT, "128", 0, 10000, "tags", CLUSTER, LIVE, \
      "Tags an image may have.") \
    X(image_member_quota, INT, "128", 0, 10000, "members", CLUSTER, LIVE, \
      "Members an image may have.") \
    X(raw_strict, BOOL, "no", 0, 0, "", CLUSTER, LIVE, \
      "Refuse data declared raw that is in another format (qcow2, vmdk, ...), which a hypervisor might open as that. Partition tables, ISO images and LUKS volumes stay allowed.") \
    X(disk_format_gpt, BOOL, "no", 0, 0, "", CLUSTER, LIVE, \
      "Offer the disk_format gpt: raw disks with a partition table, which is then checked.") \
    X(signature_certificates_dir, STRING, "", 0, 1024, "", HOST, LIVE, \
      "Directory with the certificates of signed images, UUID.pem each (PEM). Empty: signatures are stored and not verified.") \
    X(import_methods, LIST, "glance-direct, web-download, copy-image", 0, 8, "methods", CLUSTER, RESTART, \
      "Ways of import that are offered: glance-direct (data put to .../stage first), web-download (from a URL), copy-image (to further stores; there is one, so it never has to), glance-download (from glance_regions). Empty: none.") \
    X(glance_regions, LIST, "", 0, 64, "name=url", CLUSTER, RESTART, \
      "Image services of other regions for glance-download, like West=https://images.west.example.org:9292. They see the user's token.") \
    X(locations_by_owners, BOOL, "no", 0, 0, "", CLUSTER, LIVE, \
      "Owners may post http and https locations of their images, whose data is then fetched as by web-download. Services and administrators always may.") \
    X(import_schemes, LIST, "http, https", 0, 2, "schemes", CLUSTER, RESTART, \
      "URL schemes for web-download.") \
    X(import_ports, LIST, "80, 443", 0, 64, "ports", CLUSTER, RESTART, \
      "Ports for web-download.") \
    X(import_hosts_allowed, LIST, "", 0, 256, "names", CLUSTER, RESTART, \
      "Hosts for web-download: names, *.name for all below it, addresses, networks. Empty: all that are not denied.") \
    X(import_hosts_denied, LIST, "", 0, 256, "names", CLUSTER, RESTART, \
      "Hosts that web-download never uses; wins over import_hosts_allowed and import_addresses_allowed.") \
    X(import_addresses_allowed, LIST, "", 0, 64, "networks", CLUSTER, RESTART, \
      "Networks that web-download may use besides public addresses, like 10.20.0.0/16. Loopback, link-local, private and the cluster's own addresses are refused otherwise.") \
    X(import_ca_file, STRING, "", 0, 1024, "", HOST, RESTART, \
      "Authorities (PEM) that web-download trusts. Empty: the system's.") \
    X(import_connect_ms, DURATION, "15s", 100, CONFIG_HOUR, "time", CLUSTER, RESTART, \
      "How long web-download waits for a connection.") \
    X(import_idle_ms, DURATION, "1min", CONFIG_SECOND, CONFIG_DAY, "time", CLUSTER, RESTART, \
      "A web-download that receives nothing for so long fails.") \
    X(import_time_max, DURATION, "12h", CONFIG_SECOND, 30 * CONFIG_DAY, "time", CLUSTER, RESTART, \
      "Longest time for one web-download.") \
    X(import_threads, INT, "8", 1, 64, "threads", HOST, RESTART, \
      "Downloads that a host makes at a time; others wait.") \
    X(import_decompress, BOOL, "no", 0, 0, "", CLUSTER, RESTART, \
      "Imported data of bare images that is packed with gzip, xz or zstd is stored unpacked.") \
    X(import_decompress_max, INT, "200", 2, 1000000, "times", CLUSTER, RESTART, \
      "Unpacked data that is so many times larger than what came is refused (beyond 64 MiB).") \
    X(import_convert, CHOICE, "none", 0, 16, "none|raw|qcow2", CLUSTER, RESTART, \
      "Imported disks of bare images (raw, qcow2, vmdk, vhd, vhdx, vdi) are converted to this format by qemu-img, which each host needs then.") \
    X(import_convert_ms, DURATION, "2h", CONFIG_SECOND, 30 * CONFIG_DAY, "time", CLUSTER, RESTART, \
      "Longest time for one conversion.") \
    X(import_convert_threads, INT, "1", 1, 16, "threads", HOST, RESTART, \
      "Conversions that a host makes at a time; others wait.") \
    X(stage_life_ms, DURATION, "1d", 0, 365 * CONFIG_DAY, "time", CLUSTER, RESTART, \
      "Staged data that nobody imports is dropped after so long. 0: kept.") \
    X(reservation_life_ms, DURATION, "1d", CONFIG_MINUTE, 365 * CONFIG_DAY, "time", HOST, RESTART, \
      "Chunks that came for an upload are kept for so long after it went silent, where no majority can tell that it is over.") \
    X(cache_bytes_max, SIZE, "0", 0, 1024 * CONFIG_TIB, "bytes", HOST, LIVE, \
      "What images may take here that this host keeps on request (cache API) and their placement does not put here. Over it the least used go. 0: no limit.") \
    X(cache_free_min, SIZE, "1GiB", 0, 1024 * CONFIG_TIB, "bytes", HOST, LIVE, \
      "With less free on the disk of the images, such images go, the least used first, and no more are fetched.") \
    X(api_limit_max, INT, "1000", 1, 100000, "records", CLUSTER, LIVE, \
      "Most records in one page of a list.") \
    X(limit_param_default, INT, "25", 1, 100000, "records", CLUSTER, LIVE, \
      "Records in a page of a list when the client names no limit.") \
    X(json_body_max, SIZE, "1MiB", CONFIG_KIB, 16 * CONFIG_MIB, "bytes", CLUSTER, LIVE, \
      "Largest JSON body of a request.") \
    X(public_scope, CHOICE, "cluster", 0, 16, "cluster|domain", CLUSTER, LIVE, \
      "Who sees public images. cluster: every project. domain: the projects of the owner's domain.") \
    X(policy_file, STRING, "", 0, 1024, "", HOST, LIVE, \
      "File of rules who may do what, over the built-in ones (docs/policies.md). Should be the same on all hosts. Empty: none.") \
    X(property_protection_file, STRING, "", 0, 1024, "", HOST, LIVE, \
      "File that says who may create, read, update and delete which properties of images. Should be the same on all hosts. Empty: everybody all.") \
    X(property_protection_rule_format, CHOICE, "roles", 0, 16, "roles|policies", HOST, LIVE, \
      "What property_protection_file names: roles, or rules like those of policy_file.") \
    X(cors_origins, LIST, "", 0, 64, "origins", CLUSTER, LIVE, \
      "Origins of web pages that browsers may let use the API, like https://cloud.example.org; * is all. Empty: none.") \
    X(connections_max, INT, "20000", 16, 1000000, "connections", HOST, RESTART, \
      "Client connections that this host keeps at a time; more are closed at once. Fewer where file descriptors are: an eighth of these, 256 at least, is left to other uses.") \
    X(head_timeout_ms, DURATION, "30s", CONFIG_SECOND, CONFIG_HOUR, "time", HOST, RESTART, \
      "A client whose request's head is not complete after so long is cut off.") \
    X(keep_alive_ms, DURATION, "75s", CONFIG_SECOND, CONFIG_DAY, "time", HOST, RESTART, \
      "A connection without a request is closed after so long.") \
    X(upload_idle_ms, DURATION, "5min", CONFIG_SECOND, CONFIG_DAY, "time", CLUSTER, RESTART, \
      "An upload that sends nothing for so long is aborted; after 30 seconds when others wait for its memory.") \
    X(read_consistency, CHOICE, "linearizable", 0, 16, "linearizable|local", CLUSTER, LIVE, \
      "linearizable: a read sees every change answered before it began. local: a read sees what this host has applied.") \
    X(stale_reads_max, DURATION, "1d", 0, 3650 * CONFIG_DAY, "time", CLUSTER, LIVE, \
      "Without a majority, reads are answered from local state (and marked stale) for so long. 0: not at all.") \
    X(verify_reads, CHOICE, "cached", 0, 16, "cached|always", CLUSTER, RESTART, \
      "cached: a chunk verified within 24 hours and unchanged since is sent without hashing it again. always: hash each time.") \
    X(election_ms, DURATION, "500ms", 50, CONFIG_MINUTE, "time", CLUSTER, RESTART, \
      "A follower that hears nothing from a leader for so long stands for election.") \
    X(heartbeat_ms, DURATION, "50ms", 5, 10 * CONFIG_SECOND, "time", CLUSTER, RESTART, \
      "Pause between a leader's heartbeats.") \
    X(suspect_ms, DURATION, "2s", 100, CONFIG_HOUR, "time", CLUSTER, LIVE, \
      "A host silent for so long is avoided for new work.") \
    X(down_ms, DURATION, "5s", 200, CONFIG_HOUR, "time", CLUSTER, LIVE, \
      "A host silent for so long is recorded as down.") \
    X(repair_after_ms, DURATION, "15min", 0, 365 * CONFIG_DAY, "time", CLUSTER, LIVE, \
      "Replicas of a host that is down for so long are made elsewhere.") \
    X(token_life_ms, DURATION, "4h", CONFIG_MINUTE, 30 * CONFIG_DAY, "time", CLUSTER, RESTART, \
      "How long a token is valid.") \
    X(token_expired_window_ms, DURATION, "2d", 0, 30 * CONFIG_DAY, "time", CLUSTER, RESTART, \
      "A service that sends its own token along may use a user's token for so long after it has expired. 0: not at all.") \
    X(join_token_life_ms, DURATION, "1h", CONFIG_MINUTE, 30 * CONFIG_DAY, "time", CLUSTER, LIVE, \
      "How long a host can join with a join token.") \
    X(drain_timeout_ms, DURATION, "5min", 0, CONFIG_DAY, "time", HOST, LIVE, \
      "How long a stopping host finishes running requests.") \
    X(metadata_map_bytes, SIZE, "64GiB", 16 * CONFIG_MIB, 16 * CONFIG_TIB, "bytes", HOST, RESTART, \
      "Address space of the metadata store: the most it can grow to.") \
    X(snapshot_entries, INT, "50000", 16, 10000000, "entries", HOST, RESTART, \
      "A snapshot is taken after so many log entries.") \
    X(snapshot_log_bytes, SIZE, "64MiB", CONFIG_MIB, CONFIG_TIB, "bytes", HOST, RESTART, \
      "A snapshot is taken after so many bytes of log.") \
    X(snapshot_trailing, INT, "5000", 0, 10000000, "entries", HOST, RESTART, \
      "Log entries kept behind a snapshot for hosts that lag.") \
    X(log_segment_bytes, SIZE, "8MiB", 8 * CONFIG_MIB, CONFIG_GIB, "bytes", HOST, RESTART, \
      "Size of a log segment, allocated in advance.") \
    X(buffers_upload_bytes, SIZE, "256MiB", CONFIG_MIB, CONFIG_TIB, "bytes", HOST, RESTART, \
      "Memory for data on its way in from clients.") \
    X(buffers_peer_bytes, SIZE, "256MiB", CONFIG_MIB, CONFIG_TIB, "bytes", HOST, RESTART, \
      "Memory for data on its way in from other hosts.") \
    X(buffers_relay_bytes, SIZE, "128MiB", CONFIG_MIB, CONFIG_TIB, "bytes", HOST, RESTART, \
      "Memory for downloads of chunks that other hosts hold.") \
    X(buffers_repair_bytes, SIZE, "64MiB", CONFIG_MIB, CONFIG_TIB, "bytes", HOST, RESTART, \
      "Memory for repair and scrubbing.")
/* clang-format on */

struct config_list {
    char **items;
    size_t count;
};

#define CONFIG_TYPE_BOOL bool
#define CONFIG_TYPE_INT int64_t
#define CONFIG_TYPE_SIZE int64_t     /* bytes */
#define CONFIG_TYPE_DURATION int64_t /* milliseconds */
#define CONFIG_TYPE_STRING char *    /* never NULL */
#define CONFIG_TYPE_CHOICE char *
#define CONFIG_TYPE_ADDRESS char *
#define CONFIG_TYPE_LIST struct config_list

struct config {
#define X(name, type, fallback, min, max, unit, scope, reload, help) CONFIG_TYPE_##type name;
    TSR_SETTINGS(X)
#undef X
};

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,
    CONFIG_SIZE,
    CONFIG_DURATION,
    CONFIG_STRING,
    CONFIG_CHOICE,
    CONFIG_ADDRESS,
    CONFIG_LIST,
};
enum config_scope { CONFIG_HOST, CONFIG_CLUSTER };
enum config_reload { CONFIG_RESTART, CONFIG_LIVE };

struct config_setting {
    const char *name;
    enum config_type type;
    const char *fallback; /* the default, as text */
    int64_t min, max;
    const char *unit;
    enum config_scope scope;
    enum config_reload reload;
    const char *help;
    size_t offset; /* of the field in struct config */
};

/* The table. */
const struct config_setting *config_settings(size_t *count_out);

/* All fields at their defaults. Returns 0 or TSR_ENOMEM (then there is nothing to free). */
int config_init_defaults(struct config *cfg);
void config_free(struct config *cfg);

/* Set one value from text; the old one stays on error. TSR_ENOENT (no such setting), TSR_EINVAL,
 * TSR_ENOMEM. */
int config_set(struct config *cfg, const char *name, const char *value, struct err *err);
/* Append the value as text that config_set takes. TSR_ENOENT, TSR_ENOMEM. */
int config_get(const struct config *cfg, const char *name, struct buf *out);

/* Read a file over what is set, then config_check. TSR_ENOENT (no file), TSR_EIO, TSR_EINVAL (with
 * file, line and setting in @err), TSR_ENOMEM. After an error @cfg may be half changed: load into a
 * fresh object and swap. */
int config_load(struct config *cfg, const char *path, struct err *err);
/* Rules between settings (write_replicas <= replicas, ...). TSR_EINVAL. */
int config_check(const struct config *cfg, struct err *err);
/* Name of the first setting that differs and needs a restart; NULL if all differences can go live.
 */
const char *config_restart_needed(const struct config *before, const struct config *after);

/* The sample file conf/tesserad.conf. Returns 0 or TSR_ENOMEM. */
int config_print_sample(struct buf *out);

/* "host:port", "[v6]:port" or ":port" into host (without brackets, "" = every address) and port.
 * TSR_EINVAL. */
int config_address(const char *text, char *host_out, size_t host_size, uint16_t *port_out);

#endif
