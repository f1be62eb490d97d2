/* Heads and bodies of requests: the events do not depend on how the bytes are cut into pieces, a
 * head is well-formed, and nothing comes after HTTP_EV_BAD. */
#include "hash.h"
#include "fuzz.h"
#include "http/head.h"

enum { PIECE_MAX = 64 };

static void check_head(const struct http_head *h, uint64_t *hash)
{
    fuzz_check(h->method != NULL && h->target != NULL);
    fuzz_check(h->target[0] == '/' || strcmp(h->target, "*") == 0);
    fuzz_check(h->authority == NULL || h->authority[0] != 0);
    fuzz_check(h->field_count <= HTTP_HEADERS_MAX);
    fuzz_check(h->content_length >= -1 && h->chunked == (h->content_length == -1));
    fuzz_check(h->minor == 0 || http_head_get(h, "host") != NULL);
    hash_text(hash, h->method);
    hash_text(hash, h->target);
    hash_text(hash, h->authority != NULL ? h->authority : "");
    hash_number(hash, (uint64_t)h->content_length);
    hash_number(hash, (uint64_t)h->minor << 1 | h->keep_alive);
    for (size_t i = 0; i < h->field_count; i++) {
        const char *name = h->text + h->fields[i].name;
        fuzz_check(name[0] != 0 && strpbrk(name, " \t\r\n:") == NULL);
        fuzz_check(strpbrk(h->text + h->fields[i].value, "\r\n") == NULL);
        fuzz_check(http_head_get(h, name) != NULL);
        hash_text(hash, name);
        hash_text(hash, h->text + h->fields[i].value);
    }
}

/* A digest of all events; @seed 0: everything in one piece. */
static uint64_t run(struct fuzz_in in, uint32_t seed)
{
    struct http_parse *p = http_parse_new();
    fuzz_check(p != NULL && http_parse_idle(p));
    uint64_t hash = HASH_START;
    enum http_event event = HTTP_EV_MORE;
    while (in.size > 0 && event != HTTP_EV_BAD) {
        struct fuzz_in piece =
            fuzz_take(&in, seed != 0 ? 1 + fuzz_random(&seed) % PIECE_MAX : in.size);
        uint8_t *copy = fuzz_bytes(piece);
        unsigned idle = 0; /* an event may come without using a byte, but not for ever */
        for (size_t at = 0; at < piece.size && event != HTTP_EV_BAD;) {
            const char *body = NULL;
            size_t used = 0, body_size = 0;
            event =
                http_parse_step(p, (char *)copy + at, piece.size - at, &used, &body, &body_size);
            fuzz_check(used <= piece.size - at);
            idle = used == 0 ? idle + 1 : 0;
            fuzz_check(idle < 4);
            at += used;
            if (event == HTTP_EV_HEAD) {
                struct http_head head;
                http_parse_take_head(p, &head);
                check_head(&head, &hash);
                http_head_free(&head);
            } else if (event == HTTP_EV_BODY) {
                fuzz_check(body_size > 0 && (uint8_t *)body >= copy &&
                           (uint8_t *)body + body_size <= copy + piece.size);
                hash_bytes(&hash, body, body_size);
            } else if (event == HTTP_EV_END) {
                hash_text(&hash, "end");
            } else if (event == HTTP_EV_MORE) {
                fuzz_check(at == piece.size);
            }
        }
        free(copy);
    }
    int status = http_parse_status(p);
    fuzz_check((event == HTTP_EV_BAD) == (status != 0));
    fuzz_check(status == 0 || status == 400 || status == 431 || status == 501 || status == 505);
    hash_number(&hash, status != 0);
    http_parse_free(p);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    uint32_t seed = 1 + (uint32_t)size;
    fuzz_check(run(in, 0) == run(in, seed));
    return 0;
}
