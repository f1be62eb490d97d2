/* TLS contexts: versions, certificates, verification, application protocol (RFC 7301). */
#include "sys/tls.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tessera/base/assert.h"
#include "tessera/base/str.h"

enum { TLS_ALPN_MAX = 64, TLS_CHAIN_MAX = 8 };

struct tls {
    atomic_uint refs;
    enum tls_role role;
    SSL_CTX *ctx;
    unsigned char alpn[TLS_ALPN_MAX + 1]; /* length byte, then the name */
    unsigned alpn_size;                   /* with the length byte; 0 = none */
};

static void sigpipe_ignore_once(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
        signal(SIGPIPE, SIG_IGN);
    }
}

void tls_ignore_sigpipe(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, sigpipe_ignore_once);
}

static int no_passphrase(char *out, int size, int rwflag, void *arg)
{
    (void)out, (void)size, (void)rwflag, (void)arg;
    return 0;
}

/* The server speaks the protocol or none: a client that offers others only is refused. */
static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                       const unsigned char *in, unsigned in_size, void *arg)
{
    struct tls *tls = arg;
    (void)ssl;
    unsigned char *chosen;
    int found = SSL_select_next_proto(&chosen, out_size, tls->alpn, tls->alpn_size, in, in_size);
    if (found != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int alpn_set(struct tls *tls, const char *name, struct err *err)
{
    size_t size = strlen(name);
    if (size == 0 || size > TLS_ALPN_MAX) {
        return err_set(err, TSR_EINVAL, "impossible application protocol name");
    }
    tls->alpn[0] = (unsigned char)size;
    memcpy(tls->alpn + 1, name, size);
    tls->alpn_size = (unsigned)size + 1;
    if (tls->role == TLS_SERVER) {
        SSL_CTX_set_alpn_select_cb(tls->ctx, alpn_select, tls);
        return 0;
    }
    /* This call gives 0 for success, unlike its neighbours. */
    return SSL_CTX_set_alpn_protos(tls->ctx, tls->alpn, tls->alpn_size) == 0 ? 0 : TSR_ENOMEM;
}

/* The leaf first, then the chain to show. */
static int identity_set(SSL_CTX *ctx, const char *cert_pem, const char *key_pem, struct err *err)
{
    int status = TSR_EINVAL;
    BIO *certs = BIO_new_mem_buf(cert_pem, -1);
    BIO *keys = BIO_new_mem_buf(key_pem, -1);
    X509 *cert = certs != NULL ? PEM_read_bio_X509(certs, NULL, no_passphrase, NULL) : NULL;
    EVP_PKEY *key = keys != NULL ? PEM_read_bio_PrivateKey(keys, NULL, no_passphrase, NULL) : NULL;
    if (cert == NULL || SSL_CTX_use_certificate(ctx, cert) != 1) {
        err_set(err, status, "the certificate cannot be read");
        goto out;
    }
    if (key == NULL || SSL_CTX_use_PrivateKey(ctx, key) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        err_set(err, status, "the private key cannot be read or does not fit the certificate");
        goto out;
    }
    X509 *more;
    while ((more = PEM_read_bio_X509(certs, NULL, no_passphrase, NULL)) != NULL) {
        if (SSL_CTX_add0_chain_cert(ctx, more) != 1) {
            X509_free(more);
            status = TSR_ENOMEM;
            goto out;
        }
    }
    status = 0;
out:
    X509_free(cert);
    EVP_PKEY_free(key);
    BIO_free(certs);
    BIO_free(keys);
    return status;
}

static int authorities_set(SSL_CTX *ctx, const char *ca_pem, bool server, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(ca_pem, -1);
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    int status = bio != NULL ? 0 : TSR_ENOMEM;
    size_t count = 0;
    X509 *cert;
    while (status == 0 && (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        if (X509_STORE_add_cert(store, cert) != 1 ||
            (server && SSL_CTX_add_client_CA(ctx, cert) != 1)) {
            status = TSR_ENOMEM;
        }
        X509_free(cert);
        count++;
    }
    BIO_free(bio);
    if (status == 0 && count == 0) {
        status = err_set(err, TSR_EINVAL, "no trusted certificate can be read");
    }
    return status;
}

static int verification_set(SSL_CTX *ctx, const struct tls_options *o, struct err *err)
{
    bool server = o->role == TLS_SERVER;
    bool verify = server ? o->verify_peer : o->ca_pem != NULL || o->system_store;
    int mode = verify ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE;
    if (server && verify && o->ca_pem == NULL) {
        return err_set(err, TSR_EINVAL, "client certificates are demanded, but none is trusted");
    }
    SSL_CTX_set_verify(ctx, mode, NULL);
    SSL_CTX_set_verify_depth(ctx, TLS_CHAIN_MAX);
    if (!server && o->system_store && SSL_CTX_set_default_verify_paths(ctx) != 1) {
        return err_set(err, TSR_EINVAL, "the system's certificates cannot be read");
    }
    return o->ca_pem != NULL ? authorities_set(ctx, o->ca_pem, server, err) : 0;
}

static int context_set(struct tls *tls, const struct tls_options *o, struct err *err)
{
    static const unsigned char session_context[] = "tessera";
    SSL_CTX *ctx = tls->ctx;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* The retry after WANT_WRITE comes with equal bytes, at times at another place. Buffers are
     * given back between records: most connections are idle ones. */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    /* One read(2) fetches the record's head together with its body. */
    SSL_CTX_set_read_ahead(ctx, 1);
    if (o->role == TLS_SERVER) {
        SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1);
        SSL_CTX_set_num_tickets(ctx, 1);
    }
    int status = verification_set(ctx, o, err);
    if (status == 0 && o->cert_pem != NULL && o->key_pem != NULL) {
        status = identity_set(ctx, o->cert_pem, o->key_pem, err);
    } else if (status == 0 && (o->role == TLS_SERVER || o->cert_pem != o->key_pem)) {
        status = err_set(err, TSR_EINVAL, "certificate and key are needed together");
    }
    if (status == 0 && o->alpn != NULL) {
        status = alpn_set(tls, o->alpn, err);
    }
    return status;
}

int tls_new(const struct tls_options *options, struct tls **tls_out, struct err *err)
{
    tls_ignore_sigpipe();
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    atomic_init(&tls->refs, 1);
    tls->role = options->role;
    tls->ctx = SSL_CTX_new(options->role == TLS_SERVER ? TLS_server_method() : TLS_client_method());
    int status = TSR_ENOMEM;
    if (tls->ctx != NULL) {
        status = context_set(tls, options, err);
    }
    ERR_clear_error();
    if (status != 0) {
        tls_unref(tls);
        return status == TSR_ENOMEM ? err_set(err, status, "out of memory") : status;
    }
    *tls_out = tls;
    return 0;
}

void tls_ref(struct tls *tls)
{
    if (tls != NULL) {
        atomic_fetch_add(&tls->refs, 1);
    }
}

void tls_unref(struct tls *tls)
{
    if (tls != NULL && atomic_fetch_sub(&tls->refs, 1) == 1) {
        SSL_CTX_free(tls->ctx);
        free(tls);
    }
}

static bool address_literal(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static bool expect_name(SSL *ssl, const char *name)
{
    if (address_literal(name)) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    }
    return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

SSL *tls_session_new(struct tls *tls, int fd, const char *server_name)
{
    SSL *ssl = SSL_new(tls->ctx);
    bool ok = ssl != NULL && SSL_set_fd(ssl, fd) == 1;
    if (ok && tls->role == TLS_CLIENT && server_name != NULL) {
        ok = expect_name(ssl, server_name);
    }
    if (!ok) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    if (tls->role == TLS_SERVER) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return ssl;
}

bool tls_peer_name(SSL *ssl, char out[TLS_NAME_MAX])
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    if (cert == NULL || (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) == 0 ||
        SSL_get_verify_result(ssl) != X509_V_OK) {
        return false;
    }
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0) {
        return false;
    }
    unsigned char *utf8 = NULL;
    int size =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    /* A name with a 0 byte or one cut short could be taken for another one. */
    bool ok = size > 0 && size < TLS_NAME_MAX && memchr(utf8, 0, (size_t)size) == NULL;
    if (ok) {
        memcpy(out, utf8, (size_t)size);
        out[size] = 0;
    }
    OPENSSL_free(utf8);
    ERR_clear_error();
    return ok;
}

static bool fingerprint(X509 *cert, uint8_t out[32])
{
    unsigned size = 0;
    return X509_digest(cert, EVP_sha256(), out, &size) == 1 && size == 32;
}

static bool signed_by(X509 *leaf, STACK_OF(X509) * chain, X509 *root)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool ok = store != NULL && ctx != NULL && X509_STORE_add_cert(store, root) == 1 &&
              X509_STORE_CTX_init(ctx, store, leaf, chain) == 1 && X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return ok;
}

int tls_chain_check(X509 *leaf, STACK_OF(X509) * chain, uint8_t leaf_out[32], uint8_t root_out[32])
{
    if (leaf == NULL) {
        return TSR_ENOENT;
    }
    int count = chain != NULL ? sk_X509_num(chain) : 0;
    X509 *root = count > 0 ? sk_X509_value(chain, count - 1) : leaf;
    int status = TSR_EUNAUTHORIZED;
    if (count <= TLS_CHAIN_MAX && signed_by(leaf, chain, root)) {
        status = fingerprint(leaf, leaf_out) && fingerprint(root, root_out) ? 0 : TSR_ENOMEM;
    }
    ERR_clear_error();
    return status;
}
