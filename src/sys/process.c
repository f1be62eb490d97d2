/* fork, limits, exec. Between fork and exec the child calls the kernel only, as other threads of
 * the parent may hold any lock. */
#include "tessera/sys/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 100, SAID_MAX = 160, NOT_FOUND = 127, NICE = 10, FILES_MAX = 64 };

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- the child
 * ---------------------------------------------------------------------------------------- */

static bool limit(__rlimit_resource_t what, uint64_t most)
{
    struct rlimit r = {most, most};
    return setrlimit(what, &r) == 0;
}

static bool limits_set(const struct process_options *o)
{
    return limit(RLIMIT_AS, o->memory_max) && limit(RLIMIT_FSIZE, o->file_max) &&
           limit(RLIMIT_CPU, o->timeout_ms / 1000 + 1) && limit(RLIMIT_CORE, 0) &&
           limit(RLIMIT_NOFILE, FILES_MAX);
}

/* A name space without network; without the right to it, in a user name space of its own. */
static void network_leave(void)
{
    if (unshare(CLONE_NEWNET) != 0) {
        (void)unshare(CLONE_NEWUSER | CLONE_NEWNET);
    }
}

static void child(const struct process_options *o, int said, pid_t parent)
{
    static char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", NULL};
    sigset_t none;
    (void)sigemptyset(&none);
    int null = open("/dev/null", O_RDWR);
    bool ok = setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
              prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && null >= 0 && dup2(null, 0) == 0 &&
              dup2(said, 1) == 1 && dup2(said, 2) == 2 &&
              syscall(SYS_close_range, 3U, ~0U, 0U) == 0 && limits_set(o) && chdir(o->dir) == 0 &&
              sigprocmask(SIG_SETMASK, &none, NULL) == 0;
    (void)umask(077);
    (void)setpriority(PRIO_PROCESS, 0, NICE);
    if (ok) {
        network_leave();
        (void)execvpe(o->argv[0], (char *const *)(uintptr_t)o->argv, environment);
    }
    _exit(ok && errno == ENOENT ? NOT_FOUND : NOT_FOUND - 1);
}

/* --- the parent
 * --------------------------------------------------------------------------------------- */

/* Its last words: the end of what it said, in one line. */
struct said {
    char text[SAID_MAX + 1];
    size_t size;
};

static void hear(struct said *s, const char *data, size_t size)
{
    if (size >= SAID_MAX) {
        data += size - SAID_MAX;
        size = SAID_MAX;
    }
    size_t keep = s->size + size <= SAID_MAX ? s->size : SAID_MAX - size;
    memmove(s->text, s->text + s->size - keep, keep);
    memcpy(s->text + keep, data, size);
    s->size = keep + size;
    for (size_t n = 0; n < s->size; n++) {
        s->text[n] = s->text[n] >= ' ' && s->text[n] < 0x7f ? s->text[n] : ' ';
    }
}

/* Reads what there is; false at the end. */
static bool listen_to(int fd, struct said *s)
{
    char piece[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, LOOK_MS) <= 0) {
        return true;
    }
    ssize_t n = read(fd, piece, sizeof(piece));
    if (n > 0) {
        hear(s, piece, (size_t)n);
    }
    return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static int outcome(int status, const struct process_options *o, const struct said *s,
                   struct err *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND) {
        return err_set(err, TSR_ENOENT, "%s is not installed on this host", o->argv[0]);
    }
    if (WIFSIGNALED(status)) {
        return err_set(err, TSR_EIO, "%s was ended by signal %d", o->argv[0], WTERMSIG(status));
    }
    return err_set(err, TSR_EIO, "%s failed: %.*s", o->argv[0], (int)s->size, s->text);
}

/* Waits for its end, or makes it. */
static int attend(pid_t pid, int fd, const struct process_options *o, struct err *err)
{
    struct said s = {.size = 0};
    uint64_t end = now_ms() + o->timeout_ms;
    int status = 0, rv = 0;
    bool talks = true;
    for (;;) {
        if (talks) {
            talks = listen_to(fd, &s);
        } else {
            (void)poll(NULL, 0, LOOK_MS / 10);
        }
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid || (done < 0 && errno != EINTR)) {
            break;
        }
        if (rv == 0 && o->stop != NULL && o->stop(o->arg)) {
            rv = err_set(err, TSR_ECANCELED, "%s was stopped", o->argv[0]);
            (void)kill(-pid, SIGKILL);
        } else if (rv == 0 && now_ms() >= end) {
            rv = err_set(err, TSR_ETIMEOUT, "%s took longer than %llu s", o->argv[0],
                         (unsigned long long)o->timeout_ms / 1000);
            (void)kill(-pid, SIGKILL);
        }
    }
    (void)kill(-pid, SIGKILL); /* what it may have left behind */
    while (talks && listen_to(fd, &s) &&
           poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) > 0) {
    }
    return rv != 0 ? rv : outcome(status, o, &s, err);
}

int process_run(const struct process_options *options, struct err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return err_set(err, TSR_ENOMEM, "no pipe");
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        child(options, ends[1], parent);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return err_set(err, TSR_ENOMEM, "no process");
    }
    (void)setpgid(pid, pid); /* whoever is first */
    int rv = attend(pid, ends[0], options, err);
    (void)close(ends[0]);
    return rv;
}
