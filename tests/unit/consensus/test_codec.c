/* Messages, memberships and batches: what is written can be read, what is damaged is refused. */
#include <stdlib.h>

#include "consensus/batch.h"
#include "consensus/codec.h"
#include "consensus/entries.h"
#include "consensus/libraft.h"
#include "tessera/base/buf.h"
#include "test.h"

static struct conf three_members(void)
{
    struct conf none = {0}, a, b, c;
    check_ok(conf_add(&none, 1, "a:1", &a));
    check_ok(conf_add(&a, 2, "b:1", &b));
    check_ok(conf_add(&b, 3, "c:1", &c));
    check_ok(conf_role(&c, 1, CONSENSUS_VOTER, &a));
    return a;
}

static void a_membership_has_the_bytes_that_libraft_reads(void **state)
{
    (void)state;
    struct conf conf = three_members(), back;
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(&conf, &b));
    check_ok(conf_decode(b.data, b.size, &back));
    check_int(back.count, 3);
    check_str(back.members[1].address, "b:1");

    struct raft_configuration rc;
    struct raft_buffer bytes;
    raft_configuration_init(&rc);
    for (unsigned i = 0; i < 3; i++) {
        const struct consensus_member *m = &conf.members[i];
        check_int(raft_configuration_add(&rc, m->id, m->address, (int)m->role), 0);
    }
    check_int(raft_configuration_encode(&rc, &bytes), 0);
    check_int(bytes.len, b.size);
    check_mem(bytes.base, b.data, b.size);
    raft_free(bytes.base);
    raft_configuration_close(&rc);
    buf_free(&b);
}

static void damaged_memberships_are_refused(void **state)
{
    (void)state;
    struct conf conf = three_members(), back;
    struct buf b;
    buf_init(&b);
    check_ok(conf_encode(&conf, &b));
    for (size_t cut = 0; cut < b.size; cut++) {
        char *copy = malloc(cut + 1); /* so that a sanitizer sees any overrun */
        memcpy(copy, b.data, cut);
        if (cut + 8 <= b.size) {
            check_code(conf_decode(copy, cut, &back), TSR_EPROTO);
        }
        free(copy);
    }
    conf.members[2].id = 1;
    buf_clear(&b);
    check_ok(conf_encode(&conf, &b));
    check_code(conf_decode(b.data, b.size, &back), TSR_EPROTO);
    conf.members[2].id = 0;
    buf_clear(&b);
    check_ok(conf_encode(&conf, &b));
    check_code(conf_decode(b.data, b.size, &back), TSR_EPROTO);
    buf_free(&b);
}

static void memberships_change_one_member_at_a_time(void **state)
{
    (void)state;
    struct conf conf = three_members(), out;
    check_code(conf_add(&conf, 2, "z:1", &out), TSR_EEXIST);
    check_code(conf_add(&conf, 9, "b:1", &out), TSR_EEXIST);
    check_code(conf_add(&conf, 9, "", &out), TSR_EINVAL);
    check_code(conf_remove(&conf, 9, &out), TSR_ENOENT);
    check_code(conf_remove(&conf, 1, &out), TSR_EINVAL); /* the only voter */
    check_ok(conf_remove(&conf, 2, &out));
    check_int(out.members[1].id, 3);
    check(conf_sole_voter(&conf, 1));
    check(!conf_sole_voter(&conf, 2));
}

static struct payload *some_batch(unsigned count)
{
    static const uint8_t id[COMMAND_ID_SIZE] = "0123456789abcde";
    struct batch_command commands[8];
    for (unsigned i = 0; i < count; i++) {
        commands[i] = (struct batch_command){.id = id, .data = "hello", .size = i};
    }
    return batch_encode(1234567, commands, count);
}

static void batches_come_back_as_they_were(void **state)
{
    (void)state;
    struct payload *p = some_batch(5);
    struct fsm_command *commands;
    unsigned count;
    int64_t wall;
    check_int(p->size % 8, 0);
    check_ok(batch_check(p->data, p->size));
    check_ok(batch_decode(p->data, p->size, &wall, &commands, &count));
    check_int(wall, 1234567);
    check_int(count, 5);
    check_int(commands[4].size, 4);
    check_mem(commands[4].data, "hell", 4);
    free(commands);
    for (size_t cut = 0; cut + 8 <= p->size; cut++) {
        check_code(batch_check(p->data, cut), TSR_EPROTO);
    }
    p->data[0] = 0;
    check_code(batch_check(p->data, p->size), TSR_EPROTO);
    p->data[0] = 2;
    check_code(batch_check(p->data, p->size), TSR_ENOTSUP);
    check_code(batch_decode(p->data, p->size, &wall, &commands, &count), TSR_ENOTSUP);
    payload_unref(p);
}

static struct message_entry entry_list[3];
static struct message_command command_list[2];
static struct conf some_conf;
static struct buf conf_bytes;
static struct payload *batch;

static unsigned all_kinds(struct message m[20])
{
    unsigned n = 0;
    batch = some_batch(3);
    some_conf = three_members();
    buf_init(&conf_bytes);
    check_ok(conf_encode(&some_conf, &conf_bytes));
    entry_list[0] = (struct message_entry){
        .term = 2, .type = ENTRY_COMMAND, .data = batch->data, .size = batch->size};
    entry_list[1] = (struct message_entry){
        .term = 3, .type = ENTRY_CHANGE, .data = conf_bytes.data, .size = conf_bytes.size};
    entry_list[2] = (struct message_entry){
        .term = 3, .type = ENTRY_BARRIER, .data = "\0\0\0\0\0\0\0\0", .size = 8};
    command_list[0] = (struct message_command){.id = "a", .data = "one", .size = 3};
    command_list[1] = (struct message_command){.id = "b", .data = "", .size = 0};
    m[n++] = (struct message){.kind = MESSAGE_APPEND,
                              .append = {.term = 3,
                                         .prev_index = 7,
                                         .prev_term = 2,
                                         .commit = 5,
                                         .count = 3,
                                         .entries = entry_list}};
    m[n++] = (struct message){.kind = MESSAGE_APPEND, .append = {.term = 1}};
    m[n++] = (struct message){.kind = MESSAGE_APPEND_RESULT,
                              .append_result = {.version = 2, .term = 3, .last_index = 9}};
    m[n++] = (struct message){
        .kind = MESSAGE_VOTE,
        .vote = {.term = 4, .candidate = 1, .last_index = 2, .last_term = 1, .pre_vote = true}};
    m[n++] =
        (struct message){.kind = MESSAGE_VOTE_RESULT, .vote_result = {.term = 4, .granted = true}};
    m[n++] = (struct message){.kind = MESSAGE_TIMEOUT_NOW,
                              .timeout_now = {.term = 4, .last_index = 2, .last_term = 4}};
    m[n++] = (struct message){.kind = MESSAGE_FORWARD,
                              .forward = {.seq = 1, .count = 2, .commands = command_list}};
    m[n++] = (struct message){.kind = MESSAGE_FORWARD_REPLY,
                              .forward_reply = {.seq = 1, .accepted = true, .index = 4}};
    m[n++] = (struct message){.kind = MESSAGE_READ_ASK, .read_ask.seq = 5};
    m[n++] = (struct message){.kind = MESSAGE_READ_REPLY, .read_reply = {.seq = 5, .ok = true}};
    m[n++] = (struct message){.kind = MESSAGE_CONFIRM, .confirm = {.term = 1, .seq = 5}};
    m[n++] = (struct message){.kind = MESSAGE_CONFIRM_REPLY, .confirm = {.term = 1, .seq = 5}};
    m[n] = (struct message){.kind = MESSAGE_SNAP_OFFER};
    m[n].snap_offer.term = 3;
    m[n].snap_offer.head.marker = (struct marker){.index = 10,
                                                  .term = 3,
                                                  .conf_index = 8,
                                                  .conf = conf_bytes.data,
                                                  .conf_size = conf_bytes.size};
    m[n++].snap_offer.head.stream_bytes = 1000;
    m[n++] = (struct message){
        .kind = MESSAGE_SNAP_PIECE,
        .snap_piece = {.term = 3, .stream = 4, .offset = 64, .data = "x", .size = 1}};
    m[n++] = (struct message){.kind = MESSAGE_SNAP_ACK, .snap_ack = {.stream = 4, .have = 65}};
    return n;
}

static void kinds_free(void)
{
    payload_unref(batch);
    buf_free(&conf_bytes);
}

static void every_message_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct message m[20];
    unsigned n = all_kinds(m);
    for (unsigned i = 0; i < n; i++) {
        struct buf a, b;
        struct message back;
        buf_init(&a);
        buf_init(&b);
        check_ok(message_encode(&m[i], &a));
        check_ok(message_decode(a.data, a.size, &back));
        check_ok(message_encode(&back, &b));
        check_int(a.size, b.size);
        check_mem(a.data, b.data, a.size);
        message_free(&back);
        buf_free(&a);
        buf_free(&b);
    }
    kinds_free();
}

static void cut_or_changed_messages_never_read_out_of_bounds(void **state)
{
    (void)state;
    struct message m[20];
    unsigned n = all_kinds(m);
    uint32_t random = 1;
    for (unsigned i = 0; i < n; i++) {
        struct buf a;
        struct message back;
        buf_init(&a);
        check_ok(message_encode(&m[i], &a));
        for (size_t cut = 0; cut < a.size; cut++) {
            char *copy = malloc(cut + 1);
            memcpy(copy, a.data, cut);
            check_code(message_decode(copy, cut, &back), TSR_EPROTO);
            free(copy);
        }
        for (unsigned round = 0; round < 2000; round++) {
            char *copy = malloc(a.size);
            memcpy(copy, a.data, a.size);
            for (unsigned k = 0; k < 1 + round % 4; k++) {
                random = random * 1664525u + 1013904223u;
                copy[(random >> 8) % a.size] = (char)(random >> 3);
            }
            if (message_decode(copy, a.size, &back) == 0) {
                message_free(&back);
            }
            free(copy);
        }
        buf_free(&a);
    }
    kinds_free();
}

static void refuse_append(struct message m)
{
    struct buf b;
    struct message back;
    buf_init(&b);
    check_ok(message_encode(&m, &b));
    check_code(message_decode(b.data, b.size, &back), TSR_EPROTO);
    buf_free(&b);
}

static void appends_that_libraft_would_choke_on_are_refused(void **state)
{
    (void)state;
    struct message all[20];
    all_kinds(all);
    struct message m = all[0];
    m.append.term = 0;
    refuse_append(m);
    m = all[0];
    m.append.prev_term = 0; /* with an index */
    refuse_append(m);
    m = all[0];
    m.append.prev_term = 4; /* above the message's */
    refuse_append(m);
    m = all[0];
    entry_list[1].term = 1; /* falling */
    refuse_append(m);
    entry_list[1].term = 4; /* above the message's */
    refuse_append(m);
    entry_list[1].term = 3;
    entry_list[0].type = 4;
    refuse_append(m);
    entry_list[0].type = ENTRY_CHANGE; /* bytes are a batch */
    refuse_append(m);
    entry_list[0].type = ENTRY_COMMAND;
    entry_list[0].size -= 1; /* no multiple of 8 */
    refuse_append(m);
    kinds_free();
}

TEST_MAIN(cmocka_unit_test(a_membership_has_the_bytes_that_libraft_reads),
          cmocka_unit_test(damaged_memberships_are_refused),
          cmocka_unit_test(memberships_change_one_member_at_a_time),
          cmocka_unit_test(batches_come_back_as_they_were),
          cmocka_unit_test(every_message_is_read_as_it_was_written),
          cmocka_unit_test(cut_or_changed_messages_never_read_out_of_bounds),
          cmocka_unit_test(appends_that_libraft_would_choke_on_are_refused))
