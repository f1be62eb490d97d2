/* HTTP/1.1 messages from bytes (RFC 9112): the one door to libhttp-parser.
 *
 * A pull parser: http_parse_step takes bytes and returns at the first event, so that the caller
 * decides when to go on; bytes not used are offered again. It knows framing, not meaning.
 * (tessera/http.h and http_parser.h share names: no file includes both.) */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEAD_BYTES_MAX = 64 << 10, HTTP_HEADERS_MAX = 128 };

enum http_event {
    HTTP_EV_MORE, /* all bytes used, nothing complete */
    HTTP_EV_HEAD, /* http_parse_take_head may be called */
    HTTP_EV_BODY, /* a piece of the body */
    HTTP_EV_END,  /* the message is complete */
    HTTP_EV_BAD   /* http_parse_status says why; no further bytes */
};

struct http_head_field {
    uint32_t name, value; /* offsets in text, 0-terminated */
};

struct http_head {
    char *text; /* all strings, one allocation */
    const char *method;
    char *target;          /* origin form, or "*"; in text */
    const char *authority; /* of an absolute-form target; NULL otherwise */
    struct http_head_field *fields;
    size_t field_count;
    int minor;       /* HTTP/1.minor */
    bool keep_alive; /* what the client wants */
    bool chunked;
    int64_t content_length; /* 0 without a body, -1 when chunked */
};

struct http_parse;

struct http_parse *http_parse_new(void);
void http_parse_free(struct http_parse *p);
/* Nothing of a next message has been seen. */
bool http_parse_idle(const struct http_parse *p);
enum http_event http_parse_step(struct http_parse *p, const char *data, size_t size,
                                size_t *used_out, const char **body_out, size_t *body_size_out);
/* HTTP status that fits the error (400, 431, 501, 505; 500 = out of memory). */
int http_parse_status(const struct http_parse *p);
/* Move the head out; freed by http_head_free. */
void http_parse_take_head(struct http_parse *p, struct http_head *out);
void http_head_free(struct http_head *head);

/* Value of the first field @name (any case); NULL if absent. */
const char *http_head_get(const struct http_head *head, const char *name);
/* "Not Found"; never NULL. */
const char *http_reason(int status);

#endif
