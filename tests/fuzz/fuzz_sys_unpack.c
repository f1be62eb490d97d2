/* Unpacking. Input: kind, then the packed bytes. In one piece and in pieces of pseudo-random sizes:
 * the same code, the same bytes; each step moves something or is the last; what comes out of one
 * step never exceeds the room for it. */
#include "fuzz.h"
#include "tessera/base/err.h"
#include "tessera/sys/unpack.h"

enum { OUT_MAX = 1 << 16, ALL_MAX = 1 << 22 };

struct result {
    int rc;
    bool ended;
    size_t used, made;
    uint64_t hash;
};

static struct result run(struct fuzz_in in, enum unpack_kind kind, uint32_t seed)
{
    struct result r = {.hash = 14695981039346656037u};
    struct unpack *u = NULL;
    uint8_t *out = malloc(OUT_MAX);
    fuzz_check(out != NULL && unpack_new(kind, &u) == 0);
    while (r.rc == 0 && r.made < ALL_MAX) {
        size_t left = in.size - r.used, room = OUT_MAX;
        if (seed != 0) {
            size_t piece = 1 + fuzz_random(&seed) % 300;
            left = piece < left ? piece : left;
            room = 1 + fuzz_random(&seed) % OUT_MAX;
        }
        size_t given = left;
        const void *at = in.data + r.used;
        size_t made = room;
        r.rc = unpack_step(u, &at, &left, out, &made);
        fuzz_check(left <= given && made <= room);
        if (r.rc != 0 || (left == given && made == 0)) {
            break;
        }
        r.used += given - left;
        r.made += made;
        for (size_t i = 0; i < made; i++) {
            r.hash = (r.hash ^ out[i]) * 1099511628211u;
        }
    }
    r.ended = unpack_ended(u);
    unpack_free(u);
    free(out);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    enum unpack_kind kind = (enum unpack_kind)(1 + fuzz_u8(&in) % 3);
    struct result whole = run(in, kind, 0), cut = run(in, kind, (uint32_t)size * 31 + 1);
    if (whole.rc == 0 && whole.made < ALL_MAX && whole.ended && whole.used == in.size) {
        fuzz_check(cut.rc == 0 && cut.ended && cut.hash == whole.hash && cut.made == whole.made);
    }
    return 0;
}
