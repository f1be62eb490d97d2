#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

enum { COLUMNS_MAX = 12 };

struct table {
    size_t columns, rows;
    char **cells; /* rows x columns, the titles first */
};

static void add(struct table *t, const char *const *cells)
{
    char **more = realloc(t->cells, (t->rows + 1) * t->columns * sizeof(*more));
    tsr_assert(more != NULL);
    t->cells = more;
    for (size_t i = 0; i < t->columns; i++) {
        t->cells[t->rows * t->columns + i] = strdup(cells[i] != NULL ? cells[i] : "-");
        tsr_assert(t->cells[t->rows * t->columns + i] != NULL);
    }
    t->rows++;
}

struct table *table_new(const char *const *titles, size_t columns)
{
    struct table *t = calloc(1, sizeof(*t));
    tsr_assert(t != NULL && columns <= COLUMNS_MAX);
    t->columns = columns;
    add(t, titles);
    return t;
}

void table_row(struct table *t, const char *const *cells)
{
    add(t, cells);
}

static size_t width_of(const char *text)
{
    size_t n = strlen(text);
    return utf8_valid(text, n) ? utf8_length(text) : n;
}

void table_print(struct table *t)
{
    size_t width[COLUMNS_MAX] = {0};
    for (size_t i = 0; i < t->rows * t->columns; i++) {
        size_t n = width_of(t->cells[i]);
        if (n > width[i % t->columns]) {
            width[i % t->columns] = n;
        }
    }
    for (size_t i = 0; i < t->rows * t->columns; i++) {
        bool last = i % t->columns == t->columns - 1;
        int pad = last ? 0 : (int)(width[i % t->columns] - width_of(t->cells[i])) + 2;
        (void)printf("%s%*s%s", t->cells[i], pad, "", last ? "\n" : "");
        free(t->cells[i]);
    }
    free(t->cells);
    free(t);
}

void print_json(const json_t *value)
{
    (void)json_dumpf(value, stdout, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    (void)putchar('\n');
}

void format_bytes(int64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t unit = 0;
    while (v >= 1024 && unit + 1 < array_len(units)) {
        v /= 1024;
        unit++;
    }
    if (bytes < 0) {
        (void)snprintf(out, 32, "-");
        return;
    }
    (void)snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", v, units[unit]);
}
