/* The fast CPU device: the bodies of one instruction-set level, and the matrix product. */
#ifndef MST_CPU_LEVEL_H
#define MST_CPU_LEVEL_H

#include "muster/kernels.h"

/**
 * Fills a table with the bodies of an instruction-set level, and sets its name and class name.
 *
 * Not collective.
 * @param level as in mst_kernels_open: NULL for the best that processor and operating system enable
 * @retval MST_EUNSUPPORTED the level is not known or not available here, or the matrix
 * product is in use at another one
 */
mst_status mst_kernels_fill_cpu(const char *level, mst_kernels *table);

#endif
