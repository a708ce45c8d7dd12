/* Quantities with their units, as people write them: 24GiB, 25Gb/s, 20us, 450e9. */
#ifndef MUSTER_UNITS_H
#define MUSTER_UNITS_H

#include <stddef.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_quantity {
    MST_QUANTITY_BYTES,   /* 24GiB, 512MB: bytes */
    MST_QUANTITY_LINK,    /* 25Gb/s (bits), 3GB/s (bytes): bytes/s; shown in bits, as networks are */
    MST_QUANTITY_RATE,    /* the same, shown in bytes, as disks are */
    MST_QUANTITY_SECONDS, /* 20us, 1.5ms, 2s: seconds */
    MST_QUANTITY_FLOPS,   /* 450e9, 450GFLOP/s, 0.45TFLOP/s: FLOP/s */
    MST_QUANTITY_SHARE,   /* 0.6, 60%: a share of 1 */
} mst_quantity;

/**
 * Reads a positive number with its unit, nothing before, between or after them. Where a number alone could be
 * misread (bytes, bits, seconds) the unit must be there.
 *
 * Not collective.
 * @param what begins the message: "--memory"
 * @retval MST_ECONFIG what was found, and what is right, with an example
 */
mst_status mst_quantity_parse(mst_quantity quantity, const char *what, const char *text, double *value_out);

enum { MST_QUANTITY_TEXT = 32 };

/** Three digits, a blank and a unit: "6.20 GiB", "25.0 Gb/s", "1.50 ms". Not collective. Returns text_out. */
const char *mst_quantity_text(mst_quantity quantity, double value, char text_out[MST_QUANTITY_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
