/* Memory that is written once and then read by all ranks: one copy for those of a node where /dev/shm has room, else one each. */
#ifndef MUSTER_SHARED_H
#define MUSTER_SHARED_H

#include "muster/comm.h"
#include "muster/forecast.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_shared mst_shared;

/**
 * Allocates zeroed memory.
 *
 * Collective: all ranks agree on the status.
 * @param share one copy for a node, where it has several ranks and /dev/shm the room; else in DEVICE memory, one for each rank
 * @retval MST_ENOMEM with the bytes asked for; MST_EMPI
 */
mst_status mst_shared_create(mst_comm *comm, bool share, size_t bytes, mst_shared **shared_out);
/** Collective. */
void mst_shared_destroy(mst_shared **shared);

void *mst_shared_memory(const mst_shared *shared);

/** Whether this rank is the one that fills the copy that it reads. */
bool mst_shared_is_filler(const mst_shared *shared);

/** After the fillers have written, and before others read. Collective. */
mst_status mst_shared_filled(mst_shared *shared);

/** Bytes that this rank allocated. */
size_t mst_shared_bytes(const mst_shared *shared);

/** What mst_shared_bytes would be of a rank, where memory is shared with this transport. Not collective.
 * @param transport none is AUTO */
size_t mst_shared_bytes_of(mst_transport transport, mst_placement place, int rank, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
