/* The request as its handler sees it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/session.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

static enum http_method method_of(const char *text)
{
    static const struct {
        const char *text;
        enum http_method method;
    } methods[] = {
        {"GET", HTTP_METHOD_GET},         {"HEAD", HTTP_METHOD_HEAD},
        {"POST", HTTP_METHOD_POST},       {"PUT", HTTP_METHOD_PUT},
        {"PATCH", HTTP_METHOD_PATCH},     {"DELETE", HTTP_METHOD_DELETE},
        {"OPTIONS", HTTP_METHOD_OPTIONS},
    };
    for (size_t i = 0; i < array_len(methods); i++) {
        if (strcmp(methods[i].text, text) == 0) {
            return methods[i].method;
        }
    }
    return HTTP_METHOD_OTHER;
}

static bool id_valid(const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr("._-", text[i]) == NULL) {
            return false;
        }
    }
    return size > 0 && size <= 64;
}

void request_id_make(struct session *s, char out[HTTP_REQUEST_ID])
{
    uint8_t random[16];
    memcpy(out, "req-", 4);
    loop_random(s->server->loop, random, sizeof random);
    uuid_format(random, out + 4);
}

static void id_set(struct http_req *req)
{
    const char *given = http_head_get(&req->head, "x-openstack-request-id");
    if (given != NULL && id_valid(given)) {
        str_copy(req->id, sizeof req->id, given);
        return;
    }
    request_id_make(req->session, req->id);
}

/* From the head that the session's parser has just completed. NULL when out of memory. */
struct http_req *request_new(struct session *s)
{
    struct http_req *req = calloc(1, sizeof *req);
    if (req == NULL) {
        return NULL;
    }
    req->session = s;
    http_parse_take_head(s->parse, &req->head);
    req->method = method_of(req->head.method);
    req->path = req->head.target;
    req->query = "";
    char *mark = strchr(req->head.target, '?');
    if (mark != NULL) {
        *mark = 0;
        req->query = mark + 1;
    }
    const char *expect = http_head_get(&req->head, "expect");
    req->invited = !(expect != NULL && str_ieq(expect, "100-continue") && req->head.minor > 0);
    id_set(req);
    return req;
}

void request_free(struct http_req *req)
{
    http_head_free(&req->head);
    buf_free(&req->collected);
    buf_free(&req->headers);
    buf_free(&req->out);
    free(req);
}

enum http_method http_method(const struct http_req *req)
{
    return req->method;
}

const char *http_method_text(const struct http_req *req)
{
    return req->head.method;
}

const char *http_path(const struct http_req *req)
{
    return req->path;
}

const char *http_query(const struct http_req *req)
{
    return req->query;
}

const char *http_header(const struct http_req *req, const char *name)
{
    return http_head_get(&req->head, name);
}

bool http_header_at(const struct http_req *req, size_t n, const char **name_out,
                    const char **value_out)
{
    if (n >= req->head.field_count) {
        return false;
    }
    *name_out = req->head.text + req->head.fields[n].name;
    *value_out = req->head.text + req->head.fields[n].value;
    return true;
}

bool http_is_1_0(const struct http_req *req)
{
    return req->head.minor == 0;
}

int64_t http_content_length(const struct http_req *req)
{
    return req->head.content_length;
}

bool http_has_body(const struct http_req *req)
{
    return req->head.content_length != 0;
}

struct conn *http_conn(const struct http_req *req)
{
    return req->session->conn;
}

struct loop *http_loop(const struct http_req *req)
{
    return req->session->server->loop;
}

static bool host_valid(const char *host)
{
    size_t size = strlen(host);
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)host[i]) && strchr("-._~:[]%", host[i]) == NULL) {
            return false;
        }
    }
    return size > 0 && size <= 255;
}

/* RFC 9112 section 3.2.2: the authority of an absolute-form target goes before the Host field. */
void http_origin(const struct http_req *req, char *out, size_t size)
{
    const struct conn *c = req->session->conn;
    const char *host = req->head.authority;
    if (host == NULL) {
        host = http_head_get(&req->head, "host");
    }
    if (host == NULL || !host_valid(host)) {
        host = conn_local_address(c);
    }
    snprintf(out, size, "%s://%s", conn_is_tls(c) ? "https" : "http",
             *host != 0 ? host : "localhost");
}

const char *http_request_id(const struct http_req *req)
{
    return req->id;
}

void http_set_data(struct http_req *req, void *data)
{
    req->data = data;
}

void *http_data(const struct http_req *req)
{
    return req->data;
}

void http_on_abort(struct http_req *req, void (*cb)(struct http_req *req))
{
    req->on_abort = cb;
}

bool http_replied(const struct http_req *req)
{
    return req->begun;
}
