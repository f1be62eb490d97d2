/* What goes wrong with disks: calls that fail, and what is stored changes, vanishes, or is all new.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"

enum { SETTLE_LOOK_MS = 500, HIT_LOOK_MS = 2500 };

/* --- disks that fail or are slow
 * ------------------------------------------------------------------------------------ */

static void disk_back(void *arg)
{
    struct sim_host *h = arg;
    sim_pool_delay(h->log_pool, 100, 1500);
    sim_pool_delay(h->disk_pool, 50, 1500);
}

bool fault_slow_disk(struct sim_host *h)
{
    uint64_t ms = fault_between(h->w, 20, 900);
    world_note(h->w, "host %u has a slow disk, %llu ms", h->n, (unsigned long long)ms);
    sim_pool_delay(h->log_pool, ms * 500, ms * 1000);
    sim_pool_delay(h->disk_pool, ms * 100, ms * 500);
    fault_later(h->w, 500, 6000, disk_back, h);
    return true;
}

struct hit {
    struct sim_host *h;
    enum sim_fault fault;
    unsigned life;
};

/* A call that was to fail: was it made? Only then it counts. */
static void look_for_hit(void *arg)
{
    struct hit *hit = arg;
    struct sim_host *h = hit->h;
    bool store = hit->fault == FAULT_store_error || hit->fault == FAULT_index_error;
    struct kv *kv = hit->fault == FAULT_store_error ? h->meta_kv : h->index_kv;
    struct fs *fs = hit->fault == FAULT_log_error ? h->raft_fs : h->blob_fs;
    if (h->life != hit->life || !h->up || (store ? kv_mem_failed(kv) : sim_fs_failed(fs))) {
        fault_happened(h->w, hit->fault); /* hit, or the host stopped of it */
    }
    free(hit);
}

static void watch_hit(struct sim_host *h, enum sim_fault fault)
{
    struct hit *hit = malloc(sizeof(*hit));
    tsr_assert(hit != NULL);
    *hit = (struct hit){h, fault, h->life};
    sim_after(h->w->sim, 0, HIT_LOOK_MS * 1000, look_for_hit, free, hit);
}

bool fault_log_error(struct sim_host *h)
{
    if (!h->up || h->failing) {
        return false;
    }
    static const unsigned kinds[] = {SIM_FS_WRITE,  SIM_FS_SYNC,     SIM_FS_SYNC | SIM_FS_WRITE,
                                     SIM_FS_RESIZE, SIM_FS_SYNC_DIR, SIM_FS_ANY};
    world_note(h->w, "host %u: a call on the log will fail", h->n);
    h->failing = true;
    sim_fs_fail(h->raft_fs, kinds[world_below(h->w, 6)], world_below(h->w, 25),
                world_below(h->w, 3) == 0 ? TSR_ENOSPC : TSR_EIO, 1 + world_below(h->w, 3));
    watch_hit(h, FAULT_log_error);
    return false; /* counted when it hits */
}

/* A call that failed before there was room again may be told of a little later. */
static void log_full_over(void *arg)
{
    struct sim_host *h = arg;
    h->log_full = false;
}

static void log_room_again(void *arg)
{
    struct sim_host *h = arg;
    sim_fs_limit(h->raft_fs, 0);
    if (h->log_full) {
        fault_later(h->w, 1000, 1000, log_full_over, h);
    }
}

/* What the log does then is its own affair, as long as nothing that was said is lost. */
bool fault_log_full(struct sim_host *h)
{
    if (!h->up || h->log_full) {
        return false;
    }
    world_note(h->w, "host %u has no room for its log", h->n);
    h->log_full = true;
    sim_fs_limit(h->raft_fs,
                 (int64_t)sim_fs_used(h->raft_fs) + (int64_t)world_below(h->w, 70000) + 1);
    fault_later(h->w, 500, 5000, log_room_again, h);
    return true;
}

bool fault_blob_error(struct sim_host *h)
{
    if (!h->up) {
        return false;
    }
    world_note(h->w, "host %u: calls on the blobs will fail", h->n);
    h->io_error = true;
    sim_fs_fail(h->blob_fs, world_below(h->w, 2) == 0 ? SIM_FS_ANY : SIM_FS_SYNC | SIM_FS_SYNC_DIR,
                world_below(h->w, 30), TSR_EIO, 1 + world_below(h->w, 4));
    watch_hit(h, FAULT_blob_error);
    return false;
}

bool fault_store_error(struct sim_host *h)
{
    if (!h->up || h->failing) {
        return false;
    }
    world_note(h->w, "host %u: a call of the metadata store will fail", h->n);
    h->failing = true;
    kv_mem_fail_after(h->meta_kv, 1 + (unsigned)world_below(h->w, 400));
    watch_hit(h, FAULT_store_error);
    return false;
}

bool fault_index_error(struct sim_host *h)
{
    if (!h->up) {
        return false;
    }
    world_note(h->w, "host %u: a call of the chunk index will fail", h->n);
    h->io_error = true;
    kv_mem_fail_after(h->index_kv, 1 + (unsigned)world_below(h->w, 100));
    watch_hit(h, FAULT_index_error);
    return false;
}

static void room_again(void *arg)
{
    struct sim_host *h = arg;
    sim_fs_limit(h->blob_fs, 0);
}

bool fault_blob_full(struct sim_host *h)
{
    if (!h->up) {
        return false; /* a disk that was never used has to take its identity first */
    }
    world_note(h->w, "host %u has no room for blobs", h->n);
    sim_fs_limit(h->blob_fs,
                 (int64_t)sim_fs_used(h->blob_fs) + (int64_t)world_below(h->w, 20000) + 1);
    fault_later(h->w, 500, 5000, room_again, h);
    return true;
}

/* --- disks that are hurt: one host at a time
 * ------------------------------------------------------------------------- */

static bool may_hurt(struct sim_host *h)
{
    struct world *w = h->w;
    return w->damaged == 0 && fault_all_run(w) && check_formed(w) &&
           check_images_elsewhere(w, h->n);
}

/* Is the host that was hurt whole again? Looked at from time to time. */
static void look_at_damage(void *arg)
{
    struct world *w = arg;
    if (w->damaged != 0 && !w->hosts[w->damaged].fragile && fault_all_run(w) && check_settled(w)) {
        world_note(w, "host %u is whole again", w->damaged);
        w->hosts[w->damaged].rotten = false;
        w->damaged = 0;
        return;
    }
    if (w->damaged != 0) {
        sim_after(w->sim, 0, SETTLE_LOOK_MS * 1000, look_at_damage, NULL, w);
    }
}

static void hurt(struct sim_host *h)
{
    h->w->damaged = h->n;
    sim_after(h->w->sim, 0, SETTLE_LOOK_MS * 1000, look_at_damage, NULL, h->w);
}

bool fault_wipe(struct sim_host *h)
{
    if (!may_hurt(h)) {
        return false;
    }
    world_note(h->w, "host %u gets new disks", h->n);
    hurt(h);
    host_join_anew(h, true);
    return true;
}

bool fault_replace(struct sim_host *h)
{
    struct world *w = h->w;
    if (w->host_count == SIM_HOSTS_MAX || hosts_live(w) < 3 || !may_hurt(h)) {
        return false;
    }
    world_note(w, "host %u is gone for good", h->n);
    host_replace(h);
    hurt(&w->hosts[w->host_count]);
    return true;
}

/* --- writes that do not reach the disk, or not where they should (F22)
 * -------------------------------------- */

static void bad_write_shows(void *arg);

/* Power fails at once, before later writes can tell that one is missing. */
static void bad_write_hasty(void *arg)
{
    struct sim_host *h = arg;
    if (h->fragile &&
        sim_fs_bad_write_made(h->rotten_fault == FAULT_blob_lost ? h->blob_fs : h->raft_fs)) {
        sim_after(h->w->sim, 0, world_below(h->w, 4000), bad_write_shows, NULL, h);
    } else if (h->fragile) {
        sim_after(h->w->sim, 0, 1000, bad_write_hasty, NULL, h);
    }
}

/* Power fails, so that the disk shows what it holds. Not before the other replicas are enough. */
static void bad_write_shows(void *arg)
{
    struct sim_host *h = arg;
    struct world *w = h->w;
    bool blob = h->rotten_fault == FAULT_blob_lost;
    struct fs *fs = blob ? h->blob_fs : h->raft_fs;
    if (!h->fragile) {
        return;
    }
    if (!sim_fs_bad_write_made(fs)) {
        h->fragile = false;
        sim_fs_bad_write_cancel(fs);
        return;
    }
    if (!h->up || (blob && !check_images_elsewhere(w, h->n))) {
        fault_later(w, 100, 400, bad_write_shows, h);
        return;
    }
    h->fragile = false;
    fault_happened(w, h->rotten_fault);
    (void)fault_crash(h, SIM_FS_KEEP);
}

static void bad_write(struct sim_host *h, struct fs *fs, enum sim_fault fault,
                      enum sim_fs_bad_write kind)
{
    static const int64_t shifts[] = {-4096, -512, 512, 1024, 4096, 65536};
    world_note(h->w, "host %u: %s", h->n, sim_fault_names[fault]);
    h->fragile = true;
    h->rotten_fault = fault;
    sim_fs_bad_write(fs, "/", kind, shifts[world_below(h->w, array_len(shifts))]);
    fault_later(h->w, 50, 1500, bad_write_shows, h);
    if (world_below(h->w, 2) == 0) {
        bad_write_hasty(h);
    }
}

bool fault_log_bad(struct sim_host *h, enum sim_fault fault)
{
    if (!may_hurt(h)) {
        return false;
    }
    hurt(h);
    h->rotten = true;
    bad_write(h, h->raft_fs, fault, fault == FAULT_log_lost ? SIM_FS_LOST : SIM_FS_MISDIRECTED);
    return false;
}

/* As blob_rot: hurt until somebody reads it. */
bool fault_blob_lost(struct sim_host *h)
{
    struct world *w = h->w;
    if ((w->damaged != 0 && w->damaged != h->n) || h->fragile || !h->up || !fault_all_run(w) ||
        !check_images_elsewhere(w, h->n)) {
        return false;
    }
    w->damaged = h->n;
    bad_write(h, h->blob_fs, FAULT_blob_lost,
              world_below(w, 2) == 0 ? SIM_FS_LOST : SIM_FS_MISDIRECTED);
    return false;
}

/* --- bits that flip
 * ----------------------------------------------------------------------------------------- */

struct names {
    struct world *w;
    char path[160];
    unsigned seen;
    const char *dir;
    struct fs *fs;
};

static int pick_name(void *arg, const char *name, bool is_dir)
{
    struct names *p = arg;
    if (!is_dir && world_below(p->w, ++p->seen) == 0) { /* each with the same chance */
        (void)snprintf(p->path, sizeof(p->path), "%s/%.100s", p->dir, name);
    }
    return 0;
}

static bool flip_some(struct world *w, struct fs *fs, const char *path)
{
    struct fs_stat st;
    if (path[0] == '\0' || fs_stat(fs, path, &st) != 0 || st.size == 0) {
        return false;
    }
    for (unsigned i = 0; i < 1 + world_below(w, 3); i++) {
        (void)sim_fs_flip(fs, path, (int64_t)world_below(w, (uint64_t)st.size),
                          (uint8_t)(1 << world_below(w, 8)));
    }
    world_note(w, "bits of %s flip", path);
    return true;
}

/* The host is down when the log rots: what it finds at start is what counts. */
bool fault_log_rot(struct sim_host *h)
{
    struct names names = {.w = h->w, .dir = "raft", .fs = h->raft_fs};
    if (!may_hurt(h)) {
        return false;
    }
    (void)fault_crash(h, (enum sim_fs_crash_mode)fault_between(h->w, SIM_FS_KILL, SIM_FS_RANDOM));
    (void)fs_list(h->raft_fs, "raft", pick_name, &names);
    if (!flip_some(h->w, h->raft_fs, names.path)) {
        return false;
    }
    h->rotten = true;
    hurt(h);
    return true;
}

struct vanish {
    struct fs *fs;
    bool vote; /* it goes, too */
};

static int vanish_name(void *arg, const char *name, bool is_dir)
{
    struct vanish *v = arg;
    char path[160];
    (void)snprintf(path, sizeof(path), "raft/%.100s", name);
    return is_dir || (!v->vote && strncmp(name, "vote", 4) == 0) ? 0 : fs_unlink(v->fs, path);
}

/* One file, all of the log, or the vote with it. */
bool fault_log_gone(struct sim_host *h)
{
    struct world *w = h->w;
    struct names names = {.w = w, .dir = "raft", .fs = h->raft_fs};
    if (!may_hurt(h)) {
        return false;
    }
    (void)fault_crash(h, world_below(w, 2) == 0 ? SIM_FS_KILL : SIM_FS_KEEP);
    unsigned kind = (unsigned)world_below(w, 4);
    if (kind < 2) {
        (void)fs_list(h->raft_fs, "raft", pick_name, &names);
        (void)fs_unlink(h->raft_fs, names.path);
    } else {
        struct vanish v = {h->raft_fs, kind == 3};
        (void)fs_list(h->raft_fs, "raft", vanish_name, &v);
    }
    (void)fs_sync_dir(h->raft_fs, "raft");
    world_note(w, "host %u: %s vanished", h->n, kind < 2 ? names.path : "the log");
    h->rotten = true;
    hurt(h);
    return true;
}

static int pick_dir(void *arg, const char *name, bool is_dir)
{
    struct names *p = arg;
    char dir[64];
    if (!is_dir) {
        return 0;
    }
    (void)snprintf(dir, sizeof(dir), "blobs/chunks/%.8s", name);
    p->dir = dir;
    return fs_list(p->fs, dir, pick_name, p);
}

/* A chunk of one of the newest images that some other host has to fetch when it is read there; the
 * process of @h may still trust it. */
static bool pick_trusted(struct sim_host *h, char path[160])
{
    struct world *w = h->w;
    unsigned newest = w->image_count < 12 ? w->image_count : 12;
    for (unsigned tries = 0; tries < 30 && newest > 0; tries++) {
        unsigned i = w->image_count - 1 - (unsigned)world_below(w, newest);
        uint32_t content = w->images[i].content;
        if (content == 0) {
            continue;
        }
        unsigned at = (unsigned)world_below(w, content_chunk_count(content));
        const char *hex = content_chunk(content, at);
        (void)snprintf(path, 160, "blobs/chunks/%.2s/%s", hex, hex);
        if (hex[0] == '\0' || !sim_fs_has(h->blob_fs, path)) {
            continue;
        }
        for (unsigned n = 1; n <= w->host_count; n++) {
            if (host_runs(&w->hosts[n]) && !sim_fs_has(w->hosts[n].blob_fs, path)) {
                return true;
            }
        }
    }
    return false;
}

/* Stays hurt until somebody reads it, so that no other host may be hurt until the end. A process
 * may trust what it hashed since the chunk was written, unless told otherwise: it ends, too, or
 * (one chunk at a time) it gives wrong bytes until it does. */
bool fault_blob_rot(struct sim_host *h)
{
    struct world *w = h->w;
    struct names names = {.w = w, .fs = h->blob_fs};
    if (w->damaged != 0 && w->damaged != h->n) {
        return false;
    }
    if (!h->up || !fault_all_run(w) || !check_images_elsewhere(w, h->n) || !check_uploads_over(w)) {
        return false;
    }
    bool trusted = !w->verify_always && h->blind_life != h->life && world_below(w, 4) > 0 &&
                   pick_trusted(h, names.path);
    if (!trusted) {
        (void)fs_list(h->blob_fs, "blobs/chunks", pick_dir, &names);
    }
    if (!flip_some(w, h->blob_fs, names.path)) {
        return false;
    }
    w->damaged = h->n;
    if (trusted) {
        h->blind_life = h->life;
        (void)snprintf(h->blind_chunk, sizeof(h->blind_chunk), "%.64s",
                       strrchr(names.path, '/') + 1);
        return true;
    }
    return w->verify_always || fault_crash(h, SIM_FS_KILL);
}

/* Power fails once more where a write is missing on the disk: not later, when all must be well. */
static void show_bad_write(struct sim_host *h)
{
    if (h->fragile) {
        bad_write_shows(h);
    }
    if (h->fragile && !h->up) {
        sim_fs_crash(h->rotten_fault == FAULT_blob_lost ? h->blob_fs : h->raft_fs, 0, SIM_FS_KEEP);
    }
    h->fragile = false;
}

void fault_disks_heal(struct sim_host *h)
{
    show_bad_write(h);
    disk_back(h);
    room_again(h);
    log_room_again(h);
    sim_fs_fail(h->raft_fs, 0, 0, 0, 0);
    sim_fs_fail(h->blob_fs, 0, 0, 0, 0);
    kv_mem_fail_after(h->meta_kv, 0);
    kv_mem_fail_after(h->index_kv, 0);
}
