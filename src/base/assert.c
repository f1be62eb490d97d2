#include "tessera/base/assert.h"

#include <stdlib.h>
#include <unistd.h>

#include "tessera/base/log.h"

void tsr_assert_fail(const char *expr, const char *file, int line)
{
    log_error("assert", "%s:%d: %s", file, line, expr);
    abort();
}

void tsr_out_of_memory(void)
{
    log_error("memory", "this host stops: out of memory");
    _exit(71);
}
