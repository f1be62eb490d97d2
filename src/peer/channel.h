/* One connection of a client to one host, and the calls on it. Private to client.c and channel.c.
 */
#ifndef TESSERA_PEER_CHANNEL_H
#define TESSERA_PEER_CHANNEL_H

#include "peer/frame.h"
#include "peer/memory.h"
#include "tessera/base/list.h"
#include "tessera/peer.h"
#include "tessera/sys/net.h"

enum { CHANNEL_SLOTS = 256, CHANNEL_COPY_MAX = 64 * 1024 };

struct peer_client {
    struct peer_net net;
    struct tls *tls;
    char *cluster_id;
    peer_address_fn address;
    void *arg;
    struct payload_memory memory;
    struct list channels;
    size_t entries; /* live struct call_entry */
    bool closing, close_posted;
    struct task close_task;
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* What a call becomes while it is in here. The memory lives until the caller had its callback, the
 * connection is done with the request's bytes, and the reply came or can come no more. */
struct call_entry {
    struct peer_client *client;
    struct channel *channel;
    struct peer_call *call; /* NULL after its callback */
    struct list node;       /* in channel->waiting, or alone */
    struct timer timer;
    struct task task; /* carries a completion that may not happen at once */
    int status;
    bool done;    /* the outcome is fixed */
    bool writing; /* the connection holds `write` */
    bool in_slot; /* sent, reply open */
    uint32_t number;
    size_t size; /* of the whole frame */
    struct conn_write write;
    uint8_t header[FRAME_HEADER];
    uint8_t
        *copy; /* small frames: the caller's memory is not needed after the start of the write */
    uint8_t *reply_head, *reply_body;
    size_t reply_head_size, reply_body_size; /* of the memory; shown to the caller when whole */
    bool reply_whole;
};

enum channel_state {
    CHANNEL_IDLE,       /* no connection, none wanted */
    CHANNEL_CONNECTING, /* conn_open under way */
    CHANNEL_OPEN,
    CHANNEL_CLOSING, /* conn_close under way */
    CHANNEL_BACKOFF, /* no connection, `timer` starts the next attempt */
};

struct channel {
    struct list node; /* in client->channels */
    struct peer_client *client;
    uint64_t host_id;
    bool bulk;
    enum channel_state state;
    struct conn *conn;
    bool proven;          /* a whole frame came on this connection */
    uint64_t opened_ms;   /* when it opened */
    uint64_t received_ms; /* when bytes came last */
    uint64_t backoff_ms;
    struct timer timer; /* back-off, or (open) the watch over an abandoned write */
    uint64_t watch_since_ms, watch_moved_ms;
    size_t watch_pending;
    struct list waiting; /* calls not given to the connection yet */
    size_t unwritten;    /* bytes given to the connection and not confirmed */
    struct frame_stream stream;
    struct call_entry *slots[CHANNEL_SLOTS];
    unsigned slot_count, slot_at;
    uint32_t generation;
};

struct channel *channel_new(struct peer_client *client, uint64_t host_id, bool bulk);
/* Queue; @e completes later. */
void channel_add(struct channel *ch, struct call_entry *e);
/* Give up the connection; its calls end when it is closed. No-op without a connection. */
void channel_break(struct channel *ch);
/* For a closing client: everything waiting ends, the connection closes. */
void channel_close(struct channel *ch);
static inline bool channel_quiet(const struct channel *ch)
{
    return !ch->conn;
}

/* Fix the outcome; the callback comes from the loop as soon as the caller's memory is free. */
void call_entry_complete(struct call_entry *e, int status);
/* client.c: after anything that a closing client waits for. */
void peer_client_check_closed(struct peer_client *client);

#endif
