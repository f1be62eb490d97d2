/* What a download may use: URLs, names, addresses in every notation (F43). */
#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "tessera/image/import.h"

#define LIST(...)                                                                       \
    {                                                                                   \
        .items = (char *[]){__VA_ARGS__}, .count = array_len(((char *[]){__VA_ARGS__})) \
    }

static const struct config_list methods = LIST("web-download"), schemes = LIST("http", "https"),
                                ports = LIST("80", "443", "8443"), none;

static struct import_rules rules_make(void)
{
    return (struct import_rules){.methods = &methods,
                                 .schemes = &schemes,
                                 .ports = &ports,
                                 .hosts_allowed = &none,
                                 .hosts_denied = &none,
                                 .addresses_allowed = &none};
}

/* The address that a URL's host or a plain text is. */
static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage s = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&s;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&s;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        s.ss_family = AF_INET;
    } else {
        check_int(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        s.ss_family = AF_INET6;
    }
    return s;
}

static bool is_public(const char *text)
{
    struct sockaddr_storage s = address(text);
    return import_address_public((const struct sockaddr *)&s);
}

static void special_addresses_are_not_public(void **state)
{
    (void)state;
    static const char *const inside[] = {"0.0.0.0",
                                         "0.1.2.3",
                                         "10.0.0.1",
                                         "10.255.255.255",
                                         "100.64.0.1",
                                         "127.0.0.1",
                                         "127.255.1.2",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.0.0.8",
                                         "192.0.2.1",
                                         "192.168.1.1",
                                         "198.18.0.1",
                                         "198.51.100.7",
                                         "203.0.113.9",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "::127.0.0.1",
                                         "::ffff:10.0.0.1",
                                         "::ffff:127.0.0.1",
                                         "64:ff9b::10.0.0.1",
                                         "64:ff9b::7f00:1",
                                         "2002:7f00:1::",
                                         "2002:a00:1::5",
                                         "2001::1",
                                         "2001:db8::1",
                                         "fc00::1",
                                         "fd12:3456::1",
                                         "fe80::1",
                                         "fec0::1",
                                         "ff02::1"};
    static const char *const outside[] = {
        "1.1.1.1",          "9.255.255.255",  "11.0.0.0",        "100.63.255.255", "100.128.0.0",
        "126.0.0.1",        "128.0.0.1",      "172.15.255.255",  "172.32.0.0",     "192.167.1.1",
        "192.169.0.1",      "223.255.255.1",  "2606:4700::1111", "2a00:1450::1",   "::ffff:8.8.8.8",
        "64:ff9b::808:808", "2002:808:808::1"};
    for (size_t i = 0; i < array_len(inside); i++) {
        if (is_public(inside[i])) {
            print_message("%s\n", inside[i]);
        }
        check(!is_public(inside[i]));
    }
    for (size_t i = 0; i < array_len(outside); i++) {
        if (!is_public(outside[i])) {
            print_message("%s\n", outside[i]);
        }
        check(is_public(outside[i]));
    }
    check(!import_address_public(&(struct sockaddr){.sa_family = AF_UNIX}));
}

static void networks_hold_addresses_of_both_notations(void **state)
{
    (void)state;
    struct config_list list =
        LIST("10.20.0.0/15", "fd00::/7", "192.168.1.1", "nonsense/8", "1.2.3.4/33");
    static const struct {
        const char *text;
        bool in;
    } cases[] = {{"10.20.1.1", true},    {"10.21.255.255", true},    {"10.22.0.0", false},
                 {"fd99::1", true},      {"fe00::1", false},         {"192.168.1.1", true},
                 {"192.168.1.2", false}, {"::ffff:10.20.0.1", true}, {"1.2.3.4", false}};
    for (size_t i = 0; i < array_len(cases); i++) {
        struct sockaddr_storage s = address(cases[i].text);
        check_int(import_address_in(&list, (const struct sockaddr *)&s), cases[i].in);
    }
}

static void urls_are_filtered(void **state)
{
    (void)state;
    struct import_rules rules = rules_make();
    static const char *const good[] = {"http://example.org/x", "HTTPS://example.org/a?b=c",
                                       "https://example.org:8443/", "http://example.org:80",
                                       "http://8.8.8.8/"};
    static const char *const bad[] = {"",
                                      "x",
                                      "/etc/passwd",
                                      "file:///etc/passwd",
                                      "ftp://example.org/x",
                                      "gopher://example.org/",
                                      "http://",
                                      "http:///x",
                                      "http://example.org:22/",
                                      "http://example.org:99999/",
                                      "http://user@example.org/",
                                      "http://user:pw@example.org/",
                                      "http://exa mple.org/",
                                      "http://[::1",
                                      "http://example.org\r\nHost: x/"};
    struct http_client_url u;
    struct err err;
    for (size_t i = 0; i < array_len(good); i++) {
        check_ok(import_rules_url(&rules, good[i], &u, &err));
    }
    for (size_t i = 0; i < array_len(bad); i++) {
        check_code(import_rules_url(&rules, bad[i], &u, &err), TSR_EINVAL);
        check(strstr(err.msg, "does not pass filtering") != NULL);
    }
}

/* One reader decides what a host is: what it reads as an address is shown as one. */
static void numbers_in_any_notation_are_the_address(void **state)
{
    (void)state;
    struct import_rules rules = rules_make();
    static const char *const loopback[] = {
        "http://127.0.0.1/",  "http://0x7f000001/", "http://0x7f.0.0.1/",  "http://0177.0.0.1/",
        "http://2130706433/", "http://127.1/",      "http://017700000001/"};
    struct http_client_url u;
    for (size_t i = 0; i < array_len(loopback); i++) {
        check_ok(import_rules_url(&rules, loopback[i], &u, NULL));
        check_str(u.host, "127.0.0.1");
    }
    check_ok(import_rules_url(&rules, "http://[::FFFF:127.0.0.1]/", &u, NULL));
    check(!is_public(u.host));
    struct config_list denied = LIST("127.0.0.0/8");
    rules.hosts_denied = &denied;
    check_code(import_rules_url(&rules, "http://0x7f000001/", &u, NULL), TSR_EINVAL);
    check_code(import_rules_url(&rules, "http://[::ffff:7f00:1]/", &u, NULL), TSR_EINVAL);
}

static void host_lists_allow_and_deny(void **state)
{
    (void)state;
    struct import_rules rules = rules_make();
    struct config_list allowed = LIST("*.example.org", "mirror.test"),
                       denied = LIST("bad.example.org");
    struct http_client_url u;
    rules.hosts_allowed = &allowed;
    rules.hosts_denied = &denied;
    check_ok(import_rules_url(&rules, "http://a.example.org/", &u, NULL));
    check_ok(import_rules_url(&rules, "http://A.B.EXAMPLE.ORG./", &u, NULL));
    check_ok(import_rules_url(&rules, "http://mirror.test/", &u, NULL));
    check_code(import_rules_url(&rules, "http://example.org/", &u, NULL), TSR_EINVAL);
    check_code(import_rules_url(&rules, "http://evilexample.org/", &u, NULL), TSR_EINVAL);
    check_code(import_rules_url(&rules, "http://bad.example.org/", &u, NULL), TSR_EINVAL);
    check_code(import_rules_url(&rules, "http://BAD.example.org./", &u, NULL), TSR_EINVAL);
    check_code(import_rules_url(&rules, "http://other.test/", &u, NULL), TSR_EINVAL);
}

static void the_guard_knows_the_clusters_own_addresses(void **state)
{
    (void)state;
    struct config_list allowed = LIST("10.0.0.0/8"), denied = LIST("9.9.9.9", "10.6.6.6");
    struct import_rules rules = rules_make();
    static struct import_guard g;
    g = (struct import_guard){.rules = &rules, .count = 1, .own = {"5.5.5.5"}};
    static const struct {
        const char *text;
        bool plain, with_lists;
    } cases[] = {{"8.8.8.8", true, true},         {"5.5.5.5", false, false},
                 {"10.1.1.1", false, true},       {"9.9.9.9", true, false},
                 {"10.6.6.6", false, false},      {"::1", false, false},
                 {"::ffff:5.5.5.5", false, false}};
    for (size_t i = 0; i < array_len(cases); i++) {
        struct sockaddr_storage s = address(cases[i].text);
        rules.addresses_allowed = rules.hosts_denied = &none;
        check_int(import_guard_allows(&g, (const struct sockaddr *)&s), cases[i].plain);
        rules.addresses_allowed = &allowed;
        rules.hosts_denied = &denied;
        check_int(import_guard_allows(&g, (const struct sockaddr *)&s), cases[i].with_lists);
    }
}

static void redirects_are_joined_to_the_url(void **state)
{
    (void)state;
    static const struct {
        const char *location, *want;
    } cases[] = {{"/b", "http://h/b"},
                 {"b?c#d", "http://h/x/b?c"},
                 {"//other/b", "http://other/b"},
                 {"https://o:8443/", "https://o:8443/"}};
    char *out;
    for (size_t i = 0; i < array_len(cases); i++) {
        check_ok(http_client_url_join("http://h/x/y", cases[i].location, &out));
        check_str(out, cases[i].want);
        free(out);
    }
}

TEST_MAIN(cmocka_unit_test(special_addresses_are_not_public),
          cmocka_unit_test(networks_hold_addresses_of_both_notations),
          cmocka_unit_test(urls_are_filtered),
          cmocka_unit_test(numbers_in_any_notation_are_the_address),
          cmocka_unit_test(host_lists_allow_and_deny),
          cmocka_unit_test(the_guard_knows_the_clusters_own_addresses),
          cmocka_unit_test(redirects_are_joined_to_the_url))
