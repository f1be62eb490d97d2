/* What the parts take from the configuration: one place for the start and for SIGHUP. */
#include <stdlib.h>
#include <string.h>

#include "daemon/daemon.h"
#include "tessera/base/log.h"
#include "tessera/sys/cert.h"

void settings_limits(const struct config *cfg, struct image_limits *out)
{
    *out = (struct image_limits){
        .image_size_cap = cfg->image_size_cap,
        .property_quota = (int)cfg->image_property_quota,
        .tag_quota = (int)cfg->image_tag_quota,
        .member_quota = (int)cfg->image_member_quota,
        .replicas = (int)cfg->replicas,
        .write_replicas = (int)cfg->write_replicas,
        .strict_write_replicas = cfg->strict_write_replicas,
        .raw_strict = cfg->raw_strict,
        .gpt_allowed = cfg->disk_format_gpt,
        .signature_dir = cfg->signature_certificates_dir,
        .locations_by_owners = cfg->locations_by_owners,
        .upload_idle_ms = cfg->upload_idle_ms,
    };
}

void settings_cluster(const struct config *cfg, struct cluster_options *out)
{
    out->join_token_life_us = cfg->join_token_life_ms * 1000;
    out->suspect_ms = (uint64_t)cfg->suspect_ms;
    out->down_ms = (uint64_t)cfg->down_ms;
    out->repair_after_ms = (uint64_t)cfg->repair_after_ms;
    out->replicas = (unsigned)cfg->replicas;
    out->stage_life_ms = (uint64_t)cfg->stage_life_ms;
}

void settings_pins(const struct config *cfg, struct replica_pin_limits *out)
{
    *out = (struct replica_pin_limits){.bytes_max = cfg->cache_bytes_max,
                                       .free_min = cfg->cache_free_min};
}

void settings_keystone(const struct config *cfg, struct keystone_options *out)
{
    out->url = cfg->keystone_url;
    out->ca_file = cfg->keystone_ca_file;
    out->username = cfg->keystone_username;
    out->password_file = cfg->keystone_password_file;
    out->user_domain = cfg->keystone_user_domain;
    out->project = cfg->keystone_project;
    out->project_domain = cfg->keystone_project_domain;
    out->appcred_id = cfg->keystone_application_credential_id;
    out->appcred_secret_file = cfg->keystone_application_credential_secret_file;
    out->cache_ms = (uint64_t)cfg->keystone_cache_ms;
    out->timeout_ms = (uint64_t)cfg->keystone_timeout_ms;
    out->allow_expired_ms = (uint64_t)cfg->token_expired_window_ms;
}

void settings_import(const struct config *cfg, struct import_rules *out)
{
    *out = (struct import_rules){
        .methods = &cfg->import_methods,
        .regions = &cfg->glance_regions,
        .schemes = &cfg->import_schemes,
        .ports = &cfg->import_ports,
        .hosts_allowed = &cfg->import_hosts_allowed,
        .hosts_denied = &cfg->import_hosts_denied,
        .addresses_allowed = &cfg->import_addresses_allowed,
        .ca_file = cfg->import_ca_file,
        .connect_ms = (uint64_t)cfg->import_connect_ms,
        .idle_ms = (uint64_t)cfg->import_idle_ms,
        .total_ms = (uint64_t)cfg->import_time_max,
        .decompress = cfg->import_decompress,
        .convert_to = cfg->import_convert,
        .convert_ms = (uint64_t)cfg->import_convert_ms,
        .decompress_max = (uint64_t)cfg->import_decompress_max,
    };
}

void settings_api(const struct config *cfg, struct api_options *out)
{
    out->public_endpoint = cfg->public_endpoint;
    out->internal_endpoint = cfg->internal_endpoint;
    out->region = cfg->region;
    out->cors_origins = &cfg->cors_origins;
    out->public_in_domain = strcmp(cfg->public_scope, "domain") == 0;
    out->json_body_max = (size_t)cfg->json_body_max;
    out->limit_default = (size_t)cfg->limit_param_default;
    out->limit_max = (size_t)cfg->api_limit_max;
    out->stale_reads_max_ms = cfg->stale_reads_max;
    out->read_local = strcmp(cfg->read_consistency, "local") == 0;
}

static enum log_level level_of(const char *name)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(names[i], name) == 0) {
            return (enum log_level)i;
        }
    }
    return LOG_INFO;
}

void settings_log(const struct config *cfg)
{
    log_set_level(level_of(cfg->log_level));
    if (log_open(cfg->log_file[0] != '\0' ? cfg->log_file : NULL) != 0) {
        log_warn("daemon", "the log file %s can not be opened", cfg->log_file);
    }
}

static int read_text(const char *path, char **out, struct err *err)
{
    size_t size = 0;
    int rv = fs_read_file(fs_real(), path, 1024 * 1024, out, &size);
    return rv == 0 ? 0 : err_set(err, rv, "%s can not be read: %s", path, err_text(rv));
}

/* The API's certificate: the operator's own, or the one that the cluster's authority gave. */
int settings_api_tls(struct daemon *d, const struct config *cfg, struct tls **out, struct err *err)
{
    struct tls_options options = {.role = TLS_SERVER,
                                  .cert_pem = d->files.cert_pem,
                                  .key_pem = d->files.key_pem,
                                  .ca_pem = d->files.ca_pem};
    if (cfg->api_cert_file[0] == '\0') {
        return tls_new(&options, out, err);
    }
    char *cert = NULL, *key = NULL;
    int rv = read_text(cfg->api_cert_file, &cert, err);
    if (rv == 0) {
        rv = read_text(cfg->api_key_file, &key, err);
    }
    if (rv == 0) {
        options = (struct tls_options){.role = TLS_SERVER, .cert_pem = cert, .key_pem = key};
        rv = tls_new(&options, out, err);
    }
    free(cert);
    free(key);
    return rv;
}

/* What a joining host trusts: the last certificate that the API shows, which is the cluster's
 * authority unless the operator gave a chain of his own. */
int settings_join_pin(struct daemon *d, uint8_t out[32], struct err *err)
{
    char *text = NULL;
    const char *last = d->files.ca_pem;
    if (d->cfg.api_cert_file[0] != '\0') {
        int rv = read_text(d->cfg.api_cert_file, &text, err);
        if (rv != 0) {
            return rv;
        }
        last = text;
        for (const char *p = text; (p = strstr(p, "-----BEGIN CERTIFICATE-----")) != NULL; p++) {
            last = p;
        }
    }
    int rv = cert_fingerprint(last, out);
    free(text);
    return rv == 0 ? 0
                   : err_set(err, TSR_ECORRUPT,
                             "the certificate of the API or of the cluster's authority is damaged");
}

int settings_rules(const struct config *cfg, struct rules *out, struct err *err)
{
    char *text = NULL;
    struct err why = {0};
    int rv = 0;
    *out = (struct rules){0};
    if (cfg->policy_file[0] != '\0' && (rv = read_text(cfg->policy_file, &text, err)) == 0) {
        rv = policy_rules_parse(text, strlen(text), &out->policy, &why);
        rv = rv == 0 ? 0 : err_set(err, rv, "%.120s: %.130s", cfg->policy_file, why.msg);
        free(text);
    }
    if (rv == 0 && cfg->property_protection_file[0] != '\0' &&
        (rv = read_text(cfg->property_protection_file, &text, err)) == 0) {
        rv = property_rules_parse(text, strlen(text),
                                  strcmp(cfg->property_protection_rule_format, "policies") == 0,
                                  out->policy, &out->properties, &why);
        rv = rv == 0 ? 0
                     : err_set(err, rv, "%.120s: %.130s", cfg->property_protection_file, why.msg);
        free(text);
    }
    if (rv != 0) {
        settings_rules_free(out);
    }
    return rv;
}

void settings_rules_free(struct rules *rules)
{
    property_rules_free(rules->properties);
    policy_rules_free(rules->policy);
    *rules = (struct rules){0};
}
