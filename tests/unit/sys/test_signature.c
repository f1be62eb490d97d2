/* Signatures made by the openssl command, over every key type and hash method that images have. */
#include "test.h"

#include <stdlib.h>
#include <time.h>

#include "tessera/sys/fs.h"
#include "tessera/sys/signature.h"

static const struct {
    const char *name, *generate; /* a certificate's key, in the words of openssl */
} keys[] = {
    {"RSA-PSS", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"},
    {"DSA", "dsaparam -genkey -noout"},
    {"ECC_SECT571K1", "ecparam -genkey -noout -name sect571k1"},
    {"ECC_SECT409K1", "ecparam -genkey -noout -name sect409k1"},
    {"ECC_SECT571R1", "ecparam -genkey -noout -name sect571r1"},
    {"ECC_SECT409R1", "ecparam -genkey -noout -name sect409r1"},
    {"ECC_SECP521R1", "ecparam -genkey -noout -name secp521r1"},
    {"ECC_SECP384R1", "ecparam -genkey -noout -name secp384r1"},
};
static const struct {
    const char *name;
    enum digest_kind kind;
} hashes[] = {{"sha224", DIGEST_SHA224},
              {"sha256", DIGEST_SHA256},
              {"sha384", DIGEST_SHA384},
              {"sha512", DIGEST_SHA512}};

static const char data[] = "what is signed";

struct made {
    char dir[256];
    char *cert;
};

static void openssl(const struct made *m, const char *words)
{
    char command[2048];
    (void)snprintf(command, sizeof(command), "cd '%s' && openssl %s >log 2>&1", m->dir, words);
    if (system(command) != 0) {
        print_error("%s\n", command);
        fail();
    }
}

static char *read_file(const struct made *m, const char *name, size_t *size)
{
    char *out = NULL;
    check_ok(fs_read_file(fs_real(), test_path(m->dir, name), 1 << 20, &out, size));
    return out;
}

static void make(struct made *m, const char *generate, const char *days)
{
    char words[256];
    size_t size;
    (void)snprintf(m->dir, sizeof(m->dir), "%s", test_dir());
    (void)snprintf(words, sizeof(words), "%s -out key%s", generate,
                   strncmp(generate, "dsa", 3) == 0 ? " 1024" : ""); /* its last word */
    openssl(m, words);
    (void)snprintf(words, sizeof(words), "req -x509 -new -key key -subj /CN=x -out cert %s", days);
    openssl(m, words);
    check_ok(fs_write_file(fs_real(), test_path(m->dir, "data"), data, sizeof(data) - 1));
    m->cert = read_file(m, "cert", &size);
}

static void sign(const struct made *m, const char *hash, bool pss, const char *salt)
{
    char words[256];
    (void)snprintf(words, sizeof(words), "dgst -%s -sign key %s%s -out sig data", hash,
                   pss ? "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:" : "",
                   pss ? salt : "");
    openssl(m, words);
}

static int check_with(const struct made *m, const char *type, enum digest_kind kind,
                      const char *text, struct err *err)
{
    uint8_t digest[DIGEST_MAX];
    size_t size;
    char *signature = read_file(m, "sig", &size);
    digest_of(kind, text, strlen(text), digest);
    int rv = signature_check(m->cert, type, kind, digest, signature, size, time(NULL), err);
    free(signature);
    return rv;
}

static void every_key_type_and_hash_method_is_verified(void **state)
{
    (void)state;
    for (size_t k = 0; k < array_len(keys); k++) {
        struct made m;
        bool pss = k == 0;
        make(&m, keys[k].generate, "-days 2");
        for (size_t h = 0; h < array_len(hashes); h++) {
            struct err err = {0};
            sign(&m, hashes[h].name, pss, h == 0 ? "max" : "digest");
            int rv = check_with(&m, keys[k].name, hashes[h].kind, data, &err);
            if (rv != 0) {
                print_error("%s %s: %s\n", keys[k].name, hashes[h].name, err.msg);
            }
            check_ok(rv);
            check_code(check_with(&m, keys[k].name, hashes[h].kind, "what is  signed", &err),
                       TSR_EINVAL);
            check_str(err.msg, "it is not the signature of this data");
        }
        for (size_t other = 0; other < array_len(keys); other++) {
            struct err err = {0};
            if (other != k) { /* also another curve */
                check_code(check_with(&m, keys[other].name, DIGEST_SHA512, data, &err), TSR_EINVAL);
            }
        }
        free(m.cert);
    }
}

static void other_signatures_and_certificates_are_refused(void **state)
{
    (void)state;
    struct made m;
    struct err err = {0};
    uint8_t digest[DIGEST_MAX];
    make(&m, keys[0].generate, "-days 2");
    sign(&m, "sha256", false, NULL); /* PKCS#1 v1.5 */
    check_code(check_with(&m, "RSA-PSS", DIGEST_SHA256, data, &err), TSR_EINVAL);
    sign(&m, "sha256", true, "max");
    check_ok(check_with(&m, "RSA-PSS", DIGEST_SHA256, data, &err));
    check_code(check_with(&m, "RSA-PSS", DIGEST_SHA512, data, &err), TSR_EINVAL);
    check_code(check_with(&m, "RSA", DIGEST_SHA256, data, &err), TSR_EINVAL);
    digest_of(DIGEST_SHA256, data, sizeof(data) - 1, digest);
    check_code(signature_check(m.cert, "RSA-PSS", DIGEST_SHA256, digest, "", 0, time(NULL), &err),
               TSR_EINVAL);
    check_code(signature_check("no certificate", "RSA-PSS", DIGEST_SHA256, digest, "x", 1,
                               time(NULL), &err),
               TSR_EINVAL);
    int64_t now = time(NULL);
    char *signature;
    size_t size;
    signature = read_file(&m, "sig", &size);
    check_ok(signature_check(m.cert, "RSA-PSS", DIGEST_SHA256, digest, signature, size, now, &err));
    check_code(signature_check(m.cert, "RSA-PSS", DIGEST_SHA256, digest, signature, size,
                               now + 3 * 86400, &err),
               TSR_EINVAL);
    check_str(err.msg, "the certificate is not valid any more");
    check_code(signature_check(m.cert, "RSA-PSS", DIGEST_SHA256, digest, signature, size,
                               now - 86400, &err),
               TSR_EINVAL);
    check_str(err.msg, "the certificate is not valid yet");
    check_code(signature_check(m.cert, "RSA-PSS", DIGEST_MD5, digest, signature, size, now, &err),
               TSR_EINVAL);
    free(signature);
    free(m.cert);
}

TEST_MAIN(cmocka_unit_test(every_key_type_and_hash_method_is_verified),
          cmocka_unit_test(other_signatures_and_certificates_are_refused))
