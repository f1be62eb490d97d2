/* One suite over both stores; then what is particular to each. */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tessera/sys/kv.h"

static const char *const names[] = {"one", "two"};

static struct kv *open_lmdb(void)
{
    struct kv *kv;
    check_ok(kv_lmdb_open(test_path(test_dir(), "store"), 64 << 20, names, 2, KV_SYNC_NONE, &kv));
    return kv;
}

static struct kv *open_mem(void)
{
    struct kv *kv;
    check_ok(kv_mem_open(2, &kv));
    return kv;
}

struct fixture {
    struct kv *(*open)(void);
    struct kv *kv;
};
static struct fixture lmdb = {.open = open_lmdb}, mem = {.open = open_mem};

static int setup(void **state)
{
    struct fixture *f = *state;
    f->kv = f->open();
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    kv_close(f->kv);
    return 0;
}

static struct kv_val text(const char *s)
{
    return kv_val_of(s, strlen(s));
}

static struct kv_txn *begin(struct kv *kv, bool write)
{
    struct kv_txn *txn;
    check_ok(kv_begin(kv, write, &txn));
    return txn;
}

static void put_one(struct kv *kv, const char *key, const char *val)
{
    struct kv_txn *txn = begin(kv, true);
    check_ok(kv_put(kv, txn, 0, text(key), text(val)));
    check_ok(kv_commit(kv, txn));
}

#define check_val(val, want)                     \
    do {                                         \
        check_int((val).size, strlen(want));     \
        check_mem((val).data, want, (val).size); \
    } while (0)

static void check_get(struct kv *kv, struct kv_txn *txn, const char *key, const char *want)
{
    struct kv_val val;
    int rv = kv_get(kv, txn, 0, text(key), &val);
    if (want == NULL) {
        check_code(rv, TSR_ENOENT);
    } else {
        check_ok(rv);
        check_val(val, want);
    }
}

/* What a new reader sees. */
static void check_now(struct kv *kv, const char *key, const char *want)
{
    struct kv_txn *txn = begin(kv, false);
    check_get(kv, txn, key, want);
    kv_abort(kv, txn);
}

static void a_commit_publishes_and_an_abort_forgets(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    struct kv_val val;
    put_one(kv, "a", "1");
    struct kv_txn *txn = begin(kv, true);
    check_ok(kv_put(kv, txn, 0, text("a"), text("2")));
    check_ok(kv_put(kv, txn, 0, text("empty"), text("")));
    check_get(kv, txn, "a", "2");
    check_get(kv, txn, "empty", "");
    check_ok(kv_del(kv, txn, 0, text("a")));
    check_code(kv_del(kv, txn, 0, text("a")), TSR_ENOENT);
    check_get(kv, txn, "a", NULL);
    check_code(kv_get(kv, txn, 1, text("empty"), &val), TSR_ENOENT); /* the other database */
    kv_abort(kv, txn);
    check_now(kv, "a", "1");
    check_now(kv, "empty", NULL);
    kv_abort(kv, NULL);
}

static void a_reader_keeps_what_it_saw(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    put_one(kv, "a", "1");
    struct kv_txn *reader = begin(kv, false);
    put_one(kv, "a", "2");
    put_one(kv, "b", "3");
    check_get(kv, reader, "a", "1");
    check_get(kv, reader, "b", NULL);
    kv_abort(kv, reader);
    check_now(kv, "a", "2");
}

static void bad_keys_and_databases_are_refused(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    char key[KV_KEY_MAX + 1];
    memset(key, 'k', sizeof(key));
    struct kv_val val = {0};
    struct kv_cursor *c;
    uint64_t n;
    struct kv_txn *txn = begin(kv, true);
    check_code(kv_put(kv, txn, 0, kv_val_of(key, 0), text("v")), TSR_EINVAL);
    check_code(kv_put(kv, txn, 0, kv_val_of(key, KV_KEY_MAX + 1), text("v")), TSR_EINVAL);
    check_code(kv_get(kv, txn, 0, kv_val_of(NULL, 0), &val), TSR_EINVAL);
    check_code(kv_put(kv, txn, 2, text("k"), text("v")), TSR_EINVAL);
    check_code(kv_get(kv, txn, 2, text("k"), &val), TSR_EINVAL);
    check_code(kv_del(kv, txn, 2, text("k")), TSR_EINVAL);
    check_code(kv_drop(kv, txn, 2), TSR_EINVAL);
    check_code(kv_count(kv, txn, 2, &n), TSR_EINVAL);
    check_code(kv_cursor_open(kv, txn, 2, &c), TSR_EINVAL);
    check_ok(kv_put(kv, txn, 0, kv_val_of(key, KV_KEY_MAX), text("v")));
    check_ok(kv_commit(kv, txn)); /* refusals do not spoil the transaction */
    txn = begin(kv, false);
    check_ok(kv_get(kv, txn, 0, kv_val_of(key, KV_KEY_MAX), &val));
    check_code(kv_put(kv, txn, 0, text("k"), text("v")), TSR_EINVAL); /* read only */
    check_code(kv_drop(kv, txn, 0), TSR_EINVAL);
    check_ok(kv_commit(kv, txn));
}

static void check_move(struct kv *kv, struct kv_cursor *c, enum kv_seek how, const char *from,
                       const char *want)
{
    struct kv_val key = text(from == NULL ? "" : from), val;
    int rv = kv_cursor_move(kv, c, how, &key, &val);
    if (want == NULL) {
        check_code(rv, TSR_ENOENT);
        return;
    }
    check_ok(rv);
    check_val(key, want);
    check_val(val, want);
}

static void cursors_walk_in_the_order_of_bytes(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    static const char *const keys[] = {"b", "a", "ab", "c", "\xff"};
    struct kv_cursor *c;
    struct kv_txn *txn = begin(kv, false);
    check_ok(kv_cursor_open(kv, txn, 0, &c));
    check_move(kv, c, KV_FIRST, NULL, NULL);
    check_move(kv, c, KV_NEXT, NULL, NULL);
    check_move(kv, c, KV_PREV, NULL, NULL);
    check_move(kv, c, KV_GE, "a", NULL);
    kv_cursor_close(kv, c);
    kv_abort(kv, txn);
    for (size_t i = 0; i < array_len(keys); i++) {
        put_one(kv, keys[i], keys[i]);
    }
    txn = begin(kv, false);
    check_ok(kv_cursor_open(kv, txn, 0, &c));
    check_move(kv, c, KV_NEXT, NULL, "a");
    check_move(kv, c, KV_NEXT, NULL, "ab");
    check_move(kv, c, KV_PREV, NULL, "a");
    check_move(kv, c, KV_PREV, NULL, NULL);
    check_move(kv, c, KV_NEXT, NULL, "ab"); /* a failed step stays */
    check_move(kv, c, KV_GE, "aa", "ab");
    check_move(kv, c, KV_GE, "ab", "ab");
    check_move(kv, c, KV_GE, "\xff\xff", NULL);
    check_move(kv, c, KV_NEXT, NULL, "b");
    check_move(kv, c, KV_LAST, NULL, "\xff");
    check_move(kv, c, KV_NEXT, NULL, NULL);
    check_move(kv, c, KV_NEXT, NULL, NULL);
    check_move(kv, c, KV_PREV, NULL, "c");
    struct kv_val bad = {0}, val;
    check_code(kv_cursor_move(kv, c, KV_GE, &bad, &val), TSR_EINVAL);
    kv_cursor_close(kv, c);
    check_ok(kv_cursor_open(kv, txn, 0, &c));
    check_move(kv, c, KV_PREV, NULL, "\xff");
    kv_cursor_close(kv, c);
    kv_cursor_close(kv, NULL);
    kv_abort(kv, txn);
}

static void a_cursor_survives_changes_of_its_transaction(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    struct kv_cursor *c;
    char key[8];
    struct kv_txn *txn = begin(kv, true);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "%03d", i);
        check_ok(kv_put(kv, txn, 0, text(key), text(key)));
    }
    check_ok(kv_cursor_open(kv, txn, 0, &c));
    for (int i = 0; i < 1000; i++) { /* delete what it stands on */
        snprintf(key, sizeof(key), "%03d", i);
        check_move(kv, c, i == 0 ? KV_FIRST : KV_NEXT, NULL, key);
        if (i % 3 != 0) {
            check_ok(kv_del(kv, txn, 0, text(key)));
        }
    }
    check_move(kv, c, KV_GE, "003", "003");
    check_ok(kv_put(kv, txn, 0, text("0031"), text("0031")));
    check_move(kv, c, KV_NEXT, NULL, "0031");
    check_ok(kv_del(kv, txn, 0, text("0031")));
    check_move(kv, c, KV_PREV, NULL, "003");
    check_ok(kv_del(kv, txn, 0, text("003")));
    check_move(kv, c, KV_NEXT, NULL, "006");
    check_ok(kv_drop(kv, txn, 0));
    check_move(kv, c, KV_NEXT, NULL, NULL);
    check_move(kv, c, KV_PREV, NULL, NULL);
    kv_cursor_close(kv, c);
    uint64_t n = 1;
    check_ok(kv_count(kv, txn, 0, &n));
    check_int(n, 0);
    check_ok(kv_commit(kv, txn));
}

/* Random writes agree with an array; so does a walk in both directions. */
static void random_changes_agree_with_a_plain_array(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    enum { KEYS = 200 };
    static char model[KEYS][12];
    memset(model, 0, sizeof(model));
    uint32_t seed = 3;
    for (int round = 0; round < 60; round++) {
        struct kv_txn *txn = begin(kv, true);
        static char before[KEYS][12];
        memcpy(before, model, sizeof(before));
        for (int i = 0; i < 60; i++) {
            seed = seed * 1664525 + 1013904223;
            uint32_t k = (seed >> 8) % KEYS;
            char key[8];
            snprintf(key, sizeof(key), "%u", k + 100);
            if (seed >> 31 != 0) {
                snprintf(model[k], sizeof(model[k]), "%u", seed);
                check_ok(kv_put(kv, txn, 0, text(key), text(model[k])));
            } else {
                check_code(kv_del(kv, txn, 0, text(key)), model[k][0] != 0 ? 0 : TSR_ENOENT);
                model[k][0] = 0;
            }
        }
        if (round % 4 == 3) {
            kv_abort(kv, txn);
            memcpy(model, before, sizeof(model));
        } else {
            check_ok(kv_commit(kv, txn));
        }
        txn = begin(kv, false);
        struct kv_cursor *c;
        struct kv_val key, val;
        uint64_t count, seen = 0;
        check_ok(kv_count(kv, txn, 0, &count));
        check_ok(kv_cursor_open(kv, txn, 0, &c));
        for (int k = 0; k < KEYS; k++) {
            if (model[k][0] != 0) {
                check_ok(kv_cursor_move(kv, c, KV_NEXT, &key, &val));
                char want[8];
                snprintf(want, sizeof(want), "%d", k + 100);
                check_val(key, want);
                check_val(val, model[k]);
                seen++;
            }
        }
        check_code(kv_cursor_move(kv, c, KV_NEXT, &key, &val), TSR_ENOENT);
        check_int(seen, count);
        while (seen > 1) {
            check_ok(kv_cursor_move(kv, c, KV_PREV, &key, &val));
            seen--;
        }
        kv_cursor_close(kv, c);
        kv_abort(kv, txn);
    }
}

static void *read_one(void *arg)
{
    check_now(arg, "a", "1");
    return NULL;
}

static void readers_work_on_any_thread_while_one_writes(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    put_one(kv, "a", "1");
    struct kv_txn *txn = begin(kv, true);
    check_ok(kv_put(kv, txn, 0, text("a"), text("2")));
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        check_int(pthread_create(&threads[i], NULL, read_one, kv), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    check_ok(kv_commit(kv, txn));
    struct kv_stat st;
    check_ok(kv_stat(kv, &st));
    check(st.used_bytes > 0 && st.used_bytes <= st.map_bytes);
    check_ok(kv_sync(kv));
}

/* --- LMDB --- */

static void a_full_map_spoils_only_its_transaction(void **state)
{
    (void)state;
    struct kv *kv;
    check_ok(kv_lmdb_open(test_path(test_dir(), "small"), 1 << 20, names, 2, KV_SYNC_NONE, &kv));
    put_one(kv, "a", "1");
    static char big[100000];
    int rv = 0;
    struct kv_txn *txn = begin(kv, true);
    for (int i = 0; rv == 0 && i < 100; i++) {
        rv = kv_put(kv, txn, 0, kv_val_of(&i, sizeof(i)), kv_val_of(big, sizeof(big)));
    }
    check_code(rv, TSR_ENOSPC);
    check_code(kv_put(kv, txn, 0, text("b"), text("2")), TSR_ENOSPC);
    check_code(kv_commit(kv, txn), TSR_ENOSPC);
    put_one(kv, "c", "3");
    check_now(kv, "a", "1");
    check_now(kv, "b", NULL);
    kv_close(kv);
}

static void a_store_is_there_after_a_restart(void **state)
{
    (void)state;
    struct kv *kv;
    const char *path = test_path(test_dir(), "store");
    check_ok(kv_lmdb_open(path, 1 << 20, names, 2, KV_SYNC_EACH, &kv));
    put_one(kv, "a", "1");
    check_ok(kv_sync(kv));
    kv_close(kv);
    check_ok(kv_lmdb_open(path, 1 << 20, names, 2, KV_SYNC_EACH, &kv));
    check_now(kv, "a", "1");
    kv_close(kv);
    kv_close(NULL);
    check_code(kv_lmdb_open(path, 1 << 20, names, 0, KV_SYNC_EACH, &kv), TSR_EINVAL);
    check_code(kv_lmdb_open("/nonexistent/dir/store", 1 << 20, names, 2, KV_SYNC_EACH, &kv),
               TSR_ENOENT);
}

static void a_damaged_store_is_told(void **state)
{
    (void)state;
    struct kv *kv;
    const char *path = test_path(test_dir(), "store");
    check_ok(kv_lmdb_open(path, 1 << 20, names, 2, KV_SYNC_NONE, &kv));
    kv_close(kv);
    FILE *f = fopen(test_path(path, "data.mdb"), "r+");
    static char junk[16384];
    memset(junk, 0x5a, sizeof(junk));
    fwrite(junk, 1, sizeof(junk), f);
    fclose(f);
    check_code(kv_lmdb_open(path, 1 << 20, names, 2, KV_SYNC_NONE, &kv), TSR_ECORRUPT);
}

/* --- synced late --- */

static struct kv *open_late(const char *path)
{
    struct kv *kv;
    check_ok(kv_lmdb_open(path, 64 << 20, names, 2, KV_SYNC_LATE, &kv));
    return kv;
}

/* A process that writes @count numbered values, syncs after @synced of them, and is gone. */
static void lost_process(const char *path, int count, int synced)
{
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
        char text[16];
        struct kv *kv = open_late(path);
        for (int i = 1; i <= count; i++) {
            snprintf(text, sizeof(text), "%d", i);
            put_one(kv, "n", text);
            if (i == synced && kv_sync(kv) != 0) {
                _exit(1);
            }
        }
        _exit(0);
    }
    int status = -1;
    check(waitpid(child, &status, 0) == child && status == 0);
}

static void a_store_closed_in_order_has_its_last_transaction(void **state)
{
    (void)state;
    const char *path = test_path(test_dir(), "late");
    for (int i = 0; i < 3; i++) {
        char text[16];
        struct kv *kv = open_late(path);
        if (i > 0) {
            snprintf(text, sizeof(text), "%d", i - 1);
            check_now(kv, "n", text);
        }
        snprintf(text, sizeof(text), "%d", i);
        put_one(kv, "n", text);
        kv_close(kv);
    }
}

static int number_now(const char *path)
{
    struct kv *kv = open_late(path);
    struct kv_txn *txn = begin(kv, false);
    struct kv_val value;
    int rv = kv_get(kv, txn, 0, text("n"), &value), number = 0;
    if (rv == 0) {
        check(value.size > 0 && value.size < 16);
        number = atoi((const char *)value.data); /* the page goes on behind it: not a digit */
    } else {
        check_code(rv, TSR_ENOENT);
    }
    kv_abort(kv, txn);
    kv_close(kv);
    return number;
}

static void a_lost_process_loses_none_that_was_synced(void **state)
{
    (void)state;
    const char *path = test_path(test_dir(), "late");
    for (int i = 0; i < 10; i++) {
        lost_process(path, 9, i);
        int n = number_now(path); /* what came behind the sync may be there or not */
        check(i == 0 || (n >= i && n <= 9));
    }
    lost_process(path, 9, 9);
    check_int(number_now(path), 9);
    for (int i = 0; i < 4; i++) { /* gone again and again before it wrote anything */
        lost_process(path, 0, 0);
    }
    check_int(number_now(path), 9);
}

static void a_synced_store_goes_on_where_it_was_lost(void **state)
{
    (void)state;
    const char *path = test_path(test_dir(), "late");
    for (int i = 1; i < 20; i++) { /* what follows is written over what was taken back */
        lost_process(path, i + 3, i);
        check(number_now(path) >= i);
        struct kv *kv = open_late(path);
        put_one(kv, "n", "0");
        put_one(kv, "m", "0");
        kv_close(kv);
        check_int(number_now(path), 0);
    }
}

enum { PAGE = 4096, TORN_ROUNDS = 25, TORN_COMMITS = 12, TORN_KEYS = 400 };

static size_t file_read(const char *path, char **out)
{
    struct stat st;
    FILE *f = fopen(path, "r");
    check(f != NULL && fstat(fileno(f), &st) == 0);
    *out = malloc((size_t)st.st_size + 1);
    check(fread(*out, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
    fclose(f);
    return (size_t)st.st_size;
}

static void file_write(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "w");
    check(f != NULL && fwrite(data, 1, size, f) == size);
    fclose(f);
}

static void commit_some(struct kv *kv, unsigned *random, const char *stamp)
{
    char key[16], value[600];
    struct kv_txn *txn = begin(kv, true);
    memset(value, 'v', sizeof(value));
    for (int i = 0; i < 40; i++) {
        *random = *random * 1664525u + 1013904223u;
        snprintf(key, sizeof(key), "%u", (*random >> 8) % TORN_KEYS);
        check_ok(kv_put(kv, txn, 0, text(key), kv_val_of(value, (*random >> 20) % 600 + 1)));
    }
    check_ok(kv_put(kv, txn, 0, text("stamp"), text(stamp)));
    check_ok(kv_commit(kv, txn));
}

static void check_same(struct kv *kv, struct kv *want)
{
    struct kv_txn *ta = begin(kv, false), *tb = begin(want, false);
    struct kv_cursor *a, *b;
    struct kv_val ak, av, bk, bv;
    int rv = 0;
    check_ok(kv_cursor_open(kv, ta, 0, &a));
    check_ok(kv_cursor_open(want, tb, 0, &b));
    while (rv == 0) {
        rv = kv_cursor_move(kv, a, KV_NEXT, &ak, &av);
        check_int(kv_cursor_move(want, b, KV_NEXT, &bk, &bv), rv);
        if (rv == 0) {
            check(ak.size == bk.size && memcmp(ak.data, bk.data, ak.size) == 0);
            check(av.size == bv.size && memcmp(av.data, bv.data, av.size) == 0);
        }
    }
    check_code(rv, TSR_ENOENT);
    kv_cursor_close(kv, a);
    kv_cursor_close(want, b);
    kv_abort(kv, ta);
    kv_abort(want, tb);
}

/* What the disk holds after a power cut: of the pages written since the sync some, as it likes, and
 * both meta pages. */
static void cut_power(char *now, size_t size, const char *durable, size_t durable_size,
                      unsigned *random)
{
    for (size_t at = 2UL * PAGE; at + PAGE <= size; at += PAGE) {
        *random = *random * 1664525u + 1013904223u;
        if (*random >> 31 && at + PAGE <= durable_size) {
            memcpy(now + at, durable + at, PAGE);
        } else if (*random >> 31) {
            memset(now + at, 0, PAGE);
        }
    }
}

/* A folder with these two files, opened. */
static struct kv *open_copy(const char *path, const char *suffix, int round, const char *data,
                            size_t size, const char *note, size_t note_size)
{
    char name[512], file[600];
    snprintf(name, sizeof(name), "%s-%s-%d", path, suffix, round);
    check_ok(mkdir(name, 0700));
    snprintf(file, sizeof(file), "%s/data.mdb", name);
    file_write(file, data, size);
    snprintf(file, sizeof(file), "%s/synced", name);
    file_write(file, note, note_size);
    return open_late(name);
}

static void a_power_cut_leaves_what_was_synced(void **state)
{
    (void)state;
    const char *path = test_path(test_dir(), "late");
    char file[600], note_file[600], stamp[16];
    snprintf(file, sizeof(file), "%s/data.mdb", path);
    snprintf(note_file, sizeof(note_file), "%s/synced", path);
    struct kv *kv = open_late(path);
    unsigned random = 7, counted = 0;
    for (int round = 0; counted < TORN_ROUNDS; round++) {
        check(round < 100 * TORN_ROUNDS); /* it synced by itself in each of them */
        char *data, *note, *later, *torn;
        snprintf(stamp, sizeof(stamp), "%d", round);
        commit_some(kv, &random, stamp);
        check_ok(kv_sync(kv));
        size_t size = file_read(file, &data), note_size = file_read(note_file, &note);
        for (int i = 0; i < 1 + round % TORN_COMMITS; i++) {
            commit_some(kv, &random, "later");
        }
        size_t torn_size = file_read(file, &torn);
        check_int(file_read(note_file, &later), note_size);
        if (memcmp(note, later, note_size) == 0) { /* else it synced by itself meanwhile */
            counted++;
            cut_power(torn, torn_size, data, size, &random);
            struct kv *want = open_copy(path, "want", round, data, size, note, note_size);
            struct kv *left = open_copy(path, "left", round, torn, torn_size, note, note_size);
            check_now(want, "stamp", stamp);
            check_same(left, want);
            commit_some(left, &random, "more");
            commit_some(left, &random, "more");
            kv_close(left);
            kv_close(want);
        }
        free(data);
        free(note);
        free(later);
        free(torn);
    }
    kv_close(kv);
}

static void a_note_of_another_file_is_damage(void **state)
{
    (void)state;
    const char *path = test_path(test_dir(), "late"), *other = test_path(test_dir(), "other");
    char *data;
    lost_process(path, 30, 30);
    lost_process(other, 3, 3);
    size_t size = file_read(test_path(other, "data.mdb"), &data);
    file_write(test_path(path, "data.mdb"), data, size);
    free(data);
    struct kv *kv;
    check_code(kv_lmdb_open(path, 64 << 20, names, 2, KV_SYNC_LATE, &kv), TSR_ECORRUPT);
}

static void a_torn_note_leaves_the_one_before(void **state)
{
    (void)state;
    const char *path = test_path(test_dir(), "late");
    char *said;
    lost_process(path, 3, 3);
    size_t size = file_read(test_path(path, "synced"), &said);
    uint64_t first, second;
    memcpy(&first, said + 16, 8);
    memcpy(&second, said + 4096 + 16, 8);
    said[(second > first ? 4096 : 0) + 100] ^= 1;
    file_write(test_path(path, "synced"), said, size);
    free(said);
    check(number_now(path) < 3); /* that of its opening */
}

/* --- in memory --- */

static void a_power_cut_loses_whole_transactions_since_the_sync(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    put_one(kv, "a", "1");
    check_ok(kv_sync(kv));
    put_one(kv, "a", "2");
    put_one(kv, "a", "3");
    put_one(kv, "a", "4");
    check_int(kv_mem_unsynced(kv), 3);
    kv_mem_crash_keep(kv, 2);
    check_now(kv, "a", "3");
    put_one(kv, "a", "5");
    struct kv_txn *reader = begin(kv, false);
    kv_mem_crash(kv);
    check_get(kv, reader, "a", "5");
    kv_abort(kv, reader);
    check_now(kv, "a", "3"); /* what a power cut left is durable */
    for (int i = 0; i < 1500; i++) {
        put_one(kv, "a", "x");
    }
    kv_mem_crash(kv);
    check_now(kv, "a", "3");
}

/* All or nothing, whichever call fails. */
static int change(struct kv *kv)
{
    struct kv_txn *txn;
    struct kv_val val;
    int rv = kv_begin(kv, true, &txn);
    if (rv != 0) {
        return rv;
    }
    (void)kv_get(kv, txn, 0, text("a"), &val);
    (void)kv_put(kv, txn, 0, text("a"), text("2")); /* its error comes back at commit */
    (void)kv_put(kv, txn, 0, text("b"), text("2"));
    return kv_commit(kv, txn);
}

static void each_call_can_fail(void **state)
{
    struct kv *kv = ((struct fixture *)*state)->kv;
    put_one(kv, "a", "1");
    unsigned failures = 0;
    for (unsigned n = 1;; n++) {
        kv_mem_fail_after(kv, n);
        int rv = change(kv);
        if (!kv_mem_failed(kv)) {
            check_ok(rv);
            break;
        }
        if (rv != 0) {
            check_code(rv, TSR_EIO);
            check_now(kv, "b", NULL);
            failures++;
        } else { /* the read failed, which spoils nothing */
            struct kv_txn *txn = begin(kv, true);
            check_ok(kv_del(kv, txn, 0, text("b")));
            check_ok(kv_commit(kv, txn));
        }
    }
    check_int(failures, 4);
    kv_mem_fail_after(kv, 0);
    check_now(kv, "b", "2");
    kv_mem_fail_after(kv, 1);
    check_code(kv_sync(kv), TSR_EIO);
    kv_mem_crash(kv);
    check_now(kv, "a", NULL);
}

#define BOTH(name)                                     \
    {#name " (LMDB)", name, setup, teardown, &lmdb},   \
    {                                                  \
#name " (memory)", name, setup, teardown, &mem \
    }
#define MEM(name)                          \
    {                                      \
#name, name, setup, teardown, &mem \
    }
TEST_MAIN(BOTH(a_commit_publishes_and_an_abort_forgets), BOTH(a_reader_keeps_what_it_saw),
          BOTH(bad_keys_and_databases_are_refused), BOTH(cursors_walk_in_the_order_of_bytes),
          BOTH(a_cursor_survives_changes_of_its_transaction),
          BOTH(random_changes_agree_with_a_plain_array),
          BOTH(readers_work_on_any_thread_while_one_writes),
          cmocka_unit_test(a_full_map_spoils_only_its_transaction),
          cmocka_unit_test(a_store_is_there_after_a_restart),
          cmocka_unit_test(a_damaged_store_is_told),
          cmocka_unit_test(a_store_closed_in_order_has_its_last_transaction),
          cmocka_unit_test(a_lost_process_loses_none_that_was_synced),
          cmocka_unit_test(a_synced_store_goes_on_where_it_was_lost),
          cmocka_unit_test(a_power_cut_leaves_what_was_synced),
          cmocka_unit_test(a_note_of_another_file_is_damage),
          cmocka_unit_test(a_torn_note_leaves_the_one_before),
          MEM(a_power_cut_loses_whole_transactions_since_the_sync), MEM(each_call_can_fail))
