/* Commands against the store.
 *
 * Happy path: one write transaction for all entries given; per command: decode, look for a recorded
 * outcome, run its function over a write set, flush that, record the outcome; per entry: one step
 * of the digest; at the end the point, commit, watches. Failure: a refusal drops the write set and
 * is recorded as the outcome. Anything else (store, memory, damage, an operation of a newer
 * version) aborts the whole transaction and is returned: the host stops with the store as it was
 * before the call. */
#include "meta/apply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/index.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"

/* --- the table
 * ------------------------------------------------------------------------------------ */

static const struct {
    const char *op;
    apply_fn fn;
} commands[] = {
#define X(name, fn) {name, apply_##fn},
    APPLY_COMMANDS(X)
#undef X
};

apply_fn apply_find(const char *op)
{
    for (size_t i = 0; op != NULL && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].op, op) == 0) {
            return commands[i].fn;
        }
    }
    return NULL;
}

bool apply_knows(const json_t *cmd)
{
    apply_fn fn = apply_find(json_str(cmd, "op"));
    if (fn == NULL || json_int(cmd, "v", 1) > META_COMMAND_VERSION) {
        return false;
    }
    if (fn != apply_batch) {
        return true;
    }
    size_t i;
    json_t *inner;
    json_array_foreach(json_arr(cmd, "commands"), i, inner)
    {
        apply_fn inner_fn = apply_find(json_str(inner, "op"));
        if (inner_fn == NULL || json_int(inner, "v", 1) > META_COMMAND_VERSION) {
            return false;
        }
    }
    return true;
}

/* --- helpers for command functions
 * ------------------------------------------------------------------ */

int apply_refuse(struct apply *a, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    a->err.code = code;
    if (vsnprintf(a->err.msg, sizeof(a->err.msg), fmt, args) < 0) {
        a->err.msg[0] = 0;
    }
    va_end(args);
    size_t size = strlen(a->err.msg); /* a cut in the middle of a character is not valid text */
    while (size > 0 && !utf8_valid(a->err.msg, size)) {
        a->err.msg[--size] = 0;
    }
    return code;
}

static void oom(struct apply *a)
{
    if (a->w.error == 0) {
        a->w.error = TSR_ENOMEM;
    }
}

void put_value(struct apply *a, json_t *object, const char *key, json_t *value)
{
    if (value == NULL || json_object_set_new(object, key, value) != 0) {
        oom(a);
    }
}

void put_copy(struct apply *a, json_t *object, const char *key, const json_t *value)
{
    put_value(a, object, key, value == NULL ? json_null() : json_deep_copy(value));
}

void put_str(struct apply *a, json_t *object, const char *key, const char *value)
{
    put_value(a, object, key, value == NULL ? json_null() : json_string(value));
}

void put_int(struct apply *a, json_t *object, const char *key, int64_t value)
{
    put_value(a, object, key, json_integer(value));
}

void put_bool(struct apply *a, json_t *object, const char *key, bool value)
{
    put_value(a, object, key, json_boolean(value));
}

void apply_result(struct apply *a, const char *key, json_t *value)
{
    put_value(a, a->result, key, value);
}

json_t *apply_copy(struct apply *a, const json_t *value)
{
    json_t *copy = json_deep_copy(value);
    if (copy == NULL) {
        oom(a);
    }
    return copy;
}

int64_t apply_time(const struct apply *a, int64_t old)
{
    return a->now > old ? a->now : old;
}

bool field_text_ok(const char *text, bool empty_ok, size_t max)
{
    if (text == NULL || (!empty_ok && *text == 0)) {
        return false;
    }
    size_t size = strlen(text);
    return size <= 4 * max && utf8_length(text) <= max;
}

int apply_image(struct apply *a, const char *id, json_t **out)
{
    struct key key;
    if (id == NULL || strlen(id) != META_IMAGE_ID_SIZE) {
        return apply_refuse(a, TSR_ENOENT, "No image found with ID %s", id == NULL ? "" : id);
    }
    key_of_text(&key, id);
    int rc = writeset_get_json(&a->w, DB_IMAGE, &key, out);
    if (rc == TSR_ENOENT) {
        return apply_refuse(a, TSR_ENOENT, "No image found with ID %s", id);
    }
    return rc;
}

int apply_host(struct apply *a, uint64_t id, json_t **out)
{
    struct key key;
    key_of_number(&key, id);
    int rc = writeset_get_json(&a->w, DB_HOST, &key, out);
    if (rc == TSR_ENOENT) {
        return apply_refuse(a, TSR_ENOENT, "No host with id %llu", (unsigned long long)id);
    }
    return rc;
}

/* --- one command
 * -------------------------------------------------------------------------------------- */

int apply_batch(struct apply *a, const json_t *cmd)
{
    const json_t *list = json_arr(cmd, "commands");
    if (list == NULL) {
        return apply_refuse(a, TSR_EINVAL, "A batch needs commands.");
    }
    json_t *results = json_array(), *outer = a->result;
    int rc = results == NULL ? TSR_ENOMEM : 0;
    size_t i;
    json_t *inner;
    json_array_foreach(list, i, inner)
    {
        apply_fn fn = apply_find(json_str(inner, "op"));
        if (rc != 0) {
            break;
        }
        a->result = json_object();
        if (fn == NULL || fn == apply_batch) {
            rc = apply_refuse(a, TSR_EINVAL, "A batch cannot hold a batch.");
        } else {
            rc = a->result == NULL ? TSR_ENOMEM : fn(a, inner);
        }
        if (rc != 0) {
            a->refused_at = (int)i;
            json_decref(a->result);
        } else if (json_array_append_new(results, a->result) != 0) {
            rc = TSR_ENOMEM;
        }
    }
    a->result = outer;
    if (rc == TSR_ENOMEM) {
        oom(a);
    }
    if (rc != 0) {
        json_decref(results);
        return rc;
    }
    apply_result(a, "results", results);
    return 0;
}

/* Tasks are kept in the directory, but change nothing about who may do what. */
static bool is_task(const struct write *w)
{
    struct key task, index;
    key_of_dir(&task, "task", "");
    key_of_dir(&index, "image_task", "");
    return val_starts(w->key, &task) || val_starts(w->key, &index);
}

static unsigned kinds_of(const struct writeset *w)
{
    unsigned kinds = 0;
    for (size_t i = 0; i < w->count; i++) {
        switch (w->items[i].db) {
        case DB_IMAGE:
        case DB_TOMBSTONE:
        case DB_MEMBER:
            kinds |= META_IMAGES;
            break;
        case DB_HOST:
            kinds |= META_HOSTS;
            break;
        case DB_ENDPOINT:
            kinds |= META_ENDPOINT;
            break;
        case DB_DIR:
            kinds |= is_task(&w->items[i]) ? META_TASKS : META_DIRECTORY;
            break;
        case DB_SETTING:
        case DB_CLUSTER:
            kinds |= META_SETTINGS;
            break;
        default:
            break;
        }
    }
    return kinds;
}

/* {"msg": ...} and, in a batch, which command it was. */
static json_t *refusal_json(const struct apply *a)
{
    json_t *o = json_object();
    if (o != NULL && (json_set_str(o, "msg", a->err.msg) != 0 ||
                      (a->refused_at >= 0 && json_set_int(o, "failed", a->refused_at) != 0))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static int set_outcome(struct fsm_command *c, int code, const char *text, size_t size)
{
    c->result = malloc(size + 1);
    if (c->result == NULL) {
        return TSR_ENOMEM;
    }
    memcpy(c->result, text, size);
    c->result[size] = 0;
    c->result_size = size;
    c->code = code;
    return 0;
}

static int outcome_json(struct fsm_command *c, int code, json_t *value)
{
    if (value == NULL) {
        return TSR_ENOMEM;
    }
    c->result = json_text(value, &c->result_size);
    c->code = code;
    return c->result == NULL ? TSR_ENOMEM : 0;
}

/* Not recorded: the command was not run, and is refused the same way again. */
static int outcome_unrecorded(struct apply *a, struct fsm_command *c)
{
    json_t *value = refusal_json(a);
    int rc = outcome_json(c, a->err.code, value);
    json_decref(value);
    return rc;
}

static int run(struct apply *a, struct fsm_command *c, const json_t *cmd)
{
    writeset_reset(&a->w);
    a->err = (struct err){0};
    a->refused_at = -1;
    a->result = json_object();
    if (a->result == NULL) {
        return TSR_ENOMEM;
    }
    int code = apply_find(json_str(cmd, "op"))(a, cmd);
    int rc = a->w.error;
    if (rc == 0 && code != 0 && a->err.code != code) {
        rc = code; /* not said by apply_refuse: no refusal */
    }
    if (rc == 0 && code != 0) {
        writeset_reset(&a->w);
        json_decref(a->result);
        a->result = refusal_json(a);
    }
    if (rc == 0) {
        rc = outcome_json(c, code, a->result);
    }
    if (rc == 0) {
        a->kinds |= kinds_of(&a->w);
        rc = writeset_flush(&a->w, a->digest);
    }
    json_decref(a->result);
    return rc;
}

static int record_outcome(struct apply *a, const struct fsm_command *c, const char *fp)
{
    struct result_record r = {
        .index = a->index, .code = c->code, .text = c->result, .size = c->result_size};
    if (r.size > RESULT_TEXT_MAX) {
        r.text = "{}";
        r.size = 2;
    }
    result_fingerprint(fp, &r);
    return result_put(a, c->id, &r);
}

static int apply_decoded(struct apply *a, struct fsm_command *c, const json_t *cmd)
{
    if (!apply_knows(cmd)) {
        log_error("meta", "entry %llu holds a command of a newer version (op=%s v=%lld)",
                  (unsigned long long)a->index, json_str_or(cmd, "op", "?"),
                  (long long)json_int(cmd, "v", 1));
        return TSR_ENOTSUP;
    }
    const char *fp = json_str(cmd, "fp");
    struct result_record old, own;
    writeset_reset(&a->w);
    int rc = result_get(a, c->id, &old);
#ifdef TSR_BREAK_RESULTS
    rc = TSR_ENOENT;
#endif
    if (rc == 0) {
        result_fingerprint(fp, &own);
        if (own.has_fp != old.has_fp || memcmp(own.fp, old.fp, sizeof(own.fp)) != 0) {
            apply_refuse(a, TSR_EUNPROCESSABLE, "%s", err_text(TSR_EUNPROCESSABLE));
            a->refused_at = -1;
            return outcome_unrecorded(a, c);
        }
        c->duplicate = true;
        return set_outcome(c, old.code, old.text, old.size);
    }
    if (rc != TSR_ENOENT) {
        return rc;
    }
    uint64_t born = (uint64_t)json_int(cmd, "born", 0);
    if (a->index > RESULT_WINDOW && born < a->index - RESULT_WINDOW) {
        apply_refuse(a, TSR_EUNKNOWN, "The request is too old to tell whether it was done before.");
        a->refused_at = -1;
        return outcome_unrecorded(a, c);
    }
    rc = run(a, c, cmd);
    return rc == 0 ? record_outcome(a, c, fp) : rc;
}

static int apply_command(struct apply *a, struct fsm_command *c)
{
    json_t *cmd = json_parse(c->data, c->size);
    if (!json_is_object(cmd)) {
        log_error("meta", "entry %llu holds a command that cannot be read",
                  (unsigned long long)a->index);
        json_decref(cmd);
        return TSR_ECORRUPT;
    }
    int rc = apply_decoded(a, c, cmd);
    json_decref(cmd);
    return rc;
}

/* --- entries
 * ------------------------------------------------------------------------------------------- */

static int apply_entry(struct apply *a, const struct fsm_entry *entry, struct fsm_point *at)
{
    if (entry->index <= at->index) {
        log_error("meta", "entry %llu comes after %llu was applied",
                  (unsigned long long)entry->index, (unsigned long long)at->index);
        return TSR_EINVAL;
    }
    struct key head;
    key_of_number(&head, entry->index);
    digest_reset(a->digest);
    digest_update(a->digest, at->digest, FSM_DIGEST_SIZE);
    digest_update(a->digest, head.data, head.size);
    a->index = entry->index;
    a->term = entry->term;
    a->now = entry->wall_us;
    int rc = 0;
    for (unsigned i = 0; i < entry->count && rc == 0; i++) {
        rc = apply_command(a, &entry->commands[i]);
    }
    if (rc == 0) {
        rc = result_evict(a, entry->count);
    }
    if (rc != 0) {
        return rc;
    }
    digest_final(a->digest, at->digest);
    at->index = entry->index;
    at->term = entry->term;
    return store_ring_write(a->w.kv, a->w.txn, at);
}

static void drop_outcomes(struct fsm_entry *entries, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < entries[i].count; k++) {
            free(entries[i].commands[k].result);
            entries[i].commands[k].result = NULL;
            entries[i].commands[k].result_size = 0;
        }
    }
}

static void clear_outcomes(struct fsm_entry *entries, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < entries[i].count; k++) {
            struct fsm_command *c = &entries[i].commands[k];
            c->code = 0;
            c->result = NULL;
            c->result_size = 0;
            c->duplicate = false;
        }
    }
}

int meta_apply(struct fsm *fsm, struct fsm_entry *entries, unsigned n)
{
    struct meta *m = meta_of(fsm);
    struct kv_txn *txn;
    clear_outcomes(entries, n);
    if (m->broken) {
        return TSR_ECORRUPT;
    }
    int rc = kv_begin(m->kv, true, &txn);
    if (rc != 0) {
        return rc;
    }
    struct apply a = {.meta = m, .digest = m->digest};
    struct store_point point = {.at = m->at};
    writeset_init(&a.w, m->kv, txn);
    for (unsigned i = 0; i < n && rc == 0; i++) {
        rc = apply_entry(&a, &entries[i], &point.at);
    }
    if (rc == 0) {
        rc = store_point_write(m->kv, txn, &point);
    }
    writeset_free(&a.w);
    if (rc == 0) {
        rc = kv_commit(m->kv, txn);
    } else {
        kv_abort(m->kv, txn);
    }
    if (rc != 0) {
        manifest_list_free(&a.data);
        drop_outcomes(entries, n);
        if (rc == TSR_ECORRUPT) {
            atomic_fetch_add(&m->damaged, 1);
        }
        log_error("meta", "entries from %llu cannot be applied: %s",
                  n == 0 ? 0ull : (unsigned long long)entries[0].index, err_text(rc));
        return rc;
    }
    m->at = point.at;
    atomic_store(&m->applied, point.at.index);
    meta_watch_notify(m, a.kinds, &a.data);
    manifest_list_free(&a.data);
    return 0;
}
