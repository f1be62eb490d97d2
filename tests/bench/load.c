/* A bounded load generator for the API of hosts on this machine; one thread, JSON on standard
 * output. It refuses every address but loopback, and always ends by --limit. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "load.h"
#include "tessera/base/assert.h"
#include "tessera/base/err.h"
#include "tessera/base/json.h"
#include "tessera/base/str.h"
#include "tessera/sys/fs.h"

static const char usage[] =
    "usage: bench_load requests|upload|download --address IP:PORT... --token-file FILE [options]\n"
    "\n"
    "  --address A       a host's API on loopback; given again, connections take turns\n"
    "  --ca FILE         TLS, trusting this authority (else plain HTTP)\n"
    "  --token-file FILE tokens, one a line; requests take turns\n"
    "  --seed N          of ids and data (1)          --limit S      give up after S seconds "
    "(600)\n"
    "requests:\n"
    "  --mix K=W,...     kinds show, list, create, validate, put (a project with a description of\n"
    "                    1 KiB) with weights (show=1)\n"
    "  --connections N   1 to 1024 (1)                --requests N   stop after N\n"
    "  --seconds S       stop after S (10, unless --requests)\n"
    "  --ids N           show asks for images 0..N-1 of the seed (1)\n"
    "  --first N         create and put begin with number N of the seed (0)\n"
    "  --query Q         of list (limit=25)\n"
    "upload, download:\n"
    "  --image ID --size BYTES (1GiB)   --chunked     transfer coding instead of a length\n"
    "  --check           compare a download with the seed's bytes   --sha512  hash them\n";

enum { TOKEN_FILE_MAX = 4 << 20, CA_FILE_MAX = 1 << 20 };

static struct load_options options = {
    .connections = 1, .limit_s = 600, .seed = 1, .ids = 1, .size = 1 << 30, .query = "limit=25"};
static struct loop *loop;
static struct timer limit;
static int exit_code = 1;

void load_done(json_t *result)
{
    if (result != NULL) {
        json_dumpf(result, stdout, JSON_REAL_PRECISION(6));
        putchar('\n');
        exit_code = 0;
    }
    fflush(stdout);
    /* Connections are still open: the process ends without tidying the loop. */
    _exit(exit_code);
}

void load_failed(const char *what, int status)
{
    fprintf(stderr, "bench_load: %s: %s\n", what, err_text(status));
    load_done(NULL);
}

static void limit_cb(struct timer *timer)
{
    (void)timer;
    exit_code = 3;
    load_failed("not done within --limit", TSR_ETIMEOUT);
}

/* --- options -------------------------------------------------------------------------------- */

static void refuse(const char *what)
{
    fprintf(stderr, "bench_load: %s\n", what);
    exit(2);
}

static int64_t number(const char *text, int64_t min, int64_t max)
{
    int64_t value;
    if (str_to_i64(text, min, max, &value) != 0) {
        fprintf(stderr, "bench_load: %s is not a number from %lld to %lld\n", text, (long long)min,
                (long long)max);
        exit(2);
    }
    return value;
}

static void read_mix(char *text)
{
    memset(options.weights, 0, sizeof options.weights);
    unsigned sum = 0;
    for (char *save, *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, '=');
        unsigned weight = value != NULL ? (unsigned)number(value + 1, 0, 1000000) : 1;
        size_t size = value != NULL ? (size_t)(value - word) : strlen(word);
        int kind = 0;
        while (kind < LOAD_KINDS && (strlen(load_kind_names[kind]) != size ||
                                     memcmp(load_kind_names[kind], word, size) != 0)) {
            kind++;
        }
        if (kind == LOAD_KINDS) {
            refuse("--mix knows show, list, create, validate and put");
        }
        options.weights[kind] = weight;
        sum += weight;
    }
    if (sum == 0) {
        refuse("--mix names nothing");
    }
}

static char *read_text(const char *path, size_t max)
{
    char *text;
    size_t size;
    int status = fs_read_file(fs_real(), path, max, &text, &size);
    if (status != 0) {
        fprintf(stderr, "bench_load: %s: %s\n", path, err_text(status));
        exit(2);
    }
    return text;
}

static void read_tokens(const char *path)
{
    char *text = read_text(path, TOKEN_FILE_MAX);
    char *save;
    for (char *t = strtok_r(text, "\r\n", &save); t; t = strtok_r(NULL, "\r\n", &save)) {
        if (options.token_count < LOAD_TOKENS_MAX) {
            options.tokens[options.token_count++] = t; /* the text stays */
        }
    }
}

static void use_tls(const char *ca_file)
{
    struct tls_options o = {.role = TLS_CLIENT, .ca_pem = read_text(ca_file, CA_FILE_MAX)};
    struct err err;
    if (tls_new(&o, &options.tls, &err) != 0) {
        refuse(err.msg);
    }
}

static void add_address(const char *text)
{
    if (!client_address_ok(text)) {
        refuse("only loopback addresses (127.x.y.z:port, [::1]:port) are loaded");
    }
    if (options.address_count == LOAD_ADDRESSES_MAX) {
        refuse("too many addresses");
    }
    options.addresses[options.address_count++] = text;
}

static const struct option longs[] = {
    {"address", 1, NULL, 'a'}, {"ca", 1, NULL, 'c'},       {"token-file", 1, NULL, 't'},
    {"seed", 1, NULL, 's'},    {"limit", 1, NULL, 'l'},    {"mix", 1, NULL, 'm'},
    {"seconds", 1, NULL, 'd'}, {"requests", 1, NULL, 'r'}, {"connections", 1, NULL, 'n'},
    {"ids", 1, NULL, 'i'},     {"first", 1, NULL, 'f'},    {"query", 1, NULL, 'q'},
    {"image", 1, NULL, 'I'},   {"size", 1, NULL, 'S'},     {"chunked", 0, NULL, 'C'},
    {"check", 0, NULL, 'k'},   {"sha512", 0, NULL, 'h'},   {"help", 0, NULL, 'H'},
    {NULL, 0, NULL, 0},
};

static void take_option(int name, char *value)
{
    switch (name) {
    case 'a':
        add_address(value);
        break;
    case 'c':
        use_tls(value);
        break;
    case 't':
        read_tokens(value);
        break;
    case 's':
        options.seed = (uint64_t)number(value, 0, INT64_MAX);
        break;
    case 'l':
        options.limit_s = number(value, 1, 86400);
        break;
    case 'm':
        read_mix(value);
        break;
    case 'd':
        options.seconds = number(value, 1, 3600);
        break;
    case 'r':
        options.requests = number(value, 1, LOAD_REQUESTS_MAX);
        break;
    case 'n':
        options.connections = (unsigned)number(value, 1, LOAD_CONNECTIONS_MAX);
        break;
    case 'i':
        options.ids = number(value, 1, INT64_MAX);
        break;
    case 'f':
        options.first = number(value, 0, INT64_MAX / 2);
        break;
    case 'q':
        options.query = value;
        break;
    case 'I':
        options.image = value;
        break;
    case 'S':
        if (str_to_size(value, &options.size) != 0 || options.size < 1) {
            refuse("--size is bytes, or like 64MiB");
        }
        break;
    case 'C':
        options.chunked = true;
        break;
    case 'k':
        options.check = true;
        break;
    case 'h':
        options.sha512 = true;
        break;
    case 'H':
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void read_options(int argc, char **argv)
{
    options.weights[LOAD_SHOW] = 1;
    for (int name; (name = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        take_option(name, optarg);
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        exit(2);
    }
    options.verb = argv[optind];
    if (options.address_count == 0 || options.token_count == 0) {
        refuse("--address and --token-file are needed");
    }
    if (options.requests == 0 && options.seconds == 0) {
        options.seconds = 10;
    }
}

static int start(void)
{
    if (strcmp(options.verb, "requests") == 0) {
        return requests_start(&options, loop);
    }
    if (options.image == NULL || strlen(options.image) > 64) {
        refuse("--image is needed");
    }
    if (strcmp(options.verb, "upload") == 0) {
        return upload_start(&options, loop);
    }
    if (strcmp(options.verb, "download") == 0) {
        return download_start(&options, loop);
    }
    refuse("the verbs are requests, upload and download");
    return TSR_EINVAL;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    if (uv_loop_create("load", &loop) != 0) {
        refuse("no loop");
    }
    timer_init(&limit, loop, limit_cb);
    timer_start(&limit, (uint64_t)options.limit_s * 1000);
    int status = start();
    if (status != 0) {
        load_failed("start", status);
    }
    uv_loop_run(loop);
    return exit_code;
}
