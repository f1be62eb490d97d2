/* Commands against the store. Input: lines, one command each; an entry a line, or several commands
 * in one entry (a line that ends in a space goes on in the same entry). The same input goes into
 * two stores: they must agree in every outcome and digest. A command that is well-formed and known
 * is never fatal, however senseless; the digest changes with each entry; a command that comes again
 * under its id has the outcome it had. */
#include "fuzz.h"
#include "meta/apply.h"
#include "tessera/base/log.h"

enum { COMMANDS_MAX = 64 };

struct stores {
    struct meta *a, *b;
    uint64_t index;
    int64_t wall_us;
};

static void drop_line(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

static struct meta *store_new(void)
{
    struct kv *kv;
    struct meta *m;
    struct err err = {0};
    fuzz_check(kv_mem_open(meta_database_count, &kv) == 0);
    fuzz_check(meta_open(kv, &m, &err) == 0);
    return m;
}

static bool known(struct fuzz_in line)
{
    json_t *cmd = json_parse((const char *)line.data, line.size);
    bool yes = json_is_object(cmd) && apply_knows(cmd);
    json_decref(cmd);
    return yes;
}

static int apply_to(struct meta *m, const struct stores *s, struct fsm_command *commands,
                    unsigned count)
{
    struct fsm *fsm = meta_fsm(m);
    struct fsm_entry e = {
        .index = s->index, .term = 1, .wall_us = s->wall_us, .commands = commands, .count = count};
    return fsm->ops->apply(fsm, &e, 1);
}

static void check_outcomes(const struct fsm_command *a, const struct fsm_command *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fuzz_check(a[i].code == b[i].code && a[i].duplicate == b[i].duplicate);
        fuzz_check(a[i].result != NULL && a[i].result_size == b[i].result_size);
        fuzz_check(memcmp(a[i].result, b[i].result, a[i].result_size) == 0);
        json_t *result = json_parse(a[i].result, a[i].result_size);
        fuzz_check(json_is_object(result));
        fuzz_check(a[i].code == 0 || json_str(result, "msg") != NULL);
        json_decref(result);
    }
}

static void free_outcomes(struct fsm_command *commands, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        free(commands[i].result);
    }
}

/* False: an entry that stops a host, rightly. */
static bool apply_both(struct stores *s, const struct fuzz_in *lines, unsigned count)
{
    struct fsm_command a[COMMANDS_MAX] = {0}, b[COMMANDS_MAX] = {0};
    struct fsm_point before, after_a, after_b;
    bool all_known = true;
    s->index++;
    s->wall_us += 1000;
    for (unsigned i = 0; i < count; i++) {
        all_known = all_known && known(lines[i]);
        uint64_t n = s->index << 8 | i;
        memcpy(a[i].id, &n, sizeof n);
        /* {"again":true ...}: the id of the entry before, first command */
        if (lines[i].size > 8 && memcmp(lines[i].data, "{\"again\"", 8) == 0) {
            n = (s->index - 1) << 8;
            memcpy(a[i].id, &n, sizeof n);
        }
        a[i].data = (const char *)lines[i].data;
        a[i].size = lines[i].size;
        b[i] = a[i];
    }
    fuzz_check(meta_point(s->a, &before) == 0);
    int rc = apply_to(s->a, s, a, count);
    fuzz_check(apply_to(s->b, s, b, count) == rc);
    fuzz_check(meta_point(s->a, &after_a) == 0 && meta_point(s->b, &after_b) == 0);
    fuzz_check(memcmp(after_a.digest, after_b.digest, FSM_DIGEST_SIZE) == 0);
    if (rc == 0) {
        fuzz_check(all_known && after_a.index == s->index);
        fuzz_check(memcmp(before.digest, after_a.digest, FSM_DIGEST_SIZE) != 0);
        check_outcomes(a, b, count);
    } else {
        fuzz_check(!all_known && (rc == TSR_ECORRUPT || rc == TSR_ENOTSUP));
        fuzz_check(after_a.index == before.index);
    }
    free_outcomes(a, count);
    free_outcomes(b, count);
    return rc == 0;
}

/* What a host that joins now gets: the export of both is the same. */
static void check_export(struct stores *s)
{
    struct fsm *fsm[2] = {meta_fsm(s->a), meta_fsm(s->b)};
    struct fsm_export *e[2];
    struct fsm_point at;
    static char piece[2][4096];
    long n[2];
    for (int i = 0; i < 2; i++) {
        fuzz_check(fsm[i]->ops->export_open(fsm[i], &e[i], &at) == 0);
    }
    do {
        for (int i = 0; i < 2; i++) {
            n[i] = fsm[i]->ops->export_read(e[i], piece[i], sizeof piece[i]);
        }
        fuzz_check(n[0] >= 0 && n[0] == n[1] && memcmp(piece[0], piece[1], (size_t)n[0]) == 0);
    } while (n[0] > 0);
    for (int i = 0; i < 2; i++) {
        fsm[i]->ops->export_close(e[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size}, lines[COMMANDS_MAX];
    log_set_sink(drop_line, NULL);
    struct stores s = {.a = store_new(), .b = store_new(), .wall_us = 1000000};
    bool going = true;
    unsigned count = 0, all = 0;
    while (in.size > 0 && going && all++ < COMMANDS_MAX) {
        struct fuzz_in line = fuzz_until(&in, '\n');
        lines[count++] = line;
        bool more = line.size > 0 && line.data[line.size - 1] == ' ' && in.size > 0;
        if (!more) {
            going = apply_both(&s, lines, count);
            count = 0;
        }
    }
    check_export(&s);
    fuzz_check(meta_damaged(s.a) == meta_damaged(s.b));
    meta_close(s.a);
    meta_close(s.b);
    return 0;
}
