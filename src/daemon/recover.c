/* tesserad --recover: the operator's way out when so many voters are lost for good that no majority
 * will ever be there again.
 *
 * Without an index it tells how far this host's log goes and who voted, and changes nothing that
 * counts. With the index that it told it makes this host the only voter: what its log holds is what
 * the cluster knows from then on; what only the lost hosts had acknowledged is gone. The other
 * hosts stay recorded: one whose log is damaged and that waits rejoins by itself, others are
 * removed or emptied. The host must not run meanwhile. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

static int refuse(int code, const char *reason)
{
    (void)fprintf(stderr, "tesserad: %s\n", reason);
    return code;
}

static void tell(struct daemon *d, const struct consensus_status *st, uint64_t term)
{
    (void)printf("host %s: its log ends in term %" PRIu64 " at index %" PRIu64
                 "\nvoters (by host id):",
                 d->files.me.name, term, st->last_index);
    for (unsigned i = 0; i < st->member_count; i++) {
        if (st->members[i].role == CONSENSUS_VOTER) {
            (void)printf(" %" PRIu64 "%s", st->members[i].id >> 16,
                         st->members[i].id == st->self ? " (this host)" : "");
        }
    }
    (void)printf("\n");
}

static int decide(struct daemon *d, const struct consensus_status *st, const char *index)
{
    char *end = NULL;
    tell(d, st, consensus_last_term(d->consensus));
    if (index == NULL) {
        (void)printf(
            "Take the host with the highest term, and among those the highest index. To make"
            " this one the only voter: --recover %" PRIu64 "\n",
            st->last_index);
        return 0;
    }
    if (strtoull(index, &end, 10) != st->last_index || *end != '\0' || *index == '\0') {
        return refuse(EXIT_CONFIG,
                      "that is not the index at which the log ends: nothing was changed");
    }
    int rv = consensus_recover(d->consensus);
    if (rv != 0) {
        (void)fprintf(stderr, "tesserad: not recovered: %s\n", err_text(rv));
        return exit_code_of(rv);
    }
    (void)printf("host %s is the only voter now; start it\n", d->files.me.name);
    return 0;
}

int recover_run(struct daemon *d, const char *index)
{
    struct err err = {0};
    int rv = data_dir_hold(d);
    if (rv != 0) {
        return refuse(rv, "nothing was changed; if this host runs, stop it first");
    }
    if (uv_loop_create("control", &d->control) != 0) {
        return refuse(EXIT_RESOURCES, "out of memory");
    }
    rv = host_files_load(d->cfg.data_dir, &d->files, &err);
    if (rv == TSR_ENOENT) {
        return refuse(EXIT_CONFIG, "this host is in no cluster");
    }
    if (rv == 0 && (d->files.discard || damage_load(d->cfg.data_dir, &d->damage) == 0)) {
        rv = err_set(&err, TSR_ECORRUPT, "damage was noted here: take another host");
    }
    if (rv == 0) {
        rv = facts_open(d, &err);
    }
    if (rv != 0) {
        return refuse(exit_code_of(rv), err.msg[0] != '\0' ? err.msg : err_text(rv));
    }
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(d->consensus, st);
    int code = decide(d, st, index);
    free(st);
    (void)fflush(stdout);
    _exit(code); /* the half-open parts end with the process; all that counts is on disk */
}
