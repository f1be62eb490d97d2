/* A server (host 2) and a client (host 1) on one loop, with real TLS over loopback. */
#ifndef TESSERA_TESTS_PEER_WORLD_H
#define TESSERA_TESTS_PEER_WORLD_H

#include "fixture.h"

enum { CHUNK = 4 * 1024 * 1024, HELD_MAX = 512 };

struct world {
    struct loop *loop;
    struct peer_service service;
    struct peer_server *server;
    struct peer_client *client;
    struct peer_net *net;
    struct tls *client_tls, *server_tls;
    unsigned port;
    bool known; /* the address is */
    struct peer_request *held[HELD_MAX];
    unsigned held_count;
    size_t held_bytes, held_bytes_max;
    unsigned released;
    char *chunk;
};

static inline void echo(void *arg, struct peer_request *req)
{
    (void)arg;
    check_int(req->from_host, 1);
    peer_reply(req, 0, req->head, req->body);
}

static inline void refuse(void *arg, struct peer_request *req)
{
    (void)arg;
    peer_reply(req, TSR_ENOSPC, text("full"), nothing());
}

static inline void hold(void *arg, struct peer_request *req)
{
    struct world *w = arg;
    check(w->held_count < HELD_MAX);
    w->held[w->held_count++] = req;
    w->held_bytes += req->body.size;
    if (w->held_bytes > w->held_bytes_max) {
        w->held_bytes_max = w->held_bytes;
    }
}

/* Answer the oldest one. */
static inline void answer_one(struct world *w)
{
    struct peer_request *req = w->held[0];
    check(w->held_count > 0);
    memmove(&w->held[0], &w->held[1], --w->held_count * sizeof(w->held[0]));
    w->held_bytes -= req->body.size;
    peer_reply(req, 0, text("late"), nothing());
}

static inline void answer_all(struct world *w)
{
    while (w->held_count > 0) {
        answer_one(w);
    }
}

static inline void chunk_released(void *arg)
{
    struct world *w = arg;
    w->released++;
}

static inline void give_chunk(void *arg, struct peer_request *req)
{
    struct world *w = arg;
    peer_reply_owned(req, 0, text("chunk"), (struct peer_bytes){w->chunk, CHUNK}, chunk_released,
                     w);
}

static inline bool world_address(void *arg, uint64_t host_id, char *out, size_t size)
{
    struct world *w = arg;
    (void)host_id;
    (void)snprintf(out, size, "127.0.0.1:%u", w->port);
    return w->known;
}

static inline void world_serve(struct world *w, size_t buffer_bytes)
{
    char address[64];
    struct err err = {0};
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", w->port);
    check_ok(peer_server_new(w->loop, w->server_tls, CLUSTER, address, &w->service, buffer_bytes,
                             &w->server, &err));
    w->port = peer_server_port(w->server);
}

static inline void world_connect(struct world *w)
{
    check_ok(peer_client_new(w->loop, w->client_tls, CLUSTER, world_address, w, &w->client));
    w->net = peer_client_net(w->client);
}

static inline struct world *world_new(size_t buffer_bytes)
{
    struct world *w = calloc(1, sizeof(*w));
    check(w != NULL);
    w->chunk = malloc(CHUNK);
    check(w->chunk != NULL);
    memset(w->chunk, 'c', CHUNK);
    w->known = true;
    check_ok(uv_loop_create("test", &w->loop));
    w->client_tls = tls_of(TLS_CLIENT, 1, CALL_ALPN);
    w->server_tls = tls_of(TLS_SERVER, 2, CALL_ALPN);
    peer_serve(&w->service, PEER_CONTROL, echo, w);
    peer_serve(&w->service, PEER_PING, refuse, w);
    peer_serve(&w->service, PEER_SEAL, hold, w);
    peer_serve(&w->service, PEER_CHUNK_PUT, hold, w);
    peer_serve(&w->service, PEER_CHUNK_HAVE, echo, w);
    peer_serve(&w->service, PEER_CHUNK_GET, give_chunk, w);
    world_serve(w, buffer_bytes);
    world_connect(w);
    return w;
}

static inline void world_stop_server(struct world *w)
{
    bool closed = false;
    peer_server_close(w->server, set_true, &closed);
    check(!closed);
    answer_all(w);
    test_run_until(w->loop, &closed, 5000);
    w->server = NULL;
}

static inline void world_free(struct world *w)
{
    bool closed = false;
    if (w->client) {
        peer_client_close(w->client, set_true, &closed);
        check(!closed);
        test_run_until(w->loop, &closed, 5000);
    }
    if (w->server) {
        world_stop_server(w);
    }
    tls_unref(w->client_tls);
    tls_unref(w->server_tls);
    uv_loop_free(w->loop);
    free(w->chunk);
    free(w);
}

static inline bool fewer_held(void *arg)
{
    const struct {
        struct world *w;
        unsigned count;
    } *want = arg;
    return want->w->held_count < want->count;
}

static inline void run_until_held(struct world *w, unsigned count)
{
    struct {
        struct world *w;
        unsigned count;
    } want = {w, count};
    test_run_while(w->loop, fewer_held, &want, 5000);
}

#endif
