/* The tessera command: one table of subcommands, one file each. Private to cli/. */
#ifndef TESSERA_CLI_CLI_H
#define TESSERA_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/base/err.h"
#include "tessera/base/json.h"
#include "tessera/sys/http_client.h"

/* Exit codes that scripts can use. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_REFUSED = 3, CLI_UNAVAILABLE = 4 };

/* What was said on the command line, and how to reach a host. */
struct cli {
    const char *socket; /* local socket, or NULL: use OS_AUTH_URL */
    const char *url;    /* --url: a host's API */
    const char *ca_file;
    bool json; /* -o json */
    bool quiet;
    char base[512]; /* "https://host:9292", or "http://localhost" over the socket */
    char *token;    /* after login; NULL over the socket */
    char image_url[512];
    int argc; /* words left for the subcommand */
    char **argv;
};

struct cli_command {
    const char *name; /* "host list" */
    const char *args; /* for the usage line */
    const char *help;
    int (*run)(struct cli *cli);
};
extern const struct cli_command cli_commands[];

/* client.c: calls. Both print the reason on failure and return an exit code. */
int cli_connect(struct cli *cli); /* login where a token is needed */
/* JSON in (may be NULL, reference kept), JSON out (may be NULL; new reference). @path begins with
 * '/'. */
int cli_call(struct cli *cli, const char *method, const char *path, const json_t *body,
             json_t **out);
/* Same without a word printed: returns the HTTP status, or a negative code. */
int cli_try(struct cli *cli, const char *method, const char *path, const json_t *body,
            json_t **out);
void cli_request(struct cli *cli, struct http_client_request *req, const char **headers,
                 char *header_memory, size_t header_size);
/* Percent-encoded for a path or query; the caller frees. */
char *cli_encode(const char *text);
int cli_fail(int status, const json_t *answer);

/* options.c: take "--name value" or "--name=value" (or a flag) out of the words. */
const char *cli_option(struct cli *cli, const char *name);
bool cli_flag(struct cli *cli, const char *name);
int cli_usage(const struct cli_command *command);

/* table.c: columns as wide as their content. */
struct table;
struct table *table_new(const char *const *titles, size_t columns);
void table_row(struct table *t, const char *const *cells);
void table_print(struct table *t); /* and frees it */
void print_json(const json_t *value);
void format_bytes(int64_t bytes, char out[32]);

int cmd_status(struct cli *cli);
int cmd_host_list(struct cli *cli);
int cmd_host_remove(struct cli *cli);
int cmd_host_role(struct cli *cli);
int cmd_cluster_init(struct cli *cli);
int cmd_cluster_join(struct cli *cli);
int cmd_cluster_token(struct cli *cli);
int cmd_endpoint_show(struct cli *cli);
int cmd_endpoint_move(struct cli *cli);
int cmd_keystone_register(struct cli *cli);
int cmd_leader_transfer(struct cli *cli);
int cmd_openrc(struct cli *cli);
int cmd_quota_show(struct cli *cli);
int cmd_quota_set(struct cli *cli);
int cmd_image_list(struct cli *cli);
int cmd_image_show(struct cli *cli);
int cmd_image_upload(struct cli *cli);
int cmd_image_download(struct cli *cli);
int cmd_image_inspect(struct cli *cli);

#endif
