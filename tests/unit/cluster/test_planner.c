/* The planner's walk, over a real store; the hosts, the log and the clock are played here. */
#include "../meta/fixture.h"
#include "cluster/internal.h"

enum { IMAGES = 40, INFLIGHT = 32, MINUTE = 60 * 1000 };

static uint64_t clock_ns, slice_ns; /* what a slice takes */
static unsigned slices, submits;
static struct {
    cluster_submit_cb cb;
    void *arg;
} waiting[IMAGES * 2];
static unsigned waiting_count;

static uint64_t played_now(struct loop *loop)
{
    (void)loop;
    return clock_ns;
}

static const struct loop_ops played_ops = {.now_ns = played_now};
static struct loop loop = {.ops = &played_ops};

uint64_t cluster_now(struct cluster *c)
{
    return loop_now_ms(c->o.loop);
}

size_t health_hosts(struct cluster *c, struct placement_host out[CLUSTER_HOSTS_MAX])
{
    (void)c;
    slices++;
    clock_ns += slice_ns;
    for (unsigned i = 0; i < 2; i++) {
        out[i] = (struct placement_host){.id = i + 1,
                                         .up = true,
                                         .image_role = true,
                                         .available_bytes = -1,
                                         .total_bytes = -1,
                                         .weight = 100};
    }
    return 2;
}

void cluster_submit(struct cluster *c, json_t *command, cluster_submit_cb cb, void *arg)
{
    (void)c;
    check_str(json_str(command, "op"), "image.place");
    check_int(json_array_size(json_arr(command, "placement")), 2);
    json_decref(command);
    check(waiting_count < IMAGES * 2);
    waiting[waiting_count].cb = cb;
    waiting[waiting_count++].arg = arg;
    submits++;
}

/* The log answers all that was submitted. */
static void answer(struct cluster *c)
{
    unsigned n = waiting_count;
    waiting_count = 0;
    for (unsigned i = 0; i < n; i++) {
        waiting[i].cb(c, waiting[i].arg, 0, NULL, NULL);
    }
}

static void sleep_ms(uint64_t ms)
{
    clock_ns += ms * 1000000;
}

/* Images that one host has, of two that should. */
static void open_library(struct store *s, struct cluster *c, unsigned images)
{
    char sum[129];
    memset(sum, 'a', 128);
    sum[128] = 0;
    store_open(s);
    for (unsigned n = 1; n <= 2; n++) {
        check_ok(run(s,
                     "{'op':'host.add','name':'host%u','zone':'z','roles':['image','voter'],"
                     "'api_url':'https://h:9292','peer_address':'h:9293','raft_address':'h:9294',"
                     "'version':'1'}",
                     n));
    }
    for (unsigned n = 1; n <= images; n++) {
        const char *id = uuid(n);
        check_ok(run(s,
                     "{'op':'image.create','image':{'id':'%s','owner':'p','disk_format':'raw',"
                     "'container_format':'bare'}}",
                     id));
        check_ok(run(s,
                     "{'op':'image.saving','id':'%s','session':'%032u','host':1,'kind':'upload'}",
                     id, n));
        check_ok(run(s,
                     "{'op':'image.activate','id':'%s','session':'%032u','manifest':'%.56s%08x',"
                     "'size':5,'virtual_size':5,'checksum':'%.32s','os_hash_algo':'sha512',"
                     "'os_hash_value':'%s','replicas':[1],'placement':[1],'write_replicas':1}",
                     id, n, sum, n, sum, sum));
    }
    clock_ns = 1000 * 1000000ull;
    slice_ns = 0;
    slices = submits = waiting_count = 0;
    *c = (struct cluster){.o = {.loop = &loop, .meta = s->m, .replicas = 2}};
}

static void what_a_walk_waits_for_is_no_work(void **state)
{
    (void)state;
    struct store s;
    static struct cluster c;
    open_library(&s, &c, IMAGES);
    planner_duty(&c);
    check_int(submits, INFLIGHT);
    for (unsigned n = 0; n < 10; n++) { /* no majority for ten minutes */
        sleep_ms(MINUTE);
        planner_duty(&c);
    }
    check_int(slices, 1);
    answer(&c);
    planner_duty(&c);
    check_int(submits, IMAGES);
    answer(&c);
    check(!c.plan_running);
    unsigned before = slices;
    sleep_ms(MINUTE / 4);
    planner_duty(&c);
    check_int(slices, before);
    sleep_ms(MINUTE / 2);
    planner_duty(&c);
    check_int(slices, before + 1); /* as if there had been no outage */
    store_close(&s);
}

static void a_walk_leaves_the_loop_alone_for_twenty_times_its_work(void **state)
{
    (void)state;
    struct store s;
    static struct cluster c;
    open_library(&s, &c, 1);
    slice_ns = 6000 * 1000000ull; /* six seconds */
    planner_duty(&c);
    answer(&c);
    check_int(slices, 1);
    sleep_ms(2 * MINUTE + 29000);
    planner_duty(&c);
    check_int(slices, 1);
    sleep_ms(2000);
    planner_duty(&c);
    check_int(slices, 2);
    answer(&c);
    planner_want(&c); /* hosts changed: at once */
    planner_duty(&c);
    check_int(slices, 3);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(what_a_walk_waits_for_is_no_work),
          cmocka_unit_test(a_walk_leaves_the_loop_alone_for_twenty_times_its_work))
