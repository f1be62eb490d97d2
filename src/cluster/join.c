/* Joining: one-time tokens, and the admission of a host that brings one.
 *
 * token.create: a random secret; the store keeps its SHA-256 and an expiry; the text that the
 * operator carries to the new host tells address, fingerprint of the cluster's authority, and the
 * secret; the role that the host will have is in the record. The new host connects to that address,
 * trusts only a chain that ends in that authority, and sends the secret with a certificate request.
 * host.admit: one batch uses the token up and records the host (a name that is known and down comes
 * back under a new incarnation, so that its old log or vote can never count); then its certificate
 * is signed. The leader's members_duty adds it to the group. */
#include <stdlib.h>
#include <string.h>

#include "cluster/hosts.h"
#include "cluster/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/base/log.h"
#include "tessera/sys/cert.h"

enum { SECRET_BYTES = 24, HOST_CERT_DAYS = 3650, ALT_NAMES_MAX = 32 };

int join_token_parse(const char *text, struct join_token *out)
{
    char json[2048];
    memset(out, 0, sizeof(*out));
    if (strlen(text) > sizeof(json)) {
        return TSR_EINVAL;
    }
    long n = base64url_decode(text, strlen(text), json, sizeof(json));
    json_t *t = n > 0 ? json_parse(json, (size_t)n) : NULL;
    const char *address = json_str(t, "address"), *ca = json_str(t, "ca"),
               *secret = json_str(t, "secret");
    int rv = TSR_EINVAL;
    if (address != NULL && ca != NULL && secret != NULL && strlen(address) < sizeof(out->address) &&
        strlen(secret) < sizeof(out->secret) && hex_decode(ca, strlen(ca), out->ca, 32) == 0) {
        strcpy(out->address, address);
        strcpy(out->secret, secret);
        rv = 0;
    }
    json_decref(t);
    return rv;
}

int cluster_authority_record(const uint8_t cluster_key[32], const char *cert_pem,
                             const char *key_pem, json_t **out)
{
    uint8_t *sealed = NULL;
    size_t size = 0;
    int rv = seal_encrypt(cluster_key, key_pem, strlen(key_pem), &sealed, &size);
    if (rv != 0) {
        return rv;
    }
    char *text = malloc(4 * ((size + 2) / 3) + 1);
    if (text == NULL) {
        free(sealed);
        return TSR_ENOMEM;
    }
    base64url_encode(sealed, size, text);
    *out = json_pack("{s:s,s:s}", "cert", cert_pem, "key", text);
    free(sealed);
    free(text);
    return *out != NULL ? 0 : TSR_ENOMEM;
}

/* --- token.create
 * --------------------------------------------------------------------------------------- */

static void secret_id(const char *secret, char out[65])
{
    uint8_t hash[DIGEST_MAX];
    digest_of(DIGEST_SHA256, secret, strlen(secret), hash);
    hex_encode(hash, 32, out);
}

static void token_stored(struct cluster *c, void *arg, int status, json_t *result,
                         const struct err *err)
{
    struct cluster_op *op = arg;
    json_t *token = op->state;
    (void)c;
    (void)result;
    if (status != 0) {
        json_decref(token);
        op_done(op, status, NULL, err);
        return;
    }
    op_done(op, 0, token, NULL);
}

/* Args: role (image) of the host that will join with it. */
void token_op_create(struct cluster_op *op)
{
    struct cluster *c = op->c;
    const char *role = hosts_role_known(json_str_or(op->args, "role", "image"));
    if (role == NULL) {
        op_fail(op, TSR_EINVAL, "a host's role is image or witness");
        return;
    }
    uint8_t random[SECRET_BYTES];
    char secret[SECRET_BYTES * 2 + 1], id[65], ca[65];
    loop_random(c->o.loop, random, sizeof(random));
    hex_encode(random, sizeof(random), secret);
    hex_encode(c->o.ca_fingerprint, 32, ca);
    secret_id(secret, id);
    int64_t expires = loop_wall_us(c->o.loop) + c->o.join_token_life_us;
    size_t size = 0;
    json_t *inner = json_pack("{s:s,s:s,s:s}", "address", c->o.api_url, "ca", ca, "secret", secret);
    char *text = inner != NULL ? json_text(inner, &size) : NULL;
    char *encoded = malloc(4 * ((size + 2) / 3) + 1);
    tsr_assert(text != NULL && encoded != NULL);
    base64url_encode(text, size, encoded);
    op->state = json_pack("{s:s,s:s,s:I}", "token", encoded, "role", role, "expires_at_us",
                          (json_int_t)expires);
    json_decref(inner);
    free(text);
    free(encoded);
    cluster_submit(c,
                   json_pack("{s:s,s:s,s:s,s:{s:I,s:s},s:s}", "op", "dir.put", "kind", "join_token",
                             "id", id, "value", "expires_at", (json_int_t)expires, "role", role,
                             "if", "absent"),
                   token_stored, op);
}

/* --- host.admit
 * --------------------------------------------------------------------------------------------- */

/* The authority's certificate and key, opened. Caller frees both. */
static int read_authority(struct cluster *c, char **cert_out, char **key_out)
{
    struct meta_view *view = NULL;
    json_t *record = NULL;
    uint8_t sealed[8192], *key = NULL;
    size_t key_size = 0;
    int rv = meta_view_open(c->o.meta, &view);
    if (rv != 0) {
        return rv;
    }
    rv = meta_dir_get(view, "secret", "ca", &record);
    meta_view_close(view);
    if (rv != 0) {
        return rv;
    }
    const char *text = json_str_or(record, "key", "");
    long n = base64url_decode(text, strlen(text), sealed, sizeof(sealed));
    rv = n < 0 ? TSR_ECORRUPT : seal_decrypt(c->o.cluster_key, sealed, (size_t)n, &key, &key_size);
    if (rv == 0) {
        *key_out = calloc(1, key_size + 1);
        *cert_out = strdup(json_str_or(record, "cert", ""));
        tsr_assert(*key_out != NULL && *cert_out != NULL);
        memcpy(*key_out, key, key_size);
        free(key);
    }
    json_decref(record);
    return rv;
}

static int sign(struct cluster *c, json_t *args, uint64_t host_id, char **cert_out, char **ca_out,
                struct err *err)
{
    const char *names[ALT_NAMES_MAX];
    char common_name[128], *ca_key = NULL;
    size_t count = 0, i;
    json_t *v;
    json_array_foreach(json_arr(args, "alt_names"), i, v)
    {
        if (count < ALT_NAMES_MAX && json_is_string(v)) {
            names[count++] = json_string_value(v);
        }
    }
    peer_cert_name(host_id, c->o.cluster_id, common_name);
    int rv = read_authority(c, ca_out, &ca_key);
    if (rv != 0) {
        return err_set(err, rv, "the cluster's authority can not be read on this host");
    }
    rv = cert_sign(json_str_or(args, "csr", ""), common_name, names, count, HOST_CERT_DAYS, *ca_out,
                   ca_key, cert_out, err);
    free(ca_key);
    return rv;
}

static void admitted(struct cluster *c, void *arg, int status, json_t *result,
                     const struct err *err)
{
    struct cluster_op *op = arg;
    if (status != 0) {
        op_done(op, status, NULL, err);
        return;
    }
    json_t *added = json_array_get(json_arr(result, "results"), 1);
    uint64_t id = (uint64_t)json_int(added, "id", 0),
             raft_id = (uint64_t)json_int(added, "raft_id", 0);
    char *cert = NULL, *ca = NULL, key[64];
    struct err why = {0};
    int rv = sign(c, op->args, id, &cert, &ca, &why);
    if (rv != 0) {
        free(ca);
        op_done(op, rv, NULL, &why);
        return;
    }
    struct meta_view *view = NULL;
    json_t *cluster = NULL;
    if (meta_view_open(c->o.meta, &view) == 0) {
        (void)meta_cluster_get(view, &cluster);
        meta_view_close(view);
    }
    base64url_encode(c->o.cluster_key, 32, key);
    log_info("cluster", "host %s admitted id=%llu", json_str_or(op->args, "name", "?"),
             (unsigned long long)id);
    json_t *reply =
        json_pack("{s:s,s:I,s:I,s:I,s:s,s:s,s:s}", "cluster_id", c->o.cluster_id, "host_id",
                  (json_int_t)id, "raft_id", (json_int_t)raft_id, "chunk_bytes",
                  (json_int_t)json_int(cluster, "chunk_bytes", CHUNK_BYTES_DEFAULT), "ca", ca,
                  "cert", cert, "cluster_key", key);
    json_decref(cluster);
    free(cert);
    free(ca);
    cluster_kick(c);
    op_done(op, 0, reply, NULL);
}

/* 0 = a new name; *rejoin_out: the id of a known host that is down. TSR_EEXIST: it is up. */
static int check_name(struct meta_view *view, const char *name, uint64_t *rejoin_out)
{
    json_t *hosts = NULL, *h;
    size_t i;
    int rv = meta_host_list(view, &hosts);
    json_array_foreach(hosts, i, h)
    {
        const char *state = json_str_or(h, "state", "");
        if (strcmp(json_str_or(h, "name", ""), name) != 0) {
            continue;
        }
        *rejoin_out = (uint64_t)json_int(h, "id", 0);
        rv = strcmp(state, "up") == 0 ? TSR_EEXIST : 0;
    }
    json_decref(hosts);
    return rv;
}

void host_op_admit(struct cluster_op *op)
{
    struct cluster *c = op->c;
    static const char *const needed[] = {"secret",  "csr",          "name",
                                         "api_url", "peer_address", "raft_address"};
    for (size_t i = 0; i < array_len(needed); i++) {
        const char *v = json_str(op->args, needed[i]);
        if (v == NULL || v[0] == '\0' || strlen(v) > 4096) {
            op_fail(op, TSR_EINVAL, "the request to join lacks %s", needed[i]);
            return;
        }
    }
    char id[65];
    uint64_t rejoin = 0;
    secret_id(json_str(op->args, "secret"), id);
    struct meta_view *view = NULL;
    json_t *token = NULL;
    int rv = meta_view_open(c->o.meta, &view);
    if (rv != 0) {
        op_fail(op, rv, "the store can not be read");
        return;
    }
    rv = meta_dir_get(view, "join_token", id, &token);
    int name_rv = check_name(view, json_str(op->args, "name"), &rejoin);
    meta_view_close(view);
    bool expired = json_int(token, "expires_at", 0) < loop_wall_us(c->o.loop);
    const char *role = hosts_role_known(json_str_or(token, "role", "image"));
    json_decref(token);
    if (rv != 0 || expired || role == NULL) {
        op_fail(op, TSR_EFORBIDDEN, "the join token is not valid, was used, or has expired");
        return;
    }
    if (name_rv != 0) {
        op_fail(op, name_rv, "a host named %s is up in this cluster", json_str(op->args, "name"));
        return;
    }
    json_t *add = json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s,s:s,s:s}", "op", "host.add", "name",
                            json_str(op->args, "name"), "zone", json_str_or(op->args, "zone", ""),
                            "roles", role, "api_url", json_str(op->args, "api_url"), "peer_address",
                            json_str(op->args, "peer_address"), "raft_address",
                            json_str(op->args, "raft_address"), "version",
                            json_str_or(op->args, "version", ""));
    if (rejoin != 0) {
        json_set_int(add, "rejoin", (int64_t)rejoin);
    }
    cluster_submit(c,
                   json_pack("{s:s,s:[{s:s,s:s,s:s},o]}", "op", "batch", "commands", "op",
                             "dir.delete", "kind", "join_token", "id", id, add),
                   admitted, op);
}
