/* A core alone, with messages made by hand, and what it says. */
#ifndef TEST_CONSENSUS_ONE_CORE_H
#define TEST_CONSENSUS_ONE_CORE_H

#include <stdlib.h>

#include "consensus/batch.h"
#include "consensus/core.h"
#include "consensus/core_private.h"
#include "tessera/base/buf.h"
#include "tessera/base/log.h"
#include "test.h"

enum { SENT_MAX = 64, SELF = 1 };

struct sent {
    uint64_t to;
    struct message m;
    uint8_t types[16]; /* of an append's entries */
};

struct one {
    struct core *core;
    struct sent sent[SENT_MAX];
    unsigned count;
    unsigned snapshots_wanted;
    uint64_t now;
};

static void on_send(void *arg, uint64_t to, const struct message *m)
{
    struct one *t = arg;
    check(t->count < SENT_MAX);
    struct sent *s = &t->sent[t->count++];
    s->to = to;
    s->m = *m;
    for (unsigned i = 0; m->kind == MESSAGE_APPEND && i < m->append.count && i < 16; i++) {
        s->types[i] = m->append.entries[i].type;
    }
}

static void on_need(void *arg, uint64_t to)
{
    (void)to;
    ((struct one *)arg)->snapshots_wanted++;
}

/* The newest message of @kind to @to; NULL if none. */
static struct sent *sent_to(struct one *t, uint64_t to, enum message_kind kind)
{
    for (unsigned i = t->count; i > 0; i--) {
        if (t->sent[i - 1].to == to && t->sent[i - 1].m.kind == kind) {
            return &t->sent[i - 1];
        }
    }
    return NULL;
}

static void clear(struct one *t)
{
    t->count = 0;
}

static struct conf conf_of(unsigned voters, unsigned standbys)
{
    struct conf conf = {0};
    for (unsigned i = 1; i <= voters + standbys; i++) {
        struct conf next;
        char address[16];
        snprintf(address, sizeof address, "h%u:1", i);
        check_ok(conf_add(&conf, i, address, &next));
        next.members[i - 1].role = i <= voters ? CONSENSUS_VOTER : CONSENSUS_STANDBY;
        conf = next;
    }
    return conf;
}

static void load_conf(struct core *core, uint64_t index, uint64_t term, const struct conf *conf)
{
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(conf, &b));
    check_ok(core_load_entry(core, index, term, ENTRY_CHANGE, b.data, b.size));
    buf_free(&b);
}

static struct one *one_new(uint64_t self)
{
    struct one *t = calloc(1, sizeof *t);
    struct core_options o = {.self = self,
                             .address = "me:1",
                             .election_ms = 500,
                             .heartbeat_ms = 50,
                             .seed = 7,
                             .window_bytes = 1024 * 1024,
                             .trailing_count = 3,
                             .trailing_bytes = 1024 * 1024,
                             .send = on_send,
                             .need_snapshot = on_need,
                             .arg = t};
    log_set_level(LOG_ERROR);
    check_ok(core_new(&o, &t->core));
    t->now = 100000;
    return t;
}

static void one_free(struct one *t)
{
    core_free(t->core);
    free(t);
}

/* Voters 1 .. @voters, then standbys; log: the membership, then barriers up to @last in @term. */
static struct one *one_with(uint64_t self, unsigned voters, unsigned standbys, uint64_t last,
                            uint64_t term)
{
    struct one *t = one_new(self);
    struct conf conf = conf_of(voters, standbys);
    load_conf(t->core, 1, 1, &conf);
    for (uint64_t i = 2; i <= last; i++) {
        check_ok(core_load_entry(t->core, i, term, ENTRY_BARRIER, "\0\0\0\0\0\0\0\0", 8));
    }
    check_ok(core_start(t->core, t->now, term, 0, 0));
    return t;
}

static void vote_done(struct one *t)
{
    uint64_t term, voted;
    while (core_vote_wanted(t->core, &term, &voted)) {
        check_ok(core_vote_done(t->core, t->now));
    }
}

static void write_all(struct one *t)
{
    struct core_write w;
    while (core_write_next(t->core, &w)) {
        check_ok(core_write_done(t->core, t->now, &w));
    }
}

static void receive(struct one *t, uint64_t from, struct message m)
{
    check_ok(core_receive(t->core, t->now, from, &m));
}

static void time_out(struct one *t)
{
    uint64_t due = core_timeout_due(t->core);
    t->now = due > t->now ? due : t->now + 5;
    check_ok(core_timeout(t->core, t->now));
}

static struct message append_of(uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit,
                                unsigned count, struct message_entry *entries)
{
    return (struct message){.kind = MESSAGE_APPEND,
                            .append = {.term = term,
                                       .prev_index = prev,
                                       .prev_term = prev_term,
                                       .commit = commit,
                                       .count = count,
                                       .entries = entries}};
}

static struct message_entry barrier(uint64_t term)
{
    return (struct message_entry){
        .term = term, .type = ENTRY_BARRIER, .data = "\0\0\0\0\0\0\0\0", .size = 8};
}

static struct message result_of(uint64_t term, uint64_t rejected, uint64_t last)
{
    return (struct message){
        .kind = MESSAGE_APPEND_RESULT,
        .append_result = {
            .version = 2, .term = term, .rejected = rejected, .last_index = last, .features = 1}};
}

static struct message vote_result_of(uint64_t term, bool granted, bool pre_vote)
{
    return (struct message){
        .kind = MESSAGE_VOTE_RESULT,
        .vote_result = {
            .version = 2, .term = term, .granted = granted, .pre_vote = pre_vote, .features = 1}};
}

static struct message vote_of(uint64_t term, uint64_t from, uint64_t last, uint64_t last_term,
                              bool pre_vote)
{
    return (struct message){.kind = MESSAGE_VOTE,
                            .vote = {.version = 2,
                                     .term = term,
                                     .candidate = from,
                                     .last_index = last,
                                     .last_term = last_term,
                                     .pre_vote = pre_vote}};
}

/* Host 1 wins with the vote of host 2; its no-op is in its log, not on its disk. */
static void elect(struct one *t)
{
    for (unsigned i = 0; i < 5 && core_state(t->core) != CONSENSUS_CANDIDATE; i++) {
        time_out(t);
    }
    receive(t, 2, vote_result_of(core_term(t->core) + 1, true, true));
    vote_done(t);
    receive(t, 2, vote_result_of(core_term(t->core), true, false));
    check_int(core_state(t->core), CONSENSUS_LEADER);
}

/* ... and committed: host 2 has it too. */
static void lead(struct one *t)
{
    elect(t);
    write_all(t);
    receive(t, 2, result_of(core_term(t->core), 0, core_last_index(t->core)));
    check_int(core_commit(t->core), core_last_index(t->core));
}

#endif
