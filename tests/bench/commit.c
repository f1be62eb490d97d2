/* The commit path alone: three processes with consensus, metadata store and links over mutual TLS,
 * as hosts have them, on this machine's disk; the load is proposed inside the leader's process.
 *
 * Prints {"pids": [...]}, {"formed": true}, then one line of figures for each line of standard
 * input, and when that ends {"index": ...}: the index up to which the hosts were compared and found
 * to hold the same. Loopback only. */
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "tessera/base/log.h"
#include "tessera/peer.h"
#include "tessera/sys/cert.h"

#define CLUSTER_ID "0123456789abcdef0123456789abcdef"
enum { DAYS = 2, CATCH_UP_S = 2 };

static const char usage[] = "usage: bench_commit DIR PORT_BASE\n"
                            "then lines of FLYING SECONDS BYTES SEED on standard input\n";

struct child {
    pid_t pid;
    int stop_fd, out_fd;
};

static void must(int rv, const char *what)
{
    if (rv != 0) {
        commit_die(what, rv);
    }
}

static void certificate(struct commit_host *host, const char *ca_key_pem)
{
    static const char *const names[] = {"IP:127.0.0.1"};
    char name[128], *csr = NULL;
    struct err err = {0};
    peer_cert_name(host->number, CLUSTER_ID, name);
    must(cert_key_new(&host->key_pem), "key");
    must(cert_request_new(host->key_pem, name, &csr), "request");
    must(cert_sign(csr, name, names, 1, DAYS, host->ca_pem, ca_key_pem, &host->cert_pem, &err),
         "certificate");
    free(csr);
}

/* Host 1 keeps standard input; the others stop when their pipe is closed. */
static struct child child_start(const struct commit_host *host, struct child *others)
{
    int stop[2], out[2];
    if (pipe(stop) != 0 || pipe(out) != 0) {
        commit_die("pipe", TSR_EIO);
    }
    pid_t pid = fork();
    if (pid < 0) {
        commit_die("fork", TSR_ENOMEM);
    }
    if (pid == 0) {
        (void)close(stop[1]);
        (void)close(out[0]);
        for (unsigned i = 0; i + 1 < host->number; i++) {
            (void)close(others[i].stop_fd);
        }
        commit_host_run(host, stop[0], out[1]);
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
        commit_die("a host did not end in order", TSR_EINTERNAL);
    }
    json_t *said = json_loadb(line, (size_t)size, 0, NULL);
    if (said == NULL) {
        commit_die("a host's last words", TSR_EPROTO);
    }
    return said;
}

/* The leader has ended when this begins, so nothing new comes: the others are given time to apply
 * what they have, and where two stopped at one index they must hold the same. */
static void compare(struct child *children)
{
    json_t *said[COMMIT_HOSTS];
    said[0] = last_words(&children[0]);
    (void)sleep(CATCH_UP_S);
    for (unsigned i = 1; i < COMMIT_HOSTS; i++) {
        (void)close(children[i].stop_fd);
        said[i] = last_words(&children[i]);
    }
    const char *first = json_string_value(json_object_get(said[1], "digest"));
    const char *second = json_string_value(json_object_get(said[2], "digest"));
    json_int_t index = json_integer_value(json_object_get(said[1], "index"));
    if (index != json_integer_value(json_object_get(said[2], "index")) ||
        strcmp(first, second) != 0 ||
        index < json_integer_value(json_object_get(said[0], "index"))) {
        commit_die("the hosts do not hold the same", TSR_ECORRUPT);
    }
    (void)printf("{\"index\": %lld}\n", (long long)index);
    for (unsigned i = 0; i < COMMIT_HOSTS; i++) {
        json_decref(said[i]);
    }
}

int main(int argc, char **argv)
{
    struct statfs fs;
    struct child children[COMMIT_HOSTS];
    struct commit_host hosts[COMMIT_HOSTS] = {0};
    char *ca_pem = NULL, *ca_key = NULL;
    if (argc != 3 || atoi(argv[2]) < 1024 || statfs(argv[1], &fs) != 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (fs.f_type == TMPFS_MAGIC) {
        (void)fputs("bench_commit: the folder is in memory: syncs would cost nothing\n", stderr);
        return 2;
    }
    must(cert_authority_new("bench authority", DAYS, &ca_pem, &ca_key), "authority");
    for (unsigned i = 0; i < COMMIT_HOSTS; i++) {
        hosts[i] = (struct commit_host){.number = i + 1,
                                        .dir = argv[1],
                                        .port_base = (unsigned)atoi(argv[2]),
                                        .ca_pem = ca_pem};
        certificate(&hosts[i], ca_key);
    }
    for (unsigned i = 0; i < COMMIT_HOSTS; i++) {
        children[i] = child_start(&hosts[i], children);
    }
    (void)printf("{\"pids\": [%d, %d, %d]}\n", (int)children[0].pid, (int)children[1].pid,
                 (int)children[2].pid);
    (void)fflush(stdout);
    compare(children);
    return 0;
}
