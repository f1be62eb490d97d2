/* meta_submit, meta_barrier and watches over a consensus that is played by this file: an entry is
 * applied on a pool and answered on the control loop, as the real one does. */
#include "fixture.h"
#include "meta/internal.h"
#include "tessera/base/id.h"

#include "sim_loop.h"
#include "tessera/base/assert.h"

struct consensus {
    struct meta *meta;
    struct loop *loop;
    struct pool *pool;
    uint64_t index;
    int refuse; /* answer without applying */
    unsigned submits, reads;
};
static struct consensus fake;

struct proposal {
    struct work work;
    struct consensus_submit *req;
    struct fsm_command command;
};

static void proposal_run(struct work *work)
{
    struct proposal *p = container_of(work, struct proposal, work);
    struct fsm *fsm = meta_fsm(fake.meta);
    struct fsm_entry e = {
        .index = ++fake.index, .term = 1, .wall_us = 1000, .commands = &p->command, .count = 1};
    check_ok(fsm->ops->apply(fsm, &e, 1));
}

static void proposal_done(struct work *work)
{
    struct proposal *p = container_of(work, struct proposal, work);
    p->req->cb(p->req, 0, p->command.code, p->command.result, p->command.result_size);
    free(p->command.result);
    free(p);
}

static void proposal_refuse(struct work *work)
{
    struct proposal *p = container_of(work, struct proposal, work);
    p->req->cb(p->req, fake.refuse, 0, NULL, 0);
    free(p);
}

static void nothing(struct work *work)
{
    (void)work;
}

void consensus_submit(struct consensus *c, struct consensus_submit *req)
{
    struct proposal *p = calloc(1, sizeof(*p));
    c->submits++;
    p->req = req;
    p->command.data = req->data;
    p->command.size = req->size;
    memcpy(p->command.id, req->id, COMMAND_ID_SIZE);
    p->work = (struct work){.loop = c->loop,
                            .run = c->refuse != 0 ? nothing : proposal_run,
                            .done = c->refuse != 0 ? proposal_refuse : proposal_done};
    pool_submit(c->pool, &p->work);
}

struct reading {
    struct work work;
    struct consensus_read *req;
};

static void reading_done(struct work *work)
{
    struct reading *r = container_of(work, struct reading, work);
    r->req->cb(r->req, fake.refuse);
    free(r);
}

void consensus_read_index(struct consensus *c, struct consensus_read *req)
{
    struct reading *r = calloc(1, sizeof(*r));
    c->reads++;
    r->req = req;
    r->work = (struct work){.loop = c->loop, .run = nothing, .done = reading_done};
    pool_submit(c->pool, &r->work);
}

/* --- the tests' own side
 * ---------------------------------------------------------------------------- */

struct world {
    struct sim *sim;
    struct store store;
    struct loop *control, *worker;
};

static void world_open(struct world *w)
{
    w->sim = sim_new(5);
    w->control = sim_loop_new(w->sim, 1);
    w->worker = sim_loop_new(w->sim, 1);
    store_open(&w->store);
    fake = (struct consensus){
        .meta = w->store.m, .loop = w->control, .pool = sim_pool_new(w->sim, 1, 1, 10, 100)};
    meta_attach(w->store.m, &fake, w->control);
}

static void world_close(struct world *w)
{
    sim_run_for(w->sim, 100);
    store_close(&w->store);
    sim_free(w->sim);
}

struct answer {
    struct meta_submit submit;
    struct meta_barrier barrier;
    unsigned calls;
    int status;
    struct err err;
    char *result;
};

static void submit_cb(struct meta_submit *req, int status, json_t *result, const struct err *err)
{
    struct answer *a = req->arg;
    a->calls++;
    a->status = status;
    a->err = *err;
    free(a->result);
    a->result = json_text(result, NULL);
}

static void barrier_cb(struct meta_barrier *req, int status)
{
    struct answer *a = req->arg;
    a->calls++;
    a->status = status;
}

static void submit(struct world *w, struct answer *a, json_t *command)
{
    unsigned calls = a->calls;
    a->submit.loop = w->worker;
    a->submit.command = command;
    a->submit.cb = submit_cb;
    a->submit.arg = a;
    meta_submit(w->store.m, &a->submit);
    check_int(a->calls, calls); /* never before it returned */
    sim_run_for(w->sim, 1000);
    check_int(a->calls, calls + 1);
}

static json_t *parsed(const char *text)
{
    json_t *v = json_parse(text, strlen(text));
    assert_non_null(v);
    return v;
}

static void a_change_is_answered_with_its_result(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    world_open(&w);
    submit(&w, &a, parsed("{\"op\":\"host.add\",\"name\":\"h\",\"roles\":[\"image\"]}"));
    check_ok(a.status);
    check_str(a.result, "{\"id\":1,\"incarnation\":1,\"raft_id\":65537}");
    uint8_t none[COMMAND_ID_SIZE] = {0};
    check(memcmp(a.submit.id, none, sizeof(none)) != 0);
    free(a.result);
    world_close(&w);
}

static void a_refusal_comes_with_its_sentence(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    world_open(&w);
    submit(&w, &a, parsed("{\"op\":\"host.state\",\"id\":4,\"state\":\"up\"}"));
    check_code(a.status, TSR_ENOENT);
    check_code(a.err.code, TSR_ENOENT);
    check_str(a.err.msg, "No host with id 4");
    free(a.result);
    world_close(&w);
}

static void the_same_id_again_gives_the_same_answer(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    static const char text[] =
        "{\"op\":\"dir.put\",\"kind\":\"user\",\"id\":\"u\",\"value\":{},\"if\":\"absent\"}";
    world_open(&w);
    memset(a.submit.id, 9, sizeof(a.submit.id));
    submit(&w, &a, parsed(text));
    check_ok(a.status);
    submit(&w, &a, parsed(text));
    check_ok(a.status);
    memset(a.submit.id, 8, sizeof(a.submit.id));
    submit(&w, &a, parsed(text));
    check_code(a.status, TSR_EEXIST);
    free(a.result);
    world_close(&w);
}

static void what_apply_could_not_read_is_refused_before_the_log(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    world_open(&w);
    submit(&w, &a, parsed("{\"op\":\"image.fly\"}"));
    check_code(a.status, TSR_EINVAL);
    check_str(a.result, "{}");
    submit(&w, &a, parsed("{\"op\":\"batch\",\"commands\":[{\"op\":\"x\"}]}"));
    check_code(a.status, TSR_EINVAL);
    submit(&w, &a, json_string("x"));
    check_code(a.status, TSR_EINVAL);
    submit(&w, &a, NULL);
    check_code(a.status, TSR_EINVAL);
    json_t *deep = json_object();
    for (int i = 0; i < 80; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, deep);
        deep = outer;
    }
    json_t *command = parsed("{\"op\":\"setting.put\",\"name\":\"x\"}");
    json_object_set_new(command, "value", deep);
    submit(&w, &a, command);
    check_code(a.status, TSR_EINVAL);
    char *big = malloc(COMMAND_BYTES_MAX + 1);
    memset(big, 'x', COMMAND_BYTES_MAX);
    big[COMMAND_BYTES_MAX] = 0;
    command = parsed("{\"op\":\"setting.put\",\"name\":\"x\"}");
    json_object_set_new(command, "value", json_string(big));
    free(big);
    submit(&w, &a, command);
    check_code(a.status, TSR_ETOOBIG);
    check_int(fake.submits, 0);
    free(a.result);
    world_close(&w);
}

static void what_consensus_says_is_passed_on(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    world_open(&w);
    fake.refuse = TSR_ENOQUORUM;
    submit(&w, &a, parsed("{\"op\":\"batch\",\"commands\":[]}"));
    check_code(a.status, TSR_ENOQUORUM);
    check_str(a.err.msg, err_text(TSR_ENOQUORUM));
    check_str(a.result, "{}");
    free(a.result);
    world_close(&w);
}

static void a_barrier_waits_for_a_read_index(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    world_open(&w);
    a.barrier = (struct meta_barrier){.loop = w.worker, .cb = barrier_cb, .arg = &a};
    meta_barrier(w.store.m, &a.barrier);
    check_int(a.calls, 0);
    sim_run_for(w.sim, 100);
    check_int(a.calls, 1);
    check_ok(a.status);
    fake.refuse = TSR_ETIMEOUT;
    meta_barrier(w.store.m, &a.barrier);
    sim_run_for(w.sim, 100);
    check_code(a.status, TSR_ETIMEOUT);
    check_int(fake.reads, 2);
    world_close(&w);
}

static void before_attach_and_after_detach_everything_is_canceled(void **state)
{
    (void)state;
    struct world w;
    struct answer a = {0};
    world_open(&w);
    meta_detach(w.store.m);
    submit(&w, &a, parsed("{\"op\":\"batch\",\"commands\":[]}"));
    check_code(a.status, TSR_ECANCELED);
    a.barrier = (struct meta_barrier){.loop = w.worker, .cb = barrier_cb, .arg = &a};
    meta_barrier(w.store.m, &a.barrier);
    sim_run_for(w.sim, 100);
    check_int(a.calls, 2);
    check_code(a.status, TSR_ECANCELED);
    struct store fresh;
    store_open(&fresh);
    meta_submit(fresh.m, &a.submit); /* never attached */
    sim_run_for(w.sim, 100);
    check_int(a.calls, 3);
    check_code(a.status, TSR_ECANCELED);
    store_close(&fresh);
    check_int(fake.submits, 0);
    free(a.result);
    world_close(&w);
}

/* --- watches
 * ------------------------------------------------------------------------------------------ */

struct watcher {
    struct meta_watch watch;
    unsigned calls, kinds;
};

static void watch_cb(struct meta_watch *watch, unsigned kinds)
{
    struct watcher *x = watch->arg;
    x->calls++;
    x->kinds |= kinds;
}

static void watches_are_told_what_changed_once_for_many(void **state)
{
    (void)state;
    struct world w;
    struct watcher x = {.watch = {.cb = watch_cb, .arg = &x}};
    world_open(&w);
    x.watch.loop = w.worker;
    meta_watch_add(w.store.m, &x.watch);
    add_hosts(&w.store, 2);
    create(&w.store, uuid(1));
    check_code(run(&w.store, "{'op':'dir.delete','kind':'user','id':'u'}"), TSR_ENOENT);
    check_int(x.calls, 0);
    sim_run_for(w.sim, 10);
    check_int(x.calls, 1);
    check_int(x.kinds, META_HOSTS | META_SETTINGS | META_IMAGES);
    x.kinds = 0;
    check_ok(run(&w.store, "{'op':'endpoint.grant','host':1,'epoch':1}"));
    sim_run_for(w.sim, 10);
    check_int(x.calls, 2);
    check_int(x.kinds, META_ENDPOINT);
    meta_watch_remove(w.store.m, &x.watch);
    world_close(&w);
}

struct data_watcher {
    struct meta_watch watch;
    unsigned calls;
    size_t count;
    uint8_t last[32];
    bool all;
};

static void data_watch_cb(struct meta_watch *watch, unsigned kinds)
{
    struct data_watcher *x = watch->arg;
    check(((kinds & META_DATA) != 0) == (watch->manifest_count > 0 || watch->manifests_all));
    x->calls++;
    x->count += watch->manifest_count;
    x->all = watch->manifests_all;
    if (watch->manifest_count > 0) {
        memcpy(x->last, watch->manifests[watch->manifest_count - 1], 32);
    }
}

/* Creates, tags and the like are nothing to those who keep data. */
static void a_watch_of_data_is_told_the_manifests(void **state)
{
    (void)state;
    struct world w;
    char hex[65];
    uint8_t name[32];
    struct data_watcher x = {.watch = {.cb = data_watch_cb, .arg = &x, .data = true}};
    world_open(&w);
    x.watch.loop = w.worker;
    add_hosts(&w.store, 2);
    meta_watch_add(w.store.m, &x.watch);
    create(&w.store, uuid(1));
    check_ok(run(&w.store, "{'op':'image.tag','id':'%s','tag':'t','add':true}", uuid(1)));
    check_ok(
        run(&w.store,
            "{'op':'image.update','id':'%s','set':{'disk_format':'raw','container_format':'bare'}}",
            uuid(1)));
    check_ok(run(&w.store, "{'op':'image.saving','id':'%s','session':'s','host':1,'kind':'upload'}",
                 uuid(1)));
    sim_run_for(w.sim, 10);
    check_int(x.count, 0);
    memset(name, 0xab, sizeof(name));
    hex_encode(name, sizeof(name), hex);
    check_ok(run(&w.store,
                 "{'op':'image.activate','id':'%s','session':'s','manifest':'%s','size':7,"
                 "'virtual_size':7,'checksum':'0123456789abcdef0123456789abcdef','os_hash_algo':'"
                 "sha512','os_hash_value':'ab',"
                 "'replicas':[1,2],'placement':[1,2],'write_replicas':1}",
                 uuid(1), hex));
    sim_run_for(w.sim, 10);
    check_int(x.count, 1);
    check_mem(x.last, name, sizeof(name));
    check_ok(
        run(&w.store, "{'op':'image.replica','manifest':'%s','host':2,'state':'missing'}", hex));
    sim_run_for(w.sim, 10);
    check_int(x.count, 2);
    check_ok(run(&w.store, "{'op':'image.delete','id':'%s'}", uuid(1)));
    sim_run_for(w.sim, 10);
    check_int(x.count, 3);
    check(!x.all);
    struct manifest_list many = {0};
    for (unsigned i = 0; i <= WATCH_MANIFESTS_MAX; i++) {
        memcpy(name, &i, sizeof(i));
        manifest_list_add(&many, name);
    }
    check(many.all && many.count == 0);
    meta_watch_notify(w.store.m, META_DATA, &many);
    sim_run_for(w.sim, 10);
    check(x.all);
    meta_watch_remove(w.store.m, &x.watch);
    world_close(&w);
}

static void a_removed_watch_hears_nothing_more(void **state)
{
    (void)state;
    struct world w;
    struct watcher *x = calloc(1, sizeof(*x));
    world_open(&w);
    x->watch = (struct meta_watch){.loop = w.worker, .cb = watch_cb, .arg = x};
    meta_watch_add(w.store.m, &x->watch);
    create(&w.store, uuid(1)); /* a call is on its way */
    meta_watch_remove(w.store.m, &x->watch);
    check_int(x->calls, 0);
    free(x); /* at once */
    create(&w.store, uuid(2));
    sim_run_for(w.sim, 10);
    world_close(&w);
}

TEST_MAIN(cmocka_unit_test(a_change_is_answered_with_its_result),
          cmocka_unit_test(a_refusal_comes_with_its_sentence),
          cmocka_unit_test(the_same_id_again_gives_the_same_answer),
          cmocka_unit_test(what_apply_could_not_read_is_refused_before_the_log),
          cmocka_unit_test(what_consensus_says_is_passed_on),
          cmocka_unit_test(a_barrier_waits_for_a_read_index),
          cmocka_unit_test(before_attach_and_after_detach_everything_is_canceled),
          cmocka_unit_test(watches_are_told_what_changed_once_for_many),
          cmocka_unit_test(a_watch_of_data_is_told_the_manifests),
          cmocka_unit_test(a_removed_watch_hears_nothing_more))
