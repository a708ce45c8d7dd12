/* The clock by which durations are measured. */
#ifndef MUSTER_CLOCK_H
#define MUSTER_CLOCK_H

#ifdef __cplusplus
extern "C" {
#endif

/** Seconds since a moment that is the same for all processes of a machine; nobody sets this clock. Not collective.
 * Threads: safe. */
double mst_clock_now(void);

#ifdef __cplusplus
}
#endif
#endif
