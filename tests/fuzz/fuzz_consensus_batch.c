/* The payload of a log entry, as commands and as a membership: check and decode agree, decode ->
 * encode -> decode gives the same. */
#include "consensus/batch.h"
#include "consensus/conf.h"
#include "consensus/entries.h"
#include "fuzz.h"
#include "tessera/base/buf.h"
#include "tessera/base/err.h"

static void check_batch(const void *data, size_t size)
{
    int64_t wall, wall2;
    struct fsm_command *commands = NULL, *again = NULL;
    unsigned count = 0, count2 = 0;
    int rc = batch_decode(data, size, &wall, &commands, &count);
    int checked = batch_check(data, size);
    fuzz_check((rc == 0) == (checked == 0));
    if (rc != 0) {
        fuzz_check((rc == TSR_EPROTO || rc == TSR_ENOTSUP) && commands == NULL);
        return;
    }
    struct batch_command *out = calloc(count + 1, sizeof *out);
    fuzz_check(out != NULL);
    for (unsigned i = 0; i < count; i++) {
        out[i] = (struct batch_command){commands[i].id, commands[i].data, commands[i].size};
    }
    struct payload *p = batch_encode(wall, out, count);
    fuzz_check(p != NULL && p->size % 8 == 0);
    fuzz_check(batch_decode(p->data, p->size, &wall2, &again, &count2) == 0);
    fuzz_check(wall2 == wall && count2 == count);
    for (unsigned i = 0; i < count; i++) {
        fuzz_check(memcmp(again[i].id, commands[i].id, COMMAND_ID_SIZE) == 0);
        fuzz_check(again[i].size == commands[i].size);
        fuzz_check(again[i].size == 0 ||
                   memcmp(again[i].data, commands[i].data, again[i].size) == 0);
    }
    payload_unref(p);
    free(out);
    free(commands);
    free(again);
}

static void check_conf(const void *data, size_t size)
{
    struct conf conf, again;
    struct buf b = {0};
    if (conf_decode(data, size, &conf) != 0) {
        return;
    }
    fuzz_check(conf.count >= 1 && conf.count <= MEMBERS_MAX && conf_voters(&conf) <= conf.count);
    fuzz_check(conf_encode(&conf, &b) == 0);
    fuzz_check(conf_decode(b.data, b.size, &again) == 0 && again.count == conf.count);
    for (unsigned i = 0; i < conf.count; i++) {
        const struct consensus_member *m = conf_find(&again, conf.members[i].id);
        fuzz_check(m != NULL && m->role == conf.members[i].role);
        fuzz_check(strcmp(m->address, conf.members[i].address) == 0);
    }
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *copy = fuzz_bytes((struct fuzz_in){data, size});
    check_batch(copy, size);
    check_conf(copy, size);
    free(copy);
    return 0;
}
