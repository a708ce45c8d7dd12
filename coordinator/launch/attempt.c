#include "attempt.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

outcome_kind attempt_judge(const watch_end *end, bool asked, const stand *after) {
    if (end->code == 0) return OUTCOME_DONE;
    if (end->code == 2) return OUTCOME_WRONG;
    if (end->code == 75) return OUTCOME_STOPPED;
    /* A launcher may end by the signal that it got while its ranks ended well, or before they had begun. */
    if (asked && after->step == after->saved) return OUTCOME_STOPPED;
    return OUTCOME_FAILED;
}

void attempt_describe(const watch_end *end, char *text_out, size_t room) {
    if (end->signal != 0)
        snprintf(text_out, room, "ended by signal %d (%s)", end->signal, strsignal(end->signal));
    else if (end->code > 128 && end->code < 128 + 65)
        snprintf(text_out, room, "exit code %d: a rank was ended by signal %d (%s)", end->code,
                 end->code - 128, strsignal(end->code - 128));
    else
        snprintf(text_out, room, "exit code %d", end->code);
}

const char *attempt_reason(const attempt *a) {
    const tail *said = &a->end.tail;
    const bool silent = said->culprit[0] == '\0' && said->error[0] == '\0';
    return silent && a->end.signal != 0 ? "" : tail_reason(said, a->after.moved);
}

bool attempt_is_launchers(const attempt *a) {
    const tail *said = &a->end.tail;
    return a->outcome == OUTCOME_FAILED && a->end.code > 0 && a->end.code < 128 && !a->after.moved &&
           said->culprit[0] == '\0' && said->error[0] == '\0' && said->count > 0;
}

/* The same words. Numbers count for nothing: bytes that are free, processes. */
static bool say_the_same(const char *a, const char *b) {
    static const char digits[] = "0123456789";
    for (;; a++, b++) {
        a += strspn(a, digits);
        b += strspn(b, digits);
        if (*a != *b) return false;
        if (*a == '\0') return true;
    }
}

/* By its last words: those before have numbers of processes and jobs in them. */
static bool fails_to_launch_again(const attempt *before, const attempt *now) {
    return attempt_is_launchers(before) && attempt_is_launchers(now) && before->end.code == now->end.code &&
           strcmp(tail_line(&before->end.tail, 0), tail_line(&now->end.tail, 0)) == 0;
}

bool attempt_repeats(const attempt *before, const attempt *now) {
    if (before->number == 0) return false;
    if (fails_to_launch_again(before, now)) return true;
    return before->end.code == 1 && now->end.code == 1 && before->after.step == now->after.step &&
           now->end.tail.error[0] != '\0' && say_the_same(before->end.tail.error, now->end.tail.error);
}

void attempt_time(char text_out[32]) {
    struct tm parts;
    const time_t now = time(NULL);
    gmtime_r(&now, &parts);
    strftime(text_out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}
