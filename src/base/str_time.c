/* Times as text. The proleptic Gregorian calendar by arithmetic: no time zone data, no locale. */
#include "tessera/base/str.h"

#include <stdio.h>
#include <string.h>

#include "tessera/base/err.h"

enum { DAY_SECONDS = 86400 };
static const int64_t second_us = 1000000;

/* Days since 1970-01-01 (years count from March, so that the leap day ends them). */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_from_days(int64_t days, int *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

static int format(int64_t us, char out[TIME_TEXT], int *micros)
{
    int64_t seconds = us / second_us, rest = us % second_us;
    if (rest < 0) {
        rest += second_us;
        seconds--;
    }
    int64_t days = seconds / DAY_SECONDS, of_day = seconds % DAY_SECONDS;
    if (of_day < 0) {
        of_day += DAY_SECONDS;
        days--;
    }
    int year, month, day;
    date_from_days(days, &year, &month, &day);
    *micros = (int)rest;
    if (year < 0 || year > 9999) { /* not representable: say so instead of overflowing the text */
        *micros = 0;
        return snprintf(out, TIME_TEXT, "%s",
                        year < 0 ? "0000-01-01T00:00:00" : "9999-12-31T23:59:59");
    }
    return snprintf(out, TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d", year, month, day,
                    (int)(of_day / 3600), (int)(of_day / 60 % 60), (int)(of_day % 60));
}

void time_format_seconds(int64_t us, char out[TIME_TEXT])
{
    int micros;
    int n = format(us, out, &micros);
    memcpy(out + n, "Z", 2);
}

void time_format_micros(int64_t us, char out[TIME_TEXT])
{
    int micros;
    int n = format(us, out, &micros);
    snprintf(out + n, TIME_TEXT - (size_t)n, ".%06dZ", micros);
}

/* @digits decimal digits; moves on. */
static bool take(const char **p, int digits, int64_t *out)
{
    int64_t v = 0;
    for (int i = 0; i < digits; i++, (*p)++) {
        if (**p < '0' || **p > '9') {
            return false;
        }
        v = v * 10 + (**p - '0');
    }
    *out = v;
    return true;
}

static bool skip(const char **p, char c)
{
    if (**p != c) {
        return false;
    }
    (*p)++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* YYYY, YYYY-MM, YYYY-MM-DD, YYYYMMDD */
static bool take_date(const char **p, int64_t *days)
{
    int64_t year, month = 1, day = 1;
    if (!take(p, 4, &year) || year < 1) {
        return false;
    }
    bool dashes = skip(p, '-');
    if (dashes || is_digit(**p)) {
        if (!take(p, 2, &month)) {
            return false;
        }
        if (dashes ? skip(p, '-') : is_digit(**p)) {
            if (!take(p, 2, &day)) {
                return false;
            }
        } else if (!dashes) {
            return false; /* YYYYMM could be YYMMDD */
        }
    }
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month < 1 || month > 12 || day < 1 ||
        day > month_days[month - 1] + (month == 2 && leap ? 1 : 0)) {
        return false;
    }
    *days = days_from_date(year, month, day);
    return true;
}

/* ".123" or ",123": any number of digits, those beyond microseconds dropped. */
static bool take_fraction(const char **p, int64_t *us)
{
    *us = 0;
    if (!skip(p, '.') && !skip(p, ',')) {
        return true;
    }
    if (!is_digit(**p)) {
        return false;
    }
    for (int64_t unit = second_us / 10; is_digit(**p); (*p)++, unit /= 10) {
        *us += (**p - '0') * unit;
    }
    return true;
}

/* hh, hh:mm, hh:mm:ss[.f], hhmm, hhmmss[.f]; second 60 counts as the next second's start */
static bool take_clock(const char **p, int64_t *us)
{
    int64_t hour, minute = 0, second = 0, fraction = 0;
    if (!take(p, 2, &hour)) {
        return false;
    }
    bool colons = skip(p, ':');
    if (colons || is_digit(**p)) {
        if (!take(p, 2, &minute)) {
            return false;
        }
        if (colons ? skip(p, ':') : is_digit(**p)) {
            if (!take(p, 2, &second) || !take_fraction(p, &fraction)) {
                return false;
            }
        }
    }
    if (hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    *us = (hour * 3600 + minute * 60 + second) * second_us + fraction;
    return true;
}

/* Nothing, Z, or +hh, +hhmm, +hh:mm (also -) */
static bool take_zone(const char **p, int64_t *us)
{
    *us = 0;
    if (**p == 0 || skip(p, 'Z') || skip(p, 'z')) {
        return true;
    }
    int64_t sign = **p == '-' ? -1 : 1, hour, minute = 0;
    if (!skip(p, '+') && !skip(p, '-')) {
        return false;
    }
    if (!take(p, 2, &hour)) {
        return false;
    }
    bool colon = skip(p, ':');
    if ((colon || **p != 0) && !take(p, 2, &minute)) {
        return false;
    }
    if (hour > 23 || minute > 59) {
        return false;
    }
    *us = sign * (hour * 3600 + minute * 60) * second_us;
    return true;
}

int time_parse(const char *text, int64_t *us_out)
{
    const char *p = text;
    int64_t days, clock_us = 0, zone_us = 0;
    if (!take_date(&p, &days)) {
        return TSR_EINVAL;
    }
    if (*p != 0) {
        if (!skip(&p, 'T') && !skip(&p, 't') && !skip(&p, ' ')) {
            return TSR_EINVAL;
        }
        if (!take_clock(&p, &clock_us) || !take_zone(&p, &zone_us)) {
            return TSR_EINVAL;
        }
    }
    if (*p != 0) {
        return TSR_EINVAL;
    }
    *us_out = days * DAY_SECONDS * second_us + clock_us - zone_us;
    return 0;
}
