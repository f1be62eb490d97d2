/* Outgoing HTTP over libcurl's easy interface: one handle a call, or a session's.
 *
 * A pin replaces OpenSSL's check of the chain: the last certificate shown must have the fingerprint
 * and must really have signed the server's (tls_chain_check); names are not looked at, as the one
 * who joins may know the host by an address only. */
#include "tessera/sys/http_client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sys/tls.h"
#include "tessera/base/digest.h"

enum {
    CLIENT_CONNECT_MS = 15000,
    CLIENT_STALL_MS = 120000,
    CLIENT_REPLY_MAX = 16 << 20,
    CLIENT_HEADERS_MAX = 256 << 10,
};

struct call {
    const struct http_client_request *request;
    struct http_client_reply *reply;
    CURL *curl;
    struct curl_slist *headers;
    size_t body_at;
    size_t reply_max;
    int status;   /* why a callback ended the call */
    bool refused; /* an address was */
};

static void curl_start(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* --- callbacks ------------------------------------------------------------------------------ */

static size_t header_cb(char *data, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    struct buf *headers = &call->reply->headers;
    size_t bytes = size * count;
    if (bytes >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        buf_clear(headers); /* after 100 Continue comes the real head */
    }
    if (headers->size + bytes > CLIENT_HEADERS_MAX || buf_append(headers, data, bytes) != 0) {
        call->status = TSR_ETOOBIG;
        return 0;
    }
    return bytes;
}

static size_t reply_cb(char *data, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    struct buf *body = &call->reply->body;
    size_t bytes = size * count;
    long status = 0;
    curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
    if (call->request->write_body != NULL && status >= 200 && status < 300) {
        int result = call->request->write_body(call->request->arg, data, bytes);
        if (result != 0) {
            call->status = result;
            return bytes + 1; /* unlike any good answer, also for 0 bytes */
        }
        return bytes;
    }
    if (bytes > call->reply_max - body->size) {
        call->status = TSR_ETOOBIG;
    } else if (buf_append(body, data, bytes) != 0) {
        call->status = TSR_ENOMEM;
    } else {
        return bytes;
    }
    return bytes + 1;
}

static size_t body_cb(char *out, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    const struct http_client_request *r = call->request;
    size_t room = size * count;
    long n;
    if (r->read_body != NULL) {
        n = r->read_body(r->arg, out, room);
    } else {
        size_t left = r->body_size - call->body_at;
        n = (long)(left < room ? left : room);
        memcpy(out, (const char *)r->body + call->body_at, (size_t)n);
        call->body_at += (size_t)n;
    }
    if (n < 0) {
        call->status = (int)n;
        return CURL_READFUNC_ABORT;
    }
    return (size_t)n;
}

/* libcurl asks for this when it has to send a body in memory again on another connection. */
static int seek_cb(void *arg, curl_off_t offset, int origin)
{
    struct call *call = arg;
    if (call->request->body == NULL || origin != SEEK_SET || offset < 0 ||
        (size_t)offset > call->request->body_size) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    call->body_at = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int progress_cb(void *arg, curl_off_t received_total, curl_off_t received,
                       curl_off_t sent_total, curl_off_t sent)
{
    struct call *call = arg;
    const struct http_client_request *r = call->request;
    if (r->progress != NULL) {
        r->progress(r->arg, sent, sent_total, received, received_total);
    }
    if (r->stop != NULL && r->stop(r->arg)) {
        call->status = TSR_ECANCELED;
        return 1;
    }
    return 0;
}

/* The one place where connections of a call begin. */
static curl_socket_t socket_cb(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct call *call = arg;
    const struct http_client_request *r = call->request;
    if (purpose != CURLSOCKTYPE_IPCXN || !r->address_allowed(r->address_arg, &address->addr)) {
        call->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int pin_check_cb(X509_STORE_CTX *ctx, void *arg)
{
    struct call *call = arg;
    uint8_t leaf[32], root[32];
    int status = tls_chain_check(X509_STORE_CTX_get0_cert(ctx), X509_STORE_CTX_get0_untrusted(ctx),
                                 leaf, root);
    if (status == 0 && digest_compare(root, call->request->pin_root_sha256, sizeof root) == 0) {
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return 1;
    }
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_UNTRUSTED);
    call->status = TSR_EUNAUTHORIZED;
    return 0;
}

static CURLcode pin_setup_cb(CURL *curl, void *ssl_ctx, void *arg)
{
    (void)curl;
    SSL_CTX_set_verify(ssl_ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ssl_ctx, pin_check_cb, arg);
    return CURLE_OK;
}

/* --- setting up ----------------------------------------------------------------------------- */

#define SET(option, value) (curl_easy_setopt(curl, option, value) == CURLE_OK)

static bool set_trust(struct call *call)
{
    const struct http_client_request *r = call->request;
    CURL *curl = call->curl;
    bool ok = true;
    if (r->pin_root_sha256 != NULL) {
        return SET(CURLOPT_SSL_VERIFYHOST, 0L) && SET(CURLOPT_SSL_CTX_DATA, call) &&
               SET(CURLOPT_SSL_CTX_FUNCTION, pin_setup_cb);
    }
    if (r->ca_pem != NULL) {
        struct curl_blob blob = {(void *)(uintptr_t)r->ca_pem, strlen(r->ca_pem), CURL_BLOB_COPY};
        ok = SET(CURLOPT_CAINFO_BLOB, &blob);
    } else if (r->ca_file != NULL) {
        ok = SET(CURLOPT_CAINFO, r->ca_file);
    }
    if (r->ca_pem != NULL || r->ca_file != NULL) {
        ok = ok && SET(CURLOPT_CAPATH, NULL); /* these only, not the system's beside them */
    }
    return ok;
}

static bool header_add(struct call *call, const char *text)
{
    struct curl_slist *more = curl_slist_append(call->headers, text);
    if (more == NULL) {
        return false;
    }
    call->headers = more;
    return true;
}

static bool has_body(const struct http_client_request *r)
{
    return r->body != NULL || r->read_body != NULL;
}

/* -1: not known beforehand. */
static int64_t body_size(const struct http_client_request *r)
{
    return r->read_body != NULL ? r->read_size : (int64_t)r->body_size;
}

static bool set_headers(struct call *call)
{
    const struct http_client_request *r = call->request;
    CURL *curl = call->curl;
    /* A host refuses early by itself; waiting for 100 Continue only costs a round trip. */
    char type[256];
    bool ok = header_add(call, "Expect:");
    if (ok && r->content_type != NULL) {
        int n = snprintf(type, sizeof type, "Content-Type: %s", r->content_type);
        ok = n > 0 && (size_t)n < sizeof type && strpbrk(type, "\r\n") == NULL &&
             header_add(call, type);
    }
    for (size_t i = 0; i < r->header_count && ok; i++) {
        ok = strpbrk(r->headers[i], "\r\n") == NULL && header_add(call, r->headers[i]);
    }
    if (ok && has_body(r) && body_size(r) < 0) {
        ok = header_add(call, "Transfer-Encoding: chunked");
    }
    return ok && SET(CURLOPT_HTTPHEADER, call->headers);
}

static bool method_is(const struct http_client_request *r, const char *method)
{
    return r->method != NULL && strcasecmp(r->method, method) == 0;
}

static bool set_body(struct call *call)
{
    const struct http_client_request *r = call->request;
    CURL *curl = call->curl;
    bool ok = true;
    if (has_body(r)) {
        ok = SET(CURLOPT_UPLOAD, 1L) && SET(CURLOPT_READFUNCTION, body_cb) &&
             SET(CURLOPT_READDATA, call) && SET(CURLOPT_SEEKFUNCTION, seek_cb) &&
             SET(CURLOPT_SEEKDATA, call) && SET(CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10) &&
             (body_size(r) < 0 || SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)body_size(r)));
    } else if (method_is(r, "HEAD")) {
        ok = SET(CURLOPT_NOBODY, 1L);
    } else if (method_is(r, "POST") || method_is(r, "PUT") || method_is(r, "PATCH")) {
        ok = SET(CURLOPT_POST, 1L) && SET(CURLOPT_POSTFIELDS, "") &&
             SET(CURLOPT_POSTFIELDSIZE, 0L) &&
             (r->content_type != NULL || header_add(call, "Content-Type:"));
    }
    return ok && (r->method == NULL || SET(CURLOPT_CUSTOMREQUEST, r->method));
}

static long stall_seconds(const struct http_client_request *r)
{
    uint64_t ms = r->stall_timeout_ms != 0 ? r->stall_timeout_ms : CLIENT_STALL_MS;
    return (long)((ms + 999) / 1000);
}

static bool set_all(struct call *call, char error[CURL_ERROR_SIZE])
{
    const struct http_client_request *r = call->request;
    CURL *curl = call->curl;
    uint64_t connect_ms = r->connect_timeout_ms != 0 ? r->connect_timeout_ms : CLIENT_CONNECT_MS;
    bool ok = SET(CURLOPT_URL, r->url) && SET(CURLOPT_ERRORBUFFER, error) &&
              SET(CURLOPT_PROTOCOLS_STR, "http,https") && SET(CURLOPT_NOSIGNAL, 1L) &&
              SET(CURLOPT_PROXY, "") && SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
              SET(CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms) &&
              SET(CURLOPT_TIMEOUT_MS, (long)r->timeout_ms) && SET(CURLOPT_LOW_SPEED_LIMIT, 1L) &&
              SET(CURLOPT_LOW_SPEED_TIME, stall_seconds(r)) &&
              SET(CURLOPT_HEADERFUNCTION, header_cb) && SET(CURLOPT_HEADERDATA, call) &&
              SET(CURLOPT_WRITEFUNCTION, reply_cb) && SET(CURLOPT_WRITEDATA, call) &&
              SET(CURLOPT_BUFFERSIZE, 256L << 10);
    if (ok && r->unix_socket != NULL) {
        ok = SET(CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
    }
    if (ok && r->address_allowed != NULL) {
        ok = SET(CURLOPT_OPENSOCKETFUNCTION, socket_cb) && SET(CURLOPT_OPENSOCKETDATA, call);
    }
    if (ok && (r->progress != NULL || r->stop != NULL)) {
        ok = SET(CURLOPT_NOPROGRESS, 0L) && SET(CURLOPT_XFERINFOFUNCTION, progress_cb) &&
             SET(CURLOPT_XFERINFODATA, call);
    }
    return ok && set_trust(call) && set_body(call) && set_headers(call);
}

/* --- the call ------------------------------------------------------------------------------- */

static int code_of(CURLcode result)
{
    switch (result) {
    case CURLE_OK:
        return 0;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return TSR_EINVAL;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return TSR_ECONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return TSR_ETIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return TSR_EUNAUTHORIZED;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
        return TSR_EEOF;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_READ_ERROR:
    case CURLE_WRITE_ERROR:
        return TSR_EIO;
    case CURLE_OUT_OF_MEMORY:
        return TSR_ENOMEM;
    default:
        return TSR_EPROTO;
    }
}

struct http_client_session {
    CURL *curl; /* its connections outlive a call and its options */
};

static CURL *handle_new(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    tls_ignore_sigpipe(); /* libcurl's TLS writes with write(2) */
    pthread_once(&once, curl_start);
    return curl_easy_init();
}

struct http_client_session *http_client_session_new(void)
{
    struct http_client_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    session->curl = handle_new();
    if (session->curl == NULL) {
        free(session);
        return NULL;
    }
    return session;
}

void http_client_session_free(struct http_client_session *session)
{
    if (session != NULL) {
        curl_easy_cleanup(session->curl);
        free(session);
    }
}

static void handle_done(struct http_client_session *session, CURL *curl)
{
    if (session != NULL) {
        curl_easy_reset(curl); /* nothing of this call's is pointed to */
    } else {
        curl_easy_cleanup(curl);
    }
}

int http_client_call(const struct http_client_request *request, struct http_client_reply *reply,
                     struct err *err)
{
    char error[CURL_ERROR_SIZE] = "";
    memset(reply, 0, sizeof *reply);
    struct call call = {.request = request, .reply = reply};
    call.curl = request->session != NULL ? request->session->curl : handle_new();
    call.reply_max = request->reply_max != 0 ? request->reply_max : CLIENT_REPLY_MAX;
    if (call.curl == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    int status = TSR_EINVAL;
    CURLcode result = CURLE_OK;
    if (set_all(&call, error)) {
        result = curl_easy_perform(call.curl);
        status = result != CURLE_OK && call.status != 0 ? call.status : code_of(result);
        if (result == CURLE_COULDNT_CONNECT && call.refused) {
            status = TSR_EFORBIDDEN;
            (void)snprintf(error, sizeof error, "the address is not allowed");
        }
    }
    long code = 0;
    curl_easy_getinfo(call.curl, CURLINFO_RESPONSE_CODE, &code);
    reply->status = (int)code;
    /* A host that refuses early ends the connection while we still send: what it said counts. */
    if (status == TSR_EIO && result == CURLE_SEND_ERROR && code >= 400) {
        status = 0;
    }
    handle_done(request->session, call.curl);
    curl_slist_free_all(call.headers);
    if (status == 0) {
        return 0;
    }
    http_client_reply_free(reply);
    return err_set(err, status, "%s", error[0] != 0 ? error : err_text(status));
}

void http_client_reply_free(struct http_client_reply *reply)
{
    buf_free(&reply->headers);
    buf_free(&reply->body);
    reply->status = 0;
}

bool http_client_header(const struct http_client_reply *reply, const char *name, char *out,
                        size_t out_size)
{
    size_t name_size = strlen(name);
    const char *at = reply->headers.data;
    while (at != NULL && *at != 0) {
        size_t line = strcspn(at, "\r\n");
        if (line > name_size && at[name_size] == ':' && strncasecmp(at, name, name_size) == 0) {
            const char *value = at + name_size + 1;
            const char *end = at + line;
            value += strspn(value, " \t");
            while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
                end--;
            }
            size_t size = value < end ? (size_t)(end - value) : 0;
            if (size >= out_size) {
                return false;
            }
            memcpy(out, value, size);
            out[size] = 0;
            return true;
        }
        at += line;
        at += strspn(at, "\r\n");
    }
    return false;
}

/* --- URLs and names -----------------------------------------------------------------------------
 */

static bool url_part(CURLU *u, CURLUPart part, char *out, size_t size)
{
    char *text = NULL;
    if (curl_url_get(u, part, &text, part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0) !=
        CURLUE_OK) {
        return false;
    }
    size_t n = strlen(text);
    bool fits = n > 0 && n < size;
    if (fits) {
        memcpy(out, text, n + 1);
    }
    curl_free(text);
    return fits;
}

static bool url_has(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    bool has = curl_url_get(u, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

static void host_plain(char *host)
{
    size_t size = strlen(host);
    if (size > 2 && host[0] == '[' && host[size - 1] == ']') {
        memmove(host, host + 1, size - 2);
        host[size - 2] = 0;
        host[strcspn(host, "%")] = 0; /* a zone is no part of the address */
    }
    for (char *p = host; *p != 0; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
}

/* "scheme://something" without blanks and controls: libcurl forgives more than it should. */
static bool url_strict(const char *url)
{
    const char *slashes = strstr(url, "://");
    if (slashes == NULL || slashes[3] == '/') {
        return false;
    }
    for (const char *p = url; *p != 0; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '\\') {
            return false;
        }
    }
    return true;
}

int http_client_url_parse(const char *url, struct http_client_url *out)
{
    char port[8];
    memset(out, 0, sizeof *out);
    if (!url_strict(url)) {
        return TSR_EINVAL;
    }
    CURLU *u = curl_url();
    if (u == NULL) {
        return TSR_ENOMEM;
    }
    bool ok = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
              url_part(u, CURLUPART_SCHEME, out->scheme, sizeof out->scheme) &&
              url_part(u, CURLUPART_HOST, out->host, sizeof out->host) &&
              url_part(u, CURLUPART_PORT, port, sizeof port);
    out->has_user = ok && (url_has(u, CURLUPART_USER) || url_has(u, CURLUPART_PASSWORD));
    curl_url_cleanup(u);
    if (!ok) {
        return TSR_EINVAL;
    }
    host_plain(out->host);
    out->port = (unsigned)strtoul(port, NULL, 10);
    return out->host[0] != 0 && out->port > 0 && out->port <= 65535 ? 0 : TSR_EINVAL;
}

int http_client_url_join(const char *base, const char *location, char **out)
{
    char *text = NULL;
    CURLU *u = curl_url();
    if (u == NULL) {
        return TSR_ENOMEM;
    }
    *out = NULL;
    bool ok = curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
              curl_url_set(u, CURLUPART_URL, location,
                           CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
              curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK;
    if (ok) {
        *out = strdup(text);
    }
    curl_free(text);
    curl_url_cleanup(u);
    return !ok ? TSR_EINVAL : *out == NULL ? TSR_ENOMEM : 0;
}

int http_client_resolve(const char *host, http_client_address_fn allowed, void *arg)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    if (getaddrinfo(host, NULL, &hints, &list) != 0 || list == NULL) {
        return TSR_ECONNECT;
    }
    int status = TSR_EFORBIDDEN;
    for (const struct addrinfo *a = list; a != NULL && status != 0; a = a->ai_next) {
        status = allowed(arg, a->ai_addr) ? 0 : TSR_EFORBIDDEN;
    }
    freeaddrinfo(list);
    return status;
}
