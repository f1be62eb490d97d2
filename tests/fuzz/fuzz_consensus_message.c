/* Messages between consensus hosts: decode, encode, decode gives the same message and the same
 * bytes; memberships in it can be decoded by the library's rules. */
#include "consensus/codec.h"
#include "fuzz.h"
#include "tessera/base/buf.h"
#include "tessera/base/err.h"

static void check_entries(const struct message *m)
{
    for (unsigned i = 0; m->kind == MESSAGE_APPEND && i < m->append.count; i++) {
        const struct message_entry *e = &m->append.entries[i];
        struct conf conf;
        fuzz_check(e->type >= ENTRY_COMMAND && e->type <= ENTRY_CHANGE && e->size % 8 == 0);
        fuzz_check(e->type != ENTRY_CHANGE || conf_decode(e->data, e->size, &conf) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *copy = fuzz_bytes((struct fuzz_in){data, size});
    struct message m, again;
    int rc = message_decode(copy, size, &m);
    fuzz_check(rc == 0 || rc == TSR_EPROTO);
    if (rc == 0) {
        struct buf b = {0}, b2 = {0};
        check_entries(&m);
        fuzz_check(message_encode(&m, &b) == 0);
        fuzz_check(b.size == size && memcmp(b.data, copy, size) == 0);
        fuzz_check(message_decode(b.data, b.size, &again) == 0 && again.kind == m.kind);
        fuzz_check(message_encode(&again, &b2) == 0);
        fuzz_check(b2.size == b.size && memcmp(b.data, b2.data, b.size) == 0);
        message_free(&m);
        message_free(&again);
        buf_free(&b);
        buf_free(&b2);
    }
    free(copy);
    return 0;
}
