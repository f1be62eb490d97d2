/* tessera admin-endpoint show | move [HOST] */
#include <stdio.h>

#include "cli/cli.h"

static void print_endpoint(struct cli *cli, const json_t *e)
{
    if (cli->json) {
        print_json(e);
        return;
    }
    (void)printf("%s, epoch %lld, %s (%s)\n", json_str_or(e, "host", "?"),
                 (long long)json_int(e, "epoch", 0),
                 json_str_or(e, "url", json_str_or(e, "address", "?")),
                 json_str_or(e, "reason", ""));
}

int cmd_endpoint_show(struct cli *cli)
{
    json_t *e = NULL;
    int rv = cli_connect(cli);
    if (rv == CLI_OK && (rv = cli_call(cli, "GET", "/v1/admin-endpoint", NULL, &e)) == CLI_OK) {
        print_endpoint(cli, e);
        json_decref(e);
    }
    return rv;
}

int cmd_endpoint_move(struct cli *cli)
{
    if (cli->argc > 1) {
        return CLI_USAGE;
    }
    int rv = cli_connect(cli);
    json_t *body = cli->argc == 1 ? json_pack("{s:s}", "host", cli->argv[0]) : json_object();
    if (rv == CLI_OK) {
        rv = cli_call(cli, "POST", "/v1/admin-endpoint", body, NULL);
    }
    json_decref(body);
    return rv == CLI_OK ? cmd_endpoint_show(cli) : rv;
}
