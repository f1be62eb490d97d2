/* Housekeeping of the leader: a new token key a day, and away with what has ended. One batch a
 * minute at most; what it refuses (something went meanwhile) is found again a minute later. */
#include <stdlib.h>
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/log.h"

static const int64_t second_us = 1000000;
enum { DAY_S = 24 * 3600, GRACE_S = 5 * 60, SWEEP_MAX = 500 };

struct sweep {
    struct meta_submit req;
    struct identity *identity;
};

static void add_put(json_t *commands, const char *kind, const char *id, json_t *value)
{
    (void)json_array_append_new(commands,
                                json_pack("{s:s,s:s,s:s,s:o,s:s}", "op", "dir.put", "kind", kind,
                                          "id", id, "value", value, "if", "absent"));
}

static void add_delete(json_t *commands, const char *kind, const char *id)
{
    (void)json_array_append_new(
        commands, json_pack("{s:s,s:s,s:s}", "op", "dir.delete", "kind", kind, "id", id));
}

/* Creation time of the first key after @created; INT64_MAX if none. */
static int64_t successor(const json_t *keys, int64_t created)
{
    int64_t best = INT64_MAX;
    const json_t *key;
    size_t i;
    json_array_foreach(keys, i, key)
    {
        int64_t at = json_int(key, "created_at", 0);
        best = at > created && at < best ? at : best;
    }
    return best;
}

static void sweep_keys(struct identity *id, struct meta_view *view, struct loop *loop,
                       json_t *commands)
{
    json_t *keys = NULL, *key, *value = NULL;
    int64_t now = loop_wall_us(loop), newest = INT64_MIN;
    int64_t keep = id->token_life_us + id->expired_window_us + GRACE_S * second_us;
    char name[9];
    size_t i;
    if (meta_dir_list(view, "token_key", "", "", SWEEP_MAX, &keys) != 0) {
        return;
    }
    json_array_foreach(keys, i, key)
    {
        int64_t created = json_int(key, "created_at", 0), next = successor(keys, created);
        newest = created > newest ? created : newest;
        if (next != INT64_MAX && next < now - keep) {
            add_delete(commands, "token_key", json_str_or(key, "id", ""));
        }
    }
    json_decref(keys);
    if ((newest == INT64_MIN || newest < now - DAY_S * second_us) &&
        key_record_new(id->cluster_key, loop, now, name, &value) == 0) {
        add_put(commands, "token_key", name, value);
        log_info("identity", "new token key %s", name);
    }
}

static void sweep_expired(struct meta_view *view, const char *kind, int64_t before,
                          json_t *commands)
{
    json_t *list = NULL, *record;
    size_t i;
    if (meta_dir_list(view, kind, "", "", 20 * SWEEP_MAX, &list) != 0) {
        return;
    }
    json_array_foreach(list, i, record)
    {
        if (json_array_size(commands) >= SWEEP_MAX) {
            break;
        }
        if (json_int(record, "expires_at", INT64_MAX) < before) {
            add_delete(commands, kind, json_str_or(record, "id", ""));
        }
    }
    json_decref(list);
}

static void swept(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct sweep *s = req->arg;
    (void)result;
    if (status != 0 && status != TSR_ENOENT && status != TSR_ECANCELED) {
        log_warn("identity", "housekeeping of the directory failed: %s",
                 err != NULL && err->msg[0] != '\0' ? err->msg : err_text(status));
    }
    atomic_store(&s->identity->duties_busy, false);
    free(s);
}

json_t *duties_commands(struct identity *id, struct loop *loop)
{
    struct meta_view *view = NULL;
    json_t *commands = json_array();
    int64_t now = loop_wall_us(loop);
    if (commands == NULL || meta_view_open(id->meta, &view) != 0) {
        return commands;
    }
    sweep_keys(id, view, loop, commands);
    sweep_expired(view, "revocation", now - id->expired_window_us - GRACE_S * second_us, commands);
    sweep_expired(view, "join_token", now, commands);
    meta_view_close(view);
    return commands;
}

void identity_duties(struct identity *id, struct loop *loop)
{
    if (atomic_exchange(&id->duties_busy, true)) {
        return; /* the last batch is still under way */
    }
    struct sweep *s = calloc(1, sizeof(*s));
    json_t *commands = duties_commands(id, loop);
    if (s == NULL || json_array_size(commands) == 0) {
        json_decref(commands);
        free(s);
        atomic_store(&id->duties_busy, false);
        return;
    }
    s->identity = id;
    s->req.loop = loop;
    s->req.command = json_pack("{s:s,s:o}", "op", "batch", "commands", commands);
    s->req.cb = swept;
    s->req.arg = s;
    meta_submit(id->meta, &s->req);
}
