/*
 * Gradients unit by unit: as soon as a microbatch has a unit's gradient, its shards go to their owners, which add them up at once,
 * while the next unit's is computed. No rank ever keeps a whole gradient but the owner its shard of the sum. It takes one
 * microbatch a lane and one lane a rank, so that a sum is complete when all ranks have come to its unit. Private to the room.
 */
#ifndef MUSTER_EXCHANGE_STREAM_H
#define MUSTER_EXCHANGE_STREAM_H

#include "transport.h"

typedef struct mst_stream mst_stream;

/** Whether gradients are streamed: weights are sharded, a lane is one microbatch, and no rank has two lanes. @param runs [size] */
bool mst_stream_fits(const mst_sum_shape *shape, const mst_lane_run *runs, int size);

/** Blocks of the two buffers that gradients of units take in turn, and of the embedding's own where the head uses it, too. */
typedef struct mst_stream_blocks {
    size_t sums[2], wire[2], owned[2], table;
} mst_stream_blocks;
/** A pure function of the layout. @param rank of which `owned` are the blocks that it owns at most */
mst_stream_blocks mst_stream_blocks_of(const mst_layout *layout, int rank, int size);

/** The unit's gradient of this rank's lane, to be added to. */
float *mst_stream_accumulator(const mst_exchange *x, size_t unit);
/** Zeroes all of them. */
mst_status mst_stream_clear(mst_exchange *x);

/**
 * Sends what this rank has of a unit and begins to receive what it owns; finishes the unit before it. Waits for ranks that have
 * not come to that one. A rank without a lane has nothing to send.
 *
 * A rank that fails to compute its part sends what stands in its buffers, so that no other waits in vain, and computes no more;
 * mst_stream_failure says why. Not collective.
 * @param complete the rank's gradient of the unit is; else a rank with a lane has failed
 * @retval MST_EMPI
 */
mst_status mst_stream_sum(mst_exchange *x, size_t unit, bool complete);
/** Finishes the last unit, as mst_stream_sum does. Not collective. @retval MST_EMPI */
mst_status mst_stream_settle(mst_exchange *x);
/** What this rank first failed to compute, of any kind; MST_OK: nothing. Not collective. */
mst_status mst_stream_failure(const mst_exchange *x);

#endif
