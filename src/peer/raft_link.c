/* Consensus links: one ordered connection a direction and peer.
 *
 * Happy path: the first send to a peer connects (TLS, the certificate must name the host of the
 * raft id), says hello, and writes messages in order. The other side's accept reads the hello (the
 * raft id's host must be the certificate's, the cluster the same), then hands each message to
 * `receive`. A connection carries messages one way only; the one frame that may come back on an
 * outgoing one says that its hello was refused, anything else breaks it.
 *
 * Failures: messages are lost, never reordered, never doubled; the layer above sends again. While
 * disconnected up to KEPT_MAX bytes wait for the attempt under way and go when it fails (what comes
 * later is fresher). Connected, QUEUE_MAX bytes may wait; more are dropped. If queued bytes do not
 * move for 2 s, the connection is given up with all that waits. Next attempts back off 50..500 ms.
 * An incoming connection that ends, or is replaced by a newer one of the same peer, is told by
 * `disconnected` before anything else comes from that peer.
 *
 * Close: no more callbacks; connections close, then everything is freed, then the callback. */
#include "peer/raft_link.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

/* --- the end of all
 * ------------------------------------------------------------------------------- */

static bool links_quiet(const struct raft_links *links)
{
    if (!list_empty(&links->ins)) {
        return false;
    }
    list_each(node, &links->outs)
    {
        if (container_of(node, struct raft_out, node)->conn) {
            return false;
        }
    }
    return true;
}

static void close_task(struct task *task)
{
    struct raft_links *links = container_of(task, struct raft_links, close_task);
    void (*cb)(void *) = links->close_cb;
    void *arg = links->close_arg;
    list_each(node, &links->outs)
    {
        raft_out_free(container_of(node, struct raft_out, node));
    }
    tls_unref(links->client_tls);
    free(links);
    if (cb) {
        cb(arg);
    }
}

void raft_links_check_closed(struct raft_links *links)
{
    if (links->closing && !links->close_posted && links_quiet(links)) {
        links->close_posted = true;
        loop_post(links->loop, &links->close_task);
    }
}

/* --- life
 * ------------------------------------------------------------------------------------------------------
 */

int raft_links_new(const struct raft_link_options *options, struct raft_links **out,
                   struct err *err)
{
    struct raft_links *links = calloc(1, sizeof(*links));
    if (!links) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    links->hello.raft_id = options->self;
    bool fits =
        str_copy(links->hello.cluster_id, sizeof(links->hello.cluster_id), options->cluster_id) &&
        str_copy(links->hello.address, sizeof(links->hello.address), options->address);
    if (!fits) {
        free(links);
        return err_set(err, TSR_EINVAL, "consensus address or cluster id too long");
    }
    links->loop = options->loop;
    links->receive = options->receive;
    links->disconnected = options->disconnected;
    links->admit = options->admit;
    links->refused = options->refused;
    links->arg = options->arg;
    links->close_task.run = close_task;
    list_init(&links->outs);
    list_init(&links->ins);
    int rc = listener_open(options->loop, options->listen, options->server_tls, raft_in_accept,
                           links, &links->listener, err);
    if (rc != 0) {
        free(links);
        return rc;
    }
    links->client_tls = options->client_tls;
    tls_ref(links->client_tls);
    *out = links;
    return 0;
}

void raft_links_set_life(struct raft_links *links, const struct peer_life *life)
{
    links->hello.life = *life;
}

unsigned raft_links_port(const struct raft_links *links)
{
    return listener_port(links->listener);
}

void raft_links_set_tls(struct raft_links *links, struct tls *server_tls, struct tls *client_tls)
{
    listener_set_tls(links->listener, server_tls);
    tls_ref(client_tls);
    tls_unref(links->client_tls);
    links->client_tls = client_tls;
}

void raft_links_close(struct raft_links *links, void (*cb)(void *arg), void *arg)
{
    tsr_assert(!links->closing);
    links->closing = true;
    links->close_cb = cb;
    links->close_arg = arg;
    listener_close(links->listener);
    list_each(node, &links->ins)
    {
        raft_in_close(container_of(node, struct raft_in, node));
    }
    list_each(node, &links->outs)
    {
        raft_out_close(container_of(node, struct raft_out, node));
    }
    raft_links_check_closed(links);
}
