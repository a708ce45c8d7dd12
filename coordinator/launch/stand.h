/* How far a run is, read from its folder. Nothing is written there. */
#ifndef LAUNCH_STAND_H
#define LAUNCH_STAND_H

#include <stdbool.h>
#include <stdint.h>

#include "muster/status.h"

enum { STAND_PATH_MAX = 4096 };

typedef struct stand {
    char newest[STAND_PATH_MAX]; /* checkpoint; "": none */
    uint64_t saved;              /* its step; 0: none */
    uint64_t step;       /* the last one that was recorded since `metrics` bytes; without one, `saved` */
    bool moved;          /* a step was recorded since then */
    double seconds_lost; /* of the steps after the checkpoint */
    uint64_t metrics;    /* bytes of metrics.jsonl */
} stand;

/**
 * Reads how far a run is. Not collective; a folder that is not there is a run that has not begun.
 * @param since bytes of metrics.jsonl that are not of interest
 * @retval MST_EIO
 */
mst_status stand_read(const char *run, uint64_t since, stand *stand_out);

#endif
