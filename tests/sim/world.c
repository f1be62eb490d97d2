#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tessera/base/log.h"

enum {
    FORM_MS = 60000,
    HEAL_MS = 150000, /* a seal that nobody answers is waited for two minutes */
    CHAOS_MAX_MS = 240000,
    LOOK_MS = 50,
    SETTLED_LOOK_MS = 200, /* looks at every image on every host */
    OPS_MIN = 520,
    FAULTS_MIN = 3,
};

static struct world *the_world; /* for the handler of a failed assertion */

uint64_t world_ms(const struct world *w)
{
    return sim_now_ms(w->sim);
}

uint64_t world_below(struct world *w, uint64_t limit)
{
    return sim_below(w->sim, limit);
}

void world_mix(struct world *w, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++) {
        w->hash = (w->hash ^ p[i]) * UINT64_C(1099511628211);
    }
}

/* --- telling
 * ------------------------------------------------------------------------------------------------------
 */

static char *ring_next(struct world *w)
{
    return w->ring[w->ring_at++ % RING_LINES];
}

void world_note(struct world *w, const char *fmt, ...)
{
    char *line = ring_next(w);
    uint64_t ns = sim_now_ns(w->sim);
    int n = snprintf(line, RING_LINE, "%6llu.%06llu ", (unsigned long long)(ns / 1000000000),
                     (unsigned long long)(ns / 1000 % 1000000));
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line + n, (size_t)(RING_LINE - n), fmt, args);
    va_end(args);
    world_mix(w, line, strlen(line));
    if (w->trace) {
        fprintf(stderr, "%s\n", line);
    }
}

/* Log lines of the hosts are shown, but are not part of the hash. */
static void log_line(void *arg, enum log_level level, const char *text)
{
    struct world *w = arg;
    char *line = ring_next(w);
    uint64_t ns = sim_now_ns(w->sim);
    (void)level;
    (void)snprintf(line, RING_LINE, "%6llu.%06llu [%u] %.150s",
                   (unsigned long long)(ns / 1000000000), (unsigned long long)(ns / 1000 % 1000000),
                   sim_running_group(w->sim), strlen(text) > 32 ? text + 32 : text);
    if (w->trace) {
        fprintf(stderr, "%s\n", line);
    }
}

static void tell_ring(struct world *w)
{
    unsigned n = w->ring_at < RING_LINES ? w->ring_at : RING_LINES;
    fprintf(stderr, "--- the last %u events\n", n);
    for (unsigned i = w->ring_at - n; i != w->ring_at; i++) {
        fprintf(stderr, "%s\n", w->ring[i % RING_LINES]);
    }
}

static void tell_where(struct world *w)
{
    uint64_t ns = sim_now_ns(w->sim);
    fprintf(stderr, "seed %llu, virtual time %llu.%06llu s, step %llu\n",
            (unsigned long long)w->seed, (unsigned long long)(ns / 1000000000),
            (unsigned long long)(ns / 1000 % 1000000), (unsigned long long)w->steps);
}

void world_fail(struct world *w, const char *fmt, ...)
{
    va_list args;
    signal(SIGABRT, SIG_DFL);
    if (!w->trace) {
        tell_ring(w);
    }
    fprintf(stderr, "VIOLATION: ");
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    tell_where(w);
    _exit(1);
}

static void on_abort(int sig)
{
    signal(sig, SIG_DFL);
    if (the_world != NULL) {
        if (!the_world->trace) {
            tell_ring(the_world);
        }
        fprintf(stderr, "VIOLATION: signal %d\n", sig);
        tell_where(the_world);
    }
    raise(sig);
}

void world_totals(struct world *w)
{
    for (unsigned i = 0; i < OP_COUNT; i++) {
        printf("  %-14s %5llu, ok %llu\n", sim_op_names[i], (unsigned long long)w->ops_all[i],
               (unsigned long long)w->ops_ok[i]);
    }
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        printf("  %-14s %5llu\n", sim_fault_names[i], (unsigned long long)w->faults[i]);
    }
}

/* --- time
 * ---------------------------------------------------------------------------------------------------------
 */

void world_step(struct world *w)
{
    if (!sim_step(w->sim)) {
        world_fail(w, "nothing is left to happen");
    }
    w->steps++;
    check_step(w);
}

void world_for(struct world *w, uint64_t ms)
{
    uint64_t end = world_ms(w) + ms;
    while (world_ms(w) < end) {
        world_step(w);
    }
}

bool world_wait(struct world *w, bool (*cond)(struct world *w), uint64_t every_ms, uint64_t ms)
{
    uint64_t end = world_ms(w) + ms;
    while (!cond(w)) {
        if (world_ms(w) >= end) {
            return false;
        }
        world_for(w, every_ms);
    }
    return true;
}

/* --- the run
 * ------------------------------------------------------------------------------------------------------
 */

struct world *world_new(uint64_t seed, bool trace)
{
    struct world *w = calloc(1, sizeof(*w));
    tsr_assert(w != NULL);
    the_world = w;
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    w->seed = seed;
    w->trace = trace;
    w->hash = UINT64_C(14695981039346656037);
    w->sim = sim_new(seed);
    w->peers = sim_peers_new();
    w->digests = calloc(SIM_INDEX_MAX, sizeof(*w->digests));
    w->digest_known = calloc(SIM_INDEX_MAX, sizeof(*w->digest_known));
    tsr_assert(w->digests != NULL && w->digest_known != NULL);
    log_set_sink(log_line, w);
    log_set_level(LOG_INFO);
    w->host_count = world_below(w, 2) == 0 ? 3 : 3 + (unsigned)world_below(w, 3);
    w->limits = (struct image_limits){.image_size_cap = 1 << 30,
                                      .property_quota = 128,
                                      .tag_quota = 128,
                                      .member_quota = 128,
                                      .replicas = 2 + (int)world_below(w, 2),
                                      .write_replicas = 2,
                                      .upload_idle_ms = 300000};
    w->verify_always = world_below(w, 2) == 0;
    w->snapshot_entries = 40 + world_below(w, 400);
    w->snapshot_trailing = 5 + world_below(w, 60);
    /* As on a host, a spare segment has room for what may be in flight (consensus/space.c). */
    bool wide = world_below(w, 3) > 0;
    w->segment_bytes = UINT64_C(8192) << world_below(w, 4);
    w->window_bytes = wide ? w->segment_bytes / 2 : 1 + world_below(w, 1000);
    w->slow_blobs = world_below(w, 4) == 0;
    w->calm = true;
    net_speed(w, 100, 200 + world_below(w, 5000));
    return w;
}

static bool ops_ended(struct world *w)
{
    return w->busy == 0;
}

static void form(struct world *w)
{
    world_note(w, "seed %llu: %u hosts, replicas %d, snapshot every %llu",
               (unsigned long long)w->seed, w->host_count, w->limits.replicas,
               (unsigned long long)w->snapshot_entries);
    for (unsigned n = 1; n <= w->host_count; n++) {
        host_make(w, n);
        if (n != 1) {
            host_join_first(&w->hosts[n]);
        }
    }
    host_bootstrap(&w->hosts[1]);
    if (!world_wait(w, check_formed, LOOK_MS, FORM_MS)) {
        world_fail(w, "the cluster was not formed within %d s", FORM_MS / 1000);
    }
    world_note(w, "formed");
}

static void heal(struct world *w)
{
    char why[200] = "";
    w->closing = true;
    faults_heal(w);
    world_note(w, "healed");
    if (!world_wait(w, ops_ended, LOOK_MS, HEAL_MS)) {
        clients_tell(w);
        world_fail(w, "%u operations did not end within %d s of healing", w->busy, HEAL_MS / 1000);
    }
    if (!world_wait(w, check_settled, SETTLED_LOOK_MS, HEAL_MS)) {
        check_settled_why(w, why, sizeof(why));
        world_fail(w, "not settled within %d s of healing: %s", HEAL_MS / 1000, why);
    }
    world_note(w, "settled");
}

static uint64_t faults_seen(const struct world *w)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        sum += w->faults[i];
    }
    return sum;
}

void world_run(struct world *w, uint64_t chaos_ms)
{
    form(w);
    clients_start(w, 3 + (unsigned)world_below(w, 5));
    faults_start(w);
    uint64_t begin = world_ms(w);
    while (world_ms(w) - begin < chaos_ms ||
           ((w->ops_done < OPS_MIN || faults_seen(w) < FAULTS_MIN) &&
            world_ms(w) - begin < CHAOS_MAX_MS)) {
        world_for(w, 100);
    }
    heal(w);
    check_end(w);
    history_check(w);
    world_note(w, "end");
}
