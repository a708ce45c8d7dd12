/* Weights that are not trained: a whole model in the compute type, filled once, tensor by tensor. */
#ifndef MUSTER_FROZEN_H
#define MUSTER_FROZEN_H

#include "muster/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_frozen mst_frozen;

/** Makes room for all units of a layout. Not collective.
 * @param layout, queue kept by reference; must outlive it @param dtype F32 or BF16
 * @param memory [mst_frozen_bytes_of] kept by reference; NULL: allocated here
 * @retval MST_ENOMEM with the bytes asked for */
mst_status mst_frozen_create(const mst_layout *layout, mst_dtype dtype, mst_queue *queue, void *memory,
                             mst_frozen **frozen_out);
void mst_frozen_destroy(mst_frozen **frozen);

/** Bytes of all units. */
size_t mst_frozen_bytes_of(const mst_layout *layout, mst_dtype dtype);

/** Sets elements [first, first + count) of a tensor, rounded to the compute type. Not collective.
 * @param name, shape of the tensor, whole
 * @retval MST_EFORMAT the model has no such tensor */
mst_status mst_frozen_put(mst_frozen *frozen, const char *name, const size_t shape[2], uint64_t first,
                          const float *values, uint64_t count);

/** Begins to fill it again. */
void mst_frozen_restart(mst_frozen *frozen);

/** Whether as many elements were set as the model has. @retval MST_EFORMAT */
mst_status mst_frozen_check(const mst_frozen *frozen);

/** A unit's flat buffer. */
const void *mst_frozen_unit(const mst_frozen *frozen, size_t unit);

#ifdef __cplusplus
}
#endif
#endif
