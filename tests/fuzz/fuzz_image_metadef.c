/* Changes of one namespace of metadata definitions. Input: lines of operation byte, name, tab,
 * body. The first that makes a namespace begins; whatever follows, the record stays one that can be
 * shown, with no name twice, and grows by one version a change; the record given is not changed. */
#include "fuzz.h"
#include "image/metadef.h"

enum { OPS = METADEF_TYPE_DELETE + 1, SECOND = 1000000 };

static void check_list(const json_t *record, const char *key, bool fold)
{
    const char *twice = NULL;
    fuzz_check(json_is_array(json_object_get(record, key)));
    fuzz_check(metadef_double(json_object_get(record, key), fold, &twice) == 0 && twice == NULL);
}

static void check_record(const json_t *record)
{
    check_list(record, "objects", false);
    check_list(record, "tags", true);
    check_list(record, "resource_types", false);
    fuzz_check(json_is_object(json_object_get(record, "properties")));
    fuzz_check(metadef_name_ok(json_str(record, "name")));
    json_t *type = json_array_get(json_object_get(record, "resource_types"), 0);
    json_t *shown = metadef_render(record, json_str(type, "name"));
    fuzz_check(shown != NULL);
    size_t size = 0;
    char *text = json_text(shown, &size);
    json_t *again = text != NULL ? json_parse(text, size) : NULL;
    fuzz_check(json_equal(shown, again));
    json_decref(again);
    json_decref(shown);
    free(text);
}

/* What a change of @record (NULL: none yet) makes of it; new reference, NULL: none any more. */
static json_t *step(json_t *record, enum metadef_op op, const char *item, const json_t *body,
                    int64_t now)
{
    struct err err = {0};
    json_t *value = NULL, *next = NULL, *shown = NULL, *before = json_deep_copy(record);
    int rc = metadef_check(op, body, &value, &err);
    fuzz_check(rc == 0 || rc == TSR_EINVAL || rc == TSR_EFORBIDDEN);
    fuzz_check(rc == 0 || err.msg[0] != 0);
    if (rc == 0 && (op == METADEF_CREATE) == (record == NULL)) {
        struct metadef_edit edit = {
            .op = op, .item = item, .value = value, .project = "p", .id = "i", .now = now};
        rc = metadef_edit(record, &edit, &next, &shown, &err);
        fuzz_check(rc == 0 || rc == TSR_EINVAL || rc == TSR_EFORBIDDEN || rc == TSR_ENOENT ||
                   rc == TSR_EEXIST || rc == TSR_ETOOBIG);
        fuzz_check(rc == 0 || (err.msg[0] != 0 && next == NULL && shown == NULL));
        fuzz_check(record == NULL || json_equal(record, before));
        fuzz_check(rc != 0 || (next == NULL) == (op == METADEF_DELETE));
        if (next != NULL) {
            fuzz_check(json_int(next, "version", 0) == json_int(record, "version", 0) + 1);
            check_record(next);
        }
        if (rc != 0) {
            next = json_incref(record);
        }
    } else {
        next = json_incref(record);
    }
    json_decref(before);
    json_decref(shown);
    json_decref(value);
    json_decref(record);
    return next;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    json_t *record = NULL;
    for (int64_t now = SECOND; in.size > 0; now += SECOND) {
        struct fuzz_in line = fuzz_until(&in, '\n');
        enum metadef_op op = (enum metadef_op)(fuzz_u8(&line) % OPS);
        struct fuzz_in name = fuzz_until(&line, '\t');
        char *item = malloc(name.size + 1), *text = fuzz_bytes(line);
        fuzz_check(item != NULL);
        if (name.size > 0) {
            memcpy(item, name.data, name.size);
        }
        item[name.size] = 0;
        if (!metadef_name_ok(item)) {
            item[0] = 0; /* as the service has it */
        }
        json_t *body = json_parse(text, line.size);
        record = step(record, op, item, body, now);
        json_decref(body);
        free(text);
        free(item);
    }
    json_decref(record);
    return 0;
}
