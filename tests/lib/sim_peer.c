#include "sim_peer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/list.h"

enum { HOSTS_MAX = 64, TIMEOUT_DEFAULT_MS = 10000 };

struct host {
    struct peer_net net;
    struct sim_peers *peers;
    uint64_t id;
    unsigned slot;
    uint64_t life; /* counts restarts: what was meant for an earlier life is dropped */
    bool there, down;
    const struct peer_service *service;
    struct list calls;  /* open calls made by this host; its loop's */
    struct list ending; /* those whose callback is posted */
};

/* Everything allocated is in `all`, as a crashed host's loop may drop tasks without running them.
 */
struct item {
    struct list node;
    struct sim_peers *peers;
    void *head, *body;
};

struct sim_peers {
    pthread_mutex_t mutex;
    struct host *hosts[HOSTS_MAX];
    unsigned host_count;
    uint64_t delay_min_ms, delay_max_ms;
    unsigned loss_per_mille;
    bool cut[HOSTS_MAX][HOSTS_MAX];
    struct list all;
    uint64_t number;
    struct sim_peers_stats stats;
};

struct sim_call {
    struct item item;
    struct list node; /* in host->calls */
    struct host *host;
    uint64_t to, number;
    struct peer_call *call; /* NULL: nobody waits any more */
    struct timer timer;
    struct task task;
    bool done;
    int status;
};

enum kind { REQUEST, REPLY, LOST /* connections to `about` broke; 0 = to all */ };

struct message {
    struct item item;
    enum kind kind;
    struct host *from, *to;
    uint64_t from_life, to_life;
    uint64_t number, about, delay_ms;
    enum peer_call_type type;
    int code;
    size_t head_size, body_size;
    struct task task;
    struct timer timer;
};

struct sim_request {
    struct item item;
    struct peer_request req;
    struct host *from, *to;
    uint64_t from_life, to_life;
    uint64_t number;
};

enum fate { ARRIVES, IS_LOST, IS_REFUSED };

/* --- memory ------------------------------------------------------------------------------------
 */

static void *item_new(struct sim_peers *peers, size_t size)
{
    struct item *item = calloc(1, size);
    tsr_assert(item);
    item->peers = peers;
    pthread_mutex_lock(&peers->mutex);
    list_push(&peers->all, &item->node);
    pthread_mutex_unlock(&peers->mutex);
    return item;
}

static void item_free(struct item *item)
{
    pthread_mutex_lock(&item->peers->mutex);
    list_remove(&item->node);
    pthread_mutex_unlock(&item->peers->mutex);
    free(item->head);
    free(item->body);
    free(item);
}

static void *copy_of(struct peer_bytes in)
{
    void *copy = malloc(in.size ? in.size : 1);
    tsr_assert(copy);
    if (in.size) {
        memcpy(copy, in.data, in.size);
    }
    return copy;
}

/* --- chance and faults
 * ---------------------------------------------------------------------------- */

static struct host *host_find(struct sim_peers *peers, uint64_t id)
{
    for (unsigned i = 0; i < peers->host_count; i++) {
        if (peers->hosts[i]->id == id) {
            return peers->hosts[i];
        }
    }
    return NULL;
}

/* What becomes of a message that @from sends now, and how long it takes. On the loop of @from. */
static enum fate fate_of(struct host *from, struct host *to, uint64_t *delay_ms)
{
    struct sim_peers *peers = from->peers;
    uint64_t chance[2];
    loop_random(from->net.loop, chance, sizeof(chance));
    pthread_mutex_lock(&peers->mutex);
    enum fate fate = ARRIVES;
    if (from->down || !to->there || to->down) {
        fate = IS_REFUSED;
        peers->stats.refused++;
    } else if (peers->cut[from->slot][to->slot] || chance[0] % 1000 < peers->loss_per_mille) {
        fate = IS_LOST;
        peers->stats.lost++;
    }
    uint64_t spread = peers->delay_max_ms - peers->delay_min_ms;
    *delay_ms = peers->delay_min_ms + (spread ? chance[1] % (spread + 1) : 0);
    pthread_mutex_unlock(&peers->mutex);
    return fate;
}

static bool life_is(struct host *host, uint64_t life)
{
    pthread_mutex_lock(&host->peers->mutex);
    bool same = host->there && host->life == life;
    pthread_mutex_unlock(&host->peers->mutex);
    return same;
}

static uint64_t life_of(struct host *host)
{
    pthread_mutex_lock(&host->peers->mutex);
    uint64_t life = host->life;
    pthread_mutex_unlock(&host->peers->mutex);
    return life;
}

static void count(struct sim_peers *peers, uint64_t *counter)
{
    pthread_mutex_lock(&peers->mutex);
    (*counter)++;
    pthread_mutex_unlock(&peers->mutex);
}

/* --- the caller's side
 * ------------------------------------------------------------------------------ */

static void call_finish(struct sim_call *c, struct peer_bytes head, struct peer_bytes body)
{
    struct peer_call *call = c->call;
    c->call = NULL;
    list_remove(&c->node);
    if (call) {
        call->state[0] = NULL;
        call->cb(call, c->status, head, body);
    }
    item_free(&c->item);
}

static void call_finish_task(struct task *task)
{
    struct peer_bytes none = {NULL, 0};
    call_finish(container_of(task, struct sim_call, task), none, none);
}

static void call_complete(struct sim_call *c, int status)
{
    if (c->done) {
        return;
    }
    c->done = true;
    c->status = status;
    timer_stop(&c->timer);
    list_remove(&c->node);
    list_push(&c->host->ending, &c->node);
    c->task.run = call_finish_task;
    loop_post(c->host->net.loop, &c->task);
}

static void call_timeout_cb(struct timer *timer)
{
    call_complete(container_of(timer, struct sim_call, timer), TSR_ETIMEOUT);
}

static void message_send(struct message *m, uint64_t delay_ms);

static void sim_call_start(struct peer_net *net, struct peer_call *call)
{
    struct host *host = container_of(net, struct host, net);
    struct sim_peers *peers = host->peers;
    struct sim_call *c = item_new(peers, sizeof(*c));
    pthread_mutex_lock(&peers->mutex);
    struct host *to = host_find(peers, call->host_id);
    c->number = ++peers->number;
    peers->stats.calls++;
    pthread_mutex_unlock(&peers->mutex);
    c->host = host;
    c->to = call->host_id;
    c->call = call;
    memset(call->state, 0, sizeof(call->state));
    call->state[0] = c;
    list_push(&host->calls, &c->node);
    timer_init(&c->timer, net->loop, call_timeout_cb);
    timer_start(&c->timer, call->timeout_ms ? call->timeout_ms : TIMEOUT_DEFAULT_MS);
    if (call->head.size > PEER_HEAD_MAX || call->body.size > PEER_BODY_MAX) {
        call_complete(c, TSR_ETOOBIG);
        return;
    }
    uint64_t delay_ms = 0;
    enum fate fate = to ? fate_of(host, to, &delay_ms) : IS_REFUSED;
    if (fate == IS_REFUSED) {
        call_complete(c, TSR_ECONNECT);
    }
    if (fate != ARRIVES) {
        return;
    }
    struct message *m = item_new(peers, sizeof(*m));
    m->kind = REQUEST;
    m->from = host;
    m->to = to;
    m->from_life = life_of(host);
    m->to_life = life_of(to);
    m->number = c->number;
    m->type = call->type;
    m->item.head = copy_of(call->head);
    m->item.body = copy_of(call->body);
    m->head_size = call->head.size;
    m->body_size = call->body.size;
    message_send(m, delay_ms);
}

static void sim_call_cancel(struct peer_net *net, struct peer_call *call)
{
    struct sim_call *c = call->state[0];
    (void)net;
    if (c) {
        call_complete(c, TSR_ECANCELED);
    }
}

static const struct peer_net_ops sim_ops = {.call = sim_call_start, .cancel = sim_call_cancel};

/* --- the server's side
 * --------------------------------------------------------------------------------- */

static void reply_send(struct host *from, uint64_t from_life, struct host *to, uint64_t to_life,
                       uint64_t number, int code, struct peer_bytes head, struct peer_bytes body)
{
    uint64_t delay_ms = 0;
    if (!life_is(from, from_life) || fate_of(from, to, &delay_ms) != ARRIVES) {
        return; /* down: the caller hears of that by itself */
    }
    struct message *m = item_new(from->peers, sizeof(*m));
    m->kind = REPLY;
    m->from = from;
    m->to = to;
    m->from_life = from_life;
    m->to_life = to_life;
    m->number = number;
    m->code = code;
    m->item.head = copy_of(head);
    m->item.body = copy_of(body);
    m->head_size = head.size;
    m->body_size = body.size;
    count(from->peers, &from->peers->stats.replied);
    message_send(m, delay_ms);
}

static void sim_reply(struct peer_request *req, int code, struct peer_bytes head,
                      struct peer_bytes body)
{
    struct sim_request *r = container_of(req, struct sim_request, req);
    reply_send(r->to, r->to_life, r->from, r->from_life, r->number, code, head, body);
    item_free(&r->item);
}

static void request_arrives(struct message *m)
{
    struct host *host = m->to;
    const struct peer_service *service = host->service;
    struct sim_request *r = item_new(host->peers, sizeof(*r));
    r->from = m->from;
    r->to = m->to;
    r->from_life = m->from_life;
    r->to_life = m->to_life;
    r->number = m->number;
    r->item.head = m->item.head;
    r->item.body = m->item.body;
    m->item.head = m->item.body = NULL;
    r->req = (struct peer_request){
        .from_host = m->from->id,
        .type = m->type,
        .head = {r->item.head, m->head_size},
        .body = {r->item.body, m->body_size},
        .loop = host->net.loop,
        .reply = sim_reply,
    };
    count(host->peers, &host->peers->stats.delivered);
    if (service && service->handlers[m->type].fn) {
        service->handlers[m->type].fn(service->handlers[m->type].arg, &r->req);
    } else {
        struct peer_bytes none = {NULL, 0};
        sim_reply(&r->req, TSR_ENOTSUP, none, none);
    }
}

static void reply_arrives(struct message *m)
{
    list_each(node, &m->to->calls)
    {
        struct sim_call *c = container_of(node, struct sim_call, node);
        if (c->number == m->number) {
            c->done = true;
            c->status = m->code;
            timer_stop(&c->timer);
            call_finish(c, (struct peer_bytes){m->item.head, m->head_size},
                        (struct peer_bytes){m->item.body, m->body_size});
            return;
        }
    }
}

static void connections_broke(struct message *m)
{
    list_each(node, &m->to->calls)
    {
        struct sim_call *c = container_of(node, struct sim_call, node);
        if (m->about == 0 || c->to == m->about) {
            call_complete(c, TSR_ECONNECT);
        }
    }
}

/* --- messages
 * --------------------------------------------------------------------------------------------- */

static void message_arrives(struct message *m)
{
    bool alive = life_is(m->to, m->to_life);
    pthread_mutex_lock(&m->item.peers->mutex);
    bool down = m->to->down && m->kind != LOST;
    pthread_mutex_unlock(&m->item.peers->mutex);
    if (alive && !down) {
        switch (m->kind) {
        case REQUEST:
            request_arrives(m);
            break;
        case REPLY:
            reply_arrives(m);
            break;
        case LOST:
            connections_broke(m);
            break;
        }
    }
    item_free(&m->item);
}

static void message_timer_cb(struct timer *timer)
{
    message_arrives(container_of(timer, struct message, timer));
}

static void message_task(struct task *task)
{
    struct message *m = container_of(task, struct message, task);
    if (m->delay_ms == 0) {
        message_arrives(m);
        return;
    }
    timer_init(&m->timer, m->to->net.loop, message_timer_cb);
    timer_start(&m->timer, m->delay_ms);
}

static void message_send(struct message *m, uint64_t delay_ms)
{
    m->delay_ms = delay_ms;
    m->task.run = message_task;
    loop_post(m->to->net.loop, &m->task);
}

/* Everybody's calls to @host end, and with @own its own ones to everybody. */
static void tell_broken(struct sim_peers *peers, struct host *host, bool own)
{
    for (unsigned i = 0; i < peers->host_count; i++) {
        struct host *other = peers->hosts[i];
        if (!other->there || (other == host && !own)) {
            continue;
        }
        struct message *m = item_new(peers, sizeof(*m));
        m->kind = LOST;
        m->from = host;
        m->to = other;
        m->to_life = life_of(other);
        m->about = other == host ? 0 : host->id;
        message_send(m, 0);
    }
}

/* --- set-up and faults
 * -------------------------------------------------------------------------------------- */

struct sim_peers *sim_peers_new(void)
{
    struct sim_peers *peers = calloc(1, sizeof(*peers));
    tsr_assert(peers);
    pthread_mutex_init(&peers->mutex, NULL);
    list_init(&peers->all);
    return peers;
}

void sim_peers_free(struct sim_peers *peers)
{
    struct list *node;
    while ((node = list_pop(&peers->all))) {
        struct item *item = container_of(node, struct item, node);
        free(item->head);
        free(item->body);
        free(item);
    }
    for (unsigned i = 0; i < peers->host_count; i++) {
        free(peers->hosts[i]);
    }
    pthread_mutex_destroy(&peers->mutex);
    free(peers);
}

struct peer_net *sim_peers_add(struct sim_peers *peers, uint64_t host_id, struct loop *loop,
                               const struct peer_service *service)
{
    pthread_mutex_lock(&peers->mutex);
    struct host *host = host_find(peers, host_id);
    if (!host) {
        tsr_assert(peers->host_count < HOSTS_MAX);
        host = calloc(1, sizeof(*host));
        tsr_assert(host);
        host->peers = peers;
        host->id = host_id;
        host->slot = peers->host_count;
        host->net.ops = &sim_ops;
        list_init(&host->calls);
        list_init(&host->ending);
        peers->hosts[peers->host_count++] = host;
    }
    tsr_assert(!host->there);
    host->net.loop = loop;
    host->service = service;
    host->there = true;
    host->down = false;
    host->life++;
    pthread_mutex_unlock(&peers->mutex);
    return &host->net;
}

struct peer_net *sim_peers_net(struct sim_peers *peers, uint64_t host_id)
{
    pthread_mutex_lock(&peers->mutex);
    struct host *host = host_find(peers, host_id);
    pthread_mutex_unlock(&peers->mutex);
    return host ? &host->net : NULL;
}

void sim_peers_delay(struct sim_peers *peers, uint64_t min_ms, uint64_t max_ms)
{
    tsr_assert(min_ms <= max_ms);
    pthread_mutex_lock(&peers->mutex);
    peers->delay_min_ms = min_ms;
    peers->delay_max_ms = max_ms;
    pthread_mutex_unlock(&peers->mutex);
}

void sim_peers_loss(struct sim_peers *peers, unsigned per_mille)
{
    pthread_mutex_lock(&peers->mutex);
    peers->loss_per_mille = per_mille;
    pthread_mutex_unlock(&peers->mutex);
}

void sim_peers_down(struct sim_peers *peers, uint64_t host_id, bool down)
{
    pthread_mutex_lock(&peers->mutex);
    struct host *host = host_find(peers, host_id);
    tsr_assert(host);
    bool broke = down && !host->down;
    host->down = down;
    pthread_mutex_unlock(&peers->mutex);
    if (broke) {
        tell_broken(peers, host, true);
    }
}

void sim_peers_cut(struct sim_peers *peers, uint64_t from, uint64_t to, bool cut)
{
    pthread_mutex_lock(&peers->mutex);
    struct host *a = host_find(peers, from), *b = host_find(peers, to);
    tsr_assert(a && b);
    peers->cut[a->slot][b->slot] = cut;
    pthread_mutex_unlock(&peers->mutex);
}

void sim_peers_heal(struct sim_peers *peers)
{
    pthread_mutex_lock(&peers->mutex);
    memset(peers->cut, 0, sizeof(peers->cut));
    peers->loss_per_mille = 0;
    for (unsigned i = 0; i < peers->host_count; i++) {
        peers->hosts[i]->down = false;
    }
    pthread_mutex_unlock(&peers->mutex);
}

void sim_peers_crash(struct sim_peers *peers, uint64_t host_id)
{
    pthread_mutex_lock(&peers->mutex);
    struct host *host = host_find(peers, host_id);
    tsr_assert(host && host->there);
    host->there = false;
    host->service = NULL;
    host->life++;
    pthread_mutex_unlock(&peers->mutex);
    struct list *node;
    while ((node = list_pop(&host->ending))) {
        container_of(node, struct sim_call, node)->call =
            NULL; /* the posted task finds no caller */
    }
    while ((node = list_pop(&host->calls))) {
        struct sim_call *c = container_of(node, struct sim_call, node);
        timer_stop(&c->timer);
        c->call = NULL;
        item_free(&c->item);
    }
    tell_broken(peers, host, false);
}

void sim_peers_stats(struct sim_peers *peers, struct sim_peers_stats *out)
{
    pthread_mutex_lock(&peers->mutex);
    *out = peers->stats;
    pthread_mutex_unlock(&peers->mutex);
}
