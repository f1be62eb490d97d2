/* tessera image inspect ID|FILE | --all: what is in an image, and whether it is safe. A stored
 * image is looked at by a host that the call goes to; a file here, by the same inspector. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"
#include "tessera/inspect.h"

enum { PIECE = 1 << 16 };

/* One as it is shown. Returns CLI_OK, or CLI_FAILED with findings. */
static int show(struct cli *cli, const char *name, const json_t *found)
{
    bool ok = json_bool(found, "ok", false);
    if (cli->json) {
        print_json(found);
    } else if (ok) {
        char size[32];
        format_bytes(json_int(found, "virtual_size", -1), size);
        (void)printf("%s: ok, format %s, virtual size %s\n", name,
                     json_str_or(found, "format", "?"), size);
    } else {
        (void)printf("%s: %s\n", name, json_str_or(found, "finding", "?"));
    }
    return ok ? CLI_OK : CLI_FAILED;
}

/* --- a file
 * ------------------------------------------------------------------------------------------------
 */

static int read_windows(int fd, uint64_t size, struct inspect *i, struct err *err)
{
    static unsigned char piece[PIECE];
    int rv = 0;
    for (uint64_t at; rv == 0 && (at = inspect_wants(i, size)) < size;) {
        inspect_skip(i, at);
        size_t want = size - at < PIECE ? (size_t)(size - at) : PIECE;
        ssize_t n = pread(fd, piece, want, (off_t)at);
        rv = n > 0 ? inspect_write(i, piece, (size_t)n, err)
                   : err_set(err, TSR_EIO, "the file can not be read");
    }
    return rv;
}

static int inspect_file(struct cli *cli, const char *path, const char *format)
{
    struct err err = {0};
    struct stat st = {0};
    int64_t virtual_size = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct inspect *i = inspect_new(format, "bare");
    int rv = fd >= 0 && i != NULL && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)
                 ? 0
                 : err_set(&err, TSR_EIO, "no such image, and no file that can be read");
    if (rv == 0) {
        rv = read_windows(fd, (uint64_t)st.st_size, i, &err);
    }
    if (rv == 0) {
        rv = inspect_finish(i, (uint64_t)st.st_size, &virtual_size, &err);
    }
    if (rv == 0 || rv == TSR_EMEDIA) {
        json_t *found = json_pack(
            "{s:s, s:I, s:o, s:s, s:b, s:s?}", "file", path, "size", (json_int_t)st.st_size,
            "virtual_size",
            virtual_size >= 0 ? json_integer((json_int_t)virtual_size) : json_null(), "format",
            inspect_found_name(i), "ok", rv == 0, "finding", rv != 0 ? err.msg : NULL);
        rv = show(cli, path, found);
        json_decref(found);
    } else {
        (void)fprintf(stderr, "tessera: %s: %s\n", path, err.msg);
        rv = CLI_FAILED;
    }
    inspect_free(i);
    if (fd >= 0) {
        (void)close(fd);
    }
    return rv;
}

/* --- stored images
 * ----------------------------------------------------------------------------------------- */

static int inspect_stored(struct cli *cli, const char *id)
{
    char path[600];
    json_t *found = NULL;
    (void)snprintf(path, sizeof(path), "/v1/images/%.255s/inspect", id);
    int rv = cli_call(cli, "GET", path, NULL, &found);
    if (rv == CLI_OK) {
        rv = show(cli, id, found);
        json_decref(found);
    }
    return rv;
}

/* Goes on after a finding: the exit code tells that there was one. */
static int inspect_page(struct cli *cli, const json_t *images, unsigned *looked, unsigned *found)
{
    json_t *image;
    size_t n;
    json_array_foreach(images, n, image)
    {
        const char *status = json_str_or(image, "status", "");
        if (strcmp(status, "active") != 0 && strcmp(status, "deactivated") != 0) {
            continue;
        }
        int rv = inspect_stored(cli, json_str_or(image, "id", ""));
        if (rv == CLI_UNAVAILABLE || rv == CLI_REFUSED) {
            return rv;
        }
        ++*looked;
        *found += rv != CLI_OK;
    }
    return CLI_OK;
}

static int inspect_all(struct cli *cli)
{
    static const char *const lists[] = {"/v2/images?visibility=all&limit=1000",
                                        "/v2/images?visibility=all&os_hidden=true&limit=1000"};
    unsigned looked = 0, found = 0;
    int rv = CLI_OK;
    for (size_t n = 0; n < array_len(lists) && rv == CLI_OK; n++) {
        char *path = strdup(lists[n]);
        while (path != NULL && rv == CLI_OK) {
            json_t *page = NULL;
            rv = cli_call(cli, "GET", path, NULL, &page);
            free(path);
            path = NULL;
            if (rv == CLI_OK) {
                rv = inspect_page(cli, json_arr(page, "images"), &looked, &found);
                const char *next = json_str(page, "next");
                path = next != NULL ? strdup(next) : NULL;
                json_decref(page);
            }
        }
        free(path);
    }
    if (rv == CLI_OK && !cli->json) {
        (void)printf("%u images inspected, %u with a finding\n", looked, found);
    }
    return rv != CLI_OK ? rv : found > 0 ? CLI_FAILED : CLI_OK;
}

int cmd_image_inspect(struct cli *cli)
{
    const char *format = cli_option(cli, "--disk-format");
    bool all = cli_flag(cli, "--all");
    if (cli->argc != (all ? 0 : 1)) {
        return CLI_USAGE;
    }
    if (!all && !uuid_valid(cli->argv[0])) {
        return inspect_file(cli, cli->argv[0], format);
    }
    int rv = cli_connect(cli);
    return rv != CLI_OK ? rv : all ? inspect_all(cli) : inspect_stored(cli, cli->argv[0]);
}
