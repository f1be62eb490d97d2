#include "image/signed_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"
#include "tessera/sys/fs.h"
#include "tessera/sys/signature.h"

enum { SIGNATURE_MAX = 4096, CERT_FILE_MAX = 1 << 20 };

struct signed_data {
    struct image_ctx *ctx;
    struct digest *digest;
    enum digest_kind kind;
    char key_type[32];
    char *cert_path;
    uint8_t signature[SIGNATURE_MAX];
    size_t signature_size;
    int64_t now_s;
    struct work work;
    bool verifying, freed;
    signed_data_cb cb;
    void *arg;
    int status; /* the pool's */
    struct err err;
};

static const struct {
    const char *name;
    enum digest_kind kind;
} hashes[] = {{"SHA-224", DIGEST_SHA224},
              {"SHA-256", DIGEST_SHA256},
              {"SHA-384", DIGEST_SHA384},
              {"SHA-512", DIGEST_SHA512}};

static void really_free(struct signed_data *s)
{
    digest_free(s->digest);
    free(s->cert_path);
    free(s);
}

static int invalid(struct err *err, const char *what)
{
    return err_set(err, TSR_EINVAL, "Signature verification failed: %s", what);
}

/* Base64 (RFC 4648 section 4) with its padding, by way of the other alphabet. Some versions of the
 * stock client write it as Python shows it: b'...'. */
static bool base64(const char *text, uint8_t *out, size_t *size_out)
{
    char url[SIGNATURE_MAX * 4 / 3 + 4];
    size_t size = strlen(text);
    if (size > 3 && memcmp(text, "b'", 2) == 0 && text[size - 1] == '\'') {
        text += 2;
        size -= 3;
    }
    while (size > 0 && text[size - 1] == '=') {
        size--;
    }
    if (size == 0 || size >= sizeof(url)) {
        return false;
    }
    for (size_t n = 0; n < size; n++) {
        if (text[n] == '-' || text[n] == '_') {
            return false;
        }
        url[n] = text[n] == '+' ? '-' : text[n] == '/' ? '_' : text[n];
    }
    long got = base64url_decode(url, size, out, SIGNATURE_MAX);
    *size_out = got > 0 ? (size_t)got : 0;
    return got > 0;
}

static int fill(struct signed_data *s, const char *dir, const char *signature, const char *hash,
                const char *key_type, const char *cert, struct err *err)
{
    size_t n = 0;
    while (n < array_len(hashes) && strcmp(hashes[n].name, hash) != 0) {
        n++;
    }
    if (n == array_len(hashes)) {
        return invalid(err, "img_signature_hash_method is not SHA-224, -256, -384 or -512.");
    }
    if (!signature_type_known(key_type)) {
        return invalid(err, "img_signature_key_type is not known.");
    }
    if (!base64(signature, s->signature, &s->signature_size)) {
        return invalid(err, "img_signature is not base64.");
    }
    if (!uuid_valid(cert)) {
        return invalid(err, "img_signature_certificate_uuid is no UUID.");
    }
    size_t size = strlen(dir) + strlen(cert) + sizeof("/.pem");
    s->cert_path = malloc(size);
    s->kind = hashes[n].kind;
    s->digest = digest_new(s->kind);
    if (s->cert_path == NULL || s->digest == NULL) {
        return TSR_ENOMEM;
    }
    (void)snprintf(s->cert_path, size, "%s/%s.pem", dir, cert);
    (void)snprintf(s->key_type, sizeof(s->key_type), "%s", key_type);
    return 0;
}

int signed_data_new(struct image_ctx *ctx, const json_t *image, struct signed_data **out,
                    struct err *err)
{
    const json_t *props = json_obj(image, "props");
    const char *dir = ctx->limits->signature_dir;
    const char *signature = json_str(props, "img_signature");
    const char *hash = json_str(props, "img_signature_hash_method");
    const char *key_type = json_str(props, "img_signature_key_type");
    const char *cert = json_str(props, "img_signature_certificate_uuid");
    *out = NULL;
    if (dir == NULL || dir[0] == 0 || signature == NULL || hash == NULL || key_type == NULL ||
        cert == NULL) {
        return 0;
    }
    struct signed_data *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return TSR_ENOMEM;
    }
    s->ctx = ctx;
    int rv = fill(s, dir, signature, hash, key_type, cert, err);
    if (rv != 0) {
        really_free(s);
        return rv;
    }
    *out = s;
    return 0;
}

void signed_data_write(struct signed_data *s, const void *data, size_t size)
{
    digest_update(s->digest, data, size);
}

static void verify_run(struct work *work)
{
    struct signed_data *s = container_of(work, struct signed_data, work);
    uint8_t digest[DIGEST_MAX];
    struct err err = {0};
    char *cert = NULL;
    size_t size;
    digest_final(s->digest, digest);
    int rv = fs_read_file(fs_real(), s->cert_path, CERT_FILE_MAX, &cert, &size);
    if (rv != 0) {
        s->status = invalid(&s->err, "there is no certificate of that UUID.");
        return;
    }
    rv = signature_check(cert, s->key_type, s->kind, digest, s->signature, s->signature_size,
                         s->now_s, &err);
    free(cert);
    s->status = rv == 0 ? 0 : err_set(&s->err, rv, "Signature verification failed: %s.", err.msg);
}

static void verify_done(struct work *work)
{
    struct signed_data *s = container_of(work, struct signed_data, work);
    s->verifying = false;
    if (s->freed) {
        really_free(s);
        return;
    }
    s->cb(s->arg, s->status, &s->err);
}

void signed_data_verify(struct signed_data *s, signed_data_cb cb, void *arg)
{
    s->cb = cb;
    s->arg = arg;
    s->now_s = loop_wall_us(s->ctx->loop) / 1000000;
    s->verifying = true;
    s->work = (struct work){.loop = s->ctx->loop, .run = verify_run, .done = verify_done};
    pool_submit(s->ctx->replica->cpu_pool, &s->work);
}

bool signed_data_busy(const struct signed_data *s)
{
    return s != NULL && s->verifying;
}

void signed_data_free(struct signed_data *s)
{
    if (s == NULL) {
        return;
    }
    s->freed = true;
    if (!s->verifying) {
        really_free(s);
    }
}
