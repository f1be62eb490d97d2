/* How replies and errors are written; each of these ends its request. See face.h. */
#include "api/face.h"
#include "api/image_face.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/log.h"

/* All replies of the identity service depend on the token, those of paths that it does not have
 * too. */
static void set_vary(struct api_req *r)
{
    if (r->segments.count > 0 && strcmp(r->segments.segment[0], "identity") == 0) {
        http_set_header(r->http, "Vary", "X-Auth-Token");
    }
}

void api_json(struct api_req *r, int status, json_t *body)
{
    size_t size = 0;
    char *text = body != NULL ? json_text(body, &size) : NULL;
    json_decref(body);
    if (text == NULL) {
        api_error(r, TSR_ENOMEM, NULL);
        return;
    }
    api_json_text(r, status, text, size);
    free(text);
}

void api_set_stale(struct api_req *r)
{
    if (r->stale) {
        struct cluster_health health;
        char value[32];
        cluster_health(r->o->cluster, &health);
        (void)snprintf(value, sizeof(value), "%llu", (unsigned long long)(health.stale_ms / 1000));
        http_set_header(r->http, "X-Tessera-Stale", value);
    }
}

void api_json_text(struct api_req *r, int status, const char *text, size_t size)
{
    api_set_stale(r);
    set_vary(r);
    http_reply(r->http, status, "application/json", text, size);
    api_replied(r);
}

void api_empty(struct api_req *r, int status)
{
    set_vary(r);
    http_reply(r->http, status, NULL, NULL, 0);
    api_replied(r);
}

void api_text(struct api_req *r, int status, const char *content_type, const char *text)
{
    http_reply(r->http, status, content_type, text, strlen(text));
    api_replied(r);
}

static const char *status_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {413, "Request Entity Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Requested Range Not Satisfiable"},
        {422, "Unprocessable Entity"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
    };
    for (size_t i = 0; i < array_len(titles); i++) {
        if (titles[i].status == status) {
            return titles[i].title;
        }
    }
    return "Error";
}

void api_error_status(struct api_req *r, int status, const char *message)
{
    if (r->route != NULL && (r->route->flags & API_DATA) != 0) {
        status = image_upload_status(r, status);
    }
    if (status == 401) {
        char url[512], header[1200];
        api_public_url(r, url, sizeof(url));
        (void)snprintf(header, sizeof(header), "Keystone uri=\"%s%s\"",
                       r->o->keystone != NULL ? r->o->keystone_uri : url,
                       r->o->keystone != NULL ? "" : "/identity/v3");
        http_set_header(r->http, "WWW-Authenticate", header);
    }
    if (status == 503 || status == 429) {
        http_set_header(r->http, "Retry-After", "1");
    }
    json_t *body = json_pack("{s:{s:i,s:s,s:s}}", "error", "code", status, "title",
                             status_title(status), "message", message);
    if (body == NULL) {
        /* A message that is no UTF-8, or no memory: the bare status still tells the truth. */
        http_reply(r->http, status, "application/json", "{\"error\": {}}", 13);
        api_replied(r);
        return;
    }
    api_json(r, status, body);
}

void api_error(struct api_req *r, int code, const struct err *err)
{
    const char *message = err != NULL && err->msg[0] != '\0' ? err->msg : err_text(code);
    int status = err_http_status(code);
    if (status == 401) {
        message = "The request you have made requires authentication.";
    }
    if (status >= 500 && status != 503) {
        log_error("api", "request failed id=%s method=%s path=%s code=%s detail=%s",
                  http_request_id(r->http), http_method_text(r->http), http_path(r->http),
                  err_name(code), message);
        message = err_text(code); /* internal text never reaches a client */
    }
    api_error_status(r, status, message);
}

void api_errorf(struct api_req *r, int code, const char *fmt, ...)
{
    struct err err = {.code = code};
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err.msg, sizeof(err.msg), fmt, args);
    va_end(args);
    api_error(r, code, &err);
}
