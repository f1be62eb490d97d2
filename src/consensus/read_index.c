/* Linearizable reads by read index.
 *
 * Leading: a round takes the commit index c and asks all voters of the newest membership whether
 * our term is still theirs; a majority of "yes" to a request sent after c was taken makes c the
 * read index: a newer leader needs a majority of votes in a higher term, which meets ours, and who
 * voted there would have answered with that term. One round at a time; what arrives meanwhile joins
 * the next. Not leading: one ask to the leader is out, later arrivals join the next one. A lost
 * message is sent again on each tick; on any change of leader all begin anew. No clocks. */
#include <string.h>

#include "consensus/host.h"

struct read_private {
    struct list link;
    struct consensus *c;
    uint64_t deadline_ms, index;
    int status;
};
_Static_assert(sizeof(struct read_private) <= sizeof(((struct consensus_read *)0)->state),
               "consensus_read: private part too small");

static struct consensus_read *read_of(struct list *link)
{
    return (struct consensus_read *)(void *)((char *)link - offsetof(struct consensus_read, state));
}

static struct read_private *private_of(struct consensus_read *req)
{
    return (struct read_private *)(void *)req->state;
}

static void read_finish(struct consensus *c, struct consensus_read *req, int status)
{
    struct read_private *p = private_of(req);
    list_remove(&p->link);
    c->reads.count--;
    req->cb(req, status);
}

void consensus_read_index(struct consensus *c, struct consensus_read *req)
{
    struct read_private *p = private_of(req);
    memset(p, 0, sizeof *p);
    list_init(&p->link);
    p->c = c;
    p->deadline_ms = host_now(c) + (req->timeout_ms ? req->timeout_ms : 1000);
    c->reads.count++;
    if (c->closing || c->fatal || c->reads.count > READS_MAX) {
        p->status = c->reads.count > READS_MAX ? TSR_EBUSY : TSR_ECANCELED;
        list_push(&c->reads.failed, &p->link);
    } else {
        list_push(&c->reads.fresh, &p->link);
    }
    host_pump_later(c);
}

void read_init(struct consensus *c)
{
    list_init(&c->reads.fresh);
    list_init(&c->reads.asked);
    list_init(&c->reads.waiting);
    list_init(&c->reads.failed);
    uint64_t seq;
    loop_random(c->options.loop, &seq, sizeof seq);
    c->reads.ask_seq = c->reads.round_seq = seq >> 1; /* unlike those before a restart */
}

/* Requests covered by the present ask or round: wait for their apply, or begin anew (@index 0). */
static void read_settle(struct consensus *c, uint64_t index)
{
    struct list *link;
    struct list again;
    list_init(&again);
    while ((link = list_pop(&c->reads.asked))) {
        private_of(read_of(link))->index = index;
        list_push(index ? &c->reads.waiting : &again, link);
    }
    list_splice(&again, &c->reads.fresh);
    list_splice(&c->reads.fresh, &again);
}

/* --- the leader ------------------------------------------------------------------------------- */

static void round_send(struct consensus *c)
{
    struct reads *r = &c->reads;
    struct message m = {.kind = MESSAGE_CONFIRM,
                        .confirm = {.term = r->round_term, .seq = r->round_seq}};
    const struct conf *conf = core_conf(c->core);
    for (unsigned i = 0; i < conf->count; i++) {
        uint64_t id = conf->members[i].id;
        bool known = id == c->options.self || conf->members[i].role != CONSENSUS_VOTER;
        for (unsigned k = 0; k < r->confirmed_count && !known; k++) {
            known = r->confirmed[k] == id;
        }
        if (!known) {
            host_send(c, id, &m);
        }
    }
    r->round_ms = host_now(c);
}

static void reply_ask(struct consensus *c, const struct read_ask *ask, bool ok, uint64_t index)
{
    struct message m = {.kind = MESSAGE_READ_REPLY,
                        .read_reply = {.seq = ask->seq, .ok = ok, .index = index}};
    host_send(c, ask->from, &m);
}

static void round_check(struct consensus *c)
{
    struct reads *r = &c->reads;
    const struct conf *conf = core_conf(c->core);
    unsigned yes = 0;
    for (unsigned i = 0; i < conf->count; i++) {
        const struct consensus_member *m = &conf->members[i];
        bool said = m->id == c->options.self;
        for (unsigned k = 0; k < r->confirmed_count && !said; k++) {
            said = r->confirmed[k] == m->id;
        }
        yes += said && m->role == CONSENSUS_VOTER;
    }
#ifdef TSR_BREAK_READ_CONFIRM
    yes = conf->count;
#endif
    if (yes <= conf_voters(conf) / 2) {
        return;
    }
    r->round = false;
    unsigned kept = 0;
    for (unsigned i = 0; i < r->ask_count; i++) {
        if (r->asks[i].in_round) {
            reply_ask(c, &r->asks[i], true, r->round_index);
        } else {
            r->asks[kept++] = r->asks[i];
        }
    }
    r->ask_count = kept;
    read_settle(c, r->round_index);
}

static void round_start(struct consensus *c)
{
    struct reads *r = &c->reads;
    uint64_t first = core_leader_index(c->core);
    if (r->round || (list_empty(&r->fresh) && r->ask_count == 0) || first == 0 ||
        core_commit(c->core) < first || core_blocked(c->core)) {
        return;
    }
    r->round = true;
    r->round_seq++;
    r->round_term = core_term(c->core);
    r->round_index = core_commit(c->core);
    r->confirmed_count = 0;
    for (unsigned i = 0; i < r->ask_count; i++) {
        r->asks[i].in_round = true;
    }
    list_splice(&r->asked, &r->fresh);
    round_send(c);
    round_check(c);
}

static void round_confirmed(struct consensus *c, uint64_t from, const struct message *m)
{
    struct reads *r = &c->reads;
    if (!r->round || m->confirm.seq != r->round_seq || m->confirm.term != r->round_term ||
        core_term(c->core) != r->round_term || core_state(c->core) != CONSENSUS_LEADER ||
        r->confirmed_count == MEMBERS_MAX) {
        return; /* another term: not leader any more, or not for long */
    }
    for (unsigned k = 0; k < r->confirmed_count; k++) {
        if (r->confirmed[k] == from) {
            return;
        }
    }
    r->confirmed[r->confirmed_count++] = from;
    round_check(c);
}

static void read_asked(struct consensus *c, uint64_t from, const struct message *m)
{
    struct reads *r = &c->reads;
    struct read_ask ask = {.from = from, .seq = m->read_ask.seq};
    if (core_state(c->core) != CONSENSUS_LEADER) {
        reply_ask(c, &ask, false, 0);
        return;
    }
    for (unsigned i = 0; i < r->ask_count; i++) {
        if (r->asks[i].from == from) {
            if (r->asks[i].seq != ask.seq) {
                r->asks[i] = ask;
            }
            return;
        }
    }
    if (r->ask_count < MEMBERS_MAX) {
        r->asks[r->ask_count++] = ask;
    }
}

/* --- the others ------------------------------------------------------------------------------- */

static void ask_send(struct consensus *c)
{
    struct message m = {.kind = MESSAGE_READ_ASK, .read_ask.seq = c->reads.ask_seq};
    c->reads.ask_ms = host_now(c);
    host_send(c, c->reads.ask_to, &m);
}

static void ask_start(struct consensus *c)
{
    struct reads *r = &c->reads;
    uint64_t leader = core_leader(c->core);
    if (r->ask_to || list_empty(&r->fresh) || leader == 0 || leader == c->options.self) {
        return;
    }
    list_splice(&r->asked, &r->fresh);
    r->ask_seq++;
    r->ask_to = leader;
    ask_send(c);
}

static void ask_replied(struct consensus *c, uint64_t from, const struct message *m)
{
    struct reads *r = &c->reads;
    if (from != r->ask_to || m->read_reply.seq != r->ask_seq) {
        return;
    }
    if (m->read_reply.ok && m->read_reply.index) {
        r->ask_to = 0;
        read_settle(c, m->read_reply.index);
    } else {
        r->ask_ms = host_now(c); /* it does not lead: wait a tick, or for who does */
    }
}

/* --- both ------------------------------------------------------------------------------------- */

void read_message(struct consensus *c, uint64_t from, const struct message *m)
{
    switch (m->kind) {
    case MESSAGE_READ_ASK:
        read_asked(c, from, m);
        break;
    case MESSAGE_READ_REPLY:
        ask_replied(c, from, m);
        break;
    case MESSAGE_CONFIRM:
        if (!core_blocked(c->core)) { /* only terms that are durable are told; it asks again */
            struct message reply = {.kind = MESSAGE_CONFIRM_REPLY,
                                    .confirm = {.term = core_term(c->core), .seq = m->confirm.seq}};
            host_send(c, from, &reply);
        }
        break;
    case MESSAGE_CONFIRM_REPLY:
        round_confirmed(c, from, m);
        break;
    default:
        break;
    }
}

void read_leader_changed(struct consensus *c)
{
    struct reads *r = &c->reads;
    r->round = false;
    r->ask_to = 0;
    for (unsigned i = 0; i < r->ask_count; i++) {
        reply_ask(c, &r->asks[i], false, 0);
    }
    r->ask_count = 0;
    read_settle(c, 0);
}

void read_disconnected(struct consensus *c, uint64_t from)
{
    struct reads *r = &c->reads;
    for (unsigned i = 0; i < r->ask_count; i++) {
        if (r->asks[i].from == from) {
            r->asks[i] = r->asks[--r->ask_count];
            break;
        }
    }
}

void read_pump(struct consensus *c)
{
    struct reads *r = &c->reads;
    if (core_state(c->core) == CONSENSUS_LEADER) {
        round_start(c);
    } else {
        ask_start(c);
    }
    list_each(link, &r->waiting)
    {
        if (private_of(read_of(link))->index <= c->applied) {
            list_remove(link);
            list_push(&r->failed, link); /* ended, with status 0 */
        }
    }
    if (!list_empty(&r->failed)) {
        read_failed(c);
    }
}

static void read_expire(struct consensus *c, struct list *from, uint64_t now)
{
    int status = core_leader(c->core) ? TSR_ETIMEOUT : TSR_ENOQUORUM;
    bool hopeless = host_leaderless(c);
    list_each(link, from)
    {
        struct read_private *p = private_of(read_of(link));
        if (hopeless || p->deadline_ms <= now) {
            p->status = status;
            list_remove(link);
            list_push(&c->reads.failed, link);
        }
    }
}

void read_tick(struct consensus *c)
{
    struct reads *r = &c->reads;
    uint64_t now = host_now(c);
    if (r->round && now - r->round_ms >= TICK_MS) {
        round_send(c);
    }
    if (r->ask_to && now - r->ask_ms >= 2 * TICK_MS) {
        ask_send(c);
    }
    read_expire(c, &r->fresh, now);
    read_expire(c, &r->asked, now);
    read_expire(c, &r->waiting, now);
    read_failed(c);
}

void read_failed(struct consensus *c)
{
    struct list *link;
    while (!list_empty(&c->reads.failed)) {
        link = c->reads.failed.next;
        struct consensus_read *req = read_of(link);
        read_finish(c, req, private_of(req)->status);
    }
}

void read_cancel(struct consensus *c)
{
    struct reads *r = &c->reads;
    list_splice(&r->failed, &r->fresh);
    list_splice(&r->failed, &r->asked);
    list_splice(&r->failed, &r->waiting);
    list_each(link, &r->failed)
    {
        private_of(read_of(link))->status = TSR_ECANCELED;
    }
    read_failed(c);
}
