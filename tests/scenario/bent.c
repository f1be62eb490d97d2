/* Preloaded into a host under test: its syncs take longer, and its wall clock is another, as files
 * in its working directory say at each call:
 *   bent-sync    milliseconds that fsync and fdatasync take longer
 *   bent-clock   seconds that CLOCK_REALTIME is ahead (or, below zero, behind)
 * No file, no number: nothing is bent. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long number_in(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    if (read(fd, text, sizeof(text) - 1) < 0) {
        text[0] = '\0';
    }
    close(fd);
    return atol(text);
}

static void linger(void)
{
    long ms = number_in("bent-sync");
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0) {
        nanosleep(&span, NULL);
    }
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    linger();
    return real(fd);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    linger();
    return real(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int rv = real(clock, now);
    if (rv == 0 && clock == CLOCK_REALTIME) {
        now->tv_sec += number_in("bent-clock");
    }
    return rv;
}
