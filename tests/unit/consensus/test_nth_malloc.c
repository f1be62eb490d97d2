/* Memory runs out at each allocation, once or for good: the files of consensus (vote, log, marker,
 * received snapshot) on a real disk, and a core with libraft. Each call says TSR_ENOMEM or does
 * what it shall, or the process ends (libraft, core_heap.c); what was reported as durable is there
 * when the files are read again. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "consensus/core.h"
#include "consensus/disklog.h"
#include "consensus/marker.h"
#include "consensus/vote.h"
#include "heap.h"
#include "test.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"
#include "tessera/base/log.h"
#include "tessera/sys/fs.h"

enum { SEGMENT = 16 * 1024, ENTRY = 3000, STREAM = 5000 };
static char bytes[STREAM];
static uint8_t stream_sha256[DIGEST_MAX];

/* What the files were said to hold. */
struct told {
    uint64_t vote_term, last, marker;
    bool cutting; /* a truncation was begun: the log may end before `last` */
};

static int append(struct disklog *log, uint64_t first, unsigned n, struct told *told)
{
    struct disklog_entry e[8];
    for (unsigned i = 0; i < n; i++) {
        e[i] = (struct disklog_entry){
            .index = first + i, .term = 2, .type = 1, .data = bytes, .size = ENTRY};
    }
    int rc = disklog_append(log, e, n);
    told->last = rc == 0 ? first + n - 1 : told->last;
    return rc;
}

static int load_cb(void *arg, const struct disklog_entry *e)
{
    (void)e;
    ++*(unsigned *)arg;
    return 0;
}

static int log_life(struct fs *fs, const char *dir, struct told *told)
{
    struct disklog *log = NULL;
    struct err err;
    unsigned loaded = 0;
    int rc = disklog_open(fs, dir, SEGMENT, 0, 0, NULL, NULL, &log, &err);
    for (unsigned i = 0; rc == 0 && i < 4; i++) {
        rc = append(log, told->last + 1, 3, told);
    }
    if (rc == 0) {
        told->cutting = true;
        rc = disklog_truncate(log, 9);
        told->last = rc == 0 ? 8 : told->last;
    }
    if (rc == 0) {
        rc = append(log, 9, 4, told);
        told->cutting = rc != 0;
    }
    if (rc == 0) {
        struct marker m = {.index = 7, .term = 2, .conf_index = 1, .conf = bytes, .conf_size = 40};
        rc = marker_store(fs, dir, &m);
        told->marker = rc == 0 ? 7 : 0;
    }
    if (rc == 0) {
        rc = disklog_cut(log, 7);
    }
    disklog_close(log);
    if (rc == 0) {
        rc = disklog_open(fs, dir, SEGMENT, 7, 2, load_cb, &loaded, &log, &err);
        if (rc == 0) {
            disklog_close(log);
        }
    }
    return rc;
}

static int stage_life(struct fs *fs, const char *dir)
{
    struct stage_head h = {
        .marker = {.index = 20, .term = 2, .conf_index = 1, .conf = bytes, .conf_size = 40},
        .stream_bytes = STREAM};
    struct stage_head got = {0};
    struct stage *s = NULL;
    uint64_t have = 0;
    char path[512];
    memcpy(h.stream_sha256, stream_sha256, 32);
    int rc = stage_open(fs, dir, &h, &s, &have);
    if (rc == 0 && have < STREAM) {
        rc = stage_write(s, have, bytes + have, STREAM - (size_t)have);
    }
    if (rc == 0) {
        rc = stage_finish(s);
    }
    stage_close(s);
    if (rc == 0) {
        rc = install_load(fs, dir, &got, path, sizeof path, NULL);
        marker_free(&got.marker);
    }
    return rc == 0 ? install_remove(fs, dir) : rc;
}

static int files_life(struct fs *fs, const char *dir, struct told *told)
{
    struct vote vote = {0};
    int rc = vote_load(fs, dir, &vote, NULL);
    for (unsigned i = 0; rc == 0 && i < 3; i++) {
        vote.term = told->vote_term + 1 > 2 ? told->vote_term + 1 : 2;
        rc = vote_store(fs, dir, &vote);
        told->vote_term = rc == 0 ? vote.term : told->vote_term;
    }
    if (rc == 0) {
        rc = log_life(fs, dir, told);
    }
    return rc == 0 ? stage_life(fs, dir) : rc;
}

static void check_files(struct fs *fs, const char *dir, const struct told *told)
{
    struct vote vote;
    struct marker marker = {0};
    struct disklog *log;
    struct err err = {0};
    struct stage_head head = {0};
    char path[512];
    check_ok(vote_load(fs, dir, &vote, NULL));
    check(vote.term >= told->vote_term);
    int rc = marker_load(fs, dir, &marker, &err);
    check(rc == 0 || (rc == TSR_ENOENT && told->marker == 0));
    rc = disklog_open(fs, dir, SEGMENT, rc == 0 ? marker.index : 0, rc == 0 ? marker.term : 0, NULL,
                      NULL, &log, &err);
    if (rc) {
        fail_msg("%s: %s", err_name(rc), err.msg);
    }
    check(disklog_last_index(log) >= told->last || told->cutting);
    disklog_close(log);
    marker_free(&marker);
    rc = install_load(fs, dir, &head, path, sizeof path, &err);
    check(rc == 0 || rc == TSR_ENOENT);
    marker_free(&head.marker);
}

static void the_files_survive_each_failing_allocation(void **state)
{
    (void)state;
    if (!heap_can_fail()) {
        skip();
    }
    unsigned refused = 0;
    const char *all = test_dir();
    for (int forever = 0; forever < 2; forever++) {
        bool hit = true;
        for (uint64_t n = 0; hit; n++) {
            struct fs *fs = fs_real();
            char name[32];
            snprintf(name, sizeof name, "%d-%llu", forever, (unsigned long long)n);
            const char *dir = test_path(all, name);
            struct told told = {0};
            check_ok(fs_mkdirs(fs, dir));
            heap_fail(n, forever);
            int rc = files_life(fs, dir, &told);
            hit = heap_ok();
            check_code(rc, hit && rc != 0 ? TSR_ENOMEM : 0); /* refused, or done without */
            check_files(fs, dir, &told);
            refused += hit;
        }
    }
    check(refused > 20);
}

/* --- a core -------------------------------------------------------------------------------------
 */

static void on_send(void *arg, uint64_t to, const struct message *m)
{
    (void)arg;
    (void)to;
    (void)m;
}

static void on_need(void *arg, uint64_t to)
{
    (void)arg;
    (void)to;
}

static int settle(struct core *core, uint64_t now)
{
    struct core_write w;
    uint64_t term, voted;
    int rc = 0;
    while (rc == 0 && core_vote_wanted(core, &term, &voted)) {
        rc = core_vote_done(core, now);
    }
    while (rc == 0 && core_write_next(core, &w)) {
        rc = core_write_done(core, now, &w);
    }
    return rc;
}

static int give(struct core *core, uint64_t now, uint64_t from, struct message m)
{
    int rc = core_receive(core, now, from, &m);
    return rc == 0 ? settle(core, now) : rc;
}

/* A voter of three follows, stands, leads, takes commands, commits, changes members. */
static int core_life(struct core *core, const struct buf *conf)
{
    uint64_t now = 1000, index;
    struct message_entry e[2] = {{.term = 1, .type = 2, .data = "\0\0\0\0\0\0\0\0", .size = 8},
                                 {.term = 1, .type = 2, .data = "\0\0\0\0\0\0\0\0", .size = 8}};
    struct message append = {
        .kind = MESSAGE_APPEND,
        .append = {
            .term = 1, .prev_index = 1, .prev_term = 1, .commit = 2, .count = 2, .entries = e}};
    int rc = core_load_entry(core, 1, 1, ENTRY_CHANGE, conf->data, conf->size);
    if (rc == 0) {
        rc = core_start(core, now, 1, 0, 0);
    }
    if (rc == 0) {
        rc = give(core, now, 2, append);
    }
    for (int i = 0; rc == 0 && i < 5 && core_state(core) != CONSENSUS_CANDIDATE; i++) {
        now += 2000;
        rc = core_timeout(core, now);
    }
    for (int pre = 1; rc == 0 && pre >= 0; pre--) {
        struct message vote = {.kind = MESSAGE_VOTE_RESULT,
                               .vote_result = {.version = 2,
                                               .term = core_term(core) + (pre ? 1 : 0),
                                               .granted = true,
                                               .pre_vote = pre,
                                               .features = 1}};
        rc = give(core, now, 2, vote);
    }
    for (int i = 0; rc == 0 && core_state(core) == CONSENSUS_LEADER && i < 3; i++) {
        struct message result = {.kind = MESSAGE_APPEND_RESULT,
                                 .append_result = {.version = 2,
                                                   .term = core_term(core),
                                                   .last_index = core_last_index(core),
                                                   .features = 1}};
        rc = give(core, now, 2, result);
        struct payload *p = rc == 0 ? payload_new("command", 8) : NULL;
        if (p && core_submit(core, now, p, &index) != 0) {
            payload_unref(p);
            rc = TSR_ENOMEM;
        }
        rc = rc == 0 ? settle(core, now) : rc;
    }
    return rc;
}

enum { TOUCHED = 3, UNTOUCHED = 4, WRONG = 5, NO_MEMORY = 71 };

/* In a process of its own: libraft ends it when there is no memory. */
static int core_ends(const struct core_options *o, const struct buf *conf)
{
    struct core *core = NULL;
    int rc = core_new(o, &core);
    if (rc == 0) {
        rc = core_life(core, conf);
    }
    bool hit = heap_ok();
    bool good = hit || (rc == 0 && core_state(core) == CONSENSUS_LEADER &&
                        core_commit(core) == core_last_index(core) - 1);
    if (core != NULL) {
        core_free(core);
    }
    return !good ? WRONG : hit ? TOUCHED : UNTOUCHED;
}

static void a_core_survives_each_failing_allocation(void **state)
{
    (void)state;
    if (!heap_can_fail()) {
        skip();
    }
    struct conf conf = {0}, next;
    struct buf encoded;
    for (unsigned i = 1; i <= 3; i++) {
        char address[8];
        snprintf(address, sizeof address, "h%u:1", i);
        check_ok(conf_add(&conf, i, address, &next));
        next.members[i - 1].role = CONSENSUS_VOTER;
        conf = next;
    }
    buf_init(&encoded);
    check_ok(conf_encode(&conf, &encoded));
    struct core_options o = {.self = 1,
                             .address = "me:1",
                             .election_ms = 500,
                             .heartbeat_ms = 50,
                             .seed = 7,
                             .window_bytes = 1024 * 1024,
                             .trailing_count = 3,
                             .trailing_bytes = 1024 * 1024,
                             .send = on_send,
                             .need_snapshot = on_need};
    unsigned refused = 0;
    for (int forever = 0; forever < 2; forever++) {
        int code = TOUCHED;
        for (uint64_t n = 0; code != UNTOUCHED; n++, refused++) {
            (void)fflush(NULL);
            pid_t child = fork();
            check(child >= 0);
            if (child == 0) {
                heap_fail(n, forever);
                _exit(core_ends(&o, &encoded));
            }
            int status = 0;
            check(waitpid(child, &status, 0) == child);
            check(WIFEXITED(status)); /* by no signal */
            code = WEXITSTATUS(status);
            check(code == TOUCHED || code == UNTOUCHED || code == NO_MEMORY);
        }
    }
    check(refused > 20);
    buf_free(&encoded);
}

int main(void)
{
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 31);
    }
    digest_of(DIGEST_SHA256, bytes, STREAM, stream_sha256);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_files_survive_each_failing_allocation),
        cmocka_unit_test(a_core_survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
