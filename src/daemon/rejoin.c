/* A host of a cluster that can not vouch for its log, vote or store asks to come back.
 *
 * It runs no consensus, so it has no vote, and serves the local socket only (form.c). hosts.json,
 * kept up to date while all is well, tells whom to ask (and a host that starts without a majority
 * how old its state may be). Each host is asked in turn, over the peer port: the one that leads
 * shows the damage in `status` on every host, and says whether the others can do without this one.
 * When they can, a nonce is made durable and the same host is asked for good; its answer is this
 * host's next incarnation, and damage_finish and a fresh start follow. As long as nobody leads, or
 * this host is needed for a majority, nothing is discarded: it asks again and again, and an
 * operator may join it with a token or put the right files back.
 *
 * Without another host in hosts.json nobody can ever confirm: the process ends with EXIT_DAMAGED.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/fs.h"

enum {
    ASK_TIMEOUT_MS = 12000, /* a command may take 10 s */
    NEXT_MS = 200,          /* to the next host */
    ROUND_MS = 2000,        /* after all were asked in vain */
    HOSTS_MAX_BYTES = 256 * 1024,
    KEEP_EVERY_MS = 1000,
    CONTACT_EVERY_S = 30, /* by so much it may be noted too early */
    STORE_BEHIND_S = 5,   /* the store of a process that is killed misses less than that */
    TWICE_MS = 6000, /* another process of this host is alive for so long: it is no late echo */
};

struct rejoin {
    struct daemon *d;
    json_t *hosts; /* of hosts.json, without this one */
    struct peer_client *peers;
    struct peer_call call;
    char *text; /* of the call */
    struct timer timer;
    size_t at; /* whom to ask */
    bool asking, stopped;
    char *why; /* for the local socket */
    size_t why_size;
    char said[ERR_MSG_SIZE]; /* last answer that was logged */
    uint64_t twice_ms;       /* since when only "another process is alive" is heard; 0 = not */
    void (*done)(void *arg);
    void *arg;
};

/* --- hosts.json ---------------------------------------------------------------------------------
 */

struct keep {
    struct work work;
    struct daemon *d;
    char *text;
    size_t size;
    int rc;
};

static void keep_run(struct work *work)
{
    struct keep *k = container_of(work, struct keep, work);
    char path[PATH_BYTES];
    path_join(path, k->d->cfg.data_dir, "hosts.json");
    k->rc = fs_write_file(fs_real(), path, k->text, k->size);
}

static void keep_done(struct work *work)
{
    struct keep *k = container_of(work, struct keep, work);
    struct daemon *d = k->d;
    d->hosts_writing = false;
    if (k->rc == 0) {
        free(d->hosts_text);
        d->hosts_text = k->text;
    } else {
        free(k->text); /* tried again */
    }
    free(k);
}

/* When a majority was last in touch, in seconds since 1970; 0: not in this life of the process. */
static int64_t contact_at(struct daemon *d)
{
    struct cluster_health health;
    cluster_health(d->cluster, &health);
    if (!health.met) {
        return d->contact_s;
    }
    int64_t at =
        loop_wall_us(d->control) / 1000000 - (int64_t)(health.stale_ms / 1000) - STORE_BEHIND_S;
    return at - at % CONTACT_EVERY_S;
}

/* The other hosts and that time, as text; NULL before the store knows any host. */
static char *others(struct daemon *d, size_t *size_out)
{
    struct meta_view *view = NULL;
    json_t *list = NULL, *out = json_array(), *h;
    size_t i;
    if (meta_view_open(d->meta, &view) == 0) {
        (void)meta_host_list(view, &list);
        meta_view_close(view);
    }
    json_array_foreach(list, i, h)
    {
        if ((uint64_t)json_int(h, "id", 0) != d->files.me.host_id &&
            strcmp(json_str_or(h, "state", ""), "left") != 0) {
            json_array_append_new(out, json_pack("{s:I,s:s,s:s}", "id", json_int(h, "id", 0),
                                                 "name", json_str_or(h, "name", ""), "peer_address",
                                                 json_str_or(h, "peer_address", "")));
        }
    }
    json_t *file = json_pack("{s:o, s:I}", "hosts", out, "contact_s", (json_int_t)contact_at(d));
    char *text = json_array_size(list) > 0 ? json_text(file, size_out) : NULL;
    json_decref(list);
    json_decref(file);
    return text;
}

static void on_keep(struct timer *timer)
{
    struct daemon *d = container_of(timer, struct daemon, hosts_timer);
    if (atomic_load(&d->stopping)) {
        return;
    }
    timer_start(&d->hosts_timer, KEEP_EVERY_MS);
    size_t size = 0;
    char *text = d->hosts_writing ? NULL : others(d, &size);
    if (text == NULL || (d->hosts_text != NULL && strcmp(text, d->hosts_text) == 0)) {
        free(text);
        return;
    }
    struct keep *k = calloc(1, sizeof(*k));
    tsr_assert(k != NULL);
    *k = (struct keep){.work = {.loop = d->control, .run = keep_run, .done = keep_done},
                       .d = d,
                       .text = text,
                       .size = size};
    d->hosts_writing = true;
    pool_submit(d->disk_pool, &k->work);
}

void rejoin_keep_hosts(struct daemon *d)
{
    timer_init(&d->hosts_timer, d->control, on_keep);
    timer_start(&d->hosts_timer, 1);
}

/* hosts.json, or NULL. */
static json_t *read_hosts(const struct daemon *d)
{
    char path[PATH_BYTES], *text = NULL;
    size_t size = 0;
    path_join(path, d->cfg.data_dir, "hosts.json");
    if (fs_read_file(fs_real(), path, HOSTS_MAX_BYTES, &text, &size) != 0) {
        return NULL;
    }
    json_t *file = json_parse(text, size);
    free(text);
    return file;
}

int64_t rejoin_contact(const struct daemon *d)
{
    json_t *file = read_hosts(d);
    int64_t at = json_int(file, "contact_s", 0);
    json_decref(file);
    return at;
}

bool rejoin_possible(const struct daemon *d)
{
    json_t *file = read_hosts(d);
    bool any = json_array_size(json_arr(file, "hosts")) > 0;
    json_decref(file);
    return any;
}

static bool address_of(void *arg, uint64_t host_id, char *out, size_t size)
{
    const struct rejoin *r = arg;
    size_t i;
    json_t *h;
    json_array_foreach(r->hosts, i, h)
    {
        if ((uint64_t)json_int(h, "id", 0) == host_id) {
            return str_copy(out, size, json_str_or(h, "peer_address", ""));
        }
    }
    return false;
}

/* --- asking -------------------------------------------------------------------------------------
 */

static void ask(struct rejoin *r);

static const char *name_at(const struct rejoin *r)
{
    return json_str_or(json_array_get(r->hosts, r->at), "name", "?");
}

/* Refusals that say more than "not me" are worth a line, once. */
static void say(struct rejoin *r, int status, const char *text)
{
    if (status == TSR_ENOTLEADER || status == TSR_ECONNECT || status == TSR_ETIMEOUT) {
        return;
    }
    (void)snprintf(r->why, r->why_size, "%s: %s. %s answers: %s", r->d->damage.code,
                   r->d->damage.reason, name_at(r), text);
    if (strcmp(r->said, text) != 0) {
        (void)str_copy(r->said, sizeof(r->said), text);
        log_warn("rejoin", "%s does not confirm: %s", name_at(r), text);
    }
}

static void finish(struct rejoin *r, uint64_t raft_id)
{
    struct daemon *d = r->d;
    int rv = raft_id >> 16 == d->files.me.host_id && raft_id > d->files.me.raft_id
                 ? damage_finish(d, raft_id)
                 : TSR_EPROTO;
    if (rv != 0) {
        say(r, rv, err_text(rv));
        timer_start(&r->timer, ROUND_MS);
        return;
    }
    log_warn("rejoin",
             "confirmed by %s: a new log and store as incarnation %llu; the old files are"
             " in damaged/, blobs stay",
             name_at(r), (unsigned long long)(raft_id & 0xffff));
    r->stopped = true;
    r->done(r->arg);
}

/* 0: what may be lost can be told again. */
static int make_nonce(struct rejoin *r)
{
    struct daemon *d = r->d;
    uint8_t random[16];
    loop_random(d->control, random, sizeof(random));
    hex_encode(random, sizeof(random), d->damage.nonce);
    int rv = damage_store(d->cfg.data_dir, &d->damage);
    if (rv != 0) {
        d->damage.nonce[0] = '\0';
        say(r, rv, "damage.json can not be written");
    }
    return rv;
}

/* The other process has what it needs; this one would take its place as soon as it restarts. */
static void check_twice(struct rejoin *r, int status)
{
    uint64_t now = loop_now_ms(r->d->control);
    if (status == 0) {
        r->twice_ms = 0;
    } else if (status == TSR_EEXIST && r->twice_ms == 0) {
        r->twice_ms = now;
    } else if (status == TSR_EEXIST && now - r->twice_ms >= TWICE_MS) {
        daemon_twice();
    }
}

static void answered(struct peer_call *call, int status, struct peer_bytes head,
                     struct peer_bytes body)
{
    struct rejoin *r = call->arg;
    (void)body;
    free(r->text);
    r->text = NULL;
    r->asking = false;
    if (r->stopped) {
        return;
    }
    json_t *answer = head.size > 0 ? json_parse(head.data, head.size) : NULL;
    check_twice(r, status);
    if (status == 0 && r->d->damage.nonce[0] != '\0') {
        finish(r, (uint64_t)json_int(answer, "raft_id", 0));
    } else if (status == 0 && make_nonce(r) == 0) {
        ask(r);
    } else {
        say(r, status, json_str_or(answer, "error", err_text(status)));
        r->at = (r->at + 1) % json_array_size(r->hosts);
        timer_start(&r->timer, r->at == 0 ? ROUND_MS : NEXT_MS);
    }
    json_decref(answer);
}

static void ask(struct rejoin *r)
{
    struct daemon *d = r->d;
    size_t size = 0;
    const char *nonce = d->damage.nonce;
    json_t *head = json_pack("{s:s,s:{s:s,s:s,s:I,s:s,s:s?}}", "method", "host.rejoin", "args",
                             "code", d->damage.code, "reason", d->damage.reason, "raft_id",
                             (json_int_t)d->files.me.raft_id, "version", TSR_VERSION, "nonce",
                             nonce[0] != '\0' ? nonce : NULL);
    r->text = head != NULL ? json_text(head, &size) : NULL;
    tsr_assert(r->text != NULL);
    json_decref(head);
    r->call = (struct peer_call){
        .host_id = (uint64_t)json_int(json_array_get(r->hosts, r->at), "id", 0),
        .type = PEER_CONTROL,
        .head = {r->text, size},
        .timeout_ms = ASK_TIMEOUT_MS,
        .cb = answered,
        .arg = r,
    };
    r->asking = true;
    peer_call_start(peer_client_net(r->peers), &r->call);
}

static void on_timer(struct timer *timer)
{
    struct rejoin *r = container_of(timer, struct rejoin, timer);
    if (!r->stopped && !r->asking) {
        ask(r);
    }
}

/* --- life ---------------------------------------------------------------------------------------
 */

int rejoin_start(struct daemon *d, char *why, size_t why_size, void (*done)(void *arg), void *arg,
                 struct rejoin **out)
{
    struct rejoin *r = calloc(1, sizeof(*r));
    tsr_assert(r != NULL);
    *r = (struct rejoin){.d = d, .why = why, .why_size = why_size, .done = done, .arg = arg};
    json_t *file = read_hosts(d);
    r->hosts = json_incref(json_arr(file, "hosts"));
    json_decref(file);
    int rv = json_array_size(r->hosts) > 0
                 ? peer_client_new(d->control, d->peer_client_tls, d->files.me.cluster_id,
                                   address_of, r, &r->peers)
                 : TSR_ENOENT;
    if (rv != 0) {
        json_decref(r->hosts);
        free(r);
        return rv;
    }
    log_error("rejoin",
              "%s: %s: this host does not vote and asks the others to rejoin; or an operator joins "
              "it with `tessera cluster join TOKEN`",
              d->damage.code, d->damage.reason);
    (void)snprintf(why, why_size,
                   "%s: %s. This host asks the others to rejoin; none has answered yet.",
                   d->damage.code, d->damage.reason);
    timer_init(&r->timer, d->control, on_timer);
    timer_start(&r->timer, 1);
    *out = r;
    return 0;
}

static void closed(void *arg)
{
    struct rejoin *r = arg;
    json_decref(r->hosts);
    free(r->text);
    free(r);
}

void rejoin_stop(struct rejoin *r)
{
    if (r != NULL) {
        r->stopped = true;
        timer_stop(&r->timer);
        peer_client_close(r->peers, closed, r);
    }
}
