#include "cluster/voters.h"

unsigned voters_wanted(unsigned hosts)
{
    if (hosts <= 3) {
        return hosts;
    }
    return hosts >= VOTERS_MAX ? VOTERS_MAX : 3;
}

static bool votes(const struct voters_member *m)
{
    return m->role == CONSENSUS_VOTER;
}

static const struct voters_member *to_promote(const struct voters_member *members, size_t count)
{
    const struct voters_member *best = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct voters_member *m = &members[i];
        if (votes(m) || !m->recorded || !m->fresh) {
            continue;
        }
        if (best == NULL || (m->image && !best->image)) {
            best = m;
        }
    }
    return best;
}

/* Higher goes first. */
static int demote_rank(const struct voters_member *m)
{
    return (m->lost ? 4 : 0) + (!m->fresh ? 2 : 0) + (!m->image ? 1 : 0);
}

static const struct voters_member *to_demote(const struct voters_member *members, size_t count)
{
    const struct voters_member *worst = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct voters_member *m = &members[i];
        if (!votes(m) || m->self) {
            continue;
        }
        if (worst == NULL || demote_rank(m) >= demote_rank(worst)) {
            worst = m; /* of equals the one that came last */
        }
    }
    return worst;
}

struct voters_change voters_next(const struct voters_member *members, size_t count, unsigned hosts)
{
    unsigned voters = 0;
    for (size_t i = 0; i < count; i++) {
        if (!members[i].recorded && !members[i].self) {
            return (struct voters_change){VOTERS_REMOVE, members[i].id};
        }
        voters += votes(&members[i]);
    }
    const struct voters_member *promote = to_promote(members, count);
    const struct voters_member *demote = to_demote(members, count);
    unsigned wanted = voters_wanted(hosts);
    if (voters < wanted) {
        return promote != NULL ? (struct voters_change){VOTERS_PROMOTE, promote->id}
                               : (struct voters_change){VOTERS_NOTHING, 0};
    }
    bool replace = demote != NULL && demote->lost && promote != NULL;
    if (demote != NULL && (voters > wanted || replace)) {
        return (struct voters_change){VOTERS_DEMOTE, demote->id};
    }
    return (struct voters_change){VOTERS_NOTHING, 0};
}

bool voters_majority_without(const struct voters_member *members, size_t count, uint64_t without)
{
    unsigned voters = 0, likely = 0;
    for (size_t i = 0; i < count; i++) {
        if (votes(&members[i]) && members[i].id != without) {
            voters++;
            likely += members[i].likely;
        }
    }
    return likely > voters / 2;
}
