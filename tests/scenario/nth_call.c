/* Loaded into a real tesserad (LD_PRELOAD): the call number FAIL_NTH (from 0) of the kind FAIL_CALL
 * (open, socket, thread) fails as if there were no descriptors or threads left, and the file
 * FAIL_MARK is made then. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_long calls;

static void *next_of(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static int open_next(const char *name, const char *path, int flags, int mode)
{
    int (*call)(const char *, int, ...);
    *(void **)&call = next_of(name);
    return call(path, flags, mode);
}

static bool fails(const char *kind)
{
    const char *want = getenv("FAIL_CALL"), *nth = getenv("FAIL_NTH"), *mark = getenv("FAIL_MARK");
    if (want == NULL || nth == NULL || mark == NULL || strcmp(want, kind) != 0 ||
        atomic_fetch_add(&calls, 1) != atol(nth)) {
        return false;
    }
    int fd = open_next("open", mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
    }
    return true;
}

static int open_or_fail(const char *name, const char *path, int flags, int mode)
{
    if (fails("open")) {
        errno = EMFILE;
        return -1;
    }
    return open_next(name, path, flags, mode);
}

static int mode_of(int flags, va_list args)
{
    return (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = mode_of(flags, args);
    va_end(args);
    return open_or_fail("open", path, flags, mode);
}

int open64(const char *path, int flags, ...);
int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = mode_of(flags, args);
    va_end(args);
    return open_or_fail("open64", path, flags, mode);
}

int socket(int domain, int type, int protocol)
{
    int (*call)(int, int, int);
    *(void **)&call = next_of("socket");
    if (fails("socket")) {
        errno = EMFILE;
        return -1;
    }
    return call(domain, type, protocol);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *arg)
{
    int (*call)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&call = next_of("pthread_create");
    return fails("thread") ? EAGAIN : call(thread, attributes, run, arg);
}
