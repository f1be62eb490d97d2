#include "tessera/base/assert.h"

#include <stdlib.h>

#include "tessera/base/log.h"

void tsr_assert_fail(const char *expr, const char *file, int line)
{
    log_error("assert", "%s:%d: %s", file, line, expr);
    abort();
}
