/* Manifests: what is accepted is the one encoding of its content, and its sizes add up. */
#include "fuzz.h"
#include "tessera/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *copy = fuzz_bytes((struct fuzz_in){data, size});
    struct manifest m;
    int rc = manifest_decode(copy, size, &m);
    fuzz_check(rc == 0 || rc == TSR_ECORRUPT);
    if (rc == 0) {
        char *out;
        size_t out_size;
        struct chunk_id id;
        uint64_t sum = 0;
        for (uint32_t i = 0; i < m.count; i++) {
            size_t n = manifest_chunk_size(&m, i);
            fuzz_check(n > 0 && n <= m.chunk_bytes);
            sum += n;
        }
        fuzz_check(sum == m.size);
        fuzz_check(manifest_encode(&m, &out, &out_size, &id) == 0);
        fuzz_check(out_size == size && memcmp(out, copy, size) == 0);
        free(out);
        manifest_free(&m);
    }
    free(copy);
    return 0;
}
