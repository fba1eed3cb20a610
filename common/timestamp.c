/* timestamp.c: reads and writes RFC 3339, and reads the clocks. All of the tree uses it. */
#include "common/timestamp.h"

#include <string.h>
#include <time.h>

#define DAY_MS      86400000
#define DAY_SECONDS 86400

/* Days since 1970-01-01 of a proleptic Gregorian date. Years begin in March here: so the leap day
 * is their last. The constants are the days of 400, 100 and 4 years. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static void date_from_days(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t m = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2 ? 1 : 0));
}

/* Reads exactly `digits` digits at s; -1 when there are other characters. */
static int read_digits(const char *s, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value = value * 10 + (s[i] - '0');
    }
    return value;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* Reads "Z" or "+hh:mm" to the end of the text. */
static bool read_offset(const char *s, size_t n, int64_t *offset_ms)
{
    *offset_ms = 0;
    if (n == 1 && (s[0] == 'Z' || s[0] == 'z'))
        return true;
    if (n != 6 || (s[0] != '+' && s[0] != '-') || s[3] != ':')
        return false;
    int hours = read_digits(s + 1, 2), minutes = read_digits(s + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return false;
    *offset_ms = (hours * 60 + minutes) * (int64_t)60000 * (s[0] == '-' ? -1 : 1);
    return true;
}

/* Reads ".123456", which may be missing, and sets *ms. Returns how many bytes it took, or -1 for a
 * dot without digits. */
static int read_fraction(const char *s, size_t n, int *ms)
{
    *ms = 0;
    if (n == 0 || s[0] != '.')
        return 0;
    size_t i = 1;
    for (int scale = 100; i < n && s[i] >= '0' && s[i] <= '9'; i++, scale /= 10)
        *ms += (s[i] - '0') * scale;
    return i == 1 ? -1 : (int)i;
}

bool timestamp_parse(const char *s, size_t n, int64_t *ms)
{
    if (n < 20 || n > 64 || s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' ||
        (s[10] != 'T' && s[10] != 't' && s[10] != ' '))
        return false;
    int year = read_digits(s, 4), month = read_digits(s + 5, 2), day = read_digits(s + 8, 2);
    int hour = read_digits(s + 11, 2), minute = read_digits(s + 14, 2),
        second = read_digits(s + 17, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) ||
        hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    int fraction;
    int taken = read_fraction(s + 19, n - 19, &fraction);
    int64_t offset;
    if (taken < 0 || !read_offset(s + 19 + taken, n - 19 - (size_t)taken, &offset))
        return false;
    if (second == 60) {
        second = 59;
        fraction = 999;
    }
    int64_t value = days_from_date(year, month, day) * DAY_MS +
                    ((hour * 60 + minute) * 60 + second) * (int64_t)1000 + fraction - offset;
    if (value < TIMESTAMP_MIN_MS || value > TIMESTAMP_MAX_MS)
        return false;
    *ms = value;
    return true;
}

static void put_digits(char *out, int digits, int value)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
}

static void format_second(int64_t second, char out[TIMESTAMP_LEN])
{
    int64_t days = (second >= 0 ? second : second - (DAY_SECONDS - 1)) / DAY_SECONDS;
    int rest = (int)(second - days * DAY_SECONDS);
    int year, month, day;
    date_from_days(days, &year, &month, &day);
    memcpy(out, "0000-00-00T00:00:00.000Z", TIMESTAMP_LEN);
    put_digits(out, 4, year);
    put_digits(out + 5, 2, month);
    put_digits(out + 8, 2, day);
    put_digits(out + 11, 2, rest / 3600);
    put_digits(out + 14, 2, rest / 60 % 60);
    put_digits(out + 17, 2, rest % 60);
}

void timestamp_format(int64_t ms, char out[TIMESTAMP_LEN])
{
    /* Thousands of records come in a second, and differ in three digits. */
    static _Thread_local int64_t last = INT64_MIN;
    static _Thread_local char text[TIMESTAMP_LEN];
    if (ms < TIMESTAMP_MIN_MS)
        ms = TIMESTAMP_MIN_MS;
    if (ms > TIMESTAMP_MAX_MS)
        ms = TIMESTAMP_MAX_MS;
    int64_t second = (ms >= 0 ? ms : ms - 999) / 1000;
    if (second != last) {
        format_second(second, text);
        last = second;
    }
    memcpy(out, text, TIMESTAMP_LEN);
    put_digits(out + 20, 3, (int)(ms - second * 1000));
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t timestamp_now_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t monotonic_now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}
