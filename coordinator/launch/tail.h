/* The last lines of a stream, without escape sequences, for a report. */
#ifndef LAUNCH_TAIL_H
#define LAUNCH_TAIL_H

#include <stdbool.h>
#include <stddef.h>

enum { TAIL_LINES = 20, TAIL_LINE_MAX = 512, HEAD_LINES = 3 };

typedef struct tail {
    char lines[TAIL_LINES][TAIL_LINE_MAX]; /* a ring; what is longer is cut */
    size_t count;                          /* lines that ever came, without the one in the making */
    char open[TAIL_LINE_MAX];              /* the line in the making */
    size_t open_length;
    bool returned;               /* a carriage return came last */
    char culprit[TAIL_LINE_MAX]; /* the last line that says which rank ended the job; "": none */
    char error[TAIL_LINE_MAX];   /* the last line that begins with "muster:" */
    char head[TAIL_LINE_MAX];    /* the first HEAD_LINES lines, joined */
    size_t culprit_at;           /* lines that came before the culprit's */
} tail;

/** Takes bytes of the stream. */
void tail_take(tail *t, const char *bytes, size_t count);
/** The stream is over: takes a line that has no end. */
void tail_end(tail *t);
/** Line `back` from the end (0: the last one); NULL: it is not kept. */
const char *tail_line(const tail *t, size_t back);
/** Whether the stream stands within a line. */
bool tail_is_open(const tail *t);
/** The line that says best what went wrong. @param moved training had begun; else a launcher's words count from their
 * beginning, since the end of them is advice @return "": nothing was said */
const char *tail_reason(const tail *t, bool moved);
/** What was said just before the line that names the culprit, from the oldest on: not steps, nor muster's own messages.
 * @param lines_out [3] @return how many */
size_t tail_last_words(const tail *t, const char *lines_out[3]);

#endif
