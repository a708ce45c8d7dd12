#include "tail.h"

#include <stdio.h>
#include <string.h>

/* Drops escape sequences ("\033[...m") and control characters. */
static void clean(char *line) {
    char *to = line;
    for (const char *from = line; *from != '\0'; from++) {
        if (*from == '\033') {
            if (from[1] == '[')
                for (from++; from[1] != '\0' && (from[1] < '@' || from[1] > '~'); from++) {}
            if (from[1] != '\0') from++;
        } else if ((unsigned char)*from >= ' ') {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static void keep_line(tail *t) {
    t->open[t->open_length] = '\0';
    t->open_length = 0;
    clean(t->open);
    if (t->open[strspn(t->open, " -")] == '\0') return; /* empty, or mpirun's rule of dashes */
    if (strncmp(t->open, "muster: ", 8) == 0) snprintf(t->error, sizeof t->error, "%s", t->open);
    if (strncmp(t->open, "muster: ", 8) == 0 && strstr(t->open, "ending the job") != NULL)
        snprintf(t->culprit, sizeof t->culprit, "%s", t->open);
    if (strstr(t->open, "noticed that process rank") != NULL && t->culprit[0] == '\0')
        snprintf(t->culprit, sizeof t->culprit, "%s", t->open);
    snprintf(t->lines[t->count++ % TAIL_LINES], TAIL_LINE_MAX, "%s", t->open);
}

void tail_take(tail *t, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            keep_line(t);
            t->returned = false;
            continue;
        }
        if (t->returned) t->open_length = 0; /* drawn over, as a live line is */
        t->returned = bytes[i] == '\r';
        if (bytes[i] != '\0' && t->open_length < TAIL_LINE_MAX - 1) t->open[t->open_length++] = bytes[i];
    }
}

bool tail_is_open(const tail *t) {
    return t->open_length > 0;
}

void tail_end(tail *t) {
    if (t->open_length > 0) keep_line(t);
}

const char *tail_line(const tail *t, size_t back) {
    if (back >= t->count || back >= TAIL_LINES) return NULL;
    return t->lines[(t->count - 1 - back) % TAIL_LINES];
}

const char *tail_reason(const tail *t) {
    if (t->culprit[0] != '\0') return t->culprit;
    if (t->error[0] != '\0') return t->error;
    const char *last = tail_line(t, 0);
    return last != NULL ? last : "";
}
