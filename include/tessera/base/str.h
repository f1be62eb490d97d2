/* Strings: bounded copies, parsing of numbers and times, percent coding. Thread: any. */
#ifndef TESSERA_BASE_STR_H
#define TESSERA_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

/* Copy with truncation, always terminated; returns false when truncated. */
bool str_copy(char *out, size_t out_size, const char *text);
bool str_starts(const char *text, const char *prefix);
bool str_ieq(const char *a, const char *b); /* ASCII case-insensitive */
/* Whole text is one decimal number within bounds. TSR_EINVAL otherwise. */
int str_to_i64(const char *text, int64_t min, int64_t max, int64_t *out);
/* "4M", "10GiB", "512": bytes with binary suffixes. */
int str_to_size(const char *text, int64_t *out);

bool utf8_valid(const char *text, size_t size);
/* Number of code points of valid UTF-8. */
size_t utf8_length(const char *text);

/* RFC 3986 section 2.1. Decode in place-compatible form: @out may be @text. '+' is a space only
 * when
 * @plus. Returns decoded size, or TSR_EINVAL (bad escape or a 0 byte). Output is terminated. */
long percent_decode(const char *text, size_t size, bool plus, char *out);
/* Escape everything but unreserved characters (space as '+' when @plus). */
int percent_encode(struct buf *out, const char *text, bool plus);

/* Microseconds since the epoch <-> ISO 8601. */
enum { TIME_TEXT = 32 };
void time_format_seconds(int64_t us, char out[TIME_TEXT]); /* 2026-01-01T00:00:00Z */
void time_format_micros(int64_t us, char out[TIME_TEXT]);  /* 2026-01-01T00:00:00.000000Z */
/* Forms of the Image API's filters (date only, compact, fraction, offset, no zone = UTC).
 * TSR_EINVAL otherwise. */
int time_parse(const char *text, int64_t *us_out);

#endif
