/* The model that a run's adapters adapt. */
#ifndef RUN_BASE_H
#define RUN_BASE_H

#include "muster/checkpoint.h"
#include "muster/frozen.h"

/** Fills frozen weights from a packed checkpoint, which is verified as it is read. Not collective.
 * @retval as mst_checkpoint_weights; MST_EFORMAT another model */
mst_status base_load(const mst_checkpoint_context *context, const char *path, mst_frozen *frozen);

#endif
