#include "test.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "tessera/base/digest.h"
#include "tessera/base/id.h"

static void check_digest(enum digest_kind kind, const char *want)
{
    uint8_t out[DIGEST_MAX];
    char hex[2 * DIGEST_MAX + 1];
    digest_of(kind, "abc", 3, out);
    hex_encode(out, digest_size(kind), hex);
    check_str(hex, want);
    struct digest *d = digest_new(kind);
    check(d != NULL);
    for (int round = 0; round < 2; round++) {
        digest_reset(d);
        digest_update(d, "a", 1);
        digest_update(d, "bc", 2);
        digest_final(d, out);
        hex_encode(out, digest_size(kind), hex);
        check_str(hex, want);
    }
    digest_free(d);
}

static void digests_of_abc_are_the_published_ones(void **state)
{
    (void)state;
    check_digest(DIGEST_MD5, "900150983cd24fb0d6963f7d28e17f72");
    check_digest(DIGEST_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d");
    check_digest(DIGEST_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_digest(DIGEST_SHA512, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

static void hmac_follows_rfc_4231(void **state)
{
    (void)state;
    uint8_t mac[32];
    char hex[65];
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);
    hex_encode(mac, 32, hex);
    check_str(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    hmac_sha256(NULL, 0, "", 0, mac);
    hex_encode(mac, 32, hex);
    check_str(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void crc32c_follows_rfc_3720(void **state)
{
    (void)state;
    uint8_t data[32] = {0};
    check_int(crc32c(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    check_int(crc32c(0, data, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = i;
    }
    check_int(crc32c(0, data, 32), 0x46dd794e);
    check_int(crc32c_table(0, "123456789", 9), 0xe3069283);
    check_int(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void both_implementations_of_crc32c_agree(void **state)
{
    (void)state;
    if (!crc32c_has_sse42()) {
        skip();
    }
    uint8_t data[300];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 167 + 13);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t size = 0; start + size <= sizeof(data); size++) {
            check_int(crc32c_table(77, data + start, size), crc32c_sse42(77, data + start, size));
        }
    }
}

TEST_MAIN(cmocka_unit_test(digests_of_abc_are_the_published_ones),
          cmocka_unit_test(hmac_follows_rfc_4231), cmocka_unit_test(crc32c_follows_rfc_3720),
          cmocka_unit_test(both_implementations_of_crc32c_agree))
