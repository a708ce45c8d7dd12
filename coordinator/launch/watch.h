/* One attempt's process: its signals, what it says, its end. */
#ifndef LAUNCH_WATCH_H
#define LAUNCH_WATCH_H

#include <signal.h>
#include <stdbool.h>

#include "plan.h"
#include "tail.h"

/* The signals that launch gets while it works, as a file descriptor. */
typedef struct watch {
    int signals;
    sigset_t before; /* of the caller */
    int asked;       /* the first signal that asked to stop; 0: none */
    int said;        /* the signal that the user was last told of */
    bool at_once;    /* Ctrl-C came twice */
    double patience; /* seconds that a rank without a launcher may be stopped; 0: for ever */
} watch;

typedef struct watch_end {
    int code;       /* exit code; -1: ended by a signal */
    int signal;     /* that ended it; 0: none */
    double seconds; /* it took */
    tail tail;      /* of its standard error */
} watch_end;

/** From now on signals come to the watch. @retval MST_EIO */
mst_status watch_begin(double patience, watch *w);
void watch_finish(watch *w);

/** Starts a plan's command, passes signals on to it and its standard error on to that of this process, and waits for its
 * end. @retval MST_EIO it cannot be started; MST_ENOMEM */
mst_status watch_run(watch *w, const job_plan *plan, watch_end *end_out);

/** Waits; false as soon as a signal has asked to stop. */
bool watch_pause(watch *w, double seconds);

/** "SIGTERM", of those that ask to stop; "signal 9" of others. Static. */
const char *watch_signal_name(int number);

#endif
