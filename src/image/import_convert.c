/* Conversion on import: the data goes to a file, qemu-img makes another of it, and that one is
 * inspected and written to the hosts like any download.
 *
 *   TAKING --all came, and is safe--> CONVERTING --> GIVING --> (import_data_judge)
 *
 * qemu-img runs in a process of its own, with limits, without network, in a directory of its own
 * below the data directory; it is told the format that was inspected, never left to guess. The
 * directory goes when the import does; what a killed tesserad left is removed at the next start.
 * Files are read and written in the spool pool, one piece at a time; the source waits meanwhile.
 *
 * Signed data is stored as it is: it is what was signed. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/import_job.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/process.h"

enum { PIECE_BYTES = 1 << 20 };
#define MEMORY_BYTES (UINT64_C(4) << 30)
#define KEEP_FREE_BYTES (INT64_C(1) << 30) /* of the disk, for others */

enum convert_state { CONVERT_TAKING, CONVERT_CONVERTING, CONVERT_GIVING };

struct import_convert {
    struct import_job *job;
    enum convert_state state;
    char dir[1100], in[1110], out[1110];
    const char *source, *target; /* in QEMU's words */
    uint64_t file_max;
    struct fs_file *file;
    struct work work;
    bool working;
    atomic_bool stop;
    uint8_t *piece;
    size_t size, room;
    int64_t at;
    int status;
    struct err err;
};

/* --- formats
 * ---------------------------------------------------------------------------------------- */

static const struct {
    const char *ours, *qemu;
} formats[] = {{"raw", "raw"}, {"qcow2", "qcow2"}, {"vmdk", "vmdk"},
               {"vhd", "vpc"}, {"vhdx", "vhdx"},   {"vdi", "vdi"}};

static const char *qemu_name(const char *format)
{
    for (size_t n = 0; n < array_len(formats); n++) {
        if (strcmp(formats[n].ours, format) == 0) {
            return formats[n].qemu;
        }
    }
    return NULL;
}

/* The host before may have noted the new format, and not come to the end. */
static bool doubtful(const struct import_job *job)
{
    return job->taken_over && strcmp(job->disk_format, job->ctx->import->convert_to) == 0;
}

static bool wanted(const struct import_job *job)
{
    const struct image_ctx *ctx = job->ctx;
    const char *target = ctx->import->convert_to;
    return ctx->convert_pool != NULL && target != NULL && strcmp(target, "none") != 0 &&
           strcmp(job->container_format, "bare") == 0 && job->signature == NULL &&
           qemu_name(job->disk_format) != NULL &&
           (strcmp(job->disk_format, target) != 0 || doubtful(job));
}

/* --- begin and end
 * -------------------------------------------------------------------------------------- */

int import_convert_open(struct import_job *job, const char **declared, struct err *err)
{
    *declared = job->disk_format;
    if (job->convert != NULL || !wanted(job)) {
        return job->convert == NULL ? 0 : err_set(err, TSR_EIO, "The data could not be read.");
    }
    struct import_convert *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return TSR_ENOMEM;
    }
    c->job = job;
    (void)snprintf(c->dir, sizeof(c->dir), "%s/%s", job->ctx->convert_dir, job->session_hex);
    (void)snprintf(c->in, sizeof(c->in), "%s/in", c->dir);
    (void)snprintf(c->out, sizeof(c->out), "%s/out", c->dir);
    c->target = job->ctx->import->convert_to;
    if (doubtful(job)) {
        *declared = "";
    } else {
        c->source = qemu_name(job->disk_format);
    }
    job->convert = c;
    job->rewrite = true;
    return 0;
}

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"in", "out"};
    char path[1120];
    for (size_t n = 0; n < array_len(names); n++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[n]);
        (void)fs_unlink(fs_real(), path);
    }
    (void)fs_unlink(fs_real(), dir);
}

static void remove_run(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    fs_close(fs_real(), c->file);
    remove_dir(c->dir);
    free(c->piece);
    free(c);
}

void import_convert_free(struct import_job *job)
{
    struct import_convert *c = job->convert;
    job->convert = NULL;
    if (c != NULL) {
        c->work = (struct work){.run = remove_run};
        pool_submit(job->ctx->spool_pool, &c->work);
    }
}

void import_convert_stop(struct import_job *job)
{
    if (job->convert != NULL) {
        atomic_store(&job->convert->stop, true);
    }
}

bool import_convert_busy(const struct import_job *job)
{
    return job->convert != NULL && job->convert->working;
}

bool import_convert_takes(const struct import_job *job)
{
    return job->convert != NULL && job->convert->state == CONVERT_TAKING;
}

bool import_convert_gives(const struct import_job *job)
{
    return job->convert != NULL && job->convert->state == CONVERT_GIVING;
}

static int sweep_one(void *arg, const char *name, bool is_dir)
{
    char path[1120];
    (void)is_dir;
    (void)snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    remove_dir(path);
    return 0;
}

void import_convert_sweep(const char *dir)
{
    (void)fs_list(fs_real(), dir, sweep_one, (void *)(uintptr_t)dir);
}

/* --- work
 * ------------------------------------------------------------------------------------------- */

static void fail(struct import_job *job, const char *what)
{
    struct import_convert *c = job->convert;
    struct err err = {0};
    (void)err_set(&err, c->status, "%s: %.200s", what,
                  c->err.msg[0] != 0 ? c->err.msg : err_text(c->status));
    import_job_fail(job, c->status, &err);
}

/* Back on the loop: is the import still to go on? */
static bool goes_on(struct import_convert *c, const char *what)
{
    struct import_job *job = c->job;
    c->working = false;
    if (job->state != JOB_RUNNING || job->status != 0) {
        import_job_maybe_free(job);
        return false;
    }
    if (c->status != 0) {
        fail(job, what);
        return false;
    }
    return true;
}

static void start(struct import_convert *c, struct pool *pool, void (*run)(struct work *work),
                  void (*done)(struct work *work))
{
    c->working = true;
    c->status = 0;
    c->work = (struct work){.loop = c->job->ctx->loop, .run = run, .done = done};
    pool_submit(pool, &c->work);
}

/* --- taking
 * ----------------------------------------------------------------------------------------- */

static int take_open(struct import_convert *c)
{
    int rv = fs_mkdirs(fs_real(), c->dir);
    return rv == 0 ? fs_open(fs_real(), c->in, FS_WRITE | FS_CREATE | FS_TRUNC, &c->file) : rv;
}

static void take_run(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    struct fs_space space;
    c->status = c->file != NULL ? 0 : take_open(c);
    if (c->status == 0 && fs_space(fs_real(), c->dir, &space) == 0 &&
        space.available < KEEP_FREE_BYTES) {
        c->status = TSR_ENOSPC;
    }
    if (c->status == 0) {
        c->status = fs_pwrite(fs_real(), c->file, c->piece, c->size, c->at);
        c->at += (int64_t)c->size;
    }
}

static void take_done(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    if (goes_on(c, "The data could not be kept for its conversion")) {
        import_data_more(c->job);
    }
}

bool import_convert_take(struct import_job *job, const void *data, size_t size)
{
    struct import_convert *c = job->convert;
    struct err err = {0};
    tsr_assert(!c->working);
    if (size > c->room) {
        free(c->piece);
        c->room = 0;
        c->piece = malloc(size);
        if (c->piece == NULL) {
            import_job_fail_later(job, err_set(&err, TSR_ENOMEM, "out of memory"), &err);
            return false;
        }
        c->room = size;
    }
    memcpy(c->piece, data, size);
    c->size = size;
    start(c, job->ctx->spool_pool, take_run, take_done);
    return false;
}

/* --- converting
 * ------------------------------------------------------------------------------------- */

static bool stopped(void *arg)
{
    struct import_convert *c = arg;
    return atomic_load(&c->stop);
}

static void convert_run(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    const char *argv[] = {"qemu-img", "convert", "-f", c->source, "-O", c->target,
                          "-t",       "unsafe",  "in", "out",     NULL};
    struct process_options o = {.argv = argv,
                                .dir = c->dir,
                                .memory_max = MEMORY_BYTES,
                                .file_max = c->file_max,
                                .timeout_ms = c->job->ctx->import->convert_ms,
                                .stop = stopped,
                                .arg = c};
    fs_close(fs_real(), c->file);
    c->file = NULL;
    c->status = stopped(c) ? TSR_ECANCELED : process_run(&o, &c->err);
    (void)fs_unlink(fs_real(), c->in);
    if (c->status == 0) {
        c->status = fs_open(fs_real(), c->out, FS_READ, &c->file);
    }
}

static void convert_done(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    struct import_job *job = c->job;
    struct err err = {0};
    if (!goes_on(c, "The data could not be converted")) {
        return;
    }
    c->state = CONVERT_GIVING;
    c->at = 0;
    (void)str_copy(job->disk_format, sizeof(job->disk_format), c->target);
    int rv = import_data_begin_again(job, &err);
    if (rv != 0) {
        import_job_fail(job, rv, &err);
        return;
    }
    import_convert_go(job);
}

void import_convert_run(struct import_job *job)
{
    struct import_convert *c = job->convert;
    struct err err = {0};
    int64_t cap = job->ctx->limits->image_size_cap;
    if (c->source == NULL) {
        c->source = qemu_name(inspect_found_name(job->inspect));
        c->source = c->source != NULL ? c->source : "raw";
    }
    int rv = 0;
    if (job->virtual_size > cap) {
        rv = err_set(&err, TSR_ETOOBIG, "The virtual size of the image is larger than the limit.");
    } else if (c->file == NULL) { /* nothing came, and nothing is all there will be */
        c->state = CONVERT_GIVING;
        rv = import_data_begin_again(job, &err);
    }
    if (rv != 0) {
        import_job_fail(job, rv, &err);
        return;
    }
    if (c->file == NULL) {
        import_data_judge(job);
        return;
    }
    log_info("image", "import of image=%s task=%s is converted from %s to %s", job->id, job->task,
             c->source, c->target);
    c->state = CONVERT_CONVERTING;
    c->file_max = (uint64_t)cap;
    start(c, job->ctx->convert_pool, convert_run, convert_done);
}

/* --- giving
 * ----------------------------------------------------------------------------------------- */

static void give_run(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    long n = fs_pread(fs_real(), c->file, c->piece, PIECE_BYTES, c->at);
    c->status = n < 0 ? (int)n : 0;
    c->size = n > 0 ? (size_t)n : 0;
    c->at += (int64_t)c->size;
}

static void give_done(struct work *work)
{
    struct import_convert *c = container_of(work, struct import_convert, work);
    struct import_job *job = c->job;
    if (!goes_on(c, "The converted data could not be read")) {
        return;
    }
    if (c->size == 0) {
        import_data_judge(job);
    } else if (import_data_store(job, c->piece, c->size)) {
        import_convert_go(job);
    } /* else when more can be stored */
}

void import_convert_go(struct import_job *job)
{
    struct import_convert *c = job->convert;
    struct err err = {0};
    if (c->working || !import_data_ready(job)) {
        return;
    }
    if (c->room < PIECE_BYTES) {
        free(c->piece);
        c->room = 0;
        c->piece = malloc(PIECE_BYTES);
        if (c->piece == NULL) {
            import_job_fail_later(job, err_set(&err, TSR_ENOMEM, "out of memory"), &err);
            return;
        }
        c->room = PIECE_BYTES;
    }
    start(c, job->ctx->spool_pool, give_run, give_done);
}
