#include <string.h>

#include "cli/cli.h"

static void take(struct cli *cli, int at, int count)
{
    for (int i = at; i + count < cli->argc; i++) {
        cli->argv[i] = cli->argv[i + count];
    }
    cli->argc -= count;
}

const char *cli_option(struct cli *cli, const char *name)
{
    size_t len = strlen(name);
    for (int i = 0; i < cli->argc; i++) {
        char *word = cli->argv[i];
        if (strcmp(word, name) == 0 && i + 1 < cli->argc) {
            const char *value = cli->argv[i + 1];
            take(cli, i, 2);
            return value;
        }
        if (strncmp(word, name, len) == 0 && word[len] == '=') {
            take(cli, i, 1);
            return word + len + 1;
        }
    }
    return NULL;
}

bool cli_flag(struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->argc; i++) {
        if (strcmp(cli->argv[i], name) == 0) {
            take(cli, i, 1);
            return true;
        }
    }
    return false;
}
