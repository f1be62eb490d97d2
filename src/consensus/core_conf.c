/* The memberships that the log in memory contains, and libraft's form of them. */
#include <string.h>

#include "consensus/core_private.h"

static int conf_newest(struct core *core)
{
    if (core->conf_count == 0) {
        core->conf.count = 0;
        return 0;
    }
    const struct payload *p = core->confs[core->conf_count - 1].bytes;
    return conf_decode(p->data, p->size, &core->conf);
}

/* Keeps its own reference. Old ones that are no longer asked for make room: of those at or below
 * the commit only the newest at each snapshot matters, and snapshots follow long before 256
 * changes. */
int conf_push(struct core *core, uint64_t index, struct payload *bytes)
{
    if (core->conf_count == sizeof core->confs / sizeof core->confs[0]) {
        payload_unref(core->confs[0].bytes);
        core->conf_count--;
        memmove(&core->confs[0], &core->confs[1], core->conf_count * sizeof core->confs[0]);
    }
    core->confs[core->conf_count++] =
        (struct conf_entry){.index = index, .bytes = payload_ref(bytes)};
    return conf_newest(core);
}

int conf_truncate(struct core *core, uint64_t index)
{
    while (core->conf_count && core->confs[core->conf_count - 1].index >= index) {
        payload_unref(core->confs[--core->conf_count].bytes);
    }
    return conf_newest(core);
}

/* Keep the newest at or below @index and all after it. */
void conf_cut(struct core *core, uint64_t index)
{
    unsigned drop = 0;
    while (drop + 1 < core->conf_count && core->confs[drop + 1].index <= index) {
        payload_unref(core->confs[drop++].bytes);
    }
    core->conf_count -= drop;
    memmove(&core->confs[0], &core->confs[drop], core->conf_count * sizeof core->confs[0]);
}

void conf_clear(struct core *core)
{
    while (core->conf_count) {
        payload_unref(core->confs[--core->conf_count].bytes);
    }
    core->conf.count = 0;
}

int conf_to_raft(const void *data, size_t size, struct raft_configuration *out)
{
    struct conf conf;
    raft_configuration_init(out);
    int rc = conf_decode(data, size, &conf);
    for (unsigned i = 0; rc == 0 && i < conf.count; i++) {
        const struct consensus_member *m = &conf.members[i];
        if (raft_configuration_add(out, m->id, m->address, (int)m->role) != 0) {
            rc = TSR_ENOMEM;
        }
    }
    if (rc) {
        raft_configuration_close(out);
    }
    return rc;
}

const struct conf *core_conf(const struct core *core)
{
    return &core->conf;
}

bool core_change_pending(const struct core *core)
{
    return core->raft.configuration_uncommitted_index != 0;
}

const struct payload *core_conf_at(const struct core *core, uint64_t index, uint64_t *index_out)
{
    for (unsigned i = core->conf_count; i > 0; i--) {
        if (core->confs[i - 1].index <= index) {
            *index_out = core->confs[i - 1].index;
            return core->confs[i - 1].bytes;
        }
    }
    return NULL;
}
