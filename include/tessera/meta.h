/* What we know: the metadata store. Commands change it through the log, views read it.
 *
 * One LMDB environment behind sys/kv; `apply` is its only writer, a pure function of store and
 * command: no clock (times come stamped by the leader), no random (ids come in the command).
 * Records are JSON values; docs/metadata.md lists records, commands and indexes. Life: meta_open ->
 * (consensus_open with meta_fsm) -> meta_attach -> use -> meta_close. */
#ifndef TESSERA_META_H
#define TESSERA_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"
#include "tessera/base/json.h"
#include "tessera/base/list.h"
#include "tessera/consensus.h"
#include "tessera/sys/kv.h"
#include "tessera/sys/loop.h"

enum { META_COMMAND_VERSION = 1, IMAGE_METADATA_MAX = 1024 * 1024, RESULT_WINDOW = 1000000 };

struct meta;

/* --- life ---------------------------------------------------------------------------------------
 */

/* Names of the databases, for kv_lmdb_open (index = number used inside). */
extern const char *const meta_databases[];
extern const unsigned meta_database_count;

/* @kv is taken over. TSR_ECORRUPT: the store is damaged. TSR_ENOTSUP: of another version. Blocking.
 */
int meta_open(struct kv *kv, struct meta **out, struct err *err);
struct fsm *meta_fsm(struct meta *m);
/* From now on meta_submit and meta_barrier work, by way of @consensus on its @control loop. */
void meta_attach(struct meta *m, struct consensus *consensus, struct loop *control);
/* Before consensus_close: later submits get TSR_ECANCELED. Control loop. */
void meta_detach(struct meta *m);
void meta_close(struct meta *m);
/* {index, digest} of the store: equal index means equal digest on every host. Any thread. */
int meta_point(struct meta *m, struct fsm_point *out);
/* Digest of the store when it was at @index; the last 4096 indexes are known, else TSR_ENOENT. */
int meta_digest_at(struct meta *m, uint64_t index, uint8_t digest_out[FSM_DIGEST_SIZE]);
/* How often a damaged record was met since open. Any thread. */
uint64_t meta_damaged(struct meta *m);
/* Map use for the 80 % rule. */
int meta_space(struct meta *m, struct kv_stat *out);

/* --- changes: any loop
 * ---------------------------------------------------------------------------- */

/* While set, image.create is refused here with TSR_EUNAVAILABLE, before it is proposed. Thread:
 * any. */
void meta_refuse_creates(struct meta *m, bool refuse);

struct meta_submit;
/* @status 0 and @result (borrowed; never NULL: {} at least) = done; a negative code with @err = the
 * typed refusal of apply, or why it could not be decided (TSR_ENOQUORUM, TSR_ETIMEOUT, ...). */
typedef void (*meta_submit_cb)(struct meta_submit *req, int status, json_t *result,
                               const struct err *err);
struct meta_submit {
    struct loop *loop;           /* where cb runs; the caller's */
    json_t *command;             /* {"op": ..., ...}; reference taken over by meta_submit */
    uint8_t id[COMMAND_ID_SIZE]; /* all zero: a fresh random id (from loop) */
    uint64_t timeout_ms;         /* 0 = 10 s */
    meta_submit_cb cb;
    void *arg;
    /* private */
    struct task task;
    struct consensus_submit submit;
    struct meta *meta;
    char *text;
    bool has_fp; /* the command has a fingerprint: its id may be another request's too */
    uint8_t fp[16];
    int status;
    json_t *result;
    struct err err;
};
/* Adds "v" and "born". The request belongs to the caller until cb. */
void meta_submit(struct meta *m, struct meta_submit *req);

/* Wait until this host has applied everything committed before the call (linearizable read). */
struct meta_barrier;
typedef void (*meta_barrier_cb)(struct meta_barrier *req, int status);
struct meta_barrier {
    struct loop *loop;
    uint64_t timeout_ms; /* 0 = 1 s */
    meta_barrier_cb cb;
    void *arg;
    struct task task;
    struct consensus_read read;
    struct meta *meta;
    int status;
};
void meta_barrier(struct meta *m, struct meta_barrier *req);

/* The outcome that is recorded for a command, if it was one with this fingerprint. 0: *code and
 * *result (new reference) are set; TSR_ENOENT: none; TSR_EUNPROCESSABLE: it was another request's.
 */
struct meta_view;
int meta_result_get(struct meta_view *v, const uint8_t id[COMMAND_ID_SIZE], const char *fp,
                    int *code, json_t **result);

/* Be told, on @loop, after changes were applied: what kinds changed since the last call (bits
 * below). Calls are merged while one is pending. */
enum meta_kind {
    META_IMAGES = 1,
    META_HOSTS = 2,
    META_ENDPOINT = 4,
    META_DIRECTORY = 8,
    META_SETTINGS = 16,
    META_TASKS = 32,
    META_DATA = 64, /* manifests, placements or replicas of images; META_IMAGES too, then */
};
struct meta_watch {
    struct loop *loop;
    void (*cb)(struct meta_watch *watch, unsigned kinds);
    void *arg;
    /* Asks to be told which manifests' images changed (META_DATA): within the callback,
     * manifest_count of them; all: so many, or a snapshot came, that they are not named. */
    bool data;
    const uint8_t (*manifests)[32];
    size_t manifest_count;
    bool manifests_all;
    struct watch_slot *slot; /* private */
};
void meta_watch_add(struct meta *m, struct meta_watch *watch);
/* Loop of the watch; after it returns the callback does not run and @watch is the caller's again.
 */
void meta_watch_remove(struct meta *m, struct meta_watch *watch);

/* --- reading: any thread, one owner a view
 * --------------------------------------------------------- */

/* A consistent read of the store; keep it short (never across an event). */
struct meta_view;
int meta_view_open(struct meta *m, struct meta_view **out);
void meta_view_close(struct meta_view *v); /* NULL is fine */
uint64_t meta_view_index(struct meta_view *v);
/* Number of the state of the directory (tasks apart) and settings when the view was opened: what
 * was read of them through one view is what another one with the same number may answer, as a view
 * that is opened behind the barrier of a change to them has another number than those before. Never
 * 0. */
uint64_t meta_view_directory(struct meta_view *v);

/* What the command with this id came to, while it is in the result window: *code_out (0 or a TSR_
 * code) and its result. TSR_ENOENT: not applied here (yet), or long ago. */
int meta_outcome(struct meta_view *v, const uint8_t id[COMMAND_ID_SIZE], int *code_out,
                 json_t **out);

/* Objects returned are new references: the caller decrefs. TSR_ENOENT, TSR_ECORRUPT, TSR_EIO. */

/* Image record (all keys always present; null where unset):
 *   id name status visibility protected os_hidden owner disk_format container_format min_disk
 * min_ram tags[] props{} size virtual_size checksum os_hash_algo os_hash_value created_at
 * updated_at (int, us) version (int, grows with each change) manifest (hex or null) placement[host
 * ids] replicas{"<host id>": "present"|"missing"} session (null or {id, host, started_index, kind};
 * an import's also {task, epoch, method}, and its id is null between two runners); staged
 * {checksum, os_hash_algo, os_hash_value, at} while `uploading` with sealed data, and during its
 * import
 */
int meta_image_get(struct meta_view *v, const char *id, json_t **out);
/* The same record as the text that is stored (see json_member_next); it lives as long as the view.
 */
struct meta_text {
    const char *text;
    size_t size;
};
int meta_image_text(struct meta_view *v, const char *id, struct meta_text *out);
/* Was there ever an image of that id that was deleted? */
bool meta_image_deleted(struct meta_view *v, const char *id);
/* Images whose data is @manifest (one page is enough to decide whether a replica is still wanted).
 */
int meta_manifest_images(struct meta_view *v, const char *manifest_hex, json_t **array_out);

enum meta_sort {
    SORT_CREATED_AT,
    SORT_UPDATED_AT,
    SORT_NAME,
    SORT_STATUS,
    SORT_CONTAINER_FORMAT,
    SORT_DISK_FORMAT,
    SORT_SIZE,
    SORT_ID,
    SORT_COUNT
};
enum meta_compare { CMP_EQ, CMP_NEQ, CMP_GT, CMP_GTE, CMP_LT, CMP_LTE, CMP_IN };
/* One AND-ed condition on a record's field or property. */
struct meta_filter {
    const char *field; /* "name", "status", "tag", "created_at", "size", "prop:<name>", ... */
    enum meta_compare compare;
    const char *const *values; /* text; several for CMP_IN (or "tag": one filter a tag) */
    size_t value_count;
    int64_t number; /* for sizes, min_*, and times (us; compared in whole seconds) */
    bool numeric;
};
struct meta_image_query {
    /* who asks: decides what is seen (image-api sections 3.4, 4.2) */
    const char *project; /* NULL: none (sees public) */
    bool admin;
    const char
        *visibility; /* NULL, "public", "private", "shared", "community", "all", "" = nothing */
    const char *public_domain; /* public images are seen in their owner's domain, and this is the
                                  caller's; NULL: everywhere */
    const char *member_status; /* NULL = "accepted"; "pending", "rejected", "all" */
    bool hidden;               /* os_hidden=true: only hidden ones */
    const struct meta_filter *filters;
    size_t filter_count;
    struct {
        enum meta_sort key;
        bool descending;
    } sort[SORT_COUNT];
    size_t sort_count;  /* 0 = created_at desc, id desc */
    const char *marker; /* id; NULL = from the start */
    size_t limit;
};
/* A page, in order; *more_out tells whether anything follows. Costs in proportion to the page for a
 * single sort key and for filters on owner, visibility, status, name; other filters scan.
 * TSR_EINVAL: unknown or invisible marker. */
int meta_image_list(struct meta_view *v, const struct meta_image_query *query, json_t **array_out,
                    bool *more_out);
/* All images of that status, hidden ones too, added to the array @out. On failure some may be
 * lacking. */
int meta_images_by_status(struct meta_view *v, const char *status, json_t *out);
/* The same in steps, for questions that no index answers, and without parsing what need not be.
 * @query and @v stay the caller's, unchanged, until the close. */
struct meta_list;
int meta_list_open(struct meta_view *v, const struct meta_image_query *query,
                   struct meta_list **out);
/* Look at @candidates more images. 0: the page is complete; TSR_EAGAIN: it is not yet. */
int meta_list_step(struct meta_list *list, size_t candidates);
/* The complete page; lives until the close, its texts as long as the view. */
const struct meta_text *meta_list_page(const struct meta_list *list, size_t *count_out,
                                       bool *more_out);
void meta_list_close(struct meta_list *list);
/* Walk all images in order of id: *after "" at first, set to the last id; at most @max. For
 * planners, the replicator and checkers. */
int meta_image_walk(struct meta_view *v, char after[64], size_t max, json_t **array_out);
/* The same over texts, some twenty times as fast: @cb for each; false ends the walk behind that
 * one. *count_out: how many were looked at. */
int meta_image_scan(struct meta_view *v, char after[64], size_t max,
                    bool (*cb)(void *arg, const struct meta_text *record), void *arg,
                    size_t *count_out);

/* Member records {member_id, image_id, status, created_at, updated_at}. */
int meta_member_get(struct meta_view *v, const char *image_id, const char *project, json_t **out);
int meta_member_list(struct meta_view *v, const char *image_id, json_t **array_out);

/* Hosts {id, incarnation, raft_id, name, zone, state (up|suspect|down|left), roles[], raft_role,
 * api_url, peer_address, raft_address, version, joined_at, state_since}. */
int meta_host_get(struct meta_view *v, uint64_t id, json_t **out);
int meta_host_list(struct meta_view *v, json_t **array_out);

/* {host, epoch, address, reason, granted_at}; TSR_ENOENT before the first grant. */
int meta_endpoint_get(struct meta_view *v, json_t **out);

/* Cluster record {cluster_id, name, chunk_bytes, created_at, command_version}; TSR_ENOENT before
 * init. */
int meta_cluster_get(struct meta_view *v, json_t **out);
/* Cluster-scope setting as text; TSR_ENOENT if never set. */
int meta_setting_get(struct meta_view *v, const char *name, json_t **out);

/* Is the project in that domain, as far as the directory knows it? */
bool meta_project_in(struct meta_view *v, const char *project, const char *domain);

/* The directory: records of identity and cluster by kind and id, unique by (kind, domain, name)
 * where they carry "name". Kinds: domain project user role assignment appcred token_key revocation
 * secret join_token metadef metadef_type; task (by its id), image_task ("<image id>/<task id>"). */
int meta_dir_get(struct meta_view *v, const char *kind, const char *id, json_t **out);
/* By name within a domain ("" where the kind has none; for "appcred" the user's id). */
int meta_dir_find(struct meta_view *v, const char *kind, const char *domain, const char *name,
                  json_t **out);
/* All of a kind in order of id whose id starts with @prefix ("" = all); after/limit as in walk. */
int meta_dir_list(struct meta_view *v, const char *kind, const char *prefix, const char *after,
                  size_t limit, json_t **array_out);

/* --- commands (constructors are not needed: JSON as listed; docs/metadata.md)
 * ------------------------- cluster.init   {cluster_id, name, chunk_bytes} once; TSR_EEXIST
 * host.add       {name, zone, roles, api_url, peer_address, raft_address, version}
 *                -> {id, incarnation, raft_id}; a host of that name that left or is re-joining with
 *                "rejoin": id gets a new incarnation; TSR_EEXIST name in use
 * host.update    {id, set{}}        host.state {id, state}     host.remove {id}
 * endpoint.grant {host, epoch (must be current + 1), address, reason, term (optional: only as
 * an entry of that term)}   TSR_ECONFLICT on another
 * epoch setting.put    {name, value} dir.put        {kind, id, value, if: "absent"|"present"|"any"}
 * TSR_EEXIST name or id; TSR_ENOENT dir.delete     {kind, id}      cascades: user -> its
 * assignments, appcreds; project -> assignments batch          {commands: [...]}  all or nothing;
 * result {results: [...]}; first refusal is its code image.create   {image{...}}       -> {image};
 * TSR_EEXIST id in use or once used; TSR_ETOOBIG image.update   {id, version, set{}, props_set{},
 * props_unset[]} -> {image}; TSR_EVERSION, TSR_ENOENT image.tag      {id, tag, add: bool, quota} ->
 * {}; TSR_ENOENT, TSR_ETOOBIG image.delete   {id}               -> {image}; TSR_EFORBIDDEN
 * protected; TSR_ENOENT image.saving   {id, session, host, kind: "upload", length?, repeats?} ->
 * {image}; TSR_ECONFLICT "Image status transition from X to saving is not allowed"; formats unset:
 * TSR_EINVAL image.activate {id, session, manifest, size, virtual_size, checksum, os_hash_algo,
 * os_hash_value, replicas[ids], placement[ids], write_replicas} -> {image}; TSR_EGONE image
 * deleted; TSR_ECONFLICT session lost; TSR_EUNAVAILABLE fewer replicas than min(write_replicas,
 *                image hosts recorded up)
 * image.abort    {id, session, cut?}-> back to queued, size, hashes, session null; idempotent
 * image.status   {id, to: "deactivated"|"active"}  TSR_EFORBIDDEN wrong state; no-op when there
 * image.place    {id, version, placement[]}
 * image.replica  {manifest, host, state: "present"|"missing"}  for all images of that manifest
 * member.add     {id, member, quota} -> {member}; TSR_EEXIST, TSR_ETOOBIG, TSR_EFORBIDDEN not
 * shared member.status  {id, member, status} -> {member}; TSR_ENOENT member.remove  {id, member}
 * Optional in dir.put and dir.delete: "version" of the entry that the command was made from;
 * TSR_EVERSION when it has another one. Optional in any: "fp" (text): fingerprint of the client's
 * request; the same command id with another fp is TSR_EUNPROCESSABLE. */

#endif
