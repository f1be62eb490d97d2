/* The cluster's authority, sealed secrets, password hashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "tessera/sys/cert.h"
#include "tessera/sys/net.h"

static int sign(const char *csr, const char *const *names, size_t count, const char *ca,
                const char *ca_key, char **out)
{
    struct err err = {0};
    return cert_sign(csr, "host-1", names, count, 30, ca, ca_key, out, &err);
}

static void an_authority_signs_a_request(void **state)
{
    (void)state;
    char *ca, *ca_key, *key, *csr, *cert, *other, *other_key;
    const char *names[] = {"DNS:host1", "IP:127.0.0.1", "IP:::1"};
    assert_int_equal(cert_authority_new("Test authority", 365, &ca, &ca_key), 0);
    assert_int_equal(cert_authority_new("Other", 365, &other, &other_key), 0);
    assert_int_equal(cert_key_new(&key), 0);
    assert_int_equal(cert_request_new(key, "ignored", &csr), 0);
    assert_int_equal(sign(csr, names, 3, ca, ca_key, &cert), 0);

    uint8_t a[32], b[32];
    int64_t end = 0;
    assert_int_equal(cert_fingerprint(cert, a), 0);
    assert_int_equal(cert_fingerprint(ca, b), 0);
    assert_memory_not_equal(a, b, 32);
    assert_int_equal(cert_not_after(cert, &end), 0);
    int64_t left = end - (int64_t)time(NULL);
    assert_in_range((uintmax_t)left, 30 * 86400 - 60, 30 * 86400 + 60);

    struct tls *tls;
    struct tls_options options = {.role = TLS_SERVER, .cert_pem = cert, .key_pem = key};
    assert_int_equal(tls_new(&options, &tls, NULL), 0);
    tls_unref(tls);
    options.key_pem = ca_key;
    assert_int_equal(tls_new(&options, &tls, NULL), TSR_EINVAL);

    char *none = NULL;
    assert_int_equal(sign(csr, names, 3, ca, other_key, &none), TSR_EINVAL);
    const char *bad[] = {"IP:nonsense"};
    assert_int_equal(sign(csr, bad, 1, ca, ca_key, &none), TSR_EINVAL);
    const char *odd[] = {"email:a@b"};
    assert_int_equal(sign(csr, odd, 1, ca, ca_key, &none), TSR_EINVAL);
    assert_null(none);
    free(ca), free(ca_key), free(key), free(csr), free(cert), free(other), free(other_key);
}

static void a_damaged_request_is_refused(void **state)
{
    (void)state;
    char *ca, *ca_key, *key, *csr, *cert = NULL;
    assert_int_equal(cert_authority_new("Test authority", 365, &ca, &ca_key), 0);
    assert_int_equal(cert_key_new(&key), 0);
    assert_int_equal(cert_request_new(key, "host", &csr), 0);
    char *at = strchr(csr, '\n') + 60;
    *at = *at == 'A' ? 'B' : 'A';
    assert_int_equal(sign(csr, NULL, 0, ca, ca_key, &cert), TSR_EINVAL);
    assert_int_equal(sign("", NULL, 0, ca, ca_key, &cert), TSR_EINVAL);
    assert_int_equal(sign("no PEM at all", NULL, 0, ca, ca_key, &cert), TSR_EINVAL);
    uint8_t print[32];
    int64_t end;
    assert_int_equal(cert_fingerprint("no PEM at all", print), TSR_EINVAL);
    assert_int_equal(cert_not_after("", &end), TSR_EINVAL);
    assert_int_equal(cert_request_new("no key", "host", &csr), TSR_EINVAL);
    free(ca), free(ca_key), free(key), free(csr);
}

static void sealed_data_opens_with_its_key_only(void **state)
{
    (void)state;
    uint8_t key[32] = {1}, wrong[32] = {2};
    uint8_t *sealed, *open;
    size_t sealed_size, open_size;
    for (size_t size = 0; size < 100; size += 33) {
        char data[100];
        memset(data, 'x', sizeof data);
        assert_int_equal(seal_encrypt(key, data, size, &sealed, &sealed_size), 0);
        assert_int_equal(sealed_size, size + 28);
        assert_int_equal(seal_decrypt(key, sealed, sealed_size, &open, &open_size), 0);
        assert_int_equal(open_size, size);
        assert_memory_equal(open, data, size);
        free(open);
        assert_int_equal(seal_decrypt(wrong, sealed, sealed_size, &open, &open_size), TSR_ECORRUPT);
        for (size_t i = 0; i < sealed_size; i++) {
            sealed[i] ^= 1;
            assert_int_equal(seal_decrypt(key, sealed, sealed_size, &open, &open_size),
                             TSR_ECORRUPT);
            sealed[i] ^= 1;
            assert_int_equal(seal_decrypt(key, sealed, i, &open, &open_size), TSR_ECORRUPT);
        }
        free(sealed);
    }
}

static void sealing_twice_gives_different_bytes(void **state)
{
    (void)state;
    uint8_t key[32] = {1};
    uint8_t *a, *b;
    size_t size;
    assert_int_equal(seal_encrypt(key, "data", 4, &a, &size), 0);
    assert_int_equal(seal_encrypt(key, "data", 4, &b, &size), 0);
    assert_memory_not_equal(a, b, size);
    free(a), free(b);
}

/* RFC 7914 has no vector with our parameters and a 16-byte salt; this one is from Python's
 * hashlib.scrypt(b"password", salt=bytes(16), n=16384, r=8, p=1, dklen=32). */
static void a_password_hash_is_the_known_one(void **state)
{
    (void)state;
    uint8_t salt[16] = {0}, out[32], again[32];
    assert_int_equal(password_hash("password", salt, out), 0);
    static const uint8_t expected[32] = {0x7b, 0x5c, 0x3d, 0x3e, 0x95, 0x32, 0x65, 0xcf,
                                         0x05, 0x1c, 0xae, 0xb0, 0x5b, 0xc0, 0x23, 0x24,
                                         0x6a, 0x28, 0x3e, 0x4e, 0xb2, 0x21, 0xb7, 0x9d,
                                         0x32, 0x22, 0xea, 0xe0, 0x29, 0x36, 0x33, 0x3a};
    assert_memory_equal(out, expected, 32);
    salt[0] = 1;
    assert_int_equal(password_hash("password", salt, again), 0);
    assert_memory_not_equal(out, again, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authority_signs_a_request),
        cmocka_unit_test(a_damaged_request_is_refused),
        cmocka_unit_test(sealed_data_opens_with_its_key_only),
        cmocka_unit_test(sealing_twice_gives_different_bytes),
        cmocka_unit_test(a_password_hash_is_the_known_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
