/* Bodies of PATCH /v2/images/<id>. Input: flags, body. Operations that parse and evaluate give a
 * command that the store takes; evaluating them again on the result changes nothing that matters:
 * it is a refusal, nothing, or again a command that the store takes. */
#include "image/patch.h"
#include "image_store.h"

static const char created[] =
    "{\"op\":\"image.create\",\"image\":{\"id\":\"00000000-0000-4000-8000-000000000001\","
    "\"name\":\"x\",\"owner\":\"p1\",\"disk_format\":\"raw\",\"container_format\":\"bare\","
    "\"tags\":[\"a\",\"b\"],\"props\":{\"k\":\"v\",\"a/b\":\"c\",\"t~\":\"u\"}}}";

/* Evaluate on what is stored and run what comes out. */
static int step(struct image_store *s, const struct caller *caller, const json_t *ops, bool v2_0)
{
    struct err err = {0};
    json_t *record = image_store_get(s, image_store_id), *command = NULL;
    json_t *before = json_deep_copy(record);
    int rc = patch_evaluate(record, caller, ops, v2_0, &image_store_limits, &command, &err);
    fuzz_check(json_equal(before, record)); /* it is a copy that is changed */
    fuzz_check(rc == 0 || (err.msg[0] != 0 && command == NULL));
    fuzz_check(rc == 0 || rc == TSR_EINVAL || rc == TSR_EFORBIDDEN || rc == TSR_ECONFLICT ||
               rc == TSR_ETOOBIG);
    if (command != NULL) {
        fuzz_check(image_store_run_json(s, command) == 0);
        json_t *after = image_store_get(s, image_store_id), *shown = image_render(after);
        fuzz_check(shown != NULL);
        fuzz_check(strcmp(json_str_or(after, "id", ""), image_store_id) == 0);
        fuzz_check(json_int(after, "version", 0) > json_int(before, "version", 0));
        fuzz_check(json_object_size(json_obj(after, "props")) <=
                   (size_t)image_store_limits.property_quota);
        json_decref(shown);
        json_decref(after);
    }
    json_decref(before);
    json_decref(record);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    uint8_t flags = fuzz_u8(&in);
    bool v2_0 = (flags & 1) != 0;
    struct caller caller = image_store_caller((flags & 2) != 0);
    char *copy = fuzz_bytes(in);
    json_t *body = json_parse(copy, in.size), *ops = NULL;
    free(copy);
    struct err err = {0};
    int rc = image_patch_parse(body, v2_0, &ops, &err);
    fuzz_check(rc == 0 || (rc == TSR_EINVAL && err.msg[0] != 0));
    if (rc == 0) {
        struct image_store s;
        image_store_open(&s);
        fuzz_check(image_store_run(&s, created) == 0);
        fuzz_check(json_array_size(ops) == json_array_size(body));
        if (step(&s, &caller, ops, v2_0) == 0) {
            (void)step(&s, &caller, ops, v2_0);
        }
        meta_close(s.meta);
        json_decref(ops);
    }
    json_decref(body);
    return 0;
}
