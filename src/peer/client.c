/* Calls of one loop to other hosts: finds the channel (connection) for a call.
 *
 * Two channels a host: calls with large bodies either way go over their own, so that small calls
 * never wait behind them. Close: calls end with TSR_ECANCELED, connections close, and when no entry
 * and no connection is left, the client is freed and the close callback runs, from the loop. */
#include <stdlib.h>
#include <string.h>

#include "peer/channel.h"
#include "tessera/base/assert.h"
#include "tessera/base/err.h"
#include "tessera/base/metric.h"

enum { BULK_FROM = 64 * 1024 };

static struct peer_client *client_of(struct peer_net *net)
{
    return container_of(net, struct peer_client, net);
}

static bool is_bulk(const struct peer_call *call)
{
    return call->body.size > BULK_FROM || call->type == PEER_CHUNK_GET ||
           call->type == PEER_MANIFEST_GET;
}

static struct channel *channel_find(struct peer_client *client, uint64_t host_id, bool bulk)
{
    list_each(node, &client->channels)
    {
        struct channel *ch = container_of(node, struct channel, node);
        if (ch->host_id == host_id && ch->bulk == bulk) {
            return ch;
        }
    }
    return channel_new(client, host_id, bulk);
}

static void client_call(struct peer_net *net, struct peer_call *call)
{
    struct peer_client *client = client_of(net);
    struct call_entry *e = calloc(1, sizeof(*e));
    tsr_assert(e); /* a tiny fixed object, and a call cannot fail at once */
    e->client = client;
    e->call = call;
    list_init(&e->node);
    timer_init(&e->timer, net->loop, NULL);
    client->entries++;
    metric_add(METRIC_peer_calls_total, 1);
    memset(call->state, 0, sizeof(call->state));
    call->state[0] = e;
    if (client->closing) {
        call_entry_complete(e, TSR_ECANCELED);
        return;
    }
    if (call->head.size > PEER_HEAD_MAX || call->body.size > PEER_BODY_MAX) {
        call_entry_complete(e, TSR_ETOOBIG);
        return;
    }
    struct channel *ch = channel_find(client, call->host_id, is_bulk(call));
    if (!ch) {
        call_entry_complete(e, TSR_ENOMEM);
        return;
    }
    channel_add(ch, e);
}

static void client_cancel(struct peer_net *net, struct peer_call *call)
{
    struct call_entry *e = call->state[0];
    (void)net;
    if (e) {
        tsr_assert(e->call == call);
        call_entry_complete(e, TSR_ECANCELED);
    }
}

static const struct peer_net_ops client_ops = {.call = client_call, .cancel = client_cancel};

int peer_client_new(struct loop *loop, struct tls *tls, const char *cluster_id,
                    peer_address_fn address, void *arg, struct peer_client **out)
{
    struct peer_client *client = calloc(1, sizeof(*client));
    char *id = strdup(cluster_id);
    if (!client || !id || payload_memory_init(&client->memory) != 0) {
        free(client);
        free(id);
        return TSR_ENOMEM;
    }
    client->net.ops = &client_ops;
    client->net.loop = loop;
    client->tls = tls;
    tls_ref(tls);
    client->cluster_id = id;
    client->address = address;
    client->arg = arg;
    list_init(&client->channels);
    *out = client;
    return 0;
}

struct peer_net *peer_client_net(struct peer_client *client)
{
    return &client->net;
}

void peer_client_set_tls(struct peer_client *client, struct tls *tls)
{
    tls_ref(tls);
    tls_unref(client->tls);
    client->tls = tls;
}

static bool client_quiet(const struct peer_client *client)
{
    if (client->entries > 0) {
        return false;
    }
    list_each(node, &client->channels)
    {
        if (!channel_quiet(container_of(node, struct channel, node))) {
            return false;
        }
    }
    return true;
}

static void client_close_task(struct task *task)
{
    struct peer_client *client = container_of(task, struct peer_client, close_task);
    client->close_posted = false;
    if (!client_quiet(client)) {
        return; /* whoever ends last posts again */
    }
    void (*cb)(void *) = client->close_cb;
    void *arg = client->close_arg;
    struct list *node;
    while ((node = list_pop(&client->channels))) {
        struct channel *ch = container_of(node, struct channel, node);
        timer_stop(&ch->timer);
        free(ch);
    }
    payload_memory_close(&client->memory);
    tls_unref(client->tls);
    free(client->cluster_id);
    free(client);
    if (cb) {
        cb(arg);
    }
}

void peer_client_check_closed(struct peer_client *client)
{
    if (client->closing && !client->close_posted && client_quiet(client)) {
        client->close_posted = true;
        loop_post(client->net.loop, &client->close_task);
    }
}

void peer_client_close(struct peer_client *client, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!client->closing);
    client->closing = true;
    client->close_cb = cb;
    client->close_arg = arg;
    client->close_task.run = client_close_task;
    list_each(node, &client->channels)
    {
        channel_close(container_of(node, struct channel, node));
    }
    peer_client_check_closed(client);
}
