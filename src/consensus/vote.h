/* Term and vote: two checksummed copies with generations in two files. Blocking.
 *
 * Each store writes and syncs the first copy, then the second with the same content, so that any
 * one damaged, missing or outdated copy is harmless whatever the cause: a torn write was never
 * acknowledged, and rot leaves the other copy, which is as new. The first log entry or marker may
 * be written only after the first vote_store: then a directory with a log or marker but without a
 * valid copy has lost its vote. TSR_ECORRUPT: no valid copy although one must exist, or two that
 * contradict each other: this host must not vote. A pair that was rolled back together can be known
 * by the log only: the caller must treat a term lower than disklog_last_term() (or the marker's
 * term) as TSR_ECORRUPT too. TSR_ENOTSUP: a copy was written by a newer version; both are left as
 * they are. */
#ifndef TESSERA_CONSENSUS_VOTE_H
#define TESSERA_CONSENSUS_VOTE_H

#include "tessera/base/err.h"
#include "tessera/sys/fs.h"

struct vote {
    uint64_t generation, term, voted_for;
};
/* Fresh directory: 0 with all zero. A copy that is damaged or older is made equal to the newest
 * before this returns, so what was loaded survives one more fault. */
int vote_load(struct fs *fs, const char *dir, struct vote *out, struct err *err);
/* Writes generation + 1 over both copies; durable on 0. @v->generation is advanced. After an error
 * it is not known which vote the disk holds: the host must stop. */
int vote_store(struct fs *fs, const char *dir, struct vote *v);

/* Whether any copy is there, of whatever content. */
bool vote_exists(struct fs *fs, const char *dir);

#endif
