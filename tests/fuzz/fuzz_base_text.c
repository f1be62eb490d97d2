/* Small texts: percent coding, times, sizes, numbers, UTF-8, hex, base64url, UUIDs, addresses.
 * Input: the text; each function gets all of it. Where there is a writer, reading what was written
 * gives the value again. */
#include "fuzz.h"
#include "tessera/base/buf.h"
#include "tessera/base/config.h"
#include "tessera/base/err.h"
#include "tessera/base/id.h"
#include "tessera/base/str.h"

static void check_percent(const char *text, size_t size)
{
    for (int plus = 0; plus < 2; plus++) {
        char *out = malloc(size + 1);
        fuzz_check(out != NULL);
        long n = percent_decode(text, size, plus != 0, out);
        fuzz_check(n == TSR_EINVAL || (n >= 0 && (size_t)n <= size && strlen(out) == (size_t)n));
        if (n >= 0) {
            struct buf b = {0};
            char *again;
            fuzz_check(percent_encode(&b, out, plus != 0) == 0);
            again = malloc(b.size + 1);
            fuzz_check(again != NULL &&
                       percent_decode(b.size > 0 ? b.data : "", b.size, plus != 0, again) == n);
            fuzz_check(strcmp(again, out) == 0);
            free(again);
            buf_free(&b);
        }
        free(out);
    }
}

static void check_time(const char *text)
{
    int64_t us, again;
    char out[TIME_TEXT];
    if (time_parse(text, &us) == 0) {
        time_format_micros(us, out);
        fuzz_check(strlen(out) < TIME_TEXT);
        /* A zone may move a time out of the years 0001 to 9999, which have four digits. */
        if (us >= -62135596800000000 && us < 253402300800000000) {
            fuzz_check(time_parse(out, &again) == 0 && again == us);
        }
        time_format_seconds(us, out);
    }
}

static void check_numbers(const char *text)
{
    int64_t v;
    fuzz_check(str_to_i64(text, -5, 1000, &v) != 0 || (v >= -5 && v <= 1000));
    (void)str_to_i64(text, INT64_MIN, INT64_MAX, &v);
    fuzz_check(str_to_size(text, &v) != 0 || v >= 0);
}

static void check_codes(const char *text, size_t size)
{
    uint8_t *raw = malloc(size + 1);
    char *out = malloc(4 * (size + 2) / 3 + 1 + 2 * size);
    fuzz_check(raw != NULL && out != NULL);
    long n = base64url_decode(text, size, raw, size);
    if (n >= 0) {
        fuzz_check((size_t)n <= size);
        size_t written = base64url_encode(raw, (size_t)n, out);
        fuzz_check(written <= size && memcmp(out, text, written) == 0);
    }
    (void)base64url_decode(text, size, raw, size / 2); /* too little room is an error */
    if (size % 2 == 0 && hex_decode(text, size, raw, size / 2) == 0) {
        hex_encode(raw, size / 2, out);
        fuzz_check(str_ieq(out, text));
    }
    free(raw);
    free(out);
}

static void check_address(const char *text)
{
    char host[32];
    uint16_t port;
    if (config_address(text, host, sizeof host, &port) == 0) {
        fuzz_check(strlen(host) < sizeof host);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    void *bytes = fuzz_bytes(in);
    (void)utf8_valid(bytes, size);
    check_percent(bytes, size);
    free(bytes);
    char *text = fuzz_text(in);
    size_t length = strlen(text);
    if (utf8_valid(text, length)) {
        fuzz_check(utf8_length(text) <= length);
    }
    check_time(text);
    check_numbers(text);
    check_codes(text, length);
    check_address(text);
    fuzz_check(!uuid_valid(text) || length == UUID_TEXT);
    free(text);
    return 0;
}
