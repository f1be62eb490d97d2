#include "tessera/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tessera/base/err.h"
#include "tessera/base/str.h"

/* Without a lock: the descriptor's number never changes once a file is open (a reopen replaces the
 * file behind it with dup3), so that a writer on another thread never meets a closed one. */

enum { LINE_MAX_BYTES = 8192, MESSAGE_MAX_BYTES = 4096, HOST_MAX = 64 };

static atomic_int log_fd = STDERR_FILENO;
static atomic_int log_level_max = LOG_INFO;
static _Atomic(log_sink_fn) sink_fn;
static _Atomic(void *) sink_arg;
static int64_t (*_Atomic clock_fn)(void *);
static _Atomic(void *) clock_arg;
static _Thread_local char host_name[HOST_MAX];

static const char *const level_names[] = {"ERROR", "WARN", "INFO", "DEBUG"};

int log_open(const char *path)
{
    int current = atomic_load(&log_fd);
    int fd = STDERR_FILENO;
    if (path != NULL) {
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (fd < 0) {
            return err_from_errno(errno);
        }
        if (current == STDERR_FILENO) {
            atomic_store(&log_fd, fd);
            return 0;
        }
    }
    if (fd == current) {
        return 0;
    }
    int rv = dup3(fd, current, O_CLOEXEC) < 0 ? TSR_EIO : 0;
    if (path != NULL) {
        close(fd);
    }
    return rv;
}

void log_set_level(enum log_level level)
{
    atomic_store(&log_level_max, (int)level);
}

void log_set_sink(log_sink_fn fn, void *arg)
{
    atomic_store(&sink_fn, NULL);
    atomic_store(&sink_arg, arg);
    atomic_store(&sink_fn, fn);
}

void log_set_clock(int64_t (*fn)(void *arg), void *arg)
{
    atomic_store(&clock_fn, NULL);
    atomic_store(&clock_arg, arg);
    atomic_store(&clock_fn, fn);
}

void log_set_host(const char *name)
{
    (void)str_copy(host_name, sizeof(host_name), name == NULL ? "" : name);
}

const char *log_host(void)
{
    return host_name;
}

static int64_t wall_us(void)
{
    int64_t (*fn)(void *) = atomic_load(&clock_fn);
    if (fn != NULL) {
        return fn(atomic_load(&clock_arg));
    }
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static size_t put_head(char *line, size_t size, enum log_level level, const char *module)
{
    char when[TIME_TEXT];
    time_format_micros(wall_us(), when);
    memcpy(when + strlen(when) - 4, "Z", 2); /* milliseconds are enough */
    const char *sep = host_name[0] == 0 ? "" : " host=";
    int n = snprintf(line, size, "%s %s %s%s%s ", when, level_names[level], module, sep, host_name);
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/* A message from outside must not be able to forge a line or move a terminal's cursor. */
static size_t put_escaped(char *out, size_t size, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;
    for (; *text != 0 && n + 4 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != 0x7f) {
            out[n++] = (char)c;
            continue;
        }
        out[n++] = '\\';
        if (c == '\n' || c == '\t' || c == '\r') {
            out[n++] = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
        } else {
            out[n++] = 'x';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        }
    }
    out[n] = 0;
    return n;
}

void log_write(enum log_level level, const char *module, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&log_level_max, memory_order_relaxed)) {
        return;
    }
    int saved_errno = errno;
    char message[MESSAGE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    int need = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    if (need < 0) {
        message[0] = 0;
    } else if ((size_t)need >= sizeof(message)) {
        memcpy(message + sizeof(message) - 4, "...", 4);
    }

    char line[LINE_MAX_BYTES];
    size_t n = put_head(line, sizeof(line) - 1, level, module);
    n += put_escaped(line + n, sizeof(line) - 1 - n, message);
    log_sink_fn sink = atomic_load(&sink_fn);
    if (sink != NULL) {
        sink(atomic_load(&sink_arg), level, line);
    } else {
        line[n++] = '\n';
        /* A full disk must not stop the service: a line that cannot be written is lost. */
        ssize_t wrote = write(atomic_load(&log_fd), line, n);
        (void)wrote;
    }
    errno = saved_errno;
}
