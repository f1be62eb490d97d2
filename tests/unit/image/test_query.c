/* The query of a listing: filters, operators, sorting, links (image-api section 4). */
#include "test.h"

#include <stdlib.h>

#include "image/query.h"
#include "tessera/base/buf.h"
#include "tessera/http.h"

static struct http_params decoded;
static struct image_param params[QUERY_FILTERS_MAX + 64];

static int parse(const char *text, struct query *q)
{
    struct err err = {0};
    http_params_free(&decoded);
    check_ok(http_params_parse(text, &decoded));
    check(decoded.count <= array_len(params));
    for (size_t i = 0; i < decoded.count; i++) {
        params[i] = (struct image_param){decoded.items[i].name, decoded.items[i].value};
    }
    *q = (struct query){0};
    int rv = query_parse(q, params, decoded.count, 25, 1000, &err);
    check(rv == 0 || err.msg[0] != '\0');
    return rv;
}

static const char *compare_text(enum meta_compare c)
{
    static const char *const texts[] = {"=", "!=", ">", ">=", "<", "<=", " in "};
    return texts[c];
}

/* "field=value; field in a|b; ..." */
static void shows(const char *text, const char *want)
{
    struct query q;
    struct buf b = {0};
    check_ok(parse(text, &q));
    for (size_t i = 0; i < q.meta.filter_count; i++) {
        const struct meta_filter *f = &q.meta.filters[i];
        (void)buf_printf(&b, "%s%s%s", i > 0 ? "; " : "", f->field, compare_text(f->compare));
        if (f->numeric) {
            (void)buf_printf(&b, "%lld", (long long)f->number);
        }
        for (size_t n = 0; n < f->value_count; n++) {
            (void)buf_printf(&b, "%s%s", n > 0 ? "|" : "", f->values[n]);
        }
    }
    (void)buf_printf(&b, "%s", q.nothing ? " nothing" : "");
    check_str(b.data, want);
    buf_free(&b);
    query_free(&q);
}

static void bad(const char *text)
{
    struct query q;
    int rv = parse(text, &q);
    if (rv != TSR_EINVAL) {
        print_error("accepted: %s\n", text);
    }
    check_code(rv, TSR_EINVAL);
    query_free(&q);
}

static void sorts(const char *text, const char *want)
{
    static const char *const names[] = {"created_at",       "updated_at",  "name", "status",
                                        "container_format", "disk_format", "size", "id"};
    struct query q;
    struct buf b = {0};
    check_ok(parse(text, &q));
    (void)buf_append_str(&b, "");
    for (size_t i = 0; i < q.meta.sort_count; i++) {
        (void)buf_printf(&b, "%s%s%s", i > 0 ? "," : "", names[q.meta.sort[i].key],
                         q.meta.sort[i].descending ? "-" : "+");
    }
    check_str(b.data, want);
    buf_free(&b);
    query_free(&q);
}

static void filters_of_words_take_operators(void **state)
{
    (void)state;
    shows("name=foo", "name=foo");
    shows("name=eq:foo", "name=foo");
    shows("name=in:a,b,%22c,d%22", "name in a|b|c,d");
    shows("name=in:%22foo:bar%22", "name in foo:bar");
    shows("status=active&disk_format=in:raw,qcow2", "status=active; disk_format in raw|qcow2");
    bad("name=foo:bar");
    bad("name=gt:1");
    bad("name=in:%22a");
    bad("name=in:a%22b%22");
    bad("name=in:%22a%22b");
    bad("container_format=neq:bare");
}

static void filters_of_numbers_and_times_are_checked(void **state)
{
    (void)state;
    shows("size_min=5&size_max=9", "size>=5; size<=9");
    shows("min_ram_min=1&min_disk_max=2&min_disk=3", "min_ram>=1; min_disk<=2; min_disk=3");
    shows("size=gt:100", " nothing");
    shows("created_at=gt:2024-01-02T03:04:05Z", "created_at>1704164645000000");
    shows("updated_at=2024-01-02", "updated_at=1704153600000000");
    shows("created_at=neq:2024-01-02T03:04:05Z", "created_at!=1704164645000000");
    shows("created_at=lte:20240102T030405Z", "created_at<=1704164645000000");
    bad("created_at=in:2024-01-02");
    bad("created_at=yesterday");
    bad("created_at=gt:");
    bad("size_min=x");
    bad("min_ram_max=1.5");
}

static void exact_filters_and_custom_properties(void **state)
{
    (void)state;
    shows("tag=a&tag=b", "tag=a; tag=b");
    shows("owner=p:q&checksum=abc", "owner=p:q; checksum=abc");
    shows("protected=true", "protected=true");
    shows("hw_disk_bus=virtio", "prop:hw_disk_bus=virtio");
    shows("is_public=x&foo_min=3&properties=",
          "prop:is_public=x; prop:foo_min=3; prop:properties=");
    shows("sizes=3", "prop:sizes=3");
    shows("self=x", " nothing");
    shows("deleted=True", "");
    bad("protected=True");
    bad("protected=1");
    bad("changes-since=2024-01-01");
}

static void words_that_change_what_is_seen(void **state)
{
    (void)state;
    struct query q;
    check_ok(parse("visibility=community&member_status=all&os_hidden=True", &q));
    check_str(q.meta.visibility, "community");
    check_str(q.meta.member_status, "all");
    check(q.meta.hidden);
    query_free(&q);
    check_ok(parse("visibility=&os_hidden=FALSE", &q));
    check_str(q.meta.visibility, "");
    check(!q.meta.hidden);
    query_free(&q);
    bad("visibility=Public");
    bad("member_status=");
    bad("os_hidden=");
    bad("os_hidden=1");
}

static void limits_and_markers_are_checked(void **state)
{
    (void)state;
    struct query q;
    check_ok(parse("", &q));
    check_int(q.meta.limit, 25);
    query_free(&q);
    check_ok(parse("limit=5000", &q));
    check_int(q.meta.limit, 1000);
    query_free(&q);
    check_ok(parse("limit=0&marker=8c2e4bd9-2a4b-4b1c-9d1a-5a5f3f0a9c11", &q));
    check_int(q.meta.limit, 0);
    query_free(&q);
    bad("limit=-1");
    bad("limit=abc");
    bad("limit=");
    bad("limit=1.5");
    bad("marker=");
    bad("marker=my-name");
}

static void the_number_of_filters_is_limited(void **state)
{
    (void)state;
    struct query q;
    struct buf b = {0};
    for (int i = 0; i < QUERY_FILTERS_MAX; i++) {
        (void)buf_printf(&b, "p%d=v&", i);
    }
    (void)buf_append_str(&b, "limit=1");
    check_ok(parse(b.data, &q));
    check_int(q.filter_count, QUERY_FILTERS_MAX);
    query_free(&q);
    (void)buf_append_str(&b, "&tag=t");
    bad(b.data);
    buf_free(&b);
}

static void both_styles_of_sorting(void **state)
{
    (void)state;
    sorts("", "");
    sorts("sort=name:asc,size:desc,id", "name+,size-,id-");
    sorts("sort=%20name%20:%20asc%20,%20size", "name+,size-");
    sorts("sort_key=name&sort_key=size&sort_dir=asc", "name+,size+");
    sorts("sort_key=name&sort_key=size&sort_dir=asc&sort_dir=desc", "name+,size-");
    sorts("sort_key=name", "name-");
    sorts("sort_dir=asc", "created_at+");
    sorts("sort=name,name:asc", "name-");
    bad("sort=");
    bad("sort=owner");
    bad("sort=name:up");
    bad("sort=name:");
    bad("sort=name,");
    bad("sort_key=owner");
    bad("sort_dir=up");
    bad("sort_key=name&sort_dir=asc&sort_dir=desc");
    bad("sort=name&sort_key=size");
}

static void links_repeat_every_parameter_but_the_marker(void **state)
{
    (void)state;
    struct query q;
    check_ok(parse(
        "sort=name:asc&tag=a&tag=b+c&marker=8c2e4bd9-2a4b-4b1c-9d1a-5a5f3f0a9c11&limit=2", &q));
    char *first = query_link(params, decoded.count, NULL);
    char *next = query_link(params, decoded.count, "m");
    check_str(first, "/v2/images?sort=name%3Aasc&tag=a&tag=b+c&limit=2");
    check_str(next, "/v2/images?sort=name%3Aasc&tag=a&tag=b+c&limit=2&marker=m");
    free(first);
    free(next);
    query_free(&q);
    first = query_link(NULL, 0, NULL);
    next = query_link(NULL, 0, "m");
    check_str(first, "/v2/images");
    check_str(next, "/v2/images?marker=m");
    free(first);
    free(next);
    http_params_free(&decoded);
}

TEST_MAIN(cmocka_unit_test(filters_of_words_take_operators),
          cmocka_unit_test(filters_of_numbers_and_times_are_checked),
          cmocka_unit_test(exact_filters_and_custom_properties),
          cmocka_unit_test(words_that_change_what_is_seen),
          cmocka_unit_test(limits_and_markers_are_checked),
          cmocka_unit_test(the_number_of_filters_is_limited),
          cmocka_unit_test(both_styles_of_sorting),
          cmocka_unit_test(links_repeat_every_parameter_but_the_marker))
