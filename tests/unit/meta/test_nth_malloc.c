/* Memory runs out at each allocation, once or for good, while commands are applied to a real store
 * (LMDB included): apply says so and has changed nothing; the same entry applied again gives the
 * state, by its digest, of a store that was never refused anything. OpenSSL's and jansson's memory
 * is not refused: without it the process ends (base/digest, base/json). */
#include "fixture.h"

#include <openssl/crypto.h>

#include "heap.h"
#include "tessera/base/log.h"

static const char *const commands[] = {
    "{\"op\":\"image.create\",\"image\":{\"id\":\"00000000-0000-4000-8000-0000000000aa\",\"name\":"
    "\"a\",\"owner\":\"p\",\"visibility\":\"shared\",\"props\":{\"k\":\"v\"},\"tags\":[\"t\"]}}",
    "{\"op\":\"member.add\",\"id\":\"00000000-0000-4000-8000-0000000000aa\",\"member\":\"z\"}",
    "{\"op\":\"host.add\",\"name\":\"h1\",\"zone\":\"z\",\"roles\":[\"image\"],\"api_url\":\"u\","
    "\"peer_address\":\"p\",\"raft_address\":\"r\",\"version\":\"1\"}",
    "{\"op\":\"batch\",\"commands\":[{\"op\":\"dir.put\",\"kind\":\"user\",\"id\":\"u\",\"value\":"
    "{\"name\":\"n\"}},{\"op\":\"host.state\",\"id\":1,\"state\":\"down\"}]}",
    "{\"op\":\"image.delete\",\"id\":\"00000000-0000-4000-8000-0000000000aa\"}",
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void quiet(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

/* One entry, as store_apply makes it, but with memory refused from the @n-th allocation on. */
static int apply_refused(struct store *s, uint64_t id, const char *text, uint64_t n, bool forever,
                         bool *hit)
{
    struct fsm *fsm = meta_fsm(s->m);
    struct fsm_command c = {.data = text, .size = strlen(text)};
    struct fsm_entry e = {
        .index = s->index + 1, .term = 1, .wall_us = s->now + 1000, .commands = &c, .count = 1};
    store_command_id(id, c.id);
    heap_fail(n, forever);
    int rc = fsm->ops->apply(fsm, &e, 1);
    *hit = heap_ok();
    free(c.result);
    return rc;
}

static void a_refused_allocation_changes_nothing(void **state)
{
    (void)state;
    if (!heap_can_fail()) {
        skip();
    }
    log_set_sink(quiet, NULL);
    unsigned refused = 0;
    struct store whole, s;
    store_open(&whole);
    store_open_lmdb(&s, test_dir());
    for (size_t i = 0; i < COMMANDS; i++) {
        int code;
        check_ok(store_apply(&whole, 100 + i, commands[i], &code));
        check_ok(code);
        struct fsm_point before = point(&s), after, want = point(&whole);
        bool hit = true, applied = false;
        for (uint64_t n = 0; hit && !applied; n++) {
            for (int forever = 0; forever < 2 && !applied; forever++) {
                int rc = apply_refused(&s, 100 + i, commands[i], n, forever, &hit);
                after = point(&s);
                applied = rc == 0; /* untouched, or done without that memory */
                if (!applied) {
                    check_code(rc, TSR_ENOMEM);
                    check_mem(&before, &after, sizeof(after));
                    refused++;
                }
            }
        }
        after = point(&s);
        check_mem(&after, &want, sizeof(want));
        s.index++;
        s.now += 1000;
    }
    print_message("%u allocations refused\n", refused);
    check(refused > 50);
    check_int(meta_damaged(s.m), 0); /* too little memory is no damage */
    store_close(&s);
    store_close(&whole);
    log_set_sink(NULL, NULL);
}

static void *ssl_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    heap_pause(true);
    void *memory = malloc(size);
    heap_pause(false);
    return memory;
}

static void *ssl_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    heap_pause(true);
    void *memory = realloc(old, size);
    heap_pause(false);
    return memory;
}

static void *json_malloc(size_t size)
{
    return ssl_malloc(size, NULL, 0);
}

static void ssl_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    free(memory);
}

int main(void)
{
    tsr_assert(CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) == 1);
    json_set_alloc_funcs(json_malloc, free);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_refused_allocation_changes_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
