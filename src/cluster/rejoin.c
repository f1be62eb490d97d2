/* Hosts whose log, vote or store can not be vouched for, and whether all states agree.
 *
 * Log or vote damaged: such a host runs no consensus. It asks each host it knows, over the peer
 * port, with the certificate that it still has (method host.rejoin). The leader shows the damage to
 * everybody and, when a majority of all voters is there without that host, records it under its
 * next incarnation: what its old log or vote said can never count again, its old member leaves the
 * group, the new one gets the whole state and is promoted as any joining host. As the host that
 * asks has no say in that commit, the majority surely holds everything that was acknowledged. First
 * it asks without a nonce, which only asks whether it may; the nonce, which it makes durable before
 * it sends it, is the command's id, so that an answer that was lost is given again.
 *
 * Store damaged or different: every CHECK_EVERY_MS the leader names an index; each report carries
 * the digest of the state there. Who met damaged records or differs, while a majority of the hosts
 * agrees with the leader, is told in the answer to its report to rebuild, and comes back as above.
 * A leader in the minority hands over leadership first. With no majority on either side nobody
 * discards anything: STATE_DIVERGED stays until an operator decides. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/log.h"

enum {
    CHECK_EVERY_MS = 5000,
    HAND_OVER_EVERY_MS = 5000,
    REJOIN_GAP_US = 2 * 1000 * 1000,   /* between two rejoins of one host */
    REBUILD_GAP_US = 20 * 1000 * 1000, /* and before a host is told to do it again */
    TELL_REBUILT_MS = 60 * 1000,       /* how long a rebuilt host says so */
};

/* --- may the group do without that host? -------------------------------------------------------
 */

/* Whether voters that answer, without @host, are a majority of all. */
static bool enough_without(struct cluster *c, uint64_t host, char *why, size_t why_size)
{
    struct consensus_status *st = malloc(sizeof(*st));
    tsr_assert(st != NULL);
    consensus_status(c->o.consensus, st);
    unsigned voters = 0, there = 0;
    for (unsigned i = 0; i < st->member_count; i++) {
        uint64_t id = st->members[i].id >> 16;
        if (st->members[i].role == CONSENSUS_VOTER) {
            voters++;
            there += id != host && health_fresh(c, id);
        }
    }
    free(st);
    (void)snprintf(why, why_size,
                   "%u of %u voters answer without it, %u are needed: nothing is discarded", there,
                   voters, voters / 2 + 1);
    return there >= voters / 2 + 1;
}

/* --- host.rejoin (leader) -----------------------------------------------------------------------
 */

/* Shown by `status` on every host until the host reports again by itself. */
static void show_damage(struct cluster *c, uint64_t host, const json_t *args)
{
    struct host_seen *s = health_seen(c, host);
    if (s == NULL) {
        return;
    }
    const char *code = json_str_or(args, "code", "LOG_DAMAGED");
    bool known = strcmp(code, "LOG_DAMAGED") == 0 || strcmp(code, "STATE_DAMAGED") == 0 ||
                 strcmp(code, "STATE_DIVERGED") == 0 || strcmp(code, "HOST_TWICE") == 0;
    json_t *report = json_object();
    json_set_str(report, "damage", known ? code : "LOG_DAMAGED");
    json_set_str(report, "damage_reason", json_str_or(args, "reason", ""));
    json_set_str(report, "version", json_str_or(args, "version", ""));
    json_decref(s->report);
    s->report = report; /* report_ms stays: it is not up */
    s->diverged = false;
}

static void command_id(uint64_t host, const char *nonce, uint8_t out[COMMAND_ID_SIZE])
{
    char text[128];
    uint8_t hash[DIGEST_MAX];
    (void)snprintf(text, sizeof(text), "rejoin %llu %s", (unsigned long long)host, nonce);
    digest_of(DIGEST_SHA256, text, strlen(text), hash);
    memcpy(out, hash, COMMAND_ID_SIZE);
}

static void rejoined(struct cluster *c, void *arg, int status, json_t *result,
                     const struct err *err)
{
    struct cluster_op *op = arg;
    if (status == 0) {
        log_warn("cluster", "host=%llu rejoins as incarnation %lld after %s: %s",
                 (unsigned long long)op->from, (long long)json_int(result, "incarnation", 0),
                 json_str_or(op->args, "code", "?"), json_str_or(op->args, "reason", "?"));
        cluster_kick(c);
    }
    op_done(op, status, json_incref(result), err);
}

static json_t *add_command(const json_t *record)
{
    static const char *const kept[] = {"name",         "zone",         "roles",  "api_url",
                                       "peer_address", "raft_address", "version"};
    json_t *add = json_pack("{s:s}", "op", "host.add");
    for (size_t i = 0; i < array_len(kept); i++) {
        json_object_set(add, kept[i], json_object_get(record, kept[i]));
    }
    json_set_int(add, "rejoin", json_int(record, "id", 0));
    return add;
}

/* A bound for what goes wrong again and again. */
static bool joined_within(struct cluster *c, const json_t *record, int64_t gap_us)
{
    int64_t age = loop_wall_us(c->o.loop) - json_int(record, "joined_at", 0);
    return json_int(record, "incarnation", 1) > 1 && age >= 0 && age < gap_us;
}

/* @record is the asking host's. An ask under an older incarnation is the same one again (then its
 * outcome is in the store), or that of a clone or an old backup. */
static void rejoin_decide(struct cluster_op *op, struct meta_view *view, const json_t *record)
{
    struct cluster *c = op->c;
    uint8_t id[COMMAND_ID_SIZE];
    char why[128];
    const char *nonce = json_str(op->args, "nonce");
    int code = 0;
    json_t *again = NULL;
    if (nonce != NULL) {
        command_id(op->from, nonce, id);
        if (meta_outcome(view, id, &code, &again) == 0 && code == 0) {
            op_done(op, 0, again, NULL);
            return;
        }
        json_decref(again);
    }
    if (json_int(record, "raft_id", 0) != json_int(op->args, "raft_id", 0)) {
        op_fail(op, TSR_EFORBIDDEN,
                "this host is in the cluster under another incarnation: the one that asks is a "
                "clone or an old backup");
        return;
    }
    if (life_rejoin_refused(c, op->from)) {
        op_fail(op, TSR_EEXIST,
                "another process of this host is alive: the one that asks runs on a"
                " copy of its data_dir, or was started only now");
        return;
    }
    show_damage(c, op->from, op->args);
    if (!enough_without(c, op->from, why, sizeof(why))) {
        op_fail(op, TSR_ENOQUORUM, "%s", why);
    } else if (joined_within(c, record, REJOIN_GAP_US)) {
        op_fail(op, TSR_EBUSY, "the host has joined only now: it waits before it does so again");
    } else if (nonce == NULL) {
        op_done(op, 0, json_object(), NULL);
    } else {
        cluster_submit_as(c, id, add_command(record), rejoined, op);
    }
}

void rejoin_op(struct cluster_op *op)
{
    struct cluster *c = op->c;
    struct meta_view *view = NULL;
    json_t *record = NULL;
    if (cluster_leader_host(c) == op->from) { /* it asks the others, not itself */
        op_fail(op, TSR_EEXIST, "another process of this host is alive, and leads");
        return;
    }
    if (!c->leader) {
        op_fail(op, TSR_ENOTLEADER, "this host does not lead");
        return;
    }
    int rv = meta_view_open(c->o.meta, &view);
    if (rv != 0) {
        op_fail(op, rv, "the store can not be read");
        return;
    }
    rv = meta_host_get(view, op->from, &record);
    if (rv != 0 || strcmp(json_str_or(record, "state", ""), "left") == 0) {
        op_fail(op, TSR_EFORBIDDEN,
                "this host was removed from the cluster: empty its data_dir and join it anew");
    } else {
        rejoin_decide(op, view, record);
    }
    json_decref(record);
    meta_view_close(view);
}

/* --- digests ------------------------------------------------------------------------------------
 */

static bool digest_text(struct cluster *c, uint64_t index, char out[2 * FSM_DIGEST_SIZE + 1])
{
    uint8_t digest[FSM_DIGEST_SIZE];
    if (index == 0 || meta_digest_at(c->o.meta, index, digest) != 0) {
        return false;
    }
    hex_encode(digest, FSM_DIGEST_SIZE, out);
    return true;
}

void rejoin_report(struct cluster *c, json_t *report)
{
    char text[2 * FSM_DIGEST_SIZE + 1];
    if (digest_text(c, c->check_index, text)) {
        json_set_int(report, "check_index", (int64_t)c->check_index);
        json_set_str(report, "check_digest", text);
    }
    if (c->o.rebuilt_code != NULL && cluster_now(c) - c->started_ms < TELL_REBUILT_MS) {
        json_set_str(report, "damage", c->o.rebuilt_code);
        json_set_str(report, "damage_reason", c->o.rebuilt_reason);
    }
}

void rejoin_heard(struct cluster *c, struct host_seen *s)
{
    char own[2 * FSM_DIGEST_SIZE + 1];
    const char *digest = json_str(s->report, "check_digest");
    uint64_t index = (uint64_t)json_int(s->report, "check_index", 0);
    if (c->leader && digest != NULL && s->id != c->o.self && digest_text(c, index, own)) {
        bool differs = strcmp(own, digest) != 0;
        if (differs && !s->diverged) {
            log_error("cluster", "STATE_DIVERGED: the state of host=%llu differs at index %llu",
                      (unsigned long long)s->id, (unsigned long long)index);
        }
        s->diverged = differs;
    }
    json_set_bool(s->report, "diverged", s->diverged);
}

/* Of the hosts in the cluster: how many there are, and how many of them, heard lately, agree with
 * or differ from this leader. */
static void count_states(struct cluster *c, unsigned *all, unsigned *agree, unsigned *differ)
{
    struct placement_host hosts[CLUSTER_HOSTS_MAX];
    size_t n = health_hosts(c, hosts);
    *all = (unsigned)n;
    *agree = *differ = 0;
    for (size_t i = 0; i < n; i++) {
        struct host_seen *s = health_seen(c, hosts[i].id);
        if (hosts[i].id == c->o.self) {
            (*agree)++;
        } else if (s != NULL && health_fresh(c, s->id) && s->diverged) {
            (*differ)++;
        } else if (s != NULL && health_fresh(c, s->id) &&
                   json_str(s->report, "check_digest") != NULL) {
            (*agree)++;
        }
    }
}

static bool rebuilt_lately(struct cluster *c, uint64_t host)
{
    struct meta_view *view = NULL;
    json_t *record = NULL;
    bool lately = true;
    if (meta_view_open(c->o.meta, &view) == 0) {
        lately =
            meta_host_get(view, host, &record) != 0 || joined_within(c, record, REBUILD_GAP_US);
        meta_view_close(view);
        json_decref(record);
    }
    return lately;
}

void rejoin_answer(struct cluster *c, struct host_seen *s, json_t *answer)
{
    unsigned all, agree, differ;
    char why[128];
    const char *code = NULL, *reason = NULL;
    json_set_int(answer, "check", (int64_t)c->check_index);
    if (json_int(s->report, "damaged_records", 0) > 0) {
        code = "STATE_DAMAGED";
        reason = "records of the metadata store fail their checksum";
    } else if (s->diverged) {
        count_states(c, &all, &agree, &differ);
        if (agree >= all / 2 + 1) {
            code = "STATE_DIVERGED";
            reason = "the metadata differs from that of the majority";
        }
    }
    if (code != NULL && enough_without(c, s->id, why, sizeof(why)) && !rebuilt_lately(c, s->id)) {
        json_object_set_new(answer, "rebuild",
                            json_pack("{s:s,s:s}", "code", code, "reason", reason));
    }
}

void rejoin_answered(struct cluster *c, json_t *answer)
{
    const json_t *rebuild = json_obj(answer, "rebuild");
    c->check_index = (uint64_t)json_int(answer, "check", 0);
    if (rebuild != NULL && c->o.on_rebuild != NULL) {
        c->o.on_rebuild(c->o.arg, json_str_or(rebuild, "code", "STATE_DAMAGED"),
                        json_str_or(rebuild, "reason", ""));
    }
}

static void handed_over(void *arg, int status)
{
    (void)status;
    cluster_unpend(arg);
}

void rejoin_duty(struct cluster *c)
{
    uint64_t now = cluster_now(c);
    unsigned all, agree, differ;
    if (now >= c->check_next_ms) {
        c->check_next_ms = now + CHECK_EVERY_MS;
        c->check_index = consensus_applied(c->o.consensus);
    }
    count_states(c, &all, &agree, &differ);
    bool ill = meta_damaged(c->o.meta) > 0 || differ >= all / 2 + 1;
    if (!ill || all < 3 || now < c->hand_over_ms) {
        return;
    }
    c->hand_over_ms = now + HAND_OVER_EVERY_MS;
    log_error("cluster", "the store of this host is damaged: leadership is handed over");
    c->pending++;
    if (consensus_transfer(c->o.consensus, 0, handed_over, c) != 0) {
        cluster_unpend(c);
    }
}
