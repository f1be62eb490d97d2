/* tessera image list | show | upload | download: through the Image API, streaming. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

/* Image calls go to the catalog's image endpoint. */
static int connect_image(struct cli *cli)
{
    int rv = cli_connect(cli);
    if (rv == CLI_OK) {
        (void)str_copy(cli->base, sizeof(cli->base), cli->image_url);
        size_t n = strlen(cli->base);
        while (n > 0 && cli->base[n - 1] == '/') {
            cli->base[--n] = '\0';
        }
    }
    return rv;
}

static int read_all(struct cli *cli, json_t **out)
{
    json_t *all = json_array();
    char *path = strdup("/v2/images?limit=1000");
    int rv = CLI_OK;
    while (path != NULL) {
        json_t *page = NULL;
        rv = cli_call(cli, "GET", path, NULL, &page);
        free(path);
        path = NULL;
        if (rv != CLI_OK) {
            break;
        }
        json_array_extend(all, json_arr(page, "images"));
        const char *next = json_str(page, "next");
        path = next != NULL ? strdup(next) : NULL;
        json_decref(page);
    }
    if (rv != CLI_OK) {
        json_decref(all);
        return rv;
    }
    *out = all;
    return CLI_OK;
}

int cmd_image_list(struct cli *cli)
{
    static const char *const titles[] = {"ID", "NAME", "STATUS", "SIZE", "FORMAT", "VISIBILITY"};
    json_t *all = NULL, *image;
    int rv = connect_image(cli);
    if (rv != CLI_OK || (rv = read_all(cli, &all)) != CLI_OK) {
        return rv;
    }
    if (cli->json) {
        print_json(all);
        json_decref(all);
        return CLI_OK;
    }
    struct table *t = table_new(titles, array_len(titles));
    size_t i;
    json_array_foreach(all, i, image)
    {
        char size[32];
        format_bytes(json_int(image, "size", -1), size);
        const char *cells[] = {json_str(image, "id"),          json_str(image, "name"),
                               json_str(image, "status"),      size,
                               json_str(image, "disk_format"), json_str(image, "visibility")};
        table_row(t, cells);
    }
    table_print(t);
    json_decref(all);
    return CLI_OK;
}

static void print_fields(const json_t *object)
{
    static const char *const titles[] = {"FIELD", "VALUE"};
    struct table *t = table_new(titles, 2);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char *text =
            json_is_string(value) ? strdup(json_string_value(value)) : json_text(value, NULL);
        const char *cells[] = {key, text};
        table_row(t, cells);
        free(text);
    }
    table_print(t);
}

/* How far its import has come: the task that runs, if one does. */
static json_t *running_task(struct cli *cli, const char *id)
{
    char path[600];
    json_t *reply = NULL, *task, *found = NULL;
    size_t i;
    (void)snprintf(path, sizeof(path), "/v2/images/%.255s/tasks", id);
    if (cli_try(cli, "GET", path, NULL, &reply) == 200) {
        json_array_foreach(json_arr(reply, "tasks"), i, task)
        {
            found = strcmp(json_str_or(task, "status", ""), "processing") == 0 ? task : found;
        }
    }
    json_incref(found);
    json_decref(reply);
    return found;
}

int cmd_image_show(struct cli *cli)
{
    char path[600];
    json_t *image = NULL, *replicas = NULL, *task = NULL, *r;
    if (cli->argc != 1) {
        return CLI_USAGE;
    }
    (void)snprintf(path, sizeof(path), "/v2/images/%.255s", cli->argv[0]);
    int rv = connect_image(cli);
    if (rv != CLI_OK || (rv = cli_call(cli, "GET", path, NULL, &image)) != CLI_OK) {
        return rv;
    }
    /* Which hosts hold it is the administrators' business; others see the image only. */
    (void)snprintf(path, sizeof(path), "/v1/images/%.255s/replicas", cli->argv[0]);
    if (cli_try(cli, "GET", path, NULL, &replicas) == 200) {
        json_object_set(image, "replicas", json_arr(replicas, "replicas"));
    }
    if (strcmp(json_str_or(image, "status", ""), "importing") == 0) {
        task = running_task(cli, cli->argv[0]);
    }
    if (cli->json) {
        json_object_set(image, "task", task);
        print_json(image);
    } else {
        json_t *list = json_incref(json_arr(image, "replicas"));
        json_object_del(image, "replicas");
        print_fields(image);
        if (task != NULL) {
            (void)printf("\nimport: %s\n", json_str_or(task, "message", ""));
        }
        size_t i;
        json_array_foreach(list, i, r)
        {
            (void)printf("%sreplica on %s: %s\n", i == 0 ? "\n" : "", json_str_or(r, "host", "?"),
                         json_str_or(r, "state", "?"));
        }
        json_decref(list);
    }
    json_decref(task);
    json_decref(replicas);
    json_decref(image);
    return CLI_OK;
}

/* --- progress
 * --------------------------------------------------------------------------------------------- */

struct transfer {
    int fd;
    bool show;
    time_t shown;
    struct digest *digest;
    bool write_failed;
};

static void progress(void *arg, int64_t sent, int64_t send_total, int64_t received,
                     int64_t receive_total)
{
    struct transfer *t = arg;
    int64_t done = sent > received ? sent : received,
            total = send_total > receive_total ? send_total : receive_total;
    time_t now = time(NULL);
    if (!t->show || now == t->shown || done == 0) {
        return;
    }
    char text[32];
    t->shown = now;
    format_bytes(done, text);
    if (total > 0) {
        (void)fprintf(stderr, "\r%3d %%  %s   ", (int)(done * 100 / total), text);
    } else {
        (void)fprintf(stderr, "\r%s   ", text);
    }
}

static void progress_end(const struct transfer *t)
{
    if (t->show && t->shown != 0) {
        (void)fprintf(stderr, "\r                              \r");
    }
}

static long read_source(void *arg, void *data, size_t size)
{
    struct transfer *t = arg;
    return read(t->fd, data, size);
}

static int write_sink(void *arg, const void *data, size_t size)
{
    struct transfer *t = arg;
    const char *p = data;
    digest_update(t->digest, data, size);
    while (size > 0) {
        ssize_t n = write(t->fd, p, size);
        if (n <= 0) {
            t->write_failed = true;
            return -1;
        }
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* --- upload
 * -----------------------------------------------------------------------------------------------
 */

/* qcow2, iso and the like by their first bytes; raw otherwise. */
static const char *guess_format(const char *path)
{
    unsigned char head[8] = {0};
    char iso[5] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return "raw";
    }
    ssize_t n = pread(fd, head, sizeof(head), 0), m = pread(fd, iso, sizeof(iso), 32769);
    (void)close(fd);
    if (n >= 4 && memcmp(head, "QFI\xfb", 4) == 0) {
        return "qcow2";
    }
    if (n >= 4 && memcmp(head, "KDMV", 4) == 0) {
        return "vmdk";
    }
    if (n == 8 && memcmp(head, "vhdxfile", 8) == 0) {
        return "vhdx";
    }
    return m == 5 && memcmp(iso, "CD001", 5) == 0 ? "iso" : "raw";
}

static int send_file(struct cli *cli, const char *id, struct transfer *t, int64_t size)
{
    char url[1200], header[8300];
    const char *headers[1];
    struct http_client_request req;
    struct http_client_reply reply = {0};
    struct err err = {0};
    cli_request(cli, &req, headers, header, sizeof(header));
    (void)snprintf(url, sizeof(url), "%s/v2/images/%s/file", cli->base, id);
    req.method = "PUT";
    req.url = url;
    req.content_type = "application/octet-stream";
    req.read_body = read_source;
    req.read_size = size;
    req.progress = progress;
    req.arg = t;
    int rv = http_client_call(&req, &reply, &err);
    progress_end(t);
    if (rv != 0) {
        (void)fprintf(stderr, "tessera: upload failed: %s\n",
                      err.msg[0] != '\0' ? err.msg : err_text(rv));
        return CLI_UNAVAILABLE;
    }
    json_t *answer = reply.body.size > 0 ? json_parse(reply.body.data, reply.body.size) : NULL;
    rv = reply.status == 204 ? CLI_OK : cli_fail(reply.status, answer);
    json_decref(answer);
    http_client_reply_free(&reply);
    return rv;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

int cmd_image_upload(struct cli *cli)
{
    const char *name = cli_option(cli, "--name");
    const char *format = cli_option(cli, "--disk-format");
    const char *container = cli_option(cli, "--container-format");
    struct stat st;
    json_t *image = NULL;
    if (cli->argc != 1) {
        return CLI_USAGE;
    }
    const char *path = cli->argv[0];
    struct transfer t = {.fd = open(path, O_RDONLY | O_CLOEXEC),
                         .show = isatty(2) == 1 && !cli->quiet};
    if (t.fd < 0 || fstat(t.fd, &st) != 0) {
        (void)fprintf(stderr, "tessera: %s can not be read\n", path);
        return CLI_FAILED;
    }
    json_t *body = json_pack("{s:s,s:s,s:s}", "name", name != NULL ? name : base_name(path),
                             "disk_format", format != NULL ? format : guess_format(path),
                             "container_format", container != NULL ? container : "bare");
    int rv = body == NULL ? CLI_USAGE : connect_image(cli);
    if (rv == CLI_OK) {
        rv = cli_call(cli, "POST", "/v2/images", body, &image);
    }
    if (rv == CLI_OK) {
        char show[600];
        const char *id = json_str_or(image, "id", "");
        rv = send_file(cli, id, &t, S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1);
        (void)snprintf(show, sizeof(show), "/v2/images/%.255s", id);
        if (rv != CLI_OK) { /* nothing is left behind */
            (void)cli_try(cli, "DELETE", show, NULL, NULL);
        } else {
            json_t *fresh = NULL;
            rv = cli_call(cli, "GET", show, NULL, &fresh);
            if (rv == CLI_OK && cli->json) {
                print_json(fresh);
            } else if (rv == CLI_OK) {
                (void)printf("%s\n", json_str_or(fresh, "id", ""));
            }
            json_decref(fresh);
        }
    }
    json_decref(body);
    json_decref(image);
    (void)close(t.fd);
    return rv;
}

/* --- download: verified against the image's own digest
 * --------------------------------------------------- */

static int fetch(struct cli *cli, const char *id, const char *want, struct transfer *t)
{
    char url[1200], header[8300], hex[129];
    const char *headers[1];
    struct http_client_request req;
    struct http_client_reply reply = {0};
    struct err err = {0};
    uint8_t sum[DIGEST_MAX];
    cli_request(cli, &req, headers, header, sizeof(header));
    (void)snprintf(url, sizeof(url), "%s/v2/images/%.255s/file", cli->base, id);
    req.method = "GET";
    req.url = url;
    req.write_body = write_sink;
    req.progress = progress;
    req.arg = t;
    int rv = http_client_call(&req, &reply, &err);
    progress_end(t);
    if (rv != 0) {
        (void)fprintf(stderr, "tessera: download failed: %s\n",
                      t->write_failed      ? "the file can not be written"
                      : err.msg[0] != '\0' ? err.msg
                                           : err_text(rv));
        return CLI_FAILED;
    }
    if (reply.status == 204) {
        (void)fprintf(stderr, "tessera: the image has no data\n");
        rv = CLI_REFUSED;
    } else if (reply.status != 200) {
        json_t *answer = json_parse(reply.body.data, reply.body.size);
        rv = cli_fail(reply.status, answer);
        json_decref(answer);
    }
    http_client_reply_free(&reply);
    digest_final(t->digest, sum);
    hex_encode(sum, 64, hex);
    if (rv == 0 && want != NULL && strcmp(want, hex) != 0) {
        (void)fprintf(stderr, "tessera: the data received does not have the image's digest\n");
        rv = CLI_FAILED;
    }
    return rv;
}

int cmd_image_download(struct cli *cli)
{
    const char *file = cli_option(cli, "--file");
    char path[600], part[4096];
    json_t *image = NULL;
    if (cli->argc != 1) {
        return CLI_USAGE;
    }
    (void)snprintf(path, sizeof(path), "/v2/images/%.255s", cli->argv[0]);
    int rv = connect_image(cli);
    if (rv != CLI_OK || (rv = cli_call(cli, "GET", path, NULL, &image)) != CLI_OK) {
        return rv;
    }
    (void)snprintf(part, sizeof(part), "%s.part", file != NULL ? file : "");
    struct transfer t = {
        .fd = file == NULL ? 1 : open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666),
        .show = isatty(2) == 1 && !cli->quiet,
        .digest = digest_new(DIGEST_SHA512)};
    if (t.fd < 0 || t.digest == NULL) {
        (void)fprintf(stderr, "tessera: %s can not be written\n", part);
        rv = CLI_FAILED;
    } else {
        rv = fetch(cli, cli->argv[0], json_str(image, "os_hash_value"), &t);
    }
    if (file != NULL && t.fd >= 0) { /* the name appears only when all is there and right */
        (void)close(t.fd);
        if (rv != CLI_OK || rename(part, file) != 0) {
            (void)unlink(part);
            rv = rv != CLI_OK ? rv : CLI_FAILED;
        }
    }
    digest_free(t.digest);
    json_decref(image);
    return rv;
}
