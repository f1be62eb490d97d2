/* One client connection and its present request, as the files of http/ share them.
 *
 *   HEAD -> BODY -> DONE -> HEAD ...          a message is read: its head, its body, all of it
 *     |       |       `---> LINGER            last reply sent, FIN sent: wait for the client's end
 *     |       |---> JUNK ---> LINGER          what comes can not be understood: dropped
 *     |       `---> DEAF                      too much or too long to drop: nothing is read
 *     `-----------> LINGER                    a bad head was answered
 * Every phase may end in the close of the connection (`dead`). */
#ifndef HTTP_SESSION_H
#define HTTP_SESSION_H

#include "http/head.h"
#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/list.h"
#include "tessera/http.h"

enum {
    HTTP_HEAD_MS = 30000,
    HTTP_IDLE_MS = 75000,
    HTTP_BODY_MS = 300000,
    HTTP_DROP_MS = 5000,
    HTTP_LINGER_MS = 2000,
    HTTP_DROP_BYTES_MAX = 64 << 20,
    HTTP_CONNECTIONS_MAX = 12000,
    HTTP_REQUEST_ID = 72,
};

enum session_phase { PHASE_HEAD, PHASE_BODY, PHASE_DONE, PHASE_JUNK, PHASE_LINGER, PHASE_DEAF };

enum session_timer {
    TIMER_NONE,
    TIMER_IDLE,
    TIMER_HEAD,
    TIMER_BODY,
    TIMER_WRITE,
    TIMER_DROP,
    TIMER_LINGER
};

enum body_mode { BODY_UNASKED, BODY_COLLECT, BODY_STREAM, BODY_DROP };

struct session {
    struct http_server *server;
    struct list link; /* in server->sessions */
    struct conn *conn;
    struct http_parse *parse;
    struct buf in; /* bytes read and not parsed yet: at most one read */
    struct http_req *req;
    enum session_phase phase;
    bool keep_alive, eof, dead, closed, pumping, posted, reading;
    struct task task; /* goes on with the session outside of any call */
    struct timer timer;
    enum session_timer timer_kind;
    uint64_t active_ms;  /* last bytes of a body, or last progress of a write */
    size_t pending_seen; /* conn_pending at the last look */
    int64_t dropped;
    struct conn_write notice; /* 100 Continue, or the answer to a bad head */
    bool notice_out;
    char notice_text[512];
};

struct http_req {
    struct session *session;
    struct http_head head;
    enum http_method method;
    const char *path, *query;
    char id[HTTP_REQUEST_ID];
    void *data;
    void (*on_abort)(struct http_req *req);

    /* its body */
    enum body_mode mode;
    bool paused;
    bool body_told; /* the body callback had its last call */
    bool invited;   /* no 100 Continue is owed */
    int body_fail;  /* to be told instead of the rest */
    http_body_cb body_cb;
    size_t collect_max;
    struct buf collected;
    int64_t received;

    /* the reply */
    struct buf headers; /* those of the handler */
    struct buf out;     /* head, or head and body */
    bool begun, ended, bodyless, out_sent;
    int64_t length, sent;
    unsigned outstanding; /* writes in the connection */
    struct conn_write out_write, data_write;
    http_write_cb write_cb; /* to be told of the present write */
    bool write_due;         /* now, with write_status */
    int write_status;
};

struct http_server {
    struct loop *loop;
    struct http_options options;
    http_handler_fn handler;
    void *arg;
    struct list sessions, listeners;
    size_t session_count, request_count;
    bool closing, close_posted;
    void (*close_cb)(void *arg);
    void *close_arg;
    struct timer drain;
    struct task task;
    uint64_t date_ms; /* when `date` was made */
    char date[64];
};

/* server.c */
void server_session_gone(struct http_server *s);
const char *server_date(struct http_server *s);

/* session.c */
void session_start(struct http_server *server, struct conn *conn);
/* Go on in a moment; safe to call from anywhere. */
void session_kick(struct session *s);
/* Go on now: from callbacks of the loop only, never from a call of the handler's. */
void session_go(struct session *s);
void session_close(struct session *s);
bool session_idle(const struct session *s);

/* request.c */
struct http_req *request_new(struct session *s);
/* A new request id, "req-<uuid>". */
void request_id_make(struct session *s, char out[HTTP_REQUEST_ID]);
void request_free(struct http_req *req);

/* body.c */
bool body_wanted(const struct http_req *req);
void body_piece(struct http_req *req, const char *data, size_t size);
/* Tell what is due (end, failure); false: nothing was. */
bool body_deliver(struct http_req *req);
/* The connection is gone. */
void body_abort(struct http_req *req);

/* reply.c */
bool reply_finished(const struct http_req *req);
bool reply_deliver(struct http_req *req);
void reply_abort(struct http_req *req);
/* Answer without a request, then close: the head was not understood. */
void reply_notice(struct session *s, int status);
void reply_continue(struct session *s);

#endif
