/* Consensus links: receiving (see raft_link.c). */
#include "peer/raft_link.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/metric.h"
#include "tessera/base/str.h"

enum { HELLO_MS = 5000, LIVE_MS = 2000, IN_MAX = 256, BUFFER_KEPT = 1024 * 1024 };

/* --- receiving
 * --------------------------------------------------------------------------------------------- */

static void in_closed_cb(struct conn *conn, void *arg)
{
    struct raft_in *in = arg;
    struct raft_links *links = in->links;
    (void)conn;
    list_remove(&in->node);
    links->in_count--;
    free(in->data);
    free(in);
    raft_links_check_closed(links);
}

void raft_in_close(struct raft_in *in)
{
    if (in->closing) {
        return;
    }
    in->closing = true;
    timer_stop(&in->hello_timer);
    conn_close(in->conn, in_closed_cb, in);
    if (in->from && !in->links->closing) {
        in->links->disconnected(in->links->arg, in->from);
    }
}

static void in_drop(struct raft_in *in, enum metric why)
{
    metric_add(why, 1);
    raft_in_close(in);
}

/* The connection under that raft id, of which there is one at most. */
static struct raft_in *in_older(const struct raft_in *in, uint64_t from)
{
    list_each(node, &in->links->ins)
    {
        struct raft_in *other = container_of(node, struct raft_in, node);
        if (other != in && other->from == from && !other->closing) {
            return other;
        }
    }
    return NULL;
}

struct refusal {
    struct conn_write write;
    struct raft_in *in;
    uint8_t bytes[RAFT_REFUSED_SIZE];
};

static void refusal_written_cb(struct conn_write *write, int status)
{
    struct refusal *r = container_of(write, struct refusal, write);
    struct raft_in *in = r->in;
    (void)status;
    free(r);
    raft_in_close(in);
}

static void in_refuse(struct raft_in *in, int code)
{
    struct refusal *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        raft_in_close(in);
        return;
    }
    r->in = in;
    raft_refused_encode(code, r->bytes);
    r->write.cb = refusal_written_cb;
    r->write.fd = -1;
    r->write.iov[0] = (struct iovec){r->bytes, sizeof(r->bytes)};
    r->write.iov_count = 1;
    conn_read_stop(in->conn);
    in->refused = true;
    conn_write(in->conn, &r->write);
}

static bool in_admitted(struct raft_in *in, const struct raft_hello *hello)
{
    struct raft_links *links = in->links;
    const struct raft_in *older = in_older(in, hello->raft_id);
    bool live = older != NULL && older->mark != hello->life.mark &&
                loop_now_ms(links->loop) - older->heard_ms < LIVE_MS;
    int rv =
        links->admit != NULL ? links->admit(links->arg, hello->raft_id, &hello->life, live) : 0;
    if (rv != 0) {
        in_refuse(in, rv);
    }
    return rv == 0;
}

static void in_hello(struct raft_in *in)
{
    struct raft_links *links = in->links;
    struct raft_hello hello;
    if (raft_hello_decode(in->data, in->size, &hello) != 0) {
        in_drop(in, METRIC_peer_bad_frames_total);
        return;
    }
    if (hello.raft_id >> 16 != in->host_id || hello.raft_id == links->hello.raft_id ||
        strcmp(hello.cluster_id, links->hello.cluster_id) != 0) {
        in_drop(in, METRIC_peer_bad_names_total);
        return;
    }
    timer_stop(&in->hello_timer);
    if (!in_admitted(in, &hello)) {
        return;
    }
    struct raft_in *older = in_older(in, hello.raft_id);
    if (older != NULL) {
        raft_in_close(older);
    }
    if (in->closing || links->closing) {
        return; /* the callback did that */
    }
    in->from = hello.raft_id;
    in->mark = hello.life.mark;
    struct raft_out *o = raft_out_get(links, hello.raft_id);
    if (o) {
        str_copy(o->told, sizeof(o->told), hello.address);
    }
}

static void in_frame(struct raft_in *in)
{
    struct raft_links *links = in->links;
    in->heard_ms = loop_now_ms(links->loop);
    if ((in->from == 0) != (in->kind == RAFT_FRAME_HELLO)) {
        in_drop(in, METRIC_peer_bad_frames_total);
    } else if (in->kind == RAFT_FRAME_HELLO) {
        in_hello(in);
    } else if (links->receive(links->arg, in->from, in->data, in->size) != 0) {
        in_drop(in, METRIC_peer_bad_frames_total);
    }
    in->header_have = in->have = in->size = 0;
    if (in->capacity > BUFFER_KEPT) {
        free(in->data);
        in->data = NULL;
        in->capacity = 0;
    }
}

/* The header is whole: check it, then make room for what it announces. */
static bool in_begin(struct raft_in *in)
{
    size_t max = in->from ? RAFT_FRAME_MAX : RAFT_HELLO_MAX;
    if (raft_frame_decode(in->header, max, &in->kind, &in->size) != 0) {
        in_drop(in, METRIC_peer_bad_frames_total);
        return false;
    }
    if (in->capacity < in->size) {
        free(in->data);
        in->data = malloc(in->size);
        in->capacity = in->data ? in->size : 0;
        if (!in->data) {
            raft_in_close(in);
            return false;
        }
    }
    return true;
}

static size_t copy_some(uint8_t *out, size_t want, const uint8_t **data, size_t *size)
{
    size_t n = want < *size ? want : *size;
    if (n > 0) {
        memcpy(out, *data, n);
    }
    *data += n;
    *size -= n;
    return n;
}

static void in_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct raft_in *in = arg;
    const uint8_t *at = data;
    (void)conn;
    if (status != 0) {
        raft_in_close(in);
        return;
    }
    while (size > 0 && !in->closing && !in->refused) {
        if (in->header_have < RAFT_FRAME_HEADER) {
            in->header_have += copy_some(in->header + in->header_have,
                                         RAFT_FRAME_HEADER - in->header_have, &at, &size);
            if (in->header_have == RAFT_FRAME_HEADER && !in_begin(in)) {
                return;
            }
            continue;
        }
        in->have += copy_some(in->data + in->have, in->size - in->have, &at, &size);
        if (in->have == in->size) {
            in_frame(in);
        }
    }
}

static void hello_timer_cb(struct timer *timer)
{
    in_drop(container_of(timer, struct raft_in, hello_timer), METRIC_peer_stalled_total);
}

void raft_in_accept(struct listener *listener, void *arg, struct conn *conn)
{
    struct raft_links *links = arg;
    uint64_t host_id = 0;
    (void)listener;
    bool known = peer_cert_parse(conn_peer_name(conn), links->hello.cluster_id, &host_id);
    if (!known) {
        metric_add(METRIC_peer_bad_names_total, 1);
    }
    bool room = !links->closing && links->in_count < IN_MAX;
    struct raft_in *in = known && room ? calloc(1, sizeof(*in)) : NULL;
    if (!in) {
        conn_close(conn, NULL, NULL);
        return;
    }
    in->links = links;
    in->conn = conn;
    in->host_id = host_id;
    list_push(&links->ins, &in->node);
    links->in_count++;
    timer_init(&in->hello_timer, links->loop, hello_timer_cb);
    timer_start(&in->hello_timer, HELLO_MS);
    conn_read_start(conn, in_read_cb, in);
}
