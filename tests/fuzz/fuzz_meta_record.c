/* Stored records. Input: u8 key size, key, value: as it is, and with the checksum that fits. */
#include "fuzz.h"
#include "meta/schema.h"

static void check_value(struct kv_val key, const void *data, size_t size, bool right)
{
    const char *text;
    size_t text_size;
    json_t *value = NULL;
    int rc = record_decode(key, kv_val_of(data, size), &text, &text_size);
    fuzz_check(rc == 0 || (rc == TSR_ECORRUPT && !right));
    if (rc == 0) {
        fuzz_check(text_size + 4 == size);
        uint8_t *again = malloc(size);
        fuzz_check(again != NULL);
        record_encode(key, text, text_size, again);
        fuzz_check(memcmp(again, data, size) == 0);
        free(again);
    }
    int parsed = record_parse(key, kv_val_of(data, size), &value);
    fuzz_check(parsed == 0 || parsed == TSR_ECORRUPT);
    if (parsed == 0) {
        (void)dir_domain("user", value);
        json_decref(value);
    }
}

/* Keys from texts of any length: never longer than the store takes, order of prefixes kept. */
static void check_keys(const char *text)
{
    struct key k, name;
    key_init(&k);
    key_short(&k, text);
    fuzz_check(k.size <= 133);
    if (strlen(text) <= 128) {
        fuzz_check(k.size == strlen(text) && memcmp(k.data, text, k.size) == 0);
    }
    key_of_dir_name(&name, "user", text, text);
    fuzz_check(name.size <= KV_KEY_MAX);
    key_after_prefix(&name);
    (void)dir_kind_ok(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct fuzz_in key = fuzz_take(&in, fuzz_u8(&in));
    struct kv_val k = kv_val_of(key.data, key.size);
    uint8_t *copy = fuzz_bytes(in), *whole = malloc(in.size + 4);
    fuzz_check(whole != NULL);
    check_value(k, copy, in.size, false);
    record_encode(k, copy, in.size, whole);
    check_value(k, whole, in.size + 4, true);
    char *text = fuzz_text(in);
    check_keys(text);
    free(text);
    free(copy);
    free(whole);
    return 0;
}
