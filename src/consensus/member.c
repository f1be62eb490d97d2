/* Membership changes and transfer of leadership: the leader's requests, one at a time.
 *
 * A change is a complete new membership that differs in one member. Promotion catches the standby
 * up first; removal of a voter demotes it first. It has ended when its entry is committed and
 * libraft was told so. When leadership is lost meanwhile, the outcome is unknown. */
#include <string.h>

#include "consensus/host.h"

enum {
    CHANGE_START_MS = 10000
}; /* waiting for the first commit of the term, or an earlier change */

static void change_finish(struct consensus *c, int status)
{
    struct members *m = &c->members;
    consensus_change_cb cb = m->cb;
    m->phase = CHANGE_NONE;
    m->cb = NULL;
    if (cb) {
        cb(m->arg, status);
    }
}

static int change_begin(struct consensus *c, uint64_t id, enum consensus_role role, bool remove,
                        const struct conf *next, consensus_change_cb cb, void *arg)
{
    struct members *m = &c->members;
    m->id = id;
    m->role = role;
    m->remove = remove;
    m->next = *next;
    m->cb = cb;
    m->arg = arg;
    m->term = core_term(c->core);
    m->deadline_ms = host_now(c) + CHANGE_START_MS;
    m->phase = CHANGE_START;
    host_pump_later(c);
    return 0;
}

static int change_allowed(struct consensus *c, uint64_t id)
{
    if (c->closing || c->fatal) {
        return TSR_ECANCELED;
    }
    if (core_state(c->core) != CONSENSUS_LEADER) {
        return TSR_ENOTLEADER;
    }
    if (c->members.phase != CHANGE_NONE || c->members.transferring) {
        return TSR_EBUSY;
    }
    return id == c->options.self ? TSR_ECONFLICT : 0;
}

int consensus_member_add(struct consensus *c, uint64_t id, const char *address,
                         consensus_change_cb cb, void *arg)
{
    struct conf next;
    int rc = change_allowed(c, id);
    if (rc == 0) {
        rc = conf_add(core_conf(c->core), id, address, &next);
    }
    return rc ? rc : change_begin(c, id, CONSENSUS_STANDBY, false, &next, cb, arg);
}

int consensus_member_role(struct consensus *c, uint64_t id, enum consensus_role role,
                          consensus_change_cb cb, void *arg)
{
    struct conf next;
    int rc = change_allowed(c, id);
    if (rc == 0) {
        rc = conf_role(core_conf(c->core), id, role, &next);
    }
    if (rc == 0 && conf_find(core_conf(c->core), id)->role == role) {
        rc = TSR_EEXIST;
    }
    return rc ? rc : change_begin(c, id, role, false, &next, cb, arg);
}

int consensus_member_remove(struct consensus *c, uint64_t id, consensus_change_cb cb, void *arg)
{
    struct conf next;
    const struct consensus_member *m = conf_find(core_conf(c->core), id);
    int rc = change_allowed(c, id);
    if (rc == 0 && !m) {
        rc = TSR_ENOENT;
    }
    if (rc) {
        return rc;
    }
    bool voter = m->role == CONSENSUS_VOTER;
    rc = voter ? conf_role(core_conf(c->core), id, CONSENSUS_STANDBY, &next)
               : conf_remove(core_conf(c->core), id, &next);
    return rc ? rc : change_begin(c, id, CONSENSUS_STANDBY, voter, &next, cb, arg);
}

static void change_submit(struct consensus *c)
{
    struct members *m = &c->members;
    int rc = core_change(c->core, host_now(c), &m->next, &m->index);
    if (rc == 0) {
        m->phase = CHANGE_COMMIT;
    } else if (!core_refusal(rc)) {
        host_ok(c, rc);
    } else if (rc != TSR_EBUSY || host_now(c) >= m->deadline_ms) {
        change_finish(c, rc == TSR_EBUSY ? TSR_ETIMEOUT : rc);
    }
}

static void change_start(struct consensus *c)
{
    struct members *m = &c->members;
    const struct consensus_member *now = conf_find(core_conf(c->core), m->id);
    bool promote = now && now->role != CONSENSUS_VOTER && m->role == CONSENSUS_VOTER;
    if (!promote) {
        change_submit(c);
        return;
    }
    uint64_t first = core_leader_index(c->core);
    int rc = first == 0 || core_commit(c->core) < first
                 ? TSR_EBUSY
                 : core_catch_up(c->core, host_now(c), m->id);
    if (rc == 1) {
        change_submit(c);
    } else if (rc == 0) {
        m->phase = CHANGE_CATCH_UP;
    } else if (!core_refusal(rc)) {
        host_ok(c, rc);
    } else if (rc != TSR_EBUSY || host_now(c) >= m->deadline_ms) {
        change_finish(c, rc == TSR_EBUSY ? TSR_ETIMEOUT : rc);
    }
}

static void change_settled(struct consensus *c)
{
    struct members *m = &c->members;
    if (core_commit(c->core) < m->index || core_change_pending(c->core)) {
        return;
    }
    if (!m->remove) {
        change_finish(c, 0);
        return;
    }
    m->remove = false;
    m->deadline_ms = host_now(c) + CHANGE_START_MS;
    if (conf_remove(core_conf(c->core), m->id, &m->next) != 0) {
        change_finish(c, TSR_EINTERNAL);
        return;
    }
    m->phase = CHANGE_START;
    change_submit(c);
}

static void change_pump(struct consensus *c)
{
    struct members *m = &c->members;
    if (m->phase == CHANGE_NONE) {
        return;
    }
    if (core_state(c->core) != CONSENSUS_LEADER || core_term(c->core) != m->term) {
        change_finish(c, m->phase == CHANGE_COMMIT ? TSR_EUNKNOWN : TSR_ENOTLEADER);
        return;
    }
    switch (m->phase) {
    case CHANGE_START:
        change_start(c);
        break;
    case CHANGE_CATCH_UP:
        switch (core_catch_up_status(c->core, m->id)) {
        case 3:
            m->phase = CHANGE_START;
            m->deadline_ms = host_now(c) + CHANGE_START_MS;
            change_submit(c);
            break;
        case 1:
            break;
        default:
            change_finish(c, TSR_ETIMEOUT);
            break;
        }
        break;
    case CHANGE_COMMIT:
        change_settled(c);
        break;
    default:
        break;
    }
}

/* --- transfer --------------------------------------------------------------------------------- */

int consensus_transfer(struct consensus *c, uint64_t id, consensus_change_cb cb, void *arg)
{
    struct members *m = &c->members;
    int rc = change_allowed(c, id);
    if (rc) {
        return rc;
    }
    rc = core_transfer(c->core, host_now(c), id);
    if (rc) {
        if (!core_refusal(rc)) {
            host_ok(c, rc);
        }
        return rc;
    }
    m->transferring = true;
    m->transfer_again = true;
    m->transfer_id = id;
    m->transfer_term = core_term(c->core);
    m->transfer_deadline_ms = host_now(c) + 3 * (uint64_t)c->options.election_ms;
    m->transfer_cb = cb;
    m->transfer_arg = arg;
    host_pump_later(c);
    return 0;
}

static void transfer_finish(struct consensus *c, int status)
{
    struct members *m = &c->members;
    m->transferring = false;
    if (m->transfer_cb) {
        m->transfer_cb(m->transfer_arg, status);
    }
}

static void transfer_pump(struct consensus *c)
{
    struct members *m = &c->members;
    if (!m->transferring) {
        return;
    }
    uint64_t leader = core_leader(c->core);
    if (core_term(c->core) != m->transfer_term) {
        if (leader && leader != c->options.self) {
            transfer_finish(c, 0);
        } else if (leader || host_now(c) >= m->transfer_deadline_ms) {
            transfer_finish(c, TSR_ETIMEOUT);
        }
        return;
    }
    if (core_transferring(c->core)) {
        return;
    }
    /* libraft gave up in silence: the one message may have been lost. */
    if (m->transfer_again && core_state(c->core) == CONSENSUS_LEADER) {
        m->transfer_again = false;
        int rc = core_transfer(c->core, host_now(c), m->transfer_id);
        if (rc == 0) {
            return;
        }
        if (!core_refusal(rc)) {
            host_ok(c, rc);
        }
    }
    transfer_finish(c, core_state(c->core) == CONSENSUS_LEADER ? TSR_ETIMEOUT : TSR_EUNKNOWN);
}

void member_pump(struct consensus *c)
{
    change_pump(c);
    transfer_pump(c);
}

void member_cancel(struct consensus *c)
{
    if (c->members.phase != CHANGE_NONE) {
        change_finish(c, TSR_ECANCELED);
    }
    if (c->members.transferring) {
        transfer_finish(c, TSR_ECANCELED);
    }
}
