#include "heap.h"

#include <errno.h>
#include <stddef.h>

static _Thread_local bool armed, for_ever, hit, paused;
static _Thread_local uint64_t left;

void heap_fail(uint64_t after, bool forever)
{
    left = after;
    for_ever = forever;
    hit = false;
    armed = true;
}

void heap_pause(bool on)
{
    paused = on;
}

bool heap_ok(void)
{
    armed = false;
    return hit;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

bool heap_can_fail(void)
{
    return false;
}

#else

bool heap_can_fail(void)
{
    return true;
}

/* glibc's own names for what the functions below replace. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);

static bool refuse(void)
{
    if (!armed || paused) {
        return false;
    }
    if (left > 0) {
        left--;
        return false;
    }
    if (hit && !for_ever) {
        return false;
    }
    hit = true;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return refuse() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return refuse() ? NULL : __libc_realloc(old, size);
}

#endif
