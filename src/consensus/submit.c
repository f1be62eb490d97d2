/* Proposals of this host, and, while leading, those of others.
 *
 * One proposal per command id: several requests with the same id share it. Queue -> proposed
 * (leading) or forwarded to the leader -> accepted at an index -> completed when an entry with that
 * id is applied here. It goes back to the queue when the leader changes, refuses or is
 * disconnected, when its index was applied without it, or a second passed; the state machine drops
 * what comes twice. A request ends at its deadline whatever its proposal does; the proposal ends
 * with its last request. */
#include <stdlib.h>
#include <string.h>

#include "consensus/batch.h"
#include "consensus/host.h"
#include "tessera/base/assert.h"

enum { GATHER_MAX = 4096, FORWARD_COUNT_MAX = 4096, REFUSED_MS = 100, SUBMIT_TIMEOUT_MS = 10000 };

enum proposal_state { PROPOSAL_QUEUED, PROPOSAL_FORWARDED, PROPOSAL_ACCEPTED, PROPOSAL_RESTING };

struct proposal {
    struct list link;
    uint8_t id[COMMAND_ID_SIZE];
    struct list requests;
    enum proposal_state state;
    uint64_t index, seq, due_ms;
    unsigned tries;
};

struct submit_private {
    struct list link;
    struct timer timer;
    struct proposal *proposal;
    struct consensus *c;
    int status;
};
_Static_assert(sizeof(struct submit_private) <= sizeof(((struct consensus_submit *)0)->state),
               "consensus_submit: private part too small");

/* Commands of one FORWARD message: answered when the last of them is in the log. */
struct forward_set {
    uint64_t from, seq;
    unsigned left;
    uint64_t index;
};
struct forward_command {
    struct list link;
    struct forward_set *set;
    uint8_t id[COMMAND_ID_SIZE];
    size_t size;
    char data[];
};

static struct consensus_submit *submit_of(struct list *link)
{
    return (struct consensus_submit *)(void *)((char *)link -
                                               offsetof(struct consensus_submit, state));
}

static struct submit_private *private_of(struct consensus_submit *req)
{
    return (struct submit_private *)(void *)req->state;
}

void submit_init(struct consensus *c)
{
    struct submits *s = &c->submits;
    map_init(&s->by_id);
    map_init(&s->flying);
    list_init(&s->queue);
    list_init(&s->sent);
    list_init(&s->forwards);
    list_init(&s->failed);
    loop_random(c->options.loop, &s->seq, sizeof s->seq);
}

/* --- requests and proposals ------------------------------------------------------------------- */

static void proposal_end(struct consensus *c, struct proposal *p)
{
    list_remove(&p->link);
    map_del(&c->submits.by_id, p->id, sizeof p->id);
    free(p);
}

static void submit_finish(struct consensus_submit *req, int status, int code, const char *result,
                          size_t size)
{
    struct submit_private *p = private_of(req);
    list_remove(&p->link);
    timer_stop(&p->timer);
    req->cb(req, status, code, result, size);
}

static void submit_expired(struct timer *timer)
{
    struct submit_private *p = container_of(timer, struct submit_private, timer);
    struct consensus *c = p->c;
    struct proposal *proposal = p->proposal;
    struct consensus_submit *req = submit_of(&p->link);
    bool reached = core_leader(c->core) != 0 && proposal->state == PROPOSAL_ACCEPTED;
    list_remove(&p->link);
    if (list_empty(&proposal->requests)) {
        proposal_end(c, proposal);
    }
    submit_finish(req, reached ? TSR_ETIMEOUT : TSR_ENOQUORUM, 0, NULL, 0);
}

static struct proposal *proposal_get(struct consensus *c, const uint8_t id[COMMAND_ID_SIZE])
{
    struct submits *s = &c->submits;
    struct proposal *p = map_get(&s->by_id, id, COMMAND_ID_SIZE);
    if (p) {
        return p;
    }
    p = calloc(1, sizeof *p);
    if (!p || map_put(&s->by_id, id, COMMAND_ID_SIZE, p) != 0) {
        free(p);
        return NULL;
    }
    memcpy(p->id, id, COMMAND_ID_SIZE);
    list_init(&p->requests);
    list_push(&s->queue, &p->link);
    return p;
}

void consensus_submit(struct consensus *c, struct consensus_submit *req)
{
    struct submit_private *p = private_of(req);
    memset(p, 0, sizeof *p);
    list_init(&p->link);
    timer_init(&p->timer, c->options.loop, submit_expired);
    p->c = c;
    p->status = c->closing || c->fatal          ? TSR_ECANCELED
                : req->size > COMMAND_BYTES_MAX ? TSR_ETOOBIG
                                                : 0;
    if (p->status == 0) {
        p->proposal = proposal_get(c, req->id);
        p->status = p->proposal ? 0 : TSR_ENOMEM;
    }
    if (p->status) {
        list_push(&c->submits.failed, &p->link);
    } else {
        list_push(&p->proposal->requests, &p->link);
        timer_start(&p->timer, req->timeout_ms ? req->timeout_ms : SUBMIT_TIMEOUT_MS);
    }
    host_pump_later(c);
}

void submit_failed(struct consensus *c)
{
    while (!list_empty(&c->submits.failed)) {
        struct consensus_submit *req = submit_of(c->submits.failed.next);
        submit_finish(req, private_of(req)->status, 0, NULL, 0);
    }
}

/* An entry with this command was applied here. */
void submit_applied(struct consensus *c, const struct fsm_command *command)
{
    struct submits *s = &c->submits;
    map_del(&s->flying, command->id, COMMAND_ID_SIZE);
    struct proposal *p = map_get(&s->by_id, command->id, COMMAND_ID_SIZE);
    if (!p) {
        return;
    }
    struct list requests;
    list_init(&requests);
    list_splice(&requests, &p->requests);
    proposal_end(c, p);
    while (!list_empty(&requests)) {
        submit_finish(submit_of(requests.next), 0, command->code, command->result,
                      command->result_size);
    }
}

static void proposal_queue(struct consensus *c, struct proposal *p)
{
    list_remove(&p->link);
    p->state = PROPOSAL_QUEUED;
    list_push(&c->submits.queue, &p->link);
}

static void proposal_sent(struct consensus *c, struct proposal *p, enum proposal_state state)
{
    unsigned shift = p->tries < 3 ? p->tries : 3;
    list_remove(&p->link);
    p->state = state;
    p->due_ms = host_now(c) + ((uint64_t)RESEND_MS << shift);
    list_push(&c->submits.sent, &p->link);
}

static const struct consensus_submit *proposal_request(const struct proposal *p)
{
    return submit_of(p->requests.next);
}

/* --- leading ---------------------------------------------------------------------------------- */

static unsigned batches_flying(const struct consensus *c)
{
    unsigned flying = 0;
    for (unsigned i = 0; i < BATCHES_FLYING_MAX; i++) {
        flying += c->submits.batches[i] > core_commit(c->core);
    }
    return flying;
}

static void batch_note(struct consensus *c, uint64_t index)
{
    for (unsigned i = 0; i < BATCHES_FLYING_MAX; i++) {
        if (c->submits.batches[i] <= core_commit(c->core)) {
            c->submits.batches[i] = index;
            return;
        }
    }
}

static void forward_reply(struct consensus *c, const struct forward_set *set, bool accepted)
{
    uint64_t leader = core_leader(c->core);
    struct message m = {.kind = MESSAGE_FORWARD_REPLY,
                        .forward_reply = {.seq = set->seq,
                                          .accepted = accepted,
                                          .index = set->index,
                                          .term = core_term(c->core),
                                          .leader = leader == c->options.self ? 0 : leader}};
    host_send(c, set->from, &m);
}

static void forward_end(struct consensus *c, struct forward_command *f, uint64_t index)
{
    struct forward_set *set = f->set;
    list_remove(&f->link);
    c->submits.forward_bytes -= f->size;
    free(f);
    if (index > set->index) {
        set->index = index;
    }
    if (--set->left == 0) {
        forward_reply(c, set, index != 0);
        free(set);
    }
}

/* Index of the entry that holds this id and is not applied yet; 0 = none. */
static uint64_t flying_index(const struct consensus *c, const uint8_t *id)
{
    return (uint64_t)(uintptr_t)map_get(&c->submits.flying, id, COMMAND_ID_SIZE);
}

struct gathered {
    struct batch_command commands[GATHER_MAX];
    struct proposal *proposals[GATHER_MAX]; /* NULL: a forwarded one */
    struct forward_command *forwards[GATHER_MAX];
    unsigned count;
    size_t bytes;
};

static bool gather_fits(const struct gathered *g, size_t size)
{
    return g->count < GATHER_MAX &&
           (g->count == 0 || batch_size(g->count + 1, g->bytes + size) <= BATCH_BYTES_MAX);
}

static void gather_add(struct gathered *g, const uint8_t *id, const char *data, size_t size)
{
    g->commands[g->count] = (struct batch_command){.id = id, .data = data, .size = size};
    g->bytes += size;
    g->count++;
}

static void gather(struct consensus *c, struct gathered *g)
{
    struct submits *s = &c->submits;
    g->count = 0;
    g->bytes = 0;
    list_each(link, &s->queue)
    {
        struct proposal *p = container_of(link, struct proposal, link);
        const struct consensus_submit *req = proposal_request(p);
        uint64_t index = flying_index(c, p->id);
        if (index) {
            p->index = index;
            proposal_sent(c, p, PROPOSAL_ACCEPTED);
            continue;
        }
        if (!gather_fits(g, req->size)) {
            break;
        }
        g->proposals[g->count] = p;
        g->forwards[g->count] = NULL;
        gather_add(g, p->id, req->data, req->size);
    }
    list_each(link, &s->forwards)
    {
        struct forward_command *f = container_of(link, struct forward_command, link);
        uint64_t index = flying_index(c, f->id);
        if (index) {
            forward_end(c, f, index);
            continue;
        }
        if (!gather_fits(g, f->size)) {
            break;
        }
        g->proposals[g->count] = NULL;
        g->forwards[g->count] = f;
        gather_add(g, f->id, f->data, f->size);
    }
}

static void propose_done(struct consensus *c, const struct gathered *g, uint64_t index)
{
    batch_note(c, index);
    for (unsigned i = 0; i < g->count; i++) {
        const uint8_t *id = g->commands[i].id;
        /* Without memory for the note the command may be proposed twice: harmless. */
        (void)map_put(&c->submits.flying, id, COMMAND_ID_SIZE, (void *)(uintptr_t)index);
        if (g->proposals[i]) {
            g->proposals[i]->index = index;
            proposal_sent(c, g->proposals[i], PROPOSAL_ACCEPTED);
        } else {
            forward_end(c, g->forwards[i], index);
        }
    }
}

static void propose(struct consensus *c)
{
    struct submits *s = &c->submits;
    static _Thread_local struct gathered g; /* large, used within this call only */
    while (core_can_submit(c->core) && batches_flying(c) < BATCHES_FLYING_MAX &&
           !(list_empty(&s->queue) && list_empty(&s->forwards))) {
        gather(c, &g);
        if (g.count == 0) {
            continue;
        }
        int64_t wall_us = loop_wall_us(c->options.loop);
        struct payload *p = batch_encode(wall_us, g.commands, g.count);
        uint64_t index;
        int rc = p ? core_submit(c->core, host_now(c), p, &index) : TSR_EBUSY;
        if (rc) {
            if (p && core_refusal(rc)) {
                payload_unref(p);
            }
            host_ok(c, core_refusal(rc) ? 0 : rc);
            return; /* the next tick tries again */
        }
        propose_done(c, &g, index);
    }
}

void submit_forward(struct consensus *c, uint64_t from, const struct message *m)
{
    struct submits *s = &c->submits;
    size_t bytes = 0;
    for (unsigned i = 0; i < m->forward.count; i++) {
        bytes += m->forward.commands[i].size;
    }
    struct forward_set *set = calloc(1, sizeof *set);
    struct forward_set refusal = {.from = from, .seq = m->forward.seq};
    /* A host that was removed may still believe in its leader: it changes nothing any more. */
    if (!set || core_state(c->core) != CONSENSUS_LEADER || !conf_find(core_conf(c->core), from) ||
        s->forward_bytes + bytes > FORWARD_BYTES_MAX) {
        forward_reply(c, &refusal, false);
        free(set);
        return;
    }
    *set = refusal;
    set->left = 1; /* until all are queued */
    for (unsigned i = 0; i < m->forward.count; i++) {
        const struct message_command *cmd = &m->forward.commands[i];
        struct forward_command *f = malloc(sizeof *f + cmd->size);
        if (!f) {
            continue; /* the proposer sends it again */
        }
        list_init(&f->link);
        f->set = set;
        f->size = cmd->size;
        memcpy(f->id, cmd->id, sizeof f->id);
        if (cmd->size) {
            memcpy(f->data, cmd->data, cmd->size);
        }
        set->left++;
        s->forward_bytes += cmd->size;
        list_push(&s->forwards, &f->link);
    }
    if (--set->left == 0) {
        forward_reply(c, set, false);
        free(set);
    }
}

static void forwards_refuse(struct consensus *c)
{
    while (!list_empty(&c->submits.forwards)) {
        struct list *link = c->submits.forwards.next;
        forward_end(c, container_of(link, struct forward_command, link), 0);
    }
}

/* --- following -------------------------------------------------------------------------------- */

static void forward_queue(struct consensus *c, uint64_t leader)
{
    struct submits *s = &c->submits;
    static _Thread_local struct message_command commands[FORWARD_COUNT_MAX];
    while (!list_empty(&s->queue) && s->forwards_out < FORWARDS_FLYING_MAX) {
        struct message m = {.kind = MESSAGE_FORWARD};
        size_t bytes = 0;
        unsigned count = 0;
        s->seq++;
        list_each(link, &s->queue)
        {
            struct proposal *p = container_of(link, struct proposal, link);
            const struct consensus_submit *req = proposal_request(p);
            if (count == FORWARD_COUNT_MAX ||
                (count && bytes + req->size + BATCH_COMMAND_HEAD > BATCH_BYTES_MAX)) {
                break;
            }
            memcpy(commands[count].id, p->id, sizeof p->id);
            commands[count].data = req->data;
            commands[count].size = req->size;
            count++;
            bytes += req->size + BATCH_COMMAND_HEAD;
            p->seq = s->seq;
            proposal_sent(c, p, PROPOSAL_FORWARDED);
        }
        m.forward.seq = s->seq;
        m.forward.count = count;
        m.forward.commands = commands;
        s->forwards_out++;
        host_send(c, leader, &m);
    }
}

/* How many forwards are out is counted anew: replies may have been lost. */
static void forwards_count(struct consensus *c)
{
    uint64_t last = 0;
    c->submits.forwards_out = 0;
    list_each(link, &c->submits.sent)
    {
        struct proposal *p = container_of(link, struct proposal, link);
        if (p->state == PROPOSAL_FORWARDED && p->seq != last) {
            last = p->seq;
            c->submits.forwards_out++;
        }
    }
}

void submit_forward_reply(struct consensus *c, uint64_t from, const struct message *m)
{
    (void)from;
    list_each(link, &c->submits.sent)
    {
        struct proposal *p = container_of(link, struct proposal, link);
        if (p->state != PROPOSAL_FORWARDED || p->seq != m->forward_reply.seq) {
            continue;
        }
        if (m->forward_reply.accepted) {
            p->state = PROPOSAL_ACCEPTED;
            p->index = m->forward_reply.index;
        } else {
            p->state = PROPOSAL_RESTING;
            p->due_ms = host_now(c) + REFUSED_MS;
        }
    }
    forwards_count(c);
}

void submit_disconnected(struct consensus *c, uint64_t from)
{
    if (from != core_leader(c->core)) {
        return;
    }
    list_each(link, &c->submits.sent)
    {
        struct proposal *p = container_of(link, struct proposal, link);
        if (p->state == PROPOSAL_FORWARDED) {
            p->state = PROPOSAL_RESTING;
            p->due_ms = host_now(c) + REFUSED_MS;
        }
    }
    forwards_count(c);
}

/* --- both ------------------------------------------------------------------------------------- */

void submit_leader_changed(struct consensus *c)
{
    struct submits *s = &c->submits;
    map_free(&s->flying);
    map_init(&s->flying);
    memset(s->batches, 0, sizeof s->batches);
    if (core_state(c->core) != CONSENSUS_LEADER) {
        forwards_refuse(c);
    }
    list_each(link, &s->sent)
    {
        struct proposal *p = container_of(link, struct proposal, link);
        p->tries = 0;
        proposal_queue(c, p);
    }
    s->forwards_out = 0;
}

/* End all with @status: the clients hear it now, and may ask again. */
static void submit_refuse(struct consensus *c, int status)
{
    struct list all;
    list_init(&all);
    list_splice(&all, &c->submits.queue);
    if (status == TSR_ENOQUORUM) {
        list_splice(&all, &c->submits.sent);
    }
    while (!list_empty(&all)) {
        struct proposal *p = container_of(all.next, struct proposal, link);
        struct list requests;
        list_init(&requests);
        list_splice(&requests, &p->requests);
        proposal_end(c, p);
        while (!list_empty(&requests)) {
            submit_finish(submit_of(requests.next), status, 0, NULL, 0);
        }
    }
    forwards_count(c);
}

void submit_pump(struct consensus *c)
{
    uint64_t leader = core_leader(c->core);
    if (space_full(c)) { /* a follower would not learn how it ended: ask another host */
        forwards_refuse(c);
        if (space_hopeless(c)) {
            submit_refuse(c, TSR_EUNAVAILABLE);
        }
    } else if (leader == c->options.self) {
        propose(c);
    } else if (leader) {
        forward_queue(c, leader);
    }
}

void submit_tick(struct consensus *c)
{
    uint64_t now = host_now(c);
    if (host_leaderless(c)) {
        submit_refuse(c, TSR_ENOQUORUM);
        return;
    }
    list_each(link, &c->submits.sent)
    {
        struct proposal *p = container_of(link, struct proposal, link);
        bool lost = p->state == PROPOSAL_ACCEPTED && p->index <= c->applied;
        if (lost || p->due_ms <= now) {
            p->tries++;
            if (p->index <= c->applied) {
                map_del(&c->submits.flying, p->id, sizeof p->id);
            }
            proposal_queue(c, p);
        }
    }
    forwards_count(c);
}

void submit_cancel(struct consensus *c)
{
    struct submits *s = &c->submits;
    list_splice(&s->queue, &s->sent);
    while (!list_empty(&s->queue)) {
        struct proposal *p = container_of(s->queue.next, struct proposal, link);
        struct list requests;
        list_init(&requests);
        list_splice(&requests, &p->requests);
        proposal_end(c, p);
        while (!list_empty(&requests)) {
            submit_finish(submit_of(requests.next), TSR_ECANCELED, 0, NULL, 0);
        }
    }
    list_each(link, &s->failed)
    {
        private_of(submit_of(link))->status = TSR_ECANCELED;
    }
    submit_failed(c);
}

void submit_free(struct consensus *c)
{
    struct submits *s = &c->submits;
    list_splice(&s->queue, &s->sent);
    while (!list_empty(&s->queue)) {
        proposal_end(c, container_of(s->queue.next, struct proposal, link));
    }
    while (!list_empty(&s->forwards)) {
        struct forward_command *f = container_of(s->forwards.next, struct forward_command, link);
        list_remove(&f->link);
        if (--f->set->left == 0) {
            free(f->set);
        }
        free(f);
    }
    map_free(&s->by_id);
    map_free(&s->flying);
}
