/* Pages of 25 images by each sort key, read from the store of a stopped host as a request handler
 * reads them: a view, the list, its texts. What is told is the thread's time on a core and waiting
 * for the disk, and besides it the time on the clock, in which other processes may have had the
 * core (schedstat tells for how long). Nothing of the network, the request or other threads is in
 * it. Pages begin at the start, and behind images drawn at random.
 *
 * One thread; JSON on standard output. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host.h"
#include "stream.h"
#include "tessera/base/json.h"
#include "tessera/sys/kv.h"

enum { PATH_BYTES = 512, PAGE = 25, STEP = 1000 };
static const uint64_t map_bytes = UINT64_C(64) << 30;

static const char usage[] = "usage: bench_pages DATA_DIR OWNER SEED IMAGES REPEATS\n";

static const char *const sorts[SORT_COUNT] = {
    [SORT_CREATED_AT] = "created_at",
    [SORT_UPDATED_AT] = "updated_at",
    [SORT_NAME] = "name",
    [SORT_STATUS] = "status",
    [SORT_CONTAINER_FORMAT] = "container_format",
    [SORT_DISK_FORMAT] = "disk_format",
    [SORT_SIZE] = "size",
    [SORT_ID] = "id",
};

struct pages {
    struct meta *meta;
    const char *owner;
    uint64_t seed, images, drawn;
    long repeats;
    int schedstat; /* of this thread */
    double *wall_ms, *own_ms;
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* How long this thread has waited for a core so far. */
static double waited_ms(const struct pages *p)
{
    char text[96];
    unsigned long long ran, waited;
    ssize_t n = pread(p->schedstat, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    bench_must(sscanf(text, "%llu %llu", &ran, &waited) == 2 ? 0 : TSR_EIO, "schedstat");
    return (double)waited / 1e6;
}

/* Returns the bytes of the page. */
static size_t page(struct pages *p, enum meta_sort sort, bool descending, const char *marker)
{
    struct meta_image_query query = {.project = p->owner,
                                     .admin = true,
                                     .sort = {{sort, descending}},
                                     .sort_count = 1,
                                     .marker = marker,
                                     .limit = PAGE};
    struct meta_view *view;
    struct meta_list *list;
    size_t count, bytes = 0;
    bool more;
    bench_must(meta_view_open(p->meta, &view), "view");
    bench_must(meta_list_open(view, &query, &list), "list");
    while (meta_list_step(list, STEP) == TSR_EAGAIN) {
    }
    const struct meta_text *texts = meta_list_page(list, &count, &more);
    /* Few of the ids that are drawn have less than a page behind them. */
    bench_must(count == PAGE || marker != NULL ? 0 : TSR_EINTERNAL, "a page is not full");
    for (size_t i = 0; i < count; i++) {
        bytes += texts[i].size;
    }
    meta_list_close(list);
    meta_view_close(view);
    return bytes;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double share(double *samples, long count, double part)
{
    qsort(samples, (size_t)count, sizeof *samples, compare);
    return samples[(size_t)(part * (double)(count - 1) + 0.5)];
}

static json_t *measure(struct pages *p, enum meta_sort sort, bool descending, bool from_start)
{
    char marker[STREAM_ID_TEXT];
    for (long i = 0; i < p->repeats; i++) {
        uint64_t word = stream_word(p->seed + 1, p->drawn++);
        stream_id(p->seed, word % p->images, marker);
        double waited = waited_ms(p), began = now_ms();
        (void)page(p, sort, descending, from_start ? NULL : marker);
        p->wall_ms[i] = now_ms() - began;
        p->own_ms[i] = p->wall_ms[i] - (waited_ms(p) - waited);
    }
    return json_pack("{s:f,s:f,s:f,s:f}", "p50_ms", share(p->own_ms, p->repeats, 0.5), "p99_ms",
                     share(p->own_ms, p->repeats, 0.99), "max_ms",
                     share(p->own_ms, p->repeats, 1.0), "clock_p99_ms",
                     share(p->wall_ms, p->repeats, 0.99));
}

static json_t *measure_all(struct pages *p)
{
    json_t *out = json_object();
    for (unsigned sort = 0; sort < SORT_COUNT; sort++) {
        for (unsigned k = 0; k < 4; k++) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s %s, %s", sorts[sort], k & 1 ? "desc" : "asc",
                           k & 2 ? "anywhere" : "start");
            json_t *figure = measure(p, (enum meta_sort)sort, (k & 1) != 0, (k & 2) == 0);
            bench_must(json_object_set_new(out, name, figure) == 0 ? 0 : TSR_ENOMEM, name);
        }
    }
    return out;
}

int main(int argc, char **argv)
{
    char meta_dir[PATH_BYTES];
    struct kv *kv;
    struct err err = {0};
    if (argc != 6 || atoll(argv[4]) < 1000 || atol(argv[5]) < 100) {
        (void)fputs(usage, stderr);
        return 2;
    }
    struct pages p = {.owner = argv[2],
                      .seed = strtoull(argv[3], NULL, 10),
                      .images = strtoull(argv[4], NULL, 10),
                      .repeats = atol(argv[5])};
    p.wall_ms = calloc((size_t)p.repeats, sizeof *p.wall_ms);
    p.own_ms = calloc((size_t)p.repeats, sizeof *p.own_ms);
    bench_must(p.wall_ms != NULL && p.own_ms != NULL ? 0 : TSR_ENOMEM, "samples");
    p.schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    bench_must(p.schedstat >= 0 ? 0 : TSR_ENOTSUP, "schedstat");
    (void)snprintf(meta_dir, sizeof meta_dir, "%s/meta", argv[1]);
    bench_must(
        kv_lmdb_open(meta_dir, map_bytes, meta_databases, meta_database_count, KV_SYNC_LATE, &kv),
        meta_dir);
    bench_must(meta_open(kv, &p.meta, &err), err.msg);
    json_t *out = measure_all(&p);
    (void)json_dumpf(out, stdout, JSON_REAL_PRECISION(6));
    (void)putchar('\n');
    meta_close(p.meta);
    return 0;
}
