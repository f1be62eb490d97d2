/* The commit path alone: three processes with consensus, metadata store and links over mutual TLS,
 * as hosts have them, on this machine's disk; the load is proposed inside the leader's process.
 *
 * Prints {"pids": [...]}, {"formed": true}, then one line of figures for each line of standard
 * input, and when that ends {"index": ...}: the index up to which the hosts were compared and found
 * to hold the same. Loopback only. */
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "host.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/peer.h"
#include "tessera/sys/cert.h"

#define CLUSTER_ID "0123456789abcdef0123456789abcdef"
enum { HOSTS = 3, DAYS = 2, CATCH_UP_S = 2, PATH_BYTES = 512, ADDRESS_BYTES = 64, AGAIN_MS = 100 };

static const char usage[] = "usage: bench_commit DIR PORT_BASE\n"
                            "then lines of FLYING SECONDS BYTES SEED on standard input\n";

/* What each process gets from the one that starts it. */
struct given {
    uint64_t number; /* 1 .. HOSTS */
    const char *dir;
    unsigned port_base;
    char *ca_pem, *cert_pem, *key_pem;
};

struct child {
    pid_t pid;
    int stop_fd, out_fd;
};

/* --- three voters ----------------------------------------------------------------------------- */

/* Host 1 takes the others in, one after the other: added, then a voter. */
struct forming {
    struct bench_host host;
    const struct given *given;
    struct timer again;
    uint64_t joining;
    bool added, formed;
};

static void address_of(const struct given *given, uint64_t number, char out[ADDRESS_BYTES])
{
    (void)snprintf(out, ADDRESS_BYTES, "127.0.0.1:%u", given->port_base + (unsigned)number - 1);
}

static uint64_t raft_id(uint64_t number)
{
    return number << 16 | 1;
}

static void form_done(void *arg, int status)
{
    struct forming *f = arg;
    if (status == 0) {
        f->joining += f->added ? 1 : 0;
        f->added = !f->added;
    }
    timer_start(&f->again, status == 0 ? 0 : AGAIN_MS);
}

static void form_step(struct timer *timer)
{
    struct forming *f = container_of(timer, struct forming, again);
    char address[ADDRESS_BYTES];
    if (f->joining > HOSTS) {
        bench_host_tell(&f->host, &f->formed);
        return;
    }
    uint64_t id = raft_id(f->joining);
    address_of(f->given, f->joining, address);
    struct consensus *c = f->host.consensus;
    int rv = f->added ? consensus_member_role(c, id, CONSENSUS_VOTER, form_done, f)
                      : consensus_member_add(c, id, address, form_done, f);
    if (rv != 0) {
        timer_start(&f->again, AGAIN_MS);
    }
}

static void form_begin(struct bench_host *host)
{
    struct forming *f = container_of(host, struct forming, host);
    if (f->joining == 0) {
        f->joining = 2;
        timer_init(&f->again, host->control, form_step);
        timer_start(&f->again, 0);
    }
}

/* --- one host --------------------------------------------------------------------------------- */

/* Each line "FLYING SECONDS BYTES SEED" is answered by a line of JSON. */
static void obey(struct forming *f)
{
    char line[256];
    bench_host_await(&f->host, &f->formed);
    (void)puts("{\"formed\": true}");
    (void)fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned flying = 0, size = 0;
        long seconds = 0;
        uint64_t seed = 0;
        if (sscanf(line, "%u %ld %u %" SCNu64, &flying, &seconds, &size, &seed) != 4 ||
            flying < 1 || flying > COMMIT_FLYING_MAX || seconds < 1 || size < 1 || size > 65536) {
            bench_must(TSR_EINVAL, "a line was not FLYING SECONDS BYTES SEED");
        }
        json_t *out = commit_load(f->host.meta, f->host.worker, flying, seconds, size, seed);
        (void)json_dumpf(out, stdout, JSON_REAL_PRECISION(6));
        (void)putchar('\n');
        (void)fflush(stdout);
        json_decref(out);
    }
}

static void say_point(struct meta *meta, int out_fd)
{
    struct fsm_point at;
    char line[160], hex[2 * FSM_DIGEST_SIZE + 1];
    bench_must(meta_point(meta, &at), "the store's position");
    hex_encode(at.digest, FSM_DIGEST_SIZE, hex);
    int size = snprintf(line, sizeof line, "{\"index\": %" PRIu64 ", \"digest\": \"%s\"}\n",
                        at.index, hex);
    bench_must(write(out_fd, line, (size_t)size) == size ? 0 : TSR_EIO, "last words");
}

/* Until standard input (or, for the others, @stop_fd) ends; the last words are one line {"index",
 * "digest"} on @out_fd. */
static void host_run(const struct given *given, int stop_fd, int out_fd)
{
    char meta_dir[PATH_BYTES], raft_dir[PATH_BYTES], address[ADDRESS_BYTES];
    (void)snprintf(meta_dir, sizeof meta_dir, "%s/host%" PRIu64 "/meta", given->dir, given->number);
    (void)snprintf(raft_dir, sizeof raft_dir, "%s/host%" PRIu64 "/raft", given->dir, given->number);
    address_of(given, given->number, address);
    struct forming f = {.given = given,
                        .host = {.meta_dir = meta_dir,
                                 .raft_dir = raft_dir,
                                 .address = address,
                                 .cluster_id = CLUSTER_ID,
                                 .raft_id = raft_id(given->number),
                                 .bootstrap = given->number == 1,
                                 .ca_pem = given->ca_pem,
                                 .cert_pem = given->cert_pem,
                                 .key_pem = given->key_pem,
                                 .on_leader = given->number == 1 ? form_begin : NULL}};
    char end;
    bench_host_open(&f.host);
    if (given->number == 1) {
        obey(&f);
    } else {
        while (read(stop_fd, &end, 1) > 0) {
        }
    }
    bench_host_close(&f.host);
    say_point(f.host.meta, out_fd);
    meta_close(f.host.meta);
    _exit(0);
}

/* --- three processes -------------------------------------------------------------------------- */

static void certificate(struct given *host, const char *ca_key_pem)
{
    static const char *const names[] = {"IP:127.0.0.1"};
    char name[128], *csr = NULL;
    struct err err = {0};
    peer_cert_name(host->number, CLUSTER_ID, name);
    bench_must(cert_key_new(&host->key_pem), "key");
    bench_must(cert_request_new(host->key_pem, name, &csr), "request");
    bench_must(
        cert_sign(csr, name, names, 1, DAYS, host->ca_pem, ca_key_pem, &host->cert_pem, &err),
        "certificate");
    free(csr);
}

/* Host 1 keeps standard input; the others stop when their pipe is closed. */
static struct child child_start(const struct given *host, struct child *others)
{
    int stop[2], out[2];
    if (pipe(stop) != 0 || pipe(out) != 0) {
        bench_must(TSR_EIO, "pipe");
    }
    pid_t pid = fork();
    if (pid < 0) {
        bench_must(TSR_ENOMEM, "fork");
    }
    if (pid == 0) {
        (void)close(stop[1]);
        (void)close(out[0]);
        for (unsigned i = 0; i + 1 < host->number; i++) {
            (void)close(others[i].stop_fd);
        }
        host_run(host, stop[0], out[1]);
    }
    (void)close(stop[0]);
    (void)close(out[1]);
    return (struct child){.pid = pid, .stop_fd = stop[1], .out_fd = out[0]};
}

static json_t *last_words(struct child *c)
{
    char line[256];
    ssize_t size = read(c->out_fd, line, sizeof line - 1);
    int status = 0;
    if (size <= 0 || waitpid(c->pid, &status, 0) != c->pid || status != 0) {
        bench_must(TSR_EINTERNAL, "a host did not end in order");
    }
    json_t *said = json_loadb(line, (size_t)size, 0, NULL);
    if (said == NULL) {
        bench_must(TSR_EPROTO, "a host's last words");
    }
    return said;
}

/* The leader has ended when this begins, so nothing new comes: the others are given time to apply
 * what they have, and where two stopped at one index they must hold the same. */
static void compare(struct child *children)
{
    json_t *said[HOSTS];
    said[0] = last_words(&children[0]);
    (void)sleep(CATCH_UP_S);
    for (unsigned i = 1; i < HOSTS; i++) {
        (void)close(children[i].stop_fd);
        said[i] = last_words(&children[i]);
    }
    const char *first = json_string_value(json_object_get(said[1], "digest"));
    const char *second = json_string_value(json_object_get(said[2], "digest"));
    json_int_t index = json_integer_value(json_object_get(said[1], "index"));
    if (index != json_integer_value(json_object_get(said[2], "index")) ||
        strcmp(first, second) != 0 ||
        index < json_integer_value(json_object_get(said[0], "index"))) {
        bench_must(TSR_ECORRUPT, "the hosts do not hold the same");
    }
    (void)printf("{\"index\": %lld}\n", (long long)index);
    for (unsigned i = 0; i < HOSTS; i++) {
        json_decref(said[i]);
    }
}

int main(int argc, char **argv)
{
    struct statfs fs;
    struct child children[HOSTS];
    struct given hosts[HOSTS] = {0};
    char *ca_pem = NULL, *ca_key = NULL;
    if (argc != 3 || atoi(argv[2]) < 1024 || statfs(argv[1], &fs) != 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (fs.f_type == TMPFS_MAGIC) {
        (void)fputs("bench_commit: the folder is in memory: syncs would cost nothing\n", stderr);
        return 2;
    }
    bench_must(cert_authority_new("bench authority", DAYS, &ca_pem, &ca_key), "authority");
    for (unsigned i = 0; i < HOSTS; i++) {
        hosts[i] = (struct given){.number = i + 1,
                                  .dir = argv[1],
                                  .port_base = (unsigned)atoi(argv[2]),
                                  .ca_pem = ca_pem};
        certificate(&hosts[i], ca_key);
    }
    for (unsigned i = 0; i < HOSTS; i++) {
        children[i] = child_start(&hosts[i], children);
    }
    (void)printf("{\"pids\": [%d, %d, %d]}\n", (int)children[0].pid, (int)children[1].pid,
                 (int)children[2].pid);
    (void)fflush(stdout);
    compare(children);
    return 0;
}
