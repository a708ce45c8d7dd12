/* What a person sees of a run: one live line on a terminal, now and then a plain line elsewhere. */
#ifndef RUN_PROGRESS_H
#define RUN_PROGRESS_H

#include <stdio.h>

#include "metrics.h"

typedef struct mst_progress mst_progress;

/**
 * Begins to show progress on `file`: live where mst_terminal_live says so, else as plain lines at the
 * first and last step and about every 10 s. NO_COLOR is honoured; the bar is ASCII unless the locale is
 * UTF-8.
 *
 * Not collective; rank 0 only. @param file kept by reference @retval MST_ENOMEM
 * Threads: all calls from one thread. Nothing is allocated after this.
 */
mst_status mst_progress_begin(FILE *file, mst_progress **progress_out);

/** Shows a step; redraws 10 times a second at most. Rates are smoothed over some 10 s. Does nothing with
 * NULL. */
void mst_progress_step(mst_progress *progress, const mst_metrics_step_fields *fields);

/** Prints a line (at most 2,047 bytes of it) above the live line; a "note:" or "warning:" at its beginning is
 * coloured. With NULL: on stderr. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void mst_progress_message(mst_progress *progress, const char *format, ...);

/** Ends the show: the live line makes way for a plain line of the last step. Accepts NULL inside, resets the
 * pointer. */
void mst_progress_end(mst_progress **progress);

#endif
