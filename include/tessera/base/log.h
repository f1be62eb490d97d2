/* Structured log lines: time, level, module, message with key=value pairs.
 *
 * The one process-wide object of base/: where lines go. Log where you decide, not where you pass
 * by: a function either logs or returns its error. Never log tokens, passwords or keys.
 * Thread: any. A line is written with one write(2). */
#ifndef TESSERA_BASE_LOG_H
#define TESSERA_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Called with one complete line without newline. */
typedef void (*log_sink_fn)(void *arg, enum log_level level, const char *line);

/* Append lines to @path (NULL = standard error). Returns 0 or the error of the open. Reopens on a
 * second call. */
int log_open(const char *path);
void log_set_level(enum log_level level);
/* Replace the sink (tests, simulator); NULL restores the file. */
void log_set_sink(log_sink_fn fn, void *arg);
/* Name of the host shown in each line of the calling thread (simulator: many hosts in one). */
void log_set_host(const char *name);
/* That name; "" when unset. Threads of loops and pools take over their creator's. */
const char *log_host(void);
/* Where times come from, microseconds since the epoch (simulator); NULL restores the wall clock. */
void log_set_clock(int64_t (*fn)(void *arg), void *arg);

void log_write(enum log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(module, ...) log_write(LOG_ERROR, module, __VA_ARGS__)
#define log_warn(module, ...) log_write(LOG_WARN, module, __VA_ARGS__)
#define log_info(module, ...) log_write(LOG_INFO, module, __VA_ARGS__)
#define log_debug(module, ...) log_write(LOG_DEBUG, module, __VA_ARGS__)

#endif
