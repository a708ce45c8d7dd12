/* TensorBoard's event file, written by hand: TFRecord frames around protobuf messages. */
#ifndef REPORT_TENSORBOARD_H
#define REPORT_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

/** CRC-32C (Castagnoli) of some bytes. */
uint32_t report_crc32c(const void *data, size_t bytes);

/** The same, rotated and moved, as TFRecord stores it: so that a CRC over bytes that hold a CRC stays a good one. */
uint32_t report_masked_crc(const void *data, size_t bytes);

#endif
