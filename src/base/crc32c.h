/* The implementations behind crc32c(), for its test. Thread: any. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c_table(uint32_t crc, const void *data, size_t size);
bool crc32c_has_sse42(void);
/* Only where crc32c_has_sse42(). */
uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size);

#endif
