#include "tessera/base/metric.h"

#include <stdatomic.h>
#include <stddef.h>

#include "tessera/base/buf.h"
#include "tessera/base/err.h"

static atomic_int_least64_t values[METRIC_COUNT];

void metric_add(enum metric metric, int64_t n)
{
    atomic_fetch_add_explicit(&values[metric], n, memory_order_relaxed);
}

void metric_set(enum metric metric, int64_t value)
{
    atomic_store_explicit(&values[metric], value, memory_order_relaxed);
}

int64_t metric_get(enum metric metric)
{
    return atomic_load_explicit(&values[metric], memory_order_relaxed);
}

#define KIND_COUNTER "counter"
#define KIND_GAUGE "gauge"

int metric_render(struct buf *out)
{
    static const struct {
        const char *name, *kind, *help;
    } rows[METRIC_COUNT] = {
#define X(name, kind, help) {"tessera_" #name, KIND_##kind, help},
        TSR_METRICS(X)
#undef X
    };
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        int rv = buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", rows[i].name,
                            rows[i].help, rows[i].name, rows[i].kind, rows[i].name,
                            (long long)metric_get((enum metric)i));
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}
