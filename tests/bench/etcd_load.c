/* Load for etcd, of the same make as bench_load's: N connections over TLS, each with one put under
 * way, over members in turn. etcd speaks gRPC: HTTP/2 with a length and a protocol buffer in the
 * body, and the outcome in a trailer; libcurl does the HTTP/2. Loopback only; one thread; JSON on
 * standard output with the names of bench_load's. */
#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { CONNECTIONS_MAX = 1024, ADDRESSES_MAX = 8, SAMPLES_MAX = 4 << 20, VALUE_MAX = 65536 };

struct lane {
    CURL *easy;
    char url[128];
    unsigned char body[VALUE_MAX + 128];
    double sent;
    int grpc_status; /* -1: not said */
};

static const char usage[] =
    "usage: bench_etcd_load --address IP:PORT... --ca FILE [--connections N] "
    "[--seconds S] [--size BYTES] [--seed N]\n";

static const char *addresses[ADDRESSES_MAX], *ca;
static unsigned address_count, connections = 1;
static long seconds = 5, value_size = 1024;
static unsigned long long seed = 1, sent, answered, errors;
static struct lane *lanes;
static float *samples_ms;
static char first_error[256];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- one put ---------------------------------------------------------------------------------- */

static unsigned char *put_varint(unsigned char *at, unsigned long v)
{
    while (v >= 128) {
        *at++ = (unsigned char)(v | 128);
        v >>= 7;
    }
    *at++ = (unsigned char)v;
    return at;
}

/* etcdserverpb.PutRequest: 1 = key, 2 = value; before it a flag byte and the size (gRPC). */
static size_t encode(unsigned char *body)
{
    char key[64];
    int key_size = snprintf(key, sizeof key, "bench-%llu-%llu", seed, sent);
    unsigned char *at = body + 5;
    *at++ = 0x0a;
    at = put_varint(at, (unsigned long)key_size);
    memcpy(at, key, (size_t)key_size);
    at += key_size;
    *at++ = 0x12;
    at = put_varint(at, (unsigned long)value_size);
    memset(at, '0', (size_t)value_size);
    at += value_size;
    size_t size = (size_t)(at - body) - 5;
    body[0] = 0;
    for (int i = 0; i < 4; i++) {
        body[1 + i] = (unsigned char)(size >> (24 - 8 * i));
    }
    return size + 5;
}

static void start(CURLM *multi, struct lane *l)
{
    size_t size = encode(l->body);
    sent++;
    curl_easy_setopt(l->easy, CURLOPT_POSTFIELDS, l->body);
    curl_easy_setopt(l->easy, CURLOPT_POSTFIELDSIZE, (long)size);
    l->grpc_status = -1;
    l->sent = now();
    curl_multi_add_handle(multi, l->easy);
}

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    struct lane *l = arg;
    static const char name[] = "grpc-status:";
    if (size * count > sizeof name && strncasecmp(data, name, sizeof name - 1) == 0) {
        l->grpc_status = atoi(data + sizeof name - 1);
    }
    return size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    (void)data;
    (void)arg;
    return size * count;
}

static void finish(struct lane *l, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && status == 200 && l->grpc_status == 0) {
        if (answered < SAMPLES_MAX) {
            samples_ms[answered++] = (float)((now() - l->sent) * 1e3);
        }
        return;
    }
    if (errors++ == 0) {
        snprintf(first_error, sizeof first_error, "%s (HTTP status %ld, gRPC status %d)",
                 curl_easy_strerror(code), status, l->grpc_status);
    }
}

/* --- the run ---------------------------------------------------------------------------------- */

static void prepare(struct lane *l, unsigned number, struct curl_slist *headers)
{
    snprintf(l->url, sizeof l->url, "https://%s/etcdserverpb.KV/Put",
             addresses[number % address_count]);
    l->easy = curl_easy_init();
    curl_easy_setopt(l->easy, CURLOPT_URL, l->url);
    curl_easy_setopt(l->easy, CURLOPT_CAINFO, ca);
    curl_easy_setopt(l->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(l->easy, CURLOPT_PIPEWAIT, 0L);
    curl_easy_setopt(l->easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(l->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(l->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(l->easy, CURLOPT_HEADERDATA, l);
    curl_easy_setopt(l->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(l->easy, CURLOPT_PRIVATE, l);
    curl_easy_setopt(l->easy, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(l->easy, CURLOPT_NOSIGNAL, 1L);
}

/* Every lane makes one put first, so that all connections are open before the clock starts. */
static double run(CURLM *multi)
{
    unsigned busy = connections;
    bool warm = false;
    double begun = now(), end = begun + 60;
    for (unsigned i = 0; i < connections; i++) {
        start(multi, &lanes[i]);
    }
    while (busy > 0) {
        int running, left;
        CURLMsg *m;
        curl_multi_perform(multi, &running);
        while ((m = curl_multi_info_read(multi, &left)) != NULL) {
            struct lane *l;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&l);
            CURLcode code = m->data.result;
            curl_multi_remove_handle(multi, l->easy);
            finish(l, code);
            if (warm && now() < end && errors < 100) {
                start(multi, l);
            } else {
                busy--;
            }
        }
        if (!warm && busy == 0) {
            warm = true;
            busy = connections;
            answered = 0;
            begun = now();
            end = begun + (double)seconds;
            for (unsigned i = 0; i < connections; i++) {
                start(multi, &lanes[i]);
            }
        } else {
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
        }
    }
    return now() - begun;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double share(double part)
{
    return answered == 0 ? 0 : (double)samples_ms[(size_t)(part * (double)(answered - 1) + 0.5)];
}

static void refuse(const char *why)
{
    fprintf(stderr, "bench_etcd_load: %s\n%s", why, usage);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--address") == 0 && address_count < ADDRESSES_MAX) {
            if (strncmp(value, "127.", 4) != 0) {
                refuse("only loopback addresses are loaded");
            }
            addresses[address_count++] = value;
        } else if (strcmp(name, "--ca") == 0) {
            ca = value;
        } else if (strcmp(name, "--connections") == 0) {
            connections = (unsigned)atoi(value);
        } else if (strcmp(name, "--seconds") == 0) {
            seconds = atol(value);
        } else if (strcmp(name, "--size") == 0) {
            value_size = atol(value);
        } else if (strcmp(name, "--seed") == 0) {
            seed = strtoull(value, NULL, 10);
        } else {
            refuse(name);
        }
    }
    if (argc % 2 == 0 || address_count == 0 || ca == NULL || connections < 1 ||
        connections > CONNECTIONS_MAX || seconds < 1 || seconds > 3600 || value_size < 1 ||
        value_size > VALUE_MAX) {
        refuse("--address and --ca are needed, numbers in their bounds");
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    lanes = calloc(connections, sizeof *lanes);
    samples_ms = malloc(SAMPLES_MAX * sizeof *samples_ms);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/grpc");
    headers = curl_slist_append(headers, "TE: trailers");
    if (multi == NULL || lanes == NULL || samples_ms == NULL || headers == NULL) {
        refuse("out of memory");
    }
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)connections);
    for (unsigned i = 0; i < connections; i++) {
        prepare(&lanes[i], i, headers);
    }
    double took = run(multi);
    if (errors > 0) {
        fprintf(stderr, "bench_etcd_load: %llu errors, the first: %s\n", errors, first_error);
    }
    qsort(samples_ms, (size_t)answered, sizeof *samples_ms, compare);
    json_t *out = json_pack("{s:I,s:I,s:i,s:f,s:f,s:f,s:f,s:f}", "requests", (json_int_t)answered,
                            "errors", (json_int_t)errors, "connections", (int)connections,
                            "seconds", took, "per_second", (double)answered / took, "p50_ms",
                            share(0.5), "p99_ms", share(0.99), "max_ms", share(1.0));
    json_dumpf(out, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    return 0;
}
