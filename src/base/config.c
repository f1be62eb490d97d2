#include "tessera/base/config.h"

#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/err.h"
#include "tessera/base/str.h"

static const struct config_setting table[] = {
#define X(name, type, fallback, min, max, unit, scope, reload, help) \
    {#name, CONFIG_##type,  fallback,        min,  max,              \
     unit,  CONFIG_##scope, CONFIG_##reload, help, offsetof(struct config, name)},
    TSR_SETTINGS(X)
#undef X
};

const struct config_setting *config_settings(size_t *count_out)
{
    *count_out = array_len(table);
    return table;
}

static const struct config_setting *find(const char *name)
{
    for (size_t i = 0; i < array_len(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static void *field(const struct config *cfg, const struct config_setting *s)
{
    return (char *)(uintptr_t)cfg + s->offset;
}

/* --- text to value -------------------------------------------------------------------------- */

static int parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};
    for (size_t i = 0; i < array_len(yes); i++) {
        if (str_ieq(text, yes[i]) || str_ieq(text, no[i])) {
            *out = str_ieq(text, yes[i]);
            return 0;
        }
    }
    return TSR_EINVAL;
}

static const struct {
    const char *name;
    int64_t ms;
} duration_units[] = {
    {"d", CONFIG_DAY},
    {"h", CONFIG_HOUR},
    {"min", CONFIG_MINUTE},
    {"m", CONFIG_MINUTE},
    {"s", CONFIG_SECOND},
    {"ms", 1},
    {"", 1},
};

static int parse_duration(const char *text, int64_t *out)
{
    char digits[24];
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n >= sizeof(digits)) {
        return TSR_EINVAL;
    }
    memcpy(digits, text, n);
    digits[n] = 0;
    int64_t v;
    if (str_to_i64(digits, 0, INT64_MAX, &v) != 0) {
        return TSR_EINVAL;
    }
    const char *unit = text + n;
    unit += *unit == ' ' && unit[1] != 0 ? 1 : 0;
    for (size_t i = 0; i < array_len(duration_units); i++) {
        if (strcmp(unit, duration_units[i].name) == 0) {
            if (v > INT64_MAX / duration_units[i].ms) {
                return TSR_EINVAL;
            }
            *out = v * duration_units[i].ms;
            return 0;
        }
    }
    return TSR_EINVAL;
}

static bool choice_ok(const char *words, const char *text)
{
    size_t size = strlen(text);
    for (const char *p = words; size > 0; p++) {
        size_t n = strcspn(p, "|");
        if (n == size && memcmp(p, text, n) == 0) {
            return true;
        }
        p += n;
        if (*p == 0) {
            break;
        }
    }
    return false;
}

int config_address(const char *text, char *host_out, size_t host_size, uint16_t *port_out)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (colon == NULL || str_to_i64(colon + 1, 0, 65535, &port) != 0) {
        return TSR_EINVAL;
    }
    const char *host = text;
    size_t size = (size_t)(colon - text);
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
        if (size == 0) {
            return TSR_EINVAL;
        }
    } else if (memchr(host, ':', size) != NULL) {
        return TSR_EINVAL; /* an IPv6 address without brackets: where does the port start? */
    }
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)host[i] <= ' ' || strchr("[]/,", host[i]) != NULL) {
            return TSR_EINVAL;
        }
    }
    if (size >= host_size) {
        return TSR_EINVAL;
    }
    memcpy(host_out, host, size);
    host_out[size] = 0;
    *port_out = (uint16_t)port;
    return 0;
}

static bool address_ok(const char *text)
{
    char host[256];
    uint16_t port;
    return config_address(text, host, sizeof(host), &port) == 0;
}

static void list_free(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct config_list){0};
}

static int list_add(struct config_list *list, const char *text, size_t size, bool addresses)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof(*items));
    if (items == NULL) {
        return TSR_ENOMEM;
    }
    list->items = items;
    items[list->count] = strndup(text, size);
    if (items[list->count] == NULL) {
        return TSR_ENOMEM;
    }
    const char *item = items[list->count++];
    bool ok = addresses ? address_ok(item) : utf8_valid(item, size);
    return ok ? 0 : TSR_EINVAL;
}

/* Items (@addresses: "host:port") separated by commas; @list is empty after an error. */
static int parse_list(const char *text, bool addresses, struct config_list *list)
{
    static const char blanks[] = " \t\r\n";
    *list = (struct config_list){0};
    int rv = 0;
    while (rv == 0) {
        text += strspn(text, blanks);
        size_t n = strcspn(text, ","), size = n;
        while (size > 0 && strchr(blanks, text[size - 1]) != NULL) {
            size--;
        }
        if (size > 0) {
            rv = list_add(list, text, size, addresses);
        } else if (list->count > 0 || text[n] != 0) {
            rv = TSR_EINVAL; /* nothing between commas */
        }
        if (text[n] == 0) {
            break;
        }
        text += n + 1;
    }
    if (rv != 0) {
        list_free(list);
    }
    return rv;
}

static int refuse(const struct config_setting *s, const char *value, struct err *err)
{
    static const char *const wanted[] = {
        [CONFIG_BOOL] = "yes or no",
        [CONFIG_INT] = "a whole number",
        [CONFIG_SIZE] = "a size such as 4MiB",
        [CONFIG_DURATION] = "a duration such as 300s",
        [CONFIG_STRING] = "text of the right length",
        [CONFIG_CHOICE] = "one of the words",
        [CONFIG_ADDRESS] = "an address such as 0.0.0.0:9293",
        [CONFIG_LIST] = "addresses such as [::]:9292, with commas",
    };
    bool choice = s->type == CONFIG_CHOICE;
    if (s->type == CONFIG_LIST && strcmp(s->unit, "addresses") != 0) {
        return err_set(err, TSR_EINVAL, "%s: \"%.80s\" is not a list of %s, with commas", s->name,
                       value, s->unit);
    }
    return err_set(err, TSR_EINVAL, "%s: \"%.80s\" is not %s%s%s", s->name, value, wanted[s->type],
                   choice ? " " : "", choice ? s->unit : "");
}

static int refuse_range(const struct config_setting *s, const char *value, struct err *err)
{
    struct buf range = {0};
    (void)buf_printf(&range, "%lld to %lld%s", (long long)s->min, (long long)s->max,
                     s->type == CONFIG_DURATION ? " ms" : "");
    err_set(err, TSR_EINVAL, "%s: \"%.80s\" is not within %s", s->name, value,
            range.failed ? "its bounds" : range.data);
    buf_free(&range);
    return TSR_EINVAL;
}

static int set_number(struct config *cfg, const struct config_setting *s, const char *value,
                      struct err *err)
{
    int64_t v = 0;
    int rv = s->type == CONFIG_INT    ? str_to_i64(value, INT64_MIN, INT64_MAX, &v)
             : s->type == CONFIG_SIZE ? str_to_size(value, &v)
                                      : parse_duration(value, &v);
    if (rv != 0) {
        return refuse(s, value, err);
    }
    if (v < s->min || v > s->max) {
        return refuse_range(s, value, err);
    }
    *(int64_t *)field(cfg, s) = v;
    return 0;
}

static int set_text(struct config *cfg, const struct config_setting *s, const char *value,
                    struct err *err)
{
    size_t size = strlen(value);
    if ((int64_t)size < s->min || (int64_t)size > s->max || !utf8_valid(value, size) ||
        (s->type == CONFIG_CHOICE && !choice_ok(s->unit, value)) ||
        (s->type == CONFIG_ADDRESS && !address_ok(value))) {
        return refuse(s, value, err);
    }
    char *copy = strdup(value);
    if (copy == NULL) {
        return err_set(err, TSR_ENOMEM, "%s: out of memory", s->name);
    }
    char **place = field(cfg, s);
    free(*place);
    *place = copy;
    return 0;
}

static int set_list(struct config *cfg, const struct config_setting *s, const char *value,
                    struct err *err)
{
    struct config_list list;
    int rv = parse_list(value, strcmp(s->unit, "addresses") == 0, &list);
    if (rv == TSR_ENOMEM) {
        return err_set(err, rv, "%s: out of memory", s->name);
    }
    if (rv != 0 || (int64_t)list.count < s->min || (int64_t)list.count > s->max) {
        list_free(&list);
        return refuse(s, value, err);
    }
    list_free(field(cfg, s));
    *(struct config_list *)field(cfg, s) = list;
    return 0;
}

static int set(struct config *cfg, const struct config_setting *s, const char *value,
               struct err *err)
{
    switch (s->type) {
    case CONFIG_BOOL:
        return parse_bool(value, field(cfg, s)) == 0 ? 0 : refuse(s, value, err);
    case CONFIG_INT:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        return set_number(cfg, s, value, err);
    case CONFIG_STRING:
    case CONFIG_CHOICE:
    case CONFIG_ADDRESS:
        return set_text(cfg, s, value, err);
    case CONFIG_LIST:
        return set_list(cfg, s, value, err);
    }
    return TSR_EINVAL;
}

int config_set(struct config *cfg, const char *name, const char *value, struct err *err)
{
    const struct config_setting *s = find(name);
    if (s == NULL) {
        return err_set(err, TSR_ENOENT, "%.80s: no such setting", name);
    }
    return set(cfg, s, value, err);
}

int config_init_defaults(struct config *cfg)
{
    memset(cfg, 0, sizeof(*cfg));
    for (size_t i = 0; i < array_len(table); i++) {
        int rv = set(cfg, &table[i], table[i].fallback, NULL);
        if (rv != 0) {
            tsr_assert(rv == TSR_ENOMEM); /* a default must satisfy its own row */
            config_free(cfg);
            return rv;
        }
    }
    return 0;
}

void config_free(struct config *cfg)
{
    for (size_t i = 0; i < array_len(table); i++) {
        const struct config_setting *s = &table[i];
        if (s->type == CONFIG_LIST) {
            list_free(field(cfg, s));
        } else if (s->type >= CONFIG_STRING) {
            free(*(char **)field(cfg, s));
        }
    }
    memset(cfg, 0, sizeof(*cfg));
}

/* --- value to text -------------------------------------------------------------------------- */

static int print_size(struct buf *out, int64_t v)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (v != 0 && v % 1024 == 0 && u + 1 < array_len(units)) {
        v /= 1024;
        u++;
    }
    return buf_printf(out, "%lld%s", (long long)v, units[u]);
}

static int print_duration(struct buf *out, int64_t v)
{
    for (size_t i = 0; v != 0 && i < array_len(duration_units); i++) {
        if (v % duration_units[i].ms == 0) {
            return buf_printf(out, "%lld%s", (long long)(v / duration_units[i].ms),
                              duration_units[i].name);
        }
    }
    return buf_append_str(out, "0");
}

static int print_list(struct buf *out, const struct config_list *list)
{
    int rv = buf_reserve(out, 0);
    for (size_t i = 0; rv == 0 && i < list->count; i++) {
        rv = buf_printf(out, "%s%s", i == 0 ? "" : ", ", list->items[i]);
    }
    return rv;
}

static int print(const struct config *cfg, const struct config_setting *s, struct buf *out)
{
    const void *at = field(cfg, s);
    switch (s->type) {
    case CONFIG_BOOL:
        return buf_append_str(out, *(const bool *)at ? "yes" : "no");
    case CONFIG_INT:
        return buf_printf(out, "%lld", (long long)*(const int64_t *)at);
    case CONFIG_SIZE:
        return print_size(out, *(const int64_t *)at);
    case CONFIG_DURATION:
        return print_duration(out, *(const int64_t *)at);
    case CONFIG_STRING:
    case CONFIG_CHOICE:
    case CONFIG_ADDRESS:
        return buf_append_str(out, *(char *const *)at);
    case CONFIG_LIST:
        return print_list(out, at);
    }
    return TSR_EINVAL;
}

int config_get(const struct config *cfg, const char *name, struct buf *out)
{
    const struct config_setting *s = find(name);
    return s == NULL ? TSR_ENOENT : print(cfg, s, out);
}

const char *config_restart_needed(const struct config *before, const struct config *after)
{
    const char *name = NULL;
    struct buf a = {0}, b = {0};
    for (size_t i = 0; name == NULL && i < array_len(table); i++) {
        buf_clear(&a);
        buf_clear(&b);
        if (table[i].reload == CONFIG_RESTART &&
            (print(before, &table[i], &a) != 0 || print(after, &table[i], &b) != 0 ||
             a.size != b.size || memcmp(a.data, b.data, a.size) != 0)) {
            name = table[i].name; /* also out of memory: the careful answer */
        }
    }
    buf_free(&a);
    buf_free(&b);
    return name;
}

/* --- rules between settings ----------------------------------------------------------------- */

/* All addresses that are listened on: several sockets may share one (SO_REUSEPORT), so the kernel
 * would not object to two services on one port, and each would get half of the other's connections.
 */
static size_t listen_addresses(const struct config *cfg, const char *out[], size_t max)
{
    size_t n = 0;
    out[n++] = cfg->peer_listen;
    out[n++] = cfg->raft_listen;
    for (size_t i = 0; i < cfg->api_listen.count && n < max; i++) {
        out[n++] = cfg->api_listen.items[i];
    }
    for (size_t i = 0; i < cfg->api_listen_plain.count && n < max; i++) {
        out[n++] = cfg->api_listen_plain.items[i];
    }
    return n;
}

static bool any_address(const char *host)
{
    return host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static int check_listen(const struct config *cfg, struct err *err)
{
    enum { LISTEN_MAX = 40 };
    const char *all[LISTEN_MAX];
    size_t count = listen_addresses(cfg, all, LISTEN_MAX);
    for (size_t i = 0; i < count; i++) {
        char host[256], other[256];
        uint16_t port = 0, other_port = 0;
        if (config_address(all[i], host, sizeof(host), &port) != 0 || port == 0) {
            continue; /* port 0: the system chooses */
        }
        for (size_t j = i + 1; j < count; j++) {
            if (config_address(all[j], other, sizeof(other), &other_port) == 0 &&
                port == other_port &&
                (any_address(host) || any_address(other) || strcmp(host, other) == 0)) {
                return err_set(err, TSR_EINVAL, "%s and %s are the same port for two services",
                               all[i], all[j]);
            }
        }
    }
    return 0;
}

static int check_keystone(const struct config *cfg, struct err *err)
{
    bool user = cfg->keystone_username[0] != 0;
    bool credential = cfg->keystone_application_credential_id[0] != 0;
    if (strcmp(cfg->identity, "keystone") != 0) {
        return 0;
    }
    if (cfg->keystone_url[0] == 0) {
        return err_set(err, TSR_EINVAL, "identity = keystone needs keystone_url");
    }
    if (user == credential) {
        return err_set(err, TSR_EINVAL,
                       "identity = keystone needs either keystone_username or "
                       "keystone_application_credential_id");
    }
    if (user && cfg->keystone_password_file[0] == 0) {
        return err_set(err, TSR_EINVAL, "keystone_username needs keystone_password_file");
    }
    if (credential && cfg->keystone_application_credential_secret_file[0] == 0) {
        return err_set(err, TSR_EINVAL,
                       "keystone_application_credential_id needs "
                       "keystone_application_credential_secret_file");
    }
    return 0;
}

int config_check(const struct config *cfg, struct err *err)
{
    int rv = check_listen(cfg, err);
    rv = rv != 0 ? rv : check_keystone(cfg, err);
    if (rv != 0) {
        return rv;
    }
    if (cfg->write_replicas > cfg->replicas) {
        return err_set(err, TSR_EINVAL, "write_replicas is more than replicas");
    }
    if ((cfg->chunk_bytes & (cfg->chunk_bytes - 1)) != 0) {
        return err_set(err, TSR_EINVAL, "chunk_bytes is not a power of two");
    }
    if (cfg->limit_param_default > cfg->api_limit_max) {
        return err_set(err, TSR_EINVAL, "limit_param_default is more than api_limit_max");
    }
    if (cfg->heartbeat_ms > cfg->election_ms / 3) {
        return err_set(err, TSR_EINVAL, "heartbeat_ms is more than a third of election_ms");
    }
    if (cfg->suspect_ms > cfg->down_ms) {
        return err_set(err, TSR_EINVAL, "suspect_ms is more than down_ms");
    }
    if ((cfg->api_cert_file[0] == 0) != (cfg->api_key_file[0] == 0)) {
        return err_set(err, TSR_EINVAL, "api_cert_file and api_key_file belong together");
    }
    return 0;
}
