/* Request bodies: whole or piece by piece, with flow control. */
#include "http/session.h"

static bool asked(const struct http_req *req)
{
    return req->mode == BODY_COLLECT || req->mode == BODY_STREAM;
}

/* Whether the parser may go on with this body. */
bool body_wanted(const struct http_req *req)
{
    return req->mode == BODY_DROP ||
           (asked(req) && !req->body_told && !req->paused && req->body_fail == 0);
}

static void ask(struct http_req *req, enum body_mode mode, http_body_cb cb)
{
    tsr_assert(req->mode == BODY_UNASKED && !req->ended && req->body_cb == NULL);
    req->mode = mode;
    req->body_cb = cb;
    struct session *s = req->session;
    if (!req->invited && req->body_fail == 0 && s->phase == PHASE_BODY && !s->dead) {
        req->invited = true;
        if (req->received == 0 && s->in.size == 0) {
            reply_continue(s);
        }
    }
    session_kick(s);
}

void http_body_collect(struct http_req *req, size_t max, http_body_cb cb)
{
    req->collect_max = max;
    if (req->head.content_length > 0 && (uint64_t)req->head.content_length > max) {
        req->body_fail = TSR_ETOOBIG; /* such a body is not invited either */
    }
    ask(req, BODY_COLLECT, cb);
}

void http_body_stream(struct http_req *req, http_body_cb cb)
{
    ask(req, BODY_STREAM, cb);
}

void http_body_pause(struct http_req *req)
{
    req->paused = true;
}

void http_body_resume(struct http_req *req)
{
    if (req->paused) {
        req->paused = false;
        session_kick(req->session);
    }
}

void body_piece(struct http_req *req, const char *data, size_t size)
{
    req->received += (int64_t)size;
    switch (req->mode) {
    case BODY_STREAM:
        req->body_cb(req, 0, data, size);
        break;
    case BODY_COLLECT:
        if (size > req->collect_max - req->collected.size) {
            req->body_fail = TSR_ETOOBIG;
        } else if (buf_append(&req->collected, data, size) != 0) {
            req->body_fail = TSR_ENOMEM;
        }
        break;
    default:
        req->session->dropped += (int64_t)size;
        break;
    }
}

bool body_deliver(struct http_req *req)
{
    struct session *s = req->session;
    if (!asked(req) || req->body_told || req->paused) {
        return false;
    }
    if (req->body_fail != 0) {
        req->body_told = true;
        req->mode = BODY_UNASKED;
        buf_free(&req->collected);
        req->body_cb(req, req->body_fail, NULL, 0);
        return true;
    }
    if (s->phase != PHASE_DONE) {
        return false;
    }
    req->body_told = true;
    if (req->mode == BODY_COLLECT) {
        const char *data = req->collected.data != NULL ? req->collected.data : "";
        req->body_cb(req, 0, data, req->collected.size);
    } else {
        req->body_cb(req, 0, NULL, 0);
    }
    return true;
}

void body_abort(struct http_req *req)
{
    if (asked(req) && !req->body_told && !req->ended) {
        req->body_told = true;
        req->body_cb(req, req->body_fail != 0 ? req->body_fail : TSR_EEOF, NULL, 0);
    }
}
