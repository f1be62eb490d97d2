/* The one door to libraft: start, step, submit, change, transfer, tick, query; and the part of the
 * log that is kept in memory. No I/O in here: the owner (consensus.c) is told what to write and
 * send, and reports what is done. All guards of guard.h are applied here.
 *
 * Life: core_new -> core_start -> events -> core_free.
 * After each call the owner looks what is to do: core_vote_wanted, core_write_next, core_commit,
 * core_installing, core_timeout_due. Messages leave through `send`, in order, never before the term
 * and vote that they stand for are durable: a step that changes the vote blocks all further steps,
 * which wait in a queue, until core_vote_done.
 *
 * Non-zero from any call is final for this host, but where the comment names it: the state in
 * memory is undefined. Thread: control. */
#ifndef TESSERA_CONSENSUS_CORE_H
#define TESSERA_CONSENSUS_CORE_H

#include "consensus/codec.h"
#include "consensus/conf.h"
#include "consensus/disklog.h"
#include "consensus/entries.h"
#include "consensus/marker.h"

struct core;

struct core_options {
    uint64_t self;
    const char *address;
    unsigned election_ms, heartbeat_ms;
    unsigned seed;
    uint64_t window_bytes;
    uint64_t trailing_count, trailing_bytes; /* kept below a snapshot */
    void (*send)(void *arg, uint64_t to, const struct message *m);
    /* That follower is too far behind for the log; told again and again. */
    void (*need_snapshot)(void *arg, uint64_t to);
    void *arg;
};

int core_new(const struct core_options *options, struct core **out);
void core_free(struct core *core); /* NULL is fine */

/* What was found on disk, before core_start. @marker index 0: none. Entries in order. */
int core_load_marker(struct core *core, const struct marker *marker);
int core_load_entry(struct core *core, uint64_t index, uint64_t term, uint8_t type,
                    const void *data, size_t size);
/* @term must be the durable one, already raised when this host is the sole voter (R2). @applied is
 * what the store holds: it is committed. */
int core_start(struct core *core, uint64_t now_ms, uint64_t term, uint64_t voted_for,
               uint64_t applied);

/* --- events ----------------------------------------------------------------------------------- */

/* One of the first five kinds. */
int core_receive(struct core *core, uint64_t now_ms, uint64_t from, const struct message *m);
/* Forget replies of that peer that wait. */
void core_disconnected(struct core *core, uint64_t from);
int core_timeout(struct core *core, uint64_t now_ms);

/* A new term or vote must be made durable first of all. */
bool core_vote_wanted(const struct core *core, uint64_t *term_out, uint64_t *voted_for_out);
int core_vote_done(struct core *core, uint64_t now_ms);
/* Nothing may be said about term or vote now. */
bool core_blocked(const struct core *core);

/* What the log should do next: remove @truncate and all after it (0 = nothing), then append. */
struct core_write {
    uint64_t truncate;
    unsigned count;
    struct disklog_entry *entries;
    struct payload **payloads;
};
/* Everything that is new since the last one; false if nothing is. One write at a time. TSR_ENOMEM.
 */
bool core_write_next(struct core *core, struct core_write *out);
void core_write_free(struct core_write *w);
/* It is durable. Frees @w. */
int core_write_done(struct core *core, uint64_t now_ms, struct core_write *w);

/* The store is durable up to @marker. */
int core_snapshot(struct core *core, uint64_t now_ms, const struct marker *marker,
                  uint64_t keep_from);

/* Whether a snapshot that ends with @index, @term would be installed, or is not needed here. */
bool core_wants_install(const struct core *core, uint64_t index, uint64_t term);
/* A snapshot is staged whole: @term is that of the leader who sent it. Then core_installing, or
 * not. */
int core_install(struct core *core, uint64_t now_ms, uint64_t from, uint64_t term,
                 const struct marker *marker);
bool core_installing(const struct core *core);
/* Store, marker and log were switched. */
int core_installed(struct core *core, uint64_t now_ms, const struct marker *marker);

/* --- the leader's part: refusals (TSR_ENOTLEADER, TSR_EBUSY: blocked, try later) are not final  */

bool core_can_submit(const struct core *core);
/* Takes over the reference on 0. */
int core_submit(struct core *core, uint64_t now_ms, struct payload *payload, uint64_t *index_out);
/* TSR_ECONFLICT, TSR_EINVAL too. */
int core_change(struct core *core, uint64_t now_ms, const struct conf *next, uint64_t *index_out);
/* 0: under way, see core_catch_up_status; 1: not needed. TSR_ENOENT, TSR_EINVAL too. */
int core_catch_up(struct core *core, uint64_t now_ms, uint64_t id);
/* 0 = none, 1 = running, 2 = aborted, 3 = finished. */
int core_catch_up_status(const struct core *core, uint64_t id);
/* TSR_ENOENT: no such voter. */
int core_transfer(struct core *core, uint64_t now_ms, uint64_t id);
bool core_transferring(const struct core *core);

/* Let followers know at once what was committed. Last, after everything else. */
void core_tell_commit(struct core *core);

/* --- queries ---------------------------------------------------------------------------------- */

bool core_refusal(int rc); /* one of those that are not final */
enum consensus_state core_state(const struct core *core);
uint64_t core_term(const struct core *core);
uint64_t core_leader(const struct core *core);       /* 0 = unknown */
uint64_t core_leader_index(const struct core *core); /* leader: first index of the own term, or 0 */
uint64_t core_commit(const struct core *core);       /* never goes back */
uint64_t core_durable(const struct core *core);
uint64_t core_last_index(const struct core *core);
uint64_t core_first_index(const struct core *core); /* lowest in memory */
uint64_t core_snapshot_index(const struct core *core);
uint64_t core_term_of(const struct core *core, uint64_t index); /* 0 = not known any more */
const struct entry *core_entry(const struct core *core, uint64_t index);
uint64_t core_bytes(const struct core *core, uint64_t from, uint64_t to);
/* The first entry that a marker at @index would leave in the log. */
uint64_t core_trailing_first(const struct core *core, uint64_t index);
uint64_t core_timeout_due(const struct core *core); /* when core_timeout is; may be in the past */
uint64_t core_match(const struct core *core, uint64_t id);
/* Last proof of a quorum (leader), or of a leader. */
uint64_t core_contact_ms(const struct core *core);
/* The newest membership, committed or not; index of its entry. */
const struct conf *core_conf(const struct core *core);
/* A change is in the log and not committed yet. */
bool core_change_pending(const struct core *core);
/* The newest one at or below @index; NULL if not known. */
const struct payload *core_conf_at(const struct core *core, uint64_t index, uint64_t *index_out);

#endif
