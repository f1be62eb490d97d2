/* What goes wrong. One fault after another at random times; each ends by itself after a while.
 *
 * What was promised bounds what is done: processes and power may fail on all hosts at once, but a
 * disk is hurt (new, or its bits flipped) on one host at a time, and on the next one only when the
 * first is whole again; and no image's last good replica is touched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { EVERY_MIN_MS = 100, EVERY_MAX_MS = 1300, SETTLE_LOOK_MS = 500, HIT_LOOK_MS = 2500 };

const char *const sim_fault_names[FAULT_COUNT] = {
#define X(name, weight) #name,
    SIM_FAULTS(X)
#undef X
};

static const unsigned usual[FAULT_COUNT] = {
#define X(name, weight) weight,
    SIM_FAULTS(X)
#undef X
};

static uint64_t between(struct world *w, uint64_t min, uint64_t max)
{
    return min + world_below(w, max - min + 1);
}

static void happened(struct world *w, enum sim_fault fault)
{
    w->faults[fault]++;
}

/* --- processes and power
 * ------------------------------------------------------------------------------------------ */

static bool crash(struct sim_host *h, enum sim_fs_crash_mode mode)
{
    if (!h->up) {
        return false;
    }
    host_crash(h, mode);
    host_restart_after(h, between(h->w, 100, world_below(h->w, 4) == 0 ? 9000 : 2000));
    return true;
}

static bool crash_all(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        (void)crash(&w->hosts[n], (enum sim_fs_crash_mode)between(w, SIM_FS_DROP, SIM_FS_RANDOM));
    }
    return true;
}

static bool stop_and_go(struct sim_host *h)
{
    if (!host_runs(h)) {
        return false;
    }
    uint64_t ms = between(h->w, 50, world_below(h->w, 3) == 0 ? 8000 : 1500);
    world_note(h->w, "host %u paused for %llu ms", h->n, (unsigned long long)ms);
    host_pause(h, ms);
    return true;
}

/* --- the network
 * ---------------------------------------------------------------------------------------------- */

static void net_good(void *arg)
{
    struct world *w = arg;
    world_note(w, "network whole");
    net_heal(w);
}

static void loss_ends(void *arg)
{
    net_loss(arg, 0);
}

static void speed_back(void *arg)
{
    net_speed(arg, 100, 2000);
}

static void later(struct world *w, uint64_t min_ms, uint64_t max_ms, sim_fn fn, void *arg)
{
    sim_after(w->sim, 0, between(w, min_ms, max_ms) * 1000, fn, NULL, arg);
}

static bool isolate(struct world *w, unsigned n)
{
    world_note(w, "host %u cut off", n);
    for (unsigned i = 1; i <= w->host_count; i++) {
        net_cut(w, n, i, true);
        net_cut(w, i, n, true);
    }
    later(w, 300, 8000, net_good, w);
    return true;
}

static bool split(struct world *w)
{
    unsigned side = (unsigned)between(w, 1, (UINT64_C(1) << w->host_count) - 2);
    world_note(w, "network split, side %x", side);
    for (unsigned a = 1; a <= w->host_count; a++) {
        for (unsigned b = 1; b <= w->host_count; b++) {
            if ((side >> (a - 1) & 1) != (side >> (b - 1) & 1)) {
                net_cut(w, a, b, true);
            }
        }
    }
    later(w, 300, 8000, net_good, w);
    return true;
}

static bool one_way(struct world *w, unsigned a)
{
    unsigned b = 1 + (unsigned)world_below(w, w->host_count);
    if (a == b) {
        return false;
    }
    world_note(w, "host %u is no longer heard by host %u", a, b);
    net_cut(w, a, b, true);
    later(w, 300, 8000, net_good, w);
    return true;
}

static bool lose(struct world *w)
{
    unsigned per_mille = (unsigned)between(w, 10, 250);
    world_note(w, "loss of %u in 1000", per_mille);
    net_loss(w, per_mille);
    later(w, 500, 6000, loss_ends, w);
    return true;
}

static bool slow_links(struct world *w)
{
    uint64_t ms = between(w, 20, 400);
    world_note(w, "messages take up to %llu ms", (unsigned long long)ms);
    net_speed(w, 1000, ms * 1000);
    later(w, 500, 5000, speed_back, w);
    return true;
}

/* --- disks that fail or are slow
 * ------------------------------------------------------------------------------------ */

static void disk_back(void *arg)
{
    struct sim_host *h = arg;
    sim_pool_delay(h->log_pool, 100, 1500);
    sim_pool_delay(h->disk_pool, 50, 1500);
}

static bool slow_disk(struct sim_host *h)
{
    uint64_t ms = between(h->w, 20, 900);
    world_note(h->w, "host %u has a slow disk, %llu ms", h->n, (unsigned long long)ms);
    sim_pool_delay(h->log_pool, ms * 500, ms * 1000);
    sim_pool_delay(h->disk_pool, ms * 100, ms * 500);
    later(h->w, 500, 6000, disk_back, h);
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
        happened(h->w, hit->fault); /* hit, or the host stopped of it */
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

static bool log_error(struct sim_host *h)
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

static bool blob_error(struct sim_host *h)
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

static bool store_error(struct sim_host *h)
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

static bool index_error(struct sim_host *h)
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

static bool blob_full(struct sim_host *h)
{
    if (!h->up) {
        return false; /* a disk that was never used has to take its identity first */
    }
    world_note(h->w, "host %u has no room for blobs", h->n);
    sim_fs_limit(h->blob_fs,
                 (int64_t)sim_fs_used(h->blob_fs) + (int64_t)world_below(h->w, 20000) + 1);
    later(h->w, 500, 5000, room_again, h);
    return true;
}

static bool clock_jump(struct sim_host *h)
{
    int64_t us = ((int64_t)world_below(h->w, 2 * 86400) - 86400) * 1000000;
    world_note(h->w, "host %u: clock is off by %lld s", h->n, (long long)(us / 1000000));
    sim_loop_wall(h->control, us);
    sim_loop_wall(h->worker, us);
    return true;
}

/* --- disks that are hurt: one host at a time
 * ------------------------------------------------------------------------- */

static bool all_run(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (!host_runs(&w->hosts[n])) {
            return false;
        }
    }
    return true;
}

static bool may_hurt(struct sim_host *h)
{
    struct world *w = h->w;
    return w->damaged == 0 && all_run(w) && check_formed(w) && check_images_elsewhere(w, h->n);
}

/* Is the host that was hurt whole again? Looked at from time to time. */
static void look_at_damage(void *arg)
{
    struct world *w = arg;
    if (w->damaged != 0 && all_run(w) && check_settled(w)) {
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

static bool wipe(struct sim_host *h)
{
    if (!may_hurt(h)) {
        return false;
    }
    world_note(h->w, "host %u gets new disks", h->n);
    hurt(h);
    host_join_anew(h, true);
    return true;
}

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
static bool log_rot(struct sim_host *h)
{
    struct names names = {.w = h->w, .dir = "raft", .fs = h->raft_fs};
    if (!may_hurt(h)) {
        return false;
    }
    (void)crash(h, (enum sim_fs_crash_mode)between(h->w, SIM_FS_KILL, SIM_FS_RANDOM));
    (void)fs_list(h->raft_fs, "raft", pick_name, &names);
    if (!flip_some(h->w, h->raft_fs, names.path)) {
        return false;
    }
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

/* Stays hurt until somebody reads it, so that no other host may be hurt until the end. A process
 * may serve what it hashed since the chunk was written, unless told otherwise: so it ends, too. */
static bool blob_rot(struct sim_host *h)
{
    struct world *w = h->w;
    struct names names = {.w = w, .fs = h->blob_fs};
    if (w->damaged != 0 && w->damaged != h->n) {
        return false;
    }
    if (!h->up || !all_run(w) || !check_images_elsewhere(w, h->n)) {
        return false;
    }
    (void)fs_list(h->blob_fs, "blobs/chunks", pick_dir, &names);
    if (!flip_some(w, h->blob_fs, names.path)) {
        return false;
    }
    w->damaged = h->n;
    return w->verify_always || crash(h, SIM_FS_KILL);
}

/* --- what an operator does
 * ------------------------------------------------------------------------------------------ */

struct order {
    struct cluster_call call;
    struct world *w;
};

static void ordered(struct cluster_call *call, int status, json_t *result, const struct err *err)
{
    struct order *o = call->arg;
    (void)result;
    world_note(o->w, "%s: %s", call->method, status == 0 ? "done" : err->msg);
}

static bool order(struct sim_host *h, const char *method, json_t *args)
{
    if (!host_runs(h)) {
        json_decref(args);
        return false;
    }
    struct order *o = calloc(1, sizeof(*o)); /* left behind if the host dies */
    tsr_assert(o != NULL);
    o->w = h->w;
    o->call = (struct cluster_call){
        .loop = h->worker, .method = method, .args = args, .cb = ordered, .arg = o};
    world_note(h->w, "%s asked of host %u", method, h->n);
    cluster_call(h->cluster, &o->call);
    return true;
}

static bool move_endpoint(struct sim_host *h)
{
    struct world *w = h->w;
    json_t *args = json_object();
    if (world_below(w, 2) == 0) {
        json_set_str(args, "host", w->hosts[1 + world_below(w, w->host_count)].name);
    }
    return order(h, "endpoint.move", args);
}

/* --- the schedule
 * ----------------------------------------------------------------------------------------------------
 */

static bool inflict(struct world *w, enum sim_fault fault)
{
    struct sim_host *h = &w->hosts[1 + world_below(w, w->host_count)];
    struct sim_host *leader = host_leader(w);
    if (leader != NULL && world_below(w, 3) == 0) {
        h = leader; /* who leads has most to lose */
    }
    switch (fault) {
    case FAULT_kill:
        return crash(h, SIM_FS_KILL);
    case FAULT_power_drop:
        return crash(h, SIM_FS_DROP);
    case FAULT_power_keep:
        return crash(h, SIM_FS_KEEP);
    case FAULT_power_random:
        return crash(h, SIM_FS_RANDOM);
    case FAULT_power_all:
        return crash_all(w);
    case FAULT_pause:
        return stop_and_go(h);
    case FAULT_isolate:
        return isolate(w, h->n);
    case FAULT_split:
        return split(w);
    case FAULT_one_way:
        return one_way(w, h->n);
    case FAULT_loss:
        return lose(w);
    case FAULT_slow_links:
        return slow_links(w);
    case FAULT_slow_disk:
        return slow_disk(h);
    case FAULT_log_error:
        return log_error(h);
    case FAULT_blob_error:
        return blob_error(h);
    case FAULT_blob_full:
        return blob_full(h);
    case FAULT_store_error:
        return store_error(h);
    case FAULT_index_error:
        return index_error(h);
    case FAULT_clock:
        return clock_jump(h);
    case FAULT_wipe:
        return wipe(h);
    case FAULT_log_rot:
        return log_rot(h);
    case FAULT_blob_rot:
        return blob_rot(h);
    case FAULT_transfer:
        return order(h, "leader.transfer", json_object());
    case FAULT_endpoint_move:
        return move_endpoint(h);
    case FAULT_COUNT:
        break;
    }
    return false;
}

static enum sim_fault pick(struct world *w)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        sum += w->weights[i];
    }
    unsigned at = (unsigned)world_below(w, sum);
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        if (at < w->weights[i]) {
            return (enum sim_fault)i;
        }
        at -= w->weights[i];
    }
    return FAULT_kill;
}

static void next_fault(void *arg)
{
    struct world *w = arg;
    if (w->calm) {
        return;
    }
    enum sim_fault fault = pick(w);
    if (inflict(w, fault)) {
        happened(w, fault);
    }
    later(w, EVERY_MIN_MS, EVERY_MAX_MS, next_fault, w);
}

/* Each run has its own taste: some kinds never, some often. Runs in which everything happens hide
 * what takes several of one kind. */
void faults_start(struct world *w)
{
    bool mild = world_below(w, 4) == 0;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        static const unsigned taste[] = {0, 0, 1, 1, 2, 6};
        w->weights[i] = usual[i] * (mild ? 1 : taste[world_below(w, array_len(taste))]);
    }
    w->weights[FAULT_kill]++; /* never nothing at all */
    for (unsigned i = 0; i < FAULT_COUNT && w->only != 0; i++) {
        w->weights[i] = w->only >> i & 1 ? usual[i] : 0;
    }
    w->calm = false;
    later(w, EVERY_MIN_MS, EVERY_MAX_MS, next_fault, w);
}

void faults_heal(struct world *w)
{
    w->calm = true;
    net_heal(w);
    net_loss(w, 0);
    net_speed(w, 100, 2000);
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        disk_back(h);
        room_again(h);
        sim_fs_fail(h->raft_fs, 0, 0, 0, 0);
        sim_fs_fail(h->blob_fs, 0, 0, 0, 0);
        kv_mem_fail_after(h->meta_kv, 0);
        kv_mem_fail_after(h->index_kv, 0);
        if (h->paused_until_ms > world_ms(w) && !h->fatal) {
            host_pause(h, 0);
        }
        if (h->io_error) { /* files that a failed call left behind are found at the next start */
            host_crash(h, SIM_FS_KILL);
        }
        host_restart_after(h, 50);
    }
}
