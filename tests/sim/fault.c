/* What goes wrong. One fault after another at random times; each ends by itself after a while.
 *
 * What was promised bounds what is done: processes and power may fail on all hosts at once, but a
 * disk is hurt (new, or its bits flipped) on one host at a time, and on the next one only when the
 * first is whole again; and no image's last good replica is touched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"

enum { EVERY_MIN_MS = 100, EVERY_MAX_MS = 1300 };

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

uint64_t fault_between(struct world *w, uint64_t min, uint64_t max)
{
    return min + world_below(w, max - min + 1);
}

void fault_happened(struct world *w, enum sim_fault fault)
{
    w->faults[fault]++;
}

bool fault_all_run(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (!w->hosts[n].gone && !host_runs(&w->hosts[n])) {
            return false;
        }
    }
    return true;
}

/* --- processes and power
 * ------------------------------------------------------------------------------------------ */

bool fault_crash(struct sim_host *h, enum sim_fs_crash_mode mode)
{
    if (!h->up) {
        return false;
    }
    host_crash(h, h->fragile ? SIM_FS_KILL : mode);
    host_restart_after(h, fault_between(h->w, 100, world_below(h->w, 4) == 0 ? 9000 : 2000));
    return true;
}

static bool crash_all(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        (void)fault_crash(&w->hosts[n],
                          (enum sim_fs_crash_mode)fault_between(w, SIM_FS_DROP, SIM_FS_RANDOM));
    }
    return true;
}

/* The second time while it starts: its disk ends every call from some point on, or soon after. */
static void crash_again(void *arg)
{
    struct sim_host *h = arg;
    if (h->up && !h->w->calm) {
        host_crash(h, h->fragile ? SIM_FS_KILL : SIM_FS_RANDOM);
        host_restart_after(h, fault_between(h->w, 1, 500));
    }
}

static bool crash_start(struct sim_host *h)
{
    struct world *w = h->w;
    if (!h->up || h->rotten || h->fragile) {
        return false;
    }
    enum sim_fs_crash_mode mode =
        (enum sim_fs_crash_mode)fault_between(w, SIM_FS_KILL, SIM_FS_RANDOM);
    uint64_t ms = fault_between(w, 50, 1000);
    host_crash(h, mode);
    world_note(w, "host %u will crash again while it starts", h->n);
    if (world_below(w, 3) > 0) {
        h->failing = h->stopping = true;
        sim_fs_stop(world_below(w, 3) > 0 ? h->raft_fs : h->blob_fs, world_below(w, 80));
    }
    host_restart_after(h, ms);
    sim_after(w->sim, 0, ms * 1000 + world_below(w, 60000), crash_again, NULL, h);
    return true;
}

static bool pause_all(struct world *w)
{
    uint64_t ms = fault_between(w, 100, world_below(w, 3) == 0 ? 8000 : 2000);
    world_note(w, "every host paused for about %llu ms", (unsigned long long)ms);
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (host_runs(&w->hosts[n])) {
            host_pause(&w->hosts[n], ms + world_below(w, 50));
        }
    }
    return true;
}

static bool stop_and_go(struct sim_host *h)
{
    if (!host_runs(h)) {
        return false;
    }
    uint64_t ms = fault_between(h->w, 50, world_below(h->w, 3) == 0 ? 8000 : 1500);
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

void fault_later(struct world *w, uint64_t min_ms, uint64_t max_ms, sim_fn fn, void *arg)
{
    sim_after(w->sim, 0, fault_between(w, min_ms, max_ms) * 1000, fn, NULL, arg);
}

static bool isolate(struct world *w, unsigned n)
{
    world_note(w, "host %u cut off", n);
    for (unsigned i = 1; i <= w->host_count; i++) {
        net_cut(w, n, i, true);
        net_cut(w, i, n, true);
    }
    fault_later(w, 300, 8000, net_good, w);
    return true;
}

static bool split(struct world *w)
{
    unsigned side = (unsigned)fault_between(w, 1, (UINT64_C(1) << w->host_count) - 2);
    world_note(w, "network split, side %x", side);
    for (unsigned a = 1; a <= w->host_count; a++) {
        for (unsigned b = 1; b <= w->host_count; b++) {
            if ((side >> (a - 1) & 1) != (side >> (b - 1) & 1)) {
                net_cut(w, a, b, true);
            }
        }
    }
    fault_later(w, 300, 8000, net_good, w);
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
    fault_later(w, 300, 8000, net_good, w);
    return true;
}

static bool lose(struct world *w)
{
    unsigned per_mille = (unsigned)fault_between(w, 10, 250);
    world_note(w, "loss of %u in 1000", per_mille);
    net_loss(w, per_mille);
    fault_later(w, 500, 6000, loss_ends, w);
    return true;
}

static bool slow_links(struct world *w)
{
    uint64_t ms = fault_between(w, 20, 400);
    world_note(w, "messages take up to %llu ms", (unsigned long long)ms);
    net_speed(w, 1000, ms * 1000);
    fault_later(w, 500, 5000, speed_back, w);
    return true;
}

struct flapping {
    struct world *w;
    unsigned left;
};

static void flap_some(void *arg)
{
    struct flapping *f = arg;
    struct world *w = f->w;
    unsigned a = 1 + (unsigned)world_below(w, w->host_count);
    for (unsigned b = 1; b <= w->host_count; b++) {
        if (world_below(w, 2) == 0) {
            net_break(w, a, b);
            net_break(w, b, a);
        }
    }
    if (f->left-- > 0 && !w->calm) {
        fault_later(w, 5, 400, flap_some, f);
    } else {
        free(f);
    }
}

static bool flap(struct world *w)
{
    struct flapping *f = malloc(sizeof(*f));
    tsr_assert(f != NULL);
    *f = (struct flapping){w, 5 + (unsigned)world_below(w, 30)};
    world_note(w, "connections break %u times", f->left);
    flap_some(f);
    return true;
}

/* --- clocks
 * -------------------------------------------------------------------------------------------------
 */

static bool clock_jump(struct sim_host *h)
{
    int64_t us = ((int64_t)world_below(h->w, 2 * 86400) - 86400) * 1000000;
    world_note(h->w, "host %u: clock is off by %lld s", h->n, (long long)(us / 1000000));
    sim_loop_wall(h->control, us);
    sim_loop_wall(h->worker, us);
    return true;
}

/* Up to a tenth too fast or too slow. */
static bool drift(struct sim_host *h)
{
    int64_t ppm = (int64_t)world_below(h->w, 200001) - 100000;
    world_note(h->w, "host %u: clock drifts by %lld ppm", h->n, (long long)ppm);
    sim_loop_drift(h->control, ppm);
    sim_loop_drift(h->worker, ppm);
    return true;
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

static void demoted(void *arg, int status)
{
    struct world *w = arg;
    world_note(w, "demotion: %s", status == 0 ? "done" : err_name(status));
    if (status == 0) {
        fault_happened(w, FAULT_demote);
    }
}

static bool some_log_hurt(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (w->hosts[n].rotten) {
            return true;
        }
    }
    return false;
}

/* Two voters must be left that can vouch for their logs, so that nothing stops for long. */
static bool demote(struct world *w, struct sim_host *h)
{
    static struct consensus_status st;
    struct sim_host *leader = host_leader(w);
    unsigned voters = 0;
    if (leader == NULL || leader == h || h->gone || some_log_hurt(w) || !check_formed(w)) {
        return false;
    }
    consensus_status(leader->consensus, &st);
    for (unsigned i = 0; i < st.member_count; i++) {
        voters += st.members[i].role == CONSENSUS_VOTER;
    }
    if (voters < 3) {
        return false;
    }
    int rv = consensus_member_role(leader->consensus, h->raft_id, CONSENSUS_STANDBY, demoted, w);
    world_note(w, "host %u shall be standby: %s", h->n, err_name(rv));
    return false; /* counted when it is done */
}

/* --- who leads
 * ---------------------------------------------------------------------------------------------------
 */

static void cut_off_now(void *arg)
{
    struct sim_host *h = arg;
    if (!h->w->calm) {
        (void)isolate(h->w, h->n);
    }
}

/* It goes on leading for half a second, and does not hear that somebody else does. */
static bool handover_cut(struct world *w)
{
    struct sim_host *leader = host_leader(w);
    if (leader == NULL || !order(leader, "leader.transfer", json_object())) {
        return false;
    }
    sim_after(w->sim, 0, world_below(w, 12000), cut_off_now, NULL, leader);
    return true;
}

enum { TOPPLE_LOOK_US = 1500, TOPPLE_MS = 9000 };

struct toppling {
    struct world *w;
    unsigned left;
    uint64_t until_ms, term;
    struct sim_host *next;
};

static void topple_look(void *arg);

static void topple_end(struct toppling *t)
{
    t->w->toppling = false;
    net_heal(t->w);
    speed_back(t->w);
    free(t);
}

/* Who was cut off before comes back, and may lead next. */
static void topple_strike(void *arg)
{
    struct toppling *t = arg;
    struct world *w = t->w;
    struct sim_host *h = t->next;
    net_heal(w);
    unsigned way = (unsigned)world_below(w, 8);
    world_note(w, "host %u led in term %llu and falls", h->n, (unsigned long long)t->term);
    if (way == 0) {
        (void)fault_crash(h, (enum sim_fs_crash_mode)world_below(w, 4));
    } else if (way == 1) {
        host_pause(h, fault_between(w, 300, 2500));
    } else {
        for (unsigned i = 1; i <= w->host_count; i++) {
            net_cut(w, h->n, i, true);
            net_cut(w, i, h->n, way > 2);
        }
    }
    t->left--;
    topple_look(t);
}

static void topple_look(void *arg)
{
    static struct consensus_status st;
    struct toppling *t = arg;
    struct world *w = t->w;
    if (w->calm || t->left == 0 || world_ms(w) > t->until_ms) {
        topple_end(t);
        return;
    }
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (!host_runs(&w->hosts[n])) {
            continue;
        }
        consensus_status(w->hosts[n].consensus, &st);
        if (st.state == CONSENSUS_LEADER && st.term > t->term) {
            t->term = st.term;
            t->next = &w->hosts[n];
            uint64_t us = world_below(w, 2) == 0 ? world_below(w, 4000) : world_below(w, 120000);
            sim_after(w->sim, 0, us, topple_strike, NULL, t);
            return;
        }
    }
    sim_after(w->sim, 0, TOPPLE_LOOK_US, topple_look, NULL, t);
}

/* One after the other, soon after each was elected, before what it says has arrived or been
 * answered: what they took alone must not come back as if it had been committed. */
static bool topple(struct world *w)
{
    if (w->toppling) {
        return false;
    }
    struct toppling *t = calloc(1, sizeof(*t));
    tsr_assert(t != NULL);
    *t = (struct toppling){.w = w, .left = 3 + (unsigned)world_below(w, 6)};
    t->until_ms = world_ms(w) + TOPPLE_MS;
    w->toppling = true;
    world_note(w, "%u leaders shall fall", t->left);
    net_speed(w, 500, 2000 + world_below(w, 40000));
    topple_look(t);
    return true;
}

/* --- the schedule
 * ----------------------------------------------------------------------------------------------------
 */

static bool inflict(struct world *w, enum sim_fault fault)
{
    struct sim_host *h = &w->hosts[1 + world_below(w, w->host_count)];
    struct sim_host *leader = host_leader(w);
    if (h->gone) {
        return false;
    }
    if (leader != NULL && world_below(w, 3) == 0) {
        h = leader; /* who leads has most to lose */
    }
    switch (fault) {
    case FAULT_kill:
        return fault_crash(h, SIM_FS_KILL);
    case FAULT_power_drop:
        return fault_crash(h, SIM_FS_DROP);
    case FAULT_power_keep:
        return fault_crash(h, SIM_FS_KEEP);
    case FAULT_power_random:
        return fault_crash(h, SIM_FS_RANDOM);
    case FAULT_power_all:
        return crash_all(w);
    case FAULT_crash_start:
        return crash_start(h);
    case FAULT_pause_all:
        return pause_all(w);
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
    case FAULT_flap:
        return flap(w);
    case FAULT_slow_disk:
        return fault_slow_disk(h);
    case FAULT_log_error:
        return fault_log_error(h);
    case FAULT_log_full:
        return fault_log_full(h);
    case FAULT_log_lost:
    case FAULT_log_astray:
        return fault_log_bad(h, fault);
    case FAULT_blob_lost:
        return fault_blob_lost(h);
    case FAULT_replace:
        return fault_replace(h);
    case FAULT_demote:
        return demote(w, h);
    case FAULT_blob_error:
        return fault_blob_error(h);
    case FAULT_blob_full:
        return fault_blob_full(h);
    case FAULT_store_error:
        return fault_store_error(h);
    case FAULT_index_error:
        return fault_index_error(h);
    case FAULT_clock:
        return clock_jump(h);
    case FAULT_drift:
        return drift(h);
    case FAULT_wipe:
        return fault_wipe(h);
    case FAULT_log_rot:
        return fault_log_rot(h);
    case FAULT_log_gone:
        return fault_log_gone(h);
    case FAULT_blob_rot:
        return fault_blob_rot(h);
    case FAULT_transfer:
        return order(h, "leader.transfer", json_object());
    case FAULT_handover_cut:
        return handover_cut(w);
    case FAULT_topple:
        return topple(w);
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
        fault_happened(w, fault);
    }
    fault_later(w, EVERY_MIN_MS, EVERY_MAX_MS, next_fault, w);
}

#define KIND(name) (UINT64_C(1) << FAULT_##name)

/* Kinds that are worst together. */
static const uint64_t themes[] = {
    KIND(topple) | KIND(handover_cut) | KIND(transfer) | KIND(endpoint_move) | KIND(isolate) |
        KIND(pause) | KIND(slow_disk) | KIND(slow_links) | KIND(one_way) | KIND(kill),
    KIND(log_rot) | KIND(log_lost) | KIND(log_astray) | KIND(log_gone) | KIND(log_error) |
        KIND(log_full) | KIND(kill) | KIND(power_random) | KIND(transfer),
    KIND(blob_rot) | KIND(blob_lost) | KIND(blob_error) | KIND(blob_full) | KIND(index_error) |
        KIND(slow_disk) | KIND(kill) | KIND(power_random),
    KIND(wipe) | KIND(replace) | KIND(demote) | KIND(transfer) | KIND(kill) | KIND(pause),
    KIND(isolate) | KIND(split) | KIND(one_way) | KIND(loss) | KIND(slow_links) | KIND(flap) |
        KIND(kill),
};

/* Each run has its own taste: some kinds never, some often, or all of one theme. Runs in which
 * everything happens hide what takes several of one kind. */
void faults_start(struct world *w)
{
    bool mild = world_below(w, 4) == 0;
    uint64_t theme = world_below(w, 3) == 0 ? themes[world_below(w, array_len(themes))] : 0;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        static const unsigned taste[] = {0, 0, 1, 1, 2, 6};
        unsigned times = taste[world_below(w, array_len(taste))];
        w->weights[i] =
            theme == 0 ? usual[i] * (mild ? 1 : times) : usual[i] * (unsigned)(theme >> i & 1);
    }
    w->weights[FAULT_kill]++; /* never nothing at all */
    for (unsigned i = 0; i < FAULT_COUNT && w->only != 0; i++) {
        w->weights[i] = w->only >> i & 1 ? usual[i] : 0;
    }
    w->calm = false;
    fault_later(w, EVERY_MIN_MS, EVERY_MAX_MS, next_fault, w);
}

void faults_heal(struct world *w)
{
    w->calm = true;
    net_heal(w);
    net_loss(w, 0);
    net_speed(w, 100, 2000);
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (h->gone) {
            continue;
        }
        fault_disks_heal(h);
        if (h->paused_until_ms > world_ms(w) && !h->fatal) {
            host_pause(h, 0);
        }
        if (h->stopping) { /* its disk does nothing more until the machine starts anew */
            if (h->up) {
                host_crash(h, SIM_FS_RANDOM);
            }
            sim_fs_crash(h->raft_fs, 0, SIM_FS_KILL);
            sim_fs_crash(h->blob_fs, 0, SIM_FS_KILL);
            h->stopping = h->failing = false;
        }
        bool blind = h->blind_life == h->life;
        if (h->io_error || h->log_full ||
            blind) { /* files that a failed call left behind are found at the next start */
            host_crash(h, SIM_FS_KILL);
        }
        host_restart_after(h, 50);
    }
}
