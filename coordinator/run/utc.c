#include "utc.h"

#include <stdio.h>
#include <time.h>

void utc_now(char text_out[UTC_TEXT_MAX]) {
    struct timespec now;
    struct tm utc;
    char seconds[UTC_TEXT_MAX - 6];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text_out, UTC_TEXT_MAX, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000));
}
