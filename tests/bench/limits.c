/* What this machine can do at best, to be read beside what Tessera does in the same run: digests of
 * one core, one connection over loopback (sendfile, TLS), writing and syncing files.
 *
 * usage: bench_limits [--dir DIR] [--seconds S]     JSON on standard output
 *
 * Each figure takes about S seconds (1). cpu_s_per_gib of a connection counts both of its ends. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/err.h"
#include "tessera/base/json.h"
#include "tessera/base/str.h"
#include "tessera/sys/cert.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/net.h"

enum { BUFFER_BYTES = 4 << 20, FILE_BYTES = 256 << 20, SYNC_BYTES = 4 << 10 };
enum { SYNCS_MAX = 1 << 20, LOG_BYTES = 64 << 20, CHUNK_FILES = 128 };

static double seconds_each = 1;
static char *buffer; /* BUFFER_BYTES of noise */

static void check(int status, const char *what)
{
    if (status < 0) {
        fprintf(stderr, "bench_limits: %s: %s\n", what, err_text(status));
        exit(1);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static json_t *rate(double bytes, double seconds, double cpu_seconds)
{
    double gib = bytes / (double)(1 << 30);
    return json_pack("{s:f,s:f,s:f}", "mib_per_second", bytes / 1048576.0 / seconds, "seconds",
                     seconds, "cpu_s_per_gib", cpu_seconds / gib);
}

/* --- digests -------------------------------------------------------------------------------- */

static json_t *digest_rate(enum digest_kind kind)
{
    struct digest *d = digest_new(kind);
    uint8_t out[DIGEST_MAX];
    double start = now(), start_cpu = cpu(), bytes = 0;
    check(d != NULL ? 0 : TSR_ENOMEM, "digest");
    while (now() - start < seconds_each) {
        digest_update(d, buffer, BUFFER_BYTES);
        bytes += BUFFER_BYTES;
    }
    digest_final(d, out);
    digest_free(d);
    return rate(bytes, now() - start, cpu() - start_cpu);
}

/* --- one connection over loopback ----------------------------------------------------------- */

/* The sender has a thread (loop) of its own, as a client and a host would. It sends until the clock
 * says stop, then shuts down; the receiver counts to the end. */
struct flow {
    struct loop *sender, *receiver;
    struct listener *listener;
    struct conn *in, *out;
    struct conn_write writes[2];
    int fd; /* -1: from memory */
    double start, start_cpu, end, end_cpu, bytes;
    bool ending;
    struct task closer;
};

static void flow_closed(struct conn *c, void *arg)
{
    struct flow *f = arg;
    (void)c;
    listener_close(f->listener);
    uv_loop_stop(f->sender);
}

static void flow_close_sender(struct task *task)
{
    struct flow *f = container_of(task, struct flow, closer);
    conn_close(f->out, flow_closed, f);
}

static void flow_receiver_closed(struct conn *c, void *arg)
{
    struct flow *f = arg;
    (void)c;
    loop_post(f->sender, &f->closer);
    uv_loop_stop(f->receiver);
}

static void flow_read_cb(struct conn *c, void *arg, int status, const void *data, size_t size)
{
    struct flow *f = arg;
    (void)data;
    f->bytes += (double)size;
    if (status != 0) {
        f->end = now();
        f->end_cpu = cpu();
        conn_close(c, flow_receiver_closed, f);
    }
}

static void flow_send(struct flow *f, struct conn_write *w);

static struct flow flow;

static void flow_write_cb(struct conn_write *req, int status)
{
    struct flow *f = &flow;
    if (status != 0 || f->ending) {
        return;
    }
    if (now() - f->start > seconds_each) {
        f->ending = true;
        conn_shutdown(f->out);
        return;
    }
    flow_send(f, req);
}

static void flow_send(struct flow *f, struct conn_write *w)
{
    *w = (struct conn_write){.cb = flow_write_cb};
    if (f->fd >= 0) {
        static int64_t at;
        w->fd = f->fd;
        w->offset = at;
        w->size = BUFFER_BYTES;
        at = (at + BUFFER_BYTES) % FILE_BYTES;
    } else {
        w->iov_count = 1;
        w->iov[0] = (struct iovec){buffer, BUFFER_BYTES};
    }
    conn_write(f->out, w);
}

static void flow_accept_cb(struct listener *l, void *arg, struct conn *c)
{
    struct flow *f = arg;
    (void)l;
    f->out = c;
    f->start = now();
    f->start_cpu = cpu();
    flow_send(f, &f->writes[0]);
    flow_send(f, &f->writes[1]);
}

static void flow_connect_cb(struct conn *c, void *arg, int status)
{
    check(status, "connect");
    conn_read_start(c, flow_read_cb, arg);
}

static json_t *flow_rate(struct tls *server, struct tls *client, int fd)
{
    struct flow *f = &flow;
    struct err err = {0};
    char address[64];
    *f = (struct flow){.fd = fd, .closer = {.run = flow_close_sender}};
    check(uv_loop_create("send", &f->sender), "loop");
    check(uv_loop_create("receive", &f->receiver), "loop");
    check(listener_open(f->sender, "127.0.0.1:0", server, flow_accept_cb, f, &f->listener, &err),
          err.msg);
    snprintf(address, sizeof address, "127.0.0.1:%u", listener_port(f->listener));
    check(conn_open(f->receiver, address, client, NULL, 5000, flow_connect_cb, f, &f->in),
          "connect");
    check(uv_loop_start_thread(f->sender), "thread");
    uv_loop_run(f->receiver);
    uv_loop_join(f->sender);
    uv_loop_free(f->sender);
    uv_loop_free(f->receiver);
    return rate(f->bytes, f->end - f->start, f->end_cpu - f->start_cpu);
}

static void make_tls(struct tls **server, struct tls **client)
{
    char *ca, *ca_key, *key, *request, *cert;
    const char *names[] = {"IP:127.0.0.1"};
    struct err err = {0};
    check(cert_authority_new("bench", 1, &ca, &ca_key), "authority");
    check(cert_key_new(&key), "key");
    check(cert_request_new(key, "bench", &request), "request");
    check(cert_sign(request, "bench", names, 1, 1, ca, ca_key, &cert, &err), err.msg);
    struct tls_options s = {.role = TLS_SERVER, .cert_pem = cert, .key_pem = key};
    struct tls_options c = {.role = TLS_CLIENT, .ca_pem = ca};
    check(tls_new(&s, server, &err), err.msg);
    check(tls_new(&c, client, &err), err.msg);
}

/* --- files ---------------------------------------------------------------------------------- */

static struct fs_file *open_file(const char *dir, const char *name, char path[4096])
{
    struct fs_file *file;
    snprintf(path, 4096, "%s/%s.%d", dir, name, (int)getpid());
    check(fs_open(fs_real(), path, FS_WRITE | FS_CREATE | FS_TRUNC, &file), path);
    unlink(path); /* gone with the process, whatever happens */
    return file;
}

static json_t *write_rate(struct fs_file *file)
{
    double start = now(), start_cpu = cpu();
    for (int64_t at = 0; at < FILE_BYTES; at += BUFFER_BYTES) {
        check(fs_pwrite(fs_real(), file, buffer, BUFFER_BYTES, at), "write");
    }
    check(fs_sync(fs_real(), file), "sync");
    return rate(FILE_BYTES, now() - start, cpu() - start_cpu);
}

/* What a chunk store must do at least: files of 4 MiB, each written and synced. They are kept until
 * the end, so that each takes new pages of the page cache, as chunks do. */
static json_t *chunk_files_rate(const char *dir)
{
    static struct fs_file *files[CHUNK_FILES];
    char path[4096];
    double start = now(), start_cpu = cpu();
    for (size_t i = 0; i < CHUNK_FILES; i++) {
        files[i] = open_file(dir, "chunk", path);
        check(fs_pwrite(fs_real(), files[i], buffer, BUFFER_BYTES, 0), "write");
        check(fs_sync(fs_real(), files[i]), "sync");
    }
    double seconds = now() - start, cpu_seconds = cpu() - start_cpu;
    for (size_t i = 0; i < CHUNK_FILES; i++) {
        fs_close(fs_real(), files[i]);
    }
    return rate((double)CHUNK_FILES * BUFFER_BYTES, seconds, cpu_seconds);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 4 KiB written and fdatasync'ed, again and again, at the end of a file: one that grows, or one
 * with its blocks allocated before (as the log's segments are). */
static json_t *sync_rate(const char *dir, bool allocated)
{
    char path[4096];
    struct fs_file *file = open_file(dir, "sync", path);
    double *times = calloc(SYNCS_MAX, sizeof *times);
    check(times != NULL ? 0 : TSR_ENOMEM, "times");
    if (allocated) {
        check(fs_allocate(fs_real(), file, LOG_BYTES), "allocate");
    }
    double start = now(), last = start;
    size_t count = 0;
    while (last - start < seconds_each && count < SYNCS_MAX) {
        int64_t at = (int64_t)count * SYNC_BYTES % LOG_BYTES;
        check(fs_pwrite(fs_real(), file, buffer, SYNC_BYTES, at), "write");
        check(fs_sync(fs_real(), file), "sync");
        double end = now();
        times[count++] = end - last;
        last = end;
    }
    fs_close(fs_real(), file);
    qsort(times, count, sizeof *times, compare_double);
    json_t *result =
        json_pack("{s:f,s:f,s:f}", "per_second", (double)count / (last - start), "p50_ms",
                  times[count / 2] * 1e3, "p99_ms", times[count * 99 / 100] * 1e3);
    free(times);
    return result;
}

/* --- all ------------------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
    const char *dir = ".";
    static const struct option longs[] = {
        {"dir", 1, NULL, 'd'}, {"seconds", 1, NULL, 's'}, {NULL, 0, NULL, 0}};
    for (int name; (name = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        int64_t ms;
        if (name == 'd') {
            dir = optarg;
        } else if (name == 's' && str_to_i64(optarg, 1, 60, &ms) == 0) {
            seconds_each = (double)ms;
        } else {
            fputs("usage: bench_limits [--dir DIR] [--seconds 1..60]\n", stderr);
            return 2;
        }
    }
    buffer = malloc(BUFFER_BYTES);
    check(buffer != NULL ? 0 : TSR_ENOMEM, "buffer");
    stream_fill(1, 0, buffer, BUFFER_BYTES);

    json_t *out = json_object();
    json_object_set_new(out, "md5", digest_rate(DIGEST_MD5));
    json_object_set_new(out, "sha256", digest_rate(DIGEST_SHA256));
    json_object_set_new(out, "sha512", digest_rate(DIGEST_SHA512));
    json_object_set_new(out, "chunk_files", chunk_files_rate(dir));
    char path[4096];
    struct fs_file *file = open_file(dir, "stream", path);
    json_object_set_new(out, "disk_write", write_rate(file));
    json_object_set_new(out, "sendfile", flow_rate(NULL, NULL, fs_fd(fs_real(), file)));
    struct tls *server, *client;
    make_tls(&server, &client);
    json_object_set_new(out, "tls", flow_rate(server, client, -1));
    json_object_set_new(out, "fdatasync_append", sync_rate(dir, false));
    json_object_set_new(out, "fdatasync_allocated", sync_rate(dir, true));
    json_dumpf(out, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    _exit(0); /* everything held goes with the process */
}
