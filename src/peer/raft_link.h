/* Consensus links as raft_link.c (life), raft_out.c (sending) and raft_in.c (receiving) share them.
 */
#ifndef TESSERA_PEER_RAFT_LINK_H
#define TESSERA_PEER_RAFT_LINK_H

#include "peer/frame.h"
#include "tessera/base/list.h"
#include "tessera/peer.h"
#include "tessera/sys/net.h"

struct raft_links {
    struct loop *loop;
    struct listener *listener;
    struct tls *client_tls;
    struct raft_hello hello; /* what we say */
    int (*receive)(void *arg, uint64_t from, const void *data, size_t size);
    void (*disconnected)(void *arg, uint64_t from);
    int (*admit)(void *arg, uint64_t from, const struct peer_life *life, bool live);
    void (*refused)(void *arg, uint64_t to, int code);
    void *arg;
    struct list outs, ins;
    size_t out_count, in_count;
    bool closing, close_posted;
    struct task close_task;
    void (*close_cb)(void *arg);
    void *close_arg;
};

enum raft_out_state { OUT_IDLE, OUT_CONNECTING, OUT_OPEN, OUT_CLOSING, OUT_BACKOFF };

/* To one peer. */
struct raft_out {
    struct list node;
    struct raft_links *links;
    uint64_t to;
    char given[RAFT_ADDRESS_MAX]; /* from the membership */
    char told[RAFT_ADDRESS_MAX];  /* from the peer's hello */
    enum raft_out_state state;
    struct conn *conn;
    struct list kept; /* messages for the next connection */
    size_t queued;    /* bytes in `kept` and in the connection */
    uint64_t opened_ms, backoff_ms;
    struct timer timer; /* back-off; in OUT_OPEN the stall watch */
    uint64_t handed, moved, moved_ms;
    uint8_t back[RAFT_REFUSED_SIZE]; /* what the other side said */
    size_t back_have;
};

struct raft_message {
    struct list node; /* in out->kept */
    struct raft_out *out;
    struct conn_write write;
    size_t size; /* of header and data */
    uint8_t bytes[];
};

/* From one peer. */
struct raft_in {
    struct list node;
    struct raft_links *links;
    struct conn *conn;
    uint64_t host_id; /* as the certificate says */
    uint64_t from;    /* raft id; 0 before the hello */
    uint64_t mark;    /* of its life */
    uint64_t heard_ms;
    bool closing, refused;
    struct timer hello_timer;
    uint8_t header[RAFT_FRAME_HEADER];
    size_t header_have;
    enum raft_frame_kind kind;
    uint8_t *data;
    size_t size, have, capacity;
};

/* raft_out.c */
struct raft_out *raft_out_find(const struct raft_links *links, uint64_t to);
/* Makes it if need be; NULL: too many or out of memory. */
struct raft_out *raft_out_get(struct raft_links *links, uint64_t to);
void raft_out_close(struct raft_out *o); /* its connection; the record stays */
void raft_out_free(struct raft_out *o);

/* raft_in.c */
void raft_in_accept(struct listener *listener, void *arg, struct conn *conn);
void raft_in_close(struct raft_in *in);

/* raft_link.c: after a connection of closing links has gone */
void raft_links_check_closed(struct raft_links *links);

#endif
