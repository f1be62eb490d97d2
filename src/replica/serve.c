/* Chunk calls from other hosts. A handler checks the head, does its work by way of the chunk
 * service and answers once; everything of one call hangs on one `served`, freed after the answer.
 *
 * Memory: bodies that come in are bounded by the peer server; chunks that go out by `gets_max` at
 * once on this host: further ones wait (a short timer, so that loops need not know of each other).
 * Thread: each call stays on its loop; the counter is all that loops share. */
#include "tessera/replica.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "replica/wire.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/digest.h"

enum { GETS_MAX = 32, GET_AGAIN_MS = 5 };

struct serve {
    struct chunks *chunks;
    struct pool *cpu_pool;
    atomic_uint gets;
};

struct served {
    struct serve *serve;
    struct peer_request *req;
    struct chunk_req chunk;
    struct work work;
    struct timer timer;
    struct chunk_id *ids;
    uint8_t *present;
    void *buffer;
    int status;
    bool counted;
};

static void answer(struct served *s, int code, struct peer_bytes head, struct peer_bytes body)
{
    peer_reply(s->req, code, head, body);
    if (s->counted) {
        atomic_fetch_sub(&s->serve->gets, 1);
    }
    free(s->ids);
    free(s->present);
    free(s->buffer);
    free(s);
}

static void answer_code(struct served *s, int code)
{
    answer(s, code, (struct peer_bytes){0}, (struct peer_bytes){0});
}

static void refuse(struct peer_request *req, int code)
{
    peer_reply(req, code, (struct peer_bytes){0}, (struct peer_bytes){0});
}

/* NULL: answered already. Checks the head's size when it is fixed. */
static struct served *served_new(void *arg, struct peer_request *req, size_t head_size)
{
    if (head_size > 0 && req->head.size != head_size) {
        refuse(req, TSR_EPROTO);
        return NULL;
    }
    struct served *s = calloc(1, sizeof *s);
    if (s == NULL) {
        refuse(req, TSR_ENOMEM);
        return NULL;
    }
    s->serve = arg;
    s->req = req;
    s->chunk.loop = req->loop;
    s->chunk.arg = s;
    return s;
}

static void set_session_id(struct served *s)
{
    const uint8_t *head = s->req->head.data;
    memcpy(s->chunk.session, head, SESSION_ID_SIZE);
    memcpy(s->chunk.id.bytes, head + SESSION_ID_SIZE, 32);
}

/* --- have ----------------------------------------------------------------------------------- */

static void have_cb(struct chunk_req *req, int status)
{
    struct served *s = req->arg;
    if (status != 0) {
        answer_code(s, status);
        return;
    }
    answer(s, 0, (struct peer_bytes){s->present, req->id_count}, (struct peer_bytes){0});
}

static void serve_have(void *arg, struct peer_request *req)
{
    struct reader r = reader_of(req->head.data, req->head.size);
    const void *session = read_bytes(&r, SESSION_ID_SIZE);
    uint32_t count = read_u32(&r);
    if (r.failed || count == 0 || count > WIRE_HAVE_MAX || reader_left(&r) != (size_t)count * 32) {
        refuse(req, TSR_EPROTO);
        return;
    }
    struct served *s = served_new(arg, req, 0);
    if (s == NULL) {
        return;
    }
    memcpy(s->chunk.session, session, SESSION_ID_SIZE);
    s->ids = malloc((size_t)count * sizeof *s->ids);
    s->present = calloc(count, 1);
    if (s->ids == NULL || s->present == NULL) {
        answer_code(s, TSR_ENOMEM);
        return;
    }
    memcpy(s->ids, read_bytes(&r, (size_t)count * 32), (size_t)count * 32);
    s->chunk.ids = s->ids;
    s->chunk.id_count = count;
    s->chunk.present = s->present;
    s->chunk.cb = have_cb;
    chunk_have(s->serve->chunks, &s->chunk);
}

/* --- put ------------------------------------------------------------------------------------ */

static void put_cb(struct chunk_req *req, int status)
{
    struct served *s = req->arg;
    uint8_t existed = req->existed;
    answer(s, status, (struct peer_bytes){&existed, status == 0}, (struct peer_bytes){0});
}

static void put_check(struct work *work)
{
    struct served *s = container_of(work, struct served, work);
    struct chunk_id is;
    digest_of(DIGEST_SHA256, s->req->body.data, s->req->body.size, is.bytes);
    s->status = chunk_id_equal(&is, &s->chunk.id) ? 0 : TSR_ECORRUPT;
}

static void put_checked(struct work *work)
{
    struct served *s = container_of(work, struct served, work);
    if (s->status != 0) {
        answer_code(s, s->status);
        return;
    }
    s->chunk.data = s->req->body.data;
    s->chunk.size = s->req->body.size;
    s->chunk.cb = put_cb;
    chunk_put(s->serve->chunks, &s->chunk);
}

static void serve_put(void *arg, struct peer_request *req)
{
    struct served *s = served_new(arg, req, WIRE_SESSION_ID);
    if (s == NULL) {
        return;
    }
    set_session_id(s);
    if (req->body.size == 0 || req->body.size > chunks_chunk_bytes(s->serve->chunks)) {
        answer_code(s, TSR_EPROTO);
        return;
    }
    s->work = (struct work){.loop = req->loop, .run = put_check, .done = put_checked};
    pool_submit(s->serve->cpu_pool, &s->work);
}

/* --- get ------------------------------------------------------------------------------------ */

static void get_cb(struct chunk_req *req, int status)
{
    struct served *s = req->arg;
    if (status == TSR_ECORRUPT) {
        status = TSR_ENOENT; /* it is out of the way: ask somebody else */
    }
    answer(s, status, (struct peer_bytes){0},
           (struct peer_bytes){s->buffer, status == 0 ? req->size_out : 0});
}

static void get_start(struct served *s)
{
    if (atomic_fetch_add(&s->serve->gets, 1) >= GETS_MAX) {
        atomic_fetch_sub(&s->serve->gets, 1);
        timer_start(&s->timer, GET_AGAIN_MS);
        return;
    }
    s->counted = true;
    s->buffer = malloc(chunks_chunk_bytes(s->serve->chunks));
    if (s->buffer == NULL) {
        answer_code(s, TSR_ENOMEM);
        return;
    }
    s->chunk.buffer = s->buffer;
    s->chunk.cb = get_cb;
    chunk_get(s->serve->chunks, &s->chunk);
}

static void get_again(struct timer *timer)
{
    get_start(container_of(timer, struct served, timer));
}

static void serve_get(void *arg, struct peer_request *req)
{
    struct served *s = served_new(arg, req, 32);
    if (s == NULL) {
        return;
    }
    memcpy(s->chunk.id.bytes, req->head.data, 32);
    timer_init(&s->timer, req->loop, get_again);
    get_start(s);
}

static void manifest_cb(struct chunk_req *req, int status)
{
    struct served *s = req->arg;
    char *data = NULL;
    size_t size = 0;
    struct chunk_id id;
    if (status == 0) {
        status = manifest_encode(&req->manifest, &data, &size, &id);
        manifest_free(&req->manifest);
    } else if (status == TSR_ECORRUPT) {
        status = TSR_ENOENT;
    }
    answer(s, status, (struct peer_bytes){0}, (struct peer_bytes){data, size});
    free(data);
}

static void serve_manifest(void *arg, struct peer_request *req)
{
    struct served *s = served_new(arg, req, 32);
    if (s == NULL) {
        return;
    }
    memcpy(s->chunk.id.bytes, req->head.data, 32);
    s->chunk.cb = manifest_cb;
    chunk_manifest_get(s->serve->chunks, &s->chunk);
}

/* --- seal, session end ---------------------------------------------------------------------- */

static void seal_cb(struct chunk_req *req, int status)
{
    struct served *s = req->arg;
    size_t size = req->missing_count * sizeof *req->missing;
    struct chunk_id *missing = req->missing;
    if (status == TSR_ENOENT && size <= PEER_BODY_MAX) {
        answer(s, status, (struct peer_bytes){0}, (struct peer_bytes){missing, size});
    } else {
        answer_code(s, status);
    }
    free(missing);
}

static void serve_seal(void *arg, struct peer_request *req)
{
    struct served *s = served_new(arg, req, WIRE_SESSION_ID);
    if (s == NULL) {
        return;
    }
    set_session_id(s);
    s->chunk.data = req->body.data;
    s->chunk.size = req->body.size;
    s->chunk.cb = seal_cb;
    chunk_seal(s->serve->chunks, &s->chunk);
}

static void session_end_cb(struct chunk_req *req, int status)
{
    answer_code(req->arg, status);
}

static void serve_session_end(void *arg, struct peer_request *req)
{
    struct served *s = served_new(arg, req, SESSION_ID_SIZE);
    if (s == NULL) {
        return;
    }
    memcpy(s->chunk.session, req->head.data, SESSION_ID_SIZE);
    s->chunk.cb = session_end_cb;
    chunk_session_end(s->serve->chunks, &s->chunk);
}

void replica_serve(struct peer_service *service, struct chunks *chunks, struct pool *cpu_pool)
{
    /* As long-lived as the table it is in: the process's (or the simulated host's) life. */
    struct serve *serve = calloc(1, sizeof *serve);
    tsr_assert(serve != NULL);
    serve->chunks = chunks;
    serve->cpu_pool = cpu_pool;
    peer_serve(service, PEER_CHUNK_HAVE, serve_have, serve);
    peer_serve(service, PEER_CHUNK_PUT, serve_put, serve);
    peer_serve(service, PEER_CHUNK_GET, serve_get, serve);
    peer_serve(service, PEER_MANIFEST_GET, serve_manifest, serve);
    peer_serve(service, PEER_SEAL, serve_seal, serve);
    peer_serve(service, PEER_SESSION_END, serve_session_end, serve);
}

void replica_serve_end(struct peer_service *service)
{
    static const enum peer_call_type types[] = {PEER_CHUNK_HAVE, PEER_CHUNK_PUT,
                                                PEER_CHUNK_GET,  PEER_MANIFEST_GET,
                                                PEER_SEAL,       PEER_SESSION_END};
    free(service->handlers[PEER_CHUNK_HAVE].arg);
    for (size_t i = 0; i < array_len(types); i++) {
        service->handlers[types[i]].fn = NULL;
        service->handlers[types[i]].arg = NULL;
    }
}
