#include "test.h"

#include <stdlib.h>

#include "tessera/base/buf.h"
#include "tessera/base/config.h"

/* The repository's sample, found from this source file. */
static const char *sample_path(void)
{
    static char path[1024];
    const char *top = getenv("TSR_SOURCE_DIR"); /* ctest sets it */
    snprintf(path, sizeof(path), "%s/conf/tesserad.conf", top != NULL ? top : ".");
    return path;
}

static struct config cfg;
static struct err why;

static int setup(void **state)
{
    (void)state;
    why = (struct err){0};
    return config_init_defaults(&cfg);
}

static int teardown(void **state)
{
    (void)state;
    config_free(&cfg);
    return 0;
}

static int load(const char *text)
{
    const char *path = test_path(test_dir(), "conf");
    FILE *f = fopen(path, "w");
    fwrite(text, 1, strlen(text), f);
    fclose(f);
    return config_load(&cfg, path, &why);
}

static void defaults_are_typed(void **state)
{
    (void)state;
    check_str(cfg.data_dir, "/var/lib/tessera");
    check_int(cfg.chunk_bytes, 4 << 20);
    check_int(cfg.stale_reads_max, 24 * CONFIG_HOUR);
    check_int(cfg.api_listen.count, 1);
    check_str(cfg.api_listen.items[0], "[::]:9292");
    check_int(cfg.api_listen_plain.count, 0);
    check(!cfg.strict_write_replicas);
    check_ok(config_check(&cfg, NULL));
}

static void a_bad_value_leaves_the_old_one(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"replicas", "0"},         {"replicas", "three"},      {"chunk_bytes", "8MiB"},
        {"upload_idle_ms", "5w"},  {"upload_idle_ms", "-5s"},  {"upload_idle_ms", ""},
        {"log_level", "loud"},     {"log_level", ""},          {"log_level", "info|debug"},
        {"api_listen", ""},        {"api_listen", "a:1,,b:2"}, {"api_listen", "::1:9292"},
        {"api_listen", "h:70000"}, {"peer_listen", "9293"},    {"strict_write_replicas", "2"},
        {"data_dir", ""},          {"host_name", "\xff"},      {"peer_listen", "[]:1"},
    };
    for (size_t i = 0; i < array_len(bad); i++) {
        check_code(config_set(&cfg, bad[i][0], bad[i][1], &why), TSR_EINVAL);
        check_int(strncmp(why.msg, bad[i][0], strlen(bad[i][0])), 0);
    }
    check_code(config_set(&cfg, "colour", "red", &why), TSR_ENOENT);
    check_int(cfg.replicas, 3);
    check_str(cfg.api_listen.items[0], "[::]:9292");
}

static void a_file_is_read_over_the_defaults(void **state)
{
    (void)state;
    check_ok(load("# comment\nzone = rack 7\nreplicas=2\nsuspect_ms = 1500\n"
                  "api_listen = 10.0.0.1:9292,\n   [fd00::1]:9292\n   :80\n"
                  "strict_write_replicas = yes\n"));
    check_str(cfg.zone, "rack 7");
    check_int(cfg.replicas, 2);
    check_int(cfg.suspect_ms, 1500);
    check(cfg.strict_write_replicas);
    check_int(cfg.api_listen.count, 3);
    check_str(cfg.api_listen.items[1], "[fd00::1]:9292");
}

static void check_refused(const char *text, const char *reason)
{
    check_code(load(text), TSR_EINVAL);
    if (strstr(why.msg, reason) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", why.msg, reason);
    }
}

static void an_error_names_line_and_setting(void **state)
{
    (void)state;
    check_refused("\nzone = a\nreplicas = 99\n", "conf line 3: replicas: \"99\"");
    check_refused("colour = red\n", "line 1: colour: no such setting");
    check_refused("zone = a\nzone = b\n", "line 2: zone: set twice");
    check_refused("[tesserad]\nzone = a\n", "sections are not used");
    check_refused("zone = a\nnonsense\n", "line 2: not of the form");
    check_refused("replicas = 1\n", "write_replicas is more than replicas");
    check_refused("peer_listen = 127.0.0.1:9292\n", "the same port for two services");
    check_refused("api_listen_plain = 127.0.0.1:9294\n", "the same port for two services");
    char *lengthy = malloc(4096);
    snprintf(lengthy, 4096, "zone = a\nhost_name = %02000d\n", 1);
    check_refused(lengthy, "line 2: line too long");
    free(lengthy);
    check_code(config_load(&cfg, "/nonexistent/conf", &why), TSR_ENOENT);
    check_code(config_load(&cfg, test_dir(), &why), TSR_EIO);
}

static void changes_that_need_a_restart_are_told(void **state)
{
    (void)state;
    struct config other;
    check_ok(config_init_defaults(&other));
    check_str(config_restart_needed(&cfg, &other), NULL);
    check_ok(config_set(&other, "replicas", "5", NULL));
    check_str(config_restart_needed(&cfg, &other), NULL);
    check_ok(config_set(&other, "workers", "5", NULL));
    check_str(config_restart_needed(&cfg, &other), "workers");
    config_free(&other);
}

static void every_value_is_printed_as_it_can_be_read(void **state)
{
    (void)state;
    size_t count;
    const struct config_setting *table = config_settings(&count);
    struct buf b = {0};
    for (size_t i = 0; i < count; i++) {
        buf_clear(&b);
        check_ok(config_get(&cfg, table[i].name, &b));
        check_str(b.data, table[i].fallback); /* defaults are written in the shortest form */
        check_ok(config_set(&cfg, table[i].name, b.data, NULL));
    }
    buf_free(&b);
}

static void addresses_are_split(void **state)
{
    (void)state;
    char host[64];
    uint16_t port;
    check_ok(config_address("[::1]:9292", host, sizeof(host), &port));
    check_str(host, "::1");
    check_int(port, 9292);
    check_ok(config_address(":0", host, sizeof(host), &port));
    check_str(host, "");
    check_code(config_address("h:", host, sizeof(host), &port), TSR_EINVAL);
    check_code(config_address("h", host, sizeof(host), &port), TSR_EINVAL);
    check_code(config_address("h:1", host, 1, &port), TSR_EINVAL);
}

/* Run with TSR_WRITE_SAMPLE=1 to bring the file up to date. */
static void the_sample_file_is_up_to_date(void **state)
{
    (void)state;
    struct buf want = {0};
    check_ok(config_print_sample(&want));
    check_ok(load(want.data)); /* it is a valid file itself */
    if (getenv("TSR_WRITE_SAMPLE") != NULL) {
        FILE *f = fopen(sample_path(), "w");
        check(f != NULL);
        fwrite(want.data, 1, want.size, f);
        fclose(f);
    }
    FILE *f = fopen(sample_path(), "r");
    check(f != NULL);
    char *have = calloc(1, want.size + 2);
    size_t n = fread(have, 1, want.size + 1, f);
    fclose(f);
    check_int(n, want.size);
    check_str(have, want.data);
    free(have);
    buf_free(&want);
}

static void an_external_keystone_needs_an_address_and_a_user(void **state)
{
    (void)state;
#define KEYSTONE "identity = keystone\n"
#define AT KEYSTONE "keystone_url = https://keystone:5000\n"
    check_refused(KEYSTONE, "needs keystone_url");
    check_refused(AT, "needs either keystone_username or");
    check_refused(AT "keystone_username = tessera\n", "needs keystone_password_file");
    check_refused(AT "keystone_username =\nkeystone_application_credential_id = a\n",
                  "secret_file");
    check_refused(AT "keystone_username = t\nkeystone_password_file = /p\n"
                     "keystone_application_credential_id = a\n",
                  "needs either");
    check_ok(load(AT "keystone_username = tessera\nkeystone_password_file = /p\n"
                     "keystone_application_credential_id =\n"));
    check_str(cfg.keystone_project, "service");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
TEST_MAIN(CASE(defaults_are_typed), CASE(a_bad_value_leaves_the_old_one),
          CASE(a_file_is_read_over_the_defaults), CASE(an_error_names_line_and_setting),
          CASE(an_external_keystone_needs_an_address_and_a_user),
          CASE(changes_that_need_a_restart_are_told),
          CASE(every_value_is_printed_as_it_can_be_read), CASE(addresses_are_split),
          CASE(the_sample_file_is_up_to_date))
