/* One big body up or down, made from the seed while it is sent, so that reading a source or writing
 * a copy costs nothing. --check makes the same bytes again and compares; --sha512 hashes them.
 *
 * The clock runs from the first byte of the request to the last byte of the answer. `body_seconds`
 * of an upload ends when the last byte was handed to the kernel, of a download it begins with the
 * first byte of the body. A broken connection or another status than the expected one fails. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "client.h"
#include "load.h"
#include "stream.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/err.h"

enum { PIECE_BYTES = 256 << 10, PIECES = 2, CHUNK_HEAD = 32 };

struct piece {
    struct conn_write write;
    struct transfer *transfer;
    bool out;
    char head[CHUNK_HEAD];
    char data[PIECE_BYTES];
};

struct transfer {
    const struct load_options *options;
    struct loop *loop;
    struct client client;
    bool upload, damaged, ended;
    uint64_t start_ns, body_ns; /* body_ns: the body's last byte up, or first byte down */
    int64_t done;
    struct digest *digest;
    struct piece pieces[PIECES];
    char expected[64 << 10];
};

static struct transfer transfer;

/* --- figures -------------------------------------------------------------------------------- */

static double own_cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void tell(struct transfer *t, int status)
{
    uint64_t now = loop_now_ns(t->loop);
    double seconds = (double)(now - t->start_ns) / 1e9;
    double body =
        t->upload ? (double)(t->body_ns - t->start_ns) / 1e9 : (double)(now - t->body_ns) / 1e9;
    json_t *result = json_pack("{s:i,s:I,s:f,s:f,s:f,s:f}", "status", status, "bytes",
                               (json_int_t)t->done, "seconds", seconds, "mib_per_second",
                               seconds > 0 ? (double)t->done / 1048576.0 / seconds : 0.0,
                               "body_seconds", body, "client_cpu_seconds", own_cpu_seconds());
    if (t->digest != NULL) {
        uint8_t value[DIGEST_MAX];
        char hex[2 * DIGEST_MAX + 1];
        digest_final(t->digest, value);
        for (size_t i = 0; i < digest_size(DIGEST_SHA512); i++) {
            snprintf(hex + 2 * i, 3, "%02x", value[i]);
        }
        json_object_set_new(result, "sha512", json_string(hex));
    }
    load_done(result);
}

static void on_reply(struct client *c, int status)
{
    struct transfer *t = container_of(c, struct transfer, client);
    if (t->ended) {
        return;
    }
    t->ended = true;
    char what[96];
    if (status < 0) {
        load_failed(t->upload ? "upload" : "download", status);
    } else if (t->damaged) {
        load_failed("the bytes that came are not those of the seed", TSR_ECORRUPT);
    } else if (status != (t->upload ? 204 : 200)) {
        snprintf(what, sizeof what, "HTTP status %d", status);
        load_failed(what, TSR_EPROTO);
    } else if (t->done != t->options->size) {
        load_failed("the body has another size", TSR_EPROTO);
    } else {
        tell(t, status);
    }
}

/* --- up ------------------------------------------------------------------------------------- */

static void send_pieces(struct transfer *t);

static void piece_cb(struct conn_write *req, int status)
{
    struct piece *p = container_of(req, struct piece, write);
    p->out = false;
    if (status == 0) {
        send_pieces(p->transfer);
    }
}

static void send_piece(struct transfer *t, struct piece *p)
{
    int64_t left = t->options->size - t->done;
    size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
    stream_fill(t->options->seed, (uint64_t)t->done, p->data, size);
    if (t->digest != NULL) {
        digest_update(t->digest, p->data, size);
    }
    p->write = (struct conn_write){.cb = piece_cb};
    if (t->options->chunked) {
        int head = snprintf(p->head, sizeof p->head, "%zx\r\n", size);
        p->write.iov[p->write.iov_count++] = (struct iovec){p->head, (size_t)head};
    }
    p->write.iov[p->write.iov_count++] = (struct iovec){p->data, size};
    if (t->options->chunked) {
        bool last = left <= PIECE_BYTES;
        static char end[] = "\r\n", finish[] = "\r\n0\r\n\r\n";
        p->write.iov[p->write.iov_count++] =
            (struct iovec){last ? finish : end, last ? sizeof finish - 1 : sizeof end - 1};
    }
    p->out = true;
    t->done += (int64_t)size;
    conn_write(t->client.conn, &p->write);
}

static void send_pieces(struct transfer *t)
{
    for (int i = 0; i < PIECES && t->done < t->options->size && !t->ended; i++) {
        if (!t->pieces[i].out) {
            send_piece(t, &t->pieces[i]);
        }
    }
    if (t->done == t->options->size) {
        t->body_ns = loop_now_ns(t->loop);
    }
}

/* --- down ----------------------------------------------------------------------------------- */

static void check(struct transfer *t, const char *data, size_t size)
{
    /* Generation goes by words of 8 bytes, arrival does not. */
    uint64_t from = (uint64_t)t->done & ~UINT64_C(7);
    size_t skip = (size_t)((uint64_t)t->done - from);
    stream_fill(t->options->seed, from, t->expected, skip + size);
    t->damaged |= memcmp(t->expected + skip, data, size) != 0;
}

static void on_body(struct client *c, const void *data, size_t size)
{
    struct transfer *t = container_of(c, struct transfer, client);
    const char *p = data;
    if (t->upload || c->status != 200) {
        fprintf(stderr, "%.*s\n", (int)(size < 500 ? size : 500), p); /* an error's text */
        return;
    }
    if (t->done == 0) {
        t->body_ns = loop_now_ns(t->loop);
    }
    if (t->digest != NULL) {
        digest_update(t->digest, data, size);
    }
    while (size > 0) {
        size_t n = size < sizeof t->expected - 8 ? size : sizeof t->expected - 8;
        if (t->options->check) {
            check(t, p, n);
        }
        t->done += (int64_t)n;
        p += n;
        size -= n;
    }
}

/* --- start ---------------------------------------------------------------------------------- */

static void on_open(struct client *c, int status)
{
    struct transfer *t = container_of(c, struct transfer, client);
    const struct load_options *o = t->options;
    char path[128];
    if (status != 0) {
        load_failed("connect", status);
        return;
    }
    snprintf(path, sizeof path, "/v2/images/%s/file", o->image);
    const char *more = !t->upload   ? ""
                       : o->chunked ? "Content-Type: application/octet-stream\r\n"
                                      "Transfer-Encoding: chunked\r\n"
                                    : "Content-Type: application/octet-stream\r\n";
    if (!client_prepare(c, t->upload ? "PUT" : "GET", path, o->tokens[0], more, NULL,
                        t->upload && !o->chunked ? o->size : -1)) {
        load_failed("the request does not fit", TSR_ETOOBIG);
        return;
    }
    t->start_ns = loop_now_ns(t->loop);
    client_send(c);
    if (t->upload) {
        send_pieces(t);
    }
}

static const struct client_hooks hooks = {on_open, on_body, on_reply};

static int start(const struct load_options *options, struct loop *loop, bool upload)
{
    struct transfer *t = &transfer;
    t->options = options;
    t->loop = loop;
    t->upload = upload;
    for (int i = 0; i < PIECES; i++) {
        t->pieces[i].transfer = t;
    }
    if (options->sha512 && (t->digest = digest_new(DIGEST_SHA512)) == NULL) {
        return TSR_ENOMEM;
    }
    return client_open(&t->client, loop, options->addresses[0], options->tls, &hooks);
}

int upload_start(const struct load_options *options, struct loop *loop)
{
    return start(options, loop, true);
}

int download_start(const struct load_options *options, struct loop *loop)
{
    return start(options, loop, false);
}
