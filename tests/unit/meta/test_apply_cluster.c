#include "fixture.h"

static json_t *host(struct store *s, uint64_t id)
{
    struct meta_view *v = view(s);
    json_t *out = NULL;
    int rc = meta_host_get(v, id, &out);
    meta_view_close(v);
    check(rc == 0 || rc == TSR_ENOENT);
    return out;
}

static void a_cluster_is_made_once(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    struct meta_view *v = view(&s);
    check_code(meta_cluster_get(v, &out), TSR_ENOENT);
    meta_view_close(v);
    check_code(run(&s, "{'op':'cluster.init','name':'n','chunk_bytes':1}"), TSR_EINVAL);
    check_ok(run(&s, "{'op':'cluster.init','cluster_id':'c','name':'n','chunk_bytes':4194304}"));
    check_code(run(&s, "{'op':'cluster.init','cluster_id':'d','name':'n','chunk_bytes':1}"),
               TSR_EEXIST);
    v = view(&s);
    check_ok(meta_cluster_get(v, &out));
    check_str(json_str(out, "cluster_id"), "c");
    check_int(json_int(out, "chunk_bytes", 0), 4194304);
    check_int(json_int(out, "command_version", 0), META_COMMAND_VERSION);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

static void hosts_get_ids_and_incarnations(void **state)
{
    (void)state;
    static const char *const keys[] = {"id",        "incarnation",  "raft_id",      "name",
                                       "zone",      "state",        "roles",        "raft_role",
                                       "api_url",   "peer_address", "raft_address", "version",
                                       "joined_at", "state_since"};
    struct store s;
    json_t *out;
    store_open(&s);
    add_hosts(&s, 2);
    check_int(json_int(s.result, "id", 0), 2);
    check_int(json_int(s.result, "incarnation", 0), 1);
    check_int(json_int(s.result, "raft_id", 0), 2 << 16 | 1);
    json_t *h = host(&s, 1);
    for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
        check(json_object_get(h, keys[k]) != NULL);
    }
    check_str(json_str(h, "state"), "up");
    json_decref(h);
    struct meta_view *v = view(&s);
    check_ok(meta_host_list(v, &out));
    check_int(json_array_size(out), 2);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

static void a_host_comes_back_under_its_id_with_a_new_incarnation(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 2);
    check_code(run(&s, "{'op':'host.add','name':'host1','roles':[]}"), TSR_EEXIST);
    check_ok(run(&s, "{'op':'host.add','name':'host1','roles':['image'],'rejoin':1}"));
    check_int(json_int(s.result, "id", 0), 1);
    check_int(json_int(s.result, "raft_id", 0), 1 << 16 | 2);
    check_code(run(&s, "{'op':'host.add','name':'host2','roles':[],'rejoin':1}"), TSR_EEXIST);
    check_code(run(&s, "{'op':'host.add','name':'x','roles':[],'rejoin':7}"), TSR_ENOENT);
    check_ok(run(&s, "{'op':'host.remove','id':2}"));
    json_t *h = host(&s, 2);
    check_str(json_str(h, "state"), "left");
    json_decref(h);
    check_ok(run(&s, "{'op':'host.add','name':'host2','roles':[]}"));
    check_int(json_int(s.result, "id", 0), 2);
    check_int(json_int(s.result, "incarnation", 0), 2);
    check_ok(run(&s, "{'op':'host.add','name':'host3','roles':[]}"));
    check_int(json_int(s.result, "id", 0), 3);
    check_code(run(&s, "{'op':'host.add','roles':[]}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'host.add','name':'y'}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'host.add','name':'y','roles':[5]}"), TSR_EINVAL);
    store_close(&s);
}

static void hosts_are_updated_and_judged(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    add_hosts(&s, 2);
    check_ok(run(&s, "{'op':'host.update','id':1,'set':{'raft_role':'voter','version':'2'}}"));
    check_code(run(&s, "{'op':'host.update','id':1,'set':{'id':5}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'host.update','id':1,'set':{'state':'down'}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'host.update','id':1,'set':{'name':'host2'}}"), TSR_EEXIST);
    check_code(run(&s, "{'op':'host.update','id':1,'set':{'name':null}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'host.update','id':9,'set':{}}"), TSR_ENOENT);
    check_ok(run(&s, "{'op':'host.state','id':1,'state':'down'}"));
    json_t *h = host(&s, 1);
    check_str(json_str(h, "raft_role"), "voter");
    check_str(json_str(h, "version"), "2");
    check_str(json_str(h, "state"), "down");
    check_int(json_int(h, "state_since", 0), s.now);
    json_decref(h);
    check_code(run(&s, "{'op':'host.state','id':1,'state':'left'}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'host.state','id':9,'state':'up'}"), TSR_ENOENT);
    check_ok(run(&s, "{'op':'host.remove','id':1}"));
    check_ok(run(&s, "{'op':'host.remove','id':1}"));
    check_code(run(&s, "{'op':'host.state','id':1,'state':'up'}"), TSR_ECONFLICT);
    check_code(run(&s, "{'op':'host.remove','id':9}"), TSR_ENOENT);
    store_close(&s);
}

static void the_endpoint_moves_one_epoch_at_a_time(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    add_hosts(&s, 2);
    struct meta_view *v = view(&s);
    check_code(meta_endpoint_get(v, &out), TSR_ENOENT);
    meta_view_close(v);
    check_code(run(&s, "{'op':'endpoint.grant','host':1,'epoch':2}"), TSR_ECONFLICT);
    check_code(run(&s, "{'op':'endpoint.grant','host':7,'epoch':1}"), TSR_ENOENT);
    check_ok(run(&s, "{'op':'endpoint.grant','host':1,'epoch':1,'address':'a','reason':'r'}"));
    check_code(run(&s, "{'op':'endpoint.grant','host':2,'epoch':1}"), TSR_ECONFLICT);
    check_code(run(&s, "{'op':'host.remove','id':1}"), TSR_ECONFLICT);
    check_ok(run(&s, "{'op':'endpoint.grant','host':2,'epoch':2,'address':null,'reason':'m'}"));
    v = view(&s);
    check_ok(meta_endpoint_get(v, &out));
    check_int(json_int(out, "host", 0), 2);
    check_int(json_int(out, "epoch", 0), 2);
    check(json_is_null(json_object_get(out, "address")));
    check_str(json_str(out, "reason"), "m");
    check_int(json_int(out, "granted_at", 0), s.now);
    json_decref(out);
    meta_view_close(v);
    check_ok(run(&s, "{'op':'host.remove','id':1}"));
    check_code(run(&s, "{'op':'endpoint.grant','host':1,'epoch':3}"), TSR_ECONFLICT);
    store_close(&s);
}

static void settings_are_put_and_taken_back(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    check_ok(run(&s, "{'op':'setting.put','name':'replicas','value':'3'}"));
    struct meta_view *v = view(&s);
    check_ok(meta_setting_get(v, "replicas", &out));
    check_str(json_string_value(out), "3");
    json_decref(out);
    meta_view_close(v);
    check_ok(run(&s, "{'op':'setting.put','name':'replicas','value':null}"));
    v = view(&s);
    check_code(meta_setting_get(v, "replicas", &out), TSR_ENOENT);
    meta_view_close(v);
    check_code(run(&s, "{'op':'setting.put','value':'3'}"), TSR_EINVAL);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(a_cluster_is_made_once),
          cmocka_unit_test(hosts_get_ids_and_incarnations),
          cmocka_unit_test(a_host_comes_back_under_its_id_with_a_new_incarnation),
          cmocka_unit_test(hosts_are_updated_and_judged),
          cmocka_unit_test(the_endpoint_moves_one_epoch_at_a_time),
          cmocka_unit_test(settings_are_put_and_taken_back))
