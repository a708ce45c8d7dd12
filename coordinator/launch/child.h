/* Processes that launch starts. They end when launch ends, also by SIGKILL. */
#ifndef LAUNCH_CHILD_H
#define LAUNCH_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "muster/status.h"

/**
 * Starts a program, found by PATH, in a process group of its own, with nothing to read on its standard input.
 *
 * Not collective.
 * @param words ends with NULL
 * @param out, err its standard output and error
 * @retval MST_EIO it cannot be started
 */
mst_status child_spawn(const char *const *words, int out, int err, pid_t *pid_out);

/**
 * Runs a program for at most `seconds`, and gives what it printed on standard output and error.
 *
 * Not collective.
 * @param text_out freed by the caller; what is longer than 1 MiB is cut
 * @param exit_out its exit code; -1: ended by a signal, or by the time
 * @retval MST_EIO it cannot be started; MST_ENOMEM
 */
mst_status child_capture(const char *const *words, double seconds, char **text_out, int *exit_out);

/* A question that a program answers by its exit code. */
typedef struct child_question {
    const char *words[16]; /* ends with NULL */
    pid_t pid;             /* filled by child_ask */
    bool yes;              /* it ended with 0 in time */
} child_question;

/** Asks all questions at once, and waits for at most `seconds`. A program that cannot be started says no. */
void child_ask(child_question *questions, size_t count, double seconds);

#endif
