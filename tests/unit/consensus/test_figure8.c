/* The Raft paper's Figure 8 with three and five voters, against the linked library: an entry of an
 * earlier term that a new leader has brought onto a majority is not committed before an entry of
 * the leader's own term is; it may still be replaced. Cores with durable logs, messages by hand.
 *
 * Built with TSR_BREAK_OLD_TERM (commit by counting, whatever the term) the first test fails: it
 * was seen to; tools/sim-defects hunts that defect too. */
#include <stdlib.h>
#include <string.h>

#include "consensus/codec.h"
#include "consensus/core.h"
#include "tessera/base/buf.h"
#include "tessera/base/log.h"
#include "test.h"

enum { VOTERS_MOST = 5, LOG_MAX = 32, QUEUE_MAX = 512 };

struct kept {
    uint64_t term;
    uint8_t type;
    struct buf data;
};

struct server {
    struct world *world;
    uint64_t id;
    struct core *core;        /* NULL: crashed */
    struct kept log[LOG_MAX]; /* what is durable, from index 1 */
    unsigned last;
    uint64_t term, voted_for;
};

struct letter {
    uint64_t from, to;
    struct buf bytes;
};

struct world {
    unsigned n;
    uint64_t now;
    struct server servers[VOTERS_MOST + 1]; /* from 1 */
    struct letter queue[QUEUE_MAX];
    unsigned head, tail;
    bool reach[VOTERS_MOST + 1]; /* who gets and sends anything */
    uint64_t entries_up_to;      /* appends carry no entries beyond */
};

static void on_send(void *arg, uint64_t to, const struct message *m)
{
    struct server *s = arg;
    struct world *w = s->world;
    check(w->tail < QUEUE_MAX);
    struct letter *l = &w->queue[w->tail++];
    l->from = s->id;
    l->to = to;
    buf_init(&l->bytes);
    check_ok(message_encode(m, &l->bytes));
}

static void on_need(void *arg, uint64_t to)
{
    (void)arg;
    (void)to;
    fail_msg("nobody needs a snapshot here");
}

static void keep(struct server *s, uint64_t index, uint64_t term, uint8_t type, const void *data,
                 size_t size)
{
    check(index >= 1 && index <= s->last + 1 && index < LOG_MAX);
    for (unsigned i = (unsigned)index; i <= s->last; i++) {
        buf_free(&s->log[i].data);
    }
    s->last = (unsigned)index;
    s->log[index].term = term;
    s->log[index].type = type;
    buf_init(&s->log[index].data);
    check_ok(buf_append(&s->log[index].data, data, size));
}

/* Everything that this host wants to write is durable now. */
static void settle(struct server *s)
{
    struct world *w = s->world;
    struct core_write write;
    uint64_t term, voted;
    for (bool more = true; more;) {
        more = false;
        while (core_vote_wanted(s->core, &term, &voted)) {
            s->term = term;
            s->voted_for = voted;
            check_ok(core_vote_done(s->core, w->now));
            more = true;
        }
        while (core_write_next(s->core, &write)) {
            for (unsigned i = 0; i < write.count; i++) {
                const struct disklog_entry *e = &write.entries[i];
                keep(s, e->index, e->term, e->type, e->data, e->size);
            }
            check_ok(core_write_done(s->core, w->now, &write));
            more = true;
        }
    }
}

static void start(struct server *s)
{
    struct core_options o = {.self = s->id,
                             .address = "me:1",
                             .election_ms = 500,
                             .heartbeat_ms = 50,
                             .seed = (unsigned)s->id,
                             .window_bytes = 1024 * 1024,
                             .trailing_count = 100,
                             .trailing_bytes = 1024 * 1024,
                             .send = on_send,
                             .need_snapshot = on_need,
                             .arg = s};
    check_ok(core_new(&o, &s->core));
    for (unsigned i = 1; i <= s->last; i++) {
        check_ok(core_load_entry(s->core, i, s->log[i].term, s->log[i].type, s->log[i].data.data,
                                 s->log[i].data.size));
    }
    check_ok(core_start(s->core, s->world->now, s->term, s->voted_for, 0));
    settle(s);
}

static void crash(struct server *s)
{
    core_free(s->core);
    s->core = NULL;
}

static struct world *world_new(unsigned n)
{
    struct world *w = calloc(1, sizeof *w);
    struct conf conf = {0}, next;
    struct buf b;
    check(w != NULL);
    log_set_level(LOG_ERROR);
    w->n = n;
    w->now = 100000;
    w->entries_up_to = UINT64_MAX;
    for (unsigned i = 1; i <= n; i++) {
        char address[16];
        snprintf(address, sizeof address, "h%u:1", i);
        check_ok(conf_add(&conf, i, address, &next));
        next.members[i - 1].role = CONSENSUS_VOTER;
        conf = next;
    }
    buf_init(&b);
    check_ok(conf_encode(&conf, &b));
    for (unsigned i = 1; i <= n; i++) {
        struct server *s = &w->servers[i];
        s->world = w;
        s->id = i;
        s->term = 1;
        keep(s, 1, 1, ENTRY_CHANGE, b.data, b.size);
        start(s);
    }
    buf_free(&b);
    return w;
}

static void world_free(struct world *w)
{
    for (unsigned i = 1; i <= w->n; i++) {
        core_free(w->servers[i].core);
        for (unsigned k = 1; k <= w->servers[i].last; k++) {
            buf_free(&w->servers[i].log[k].data);
        }
    }
    for (; w->head < w->tail; w->head++) {
        buf_free(&w->queue[w->head].bytes);
    }
    free(w);
}

/* Deliver what is queued, and what follows from it, among those who are reached. */
static void deliver(struct world *w)
{
    while (w->head < w->tail) {
        struct letter l = w->queue[w->head++];
        struct server *to = &w->servers[l.to];
        struct message m;
        if (to->core && w->servers[l.from].core && w->reach[l.from] && w->reach[l.to]) {
            check_ok(message_decode(l.bytes.data, l.bytes.size, &m));
            while (m.kind == MESSAGE_APPEND && m.append.count > 0 &&
                   m.append.prev_index + m.append.count > w->entries_up_to) {
                m.append.count--;
            }
            check_ok(core_receive(to->core, w->now, l.from, &m));
            settle(to);
            message_free(&m);
        }
        buf_free(&l.bytes);
    }
    w->head = w->tail = 0;
}

static void reach(struct world *w, unsigned mask)
{
    for (unsigned i = 1; i <= w->n; i++) {
        w->reach[i] = (mask >> i & 1) != 0;
    }
}

#define HOSTS(a, b, c) (1u << (a) | 1u << (b) | 1u << (c))

/* Host @k wins in term @term with the votes of those who are reached; its own entry stays with it.
 */
static void elect(struct world *w, unsigned k, unsigned mask, uint64_t term)
{
    struct server *s = &w->servers[k];
    s->term = s->term < term - 1 ? term - 1 : s->term;
    if (s->core) {
        crash(s);
    }
    start(s); /* in a term that makes the next one the wanted one */
    for (unsigned tries = 0; tries < 20 && core_state(s->core) != CONSENSUS_LEADER; tries++) {
        w->now += 2000; /* nobody believes in a leader any more */
        for (unsigned i = 1; i <= w->n; i++) {
            if (w->servers[i].core && i != k) {
                check_ok(core_timeout(w->servers[i].core, w->now));
                settle(&w->servers[i]);
            }
        }
        reach(w, 0);
        deliver(w); /* what the others say is lost */
        check_ok(core_timeout(s->core, w->now));
        settle(s);
        reach(w, mask);
        w->entries_up_to = 0;
        deliver(w);
        w->entries_up_to = UINT64_MAX;
    }
    check_int(core_state(s->core), CONSENSUS_LEADER);
    check_int(core_term(s->core), term);
}

/* The leader sends again what its followers lack, up to @up_to. */
static void replicate(struct world *w, unsigned k, unsigned mask, uint64_t up_to)
{
    struct server *s = &w->servers[k];
    reach(w, mask);
    w->entries_up_to = up_to;
    for (unsigned i = 0; i < 12; i++) {
        w->now += 51; /* a heartbeat; silent followers fall back to probing */
        check_ok(core_timeout(s->core, w->now));
        settle(s);
        deliver(w);
    }
    w->entries_up_to = UINT64_MAX;
}

static uint64_t term_at(const struct server *s, uint64_t index)
{
    return core_term_of(s->core, index);
}

/* Steps (a) to (c): host 1 leads in term 4, its entry 2 of term 2 is on a majority, host @n has
 * another entry 2 of term 3. Returns the mask of that majority. */
static unsigned until_c(struct world *w)
{
    unsigned n = w->n, z = n;
    struct server *s = w->servers;
    elect(w, 1, n == 5 ? HOSTS(1, 2, 3) : HOSTS(1, 2, 2), 2);
    check_int(s[1].last, 2);
    if (n == 5) { /* (a) on hosts 1 and 2 */
        replicate(w, 1, HOSTS(1, 2, 2), 2);
        check_int(term_at(&s[2], 2), 2);
    }
    crash(&s[1]);
    elect(w, z, n == 5 ? HOSTS(3, 4, 5) : HOSTS(2, 3, 3), 3); /* (b) */
    check_int(s[z].last, 2);
    check_int(s[z].log[2].term, 3);
    crash(&s[z]);
    unsigned majority = n == 5 ? HOSTS(1, 2, 3) : HOSTS(1, 2, 2);
    elect(w, 1, majority, 4);
    check_int(s[1].last, 3); /* its own entry of term 4, on no other host */
    replicate(w, 1, majority, 2);
    check_int(term_at(&s[n == 5 ? 3 : 2], 2), 2); /* (c) */
    check_int(core_last_index(s[n == 5 ? 3 : 2].core), 2);
    return majority;
}

static void not_committed_and_replaced(unsigned n)
{
    struct world *w = world_new(n);
    struct server *s = w->servers;
    (void)until_c(w);
    check(core_match(s[1].core, n == 5 ? 3 : 2) == 2); /* the leader knows that it is there */
    for (unsigned i = 1; i < n; i++) {
        check(core_commit(s[i].core) < 2);
    }
    crash(&s[1]); /* (d) */
    unsigned voters = n == 5 ? 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 : HOSTS(2, 3, 3);
    elect(w, n, voters, 5);
    replicate(w, n, voters, UINT64_MAX);
    check_int(core_commit(s[n].core), 3);
    for (unsigned i = 2; i <= n; i++) {
        check_int(term_at(&s[i], 2), 3);
        check_int(s[i].log[2].term, 3);
    }
    start(&s[1]);
    replicate(w, n, voters | 1u << 1, UINT64_MAX);
    check_int(term_at(&s[1], 2), 3); /* gone without a trace, as nobody was told of it */
    check_int(core_commit(s[1].core), 3);
    world_free(w);
}

static void an_old_entry_on_a_majority_is_not_committed(void **state)
{
    (void)state;
    not_committed_and_replaced(3);
    not_committed_and_replaced(5);
}

static void with_an_entry_of_the_own_term_it_is_and_stays(void **state)
{
    (void)state;
    for (unsigned n = 3; n <= 5; n += 2) { /* (e) */
        struct world *w = world_new(n);
        struct server *s = w->servers;
        unsigned majority = until_c(w);
        replicate(w, 1, majority, UINT64_MAX);
        check_int(core_commit(s[1].core), 3);
        crash(&s[1]);
        start(&s[n]); /* host n can not win any more: a majority has a newer entry */
        for (unsigned i = 0; i < 10; i++) {
            w->now += 2000;
            reach(w, ~0u);
            check_ok(core_timeout(s[n].core, w->now));
            settle(&s[n]);
            deliver(w);
            check(core_state(s[n].core) != CONSENSUS_LEADER);
        }
        check_int(term_at(&s[2], 2), 2);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_entry_on_a_majority_is_not_committed),
        cmocka_unit_test(with_an_entry_of_the_own_term_it_is_and_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
