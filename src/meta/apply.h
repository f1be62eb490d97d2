/* Inside one transaction of apply: what a command function sees, and helpers for it.
 *
 * A command function checks, then writes through a->w, and returns 0 or apply_refuse(...). It reads
 * neither clock nor chance; a->now is the leader's stamp. Errors of the store or of memory are
 * sticky in a->w.error: the dispatcher looks there first, so command functions may just return. */
#ifndef META_APPLY_H
#define META_APPLY_H

#include "meta/internal.h"
#include "meta/writeset.h"

struct apply {
    struct meta *meta;
    struct writeset w;
    struct digest *digest;
    uint64_t index, term;
    int64_t now;               /* wall_us of the entry */
    unsigned kinds;            /* what changed, enum meta_kind */
    struct manifest_list data; /* META_DATA: whose images changed */
    struct err err;            /* of the refusal */
    json_t *result;            /* object to fill */
    int refused_at;            /* batch: which command, -1 otherwise */
};

typedef int (*apply_fn)(struct apply *a, const json_t *cmd);
/* NULL: not known to this version. */
apply_fn apply_find(const char *op);
/* Whether apply of this version knows @cmd: operation, version, commands inside a batch. */
bool apply_knows(const json_t *cmd);

int apply_refuse(struct apply *a, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Put @value under @key of the result; takes the reference. */
void apply_result(struct apply *a, const char *key, json_t *value);

/* Records by id. A missing one is a refusal (TSR_ENOENT, "No image found with ID ..."). The object
 * returned is a new reference. */
int apply_image(struct apply *a, const char *id, json_t **out);
int apply_host(struct apply *a, uint64_t id, json_t **out);

/* Setters whose failure is sticky in a->w.error. */
void put_str(struct apply *a, json_t *object, const char *key, const char *value);
void put_int(struct apply *a, json_t *object, const char *key, int64_t value);
void put_bool(struct apply *a, json_t *object, const char *key, bool value);
void put_value(struct apply *a, json_t *object, const char *key, json_t *value); /* steals */
void put_copy(struct apply *a, json_t *object, const char *key, const json_t *value);
/* A private copy of a record, to be changed. */
json_t *apply_copy(struct apply *a, const json_t *value);
/* max(now, @old): times of a record never decrease. */
int64_t apply_time(const struct apply *a, int64_t old);

/* Text of 1 (or 0) .. @max characters; NULL fails. */
bool field_text_ok(const char *text, bool empty_ok, size_t max);

/* Store @next over @old (NULL: new; next NULL: deleted) with its indexes. apply_image.c */
int apply_image_store(struct apply *a, const json_t *old, json_t *next);
/* version + 1; updated_at too when @visible to users. */
void apply_image_touch(struct apply *a, json_t *image, bool visible);
/* All members of an image. apply_member.c */
int apply_members(struct apply *a, const char *image_id, json_t **array_out);

/* The life of an image's data. apply_data.c */
bool apply_session_is(const json_t *image, const char *session); /* runs on this image now? */
/* The image whose current session is the command's, in one of these states. TSR_EGONE deleted,
 * TSR_ECONFLICT the session is not the current one. */
int apply_data_find(struct apply *a, const json_t *cmd, const char *const statuses[3],
                    json_t **out);
/* Put the sealed data that @cmd describes into @image and end its session; refused unless enough
 * hosts hold it. */
int apply_data_seal(struct apply *a, const json_t *cmd, json_t *image);
/* Do enough hosts hold the data that @image has already? */
int apply_data_enough(struct apply *a, const json_t *cmd, const json_t *image);
/* Back to `queued`, without data. */
void apply_data_drop(struct apply *a, json_t *image);
/* If @image (a copy, to be stored) is being imported: its task fails with @message. apply_import.c
 */
void apply_import_end(struct apply *a, json_t *image, const char *message);

/* Hosts recorded with role image and state up. apply_cluster.c */
int apply_hosts_up(struct apply *a, int64_t *out);
bool host_has_role(const json_t *host, const char *role);

/* results.c: outcomes of commands by id. */
enum { RESULT_FP_SIZE = 16 };
struct result_record {
    uint64_t index;
    int code;
    bool has_fp;
    uint8_t fp[RESULT_FP_SIZE];
    const char *text; /* borrowed from the store */
    size_t size;
};
enum { RESULT_TEXT_MAX = 64 * 1024 };
int result_get(struct apply *a, const uint8_t id[COMMAND_ID_SIZE], struct result_record *out);
int result_put(struct apply *a, const uint8_t id[COMMAND_ID_SIZE],
               const struct result_record *record);
/* Forget outcomes older than the window, at most a few a command. */
int result_evict(struct apply *a, unsigned commands);
void result_fingerprint(const char *fp, struct result_record *out);
/* Is the outcome kept under @id that of a command with another fingerprint? */
bool result_of_another(struct meta_view *v, const uint8_t id[COMMAND_ID_SIZE],
                       const uint8_t fp[RESULT_FP_SIZE]);

#define APPLY_COMMANDS(X)                 \
    X("cluster.init", cluster_init)       \
    X("host.add", host_add)               \
    X("host.update", host_update)         \
    X("host.state", host_state)           \
    X("host.remove", host_remove)         \
    X("endpoint.grant", endpoint_grant)   \
    X("setting.put", setting_put)         \
    X("dir.put", dir_put)                 \
    X("dir.delete", dir_delete)           \
    X("image.create", image_create)       \
    X("image.update", image_update)       \
    X("image.tag", image_tag)             \
    X("image.delete", image_delete)       \
    X("image.saving", image_saving)       \
    X("image.activate", image_activate)   \
    X("image.abort", image_abort)         \
    X("image.status", image_status)       \
    X("image.place", image_place)         \
    X("image.replica", image_replica)     \
    X("image.reserve", image_reserve)     \
    X("image.stage", image_stage)         \
    X("image.unstage", image_unstage)     \
    X("import.start", import_start)       \
    X("import.assign", import_assign)     \
    X("import.claim", import_claim)       \
    X("import.progress", import_progress) \
    X("import.finish", import_finish)     \
    X("import.fail", import_fail)         \
    X("task.expire", task_expire)         \
    X("member.add", member_add)           \
    X("member.status", member_status)     \
    X("member.remove", member_remove)     \
    X("batch", batch)

#define X(name, fn) int apply_##fn(struct apply *a, const json_t *cmd);
APPLY_COMMANDS(X)
#undef X

#endif
