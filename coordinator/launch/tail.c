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

/* What Open MPI prints when a job is aborted. It is no rank's, and may come before the line that names the culprit. */
static bool is_of_abort(const char *line) {
    static const char *const begins[] = {
        "MPI_ABORT was invoked on rank ", "with errorcode ", "NOTE: invoking MPI_ABORT causes ",
        "You may or may not see output from other processes", "exactly when Open MPI kills them"};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(line, begins[i], strlen(begins[i])) == 0) return true;
    return false;
}

static void keep_line(tail *t) {
    t->open[t->open_length] = '\0';
    t->open_length = 0;
    clean(t->open);
    if (t->open[strspn(t->open, " -")] == '\0') return; /* empty, or mpirun's rule of dashes */
    if (is_of_abort(t->open)) return;
    if (strncmp(t->open, "muster: ", 8) == 0) snprintf(t->error, sizeof t->error, "%s", t->open);
    const bool named = strncmp(t->open, "muster: ", 8) == 0 && strstr(t->open, "ending the job") != NULL;
    const bool noticed = strstr(t->open, "noticed that process rank") != NULL && t->culprit[0] == '\0';
    if (named || noticed) {
        snprintf(t->culprit, sizeof t->culprit, "%s", t->open);
        t->culprit_at = t->count;
    }
    const size_t used = strlen(t->head);
    if (t->count < HEAD_LINES)
        snprintf(t->head + used, sizeof t->head - used, "%s%s", used > 0 ? " " : "", t->open);
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

static bool is_step(const char *line) {
    return strncmp(line, "step ", 5) == 0;
}

const char *tail_reason(const tail *t, bool moved) {
    if (t->culprit[0] != '\0') return t->culprit;
    if (t->error[0] != '\0') return t->error;
    if (!moved) return t->head;
    const char *last = tail_line(t, 0);
    return last != NULL && !is_step(last) ? last : "";
}

size_t tail_last_words(const tail *t, const char *lines_out[3]) {
    size_t count = 0;
    if (t->culprit[0] == '\0') return 0;
    const char *found[3], *line;
    for (size_t back = t->count - t->culprit_at; count < 3 && (line = tail_line(t, back)) != NULL; back++) {
        if (is_step(line) || strncmp(line, "muster: ", 8) == 0) break;
        found[count++] = line;
    }
    for (size_t i = 0; i < count; i++) lines_out[i] = found[count - 1 - i];
    return count;
}
