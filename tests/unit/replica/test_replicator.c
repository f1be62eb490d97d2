/* The replicator: three hosts over one metadata store. Consensus is played here: a command is
 * applied on a pool and answered on the loop, as the real one does. */
#include "cluster.h"
#include "tessera/base/str.h"
#include "tessera/meta.h"

struct consensus {
    struct meta *meta;
    uint64_t index;
    bool quorum;
    unsigned submits;
};
static struct consensus fake;
static struct cluster c;
static struct replicator *replicators[HOSTS + 1];
static const uint64_t three[3] = {1, 2, 3}, two[2] = {1, 2};
static const uint64_t image_size = 17 * TEST_CHUNK + 99;

/* --- consensus, played ---------------------------------------------------------------------- */

struct proposal {
    struct work work;
    struct consensus_submit *req;
    struct consensus_read *read;
    struct fsm_command command;
    int status;
};

static void proposal_run(struct work *work)
{
    struct proposal *p = container_of(work, struct proposal, work);
    struct fsm *fsm = meta_fsm(fake.meta);
    p->status = fake.quorum ? 0 : TSR_ENOQUORUM;
    if (fake.quorum && p->req != NULL) {
        struct fsm_entry e = {
            .index = ++fake.index, .term = 1, .wall_us = 1000, .commands = &p->command, .count = 1};
        check_ok(fsm->ops->apply(fsm, &e, 1));
    }
}

static void proposal_done(struct work *work)
{
    struct proposal *p = container_of(work, struct proposal, work);
    if (p->read != NULL) {
        p->read->cb(p->read, p->status);
    } else {
        p->req->cb(p->req, p->status, p->command.code, p->command.result, p->command.result_size);
    }
    free(p->command.result);
    free(p);
}

static struct proposal *propose(void)
{
    struct proposal *p = calloc(1, sizeof *p);
    p->work = (struct work){.loop = &c.v.loop, .run = proposal_run, .done = proposal_done};
    return p;
}

void consensus_submit(struct consensus *con, struct consensus_submit *req)
{
    struct proposal *p = propose();
    con->submits++;
    p->req = req;
    p->command.data = req->data;
    p->command.size = req->size;
    memcpy(p->command.id, req->id, COMMAND_ID_SIZE);
    pool_submit(&c.v.pools[2].base, &p->work);
}

void consensus_read_index(struct consensus *con, struct consensus_read *req)
{
    struct proposal *p = propose();
    (void)con;
    p->read = req;
    pool_submit(&c.v.pools[2].base, &p->work);
}

/* --- commands ------------------------------------------------------------------------------- */

struct command {
    struct meta_submit submit;
    bool done;
    int status;
};

static void command_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct command *cmd = req->arg;
    (void)result;
    cmd->done = true;
    cmd->status = status;
    if (status != 0) {
        print_error("%s\n", err->msg);
    }
}

static void command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void command(const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *p = text; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    struct command cmd = {.submit = {.loop = &c.v.loop, .cb = command_cb, .arg = &cmd}};
    cmd.submit.command = json_parse(text, strlen(text));
    assert_non_null(cmd.submit.command);
    meta_submit(fake.meta, &cmd.submit);
    virtual_until(&c.v, &cmd.done);
    check_ok(cmd.status);
}

static const char *image_id(unsigned n)
{
    static char id[40];
    snprintf(id, sizeof id, "00000000-0000-4000-8000-%012u", n);
    return id;
}

/* Of an upload whose session is all bytes @n. */
static const char *session_text(unsigned n)
{
    static char hex[2 * SESSION_ID_SIZE + 1];
    uint8_t id[SESSION_ID_SIZE];
    memset(id, (int)n, sizeof id);
    hex_encode(id, sizeof id, hex);
    return hex;
}

static void saving(unsigned n)
{
    command("{'op':'image.create','image':{'id':'%s','owner':'p1','disk_format':'raw',"
            "'container_format':'bare'}}",
            image_id(n));
    command("{'op':'image.saving','id':'%s','session':'%s','host':1,'kind':'upload'}", image_id(n),
            session_text(n));
}

static void activate(unsigned n, const struct chunk_id *manifest, const char *replicas,
                     const char *placement)
{
    char hex[65], hash[129], sum[33];
    hex_encode(manifest->bytes, 32, hex);
    memset(hash, 'a', 128);
    hash[128] = '\0';
    memset(sum, 'b', 32);
    sum[32] = '\0';
    command("{'op':'image.activate','id':'%s','session':'%s','manifest':'%s','size':%llu,"
            "'virtual_size':%llu,'checksum':'%s','os_hash_algo':'sha512','os_hash_value':'%s',"
            "'replicas':%s,'placement':%s,'write_replicas':1}",
            image_id(n), session_text(n), hex, (unsigned long long)image_size,
            (unsigned long long)image_size, sum, hash, replicas, placement);
}

static const char *replica_state(unsigned n, unsigned host)
{
    static char text[16];
    struct meta_view *view;
    json_t *image;
    char key[8];
    snprintf(key, sizeof key, "%u", host);
    check_ok(meta_view_open(fake.meta, &view));
    check_ok(meta_image_get(view, image_id(n), &image));
    str_copy(text, sizeof text, json_str_or(json_obj(image, "replicas"), key, "none"));
    json_decref(image);
    meta_view_close(view);
    return text;
}

/* --- the hosts ------------------------------------------------------------------------------ */

static int setup(void **state)
{
    struct kv *kv;
    struct err err;
    (void)state;
    cluster_init(&c, 3);
    check_ok(kv_mem_open(meta_database_count, &kv));
    memset(&fake, 0, sizeof fake);
    check_ok(meta_open(kv, &fake.meta, &err));
    fake.quorum = true;
    meta_attach(fake.meta, &fake, &c.v.loop);
    for (unsigned i = 1; i <= HOSTS; i++) {
        command("{'op':'host.add','name':'host%u','zone':'z','roles':['image','voter'],"
                "'api_url':'https://h%u:9292','peer_address':'h%u:9293','raft_address':'h%u:9294',"
                "'version':'1'}",
                i, i, i, i);
    }
    memset(replicators, 0, sizeof replicators);
    return 0;
}

static void start(unsigned host)
{
    check_ok(replicator_new(&c.ctx[host], fake.meta, &replicators[host]));
}

static void closed_cb(void *arg)
{
    *(bool *)arg = true;
}

static void stop(unsigned host)
{
    bool closed = false;
    if (replicators[host] != NULL) {
        replicator_close(replicators[host], closed_cb, &closed);
        check(!closed);
        virtual_until(&c.v, &closed);
        replicators[host] = NULL;
    }
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= HOSTS; i++) {
        stop(i);
    }
    cluster_settle(&c);
    meta_detach(fake.meta);
    cluster_settle(&c);
    meta_close(fake.meta);
    cluster_end(&c);
    return 0;
}

static bool whole(unsigned host, const struct chunk_id *id, unsigned image)
{
    uint64_t good;
    return env_manifest(&c.envs[host], chunk_manifest_has, id) == 0 &&
           cluster_read(&c, host, id, image, 0, UINT64_MAX, NULL, 0, false, &good) == 0 &&
           good == image_size;
}

static struct replicator_stats stats(unsigned host)
{
    struct replicator_stats s;
    replicator_stats(replicators[host], &s);
    return s;
}

/* --- cases ---------------------------------------------------------------------------------- */

static void a_host_that_missed_an_upload_is_filled(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        start(i);
    }
    virtual_sleep(&c.v, 1000); /* the first passes are over: what follows is noticed by itself */
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2]", "[1,2,3]");
    virtual_sleep(&c.v, 5000);
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "present");
    check_int(stats(3).wanted, 1);
    check_int(stats(3).present, 1);
    check(stats(3).fetched_bytes > 12 * TEST_CHUNK); /* without the zero chunks */
    struct chunks_stats s;
    chunks_stats(c.envs[3].chunks, &s);
    check_int(s.reserved_count, 0);
}

static void a_repair_goes_on_while_sources_die_and_ends_when_they_are_back(void **state)
{
    (void)state;
    start(3);
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    sim_peers_down(c.peers, 1, true);
    sim_peers_down(c.peers, 2, true);
    activate(1, &id, "[1,2]", "[1,2,3]");
    virtual_sleep(&c.v, 30000);
    check_str(replica_state(1, 3), "missing");
    check(stats(3).failed > 1);
    sim_peers_down(c.peers, 2, false);
    virtual_sleep(&c.v, 70000);
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "present");
}

static void a_recorded_replica_that_is_gone_is_fetched_again(void **state)
{
    (void)state;
    char hex[65], path[128];
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    activate(1, &id, "[1,2,3]", "[1,2,3]");
    check_ok(env_manifest(&c.envs[3], chunk_manifest_drop, &id));
    env_collect(&c.envs[3]);
    unsigned submits = fake.submits;
    start(3);
    virtual_sleep(&c.v, 5000);
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "present");
    check_int(fake.submits - submits, 2); /* missing, present */
    /* a manifest whose file is bad: the same */
    hex_encode(id.bytes, 32, hex);
    snprintf(path, sizeof path, "/images/manifests/%.2s/%s", hex, hex);
    check_ok(fs_unlink(c.envs[3].fs, path));
    stop(3);
    start(3);
    virtual_sleep(&c.v, 5000);
    check_ok(env_manifest(&c.envs[3], chunk_manifest_has, &id));
}

/* A host with new disks hears from the log that it has all it had. */
static void a_recorded_replica_that_never_came_is_fetched_at_once(void **state)
{
    (void)state;
    start(3);
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2,3]", "[1,2,3]");
    virtual_sleep(&c.v, 5000);
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "present");
}

static void a_quarantined_chunk_is_put_back(void **state)
{
    (void)state;
    char hex[65], path[128];
    uint8_t data[TEST_CHUNK], got[TEST_CHUNK];
    struct waiting w = waiting_for(&c.envs[3], 0);
    struct chunks_stats s;
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, three, 3);
    activate(1, &id, "[1,2,3]", "[1,2,3]");
    start(3);
    virtual_sleep(&c.v, 1000);
    for (unsigned i = 0; i < TEST_CHUNK; i++) {
        data[i] = image_byte(1, TEST_CHUNK + i);
    }
    digest_of(DIGEST_SHA256, data, sizeof data, w.req.id.bytes);
    hex_encode(w.req.id.bytes, 32, hex);
    snprintf(path, sizeof path, "/images/chunks/%.2s/%s", hex, hex);
    check(sim_fs_flip(c.envs[3].fs, path, 3, 1));
    w.req.buffer = got;
    w.req.verify = true;
    check_code(wait_call(&c.envs[3], chunk_get, &w), TSR_ECORRUPT);
    virtual_sleep(&c.v, 60000);
    chunks_stats(c.envs[3].chunks, &s);
    check_int(s.lost_count, 0);
    check(whole(3, &id, 1));
    check_int(s.reserved_count, 0);
}

static void a_deleted_image_is_dropped_and_collected(void **state)
{
    (void)state;
    struct chunks_stats s;
    saving(1);
    saving(2);
    struct chunk_id one = cluster_store(&c, 1, 1, image_size, three, 3);
    struct chunk_id two_id = cluster_store(&c, 1, 2, image_size, three, 3);
    activate(1, &one, "[1,2,3]", "[1,2,3]");
    activate(2, &two_id, "[1,2,3]", "[1,2,3]");
    start(2);
    virtual_sleep(&c.v, 3000);
    check(whole(2, &one, 1));
    command("{'op':'image.delete','id':'%s'}", image_id(1));
    virtual_sleep(&c.v, 3000);
    check_code(env_manifest(&c.envs[2], chunk_manifest_has, &one), TSR_ENOENT);
    check(whole(2, &two_id, 2));
    command("{'op':'image.delete','id':'%s'}", image_id(2));
    virtual_sleep(&c.v, 3000);
    chunks_stats(c.envs[2].chunks, &s);
    check_int(s.chunk_count, 0);
    check_int(s.manifest_count, 0);
}

static void a_sealed_upload_that_is_not_active_yet_is_kept(void **state)
{
    (void)state;
    struct upload u;
    start(1);
    start(2);
    saving(1);
    upload_open(&u, &c, 1, 1, 1, image_size, two, 2, 2);
    while (upload_step(&u, 1)) {
    }
    check_ok(upload_finish(&u));
    stop(2);
    start(2); /* a full check right now */
    virtual_sleep(&c.v, 20 * 60 * 1000);
    check(whole(2, &u.result.manifest, 1));
    activate(1, &u.result.manifest, "[1,2]", "[1,2]");
    uint8_t session[SESSION_ID_SIZE];
    memset(session, 1, sizeof session);
    replica_session_end(&c.ctx[1], session, two, 2);
    virtual_sleep(&c.v, 20 * 60 * 1000);
    check(whole(1, &u.result.manifest, 1));
    check(whole(2, &u.result.manifest, 1));
}

/* The hosts sealed it, and then the image went away: no image ever named the manifest. */
static void a_sealed_upload_that_comes_to_nothing_is_dropped_soon(void **state)
{
    (void)state;
    struct chunks_stats s;
    uint8_t session[SESSION_ID_SIZE];
    struct upload u;
    start(1);
    start(2);
    virtual_sleep(&c.v, 1000);
    saving(1);
    upload_open(&u, &c, 1, 1, 1, image_size, two, 2, 2);
    while (upload_step(&u, 1)) {
    }
    check_ok(upload_finish(&u));
    virtual_sleep(&c.v, 20000); /* undecided: the session keeps it */
    check_ok(env_manifest(&c.envs[2], chunk_manifest_has, &u.result.manifest));
    command("{'op':'image.abort','id':'%s','session':'%s'}", image_id(1), session_text(1));
    memset(session, 1, sizeof session);
    replica_session_end(&c.ctx[1], session, two, 2);
    virtual_sleep(&c.v, 20000);
    for (unsigned host = 1; host <= 2; host++) {
        check_code(env_manifest(&c.envs[host], chunk_manifest_has, &u.result.manifest), TSR_ENOENT);
        chunks_stats(c.envs[host].chunks, &s);
        check_int(s.chunk_count, 0);
    }
}

static void a_moved_replica_is_dropped_only_after_its_successor_is_present(void **state)
{
    (void)state;
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2]", "[1,2]");
    start(2);
    command("{'op':'image.place','id':'%s','placement':[1,3]}", image_id(1));
    virtual_sleep(&c.v, 30000);
    check(whole(2, &id, 1)); /* 3 has it not yet */
    start(3);
    virtual_sleep(&c.v, 30000);
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "present");
    check_code(env_manifest(&c.envs[2], chunk_manifest_has, &id), TSR_ENOENT);
    check(strcmp(replica_state(1, 2), "present") != 0);
}

static void nothing_is_dropped_without_a_quorum(void **state)
{
    (void)state;
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2]", "[1,2]");
    command("{'op':'image.delete','id':'%s'}", image_id(1));
    fake.quorum = false;
    start(2);
    virtual_sleep(&c.v, 20 * 60 * 1000);
    check(whole(2, &id, 1));
    fake.quorum = true;
    virtual_sleep(&c.v, 20 * 60 * 1000);
    check_code(env_manifest(&c.envs[2], chunk_manifest_has, &id), TSR_ENOENT);
}

static void the_rate_is_kept(void **state)
{
    (void)state;
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2]", "[1,2,3]");
    start(3);
    replicator_set_rate(replicators[3], 2 * TEST_CHUNK); /* shared by two repairs */
    virtual_sleep(&c.v, 5000);
    check(stats(3).fetched_bytes <= 6 * TEST_CHUNK);
    virtual_sleep(&c.v, 20000);
    check(whole(3, &id, 1));
}

static void closing_at_any_moment_ends(void **state)
{
    (void)state;
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2]", "[1,2,3]");
    sim_peers_delay(c.peers, 0, 2);
    for (unsigned round = 0; round < 120; round++) {
        start(3);
        for (unsigned n = 0; n < round * 3; n++) {
            virtual_step(&c.v, UINT64_MAX);
        }
        stop(3);
        cluster_settle(&c);
        check_int(bufpool_in_use(c.ctx[3].repair_buffers), 0);
        struct chunks_stats s;
        chunks_stats(c.envs[3].chunks, &s);
        check_int(s.reserved_count, 0);
        if (round % 10 == 9 && env_manifest(&c.envs[3], chunk_manifest_drop, &id) == 0) {
            env_collect(&c.envs[3]);
        }
    }
}

static void many_images_are_filled_a_few_at_a_time(void **state)
{
    (void)state;
    enum { IMAGES = 30 };
    struct chunk_id ids[IMAGES];
    size_t most = 0;
    for (unsigned i = 0; i < IMAGES; i++) {
        saving(i + 1);
        ids[i] = cluster_store(&c, 1, i + 1, image_size, two, 2);
        activate(i + 1, &ids[i], "[1,2]", "[1,2,3]");
    }
    start(3);
    for (unsigned n = 0; n < 200000 && stats(3).present < IMAGES; n++) {
        virtual_step(&c.v, UINT64_MAX);
        size_t in_use = bufpool_in_use(c.ctx[3].repair_buffers);
        most = in_use > most ? in_use : most;
        check(stats(3).fetching <= 2);
    }
    check(most <= 8 && most > 0);
    for (unsigned i = 0; i < IMAGES; i++) {
        check(whole(3, &ids[i], i + 1));
    }
}

/* --- pins ----------------------------------------------------------------------------------- */

static void pin(unsigned host, unsigned n, const struct chunk_id *manifest, chunk_call call)
{
    struct chunk_pin one = {.manifest = *manifest, .asked_us = loop_wall_us(&c.v.loop)};
    struct waiting w = waiting_for(&c.envs[host], 0);
    str_copy(one.name, sizeof one.name, image_id(n));
    w.req.pins = &one;
    w.req.pin_count = 1;
    check_ok(wait_call(&c.envs[host], call, &w));
}

static size_t pin_count(unsigned host)
{
    struct chunk_pin *pins;
    size_t count;
    check_ok(chunk_pins(c.envs[host].chunks, &pins, &count));
    free(pins);
    return count;
}

static struct chunk_id on_one_and_two(unsigned n)
{
    saving(n);
    struct chunk_id id = cluster_store(&c, 1, n, image_size, two, 2);
    activate(n, &id, "[1,2]", "[1,2]");
    return id;
}

static bool has(unsigned host, const struct chunk_id *id)
{
    return chunk_manifest_here(c.envs[host].chunks, id);
}

static void a_pinned_image_is_fetched_and_kept_until_it_is_unpinned(void **state)
{
    (void)state;
    struct chunk_id id = on_one_and_two(1);
    struct chunks_stats s;
    unsigned submits = fake.submits;
    start(3);
    virtual_sleep(&c.v, 20000);
    check(!has(3, &id));
    pin(3, 1, &id, chunk_pin_add);
    virtual_sleep(&c.v, 5000);
    check(whole(3, &id, 1));
    stop(3); /* and after a restart of the host, over many full checks */
    cluster_store_again(&c, 3);
    start(3);
    virtual_sleep(&c.v, 40 * 60 * 1000);
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "none");
    check_int(fake.submits, submits); /* nobody else is told */
    pin(3, 1, &id, chunk_pin_remove);
    virtual_sleep(&c.v, 10000);
    check(!has(3, &id));
    chunks_stats(c.envs[3].chunks, &s);
    check_int(s.chunk_count, 0);
}

static void a_pin_keeps_a_replica_that_moves_away(void **state)
{
    (void)state;
    struct chunk_id id = on_one_and_two(1);
    start(2);
    start(3);
    pin(2, 1, &id, chunk_pin_add);
    command("{'op':'image.place','id':'%s','placement':[1,3]}", image_id(1));
    virtual_sleep(&c.v, 20 * 60 * 1000);
    check(whole(3, &id, 1));
    check(whole(2, &id, 1));
    check_str(replica_state(1, 2), "present"); /* as it is */
    pin(2, 1, &id, chunk_pin_remove);
    virtual_sleep(&c.v, 10000);
    check(!has(2, &id));
    check_str(replica_state(1, 2), "none");
}

static void the_pin_of_a_deleted_image_goes_with_it(void **state)
{
    (void)state;
    struct chunk_id id = on_one_and_two(1), other = on_one_and_two(2);
    start(3);
    pin(3, 1, &id, chunk_pin_add);
    pin(3, 2, &other, chunk_pin_add);
    virtual_sleep(&c.v, 5000);
    check(has(3, &id) && has(3, &other));
    command("{'op':'image.delete','id':'%s'}", image_id(1));
    virtual_sleep(&c.v, 30000);
    check(!has(3, &id) && has(3, &other));
    check_int(pin_count(3), 1);
    fake.quorum = false; /* what is not known for sure stays */
    pin(3, 9, &id, chunk_pin_add);
    virtual_sleep(&c.v, 60000);
    check_int(pin_count(3), 2);
    fake.quorum = true;
    virtual_sleep(&c.v, 60000);
    check_int(pin_count(3), 1);
}

static void what_is_over_the_limit_goes_the_least_used_first(void **state)
{
    (void)state;
    struct chunk_id ids[3] = {on_one_and_two(1), on_one_and_two(2), on_one_and_two(3)};
    c.ctx[3].pin_limits.bytes_max = (int64_t)image_size * 5 / 2;
    start(3);
    for (unsigned i = 0; i < 2; i++) {
        pin(3, i + 1, &ids[i], chunk_pin_add);
        virtual_sleep(&c.v, 15000);
        check(has(3, &ids[i]));
    }
    chunk_pin_note(c.envs[3].chunks, image_id(1), CHUNK_PIN_READ);
    virtual_sleep(&c.v, 1000);
    pin(3, 3, &ids[2], chunk_pin_add);
    virtual_sleep(&c.v, 120000);
    check(has(3, &ids[0]) && !has(3, &ids[1]) && has(3, &ids[2]));
    check_int(pin_count(3), 2);
}

static void without_room_a_pinned_image_waits_and_those_here_go(void **state)
{
    (void)state;
    struct chunk_id id = on_one_and_two(1);
    struct chunks_stats s;
    chunks_stats(c.envs[3].chunks, &s);
    c.ctx[3].pin_limits.free_min = s.available_bytes;
    start(3);
    pin(3, 1, &id, chunk_pin_add);
    virtual_sleep(&c.v, 120000);
    check(!has(3, &id));
    check_int(pin_count(3), 1);
    check_int(stats(3).failed, 0);
    c.ctx[3].pin_limits.free_min = 0;
    virtual_sleep(&c.v, 30000);
    check(whole(3, &id, 1));
    c.ctx[3].pin_limits.free_min = s.available_bytes;
    virtual_sleep(&c.v, 120000);
    check(!has(3, &id));
    check_int(pin_count(3), 0);
    chunks_stats(c.envs[3].chunks, &s);
    check_int(s.chunk_count, 0);
}

/* --- no room ---------------------------------------------------------------------------------- */

static void room_for(unsigned host, int64_t bytes)
{
    sim_fs_limit(c.envs[host].fs, bytes < 0 ? 0 : (int64_t)sim_fs_used(c.envs[host].fs) + bytes);
}

static struct chunk_id wanted_by_three(unsigned n, uint64_t size)
{
    saving(n);
    struct chunk_id id = cluster_store(&c, 1, n, size, two, 2);
    activate(n, &id, "[1,2]", "[1,2,3]");
    return id;
}

static void what_there_is_no_room_for_is_not_begun_again_and_again(void **state)
{
    (void)state;
    room_for(3, 5 * TEST_CHUNK); /* of 14 */
    start(3);
    virtual_sleep(&c.v, 60000); /* the room is known */
    struct chunk_id id = wanted_by_three(1, image_size);
    virtual_sleep(&c.v, 20 * 60000);
    check_int(stats(3).fetched_bytes, 0);
    check(stats(3).failed >= 1 && stats(3).failed <= 4);
    check_int(stats(3).missing, 1);
    uint64_t failed = stats(3).failed;
    for (unsigned i = 0; i < 10; i++) { /* hosts that change bring no room */
        command("{'op':'host.state','id':4,'state':'%s'}", i % 2 ? "up" : "down");
        virtual_sleep(&c.v, 5000);
    }
    check(stats(3).failed <= failed + 1);
    struct chunk_id small = wanted_by_three(2, 4 * TEST_CHUNK); /* one of them zero */
    virtual_sleep(&c.v, 10000);
    check_ok(env_manifest(&c.envs[3], chunk_manifest_has, &small));
    room_for(3, -1);
    virtual_sleep(&c.v, 45000); /* it is looked at every 30 seconds */
    check(whole(3, &id, 1));
    check_str(replica_state(1, 3), "present");
    check_int(stats(3).missing, 0);
}

/* There is room for the chunks, and none for what else it takes. */
static void a_disk_that_fills_up_all_the_same_is_not_filled_again_and_again(void **state)
{
    (void)state;
    start(3);
    virtual_sleep(&c.v, 60000);
    room_for(3, 13 * TEST_CHUNK + 99);
    virtual_sleep(&c.v, 60000);
    struct chunk_id id = wanted_by_three(1, image_size);
    virtual_sleep(&c.v, 20 * 60000);
    check(stats(3).fetched_bytes > 12 * TEST_CHUNK && stats(3).fetched_bytes < 43 * TEST_CHUNK);
    check(stats(3).failed >= 2 && stats(3).failed <= 5);
    room_for(3, -1);
    virtual_sleep(&c.v, 45000);
    check(whole(3, &id, 1));
}

static void two_images_with_room_for_one_do_not_take_it_from_each_other(void **state)
{
    (void)state;
    room_for(3, 20 * TEST_CHUNK);
    virtual_sleep(&c.v, 60000);
    struct chunk_id ids[2] = {wanted_by_three(1, image_size), wanted_by_three(2, image_size)};
    start(3);
    virtual_sleep(&c.v, 60000);
    check_int(has(3, &ids[0]) + has(3, &ids[1]), 1);
    check_int(stats(3).fetched_bytes, 13 * TEST_CHUNK + 99);
    room_for(3, -1);
    virtual_sleep(&c.v, 60000);
    check(whole(3, &ids[0], 1) && whole(3, &ids[1], 2));
}

/* --- sessions whose host is gone -------------------------------------------------------------- */

static uint64_t chunks_on(unsigned host)
{
    struct chunks_stats s;
    chunks_stats(c.envs[host].chunks, &s);
    return s.chunk_count;
}

/* Half an upload through host 1, of which nothing more comes. */
static void half_an_upload(struct upload *u)
{
    saving(1);
    upload_open(u, &c, 1, 1, 1, image_size, two, 2, 2);
    while (u->at < image_size / 2) {
        check(upload_step(u, 1));
    }
    cluster_settle(&c);
    check(chunks_on(2) > 3);
}

static void what_an_upload_left_goes_once_no_image_names_it(void **state)
{
    (void)state;
    struct upload u;
    start(2);
    half_an_upload(&u);
    virtual_sleep(&c.v, 20 * 60 * 1000); /* named, however idle */
    check(chunks_on(2) > 3);
    stop(2); /* and after a restart */
    cluster_store_again(&c, 2);
    start(2);
    fake.quorum = false; /* what was decided is not known: nothing ends */
    virtual_sleep(&c.v, 60000);
    check(chunks_on(2) > 3);
    fake.quorum = true;
    virtual_sleep(&c.v, 60000);
    check(chunks_on(2) > 3);
    command("{'op':'image.abort','id':'%s','session':'%s'}", image_id(1), session_text(1));
    virtual_sleep(&c.v, 30000);
    check_int(chunks_on(2), 0);
    upload_abort(&u);
}

static void a_slow_repair_is_no_session_of_a_dead_host(void **state)
{
    (void)state;
    saving(1);
    struct chunk_id id = cluster_store(&c, 1, 1, image_size, two, 2);
    activate(1, &id, "[1,2]", "[1,2,3]");
    memset(c.ctx[3].boot, 9, sizeof c.ctx[3].boot);
    start(3);
    replicator_set_rate(replicators[3], TEST_CHUNK / 10); /* a chunk in 20 s */
    virtual_sleep(&c.v, 6 * 60 * 1000);
    check_int(stats(3).failed, 0);
    check(whole(3, &id, 1));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

TEST_MAIN(CASE(a_host_that_missed_an_upload_is_filled),
          CASE(a_repair_goes_on_while_sources_die_and_ends_when_they_are_back),
          CASE(a_recorded_replica_that_is_gone_is_fetched_again),
          CASE(a_recorded_replica_that_never_came_is_fetched_at_once),
          CASE(a_quarantined_chunk_is_put_back), CASE(a_deleted_image_is_dropped_and_collected),
          CASE(a_sealed_upload_that_is_not_active_yet_is_kept),
          CASE(a_sealed_upload_that_comes_to_nothing_is_dropped_soon),
          CASE(a_moved_replica_is_dropped_only_after_its_successor_is_present),
          CASE(nothing_is_dropped_without_a_quorum), CASE(the_rate_is_kept),
          CASE(closing_at_any_moment_ends), CASE(many_images_are_filled_a_few_at_a_time),
          CASE(what_there_is_no_room_for_is_not_begun_again_and_again),
          CASE(a_disk_that_fills_up_all_the_same_is_not_filled_again_and_again),
          CASE(two_images_with_room_for_one_do_not_take_it_from_each_other),
          CASE(a_pinned_image_is_fetched_and_kept_until_it_is_unpinned),
          CASE(a_pin_keeps_a_replica_that_moves_away),
          CASE(the_pin_of_a_deleted_image_goes_with_it),
          CASE(what_is_over_the_limit_goes_the_least_used_first),
          CASE(without_room_a_pinned_image_waits_and_those_here_go),
          CASE(what_an_upload_left_goes_once_no_image_names_it),
          CASE(a_slow_repair_is_no_session_of_a_dead_host))
