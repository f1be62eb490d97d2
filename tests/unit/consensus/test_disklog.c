#include "test.h"

#include <stdlib.h>
#include <time.h>

#include "consensus/disklog.h"
#include "consensus/segment.h"
#include "sim_fs.h"

enum { SEGMENT = 16384, ENTRIES_MAX = 4096 };
static const char dir[] = "/data/raft";

/* The data directory is there and durable, as on a host that was set up. */
static struct fs *new_fs(uint64_t seed)
{
    struct fs *fs = sim_fs_new(seed);
    check_ok(fs_mkdir(fs, "/data"));
    check_ok(fs_sync_dir(fs, "/"));
    return fs;
}

/* --- a plain model of what the log must hold ----------------------------------------------------
 */

struct plain_entry {
    uint64_t term, salt;
    size_t size;
};
struct model {
    uint64_t first, last, first_term;        /* entries first..last; term before first */
    uint64_t start, start_term;              /* the snapshot */
    struct plain_entry entries[ENTRIES_MAX]; /* by index */
};

static void fill(uint8_t *out, const struct plain_entry *e, uint64_t index)
{
    uint64_t x = (e->salt ^ index) * 0x9e3779b97f4a7c15u + e->term;
    for (size_t i = 0; i < e->size; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(x >> 56);
    }
}

static uint64_t model_term(const struct model *m, uint64_t index)
{
    return index < m->first ? m->first_term : m->entries[index].term;
}

/* What an open reported. */
struct seen {
    const struct model *model, *other; /* each entry must be that of one of them */
    uint64_t first, last;
    bool matches, matches_other;
};

static bool same_entry(const struct model *m, const struct disklog_entry *e)
{
    static uint8_t want[65536];
    const struct plain_entry *p = &m->entries[e->index % ENTRIES_MAX];
    if (e->index > m->last || p->term != e->term || p->size != e->size)
        return false;
    fill(want, p, e->index);
    return e->size == 0 || memcmp(want, e->data, e->size) == 0;
}

static int see(void *arg, const struct disklog_entry *e)
{
    struct seen *s = arg;
    if (s->first == 0)
        s->first = e->index;
    else
        check_int(e->index, s->last + 1);
    s->last = e->index;
    s->matches = s->matches && same_entry(s->model, e);
    s->matches_other = s->matches_other && s->other && same_entry(s->other, e);
    return 0;
}

static struct disklog *open_log(struct fs *fs, uint64_t start, uint64_t start_term)
{
    struct disklog *log = NULL;
    struct err err = {0};
    int rv = disklog_open(fs, dir, SEGMENT, start, start_term, NULL, NULL, &log, &err);
    if (rv != 0)
        print_error("open: %s: %s\n", err_name(rv), err.msg);
    check_ok(rv);
    return log;
}

/* Append @n entries of @size bytes after the last one. */
static int add(struct disklog *log, unsigned n, uint64_t term, size_t size)
{
    static uint8_t data[65536];
    struct disklog_entry e[64];
    for (unsigned i = 0; i < n; i++)
        e[i] = (struct disklog_entry){disklog_last_index(log) + 1 + i, term, 1, data, size};
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i + 1);
    return disklog_append(log, e, n);
}

static void open_corrupt(struct fs *fs, uint64_t start, uint64_t start_term, const char *text)
{
    struct disklog *log = NULL;
    struct err err = {0};
    unsigned open_files = sim_fs_open_files(fs);
    check_code(disklog_open(fs, dir, SEGMENT, start, start_term, NULL, NULL, &log, &err),
               TSR_ECORRUPT);
    if (!strstr(err.msg, text))
        print_error("\"%s\" does not say \"%s\"\n", err.msg, text);
    check(strstr(err.msg, text) != NULL);
    check_int(sim_fs_open_files(fs), open_files);
}

static const char *segment_file(uint64_t first)
{
    static char path[128];
    char name[SEGMENT_NAME_SIZE];
    segment_name(first, name);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

/* --- plain use ----------------------------------------------------------------------------------
 */

static void an_absent_directory_is_an_empty_log(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    check(!disklog_exists(fs, dir));
    struct disklog *log = open_log(fs, 0, 0);
    check_int(disklog_last_index(log), 0);
    check_int(disklog_first_index(log), 1);
    check_ok(disklog_append(log, NULL, 0));
    disklog_close(log);
    check(!disklog_exists(fs, dir));
    log = open_log(fs, 0, 0);
    check_ok(add(log, 1, 1, 10));
    check(disklog_exists(fs, dir));
    disklog_close(log);
    sim_fs_free(fs);
}

static void what_was_appended_is_read_again_over_many_segments(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    for (int i = 0; i < 50; i++)
        check_ok(add(log, 3, 1 + (uint64_t)i / 10, (size_t)i * 40));
    check_ok(add(log, 1, 9, 40000)); /* gets a segment of its own size */
    check_ok(add(log, 2, 9, 0));
    check_int(disklog_last_index(log), 153);
    check_int(disklog_last_term(log), 9);
    uint64_t bytes = disklog_bytes(log);
    disklog_close(log);
    sim_fs_crash(fs, 1, SIM_FS_DROP);
    log = open_log(fs, 0, 0);
    check_int(disklog_last_index(log), 153);
    check_int(disklog_bytes(log), bytes);
    check(disklog_has_spare(log));
    disklog_close(log);
    sim_fs_free(fs);
}

static void a_big_record_first_replaces_the_empty_segment(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    check_ok(add(log, 2, 1, 60000));
    check_int(disklog_last_index(log), 2);
    disklog_close(log);
    log = open_log(fs, 0, 0);
    check_int(disklog_last_index(log), 2);
    check_ok(disklog_truncate(log, 1));
    check_ok(add(log, 1, 2, 100));
    disklog_close(log);
    log = open_log(fs, 0, 0);
    check_int(disklog_last_index(log), 1);
    disklog_close(log);
    sim_fs_free(fs);
}

static void one_append_is_one_write_and_one_sync_beside_the_mark(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    check_ok(add(log, 1, 1, 100));
    uint64_t writes = sim_fs_calls(fs, SIM_FS_WRITE), all = sim_fs_calls(fs, SIM_FS_ANY);
    uint64_t syncs = sim_fs_calls(fs, SIM_FS_SYNC | SIM_FS_SYNC_DIR);
    check_ok(add(log, 20, 1, 100));
    check_int(sim_fs_calls(fs, SIM_FS_WRITE) - writes, 2);
    check_int(sim_fs_calls(fs, SIM_FS_SYNC | SIM_FS_SYNC_DIR) - syncs, 1);
    check_int(sim_fs_calls(fs, SIM_FS_ANY) - all, 3);
    disklog_close(log);
    sim_fs_free(fs);
}

static void cut_removes_whole_old_segments_only(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    for (int i = 0; i < 100; i++)
        check_ok(add(log, 1, 1, 1000));
    uint64_t before = disklog_bytes(log);
    check_ok(disklog_cut(log, 50));
    check(disklog_bytes(log) < before);
    uint64_t first = disklog_first_index(log);
    check(first > 1 && first <= 51);
    check_ok(disklog_cut(log, 100));
    check(disklog_first_index(log) <= 100);
    disklog_close(log);
    log = open_log(fs, 100, 1);
    check_int(disklog_last_index(log), 100);
    disklog_close(log);
    open_corrupt(fs, 50, 1, "the snapshot reaches only 50");
    open_corrupt(fs, 101, 1, "before the snapshot at 101");
    open_corrupt(fs, 100, 2, "the snapshot has 2");
    sim_fs_free(fs);
}

static void reset_goes_on_after_the_snapshot(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    check_ok(disklog_reset(log, 500, 7));
    check_int(disklog_last_index(log), 500);
    check_int(disklog_first_index(log), 501);
    check_int(disklog_last_term(log), 7);
    disklog_close(log);
    log = open_log(fs, 500, 7);
    check_ok(add(log, 3, 8, 10));
    disklog_close(log);
    open_corrupt(fs, 400, 7, "the snapshot reaches only 400");
    check_ok(disklog_recreate(fs, dir, SEGMENT, 900, 9));
    log = open_log(fs, 900, 9);
    check_int(disklog_first_index(log), 901);
    disklog_close(log);
    sim_fs_free(fs);
}

static void a_log_is_recreated_whatever_its_state(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    check_ok(disklog_recreate(fs, dir, SEGMENT, 5, 2)); /* none there */
    struct disklog *log = open_log(fs, 5, 2);
    check_ok(add(log, 30, 2, 1000));
    disklog_close(log);
    for (int i = 0; i < 2; i++)
        check(sim_fs_flip(fs, "/data/raft/log.mark", i * 4096 + 9, 1));
    open_corrupt(fs, 5, 2, "high-water mark is damaged");
    check_ok(disklog_recreate(fs, dir, SEGMENT, 40, 3));
    log = open_log(fs, 40, 3);
    check_int(disklog_last_index(log), 40);
    disklog_close(log);
    sim_fs_free(fs);
}

/* --- crashes against the model ------------------------------------------------------------------
 */

struct run {
    struct fs *fs;
    struct disklog *log;
    struct model now, next; /* next: after the operation at hand */
    uint64_t random, term;
};

static uint64_t draw(struct run *r, uint64_t below)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return (r->random >> 11) % below;
}

static int do_append(struct run *r)
{
    static uint8_t data[8][24000];
    struct disklog_entry e[8];
    unsigned n = 1 + (unsigned)draw(r, 6);
    r->term += draw(r, 8) == 0;
    for (unsigned i = 0; i < n; i++) {
        struct plain_entry p = {.term = r->term, .salt = draw(r, 1u << 30), .size = draw(r, 900)};
        if (draw(r, 30) == 0)
            p.size = 12000 + draw(r, 12000);
        uint64_t index = ++r->next.last;
        r->next.entries[index] = p;
        fill(data[i], &p, index);
        e[i] = (struct disklog_entry){index, p.term, (uint8_t)(1 + draw(r, 3)), data[i], p.size};
    }
    return disklog_append(r->log, e, n);
}

static int do_truncate(struct run *r)
{
    uint64_t from = r->now.start + 1 > r->now.first ? r->now.start + 1 : r->now.first;
    if (from > r->now.last)
        return 0;
    uint64_t span = r->now.last - from + 1;
    uint64_t index = r->now.last - draw(r, draw(r, 4) ? (span < 8 ? span : 8) : span);
    r->next.last = index - 1;
    return disklog_truncate(r->log, index);
}

static int do_cut(struct run *r)
{
    if (r->now.last <= r->now.start)
        return 0;
    r->now.start += 1 + draw(r, r->now.last - r->now.start);
    r->now.start_term = model_term(&r->now, r->now.start);
    r->next = r->now;
    int rv = disklog_cut(r->log, r->now.start);
    uint64_t first = disklog_first_index(r->log);
    if (rv == 0 && first > r->next.first) {
        r->next.first_term = model_term(&r->now, first - 1);
        r->next.first = first;
    }
    return rv;
}

static int do_reset(struct run *r)
{
    uint64_t index = r->now.start + 1 + draw(r, 50);
    if (index + 200 > ENTRIES_MAX)
        return 0;
    r->term++;
    r->next = (struct model){.first = index + 1,
                             .last = index,
                             .first_term = r->term,
                             .start = index,
                             .start_term = r->term};
    return disklog_reset(r->log, index, r->term);
}

static int step(struct run *r, unsigned *kind)
{
    *kind = (unsigned)draw(r, 40);
    r->next = r->now;
    if (*kind == 0)
        return do_reset(r);
    if (*kind < 3)
        return do_cut(r);
    if (*kind < 10)
        return do_truncate(r);
    return do_append(r);
}

static int try_open(struct run *r, const struct model *m, struct seen *s, struct err *err)
{
    *s = (struct seen){.model = &r->now, .other = &r->next, .matches = true, .matches_other = true};
    return disklog_open(r->fs, dir, SEGMENT, m->start, m->start_term, see, s, &r->log, err);
}

/* After a crash in an operation of @kind that did not return 0 (or between operations: next = now).
 */
static void reopen(struct run *r, unsigned kind)
{
    struct seen s;
    struct err err = {0};
    const struct model *m = &r->now;
    bool reset = kind == 0;
    if (reset && draw(r, 2)) {
        check_ok(disklog_recreate(r->fs, dir, SEGMENT, r->next.start, r->next.start_term));
        m = &r->next;
    }
    int rv = try_open(r, m, &s, &err);
    if (rv == TSR_ECORRUPT && reset && m == &r->now) {
        m = &r->next;
        rv = try_open(r, m, &s, &err);
    }
    if (rv != 0)
        print_error("open: %s: %s\n", err_name(rv), err.msg);
    check_ok(rv);
    uint64_t last = disklog_last_index(r->log), first = disklog_first_index(r->log);
    if (s.first != 0) {
        check_int(s.first, first);
        check_int(s.last, last);
    }
    if (m == &r->next) {
        check_int(last, r->next.last);
    } else if (reset) {
        check(s.matches);
        check_int(last, r->now.last);
    } else if (kind >= 10) {
        check(last >= r->now.last && last <= r->next.last); /* some of the batch */
        check(s.matches_other);
        r->now = r->next;
    } else {
        check(last == r->now.last || last == r->next.last);
        check(s.matches);
    }
    if (m == &r->next)
        r->now = r->next;
    check(first == r->now.first || (kind == 1 || kind == 2));
    if (first > r->now.first)
        r->now.first_term = model_term(&r->now, first - 1);
    r->now.first = first;
    r->now.last = last;
    check_int(disklog_last_term(r->log), model_term(&r->now, last));
}

static void crash_and_reopen(struct run *r, unsigned kind, bool kill_only)
{
    disklog_close(r->log);
    check_int(sim_fs_open_files(r->fs), 0);
    sim_fs_crash(r->fs, draw(r, 1u << 30),
                 kill_only ? SIM_FS_KILL : (enum sim_fs_crash_mode)draw(r, 4));
    /* Now and then another power cut while the log is being opened. */
    if (kind >= 3 && draw(r, 3) == 0) {
        struct disklog *log = NULL;
        sim_fs_stop(r->fs, draw(r, 40));
        if (disklog_open(r->fs, dir, SEGMENT, r->now.start, r->now.start_term, NULL, NULL, &log,
                         NULL) == 0)
            disklog_close(log);
        sim_fs_crash(r->fs, draw(r, 1u << 30), (enum sim_fs_crash_mode)draw(r, 4));
    }
    reopen(r, kind);
}

static unsigned crashes_in_operations;

static void run_seed(uint64_t seed)
{
    static struct run r;
    r = (struct run){
        .fs = new_fs(seed), .random = seed * 2654435761u + 88172645463325252u, .term = 1};
    r.now.first = 1;
    r.log = open_log(r.fs, 0, 0);
    for (int i = 0; i < 25 && r.now.last + 100 < ENTRIES_MAX; i++) {
        unsigned kind;
        uint64_t what = draw(&r, 4);
        if (what == 0)
            sim_fs_stop(r.fs, draw(&r, 20));
        else if (what == 1)
            sim_fs_fail(r.fs, draw(&r, 2) ? SIM_FS_SYNC : SIM_FS_ANY, draw(&r, 12), TSR_EIO, 1);
        int rv = step(&r, &kind);
        if (rv != 0) {
            check(what <= 1);
            check_code(disklog_truncate(r.log, 1), TSR_EIO); /* final */
            crashes_in_operations++;
            crash_and_reopen(&r, kind, what == 1);
            continue;
        }
        r.now = r.next;
        if (what == 0 || draw(&r, 6) == 0) {
            crash_and_reopen(&r, 100, false);
        } else {
            sim_fs_fail(r.fs, 0, 0, 0, 0);
        }
    }
    disklog_close(r.log);
    sim_fs_free(r.fs);
}

static void nothing_acknowledged_is_lost_in_2000_random_lives(void **state)
{
    (void)state;
    const char *one = getenv("TSR_SEED");
    uint64_t from = one ? strtoull(one, NULL, 10) : 1,
             to = one                   ? from
                  : getenv("TSR_SEEDS") ? strtoull(getenv("TSR_SEEDS"), NULL, 10)
                                        : 2000;
    for (uint64_t seed = from; seed <= to; seed++) {
        if (one || getenv("TSR_VERBOSE"))
            print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(seed);
    }
    check(one || crashes_in_operations > 2000);
}

/* --- failing calls ------------------------------------------------------------------------------
 */

/* A life that meets every kind of work; stops at the first error. */
static int whole_life(struct fs *fs, struct disklog **log_out, struct err *err)
{
    struct disklog *log = NULL;
    int rv = disklog_open(fs, dir, SEGMENT, 0, 0, NULL, NULL, &log, err);
    for (int i = 0; rv == 0 && i < 30; i++)
        rv = add(log, 2, 1, 1000);
    if (rv == 0)
        rv = disklog_truncate(log, 40);
    if (rv == 0)
        rv = disklog_truncate(log, 12);
    if (rv == 0)
        rv = add(log, 30, 2, 700);
    if (rv == 0)
        rv = disklog_cut(log, 20);
    if (rv == 0)
        rv = disklog_reset(log, 60, 3);
    if (rv == 0)
        rv = add(log, 1, 3, 1);
    *log_out = log;
    return rv;
}

static void every_failing_call_is_reported_and_survived(void **state)
{
    (void)state;
    for (uint64_t n = 0;; n++) {
        struct fs *fs = new_fs(n);
        struct disklog *log;
        struct err err = {0};
        sim_fs_fail(fs, SIM_FS_ANY, n, n % 2 ? TSR_EIO : TSR_ENOSPC, 1);
        int rv = whole_life(fs, &log, &err);
        bool hit = sim_fs_failed(fs);
        if (rv != 0 && log)
            check_code(add(log, 1, 9, 1), TSR_EIO);
        if (rv != 0 && !log)
            check(err.msg[0] != 0);
        disklog_close(log);
        check_int(sim_fs_open_files(fs), 0);
        sim_fs_crash(fs, n, SIM_FS_RANDOM);
        struct disklog *again = NULL;
        /* The snapshot of this life is at 20, of term 1 or 2, or at 60: one of them fits. */
        int opened = disklog_open(fs, dir, SEGMENT, 0, 0, NULL, NULL, &again, &err);
        if (opened == TSR_ECORRUPT)
            opened = disklog_open(fs, dir, SEGMENT, 20, 2, NULL, NULL, &again, &err);
        if (opened == TSR_ECORRUPT)
            opened = disklog_open(fs, dir, SEGMENT, 60, 3, NULL, NULL, &again, &err);
        if (opened != 0)
            print_error("call %llu: %s\n", (unsigned long long)n, err.msg);
        check_ok(opened);
        disklog_close(again);
        sim_fs_free(fs);
        if (!hit)
            break;
        check(n < 2000);
    }
}

static void a_failed_sync_is_final_and_never_repeated(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    check_ok(add(log, 1, 1, 100));
    sim_fs_fail(fs, SIM_FS_SYNC, 0, TSR_EIO, 1);
    check_code(add(log, 1, 1, 100), TSR_EIO);
    uint64_t calls = sim_fs_calls(fs, SIM_FS_ANY);
    check_code(add(log, 1, 1, 100), TSR_EIO);
    check_code(disklog_truncate(log, 1), TSR_EIO);
    check_code(disklog_cut(log, 1), TSR_EIO);
    check_code(disklog_reset(log, 9, 9), TSR_EIO);
    check(!disklog_has_spare(log));
    disklog_close(log);
    check_int(sim_fs_calls(fs, SIM_FS_ANY), calls);
    sim_fs_free(fs);
}

static void a_full_disk_takes_the_spare_and_gives_it_back(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    struct disklog *log = open_log(fs, 0, 0);
    check_ok(add(log, 1, 1, 100));
    check(disklog_has_spare(log));
    sim_fs_limit(fs, (int64_t)sim_fs_used(fs));
    for (int i = 0; disklog_has_spare(log); i++) {
        check_ok(add(log, 1, 1, 1000));
        check(i < 100);
    }
    check_ok(add(log, 1, 1, 1000)); /* the spare became the last segment: it still takes entries */
    check_ok(disklog_truncate(log, 3)); /* needs no space */
    sim_fs_limit(fs, 0);
    check(disklog_has_spare(log));
    sim_fs_limit(fs, 1);
    uint64_t last = disklog_last_index(log);
    disklog_close(log);
    log = open_log(fs, 0, 0); /* a full disk does not hinder a start */
    check_int(disklog_last_index(log), last);
    check(!disklog_has_spare(log) || disklog_bytes(log) > 0);
    int rv = 0;
    while (rv == 0)
        rv = add(log, 1, 1, 1000);
    check_code(rv, TSR_ENOSPC);
    disklog_close(log);
    sim_fs_limit(fs, 0);
    log = open_log(fs, 0, 0);
    check_ok(add(log, 1, 1, 1000));
    disklog_close(log);
    sim_fs_free(fs);
}

/* --- damage -------------------------------------------------------------------------------------
 */

/* 40 entries of 1000 bytes in three segments, closed or killed. */
static struct fs *some_log(bool closed)
{
    struct fs *fs = new_fs(7);
    struct disklog *log = open_log(fs, 0, 0);
    for (int i = 0; i < 40; i++)
        check_ok(add(log, 1, 1, 1000));
    if (!closed)
        sim_fs_stop(fs, 0);
    disklog_close(log);
    sim_fs_crash(fs, 1, SIM_FS_KILL);
    return fs;
}

static uint64_t last_first(struct fs *fs)
{
    struct fs_stat st;
    for (uint64_t i = 40; i > 0; i--)
        if (fs_stat(fs, segment_file(i), &st) == 0)
            return i;
    return 0;
}

static void each_flipped_bit_of_the_used_part_is_found(void **state)
{
    (void)state;
    struct fs *fs = some_log(true);
    uint64_t last = last_first(fs);
    check(last > 13);
    for (int64_t at = 0; at < SEGMENT; at += 13) {
        uint64_t used = SEGMENT_HEADER_SIZE + segment_record_size(1000) * 11;
        if ((uint64_t)at >= used)
            break;
        check(sim_fs_flip(fs, segment_file(1), at, (uint8_t)(1 << at % 8)));
        open_corrupt(fs, 0, 0, "log-0000000000000001");
        check(sim_fs_flip(fs, segment_file(1), at, (uint8_t)(1 << at % 8)));
    }
    uint64_t used = SEGMENT_HEADER_SIZE + segment_record_size(1000) * (41 - last);
    for (int64_t at = 0; at < (int64_t)used; at += 7) {
        check(sim_fs_flip(fs, segment_file(last), at, (uint8_t)(1 << at % 8)));
        open_corrupt(fs, 0, 0, "log-00000000000000");
        check(sim_fs_flip(fs, segment_file(last), at, (uint8_t)(1 << at % 8)));
    }
    struct disklog *log = open_log(fs, 0, 0);
    check_int(disklog_last_index(log), 40);
    disklog_close(log);
    sim_fs_free(fs);
}

static void damage_after_a_kill_is_found_without_a_clean_close(void **state)
{
    (void)state;
    struct fs *fs = some_log(false);
    uint64_t last = last_first(fs);
    check(sim_fs_flip(fs, segment_file(last),
                      (int64_t)(SEGMENT_HEADER_SIZE + segment_record_size(1000) * (40 - last) + 60),
                      1));
    open_corrupt(fs, 0, 0, "entry 40 is damaged or missing, acknowledged up to 40");
    sim_fs_free(fs);
}

static void damage_before_later_entries_is_found_although_the_mark_is_old(void **state)
{
    (void)state;
    struct fs *fs = some_log(false);
    /* A power cut that keeps all but what was not synced: the mark falls back to the last roll. */
    sim_fs_crash(fs, 1, SIM_FS_DROP);
    uint64_t last = last_first(fs);
    int64_t record = (int64_t)(SEGMENT_HEADER_SIZE + segment_record_size(1000) * (38 - last));
    check(sim_fs_flip(fs, segment_file(last), record + 100, 1)); /* entry 38 */
    open_corrupt(fs, 0, 0, "damaged record before later ones at entry 38");
    sim_fs_free(fs);
}

static void a_missing_foreign_short_or_renamed_segment_is_found(void **state)
{
    (void)state;
    struct fs *fs = some_log(true);
    uint64_t second = 2, last = last_first(fs);
    struct fs_stat st;
    while (fs_stat(fs, segment_file(second), &st) != 0)
        second++;
    check(second < last);
    char away[] = "/data/away";
    check_ok(fs_rename(fs, segment_file(second), away));
    open_corrupt(fs, 0, 0, "log-0000000000000001");
    check_ok(fs_rename(fs, away, segment_file(second)));

    check_ok(fs_rename(fs, segment_file(last), away));
    open_corrupt(fs, 0, 0, "acknowledged up to 40");
    check_ok(fs_rename(fs, away, segment_file(last)));

    check_ok(fs_rename(fs, segment_file(1), away));
    open_corrupt(fs, 0, 0, "the snapshot reaches only 0");
    check_ok(fs_rename(fs, away, segment_file(1)));

    /* the contents of two segments exchanged */
    char target[128], other[128];
    snprintf(target, sizeof(target), "%s", segment_file(second));
    snprintf(other, sizeof(other), "%s", segment_file(last));
    check_ok(fs_rename(fs, target, away));
    check_ok(fs_rename(fs, other, target));
    check_ok(fs_rename(fs, away, other));
    open_corrupt(fs, 0, 0, "another log or place");
    check_ok(fs_rename(fs, other, away));
    check_ok(fs_rename(fs, target, other));
    check_ok(fs_rename(fs, away, target));

    /* the same segment of another host's log */
    struct fs_file *f;
    char *data;
    size_t size;
    check_ok(fs_read_file(fs, target, SEGMENT, &data, &size));
    struct segment_header h;
    check(segment_header_decode((uint8_t *)data, size, &h));
    h.log_id++;
    segment_header_encode(&h, (uint8_t *)data);
    check_ok(fs_open(fs, target, FS_WRITE, &f));
    check_ok(fs_pwrite(fs, f, data, size, 0));
    open_corrupt(fs, 0, 0, "another log or place");
    h.log_id--;
    segment_header_encode(&h, (uint8_t *)data);
    check_ok(fs_pwrite(fs, f, data, size, 0));
    fs_close(fs, f);
    free(data);

    check_ok(fs_open(fs, other, FS_WRITE, &f));
    check_ok(fs_truncate(fs, f, SEGMENT_BYTES_MIN + 8));
    fs_close(fs, f);
    open_corrupt(fs, 0, 0, "wrong file size");

    check_ok(fs_unlink(fs, "/data/raft/log.mark"));
    open_corrupt(fs, 0, 0, "mark is missing");
    sim_fs_free(fs);
}

static void a_replaced_record_is_found_by_its_successor(void **state)
{
    (void)state;
    struct fs *fs[2];
    for (int i = 0; i < 2; i++) { /* twins, but for the term of entry 3 */
        fs[i] = new_fs(5);
        struct disklog *log = open_log(fs[i], 0, 0);
        check_ok(add(log, 2, 1, 500));
        check_ok(add(log, 1, i == 0 ? 1 : 2, 500));
        check_ok(add(log, 5, 2, 500));
        disklog_close(log);
    }
    static uint8_t record[600];
    size_t size = segment_record_size(500);
    int64_t at = (int64_t)(SEGMENT_HEADER_SIZE + 2 * size);
    struct fs_file *f;
    check_ok(fs_open(fs[1], segment_file(1), FS_READ, &f));
    check_int(fs_pread(fs[1], f, record, size, at), (long)size);
    fs_close(fs[1], f);
    check_ok(fs_open(fs[0], segment_file(1), FS_WRITE, &f));
    check_ok(fs_pwrite(fs[0], f, record, size, at)); /* whole in itself */
    fs_close(fs[0], f);
    open_corrupt(fs[0], 0, 0, "entry 4 is damaged or missing");
    sim_fs_free(fs[0]);
    sim_fs_free(fs[1]);
}

static void a_lost_log_is_found(void **state)
{
    (void)state;
    struct fs *fs = new_fs(1);
    open_corrupt(fs, 10, 1, "missing although there is a snapshot at entry 10");
    sim_fs_free(fs);
    fs = some_log(true);
    for (uint64_t i = 1; i <= 40; i++)
        (void)fs_unlink(fs, segment_file(i));
    open_corrupt(fs, 0, 0, "all segments are missing");
    sim_fs_free(fs);
}

static void lost_and_misdirected_writes_are_found(void **state)
{
    (void)state;
    for (int kind = SIM_FS_LOST; kind <= SIM_FS_MISDIRECTED; kind++) {
        for (uint64_t after = 0; after < 3; after++) {
            struct fs *fs = new_fs(3);
            struct disklog *log = open_log(fs, 0, 0);
            check_ok(add(log, 3, 1, 500));
            sim_fs_bad_write(fs, "log.",
                             /* the segment was opened as log.new */ (enum sim_fs_bad_write)kind,
                             4096);
            check_ok(add(log, 1, 1, 500)); /* never reaches its place */
            for (uint64_t i = 0; i < after; i++)
                check_ok(add(log, 1, 1, 500));
            disklog_close(log);
            sim_fs_crash(fs, 1, SIM_FS_DROP);
            open_corrupt(fs, 0, 0, "entry 4 is damaged or missing");
            sim_fs_free(fs);
        }
    }
}

static void one_damaged_slot_of_the_mark_is_healed(void **state)
{
    (void)state;
    for (int slot = 0; slot < 2; slot++) {
        struct fs *fs = some_log(true);
        check(sim_fs_flip(fs, "/data/raft/log.mark", slot * 4096 + 33, 4));
        disklog_close(open_log(fs, 0, 0));
        check(sim_fs_flip(fs, "/data/raft/log.mark", (1 - slot) * 4096 + 33, 4));
        disklog_close(open_log(fs, 0, 0));
        sim_fs_free(fs);
    }
}

static void a_truncated_tail_never_comes_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct fs *fs = new_fs(seed);
        struct disklog *log = open_log(fs, 0, 0);
        check_ok(add(log, 10, 1, 600));
        check_ok(disklog_truncate(log, 4));
        check_ok(add(log, 1, 2, 600)); /* the same size as what was there: the old 5 follows it */
        if (seed % 2)
            check_ok(disklog_truncate(log, 4));
        disklog_close(log);
        sim_fs_crash(fs, seed, SIM_FS_RANDOM);
        log = open_log(fs, 0, 0);
        check_int(disklog_last_index(log), seed % 2 ? 3 : 4);
        disklog_close(log);
        sim_fs_free(fs);
    }
}

static int refuse(void *arg, const struct disklog_entry *e)
{
    (void)arg;
    return e->index == 5 ? TSR_EPROTO : 0;
}

static void the_load_callback_can_end_it(void **state)
{
    (void)state;
    struct fs *fs = some_log(true);
    struct disklog *log;
    check_code(disklog_open(fs, dir, SEGMENT, 0, 0, refuse, NULL, &log, NULL), TSR_EPROTO);
    check_int(sim_fs_open_files(fs), 0);
    sim_fs_free(fs);
}

/* TSR_BENCH=<directory>: times appends on the real file system. */
static void bench(void **state)
{
    (void)state;
    const char *where = getenv("TSR_BENCH");
    if (!where)
        skip();
    static uint8_t data[512 * 1024];
    struct disklog *log;
    check_ok(disklog_open(fs_real(), where, 8 << 20, 0, 0, NULL, NULL, &log, NULL));
    struct {
        size_t size;
        unsigned n;
        int rounds;
    } rows[] = {{1024, 1, 2000}, {512 * 1024, 1, 200}, {1024, 512, 200}};
    for (size_t row = 0; row < 3; row++) {
        static double us[2000];
        static struct disklog_entry e[512];
        for (int i = 0; i < rows[row].rounds; i++) {
            for (unsigned k = 0; k < rows[row].n; k++)
                e[k] = (struct disklog_entry){disklog_last_index(log) + 1 + k, 1, 1, data,
                                              rows[row].size};
            struct timespec a, b;
            clock_gettime(CLOCK_MONOTONIC, &a);
            check_ok(disklog_append(log, e, rows[row].n));
            clock_gettime(CLOCK_MONOTONIC, &b);
            us[i] = (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
        }
        for (int i = 1; i < rows[row].rounds; i++)
            for (int k = i; k > 0 && us[k] < us[k - 1]; k--) {
                double t = us[k];
                us[k] = us[k - 1];
                us[k - 1] = t;
            }
        int n = rows[row].rounds;
        print_message("%u x %zu bytes: p50 %.0f us, p99 %.0f us, max %.0f us\n", rows[row].n,
                      rows[row].size, us[n / 2], us[n * 99 / 100], us[n - 1]);
    }
    disklog_close(log);
}

TEST_MAIN(cmocka_unit_test(an_absent_directory_is_an_empty_log),
          cmocka_unit_test(what_was_appended_is_read_again_over_many_segments),
          cmocka_unit_test(a_big_record_first_replaces_the_empty_segment),
          cmocka_unit_test(one_append_is_one_write_and_one_sync_beside_the_mark),
          cmocka_unit_test(cut_removes_whole_old_segments_only),
          cmocka_unit_test(reset_goes_on_after_the_snapshot),
          cmocka_unit_test(a_log_is_recreated_whatever_its_state),
          cmocka_unit_test(nothing_acknowledged_is_lost_in_2000_random_lives),
          cmocka_unit_test(every_failing_call_is_reported_and_survived),
          cmocka_unit_test(a_failed_sync_is_final_and_never_repeated),
          cmocka_unit_test(a_full_disk_takes_the_spare_and_gives_it_back),
          cmocka_unit_test(each_flipped_bit_of_the_used_part_is_found),
          cmocka_unit_test(damage_after_a_kill_is_found_without_a_clean_close),
          cmocka_unit_test(damage_before_later_entries_is_found_although_the_mark_is_old),
          cmocka_unit_test(a_missing_foreign_short_or_renamed_segment_is_found),
          cmocka_unit_test(a_replaced_record_is_found_by_its_successor),
          cmocka_unit_test(a_lost_log_is_found),
          cmocka_unit_test(lost_and_misdirected_writes_are_found),
          cmocka_unit_test(one_damaged_slot_of_the_mark_is_healed),
          cmocka_unit_test(a_truncated_tail_never_comes_back),
          cmocka_unit_test(the_load_callback_can_end_it), cmocka_unit_test(bench))
