/* Requests to stop: Ctrl-C once, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 ask for it; Ctrl-C twice ends the process at
 * once. */
#ifndef RUN_STOP_H
#define RUN_STOP_H

#include <stdbool.h>

/** Installs the handlers, and forgets earlier requests. Not collective.
 * @param speak answers the first Ctrl-C with a line on stderr, where that is a terminal */
void stop_watch(bool speak);
/** Puts back the handlers that stood before stop_watch. */
void stop_unwatch(void);
/** A stop was requested on this rank. */
bool stop_requested(void);
/** Name of the signal that asked, such as "SIGINT"; "" if none did. */
const char *stop_signal_name(void);

#endif
