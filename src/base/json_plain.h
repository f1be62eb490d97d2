/* Shared by json_parse.c and json_text.c. */
#ifndef BASE_JSON_PLAIN_H
#define BASE_JSON_PLAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Eight bytes at a time: whether none of them is a quotation mark, a backslash, below 0x20, or
 * beyond ASCII. A byte that is less than what is taken from it leaves its top bit set; it may spoil
 * the bytes behind it, which does not matter any more. */
static inline bool json_eight_plain(const char *at)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    uint64_t quote = v ^ (ones * '"'), slash = v ^ (ones * '\\');
    return (((v - ones * 0x20) | (quote - ones) | (slash - ones) | v) & tops) == 0;
}

#endif
