/* tools/sim: one seed, or many in processes of their own. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

enum { CHAOS_MS = 12000, JOBS_MAX = 64, OPS_COUNT = 500, FAULTS_COUNT = 3 };

struct options {
    uint64_t first, last;
    unsigned jobs, seconds;
    uint64_t chaos_ms;
    uint64_t only;
    bool trace, twice, single, keep_going, all_count, all_kinds;
};

/* What a run tells its parent. */
struct result {
    uint64_t seed, hash, ops, faults[FAULT_COUNT], steps, ms, leaders, holders;
    uint64_t ops_all[OP_COUNT], ops_ok[OP_COUNT];
};

static struct totals {
    uint64_t runs, counted, failed, ops, steps, ms;
    uint64_t seeds_with[FAULT_COUNT], faults[FAULT_COUNT], ops_all[OP_COUNT], ops_ok[OP_COUNT];
} totals;

static uint64_t faults_of(const struct result *r)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        sum += r->faults[i];
    }
    return sum;
}

static void run(uint64_t seed, const struct options *o, bool other_memory, struct result *out)
{
    if (other_memory) { /* addresses and stale bytes must not matter */
        (void)mallopt(M_PERTURB, 0x5a);
        for (unsigned i = 0; i < 300; i++) {
            void *volatile hole = malloc(17 + i * 13);
            if (i % 3 != 0) {
                free(hole);
            }
        }
    }
    struct world *w = world_new(seed, o->trace);
    w->only = o->only;
    world_run(w, o->chaos_ms);
    *out = (struct result){.seed = seed,
                           .hash = w->hash,
                           .ops = w->ops_done,
                           .steps = w->steps,
                           .ms = world_ms(w),
                           .leaders = w->leaders,
                           .holders = w->holder_changes};
    memcpy(out->faults, w->faults, sizeof(out->faults));
    memcpy(out->ops_all, w->ops_all, sizeof(out->ops_all));
    memcpy(out->ops_ok, w->ops_ok, sizeof(out->ops_ok));
    if (o->single) {
        world_totals(w);
    }
}

static void show(const struct result *r)
{
    printf("seed %llu: ok, %llu operations, %llu faults, %llu leaders, %llu endpoint holders, "
           "%llu steps, %.1f s of virtual time, hash %016llx\n",
           (unsigned long long)r->seed, (unsigned long long)r->ops,
           (unsigned long long)faults_of(r), (unsigned long long)r->leaders,
           (unsigned long long)r->holders, (unsigned long long)r->steps, (double)r->ms / 1000,
           (unsigned long long)r->hash);
}

static bool counts(const struct result *r)
{
    return r->ops >= OPS_COUNT && faults_of(r) >= FAULTS_COUNT;
}

static void add(const struct result *r)
{
    totals.runs++;
    totals.counted += counts(r);
    totals.ops += r->ops;
    totals.steps += r->steps;
    totals.ms += r->ms;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        totals.faults[i] += r->faults[i];
        totals.seeds_with[i] += r->faults[i] > 0;
    }
    for (unsigned i = 0; i < OP_COUNT; i++) {
        totals.ops_all[i] += r->ops_all[i];
        totals.ops_ok[i] += r->ops_ok[i];
    }
}

/* --- many seeds: a process each
 * -------------------------------------------------------------------------------------- */

struct job {
    pid_t pid;
    int from;
    uint64_t seed;
    bool second;
};

static void start(struct job *j, uint64_t seed, bool second, const struct options *o)
{
    int fds[2];
    fflush(stdout);
    tsr_assert(pipe(fds) == 0);
    pid_t pid = fork();
    tsr_assert(pid >= 0);
    if (pid == 0) {
        struct result r;
        close(fds[0]);
        run(seed, o, second, &r);
        bool sent = write(fds[1], &r, sizeof(r)) == (ssize_t)sizeof(r);
        _exit(sent ? 0 : 2);
    }
    close(fds[1]);
    *j = (struct job){pid, fds[0], seed, second};
}

/* Waits for any job; its slot. */
static unsigned finish(struct job *jobs, unsigned count, struct result *r, bool *ok)
{
    int status = 0;
    pid_t pid = wait(&status);
    for (unsigned i = 0; i < count; i++) {
        if (jobs[i].pid == pid) {
            *ok = read(jobs[i].from, r, sizeof(*r)) == (ssize_t)sizeof(*r) && WIFEXITED(status) &&
                  WEXITSTATUS(status) == 0;
            close(jobs[i].from);
            jobs[i].pid = 0;
            return i;
        }
    }
    tsr_assert(false);
    return 0;
}

static void show_totals(double seconds)
{
    printf("%llu seeds (%llu count), %llu failed, %llu operations, %llu steps, %.0f s of virtual "
           "time in %.1f s\n",
           (unsigned long long)totals.runs, (unsigned long long)totals.counted,
           (unsigned long long)totals.failed, (unsigned long long)totals.ops,
           (unsigned long long)totals.steps, (double)totals.ms / 1000, seconds);
    for (unsigned i = 0; i < OP_COUNT; i++) {
        printf("  %-14s %8llu, ok %llu\n", sim_op_names[i], (unsigned long long)totals.ops_all[i],
               (unsigned long long)totals.ops_ok[i]);
    }
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        printf("  %-14s %6llu in %llu seeds\n", sim_fault_names[i],
               (unsigned long long)totals.faults[i], (unsigned long long)totals.seeds_with[i]);
    }
}

/* Each kind of fault must be seen in one of twenty seeds: what hardly happens tests nothing. */
static bool all_kinds_seen(void)
{
    bool all = true;
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        if (totals.seeds_with[i] * 20 < totals.runs) {
            fprintf(stderr, "%s happened in %llu of %llu seeds only\n", sim_fault_names[i],
                    (unsigned long long)totals.seeds_with[i], (unsigned long long)totals.runs);
            all = false;
        }
    }
    return all;
}

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
    (void)sig;
    stopped = 1; /* what runs ends, and the totals are told */
}

static int hunt(const struct options *o)
{
    struct job jobs[JOBS_MAX] = {0};
    uint64_t seed = o->first, hashes[JOBS_MAX] = {0};
    unsigned running = 0;
    double begin = now_s();
    (void)signal(SIGTERM, on_stop);
    (void)signal(SIGINT, on_stop);
    while (running > 0 || seed <= o->last) {
        bool more = seed <= o->last && stopped == 0 && (totals.failed == 0 || o->keep_going) &&
                    (o->seconds == 0 || now_s() - begin < o->seconds);
        if (!more && running == 0) {
            break;
        }
        for (unsigned i = 0; more && i < o->jobs; i++) {
            if (jobs[i].pid == 0) {
                start(&jobs[i], seed++, false, o);
                running++;
                more = seed <= o->last;
            }
        }
        struct result r = {0};
        bool ok = false;
        unsigned i = finish(jobs, o->jobs, &r, &ok);
        running--;
        if (!ok) {
            totals.failed++;
            fprintf(stderr, "seed %llu FAILED; replay with: tools/sim --seed %llu --trace\n",
                    (unsigned long long)jobs[i].seed, (unsigned long long)jobs[i].seed);
            continue;
        }
        if (o->twice && !jobs[i].second) {
            hashes[i] = r.hash;
            start(&jobs[i], jobs[i].seed, true, o);
            running++;
            continue;
        }
        if (o->twice && hashes[i] != r.hash) {
            totals.failed++;
            fprintf(stderr, "seed %llu FAILED: two runs differ\n", (unsigned long long)r.seed);
            continue;
        }
        add(&r);
    }
    show_totals(now_s() - begin);
    bool good = totals.failed == 0 && totals.runs > 0;
    if (o->all_count && totals.counted < totals.runs) {
        fprintf(stderr, "%llu seeds do not count\n",
                (unsigned long long)(totals.runs - totals.counted));
        good = false;
    }
    if (o->all_kinds && !all_kinds_seen()) {
        good = false;
    }
    printf("%llu passed, %llu failed\n", (unsigned long long)totals.runs,
           (unsigned long long)totals.failed);
    return good ? 0 : 1;
}

/* --- command line
 * ---------------------------------------------------------------------------------------------------
 */

static int usage(void)
{
    fprintf(stderr,
            "usage: sim --seed S [--trace] [--ms N]\n"
            "       sim --seeds A..B [--jobs N] [--seconds T] [--twice] [--keep-going] [--ms N]\n"
            "  --seed S      replay one seed; --trace prints each event\n"
            "  --seeds A..B  run many, N at a time, for at most about T seconds\n"
            "  --twice       run each seed twice: both runs must be the same\n"
            "  --all-count   fail unless every seed counts: 500 operations, 3 faults\n"
            "  --all-kinds   fail unless each kind of fault happens in one of 20 seeds\n"
            "  --only F,F..  these kinds of fault only, as named in the totals\n"
            "  --ms N        length of the part with faults, in virtual milliseconds\n");
    return 2;
}

/* "kill,pause" */
static bool parse_only(const char *text, uint64_t *out)
{
    while (*text != '\0') {
        size_t n = strcspn(text, ","), i = 0;
        while (i < FAULT_COUNT &&
               (strlen(sim_fault_names[i]) != n || strncmp(sim_fault_names[i], text, n) != 0)) {
            i++;
        }
        if (i == FAULT_COUNT) {
            return false;
        }
        *out |= UINT64_C(1) << i;
        text += n + (text[n] == ',');
    }
    return *out != 0;
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--trace") == 0) {
            o->trace = true;
        } else if (strcmp(a, "--twice") == 0) {
            o->twice = true;
        } else if (strcmp(a, "--all-count") == 0) {
            o->all_count = true;
        } else if (strcmp(a, "--all-kinds") == 0) {
            o->all_kinds = true;
        } else if (strcmp(a, "--keep-going") == 0) {
            o->keep_going = true;
        } else if (v != NULL && strcmp(a, "--seed") == 0) {
            o->first = o->last = strtoull(argv[++i], NULL, 10);
            o->single = true;
        } else if (v != NULL && strcmp(a, "--seeds") == 0) {
            char *end;
            o->first = strtoull(argv[++i], &end, 10);
            if (strncmp(end, "..", 2) != 0) {
                return false;
            }
            o->last = strtoull(end + 2, NULL, 10);
        } else if (v != NULL && strcmp(a, "--jobs") == 0) {
            o->jobs = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (v != NULL && strcmp(a, "--seconds") == 0) {
            o->seconds = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (v != NULL && strcmp(a, "--only") == 0) {
            if (!parse_only(argv[++i], &o->only)) {
                return false;
            }
        } else if (v != NULL && strcmp(a, "--ms") == 0) {
            o->chaos_ms = strtoull(argv[++i], NULL, 10);
        } else {
            return false;
        }
    }
    return o->last >= o->first && o->jobs >= 1 && o->jobs <= JOBS_MAX && o->last > 0;
}

int main(int argc, char **argv)
{
    struct options o = {.jobs = 1, .chaos_ms = CHAOS_MS};
    if (!parse(argc, argv, &o)) {
        return usage();
    }
    if (!o.single) {
        return hunt(&o);
    }
    struct result r;
    run(o.first, &o, false, &r);
    show(&r);
    fflush(stdout);
    _exit(0); /* what crashed hosts left behind is not a leak */
}
