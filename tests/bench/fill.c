/* Creates images in the store of a stopped host that is its cluster's only one: the commands that
 * the API would propose, through the log and apply, but many under way and no client in between.
 * The ids and names are those of bench_load's creates with the same seed.
 *
 * Prints one line of figures for each part. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "stream.h"
#include "tessera/base/assert.h"
#include "tessera/base/json.h"
#include "tessera/sys/fs.h"

enum { PATH_BYTES = 512, FLYING = 2000, FILE_MAX = 65536 };

static const char usage[] = "usage: bench_fill DATA_DIR OWNER SEED FIRST COUNT PARTS\n";

struct fill;
struct lane {
    struct meta_submit req;
    struct fill *fill;
};

struct fill {
    struct bench_host host;
    bool leading, done;
    const char *owner;
    uint64_t seed, next, end, part, busy, begun_ns;
    struct lane lanes[FLYING];
    struct task task;
};

static void lane_start(struct lane *l);

static void lane_done(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct lane *l = req->arg;
    (void)result;
    bench_must(status, err->msg);
    lane_start(l);
}

static void say_part(struct fill *f)
{
    uint64_t now = loop_now_ns(f->host.worker);
    (void)printf("{\"images\": %" PRIu64 ", \"seconds\": %.3f}\n", f->next,
                 (double)(now - f->begun_ns) / 1e9);
    (void)fflush(stdout);
    f->begun_ns = now;
}

static void lane_start(struct lane *l)
{
    struct fill *f = l->fill;
    char id[STREAM_ID_TEXT], name[32];
    if (f->next == f->end) {
        if (--f->busy == 0) {
            bench_host_tell(&f->host, &f->done);
        }
        return;
    }
    stream_id(f->seed, f->next, id);
    (void)snprintf(name, sizeof name, "bench-%" PRIu64, f->next);
    f->next++;
    if (f->next % f->part == 0 || f->next == f->end) {
        say_part(f);
    }
    l->req = (struct meta_submit){.loop = f->host.worker, .cb = lane_done, .arg = l};
    l->req.command = json_pack("{s:s,s:{s:s,s:s,s:s,s:s,s:s,s:{}}}", "op", "image.create", "image",
                               "id", id, "name", name, "owner", f->owner, "disk_format", "raw",
                               "container_format", "bare", "props");
    bench_must(l->req.command != NULL ? 0 : TSR_ENOMEM, "command");
    meta_submit(f->host.meta, &l->req);
}

static void fill_start(struct task *task)
{
    struct fill *f = container_of(task, struct fill, task);
    f->begun_ns = loop_now_ns(f->host.worker);
    f->busy = FLYING;
    for (unsigned i = 0; i < FLYING; i++) {
        f->lanes[i].fill = f;
        lane_start(&f->lanes[i]);
    }
}

static void on_leader(struct bench_host *host)
{
    struct fill *f = container_of(host, struct fill, host);
    bench_host_tell(host, &f->leading);
}

static uint64_t read_raft_id(const char *data_dir)
{
    char path[PATH_BYTES], *text = NULL;
    size_t size;
    (void)snprintf(path, sizeof path, "%s/host.json", data_dir);
    bench_must(fs_read_file(fs_real(), path, FILE_MAX, &text, &size), path);
    json_t *host = json_parse(text, size);
    uint64_t id = (uint64_t)json_int(host, "raft_id", 0);
    json_decref(host);
    free(text);
    bench_must(id != 0 ? 0 : TSR_ECORRUPT, path);
    return id;
}

int main(int argc, char **argv)
{
    char meta_dir[PATH_BYTES], raft_dir[PATH_BYTES];
    if (argc != 7 || atoll(argv[5]) < 1 || atoll(argv[6]) < 1) {
        (void)fputs(usage, stderr);
        return 2;
    }
    struct fill *f = calloc(1, sizeof *f);
    bench_must(f != NULL ? 0 : TSR_ENOMEM, "start");
    (void)snprintf(meta_dir, sizeof meta_dir, "%s/meta", argv[1]);
    (void)snprintf(raft_dir, sizeof raft_dir, "%s/raft", argv[1]);
    f->owner = argv[2];
    f->seed = strtoull(argv[3], NULL, 10);
    f->next = strtoull(argv[4], NULL, 10);
    f->end = f->next + strtoull(argv[5], NULL, 10);
    f->part = (f->end - f->next) / strtoull(argv[6], NULL, 10) + 1;
    f->host = (struct bench_host){.meta_dir = meta_dir,
                                  .raft_dir = raft_dir,
                                  .address = "127.0.0.1:1", /* the membership has the real one */
                                  .raft_id = read_raft_id(argv[1]),
                                  .on_leader = on_leader};
    bench_host_open(&f->host);
    bench_host_await(&f->host, &f->leading);
    f->task.run = fill_start;
    loop_post(f->host.worker, &f->task);
    bench_host_await(&f->host, &f->done);
    bench_host_close(&f->host);
    meta_close(f->host.meta);
    return 0;
}
