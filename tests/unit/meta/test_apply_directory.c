#include "fixture.h"

static bool has(struct store *s, const char *kind, const char *id)
{
    struct meta_view *v = view(s);
    json_t *out = NULL;
    int rc = meta_dir_get(v, kind, id, &out);
    json_decref(out);
    meta_view_close(v);
    check(rc == 0 || rc == TSR_ENOENT);
    return rc == 0;
}

/* Id of the entry of that name; "" if there is none. */
static const char *named(struct store *s, const char *kind, const char *domain, const char *name)
{
    static char id[64];
    struct meta_view *v = view(s);
    json_t *out = NULL;
    int rc = meta_dir_find(v, kind, domain, name, &out);
    snprintf(id, sizeof(id), "%s", json_str_or(out, "id", ""));
    json_decref(out);
    meta_view_close(v);
    check(rc == 0 || rc == TSR_ENOENT);
    return id;
}

static void entries_are_found_by_id_and_name(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'u1','value':{'name':'ann',"
                     "'domain_id':'d'},'if':'absent'}"));
    check(has(&s, "user", "u1"));
    check(!has(&s, "role", "u1"));
    check_str(named(&s, "user", "d", "ann"), "u1");
    check_str(named(&s, "user", "e", "ann"), "");
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'u1','value':{'name':'bob',"
                     "'domain_id':'d'},'if':'present'}"));
    check_str(named(&s, "user", "d", "ann"), "");
    check_str(named(&s, "user", "d", "bob"), "u1");
    check_ok(run(&s, "{'op':'dir.delete','kind':'user','id':'u1'}"));
    check_str(named(&s, "user", "d", "bob"), "");
    store_close(&s);
}

static void names_are_unique_in_their_domain(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_ok(run(&s, "{'op':'dir.put','kind':'role','id':'1','value':{'name':'x'}}"));
    check_code(run(&s, "{'op':'dir.put','kind':'role','id':'2','value':{'name':'x'}}"), TSR_EEXIST);
    check_ok(run(&s, "{'op':'dir.put','kind':'role','id':'2','value':{'name':'x',"
                     "'domain_id':'d'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'1','value':{'name':'x'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'role','id':'1','value':{'name':'x','more':1}}"));
    store_close(&s);
}

static void conditions_and_forms_are_checked(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_code(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{},'if':'present'}"),
               TSR_ENOENT);
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{},'if':'absent'}"));
    check_code(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{},'if':'absent'}"),
               TSR_EEXIST);
    check_code(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{},'if':'so'}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'dir.put','kind':'User','id':'u','value':{}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'dir.put','kind':'user','id':'','value':{}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':5}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{'id':'v'}}"), TSR_EINVAL);
    check_code(run(&s, "{'op':'dir.delete','kind':'user','id':'v'}"), TSR_ENOENT);
    store_close(&s);
}

static void a_change_made_from_an_older_version_is_refused(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_ok(run(&s, "{'op':'dir.put','kind':'metadef','id':'1','value':{'name':'n','version':1},"
                     "'if':'absent'}"));
    check_code(run(&s, "{'op':'dir.put','kind':'metadef','id':'1','value':{'name':'m',"
                       "'version':3},'if':'present','version':2}"),
               TSR_EVERSION);
    check_str(named(&s, "metadef", "", "n"), "1");
    check_ok(run(&s, "{'op':'dir.put','kind':'metadef','id':'1','value':{'name':'m','version':2},"
                     "'if':'present','version':1}"));
    check_str(named(&s, "metadef", "", "m"), "1");
    check_code(run(&s, "{'op':'dir.delete','kind':'metadef','id':'1','version':1}"), TSR_EVERSION);
    check_code(run(&s, "{'op':'dir.delete','kind':'metadef','id':'1','version':'2'}"), TSR_EINVAL);
    check(has(&s, "metadef", "1"));
    check_ok(run(&s, "{'op':'dir.delete','kind':'metadef','id':'1','version':2}"));
    check_code(run(&s, "{'op':'dir.put','kind':'metadef','id':'1','value':{},'if':'present',"
                       "'version':2}"),
               TSR_ENOENT);
    /* An entry without a version counts as version 0. */
    check_ok(run(&s, "{'op':'dir.put','kind':'role','id':'r','value':{}}"));
    check_code(run(&s, "{'op':'dir.put','kind':'role','id':'r','value':{},'version':1}"),
               TSR_EVERSION);
    check_ok(run(&s, "{'op':'dir.put','kind':'role','id':'r','value':{},'version':0}"));
    store_close(&s);
}

static void what_hangs_on_a_user_or_project_goes_with_it(void **state)
{
    (void)state;
    struct store s;
    store_open(&s);
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'u','value':{'name':'u'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'project','id':'p','value':{'name':'p'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'assignment','id':'u:p',"
                     "'value':{'user_id':'u','project_id':'p'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'assignment','id':'v:p',"
                     "'value':{'user_id':'v','project_id':'p'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'assignment','id':'v:q',"
                     "'value':{'user':'v','project':'q'}}"));
    check_ok(run(&s, "{'op':'dir.put','kind':'appcred','id':'c',"
                     "'value':{'user_id':'u','name':'cred'}}"));
    check_str(named(&s, "appcred", "u", "cred"), "c"); /* names are the user's own */
    check_ok(run(&s, "{'op':'dir.delete','kind':'user','id':'u'}"));
    check(!has(&s, "assignment", "u:p"));
    check(!has(&s, "appcred", "c"));
    check_str(named(&s, "appcred", "u", "cred"), "");
    check(has(&s, "assignment", "v:p"));
    check_ok(run(&s, "{'op':'dir.delete','kind':'project','id':'p'}"));
    check(!has(&s, "assignment", "v:p"));
    check(has(&s, "assignment", "v:q"));
    check_ok(run(&s, "{'op':'dir.put','kind':'user','id':'v','value':{}}"));
    check_ok(run(&s, "{'op':'dir.delete','kind':'user','id':'v'}"));
    check(!has(&s, "assignment", "v:q"));
    store_close(&s);
}

static void entries_of_a_kind_are_listed_by_prefix_in_pages(void **state)
{
    (void)state;
    struct store s;
    json_t *out;
    store_open(&s);
    for (int i = 0; i < 6; i++) {
        check_ok(run(&s, "{'op':'dir.put','kind':'assignment','id':'%c:%d','value':{}}",
                     i < 4 ? 'a' : 'b', i));
    }
    check_ok(run(&s, "{'op':'dir.put','kind':'role','id':'a:9','value':{}}"));
    struct meta_view *v = view(&s);
    check_ok(meta_dir_list(v, "assignment", "a:", "", 3, &out));
    check_int(json_array_size(out), 3);
    check_str(json_str(json_array_get(out, 2), "id"), "a:2");
    json_decref(out);
    check_ok(meta_dir_list(v, "assignment", "a:", "a:2", 3, &out));
    check_int(json_array_size(out), 1);
    json_decref(out);
    check_ok(meta_dir_list(v, "assignment", "", NULL, 100, &out));
    check_int(json_array_size(out), 6);
    json_decref(out);
    check_ok(meta_dir_list(v, "assignment", "b:", "a:1", 100, &out));
    check_int(json_array_size(out), 2);
    json_decref(out);
    meta_view_close(v);
    store_close(&s);
}

TEST_MAIN(cmocka_unit_test(entries_are_found_by_id_and_name),
          cmocka_unit_test(names_are_unique_in_their_domain),
          cmocka_unit_test(conditions_and_forms_are_checked),
          cmocka_unit_test(a_change_made_from_an_older_version_is_refused),
          cmocka_unit_test(what_hangs_on_a_user_or_project_goes_with_it),
          cmocka_unit_test(entries_of_a_kind_are_listed_by_prefix_in_pages))
