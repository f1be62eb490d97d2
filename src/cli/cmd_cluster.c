/* tessera cluster init | token create | join TOKEN. init and join act on this machine's host, over
 * its local socket, and return when the host has come up as part of the cluster. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { READY_WAIT_MS = 60000, POLL_MS = 100 };

static void pause_ms(unsigned ms)
{
    (void)usleep(ms * 1000);
}

/* The host starts anew after forming: wait until it says that it is ready. */
static int wait_ready(struct cli *cli)
{
    for (unsigned waited = 0; waited < READY_WAIT_MS; waited += POLL_MS) {
        json_t *status = NULL;
        int http = cli_try(cli, "GET", "/v1/status", NULL, &status);
        bool ready = http == 200 && json_bool(status, "ready", false) &&
                     json_str(status, "cluster_id") != NULL &&
                     json_array_size(json_arr(status, "hosts")) > 0;
        json_decref(status);
        if (ready) {
            return CLI_OK;
        }
        pause_ms(POLL_MS);
    }
    (void)fprintf(stderr, "tessera: the host did not become ready within %d s; see its log\n",
                  READY_WAIT_MS / 1000);
    return CLI_UNAVAILABLE;
}

static int form(struct cli *cli, const char *path, json_t *body)
{
    json_t *answer = NULL;
    int rv = cli_connect(cli);
    if (rv == CLI_OK && cli->socket == NULL) {
        (void)fprintf(stderr,
                      "tessera: this works on the host itself; name its socket with --socket\n");
        rv = CLI_USAGE;
    }
    if (rv == CLI_OK && (rv = cli_call(cli, "POST", path, body, &answer)) == CLI_OK) {
        rv = wait_ready(cli);
        if (cli->json) {
            print_json(answer);
        } else {
            (void)printf("%s is part of cluster %s\n", json_str_or(answer, "host", "this host"),
                         json_str_or(answer, "cluster_id", "?"));
            if (json_str(answer, "admin_password") != NULL) {
                (void)printf("password of user admin: %s\n", json_str(answer, "admin_password"));
            }
        }
    }
    json_decref(answer);
    json_decref(body);
    return rv;
}

/* First line of a file. */
static char *read_line(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[512];
    char *ok = f != NULL ? fgets(line, sizeof(line), f) : NULL;
    if (f != NULL) {
        (void)fclose(f);
    }
    if (ok == NULL) {
        return NULL;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return strdup(line);
}

int cmd_cluster_init(struct cli *cli)
{
    const char *name = cli_option(cli, "--name");
    const char *file = cli_option(cli, "--admin-password-file");
    if (cli->argc != 0) {
        return CLI_USAGE;
    }
    json_t *body = json_object();
    if (name != NULL) {
        (void)json_set_str(body, "name", name);
    }
    if (file != NULL) {
        char *password = read_line(file);
        if (password == NULL) {
            (void)fprintf(stderr, "tessera: %s can not be read\n", file);
            json_decref(body);
            return CLI_FAILED;
        }
        (void)json_set_str(body, "admin_password", password);
        free(password);
    }
    return form(cli, "/v1/init", body);
}

int cmd_cluster_join(struct cli *cli)
{
    if (cli->argc != 1) {
        return CLI_USAGE;
    }
    return form(cli, "/v1/join-cluster", json_pack("{s:s}", "token", cli->argv[0]));
}

int cmd_cluster_token(struct cli *cli)
{
    json_t *answer = NULL;
    const char *role = cli_option(cli, "--role");
    if (cli->argc != 0) {
        return CLI_USAGE;
    }
    json_t *body = role != NULL ? json_pack("{s:s}", "role", role) : NULL;
    int rv = cli_connect(cli);
    if (rv == CLI_OK && (rv = cli_call(cli, "POST", "/v1/join-tokens", body, &answer)) == CLI_OK) {
        if (cli->json) {
            print_json(answer);
        } else {
            (void)printf("%s\n", json_str_or(answer, "token", ""));
        }
        json_decref(answer);
    }
    json_decref(body);
    return rv;
}
