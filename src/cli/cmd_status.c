/* tessera status | host list | host role | host remove | leader transfer */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/str.h"

static void print_hosts(const json_t *hosts)
{
    static const char *const titles[] = {"HOST", "ID",   "STATE", "ROLE", "RAFT",
                                         "ZONE", "FREE", "TOTAL", "API"};
    struct table *t = table_new(titles, array_len(titles));
    size_t i;
    json_t *h;
    json_array_foreach(hosts, i, h)
    {
        char id[24], available[32], total[32], raft[32];
        (void)snprintf(id, sizeof(id), "%lld", (long long)json_int(h, "id", 0));
        format_bytes(json_int(h, "available_bytes", -1), available);
        format_bytes(json_int(h, "total_bytes", -1), total);
        (void)snprintf(raft, sizeof(raft), "%s%s", json_str_or(h, "raft_role", "?"),
                       json_bool(h, "leader", false) ? ", leader" : "");
        const char *zone = json_str_or(h, "zone", "");
        const char *role = json_string_value(json_array_get(json_arr(h, "roles"), 0));
        const char *cells[] = {json_str(h, "name"),
                               id,
                               json_str(h, "state"),
                               role,
                               raft,
                               zone[0] != '\0' ? zone : NULL,
                               available,
                               total,
                               json_str(h, "api_url")};
        table_row(t, cells);
    }
    table_print(t);
}

int cmd_status(struct cli *cli)
{
    json_t *s = NULL;
    int rv = cli_connect(cli);
    if (rv != CLI_OK || (rv = cli_call(cli, "GET", "/v1/status", NULL, &s)) != CLI_OK) {
        return rv;
    }
    if (cli->json) {
        print_json(s);
        json_decref(s);
        return CLI_OK;
    }
    json_t *endpoint = json_obj(s, "admin_endpoint"), *w;
    int64_t stale = json_int(s, "stale_seconds", -1);
    (void)printf("Cluster         %s (%s)\n", json_str_or(s, "name", "?"),
                 json_str_or(s, "cluster_id", "?"));
    (void)printf("Health          %s\n", json_str_or(s, "health", "?"));
    (void)printf("Leader          %s, term %lld\n", json_str_or(s, "leader", "none"),
                 (long long)json_int(s, "term", 0));
    (void)printf("Admin endpoint  %s, epoch %lld\n", json_str_or(endpoint, "host", "none"),
                 (long long)json_int(endpoint, "epoch", 0));
    (void)printf("Answered by     %s, applied %lld", json_str_or(s, "answered_by", "?"),
                 (long long)json_int(s, "applied", 0));
    if (!json_bool(s, "ready", false)) {
        (void)printf(stale < 0 ? ", never in touch with a majority" : ", data %lld s old",
                     (long long)stale);
    }
    (void)printf("\n\n");
    print_hosts(json_arr(s, "hosts"));
    size_t i;
    json_array_foreach(json_arr(s, "warnings"), i, w)
    {
        (void)printf("%s%s: %s\n", i == 0 ? "\n" : "", json_str_or(w, "code", "?"),
                     json_str_or(w, "text", ""));
    }
    json_decref(s);
    return CLI_OK;
}

int cmd_host_list(struct cli *cli)
{
    json_t *s = NULL;
    int rv = cli_connect(cli);
    if (rv != CLI_OK || (rv = cli_call(cli, "GET", "/v1/hosts", NULL, &s)) != CLI_OK) {
        return rv;
    }
    if (cli->json) {
        print_json(s);
    } else {
        print_hosts(json_arr(s, "hosts"));
    }
    json_decref(s);
    return CLI_OK;
}

/* "/v1/hosts/NAME" and what follows, or an empty buf. */
static struct buf host_path(const char *name, const char *more)
{
    struct buf path = {0};
    if (buf_append_str(&path, "/v1/hosts/") != 0 || percent_encode(&path, name, false) != 0 ||
        buf_append_str(&path, more) != 0) {
        buf_free(&path);
        return (struct buf){0};
    }
    return path;
}

int cmd_host_remove(struct cli *cli)
{
    bool force = cli_flag(cli, "--force");
    if (cli->argc != 1) {
        return CLI_USAGE;
    }
    int rv = cli_connect(cli);
    if (rv != CLI_OK) {
        return rv;
    }
    struct buf path = host_path(cli->argv[0], force ? "?force=true" : "");
    rv = path.data != NULL ? cli_call(cli, "DELETE", path.data, NULL, NULL) : CLI_FAILED;
    buf_free(&path);
    return rv;
}

int cmd_host_role(struct cli *cli)
{
    if (cli->argc != 2) {
        return CLI_USAGE;
    }
    int rv = cli_connect(cli);
    if (rv != CLI_OK) {
        return rv;
    }
    struct buf path = host_path(cli->argv[0], "");
    json_t *body = json_pack("{s:s}", "role", cli->argv[1]);
    rv = path.data != NULL && body != NULL ? cli_call(cli, "PATCH", path.data, body, NULL)
                                           : CLI_FAILED;
    json_decref(body);
    buf_free(&path);
    return rv;
}

int cmd_leader_transfer(struct cli *cli)
{
    if (cli->argc > 1) {
        return CLI_USAGE;
    }
    int rv = cli_connect(cli);
    if (rv != CLI_OK) {
        return rv;
    }
    json_t *body = cli->argc == 1 ? json_pack("{s:s}", "host", cli->argv[0]) : NULL;
    rv = cli_call(cli, "POST", "/v1/leader/transfer", body, NULL);
    json_decref(body);
    return rv;
}
