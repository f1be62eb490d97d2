#include "tessera/sys/signature.h"

#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tessera/base/assert.h"

enum { CERT_MAX = 1 << 20, CURVE_NAME = 80 };

static const struct {
    const char *name;
    int key, curve; /* NIDs */
} types[] = {
    {"RSA-PSS", EVP_PKEY_RSA, NID_undef},          {"DSA", EVP_PKEY_DSA, NID_undef},
    {"ECC_SECT571K1", EVP_PKEY_EC, NID_sect571k1}, {"ECC_SECT409K1", EVP_PKEY_EC, NID_sect409k1},
    {"ECC_SECT571R1", EVP_PKEY_EC, NID_sect571r1}, {"ECC_SECT409R1", EVP_PKEY_EC, NID_sect409r1},
    {"ECC_SECP521R1", EVP_PKEY_EC, NID_secp521r1}, {"ECC_SECP384R1", EVP_PKEY_EC, NID_secp384r1},
};

static size_t type_find(const char *name)
{
    size_t n = 0;
    while (n < array_len(types) && strcmp(types[n].name, name) != 0) {
        n++;
    }
    return n;
}

bool signature_type_known(const char *key_type)
{
    return type_find(key_type) < array_len(types);
}

static const EVP_MD *md_of(enum digest_kind kind)
{
    switch (kind) {
    case DIGEST_SHA224:
        return EVP_sha224();
    case DIGEST_SHA256:
        return EVP_sha256();
    case DIGEST_SHA384:
        return EVP_sha384();
    case DIGEST_SHA512:
        return EVP_sha512();
    default:
        return NULL; /* too weak to sign with */
    }
}

/* A certificate's key marked RSA-PSS signs nothing else; it is fine, too. */
static bool key_fits(EVP_PKEY *key, size_t type)
{
    char curve[CURVE_NAME];
    size_t size = 0;
    int id = EVP_PKEY_get_base_id(key);
    if (id != types[type].key && !(id == EVP_PKEY_RSA_PSS && types[type].key == EVP_PKEY_RSA)) {
        return false;
    }
    if (types[type].curve == NID_undef) {
        return true;
    }
    return EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, curve, sizeof curve,
                                          &size) == 1 &&
           OBJ_txt2nid(curve) == types[type].curve;
}

static bool verify(EVP_PKEY *key, size_t type, enum digest_kind kind, const uint8_t *digest,
                   const void *signature, size_t size)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1;
    if (ok && types[type].key == EVP_PKEY_RSA) {
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_AUTO) == 1;
    }
    ok = ok && EVP_PKEY_CTX_set_signature_md(ctx, md_of(kind)) == 1 &&
         EVP_PKEY_verify(ctx, signature, size, digest, digest_size(kind)) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

static int cert_check(X509 *cert, int64_t now_s, struct err *err)
{
    time_t now = (time_t)now_s;
    if (X509_cmp_time(X509_get0_notBefore(cert), &now) > 0) {
        return err_set(err, TSR_EINVAL, "the certificate is not valid yet");
    }
    return X509_cmp_time(X509_get0_notAfter(cert), &now) < 0
               ? err_set(err, TSR_EINVAL, "the certificate is not valid any more")
               : 0;
}

int signature_check(const char *cert_pem, const char *key_type, enum digest_kind kind,
                    const uint8_t *digest, const void *signature, size_t signature_size,
                    int64_t now_s, struct err *err)
{
    size_t size = strlen(cert_pem), type = type_find(key_type);
    if (type == array_len(types) || md_of(kind) == NULL) {
        return err_set(err, TSR_EINVAL, "the key type or the hash method is not known");
    }
    BIO *bio = size <= CERT_MAX ? BIO_new_mem_buf(cert_pem, (int)size) : NULL;
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = cert != NULL ? X509_get0_pubkey(cert) : NULL;
    int rv = key != NULL ? cert_check(cert, now_s, err)
                         : err_set(err, TSR_EINVAL, "the certificate can not be read");
    if (rv == 0 && !key_fits(key, type)) {
        rv = err_set(err, TSR_EINVAL, "the key of the certificate is not %s", types[type].name);
    }
    if (rv == 0 && !verify(key, type, kind, digest, signature, signature_size)) {
        rv = err_set(err, TSR_EINVAL, "it is not the signature of this data");
    }
    ERR_clear_error();
    X509_free(cert);
    BIO_free(bio);
    return rv;
}
