/* Heads and framing by libhttp-parser, with the checks that it leaves to its users.
 *
 * The parser is lenient where that lets two readers see two messages: a line that ends in a lone
 * line feed or is folded, a size of a chunk or its data that something else than CR LF ends. Those
 * are refused here (RFC 9112 sections 2.2, 5.2 and 7.1), by a look at the bytes that it has taken.
 *
 * The parser's callbacks only note what happened and pause it; http_parse_step turns that into one
 * event. Strings are collected in one buffer, 0-terminated one after the other. */
#include "http/head.h"

#include <http_parser.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/err.h"
#include "tessera/base/str.h"

enum head_part { PART_NONE, PART_TARGET, PART_NAME, PART_VALUE };

struct http_parse {
    http_parser parser;
    enum http_event event;
    int status;    /* of HTTP_EV_BAD */
    bool begun;    /* a message has begun */
    bool has_head; /* and its head is complete */
    size_t head_bytes;
    enum head_part part;
    char last;         /* byte of the head that was taken last; 0: none */
    unsigned line_end; /* bytes of the CR LF behind a chunk's data that are still to come */
    bool chunk_head;   /* the size of a chunk was just read */
    struct buf text;
    struct http_head_field *fields;
    size_t field_count;
    struct http_head head;
    const char *body;
    size_t body_size;
};

static struct http_parse *self(http_parser *parser)
{
    return parser->data;
}

static int bad(struct http_parse *p, int status)
{
    p->status = status;
    return 1;
}

/* Stop at this event. */
static void pause_at(struct http_parse *p, enum http_event event)
{
    p->event = event;
    http_parser_pause(&p->parser, 1);
}

/* --- collecting strings --------------------------------------------------------------------- */

static int message_begin(http_parser *parser)
{
    struct http_parse *p = self(parser);
    p->begun = true;
    p->has_head = false;
    p->part = PART_NONE;
    p->line_end = 0;
    p->field_count = 0;
    buf_clear(&p->text);
    p->text.failed = false;
    return 0;
}

static int text_append(struct http_parse *p, const char *at, size_t size)
{
    return buf_append(&p->text, at, size) == 0 ? 0 : bad(p, 500);
}

/* End the string of the part before. */
static int part_end(struct http_parse *p)
{
    if (p->part == PART_VALUE) {
        const struct http_head_field *f = &p->fields[p->field_count - 1];
        while (p->text.size > f->value && strchr(" \t", p->text.data[p->text.size - 1]) != NULL) {
            p->text.size--;
        }
    }
    return p->part == PART_NONE ? 0 : text_append(p, "", 1);
}

static int on_target(http_parser *parser, const char *at, size_t size)
{
    struct http_parse *p = self(parser);
    p->part = PART_TARGET;
    return text_append(p, at, size);
}

static int on_name(http_parser *parser, const char *at, size_t size)
{
    struct http_parse *p = self(parser);
    if (p->has_head) {
        return 0; /* a trailer */
    }
    if (p->part != PART_NAME) {
        /* A name without a value has no value callback: part_end ends the name, then comes "". */
        if (part_end(p) != 0) {
            return 1;
        }
        if (p->field_count == HTTP_HEADERS_MAX) {
            return bad(p, 431);
        }
        p->part = PART_NAME;
        p->fields[p->field_count].name = (uint32_t)p->text.size;
        p->fields[p->field_count].value = 0;
        p->field_count++;
    }
    return text_append(p, at, size);
}

static int on_value(http_parser *parser, const char *at, size_t size)
{
    struct http_parse *p = self(parser);
    if (p->has_head) {
        return 0;
    }
    if (p->part != PART_VALUE) {
        /* The parser lets one NUL through, as a value's first byte; strings would end there (RFC
         * 9110 section 5.5). */
        if (size > 0 && at[0] == 0) {
            return bad(p, 400);
        }
        if (part_end(p) != 0) {
            return 1;
        }
        p->part = PART_VALUE;
        p->fields[p->field_count - 1].value = (uint32_t)p->text.size;
    }
    return text_append(p, at, size);
}

/* --- the finished head ---------------------------------------------------------------------- */

const char *http_head_get(const struct http_head *head, const char *name)
{
    for (size_t i = 0; i < head->field_count; i++) {
        if (str_ieq(head->text + head->fields[i].name, name)) {
            return head->text + head->fields[i].value;
        }
    }
    return NULL;
}

static size_t count_of(const struct http_head *head, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < head->field_count; i++) {
        count += str_ieq(head->text + head->fields[i].name, name);
    }
    return count;
}

/* RFC 9112 section 5.1: white space before the colon lets two readers see two different fields. */
static bool names_valid(const struct http_head *head)
{
    for (size_t i = 0; i < head->field_count; i++) {
        const char *name = head->text + head->fields[i].name;
        if (*name == 0 || strpbrk(name, " \t") != NULL) {
            return false;
        }
    }
    return true;
}

/* RFC 9112 section 3.2: origin form; absolute form becomes origin form; "*" for OPTIONS. */
static bool target_normalize(struct http_head *head, char *target)
{
    char *fragment = strchr(target, '#');
    if (fragment != NULL) {
        *fragment = 0;
    }
    head->target = target;
    if (target[0] == '/') {
        return true;
    }
    if (strcmp(target, "*") == 0) {
        return strcmp(head->method, "OPTIONS") == 0;
    }
    size_t skip = strncasecmp(target, "http://", 7) == 0    ? 7
                  : strncasecmp(target, "https://", 8) == 0 ? 8
                                                            : 0;
    if (skip == 0 || target[skip] == 0 || target[skip] == '/') {
        return false;
    }
    /* Move the authority to the front, so that a 0 fits between it and the path. */
    size_t size = strcspn(target + skip, "/?");
    char *rest = target + skip + size; /* skip >= 7: there is room for a slash before it */
    memmove(target, target + skip, size);
    target[size] = 0;
    head->authority = target;
    if (*rest == '/') {
        head->target = rest;
    } else {
        head->target = rest - 1;
        head->target[0] = '/';
    }
    return true;
}

/* RFC 9112 sections 3.2, 6.1 and 6.3. The parser has refused Content-Length beside
 * Transfer-Encoding, unequal lengths and a coding that does not end in chunked. */
static int head_check(struct http_parse *p, struct http_head *head)
{
    const char *coding = http_head_get(head, "transfer-encoding");
    if (p->parser.http_major != 1) {
        return 505;
    }
    if (p->parser.method == HTTP_CONNECT) {
        return 501;
    }
    if (!names_valid(head)) {
        return 400;
    }
    if (coding != NULL && (!head->chunked || count_of(head, "transfer-encoding") != 1 ||
                           head->minor == 0 || count_of(head, "content-length") != 0)) {
        return 400;
    }
    if (coding != NULL && !str_ieq(coding, "chunked")) {
        return 501;
    }
    if (count_of(head, "host") > 1 || (head->minor > 0 && count_of(head, "host") == 0)) {
        return 400;
    }
    if (!head->chunked && (p->parser.flags & F_CONTENTLENGTH) != 0 &&
        p->parser.content_length > INT64_MAX) {
        return 400;
    }
    const char *expect = http_head_get(head, "expect");
    if (expect != NULL && expect[0] != 0 && !str_ieq(expect, "100-continue")) {
        return 417;
    }
    return 0;
}

static int on_head(http_parser *parser)
{
    struct http_parse *p = self(parser);
    struct http_head *head = &p->head;
    if (part_end(p) != 0) {
        return -1;
    }
    /* One more 0 at the end is the value of a field that has none. */
    for (size_t i = 0; i < p->field_count; i++) {
        if (p->fields[i].value == 0) {
            p->fields[i].value = (uint32_t)p->text.size;
        }
    }
    if (text_append(p, "", 1) != 0) {
        return -1;
    }
    p->has_head = true;
    parser->upgrade = 0; /* no other protocol is spoken here */
    head->text = p->text.data;
    head->fields = p->fields;
    head->field_count = p->field_count;
    head->method = http_method_str((enum http_method)parser->method);
    head->minor = parser->http_minor > 0 ? 1 : 0;
    head->keep_alive = http_should_keep_alive(parser) != 0;
    head->chunked = (parser->flags & F_CHUNKED) != 0;
    head->authority = NULL;
    int status = head_check(p, head);
    if (status == 0 && !target_normalize(head, p->text.data)) {
        status = 400;
    }
    if (status != 0) {
        bad(p, status);
        return -1;
    }
    bool sized = (parser->flags & F_CONTENTLENGTH) != 0;
    head->content_length = head->chunked ? -1 : sized ? (int64_t)parser->content_length : 0;
    pause_at(p, HTTP_EV_HEAD);
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t size)
{
    struct http_parse *p = self(parser);
    p->body = at;
    p->body_size = size;
    pause_at(p, HTTP_EV_BODY);
    return 0;
}

static int on_chunk_head(http_parser *parser)
{
    struct http_parse *p = self(parser);
    p->chunk_head = true;
    pause_at(p, HTTP_EV_MORE);
    return 0;
}

static int on_end(http_parser *parser)
{
    struct http_parse *p = self(parser);
    p->begun = false;
    p->last = 0;
    p->has_head = false;
    p->head_bytes = 0;
    pause_at(p, HTTP_EV_END);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = message_begin,
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_chunk_header = on_chunk_head,
    .on_message_complete = on_end,
};

/* --- calls ---------------------------------------------------------------------------------- */

struct http_parse *http_parse_new(void)
{
    struct http_parse *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return NULL;
    }
    http_parser_init(&p->parser, HTTP_REQUEST);
    p->parser.data = p;
    buf_init(&p->text);
    return p;
}

void http_parse_free(struct http_parse *p)
{
    if (p != NULL) {
        buf_free(&p->text);
        free(p->fields);
        free(p);
    }
}

bool http_parse_idle(const struct http_parse *p)
{
    return !p->begun;
}

static enum http_event parse_failed(struct http_parse *p)
{
    enum http_errno error = HTTP_PARSER_ERRNO(&p->parser);
    if (p->status == 0) {
        p->status = error == HPE_HEADER_OVERFLOW ? 431 : 400;
    }
    return HTTP_EV_BAD;
}

/* --- line ends ------------------------------------------------------------------------------ */

/* Lines of a head end in CR LF, and none begins with a blank. */
static bool lines_valid(struct http_parse *p, const char *data, size_t size)
{
    size_t at = 0;
    if (size > 0 && p->last == '\n' && (data[0] == ' ' || data[0] == '\t')) {
        return false;
    }
    while (at < size) {
        const char *lf = memchr(data + at, '\n', size - at);
        if (lf == NULL) {
            break;
        }
        at = (size_t)(lf - data);
        char before = at > 0 ? data[at - 1] : p->last;
        at++;
        if (before != '\r' || (at < size && (data[at] == ' ' || data[at] == '\t'))) {
            return false;
        }
    }
    p->last = size > 0 ? data[size - 1] : p->last;
    return true;
}

/* The bytes behind a chunk's data, which are the first ones of this step. */
static bool line_end_valid(struct http_parse *p, const char *data, size_t size)
{
    for (size_t i = 0; i < size && p->line_end > 0; i++, p->line_end--) {
        if (data[i] != (p->line_end == 2 ? '\r' : '\n')) {
            return false;
        }
    }
    return true;
}

/* A chunk's data is over: take what the parser took behind it back unless it is the line's end; the
 * next step refuses it. */
static size_t chunk_over(struct http_parse *p, const char *data, size_t used)
{
    const char *end = p->body + p->body_size;
    p->line_end = 2;
    if (end < data + used && *end == '\r') {
        p->line_end = 1;
        return used;
    }
    return (size_t)(end - data);
}

/* The parser up to its next event. The size of a chunk is none for the caller. */
static enum http_errno execute(struct http_parse *p, const char *data, size_t size, size_t *used)
{
    enum http_errno error = HPE_OK;
    do {
        p->event = HTTP_EV_MORE;
        p->chunk_head = false;
        http_parser_pause(&p->parser, 0);
        *used += http_parser_execute(&p->parser, &settings, data + *used, size - *used);
        error = HTTP_PARSER_ERRNO(&p->parser);
        if (p->chunk_head && data[*used - 1] != '\n') {
            p->status = 400;
        }
    } while (p->chunk_head && p->event == HTTP_EV_MORE && p->status == 0 && *used < size);
    return error;
}

/* Is what the parser took in this step written as it must be? */
static bool step_valid(struct http_parse *p, const char *data, size_t used, bool in_head)
{
    bool chunked = (p->parser.flags & F_CHUNKED) != 0;
    if (in_head) {
        return lines_valid(p, data, used) && (p->event != HTTP_EV_HEAD || data[used] == '\n');
    }
    return p->status == 0 && (p->event != HTTP_EV_END || !chunked || data[used - 1] == '\n');
}

static bool fields_ready(struct http_parse *p)
{
    if (p->fields == NULL) {
        p->fields = calloc(HTTP_HEADERS_MAX, sizeof *p->fields);
    }
    return p->fields != NULL;
}

enum http_event http_parse_step(struct http_parse *p, const char *data, size_t size,
                                size_t *used_out, const char **body_out, size_t *body_size_out)
{
    tsr_assert(size > 0); /* the parser takes size 0 for the end of the stream */
    *used_out = 0;
    if (p->status == 0 && (!fields_ready(p) || !line_end_valid(p, data, size))) {
        p->status = p->fields == NULL ? 500 : 400;
    }
    if (p->status != 0) {
        return HTTP_EV_BAD;
    }
    bool in_head = !p->has_head;
    enum http_errno error = execute(p, data, size, used_out);
    if (error != HPE_OK && error != HPE_PAUSED) {
        return parse_failed(p);
    }
    if (!step_valid(p, data, *used_out, in_head)) {
        p->status = 400;
        return HTTP_EV_BAD;
    }
    if (in_head && p->event != HTTP_EV_END) {
        p->head_bytes += *used_out;
        if (p->head_bytes > HTTP_HEAD_BYTES_MAX) {
            p->status = 431;
            return HTTP_EV_BAD;
        }
    }
    if (p->event == HTTP_EV_BODY) {
        if ((p->parser.flags & F_CHUNKED) != 0 && p->parser.content_length == 0) {
            *used_out = chunk_over(p, data, *used_out);
        }
        *body_out = p->body;
        *body_size_out = p->body_size;
    }
    return p->event;
}

int http_parse_status(const struct http_parse *p)
{
    return p->status;
}

void http_parse_take_head(struct http_parse *p, struct http_head *out)
{
    *out = p->head;
    /* Both allocations go with it; the next head gets new ones. */
    buf_detach(&p->text, NULL);
    p->fields = NULL;
    memset(&p->head, 0, sizeof p->head);
}

void http_head_free(struct http_head *head)
{
    free(head->text);
    free(head->fields);
    memset(head, 0, sizeof *head);
}

const char *http_reason(int status)
{
    switch (status) {
#define XX(num, name, string) \
    case num:                 \
        return #string;
        HTTP_STATUS_MAP(XX)
#undef XX
    default:
        return "Status";
    }
}
