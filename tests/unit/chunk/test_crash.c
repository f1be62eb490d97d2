/* The chunk service against a model, with crashes and power cuts at random points: what was sealed
 * and not dropped is there, whole; and in the end nothing is left over. */
#include "fixture.h"
#include "tessera/base/log.h"

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0"; /* a crash forgets what the process had in memory */
}

enum { SEEDS = 60, ROUNDS = 12, STEPS = 25, CONTENTS = 10, MANIFESTS = 8, FLIGHT = 6 };

struct known {
    struct chunk_id id;
    unsigned contents[4];
    uint32_t count;
    char *data;
    size_t size;
    bool sealed;   /* acknowledged and no drop asked for since */
    bool dropping; /* a drop was asked for: may be there or not */
};

enum flight_kind { FLIGHT_FREE, FLIGHT_PUT, FLIGHT_SEAL, FLIGHT_END, FLIGHT_DROP, FLIGHT_COLLECT };

struct flight {
    struct chunk_req req;
    enum flight_kind kind;
    struct known *manifest;
    uint8_t data[TEST_CHUNK];
};

static struct virtual v;
static struct host_env e;
static struct known manifests[MANIFESTS];
static struct flight flights[FLIGHT];
static uint64_t seals, drops, cuts, late;

/* A session is used until its end has been answered, then the next begins; now and then one that
 * ended is used again, as by a message that was overtaken. */
enum { SLOTS = 3, SESSIONS_MAX = 1024 };
static unsigned current[SLOTS], sessions;
static bool over[SESSIONS_MAX];

static void quiet(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static unsigned session_of(const struct chunk_req *req)
{
    return (unsigned)req->session[0] << 8 | req->session[1];
}

static void flight_cb(struct chunk_req *req, int status)
{
    struct flight *f = req->arg;
    if (f->kind == FLIGHT_END && status == 0) {
        over[session_of(req)] = true;
    }
    if ((f->kind == FLIGHT_PUT || f->kind == FLIGHT_SEAL) && status == TSR_ECANCELED) {
        late++;
    }
    if (f->kind == FLIGHT_SEAL) {
        if (status == 0) {
            f->manifest->sealed = true;
            seals++;
        }
        free(req->missing);
    } else if (f->kind == FLIGHT_DROP) {
        if (status == 0) {
            drops++;
        } else if (status == TSR_EBUSY) {
            f->manifest->sealed = true; /* refused: as it was */
        }
        f->manifest->dropping = false;
    }
    f->kind = FLIGHT_FREE;
}

static struct flight *free_flight(enum flight_kind kind)
{
    for (unsigned i = 0; i < FLIGHT; i++) {
        if (flights[i].kind == FLIGHT_FREE) {
            memset(&flights[i].req, 0, sizeof flights[i].req);
            flights[i].req.loop = &v.loop;
            flights[i].req.cb = flight_cb;
            flights[i].req.arg = &flights[i];
            flights[i].kind = kind;
            return &flights[i];
        }
    }
    return NULL;
}

static bool busy_with(const struct known *m)
{
    for (unsigned i = 0; i < FLIGHT; i++) {
        if (flights[i].kind != FLIGHT_FREE && flights[i].manifest == m) {
            return true;
        }
    }
    return false;
}

static unsigned draw(unsigned n)
{
    return (unsigned)(virtual_random(&v) % n);
}

static void start_put(unsigned session)
{
    struct flight *f = free_flight(FLIGHT_PUT);
    if (f != NULL) {
        f->manifest = NULL;
        session_id(session, f->req.session);
        content(draw(CONTENTS), f->data, sizeof f->data, &f->req.id);
        f->req.data = f->data;
        f->req.size = sizeof f->data;
        chunk_put(e.chunks, &f->req);
    }
}

static void start_seal(struct known *m, unsigned session)
{
    struct flight *f = busy_with(m) ? NULL : free_flight(FLIGHT_SEAL);
    if (f != NULL) {
        f->manifest = m;
        session_id(session, f->req.session);
        f->req.id = m->id;
        f->req.data = m->data;
        f->req.size = m->size;
        chunk_seal(e.chunks, &f->req);
    }
}

static void start_drop(struct known *m)
{
    struct flight *f = busy_with(m) || !m->sealed ? NULL : free_flight(FLIGHT_DROP);
    if (f != NULL) {
        f->manifest = m;
        m->sealed = false;
        m->dropping = true;
        f->req.id = m->id;
        chunk_manifest_drop(e.chunks, &f->req);
    }
}

static void start_other(enum flight_kind kind, unsigned session)
{
    struct flight *f = free_flight(kind);
    if (f != NULL) {
        f->manifest = NULL;
        session_id(session, f->req.session);
        kind == FLIGHT_END ? chunk_session_end(e.chunks, &f->req)
                           : chunk_collect(e.chunks, &f->req);
    }
}

static unsigned choose_session(void)
{
    unsigned *now = &current[draw(SLOTS)];
    if (*now == 0 || (over[*now] && draw(4) > 0)) {
        *now = ++sessions;
        check(sessions < SESSIONS_MAX);
    }
    return *now;
}

static void one_step(void)
{
    unsigned session = choose_session();
    struct known *m = &manifests[draw(MANIFESTS)];
    unsigned what = draw(20);
    if (what < 9) {
        start_put(session);
    } else if (what < 14) {
        start_seal(m, session);
    } else if (what < 16) {
        start_drop(m);
    } else {
        start_other(what < 18 ? FLIGHT_END : FLIGHT_COLLECT, session);
    }
    for (unsigned n = draw(12); n > 0; n--) {
        virtual_ready_step(&v);
    }
}

/* The process or the machine dies; requests under way are never answered. */
static void crash(void)
{
    bool power = draw(3) > 0;
    virtual_forget(&v);
    memset(current, 0, sizeof current); /* no message outlives the process */
    for (unsigned i = 0; i < FLIGHT; i++) {
        if (flights[i].kind == FLIGHT_DROP) {
            flights[i].manifest->dropping = false; /* there or not: both are right */
        }
        flights[i].kind = FLIGHT_FREE;
        flights[i].manifest = NULL;
    }
    if (power) {
        enum sim_fs_crash_mode modes[3] = {SIM_FS_DROP, SIM_FS_KEEP, SIM_FS_RANDOM};
        sim_fs_crash(e.fs, virtual_random(&v), modes[draw(3)]);
        e.kv->ops = e.kv_real;
        kv_mem_crash_keep(e.kv, draw(kv_mem_unsynced(e.kv) + 1));
        e.kv->ops = &e.kv_ops;
        cuts++;
        memset(over, 0, sizeof over); /* the end may not have been on disk */
    } else {
        sim_fs_crash(e.fs, virtual_random(&v), SIM_FS_KILL);
    }
    env_open(&e);
}

static void check_model(uint64_t seed)
{
    for (unsigned i = 0; i < MANIFESTS; i++) {
        struct known *m = &manifests[i];
        if (!m->sealed) {
            continue;
        }
        if (env_manifest(&e, chunk_manifest_has, &m->id) != 0) {
            print_error("seed %llu: sealed manifest %u is gone\n", (unsigned long long)seed, i);
            fail();
        }
        for (uint32_t n = 0; n < m->count; n++) {
            int rv = env_get(&e, m->contents[n]);
            if (rv != 0) {
                print_error("seed %llu: chunk %u: %s\n", (unsigned long long)seed, m->contents[n],
                            err_name(rv));
                fail();
            }
        }
    }
}

/* With all sessions over and all manifests dropped, the disk is empty. */
static void check_nothing_left(uint64_t seed)
{
    struct waiting list = waiting_for(&e, 0);
    for (unsigned s = 1; s <= sessions; s++) {
        check_ok(over[s] ? 0 : env_session_end(&e, s));
    }
    check_ok(wait_call(&e, chunk_manifest_list, &list));
    for (size_t i = 0; i < list.req.missing_count; i++) {
        check_ok(env_manifest(&e, chunk_manifest_drop, &list.req.missing[i]));
    }
    free(list.req.missing);
    env_collect(&e);
    for (unsigned n = 0; n < CONTENTS; n++) {
        if (env_has_file(&e, n)) {
            print_error("seed %llu: chunk %u is left over\n", (unsigned long long)seed, n);
            fail();
        }
    }
    struct chunks_stats s;
    chunks_stats(e.chunks, &s);
    check_int(s.chunk_count, 0);
    check_int(s.manifest_count, 0);
    check_int(s.reserved_count, 0);
    check_int(s.deleting_count, 0);
}

static void make_manifests(void)
{
    for (unsigned i = 0; i < MANIFESTS; i++) {
        struct known *m = &manifests[i];
        memset(m, 0, sizeof *m);
        m->count = 1 + draw(4);
        for (uint32_t n = 0; n < m->count; n++) {
            m->contents[n] = draw(CONTENTS);
        }
        manifest_of(m->contents, m->count, &m->data, &m->size, &m->id);
        for (unsigned before = 0; before < i; before++) { /* each name once */
            if (chunk_id_equal(&manifests[before].id, &m->id)) {
                free(m->data);
                i--;
                break;
            }
        }
    }
}

static void drain_flights(void)
{
    while (virtual_ready_step(&v)) {
    }
    for (unsigned i = 0; i < FLIGHT; i++) {
        check_int(flights[i].kind, FLIGHT_FREE);
    }
}

static void run_seed(uint64_t seed)
{
    virtual_init(&v, seed);
    env_init(&e, &v, 1 + seed);
    env_open(&e);
    make_manifests();
    memset(flights, 0, sizeof flights);
    memset(current, 0, sizeof current);
    memset(over, 0, sizeof over);
    sessions = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool stops = draw(2) == 0; /* in the middle of a step, or between steps */
        if (stops) {
            sim_fs_stop(e.fs, draw(150));
        }
        for (unsigned n = 0; n < STEPS && !(stops && sim_fs_failed(e.fs)); n++) {
            one_step();
        }
        if (stops || draw(2) == 0) {
            crash();
        } else {
            drain_flights();
        }
        check_model(seed);
        drain_flights();
    }
    drain_flights();
    check_nothing_left(seed);
    env_end(&e);
    timer_heap_free(&v.timers);
    for (unsigned i = 0; i < MANIFESTS; i++) {
        free(manifests[i].data);
    }
}

static void what_was_sealed_survives_every_crash_and_nothing_is_left_over(void **state)
{
    (void)state;
    const char *only = getenv("SEED");
    log_set_sink(quiet, NULL);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run_seed(only != NULL ? strtoull(only, NULL, 10) : seed);
    }
    log_set_sink(NULL, NULL);
    check(seals > 200 && drops > 20 && cuts > 60 && late > 20); /* the faults were there */
}

TEST_MAIN(cmocka_unit_test(what_was_sealed_survives_every_crash_and_nothing_is_left_over))
