/* What the two halves of bench_load share: options and the way to a running loop. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

#include "tessera/sys/net.h"

enum { LOAD_ADDRESSES_MAX = 16, LOAD_CONNECTIONS_MAX = 1024, LOAD_TOKENS_MAX = 1024 };
enum { LOAD_REQUESTS_MAX = 4 << 20 };

enum load_kind { LOAD_SHOW, LOAD_LIST, LOAD_CREATE, LOAD_VALIDATE, LOAD_PUT, LOAD_KINDS };
enum { LOAD_PUT_BYTES = 1024 };

struct load_options {
    const char *verb;
    const char *addresses[LOAD_ADDRESSES_MAX];
    size_t address_count;
    struct tls *tls; /* NULL = plain */
    char *tokens[LOAD_TOKENS_MAX];
    size_t token_count;
    unsigned weights[LOAD_KINDS]; /* of the mix */
    unsigned connections;
    int64_t requests;  /* 0 = as many as `seconds` allow */
    int64_t seconds;   /* 0 = until `requests` are done */
    int64_t limit_s;   /* give up, whatever happens */
    uint64_t seed;     /* of ids and of data */
    int64_t ids;       /* images that show may ask for */
    int64_t first;     /* number of the first image to create, or record to put */
    const char *image; /* id, for upload and download */
    int64_t size;
    bool chunked, check, sha512;
    const char *query; /* of list */
};

extern const char *const load_kind_names[LOAD_KINDS];

/* Each starts its work on @loop and calls load_done once, with the figures. */
int requests_start(const struct load_options *options, struct loop *loop);
int upload_start(const struct load_options *options, struct loop *loop);
int download_start(const struct load_options *options, struct loop *loop);

/* Takes @result (NULL: failed, with a sentence on standard error) and stops the loop. */
void load_done(json_t *result);
void load_failed(const char *what, int status);

#endif
