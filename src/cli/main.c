/* tessera: the operator's and user's command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"

const struct cli_command cli_commands[] = {
    {"status", "", "health of the cluster, hosts, leader, admin endpoint", cmd_status},
    {"host list", "", "hosts and how they are", cmd_host_list},
    {"host role", "HOST image|witness", "what a host is for", cmd_host_role},
    {"host remove", "HOST [--force]", "forget a host that is gone for good", cmd_host_remove},
    {"image list", "", "images that you may see", cmd_image_list},
    {"image show", "ID", "one image, and which hosts hold it", cmd_image_show},
    {"image upload", "FILE [--name NAME] [--disk-format F] [--container-format F]",
     "make an image from a file", cmd_image_upload},
    {"image download", "ID [--file FILE]", "write an image's data to a file or standard output",
     cmd_image_download},
    {"image inspect", "ID | FILE [--disk-format F] | --all",
     "format, virtual size and safety of stored images or of a file", cmd_image_inspect},
    {"cluster init", "[--name NAME] [--admin-password-file FILE]",
     "make a new cluster with this host", cmd_cluster_init},
    {"cluster token create", "[--role image|witness]",
     "a one-time token with which another host joins", cmd_cluster_token},
    {"cluster join", "TOKEN", "bring this host into a cluster", cmd_cluster_join},
    {"admin-endpoint show", "", "which host is the admin endpoint", cmd_endpoint_show},
    {"admin-endpoint move", "[HOST]", "move the admin endpoint", cmd_endpoint_move},
    {"quota show", "[PROJECT]", "limits of projects and what they use", cmd_quota_show},
    {"quota set", "PROJECT|--default NAME=VALUE...",
     "set limits; -1: none, empty: as the default says", cmd_quota_set},
    {"openrc", "[--project P] [--user U] [--interface I]",
     "OS_* variables for the clients of a cloud (I: public, internal, admin)", cmd_openrc},
    {"keystone register", "[--region R] [--public-url URL] [--internal-url URL] [--admin-url URL]",
     "make the image service known in an external Keystone", cmd_keystone_register},
    {"leader transfer", "[HOST]", "hand leadership to another host", cmd_leader_transfer},
    {0},
};

static void usage(FILE *out)
{
    (void)fputs("usage: tessera [--socket PATH | --url URL] [-o json] COMMAND\n\n", out);
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        char left[96];
        (void)snprintf(left, sizeof(left), "%s %s", c->name, c->args);
        (void)fprintf(out, strlen(left) > 34 ? "  %s\n  %-36s" : "  %-34s  ", left, "");
        (void)fprintf(out, "%s\n", c->help);
    }
    (void)fputs(
        "\n"
        "Without --socket or --url, OS_AUTH_URL and the other OS_* variables of an RC file say\n"
        "where to log in; without those, the local socket /var/lib/tessera/admin.sock is used.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 service not available.\n",
        out);
}

int cli_usage(const struct cli_command *command)
{
    (void)fprintf(stderr, "usage: tessera %s %s\n", command->name, command->args);
    return CLI_USAGE;
}

/* Words of @name at the front of the arguments? Returns how many, 0 = no. */
static int match(const char *name, int argc, char **argv)
{
    int words = 0;
    const char *p = name;
    while (*p != '\0') {
        size_t len = strcspn(p, " ");
        if (words == argc || strlen(argv[words]) != len || memcmp(argv[words], p, len) != 0) {
            return 0;
        }
        words++;
        p += len;
        p += *p == ' ';
    }
    return words;
}

static int run(struct cli *cli)
{
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        int words = match(c->name, cli->argc, cli->argv);
        if (words == 0) {
            continue;
        }
        cli->argc -= words;
        cli->argv += words;
        int rv = c->run(cli);
        return rv == CLI_USAGE ? cli_usage(c) : rv;
    }
    usage(stderr);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    struct cli cli = {.argc = argc - 1, .argv = argv + 1};
    if (cli_flag(&cli, "--version")) {
        (void)printf("tessera %s\n", TSR_VERSION);
        return CLI_OK;
    }
    if (cli_flag(&cli, "--help") || cli_flag(&cli, "-h")) {
        usage(stdout);
        return CLI_OK;
    }
    const char *format = cli_option(&cli, "-o");
    cli.socket = cli_option(&cli, "--socket");
    cli.url = cli_option(&cli, "--url");
    cli.ca_file = cli_option(&cli, "--ca-file");
    cli.quiet = cli_flag(&cli, "--quiet");
    if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, "table") != 0) {
        (void)fprintf(stderr, "tessera: -o takes json or table\n");
        return CLI_USAGE;
    }
    cli.json = format != NULL && strcmp(format, "json") == 0;
    int rv = run(&cli);
    free(cli.token);
    return rv;
}
