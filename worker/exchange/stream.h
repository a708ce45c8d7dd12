/*
 * Gradients unit by unit: as soon as a microbatch has a unit's gradient, its shards go to their owners, which add them up at once,
 * while the next unit's is computed. No rank ever keeps a whole gradient but the owner its shard of the sum. It takes one
 * microbatch a lane and one lane a rank, so that a sum is complete when all ranks have come to its unit. How shards travel is for
 * the transport's mst_pass_ops. Private to the room.
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

/** Which of the two a unit takes: 0 or 1. The head's comes first. */
size_t mst_stream_turn(const mst_layout *layout, size_t unit);

/** Buffers for gradients, and sharded weights. Not collective. @retval MST_ENOMEM, or as mst_sharded_open */
mst_status mst_stream_open(mst_exchange *x);
/** After all ranks have come so far that nobody reads what this rank sent. */
void mst_stream_close(mst_exchange *x);

/** The unit's gradient of this rank's lane, to be added to. */
float *mst_stream_accumulator(const mst_exchange *x, size_t unit);
/** Zeroes all of them. */
mst_status mst_stream_clear(mst_exchange *x);

/** This rank's gradient of a unit as it travels, in the wire type, [blocks * MST_BLOCK], on the device. */
const char *mst_stream_leaving(const mst_exchange *x, size_t unit);
/** Where this rank's shard of another rank's comes in, in the wire type. */
char *mst_stream_received_at(const mst_exchange *x, size_t unit, size_t piece);

/**
 * Sends what this rank has of a unit and begins to receive what it owns; finishes the unit before it. Waits for ranks that have
 * not come to that one. A rank without a lane has nothing to send.
 *
 * A rank that fails to compute its part sends what stands in its buffers, so that no other waits in vain, and computes no more;
 * mst_stream_failure says why. Not collective.
 * @param complete the rank's gradient of the unit is; else a rank with a lane has failed
 * @retval MST_EMPI, MST_EPEER
 */
mst_status mst_stream_sum(mst_exchange *x, size_t unit, bool complete);
/** Finishes the last unit, as mst_stream_sum does. Not collective. @retval MST_EMPI, MST_EPEER */
mst_status mst_stream_settle(mst_exchange *x);
/** What this rank first failed to compute, of any kind; MST_OK: nothing. Not collective. */
mst_status mst_stream_failure(const mst_exchange *x);

/* As `send` and `shard` of a transport. */
mst_status mst_stream_send(mst_exchange *x, size_t unit, size_t piece);
const void *mst_stream_shard(const mst_exchange *x, size_t unit, size_t piece);

#endif
