/* Curves that can be drawn: smoothed, and thinned to what a screen can show. */
#ifndef REPORT_THIN_H
#define REPORT_THIN_H

#include <stdbool.h>
#include <stddef.h>

#include "muster/status.h"

typedef struct report_point {
    double x, y; /* y may be NaN or infinite: a gap */
} report_point;

/**
 * Thins a curve in place: of each of `buckets` equal runs of points it keeps the first minimum, the first maximum and the
 * first that is not finite; and the very first and last point. A curve of at most 2 * buckets points stays as it is.
 *
 * Not collective. @param points [count], by rising x @return how many are left: at most 3 * buckets + 2
 */
size_t report_thin(report_point *points, size_t count, size_t buckets);

/**
 * The mean of the finite values within `half` points on both sides. Near the beginning, where curves fall steeply, the window
 * shrinks on both sides, so that it does not lag; at the end it has only the side that there is. Gaps stay gaps.
 *
 * Not collective. @param points [count], smoothed in place @retval MST_ENOMEM
 */
mst_status report_smooth(report_point *points, size_t count, size_t half);

#endif
