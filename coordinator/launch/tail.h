/* The last lines of a stream, without escape sequences, for a report. */
#ifndef LAUNCH_TAIL_H
#define LAUNCH_TAIL_H

#include <stdbool.h>
#include <stddef.h>

enum { TAIL_LINES = 20, TAIL_LINE_MAX = 512 };

typedef struct tail {
    char lines[TAIL_LINES][TAIL_LINE_MAX]; /* a ring; what is longer is cut */
    size_t count;                          /* lines that ever came, without the one in the making */
    char open[TAIL_LINE_MAX];              /* the line in the making */
    size_t open_length;
    bool returned;               /* a carriage return came last */
    char culprit[TAIL_LINE_MAX]; /* the last line that says which rank ended the job; "": none */
    char error[TAIL_LINE_MAX];   /* the last line that begins with "muster:" */
} tail;

/** Takes bytes of the stream. */
void tail_take(tail *t, const char *bytes, size_t count);
/** The stream is over: takes a line that has no end. */
void tail_end(tail *t);
/** Line `back` from the end (0: the last one); NULL: it is not kept. */
const char *tail_line(const tail *t, size_t back);
/** Whether the stream stands within a line. */
bool tail_is_open(const tail *t);
/** The line that says best what went wrong; "": nothing was said. */
const char *tail_reason(const tail *t);

#endif
