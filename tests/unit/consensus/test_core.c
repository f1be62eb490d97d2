/* The guards, one directed test each, and the core's own rules; a core alone, messages by hand. */
#include "one_core.h"

/* What is on the stack where libraft forgets to set a field must not matter. */
static __attribute__((noinline)) void dirty_stack(void)
{
    volatile char junk[32 * 1024];
    for (size_t i = 0; i < sizeof junk; i++) {
        junk[i] = 5;
    }
}

static void a_stale_append_is_not_answered_as_a_success(void **state) /* R1 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 5, 4);
    struct message m = append_of(3, 0, 0, 0, 0, NULL);
    dirty_stack();
    check_ok(core_receive(t->core, t->now, 1, &m));
    struct sent *s = sent_to(t, 1, MESSAGE_APPEND_RESULT);
    check(s != NULL);
    check_int(s->m.append_result.term, 4);
    check_int(s->m.append_result.rejected, 0);
    check_int(s->m.append_result.last_index, 0);
    one_free(t);
}

static void a_sole_voter_never_leads_twice_in_a_term(void **state) /* R2 */
{
    (void)state;
    struct one *t = one_with(SELF, 1, 1, 3, 4);
    check_int(core_state(t->core), CONSENSUS_LEADER);
    receive(t, 2, result_of(9, 0, 0)); /* somebody is in term 9 */
    vote_done(t);
    check_int(core_state(t->core), CONSENSUS_FOLLOWER);
    write_all(t);
    time_out(t);
    uint64_t term, voted;
    check(core_vote_wanted(t->core, &term, &voted));
    check_int(term, 10);
    check_int(voted, SELF);
    check_int(core_state(t->core), CONSENSUS_FOLLOWER); /* not before it is durable */
    vote_done(t);
    check_int(core_state(t->core), CONSENSUS_LEADER);
    check_int(core_term(t->core), 10);
    one_free(t);
}

static void a_leader_neither_removes_itself_nor_bears_another(void **state) /* R3 */
{
    (void)state;
    struct one *t = one_with(SELF, 2, 0, 3, 4);
    struct conf next;
    uint64_t index;
    lead(t);
    check_ok(conf_remove(core_conf(t->core), SELF, &next));
    check_code(core_change(t->core, t->now, &next, &index), TSR_ECONFLICT);
    check_ok(conf_role(core_conf(t->core), SELF, CONSENSUS_SPARE, &next));
    check_code(core_change(t->core, t->now, &next, &index), TSR_ECONFLICT);
    struct message m = append_of(core_term(t->core), 3, 4, 3, 0, NULL);
    check_code(core_receive(t->core, t->now, 2, &m), TSR_ECORRUPT);
    one_free(t);
}

static void no_change_before_an_entry_of_the_own_term_is_committed(void **state) /* R4 */
{
    (void)state;
    struct one *t = one_with(SELF, 3, 1, 3, 4);
    struct conf next;
    uint64_t index;
    elect(t);
    check_ok(conf_role(core_conf(t->core), 4, CONSENSUS_VOTER, &next));
    check_code(core_change(t->core, t->now, &next, &index), TSR_EBUSY);
    write_all(t);
    check_code(core_change(t->core, t->now, &next, &index), TSR_EBUSY);
    receive(t, 2, result_of(core_term(t->core), 0, core_last_index(t->core)));
    check_ok(core_change(t->core, t->now, &next, &index));
    check_code(core_change(t->core, t->now, &next, &index), TSR_EBUSY); /* one at a time */
    one_free(t);
}

/* F51, Figure 8 of the Raft paper: host 1 wrote entries in an earlier term, was replaced, leads
 * again, and brings those entries to every host. A host that has not answered may still lead in
 * between and overwrite them, so being on a majority (on all) commits nothing, until an entry of
 * the present term is on a majority too. */
static void an_entry_of_an_earlier_term_never_commits_by_counting(void **state)
{
    (void)state;
    for (unsigned voters = 3; voters <= 5; voters += 2) {
        struct one *t = one_with(SELF, voters, 0, 5, 4);
        for (unsigned i = 0; i < 5 && core_state(t->core) != CONSENSUS_CANDIDATE; i++) {
            time_out(t);
        }
        for (unsigned h = 2; h <= voters / 2 + 1; h++) {
            receive(t, h, vote_result_of(core_term(t->core) + 1, true, true));
        }
        vote_done(t);
        for (unsigned h = 2; h <= voters / 2 + 1; h++) {
            receive(t, h, vote_result_of(core_term(t->core), true, false));
        }
        check_int(core_state(t->core), CONSENSUS_LEADER);
        check(core_term(t->core) > 4);
        write_all(t);
        uint64_t before = core_commit(t->core);
        check(before < 2);
        uint64_t own = core_last_index(t->core); /* the no-op of its own term */
        check_int(own, 6);
        for (unsigned h = 2; h <= voters; h++) {
            receive(t, h, result_of(core_term(t->core), 0, 5));
            check_int(core_commit(t->core), before);
        }
        for (unsigned h = 2; h <= voters / 2 + 1; h++) {
            check_int(core_commit(t->core), before);
            receive(t, h, result_of(core_term(t->core), 0, own));
        }
        check_int(core_commit(t->core), own);
        one_free(t);
    }
}

static void only_one_member_changes_at_a_time(void **state)
{
    (void)state;
    struct one *t = one_with(SELF, 3, 2, 3, 4);
    struct conf a, b;
    uint64_t index;
    lead(t);
    check_ok(conf_remove(core_conf(t->core), 4, &a));
    check_ok(conf_remove(&a, 5, &b));
    check_code(core_change(t->core, t->now, &b, &index), TSR_EINVAL);
    check_code(core_change(t->core, t->now, core_conf(t->core), &index), TSR_EINVAL);
    a = *core_conf(t->core);
    a.members[1] = core_conf(t->core)->members[2];
    a.members[2] = core_conf(t->core)->members[1];
    check_code(core_change(t->core, t->now, &a, &index), TSR_EINVAL); /* order */
    one_free(t);
}

static void a_change_in_mid_batch_ends_and_is_rolled_back(void **state) /* R5 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 3, 4);
    struct conf four = conf_of(3, 1);
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(&four, &b));
    struct message_entry e[4] = {barrier(4), barrier(4), barrier(4), barrier(4)};
    e[2] = (struct message_entry){.term = 4, .type = ENTRY_CHANGE, .data = b.data, .size = b.size};
    receive(t, 1, append_of(4, 3, 4, 3, 4, e)); /* 4 .. 7, the change is 6 */
    write_all(t);
    check_int(core_last_index(t->core), 7);
    check_int(core_conf(t->core)->count, 4);
    check_int(t->core->raft.configuration_uncommitted_index, 6);
    /* Truncated at 6 by a newer leader: the old membership is back. */
    struct message_entry f = barrier(5);
    receive(t, 3, append_of(5, 5, 4, 5, 1, &f));
    vote_done(t);
    check_int(core_last_index(t->core), 6);
    check_int(core_conf(t->core)->count, 3);
    check_int(t->core->raft.configuration.n, 3);
    check(!core_change_pending(t->core));
    /* And once more, now committed: it ends. */
    e[0].term = e[1].term = e[2].term = e[3].term = 5;
    receive(t, 3, append_of(5, 6, 5, 6, 4, e));
    check(core_change_pending(t->core));
    receive(t, 3, append_of(5, 10, 5, 9, 0, NULL));
    check(!core_change_pending(t->core));
    check_int(core_conf(t->core)->count, 4);
    buf_free(&b);
    one_free(t);
}

static struct one *one_with_snapshot(uint64_t self)
{
    struct one *t = one_new(self);
    struct conf conf = conf_of(3, 0);
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(&conf, &b));
    struct marker m = {
        .index = 10, .term = 4, .conf_index = 1, .conf = b.data, .conf_size = b.size};
    check_ok(core_load_marker(t->core, &m));
    check_ok(core_start(t->core, t->now, 4, 0, 10));
    buf_free(&b);
    return t;
}

static void an_append_from_below_the_snapshot_is_cut(void **state) /* R6 */
{
    (void)state;
    struct one *t = one_with_snapshot(2);
    struct message_entry e[4] = {barrier(4), barrier(4), barrier(4), barrier(4)};
    receive(t, 1, append_of(4, 8, 4, 8, 4, e)); /* 9 .. 12 */
    check_int(core_last_index(t->core), 12);
    check_int(core_first_index(t->core), 11);
    write_all(t);
    struct sent *s = sent_to(t, 1, MESSAGE_APPEND_RESULT);
    check_int(s->m.append_result.rejected, 0);
    check_int(s->m.append_result.last_index, 12);
    receive(t, 1, append_of(4, 0, 0, 0, 4, e)); /* 1 .. 4, all below */
    check_int(core_last_index(t->core), 12);
    s = sent_to(t, 1, MESSAGE_APPEND_RESULT);
    check_int(s->m.append_result.rejected, 0);
    check_int(s->m.append_result.last_index, 10);
    one_free(t);
}

static void a_late_refusal_changes_nothing(void **state) /* R7 */
{
    (void)state;
    struct one *t = one_with(SELF, 3, 0, 6, 4);
    lead(t);
    check_int(core_match(t->core, 2), 7);
    receive(t, 2, result_of(core_term(t->core), 8, 7)); /* back to one at a time */
    receive(t, 2, result_of(core_term(t->core), 7, 2)); /* late: it has 7 */
    check_int(core_match(t->core, 2), 7);
    clear(t);
    t->now += 60;
    check_ok(core_timeout(t->core, t->now));
    struct sent *s = sent_to(t, 2, MESSAGE_APPEND);
    check(s != NULL);
    check_int(s->m.append.prev_index, 7);
    one_free(t);
}

static void the_timer_never_spins(void **state) /* R8 */
{
    (void)state;
    check_int(guard_timer(0, 1000), 1005);
    check_int(guard_timer(1003, 1000), 1005);
    check_int(guard_timer(1100, 1000), 1100);
}

static void a_write_of_truncated_entries_is_not_reported(void **state) /* R9 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 3, 4);
    struct message_entry e[2] = {barrier(4), barrier(4)};
    struct core_write w, w2;
    receive(t, 1, append_of(4, 3, 4, 3, 2, e)); /* 4, 5 */
    check(core_write_next(t->core, &w));
    check_int(w.count, 2);
    struct message_entry f = barrier(5);
    receive(t, 3, append_of(5, 3, 4, 3, 1, &f)); /* another 4 */
    vote_done(t);
    check_int(core_last_index(t->core), 4);
    check_ok(core_write_done(t->core, t->now, &w));
    check_int(core_durable(t->core), 3);
    check(core_write_next(t->core, &w2));
    check_int(w2.truncate, 4);
    check_int(w2.count, 1);
    check_ok(core_write_done(t->core, t->now, &w2));
    check_int(core_durable(t->core), 4);
    one_free(t);
}

static void an_entry_that_comes_back_is_durable_with_its_own_write_only(void **state) /* R9 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 3, 4);
    struct message_entry a = barrier(4), b = barrier(5), c[2] = {barrier(4), barrier(6)};
    struct core_write w, w2;
    receive(t, 1, append_of(4, 3, 4, 3, 1, &a));
    check(core_write_next(t->core, &w)); /* under way */
    receive(t, 3, append_of(5, 3, 4, 3, 1, &b));
    vote_done(t);
    receive(t, 1, append_of(6, 3, 4, 3, 2, c)); /* the first 4 again */
    vote_done(t);
    check_ok(core_write_done(t->core, t->now, &w));
    check_int(core_durable(t->core), 3); /* the next write removes it first */
    check(core_write_next(t->core, &w2));
    check_int(w2.truncate, 4);
    check_ok(core_write_done(t->core, t->now, &w2));
    check_int(core_durable(t->core), 5);
    one_free(t);
}

static void a_host_that_may_be_a_voter_without_knowing_votes(void **state) /* R10 */
{
    (void)state;
    struct one *t = one_with(2, 1, 1, 3, 4);
    receive(t, 1, append_of(4, 3, 4, 3, 0, NULL));
    receive(t, 1, vote_of(5, 1, 3, 4, false)); /* it heard a leader just now */
    struct sent *s = sent_to(t, 1, MESSAGE_VOTE_RESULT);
    check(s && !s->m.vote_result.granted);
    clear(t);
    t->now += 600;
    receive(t, 1, vote_of(5, 1, 3, 4, false));
    vote_done(t);
    s = sent_to(t, 1, MESSAGE_VOTE_RESULT);
    check(s && s->m.vote_result.granted);
    check_int(t->core->raft.configuration.servers[1].role, RAFT_STANDBY);
    one_free(t);
}

static void a_change_leaves_only_when_it_is_durable_here(void **state) /* R11 */
{
    (void)state;
    struct one *t = one_with(SELF, 3, 1, 3, 4);
    struct conf next;
    uint64_t index;
    lead(t);
    receive(t, 3, result_of(core_term(t->core), 0, core_last_index(t->core)));
    clear(t);
    check_ok(conf_role(core_conf(t->core), 3, CONSENSUS_STANDBY, &next));
    check_ok(core_change(t->core, t->now, &next, &index));
    for (unsigned i = 0; i < t->count; i++) {
        check(t->sent[i].m.kind != MESSAGE_APPEND || t->sent[i].m.append.count == 0);
        check(t->sent[i].m.append.prev_index < index);
    }
    write_all(t);
    struct sent *s = sent_to(t, 2, MESSAGE_APPEND);
    check(s != NULL);
    check_int(s->m.append.count, 1);
    check_int(s->types[0], ENTRY_CHANGE);
    one_free(t);
}

static void a_refused_pre_vote_tells_the_higher_term(void **state) /* R12 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 3, 7);
    receive(t, 1, vote_of(5, 1, 9, 4, true)); /* longer, but older */
    struct sent *s = sent_to(t, 1, MESSAGE_VOTE_RESULT);
    check(s && !s->m.vote_result.granted);
    check_int(s->m.vote_result.term, 7);
    one_free(t);
}

static void leadership_is_disrupted_in_the_first_round_only(void **state) /* R13 */
{
    (void)state;
    struct one *t = one_with(SELF, 3, 0, 3, 4);
    receive(t, 2, append_of(4, 3, 4, 3, 0, NULL));
    struct message m = {.kind = MESSAGE_TIMEOUT_NOW,
                        .timeout_now = {.term = 4, .last_index = 3, .last_term = 4}};
    receive(t, 2, m);
    check(sent_to(t, 3, MESSAGE_VOTE) == NULL); /* not before the vote is durable */
    vote_done(t);
    struct sent *s = sent_to(t, 3, MESSAGE_VOTE);
    check(s && s->m.vote.disrupt);
    time_out(t);
    vote_done(t);
    s = sent_to(t, 3, MESSAGE_VOTE);
    check(s && !s->m.vote.disrupt);
    one_free(t);
}

static void vote_results_mean_nothing_to_others(void **state) /* R14 */
{
    (void)state;
    struct one *t = one_with(SELF, 3, 0, 3, 4);
    receive(t, 2, vote_result_of(99, true, true));
    receive(t, 2, vote_result_of(99, false, false));
    check_int(core_term(t->core), 4);
    lead(t);
    uint64_t term = core_term(t->core);
    receive(t, 2, vote_result_of(term + 50, false, true));
    check_int(core_term(t->core), term);
    check_int(core_state(t->core), CONSENSUS_LEADER);
    one_free(t);
}

static void the_commit_never_goes_back(void **state) /* R15 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 8, 4);
    receive(t, 1, append_of(4, 8, 4, 7, 0, NULL));
    check_int(core_commit(t->core), 7);
    t->core->raft.commit_index = 3; /* what libraft does to itself now and then */
    receive(t, 1, append_of(4, 5, 4, 5, 0, NULL));
    check_int(core_commit(t->core), 7);
    one_free(t);
}

static void catching_up_is_asked_of_known_standbys_only(void **state) /* R16 */
{
    (void)state;
    struct one *t = one_with(SELF, 3, 1, 3, 4);
    check_code(core_catch_up(t->core, t->now, 4), TSR_ENOTLEADER);
    lead(t);
    check_code(core_catch_up(t->core, t->now, 77), TSR_ENOENT);
    check_code(core_catch_up(t->core, t->now, 2), TSR_EINVAL);
    check_int(core_catch_up(t->core, t->now, 4), 0);
    check_code(core_catch_up(t->core, t->now, 4), TSR_EBUSY);
    receive(t, 4, result_of(core_term(t->core), 0, core_last_index(t->core)));
    check_int(core_catch_up_status(t->core, 4), 3);
    check_int(core_catch_up(t->core, t->now, 4), 1);
    one_free(t);
}

static long raft_blocks; /* that libraft holds, since counting began */

static void *count_malloc(void *data, size_t size)
{
    (void)data;
    raft_blocks++;
    return malloc(size);
}

static void count_free(void *data, void *memory)
{
    (void)data;
    raft_blocks -= memory != NULL;
    free(memory);
}

static void *count_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    raft_blocks++;
    return calloc(count, size);
}

static void *count_realloc(void *data, void *memory, size_t size)
{
    (void)data;
    raft_blocks += memory == NULL;
    return realloc(memory, size);
}

static void count_raft_blocks(void)
{
    static struct raft_heap heap = {.malloc = count_malloc,
                                    .free = count_free,
                                    .calloc = count_calloc,
                                    .realloc = count_realloc};
    raft_blocks = 0;
    raft_heap_set(&heap);
}

/* libraft loses the memory of an install that comes while another goes on. */
static void a_second_install_waits_for_the_first(void **state) /* R17 */
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 3, 4);
    struct conf conf = conf_of(3, 0);
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(&conf, &b));
    struct marker m = {
        .index = 50, .term = 5, .conf_index = 1, .conf = b.data, .conf_size = b.size};
    check(core_wants_install(t->core, 50, 5));
    check_ok(core_install(t->core, t->now, 1, 5, &m));
    vote_done(t);
    check(core_installing(t->core));
    m.index = 60;
    check(!core_wants_install(t->core, 60, 5));
    count_raft_blocks();
    check_ok(core_install(t->core, t->now, 1, 5, &m));
    check_int(raft_blocks, 0);
    core_heap();
    m.index = 50;
    check_ok(core_installed(t->core, t->now, &m));
    check(!core_installing(t->core));
    check_int(core_last_index(t->core), 50);
    check_int(core_durable(t->core), 50);
    check_int(core_commit(t->core), 50);
    check_int(core_snapshot_index(t->core), 50);
    struct message_entry e = barrier(5);
    receive(t, 1, append_of(5, 50, 5, 50, 1, &e));
    check_int(core_last_index(t->core), 51);
    buf_free(&b);
    one_free(t);
}

static void an_own_snapshot_that_an_install_overtook_is_dropped(void **state)
{
    (void)state;
    struct one *t = one_with_snapshot(2);
    struct conf conf = conf_of(3, 0);
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(&conf, &b));
    struct marker m = {.index = 7, .term = 4, .conf_index = 1, .conf = b.data, .conf_size = b.size};
    check_ok(core_snapshot(t->core, t->now, &m, 0));
    check_int(core_snapshot_index(t->core), 10);
    struct message_entry e[4] = {barrier(4), barrier(4), barrier(4), barrier(4)};
    receive(t, 1, append_of(4, 10, 4, 14, 4, e));
    write_all(t);
    m.index = 14;
    check_ok(core_snapshot(t->core, t->now, &m, 0));
    check_int(core_snapshot_index(t->core), 14);
    check_int(core_first_index(t->core), 12); /* three trail */
    buf_free(&b);
    one_free(t);
}

static void nothing_is_said_before_the_vote_is_durable(void **state)
{
    (void)state;
    struct one *t = one_with(2, 3, 0, 3, 4);
    struct message_entry e = barrier(9);
    receive(t, 1, vote_of(8, 1, 3, 4, false));
    receive(t, 3, append_of(9, 3, 4, 3, 1, &e)); /* waits */
    uint64_t term, voted;
    check_int(t->count, 0);
    check(core_vote_wanted(t->core, &term, &voted));
    check_int(term, 8);
    check_int(voted, 1);
    check_int(core_last_index(t->core), 3);
    check_ok(core_vote_done(t->core, t->now));
    struct sent *s = sent_to(t, 1, MESSAGE_VOTE_RESULT);
    check(s && s->m.vote_result.granted);
    check(core_vote_wanted(t->core, &term, &voted)); /* now for term 9 */
    check_int(term, 9);
    check_int(core_last_index(t->core), 4);
    vote_done(t);
    write_all(t);
    s = sent_to(t, 3, MESSAGE_APPEND_RESULT);
    check(s && s->m.append_result.last_index == 4);
    one_free(t);
}

static void the_window_is_bounded_in_bytes(void **state)
{
    (void)state;
    struct one *t = one_with(SELF, 3, 0, 3, 4);
    lead(t);
    receive(t, 3, result_of(core_term(t->core), 0, core_last_index(t->core)));
    static char big[300 * 1024];
    uint64_t first = core_last_index(t->core), index = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct batch_command cmd = {
            .id = (const uint8_t *)"0123456789abcdef", .data = big, .size = sizeof big};
        check_ok(core_submit(t->core, t->now, batch_encode(1, &cmd, 1), &index));
    }
    uint64_t reached = 0;
    for (unsigned i = 0; i < t->count; i++) {
        struct message *m = &t->sent[i].m;
        if (t->sent[i].to == 2 && m->kind == MESSAGE_APPEND) {
            uint64_t end = m->append.prev_index + m->append.count;
            reached = end > reached ? end : reached;
        }
    }
    check_int(reached, first + 3); /* 1 MiB holds three */
    clear(t);
    receive(t, 2, result_of(core_term(t->core), 0, first + 2));
    struct sent *s = sent_to(t, 2, MESSAGE_APPEND);
    check(s != NULL);
    check_int(s->m.append.prev_index + s->m.append.count, first + 5);
    one_free(t);
}

TEST_MAIN(cmocka_unit_test(a_stale_append_is_not_answered_as_a_success),
          cmocka_unit_test(a_sole_voter_never_leads_twice_in_a_term),
          cmocka_unit_test(a_leader_neither_removes_itself_nor_bears_another),
          cmocka_unit_test(no_change_before_an_entry_of_the_own_term_is_committed),
          cmocka_unit_test(an_entry_of_an_earlier_term_never_commits_by_counting),
          cmocka_unit_test(only_one_member_changes_at_a_time),
          cmocka_unit_test(a_change_in_mid_batch_ends_and_is_rolled_back),
          cmocka_unit_test(an_append_from_below_the_snapshot_is_cut),
          cmocka_unit_test(a_late_refusal_changes_nothing), cmocka_unit_test(the_timer_never_spins),
          cmocka_unit_test(a_write_of_truncated_entries_is_not_reported),
          cmocka_unit_test(an_entry_that_comes_back_is_durable_with_its_own_write_only),
          cmocka_unit_test(a_host_that_may_be_a_voter_without_knowing_votes),
          cmocka_unit_test(a_change_leaves_only_when_it_is_durable_here),
          cmocka_unit_test(a_refused_pre_vote_tells_the_higher_term),
          cmocka_unit_test(leadership_is_disrupted_in_the_first_round_only),
          cmocka_unit_test(vote_results_mean_nothing_to_others),
          cmocka_unit_test(the_commit_never_goes_back),
          cmocka_unit_test(catching_up_is_asked_of_known_standbys_only),
          cmocka_unit_test(a_second_install_waits_for_the_first),
          cmocka_unit_test(an_own_snapshot_that_an_install_overtook_is_dropped),
          cmocka_unit_test(nothing_is_said_before_the_vote_is_durable),
          cmocka_unit_test(the_window_is_bounded_in_bytes))
