/* Requests to stop: Ctrl-C once, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 ask for it; Ctrl-C twice ends the process at
 * once. */
#ifndef RUN_STOP_H
#define RUN_STOP_H

#include <stdbool.h>

/** Installs the handlers, and forgets earlier requests; within another stop_watch only `speak` counts. Not collective.
 * @param speak answers the first Ctrl-C with a line on stderr, where that is a terminal */
void stop_watch(bool speak);
/** Puts back the handlers that stood before the outermost stop_watch. */
void stop_unwatch(void);
/** A stop was requested on this rank. */
bool stop_requested(void);
/** Number of the signal that asked; 0 if none did. */
int stop_signal(void);
/** Name of a signal that can ask, such as "SIGINT"; "" for another number. */
const char *stop_signal_name(int number);

#endif
