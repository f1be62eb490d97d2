/* tessera quota show [PROJECT] | set PROJECT|--default NAME=VALUE... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

static const struct {
    const char *name, *usage, *unit;
} limits[] = {
    {"image_size_total", "size_bytes", "MiB"},     {"image_stage_total", "stage_bytes", "MiB"},
    {"image_count_total", "images", "images"},     {"image_count_uploading", "uploading", "images"},
    {"user_storage_quota", "size_bytes", "bytes"},
};

static void print_quota(const json_t *quota)
{
    static const char *const titles[] = {"PROJECT", "LIMIT", "VALUE", "UNIT", "SET", "USED"};
    struct table *t = table_new(titles, array_len(titles));
    for (size_t i = 0; i < array_len(limits); i++) {
        char value[32], used[32];
        int64_t limit = json_int(json_obj(quota, "limits"), limits[i].name, -1);
        int64_t have = json_int(json_obj(quota, "usage"), limits[i].usage, -1);
        bool own = json_object_get(json_obj(quota, "own"), limits[i].name) != NULL;
        (void)snprintf(value, sizeof(value), "%lld", (long long)limit);
        if (strcmp(limits[i].unit, "images") == 0) {
            (void)snprintf(used, sizeof(used), "%lld", (long long)have);
        } else {
            format_bytes(have, used);
        }
        const char *cells[] = {json_str(quota, "project_id"), limits[i].name,
                               limit < 0 ? "none" : value,    limits[i].unit,
                               own ? "here" : "by default",   have < 0 ? "" : used};
        table_row(t, cells);
    }
    table_print(t);
}

/* The caller frees. */
static char *path_of(const char *project)
{
    char *name = cli_encode(project), *path = NULL;
    tsr_assert(asprintf(&path, "/v1/quotas/%s", name) >= 0);
    free(name);
    return path;
}

static int show_one(struct cli *cli, const char *project)
{
    json_t *answer = NULL;
    char *path = path_of(project);
    int rv = cli_call(cli, "GET", path, NULL, &answer);
    free(path);
    if (rv == CLI_OK && cli->json) {
        print_json(json_obj(answer, "quota"));
    } else if (rv == CLI_OK) {
        print_quota(json_obj(answer, "quota"));
    }
    json_decref(answer);
    return rv;
}

int cmd_quota_show(struct cli *cli)
{
    json_t *answer = NULL, *quota;
    size_t i;
    if (cli->argc > 1) {
        return CLI_USAGE;
    }
    int rv = cli_connect(cli);
    if (rv != CLI_OK || cli->argc == 1) {
        return rv != CLI_OK ? rv : show_one(cli, cli->argv[0]);
    }
    rv = cli_call(cli, "GET", "/v1/quotas", NULL, &answer);
    if (rv == CLI_OK && cli->json) {
        print_json(json_arr(answer, "quotas"));
    } else if (rv == CLI_OK) {
        json_array_foreach(json_arr(answer, "quotas"), i, quota)
        {
            print_quota(quota);
        }
    }
    json_decref(answer);
    return rv;
}

/* "NAME=VALUE" into @out; nothing after "=": null. */
static bool take_limit(const char *word, json_t *out)
{
    const char *eq = strchr(word, '=');
    int64_t value = 0;
    if (eq == NULL || eq == word) {
        return false;
    }
    if (eq[1] != 0 && str_to_i64(eq + 1, -1, INT64_MAX, &value) != 0) {
        (void)fprintf(stderr, "tessera: %s is not a whole number\n", eq + 1);
        return false;
    }
    char name[64];
    (void)snprintf(name, sizeof(name), "%.*s", (int)(eq - word), word);
    return json_object_set_new(out, name, eq[1] != 0 ? json_integer(value) : json_null()) == 0;
}

int cmd_quota_set(struct cli *cli)
{
    bool all = cli_flag(cli, "--default");
    int first = all ? 0 : 1;
    if (cli->argc <= first) {
        return CLI_USAGE;
    }
    json_t *given = json_object(), *body = json_pack("{s:o}", "limits", given);
    for (int i = first; i < cli->argc; i++) {
        if (!take_limit(cli->argv[i], given)) {
            json_decref(body);
            return CLI_USAGE;
        }
    }
    const char *project = all ? "default" : cli->argv[0];
    char *path = path_of(project);
    int rv = cli_connect(cli);
    if (rv == CLI_OK) {
        rv = cli_call(cli, "PUT", path, body, NULL);
    }
    free(path);
    json_decref(body);
    return rv == CLI_OK ? show_one(cli, project) : rv;
}
