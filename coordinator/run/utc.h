/* The time of day, for files and messages. */
#ifndef RUN_UTC_H
#define RUN_UTC_H

enum { UTC_TEXT_MAX = 32 };

/** Now, in UTC, as ISO 8601 with milliseconds: always 24 characters. */
void utc_now(char text_out[UTC_TEXT_MAX]);

#endif
