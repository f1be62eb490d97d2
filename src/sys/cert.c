/* Certificates of the cluster's authority, on OpenSSL 3 (RFC 5280; EC P-256 with SHA-256). */
#include "tessera/sys/cert.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

enum { CERT_PEM_MAX = 1 << 20, CERT_BACKDATE_SECONDS = 3600, CERT_SERIAL_BYTES = 16 };

/* No encrypted key is ever asked for a passphrase on a terminal. */
static int no_passphrase(char *out, int size, int rwflag, void *arg)
{
    (void)out, (void)size, (void)rwflag, (void)arg;
    return 0;
}

static BIO *bio_of(const char *pem)
{
    size_t size = pem != NULL ? strlen(pem) : 0;
    return size == 0 || size > CERT_PEM_MAX ? NULL : BIO_new_mem_buf(pem, (int)size);
}

static X509 *cert_parse(const char *pem)
{
    BIO *bio = bio_of(pem);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return cert;
}

static EVP_PKEY *key_parse(const char *pem)
{
    BIO *bio = bio_of(pem);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return key;
}

static X509_REQ *request_parse(const char *pem)
{
    BIO *bio = bio_of(pem);
    X509_REQ *csr = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return csr;
}

/* The text in @bio, as a string of the caller's. */
static char *bio_text(BIO *bio)
{
    char *data = NULL;
    long size = BIO_get_mem_data(bio, &data);
    char *text = size > 0 ? malloc((size_t)size + 1) : NULL;
    if (text != NULL) {
        memcpy(text, data, (size_t)size);
        text[size] = 0;
    }
    return text;
}

static char *key_text(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    if (bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        text = bio_text(bio);
    }
    BIO_free(bio);
    return text;
}

static char *cert_text(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = bio != NULL && PEM_write_bio_X509(bio, cert) == 1 ? bio_text(bio) : NULL;
    BIO_free(bio);
    return text;
}

int cert_key_new(char **key_pem_out)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *text = key != NULL ? key_text(key) : NULL;
    EVP_PKEY_free(key);
    if (text == NULL) {
        return TSR_ENOMEM;
    }
    *key_pem_out = text;
    return 0;
}

static bool name_set(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

/* RFC 5280 section 4.1.2.2: a positive serial; 127 random bits never meet twice. */
static bool serial_set(X509 *cert)
{
    unsigned char bytes[CERT_SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1) {
        return false;
    }
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

static bool extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* Version, serial, validity (from an hour ago, for clocks that are not quite equal), subject, key.
 */
static bool cert_fill(X509 *cert, const char *common_name, int days, EVP_PKEY *key)
{
    return X509_set_version(cert, X509_VERSION_3) == 1 && serial_set(cert) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -CERT_BACKDATE_SECONDS) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(cert), days, 0, NULL) != NULL &&
           name_set(X509_get_subject_name(cert), common_name) && X509_set_pubkey(cert, key) == 1;
}

static bool authority_fill(X509 *cert, const char *common_name, int days, EVP_PKEY *key)
{
    return cert_fill(cert, common_name, days, key) &&
           X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
           extension_add(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           extension_add(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           extension_add(cert, cert, NID_subject_key_identifier, "hash") &&
           extension_add(cert, cert, NID_authority_key_identifier, "keyid:always") &&
           X509_sign(cert, key, EVP_sha256()) != 0;
}

int cert_authority_new(const char *common_name, int days, char **cert_pem_out, char **key_pem_out)
{
    int status = TSR_EINVAL;
    char *cert_pem = NULL;
    char *key_pem = NULL;
    X509 *cert = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (cert == NULL || key == NULL) {
        status = TSR_ENOMEM;
        goto out;
    }
    if (!authority_fill(cert, common_name, days, key)) {
        goto out;
    }
    cert_pem = cert_text(cert);
    key_pem = key_text(key);
    status = cert_pem != NULL && key_pem != NULL ? 0 : TSR_ENOMEM;
out:
    X509_free(cert);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (status != 0) {
        free(cert_pem);
        free(key_pem);
        return status;
    }
    *cert_pem_out = cert_pem;
    *key_pem_out = key_pem;
    return 0;
}

int cert_request_new(const char *key_pem, const char *common_name, char **csr_pem_out)
{
    int status = TSR_EINVAL;
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    X509_REQ *csr = X509_REQ_new();
    EVP_PKEY *key = key_parse(key_pem);
    if (bio == NULL || csr == NULL) {
        status = TSR_ENOMEM;
        goto out;
    }
    if (key == NULL || X509_REQ_set_version(csr, X509_REQ_VERSION_1) != 1 ||
        !name_set(X509_REQ_get_subject_name(csr), common_name) ||
        X509_REQ_set_pubkey(csr, key) != 1 || X509_REQ_sign(csr, key, EVP_sha256()) == 0) {
        goto out;
    }
    text = PEM_write_bio_X509_REQ(bio, csr) == 1 ? bio_text(bio) : NULL;
    status = text != NULL ? 0 : TSR_ENOMEM;
out:
    BIO_free(bio);
    X509_REQ_free(csr);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (status == 0) {
        *csr_pem_out = text;
    }
    return status;
}

/* subjectAltName out of "DNS:..." and "IP:..." texts. They are set value by value, not through
 * OpenSSL's configuration syntax, in which a name with a comma could smuggle in another one. */
static GENERAL_NAME *alt_name_of(const char *text)
{
    if (strncmp(text, "DNS:", 4) == 0 && text[4] != 0) {
        return a2i_GENERAL_NAME(NULL, NULL, NULL, GEN_DNS, text + 4, 0);
    }
    if (strncmp(text, "IP:", 3) == 0 && text[3] != 0) {
        return a2i_GENERAL_NAME(NULL, NULL, NULL, GEN_IPADD, text + 3, 0);
    }
    return NULL;
}

static int alt_names_add(X509 *cert, const char *const *alt_names, size_t alt_count,
                         struct err *err)
{
    int status = 0;
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    if (names == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < alt_count && status == 0; i++) {
        GENERAL_NAME *name = alt_name_of(alt_names[i]);
        if (name == NULL || sk_GENERAL_NAME_push(names, name) == 0) {
            GENERAL_NAME_free(name);
            status = err_set(err, TSR_EINVAL, "alternative name %zu is not DNS:name or IP:address",
                             i + 1);
        }
    }
    if (status == 0 && alt_count > 0 &&
        X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1) {
        status = err_set(err, TSR_ENOMEM, "out of memory");
    }
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return status;
}

static bool leaf_fill(X509 *cert, const char *common_name, int days, EVP_PKEY *public_key, X509 *ca)
{
    return cert_fill(cert, common_name, days, public_key) &&
           X509_set_issuer_name(cert, X509_get_subject_name(ca)) == 1 &&
           extension_add(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
           extension_add(cert, ca, NID_key_usage, "critical,digitalSignature,keyAgreement") &&
           extension_add(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
           extension_add(cert, ca, NID_subject_key_identifier, "hash") &&
           extension_add(cert, ca, NID_authority_key_identifier, "keyid:always");
}

int cert_sign(const char *csr_pem, const char *common_name, const char *const *alt_names,
              size_t alt_count, int days, const char *ca_cert_pem, const char *ca_key_pem,
              char **cert_pem_out, struct err *err)
{
    int status;
    char *text = NULL;
    X509 *cert = X509_new();
    X509 *ca = cert_parse(ca_cert_pem);
    EVP_PKEY *ca_key = key_parse(ca_key_pem);
    X509_REQ *csr = request_parse(csr_pem);
    EVP_PKEY *public_key = csr != NULL ? X509_REQ_get0_pubkey(csr) : NULL;
    if (ca == NULL || ca_key == NULL || X509_check_private_key(ca, ca_key) != 1) {
        status = err_set(err, TSR_EINVAL, "the authority's certificate and key do not match");
        goto out;
    }
    /* The self-signature shows that the requester holds the key (RFC 2986 section 3). */
    if (public_key == NULL || X509_REQ_verify(csr, public_key) != 1) {
        status = err_set(err, TSR_EINVAL, "the certificate request is damaged");
        goto out;
    }
    if (cert == NULL || !leaf_fill(cert, common_name, days, public_key, ca)) {
        status = err_set(err, TSR_EINVAL, "the certificate's name or term is not possible");
        goto out;
    }
    status = alt_names_add(cert, alt_names, alt_count, err);
    if (status != 0) {
        goto out;
    }
    text = X509_sign(cert, ca_key, EVP_sha256()) != 0 ? cert_text(cert) : NULL;
    if (text == NULL) {
        status = err_set(err, TSR_ENOMEM, "the certificate cannot be signed");
        goto out;
    }
    *cert_pem_out = text;
out:
    X509_free(cert);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    X509_REQ_free(csr);
    ERR_clear_error();
    return status;
}

int cert_fingerprint(const char *cert_pem, uint8_t out[32])
{
    X509 *cert = cert_parse(cert_pem);
    uint8_t digest[32];
    unsigned size = 0;
    bool ok = cert != NULL && X509_digest(cert, EVP_sha256(), digest, &size) == 1 &&
              size == sizeof digest;
    X509_free(cert);
    ERR_clear_error();
    if (!ok) {
        return TSR_EINVAL;
    }
    memcpy(out, digest, sizeof digest);
    return 0;
}

int cert_not_after(const char *cert_pem, int64_t *seconds_out)
{
    X509 *cert = cert_parse(cert_pem);
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int days = 0;
    int seconds = 0;
    bool ok = cert != NULL && epoch != NULL &&
              ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(cert)) == 1;
    X509_free(cert);
    ASN1_TIME_free(epoch);
    ERR_clear_error();
    if (!ok) {
        return TSR_EINVAL;
    }
    *seconds_out = (int64_t)days * 86400 + seconds;
    return 0;
}
