/* Queries of GET /v2/images, against a small store. Input: flags, query. Refused with a sentence,
 * or answered by a page not longer than asked for, whose links have the form of a query that
 * parses. */
#include "image/query.h"
#include "image_store.h"
#include "tessera/http.h"

enum { LIMIT_DEFAULT = 3, LIMIT_MAX = 5, IMAGES = 8 };

static struct image_store store;

static void store_fill(void)
{
    static const char *const visibility[] = {"public", "private", "shared", "community"};
    if (store.meta != NULL) {
        return;
    }
    image_store_open(&store);
    for (unsigned i = 0; i < IMAGES; i++) {
        char text[512];
        (void)snprintf(text, sizeof text,
                       "{\"op\":\"image.create\",\"image\":{\"id\":"
                       "\"00000000-0000-4000-8000-%012x\",\"name\":\"n%u\",\"owner\":\"p%u\","
                       "\"disk_format\":\"raw\",\"container_format\":\"bare\",\"tags\":[\"a\"],"
                       "\"visibility\":\"%s\",\"min_disk\":%u,\"props\":{\"k\":\"v%u\"}}}",
                       i + 1, i % 3, i % 2 + 1, visibility[i % 4], i, i % 2);
        fuzz_check(image_store_run(&store, text) == 0);
    }
}

static void check_link(const char *link)
{
    struct http_params p;
    fuzz_check(strncmp(link, "/v2/images", 10) == 0 && strpbrk(link, " \r\n\"<>") == NULL);
    if (link[10] != 0) {
        fuzz_check(link[10] == '?' && http_params_parse(link + 11, &p) == 0);
        http_params_free(&p);
    }
}

static void check_page(const json_t *page)
{
    const json_t *images = json_arr(page, "images");
    fuzz_check(images != NULL && json_array_size(images) <= LIMIT_MAX);
    fuzz_check(json_str(page, "first") != NULL);
    check_link(json_str(page, "first"));
    if (json_str(page, "next") != NULL) {
        check_link(json_str(page, "next"));
    }
}

static void run(const struct http_params *p, const struct caller *caller)
{
    struct image_param *params = calloc(p->count + 1, sizeof *params);
    struct meta_view *v;
    struct err err = {0};
    json_t *page = NULL;
    fuzz_check(params != NULL && meta_view_open(store.meta, &v) == 0);
    for (size_t i = 0; i < p->count; i++) {
        params[i] = (struct image_param){p->items[i].name, p->items[i].value};
    }
    int rc = image_list(v, caller, params, p->count, LIMIT_DEFAULT, LIMIT_MAX, &page, &err);
    fuzz_check(rc == 0 || ((rc == TSR_EINVAL || rc == TSR_EFORBIDDEN) && err.msg[0] != 0));
    if (rc == 0) {
        check_page(page);
        json_decref(page);
    }
    meta_view_close(v);
    free(params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct caller caller = image_store_caller(fuzz_u8(&in) % 2 != 0);
    struct http_params p;
    char *query = fuzz_text(in);
    store_fill();
    if (http_params_parse(query, &p) == 0) {
        run(&p, &caller);
        http_params_free(&p);
    }
    free(query);
    return 0;
}
