/* CRC32C (Castagnoli, reflected polynomial 0x82f63b78): by the CPU's instruction where it has one,
 * else eight table look-ups for eight bytes ("slicing-by-8"). */
#include "base/crc32c.h"

#include <string.h>

#include "tessera/base/digest.h"

static uint32_t table[8][256];
static bool has_sse42;

/* Before main, so that no thread sees half a table. */
__attribute__((constructor)) static void fill_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
        }
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
        }
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    has_sse42 = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

static uint64_t load_le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) { /* one load after optimisation, and right on any byte order */
        v = v << 8 | p[i];
    }
    return v;
}

uint32_t crc32c_table(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t v = load_le64(p) ^ crc;
        crc = table[7][v & 255] ^ table[6][v >> 8 & 255] ^ table[5][v >> 16 & 255] ^
              table[4][v >> 24 & 255] ^ table[3][v >> 32 & 255] ^ table[2][v >> 40 & 255] ^
              table[1][v >> 48 & 255] ^ table[0][v >> 56];
    }
    for (; size > 0; size--, p++) {
        crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    }
    return ~crc;
}

bool crc32c_has_sse42(void)
{
    return has_sse42;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t wide = (uint32_t)~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, sizeof(v));
        wide = __builtin_ia32_crc32di(wide, v);
    }
    crc = (uint32_t)wide;
    for (; size > 0; size--, p++) {
        crc = __builtin_ia32_crc32qi(crc, *p);
    }
    return ~crc;
}
#else
uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size)
{
    return crc32c_table(crc, data, size);
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    return has_sse42 ? crc32c_sse42(crc, data, size) : crc32c_table(crc, data, size);
}
