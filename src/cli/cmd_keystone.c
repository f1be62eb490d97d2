/* tessera keystone register: the image service and its endpoints in an external Keystone's catalog,
 * made by the cluster: as the user of the RC file with --url, as the cluster's service user over
 * the local socket. */
#include <stdio.h>

#include "cli/cli.h"

static void print_registration(struct cli *cli, const json_t *answer)
{
    static const char *const interfaces[] = {"public", "internal", "admin"};
    const json_t *done = json_arr(answer, "done"), *line;
    size_t i;
    if (cli->json) {
        print_json(answer);
        return;
    }
    json_array_foreach(done, i, line)
    {
        (void)printf("%s\n", json_string_value(line));
    }
    if (json_array_size(done) == 0) {
        (void)printf("everything was there already\n");
    }
    for (i = 0; i < 3; i++) {
        const json_t *endpoint = json_obj(json_obj(answer, "endpoints"), interfaces[i]);
        (void)printf("%-8s  %s\n", interfaces[i], json_str_or(endpoint, "url", "?"));
    }
}

int cmd_keystone_register(struct cli *cli)
{
    static const char *const options[][2] = {{"--region", "region"},
                                             {"--public-url", "public_url"},
                                             {"--internal-url", "internal_url"},
                                             {"--admin-url", "admin_url"}};
    json_t *body = json_object(), *answer = NULL;
    for (size_t i = 0; i < 4; i++) {
        const char *value = cli_option(cli, options[i][0]);
        if (value != NULL) {
            (void)json_set_str(body, options[i][1], value);
        }
    }
    int rv = cli->argc == 0 ? cli_connect(cli) : CLI_USAGE;
    if (rv == CLI_OK) {
        rv = cli_call(cli, "POST", "/v1/keystone/register", body, &answer);
    }
    if (rv == CLI_OK) {
        print_registration(cli, answer);
    }
    json_decref(answer);
    json_decref(body);
    return rv;
}
