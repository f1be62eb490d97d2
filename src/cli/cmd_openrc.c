/* tessera openrc [--project P] [--user U] [--interface I] */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"

/* A value of the query; nothing for NULL. */
static void put(char **path, const char *name, const char *value)
{
    char *longer = NULL, *encoded = value != NULL ? cli_encode(value) : NULL;
    if (encoded == NULL) {
        return;
    }
    tsr_assert(asprintf(&longer, "%s&%s=%s", *path, name, encoded) >= 0);
    free(encoded);
    free(*path);
    *path = longer;
}

int cmd_openrc(struct cli *cli)
{
    const char *project = cli_option(cli, "--project"), *user = cli_option(cli, "--user");
    const char *interface = cli_option(cli, "--interface");
    json_t *answer = NULL;
    char *path = NULL;
    if (cli->argc > 0) {
        return CLI_USAGE;
    }
    tsr_assert(asprintf(&path, "/v1/openrc?format=json") >= 0);
    put(&path, "project", project);
    put(&path, "user", user);
    put(&path, "interface", interface);
    int rv = cli_connect(cli);
    if (rv == CLI_OK) {
        rv = cli_call(cli, "GET", path, NULL, &answer);
    }
    free(path);
    if (rv == CLI_OK && cli->json) {
        print_json(answer);
    } else if (rv == CLI_OK) {
        (void)fputs(json_str_or(answer, "openrc", ""), stdout);
        if (cli->ca_file != NULL) {
            (void)printf("export OS_CACERT='%s'\n", cli->ca_file);
        }
    }
    json_decref(answer);
    return rv;
}
