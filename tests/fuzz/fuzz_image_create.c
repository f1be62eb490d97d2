/* Bodies of POST /v2/images. Input: flags, body. What is accepted is accepted by the store too, and
 * rendered with the values that the client gave. */
#include "image/create.h"
#include "image/fields.h"
#include "image_store.h"

/* Custom properties and plain texts are shown as they were given. */
static void check_shown(const json_t *body, const json_t *shown)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        enum field_class class = field_class(name);
        fuzz_check(class != FIELD_READ_ONLY && class != FIELD_RESERVED);
        if (class == FIELD_CUSTOM || (class == FIELD_PLAIN && json_is_string(value))) {
            fuzz_check(json_equal(json_object_get(shown, name), value));
        }
    }
    fuzz_check(json_is_array(json_object_get(shown, "tags")));
    fuzz_check(strcmp(json_str_or(shown, "status", ""), "queued") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct caller caller = image_store_caller(fuzz_u8(&in) % 2 != 0);
    char *copy = fuzz_bytes(in);
    json_t *body = json_parse(copy, in.size), *image = NULL;
    free(copy);
    struct err err = {0};
    int rc = create_evaluate(body, &caller, &image_store_limits, image_store_id, &image, &err);
    fuzz_check(rc == 0 || rc == TSR_EINVAL || rc == TSR_EFORBIDDEN || rc == TSR_ETOOBIG);
    fuzz_check(rc == 0 || err.msg[0] != 0);
    if (rc == 0) {
        struct image_store s;
        image_store_open(&s);
        char *id = strdup(json_str_or(image, "id", ""));
        fuzz_check(id != NULL);
        int code =
            image_store_run_json(&s, json_pack("{s:s, s:o}", "op", "image.create", "image", image));
        fuzz_check(code == 0);
        json_t *record = image_store_get(&s, id), *shown = image_render(record);
        fuzz_check(shown != NULL);
        check_shown(body, shown);
        json_decref(shown);
        json_decref(record);
        free(id);
        meta_close(s.meta);
    }
    json_decref(body);
    return 0;
}
