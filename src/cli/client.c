/* How the command reaches a host: over the local socket (as cluster administrator), or over TLS
 * with a token got from the OS_* variables of an RC file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "tessera/base/assert.h"
#include "tessera/base/str.h"

static const char default_socket[] = "/var/lib/tessera/admin.sock";

enum { CALL_TIMEOUT_MS = 60000 };

int cli_fail(int status, const json_t *answer)
{
    const char *message = json_str(json_obj(answer, "error"), "message");
    (void)fprintf(stderr, "tessera: %s (HTTP %d)\n",
                  message != NULL ? message : "the service refused", status);
    return status == 503 ? CLI_UNAVAILABLE : status >= 500 ? CLI_FAILED : CLI_REFUSED;
}

void cli_request(struct cli *cli, struct http_client_request *req, const char **headers,
                 char *header_memory, size_t header_size)
{
    *req = (struct http_client_request){
        .unix_socket = cli->socket, .ca_file = cli->ca_file, .read_size = -1};
    if (cli->token != NULL) {
        (void)snprintf(header_memory, header_size, "X-Auth-Token: %s", cli->token);
        headers[0] = header_memory;
        req->headers = headers;
        req->header_count = 1;
    }
}

char *cli_encode(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~";
    char *encoded = malloc(3 * strlen(text) + 1), *out = encoded;
    tsr_assert(encoded != NULL);
    for (const unsigned char *p = (const unsigned char *)text; *p != 0; p++) {
        if (strchr(plain, *p) != NULL) {
            *out++ = (char)*p;
        } else {
            *out++ = '%';
            *out++ = hex[*p >> 4];
            *out++ = hex[*p & 15];
        }
    }
    *out = 0;
    return encoded;
}

int cli_try(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **out)
{
    char url[4096], header[8300];
    const char *headers[1];
    struct http_client_request req;
    struct http_client_reply reply = {0};
    struct err err = {0};
    size_t size = 0;
    char *text = body != NULL ? json_text(body, &size) : NULL;
    (void)snprintf(url, sizeof(url), "%s%s", cli->base, path);
    cli_request(cli, &req, headers, header, sizeof(header));
    req.method = method;
    req.url = url;
    req.timeout_ms = CALL_TIMEOUT_MS;
    if (text != NULL) {
        req.body = text;
        req.body_size = size;
        req.content_type = "application/json";
    }
    int rv = http_client_call(&req, &reply, &err);
    free(text);
    if (rv != 0) {
        if (out != NULL) {
            *out = json_pack("{s:{s:s}}", "error", "message", err.msg);
        }
        return rv;
    }
    if (out != NULL) {
        *out = reply.body.size > 0 ? json_parse(reply.body.data, reply.body.size) : NULL;
    }
    int status = reply.status;
    http_client_reply_free(&reply);
    return status;
}

int cli_call(struct cli *cli, const char *method, const char *path, const json_t *body,
             json_t **out)
{
    json_t *answer = NULL;
    int status = cli_try(cli, method, path, body, &answer);
    int rv = CLI_OK;
    if (status < 0) {
        const char *message = json_str(json_obj(answer, "error"), "message");
        (void)fprintf(stderr, "tessera: %s%s%s\n", cli->socket != NULL ? cli->socket : cli->base,
                      ": ", message != NULL && message[0] != '\0' ? message : err_text(status));
        rv = CLI_UNAVAILABLE;
    } else if (status >= 300) {
        rv = cli_fail(status, answer);
    } else if (out != NULL) {
        *out = answer;
        return CLI_OK;
    }
    json_decref(answer);
    return rv;
}

/* --- login
 * -------------------------------------------------------------------------------------------- */

static const char *env(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : fallback;
}

static json_t *domain(const char *prefix)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s_ID", prefix);
    const char *id = env(name, NULL);
    (void)snprintf(name, sizeof(name), "%s_NAME", prefix);
    return id != NULL ? json_pack("{s:s}", "id", id)
                      : json_pack("{s:s}", "name", env(name, "Default"));
}

static json_t *login_body(void)
{
    const char *credential = env("OS_APPLICATION_CREDENTIAL_ID", NULL);
    if (credential != NULL) { /* has its own scope */
        return json_pack("{s:{s:{s:[s],s:{s:s,s:s}}}}", "auth", "identity", "methods",
                         "application_credential", "application_credential", "id", credential,
                         "secret", env("OS_APPLICATION_CREDENTIAL_SECRET", ""));
    }
    json_t *body =
        json_pack("{s:{s:{s:[s],s:{s:{s:s,s:s,s:o}}}}}", "auth", "identity", "methods", "password",
                  "password", "user", "name", env("OS_USERNAME", ""), "password",
                  env("OS_PASSWORD", ""), "domain", domain("OS_USER_DOMAIN"));
    json_t *auth = json_obj(body, "auth");
    const char *project_id = env("OS_PROJECT_ID", NULL), *project = env("OS_PROJECT_NAME", NULL);
    if (project_id != NULL) {
        json_object_set_new(auth, "scope", json_pack("{s:{s:s}}", "project", "id", project_id));
    } else if (project != NULL) {
        json_object_set_new(auth, "scope",
                            json_pack("{s:{s:s,s:o}}", "project", "name", project, "domain",
                                      domain("OS_PROJECT_DOMAIN")));
    }
    return body;
}

static void take_image_url(struct cli *cli, const json_t *token)
{
    size_t i, j;
    json_t *service, *endpoint;
    const char *wanted = env("OS_INTERFACE", "public");
    json_array_foreach(json_arr(token, "catalog"), i, service)
    {
        if (strcmp(json_str_or(service, "type", ""), "image") != 0) {
            continue;
        }
        json_array_foreach(json_arr(service, "endpoints"), j, endpoint)
        {
            if (strcmp(json_str_or(endpoint, "interface", ""), wanted) == 0) {
                (void)str_copy(cli->image_url, sizeof(cli->image_url),
                               json_str_or(endpoint, "url", ""));
            }
        }
    }
}

static int login(struct cli *cli, const char *auth_url)
{
    char url[600];
    struct http_client_reply reply = {0};
    struct err err = {0};
    size_t size = 0;
    json_t *body = login_body();
    char *text = json_text(body, &size);
    json_decref(body);
    size_t n = strlen(auth_url);
    while (n > 0 && auth_url[n - 1] == '/') {
        n--;
    }
    (void)snprintf(url, sizeof(url), "%.*s/auth/tokens", (int)n, auth_url);
    struct http_client_request req = {.method = "POST",
                                      .url = url,
                                      .body = text,
                                      .body_size = size,
                                      .content_type = "application/json",
                                      .ca_file = cli->ca_file,
                                      .timeout_ms = CALL_TIMEOUT_MS};
    int rv = http_client_call(&req, &reply, &err);
    free(text);
    if (rv != 0) {
        (void)fprintf(stderr, "tessera: %s: %s\n", auth_url,
                      err.msg[0] != '\0' ? err.msg : err_text(rv));
        return CLI_UNAVAILABLE;
    }
    json_t *answer = json_parse(reply.body.data, reply.body.size);
    char token[8192];
    if (reply.status != 201 ||
        !http_client_header(&reply, "X-Subject-Token", token, sizeof(token))) {
        rv = cli_fail(reply.status, answer);
    } else {
        cli->token = strdup(token);
        take_image_url(cli, json_obj(answer, "token"));
        rv = CLI_OK;
    }
    json_decref(answer);
    http_client_reply_free(&reply);
    return rv;
}

/* Scheme and host of a URL. */
static void set_base(struct cli *cli, const char *url)
{
    (void)str_copy(cli->base, sizeof(cli->base), url);
    char *scheme_end = strstr(cli->base, "://");
    char *path = scheme_end != NULL ? strchr(scheme_end + 3, '/') : NULL;
    if (path != NULL) {
        *path = '\0';
    }
}

int cli_connect(struct cli *cli)
{
    const char *auth_url = env("OS_AUTH_URL", NULL);
    if (cli->ca_file == NULL) {
        cli->ca_file = env("OS_CACERT", NULL);
    }
    if (cli->socket == NULL && cli->url == NULL && auth_url == NULL) {
        cli->socket = env("TESSERA_SOCKET", default_socket);
    }
    if (cli->socket != NULL) {
        (void)str_copy(cli->base, sizeof(cli->base), "http://localhost");
        (void)str_copy(cli->image_url, sizeof(cli->image_url), cli->base);
        return CLI_OK;
    }
    if (auth_url == NULL) {
        (void)fprintf(stderr, "tessera: --url needs the OS_* variables of an RC file to log in\n");
        return CLI_USAGE;
    }
    int rv = login(cli, auth_url);
    if (rv != CLI_OK) {
        return rv;
    }
    /* The cluster API is at the root of the host that the identity URL names; with an identity
     * service that is not ours, where the image API is. */
    bool ours = strstr(auth_url, "/identity") != NULL || cli->image_url[0] == '\0';
    set_base(cli, cli->url != NULL ? cli->url : ours ? auth_url : cli->image_url);
    if (cli->image_url[0] == '\0') {
        (void)str_copy(cli->image_url, sizeof(cli->image_url), cli->base);
    }
    return rv;
}
