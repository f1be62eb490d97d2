#include "test.h"

#include "tessera/base/buf.h"
#include "tessera/base/metric.h"

static void metrics_are_shown_in_the_text_format(void **state)
{
    (void)state;
    struct buf b = {0};
    metric_add(METRIC_uploads_total, 2);
    metric_add(METRIC_uploads_active, 3);
    metric_add(METRIC_uploads_active, -1);
    metric_set(METRIC_applied_index, 99);
    check_int(metric_get(METRIC_uploads_active), 2);
    check_ok(metric_render(&b));
    check(strstr(b.data,
                 "# HELP tessera_uploads_total Image uploads completed\n"
                 "# TYPE tessera_uploads_total counter\ntessera_uploads_total 2\n") != NULL);
    check(strstr(b.data, "# TYPE tessera_applied_index gauge\ntessera_applied_index 99\n") != NULL);
    buf_free(&b);
}

TEST_MAIN(cmocka_unit_test(metrics_are_shown_in_the_text_format))
