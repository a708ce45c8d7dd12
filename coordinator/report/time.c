/* Times of metrics.jsonl: UTC, ISO 8601, milliseconds. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "history.h"

/* The number in `count` digits; -1 where they are none. */
static int digits(const char *text, int count) {
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        value = 10 * value + (text[i] - '0');
    }
    return value;
}

/* Days from 1970-01-01 to a day of the Gregorian calendar; counting from March puts the leap day last. */
static double days_since_1970(int year, int month, int day) {
    int from_march = (month + 9) % 12, y = year - (month <= 2);
    int day_of_year = (153 * from_march + 2) / 5 + day - 1;
    int leap_days = y / 4 - y / 100 + y / 400;
    return 365.0 * y + leap_days + day_of_year - 719468;
}

double report_time_parse(const char *text) {
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    if (strlen(text) != sizeof form - 1) return NAN;
    for (size_t i = 0; i < sizeof form - 1; i++)
        if (form[i] == 'd' ? digits(text + i, 1) < 0 : text[i] != form[i]) return NAN;
    int month = digits(text + 5, 2), day = digits(text + 8, 2), hour = digits(text + 11, 2);
    int minute = digits(text + 14, 2), second = digits(text + 17, 2);
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) return NAN;
    return 86400 * days_since_1970(digits(text, 4), month, day) + 3600 * hour + 60 * minute + second +
           digits(text + 20, 3) * 1e-3;
}

const char *report_time_print(double time, char text[REPORT_TIME_TEXT]) {
    text[0] = '\0';
    if (!(time >= 0 && time < 253402300799.0)) return text; /* the year 9999 */
    double milliseconds = floor(time * 1000 + 0.5);
    time_t seconds = (time_t)floor(milliseconds / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(text, REPORT_TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, REPORT_TIME_TEXT - length, ".%03dZ",
             (int)(milliseconds - 1000.0 * (double)seconds));
    return text;
}
