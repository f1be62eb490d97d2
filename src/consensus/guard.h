/* The guards that libraft's core needs to be safe, as far as they are pure. Each names the defect
 * (R1 .. R17, docs/consensus.md) it stands for; what it needs from the running core is in core.c.
 * Fields of struct raft are touched here and in core.c only. */
#ifndef TESSERA_CONSENSUS_GUARD_H
#define TESSERA_CONSENSUS_GUARD_H

#include "consensus/codec.h"
#include "consensus/conf.h"
#include "consensus/libraft.h"

enum { GUARD_TIMER_MIN_MS = 5 };

/* R1: the reply to an append or snapshot of an older term must not look like a success. */
void guard_stale_reply(struct raft_append_entries_result *result);
/* R2: a sole voter that would elect itself again in the term it may have led in already. */
bool guard_solo_election(const struct raft *r, uint64_t now_ms);
/* R3: somebody else leads in the term in which we lead. */
bool guard_second_leader(const struct raft *r, const struct raft_message *m);
/* R3, R4 and what libraft leaves unchecked in a change: 0, TSR_EBUSY (one at a time, or no entry of
 * the own term committed yet), TSR_ECONFLICT (the leader itself), TSR_EINVAL (more than one
 * change). */
int guard_change(const struct raft *r, const struct conf *old, const struct conf *next,
                 bool own_term_committed);
/* R5: how many of the @count entries may be delivered in one piece: a CHANGE is first in its piece.
 */
unsigned guard_piece(const struct message_entry *entries, unsigned count);
/* R6: an append that starts below the own snapshot. Returns how many entries were dropped in front.
 */
unsigned guard_prev(const struct raft *r, struct raft_append_entries *append);
/* R7: a refusal that comes after the success that overtook it. */
bool guard_late_refusal(const struct raft *r, uint64_t from,
                        const struct raft_append_entries_result *result);
/* R8: never sooner than 5 ms from now. */
uint64_t guard_timer(uint64_t due_ms, uint64_t now_ms);
/* R10: a non-voter that has heard no leader for an election timeout must vote all the same: it may
 * be a voter without knowing. Makes it one for one step; returns whether it did. */
bool guard_lend_vote(struct raft *r, const struct raft_message *m, uint64_t now_ms,
                     uint64_t heard_ms, int *role_out);
void guard_return_vote(struct raft *r, int role);
/* R12: a refused pre-vote tells the refuser's term. */
void guard_pre_vote(const struct raft *r, struct raft_request_vote_result *result);
/* R13: leadership may be disrupted in the step of the leader's own request only. */
void guard_disrupt(struct raft_request_vote *vote, bool in_timeout_now);
/* R14: vote results mean something to candidates only. */
bool guard_vote_result(const struct raft *r);
/* R16: 0 = start a catch-up, 1 = not needed, or TSR_EBUSY, TSR_ENOENT, TSR_ENOTLEADER, TSR_EINVAL.
 */
int guard_catch_up(const struct raft *r, uint64_t id, uint64_t last_index);
/* R17: a second snapshot while one is being installed. */
bool guard_installing(const struct raft *r);

#endif
