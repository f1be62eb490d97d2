/* Invariants: while it runs, and after everything has healed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/id.h"
#include "tessera/meta/usage.h"
#include "world.h"

enum {
    COLLECT_MS = 320000,
    NUDGE_MS = 10000,
    COLLECT_LOOK_MS = 2000,
    DOWNLOAD_MS = 20000,
    STATUS_EVERY_MS = 20,
    DURABLE_EVERY_MS = 2000,
    LONG_UP_US = 8000000
};

/* --- while it runs
 * ----------------------------------------------------------------------------------------------------
 */

/* At most one host holds the admin endpoint, paused ones too: what counts is what they would do. */
static void check_holder(struct world *w)
{
    unsigned holder = 0;
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        struct cluster_health health;
        if (!h->up || h->fatal) {
            continue;
        }
        cluster_health(h->cluster, &health);
        if (!health.endpoint) {
            continue;
        }
        if (holder != 0) {
            world_fail(w, "hosts %u and %u both hold the admin endpoint", holder, n);
        }
        holder = n;
    }
    if (holder != 0 && holder != w->holder) {
        world_note(w, "host %u holds the admin endpoint", holder);
        w->holder = holder;
        w->holder_changes++;
    }
}

static void note_leader(struct world *w, uint64_t term, uint64_t id)
{
    if (term >= SIM_TERM_MAX) {
        world_fail(w, "term %llu: elections do not end", (unsigned long long)term);
    }
    if (w->leader_of[term] != 0 && w->leader_of[term] != id) {
        world_fail(w, "two leaders in term %llu: %llx and %llx", (unsigned long long)term,
                   (unsigned long long)w->leader_of[term], (unsigned long long)id);
    }
    w->leaders += w->leader_of[term] == 0;
    w->leader_of[term] = id;
}

static void check_states(struct world *w)
{
    static struct consensus_status st;
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (!h->up || h->fatal) {
            continue;
        }
        consensus_status(h->consensus, &st);
        if (st.state == CONSENSUS_LEADER) {
            note_leader(w, st.term, st.self);
        }
    }
}

/* What clients may rely on is whole on some disk, at any time. Looked at when somebody is up who
 * knows of every delete that was decided: after a power cut at first nobody may. */
static void check_durable(struct world *w)
{
    unsigned live = 0;
    const struct sim_host *ahead = host_ahead(w);
    for (unsigned n = 1; n <= w->host_count; n++) {
        live += w->hosts[n].up;
    }
    if (ahead == NULL || ahead->failing ||
        consensus_applied(ahead->consensus) < check_log_committed(w)) {
        return;
    }
    if (live == hosts_live(w) && w->damaged == 0 && !check_images_elsewhere(w, 0)) {
        world_fail(w, "an image is on no disk any more");
    }
}

void check_step(struct world *w)
{
    uint64_t now = world_ms(w);
    if (now == w->last_check_ms) {
        return;
    }
    check_holder(w);
    if (now / STATUS_EVERY_MS != w->last_check_ms / STATUS_EVERY_MS) {
        check_states(w);
        check_logs(w);
    }
    if (now / DURABLE_EVERY_MS != w->last_check_ms / DURABLE_EVERY_MS) {
        check_durable(w);
    }
    w->last_check_ms = now;
}

void check_leader(struct sim_host *h, uint64_t term)
{
    note_leader(h->w, term, h->raft_id);
}

void check_applied(struct sim_host *h, uint64_t index)
{
    struct world *w = h->w;
    struct fsm_point p;
    if (h->failing || meta_point(h->meta, &p) != 0) {
        return;
    }
    if (p.index < index || p.index >= SIM_INDEX_MAX) {
        world_fail(w, "host %u: applied %llu, the store is at %llu", h->n,
                   (unsigned long long)index, (unsigned long long)p.index);
    }
    if (!w->digest_known[p.index]) {
        w->digest_known[p.index] = true;
        memcpy(w->digests[p.index], p.digest, FSM_DIGEST_SIZE);
    } else if (memcmp(w->digests[p.index], p.digest, FSM_DIGEST_SIZE) != 0) {
        world_fail(w, "host %u: another state at index %llu", h->n, (unsigned long long)p.index);
    }
    world_mix(w, &p, sizeof(p.index) + sizeof(p.term));
    world_mix(w, p.digest, sizeof(p.digest));
}

/* --- members
 * ----------------------------------------------------------------------------------------------------------
 */

static bool members_settled(struct world *w, char *why, size_t size)
{
    static struct consensus_status st;
    struct sim_host *leader = host_leader(w);
    if (leader == NULL) {
        (void)snprintf(why, size, "no leader");
        return false;
    }
    consensus_status(leader->consensus, &st);
    unsigned voters = 0, live = hosts_live(w), wanted = live == 4 ? 3 : live;
    for (unsigned i = 0; i < st.member_count; i++) {
        uint64_t id = st.members[i].id;
        voters += st.members[i].role == CONSENSUS_VOTER;
        if (w->hosts[id >> 16].raft_id != id) {
            (void)snprintf(why, size, "an old incarnation of host %u is a member",
                           (unsigned)(id >> 16));
            return false;
        }
    }
    if (st.member_count != live || voters != wanted) {
        (void)snprintf(why, size, "%u members, %u voters", st.member_count, voters);
        return false;
    }
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (h->gone) {
            continue;
        }
        if (!h->up || consensus_applied(h->consensus) != st.last_index) {
            (void)snprintf(why, size, "host %u is %s, applied %llu of %llu", n,
                           h->up ? "up" : "down",
                           h->up ? (unsigned long long)consensus_applied(h->consensus) : 0,
                           (unsigned long long)st.last_index);
            return false;
        }
    }
    return true;
}

bool check_formed(struct world *w)
{
    char why[200];
    return members_settled(w, why, sizeof(why));
}

/* --- what is on the disks
 * ---------------------------------------------------------------------------------------------- */

static bool on_disk(struct sim_host *h, const char *kind, const char *hex)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "blobs/%s/%.2s/%s", kind, hex, hex);
    return sim_fs_has(h->blob_fs, path);
}

/* Calls @fn for each chunk that the content needs stored. */
static bool each_chunk(uint32_t content, bool (*fn)(void *arg, const char *hex), void *arg)
{
    for (unsigned i = 0; i < content_chunk_count(content); i++) {
        const char *hex = content_chunk(content, i);
        if (hex[0] != '\0' && !fn(arg, hex)) {
            return false;
        }
    }
    return true;
}

struct looking {
    struct sim_host *h;
    char missing[80]; /* "": nothing */
};

static bool there(struct looking *l, const char *kind, const char *hex)
{
    bool found = on_disk(l->h, kind, hex);
    (void)snprintf(l->missing, sizeof(l->missing), "%.5s %.64s", found ? "" : kind,
                   found ? "" : hex);
    return found;
}

static bool chunk_there(void *arg, const char *hex)
{
    return there(arg, "chunks", hex);
}

static const json_t *staged(const json_t *image)
{
    return json_obj(image, "staged");
}

/* Of active, deactivated and staged data. */
static uint32_t content_of(const json_t *image)
{
    return content_of_md5(json_str(staged(image) != NULL ? staged(image) : image, "checksum"));
}

static bool look_whole(struct looking *l, const json_t *image)
{
    return there(l, "manifests", json_str_or(image, "manifest", "")) &&
           each_chunk(content_of(image), chunk_there, l);
}

static bool whole_on(struct sim_host *h, const json_t *image)
{
    struct looking l = {.h = h};
    return look_whole(&l, image);
}

/* Every image as @h knows it. A call that is to fail is the host's, not this one. */
static json_t *all_images(struct sim_host *h)
{
    struct meta_view *view = NULL;
    json_t *images = NULL;
    char after[64] = "";
    unsigned failing = kv_mem_fail_after(h->meta_kv, 0);
    if (meta_view_open(h->meta, &view) == 0) {
        if (meta_image_walk(view, after, 100000, &images) != 0) {
            images = NULL;
        }
        meta_view_close(view);
    }
    (void)kv_mem_fail_after(h->meta_kv, failing);
    return images;
}

static bool is_active(const json_t *image)
{
    return strcmp(json_str_or(image, "status", ""), "active") == 0;
}

/* Clients may rely on its data. */
static bool has_data(const json_t *image)
{
    return is_active(image) || strcmp(json_str_or(image, "status", ""), "deactivated") == 0 ||
           staged(image) != NULL;
}

bool check_images_elsewhere(struct world *w, unsigned not )
{
    struct sim_host *ahead = host_ahead(w);
    json_t *images = ahead != NULL ? all_images(ahead) : NULL, *image;
    size_t i;
    bool all = images != NULL;
    json_array_foreach(images, i, image)
    {
        bool found = !has_data(image);
        for (unsigned n = 1; n <= w->host_count && !found; n++) {
            found = n != not &&w->hosts[n].up && whole_on(&w->hosts[n], image);
        }
        all = all && found;
    }
    json_decref(images);
    return all;
}

bool check_uploads_over(struct world *w)
{
    struct sim_host *ahead = host_ahead(w);
    json_t *images = ahead != NULL ? all_images(ahead) : NULL, *image;
    size_t i;
    bool over = images != NULL;
    json_array_foreach(images, i, image)
    {
        over = over && json_obj(image, "session") == NULL &&
               strcmp(json_str_or(image, "status", ""), "importing") != 0;
    }
    json_decref(images);
    return over;
}

static bool placed_on(const json_t *image, unsigned n)
{
    size_t i;
    json_t *v;
    json_array_foreach(json_arr(image, "placement"), i, v)
    {
        if (json_integer_value(v) == (json_int_t)n) {
            return true;
        }
    }
    return false;
}

static bool image_settled(struct world *w, const json_t *image, char *why, size_t size)
{
    const char *id = json_str_or(image, "id", "?"), *status = json_str_or(image, "status", "?");
    if (strcmp(status, "queued") == 0) {
        return true;
    }
    if (!has_data(image) || strcmp(status, "importing") == 0) {
        json_t *session = json_obj(image, "session");
        (void)snprintf(why, size, "image %s is %s, session %s of host %lld", id, status,
                       json_str_or(session, "id", "none"), (long long)json_int(session, "host", 0));
        return false;
    }
    unsigned want = (unsigned)w->limits.replicas;
    want = want < hosts_live(w) ? want : hosts_live(w);
    if (json_array_size(json_arr(image, "placement")) < want) {
        (void)snprintf(why, size, "image %s is placed on %zu hosts", id,
                       json_array_size(json_arr(image, "placement")));
        return false;
    }
    for (unsigned n = 1; n <= w->host_count; n++) {
        char key[8];
        (void)snprintf(key, sizeof(key), "%u", n);
        const char *state = json_str_or(json_obj(image, "replicas"), key, "none");
        struct looking l = {.h = &w->hosts[n]};
        bool placed = placed_on(image, n), whole = !placed || look_whole(&l, image);
        if (placed && (strcmp(state, "present") != 0 || !whole)) {
            (void)snprintf(why, size, "image %s on host %u is recorded %s, on disk: %s%s", id, n,
                           state, whole ? "whole" : "without ", l.missing);
            return false;
        }
    }
    return true;
}

/* The counters of the clients' project are what a count of its images gives. */
static void check_usage(struct world *w)
{
    struct meta_view *view = NULL;
    struct meta_usage sum = {0}, one, kept;
    json_t *images = NULL, *image;
    char after[64] = "";
    size_t i;
    if (meta_view_open(host_leader(w)->meta, &view) != 0) {
        return;
    }
    int rv = meta_image_walk(view, after, 100000, &images);
    const char *owner = json_str(json_array_get(images, 0), "owner");
    json_array_foreach(images, i, image)
    {
        meta_usage_of(image, &one);
        if (owner != NULL && strcmp(json_str_or(image, "owner", ""), owner) == 0) {
            sum.size += one.size;
            sum.stage += one.stage;
            sum.count += one.count;
            sum.uploading += one.uploading;
        }
    }
    if (rv == 0 && owner != NULL && meta_usage_get(view, owner, &kept) == 0 &&
        memcmp(&sum, &kept, sizeof(sum)) != 0) {
        world_fail(w, "project %s: %lld images of %lld bytes are counted as %lld of %lld", owner,
                   (long long)sum.count, (long long)sum.size, (long long)kept.count,
                   (long long)kept.size);
    }
    json_decref(images);
    meta_view_close(view);
}

static bool settled(struct world *w, char *why, size_t size)
{
    if (!members_settled(w, why, size)) {
        return false;
    }
    json_t *images = all_images(host_leader(w)), *image;
    size_t i;
    bool all = images != NULL;
    json_array_foreach(images, i, image)
    {
        all = all && image_settled(w, image, why, size);
    }
    json_decref(images);
    if (all) {
        check_usage(w);
    }
    return all;
}

bool check_settled(struct world *w)
{
    char why[200];
    return settled(w, why, sizeof(why));
}

void check_settled_why(struct world *w, char *out, size_t size)
{
    if (settled(w, out, size)) {
        (void)snprintf(out, size, "it is settled now");
    }
}

/* --- an upload was acknowledged
 * ------------------------------------------------------------------------------------------ */

/* Hosts that were recorded up for longer than an upload takes. Clocks must not have jumped. */
static unsigned hosts_long_up(struct sim_host *h)
{
    struct meta_view *view = NULL;
    json_t *hosts = NULL, *host;
    size_t i;
    unsigned up = 0;
    int64_t now = loop_wall_us(h->control);
    if (meta_view_open(h->meta, &view) != 0) {
        return 0;
    }
    (void)meta_host_list(view, &hosts);
    meta_view_close(view);
    json_array_foreach(hosts, i, host)
    {
        up += strcmp(json_str_or(host, "state", ""), "up") == 0 &&
              now - json_int(host, "state_since", now) > LONG_UP_US;
    }
    json_decref(hosts);
    return up;
}

void check_acknowledged(struct sim_host *h, const char *id, bool now)
{
    struct world *w = h->w;
    struct meta_view *view = NULL;
    json_t *image = NULL;
    unsigned present = 0;
    if (meta_view_open(h->meta, &view) != 0) {
        return;
    }
    int rv = meta_image_get(view, id, &image);
    meta_view_close(view);
    if (rv != 0 || !has_data(image)) {
        json_decref(image); /* deleted meanwhile */
        return;
    }
    for (unsigned n = 1; n <= w->host_count; n++) {
        char key[8];
        (void)snprintf(key, sizeof(key), "%u", n);
        if (strcmp(json_str_or(json_obj(image, "replicas"), key, ""), "present") != 0) {
            continue;
        }
        present++;
        if (w->damaged != n && !w->hosts[n].gone && !whole_on(&w->hosts[n], image)) {
            world_fail(w, "image %s was acknowledged, but is not whole on host %u", id, n);
        }
    }
    if (now && present < (unsigned)w->limits.write_replicas && w->faults[FAULT_clock] == 0 &&
        hosts_long_up(h) >= (unsigned)w->limits.write_replicas) {
        world_fail(w, "image %s was acknowledged with %u replicas", id, present);
    }
    json_decref(image);
}

/* --- the end: nothing left over
 * ------------------------------------------------------------------------------------------ */

struct wanted {
    json_t *names; /* object used as a set: chunk and manifest names */
    const char *dir;
    char found[112];
};

static bool want_chunk(void *arg, const char *hex)
{
    json_object_set_new(((struct wanted *)arg)->names, hex, json_true());
    return true;
}

static int look_at_file(void *arg, const char *name, bool is_dir)
{
    struct wanted *wanted = arg;
    if (!is_dir && json_object_get(wanted->names, name) == NULL) {
        (void)snprintf(wanted->found, sizeof(wanted->found), "%.20s/%.70s", wanted->dir, name);
    }
    return 0;
}

struct walk {
    struct sim_host *h;
    const char *dir;
    struct wanted *wanted;
};

static int look_at_dir(void *arg, const char *name, bool is_dir)
{
    struct walk *walk = arg;
    char path[64];
    if (!is_dir) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%s/%.8s", walk->dir, name);
    return fs_list(walk->h->blob_fs, path, look_at_file, walk->wanted);
}

/* A file on @h that no image placed there needs; "" if there is none. */
static void leftover(struct sim_host *h, json_t *images, struct wanted *wanted)
{
    json_t *image;
    size_t i;
    *wanted = (struct wanted){.names = json_object()};
    json_array_foreach(images, i, image)
    {
        if (has_data(image) && placed_on(image, h->n)) {
            (void)want_chunk(wanted, json_str_or(image, "manifest", ""));
            (void)each_chunk(content_of(image), want_chunk, wanted);
        }
    }
    static const char *const dirs[] = {"blobs/chunks", "blobs/manifests"};
    for (size_t d = 0; d < 2; d++) {
        wanted->dir = dirs[d];
        struct walk walk = {h, dirs[d], wanted};
        (void)fs_list(h->blob_fs, dirs[d], look_at_dir, &walk);
    }
    json_decref(wanted->names);
}

static bool collected(struct world *w)
{
    struct sim_host *leader = host_leader(w);
    json_t *images = leader != NULL ? all_images(leader) : NULL;
    bool all = images != NULL;
    for (unsigned n = 1; all && n <= w->host_count; n++) {
        struct wanted wanted;
        if (w->hosts[n].gone) {
            continue;
        }
        leftover(&w->hosts[n], images, &wanted);
        all = wanted.found[0] == '\0';
    }
    json_decref(images);
    return all;
}

static void nudged(void *arg, int status, json_t *result, const struct err *err)
{
    (void)arg;
    (void)status;
    (void)result;
    (void)err;
}

/* Some change: the replicators look at the images after one, or every ten minutes. */
static void nudge(struct world *w)
{
    json_t *body = json_pack("{s:s}", "name", "nudge");
    image_create(&host_any(w)->image, sim_caller(), body, NULL, nudged, NULL);
    json_decref(body);
}

static void check_collected(struct world *w)
{
    for (unsigned i = 0; i < COLLECT_MS / NUDGE_MS; i++) {
        if (world_wait(w, collected, COLLECT_LOOK_MS, NUDGE_MS)) {
            return;
        }
        nudge(w);
    }
    json_t *images = all_images(host_leader(w));
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct wanted wanted;
        if (w->hosts[n].gone) {
            continue;
        }
        leftover(&w->hosts[n], images, &wanted);
        if (wanted.found[0] != '\0') {
            world_fail(w, "host %u still keeps %s, which nothing needs", n, wanted.found);
        }
    }
    json_decref(images);
}

/* --- the end: every host gives the same bytes
 * ------------------------------------------------------------------------------ */

struct fetch {
    struct world *w;
    struct sim_host *h;
    char id[UUID_TEXT + 1];
    uint32_t content;
    struct image_download *download;
    size_t at;
    bool done;
};

static void fetch_piece(void *arg, int status, const struct replica_piece *piece)
{
    struct fetch *f = arg;
    if (status != 0) {
        world_fail(f->w, "image %s can not be read on host %u after healing: %s", f->id, f->h->n,
                   err_name(status));
    }
    if (piece->size == 0) {
        if (f->at != content_size(f->content)) {
            world_fail(f->w, "image %s on host %u has %zu bytes", f->id, f->h->n, f->at);
        }
        image_download_close(f->download);
        f->done = true;
        return;
    }
    if (f->at + piece->size > content_size(f->content) ||
        memcmp(piece->data, content_data(f->content) + f->at, piece->size) != 0) {
        world_fail(f->w, "image %s on host %u has wrong bytes at %zu", f->id, f->h->n, f->at);
    }
    f->at += piece->size;
    image_download_next(f->download, fetch_piece, f);
}

static void fetch_open(void *arg, int status, const struct image_download_info *info,
                       const struct err *err)
{
    struct fetch *f = arg;
    (void)info;
    if (status != 0) {
        world_fail(f->w, "image %s can not be read on host %u after healing: %s (%s)", f->id,
                   f->h->n, err->msg, err_name(status));
    }
    image_download_next(f->download, fetch_piece, f);
}

static void fetch_one(struct world *w, struct sim_host *h, const json_t *image)
{
    struct fetch f = {.w = w, .h = h, .content = content_of_md5(json_str(image, "checksum"))};
    (void)snprintf(f.id, sizeof(f.id), "%s", json_str_or(image, "id", ""));
    int rv = image_download_open(&h->image, sim_caller(), image, NULL, false, fetch_open, &f,
                                 &f.download);
    if (rv != 0) {
        world_fail(w, "image %s can not be opened on host %u: %s", f.id, h->n, err_name(rv));
    }
    uint64_t end = world_ms(w) + DOWNLOAD_MS;
    while (!f.done) {
        world_step(w);
        if (world_ms(w) > end) {
            world_fail(w, "image %s on host %u: the download does not end", f.id, h->n);
        }
    }
}

static void check_bytes(struct world *w)
{
    json_t *images = all_images(host_leader(w)), *image;
    size_t i;
    json_array_foreach(images, i, image)
    {
        for (unsigned n = 1; is_active(image) && n <= w->host_count; n++) {
            if (!w->hosts[n].gone) {
                fetch_one(w, &w->hosts[n], image);
            }
        }
    }
    json_decref(images);
}

static bool digests_equal(struct world *w)
{
    struct fsm_point first = {0}, p;
    if (!check_formed(w)) {
        return false;
    }
    for (unsigned n = 1; n <= w->host_count; n++) {
        if (w->hosts[n].gone) {
            continue;
        }
        if (meta_point(w->hosts[n].meta, &p) != 0 || (first.index != 0 && p.index != first.index)) {
            return false;
        }
        if (first.index != 0 && memcmp(p.digest, first.digest, sizeof(p.digest)) != 0) {
            world_fail(w, "host %u differs at index %llu", n, (unsigned long long)p.index);
        }
        first = p;
    }
    return true;
}

static bool held(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct cluster_health health;
        if (!host_runs(&w->hosts[n])) {
            continue;
        }
        cluster_health(w->hosts[n].cluster, &health);
        if (health.endpoint) {
            return true;
        }
    }
    return false;
}

/* No store met a record that it could not read. */
static void check_damage(struct world *w)
{
    for (unsigned n = 1; n <= w->host_count; n++) {
        struct sim_host *h = &w->hosts[n];
        if (!h->gone && meta_damaged(h->meta) != 0) {
            world_fail(w, "host %u met damaged records", n);
        }
    }
}

void check_end(struct world *w)
{
    if (!world_wait(w, digests_equal, 50, 20000)) {
        world_fail(w, "the hosts' stores do not meet at one index");
    }
    if (!world_wait(w, held, 50, 20000)) {
        world_fail(w, "nobody holds the admin endpoint 20 s after healing");
    }
    if (w->seed % 4 == 0) { /* takes as long as reservations last */
        check_collected(w);
    }
    check_bytes(w);
    check_damage(w);
}
