/* A host that is in no cluster yet. It serves its local socket only: POST /v1/init makes a new
 * cluster, POST /v1/join-cluster joins one with a token. Both run on the control loop and may
 * block: the host has nothing else to do.
 *
 * Init: authority, host certificate, keys; the first log with this host as the only voter;
 * init.json with the first commands (init.c submits them when this host leads); host.json last.
 * Join: a key and a certificate request go to the host that the token names, over TLS that trusts
 * only the authority whose fingerprint is in the token; the answer has certificate, ids and the
 * cluster key; host.json last. A crash before host.json leaves a host that is in no cluster; what
 * was left is removed at the next try. Afterwards the program replaces itself by a fresh start
 * (same pid). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"
#include "tessera/base/assert.h"
#include "tessera/base/log.h"
#include "tessera/base/str.h"
#include "tessera/sys/cert.h"
#include "tessera/sys/http_client.h"
#include "tessera/sys/signal.h"

enum {
    AUTHORITY_DAYS = 7300,
    HOST_CERT_DAYS = 3650,
    JOIN_TIMEOUT_MS = 30000,
    RESTART_DELAY_MS = 50
};

typedef void (*form_cb)(void *arg, int status, json_t *result, const struct err *err);

struct form {
    struct daemon *d;
    struct http_server *http;
    struct api *api;
    struct timer restart_timer;
    bool formed;
    struct rejoin *rejoin;           /* NULL unless this host is to come back */
    char why[2 * ERR_MSG_SIZE + 64]; /* what requests to this host are told */
};

/* The answer to one call, on its way back. */
struct answer {
    struct task task;
    struct form *form;
    form_cb cb;
    void *cb_arg;
    int status;
    json_t *result;
    struct err err;
};

/* --- init
 * -----------------------------------------------------------------------------------------------
 */

static void random_password(struct loop *loop, char out[25])
{
    uint8_t random[12];
    loop_random(loop, random, sizeof(random));
    hex_encode(random, sizeof(random), out);
}

static int make_certificates(struct daemon *d, struct host_files *f, char **ca_key, struct err *err)
{
    char name[128], *csr = NULL;
    const char *names[32];
    json_t *alt = host_alt_names(&d->cfg, &d->addresses), *v;
    size_t count = 0, i;
    json_array_foreach(alt, i, v)
    {
        names[count++] = json_string_value(v);
    }
    char authority[96];
    (void)snprintf(authority, sizeof(authority), "Tessera cluster %s", f->me.cluster_id);
    peer_cert_name(f->me.host_id, f->me.cluster_id, name);
    int rv = cert_authority_new(authority, AUTHORITY_DAYS, &f->ca_pem, ca_key);
    if (rv == 0 && (rv = cert_key_new(&f->key_pem)) == 0 &&
        (rv = cert_request_new(f->key_pem, name, &csr)) == 0) {
        rv = cert_sign(csr, name, names, count, HOST_CERT_DAYS, f->ca_pem, *ca_key, &f->cert_pem,
                       err);
    }
    free(csr);
    json_decref(alt);
    return rv;
}

/* All that the first leader puts into the log, as one batch. */
static int first_commands(struct daemon *d, const struct host_files *f, const char *ca_key,
                          const char *password, const char *cluster_name, json_t **out)
{
    json_t *authority = NULL, *identity = NULL;
    int rv = cluster_authority_record(f->cluster_key, f->ca_pem, ca_key, &authority);
    if (rv == 0) {
        rv = identity_init_commands(f->cluster_key, password, d->control, &identity);
    }
    if (rv != 0) {
        json_decref(authority);
        return rv;
    }
    json_t *list = json_pack(
        "[{s:s,s:s,s:s,s:I},{s:s,s:s,s:s,s:[s],s:s,s:s,s:s,s:s},{s:s,s:I,s:s},{s:s,s:s,s:s,s:o,s:s}"
        ","
        "{s:s,s:I,s:I,s:s,s:s}]",
        "op", "cluster.init", "cluster_id", f->me.cluster_id, "name", cluster_name, "chunk_bytes",
        (json_int_t)f->me.chunk_bytes, /**/
        "op", "host.add", "name", f->me.name, "zone", d->cfg.zone, "roles", "image", "api_url",
        d->addresses.api_url, "peer_address", d->addresses.peer_address, "raft_address",
        d->addresses.raft_address, "version", TSR_VERSION,                                 /**/
        "op", "host.state", "id", (json_int_t)f->me.host_id, "state", "up",                /**/
        "op", "dir.put", "kind", "secret", "id", "ca", "value", authority, "if", "absent", /**/
        "op", "endpoint.grant", "host", (json_int_t)f->me.host_id, "epoch", (json_int_t)1,
        "address", d->addresses.api_url, "reason", "cluster formed");
    if (list == NULL) {
        json_decref(identity);
        return TSR_ENOMEM;
    }
    json_array_extend(list, identity);
    json_decref(identity);
    *out = json_pack("{s:s,s:o}", "op", "batch", "commands", list);
    return *out != NULL ? 0 : TSR_ENOMEM;
}

static int write_json(const char *dir, const char *name, const json_t *value)
{
    char path[PATH_BYTES];
    size_t size = 0;
    char *text = json_text(value, &size);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    path_join(path, dir, name);
    int rv = fs_write_file(fs_real(), path, text, size);
    free(text);
    return rv;
}

/* What an unfinished try may have left; damaged files are moved aside. */
static int remove_leftovers(struct daemon *d)
{
    static const char *const names[] = {"raft", "meta", "certs"};
    char path[PATH_BYTES];
    if (d->damage.code[0] != '\0') {
        static const char *const aside[] = {"raft", "meta", "certs", "index"};
        int rv =
            damage_set_aside(d->cfg.data_dir, d->files.me.raft_id, aside, d->damage.index ? 4 : 3);
        return rv != 0 ? rv : damage_forget(d->cfg.data_dir);
    }
    for (size_t i = 0; i < array_len(names); i++) {
        path_join(path, d->cfg.data_dir, names[i]);
        int rv = remove_tree(path);
        if (rv != 0) {
            return rv;
        }
    }
    return 0;
}

static int do_init(struct form *form, const json_t *args, json_t **result_out, struct err *err)
{
    struct daemon *d = form->d;
    struct host_files files = {.me = {.host_id = 1, .raft_id = 1 << 16 | 1}};
    char given[25], path[PATH_BYTES], *ca_key = NULL;
    uint8_t random[16];
    json_t *batch = NULL;
    const char *password = json_str(args, "admin_password");
    if (password != NULL && (password[0] == '\0' || strlen(password) > 255)) {
        return err_set(err, TSR_EINVAL, "admin_password must have 1 to 255 bytes");
    }
    random_password(d->control, given);
    loop_random(d->control, random, sizeof(random));
    uuid_format(random, files.me.cluster_id);
    loop_random(d->control, files.cluster_key, sizeof(files.cluster_key));
    (void)str_copy(files.me.name, sizeof(files.me.name), d->addresses.name);
    files.me.chunk_bytes = (uint32_t)d->cfg.chunk_bytes;
    path_join(path, d->cfg.data_dir, "raft");
    int rv = remove_leftovers(d);
    if (rv == 0) {
        rv = make_certificates(d, &files, &ca_key, err);
    }
    if (rv == 0) {
        rv = first_commands(d, &files, ca_key, password != NULL ? password : given,
                            json_str_or(args, "name", "tessera"), &batch);
    }
    if (rv == 0 && (rv = fs_mkdirs(fs_real(), path)) == 0 &&
        (rv = consensus_bootstrap(fs_real(), path, files.me.raft_id, d->addresses.raft_address)) ==
            0 &&
        (rv = write_json(d->cfg.data_dir, "init.json", batch)) == 0) {
        rv = host_files_store(d->cfg.data_dir, &files);
    }
    if (rv == 0) {
        *result_out = json_pack("{s:s,s:s,s:s}", "cluster_id", files.me.cluster_id, "host",
                                files.me.name, "api_url", d->addresses.api_url);
        if (password == NULL) {
            json_set_str(*result_out, "admin_password", given);
        }
    }
    free(ca_key);
    json_decref(batch);
    host_files_free(&files);
    return rv;
}

/* --- join
 * -----------------------------------------------------------------------------------------------
 */

/* The answer's parts become this host's files. */
static int take_answer(struct daemon *d, const json_t *answer, struct host_files *f,
                       struct err *err)
{
    const char *ca = json_str(answer, "ca"), *cert = json_str(answer, "cert");
    const char *key = json_str(answer, "cluster_key"), *cluster = json_str(answer, "cluster_id");
    f->me.host_id = (uint64_t)json_int(answer, "host_id", 0);
    f->me.raft_id = (uint64_t)json_int(answer, "raft_id", 0);
    f->me.chunk_bytes = (uint32_t)json_int(answer, "chunk_bytes", 0);
    if (ca == NULL || cert == NULL || key == NULL || cluster == NULL || f->me.host_id == 0 ||
        f->me.raft_id == 0 || base64url_decode(key, strlen(key), f->cluster_key, 32) != 32) {
        return err_set(err, TSR_EPROTO, "the answer of the cluster is not complete");
    }
    (void)str_copy(f->me.cluster_id, sizeof(f->me.cluster_id), cluster);
    (void)str_copy(f->me.name, sizeof(f->me.name), d->addresses.name);
    f->fresh = true;
    f->ca_pem = strdup(ca);
    f->cert_pem = strdup(cert);
    if (f->ca_pem == NULL || f->cert_pem == NULL) {
        return TSR_ENOMEM;
    }
    int rv = remove_leftovers(d);
    return rv != 0 ? rv : host_files_store(d->cfg.data_dir, f);
}

/* POST /v1/join at the token's address; *answer_out on 200. */
static int ask(const struct join_token *token, const json_t *request, json_t **answer_out,
               struct err *err)
{
    char url[400];
    size_t size = 0;
    char *text = json_text(request, &size);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    (void)snprintf(url, sizeof(url), "%s/v1/join", token->address);
    struct http_client_request req = {.method = "POST",
                                      .url = url,
                                      .body = text,
                                      .body_size = size,
                                      .content_type = "application/json",
                                      .pin_root_sha256 = token->ca,
                                      .connect_timeout_ms = 5000,
                                      .timeout_ms = JOIN_TIMEOUT_MS,
                                      .reply_max = 1024 * 1024};
    struct http_client_reply reply = {0};
    int rv = http_client_call(&req, &reply, err);
    free(text);
    if (rv != 0) {
        return rv;
    }
    json_t *answer = json_parse(reply.body.data, reply.body.size);
    if (reply.status != 200 || !json_is_object(answer)) {
        rv = err_set(err,
                     reply.status == 403   ? TSR_EFORBIDDEN
                     : reply.status == 409 ? TSR_EEXIST
                                           : TSR_EUNAVAILABLE,
                     "the cluster refused: %s",
                     json_str_or(json_obj(answer, "error"), "message", "no reason given"));
        json_decref(answer);
    } else {
        *answer_out = answer;
    }
    http_client_reply_free(&reply);
    return rv;
}

static int do_join(struct form *form, const json_t *args, json_t **result_out, struct err *err)
{
    struct daemon *d = form->d;
    struct join_token token;
    struct host_files files = {0};
    char *csr = NULL;
    json_t *answer = NULL;
    const char *text = json_str(args, "token");
    if (text == NULL || join_token_parse(text, &token) != 0) {
        return err_set(err, TSR_EINVAL, "that is not a join token");
    }
    int rv = cert_key_new(&files.key_pem);
    if (rv == 0) {
        rv = cert_request_new(files.key_pem, d->addresses.name, &csr);
    }
    if (rv == 0) {
        const char *role = json_str_or(args, "role", "image");
        json_t *request =
            json_pack("{s:s,s:s,s:s,s:s,s:[s],s:s,s:s,s:s,s:s,s:o}", "secret", token.secret, "csr",
                      csr, "name", d->addresses.name, "zone", d->cfg.zone, "roles", role, "api_url",
                      d->addresses.api_url, "peer_address", d->addresses.peer_address,
                      "raft_address", d->addresses.raft_address, "version", TSR_VERSION,
                      "alt_names", host_alt_names(&d->cfg, &d->addresses));
        rv = ask(&token, request, &answer, err);
        json_decref(request);
    }
    if (rv == 0) {
        rv = take_answer(d, answer, &files, err);
    }
    if (rv == 0) {
        *result_out = json_pack("{s:s,s:s,s:I}", "cluster_id", files.me.cluster_id, "host",
                                files.me.name, "host_id", (json_int_t)files.me.host_id);
    }
    json_decref(answer);
    free(csr);
    host_files_free(&files);
    return rv;
}

/* --- serving
 * ---------------------------------------------------------------------------------------------- */

static void closed(void *arg)
{
    struct form *form = arg;
    api_free(form->api);
    timer_stop(&form->restart_timer);
    signals_stop();
    uv_loop_stop(form->d->control);
}

static void on_restart(struct timer *timer)
{
    struct form *form = container_of(timer, struct form, restart_timer);
    rejoin_stop(form->rejoin);
    form->rejoin = NULL;
    http_server_close(form->http, 1000, closed, form);
}

static void answer_run(struct task *task)
{
    struct answer *a = container_of(task, struct answer, task);
    a->cb(a->cb_arg, a->status, a->result, &a->err);
    if (a->form->formed) {
        timer_start(&a->form->restart_timer, RESTART_DELAY_MS); /* after the answer has left */
    }
    json_decref(a->result);
    free(a);
}

static void on_form(void *arg, const char *verb, const json_t *args, struct loop *loop, form_cb cb,
                    void *cb_arg)
{
    struct form *form = arg;
    struct answer *a = calloc(1, sizeof(*a));
    tsr_assert(a != NULL);
    (void)loop; /* the control loop, as everything here */
    a->form = form;
    a->cb = cb;
    a->cb_arg = cb_arg;
    a->task.run = answer_run;
    if (form->formed) {
        a->status = err_set(&a->err, TSR_EEXIST, "this host is part of a cluster already");
    } else if (strcmp(verb, "init") == 0 && form->rejoin != NULL) {
        a->status = err_set(&a->err, TSR_EEXIST,
                            "this host belongs to a cluster: it can join, not"
                            " make one");
    } else if (strcmp(verb, "init") == 0) {
        a->status = do_init(form, args, &a->result, &a->err);
    } else {
        a->status = do_join(form, args, &a->result, &a->err);
    }
    form->formed = form->formed || a->status == 0;
    if (a->status != 0) {
        log_warn("form", "%s failed: %s", verb,
                 a->err.msg[0] != '\0' ? a->err.msg : err_text(a->status));
    }
    loop_post(form->d->control, &a->task);
}

static void on_rejoined(void *arg)
{
    struct form *form = arg;
    form->formed = true;
    timer_start(&form->restart_timer, RESTART_DELAY_MS);
}

static void on_stop(void *arg)
{
    struct form *form = arg;
    rejoin_stop(form->rejoin);
    form->rejoin = NULL;
    http_server_close(form->http, 1000, closed, form);
}

static void on_reload(void *arg)
{
    (void)arg;
}

int form_run(struct daemon *d)
{
    struct form form = {.d = d};
    struct err err = {0};
    struct api_options api = {.loop = d->control,
                              .host_name = d->addresses.name,
                              .public_endpoint = "",
                              .internal_endpoint = "",
                              .json_body_max = 1024 * 1024,
                              .form = on_form,
                              .unformed = form.why,
                              .arg = &form,
                              .draining = &d->draining};
    char path[PATH_BYTES + 16];
    (void)snprintf(path, sizeof(path), "unix:%s", d->cfg.admin_socket);
    timer_init(&form.restart_timer, d->control, on_restart);
    int rv = api_new(&api, &form.api);
    if (rv == 0) {
        rv = http_server_new(d->control, NULL, api_handle, form.api, &form.http);
    }
    if (rv == 0) {
        rv = http_server_listen(form.http, path, NULL, NULL, &err);
    }
    if (rv != 0 || signals_start(d->control, on_stop, on_reload, &form) != 0) {
        log_error("daemon", "the local socket %s can not be served: %s", d->cfg.admin_socket,
                  err.msg);
        return EXIT_ADDRESS;
    }
    admin_socket_group(&d->cfg);
    if (d->damage.code[0] != '\0') {
        rv = rejoin_start(d, form.why, sizeof(form.why), on_rejoined, &form, &form.rejoin);
        if (rv != 0) {
            log_error("daemon", "can not ask to rejoin: %s", err_text(rv));
            return EXIT_DAMAGED;
        }
    } else {
        log_info("daemon", "in no cluster yet: waiting for `tessera cluster init` or `join` on %s",
                 d->cfg.admin_socket);
    }
    uv_loop_run(d->control);
    if (form.formed) {
        log_info("daemon", "formed; starting as a host of the cluster");
        exec_self(d->argv);
        log_error("daemon", "can not start anew; start the service again");
        return EXIT_CONFIG;
    }
    return 0;
}
