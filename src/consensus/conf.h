/* The membership as of one log entry: a list of members, and its bytes in the log.
 *
 * The bytes are those of libraft's RAFT_CHANGE entries, since the library decodes them itself, but
 * without bounds checks; everything from disk or network passes conf_decode() first.
 *
 *   u8 format = 1 | u64 count | count x { u64 id | address, 0-terminated | u8 role } | 0 to 8 bytes
 *
 * Thread: any; pure. */
#ifndef TESSERA_CONSENSUS_CONF_H
#define TESSERA_CONSENSUS_CONF_H

#include "tessera/consensus.h"

struct buf;

struct conf {
    unsigned count;
    struct consensus_member members[MEMBERS_MAX];
};

/* TSR_EPROTO: not a membership with 1 .. MEMBERS_MAX members, unique ids and addresses, valid
 * roles. */
int conf_decode(const void *data, size_t size, struct conf *out);
int conf_encode(const struct conf *conf, struct buf *out);

/* NULL if absent. */
const struct consensus_member *conf_find(const struct conf *conf, uint64_t id);
unsigned conf_voters(const struct conf *conf);
/* @id is a voter and there is no other. */
bool conf_sole_voter(const struct conf *conf, uint64_t id);

/* Make @out from @old. TSR_EEXIST (id or address in use), TSR_ENOENT, TSR_ETOOBIG, TSR_EINVAL. */
int conf_add(const struct conf *old, uint64_t id, const char *address, struct conf *out);
int conf_role(const struct conf *old, uint64_t id, enum consensus_role role, struct conf *out);
int conf_remove(const struct conf *old, uint64_t id, struct conf *out);

#endif
