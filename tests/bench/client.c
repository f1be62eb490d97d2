#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

enum { OPEN_TIMEOUT_MS = 10000 };

bool client_address_ok(const char *address)
{
    if (str_starts(address, "[::1]:")) {
        return true;
    }
    unsigned part[4], port;
    char rest;
    return sscanf(address, "%3u.%3u.%3u.%3u:%5u%c", &part[0], &part[1], &part[2], &part[3], &port,
                  &rest) == 5 &&
           part[0] == 127 && part[1] < 256 && part[2] < 256 && part[3] < 256 && port < 65536;
}

/* --- replies -------------------------------------------------------------------------------- */

static void reply_end(struct client *c, int status)
{
    c->busy = false;
    c->in_body = false;
    c->head_size = 0;
    c->hooks->on_reply(c, status);
}

/* Value of a header in the complete head, or NULL; ends at its line's CR. */
static const char *find_header(const char *head, const char *name)
{
    size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, size) == 0 && line[size] == ':') {
            return line + size + 1 + strspn(line + size + 1, " ");
        }
    }
    return NULL;
}

/* The head is complete and 0-terminated. 0, or a negative code. */
static int parse_head(struct client *c)
{
    if (sscanf(c->head, "HTTP/1.%*1[01] %3d", &c->status) != 1) {
        return TSR_EPROTO;
    }
    const char *connection = find_header(c->head, "Connection");
    c->last = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    const char *length = find_header(c->head, "Content-Length");
    c->body_left = 0;
    if (c->status < 200 || c->status == 204 || c->status == 304) {
        return 0;
    }
    if (length == NULL || find_header(c->head, "Transfer-Encoding") != NULL) {
        return TSR_ENOTSUP;
    }
    char *end;
    c->body_left = strtoll(length, &end, 10);
    return end == length || c->body_left < 0 ? TSR_EPROTO : 0;
}

/* Take bytes of the head; *used says how many. 1 when it is complete, 0 when more must come. */
static int take_head(struct client *c, const char *data, size_t size, size_t *used)
{
    size_t before = c->head_size;
    size_t take = size < sizeof c->head - 1 - before ? size : sizeof c->head - 1 - before;
    memcpy(c->head + before, data, take);
    c->head_size += take;
    c->head[c->head_size] = 0;
    char *end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
    if (end == NULL) {
        *used = take;
        return c->head_size == sizeof c->head - 1 ? TSR_EHEADERS : 0;
    }
    size_t head = (size_t)(end - c->head) + 4;
    *used = head - before;
    end[2] = 0;
    c->head_size = 0;
    int status = parse_head(c);
    return status != 0 ? status : 1;
}

static void client_read_cb(struct conn *conn, void *arg, int status, const void *data, size_t size)
{
    struct client *c = arg;
    (void)conn;
    if (status != 0) {
        c->last = true;
        if (c->busy) {
            reply_end(c, status);
        }
        return;
    }
    const char *p = data;
    while (size > 0 && c->busy) {
        if (!c->in_body) {
            size_t used = 0;
            int result = take_head(c, p, size, &used);
            p += used;
            size -= used;
            if (result < 0) {
                reply_end(c, result);
                return;
            }
            if (result == 0 || c->status < 200) {
                continue; /* more to come, or an interim reply */
            }
            c->in_body = true;
            c->body_size = c->body_left;
        }
        size_t n = (int64_t)size < c->body_left ? size : (size_t)c->body_left;
        if (n > 0 && c->hooks->on_body != NULL) {
            c->hooks->on_body(c, p, n);
        }
        c->body_left -= (int64_t)n;
        p += n;
        size -= n;
        if (c->body_left == 0) {
            reply_end(c, c->status);
            return; /* nothing may follow: one exchange at a time */
        }
    }
}

/* --- life ----------------------------------------------------------------------------------- */

static void client_open_cb(struct conn *conn, void *arg, int status)
{
    struct client *c = arg;
    if (status == 0) {
        conn_read_start(conn, client_read_cb, c);
    }
    c->hooks->on_open(c, status);
}

int client_open(struct client *c, struct loop *loop, const char *address, struct tls *tls,
                const struct client_hooks *hooks)
{
    memset(c, 0, offsetof(struct client, head));
    c->hooks = hooks;
    return conn_open(loop, address, tls, NULL, OPEN_TIMEOUT_MS, client_open_cb, c, &c->conn);
}

bool client_prepare(struct client *c, const char *method, const char *path, const char *token,
                    const char *more_headers, const void *body, int64_t body_size)
{
    char length[64] = "";
    if (body_size >= 0) {
        snprintf(length, sizeof length, "Content-Length: %lld\r\n", (long long)body_size);
    }
    int n = snprintf(c->request, sizeof c->request,
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: %s\r\n%s%s\r\n", method,
                     path, token, more_headers, length);
    if (n < 0 || (size_t)n >= sizeof c->request) {
        return false;
    }
    c->request_size = (size_t)n;
    if (body != NULL) {
        if ((size_t)body_size > sizeof c->request - c->request_size) {
            return false;
        }
        memcpy(c->request + c->request_size, body, (size_t)body_size);
        c->request_size += (size_t)body_size;
    }
    return true;
}

static void write_request(struct client *c);

static void client_write_cb(struct conn_write *req, int status)
{
    struct client *c = container_of(req, struct client, write);
    (void)status; /* a connection that broke is also told to the reader */
    c->writing = false;
    if (c->send_waits && c->conn != NULL) {
        c->send_waits = false;
        write_request(c);
    }
}

static void write_request(struct client *c)
{
    c->writing = true;
    c->write = (struct conn_write){.cb = client_write_cb, .iov_count = 1};
    c->write.iov[0] = (struct iovec){c->request, c->request_size};
    conn_write(c->conn, &c->write);
}

void client_send(struct client *c)
{
    tsr_assert(!c->busy);
    c->busy = true;
    c->head_size = 0;
    if (c->writing) {
        c->send_waits = true; /* the reply has overtaken the completion of its request's write */
    } else {
        write_request(c);
    }
}

void client_close(struct client *c, conn_close_cb cb, void *arg)
{
    struct conn *conn = c->conn;
    c->conn = NULL;
    conn_close(conn, cb, arg);
}
